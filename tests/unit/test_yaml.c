/*
 * test_yaml.c - the strict tree, its readers, and the list of problems.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* All problems as they would be printed; free it. */
static char *printed(const struct problems *ps)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    problems_print(ps, f);
    fclose(f);
    return text;
}

static struct yaml *parse(const char *text, struct problems *ps)
{
    return yaml_parse(slice_cstr(text), "t.yaml", ps);
}

/* Parses `text` and compares everything that would be printed, also for keys nobody asked for. */
static void expect_problems(const char *text, const char *expected)
{
    struct problems ps = {0};
    struct yaml *y = parse(text, &ps);
    char *got = printed(&ps);

    assert_string_equal(got, expected);
    free(got);
    yaml_destroy(y);
    problems_deinit(&ps);
}

static struct yaml *parse_ok(const char *text)
{
    struct problems ps = {0};
    struct yaml *y = parse(text, &ps);
    char *got = printed(&ps);

    assert_string_equal(got, "");
    assert_non_null(y);
    free(got);
    problems_deinit(&ps);
    return y;
}

static void test_values_are_found_by_dotted_path(void **state)
{
    struct yaml *y = parse_ok("a:\n  b: {c: deep, d: 2}\nl: [x, 'y', {m: n}]\n");
    const struct yaml *l = yaml_get(y, "l");
    struct slice s = SLICE_NONE;

    assert_true(yaml_read_str(yaml_path(y, "a.b.c"), &s, NULL));
    assert_true(slice_is(s, "deep"));
    assert_int_equal(s.p[s.n], 0);
    assert_null(yaml_path(y, "a.x.c"));
    assert_null(yaml_path(y, "a.b.c.d"));
    assert_null(yaml_path(NULL, "a"));
    assert_int_equal(l->kind, YAML_SEQ);
    assert_true(slice_is(l->first->text, "x"));
    assert_true(l->first->next->quoted);
    assert_true(slice_is(yaml_path(l->first->next->next, "m")->text, "n"));
    assert_null(l->first->next->next->next);
    yaml_destroy(y);
}

static void test_lines_are_those_of_the_keys(void **state)
{
    struct yaml *y = parse_ok("# head\na: 1\n\nb:\n  c:\n    - 2\n    - 3\n");

    assert_int_equal(yaml_get(y, "a")->line, 2);
    assert_int_equal(yaml_get(y, "b")->line, 4);
    assert_int_equal(yaml_path(y, "b.c")->line, 5);
    assert_int_equal(yaml_path(y, "b.c")->first->next->line, 7);
    assert_string_equal(yaml_get(y, "a")->file, "t.yaml");
    yaml_destroy(y);
}

static void test_an_empty_file_is_a_problem(void **state)
{
    expect_problems("", "t.yaml: is empty\n");
    expect_problems("# only a comment\n", "t.yaml: is empty\n");
    expect_problems("---\n...\n", "t.yaml: is empty\n");
    expect_problems("~\n", "t.yaml: is empty\n");
}

static void test_an_empty_map_is_no_problem(void **state)
{
    yaml_destroy(parse_ok("{}\n"));
}

static void test_only_a_map_may_be_at_the_top(void **state)
{
    expect_problems("\n- a\n", "t.yaml:2: must be a map of keys and values at its top\n");
    expect_problems("word\n", "t.yaml:1: must be a map of keys and values at its top\n");
}

static void test_every_line_indented_with_a_tab_is_listed(void **state)
{
    expect_problems("a:\n\tb: 1\nc:\n  \td: 1\n", "t.yaml:2: tab in the indentation; use spaces\n"
                                                  "t.yaml:4: tab in the indentation; use spaces\n");
}

static void test_a_duplicate_key_is_listed_with_both_lines(void **state)
{
    expect_problems("a: 1\nb: 2\na: 3\nm:\n  x: 1\n  y: 2\n  x: 3\n",
                    "t.yaml:3: duplicate key \"a\", first on line 1\n"
                    "t.yaml:7: duplicate key \"x\", first on line 5\n");
}

static void test_anchors_aliases_and_tags_are_refused_and_reading_goes_on(void **state)
{
    expect_problems("a: &x 1\nb: *x\nc: !!str 5\nc: 2\n",
                    "t.yaml:1: anchors (&x) are not supported\n"
                    "t.yaml:2: aliases (*x) are not supported; write the value out\n"
                    "t.yaml:3: tags (tag:yaml.org,2002:str) are not supported\n"
                    "t.yaml:4: duplicate key \"c\", first on line 3\n");
}

static void test_an_alias_bomb_is_a_list_of_problems_and_no_more(void **state)
{
    struct problems ps = {0};
    struct yaml *y = parse("a: &a [x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: [*c,*c,*c]\n", &ps);

    assert_int_equal(ps.errors, 6); /* three anchors; aliases of one line are one problem */
    assert_non_null(y);
    yaml_destroy(y);
    problems_deinit(&ps);
}

static void test_a_second_document_is_refused(void **state)
{
    expect_problems("a: 1\n---\nb: 2\n", "t.yaml:2: more than one document\n");
}

static void test_nul_and_nameless_keys_are_refused(void **state)
{
    expect_problems("a: \"x\\0y\"\n", "t.yaml:1: a NUL character in a value\n");
    expect_problems("\"x\\0y\": 1\n", "t.yaml:1: a NUL character in a key\n");
    expect_problems("'': 1\n", "t.yaml:1: a key without a name\n");
    expect_problems("[a, b]: 1\n", "t.yaml:1: only plain text can be a key\n");
}

static void test_syntax_errors_and_bad_utf8_name_their_line(void **state)
{
    struct problems ps = {0};

    assert_null(parse("a: 1\nb: [1, 2\nc: 3\n", &ps));
    assert_int_equal(ps.n, 1);
    assert_true(ps.items[0].line >= 2);
    problems_deinit(&ps);
    assert_null(parse("a: 1\nb: 2\nc: \xff\n", &ps));
    assert_int_equal(ps.items[0].line, 3);
    problems_deinit(&ps);
}

/* "[[[...]]]" under one key, `depth` levels with the map. */
static char *nested(unsigned depth)
{
    char *s = calloc(1, 3 * (size_t)depth + 8);

    assert_non_null(s);
    strcpy(s, "a: ");
    memset(s + 3, '[', depth - 1);
    memset(s + 2 + depth, ']', depth - 1);
    return s;
}

static void test_sixteen_levels_are_taken_and_seventeen_refused(void **state)
{
    char *fits = nested(YAML_MAX_DEPTH), *deep = nested(YAML_MAX_DEPTH + 1);
    char *endless = calloc(1, 200001);

    yaml_destroy(parse_ok(fits));
    expect_problems(deep, "t.yaml:1: nested more than 16 levels deep\n");
    memset(endless, '[', 200000);
    expect_problems(endless, "t.yaml:1: nested more than 16 levels deep\n");
    free(fits);
    free(deep);
    free(endless);
}

static void test_a_file_with_too_many_values_is_refused(void **state)
{
    size_t n = 2 * (size_t)YAML_MAX_NODES;
    char *text = malloc(n + 8);
    size_t i;

    assert_non_null(text);
    strcpy(text, "a: [");
    for (i = 4; i < n + 4; i += 2)
        memcpy(text + i, "1,", 2);
    strcpy(text + i, "]\n");
    expect_problems(text, "t.yaml:1: more than 100000 values\n");
    free(text);
}

static void test_more_than_a_mebibyte_is_refused(void **state)
{
    char *text = malloc(YAML_MAX_BYTES + 1);
    struct problems ps = {0};

    assert_non_null(text);
    memset(text, '#', YAML_MAX_BYTES + 1);
    assert_null(yaml_parse(slice_of(text, YAML_MAX_BYTES + 1), "t.yaml", &ps));
    assert_string_equal(ps.items[0].text, "too big: more than 1048576 bytes");
    problems_deinit(&ps);
    free(text);
}

static void test_many_duplicate_keys_are_counted_and_the_list_is_bounded(void **state)
{
    char *text = malloc(40000), *got;
    struct problems ps = {0};
    struct yaml *y;
    size_t i;

    assert_non_null(text);
    for (i = 0; i < 10000; i++)
        memcpy(text + 4 * i, "a: \n", 4);
    y = yaml_parse(slice_of(text, 40000), "t.yaml", &ps);
    assert_int_equal(ps.errors, 9999);
    assert_int_equal(ps.n, PROBLEMS_MAX);
    got = printed(&ps);
    assert_non_null(strstr(got, "\nfurther problems are not listed\n"));
    free(got);
    free(text);
    yaml_destroy(y);
    problems_deinit(&ps);
}

/* Reads the value of `a` as a number from -5 to 100. */
static char *int_problem(const char *text, int64_t *ret)
{
    struct problems ps = {0};
    struct yaml *y = parse(text, &ps);
    bool ok = yaml_read_int(yaml_get(y, "a"), -5, 100, ret, &ps);
    char *got = printed(&ps);

    assert_int_equal(ok, ps.errors == 0);
    yaml_destroy(y);
    problems_deinit(&ps);
    return got;
}

static void expect_int_problem(const char *text, const char *expected)
{
    int64_t v = 42;
    char *got = int_problem(text, &v);

    assert_string_equal(got, expected);
    assert_int_equal(v, 42);
    free(got);
}

static void test_numbers_are_plain_decimal_and_in_range(void **state)
{
    int64_t v = 0;

    free(int_problem("a: 100\n", &v));
    assert_int_equal(v, 100);
    free(int_problem("a: -5\n", &v));
    assert_int_equal(v, -5);
    expect_int_problem("a: 101\n", "t.yaml:1: a: 101 is out of range (-5 to 100)\n");
    expect_int_problem("a: -6\n", "t.yaml:1: a: -6 is out of range (-5 to 100)\n");
    expect_int_problem("a: 99999999999999999999\n",
                       "t.yaml:1: a: 99999999999999999999 is out of range (-5 to 100)\n");
    expect_int_problem("a: 1_0\n", "t.yaml:1: a: a whole number expected, not \"1_0\"\n");
    expect_int_problem("a: 0o17\n", "t.yaml:1: a: a whole number expected, not \"0o17\"\n");
    expect_int_problem("a: 010\n", "t.yaml:1: a: a whole number expected, not \"010\"\n");
    expect_int_problem("a: 1:30\n", "t.yaml:1: a: a whole number expected, not \"1:30\"\n");
    expect_int_problem("a: 1.0\n", "t.yaml:1: a: a whole number expected, not \"1.0\"\n");
    expect_int_problem("a: '7'\n", "t.yaml:1: a: a whole number expected, not text in quotes\n");
    expect_int_problem("a: [1]\n", "t.yaml:1: a: a whole number expected, not a list\n");
    expect_int_problem("a:\n", "t.yaml:1: a: a whole number expected, not nothing\n");
}

static void test_the_ends_of_the_64_bit_range_are_read(void **state)
{
    int64_t v = 0;

    assert_int_equal(yaml_text_int(SLICE("9223372036854775807"), &v), GW_OK);
    assert_true(v == INT64_MAX);
    assert_int_equal(yaml_text_int(SLICE("-9223372036854775808"), &v), GW_OK);
    assert_true(v == INT64_MIN);
    assert_int_equal(yaml_text_int(SLICE("9223372036854775808"), &v), GW_ETOOBIG);
    assert_int_equal(yaml_text_int(SLICE("-9223372036854775809"), &v), GW_ETOOBIG);
    assert_int_equal(yaml_text_int(SLICE_NONE, &v), GW_EBADREQ);
    assert_int_equal(yaml_text_int(SLICE("-"), &v), GW_EBADREQ);
    assert_int_equal(yaml_text_int(SLICE(" 1"), &v), GW_EBADREQ);
}

static void test_only_true_and_false_are_booleans(void **state)
{
    static const char *const bad[] = {"yes", "no", "on", "True", "TRUE", "1", "'true'", "~"};
    struct problems ps = {0};
    struct yaml *y = parse_ok("t: true\nf: false\n");
    bool v = false;
    size_t i;

    assert_true(yaml_read_bool(yaml_get(y, "t"), &v, &ps) && v);
    assert_true(yaml_read_bool(yaml_get(y, "f"), &v, &ps) && !v);
    yaml_destroy(y);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[32];

        snprintf(text, sizeof(text), "a: %s\n", bad[i]);
        y = parse_ok(text);
        assert_false(yaml_read_bool(yaml_get(y, "a"), &v, &ps));
        assert_int_equal(ps.errors, i + 1);
        yaml_destroy(y);
    }
    problems_deinit(&ps);
}

static void test_prices_are_exact_decimals(void **state)
{
    static const struct {
        const char *text;
        int64_t nano; /* -1 = refused */
    } rows[] = {{"0.15", 150000000},
                {"0", 0},
                {"2", 2000000000},
                {"0.000000001", 1},
                {"999999999.999999999", 999999999999999999},
                {"0.0000000001", -1},
                {"1000000000", -1},
                {"-1", -1},
                {".5", -1},
                {"1.", -1},
                {"1e3", -1},
                {"", -1},
                {"1.2.3", -1},
                {"0x1", -1},
                {"1 ", -1}};
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t v = -1;
        enum gw_err err = yaml_text_nano(slice_cstr(rows[i].text), &v);

        assert_int_equal(err, rows[i].nano < 0 ? GW_EBADREQ : GW_OK);
        assert_true(v == rows[i].nano);
    }
}

static void test_a_missing_value_leaves_the_result_alone(void **state)
{
    struct yaml *y = parse_ok("a: 1\n");
    int64_t i = 7;
    bool b = true;
    struct slice s = SLICE("old");

    assert_true(yaml_read_int(yaml_get(y, "x"), 0, 1, &i, NULL) && i == 7);
    assert_true(yaml_read_bool(yaml_get(y, "x"), &b, NULL) && b);
    assert_true(yaml_read_str(yaml_get(y, "x"), &s, NULL) && slice_is(s, "old"));
    assert_true(yaml_read_nano(yaml_get(y, "x"), &i, NULL) && i == 7);
    yaml_destroy(y);
}

static void test_keys_nobody_asked_for_are_unknown(void **state)
{
    struct yaml *y =
        parse_ok("a: 1\nm:\n  x: 1\n  typo: 2\n  deep: {n: 1}\nlist:\n  - {k: 1, z: 2}\n"
                 "gone: {q: 1}\n");
    struct problems ps = {0};
    const struct yaml *item;
    char *got;

    yaml_get(y, "a");
    yaml_path(y, "m.x");
    item = yaml_items(yaml_get(y, "list"), YAML_SEQ, true, &ps);
    yaml_get(item, "k");
    yaml_report_unused(y, &ps);
    got = printed(&ps);
    assert_string_equal(got, "t.yaml:4: unknown key \"typo\"\n"
                             "t.yaml:5: unknown key \"deep\"\n"
                             "t.yaml:7: unknown key \"z\"\n"
                             "t.yaml:8: unknown key \"gone\"\n");
    free(got);
    yaml_destroy(y);
    problems_deinit(&ps);
}

static void test_items_of_the_wrong_kind_are_a_problem(void **state)
{
    struct yaml *y = parse_ok("a: 1\n");
    struct problems ps = {0};

    assert_null(yaml_items(yaml_get(y, "a"), YAML_SEQ, true, &ps));
    assert_string_equal(ps.items[0].text, "a: a list expected, not a single value");
    assert_null(yaml_items(yaml_get(y, "b"), YAML_SEQ, true, &ps));
    assert_int_equal(ps.n, 1);
    yaml_destroy(y);
    problems_deinit(&ps);
}

static void test_problems_are_sorted_cleaned_and_listed_once(void **state)
{
    struct problems ps = {0};
    char *got;

    problems_add(&ps, "b.yaml", 2, "second");
    problems_add(&ps, "b.yaml", 1, "first");
    problems_warn(&ps, "a.yaml", 0, "weak");
    problems_add(&ps, NULL, 0, "API_PORT: bad\nforged: line");
    problems_add(&ps, "b.yaml", 1, "first");
    assert_int_equal(ps.errors, 3);
    assert_int_equal(ps.n, 4);
    got = printed(&ps);
    assert_string_equal(got, "API_PORT: bad?forged: line\na.yaml: warning: weak\n"
                             "b.yaml:1: first\nb.yaml:2: second\n");
    free(got);
    problems_deinit(&ps);
    problems_add(NULL, "x", 1, "nobody listens");
}

/* --- files ------------------------------------------------------------------------------------ */

struct place {
    char dir[64], path[96];
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p)
        return -1;
    strcpy(p->dir, "/tmp/test_yaml.XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    snprintf(p->path, sizeof(p->path), "%s/x.yaml", p->dir);
    *state = p;
    return 0;
}

static int drop_place(void **state)
{
    struct place *p = *state;

    unlink(p->path);
    rmdir(p->path);
    rmdir(p->dir);
    free(p);
    return 0;
}

static void put(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_a_file_is_read_and_names_itself_without_its_directory(void **state)
{
    struct place *p = *state;
    struct problems ps = {0};
    struct yaml *y;

    put(p->path, "a: 1\n", 5);
    y = yaml_load(p->path, &ps);
    assert_non_null(y);
    assert_string_equal(yaml_get(y, "a")->file, "x.yaml");
    assert_int_equal(ps.n, 0);
    yaml_destroy(y);
}

static void expect_load_problem(const char *path, const char *expected)
{
    struct problems ps = {0};

    assert_null(yaml_load(path, &ps));
    assert_int_equal(ps.errors, 1);
    assert_memory_equal(ps.items[0].text, expected, strlen(expected));
    assert_string_equal(ps.items[0].file, "x.yaml");
    problems_deinit(&ps);
}

static void test_missing_special_and_huge_files_are_problems(void **state)
{
    struct place *p = *state;
    size_t n = 10u * 1024 * 1024;
    char *big = malloc(n);

    assert_non_null(big);
    expect_load_problem(p->path, "is missing: /tmp/");
    memset(big, 'a', n);
    put(p->path, big, n);
    free(big);
    expect_load_problem(p->path, "too big");
    unlink(p->path);
    assert_int_equal(mkfifo(p->path, 0600), 0);
    expect_load_problem(p->path, "cannot be read: not a regular file");
    unlink(p->path);
    assert_int_equal(mkdir(p->path, 0700), 0);
    expect_load_problem(p->path, "cannot be read: not a regular file");
}

static void test_a_file_of_exactly_the_limit_is_read(void **state)
{
    struct place *p = *state;
    char *text = malloc(YAML_MAX_BYTES + 1);
    struct problems ps = {0};
    struct yaml *y;

    assert_non_null(text);
    memset(text, '#', YAML_MAX_BYTES + 1);
    memcpy(text, "a: 1\n", 5);
    put(p->path, text, YAML_MAX_BYTES);
    y = yaml_load(p->path, &ps);
    assert_non_null(y);
    yaml_destroy(y);
    put(p->path, text, YAML_MAX_BYTES + 1);
    expect_load_problem(p->path, "too big");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_found_by_dotted_path),
        cmocka_unit_test(test_lines_are_those_of_the_keys),
        cmocka_unit_test(test_an_empty_file_is_a_problem),
        cmocka_unit_test(test_an_empty_map_is_no_problem),
        cmocka_unit_test(test_only_a_map_may_be_at_the_top),
        cmocka_unit_test(test_every_line_indented_with_a_tab_is_listed),
        cmocka_unit_test(test_a_duplicate_key_is_listed_with_both_lines),
        cmocka_unit_test(test_anchors_aliases_and_tags_are_refused_and_reading_goes_on),
        cmocka_unit_test(test_an_alias_bomb_is_a_list_of_problems_and_no_more),
        cmocka_unit_test(test_a_second_document_is_refused),
        cmocka_unit_test(test_nul_and_nameless_keys_are_refused),
        cmocka_unit_test(test_syntax_errors_and_bad_utf8_name_their_line),
        cmocka_unit_test(test_sixteen_levels_are_taken_and_seventeen_refused),
        cmocka_unit_test(test_a_file_with_too_many_values_is_refused),
        cmocka_unit_test(test_more_than_a_mebibyte_is_refused),
        cmocka_unit_test(test_many_duplicate_keys_are_counted_and_the_list_is_bounded),
        cmocka_unit_test(test_numbers_are_plain_decimal_and_in_range),
        cmocka_unit_test(test_the_ends_of_the_64_bit_range_are_read),
        cmocka_unit_test(test_only_true_and_false_are_booleans),
        cmocka_unit_test(test_prices_are_exact_decimals),
        cmocka_unit_test(test_a_missing_value_leaves_the_result_alone),
        cmocka_unit_test(test_keys_nobody_asked_for_are_unknown),
        cmocka_unit_test(test_items_of_the_wrong_kind_are_a_problem),
        cmocka_unit_test(test_problems_are_sorted_cleaned_and_listed_once),
        cmocka_unit_test_setup_teardown(test_a_file_is_read_and_names_itself_without_its_directory,
                                        make_place, drop_place),
        cmocka_unit_test_setup_teardown(test_missing_special_and_huge_files_are_problems,
                                        make_place, drop_place),
        cmocka_unit_test_setup_teardown(test_a_file_of_exactly_the_limit_is_read, make_place,
                                        drop_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
