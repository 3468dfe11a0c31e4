/*
 * bucket.h - the token bucket. Pure: time is an argument.
 *
 * Kept as the "theoretical arrival time" of GCRA (ITU-T I.371, the leaky bucket as a virtual
 * schedule): one number per bucket, exact at any rate, and nothing to refill.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bucket_rate {
    int64_t per_minute; /* tokens a minute, >= 1 */
    int64_t burst;      /* tokens a full bucket holds, >= 1 */
};

struct bucket {
    uint64_t tat_us; /* when it will be full again; in the past = full */
};

struct bucket_state {
    int64_t remaining;    /* whole tokens left */
    uint64_t full_in_us;  /* until the bucket is full */
    uint64_t retry_in_us; /* until one token is there; 0 when one was */
};

/* Time in which one token comes back, at least a microsecond. */
uint64_t bucket_step_us(const struct bucket_rate *r);

/* Takes one token at now_us; false and nothing taken when there is none. `ret` may be NULL. */
bool bucket_take(struct bucket *b, const struct bucket_rate *r, uint64_t now_us,
                 struct bucket_state *ret);
