/* test_problem.c - one internal error in four public shapes (gateway/http/problem.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/json.h"
#include "gateway/http/problem.h"

static struct arena *arena;

static int set_up(void **state)
{
    arena = arena_create(1 << 20);
    return arena ? 0 : -1;
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    return 0;
}

/* Writes the document, checks that it is strict JSON, and returns its root. */
static struct json written(enum surface s, enum gw_err err, const struct error_detail *d,
                           const char *want_type)
{
    struct slice type = SLICE_NONE, text;
    struct json root = {0};
    struct buf b;

    buf_init(&b, 65536);
    problem_write(s, err, d, SLICE("req-1"), SLICE("/a\"b"), &b, &type);
    assert_int_equal(buf_err(&b), GW_OK);
    assert_true(slice_is(type, want_type));
    text = arena_dup(arena, buf_slice(&b));
    buf_deinit(&b);
    assert_int_equal(json_parse(arena, text, NULL, &root, NULL), GW_OK);
    return root;
}

static void expect_int(struct json v, int64_t want)
{
    int64_t got = -1;

    assert_true(json_int(v, &got));
    assert_int_equal(got, want);
}

static void test_native_errors_are_problem_documents(void **state)
{
    struct error_detail d = {.message = SLICE("No \"x\"\n"), .param = SLICE("/x")};
    struct json p = written(SURFACE_NATIVE, GW_ESCHEMA, &d, "application/problem+json");
    struct json first = json_first(json_get(p, "errors"));

    assert_true(json_str_is(json_get(p, "type"), "urn:postern:problem:validation-failed"));
    assert_true(json_str_is(json_get(p, "title"), "Validation failed"));
    expect_int(json_get(p, "status"), 422);
    assert_true(json_str_is(json_get(p, "detail"), "No \"x\"\n"));
    assert_true(json_str_is(json_get(p, "instance"), "/a\"b"));
    assert_true(json_str_is(json_get(p, "request_id"), "req-1"));
    assert_true(json_str_is(json_get(first, "pointer"), "/x"));
}

static void test_openai_errors_have_type_param_and_code(void **state)
{
    struct error_detail d = {.param = SLICE("model"), .code = SLICE("model_gone"), .status = 410};
    struct json e = json_get(written(SURFACE_OPENAI, GW_EMODEL, &d, "application/json"), "error");

    assert_true(json_str_is(json_get(e, "message"), "No such model"));
    assert_true(json_str_is(json_get(e, "type"), "invalid_request_error"));
    assert_true(json_str_is(json_get(e, "param"), "model"));
    assert_true(json_str_is(json_get(e, "code"), "model_gone"));
    e = json_get(written(SURFACE_OPENAI, GW_EUNAUTH, NULL, "application/json"), "error");
    assert_true(json_is(json_get(e, "param"), JSON_NULL));
    assert_true(json_str_is(json_get(e, "code"), "unauthorized"));
}

static void expect_anthropic(enum gw_err err, const char *type)
{
    struct json p = written(SURFACE_ANTHROPIC, err, NULL, "application/json");

    assert_true(json_str_is(json_get(p, "type"), "error"));
    assert_true(json_str_is(json_get(json_get(p, "error"), "type"), type));
    assert_true(json_str_is(json_get(p, "request_id"), "req-1"));
}

static void test_anthropic_errors_use_its_types(void **state)
{
    expect_anthropic(GW_EBADREQ, "invalid_request_error");
    expect_anthropic(GW_EUNAUTH, "authentication_error");
    expect_anthropic(GW_EFORBIDDEN, "permission_error");
    expect_anthropic(GW_EMODEL, "not_found_error");
    expect_anthropic(GW_ETOOBIG, "request_too_large");
    expect_anthropic(GW_ERATE, "rate_limit_error");
    expect_anthropic(GW_EOVERLOAD, "overloaded_error");
    expect_anthropic(GW_EDEADLINE, "timeout_error");
    expect_anthropic(GW_EINTERNAL, "api_error");
    expect_anthropic(GW_EMEDIA, "invalid_request_error");
}

static void expect_google(enum gw_err err, int64_t code, const char *status)
{
    struct json e = json_get(written(SURFACE_GOOGLE, err, NULL, "application/json"), "error");

    expect_int(json_get(e, "code"), code);
    assert_true(json_str_is(json_get(e, "status"), status));
    assert_true(
        json_str_is(json_get(json_first(json_get(e, "details")), "reason"), err_info(err)->slug));
}

static void test_google_errors_use_its_statuses(void **state)
{
    expect_google(GW_EBADREQ, 400, "INVALID_ARGUMENT");
    expect_google(GW_EUNAUTH, 401, "UNAUTHENTICATED");
    expect_google(GW_EFORBIDDEN, 403, "PERMISSION_DENIED");
    expect_google(GW_ENOTFOUND, 404, "NOT_FOUND");
    expect_google(GW_ERATE, 429, "RESOURCE_EXHAUSTED");
    expect_google(GW_EINTERNAL, 500, "INTERNAL");
    expect_google(GW_EOVERLOAD, 503, "UNAVAILABLE");
    expect_google(GW_EDEADLINE, 504, "DEADLINE_EXCEEDED");
}

static void test_validation_errors_are_400_on_the_vendors_surfaces(void **state)
{
    assert_int_equal(problem_status(SURFACE_NATIVE, GW_ESCHEMA, NULL), 422);
    assert_int_equal(problem_status(SURFACE_OPENAI, GW_ESCHEMA, NULL), 400);
    assert_int_equal(problem_status(SURFACE_ANTHROPIC, GW_ESCHEMA, NULL), 400);
    assert_int_equal(problem_status(SURFACE_GOOGLE, GW_ESCHEMA, NULL), 400);
}

static void test_a_status_that_is_no_error_is_not_believed(void **state)
{
    struct error_detail d = {.status = 200};

    assert_int_equal(problem_status(SURFACE_OPENAI, GW_EUPREJECT, &d), 400);
    d.status = 418;
    assert_int_equal(problem_status(SURFACE_OPENAI, GW_EUPREJECT, &d), 418);
}

static void test_every_error_is_strict_json_on_every_surface(void **state)
{
    for (int e = GW_OK + 1; e < GW_ERR_COUNT; e++) {
        written(SURFACE_NATIVE, (enum gw_err)e, NULL, "application/problem+json");
        written(SURFACE_OPENAI, (enum gw_err)e, NULL, "application/json");
        written(SURFACE_ANTHROPIC, (enum gw_err)e, NULL, "application/json");
        written(SURFACE_GOOGLE, (enum gw_err)e, NULL, "application/json");
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_native_errors_are_problem_documents),
        TEST(test_openai_errors_have_type_param_and_code),
        TEST(test_anthropic_errors_use_its_types),
        TEST(test_google_errors_use_its_statuses),
        TEST(test_validation_errors_are_400_on_the_vendors_surfaces),
        TEST(test_a_status_that_is_no_error_is_not_believed),
        TEST(test_every_error_is_strict_json_on_every_surface),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
