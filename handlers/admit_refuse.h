/*
 * admit_refuse.h - how a call that is not admitted is answered: which scope said no, its limit,
 * what is left, and when it is worth coming again.
 */
#pragma once

#include "handlers/admit.h"
#include "handlers/admit_cost.h"

/* 403: none of the targets is on the caller's list. */
void admit_refuse_model(struct request *req, struct slice asked);
/* 400: a caller with a budget asks for a model without a price. */
void admit_refuse_price(struct request *req, const struct registry_model *m);
/* 402, 429, 503 or whatever `err` is. */
void admit_refuse_budget(struct request *req, enum gw_err err, const struct budget_refusal *why,
                         const struct admit_ask *ask, const struct admit_worst *worst);

/* "$0.05": as many decimals as it takes, at least two. */
struct slice admit_dollars(struct arena *a, int64_t nano_usd);
/* X-RateLimit-Limit-Tokens and -Remaining-Tokens. */
void admit_token_headers(struct request *req, int64_t limit, int64_t remaining);
