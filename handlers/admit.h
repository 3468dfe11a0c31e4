/*
 * admit.h - what stands between a decoded AI request and its provider: may this caller use the
 * model, and is there money and are there tokens for the worst case? And what is booked when it is
 * over.
 *
 *     admit_begin --refused--> done(error), the request has been answered
 *         '--ok--> done(GW_OK) --> provider call --> admit_settle (once, whatever happened)
 */
#pragma once

#include "gateway/http/request.h"
#include "providers/provider.h"

struct admission; /* in the request's arena */

/* Which targets may be asked, and what the call can cost at most. */
struct admit_ask {
    struct slice asked_model;     /* as the client named it */
    struct registry_route *route; /* targets the caller may not use are taken out */
    uint64_t input_tokens;        /* estimate */
    int64_t output_tokens;        /* limit the client gave, 0 = the model's own */
    const char *purpose;          /* "chat", "embeddings" */
    bool stream;
};

/* The model list alone, before the cache is asked. False when the request has been answered. */
bool admit_models(struct request *req, struct admit_ask *ask);

/* Reserves. done(ok, arg) on the loop, never inside; with ok == false the request has been
 * answered. NULL out of memory (not answered). After op_cancel() nothing is held. */
struct op *admit_begin(struct request *req, const struct admit_ask *ask,
                       void (*done)(struct admission *a, void *arg), void *arg);

/* How it ended; books money and tokens, writes the ledger's row. `a` may be NULL (a cache hit). */
struct admit_outcome {
    enum gw_err err;                       /* GW_EGONECLIENT for a client that left */
    const struct provider_call_info *info; /* NULL: no provider was asked */
    const struct convo_usage *usage;
    const char *cache; /* as struct ledger_row */
};
void admit_settle(struct request *req, struct admission *a, const struct admit_ask *ask,
                  const struct admit_outcome *out);
