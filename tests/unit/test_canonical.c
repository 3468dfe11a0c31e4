/* test_canonical.c - one hash for all spellings of a value, and never one for two values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/canonical.h"

#include <stdio.h>
#include <string.h>

static void hash_of(const char *text, const char *const *but, unsigned char sha[32])
{
    struct arena *a = arena_create(1 << 20);
    struct canonical c;
    struct json root;

    assert_non_null(a);
    assert_int_equal(json_parse(a, slice_cstr(text), NULL, &root, NULL), GW_OK);
    canonical_init(&c, 1 << 20);
    canonical_add_json(&c, root, but);
    assert_int_equal(canonical_hash(&c, sha), GW_OK);
    canonical_deinit(&c);
    arena_destroy(a);
}

static bool same(const char *x, const char *y)
{
    unsigned char a[32], b[32];

    hash_of(x, NULL, a);
    hash_of(y, NULL, b);
    return memcmp(a, b, 32) == 0;
}

static void test_spellings_of_one_value_meet(void **state)
{
    assert_true(same("{\"a\":1,\"b\":[true,null]}", " { \"b\" : [ true , null ] , \"a\" : 1 } "));
    assert_true(same("\"\\u0041\\n\"", "\"A\\u000a\""));
    assert_true(same("{\"x\":{\"c\":1,\"b\":2}}", "{\"x\":{\"b\":2,\"c\":1}}"));
    assert_true(same("{\"\\u0061\":1}", "{\"a\":1}"));
}

static void test_different_values_never_meet(void **state)
{
    static const char *const all[] = {"1",
                                      "1.0",
                                      "\"1\"",
                                      "[1]",
                                      "[[1]]",
                                      "[]",
                                      "{}",
                                      "[{}]",
                                      "null",
                                      "\"null\"",
                                      "true",
                                      "false",
                                      "\"\"",
                                      "[\"\"]",
                                      "[\"\",\"\"]",
                                      "[\"ab\"]",
                                      "[\"a\",\"b\"]",
                                      "{\"a\":\"b\"}",
                                      "{\"a\":[\"b\"]}",
                                      "{\"ab\":\"\"}",
                                      "{\"a\":1,\"b\":2}",
                                      "{\"a\":2,\"b\":1}",
                                      "{\"a\":{\"b\":2}}",
                                      "[1,[2]]",
                                      "[[1],2]"};
    size_t n = sizeof(all) / sizeof(all[0]);

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (same(all[i], all[j]) != (i == j))
                fail_msg("%s and %s", all[i], all[j]);
}

static void test_members_can_be_left_out_at_the_top_alone(void **state)
{
    static const char *const but[] = {"user", NULL};
    unsigned char a[32], b[32];

    hash_of("{\"user\":\"x\",\"m\":1}", but, a);
    hash_of("{\"m\":1}", but, b);
    assert_memory_equal(a, b, 32);
    hash_of("{\"m\":{\"user\":\"x\"}}", but, a);
    hash_of("{\"m\":{}}", but, b);
    assert_memory_not_equal(a, b, 32);
}

static void test_many_members_sort_as_well(void **state)
{
    char up[8192] = "{", down[8192] = "{";
    size_t u = 1, d = 1;

    for (unsigned i = 0; i < 200; i++) {
        u += (size_t)snprintf(up + u, sizeof(up) - u, "%s\"k%u\":%u", i ? "," : "", i, i);
        d += (size_t)snprintf(down + d, sizeof(down) - d, "%s\"k%u\":%u", i ? "," : "", 199 - i,
                              199 - i);
    }
    snprintf(up + u, sizeof(up) - u, "}");
    snprintf(down + d, sizeof(down) - d, "}");
    assert_true(same(up, down));
}

static void test_too_much_is_told(void **state)
{
    unsigned char sha[32];
    struct canonical c;

    canonical_init(&c, 16);
    canonical_add(&c, SLICE("0123456789abcdef"));
    assert_int_equal(canonical_hash(&c, sha), GW_ETOOBIG);
    canonical_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings_of_one_value_meet),
        cmocka_unit_test(test_different_values_never_meet),
        cmocka_unit_test(test_members_can_be_left_out_at_the_top_alone),
        cmocka_unit_test(test_many_members_sort_as_well),
        cmocka_unit_test(test_too_much_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
