/* test_request.c - reading and answering headers, queries and notes (gateway/http/request.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http/request.h"

static struct arena *arena;
static struct request *req;

static int set_up(void **state)
{
    arena = arena_create(1 << 16);
    assert_non_null(arena);
    req = arena_new(arena, struct request);
    assert_non_null(req);
    req->arena = arena;
    return 0;
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    return 0;
}

static void expect_query(const char *query, const char *name, const char *want)
{
    enum gw_err err = GW_OK;
    struct slice got;

    req->query = slice_cstr(query);
    got = request_query(req, name, &err);
    assert_int_equal(err, GW_OK);
    if (want)
        assert_true(got.p && slice_is(got, want));
    else
        assert_null(got.p);
}

static void expect_bad_query(const char *query)
{
    enum gw_err err = GW_OK;

    req->query = slice_cstr(query);
    assert_null(request_query(req, "a", &err).p);
    assert_int_equal(err, GW_EBADREQ);
}

static void test_query_arguments_are_decoded_once(void **state)
{
    expect_query("a=b", "a", "b");
    expect_query("x=1&a=b%20c+d&a=z", "a", "b c d");
    expect_query("a=%2541", "a", "%41");
    expect_query("a", "a", "");
    expect_query("a=", "a", "");
    expect_query("a=b=c", "a", "b=c");
    expect_query("ab=c&&A=d", "a", NULL);
    expect_query("a;b=c", "b", NULL);
    expect_query("", "a", NULL);
}

static void test_bad_escapes_and_nul_in_a_query_are_refused(void **state)
{
    expect_bad_query("a=%");
    expect_bad_query("a=%4");
    expect_bad_query("a=%zz");
    expect_bad_query("a=x%00y");
}

static void test_check_027_header_values_with_control_characters_are_refused(void **state)
{
    static const char *const bad[] = {"a\r\nX-Evil: b", "a\n", "\r", "a\x01", "\x7f"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(request_set_header(req, "Location", slice_cstr(bad[i])));
    assert_false(request_set_header(req, "Location", slice_of("a\0b", 3)));
    assert_int_equal(req->n_out, 0);
    assert_true(request_set_header(req, "Location", SLICE("/a\tb \xc3\xa4")));
    assert_int_equal(req->n_out, 1);
}

static void test_a_header_set_twice_is_replaced_and_its_value_copied(void **state)
{
    char value[] = "one";

    assert_true(request_set_header(req, "X-A", slice_cstr(value)));
    value[0] = 'X';
    assert_true(slice_is(req->out[0].value, "one"));
    assert_true(request_set_header(req, "x-a", SLICE("two")));
    assert_int_equal(req->n_out, 1);
    assert_true(slice_is(req->out[0].value, "two"));
}

static void test_there_is_a_limit_to_answer_headers(void **state)
{
    static char names[REQUEST_MAX_OUT_HEADERS + 1][8];

    for (unsigned i = 0; i <= REQUEST_MAX_OUT_HEADERS; i++) {
        snprintf(names[i], sizeof(names[i]), "X-%u", i);
        assert_int_equal(request_set_header(req, names[i], SLICE("y")),
                         i < REQUEST_MAX_OUT_HEADERS);
    }
}

static void test_request_headers_are_found_without_case(void **state)
{
    static const struct http_header in[] = {
        {SLICE("X-a"), SLICE("1")}, {SLICE("x-A"), SLICE("2")}, {SLICE("X-ab"), SLICE("3")}};

    req->headers = in;
    req->n_headers = 3;
    assert_true(slice_is(request_header(req, "x-a"), "1"));
    assert_int_equal(request_header_count(req, "x-a"), 2);
    assert_null(request_header(req, "x").p);
    assert_int_equal(request_header_count(req, "x"), 0);
}

static void test_notes_are_replaced_and_limited(void **state)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e"};

    for (unsigned i = 0; i < 5; i++)
        request_note(req, keys[i], SLICE("1"));
    assert_int_equal(req->n_notes, 4);
    request_note(req, "b", SLICE("2"));
    assert_int_equal(req->n_notes, 4);
    assert_true(slice_is(req->note[1], "2"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_query_arguments_are_decoded_once),
        TEST(test_bad_escapes_and_nul_in_a_query_are_refused),
        TEST(test_check_027_header_values_with_control_characters_are_refused),
        TEST(test_a_header_set_twice_is_replaced_and_its_value_copied),
        TEST(test_there_is_a_limit_to_answer_headers),
        TEST(test_request_headers_are_found_without_case),
        TEST(test_notes_are_replaced_and_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
