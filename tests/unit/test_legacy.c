/* test_legacy.c - deprecated paths: which there are (gateway/http/legacy.h) and what they say
 * (gateway/middleware/deprecation.c). The wall clock stands still: --wrap=loop_wall_us. */
#include "tests/unit/middleware_harness.h"

#include "gateway/http/legacy.h"
#include "gateway/http/page.h"

static uint64_t wall_us;

uint64_t __wrap_loop_wall_us(void);

uint64_t __wrap_loop_wall_us(void)
{
    return wall_us;
}

static void here(struct request *req)
{
}

static const struct route rows[] = {
    {HTTP_GET, "/api/v1/health", here, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE},
    {HTTP_GET, "/api/health", here, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE},
    {HTTP_POST, "/api/v1/chat", here, SURFACE_NATIVE, ACCESS_USER, RATE_AI, BODY_CHAT},
    {HTTP_GET, "/api/v1/chat/{id}", here, SURFACE_NATIVE, ACCESS_USER, RATE_AI, BODY_NONE},
    {HTTP_GET, "/api/v1/files/{id}/{path...}", here, SURFACE_NATIVE, ACCESS_USER, RATE_AI,
     BODY_NONE},
    {HTTP_POST, "/api/v1/auth/token", here, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_AUTH, BODY_JSON},
    {HTTP_GET, "/docs", here, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_DEFAULT, BODY_NONE},
    {HTTP_GET, "/api/v1", here, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_DEFAULT, BODY_NONE},
    {HTTP_POST, "/v1/messages", here, SURFACE_ANTHROPIC, ACCESS_USER, RATE_AI, BODY_CHAT},
};

static struct arena *table;

static int begin(void **state)
{
    const struct route *all = NULL;
    unsigned n = 0;

    wall_us = UINT64_C(1767225599) * 1000000; /* a second before 2026 */
    table = arena_create(1u << 20);
    if (!table || enter(state))
        return -1;
    return legacy_widen(table, rows, sizeof(rows) / sizeof(rows[0]), &all, &n) ||
           router_init(all, n);
}

static int end(void **state)
{
    router_deinit();
    table = arena_destroy(table);
    return leave(state);
}

/* A request for a path, routed. */
static struct request *ask(enum http_method method, const char *path)
{
    struct request *req = request_of(NULL, "host", "gw.example");
    struct slice allow = SLICE_NONE;

    req->method = method;
    req->path = req->target = slice_cstr(path);
    if (router_find(req->arena, method, req->path, &req->route, req->params, &allow))
        req->route = NULL;
    return req;
}

static void expect_alias(enum http_method method, const char *path, const char *of, const char *now)
{
    struct request *req = ask(method, path);

    assert_non_null(req->route);
    assert_string_equal(req->route->successor, of);
    assert_string_equal(route_name(req->route), of);
    assert_slice(legacy_path(req), now);
    drop(req);
}

/* The path has no alias under that name, or is none. */
static void expect_own(enum http_method method, const char *path, bool there)
{
    struct request *req = ask(method, path);

    assert_int_equal(req->route != NULL, there);
    assert_true(!req->route || !req->route->successor);
    assert_slice(legacy_path(req), path);
    drop(req);
}

static void test_every_v1_path_also_answers_without_the_version(void **state)
{
    expect_alias(HTTP_POST, "/api/chat", "/api/v1/chat", "/api/v1/chat");
    expect_alias(HTTP_GET, "/api/chat/7%2F8", "/api/v1/chat/{id}", "/api/v1/chat/7%2F8");
    expect_alias(HTTP_GET, "/api/files/a%25b/c/d", "/api/v1/files/{id}/{path...}",
                 "/api/v1/files/a%25b/c/d");
    expect_alias(HTTP_POST, "/chat", "/api/v1/chat", "/api/v1/chat");
    expect_alias(HTTP_POST, "/auth/token", "/api/v1/auth/token", "/api/v1/auth/token");
    expect_alias(HTTP_POST, "/api/auth/token", "/api/v1/auth/token", "/api/v1/auth/token");
}

static void test_paths_of_their_own_stay_as_they_are(void **state)
{
    expect_own(HTTP_GET, "/api/health", true);
    expect_own(HTTP_GET, "/api/v1/health", true);
    expect_own(HTTP_POST, "/api/v1/chat", true);
    expect_own(HTTP_GET, "/api/docs", true);
    expect_own(HTTP_POST, "/v1/messages", true);
    expect_own(HTTP_GET, "/auth/validate", false);
    expect_own(HTTP_POST, "/api/messages", false);
    expect_own(HTTP_GET, "/api", false);
    expect_own(HTTP_GET, "/chat", false);
}

/* Runs the row and answers; the request is still there. */
static struct request *answered(enum http_method method, const char *path)
{
    struct request *req = ask(method, path);

    if (deprecation_run(req) == CHAIN_NEXT)
        request_finish(req, GW_OK, SLICE("{}"));
    return req;
}

static void test_an_alias_tells_its_end_and_its_successor(void **state)
{
    struct metric_series *count = metrics_get(M_LEGACY, "/api/v1/chat/{id}", NULL, NULL);
    int64_t before = metrics_value(count);
    struct request *req = answered(HTTP_GET, "/api/chat/a b");

    assert_in(conn.sent, "HTTP/1.1 200 OK\r\n");
    assert_in(conn.sent, "\r\nDeprecation: @1764115200\r\n");
    assert_in(conn.sent, "\r\nSunset: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
    assert_in(conn.sent, "\r\nLink: </api/v1/chat/a%20b>; rel=\"successor-version\"\r\n");
    assert_int_equal(metrics_value(count), before + 1);
    drop(req);
}

static void test_other_paths_tell_nothing(void **state)
{
    struct request *req = answered(HTTP_GET, "/api/health");

    assert_not_in(conn.sent, "Deprecation");
    assert_not_in(conn.sent, "Sunset");
    assert_not_in(conn.sent, "Link");
    drop(req);
}

static void test_errors_tell_it_once_too(void **state)
{
    struct request *req = ask(HTTP_POST, "/chat");
    const char *first;

    request_fail(req, GW_ERATE, NULL);
    assert_in(conn.sent, "HTTP/1.1 429 ");
    first = strstr(conn.sent, "successor-version");
    assert_non_null(first);
    assert_null(strstr(first + 1, "successor-version"));
    drop(req);
}

static void test_the_links_of_a_page_point_at_the_successor(void **state)
{
    struct request *req = ask(HTTP_GET, "/api/chat/7");
    struct page p = {.page = 1, .per_page = 5};

    assert_true(page_set_headers(req, &p, 9));
    request_finish(req, GW_OK, SLICE("{}"));
    assert_in(conn.sent, "</api/v1/chat/7?page=2&per_page=5>; rel=\"next\"");
    assert_in(conn.sent, "rel=\"last\", </api/v1/chat/7>; rel=\"successor-version\"\r\n");
    assert_not_in(conn.sent, "</api/chat");
    drop(req);
}

static void test_behind_a_trusted_proxy_the_successor_is_absolute(void **state)
{
    struct request *req = ask(HTTP_POST, "/chat");
    const struct http_header h[] = {{SLICE("Host"), SLICE("gw.example")},
                                    {SLICE("X-Forwarded-Proto"), SLICE("https")}};

    req->headers = h;
    req->n_headers = 2;
    req->peer_trusted = true;
    request_finish(req, GW_OK, SLICE("{}"));
    assert_in(conn.sent, "Link: <https://gw.example/api/v1/chat>; rel=\"successor-version\"");
    drop(req);
}

static void test_after_the_sunset_gone_means_410(void **state)
{
    struct request *req;

    conf->legacy_after_sunset = SLICE("gone");
    req = answered(HTTP_POST, "/chat");
    assert_in(conn.sent, "HTTP/1.1 200 ");
    drop(req);
    wall_us += 1000000;
    req = answered(HTTP_POST, "/chat");
    assert_in(conn.sent, "HTTP/1.1 410 Gone\r\n");
    assert_in(conn.sent, "\"code\":\"legacy-endpoint-gone\"");
    assert_in(conn.sent, "/api/v1/chat");
    assert_in(conn.sent, "rel=\"successor-version\"");
    drop(req);
    req = answered(HTTP_POST, "/api/v1/chat");
    assert_in(conn.sent, "HTTP/1.1 200 ");
    drop(req);
    conf->legacy_after_sunset = SLICE("serve");
    req = answered(HTTP_POST, "/chat");
    assert_in(conn.sent, "HTTP/1.1 200 ");
    drop(req);
}

#define R(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        R(test_every_v1_path_also_answers_without_the_version),
        R(test_paths_of_their_own_stay_as_they_are),
        R(test_an_alias_tells_its_end_and_its_successor),
        R(test_other_paths_tell_nothing),
        R(test_errors_tell_it_once_too),
        R(test_the_links_of_a_page_point_at_the_successor),
        R(test_behind_a_trusted_proxy_the_successor_is_absolute),
        R(test_after_the_sunset_gone_means_410),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
