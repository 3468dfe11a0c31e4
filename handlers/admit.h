/*
 * admit.h - what stands between a decoded AI request and its provider: may this caller use the
 * model, and is there money and are there tokens for the worst case? And what is booked when it is
 * over.
 *
 *     admit_models --none allowed--> (answered 403)
 *         '--> [cache] --> admit_begin --refused--> done(NULL), the request has been answered
 *                            '--> done(admission) --> provider call --> admit_settle (once,
 *                                                                       whatever happened)
 *
 * Callers without limits (the master key, nobody known) pass through the same steps: their calls
 * are booked too.
 */
#pragma once

#include "gateway/http/request.h"
#include "providers/provider.h"
#include "storage/budget.h"

struct admission; /* in the request's arena */

/* Which targets may be asked, and what the call can cost at most. Lives as long as the flow. */
struct admit_ask {
    struct slice asked_model;     /* as the client named it */
    struct registry_route *route; /* targets the caller may not use are taken out */
    uint64_t input_tokens;        /* estimate, never much below what a vendor would count */
    uint64_t likely_input_tokens; /* what to book when no vendor counts */
    int64_t output_tokens;        /* limit the client gave, 0 = the model's own */
    int64_t choices;              /* answers asked for; 0 = one */
    const char *purpose;          /* "chat", "embeddings", "count" */
    bool stream;
    bool aside; /* a call of our own besides the one the client asked for, and no loss when it is
                   refused: nothing is answered then, and no header is set */
};

/* What a conversation asks for; one without turns is of a body that could not be read: then its
 * bytes count. */
struct admit_ask admit_ask_chat(const struct convo *convo, struct slice body,
                                struct registry_route *route);

/* The model list alone, before the cache is asked. False when the request has been answered. */
bool admit_models(struct request *req, const struct admit_ask *ask);

/* Reserves. done(a, arg) on the loop, never inside; NULL when the request has been answered (or was
 * refused aside). NULL out of memory (not answered). After op_cancel() nothing is held. */
struct op *admit_begin(struct request *req, const struct admit_ask *ask,
                       void (*done)(struct admission *a, void *arg), void *arg);

/* How it ended; books money and tokens, writes the ledger's row. `a` may be NULL (a cache hit). */
struct admit_outcome {
    enum gw_err err;                       /* GW_EGONECLIENT for a client that left */
    const struct provider_call_info *info; /* NULL: no provider was asked */
    const struct convo_usage *usage;       /* may be NULL */
    const char *cache;                     /* as struct ledger_row */
};
void admit_settle(struct request *req, struct admission *a, const struct admit_ask *ask,
                  const struct admit_outcome *out);

/* Gives everything back: no provider will be asked. */
void admit_release(struct admission *a);

/* Books an answer that was there already, or that another request paid for. */
struct admit_reused {
    const char *cache; /* as struct ledger_row: "hit", "semantic", "coalesced" */
    enum gw_err err;
    struct slice provider, model;    /* who once answered; empty = nobody has */
    const struct convo_usage *usage; /* of that answer, or NULL */
    int64_t saved_nano_usd;          /* what it cost then; -1 = unknown */
};
void admit_book_reused(struct request *req, const struct admit_ask *ask,
                       const struct admit_reused *what);

/* Sets X-Postern-Budget-Left-Usd to what is left once this answer is booked. `a` may be NULL. */
void admit_set_headers(struct request *req, const struct admission *a,
                       const struct provider_call_info *info, const struct convo_usage *usage);

/* Logs and counts a share of a budget that was passed: for budget_on_alert(). */
void admit_alert(const struct budget_alert *alert);
