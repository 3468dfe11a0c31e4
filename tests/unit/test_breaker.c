/* test_breaker.c - every transition of the circuit breaker, with the time passed in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "providers/breaker.c"

static const struct breaker_config conf = {
    .failure_threshold = 3, .recovery_us = 1000, .probes = 1};
static const struct breaker_config two_probes = {
    .failure_threshold = 1, .recovery_us = 1000, .probes = 2};

static struct breaker_pass allow(struct breaker *b, const struct breaker_config *c, uint64_t now)
{
    struct breaker_pass pass = {0};

    assert_true(breaker_allow(b, c, now, &pass));
    return pass;
}

static void refuse(struct breaker *b, const struct breaker_config *c, uint64_t now)
{
    struct breaker_pass pass = {.epoch = 77};
    uint64_t rejected = b->n_rejected;

    assert_false(breaker_would_allow(b, c, now));
    assert_false(breaker_allow(b, c, now, &pass));
    assert_int_equal(pass.epoch, 77);
    assert_int_equal(b->n_rejected, rejected + 1);
}

static bool call(struct breaker *b, const struct breaker_config *c, enum breaker_verdict v,
                 uint64_t now)
{
    return breaker_report(b, c, allow(b, c, now), v, now);
}

/* A breaker that opened at `now`. */
static struct breaker opened(const struct breaker_config *c, uint64_t now)
{
    struct breaker b;

    breaker_init(&b);
    while (b.state == BREAKER_CLOSED)
        call(&b, c, BREAKER_FAILURE, now);
    assert_int_equal(b.state, BREAKER_OPEN);
    return b;
}

static void test_a_new_breaker_is_closed_and_allows(void **state)
{
    struct breaker b;

    breaker_init(&b);
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_false(allow(&b, &conf, 0).probe);
    assert_int_equal(breaker_retry_in_us(&b, &conf, 0), 0);
}

static void test_consecutive_failures_open_it_at_the_threshold(void **state)
{
    struct breaker b;

    breaker_init(&b);
    assert_false(call(&b, &conf, BREAKER_FAILURE, 1));
    assert_false(call(&b, &conf, BREAKER_FAILURE, 2));
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_true(call(&b, &conf, BREAKER_FAILURE, 3));
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.opened_us, 3);
    assert_int_equal(b.n_opened, 1);
    assert_int_equal(b.n_failure, 3);
    refuse(&b, &conf, 3);
}

static void test_a_success_starts_the_count_anew(void **state)
{
    struct breaker b;

    breaker_init(&b);
    for (int i = 0; i < 10; i++) {
        call(&b, &conf, BREAKER_FAILURE, 1);
        call(&b, &conf, BREAKER_FAILURE, 1);
        assert_false(call(&b, &conf, BREAKER_SUCCESS, 1));
    }
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_int_equal(b.n_success, 10);
    assert_int_equal(b.n_failure, 20);
}

static void test_a_neutral_end_neither_counts_nor_clears(void **state)
{
    struct breaker b;

    breaker_init(&b);
    call(&b, &conf, BREAKER_FAILURE, 1);
    call(&b, &conf, BREAKER_FAILURE, 1);
    for (int i = 0; i < 10; i++)
        assert_false(call(&b, &conf, BREAKER_NEUTRAL, 1));
    assert_int_equal(b.failures, 2);
    assert_true(call(&b, &conf, BREAKER_FAILURE, 1));
}

static void test_open_refuses_until_the_recovery_time_is_over(void **state)
{
    struct breaker b = opened(&conf, 5000);

    refuse(&b, &conf, 5000);
    assert_int_equal(breaker_retry_in_us(&b, &conf, 5000), 1000);
    refuse(&b, &conf, 5999);
    assert_int_equal(breaker_retry_in_us(&b, &conf, 5999), 1);
    assert_int_equal(breaker_retry_in_us(&b, &conf, 6000), 0);
    assert_true(breaker_would_allow(&b, &conf, 6000));
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_true(allow(&b, &conf, 6000).probe);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
}

static void test_a_clock_before_the_opening_refuses(void **state)
{
    struct breaker b = opened(&conf, 5000);

    refuse(&b, &conf, 10);
    assert_int_equal(breaker_retry_in_us(&b, &conf, 10), 1000);
}

static void test_check_067_half_open_admits_one_probe_of_a_thousand(void **state)
{
    struct breaker b = opened(&conf, 0);

    (void)allow(&b, &conf, 1000);
    for (int i = 0; i < 999; i++)
        refuse(&b, &conf, 1000 + (uint64_t)i);
    assert_int_equal(b.probing, 1);
}

static void test_a_good_probe_closes_it(void **state)
{
    struct breaker b = opened(&conf, 0);
    struct breaker_pass probe = allow(&b, &conf, 1000);

    assert_true(breaker_report(&b, &conf, probe, BREAKER_SUCCESS, 1001));
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_int_equal(b.failures, 0);
    assert_false(call(&b, &conf, BREAKER_FAILURE, 1002));
}

static void test_a_bad_probe_opens_it_for_another_recovery_time(void **state)
{
    struct breaker b = opened(&conf, 0);
    struct breaker_pass probe = allow(&b, &conf, 1000);

    assert_true(breaker_report(&b, &conf, probe, BREAKER_FAILURE, 1500));
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.n_opened, 2);
    refuse(&b, &conf, 2499);
    assert_true(allow(&b, &conf, 2500).probe);
}

static void test_a_probe_without_verdict_gives_its_place_back(void **state)
{
    struct breaker b = opened(&conf, 0);
    struct breaker_pass probe = allow(&b, &conf, 1000);

    refuse(&b, &conf, 1001);
    assert_false(breaker_report(&b, &conf, probe, BREAKER_NEUTRAL, 1002));
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    assert_true(allow(&b, &conf, 1003).probe);
}

static void test_several_probes_may_be_configured(void **state)
{
    struct breaker b = opened(&two_probes, 0);
    struct breaker_pass first = allow(&b, &two_probes, 1000);
    struct breaker_pass second = allow(&b, &two_probes, 1000);

    refuse(&b, &two_probes, 1000);
    assert_true(breaker_report(&b, &two_probes, first, BREAKER_SUCCESS, 1001));
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_false(breaker_report(&b, &two_probes, second, BREAKER_FAILURE, 1002));
    assert_int_equal(b.state, BREAKER_CLOSED);
}

static void test_late_verdicts_of_an_earlier_epoch_only_count(void **state)
{
    struct breaker b;
    struct breaker_pass late[3];

    breaker_init(&b);
    for (int i = 0; i < 3; i++)
        late[i] = allow(&b, &conf, 0);
    while (b.state == BREAKER_CLOSED)
        call(&b, &conf, BREAKER_FAILURE, 0);
    assert_false(breaker_report(&b, &conf, late[0], BREAKER_SUCCESS, 1));
    assert_int_equal(b.state, BREAKER_OPEN);
    (void)allow(&b, &conf, 1000);
    assert_false(breaker_report(&b, &conf, late[1], BREAKER_NEUTRAL, 1001));
    assert_int_equal(b.probing, 1);
    assert_false(breaker_report(&b, &conf, late[2], BREAKER_FAILURE, 1001));
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    assert_int_equal(b.n_success, 1);
    assert_int_equal(b.n_failure, 4);
}

static void test_reset_closes_from_every_state(void **state)
{
    struct breaker b = opened(&conf, 0);
    struct breaker_pass probe;

    assert_true(breaker_reset(&b));
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_false(breaker_reset(&b));
    call(&b, &conf, BREAKER_FAILURE, 0);
    assert_false(breaker_reset(&b));
    assert_int_equal(b.failures, 0);
    b = opened(&conf, 0);
    probe = allow(&b, &conf, 1000);
    assert_true(breaker_reset(&b));
    assert_false(breaker_report(&b, &conf, probe, BREAKER_FAILURE, 1001));
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_int_equal(b.failures, 0);
}

static void test_a_state_from_outside_is_taken_over(void **state)
{
    struct breaker b;
    struct breaker_pass before;

    breaker_init(&b);
    before = allow(&b, &conf, 0);
    assert_true(breaker_force(&b, BREAKER_OPEN, 500));
    refuse(&b, &conf, 1499);
    assert_false(breaker_report(&b, &conf, before, BREAKER_SUCCESS, 600));
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_false(breaker_force(&b, BREAKER_OPEN, 700));
    refuse(&b, &conf, 1699);
    assert_true(breaker_force(&b, BREAKER_HALF_OPEN, 700));
    assert_true(allow(&b, &conf, 800).probe);
    assert_true(breaker_force(&b, BREAKER_CLOSED, 0));
    assert_false(allow(&b, &conf, 801).probe);
    assert_false(breaker_force(&b, BREAKER_CLOSED, 0));
}

static void test_while_it_is_asked_about_no_probe_goes(void **state)
{
    struct breaker b = opened(&conf, 0);

    assert_false(breaker_would_probe(&b, &conf, 999));
    assert_true(breaker_would_probe(&b, &conf, 1000));
    breaker_ask(&b);
    assert_false(breaker_would_probe(&b, &conf, 1000));
    refuse(&b, &conf, 1000);
    assert_int_equal(b.state, BREAKER_OPEN);
    breaker_answer(&b, 0);
    assert_true(allow(&b, &conf, 1000).probe);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    refuse(&b, &conf, 1000);
}

static void test_the_probe_of_another_process_is_waited_for(void **state)
{
    struct breaker b = opened(&two_probes, 0);

    breaker_ask(&b);
    breaker_answer(&b, 1500);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(breaker_retry_in_us(&b, &two_probes, 1100), 400);
    refuse(&b, &two_probes, 1499);
    assert_true(allow(&b, &two_probes, 1500).probe);
    breaker_ask(&b); /* half-open: the second one */
    refuse(&b, &two_probes, 1500);
    breaker_answer(&b, 1700);
    refuse(&b, &two_probes, 1699);
    assert_true(allow(&b, &two_probes, 1700).probe);
    assert_int_equal(b.n_opened, 1);
}

static void test_a_wait_ends_with_the_state_it_is_of(void **state)
{
    struct breaker b = opened(&conf, 0);

    breaker_answer(&b, 5000);
    refuse(&b, &conf, 1000);
    assert_true(breaker_reset(&b));
    assert_false(allow(&b, &conf, 1000).probe);
    breaker_answer(&b, 9000); /* an answer that comes late */
    assert_false(breaker_would_probe(&b, &conf, 1000));
    assert_false(allow(&b, &conf, 1000).probe);
    b = opened(&conf, 0);
    breaker_answer(&b, 5000);
    assert_false(breaker_force(&b, BREAKER_OPEN, 100)); /* another's probe has failed */
    assert_int_equal(breaker_retry_in_us(&b, &conf, 1000), 100);
}

static void test_states_have_names(void **state)
{
    assert_string_equal(breaker_state_name(BREAKER_CLOSED), "closed");
    assert_string_equal(breaker_state_name(BREAKER_HALF_OPEN), "half_open");
    assert_string_equal(breaker_state_name(BREAKER_OPEN), "open");
}

/* A million random steps: no more probes than allowed, and the counters never disagree. */
static void test_random_histories_keep_the_invariants(void **state)
{
    struct breaker_pass out[8];
    unsigned n_out = 0;
    uint64_t now = 0, seed = 42;
    struct breaker b;

    breaker_init(&b);
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned r = (unsigned)(seed >> 33);

        now += r % 300;
        if (r % 2 && n_out < 8)
            n_out += breaker_allow(&b, &conf, now, &out[n_out]);
        else if (n_out)
            breaker_report(&b, &conf, out[--n_out], (enum breaker_verdict)(r / 7 % 3), now);
        assert_true(b.probing <= conf.probes);
        assert_true(b.state == BREAKER_HALF_OPEN || b.probing == 0);
        assert_true(b.failures < conf.failure_threshold);
        assert_true(b.state == BREAKER_CLOSED || b.failures == 0);
    }
    assert_true(b.n_opened > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_breaker_is_closed_and_allows),
        cmocka_unit_test(test_consecutive_failures_open_it_at_the_threshold),
        cmocka_unit_test(test_a_success_starts_the_count_anew),
        cmocka_unit_test(test_a_neutral_end_neither_counts_nor_clears),
        cmocka_unit_test(test_open_refuses_until_the_recovery_time_is_over),
        cmocka_unit_test(test_a_clock_before_the_opening_refuses),
        cmocka_unit_test(test_check_067_half_open_admits_one_probe_of_a_thousand),
        cmocka_unit_test(test_a_good_probe_closes_it),
        cmocka_unit_test(test_a_bad_probe_opens_it_for_another_recovery_time),
        cmocka_unit_test(test_a_probe_without_verdict_gives_its_place_back),
        cmocka_unit_test(test_several_probes_may_be_configured),
        cmocka_unit_test(test_late_verdicts_of_an_earlier_epoch_only_count),
        cmocka_unit_test(test_reset_closes_from_every_state),
        cmocka_unit_test(test_a_state_from_outside_is_taken_over),
        cmocka_unit_test(test_while_it_is_asked_about_no_probe_goes),
        cmocka_unit_test(test_the_probe_of_another_process_is_waited_for),
        cmocka_unit_test(test_a_wait_ends_with_the_state_it_is_of),
        cmocka_unit_test(test_states_have_names),
        cmocka_unit_test(test_random_histories_keep_the_invariants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
