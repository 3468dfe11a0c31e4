/* test_admit_cost.c - what a call can cost at most, and what is booked for it. */
#include "handlers/admit_cost.h"
#include "handlers/admit_refuse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* 1 USD and 2 USD per million tokens are 1,000,000 and 2,000,000 pico-USD each: 1,000 and 2,000
 * nano-USD. */
#define USD_PER_MILLION 1000000

static const struct registry_provider provider = {.name = "p"};

static struct registry_model model(int64_t input, int64_t output, int64_t max_output)
{
    return (struct registry_model){
        .id = SLICE("p/m"),
        .name = SLICE("m"),
        .provider = &provider,
        .max_output_tokens = max_output,
        .pico_usd = {input, output, -1, -1},
    };
}

static struct admit_ask ask_for(struct registry_route *route, const struct registry_model *m)
{
    *route = (struct registry_route){.n_targets = 1};
    route->targets[0].model = m;
    return (struct admit_ask){.route = route,
                              .input_tokens = 100,
                              .likely_input_tokens = 75,
                              .output_tokens = 50,
                              .purpose = "chat"};
}

/* --- worst case ------------------------------------------------------------------------------- */

static void test_the_worst_case_is_all_input_and_all_output(void **state)
{
    struct registry_model m = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &m);
    struct admit_worst w = admit_worst_case(&ask);

    assert_int_equal(w.cost, 100 * 1000 + 50 * 2000);
    assert_int_equal(w.tokens, 150);
    assert_null(w.unpriced);
}

static void test_without_a_limit_the_models_own_counts(void **state)
{
    struct registry_model m = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &m);

    ask.output_tokens = 0;
    assert_int_equal(admit_worst_case(&ask).cost, 100 * 1000 + 1000 * 2000);
    m.max_output_tokens = 0;
    assert_int_equal(admit_worst_case(&ask).tokens, 100 + ADMIT_DEFAULT_OUTPUT);
}

static void test_each_choice_may_be_as_long(void **state)
{
    struct registry_model m = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &m);

    ask.choices = 3;
    assert_int_equal(admit_worst_case(&ask).cost, 100 * 1000 + 3 * 50 * 2000);
}

static void test_input_may_be_written_to_a_cache_at_a_higher_price(void **state)
{
    struct registry_model m = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &m);

    m.pico_usd.cache_write = USD_PER_MILLION * 5 / 4;
    assert_int_equal(admit_worst_case(&ask).cost, 100 * 1250 + 50 * 2000);
    m.pico_usd.cache_write = USD_PER_MILLION / 2;
    assert_int_equal(admit_worst_case(&ask).cost, 100 * 1000 + 50 * 2000);
}

static void test_the_dearest_target_counts(void **state)
{
    struct registry_model cheap = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000);
    struct registry_model dear = model(3 * USD_PER_MILLION, 15 * USD_PER_MILLION, 1000);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &cheap);

    r.targets[r.n_targets++].model = &dear;
    assert_int_equal(admit_worst_case(&ask).cost, 100 * 3000 + 50 * 15000);
}

static void test_fractions_of_a_nano_dollar_are_rounded_up(void **state)
{
    struct registry_model m = model(37, 0, 1000); /* 0.000037 USD per million */
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &m);

    ask.input_tokens = 1;
    assert_int_equal(admit_worst_case(&ask).cost, 1);
    ask.input_tokens = 1000;
    assert_int_equal(admit_worst_case(&ask).cost, 37);
}

static void test_what_does_not_fit_is_the_largest_amount(void **state)
{
    struct registry_model m = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &m);

    ask.output_tokens = INT64_MAX;
    assert_int_equal(admit_worst_case(&ask).cost, INT64_MAX);
    assert_int_equal(admit_worst_case(&ask).tokens, INT64_MAX);
    ask.choices = INT64_MAX;
    ask.input_tokens = UINT64_MAX;
    assert_int_equal(admit_worst_case(&ask).cost, INT64_MAX);
}

static void test_an_unknown_price_is_told(void **state)
{
    struct registry_model known = model(USD_PER_MILLION, USD_PER_MILLION, 10);
    struct registry_model unknown = model(USD_PER_MILLION, -1, 10);
    struct registry_route r;
    struct admit_ask ask = ask_for(&r, &known);

    r.targets[r.n_targets++].model = &unknown;
    assert_ptr_equal(admit_worst_case(&ask).unpriced, &unknown);
    assert_false(admit_is_priced(&ask, &unknown));
    ask.purpose = "embeddings"; /* writes nothing, so needs no price for it */
    assert_true(admit_is_priced(&ask, &unknown));
    assert_null(admit_worst_case(&ask).unpriced);
    assert_int_equal(admit_worst_case(&ask).cost, 100 * 1000);
}

/* --- what is booked --------------------------------------------------------------------------- */

struct booking {
    struct registry_model m;
    struct registry_route r;
    struct admit_ask ask;
    struct provider_call_info info;
    struct convo_usage usage;
    struct admit_outcome out;
};

static void booking_init(struct booking *b)
{
    *b = (struct booking){.m = model(USD_PER_MILLION, 2 * USD_PER_MILLION, 1000)};
    b->ask = ask_for(&b->r, &b->m);
    b->info = (struct provider_call_info){.model = &b->m, .attempts = 1, .first_event_us = 5};
    b->out = (struct admit_outcome){.info = &b->info, .usage = &b->usage};
}

static void test_a_good_end_costs_what_the_provider_says(void **state)
{
    struct booking b;
    struct admit_bill bill;

    booking_init(&b);
    b.usage = (struct convo_usage){.known = true, .input = 80, .output = 9};
    b.info.output_bytes = 4000;
    bill = admit_bill_of(&b.ask, &b.out);
    assert_false(bill.estimated);
    assert_int_equal(bill.cost, 80 * 1000 + 9 * 2000);
    assert_int_equal(bill.tokens, 89);
}

static void test_a_stream_that_was_cut_is_estimated(void **state)
{
    struct booking b;
    struct admit_bill bill;

    booking_init(&b);
    b.out.err = GW_EGONECLIENT;
    b.info.output_bytes = 401;
    bill = admit_bill_of(&b.ask, &b.out);
    assert_true(bill.estimated);
    assert_int_equal(bill.usage.input, 75);
    assert_int_equal(bill.usage.output, 101);
    assert_int_equal(bill.cost, 75 * 1000 + 101 * 2000);
}

/* Anthropic says the input first, and one token of output. */
static void test_what_was_told_before_the_cut_is_kept(void **state)
{
    struct booking b;
    struct admit_bill bill;

    booking_init(&b);
    b.out.err = GW_EUPSTREAM;
    b.usage = (struct convo_usage){.known = true, .input = 300, .output = 1};
    b.info.output_bytes = 40;
    bill = admit_bill_of(&b.ask, &b.out);
    assert_true(bill.estimated);
    assert_int_equal(bill.usage.input, 300);
    assert_int_equal(bill.usage.output, 10);
}

static void test_a_good_end_without_usage_is_estimated(void **state)
{
    struct booking b;
    struct admit_bill bill;

    booking_init(&b);
    b.info.output_bytes = 8;
    bill = admit_bill_of(&b.ask, &b.out);
    assert_true(bill.estimated);
    assert_int_equal(bill.cost, 75 * 1000 + 2 * 2000);
    b.ask.purpose = "embeddings";
    bill = admit_bill_of(&b.ask, &b.out);
    assert_int_equal(bill.cost, 75 * 1000);
}

static void test_a_call_given_up_while_it_was_worked_on_has_been_read(void **state)
{
    struct booking b;
    struct admit_bill bill;

    booking_init(&b);
    b.out.err = GW_EGONECLIENT;
    b.info.first_event_us = 0;
    b.info.in_flight = true;
    bill = admit_bill_of(&b.ask, &b.out);
    assert_true(bill.estimated);
    assert_int_equal(bill.cost, 75 * 1000);
}

static void test_what_failed_before_it_produced_anything_is_free(void **state)
{
    struct booking b;
    struct admit_bill bill;

    booking_init(&b);
    b.out.err = GW_EUPSTREAM;
    b.info.first_event_us = 0;
    bill = admit_bill_of(&b.ask, &b.out);
    assert_false(bill.estimated);
    assert_int_equal(bill.cost, 0);
    assert_int_equal(bill.tokens, 0);
    b.info.attempts = 0; /* every circuit was open */
    b.info.in_flight = true;
    assert_int_equal(admit_bill_of(&b.ask, &b.out).cost, 0);
    b.out.info = NULL;
    assert_int_equal(admit_bill_of(&b.ask, &b.out).cost, 0);
}

static void test_the_cost_of_an_unknown_price_is_unknown(void **state)
{
    struct booking b;

    booking_init(&b);
    b.m.pico_usd.output = -1;
    b.usage = (struct convo_usage){.known = true, .input = 80, .output = 9};
    assert_int_equal(admit_bill_of(&b.ask, &b.out).cost, -1);
}

static void test_counting_tokens_is_free(void **state)
{
    struct booking b;

    booking_init(&b);
    b.ask.purpose = "count";
    assert_int_equal(admit_bill_of(&b.ask, &b.out).cost, 0);
}

/* --- texts ------------------------------------------------------------------------------------ */

static void test_dollars_have_as_many_decimals_as_they_need(void **state)
{
    static const struct {
        int64_t nano;
        const char *text;
    } rows[] = {
        {0, "$0.00"},
        {1, "$0.000000001"},
        {50000000, "$0.05"},
        {1000000000, "$1.00"},
        {1230000000, "$1.23"},
        {-20000000, "-$0.02"},
        {INT64_MAX, "$9223372036.854775807"},
        {INT64_MIN, "-$9223372036.854775808"},
    };
    struct arena *a = arena_create(65536);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_true(slice_is(admit_dollars(a, rows[i].nano), rows[i].text));
    arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_worst_case_is_all_input_and_all_output),
        cmocka_unit_test(test_without_a_limit_the_models_own_counts),
        cmocka_unit_test(test_each_choice_may_be_as_long),
        cmocka_unit_test(test_input_may_be_written_to_a_cache_at_a_higher_price),
        cmocka_unit_test(test_the_dearest_target_counts),
        cmocka_unit_test(test_fractions_of_a_nano_dollar_are_rounded_up),
        cmocka_unit_test(test_what_does_not_fit_is_the_largest_amount),
        cmocka_unit_test(test_an_unknown_price_is_told),
        cmocka_unit_test(test_a_good_end_costs_what_the_provider_says),
        cmocka_unit_test(test_a_stream_that_was_cut_is_estimated),
        cmocka_unit_test(test_what_was_told_before_the_cut_is_kept),
        cmocka_unit_test(test_a_good_end_without_usage_is_estimated),
        cmocka_unit_test(test_a_call_given_up_while_it_was_worked_on_has_been_read),
        cmocka_unit_test(test_what_failed_before_it_produced_anything_is_free),
        cmocka_unit_test(test_the_cost_of_an_unknown_price_is_unknown),
        cmocka_unit_test(test_counting_tokens_is_free),
        cmocka_unit_test(test_dollars_have_as_many_decimals_as_they_need),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
