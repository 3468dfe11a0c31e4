/*
 * limiter.h - token buckets that all workers and instances share through Redis, and the process's
 * own ones while Redis is away.
 *
 * A call takes one token from each of its buckets, or from none when one of them is empty. Shared
 * buckets are kept under `rl:<name>:{<identity>}` and read and written by one Lua script on the
 * server's clock, so they are exact whoever asks; all keys of a caller have one hash tag. A caller
 * whose group has a bucket, which several callers share, is found under the group's tag with all of
 * its own: `rl:<name>:{<group>}` and `rl:<name>:{<group>}:<identity>`. What else is found under
 * such a key counts as a full bucket and is overwritten. The process's own buckets are kept in a
 * table of at most LIMITER_MAX_LOCAL; when it is full the least recently used one goes, which only
 * helps whoever was quiet longest.
 */
#pragma once

#include "gateway/core/bucket.h"
#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#define LIMITER_MAX_BUCKETS 3u
#define LIMITER_MAX_LOCAL 65536u
#define LIMITER_KEY_BYTES 336u

struct limiter_bucket {
    struct slice name; /* class, or route with a limit of its own: at most 160 bytes */
    struct bucket_rate rate;
    bool of_group; /* of all callers of the group together */
};

/* How it came out: the bucket that decides is the one that refused, else the one with the least
 * left. */
struct limiter_verdict {
    bool refused;
    unsigned which; /* index into buckets */
    struct bucket_state state;
};

/* One decision; embedded in the caller's object, zeroed, the first four set. */
struct limiter_call {
    struct slice identity; /* who: at most 80 bytes are looked at */
    struct slice group;    /* likewise; empty unless one of the buckets is of a group */
    struct limiter_bucket buckets[LIMITER_MAX_BUCKETS];
    unsigned n;
    /* private */
    void (*done)(const struct limiter_verdict *v, void *arg);
    void *arg;
    struct op *op;
};

enum gw_err limiter_init(const struct conf *c) MUST_CHECK;
void limiter_deinit(void);

/* Asks Redis. False when that cannot be done now: nothing was started, decide with limiter_local().
 * done runs once, on the loop, never inside; when Redis fails to answer it has the local verdict.
 * The slices of the call must live until then. */
bool limiter_begin(struct limiter_call *call,
                   void (*done)(const struct limiter_verdict *v, void *arg), void *arg);
/* done will not run any more; the token may be taken. Fine before begin and after done. */
void limiter_cancel(struct limiter_call *call);

/* Decides with the process's own buckets. Out of memory the caller is let through. */
void limiter_local(const struct limiter_call *call, struct limiter_verdict *ret);

/* Do limits hold across processes at the moment? */
bool limiter_is_shared(void);
