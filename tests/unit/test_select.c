/* test_select.c - the order of targets under each strategy, and the latency average. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "providers/select.c"

#define S 1000000u

static void assert_order(enum select_strategy s, const struct select_candidate *c, unsigned n,
                         const char *wanted)
{
    unsigned order[16];
    char text[32] = "";
    unsigned found = select_order(s, c, n, 1, order);

    for (unsigned i = 0; i < found; i++)
        text[i] = (char)('a' + order[i]);
    text[found] = '\0';
    assert_string_equal(text, wanted);
}

static void test_priority_keeps_the_list(void **state)
{
    struct select_candidate c[] = {{.capable = true}, {.capable = true}, {.capable = true}};

    assert_order(SELECT_PRIORITY, c, 3, "abc");
    assert_order(SELECT_PRIORITY, c, 0, "");
    c[0].open = true;
    assert_order(SELECT_PRIORITY, c, 3, "bca");
    c[1].open = true;
    assert_order(SELECT_PRIORITY, c, 3, "cab");
    c[2].capable = false;
    assert_order(SELECT_PRIORITY, c, 3, "ab");
    c[0].capable = c[1].capable = false;
    assert_order(SELECT_PRIORITY, c, 3, "");
}

static void test_cheapest_puts_unknown_prices_last(void **state)
{
    struct select_candidate c[] = {
        {.capable = true, .price = -1}, {.capable = true, .price = 30},
        {.capable = true, .price = 0},  {.capable = true, .price = 30},
        {.capable = true, .price = -1}, {.capable = true, .price = INT64_MAX}};

    assert_order(SELECT_CHEAPEST, c, 6, "cbdfae");
    c[2].open = true;
    assert_order(SELECT_CHEAPEST, c, 6, "bdfaec");
    c[1].capable = false;
    assert_order(SELECT_CHEAPEST, c, 6, "dfaec");
}

static void test_least_latency_weighs_calls_in_flight_and_tries_new_ones_first(void **state)
{
    struct select_candidate c[] = {{.capable = true, .ewma_us = 100, .in_flight = 3},
                                   {.capable = true, .ewma_us = 300, .in_flight = 0},
                                   {.capable = true, .ewma_us = 0, .in_flight = 2},
                                   {.capable = true, .ewma_us = 0, .in_flight = 0},
                                   {.capable = true, .ewma_us = 300, .in_flight = 0}};

    assert_order(SELECT_LEAST_LATENCY, c, 5, "dcbea");
    c[0].in_flight = 1;
    assert_order(SELECT_LEAST_LATENCY, c, 5, "dcabe");
    c[3].open = true;
    assert_order(SELECT_LEAST_LATENCY, c, 5, "cabed");
}

static void test_weighted_draws_in_proportion_and_without_replacement(void **state)
{
    struct select_candidate c[] = {{.capable = true, .weight = 6},
                                   {.capable = true, .weight = 3},
                                   {.capable = true, .weight = 1},
                                   {.capable = false, .weight = 1000}};
    unsigned first[4] = {0}, second_after_a[4] = {0};
    const unsigned rounds = 100000;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned order[16];

        assert_int_equal(select_order(SELECT_WEIGHTED, c, 4, i * 0x9e3779b97f4a7c15u, order), 3);
        assert_int_equal(order[0] + order[1] + order[2], 3);
        assert_true(order[0] != order[1] && order[1] != order[2] && order[0] != order[2]);
        first[order[0]]++;
        if (order[0] == 0)
            second_after_a[order[1]]++;
    }
    assert_in_range(first[0], 59000, 61000);
    assert_in_range(first[1], 29000, 31000);
    assert_in_range(first[2], 9000, 11000);
    assert_int_equal(first[3], 0);
    assert_in_range(second_after_a[1] * 100 / first[0], 73, 77);
}

static void test_weighted_takes_extreme_weights(void **state)
{
    struct select_candidate c[16];
    unsigned order[16], seen = 0;

    for (unsigned i = 0; i < 16; i++)
        c[i] = (struct select_candidate){.capable = true, .weight = i % 2 ? UINT32_MAX : 0};
    assert_int_equal(select_order(SELECT_WEIGHTED, c, 16, UINT64_MAX, order), 16);
    for (unsigned i = 0; i < 16; i++)
        seen |= 1u << order[i];
    assert_int_equal(seen, 0xffff);
}

static void test_weighted_puts_open_circuits_last(void **state)
{
    struct select_candidate c[] = {{.capable = true, .weight = 1000, .open = true},
                                   {.capable = true, .weight = 1}};

    for (uint64_t r = 0; r < 1000; r++) {
        unsigned order[16];

        assert_int_equal(select_order(SELECT_WEIGHTED, c, 2, r, order), 2);
        assert_int_equal(order[0], 1);
        assert_int_equal(order[1], 0);
    }
}

static void test_the_average_jumps_up_and_comes_down_slowly(void **state)
{
    struct select_ewma e = {0};

    assert_true(select_ewma_value(&e, 100 * S) <= 0);
    select_ewma_observe(&e, 1000, 100 * S);
    assert_int_equal(select_ewma_value(&e, 100 * S), 1000);
    select_ewma_observe(&e, 9000, 100 * S);
    assert_int_equal(select_ewma_value(&e, 100 * S), 9000);
    select_ewma_observe(&e, 1000, 100 * S);
    assert_int_equal(select_ewma_value(&e, 100 * S), 9000);
    select_ewma_observe(&e, 1000, 110 * S);
    assert_in_range((uint64_t)e.value_us, 3900, 3950); /* 1000 + 8000 / e */
    select_ewma_observe(&e, 1000, 200 * S);
    assert_in_range((uint64_t)e.value_us, 1000, 1001);
}

static void test_the_average_fades_without_samples(void **state)
{
    struct select_ewma e = {0};

    select_ewma_observe(&e, 100000, 100 * S);
    assert_in_range((uint64_t)select_ewma_value(&e, 110 * S), 36000, 37000);
    assert_true(select_ewma_value(&e, 160 * S) < 300);
    assert_int_equal(select_ewma_value(&e, 50 * S), 100000);
}

static void test_a_sample_of_nothing_still_counts_as_measured(void **state)
{
    struct select_ewma e = {0};

    select_ewma_observe(&e, 0, 100 * S);
    assert_true(select_ewma_value(&e, 100 * S) > 0);
}

static void test_strategies_are_parsed_by_name(void **state)
{
    enum select_strategy s;

    assert_true(select_strategy_parse("priority", &s) && s == SELECT_PRIORITY);
    assert_true(select_strategy_parse("weighted", &s) && s == SELECT_WEIGHTED);
    assert_true(select_strategy_parse("least-latency", &s) && s == SELECT_LEAST_LATENCY);
    assert_true(select_strategy_parse("cheapest", &s) && s == SELECT_CHEAPEST);
    assert_false(select_strategy_parse("Priority", &s));
    assert_false(select_strategy_parse("", &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_priority_keeps_the_list),
        cmocka_unit_test(test_cheapest_puts_unknown_prices_last),
        cmocka_unit_test(test_least_latency_weighs_calls_in_flight_and_tries_new_ones_first),
        cmocka_unit_test(test_weighted_draws_in_proportion_and_without_replacement),
        cmocka_unit_test(test_weighted_takes_extreme_weights),
        cmocka_unit_test(test_weighted_puts_open_circuits_last),
        cmocka_unit_test(test_the_average_jumps_up_and_comes_down_slowly),
        cmocka_unit_test(test_the_average_fades_without_samples),
        cmocka_unit_test(test_a_sample_of_nothing_still_counts_as_measured),
        cmocka_unit_test(test_strategies_are_parsed_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
