/* test_day.c - days of the calendar (gateway/core/day.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/day.h"

static void expect_day(const char *text, int64_t want)
{
    int64_t got = -1;

    assert_true(day_parse(slice_cstr(text), &got));
    assert_true(got == want);
}

static void test_days_begin_at_midnight_utc(void **state)
{
    expect_day("1970-01-01", 0);
    expect_day("2026-01-01", 1767225600);
    expect_day("2024-02-29", 1709164800);
    expect_day("1969-12-31", -86400);
}

static void test_days_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"",           "2026-02-29",  "2026-13-01", "2026-00-10",
                                      "2026-01-00", "2026-01-32",  "26-01-01",   "2026/01/01",
                                      "2026-01-1",  "2026-01-01 ", "+026-01-01", "2026-01--1"};
    int64_t got = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (day_parse(slice_cstr(bad[i]), &got))
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(got, 7);
}

static void expect_http(int64_t when, const char *want)
{
    char out[DAY_HTTP_BYTES];
    struct slice got = day_http(when, out);

    if (!slice_is(got, want))
        fail_msg("%.*s is not %s", SLICE_ARG(got), want);
}

static void test_moments_are_written_as_http_does(void **state)
{
    expect_http(0, "Thu, 01 Jan 1970 00:00:00 GMT");
    expect_http(1767225600, "Thu, 01 Jan 2026 00:00:00 GMT");
    expect_http(784111777, "Sun, 06 Nov 1994 08:49:37 GMT");
    expect_http(INT64_MAX, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_begin_at_midnight_utc),
        cmocka_unit_test(test_days_that_are_none_are_refused),
        cmocka_unit_test(test_moments_are_written_as_http_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
