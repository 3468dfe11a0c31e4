/* The Anthropic dialect: answers, streams and errors. Requests are test_anthropic_request.c's. */
#include "tests/unit/dialect_test.h"

#define D (&dialect_anthropic)

static const struct registry_provider provider = {.name = "anthropic", .api_key = {"sk-1", 4}};
static const struct slice no_schema_quirks[] = {{"x", 1}};
static const struct registry_model plain = {.id = {"anthropic/c", 11},
                                            .name = {"c", 1},
                                            .provider = &provider,
                                            .listed = true,
                                            .capabilities = REGISTRY_CAN_TOOLS,
                                            .quirks = no_schema_quirks,
                                            .n_quirks = 1};

static void assert_both_ways(const char *stem, const struct convo *asked)
{
    struct slice json = golden(arena_printf(arena, "anthropic/%s.json", stem).p);
    struct slice sse = golden(arena_printf(arena, "anthropic/%s.sse", stem).p);
    struct slice want = golden(arena_printf(arena, "anthropic/%s.txt", stem).p);
    enum gw_err err;

    assert_shown(show_whole(D, asked, asked ? &plain : NULL, json), want);
    assert_shown(show_stream(D, asked, asked ? &plain : NULL, sse, &err), want);
    assert_int_equal(err, GW_OK);
}

static void test_text_and_cached_tokens_are_read_alike_whole_and_streamed(void **state)
{
    assert_both_ways("text", NULL);
}

static void test_tool_calls_are_numbered_and_an_empty_input_is_an_object(void **state)
{
    assert_both_ways("tools", NULL);
}

static void test_thinking_comes_with_its_signature(void **state)
{
    assert_both_ways("thinking", NULL);
}

static void test_unknown_blocks_events_and_stop_reasons_are_passed_on(void **state)
{
    assert_both_ways("search", NULL);
}

static void test_an_emulated_answer_is_text_and_its_tool_is_never_seen(void **state)
{
    struct convo *c = convo_new(arena);

    c->format = CONVO_FORMAT_SCHEMA;
    c->schema = SLICE("{\"type\":\"object\"}");
    assert_both_ways("answer_tool", c);
}

/* --- streams ---------------------------------------------------------------------------------- */

#define START                                                                                      \
    "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":"       \
    "{\"input_tokens\":3,\"output_tokens\":1}}}\n\n"
#define TEXT0                                                                                      \
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\","    \
    "\"text\":\"\"}}\n\n"                                                                          \
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","      \
    "\"text\":\"Hi\"}}\n\n"
#define USAGE "usage in=3 read=0 write=0 out=1 reasoning=0\n"

static void assert_stream(const struct convo *asked, const char *bytes, enum gw_err want_err,
                          const char *want)
{
    enum gw_err err;
    struct slice got = show_stream(D, asked, asked ? &plain : NULL, slice_cstr(bytes), &err);

    assert_shown(got, slice_cstr(want));
    assert_int_equal(err, want_err);
}

static void test_a_stream_cut_before_message_stop_has_no_end(void **state)
{
    assert_stream(NULL, START TEXT0, GW_OK,
                  "answer id=m model=c\n0.0 text: Hi\n" USAGE "finish 0 none\ncut\n");
}

static void test_an_error_event_ends_the_answer(void **state)
{
    assert_stream(NULL,
                  START TEXT0 "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
                              "\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
                              "data: {\"type\":\"message_stop\"}\n\n",
                  GW_OK,
                  "answer id=m model=c\n0.0 text: Hi\n" USAGE
                  "finish 0 none\nerror GW_EUPSTREAM: Overloaded\ncut\n");
}

static void test_garbage_in_a_stream_is_a_bad_answer(void **state)
{
    static const char *const bad[] = {
        "data: {\"type\":\n\n",
        "data: hello\n\n",
        "data: []\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":5,\"delta\":{}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":\"x\"}\n\n",
        ("data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":"
         "\"tool_use\"}}\n\n"),
        "data: {\"type\":\"ping\",\"x\":\"\xff\"}\n\n",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum gw_err err;

        show_stream(D, NULL, NULL, slice_cstr(bad[i]), &err);
        assert_int_equal(err, GW_EUPBAD);
    }
}

static void test_unfinished_input_of_an_unknown_block_is_a_bad_answer(void **state)
{
    enum gw_err err;

    show_stream(
        D, NULL, NULL,
        slice_cstr("data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":"
                   "{\"type\":\"server_tool_use\",\"input\":{}}}\n\n"
                   "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
                   "\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n"
                   "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"),
        &err);
    assert_int_equal(err, GW_EUPBAD);
}

static void test_held_text_is_the_answer_when_the_answer_tool_is_not_called(void **state)
{
    struct convo *c = convo_new(arena);

    c->format = CONVO_FORMAT_SCHEMA;
    c->schema = SLICE("{\"type\":\"object\"}");
    assert_stream(
        c,
        START TEXT0 "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
                    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
                    "\"max_tokens\"},\"usage\":{\"output_tokens\":1}}\n\n"
                    "data: {\"type\":\"message_stop\"}\n\n",
        GW_OK, "answer id=m model=c\n0.0 text: Hi\n" USAGE "finish 0 length raw=max_tokens\nend\n");
}

static void test_a_tool_name_made_safe_is_restored(void **state)
{
    struct convo *c = convo_new(arena);
    struct encoded e;
    const char *sent;

    add_text(c, CONVO_USER, "Hi");
    add_tool(c, "files/read.text", "{}");
    e = encode(D, c, &plain);
    sent = at(&e, "tools.0.name");
    assert_int_equal(strspn(sent, "\"abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(sent));
    assert_stream(c,
                  arena_printf(arena,
                               START "data: {\"type\":\"content_block_start\",\"index\":0,"
                                     "\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\","
                                     "\"name\":%s,\"input\":{\"a\":1}}}\n\n"
                                     "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
                               sent)
                      .p,
                  GW_OK,
                  "answer id=m model=c\n0.0 call id=t name=files/read.text: {\"a\":1}\n" USAGE
                  "finish 0 none\ncut\n");
}

static void test_stop_reasons_have_their_meaning(void **state)
{
    static const struct {
        const char *word, *want;
    } rows[] = {{"end_turn", "done"},        {"max_tokens", "length"},
                {"tool_use", "tools"},       {"model_context_window_exceeded", "length"},
                {"pause_turn", "paused"},    {"refusal", "filtered"},
                {"stop_sequence", "string"}, {"compaction", "other"}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body = arena_printf(
            arena, "{\"content\":[],\"usage\":{},\"stop_reason\":\"%s\"}", rows[i].word);
        struct slice want =
            arena_printf(arena, "answer\nfinish 0 %s raw=%s\nend\n", rows[i].want, rows[i].word);

        assert_shown(show_whole(D, NULL, NULL, body), want);
    }
}

static void test_a_body_that_is_no_message_is_a_bad_answer(void **state)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        "{\"content\":{}}",
        "{\"content\":[]}",
        "{\"content\":[1],\"stop_reason\":\"end_turn\"}",
        "{\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct convo_builder *b = convo_builder_new(arena, 1000);

        assert_int_equal(
            D->decode_answer(arena, NULL, NULL, slice_cstr(bad[i]), convo_builder_event, b),
            GW_EUPBAD);
    }
}

static enum gw_err stop_at_text(const struct convo_event *ev, void *arg)
{
    unsigned *n = arg;

    (*n)++;
    return ev->kind == CONVO_EV_TEXT ? GW_EGONECLIENT : GW_OK;
}

static void test_decoding_stops_when_the_receiver_says_so(void **state)
{
    unsigned n = 0;

    assert_int_equal(
        D->decode_answer(arena, NULL, NULL, golden("anthropic/tools.json"), stop_at_text, &n),
        GW_EGONECLIENT);
    assert_int_equal(n, 2);
}

/* --- errors ----------------------------------------------------------------------------------- */

static void test_errors_are_told_apart(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum gw_err err;
        int shown;
        const char *message;
    } rows[] = {
        {400,
         "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"messages:"
         " "
         "bad\"},\"request_id\":\"req_1\"}",
         GW_EUPREJECT, 400, "messages: bad"},
        {400,
         "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your "
         "credit balance is too low to access the Anthropic API.\"}}",
         GW_EUPAUTH, 502, "Your credit balance is too low to access the Anthropic API."},
        {401,
         "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid "
         "x-api-key\"}}",
         GW_EUPAUTH, 502, "invalid x-api-key"},
        {403, "{}", GW_EUPAUTH, 502, ""},
        {404,
         "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"model: x\"}}",
         GW_EMODEL, 404, "model: x"},
        {413, "<html>too big</html>", GW_ETOOBIG, 413, ""},
        {422, "", GW_EUPREJECT, 422, ""},
        {429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}",
         GW_EUPRATE, 429, "slow"},
        {500, "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"oops\"}}",
         GW_EUPSTREAM, 502, "oops"},
        {529,
         "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}"
         "}",
         GW_EUPSTREAM, 502, "Overloaded"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dialect_error e;

        D->decode_error(arena, rows[i].status, slice_cstr(rows[i].body), &e);
        assert_int_equal(e.err, rows[i].err);
        assert_int_equal(e.status, rows[i].shown);
        assert_true(slice_is(e.message, rows[i].message));
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_text_and_cached_tokens_are_read_alike_whole_and_streamed),
        T(test_tool_calls_are_numbered_and_an_empty_input_is_an_object),
        T(test_thinking_comes_with_its_signature),
        T(test_unknown_blocks_events_and_stop_reasons_are_passed_on),
        T(test_an_emulated_answer_is_text_and_its_tool_is_never_seen),
        T(test_a_stream_cut_before_message_stop_has_no_end),
        T(test_an_error_event_ends_the_answer),
        T(test_garbage_in_a_stream_is_a_bad_answer),
        T(test_unfinished_input_of_an_unknown_block_is_a_bad_answer),
        T(test_held_text_is_the_answer_when_the_answer_tool_is_not_called),
        T(test_a_tool_name_made_safe_is_restored),
        T(test_stop_reasons_have_their_meaning),
        T(test_a_body_that_is_no_message_is_a_bad_answer),
        T(test_decoding_stops_when_the_receiver_says_so),
        T(test_errors_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
