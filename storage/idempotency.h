/*
 * idempotency.h - outcomes of requests that carry an Idempotency-Key, so that a repetition gets the
 * first one's answer instead of a second run.
 *
 * A key belongs to one owner; what it was used for is told by a fingerprint of the request. In
 * Redis, under idem:{<hash of the owner>}:<key>, stands either a mark ("being worked on", with a
 * lease that its holder renews) or the outcome, for conf's idempotency_ttl_h. Outcomes are kept in
 * this process too, bounded in entries and bytes: the first place to look, and all there is while
 * Redis is away. The mark carries a random id: nobody overwrites or takes away another's.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "storage/lru.h"

#define IDEM_FINGERPRINT 32u /* SHA-256 */
#define IDEM_ID 16u
#define IDEM_MAX_HEADERS 24u
#define IDEM_MAX_KEY 255u
/* A holder renews its mark this often; it lasts four times as long. */
#define IDEM_RENEW_US 5000000u

enum idem_verdict {
    IDEM_FIRST,  /* nobody has used the key: go on */
    IDEM_DONE,   /* here is the outcome */
    IDEM_BUSY,   /* another process is working on it */
    IDEM_REUSED, /* the key was used for another request */
};

/* What became of the answer's body. */
enum idem_body {
    IDEM_WHOLE,  /* it is here, as one piece */
    IDEM_STREAM, /* it is here, to be sent as a stream */
    IDEM_LARGE,  /* it was made, but is too large to be kept */
    IDEM_CUT     /* the client left in the middle of the stream; what was made until then is lost */
};

struct idem_header {
    struct slice name, value;
};

struct idem_outcome {
    int status;
    enum idem_body kind;
    struct slice type, body;
    struct idem_header headers[IDEM_MAX_HEADERS];
    unsigned n_headers;
};

/* One use of a key; lives with its request. */
struct idem_use {
    struct lru_key hash; /* of owner and key */
    struct slice name;   /* key in Redis; in the arena */
    unsigned char fingerprint[IDEM_FINGERPRINT];
    unsigned char id[IDEM_ID]; /* of its mark */
    bool marked;               /* Redis may hold its mark */
};

enum gw_err idempotency_init(const struct conf *c) MUST_CHECK;
void idempotency_deinit(void);

/* Prepares a use. The fingerprint is filled in by the caller. GW_ENOMEM. */
enum gw_err idempotency_use(struct arena *a, struct slice owner, struct slice key,
                            struct idem_use *ret) MUST_CHECK;

/* Looks in this process. *ret (IDEM_DONE) points into the arena. IDEM_FIRST also when memory is
 * short. */
enum idem_verdict idempotency_look(const struct idem_use *u, struct arena *a,
                                   struct idem_outcome *ret);

/*
 * Asks Redis and leaves the mark if nobody has used the key. NULL when Redis cannot be used: the
 * process decides alone. done(verdict, outcome, arg): outcome (in the arena) with IDEM_DONE; Redis
 * failing in the middle is IDEM_FIRST.
 */
typedef void (*idem_done)(enum idem_verdict v, const struct idem_outcome *o, void *arg);
struct op *idempotency_claim(struct idem_use *u, struct arena *a, idem_done done, void *arg);

/* The mark lasts again. */
void idempotency_renew(const struct idem_use *u);

/* Keeps the outcome, here and in Redis. */
void idempotency_keep(const struct idem_use *u, const struct idem_outcome *o, uint64_t ttl_us);

/* Nothing is kept: the next use is a first one. */
void idempotency_release(const struct idem_use *u);
