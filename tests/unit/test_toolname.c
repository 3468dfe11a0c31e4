/* Tool names made safe and restored; media types. */
#include "tests/unit/dialect_test.h"

#include "providers/dialect/media.h"
#include "providers/dialect/toolname.h"

static struct slice safe(const char *name, enum toolname_rule rule)
{
    return toolname_safe(arena, slice_cstr(name), rule);
}

static void test_safe_names_stay_as_they_are(void **state)
{
    char longest[65] = "";

    memset(longest, 'a', 64);
    assert_true(slice_is(safe("get_weather-2", TOOLNAME_ANY_FIRST), "get_weather-2"));
    assert_true(slice_is(safe("2nd", TOOLNAME_ANY_FIRST), "2nd"));
    assert_true(slice_is(safe(longest, TOOLNAME_LETTER_FIRST), longest));
}

static void test_other_names_become_a_prefix_and_a_hash(void **state)
{
    char longer[101] = "", want[65] = "";
    struct slice got;

    assert_true(slice_is(safe("abc!", TOOLNAME_ANY_FIRST), "abc__53e0eff3"));
    assert_true(slice_is(safe("", TOOLNAME_ANY_FIRST), "_e3b0c442"));
    memset(longer, 'b', 100);
    memset(want, 'b', 55);
    got = safe(longer, TOOLNAME_ANY_FIRST);
    assert_int_equal(got.n, 64);
    assert_true(slice_starts(got, want));
    assert_true(got.p[55] == '_');
}

static void test_names_alike_but_for_odd_characters_stay_apart(void **state)
{
    assert_false(slice_eq(safe("a.b", TOOLNAME_ANY_FIRST), safe("a/b", TOOLNAME_ANY_FIRST)));
}

static void test_a_map_restores_what_the_client_said(void **state)
{
    struct convo *c = convo_new(arena);
    const struct toolname_map *map;

    add_tool(c, "plain", "");
    add_tool(c, "odd.one", "");
    add_tool(c, "odd/one", "");
    map = toolname_map_new(arena, c, TOOLNAME_ANY_FIRST);
    assert_true(slice_is(toolname_restore(map, SLICE("plain")), "plain"));
    assert_true(slice_is(toolname_restore(map, safe("odd.one", TOOLNAME_ANY_FIRST)), "odd.one"));
    assert_true(slice_is(toolname_restore(map, safe("odd/one", TOOLNAME_ANY_FIRST)), "odd/one"));
    assert_true(slice_is(toolname_restore(map, SLICE("made_up")), "made_up"));
    map = toolname_map_new(arena, NULL, TOOLNAME_ANY_FIRST);
    assert_true(slice_is(toolname_restore(map, SLICE("x")), "x"));
}

static void test_media_types_are_guessed_by_extension(void **state)
{
    struct slice none = SLICE("none");

    assert_true(slice_is(media_guess(SLICE("https://x.y/a.PNG?b=c.pdf#d.gif"), none), "image/png"));
    assert_true(slice_is(media_guess(SLICE("report.pdf"), none), "application/pdf"));
    assert_true(slice_is(media_guess(SLICE("https://x.pdf/a"), none), "none"));
    assert_true(slice_is(media_guess(SLICE("a."), none), "none"));
    assert_true(slice_is(media_guess(SLICE_NONE, none), "none"));
}

static void test_base64_text_must_be_text(void **state)
{
    assert_true(slice_is(media_text(arena, SLICE("aMOpbGxv")), "h\xc3\xa9llo"));
    assert_true(slice_is(media_text(arena, SLICE("aGk=")), "hi"));
    assert_null(media_text(arena, SLICE("/w==")).p);
    assert_null(media_text(arena, SLICE("a*bc")).p);
    assert_null(media_text(arena, SLICE("abc")).p);
    assert_null(media_text(arena, SLICE_NONE).p);
}

/* --- out of memory ---------------------------------------------------------------------------- */

static enum gw_err ignore(const struct convo_event *ev, void *arg)
{
    return GW_OK;
}

static void decode_with_little(const struct dialect *d, const char *file)
{
    struct slice body = golden(file);
    bool failed = false, done = false;

    for (size_t max = 64; max < 65536 && !done; max += 64) {
        struct arena *little = arena_create(max);
        enum gw_err err = d->decode_answer(little, NULL, NULL, body, ignore, NULL);

        arena_destroy(little);
        assert_true(err == GW_OK || err == GW_ENOMEM);
        failed |= err == GW_ENOMEM;
        done = err == GW_OK;
    }
    assert_true(failed && done);
}

static void test_an_answer_read_with_too_little_memory_says_so(void **state)
{
    decode_with_little(&dialect_anthropic, "anthropic/search.json");
    decode_with_little(&dialect_google, "google/candidates.json");
}

static void encode_with_little(const struct dialect *d, struct convo *c)
{
    static const struct registry_provider provider = {.name = "p", .api_key = {"k", 1}};
    static const struct registry_model m = {.name = {"m", 1}, .provider = &provider};
    bool failed = false, done = false;

    for (size_t max = 16; max < 65536 && !done; max += 16) {
        struct encoded e;

        c->arena = arena_create(max);
        e = encode(d, c, &m);
        arena_destroy(c->arena);
        assert_true(e.err == GW_OK || e.err == GW_ENOMEM);
        failed |= e.err == GW_ENOMEM;
        done = e.err == GW_OK;
    }
    assert_true(failed && done);
}

static void test_a_request_written_with_too_little_memory_says_so(void **state)
{
    struct convo *c = convo_new(arena);

    add_text(c, CONVO_USER, "Hi");
    add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "a:1", "odd.one", "{\"a\":1}");
    add_result(c, convo_add_turn(c, CONVO_USER), "a:1", "{}");
    add_tool(c, "odd.one", "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\"}}}");
    encode_with_little(&dialect_anthropic, c);
    encode_with_little(&dialect_google, c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_safe_names_stay_as_they_are),
        T(test_other_names_become_a_prefix_and_a_hash),
        T(test_names_alike_but_for_odd_characters_stay_apart),
        T(test_a_map_restores_what_the_client_said),
        T(test_media_types_are_guessed_by_extension),
        T(test_base64_text_must_be_text),
        T(test_an_answer_read_with_too_little_memory_says_so),
        T(test_a_request_written_with_too_little_memory_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
