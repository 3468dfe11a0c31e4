/*
 * budget.c - see budget.h.
 *
 *     reserve --Redis up--> ASK --held, refused--> end
 *        |                   | '--a sum is not there--> SEED (each scope) --> ASK (may make it)
 *        |                   '--no answer--.
 *        '--Redis away, or none-------------+--conf: refuse--> end GW_EUNAVAIL
 *                                           '--> SEED (scopes unknown here) --> JUDGE --> end
 *
 * A reservation is one heap object with at most one operation outstanding; its hold becomes the
 * caller's with done(GW_OK). A hold that Redis may have heard of is given back when nobody gets it.
 */
#include "storage/budget_private.h"

#include "gateway/core/conf.h"
#include "gateway/core/loop.h"
#include "gateway/core/rng.h"
#include "storage/pg.h"

#include <stdlib.h>
#include <string.h>

enum reserve_state { RESERVE_ASK, RESERVE_SEED, RESERVE_ASK_AGAIN, RESERVE_JUDGE };

struct reserving {
    struct op op; /* first member */
    enum reserve_state state;
    struct op *inner; /* Redis or Postgres, or NULL */
    struct loop_deferred soon;
    unsigned scope; /* SEED: whose sum is asked for */
    bool alone;     /* SEED: Redis is not to be asked afterwards */
    struct budget_hold *hold;
    budget_done done;
    void *arg;
};

static void (*alert_fn)(const struct budget_alert *alert);

/* --- numbers -------------------------------------------------------------------------------- */

static int64_t capped(int64_t amount)
{
    return amount < 0 ? 0 : amount > BUDGET_MAX_AMOUNT ? BUDGET_MAX_AMOUNT : amount;
}

void budget_refuse_money(const struct budget_hold *h, unsigned scope, int64_t spent, int64_t held,
                         struct budget_refusal *ret)
{
    int64_t next = h->period[scope].next, now_us = (int64_t)loop_wall_us();

    *ret = (struct budget_refusal){
        .scope = h->scopes[scope],
        .left_nano_usd = h->scopes[scope].limit_nano_usd - spent - held,
        .resets_s = next,
    };
    if (next && next * 1000000 > now_us)
        ret->retry_us = (uint64_t)(next * 1000000 - now_us);
}

void budget_refuse_tokens(const struct budget_hold *h, unsigned scope, int64_t left,
                          uint64_t retry_us, struct budget_refusal *ret)
{
    *ret = (struct budget_refusal){
        .tokens = true, .scope = h->scopes[scope], .left_tokens = left, .retry_us = retry_us};
}

void budget_note_left(struct budget_hold *h, unsigned scope, int64_t spent, int64_t held,
                      int64_t tokens_left)
{
    const struct budget_scope *s = &h->scopes[scope];
    struct budget_left *left = &h->left;
    int64_t money = s->limit_nano_usd - spent - held;

    if (s->limit_nano_usd >= 0 && (left->nano_usd < 0 || money < left->nano_usd))
        left->nano_usd = money > 0 ? money : 0;
    if (s->tokens_per_minute > 0 && (!left->tokens_per_minute || tokens_left < left->tokens)) {
        left->tokens = tokens_left;
        left->tokens_per_minute = s->tokens_per_minute;
    }
}

struct budget_left budget_left(const struct budget_hold *hold)
{
    return hold ? hold->left : (struct budget_left){.nano_usd = -1};
}

/* --- alerts --------------------------------------------------------------------------------- */

void budget_on_alert(void (*fn)(const struct budget_alert *alert))
{
    alert_fn = fn;
}

/* A share as conf has it, "80"; 0 when it is none. */
static unsigned percent_of(struct slice text)
{
    unsigned n = 0;

    for (size_t i = 0; i < text.n && i < 4; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        n = n * 10 + (unsigned)(text.p[i] - '0');
    }
    return n;
}

void budget_tell_shares(const struct budget_scope *s, int64_t before, int64_t after)
{
    const struct conf_list *shares = &conf_current()->budget_alert_percent;

    if (!alert_fn || s->limit_nano_usd <= 0)
        return;
    for (unsigned i = 0; i < shares->n; i++) {
        unsigned percent = percent_of(shares->items[i]);
        double at = (double)s->limit_nano_usd * percent / 100;
        struct budget_alert alert = {s, percent, after};

        if (percent && (double)before < at && (double)after >= at)
            alert_fn(&alert);
    }
}

/* --- reserving ------------------------------------------------------------------------------ */

struct budget_hold *budget_hold_new(const struct budget_scope *scopes, unsigned n)
{
    struct budget_hold *h = calloc(1, sizeof(*h));
    uint64_t wall = loop_wall_us();

    if (!h)
        return NULL;
    rng_hex(h->id, (sizeof(h->id) - 1) / 2);
    h->n = n < BUDGET_MAX_SCOPES ? n : BUDGET_MAX_SCOPES;
    for (unsigned i = 0; i < h->n; i++) {
        h->scopes[i] = scopes[i];
        budget_period_bounds(scopes[i].period, wall, &h->period[i].begin, &h->period[i].next);
    }
    h->left.nano_usd = -1;
    return h;
}

/* Nobody gets the hold. */
static void hold_drop(struct budget_hold *h)
{
    if (h->in_redis == NOT_IN_REDIS)
        free(h);
    else
        budget_owed_settle(h); /* spent 0 */
}

/* The only exit but cancelling; the hold is the caller's or gone. */
static void reserving_end(struct reserving *r, enum gw_err err, const struct budget_refusal *why)
{
    struct budget_hold *h = r->hold;
    budget_done done = r->done;
    void *arg = r->arg;

    free(r);
    if (err)
        hold_drop(h);
    done(err, err ? NULL : h, why, arg);
}

static void judge(struct reserving *r)
{
    struct budget_refusal why = {0};
    enum gw_err err = budget_local_judge(r->hold, &why);

    reserving_end(r, err, err == GW_EBUDGET || err == GW_ERATE ? &why : NULL);
}

static void on_asked(enum gw_err err, const struct redis_value *v, void *arg);
static void on_seed(int64_t spent, bool exact, void *arg);

/* The next scope whose beginning is to be looked up: all with a limit when Redis has lost a sum,
 * those unknown here when this process decides. False when there is none. */
static bool next_unknown(struct reserving *r)
{
    const struct budget_hold *h = r->hold;

    for (; r->scope < h->n; r->scope++)
        if (h->scopes[r->scope].limit_nano_usd >= 0 &&
            (!r->alone || budget_local_may_ask(h, r->scope)))
            return true;
    return false;
}

static bool seed(struct reserving *r)
{
    while (pg_enabled() && next_unknown(r)) {
        r->inner = budget_seed(r->hold, r->scope, on_seed, r);
        if (r->inner)
            return true;
        r->scope++;
    }
    return false;
}

static void no_answer(struct reserving *r);

static bool ask(struct reserving *r, bool create)
{
    r->inner = budget_redis_reserve(r->hold, create, on_asked, r);
    return r->inner != NULL;
}

/* Goes on from the present state until something is outstanding or it is over. */
static void reserve_step(struct reserving *r)
{
    if (r->state == RESERVE_SEED) {
        if (seed(r))
            return;
        r->state = r->alone ? RESERVE_JUDGE : RESERVE_ASK_AGAIN;
    }
    if (r->state == RESERVE_ASK_AGAIN) {
        if (!ask(r, true))
            no_answer(r);
        return;
    }
    judge(r);
}

/* Redis cannot be asked. */
static void no_answer(struct reserving *r)
{
    if (redis_enabled() && slice_is(conf_current()->budget_on_outage, "refuse")) {
        reserving_end(r, GW_EUNAVAIL, NULL);
        return;
    }
    r->alone = true;
    r->scope = 0;
    r->state = RESERVE_SEED;
    reserve_step(r);
}

static void on_seed(int64_t spent, bool exact, void *arg)
{
    struct reserving *r = arg;

    r->inner = NULL;
    if (spent >= 0) {
        budget_local_learn(r->hold, r->scope, capped(spent));
        budget_local_checked(r->hold, r->scope, exact);
    } else {
        budget_local_unanswered(r->hold, r->scope);
    }
    r->scope++;
    reserve_step(r);
}

static void held(struct reserving *r)
{
    r->hold->in_redis = IN_REDIS;
    budget_local_hold(r->hold);
    budget_check(r->hold);
    budget_owed_open(r->hold);
    reserving_end(r, GW_OK, NULL);
}

static void on_asked(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct reserving *r = arg;
    struct budget_refusal why = {0};

    r->inner = NULL;
    if (err) {
        r->hold->in_redis = err == GW_EUNAVAIL ? MAYBE_IN_REDIS : NOT_IN_REDIS;
        no_answer(r);
        return;
    }
    switch (budget_redis_verdict(r->hold, v, &why)) {
    case BUDGET_HELD:
        held(r);
        break;
    case BUDGET_NO_MONEY:
        reserving_end(r, GW_EBUDGET, &why);
        break;
    case BUDGET_NO_TOKENS:
        reserving_end(r, GW_ERATE, &why);
        break;
    case BUDGET_ABSENT:
        r->state = RESERVE_SEED;
        reserve_step(r);
        break;
    case BUDGET_UNKNOWN:
        no_answer(r);
        break;
    }
}

static void start(void *arg)
{
    no_answer(arg);
}

static void reserving_cancel(struct op *op)
{
    struct reserving *r = (struct reserving *)op;

    if (r->inner && (r->state == RESERVE_ASK || r->state == RESERVE_ASK_AGAIN))
        r->hold->in_redis = MAYBE_IN_REDIS;
    loop_undefer(&r->soon);
    op_cancel(&r->inner);
    hold_drop(r->hold);
    free(r);
}

struct op *budget_reserve(const struct budget_ask *ask_for, budget_done done, void *arg)
{
    struct reserving *r = calloc(1, sizeof(*r));
    struct budget_hold *h = budget_hold_new(ask_for->scopes, ask_for->n_scopes);

    if (!r || !h) {
        free(r);
        free(h);
        return NULL;
    }
    h->cost = capped(ask_for->cost_nano_usd);
    h->tokens = capped(ask_for->tokens);
    h->hold_us = ask_for->hold_us;
    r->op.cancel = reserving_cancel;
    r->hold = h;
    r->done = done;
    r->arg = arg;
    if (!ask(r, false))
        loop_defer(&r->soon, start, r);
    return &r->op;
}

/* --- settling ------------------------------------------------------------------------------- */

void budget_settle(struct budget_hold *hold, int64_t cost_nano_usd, int64_t tokens)
{
    if (!hold)
        return;
    hold->spent = cost_nano_usd < 0 ? hold->cost : capped(cost_nano_usd);
    hold->used = capped(tokens);
    budget_local_release(hold);
    if (redis_enabled()) {
        budget_owed_settle(hold);
        return;
    }
    for (unsigned i = 0; i < hold->n; i++)
        budget_local_spend(hold, i);
    free(hold);
}

/* --- life ----------------------------------------------------------------------------------- */

enum gw_err budget_init(void)
{
    enum gw_err err = budget_local_init();

    if (err)
        return err;
    budget_owed_init();
    budget_check_init();
    return GW_OK;
}

void budget_deinit(void)
{
    budget_owed_deinit();
    budget_check_deinit();
    budget_local_deinit();
    alert_fn = NULL;
}
