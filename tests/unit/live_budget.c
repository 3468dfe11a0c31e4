/*
 * live_budget.c - budgets in a real Redis (REDIS_URL), without a database. It is run by
 * tests/integration/test_budgets.py. Each test has scopes of its own; nothing is timed.
 */
#include "tests/unit/budget_rig.h"

#include "gateway/core/conf.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"
#include "storage/budget_private.h"

#include <stdlib.h>

#define SECOND 1000000u
#define MANY 1000u

/* --- helpers -------------------------------------------------------------------------------- */

static struct answer reserve(const struct budget_scope *scopes, unsigned n, int64_t cost,
                             int64_t tokens)
{
    struct answer a;

    begin(scopes, n, cost, tokens, 60 * SECOND, &a);
    turn_until(a.done);
    return a;
}

static struct budget_scope scope(const char *kind, const char *id, int64_t limit)
{
    struct budget_scope s = {.limit_nano_usd = limit, .period = BUDGET_DAY};

    snprintf(s.id, sizeof(s.id), "%s:%s", kind, id);
    return s;
}

static struct {
    bool done;
    enum gw_err err;
    int64_t number;
} said;

static void on_said(enum gw_err err, const struct redis_value *v, void *arg)
{
    said.done = true;
    said.err = err;
    said.number = v && v->kind == REDIS_INT ? v->i : -1;
}

/* One command of up to four words; waits for its answer. */
static int64_t redis(const char *a, const char *b, const char *c, const char *d)
{
    struct slice argv[4] = {slice_cstr(a), slice_cstr(b), slice_cstr(c), slice_cstr(d)};
    unsigned n = 1 + (b != NULL) + (c != NULL) + (d != NULL);

    said.done = false;
    assert_non_null(redis_command(argv, n, on_said, NULL));
    turn_until(said.done);
    assert_int_equal(said.err, GW_OK);
    return said.number;
}

/* What was settled has reached Redis: commands are answered in order. */
static void flush(void)
{
    redis("PING", NULL, NULL, NULL);
}

struct seen {
    bool done;
    struct budget_hold *h;
    struct budget_standing s[BUDGET_MAX_SCOPES];
};

static void on_seen(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct seen *seen = arg;

    assert_int_equal(err, GW_OK);
    assert_true(budget_redis_seen(seen->h, v, seen->s));
    seen->done = true;
}

/* What Redis itself has. */
static struct seen look(const struct budget_scope *s, unsigned n)
{
    struct seen seen = {.h = budget_hold_new(s, n)};

    assert_non_null(budget_redis_look(seen.h, on_seen, &seen));
    turn_until(seen.done);
    free(seen.h);
    return seen;
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_a_thousand_at_once_get_what_ten_may_have(void **state)
{
    struct budget_scope s[2] = {scope("key", "crowd", 1000), scope("team", "crowd-team", 5000)};
    struct answer *a = calloc(MANY, sizeof(*a));
    unsigned passed = 0;

    for (unsigned i = 0; i < MANY; i++)
        begin(s, 2, 100, 0, 60 * SECOND, &a[i]);
    for (unsigned i = 0; i < MANY; i++) {
        turn_until(a[i].done);
        passed += a[i].err == GW_OK;
        if (a[i].err) {
            assert_int_equal(a[i].err, GW_EBUDGET);
            assert_string_equal(a[i].why.scope.id, "key:crowd");
        }
    }
    assert_int_equal(passed, 10);
    for (unsigned i = 0; i < MANY; i++)
        budget_settle(a[i].hold, 100, 0);
    flush();
    assert_int_equal(look(s, 2).s[0].spent_nano_usd, 1000);
    assert_int_equal(look(s, 2).s[0].held_nano_usd, 0);
    assert_int_equal(look(s, 2).s[1].spent_nano_usd, 1000);
    free(a);
}

static void test_two_keys_share_their_team(void **state)
{
    struct budget_scope one[2] = {scope("key", "tk1", 1000), scope("team", "tt", 150)};
    struct budget_scope two[2] = {scope("key", "tk2", 1000), scope("team", "tt", 150)};
    struct answer a = reserve(one, 2, 90, 0), b = reserve(two, 2, 90, 0);

    assert_int_equal(a.err, GW_OK);
    assert_int_equal(b.err, GW_EBUDGET);
    assert_string_equal(b.why.scope.id, "team:tt");
    assert_int_equal(b.why.left_nano_usd, 60);
    assert_int_equal(look(two, 2).s[0].held_nano_usd, 0); /* nothing half held */
    budget_settle(a.hold, 10, 0);
    b = reserve(two, 2, 140, 0);
    assert_int_equal(b.err, GW_OK);
    assert_int_equal(budget_left(b.hold).nano_usd, 0);
    budget_settle(b.hold, 0, 0);
}

/* As it is sent again when the answer of the first time was lost. */
static void settle_again(struct budget_hold *h)
{
    h->sent = true;
    said.done = false;
    assert_non_null(budget_redis_settle(h, on_said, NULL));
    turn_until(said.done);
    assert_int_equal(said.err, GW_OK);
}

static void assert_spent(const struct budget_scope *s, int64_t spent, int64_t held)
{
    assert_int_equal(look(s, 1).s[0].spent_nano_usd, spent);
    assert_int_equal(look(s, 1).s[0].held_nano_usd, held);
}

static void test_settling_twice_counts_once(void **state)
{
    struct budget_scope s = scope("key", "twice", 1000);
    struct answer a = reserve(&s, 1, 100, 0);
    struct budget_hold again;

    assert_int_equal(a.err, GW_OK);
    again = *a.hold;
    again.place = PLACE_NONE;
    again.spent = 70;
    budget_settle(a.hold, 70, 0);
    flush();
    settle_again(&again);
    assert_spent(&s, 70, 0);
}

static void test_a_repetition_counts_when_the_first_time_was_lost(void **state)
{
    struct budget_scope s = scope("key", "lost", 1000);
    struct answer a = reserve(&s, 1, 100, 0);

    assert_int_equal(a.err, GW_OK);
    a.hold->spent = 70;
    settle_again(a.hold);
    assert_spent(&s, 70, 0);
    settle_again(a.hold);
    assert_spent(&s, 70, 0);
    budget_settle(a.hold, 70, 0); /* its owner's call: a repetition, too */
    flush();
    assert_spent(&s, 70, 0);
}

static void test_a_repetition_of_what_was_given_back_counts_once(void **state)
{
    struct budget_scope s = scope("key", "late", 100);
    struct budget_hold *h = budget_hold_new(&s, 1);
    struct answer a;

    h->cost = 100;
    h->hold_us = 20000;
    said.done = false;
    assert_non_null(budget_redis_reserve(h, true, on_said, NULL));
    turn_until(said.done);
    do
        a = reserve(&s, 1, 100, 0);
    while (a.err == GW_EBUDGET);
    assert_int_equal(a.err, GW_OK);
    h->in_redis = IN_REDIS;
    h->spent = 40;
    settle_again(h); /* the first time never arrived */
    assert_spent(&s, 40, 100);
    settle_again(h);
    assert_spent(&s, 40, 100);
    budget_settle(a.hold, 10, 0);
    flush();
    assert_spent(&s, 50, 0);
    free(h);
}

static void test_what_redis_never_heard_of_counts_once(void **state)
{
    struct budget_scope s = scope("key", "unheard", 1000);
    struct budget_hold *h = budget_hold_new(&s, 1);
    struct answer a = reserve(&s, 1, 10, 0);

    assert_int_equal(a.err, GW_OK); /* so that there is a sum */
    budget_settle(a.hold, 10, 0);
    flush();
    h->in_redis = NOT_IN_REDIS;
    h->spent = 30;
    settle_again(h);
    settle_again(h);
    assert_spent(&s, 40, 0);
    free(h);
}

/* A sum that is lost while its reservations are not: they count as held from the beginning. */
static void test_a_sum_that_is_made_anew_knows_what_is_held(void **state)
{
    struct budget_scope s = scope("key", "anew", 1000);
    struct answer a = reserve(&s, 1, 300, 0), b = reserve(&s, 1, 200, 0);

    assert_int_equal(a.err, GW_OK);
    assert_int_equal(b.err, GW_OK);
    redis("EVAL", "return redis.call('DEL', redis.call('KEYS', '*key:anew:*:sum')[1])", "0", NULL);
    assert_int_equal(said.number, 1);
    assert_int_equal(reserve(&s, 1, 501, 0).err, GW_EBUDGET);
    budget_settle(a.hold, 300, 0);
    budget_settle(b.hold, 0, 0);
    flush();
    assert_spent(&s, 300, 0);
}

static void test_what_is_settled_above_the_reservation_counts_in_full(void **state)
{
    struct budget_scope s = scope("key", "above", 1000);
    struct answer a = reserve(&s, 1, 100, 0);

    budget_settle(a.hold, 1500, 0);
    flush();
    a = reserve(&s, 1, 1, 0);
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, -500);
}

static void test_holds_of_the_dead_expire(void **state)
{
    struct budget_scope s = scope("key", "dead", 100);
    struct budget_hold *h = budget_hold_new(&s, 1);
    struct answer a;

    /* as another process would, which then died: nobody renews it */
    h->cost = 100;
    h->hold_us = 20000;
    said.done = false;
    assert_non_null(budget_redis_reserve(h, true, on_said, NULL));
    turn_until(said.done);
    assert_int_equal(reserve(&s, 1, 1, 0).err, GW_EBUDGET);
    do
        a = reserve(&s, 1, 100, 0);
    while (a.err == GW_EBUDGET);
    assert_int_equal(a.err, GW_OK);
    assert_int_equal(look(&s, 1).s[0].held_nano_usd, 100);
    budget_settle(a.hold, 100, 0);
    /* it was not dead after all: what it spent counts, its hold is not given back twice */
    h->in_redis = IN_REDIS;
    h->spent = 40;
    said.done = false;
    assert_non_null(budget_redis_settle(h, on_said, NULL));
    turn_until(said.done);
    assert_int_equal(look(&s, 1).s[0].spent_nano_usd, 140);
    assert_int_equal(look(&s, 1).s[0].held_nano_usd, 0);
    free(h);
}

static void test_a_renewed_hold_stays(void **state)
{
    struct budget_scope s = scope("key", "renew", 100);
    struct budget_hold *h = budget_hold_new(&s, 1);
    uint64_t until;

    h->cost = 100;
    h->hold_us = 30000;
    said.done = false;
    assert_non_null(budget_redis_reserve(h, true, on_said, NULL));
    turn_until(said.done);
    h->hold_us = 60 * SECOND;
    budget_redis_renew(h);
    for (until = loop_clock_us() + 60000; loop_clock_us() < until;)
        flush();
    assert_int_equal(reserve(&s, 1, 1, 0).err, GW_EBUDGET);
    free(h);
}

static void test_a_cancelled_reservation_holds_nothing(void **state)
{
    struct budget_scope s = scope("key", "cancel", 100);
    struct budget_ask ask = {&s, 1, 100, 0, 60 * SECOND};
    struct answer a = reserve(&s, 1, 0, 0);
    struct op *op;

    budget_settle(a.hold, 0, 0); /* the sum is there */
    op = budget_reserve(&ask, on_answer, &a);
    op_cancel(&op);
    flush();
    assert_int_equal(look(&s, 1).s[0].held_nano_usd, 0);
    a = reserve(&s, 1, 100, 0);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 0);
}

static void test_check_078_after_flushall_the_sum_is_what_was_last_known(void **state)
{
    struct budget_scope s = scope("key", "flush", 1000);
    struct answer a = reserve(&s, 1, 300, 0), open = reserve(&s, 1, 200, 0);

    budget_settle(a.hold, 300, 0);
    flush();
    redis("FLUSHALL", NULL, NULL, NULL);
    a = reserve(&s, 1, 701, 0);
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, 700);
    budget_settle(open.hold, 200, 0); /* its hold is lost, its cost is not */
    flush();
    assert_int_equal(look(&s, 1).s[0].spent_nano_usd, 500);
    assert_int_equal(look(&s, 1).s[0].held_nano_usd, 0);
}

static void test_who_knows_more_raises_the_sum(void **state)
{
    struct budget_scope s = scope("key", "raise", 1000);
    struct budget_hold *h = budget_hold_new(&s, 1);
    struct answer a = reserve(&s, 1, 0, 0);

    budget_settle(a.hold, 0, 0);
    budget_local_learn(h, 0, 400);
    a = reserve(&s, 1, 601, 0);
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, 600);
    assert_int_equal(look(&s, 1).s[0].spent_nano_usd, 400);
    free(h);
}

/* A Redis that was put back to an older state: also calls that were under way then count. */
static void test_a_sum_that_was_put_back_rises_to_what_is_known(void **state)
{
    struct budget_scope s = scope("key", "older", 10000);
    struct budget_hold *h = budget_hold_new(&s, 1);
    struct answer a[5];
    char key[128];

    snprintf(key, sizeof(key), "budget:{older}:key:older:day%lld:sum",
             (long long)h->period[0].begin);
    for (unsigned i = 0; i < 5; i++)
        a[i] = reserve(&s, 1, 100, 0);
    budget_settle(a[0].hold, 1000, 0);
    budget_settle(a[1].hold, 1000, 0);
    flush();
    assert_int_equal(redis("HSET", key, "spent", "7"), 0);
    budget_settle(a[2].hold, 30, 0);
    budget_settle(a[3].hold, 4, 0);
    assert_int_equal(budget_owed_unanswered(s.id, s.period, h->period[0].begin), 34);
    assert_int_equal(budget_owed_unanswered(s.id, s.period, 0), 0);
    assert_int_equal(budget_owed_unanswered("key:other", s.period, h->period[0].begin), 0);
    flush();
    assert_int_equal(budget_owed_unanswered(s.id, s.period, h->period[0].begin), 0);
    assert_int_equal(look(&s, 1).s[0].spent_nano_usd, 41);
    budget_settle(reserve(&s, 1, 0, 0).hold, 0, 0);
    assert_int_equal(look(&s, 1).s[0].spent_nano_usd, 2034);
    budget_settle(a[4].hold, 500, 0);
    flush();
    assert_int_equal(look(&s, 1).s[0].spent_nano_usd, 2534);
    assert_int_equal(look(&s, 1).s[0].held_nano_usd, 0);
    free(h);
}

static void test_tokens_are_counted_and_put_right(void **state)
{
    struct budget_scope s = scope("key", "tokens", -1);
    struct answer a;

    s.tokens_per_minute = 6000;
    a = reserve(&s, 1, 0, 4000);
    assert_int_equal(a.err, GW_OK);
    assert_true(budget_left(a.hold).tokens >= 2000 && budget_left(a.hold).tokens < 2100);
    a.why = reserve(&s, 1, 0, 4000).why;
    assert_true(a.why.tokens);
    assert_true(a.why.retry_us > 15 * SECOND && a.why.retry_us <= 20 * SECOND);
    budget_settle(a.hold, 0, 100);
    flush();
    a = reserve(&s, 1, 0, 5900);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 5900);
    a = reserve(&s, 1, 0, 100000); /* a whole minute is not there */
    assert_int_equal(a.err, GW_ERATE);
}

static void test_check_081_a_wrong_type_under_a_key_is_no_error(void **state)
{
    struct budget_scope s = scope("key", "wrong", 1000);
    struct budget_hold *h = budget_hold_new(&s, 1);
    struct answer a;
    char key[128];

    snprintf(key, sizeof(key), "budget:{wrong}:key:wrong:day%lld:sum",
             (long long)h->period[0].begin);
    free(h);
    redis("SET", key, "x", NULL);
    a = reserve(&s, 1, 900, 0);
    assert_int_equal(a.err, GW_OK);
    assert_int_equal(reserve(&s, 1, 101, 0).err, GW_EBUDGET); /* this process counts alone */
    budget_settle(a.hold, 900, 0);
    flush();
    redis("DEL", key, NULL, NULL);
    a = reserve(&s, 1, 101, 0);
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, 100);
}

static void test_all_keys_of_a_request_share_a_slot(void **state)
{
    struct budget_scope s[2] = {scope("key", "slot", 100), scope("team", "slot-team", 100)};
    struct answer a = reserve(s, 2, 10, 0);
    struct slice argv[3] = {SLICE("EVAL"),
                            SLICE("for _, k in ipairs(redis.call('KEYS', '*slot*')) do "
                                  "if not string.find(k, '{slot-team}', 1, true) then return -2 "
                                  "end end return 7"),
                            SLICE("0")};

    budget_settle(a.hold, 10, 0);
    flush();
    said.done = false;
    assert_non_null(redis_command(argv, 3, on_said, NULL));
    turn_until(said.done);
    assert_int_equal(said.number, 7);
}

/* Redis stands still: this process counts alone, and tells it when it is back. */
static void test_spending_of_an_outage_is_told_once(void **state)
{
    struct budget_scope s[2] = {scope("key", "away", 10000), scope("team", "away-team", 20000)};
    struct answer a = reserve(s, 2, 1000, 0), open = reserve(s, 2, 500, 0);

    budget_settle(a.hold, 1000, 0);
    flush();
    redis("CLIENT", "PAUSE", "1000", NULL);
    a = reserve(s, 2, 100, 0); /* nobody knows whether Redis has heard of this one */
    assert_int_equal(a.err, GW_OK);
    assert_false(redis_up());
    budget_settle(a.hold, 100, 0);
    budget_settle(open.hold, 500, 0);
    for (unsigned i = 0; i < 84; i++) {
        a = reserve(s, 2, 100, 0);
        assert_int_equal(a.err, GW_OK);
        budget_settle(a.hold, 100, 0);
    }
    a = reserve(s, 2, 1, 0); /* 1000 + 100 + 500 + 8400 */
    assert_int_equal(a.err, GW_EBUDGET);
    assert_int_equal(a.why.left_nano_usd, 0);
    assert_false(redis_up());
    turn_until(redis_up());
    flush();
    assert_int_equal(look(s, 2).s[0].spent_nano_usd, 10000);
    assert_int_equal(look(s, 2).s[1].spent_nano_usd, 10000);
    assert_int_equal(reserve(s, 2, 1, 0).err, GW_EBUDGET);
}

static void test_keys_with_budgets_are_refused_in_an_outage_when_conf_says_so(void **state)
{
    struct budget_scope s = scope("key", "strict", 10000);
    struct conf *c = (struct conf *)conf_current();
    struct answer a = reserve(&s, 1, 1000, 0);

    budget_settle(a.hold, 1000, 0);
    c->budget_on_outage = SLICE("refuse");
    redis("CLIENT", "PAUSE", "1000", NULL);
    assert_int_equal(reserve(&s, 1, 100, 0).err, GW_EUNAVAIL);
    assert_int_equal(reserve(&s, 1, 100, 0).err, GW_EUNAVAIL);
    turn_until(redis_up());
    c->budget_on_outage = SLICE("local");
    a = reserve(&s, 1, 9000, 0);
    assert_int_equal(a.err, GW_OK);
    budget_settle(a.hold, 0, 0);
}

/* --- frame ---------------------------------------------------------------------------------- */

static int enter(void **state)
{
    struct conf_source src = {.dir = "/nonexistent", .env_file = "/dev/null"};
    struct problems ps = {0};

    conf_publish(conf_load(&src, &ps));
    problems_deinit(&ps);
    if (conf_current()) /* under a sanitizer, on a busy machine, 50 ms are no sign of trouble */
        ((struct conf *)conf_current())->redis_timeout_ms = 400;
    if (!conf_current() || metrics_init(1) || loop_init() || offload_init(1, 16) ||
        redis_init(conf_current()) || budget_init())
        return -1;
    turn_until(redis_up());
    return 0;
}

static int leave(void **state)
{
    budget_deinit();
    redis_deinit();
    offload_deinit();
    loop_deinit();
    metrics_deinit();
    conf_publish(NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thousand_at_once_get_what_ten_may_have),
        cmocka_unit_test(test_two_keys_share_their_team),
        cmocka_unit_test(test_settling_twice_counts_once),
        cmocka_unit_test(test_a_repetition_counts_when_the_first_time_was_lost),
        cmocka_unit_test(test_a_repetition_of_what_was_given_back_counts_once),
        cmocka_unit_test(test_what_redis_never_heard_of_counts_once),
        cmocka_unit_test(test_a_sum_that_is_made_anew_knows_what_is_held),
        cmocka_unit_test(test_what_is_settled_above_the_reservation_counts_in_full),
        cmocka_unit_test(test_holds_of_the_dead_expire),
        cmocka_unit_test(test_a_renewed_hold_stays),
        cmocka_unit_test(test_a_cancelled_reservation_holds_nothing),
        cmocka_unit_test(test_check_078_after_flushall_the_sum_is_what_was_last_known),
        cmocka_unit_test(test_who_knows_more_raises_the_sum),
        cmocka_unit_test(test_a_sum_that_was_put_back_rises_to_what_is_known),
        cmocka_unit_test(test_tokens_are_counted_and_put_right),
        cmocka_unit_test(test_check_081_a_wrong_type_under_a_key_is_no_error),
        cmocka_unit_test(test_all_keys_of_a_request_share_a_slot),
        cmocka_unit_test(test_spending_of_an_outage_is_told_once),
        cmocka_unit_test(test_keys_with_budgets_are_refused_in_an_outage_when_conf_says_so),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
