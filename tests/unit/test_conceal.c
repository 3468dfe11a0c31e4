/* test_conceal.c - what is logged of a path in which somebody put a key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/conceal.h"

#define KEY "pk-0123456789-_abcdefghijklmnopqrstuvwxyzABCDEF"

static void check(const char *text, const char *want)
{
    char out[129];

    memset(out, 'x', sizeof(out));
    conceal_keys(slice_cstr(text), out, sizeof(out));
    assert_string_equal(out, want);
}

static void test_keys_and_tokens_are_cut_to_what_they_are_known_by(void **state)
{
    check("/api/v1/auth/api-keys/" KEY, "/api/v1/auth/api-keys/pk-01234567...");
    check("/a/" KEY "/b/" KEY, "/a/pk-01234567.../b/pk-01234567...");
    check(KEY, "pk-01234567...");
    check("/x=" KEY "?", "/x=pk-01234567...?");
    check("/sk-ant-api03-0123456789abcdefghij/", "/sk-ant-api0.../");
    check("/gsk_0123456789abcdefghijklmnop", "/gsk_0123456...");
    check("/AIzaSyA0123456789abcdefghijklmnop", "/AIzaSyA0123...");
    check("/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl", "/eyJhbGciOiJ...");
}

static void test_all_else_stays(void **state)
{
    check("", "");
    check("/v1/models/openai/gpt-4o-mini", "/v1/models/openai/gpt-4o-mini");
    check("/pk-short/sk-also-short/eyJ", "/pk-short/sk-also-short/eyJ");
    check("/api/v1/users/0b9f8c1e-9f6f-4f0e-8a54-5bb8a4f3a111",
          "/api/v1/users/0b9f8c1e-9f6f-4f0e-8a54-5bb8a4f3a111");
}

static void test_it_is_cut_to_the_room_there_is(void **state)
{
    char out[20];

    conceal_keys(SLICE("/0123456789/0123456789/0123456789"), out, sizeof(out));
    assert_string_equal(out, "/0123456789/0123456");
    conceal_keys(SLICE("/0123/" KEY), out, sizeof(out)); /* no room for its first characters */
    assert_string_equal(out, "/0123/");
    conceal_keys(SLICE("/012/" KEY), out, sizeof(out));
    assert_string_equal(out, "/012/pk-01234567...");
    conceal_keys(SLICE(KEY), out, 1);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_and_tokens_are_cut_to_what_they_are_known_by),
        cmocka_unit_test(test_all_else_stays),
        cmocka_unit_test(test_it_is_cut_to_the_room_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
