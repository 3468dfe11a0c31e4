/*
 * redis.h - one connection to Redis on the loop, with deadlines and a breaker.
 *
 * Every command has conf's deadline (50 ms). A command that misses it drops the whole connection,
 * since replies are matched by order, and opens the breaker: until Redis has answered a PING on a
 * fresh connection nobody waits for it any more. So a stalled Redis costs a request at most one
 * deadline, once. Reconnects back off with jitter, at most one attempt a second.
 *
 * Start functions return NULL when Redis cannot be used right now (not configured, away, breaker
 * open, too many commands in flight, no memory): the caller takes its fallback at once.
 *
 * Errors in done: GW_EUNAVAIL (no answer in time, connection lost: it may or may not have run),
 * GW_EAGAIN (LOADING, BUSY, OOM, READONLY, MISCONF, NOAUTH, CLUSTERDOWN: not now), GW_EBADREQ
 * (WRONGTYPE, and what else is wrong with the command). None of them is ever a reason to answer
 * 500.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#include <stdint.h>

enum redis_kind { REDIS_NIL, REDIS_INT, REDIS_STR, REDIS_ARRAY, REDIS_FAULT };

/* A reply; valid inside done() only. Status lines are REDIS_STR. An error reply is told by done's
 * err; REDIS_FAULT (its text in s) stands only for an item of a list that is an error. */
struct redis_value {
    enum redis_kind kind;
    int64_t i;
    struct slice s; /* binary safe */
    const struct redis_value *items;
    unsigned n;
};

/* v is NULL with an error. */
typedef void (*redis_done)(enum gw_err err, const struct redis_value *v, void *arg);

/* A Lua script, called by its hash and loaded when the server does not know it. Static. */
struct redis_script {
    const char *name, *text;
    /* kept by redis.c */
    char sha[41];       /* filled in at its first use */
    unsigned loaded_in; /* connection that has been told to load it */
};

/* Begins to connect; what is wrong with REDIS_URL has been told by conf_check. */
enum gw_err redis_init(const struct conf *c) MUST_CHECK;
/* Operations that are outstanding are dead: done does not run, and they must not be cancelled. */
void redis_deinit(void);

bool redis_enabled(void); /* a Redis is configured */
bool redis_up(void);      /* connected, and the breaker is closed */

/* Cancelling gives the answer up; the command may still run. Arguments are copied. */
struct op *redis_command(const struct slice *argv, unsigned argc, redis_done done, void *arg);
struct op *redis_eval(struct redis_script *script, const struct slice *keys, unsigned n_keys,
                      const struct slice *args, unsigned n_args, redis_done done, void *arg);
/* Fire and forget; false when it was not sent. */
bool redis_send(const struct slice *argv, unsigned argc);

/* fn(up, arg) when redis_up() changes; after redis_init(), at most 8 listeners, until
 * redis_deinit(). */
void redis_on_change(void (*fn)(bool up, void *arg), void *arg);
