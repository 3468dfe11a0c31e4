/* test_etag.c - entity tags and If-None-Match (gateway/http/etag.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http/etag.h"
#include "gateway/http/router.h"

static struct arena *arena;
static struct request *req;
static struct http_header header;
static struct route route;

#define JSON SLICE("application/json")
#define BODY SLICE("{\"a\":1}")

static int set_up(void **state)
{
    arena = arena_create(1 << 20);
    assert_non_null(arena);
    req = arena_new(arena, struct request);
    assert_non_null(req);
    route = (struct route){.surface = SURFACE_NATIVE, .rate = RATE_DEFAULT};
    req->arena = arena;
    req->route = &route;
    req->headers = &header;
    return 0;
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    return 0;
}

static struct slice tag(void)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is(req->out[i].name, "ETag"))
            return req->out[i].value;
    return SLICE_NONE;
}

static void if_none_match(struct slice value)
{
    header = (struct http_header){SLICE("If-None-Match"), value};
    req->n_headers = 1;
}

static void test_lists_are_compared_weakly(void **state)
{
    static const struct {
        const char *list;
        bool held;
    } cases[] = {
        {"\"a\"", true},
        {"W/\"a\"", true},
        {"*", true},
        {" * ", true},
        {"\"b\", \"a\"", true},
        {"W/\"b\",W/\"a\",\"c\"", true},
        {",, \"a\"", false},
        {"\"b\" ,, \"a\"", true},
        {"\"b, \"a\"", false},
        {"\"x,y\", \"a\"", true},
        {"\"b\"", false},
        {"", false},
        {"a", false},
        {"\"a", false},
        {"w/\"a\"", false},
        {"\"b\" \"a\"", false},
        {"W/", false},
        {"\"aa\"", false},
        {"\"\"", false},
        {"*, \"a\"", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (etag_listed(slice_cstr(cases[i].list), SLICE("W/\"a\"")) != cases[i].held ||
            etag_listed(slice_cstr(cases[i].list), SLICE("\"a\"")) != cases[i].held)
            fail_msg("%s", cases[i].list);
    }
}

static void test_the_same_body_has_the_same_tag_and_another_has_not(void **state)
{
    struct slice first;

    assert_false(etag_check(req, 200, JSON, BODY));
    first = tag();
    assert_int_equal(first.n, 2 + 2 + 32);
    req->n_out = 0;
    assert_false(etag_check(req, 200, JSON, BODY));
    assert_true(slice_eq(first, tag()));
    req->n_out = 0;
    if_none_match(first);
    assert_true(etag_check(req, 200, JSON, BODY));
    assert_true(slice_eq(first, tag()));
    req->n_out = 0;
    assert_false(etag_check(req, 200, JSON, SLICE("{\"a\":2}")));
    assert_false(slice_eq(first, tag()));
}

static void test_a_handlers_own_tag_stands(void **state)
{
    request_set_header(req, "ETag", SLICE("\"v7\""));
    if_none_match(SLICE("\"v6\", \"v7\""));
    assert_true(etag_check(req, 200, SLICE("text/plain"), BODY));
    assert_true(slice_is(tag(), "\"v7\""));
}

static void expect_no_tag(int status, struct slice type)
{
    if_none_match(SLICE("*"));
    assert_false(etag_check(req, status, type, BODY));
    assert_null(tag().p);
}

static void test_only_good_json_answers_to_get_on_native_routes_have_one(void **state)
{
    expect_no_tag(404, JSON);
    expect_no_tag(201, JSON);
    expect_no_tag(200, SLICE("text/plain"));
    req->method = HTTP_POST;
    expect_no_tag(200, JSON);
    req->method = HTTP_GET;
    route.rate = RATE_PROBE;
    expect_no_tag(200, JSON);
    route = (struct route){.surface = SURFACE_OPENAI, .rate = RATE_DEFAULT};
    expect_no_tag(200, JSON);
    req->route = NULL;
    expect_no_tag(200, JSON);
    req->route = &route;
    route.surface = SURFACE_NATIVE;
    req->method = HTTP_HEAD;
    assert_true(etag_check(req, 200, JSON, BODY));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lists_are_compared_weakly),
        TEST(test_the_same_body_has_the_same_tag_and_another_has_not),
        TEST(test_a_handlers_own_tag_stands),
        TEST(test_only_good_json_answers_to_get_on_native_routes_have_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
