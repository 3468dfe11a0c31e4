/* test_router.c - exact routing (gateway/http/router.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http/router.h"

static void handler(struct request *req)
{
    (void)req;
}

#define ROW(m, p)                                                                                  \
    {                                                                                              \
        .method = (m), .path = (p), .handler = handler                                             \
    }

static const struct route table[] = {
    ROW(HTTP_GET, "/"),
    ROW(HTTP_GET, "/v1/models"),
    ROW(HTTP_GET, "/v1/models/{id...}"),
    ROW(HTTP_POST, "/v1/models/refresh"),
    ROW(HTTP_GET, "/v1/files/{id}"),
    ROW(HTTP_DELETE, "/v1/files/{id}"),
    ROW(HTTP_GET, "/v1/files/{id}/parts/{part}"),
    ROW(HTTP_GET, "/v1/files/new"),
    ROW(HTTP_HEAD, "/v1/heads"),
};

struct found {
    enum gw_err err;
    const struct route *route;
    struct slice params[REQUEST_MAX_PARAMS], allow;
};

static struct arena *arena;

static struct found find(enum http_method m, const char *path)
{
    struct found f = {0};

    f.err = router_find(arena, m, slice_cstr(path), &f.route, f.params, &f.allow);
    return f;
}

static void expect(enum http_method m, const char *path, const char *template)
{
    struct found f = find(m, path);

    assert_int_equal(f.err, GW_OK);
    assert_string_equal(f.route->path, template);
}

static int set_up(void **state)
{
    arena = arena_create(1 << 16);
    assert_non_null(arena);
    return router_init(table, sizeof(table) / sizeof(table[0]));
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    router_deinit();
    return 0;
}

static void test_only_the_exact_path_matches(void **state)
{
    expect(HTTP_GET, "/", "/");
    expect(HTTP_GET, "/v1/models", "/v1/models");
    assert_int_equal(find(HTTP_GET, "/v1/modelsX").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/v1/model").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/v1").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/V1/models").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/v1/models/").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/v1/files").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/v1/files/").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "/v1/files/a/").err, GW_ENOTFOUND);
    assert_int_equal(find(HTTP_GET, "").err, GW_ENOTFOUND);
}

static void test_an_escaped_slash_is_part_of_a_segment(void **state)
{
    struct found f = find(HTTP_GET, "/v1/files/a%2Fb%25c");

    assert_int_equal(f.err, GW_OK);
    assert_true(slice_is(f.params[0], "a/b%c"));
    assert_int_equal(find(HTTP_GET, "/v1%2Fmodels").err, GW_ENOTFOUND);
}

static void test_parameters_come_in_order(void **state)
{
    struct found f = find(HTTP_GET, "/v1/files/a/parts/b");

    assert_int_equal(f.err, GW_OK);
    assert_true(slice_is(f.params[0], "a"));
    assert_true(slice_is(f.params[1], "b"));
}

static void test_a_literal_wins_over_a_parameter(void **state)
{
    expect(HTTP_GET, "/v1/files/new", "/v1/files/new");
    expect(HTTP_GET, "/v1/files/newer", "/v1/files/{id}");
    expect(HTTP_GET, "/v1/files/new/parts/b", "/v1/files/{id}/parts/{part}");
    expect(HTTP_DELETE, "/v1/files/new", "/v1/files/{id}");
}

static void test_a_rest_parameter_takes_slashes(void **state)
{
    struct found f = find(HTTP_GET, "/v1/models/openai/gpt-4o");

    assert_int_equal(f.err, GW_OK);
    assert_true(slice_is(f.params[0], "openai/gpt-4o"));
    expect(HTTP_GET, "/v1/models/refresh", "/v1/models/{id...}");
    expect(HTTP_POST, "/v1/models/refresh", "/v1/models/refresh");
}

static void test_head_is_served_by_get(void **state)
{
    expect(HTTP_HEAD, "/v1/models", "/v1/models");
    expect(HTTP_HEAD, "/v1/heads", "/v1/heads");
}

static void test_other_methods_are_told_what_is_allowed(void **state)
{
    struct found f = find(HTTP_PUT, "/v1/files/x");

    assert_int_equal(f.err, GW_EMETHOD);
    assert_true(slice_is(f.allow, "GET, HEAD, DELETE, OPTIONS"));
    f = find(HTTP_OPTIONS, "/v1/models/refresh");
    assert_int_equal(f.err, GW_EMETHOD);
    assert_true(slice_is(f.allow, "GET, HEAD, POST, OPTIONS"));
    assert_int_equal(find(HTTP_OPTIONS, "/nope").err, GW_ENOTFOUND);
}

static void test_colliding_and_malformed_tables_are_refused(void **state)
{
    static const struct route twice[] = {ROW(HTTP_GET, "/a/{x}"), ROW(HTTP_GET, "/a/{y}")};
    static const struct route rest_inside[] = {ROW(HTTP_GET, "/a/{x...}/b")};
    static const struct route no_slash[] = {ROW(HTTP_GET, "a")};
    static const struct route many[] = {ROW(HTTP_GET, "/{a}/{b}/{c}/{d}/{e}")};

    assert_int_equal(router_init(twice, 2), GW_EINTERNAL);
    assert_int_equal(router_init(rest_inside, 1), GW_EINTERNAL);
    assert_int_equal(router_init(no_slash, 1), GW_EINTERNAL);
    assert_int_equal(router_init(many, 1), GW_EINTERNAL);
    assert_int_equal(find(HTTP_GET, "/").err, GW_ENOTFOUND);
}

static void expect_surface(const char *path, enum surface want)
{
    struct request req = {.path = slice_cstr(path)};

    assert_int_equal(surface_of(&req), want);
}

static void test_errors_take_the_shape_of_the_path(void **state)
{
    struct request req = {.path = SLICE("/v1/x"), .route = &table[0]};

    expect_surface("/v1/messages", SURFACE_ANTHROPIC);
    expect_surface("/v1/messages/count_tokens", SURFACE_ANTHROPIC);
    expect_surface("/v1/messagesX", SURFACE_OPENAI);
    expect_surface("/v1beta/models/x", SURFACE_GOOGLE);
    expect_surface("/v1/anything", SURFACE_OPENAI);
    expect_surface("/api/v1/chat", SURFACE_NATIVE);
    expect_surface("/v1", SURFACE_NATIVE);
    expect_surface("", SURFACE_NATIVE);
    assert_int_equal(surface_of(&req), table[0].surface);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_the_exact_path_matches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_escaped_slash_is_part_of_a_segment, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_parameters_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_literal_wins_over_a_parameter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_rest_parameter_takes_slashes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_head_is_served_by_get, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_methods_are_told_what_is_allowed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_colliding_and_malformed_tables_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test(test_errors_take_the_shape_of_the_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
