/*
 * retry.h - when to send a call again, and the budget that keeps retries from multiplying an
 * outage. Pure: time and randomness are arguments.
 *
 * Backoff: exponential with full jitter, sleep = random(0, min(max, base * 2^attempt))
 * (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
 * Budget: each first call deposits percent/100 of a token, each retry takes one; at most 1,000
 * tokens are kept, and they expire over 10 s windows, so that quiet hours do not save up a storm
 * (Finagle's RetryBudget, Google SRE book ch. 22).
 */
#pragma once

#include "gateway/core/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct retry_config {
    unsigned attempts; /* calls to one target at most, the first included */
    uint64_t base_us, max_us;
    unsigned budget_percent; /* 0 = no retries at all */
};

struct retry_budget {
    uint64_t window_us;   /* start of the present window */
    int64_t fresh_milli;  /* thousandths of a retry left of this window's deposits; < 0 = debt */
    int64_t former_milli; /* the same of the window before */
    unsigned taken;       /* retries in this window */
};

void retry_budget_init(struct retry_budget *b);
void retry_budget_deposit(struct retry_budget *b, const struct retry_config *c, uint64_t now_us);
/* Takes one retry out of the budget; false when there is none. A small floor (2 retries per 10 s)
 * lets a quiet gateway retry at all; what it lends is paid back by later deposits. */
bool retry_budget_withdraw(struct retry_budget *b, const struct retry_config *c, uint64_t now_us);

enum retry_decision { RETRY_NO, RETRY_AFTER };

/*
 * Should attempt number `made` (calls made so far, >= 1) be followed by another to the same target?
 * retry_after_us: the provider's Retry-After, or 0 if it gave none; it is honoured when it ends
 * before the deadline and is then a lower bound of the wait. random: uniform 32 bits. deadline_us 0
 * = none. On RETRY_AFTER *ret_wait_us is how long to wait; the wait always ends before deadline_us.
 */
enum retry_decision retry_decide(const struct retry_config *c, unsigned made, bool retryable,
                                 uint64_t retry_after_us, uint32_t random, uint64_t now_us,
                                 uint64_t deadline_us, uint64_t *ret_wait_us);

/* Parses Retry-After: seconds or an HTTP date (RFC 9110, 10.2.3), against the wall clock in
 * seconds. False when it is neither, negative or past; huge values saturate at 24 h. */
bool retry_parse_after(struct slice value, uint64_t wall_s, uint64_t *ret_us);
