/*
 * test_budget.c - periods, and budgets counted in this process alone. Both clocks stand still
 * unless a test moves them (--wrap).
 */
#include "tests/unit/budget_rig.h"

#include "gateway/core/conf.h"

#include <stdlib.h>
#include <time.h>

#define SECOND 1000000u
#define MINUTE (60 * (uint64_t)SECOND)
#define DAY (86400 * (uint64_t)SECOND)

static uint64_t now_us, wall_us;

uint64_t __wrap_loop_now_us(void);
uint64_t __wrap_loop_wall_us(void);

uint64_t __wrap_loop_now_us(void)
{
    return now_us;
}

uint64_t __wrap_loop_wall_us(void)
{
    return wall_us;
}

/* --- periods -------------------------------------------------------------------------------- */

static uint64_t wall_of(const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
    return (uint64_t)timegm(&tm) * SECOND;
}

static void assert_bounds(enum budget_period p, const char *at, const char *begin, const char *next)
{
    int64_t b, n;

    budget_period_bounds(p, wall_of(at), &b, &n);
    assert_int_equal(b, wall_of(begin) / SECOND);
    assert_int_equal(n, wall_of(next) / SECOND);
}

static void test_days_begin_at_midnight_utc(void **state)
{
    assert_bounds(BUDGET_DAY, "2026-11-29 00:00:00", "2026-11-29 00:00:00", "2026-11-30 00:00:00");
    assert_bounds(BUDGET_DAY, "2026-11-29 23:59:59", "2026-11-29 00:00:00", "2026-11-30 00:00:00");
}

static void test_weeks_begin_on_monday(void **state)
{
    assert_bounds(BUDGET_WEEK, "2026-11-29 12:00:00", "2026-11-23 00:00:00", "2026-11-30 00:00:00");
    assert_bounds(BUDGET_WEEK, "2026-11-30 00:00:00", "2026-11-30 00:00:00", "2026-12-07 00:00:00");
    assert_bounds(BUDGET_WEEK, "2027-01-01 05:00:00", "2026-12-28 00:00:00", "2027-01-04 00:00:00");
}

static void test_months_have_their_own_lengths(void **state)
{
    assert_bounds(BUDGET_MONTH, "2026-12-31 23:59:59", "2026-12-01 00:00:00",
                  "2027-01-01 00:00:00");
    assert_bounds(BUDGET_MONTH, "2026-02-28 10:00:00", "2026-02-01 00:00:00",
                  "2026-03-01 00:00:00");
    assert_bounds(BUDGET_MONTH, "2028-02-29 10:00:00", "2028-02-01 00:00:00",
                  "2028-03-01 00:00:00");
    assert_bounds(BUDGET_MONTH, "2000-02-29 10:00:00", "2000-02-01 00:00:00",
                  "2000-03-01 00:00:00");
    assert_bounds(BUDGET_MONTH, "2100-02-28 23:00:00", "2100-02-01 00:00:00",
                  "2100-03-01 00:00:00");
}

/* Against the C library, over every day of 150 years. */
static void test_every_day_lies_in_its_month(void **state)
{
    for (uint64_t day = 0; day < 150 * 366; day++) {
        time_t t = (time_t)(day * 86400);
        struct tm tm, first = {.tm_mday = 1}, after;
        int64_t b, n;

        gmtime_r(&t, &tm);
        first.tm_year = tm.tm_year;
        first.tm_mon = tm.tm_mon;
        after = first;
        after.tm_mon++;
        budget_period_bounds(BUDGET_MONTH, day * DAY + DAY / 2, &b, &n);
        assert_int_equal(b, timegm(&first));
        assert_int_equal(n, timegm(&after));
    }
}

static void test_a_total_never_ends(void **state)
{
    int64_t b = -1, n = -1;

    budget_period_bounds(BUDGET_TOTAL, wall_of("2026-11-29 12:00:00"), &b, &n);
    assert_int_equal(b, 0);
    assert_int_equal(n, 0);
}

static void test_names_of_periods_are_read_back(void **state)
{
    enum budget_period p = BUDGET_TOTAL;

    for (enum budget_period i = BUDGET_TOTAL; i <= BUDGET_MONTH; i++) {
        assert_true(budget_period_parse(budget_period_name(i), &p));
        assert_int_equal(p, i);
    }
    assert_false(budget_period_parse("year", &p));
    assert_false(budget_period_parse(NULL, &p));
}

/* --- reserving ------------------------------------------------------------------------------ */

static struct answer reserve(const struct budget_scope *scopes, unsigned n, int64_t cost,
                             int64_t tokens)
{
    struct answer a;

    begin(scopes, n, cost, tokens, MINUTE, &a);
    loop_turn();
    assert_true(a.done);
    return a;
}

static struct budget_scope scope(const char *id, int64_t limit, enum budget_period p)
{
    struct budget_scope s = {.limit_nano_usd = limit, .period = p};

    snprintf(s.id, sizeof(s.id), "%s", id);
    return s;
}

static struct budget_alert alerts[16];
static unsigned n_alerts;

static void on_alert(const struct budget_alert *alert)
{
    assert_true(n_alerts < 16);
    alerts[n_alerts++] = *alert;
}

static int enter(void **state)
{
    struct conf_source src = {.dir = "/nonexistent", .env_file = "/dev/null"};
    struct problems ps = {0};

    clearenv();
    conf_publish(conf_load(&src, &ps));
    problems_deinit(&ps);
    now_us = loop_clock_us(); /* timers know the real time */
    wall_us = wall_of("2026-11-29 12:00:00");
    n_alerts = 0;
    if (!conf_current() || loop_init() || budget_init())
        return -1;
    budget_on_alert(on_alert);
    return 0;
}

static int leave(void **state)
{
    budget_deinit();
    loop_deinit();
    conf_publish(NULL);
    return 0;
}

static void test_reservations_count_until_they_are_settled(void **state)
{
    struct budget_scope s = scope("key:1", 100, BUDGET_DAY);
    struct answer a = reserve(&s, 1, 60, 0), b;

    assert_int_equal(a.err, GW_OK);
    assert_int_equal(budget_left(a.hold).nano_usd, 40);
    b = reserve(&s, 1, 41, 0);
    assert_int_equal(b.err, GW_EBUDGET);
    assert_int_equal(b.why.left_nano_usd, 40);
    assert_int_equal(b.why.resets_s, wall_of("2026-11-30 00:00:00") / SECOND);
    assert_int_equal(b.why.retry_us, DAY / 2);
    budget_settle(a.hold, 10, 0);
    b = reserve(&s, 1, 90, 0);
    assert_int_equal(b.err, GW_OK);
    assert_int_equal(budget_left(b.hold).nano_usd, 0);
    budget_settle(b.hold, 0, 0);
}

static void test_a_limit_is_reached_exactly(void **state)
{
    struct budget_scope s = scope("key:1", 1000, BUDGET_TOTAL);
    struct answer a[10];

    for (unsigned i = 0; i < 10; i++) {
        a[i] = reserve(&s, 1, 100, 0);
        assert_int_equal(a[i].err, GW_OK);
    }
    assert_int_equal(reserve(&s, 1, 1, 0).err, GW_EBUDGET);
    for (unsigned i = 0; i < 10; i++)
        budget_settle(a[i].hold, 100, 0);
    assert_int_equal(reserve(&s, 1, 1, 0).err, GW_EBUDGET);
    a[0] = reserve(&s, 1, 0, 0);
    assert_int_equal(a[0].err, GW_OK); /* what costs nothing goes through */
    budget_settle(a[0].hold, 0, 0);
}

static void test_no_limit_is_no_limit(void **state)
{
    struct budget_scope s = scope("key:1", -1, BUDGET_DAY);
    struct answer a = reserve(&s, 1, INT64_MAX, INT64_MAX);

    assert_int_equal(a.err, GW_OK);
    assert_int_equal(budget_left(a.hold).nano_usd, -1);
    assert_int_equal(budget_left(a.hold).tokens_per_minute, 0);
    budget_settle(a.hold, INT64_MAX, INT64_MAX);
    a = reserve(&s, 1, INT64_MAX, 0);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 0);
}

static void test_a_limit_of_nothing_lets_nothing_through(void **state)
{
    struct budget_scope s = scope("key:1", 0, BUDGET_DAY);

    assert_int_equal(reserve(&s, 1, 1, 0).err, GW_EBUDGET);
}

static void test_key_and_team_must_both_have_it(void **state)
{
    struct budget_scope one[2] = {scope("key:1", 100, BUDGET_DAY),
                                  scope("team:9", 150, BUDGET_DAY)};
    struct budget_scope two[2] = {scope("key:2", 100, BUDGET_DAY),
                                  scope("team:9", 150, BUDGET_DAY)};
    struct answer a = reserve(one, 2, 90, 0), b = reserve(two, 2, 90, 0);

    assert_int_equal(a.err, GW_OK);
    assert_int_equal(b.err, GW_EBUDGET);
    assert_string_equal(b.why.scope.id, "team:9");
    assert_int_equal(b.why.left_nano_usd, 60);
    b = reserve(two, 2, 60, 0); /* the refused one has held nothing of its key */
    assert_int_equal(b.err, GW_OK);
    assert_int_equal(budget_left(b.hold).nano_usd, 0);
    budget_settle(a.hold, 90, 0);
    budget_settle(b.hold, 60, 0);
}

static void test_real_cost_above_the_reservation_is_charged_in_full(void **state)
{
    struct budget_scope s = scope("key:1", 100, BUDGET_DAY);
    struct answer a = reserve(&s, 1, 50, 0);

    budget_settle(a.hold, 120, 0);
    a = reserve(&s, 1, 1, 0);
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, -20);
}

static void test_unknown_cost_spends_the_reservation(void **state)
{
    struct budget_scope s = scope("key:1", 100, BUDGET_DAY);
    struct answer a = reserve(&s, 1, 70, 0);

    budget_settle(a.hold, -1, 0);
    assert_int_equal(reserve(&s, 1, 31, 0).err, GW_EBUDGET);
}

static void test_amounts_never_wrap(void **state)
{
    struct budget_scope s = scope("key:1", INT64_MAX, BUDGET_TOTAL);

    for (unsigned i = 0; i < 8; i++) {
        struct answer a = reserve(&s, 1, INT64_MAX, INT64_MAX);

        assert_int_equal(a.err, GW_OK);
        budget_settle(a.hold, INT64_MAX, INT64_MAX);
    }
}

static void test_a_new_period_begins_with_nothing_spent(void **state)
{
    struct budget_scope s = scope("key:1", 100, BUDGET_DAY);
    struct answer a = reserve(&s, 1, 60, 0), late = reserve(&s, 1, 40, 0), b;

    budget_settle(a.hold, 60, 0);
    assert_int_equal(reserve(&s, 1, 1, 0).err, GW_EBUDGET);
    wall_us += DAY;
    b = reserve(&s, 1, 100, 0);
    assert_int_equal(b.err, GW_OK);
    budget_settle(late.hold, 40, 0); /* lands where it was reserved */
    budget_settle(b.hold, 70, 0);
    assert_int_equal(reserve(&s, 1, 31, 0).err, GW_EBUDGET);
    wall_us -= DAY; /* a clock put back finds the day it had left */
    a = reserve(&s, 1, 1, 0);
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, 0);
}

static void test_a_cancelled_reservation_holds_nothing(void **state)
{
    struct budget_scope s = scope("key:1", 100, BUDGET_DAY);
    struct budget_ask ask = {.scopes = &s, .n_scopes = 1, .cost_nano_usd = 100};
    struct answer a = {0};
    struct op *op = budget_reserve(&ask, on_answer, &a);

    assert_non_null(op);
    op_cancel(&op);
    assert_null(op);
    a = reserve(&s, 1, 100, 0);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 0);
    budget_settle(NULL, 1, 1);
}

/* --- tokens --------------------------------------------------------------------------------- */

static struct budget_scope rate(int64_t per_minute)
{
    struct budget_scope s = scope("key:1", -1, BUDGET_TOTAL);

    s.tokens_per_minute = per_minute;
    return s;
}

static void test_tokens_come_back_over_a_minute(void **state)
{
    struct budget_scope s = rate(6000);
    struct answer a = reserve(&s, 1, 0, 4000), b;

    assert_int_equal(a.err, GW_OK);
    assert_int_equal(budget_left(a.hold).tokens, 2000);
    assert_int_equal(budget_left(a.hold).tokens_per_minute, 6000);
    b = reserve(&s, 1, 0, 3000);
    assert_int_equal(b.err, GW_ERATE);
    assert_true(b.why.tokens);
    assert_int_equal(b.why.left_tokens, 2000);
    assert_int_equal(b.why.retry_us, 10 * SECOND); /* a thousand tokens at a hundred a second */
    now_us += 10 * SECOND;
    b = reserve(&s, 1, 0, 3000);
    assert_int_equal(b.err, GW_OK);
    budget_settle(a.hold, 0, 4000);
    budget_settle(b.hold, 0, 3000);
}

static void test_tokens_not_used_are_given_back(void **state)
{
    struct budget_scope s = rate(6000);
    struct answer a = reserve(&s, 1, 0, 6000);

    assert_int_equal(reserve(&s, 1, 0, 1).err, GW_ERATE);
    budget_settle(a.hold, 0, 500);
    a = reserve(&s, 1, 0, 5500);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 5500);
}

static void test_more_tokens_than_reserved_are_owed(void **state)
{
    struct budget_scope s = rate(6000);
    struct answer a = reserve(&s, 1, 0, 1000);

    budget_settle(a.hold, 0, 12000);
    now_us += 60 * SECOND - 1;
    assert_int_equal(reserve(&s, 1, 0, 1).err, GW_ERATE);
    now_us += SECOND;
    a = reserve(&s, 1, 0, 1);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 1);
}

static void test_a_call_larger_than_its_minute_goes_when_the_minute_is_whole(void **state)
{
    struct budget_scope s = rate(600);
    struct answer a = reserve(&s, 1, 0, 5000);

    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 600);
    assert_int_equal(reserve(&s, 1, 0, 5000).err, GW_ERATE);
    now_us += MINUTE;
    a = reserve(&s, 1, 0, 5000);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 0);
}

static void test_refused_tokens_hold_no_money(void **state)
{
    struct budget_scope s = rate(600);
    struct answer a;

    s.limit_nano_usd = 100;
    a = reserve(&s, 1, 10, 600);
    assert_int_equal(reserve(&s, 1, 10, 600).err, GW_ERATE);
    budget_settle(a.hold, 10, 0);
    a = reserve(&s, 1, 90, 600);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 0);
}

/* --- alerts --------------------------------------------------------------------------------- */

static void spend(const struct budget_scope *s, int64_t amount)
{
    struct answer a = reserve(s, 1, amount, 0);

    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, amount, 0);
}

static void test_each_share_is_told_once_a_period(void **state)
{
    struct budget_scope s = scope("key:1", 1000, BUDGET_DAY);

    spend(&s, 799);
    assert_int_equal(n_alerts, 0);
    spend(&s, 1);
    assert_int_equal(n_alerts, 1);
    assert_int_equal(alerts[0].percent, 80);
    assert_int_equal(alerts[0].spent_nano_usd, 800);
    spend(&s, 100);
    assert_int_equal(n_alerts, 1);
    spend(&s, 100);
    assert_int_equal(n_alerts, 2);
    assert_int_equal(alerts[1].percent, 100);
    wall_us += DAY;
    spend(&s, 1000);
    assert_int_equal(n_alerts, 4);
}

/* --- looking -------------------------------------------------------------------------------- */

struct seen {
    bool done;
    enum gw_err err;
    struct budget_standing s[BUDGET_MAX_SCOPES];
};

static void on_look(enum gw_err err, const struct budget_standing *s, void *arg)
{
    struct seen *seen = arg;

    seen->done = true;
    seen->err = err;
    if (s)
        memcpy(seen->s, s, sizeof(seen->s));
}

static void test_looking_says_what_is_known(void **state)
{
    struct budget_scope s[2] = {scope("key:1", 100, BUDGET_DAY), scope("team:9", 900, BUDGET_DAY)};
    struct answer a;
    struct seen seen = {0};

    assert_non_null(budget_look(s, 2, on_look, &seen));
    loop_turn();
    assert_true(seen.done);
    assert_int_equal(seen.err, GW_EUNAVAIL);
    a = reserve(s, 2, 30, 0);
    budget_settle(a.hold, 20, 0);
    seen = (struct seen){0};
    assert_non_null(budget_look(s, 2, on_look, &seen));
    loop_turn();
    assert_int_equal(seen.err, GW_OK);
    assert_int_equal(seen.s[0].spent_nano_usd, 20);
    assert_int_equal(seen.s[1].spent_nano_usd, 20);
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_begin_at_midnight_utc),
        cmocka_unit_test(test_weeks_begin_on_monday),
        cmocka_unit_test(test_months_have_their_own_lengths),
        cmocka_unit_test(test_every_day_lies_in_its_month),
        cmocka_unit_test(test_a_total_never_ends),
        cmocka_unit_test(test_names_of_periods_are_read_back),
        T(test_reservations_count_until_they_are_settled),
        T(test_a_limit_is_reached_exactly),
        T(test_no_limit_is_no_limit),
        T(test_a_limit_of_nothing_lets_nothing_through),
        T(test_key_and_team_must_both_have_it),
        T(test_real_cost_above_the_reservation_is_charged_in_full),
        T(test_unknown_cost_spends_the_reservation),
        T(test_amounts_never_wrap),
        T(test_a_new_period_begins_with_nothing_spent),
        T(test_a_cancelled_reservation_holds_nothing),
        T(test_tokens_come_back_over_a_minute),
        T(test_tokens_not_used_are_given_back),
        T(test_more_tokens_than_reserved_are_owed),
        T(test_a_call_larger_than_its_minute_goes_when_the_minute_is_whole),
        T(test_refused_tokens_hold_no_money),
        T(test_each_share_is_told_once_a_period),
        T(test_looking_says_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
