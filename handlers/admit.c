/*
 * admit.c - see admit.h.
 *
 *     begin --no limits-----------------------------> admitted
 *       '--> (worst case) --> RESERVE --held--------> admitted
 *                 '--no price--> refused '--over----> refused
 *
 * struct admission lives in the request's arena; while it reserves it is the operation its caller
 * holds. Its first step is taken on the loop, so that done() never runs inside admit_begin(). The
 * hold it gets is settled by admit_settle(), which the flow reaches once.
 */
#include "handlers/admit.h"

#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "handlers/admit_book.h"
#include "handlers/admit_cost.h"
#include "handlers/admit_refuse.h"
#include "handlers/llm.h"
#include "providers/dialect.h"
#include "storage/principal.h"

#include <stdio.h>

/* Kept this long for a call whose process died. */
#define HOLD_US 120000000u
#define PREDICTED_BYTES 3u /* per token */

struct admission {
    struct op op; /* first member */
    struct request *req;
    const struct admit_ask *ask;
    void (*done)(struct admission *a, void *arg);
    void *arg;
    struct loop_deferred starting;
    struct op *reserving;
    struct admit_worst worst;
    struct budget_hold *hold; /* NULL: no limits */
    uint64_t begun_wall_us;
};

/* --- models --------------------------------------------------------------------------------- */

/* What may be written at most: the limit, the room a translation makes for thoughts, and what was
 * predicted in vain, which is paid for like what was written. 0 = no limit. */
static int64_t most_output(const struct convo *c)
{
    bool thinks = c->effort > CONVO_EFFORT_NONE || c->thinking_budget > 0;
    int64_t most = c->max_tokens, more = (int64_t)(c->prediction.n / PREDICTED_BYTES);

    if (most <= 0)
        return 0;
    if (thinks && most <= DIALECT_MIN_THINKING)
        more += DIALECT_MIN_THINKING;
    return most > INT64_MAX - more ? INT64_MAX : most + more;
}

struct admit_ask admit_ask_chat(const struct convo *convo, struct slice body,
                                struct registry_route *route)
{
    return (struct admit_ask){
        .asked_model = convo->model,
        .route = route,
        .input_tokens = convo->turns ? convo_reserve_tokens(convo) : body.n / 3 + 1,
        .likely_input_tokens = convo->turns ? convo_estimate_tokens(convo) : body.n / 4 + 1,
        .output_tokens = most_output(convo),
        .choices = convo->n,
        .purpose = "chat",
        .stream = convo->stream,
    };
}

/* Is the target one of those the asked name stands for, and not of the request's `fallbacks`? */
static bool is_asked(struct request *req, struct slice asked, const struct registry_model *m)
{
    struct slice why;
    struct registry_route r;

    if (registry_resolve(llm_registry(req), req->arena, asked, &r, &why) != GW_OK)
        return false;
    for (unsigned i = 0; i < r.n_targets; i++)
        if (slice_eq(r.targets[i].model->id, m->id))
            return true;
    return false;
}

/* A list may name an alias; that opens the alias' own targets and no others. */
static bool may_use(struct request *req, struct slice asked, const struct registry_model *m)
{
    const struct principal *p = req->principal;

    return principal_allows_model(p, SLICE_NONE, m->id) ||
           (principal_allows_model(p, asked, m->id) && is_asked(req, asked, m));
}

bool admit_models(struct request *req, const struct admit_ask *ask)
{
    const struct principal *p = req->principal;
    struct registry_route *r = ask->route;
    unsigned n = 0;

    if (!p || (p->n_models == 0 && p->n_team_models == 0))
        return true;
    for (unsigned i = 0; i < r->n_targets; i++)
        if (may_use(req, ask->asked_model, r->targets[i].model))
            r->targets[n++] = r->targets[i];
    r->n_targets = n;
    if (n == 0)
        admit_refuse_model(req, ask->asked_model);
    return n > 0;
}

/* --- reserving ------------------------------------------------------------------------------ */

static bool has_money_limit(const struct principal *p)
{
    for (unsigned i = 0; i < p->n_budget_scopes; i++)
        if (p->scopes_of_budget[i].limit_nano_usd >= 0)
            return true;
    return false;
}

/* Targets whose price nobody knows cannot be paid for from a budget. False when none is left. */
static bool keep_priced(struct admission *a)
{
    struct registry_route *r = a->ask->route;
    const struct registry_model *first = r->targets[0].model;
    unsigned n = 0;

    for (unsigned i = 0; i < r->n_targets; i++)
        if (admit_is_priced(a->ask, r->targets[i].model))
            r->targets[n++] = r->targets[i];
    r->n_targets = n;
    if (n == 0 && !a->ask->aside)
        admit_refuse_price(a->req, first);
    return n > 0;
}

/* `given_back` of the reservation counts as left, too; negative when more was spent. */
static void tell_left(struct request *req, struct budget_left left, int64_t given_back)
{
    int64_t sum;

    if (left.nano_usd < 0 || __builtin_add_overflow(left.nano_usd, given_back, &sum))
        return;
    request_set_header(req, "X-Postern-Budget-Left-Usd",
                       llm_dollars(req->arena, sum > 0 ? sum : 0));
}

/* The client is told of what was decided, unless it is about a call it has not asked for. */
static void tell_reserved(struct admission *a)
{
    struct budget_left left = budget_left(a->hold);

    if (a->ask->aside)
        return;
    tell_left(a->req, left, 0);
    if (left.tokens_per_minute)
        admit_token_headers(a->req, left.tokens_per_minute, left.tokens);
}

static void on_reserved(enum gw_err err, struct budget_hold *hold, const struct budget_refusal *why,
                        void *arg)
{
    struct admission *a = arg;

    a->reserving = NULL;
    if (err) {
        if (!a->ask->aside)
            admit_refuse_budget(a->req, err, why, a->ask, &a->worst);
        a->done(NULL, a->arg);
        return;
    }
    a->hold = hold;
    tell_reserved(a);
    a->done(a, a->arg);
}

/* False when the request has been answered. */
static bool reserve(struct admission *a)
{
    const struct principal *p = a->req->principal;
    struct budget_ask ask = {
        .scopes = p->scopes_of_budget, .n_scopes = p->n_budget_scopes, .hold_us = HOLD_US};

    if (has_money_limit(p) && slice_is(a->req->conf->budget_unknown_price, "refuse") &&
        !keep_priced(a))
        return false;
    a->worst = admit_worst_case(a->ask);
    ask.cost_nano_usd = a->worst.cost;
    ask.tokens = a->worst.tokens;
    a->reserving = budget_reserve(&ask, on_reserved, a);
    if (!a->reserving && !a->ask->aside)
        request_fail(a->req, GW_ENOMEM, NULL);
    return a->reserving != NULL;
}

static void start(void *arg)
{
    struct admission *a = arg;
    const struct principal *p = a->req->principal;

    a->begun_wall_us = loop_wall_us();
    if (!p || p->n_budget_scopes == 0)
        a->done(a, a->arg);
    else if (!reserve(a))
        a->done(NULL, a->arg);
}

static void cancel(struct op *op)
{
    struct admission *a = (struct admission *)op;

    loop_undefer(&a->starting);
    op_cancel(&a->reserving);
}

struct op *admit_begin(struct request *req, const struct admit_ask *ask,
                       void (*done)(struct admission *a, void *arg), void *arg)
{
    struct admission *a = arena_new(req->arena, struct admission);

    if (!a)
        return NULL;
    a->op.cancel = cancel;
    a->req = req;
    a->ask = ask;
    a->done = done;
    a->arg = arg;
    loop_defer(&a->starting, start, a);
    return &a->op;
}

/* --- settling ------------------------------------------------------------------------------- */

void admit_set_headers(struct request *req, const struct admission *a,
                       const struct provider_call_info *info, const struct convo_usage *usage)
{
    int64_t cost = usage && usage->known && info->model ? registry_cost(info->model, usage) : -1;

    if (a && a->hold && cost >= 0)
        tell_left(req, budget_left(a->hold), a->worst.cost - cost);
}

void admit_settle(struct request *req, struct admission *a, const struct admit_ask *ask,
                  const struct admit_outcome *out)
{
    struct admit_bill bill = admit_bill_of(ask, out);

    if (a && a->hold) {
        budget_settle(a->hold, bill.cost, bill.tokens);
        a->hold = NULL;
    }
    admit_book(req, ask, out, &bill, a ? a->begun_wall_us : loop_wall_us());
}

void admit_release(struct admission *a)
{
    if (!a->hold)
        return;
    if (!a->ask->aside)
        tell_left(a->req, budget_left(a->hold), a->worst.cost);
    budget_settle(a->hold, 0, 0);
    a->hold = NULL;
}

void admit_alert(const struct budget_alert *alert)
{
    static const struct log_ctx ctx = {.component = "budget"};
    struct slice id = slice_cstr(alert->scope->id);
    bool team = slice_starts(id, "team:");
    char percent[16];

    snprintf(percent, sizeof(percent), "%u", alert->percent);
    metrics_add(metrics_get(M_BUDGET_ALERTS, team ? "team" : "key", percent, NULL), 1);
    log_warn(&ctx, "budget_share_passed", F_STR("scope", id), F_INT("percent", alert->percent),
             F_CSTR("period", budget_period_name(alert->scope->period)),
             F_INT("spent_nano_usd", alert->spent_nano_usd),
             F_INT("limit_nano_usd", alert->scope->limit_nano_usd));
}
