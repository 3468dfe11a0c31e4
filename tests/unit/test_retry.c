/* test_retry.c - backoff, Retry-After and the retry budget, with time and chance passed in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "providers/retry.c"

#define S 1000000u

static const struct retry_config conf = {
    .attempts = 4, .base_us = 200000, .max_us = 500000, .budget_percent = 20};

/* Wait after attempt `made`; UINT64_MAX = no retry. */
static uint64_t wait_of(unsigned made, uint64_t after, uint32_t random, uint64_t deadline)
{
    uint64_t wait = UINT64_MAX - 1;
    enum retry_decision d = retry_decide(&conf, made, true, after, random, 10 * S, deadline, &wait);

    assert_true(d == RETRY_AFTER || wait == UINT64_MAX - 1);
    return d == RETRY_AFTER ? wait : UINT64_MAX;
}

static void test_the_wait_is_drawn_between_zero_and_the_doubling_ceiling(void **state)
{
    static const uint64_t ceilings[] = {200000, 400000, 500000};

    for (unsigned made = 1; made <= 3; made++) {
        assert_int_equal(wait_of(made, 0, 0, 0), 0);
        assert_int_equal(wait_of(made, 0, UINT32_MAX, 0), ceilings[made - 1] - 1);
        assert_int_equal(wait_of(made, 0, 1u << 31, 0), ceilings[made - 1] / 2);
    }
}

static void test_huge_configurations_do_not_overflow(void **state)
{
    struct retry_config c = {.attempts = 200, .base_us = 1, .max_us = UINT64_MAX};
    uint64_t wait;

    assert_int_equal(retry_decide(&c, 199, true, 0, UINT32_MAX, 0, 0, &wait), RETRY_AFTER);
    assert_true(wait > UINT64_MAX / 2);
    c.base_us = 1000;
    c.max_us = 10;
    assert_int_equal(retry_decide(&c, 1, true, 0, UINT32_MAX, 0, 0, &wait), RETRY_AFTER);
    assert_int_equal(wait, 9);
}

static void test_attempts_end_and_unretryable_errors_are_not_repeated(void **state)
{
    uint64_t wait;

    assert_int_not_equal(wait_of(3, 0, 0, 0), UINT64_MAX);
    assert_int_equal(wait_of(4, 0, 0, 0), UINT64_MAX);
    assert_int_equal(wait_of(5, 0, 0, 0), UINT64_MAX);
    assert_int_equal(retry_decide(&conf, 1, false, 0, 0, 0, 0, &wait), RETRY_NO);
}

static void test_the_wait_always_ends_before_the_deadline(void **state)
{
    assert_int_equal(wait_of(1, 0, 0, 10 * S), UINT64_MAX);
    assert_int_equal(wait_of(1, 0, 0, 9 * S), UINT64_MAX);
    assert_int_equal(wait_of(1, 0, 0, 10 * S + 1), 0);
    assert_int_equal(wait_of(1, 0, 1u << 31, 10 * S + 100000), UINT64_MAX);
    assert_int_equal(wait_of(1, 0, 1u << 31, 10 * S + 100001), 100000);
}

static void test_check_066_retry_after_is_a_lower_bound_within_the_deadline(void **state)
{
    assert_int_equal(wait_of(1, 3 * S, 0, 20 * S), 3 * S);
    assert_int_equal(wait_of(1, 3 * S, 1u << 31, 20 * S), 3 * S + 100000);
    assert_int_equal(wait_of(1, 3 * S, 1u << 31, 0), 3 * S + 100000);
    assert_int_equal(wait_of(1, 3 * S, 1u << 31, 13 * S + 1), 3 * S);
    assert_int_equal(wait_of(1, 3 * S, 1u << 31, 13 * S), UINT64_MAX);
    assert_int_equal(wait_of(1, 86400ull * S, 0, 20 * S), UINT64_MAX);
}

/* --- budget --------------------------------------------------------------------------------- */

static unsigned drain(struct retry_budget *b, uint64_t now)
{
    unsigned n = 0;

    while (n < 100000 && retry_budget_withdraw(b, &conf, now))
        n++;
    return n;
}

static void deposit(struct retry_budget *b, unsigned calls, uint64_t now)
{
    while (calls--)
        retry_budget_deposit(b, &conf, now);
}

static void test_a_quiet_gateway_may_retry_twice_in_ten_seconds(void **state)
{
    struct retry_budget b;

    retry_budget_init(&b);
    assert_int_equal(drain(&b, 100 * S), 2);
    assert_int_equal(drain(&b, 109 * S), 0);
    assert_int_equal(drain(&b, 110 * S), 2);
    assert_int_equal(drain(&b, 500 * S), 2);
}

static void test_calls_deposit_a_fifth_of_a_retry_each(void **state)
{
    struct retry_budget b;

    retry_budget_init(&b);
    deposit(&b, 100, 100 * S);
    assert_int_equal(drain(&b, 100 * S), 20);
    deposit(&b, 4, 101 * S);
    assert_int_equal(drain(&b, 101 * S), 0);
    deposit(&b, 1, 101 * S);
    assert_int_equal(drain(&b, 101 * S), 1);
}

static void test_deposits_last_for_two_windows_and_no_longer(void **state)
{
    struct retry_budget b;

    retry_budget_init(&b);
    deposit(&b, 100, 100 * S);
    assert_int_equal(drain(&b, 119 * S), 20);
    retry_budget_init(&b);
    deposit(&b, 100, 100 * S);
    assert_int_equal(drain(&b, 120 * S), 2);
    retry_budget_init(&b);
    deposit(&b, 100, 100 * S);
    deposit(&b, 100, 110 * S);
    assert_int_equal(drain(&b, 120 * S), 20);
}

static void test_old_deposits_are_spent_first(void **state)
{
    struct retry_budget b;

    retry_budget_init(&b);
    deposit(&b, 50, 100 * S);
    deposit(&b, 50, 110 * S);
    for (int i = 0; i < 10; i++)
        assert_true(retry_budget_withdraw(&b, &conf, 110 * S));
    assert_int_equal(drain(&b, 120 * S), 10);
}

static void test_quiet_hours_do_not_save_up_a_storm(void **state)
{
    struct retry_budget b;

    retry_budget_init(&b);
    deposit(&b, 1000000, 100 * S);
    assert_int_equal(drain(&b, 100 * S), 1000);
}

static void test_a_budget_of_nothing_allows_nothing(void **state)
{
    struct retry_config none = conf;
    struct retry_budget b;

    none.budget_percent = 0;
    retry_budget_init(&b);
    for (int i = 0; i < 100; i++)
        retry_budget_deposit(&b, &none, 100 * S);
    assert_false(retry_budget_withdraw(&b, &none, 100 * S));
}

static void test_check_068_a_dead_provider_gets_at_most_a_fifth_more_calls(void **state)
{
    struct retry_budget b;
    unsigned retries = 0, calls = 0;

    retry_budget_init(&b);
    for (uint64_t ms = 0; ms < 120000; ms += 10, calls++) {
        retry_budget_deposit(&b, &conf, 100 * S + ms * 1000);
        for (int i = 0; i < 3; i++)
            retries += retry_budget_withdraw(&b, &conf, 100 * S + ms * 1000);
        assert_true(retries <= 2 + calls / 5 + 1);
    }
    assert_true(retries * 5 <= calls);
    assert_true(retries > calls / 6);
}

static void test_a_clock_that_stands_still_or_goes_back_is_no_harm(void **state)
{
    struct retry_budget b;

    retry_budget_init(&b);
    deposit(&b, 100, 100 * S);
    deposit(&b, 100, 50 * S);
    assert_int_equal(drain(&b, 1), 40);
}

/* --- Retry-After ---------------------------------------------------------------------------- */

#define WALL 1763700000u /* Fri, 21 Nov 2025 04:40:00 GMT */

static void assert_after(const char *text, uint64_t wanted_s)
{
    uint64_t us = 7;

    assert_true(retry_parse_after(slice_cstr(text), WALL, &us));
    assert_int_equal(us, wanted_s * S);
}

static void refuse_after(const char *text)
{
    uint64_t us = 7;

    assert_false(retry_parse_after(slice_cstr(text), WALL, &us));
    assert_int_equal(us, 7);
}

static void test_check_066_seconds_are_read_and_saturate_at_a_day(void **state)
{
    assert_after("0", 0);
    assert_after("1", 1);
    assert_after(" 120\t", 120);
    assert_after("007", 7);
    assert_after("86400", 86400);
    assert_after("86401", 86400);
    assert_after("1000000000", 86400);
    assert_after("99999999999999999999999999999999999999999999999999999", 86400);
}

static void test_check_066_all_three_date_forms_are_read(void **state)
{
    assert_after("Fri, 21 Nov 2025 04:40:30 GMT", 30);
    assert_after("Friday, 21-Nov-25 04:41:00 GMT", 60);
    assert_after("Fri Nov 21 04:40:00 2025", 0);
    assert_after("Sat Nov  1 04:40:00 2031", 86400);
    assert_after("Sun, 06 Nov 2044 08:49:37 GMT", 86400);
}

static void test_check_066_nonsense_negative_and_past_values_are_refused(void **state)
{
    refuse_after("");
    refuse_after("  ");
    refuse_after("-1");
    refuse_after("+1");
    refuse_after("1.5");
    refuse_after("1 2");
    refuse_after("0x10");
    refuse_after("soon");
    refuse_after("Fri, 21 Nov 2025 04:39:59 GMT");
    refuse_after("Sun, 06 Nov 1994 08:49:37 GMT");
    refuse_after("Fri, 21 Nov 2025 04:40:30 GMT and more");
    refuse_after("Fri, 21 Nov 2025 04:40:30 PST");
    refuse_after("Fri, 99 Nov 2025 04:40:30 GMT");
    refuse_after("Fri, 21 Nov 2025 04:40:30 GMT                                          x");
    assert_false(
        retry_parse_after(slice_of("Fri, 21 Nov 2025 04:40:30 GMT\0", 30), WALL, &(uint64_t){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_wait_is_drawn_between_zero_and_the_doubling_ceiling),
        cmocka_unit_test(test_huge_configurations_do_not_overflow),
        cmocka_unit_test(test_attempts_end_and_unretryable_errors_are_not_repeated),
        cmocka_unit_test(test_the_wait_always_ends_before_the_deadline),
        cmocka_unit_test(test_check_066_retry_after_is_a_lower_bound_within_the_deadline),
        cmocka_unit_test(test_a_quiet_gateway_may_retry_twice_in_ten_seconds),
        cmocka_unit_test(test_calls_deposit_a_fifth_of_a_retry_each),
        cmocka_unit_test(test_deposits_last_for_two_windows_and_no_longer),
        cmocka_unit_test(test_old_deposits_are_spent_first),
        cmocka_unit_test(test_quiet_hours_do_not_save_up_a_storm),
        cmocka_unit_test(test_a_budget_of_nothing_allows_nothing),
        cmocka_unit_test(test_check_068_a_dead_provider_gets_at_most_a_fifth_more_calls),
        cmocka_unit_test(test_a_clock_that_stands_still_or_goes_back_is_no_harm),
        cmocka_unit_test(test_check_066_seconds_are_read_and_saturate_at_a_day),
        cmocka_unit_test(test_check_066_all_three_date_forms_are_read),
        cmocka_unit_test(test_check_066_nonsense_negative_and_past_values_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
