/* Anthropic bodies that are relayed as they are. */
#include "providers/dialect/anthropic.h"
#include "tests/unit/dialect_test.h"

#define D (&dialect_anthropic)

static const struct registry_provider provider = {.name = "anthropic"};
static const struct registry_model model = {.name = {"up", 2}, .provider = &provider};

static struct json parsed(struct slice text)
{
    struct json root;

    if (json_parse(arena, text, NULL, &root, NULL))
        fail_msg("no JSON: %.*s", SLICE_ARG(text));
    return root;
}

static struct slice passed(const char *body)
{
    struct slice text;
    struct buf out;

    buf_init(&out, TEST_BYTES);
    assert_int_equal(D->pass_body(parsed(slice_cstr(body)), &model, false, &out), GW_OK);
    text = arena_dup(arena, buf_slice(&out));
    buf_deinit(&out);
    parsed(text);
    return text;
}

static void test_only_the_model_changes_in_a_body_that_passes(void **state)
{
    assert_shown(passed("{\"model\":\"anthropic/x\",\"a\":[ 1.0e2,\"\\u0041\" ]}"),
                 SLICE("{\"model\":\"up\",\"a\":[ 1.0e2,\"\\u0041\" ]}"));
    assert_shown(passed("{ \"mod\\u0065l\" : \"x\" , \"b\":{\"model\":\"y\",\"fallbacks\":1}}"),
                 SLICE("{\"mod\\u0065l\" : \"up\",\"b\":{\"model\":\"y\",\"fallbacks\":1}}"));
    assert_shown(passed("{\"fallbacks\":[\"a\"],\"model\":\"x\"}"), SLICE("{\"model\":\"up\"}"));
    assert_shown(passed("{\"a\":1,\"fallbacks\":[],\"b\":2}"), SLICE("{\"a\":1,\"b\":2}"));
    assert_shown(passed("{}"), SLICE("{}"));
}

static void test_the_usage_of_a_relayed_stream_is_gathered(void **state)
{
    struct dialect_pass_info i = {.done = false};

    assert_int_equal(
        D->pass_event(
            SLICE("{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,"
                  "\"cache_read_input_tokens\":7,\"cache_creation_input_tokens\":null,"
                  "\"output_tokens\":1}}}"),
            arena, &i),
        GW_OK);
    assert_true(i.has_usage && !i.has_content && !i.finish && !i.done);
    assert_int_equal(i.usage.input, 12);
    assert_int_equal(
        D->pass_event(SLICE("{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},"
                            "\"usage\":{\"cache_creation_input_tokens\":3,\"output_tokens\":20}}"),
                      arena, &i),
        GW_OK);
    assert_true(i.has_usage && i.finish && !i.done);
    assert_int_equal(i.usage.input, 15);
    assert_int_equal(i.usage.cache_read, 7);
    assert_int_equal(i.usage.cache_write, 3);
    assert_int_equal(i.usage.output, 20);
    assert_true(slice_is(i.usage.raw_first,
                         "{\"input_tokens\":5,\"cache_read_input_tokens\":7,"
                         "\"cache_creation_input_tokens\":null,\"output_tokens\":1}"));
    assert_true(slice_is(i.usage.raw, "{\"cache_creation_input_tokens\":3,\"output_tokens\":20}"));
    assert_int_equal(D->pass_event(SLICE("{\"type\":\"message_stop\"}"), arena, &i), GW_OK);
    assert_true(i.done && !i.has_usage);
    assert_int_equal(i.usage.input, 15);
}

static void test_relayed_events_are_told_apart(void **state)
{
    static const struct {
        const char *data;
        bool content, error, done;
    } rows[] = {
        {"{\"type\":\"ping\"}", false, false, false},
        {"{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\"}}", false, false,
         false},
        {"{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\"}}", true,
         false, false},
        {"{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"message_stop\"}}", true, false,
         false},
        {"{\"type\":\"error\",\"error\":{\"message\":\"full\"}}", false, true, false},
        {"{\"type\":\"something_new\",\"error\":1}", false, false, false},
        {"{}", false, false, false},
    };
    struct dialect_pass_info i = {.done = false};

    for (size_t n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
        assert_int_equal(D->pass_event(slice_cstr(rows[n].data), arena, &i), GW_OK);
        assert_int_equal(i.has_content, rows[n].content);
        assert_int_equal(i.error, rows[n].error);
        assert_int_equal(i.done, rows[n].done);
        if (i.error)
            assert_true(slice_is(i.text, "full"));
    }
    assert_int_equal(D->pass_event(SLICE("[DONE]"), arena, &i), GW_EUPBAD);
    assert_int_equal(D->pass_event(SLICE("[]"), arena, &i), GW_EUPBAD);
}

static void test_a_relayed_answer_must_look_like_one(void **state)
{
    struct dialect_pass_info u;

    assert_int_equal(D->pass_answer(arena, golden("anthropic/text.json"), &u), GW_OK);
    assert_true(u.usage.known && u.usage.input > 0 && u.usage.output > 0);
    assert_true(u.finish && !u.odd_end);
    assert_int_equal(D->pass_answer(arena, SLICE("{\"type\":\"error\"}"), &u), GW_EUPBAD);
    assert_int_equal(D->pass_answer(arena, SLICE("[]"), &u), GW_EUPBAD);
    assert_int_equal(D->pass_answer(arena, SLICE("<html>"), &u), GW_EUPBAD);
}

static void test_an_end_that_is_not_ordinary_is_told(void **state)
{
    static const struct {
        const char *reason;
        bool odd;
    } ends[] = {{"end_turn", false}, {"tool_use", false},  {"max_tokens", false},
                {"refusal", true},   {"pause_turn", true}, {"news", true}};

    for (unsigned n = 0; n < sizeof(ends) / sizeof(*ends); n++) {
        struct dialect_pass_info i = {.done = false};
        char text[128];

        snprintf(text, sizeof(text),
                 "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\"}}", ends[n].reason);
        assert_int_equal(D->pass_event(slice_cstr(text), arena, &i), GW_OK);
        assert_int_equal(i.odd_end, ends[n].odd);
        snprintf(text, sizeof(text), "{\"content\":[],\"stop_reason\":\"%s\"}", ends[n].reason);
        assert_int_equal(D->pass_answer(arena, slice_cstr(text), &i), GW_OK);
        assert_int_equal(i.odd_end, ends[n].odd);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_only_the_model_changes_in_a_body_that_passes),
        T(test_the_usage_of_a_relayed_stream_is_gathered),
        T(test_relayed_events_are_told_apart),
        T(test_a_relayed_answer_must_look_like_one),
        T(test_an_end_that_is_not_ordinary_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
