/*
 * test_envfile.c - what a line of an env file may be, and what is said of those it may not.
 */
#include "gateway/core/envfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void expect_printed(const struct problems *ps, const char *expected)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    problems_print(ps, f);
    fclose(f);
    assert_string_equal(text, expected);
    free(text);
}

static struct slice env_value(const struct envfile *e, const char *name)
{
    const struct envfile_entry *entry = envfile_get(e, name);

    return entry ? entry->value : SLICE("(none)");
}

static void test_env_file_values_mean_what_they_mean_to_sh(void **state)
{
    struct arena *a = arena_create(1u << 20);
    struct problems ps = {0};
    struct envfile e;

    envfile_parse(SLICE("\xef\xbb\xbf# head\n"
                        "PLAIN=a b # comment\n"
                        "  export EXPORTED=1\r\n"
                        "HASH=a#b\n"
                        "SINGLE='a \\n \"$x' # c\n"
                        "DOUBLE=\"a \\\"b\\\" \\\\ \\$x \\n\"\n"
                        "EMPTY=\n"
                        "EMPTY2=\"\"\n"
                        "exportX=2\n"
                        "LAST=end"),
                  "e", a, &e, &ps);
    expect_printed(&ps, "");
    assert_int_equal(e.n, 9);
    assert_string_equal(env_value(&e, "PLAIN").p, "a b");
    assert_string_equal(env_value(&e, "EXPORTED").p, "1");
    assert_string_equal(env_value(&e, "HASH").p, "a#b");
    assert_string_equal(env_value(&e, "SINGLE").p, "a \\n \"$x");
    assert_string_equal(env_value(&e, "DOUBLE").p, "a \"b\" \\ $x \\n");
    assert_string_equal(env_value(&e, "EMPTY").p, "");
    assert_string_equal(env_value(&e, "EMPTY2").p, "");
    assert_string_equal(env_value(&e, "exportX").p, "2");
    assert_string_equal(env_value(&e, "LAST").p, "end");
    arena_destroy(a);
}

/* Parses and compares all that would be printed. */
static void expect_problems(struct slice text, const char *expected)
{
    struct arena *a = arena_create(1u << 20);
    struct problems ps = {0};
    struct envfile e;

    envfile_parse(text, ".env", a, &e, &ps);
    expect_printed(&ps, expected);
    problems_deinit(&ps);
    arena_destroy(a);
}

static void test_bad_lines_are_listed_and_never_shown(void **state)
{
    expect_problems(SLICE("A = 1\n=2\n9X=3\nB='geheim\nC=\"x\"y\nD\nE=a\x01"
                          "b\nexport\nAPI_PORT=77\n"),
                    ".env:1: NAME=VALUE expected, without a blank before the =\n"
                    ".env:2: NAME=VALUE expected\n"
                    ".env:3: NAME=VALUE expected\n"
                    ".env:4: a quote is not closed on its line\n"
                    ".env:5: text after the closing quote\n"
                    ".env:6: NAME=VALUE expected\n"
                    ".env:7: a control character\n"
                    ".env:8: NAME=VALUE expected\n");
}

static void test_of_a_name_that_comes_twice_the_last_line_counts(void **state)
{
    struct arena *a = arena_create(1u << 20);
    struct problems ps = {0};
    struct envfile e;

    envfile_parse(SLICE("F=1\nG=2\nF=3\n"), ".env", a, &e, &ps);
    expect_printed(&ps, ".env:3: warning: F: set on line 1 too; this one counts\n");
    assert_int_equal(e.n, 2);
    assert_string_equal(env_value(&e, "F").p, "3");
    problems_deinit(&ps);
    arena_destroy(a);
}

static void test_size_and_number_of_names_are_bounded(void **state)
{
    size_t n = ENVFILE_MAX_BYTES + 1, i;
    char *big = malloc(n);

    assert_non_null(big);
    memset(big, '#', n);
    expect_problems(slice_of(big, n), ".env: too big\n");
    expect_problems(slice_of(big, n - 1), "");
    for (i = 0; i < ENVFILE_MAX_ENTRIES + 1; i++)
        snprintf(big + 9 * i, 10, "N%06zu=\n", i);
    expect_problems(slice_of(big, 9 * (size_t)ENVFILE_MAX_ENTRIES), "");
    expect_problems(slice_of(big, 9 * (size_t)(ENVFILE_MAX_ENTRIES + 1)),
                    ".env:1001: more than 1000 names\n");
    free(big);
}

static void test_a_file_that_is_not_there_is_a_problem_only_if_it_must_be(void **state)
{
    struct arena *a = arena_create(1u << 20);
    struct problems ps = {0};
    struct envfile e;

    envfile_load("/nonexistent/env", false, a, &e, &ps);
    expect_printed(&ps, "");
    assert_int_equal(e.n, 0);
    assert_null(e.file);
    envfile_load("/nonexistent/env", true, a, &e, &ps);
    expect_printed(&ps, "/nonexistent/env: cannot be read: No such file or directory\n");
    problems_deinit(&ps);
    arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_env_file_values_mean_what_they_mean_to_sh),
        cmocka_unit_test(test_bad_lines_are_listed_and_never_shown),
        cmocka_unit_test(test_of_a_name_that_comes_twice_the_last_line_counts),
        cmocka_unit_test(test_size_and_number_of_names_are_bounded),
        cmocka_unit_test(test_a_file_that_is_not_there_is_a_problem_only_if_it_must_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
