/*
 * select.h - the order in which a request tries its targets. Pure: what is known of each target,
 * the time and a random number are arguments.
 *
 * priority: as listed. weighted: first by weighted random draw without replacement.
 * least-latency: by peak EWMA of the time to first byte times (calls in flight + 1), untried ones
 * first (Finagle's "Peak EWMA";
 * https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency/). cheapest: by input
 * + output price per token, unknown prices last. Whatever the strategy, targets that cannot do what
 * is asked are left out, and those whose circuit is open go to the end in the order they had.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum select_strategy { SELECT_PRIORITY, SELECT_WEIGHTED, SELECT_LEAST_LATENCY, SELECT_CHEAPEST };

struct select_candidate {
    bool capable;    /* false: never tried */
    bool open;       /* its circuit is open now */
    unsigned weight; /* >= 1 */
    int64_t price;   /* nano-USD per token in + out, -1 unknown */
    double ewma_us;  /* peak EWMA, 0 = never measured */
    unsigned in_flight;
};

/* Writes indexes of the capable candidates to order[] and returns how many. n <= 16. */
unsigned select_order(enum select_strategy s, const struct select_candidate *c, unsigned n,
                      uint64_t random, unsigned *order);

/* Peak EWMA with a decay of 10 s: jumps up at once, comes down slowly. Without samples the value
 * fades, so that a target once found slow is tried again in time. Zeroed = never measured. */
struct select_ewma {
    double value_us;
    uint64_t at_us;
};
void select_ewma_observe(struct select_ewma *e, uint64_t sample_us, uint64_t now_us);
double select_ewma_value(const struct select_ewma *e, uint64_t now_us);

/* "priority" ... ; false when it is none of them. */
bool select_strategy_parse(const char *name, enum select_strategy *ret);
