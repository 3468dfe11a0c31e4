/*
 * budget_check.c - is what Redis says was spent no less than the ledger says?
 *
 *     held --first time of this scope and period here--> SEED (beside the requests) --> learned
 *
 * A Redis that was restored from an older snapshot has sums, so nobody makes them anew, but they
 * are too low; who knows more tells it with the next reservation (budget_redis.c). A process that
 * runs on knows; one that has just started learns it here, from one query for each scope and
 * period it meets. No request waits for it.
 *
 * It is not asked before Redis has been there for a while: what other processes spent while it was
 * away is in the ledger before they can tell it, and would count twice.
 */
#include "storage/budget_private.h"

#include "gateway/core/loop.h"
#include "storage/pg.h"

#include <stdlib.h>
#include <string.h>

#define TOLD_BY_US 10000000u /* all processes are connected again, and have told what they owe */

struct check {
    LIST_ENTRY(check) link;
    struct op *op;
    unsigned scope;
    struct budget_hold *hold; /* holds nothing: names the period */
};

static LIST_HEAD(, check) checks = LIST_HEAD_INITIALIZER(checks);
static uint64_t up_us; /* since when Redis is there */

static void check_free(struct check *c)
{
    LIST_REMOVE(c, link);
    op_cancel(&c->op);
    free(c->hold);
    free(c);
}

static void on_seed(int64_t spent, bool exact, void *arg)
{
    struct check *c = arg;

    c->op = NULL;
    if (spent >= 0 && exact)
        budget_local_learn(c->hold, c->scope,
                           spent < BUDGET_MAX_AMOUNT ? spent : BUDGET_MAX_AMOUNT);
    budget_local_checked(c->hold, c->scope, spent >= 0 && exact);
    check_free(c);
}

static void check(const struct budget_hold *h, unsigned scope)
{
    struct check *c = calloc(1, sizeof(*c));

    if (c)
        c->hold = budget_hold_new(h->scopes, h->n);
    if (!c || !c->hold) {
        free(c);
        return;
    }
    memcpy(c->hold->period, h->period, sizeof(h->period));
    c->scope = scope;
    LIST_INSERT_HEAD(&checks, c, link);
    budget_local_checked(h, scope, true); /* nobody else needs to ask */
    c->op = budget_seed(c->hold, scope, on_seed, c);
    if (!c->op) {
        budget_local_checked(h, scope, false);
        check_free(c);
    }
}

void budget_check(const struct budget_hold *h)
{
    if (!pg_enabled() || !redis_up() || loop_now_us() - up_us < TOLD_BY_US)
        return;
    for (unsigned i = 0; i < h->n; i++)
        if (h->scopes[i].limit_nano_usd >= 0 && budget_local_may_check(h, i))
            check(h, i);
}

static void on_change(bool up, void *arg)
{
    if (up)
        up_us = loop_now_us();
}

void budget_check_init(void)
{
    up_us = loop_now_us();
    if (redis_enabled())
        redis_on_change(on_change, NULL);
}

void budget_check_deinit(void)
{
    struct check *c;

    while ((c = LIST_FIRST(&checks)))
        check_free(c);
}
