/* test_redisurl.c - every form of REDIS_URL, and every wrong one told apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/redisurl.h"

static void parses(const char *text, const char *host, unsigned port, int db, const char *user,
                   const char *password)
{
    struct redisurl u;
    const char *why = "";

    assert_int_equal(redisurl_parse(slice_cstr(text), &u, &why), GW_OK);
    assert_string_equal(u.host, host);
    assert_int_equal(u.port, port);
    assert_int_equal(u.db, db);
    assert_string_equal(u.user, user);
    assert_string_equal(u.password, password);
}

static void test_good_urls(void **state)
{
    parses("redis://h", "h", 6379, 0, "", "");
    parses("redis://h/", "h", 6379, 0, "", "");
    parses("redis://127.0.0.1:7000/3", "127.0.0.1", 7000, 3, "", "");
    parses("redis://:pw@h", "h", 6379, 0, "", "pw");
    parses("redis://joe:a%3Ab%40c@h:1", "h", 1, 0, "joe", "a:b@c");
    parses("redis://joe:a@b@h:1", "h", 1, 0, "joe", "a@b");
    parses("redis://[::1]:6380/15", "::1", 6380, 15, "", "");
    parses("redis://[::1]", "::1", 6379, 0, "", "");
    parses("unix:///run/redis.sock", "/run/redis.sock", 0, 0, "", "");
    parses("unix://:pw@/run/r?db=2", "/run/r", 0, 2, "", "pw");
}

static void test_bad_urls_have_a_reason_without_the_secret(void **state)
{
    static const char *const texts[] = {
        "",
        "h:6379",
        "http://h",
        "rediss://:sesame@h",
        "redis://",
        "redis://:sesame@",
        "redis://sesame@h",
        "redis://u:@h",
        "redis://u:%00sesame@h",
        "redis://u:sesame%4@h",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:+1",
        "redis://h:x",
        "redis://::1",
        "redis://[::1",
        "redis://[::1]x",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/65536",
        "redis://h/0?db=1",
        "unix://run/r",
        "unix:///r?x=1",
        "unix:///r?db=x",
        ("unix:///123456789012345678901234567890123456789012345678901234567890123456789012345678901"
         "2345678901234567890123456789"),
    };

    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct redisurl u;
        const char *why = "";

        assert_int_equal(redisurl_parse(slice_cstr(texts[i]), &u, &why), GW_EBADREQ);
        assert_true(why[0] != '\0');
        assert_null(strstr(why, "sesame"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_urls),
        cmocka_unit_test(test_bad_urls_have_a_reason_without_the_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
