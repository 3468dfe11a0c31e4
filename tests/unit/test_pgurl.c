/* test_pgurl.c - what of a DATABASE_URL is judged before libpq sees it. */
#include "gateway/core/pgurl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct pgurl good(const char *text)
{
    struct pgurl url;
    const char *why = NULL;

    if (pgurl_parse(slice_cstr(text), &url, &why))
        fail_msg("%s: %s", text, why);
    return url;
}

static void bad(const char *text, const char *part)
{
    struct pgurl url;
    const char *why = "";

    assert_int_equal(pgurl_parse(slice_cstr(text), &url, &why), GW_EBADREQ);
    if (!strstr(why, part))
        fail_msg("%s: \"%s\" does not say \"%s\"", text, why, part);
    assert_null(strstr(why, "pa55"));
}

static void test_urls_give_user_and_password(void **state)
{
    struct pgurl u = good("postgresql://al%20ice:p%40ss%3A@db.example:5432/d?sslmode=require");

    assert_string_equal(u.user, "al ice");
    assert_string_equal(u.password, "p@ss:");
    assert_false(u.local);
    assert_false(u.other_proof);
    u = good("postgres://h1:1,h2:65535,[::1]:3/d?user=bob&password=x");
    assert_string_equal(u.user, "bob");
    assert_string_equal(u.password, "x");
    assert_string_equal(good("postgresql://u:a:b@h").password, "a:b");
    assert_string_equal(good("postgresql://u@h/d").password, "");
}

static void test_sockets_are_local(void **state)
{
    assert_true(good("postgresql:///d").local);
    assert_true(good("postgresql:///d?host=/run/postgresql").local);
    assert_true(good("postgresql://%2Frun%2Fpostgresql/d").local);
    assert_true(good("host=/run/postgresql dbname=d").local);
    assert_true(good("host=@abstract").local);
    assert_true(good("dbname=d").local);
    assert_false(good("host=/run,10.0.0.1 dbname=d").local);
    assert_false(good("hostaddr=10.0.0.1").local);
    assert_false(good("postgresql://[::1]/d").local);
}

static void test_keywords_are_read_as_libpq_reads_them(void **state)
{
    struct pgurl u = good("  host = h  user='a b' password='it\\'s \\\\ x' port=5432\tdbname=d ");

    assert_string_equal(u.user, "a b");
    assert_string_equal(u.password, "it's \\ x");
    assert_string_equal(good("host=h password=a\\ b").password, "a b");
    assert_string_equal(good("host=h password='' user=x").user, "x");
    assert_true(good("host=h passfile=/x").other_proof);
    assert_true(good("postgresql://h/d?sslcert=/x").other_proof);
}

static void test_wrong_shapes_are_told(void **state)
{
    bad("mysql://u:pa55@h/d", "neither");
    bad("pa55", "neither");
    bad("host", "neither");
    bad("host=h pa55", "neither");
    bad("postgresql://u:pa55 x@h/d", "space");
    bad("postgresql://u:pa55\n@h/d", "control");
    bad("postgresql://u:pa55%@h/d", "hex");
    bad("postgresql://u:pa55%zz@h/d", "hex");
    bad("postgresql://u:pa55%00@h/d", "NUL");
    bad("postgresql://u:p@pa55@h/d", "%40");
    bad("postgresql://u:1/pa55@h/d", "%2F");
    bad("postgresql://u:pa55@h:x/d", "port");
    bad("postgresql://u:pa55@h:0/d", "port");
    bad("postgresql://u:pa55@h:65536/d", "port");
    bad("postgresql://u:pa55@h:1:2/d", "port");
    bad("postgresql://u:pa55@[::1/d", "]");
    bad("postgresql://u:pa55@[::1]x/d", "]");
    bad("postgresql://h/d?pa55", "without =");
    bad("postgresql://h/d?=pa55", "keyword");
    bad("host=h password='pa55", "quote");
    bad("host=h port=pa55", "port");
    bad("host=a@b", "%40");
    bad("=pa55", "keyword");
}

static void test_long_parts_are_refused(void **state)
{
    char text[3000];

    memset(text, 'p', sizeof(text));
    memcpy(text, "postgresql://u:", 15);
    memcpy(text + sizeof(text) - 4, "@h/", 4);
    bad(text, "too long");
    memset(text, 'p', sizeof(text) - 1);
    memcpy(text, "host=h password=", 16);
    text[sizeof(text) - 1] = '\0';
    bad(text, "too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls_give_user_and_password),
        cmocka_unit_test(test_sockets_are_local),
        cmocka_unit_test(test_keywords_are_read_as_libpq_reads_them),
        cmocka_unit_test(test_wrong_shapes_are_told),
        cmocka_unit_test(test_long_parts_are_refused),
    };

    return cmocka_run_group_tests_name("pgurl", tests, NULL, NULL);
}
