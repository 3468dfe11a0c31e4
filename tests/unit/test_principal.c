/* test_principal.c - what a principal may use, and how long it lives. */
#include "storage/apikeys.h"
#include "storage/keytext.h"
#include "storage/principal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

static bool allows(const char *models, const char *team_models, const char *asked, const char *id)
{
    const struct principal none = {.kind = PRINCIPAL_KEY};
    const struct principal *p = principal_new(&none, slice_cstr(models), slice_cstr(team_models));
    bool yes;

    assert_non_null(p);
    yes = principal_allows_model(p, slice_cstr(asked), slice_cstr(id));
    assert_null(principal_unref(p));
    return yes;
}

static void test_without_a_list_every_model_is_allowed(void **state)
{
    assert_true(allows("", "", "x", "openai/gpt-4o"));
    assert_true(allows(NULL, NULL, "x", "openai/gpt-4o"));
}

static void test_an_exact_pattern_is_the_model_or_the_alias_that_was_asked_for(void **state)
{
    assert_true(allows("openai/gpt-4o", "", "openai/gpt-4o", "openai/gpt-4o"));
    assert_true(allows("openai/gpt-4o", "", "smart", "openai/gpt-4o"));
    assert_true(allows("smart", "", "smart", "openai/gpt-4o"));
    assert_false(allows("smart", "", "openai/gpt-4o", "openai/gpt-4o"));
    assert_false(allows("openai/gpt-4o", "", "openai/gpt-4o-mini", "openai/gpt-4o-mini"));
    assert_false(allows("openai/gpt-4o", "", "x", "openai/gpt-4"));
    assert_false(allows("OpenAI/gpt-4o", "", "x", "openai/gpt-4o"));
}

static void test_a_star_at_the_end_is_a_prefix(void **state)
{
    assert_true(allows("openai/*", "", "x", "openai/gpt-4o"));
    assert_true(allows("openai/gpt-4*", "", "x", "openai/gpt-4"));
    assert_true(allows("*", "", "x", "any/thing"));
    assert_true(allows("fast*", "", "fast-2", "groq/llama"));
    assert_false(allows("openai/*", "", "x", "openai-2/gpt-4o"));
    assert_false(allows("openai/*", "", "openai/mine", "groq/llama")); /* an alias in disguise */
    assert_false(allows("open*ai/x", "", "x", "openai/x")); /* nowhere else is a star special */
}

static void test_one_of_several_lines_is_enough_and_empty_ones_are_nothing(void **state)
{
    assert_true(allows("a/b\nopenai/*\nc/d", "", "x", "openai/gpt-4o"));
    assert_true(allows("a/b\nc/d", "", "x", "c/d"));
    assert_false(allows("a/b\n\nc/d", "", "", ""));
    assert_false(allows("a/b\n", "", "x", "c/d"));
    assert_false(allows("\n", "", "x", "c/d"));
}

static void test_key_and_team_must_both_allow(void **state)
{
    assert_true(allows("openai/gpt-4o", "openai/*", "x", "openai/gpt-4o"));
    assert_false(allows("*", "openai/*", "x", "groq/llama"));
    assert_false(allows("openai/*", "groq/*", "x", "openai/gpt-4o"));
    assert_true(allows("", "groq/*", "x", "groq/llama"));
    assert_false(allows("", "groq/*", "x", "openai/gpt-4o"));
}

static void test_scopes_are_any_of_those_asked_for(void **state)
{
    struct principal p = {.kind = PRINCIPAL_KEY};

    assert_true(principal_has_scope(&p, SCOPE_ADMIN));
    p.scopes = principal_scope_bit(SLICE("chat")) | principal_scope_bit(SLICE("read"));
    assert_true(principal_has_scope(&p, SCOPE_CHAT | SCOPE_EMBEDDINGS));
    assert_false(principal_has_scope(&p, SCOPE_EMBEDDINGS));
    assert_int_equal(principal_scope_bit(SLICE("Chat")), SCOPE_UNHEARD);
    assert_int_equal(principal_scope_bit(SLICE("")), SCOPE_UNHEARD);
}

static void test_the_master_is_never_freed_and_may_do_all(void **state)
{
    const struct principal *m = principal_master();

    for (unsigned i = 0; i < 10; i++)
        principal_unref(m);
    assert_ptr_equal(principal_ref(m), m);
    assert_true(m->admin && principal_has_scope(m, SCOPE_ADMIN));
    assert_true(principal_allows_model(m, SLICE("x"), SLICE("y/z")));
    assert_string_equal(m->subject, "master");
    assert_null(principal_unref(NULL));
    assert_null(principal_ref(NULL));
}

static void test_it_lives_as_long_as_somebody_holds_it(void **state)
{
    const struct principal none = {.kind = PRINCIPAL_USER};
    const struct principal *p = principal_new(&none, SLICE("a/b"), SLICE_NONE);

    principal_ref(p);
    principal_unref(p);
    assert_true(slice_is(p->models[0], "a/b")); /* its text is its own */
    principal_unref(p);
}

static void test_check_035_what_the_program_makes_is_a_key_and_hashed_the_same_way(void **state)
{
    struct apikey_secret made;
    unsigned char sha[KEYTEXT_SHA_BYTES];
    char hex[3];

    assert_int_equal(apikey_make(&made), GW_OK);
    assert_true(keytext_is_key(slice_cstr(made.key)));
    assert_true(keytext_sha256(slice_cstr(made.key), sha));
    for (unsigned i = 0; i < sizeof(sha); i++) {
        snprintf(hex, sizeof(hex), "%02x", sha[i]);
        assert_memory_equal(made.sha256_hex + 2 * i, hex, 2);
    }
    assert_true(keytext_sha256(SLICE("abc"), sha)); /* FIPS 180-2, B.1 */
    assert_memory_equal(sha, "\xba\x78\x16\xbf\x8f\x01\xcf\xea", 8);
    keytext_deinit();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_list_every_model_is_allowed),
        cmocka_unit_test(test_an_exact_pattern_is_the_model_or_the_alias_that_was_asked_for),
        cmocka_unit_test(test_a_star_at_the_end_is_a_prefix),
        cmocka_unit_test(test_one_of_several_lines_is_enough_and_empty_ones_are_nothing),
        cmocka_unit_test(test_key_and_team_must_both_allow),
        cmocka_unit_test(test_scopes_are_any_of_those_asked_for),
        cmocka_unit_test(test_the_master_is_never_freed_and_may_do_all),
        cmocka_unit_test(test_it_lives_as_long_as_somebody_holds_it),
        cmocka_unit_test(test_check_035_what_the_program_makes_is_a_key_and_hashed_the_same_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
