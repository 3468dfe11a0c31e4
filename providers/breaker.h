/*
 * breaker.h - the circuit breaker of one provider. Pure: time is an argument, no I/O.
 *
 *            failures == threshold              now >= opened + recovery
 *     CLOSED ---------------------> OPEN -------------------------------> HALF_OPEN
 *        ^                            ^                                      |  |
 *        |                            '------------- probe fails -----------'  |
 *        '---------------------------------- probe succeeds -------------------'
 *
 * A half-open breaker admits `probes` calls at once; all others are refused. A probe that ends
 * without a verdict (client left, the request itself was bad) gives its place back. Where several
 * processes share a provider, they ask each other before a probe goes out: while it is being asked
 * (breaker_ask), and while another's is out, there is none here.
 * Source of the pattern: M. Nygard, "Release It!", ch. 5.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };
enum breaker_verdict { BREAKER_SUCCESS, BREAKER_FAILURE, BREAKER_NEUTRAL };

struct breaker_config {
    unsigned failure_threshold; /* >= 1 */
    uint64_t recovery_us;
    unsigned probes; /* >= 1 */
};

struct breaker {
    enum breaker_state state;
    unsigned failures;      /* consecutive, while closed */
    unsigned probing;       /* probes out */
    bool asking;            /* it is being asked whether the next probe may go out */
    uint64_t wait_until_us; /* not before, since others probe; 0 again with each state */
    uint64_t opened_us;
    uint64_t epoch; /* changes with the state; late verdicts of an earlier one only count */
    /* totals, for the admin route */
    uint64_t n_success, n_failure, n_rejected, n_opened;
};

/* What breaker_allow() gave; handed back with the verdict. */
struct breaker_pass {
    uint64_t epoch;
    bool probe;
};

void breaker_init(struct breaker *b);
/* Would breaker_allow() say yes? Changes nothing; for ordering targets and for health. */
bool breaker_would_allow(const struct breaker *b, const struct breaker_config *c, uint64_t now_us);
/* May a call go out now? Turns OPEN into HALF_OPEN when its time has come (the caller sees it in
 * b->state); counts a refusal. Each pass must be handed back once with breaker_report(). */
bool breaker_allow(struct breaker *b, const struct breaker_config *c, uint64_t now_us,
                   struct breaker_pass *ret_pass);
/* Would breaker_allow() give a probe? */
bool breaker_would_probe(const struct breaker *b, const struct breaker_config *c, uint64_t now_us);
/* No probe is allowed until breaker_answer(). */
void breaker_ask(struct breaker *b);
/* wait_until_us: another process's is out, ask again then; 0: ours may go. */
void breaker_answer(struct breaker *b, uint64_t wait_until_us);
/* The call's outcome. Returns true when the state changed. */
bool breaker_report(struct breaker *b, const struct breaker_config *c, struct breaker_pass pass,
                    enum breaker_verdict v, uint64_t now_us);
/* Closes it at once (operator, or the shared key was deleted). True when the state changed. */
bool breaker_reset(struct breaker *b);
/* Takes over a state from outside (shared in Redis); opened_us on this process's clock. True when
 * the state changed. */
bool breaker_force(struct breaker *b, enum breaker_state state, uint64_t opened_us);
/* Microseconds until a probe may go out; 0 when not open. */
uint64_t breaker_retry_in_us(const struct breaker *b, const struct breaker_config *c,
                             uint64_t now_us);
const char *breaker_state_name(enum breaker_state s); /* "closed", "half_open", "open" */
