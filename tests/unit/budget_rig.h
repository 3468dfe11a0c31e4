/*
 * budget_rig.h - what the tests of budgets share, with and without a Redis: asking, and what came
 * of it.
 */
#pragma once

#include "storage/budget.h"

#include "tests/unit/turns.h"

#include <stdio.h>
#include <string.h>

struct answer {
    bool done;
    enum gw_err err;
    struct budget_hold *hold;
    struct budget_refusal why;
};

static inline void on_answer(enum gw_err err, struct budget_hold *hold,
                             const struct budget_refusal *why, void *arg)
{
    struct answer *a = arg;

    assert_false(a->done);
    *a = (struct answer){.done = true, .err = err, .hold = hold};
    if (why)
        a->why = *why;
    assert_int_equal(why != NULL, err == GW_EBUDGET || err == GW_ERATE);
    assert_int_equal(hold != NULL, err == GW_OK);
}

/* Asks; the answer comes in a later turn. */
static inline void begin(const struct budget_scope *scopes, unsigned n, int64_t cost,
                         int64_t tokens, uint64_t hold_us, struct answer *a)
{
    struct budget_ask ask = {scopes, n, cost, tokens, hold_us};

    *a = (struct answer){0};
    assert_non_null(budget_reserve(&ask, on_answer, a));
    assert_false(a->done);
}
