/*
 * admit_cost.h - what an AI call can cost at most, and what it did cost. Pure arithmetic; money is
 * nano-USD.
 */
#pragma once

#include "handlers/admit.h"

/* Output of a model that names no limit, asked by a client that names none. Vendors allow from
 * 4,096 (old models) to 64,000; a listed model should say (max_output_tokens). */
#define ADMIT_DEFAULT_OUTPUT 16384

/* The dearest target's worst case: every input token at the dearer of the prices for input and for
 * writing the cache, and all the output the client or the model allows. */
struct admit_worst {
    int64_t cost; /* INT64_MAX when it does not fit */
    int64_t tokens;
    const struct registry_model *unpriced; /* the first target whose price is unknown (its cost
                                              counts as nothing), or NULL */
};
struct admit_worst admit_worst_case(const struct admit_ask *ask);

/* Are the prices known that this call needs? */
bool admit_is_priced(const struct admit_ask *ask, const struct registry_model *m);

struct admit_bill {
    struct convo_usage usage; /* what is booked */
    bool estimated;           /* the provider did not say, or not to the end */
    int64_t cost;             /* -1 = a price is unknown */
    int64_t tokens;
};

/* What is booked. A call that ended well costs what the provider says. What it produced before it
 * was cut (by either side), or without ever telling its usage, is estimated from the bytes handed
 * on; a call given up while a provider worked on it has at least been read. One that failed before
 * it produced anything costs nothing. */
struct admit_bill admit_bill_of(const struct admit_ask *ask, const struct admit_outcome *out);
