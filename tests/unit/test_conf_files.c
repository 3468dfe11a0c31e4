/*
 * test_conf_files.c - the shipped YAML files of conf/ say what the key table says.
 */
#include "gateway/core/conf_private.h"

#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Where the shipped files are: POSTERN_SRC, or the directory the test is started in. */
static char source_root[PATH_MAX];

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

static void strip(char *s)
{
    char *out = s;

    for (; *s; s++) {
        bool blank = *s == ' ' || *s == '\n' || *s == '#';

        if (!blank)
            *out++ = *s;
        else if (out[-1] != ' ')
            *out++ = ' ';
    }
    *out = '\0';
}

/* A whole file with comment marks and line ends folded into single blanks, after one blank. */
static char *folded(const char *path)
{
    char *text = calloc(1, 1u << 18);
    FILE *f = fopen(path, "rb");
    size_t n;

    assert_non_null(text);
    assert_non_null(f);
    text[0] = ' ';
    n = fread(text + 1, 1, (1u << 18) - 2, f);
    assert_true(n > 0 && n < (1u << 18) - 2);
    fclose(f);
    strip(text + 1);
    return text;
}

/* The help without its words, its first letter left off since a sentence begins with it. */
static const char *help_tail(const struct conf_row *row)
{
    const char *help = row->help;

    if (*help == '{')
        help = strchr(help, '}') + 2;
    return help + 1;
}

static void collect_value(const char *field, const char *key, const char *value, const char *origin,
                          void *arg)
{
    fprintf(arg, "%s = %s\n", field, value);
}

static char *all_values(const struct conf *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    conf_each(c, collect_value, f);
    fclose(f);
    return text;
}

static void check_comment(const char *dir, const struct conf_row *row)
{
    char path[PATH_MAX + 64], range[64] = "";
    char *text;

    snprintf(path, sizeof(path), "%s/%s", dir, row->file);
    if (row->type == CONF_T_INT)
        snprintf(range, sizeof(range), "[%" PRId64 " to %" PRId64, row->min, row->max);
    text = folded(path);
    if (!strstr(text, help_tail(row)) || !strstr(text, row->env) || !strstr(text, range))
        fail_msg("%s: the comment of %s lacks one of: %s, %s, %s", row->file, row->key, row->help,
                 row->env, range);
    free(text);
}

/* Loads and compares all that would be printed. */
static struct conf *load(const char *dir, const char *expected)
{
    struct problems ps = {0};
    struct conf *c = conf_load(&(struct conf_source){.dir = dir}, &ps);

    assert_non_null(c);
    expect_printed(&ps, expected);
    problems_deinit(&ps);
    return c;
}

static void test_shipped_files_hold_every_key_with_its_default_and_its_help(void **state)
{
    char dir[PATH_MAX + 16];
    struct conf *defaults, *shipped;
    char *default_text, *shipped_text;
    unsigned i;

    snprintf(dir, sizeof(dir), "%s/conf", source_root);
    defaults = load("/nonexistent", "the configuration directory /nonexistent does not exist\n");
    shipped = load(dir, "");
    default_text = all_values(defaults);
    shipped_text = all_values(shipped);
    assert_string_equal(shipped_text, default_text);
    for (i = 0; i < conf_n_rows; i++) {
        const struct conf_row *row = &conf_rows[i];

        if (!*row->file)
            continue;
        /* It was read from the file, so the key is there. */
        if (strncmp(conf_origin(shipped, row->field), row->file, strlen(row->file)) != 0)
            fail_msg("%s has no key %s", row->file, row->key);
        check_comment(dir, row);
    }
    free(default_text);
    free(shipped_text);
    conf_unref(defaults);
    conf_unref(shipped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_files_hold_every_key_with_its_default_and_its_help),
    };
    const char *root = getenv("POSTERN_SRC");

    if (!realpath(root ? root : ".", source_root) || chdir("/proc") != 0) /* no .env there */
        return 1;
    clearenv();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
