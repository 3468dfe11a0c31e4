/* test_chain.c - the middleware chain (gateway/http/chain.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http/chain.h"
#include "gateway/http/router.h"

#include <string.h>

static char trace[64];
static struct arena *arena;
static struct request *req;
static enum chain_verdict verdict_b, verdict_d, verdict_f;
static bool answer_in_d;

static void passed(struct request *r)
{
    strcat(trace, "P");
}

static void note(const char *what)
{
    strcat(trace, what);
}

static enum chain_verdict row_a(struct request *r)
{
    note("a");
    return CHAIN_NEXT;
}

static enum chain_verdict row_b(struct request *r)
{
    note("b");
    return verdict_b;
}

static enum chain_verdict row_c(struct request *r)
{
    note("c");
    return CHAIN_NEXT;
}

static enum chain_verdict row_d(struct request *r)
{
    note("d");
    r->replied = answer_in_d;
    return verdict_d;
}

static enum chain_verdict row_e(struct request *r)
{
    note("e");
    return CHAIN_NEXT;
}

static enum chain_verdict row_f(struct request *r)
{
    note("f");
    return verdict_f;
}

static void handler(struct request *r)
{
    note("H");
}

static const struct route route = {.method = HTTP_POST, .path = "/", .handler = handler};

/* Phases are mixed in the table on purpose: each phase keeps the table's order. */
static const struct chain_row rows[] = {
    {"a", CHAIN_HEAD, row_a}, {"c", CHAIN_BODY, row_c}, {"b", CHAIN_HEAD, row_b},
    {"d", CHAIN_BODY, row_d}, {"e", CHAIN_BODY, row_e}, {"f", CHAIN_HEAD, row_f},
};

static int set_up(void **state)
{
    arena = arena_create(1 << 16);
    assert_non_null(arena);
    req = arena_new(arena, struct request);
    assert_non_null(req);
    req->arena = arena;
    req->conn = (struct http_conn *)arena; /* only asked whether it is there */
    req->route = &route;
    verdict_b = verdict_d = verdict_f = CHAIN_NEXT;
    answer_in_d = false;
    trace[0] = '\0';
    chain_init(rows, sizeof(rows) / sizeof(rows[0]));
    return 0;
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    return 0;
}

static void test_rows_run_in_order_within_their_phase_then_the_handler(void **state)
{
    assert_int_equal(chain_run_head(req, passed), CHAIN_NEXT);
    assert_string_equal(trace, "abf");
    chain_run_body(req);
    assert_string_equal(trace, "abfcdeH");
}

static void test_a_row_that_answers_ends_the_chain(void **state)
{
    verdict_b = CHAIN_DONE;
    assert_int_equal(chain_run_head(req, passed), CHAIN_DONE);
    assert_string_equal(trace, "ab");
    verdict_d = CHAIN_DONE;
    chain_run_body(req);
    assert_string_equal(trace, "abcd");
}

static void test_an_answered_request_goes_no_further_even_if_the_row_says_next(void **state)
{
    answer_in_d = true;
    chain_run_body(req);
    assert_string_equal(trace, "cd");
}

static void test_a_parked_request_goes_on_behind_the_row_that_parked(void **state)
{
    verdict_d = CHAIN_PARKED;
    chain_run_body(req);
    assert_string_equal(trace, "cd");
    chain_resume(req);
    assert_string_equal(trace, "cdeH");
}

static void test_a_parked_request_whose_client_left_is_not_resumed(void **state)
{
    verdict_d = CHAIN_PARKED;
    chain_run_body(req);
    req->conn = NULL;
    chain_resume(req);
    assert_string_equal(trace, "cd");
}

static void test_a_parked_request_that_was_answered_is_not_resumed(void **state)
{
    verdict_d = CHAIN_PARKED;
    chain_run_body(req);
    req->replied = true;
    chain_resume(req);
    assert_string_equal(trace, "cd");
}

static void test_a_head_that_parked_goes_on_with_the_rest_of_the_head_rows_only(void **state)
{
    verdict_b = CHAIN_PARKED;
    assert_int_equal(chain_run_head(req, passed), CHAIN_PARKED);
    assert_string_equal(trace, "ab");
    chain_resume(req);
    assert_string_equal(trace, "abfP");
    chain_run_body(req);
    assert_string_equal(trace, "abfPcdeH");
}

static void test_a_head_may_park_in_one_row_after_another(void **state)
{
    verdict_b = verdict_f = CHAIN_PARKED;
    assert_int_equal(chain_run_head(req, passed), CHAIN_PARKED);
    chain_resume(req);
    assert_string_equal(trace, "abf");
    chain_resume(req);
    assert_string_equal(trace, "abfP");
}

static void test_a_parked_head_that_was_answered_or_whose_client_left_is_not_passed(void **state)
{
    verdict_b = CHAIN_PARKED;
    assert_int_equal(chain_run_head(req, passed), CHAIN_PARKED);
    req->replied = true;
    chain_resume(req);
    req->replied = false;
    assert_int_equal(chain_run_head(req, passed), CHAIN_PARKED);
    req->conn = NULL;
    chain_resume(req);
    assert_string_equal(trace, "abab");
}

static void test_a_head_refused_by_a_row_behind_the_parked_one_is_not_passed(void **state)
{
    verdict_b = CHAIN_PARKED;
    assert_int_equal(chain_run_head(req, passed), CHAIN_PARKED);
    verdict_f = CHAIN_DONE;
    chain_resume(req);
    assert_string_equal(trace, "abf");
}

static void test_an_empty_chain_is_just_the_handler(void **state)
{
    chain_init(NULL, 0);
    assert_int_equal(chain_run_head(req, passed), CHAIN_NEXT);
    chain_run_body(req);
    assert_string_equal(trace, "H");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_run_in_order_within_their_phase_then_the_handler),
        TEST(test_a_row_that_answers_ends_the_chain),
        TEST(test_an_answered_request_goes_no_further_even_if_the_row_says_next),
        TEST(test_a_parked_request_goes_on_behind_the_row_that_parked),
        TEST(test_a_parked_request_whose_client_left_is_not_resumed),
        TEST(test_a_parked_request_that_was_answered_is_not_resumed),
        TEST(test_a_head_that_parked_goes_on_with_the_rest_of_the_head_rows_only),
        TEST(test_a_head_may_park_in_one_row_after_another),
        TEST(test_a_parked_head_that_was_answered_or_whose_client_left_is_not_passed),
        TEST(test_a_head_refused_by_a_row_behind_the_parked_one_is_not_passed),
        TEST(test_an_empty_chain_is_just_the_handler),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
