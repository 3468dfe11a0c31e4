/* test_bucket.c - the token bucket: burst, refill, exactness, state told to the client. */
#include "gateway/core/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S 1000000ull

static unsigned take_all(struct bucket *b, const struct bucket_rate *r, uint64_t now)
{
    unsigned n = 0;

    while (bucket_take(b, r, now, NULL))
        n++;
    return n;
}

static void test_a_full_bucket_gives_exactly_its_burst(void **state)
{
    struct bucket_rate r = {60, 10};
    struct bucket b = {0};

    assert_int_equal(take_all(&b, &r, 5 * S), 10);
    assert_int_equal(take_all(&b, &r, 5 * S), 0);
}

static void test_tokens_come_back_at_the_rate(void **state)
{
    struct bucket_rate r = {60, 10};
    struct bucket b = {0};

    take_all(&b, &r, 5 * S);
    assert_int_equal(take_all(&b, &r, 5 * S + S - 1), 0);
    assert_int_equal(take_all(&b, &r, 6 * S), 1);
    assert_int_equal(take_all(&b, &r, 9 * S), 3);
}

static void test_a_long_rest_fills_no_more_than_the_burst(void **state)
{
    struct bucket_rate r = {100, 60};
    struct bucket b = {0};

    take_all(&b, &r, S);
    assert_int_equal(take_all(&b, &r, 100000 * S), 60);
}

static void test_a_minute_at_full_speed_gives_burst_plus_rate(void **state)
{
    struct bucket_rate r = {60, 10};
    struct bucket b = {0};
    uint64_t t;
    unsigned n = 0;

    for (t = 1000 * S; t <= 1060 * S; t += S / 100)
        n += bucket_take(&b, &r, t, NULL);
    assert_int_equal(n, 70);
}

static void test_the_state_tells_what_is_left_and_when_to_return(void **state)
{
    struct bucket_rate r = {60, 2};
    struct bucket b = {0};
    struct bucket_state s;

    assert_true(bucket_take(&b, &r, S, &s));
    assert_int_equal(s.remaining, 1);
    assert_int_equal(s.full_in_us, S);
    assert_int_equal(s.retry_in_us, 0);
    assert_true(bucket_take(&b, &r, S, &s));
    assert_int_equal(s.remaining, 0);
    assert_false(bucket_take(&b, &r, S + S / 4, &s));
    assert_int_equal(s.remaining, 0);
    assert_int_equal(s.retry_in_us, 3 * S / 4);
}

static void test_a_refused_take_costs_nothing(void **state)
{
    struct bucket_rate r = {60, 1};
    struct bucket b = {0};
    unsigned i;

    assert_true(bucket_take(&b, &r, S, NULL));
    for (i = 0; i < 1000; i++)
        assert_false(bucket_take(&b, &r, S + i, NULL));
    assert_true(bucket_take(&b, &r, 2 * S, NULL));
}

static void test_rates_above_one_a_microsecond_do_not_divide_by_zero(void **state)
{
    struct bucket_rate r = {1000000000, 1000000000};
    struct bucket b = {0};

    assert_true(bucket_take(&b, &r, S, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_bucket_gives_exactly_its_burst),
        cmocka_unit_test(test_tokens_come_back_at_the_rate),
        cmocka_unit_test(test_a_long_rest_fills_no_more_than_the_burst),
        cmocka_unit_test(test_a_minute_at_full_speed_gives_burst_plus_rate),
        cmocka_unit_test(test_the_state_tells_what_is_left_and_when_to_return),
        cmocka_unit_test(test_a_refused_take_costs_nothing),
        cmocka_unit_test(test_rates_above_one_a_microsecond_do_not_divide_by_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
