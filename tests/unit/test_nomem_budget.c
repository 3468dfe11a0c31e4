/*
 * test_nomem_budget.c - CHECK 94 for budgets: each allocation of reserving, settling and looking
 * fails once, and for good. What is said is either right or GW_ENOMEM, and nothing stays held.
 */
#include "tests/unit/nomem.h"

#include "gateway/core/conf.h"
#include "gateway/core/loop.h"
#include "storage/budget_private.h"

struct answer {
    bool done;
    enum gw_err err;
    struct budget_hold *hold;
};

static void on_done(enum gw_err err, struct budget_hold *hold, const struct budget_refusal *why,
                    void *arg)
{
    struct answer *a = arg;

    *a = (struct answer){.done = true, .err = err, .hold = hold};
    assert_int_equal(why != NULL, err == GW_EBUDGET);
}

/* The loop itself is not under test. */
static void turn(void)
{
    bool was = fault.armed;

    fault.armed = false;
    loop_turn();
    fault.armed = was;
}

static enum gw_err reserve(const struct budget_scope *s, int64_t cost, struct answer *a)
{
    struct budget_ask ask = {.scopes = s, .n_scopes = 2, .cost_nano_usd = cost};

    *a = (struct answer){0};
    if (!budget_reserve(&ask, on_done, a))
        return GW_ENOMEM;
    while (!a->done)
        turn();
    return a->err;
}

/* 100 of 150 are held, 60 are refused; 40 are spent, so that 110 go. */
static enum gw_err run_budget(struct run *run)
{
    struct budget_scope s[2] = {{.id = "key:1", .limit_nano_usd = 150},
                                {.id = "team:1", .limit_nano_usd = 1000}};
    struct answer first, second;
    enum gw_err err = reserve(s, 100, &first);

    if (err)
        return err;
    err = reserve(s, 60, &second);
    if (err == GW_ENOMEM) {
        budget_settle(first.hold, 0, 0);
        return err;
    }
    show_int(run, err);
    budget_settle(first.hold, 40, 0);
    err = reserve(s, 110, &second);
    if (err)
        return err;
    show_int(run, budget_left(second.hold).nano_usd);
    budget_settle(second.hold, 0, 0);
    return GW_OK;
}

static enum gw_err run_fresh(struct run *run)
{
    enum gw_err err = budget_init();

    if (err)
        return err;
    err = run_budget(run);
    budget_deinit();
    return err;
}

static void test_check_094_budgets_without_memory_hold_nothing(void **state)
{
    torture("a reservation", run_fresh, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_check_094_budgets_without_memory_hold_nothing, check_leaks),
    };
    const struct conf_source src = {.dir = "/nonexistent", .env_file = "/dev/null"};
    struct problems ps = {0};
    int rc;

    clearenv();
    conf_publish(conf_load(&src, &ps));
    problems_deinit(&ps);
    if (!conf_current() || loop_init())
        return 1;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    loop_deinit();
    conf_publish(NULL);
    return rc;
}
