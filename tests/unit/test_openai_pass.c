/* Tests of providers/dialect/openai_pass.c: bodies that are relayed as they are. */
#include "providers/dialect/openai.h"
#include "tests/unit/openai_harness.h"

static struct slice passed(const char *body, bool stream)
{
    struct buf *out = test_buf();

    assert_int_equal(openai_pass_body(parsed(slice_cstr(body)), &model, stream, out), GW_OK);
    parsed(buf_slice(out));
    return buf_slice(out);
}

static void test_only_the_model_changes(void **state)
{
    assert_slice(passed("{\"model\":\"openai/x\",\"messages\":[]}", false),
                 "{\"model\":\"gpt-up\",\"messages\":[]}");
    assert_slice(
        passed(" { \"t\" : 1.0e-2,\n \"model\" :\t\"x\" , \"u\\u0041\" : \"\\/\\u00e9\" } \n",
               false),
        "{ \"t\" : 1.0e-2,\n \"model\" :\t\"gpt-up\" , \"u\\u0041\" : \"\\/\\u00e9\" }");
    assert_slice(passed("{\"mod\\u0065l\":\"x\",\"seed\":9007199254740993}", false),
                 "{\"mod\\u0065l\":\"gpt-up\",\"seed\":9007199254740993}");
    assert_slice(passed("{}", false), "{}");
    model.name = SLICE("a\"b");
    assert_slice(passed("{\"model\":\"x\"}", false), "{\"model\":\"a\\\"b\"}");
}

static void test_streams_ask_for_usage(void **state)
{
    assert_slice(
        passed("{\"model\":\"x\",\"stream\":true}", true),
        "{\"model\":\"gpt-up\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_slice(passed("{ }", true), "{\"stream_options\":{\"include_usage\":true} }");
    assert_slice(passed("{\"stream_options\":null,\"a\":1}", true),
                 "{\"stream_options\":{\"include_usage\":true},\"a\":1}");
    assert_slice(passed("{\"stream_options\":{ },\"a\":1}", true),
                 "{\"stream_options\":{\"include_usage\":true},\"a\":1}");
    assert_slice(passed("{\"stream_options\":{\"x\":2}}", true),
                 "{\"stream_options\":{\"include_usage\":true,\"x\":2}}");
    assert_slice(passed("{\"stream_options\":{\"x\":2, \"include_usage\": false , \"y\":3}}", true),
                 "{\"stream_options\":{\"x\":2, \"include_usage\": true , \"y\":3}}");
    assert_slice(passed("{\"stream_options\":{\"include_usage\":false}}", false),
                 "{\"stream_options\":{\"include_usage\":false}}");
}

static void test_fallbacks_are_taken_out_wherever_they_stand(void **state)
{
    assert_slice(passed("{\"fallbacks\":[\"a\"],\"model\":\"x\"}", false),
                 "{\"model\":\"gpt-up\"}");
    assert_slice(passed("{\"model\":\"x\",\"fallbacks\":[\"a\",{\"b\":\",\"}]}", false),
                 "{\"model\":\"gpt-up\"}");
    assert_slice(passed("{\"a\":1 , \"fallbacks\":[] , \"b\":2}", false), "{\"a\":1 , \"b\":2}");
    assert_slice(passed("{\"fallbacks\":[],\"fallbacks\":1,\"b\":2,\"fallbacks\":3}", false),
                 "{\"b\":2}");
    assert_slice(passed("{\"fallbacks\":[]}", false), "{}");
    assert_slice(passed("{\"fallbacks\":[]}", true),
                 "{\"stream_options\":{\"include_usage\":true}}");
    assert_slice(passed("{\"a\":{\"fallbacks\":1}}", false), "{\"a\":{\"fallbacks\":1}}");
}

static void test_the_limit_is_renamed_to_what_the_provider_knows(void **state)
{
    assert_slice(passed("{\"max_tokens\":5}", false), "{\"max_completion_tokens\":5}");
    assert_slice(passed("{\"max_completion_tokens\":5}", false), "{\"max_completion_tokens\":5}");
    assert_slice(passed("{\"max_tokens\":5,\"max_completion_tokens\":6}", false),
                 "{\"max_tokens\":5,\"max_completion_tokens\":6}");
    provider.use_max_completion_tokens = false;
    assert_slice(passed("{\"a\":1, \"max_completion_tokens\" : 5}", false),
                 "{\"a\":1, \"max_tokens\" : 5}");
    assert_slice(passed("{\"max_tokens\":5}", false), "{\"max_tokens\":5}");
}

static void test_a_body_that_is_no_object_or_does_not_fit_is_an_error(void **state)
{
    struct buf small;

    buf_init(&small, 10);
    assert_int_equal(openai_pass_body(parsed(SLICE("[]")), &model, false, &small), GW_EBADREQ);
    assert_int_equal(openai_pass_body(parsed(SLICE("{\"model\":\"x\"}")), &model, false, &small),
                     GW_ETOOBIG);
    buf_deinit(&small);
}

/* --- events ----------------------------------------------------------------------------------- */

static struct dialect_pass_info looked_at(const char *data)
{
    struct dialect_pass_info info;
    enum gw_err err = openai_pass_event(slice_cstr(data), arena, &info);

    if (err)
        fail_msg("%s: %s", data, err_info(err)->name);
    return info;
}

static void test_ordinary_deltas_are_content_and_nothing_else(void **state)
{
    size_t before = arena_used(arena);
    struct dialect_pass_info i = looked_at(
        "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"logprobs\":null,"
        "\"finish_reason\":null}],\"usage\":null,\"error\":null}");

    assert_true(i.has_content);
    assert_false(i.done || i.error || i.usage_only || i.has_usage || i.finish);
    assert_int_equal(arena_used(arena), before); /* nothing is held per event */
}

static void test_check_054_words_inside_text_mean_nothing(void **state)
{
    static const char *const texts[] = {"\\\"usage\\\":{\\\"prompt_tokens\\\":9}",
                                        "\\\"error\\\":{\\\"message\\\":1}",
                                        "\\\"finish_reason\\\":\\\"stop\\\"",
                                        "data: [DONE]\\n\\n",
                                        "[DONE]",
                                        "usage",
                                        "\\u0022usage\\u0022:{}"};

    for (unsigned n = 0; n < sizeof(texts) / sizeof(*texts); n++) {
        struct dialect_pass_info i = looked_at(
            arena_printf(arena, "{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}", texts[n]).p);

        assert_true(i.has_content);
        assert_false(i.done || i.error || i.usage_only || i.has_usage || i.finish);
    }
    assert_false(
        looked_at("{\"choices\":[{\"delta\":{\"usage\":{\"prompt_tokens\":1}}}]}").has_usage);
    assert_false(looked_at("{\"choices\":[{\"delta\":{\"error\":{\"message\":\"x\"}}}]}").error);
}

static void test_usage_and_the_end_are_seen(void **state)
{
    struct dialect_pass_info i =
        looked_at("{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"prompt_"
                  "tokens_details\":"
                  "{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}");

    assert_true(i.usage_only && i.has_usage);
    assert_false(i.has_content || i.finish);
    assert_int_equal(i.usage.input, 7);
    assert_int_equal(i.usage.output, 3);
    assert_int_equal(i.usage.cache_read, 4);
    assert_int_equal(i.usage.reasoning, 2);
    i = looked_at("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{"
                  "\"prompt_tokens\":1,\"completion_tokens\":1}}");
    assert_true(i.finish && i.has_usage && !i.usage_only && i.has_content);
    i = looked_at("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"usage\":{"
                  "\"prompt_tokens\":5,\"completion_tokens\":1}}}");
    assert_true(i.has_usage);
    assert_int_equal(i.usage.input, 5);
    i = looked_at(" [DONE] ");
    assert_true(i.done && !i.has_content);
    i = looked_at("{\"choices\":[],\"prompt_filter_results\":[]}");
    assert_false(i.has_content || i.usage_only || i.done);
}

static void test_errors_are_seen_with_their_text(void **state)
{
    struct dialect_pass_info i =
        looked_at("{\"error\":{\"message\":\"b\\u0061d\",\"type\":\"server_error\"}}");

    assert_true(i.error && !i.has_content);
    assert_slice(i.text, "bad");
    assert_true(looked_at("{\"error\":\"busy\",\"choices\":[{\"delta\":{}}]}").error);
}

static void test_check_059_garbage_is_a_bad_answer(void **state)
{
    static const char *const lines[] = {"",
                                        "{",
                                        "x",
                                        "[]",
                                        "\"x\"",
                                        "1",
                                        "{} {}",
                                        "[DONE]x",
                                        "{\"a\":\"\xff\"}",
                                        "{\"choices\":[{\"delta\":{\"content\":\"\n\"}}]}"};
    struct dialect_pass_info i;

    for (unsigned n = 0; n < sizeof(lines) / sizeof(*lines); n++)
        if (openai_pass_event(slice_cstr(lines[n]), arena, &i) != GW_EUPBAD)
            fail_msg("%s", lines[n]);
}

static void test_an_event_with_very_many_values_is_read_too(void **state)
{
    struct buf *b = test_buf();

    buf_add_cstr(b, "{\"choices\":[{\"delta\":{},\"logprobs\":{\"content\":[0");
    for (unsigned n = 0; n < 5000; n++)
        buf_add_cstr(b, ",1");
    buf_add_cstr(b, "]},\"finish_reason\":\"stop\"}]}");
    buf_add_char(b, '\0');
    assert_true(looked_at(b->p).finish);
}

static void test_whole_answers_tell_their_usage(void **state)
{
    struct dialect_pass_info u = {.usage = {.input = 99}};

    assert_int_equal(openai_pass_answer(arena,
                                        SLICE("{\"choices\":[{\"message\":{}}],\"usage\":{"
                                              "\"prompt_tokens\":1,\"completion_tokens\":2}}"),
                                        &u),
                     GW_OK);
    assert_true(u.usage.known);
    assert_int_equal(u.usage.output, 2);
    assert_true(slice_is(u.usage.raw, "{\"prompt_tokens\":1,\"completion_tokens\":2}"));
    assert_int_equal(openai_pass_answer(arena, SLICE("{\"choices\":[{}]}"), &u), GW_OK);
    assert_false(u.usage.known);
    assert_int_equal(
        openai_pass_answer(arena, SLICE("{\"data\":[{}],\"usage\":{\"prompt_tokens\":6}}"), &u),
        GW_OK);
    assert_int_equal(u.usage.input, 6);
}

static void test_an_end_that_is_not_ordinary_is_told(void **state)
{
    static const struct {
        const char *reason;
        bool odd;
    } ends[] = {{"stop", false}, {"length", false},        {"tool_calls", false},
                {"error", true}, {"content_filter", true}, {"news", true}};
    struct dialect_pass_info u;
    char text[160];

    for (unsigned n = 0; n < sizeof(ends) / sizeof(*ends); n++) {
        snprintf(text, sizeof(text),
                 "{\"choices\":[{\"finish_reason\":\"stop\"},{\"finish_reason\":\"%s\"}]}",
                 ends[n].reason);
        assert_int_equal(openai_pass_answer(arena, slice_cstr(text), &u), GW_OK);
        assert_int_equal(u.odd_end, ends[n].odd);
        assert_int_equal(looked_at(text).odd_end, ends[n].odd);
    }
}

static void test_what_is_no_whole_answer_is_refused(void **state)
{
    static const char *const bodies[] = {"",
                                         "x",
                                         "[]",
                                         "{}",
                                         "{\"choices\":[]}",
                                         "{\"error\":{},\"choices\":[{}]}",
                                         "{\"choices\":[{}]} x"};
    struct dialect_pass_info u;

    for (unsigned n = 0; n < sizeof(bodies) / sizeof(*bodies); n++)
        if (openai_pass_answer(arena, slice_cstr(bodies[n]), &u) != GW_EUPBAD)
            fail_msg("%s", bodies[n]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_only_the_model_changes),
        T(test_streams_ask_for_usage),
        T(test_fallbacks_are_taken_out_wherever_they_stand),
        T(test_the_limit_is_renamed_to_what_the_provider_knows),
        T(test_a_body_that_is_no_object_or_does_not_fit_is_an_error),
        T(test_ordinary_deltas_are_content_and_nothing_else),
        T(test_check_054_words_inside_text_mean_nothing),
        T(test_usage_and_the_end_are_seen),
        T(test_errors_are_seen_with_their_text),
        T(test_check_059_garbage_is_a_bad_answer),
        T(test_an_event_with_very_many_values_is_read_too),
        T(test_whole_answers_tell_their_usage),
        T(test_an_end_that_is_not_ordinary_is_told),
        T(test_what_is_no_whole_answer_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
