/*
 * budget_local.c - accounts: what this process knows of each scope's money, and the decisions it
 * takes when there is nobody else to ask.
 *
 * An account keeps two periods, the running one and the one before, so that a call which is settled
 * after midnight lands where it was reserved, and a clock that is put back finds its numbers again.
 * `spent` is never more than what was really spent: it is what the shared counter last said, plus
 * what was booked here and the shared counter could not be told. `held` are this process's own open
 * reservations, whoever decided on them.
 */
#include "storage/budget_private.h"

#include "gateway/core/loop.h"
#include "storage/pg.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u
#define PERIODS 2u
#define SWEEP_BUCKETS 64u
#define IDLE_US 3600000000u
#define ASK_AGAIN_US 5000000u

struct account_period {
    bool used;    /* the slot holds a period */
    bool known;   /* somebody has told what was spent before; else it counts from nothing */
    bool checked; /* against the ledger (budget_check.c) */
    uint64_t ask_again_us;
    int64_t begin;
    int64_t spent, held;
};

struct account {
    struct account *next;
    char id[sizeof(((struct budget_scope *)0)->id)];
    enum budget_period kind;
    struct account_period periods[PERIODS];
    uint64_t tat_us; /* token rate: when its minute is whole again (GCRA) */
    uint64_t used_us;
    struct budget_hold *owed; /* budget_owed.c's */
};

static struct account **accounts;
static unsigned swept; /* next bucket to look at */

/* --- the table ------------------------------------------------------------------------------ */

enum gw_err budget_local_init(void)
{
    accounts = calloc(BUCKETS, sizeof(*accounts));
    return accounts ? GW_OK : GW_ENOMEM;
}

void budget_local_deinit(void)
{
    struct account *a;

    for (unsigned i = 0; accounts && i < BUCKETS; i++)
        while ((a = accounts[i])) {
            accounts[i] = a->next;
            free(a);
        }
    free(accounts);
    accounts = NULL;
}

static struct account **slot_of(const char *id)
{
    unsigned h = 2166136261u;

    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 16777619u;
    return &accounts[h % BUCKETS];
}

static struct account *account_find(const char *id)
{
    struct account *a = *slot_of(id);

    while (a && strcmp(a->id, id) != 0)
        a = a->next;
    return a;
}

/* Made if it is new; NULL out of memory. */
static struct account *account_of(const char *id)
{
    struct account *a = account_find(id), **slot = slot_of(id);

    if (a)
        return a;
    a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    strcpy(a->id, id);
    a->next = *slot;
    *slot = a;
    return a;
}

static struct account_period *period_find(struct account *a, const struct budget_hold *h,
                                          unsigned i)
{
    if (!a || a->kind != h->scopes[i].period)
        return NULL;
    for (unsigned k = 0; k < PERIODS; k++)
        if (a->periods[k].used && a->periods[k].begin == h->period[i].begin)
            return &a->periods[k];
    return NULL;
}

/* The account's numbers for the period of the hold's scope; a new period takes the place of the
 * elder one. NULL out of memory. */
static struct account_period *period_of(const struct budget_hold *h, unsigned i)
{
    struct account *a = account_of(h->scopes[i].id);
    struct account_period *p = period_find(a, h, i);

    if (a)
        a->used_us = loop_now_us();
    if (p || !a)
        return p;
    if (a->kind != h->scopes[i].period)
        memset(a->periods, 0, sizeof(a->periods));
    a->kind = h->scopes[i].period;
    p = &a->periods[0];
    if (p->used && (!a->periods[1].used || a->periods[1].begin < p->begin))
        p = &a->periods[1];
    *p = (struct account_period){.used = true, .begin = h->period[i].begin};
    return p;
}

/* --- what is known -------------------------------------------------------------------------- */

static bool has_limit(const struct budget_scope *s)
{
    return s->limit_nano_usd >= 0;
}

int64_t budget_local_spent(const struct budget_hold *h, unsigned scope)
{
    const struct account_period *p = period_find(account_find(h->scopes[scope].id), h, scope);

    return p && (p->known || p->spent > 0) ? p->spent : -1;
}

/* Asking again each time would make each call wait for a Postgres that is away. */
bool budget_local_may_ask(const struct budget_hold *h, unsigned scope)
{
    const struct account_period *p = period_find(account_find(h->scopes[scope].id), h, scope);

    return !p || (!p->known && loop_now_us() >= p->ask_again_us);
}

void budget_local_unanswered(const struct budget_hold *h, unsigned scope)
{
    struct account_period *p = period_of(h, scope);

    if (p)
        p->ask_again_us = loop_now_us() + ASK_AGAIN_US;
}

bool budget_local_may_check(const struct budget_hold *h, unsigned scope)
{
    const struct account_period *p = period_find(account_find(h->scopes[scope].id), h, scope);

    return p && !p->checked && loop_now_us() >= p->ask_again_us;
}

void budget_local_checked(const struct budget_hold *h, unsigned scope, bool answered)
{
    struct account_period *p = period_find(account_find(h->scopes[scope].id), h, scope);

    if (!p)
        return;
    p->checked = answered;
    if (!answered)
        p->ask_again_us = loop_now_us() + ASK_AGAIN_US;
}

void budget_local_learn(const struct budget_hold *h, unsigned scope, int64_t spent)
{
    struct account_period *p = period_of(h, scope);

    if (!p)
        return;
    if (spent > p->spent)
        p->spent = spent;
    p->known = true;
}

/* --- tokens --------------------------------------------------------------------------------- */

int64_t budget_rate_tokens(const struct budget_scope *s, int64_t tokens)
{
    return tokens < s->tokens_per_minute ? tokens : s->tokens_per_minute;
}

/* Time it takes for that many tokens to come back. */
static int64_t time_of(const struct budget_scope *s, int64_t tokens)
{
    return (int64_t)((double)tokens * BUDGET_MINUTE_US / (double)s->tokens_per_minute);
}

static int64_t tokens_left(const struct budget_scope *s, uint64_t tat_us, uint64_t now_us)
{
    int64_t ahead = tat_us > now_us ? (int64_t)(tat_us - now_us) : 0;

    if (ahead >= BUDGET_MINUTE_US)
        return 0;
    return (int64_t)((double)(BUDGET_MINUTE_US - ahead) * (double)s->tokens_per_minute /
                     BUDGET_MINUTE_US);
}

/* GCRA with a cost; a minute's tokens may be used at once. Changes nothing. */
static bool rate_allows(const struct budget_hold *h, unsigned i, struct budget_refusal *ret)
{
    const struct budget_scope *s = &h->scopes[i];
    const struct account *a = account_find(s->id);
    uint64_t now = loop_now_us(), tat = a && a->tat_us > now ? a->tat_us : now;
    uint64_t after;

    if (s->tokens_per_minute <= 0)
        return true;
    after = tat + (uint64_t)time_of(s, budget_rate_tokens(s, h->tokens));
    if (after <= now + BUDGET_MINUTE_US)
        return true;
    budget_refuse_tokens(h, i, tokens_left(s, tat, now), after - now - BUDGET_MINUTE_US, ret);
    return false;
}

static void rate_add(const struct budget_scope *s, int64_t tokens)
{
    struct account *a = account_find(s->id);
    uint64_t now = loop_now_us();
    int64_t ahead;

    if (!a || s->tokens_per_minute <= 0)
        return;
    ahead = (a->tat_us > now ? (int64_t)(a->tat_us - now) : 0) + time_of(s, tokens);
    a->tat_us = ahead > 0 ? now + (uint64_t)ahead : now;
}

/* --- decisions ------------------------------------------------------------------------------ */

static bool money_allows(const struct budget_hold *h, unsigned i, const struct account_period *p,
                         struct budget_refusal *ret)
{
    if (!has_limit(&h->scopes[i]) || p->spent + p->held + h->cost <= h->scopes[i].limit_nano_usd)
        return true;
    budget_refuse_money(h, i, p->spent, p->held, ret);
    return false;
}

enum gw_err budget_local_judge(struct budget_hold *h, struct budget_refusal *ret)
{
    for (unsigned i = 0; i < h->n; i++) {
        struct account_period *p = period_of(h, i);

        if (!p)
            return GW_ENOMEM;
        if (!money_allows(h, i, p, ret))
            return GW_EBUDGET;
    }
    for (unsigned i = 0; i < h->n; i++)
        if (!rate_allows(h, i, ret))
            return GW_ERATE;
    budget_local_hold(h);
    for (unsigned i = 0; i < h->n; i++) {
        const struct account *a = account_find(h->scopes[i].id);
        const struct account_period *p = period_of(h, i);

        budget_note_left(h, i, p->spent, p->held,
                         tokens_left(&h->scopes[i], a->tat_us, loop_now_us()));
    }
    return GW_OK;
}

void budget_local_hold(struct budget_hold *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        struct account_period *p = period_of(h, i);

        if (p)
            p->held += h->cost;
        rate_add(&h->scopes[i], budget_rate_tokens(&h->scopes[i], h->tokens));
    }
    h->is_held = true;
}

void budget_local_release(struct budget_hold *h)
{
    for (unsigned i = 0; h->is_held && i < h->n; i++) {
        struct account_period *p = period_find(account_find(h->scopes[i].id), h, i);

        if (p)
            p->held = p->held > h->cost ? p->held - h->cost : 0;
        rate_add(&h->scopes[i], h->used - budget_rate_tokens(&h->scopes[i], h->tokens));
    }
    h->is_held = false;
}

void budget_local_spend(const struct budget_hold *h, unsigned scope)
{
    struct account_period *p = period_find(account_find(h->scopes[scope].id), h, scope);

    if (!p)
        return;
    budget_tell_shares(&h->scopes[scope], p->spent, p->spent + h->spent);
    p->spent += h->spent;
}

struct budget_hold **budget_local_owed(const struct budget_hold *h)
{
    struct account *a = account_find(h->scopes[0].id);

    return a ? &a->owed : NULL;
}

/* --- forgetting ----------------------------------------------------------------------------- */

static bool is_idle(const struct account *a)
{
    for (unsigned k = 0; k < PERIODS; k++)
        if (a->periods[k].used && a->periods[k].held)
            return false;
    return !a->owed && loop_now_us() - a->used_us > IDLE_US;
}

void budget_local_sweep(void)
{
    if (!accounts || !pg_enabled())
        return;
    for (unsigned n = 0; n < SWEEP_BUCKETS; n++) {
        struct account **at = &accounts[swept++ % BUCKETS], *a;

        while ((a = *at)) {
            if (!is_idle(a)) {
                at = &a->next;
                continue;
            }
            *at = a->next;
            free(a);
        }
    }
}
