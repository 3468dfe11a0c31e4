/*
 * budget.c - see budget.h.
 *
 *     reserve --> JUDGE (the accounts of this process) --> done(hold) or done(refusal)
 *
 * A reservation is one heap object; its hold becomes the caller's with done(GW_OK).
 */
#include "storage/budget_private.h"

#include "gateway/core/conf.h"
#include "gateway/core/loop.h"
#include "gateway/core/rng.h"

#include <stdlib.h>
#include <string.h>

struct reserving {
    struct op op; /* first member */
    struct loop_deferred soon;
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

static struct budget_hold *hold_new(const struct budget_ask *ask)
{
    struct budget_hold *h = calloc(1, sizeof(*h));
    uint64_t wall = loop_wall_us();

    if (!h)
        return NULL;
    rng_hex(h->id, (sizeof(h->id) - 1) / 2);
    h->n = ask->n_scopes < BUDGET_MAX_SCOPES ? ask->n_scopes : BUDGET_MAX_SCOPES;
    for (unsigned i = 0; i < h->n; i++) {
        h->scopes[i] = ask->scopes[i];
        budget_period_bounds(ask->scopes[i].period, wall, &h->period[i].begin, &h->period[i].next);
    }
    h->cost = capped(ask->cost_nano_usd);
    h->tokens = capped(ask->tokens);
    h->left.nano_usd = -1;
    h->hold_us = ask->hold_us;
    return h;
}

/* The only exit but cancelling; the hold is the caller's or gone. */
static void reserving_end(struct reserving *r, enum gw_err err, const struct budget_refusal *why)
{
    struct budget_hold *h = r->hold;
    budget_done done = r->done;
    void *arg = r->arg;

    free(r);
    if (err)
        free(h);
    done(err, err ? NULL : h, why, arg);
}

static void judge(void *arg)
{
    struct reserving *r = arg;
    struct budget_refusal why = {0};
    enum gw_err err = budget_local_judge(r->hold, &why);

    reserving_end(r, err, err == GW_EBUDGET || err == GW_ERATE ? &why : NULL);
}

static void reserving_cancel(struct op *op)
{
    struct reserving *r = (struct reserving *)op;

    loop_undefer(&r->soon);
    free(r->hold);
    free(r);
}

struct op *budget_reserve(const struct budget_ask *ask, budget_done done, void *arg)
{
    struct reserving *r = calloc(1, sizeof(*r));
    struct budget_hold *h = hold_new(ask);

    if (!r || !h) {
        free(r);
        free(h);
        return NULL;
    }
    r->op.cancel = reserving_cancel;
    r->hold = h;
    r->done = done;
    r->arg = arg;
    loop_defer(&r->soon, judge, r);
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
    budget_local_spend(hold);
    free(hold);
}

/* --- life ----------------------------------------------------------------------------------- */

enum gw_err budget_init(void)
{
    return budget_local_init();
}

void budget_deinit(void)
{
    budget_local_deinit();
    alert_fn = NULL;
}
