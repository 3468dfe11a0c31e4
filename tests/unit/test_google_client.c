/* The Gemini dialect towards clients: their requests, answers and streams for them, and bodies that
 * pass through. */
#include "tests/unit/dialect_test.h"

#include "providers/dialect/google_client.h"

#define D (&dialect_google)

static const struct registry_provider openai = {.name = "openai", .api_key = {"k", 1}};
static const struct registry_provider anthropic = {.name = "anthropic", .api_key = {"k", 1}};
static const struct registry_provider google = {.name = "google", .api_key = {"k", 1}};
static const struct registry_model gpt = {.name = {"gpt-4o", 6}, .provider = &openai};
static const struct registry_model claude = {.name = {"claude", 6}, .provider = &anthropic};
static const struct registry_model gemini = {.name = {"gemini", 6}, .provider = &google};

/* --- requests -------------------------------------------------------------------------------- */

struct read {
    enum gw_err err;
    struct convo *c;
    struct convo_report rep;
};

static struct read read_request(struct slice body)
{
    struct read r = {0};
    struct json root;

    assert_int_equal(json_parse(arena, body, NULL, &root, NULL), GW_OK);
    r.err = D->decode_request(arena, root, &r.c, &r.rep);
    if (r.c)
        r.c->model = SLICE("m");
    return r;
}

static struct convo *must_read(const char *body)
{
    struct read r = read_request(slice_cstr(body));

    if (r.err)
        fail_msg("%s: %.*s", err_info(r.err)->name, SLICE_ARG(r.rep.why));
    return r.c;
}

static void assert_reaches(const struct dialect *to, const struct registry_model *m,
                           const char *name)
{
    struct read r = read_request(golden("google/client_request.json"));
    struct encoded e;

    assert_int_equal(r.err, GW_OK);
    e = encode(to, r.c, m);
    if (e.err)
        fail_msg("%s: %.*s", err_info(e.err)->name, SLICE_ARG(e.rep.why));
    assert_request(&e, name);
}

static void test_a_request_with_everything_reaches_openai(void **state)
{
    assert_reaches(&dialect_openai, &gpt, "google/client_request_openai.json");
}

static void test_a_request_with_everything_reaches_anthropic(void **state)
{
    assert_reaches(&dialect_anthropic, &claude, "google/client_request_anthropic.json");
}

static void test_a_request_with_everything_reaches_google_again(void **state)
{
    assert_reaches(D, &gemini, "google/client_request_google.json");
}

static void test_what_is_left_out_is_named(void **state)
{
    struct read r = read_request(golden("google/client_request.json"));

    assert_int_equal(r.rep.n_dropped, 1);
    assert_string_equal(r.rep.dropped[0], "safetySettings");
    r = read_request(SLICE("{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"someday\":1,"
                           "\"generationConfig\":{\"mood\":2}}"));
    assert_int_equal(r.err, GW_OK);
    assert_int_equal(r.rep.n_dropped, 2);
    assert_string_equal(r.rep.dropped[0], "someday");
    assert_string_equal(r.rep.dropped[1], "generationConfig.mood");
}

static void test_both_spellings_of_a_member_are_one_member(void **state)
{
    static const char body[] = "{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],"
                               "\"generation_config\":{\"max_output_tokens\":5,"
                               "\"stop_sequences\":[\"x\"],\"thinking_config\":"
                               "{\"include_thoughts\":true,\"thinking_budget\":100}}}";
    struct convo *c = must_read(body);

    assert_int_equal(c->max_tokens, 5);
    assert_int_equal(c->n_stop, 1);
    assert_int_equal(c->include_thoughts, 1);
    assert_int_equal(c->thinking_budget, 100);
    assert_int_equal(
        read_request(SLICE("{\"contents\":[],\"toolConfig\":{},\"tool_config\":{}}")).err,
        GW_EBADREQ);
}

static void test_a_wrong_field_is_refused_by_its_name(void **state)
{
    static const struct {
        const char *body, *field;
        enum gw_err err;
    } rows[] = {
        {"{}", "contents", GW_ESCHEMA},
        {"{\"contents\":[]}", "contents", GW_ESCHEMA},
        {"{\"contents\":{}}", "contents", GW_ESCHEMA},
        {"{\"contents\":[1]}", "contents[0]", GW_ESCHEMA},
        {"{\"contents\":[{\"role\":\"god\"}]}", "contents[0].role", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":1}]}", "contents[0].parts", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{}]}]}", "contents[0].parts[0]", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"text\":1}]}]}", "contents[0].parts[0].text", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"inlineData\":{\"data\":\"\"}}]}]}",
         "contents[0].parts[0].inlineData.mimeType", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"functionCall\":{\"name\":\"f\"}}]}]}",
         "contents[0].parts[0].functionCall", GW_ESCHEMA},
        {"{\"contents\":[{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"f\","
         "\"args\":\"x\"}}]}]}",
         "contents[0].parts[0].functionCall.args", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"functionResponse\":{\"name\":\"f\",\"response\":{}}}]}]}",
         "contents", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"generationConfig\":{\"topK\":1.5}}",
         "generationConfig.topK", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"generationConfig\":"
         "{\"responseSchema\":{}}}",
         "generationConfig.responseMimeType", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"generationConfig\":"
         "{\"responseModalities\":[\"IMAGE\"]}}",
         "generationConfig.responseModalities", GW_EUNSUPPORTED},
        {"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"cachedContent\":\"cachedContents/1\"}",
         "cachedContent", GW_EUNSUPPORTED},
        {"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"tools\":[{\"functionDeclarations\":"
         "[{\"name\":\"f\",\"parameters\":7}]}]}",
         "tools[0].functionDeclarations[0].parameters", GW_ESCHEMA},
        {"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"toolConfig\":"
         "{\"functionCallingConfig\":{\"mode\":\"SOME\"}}}",
         "toolConfig.functionCallingConfig.mode", GW_ESCHEMA},
        {"{\"systemInstruction\":\"x\",\"contents\":[]}", "systemInstruction", GW_ESCHEMA},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct read r = read_request(slice_cstr(rows[i].body));

        if (r.err != rows[i].err || !slice_is(r.rep.refused, rows[i].field))
            fail_msg("%s: %s at %.*s", rows[i].body, err_info(r.err)->name,
                     SLICE_ARG(r.rep.refused));
        assert_true(slice_starts(r.rep.why, rows[i].field));
        assert_null(r.c);
    }
}

static void test_responses_find_their_calls_by_name_and_order_in_the_last_turn(void **state)
{
#define CALL(args) "{\"functionCall\":{\"name\":\"f\",\"args\":{\"n\":" args "}}}"
#define RESPONSE(text)                                                                             \
    "{\"functionResponse\":{\"name\":\"f\",\"response\":{\"output\":\"" text "\"}}}"
    struct convo *c = must_read("{\"contents\":[{\"role\":\"model\",\"parts\":[" CALL("1") "," CALL(
        "2") "]},"
             "{\"role\":\"user\",\"parts\":[" RESPONSE(
                 "one") "]},"
                        "{\"role\":\"model\",\"parts\":[" CALL("3") "," CALL(
                            "4") "]},"
                                 "{\"role\":\"user\",\"parts\":[" RESPONSE("three") "," RESPONSE(
                                     "four") "]}]}");
    const struct convo_turn *calls = c->turns, *results = calls->next;

    assert_true(slice_eq(calls->parts->id, results->parts->id));
    calls = results->next;
    results = calls->next;
    assert_true(slice_is(calls->parts->args, "{\"n\":3}"));
    assert_true(slice_eq(calls->parts->id, results->parts->id));
    assert_true(slice_eq(calls->parts->next->id, results->parts->next->id));
    assert_false(slice_eq(calls->parts->id, calls->parts->next->id));
    assert_true(slice_is(results->parts->next->content->text, "four"));
}

static void test_several_allowed_functions_are_the_only_ones_shown(void **state)
{
    struct convo *c = must_read(
        "{\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"ANY\",\"allowedFunctionNames\":"
        "[\"a\",\"c\"]}},\"tools\":[{\"functionDeclarations\":[{\"name\":\"a\"},{\"name\":\"b\"},"
        "{\"name\":\"c\"}]}],\"contents\":[{\"parts\":[{\"text\":\"x\"}]}]}");

    assert_int_equal(c->tool_choice, CONVO_CHOICE_ANY);
    assert_true(slice_is(c->tools->name, "a"));
    assert_true(slice_is(c->tools->next->name, "c"));
    assert_null(c->tools->next->next);
}

static void test_redacted_thinking_comes_back_as_it_was(void **state)
{
    struct convo *c =
        must_read("{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"\",\"thought\":true,"
                  "\"thoughtSignature\":\"" GOOGLE_REDACTED "c2VjcmV0\"},{\"text\":\"a\"}]},"
                  "{\"parts\":[{\"text\":\"b\"}]}]}");

    assert_int_equal(c->turns->parts->kind, CONVO_REDACTED);
    assert_true(slice_is(c->turns->parts->data, "c2VjcmV0"));
}

/* --- answers --------------------------------------------------------------------------------- */

struct writing {
    struct dialect_encoder *encoder;
    struct buf out;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct writing *w = arg;

    return D->encode_event(w->encoder, ev, &w->out);
}

static struct writing writing_new(void)
{
    struct writing w = {.encoder = D->encoder_new(arena, NULL, SLICE("shown"), 1)};

    assert_non_null(w.encoder);
    buf_init(&w.out, TEST_BYTES / 4);
    return w;
}

static struct slice written(struct writing *w)
{
    struct slice text = arena_dup(arena, buf_slice(&w->out));

    assert_int_equal(buf_err(&w->out), GW_OK);
    buf_deinit(&w->out);
    return text;
}

/* A provider's whole answer as the client gets it, whole or, with the same events, as a stream. */
static struct slice answer_whole(const struct dialect *from, struct slice body)
{
    struct convo_builder *b = convo_builder_new(arena, TEST_BYTES / 4);
    struct slice text;
    struct buf out;

    assert_int_equal(from->decode_answer(arena, NULL, NULL, body, convo_builder_event, b), GW_OK);
    buf_init(&out, TEST_BYTES / 4);
    D->encode_answer(convo_builder_answer(b), SLICE("shown"), 1, &out);
    assert_int_equal(buf_err(&out), GW_OK);
    text = arena_dup(arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

static struct slice answer_stream(const struct dialect *from, struct slice body)
{
    struct writing w = writing_new();

    assert_int_equal(from->decode_answer(arena, NULL, NULL, body, on_convo, &w), GW_OK);
    return written(&w);
}

static const struct {
    const struct dialect *const from;
    const char *stem;
} answers[] = {
    {&dialect_anthropic, "anthropic/text"},     {&dialect_anthropic, "anthropic/tools"},
    {&dialect_anthropic, "anthropic/thinking"}, {&dialect_google, "google/text"},
    {&dialect_google, "google/tools"},          {&dialect_google, "google/candidates"},
    {&dialect_google, "google/blocked"},
};

static void test_an_answer_of_anthropic_is_written_as_google_would(void **state)
{
    static const char *const stems[] = {"text", "tools", "thinking"};

    for (size_t i = 0; i < 3; i++) {
        struct slice body = golden(arena_printf(arena, "anthropic/%s.json", stems[i]).p);

        assert_json(answer_whole(&dialect_anthropic, body),
                    golden(arena_printf(arena, "google/client_%s.json", stems[i]).p));
    }
}

static void test_a_stream_of_anthropic_is_written_as_google_would(void **state)
{
    static const char *const stems[] = {"text", "tools", "thinking"};

    for (size_t i = 0; i < 3; i++) {
        struct slice body = golden(arena_printf(arena, "anthropic/%s.json", stems[i]).p);
        struct slice want = golden(arena_printf(arena, "google/client_%s.sse", stems[i]).p);

        assert_shown(answer_stream(&dialect_anthropic, body), want);
    }
}

/* What the client understands, without the ids it cannot compare. */
static void test_a_stream_says_what_the_whole_answer_says(void **state)
{
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct slice body = golden(arena_printf(arena, "%s.json", answers[i].stem).p);
        struct slice whole = show_whole(D, NULL, NULL, answer_whole(answers[i].from, body));
        enum gw_err err;
        struct slice stream =
            show_stream(D, NULL, NULL, answer_stream(answers[i].from, body), &err);

        assert_int_equal(err, GW_OK);
        assert_shown(stream, whole);
    }
}

static void test_a_call_goes_out_whole_once_its_arguments_are(void **state)
{
    struct writing w = writing_new();
    struct convo_event begin = {.kind = CONVO_EV_TOOL_BEGIN, .id = SLICE("c1"), .name = SLICE("f")};
    struct convo_event args = {.kind = CONVO_EV_TOOL_ARGS, .text = SLICE("{\"a\":")};
    struct convo_event end = {.kind = CONVO_EV_PART_END};

    assert_int_equal(on_convo(&(struct convo_event){.kind = CONVO_EV_START, .id = SLICE("r")}, &w),
                     GW_OK);
    assert_int_equal(on_convo(&begin, &w), GW_OK);
    assert_int_equal(on_convo(&args, &w), GW_OK);
    assert_int_equal(w.out.n, 0);
    args.text = SLICE("1}");
    assert_int_equal(on_convo(&args, &w), GW_OK);
    assert_int_equal(w.out.n, 0);
    assert_int_equal(on_convo(&end, &w), GW_OK);
    assert_shown(written(&w),
                 SLICE("data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":"
                       "\"c1\",\"name\":\"f\",\"args\":{\"a\":1}}}],\"role\":\"model\"},"
                       "\"index\":0}],\"modelVersion\":\"shown\",\"responseId\":\"r\"}\n\n"));
}

static void test_text_between_two_pieces_of_arguments_breaks_no_call(void **state)
{
    struct writing w = writing_new();
    const struct convo_event events[] = {
        {.kind = CONVO_EV_START, .id = SLICE("r")},
        {.kind = CONVO_EV_TOOL_BEGIN, .id = SLICE("c1"), .name = SLICE("f")},
        {.kind = CONVO_EV_TOOL_ARGS, .text = SLICE("{\"a\":")},
        {.kind = CONVO_EV_TEXT, .part = 1, .text = SLICE("hm")},
        {.kind = CONVO_EV_TOOL_ARGS, .text = SLICE("1}")},
        {.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_TOOLS},
        {.kind = CONVO_EV_END},
    };
    enum gw_err err;

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        assert_int_equal(on_convo(&events[i], &w), GW_OK);
    assert_shown(show_stream(D, NULL, NULL, written(&w), &err),
                 SLICE("answer id=r model=shown\n0.0 text: hm\n0.1 call id=c1 name=f: {\"a\":1}\n"
                       "finish 0 tools raw=STOP\nend\n"));
}

static void test_check_059_after_an_error_nothing_follows_and_no_finish_reason(void **state)
{
    struct writing w = writing_new();
    struct convo_event error = {
        .kind = CONVO_EV_ERROR, .err = GW_EOVERLOAD, .text = SLICE("too \"much\"")};

    assert_int_equal(on_convo(&(struct convo_event){.kind = CONVO_EV_START, .id = SLICE("r")}, &w),
                     GW_OK);
    assert_int_equal(on_convo(&(struct convo_event){.kind = CONVO_EV_FINISH}, &w), GW_OK);
    assert_int_equal(on_convo(&error, &w), GW_OK);
    assert_int_equal(on_convo(&(struct convo_event){.kind = CONVO_EV_END}, &w), GW_OK);
    assert_shown(written(&w),
                 SLICE("data: {\"error\":{\"code\":503,\"message\":\"too \\\"much\\\"\","
                       "\"status\":\"UNAVAILABLE\"}}\n\n"));
}

static void test_reasons_to_stop_have_googles_words(void **state)
{
    static const struct {
        enum convo_stop stop;
        const char *want;
    } rows[] = {
        {CONVO_STOP_DONE, "\"finishReason\":\"STOP\""},
        {CONVO_STOP_STRING, "\"finishReason\":\"STOP\""},
        {CONVO_STOP_TOOLS, "\"finishReason\":\"STOP\""},
        {CONVO_STOP_LENGTH, "\"finishReason\":\"MAX_TOKENS\""},
        {CONVO_STOP_FILTERED, "\"finishReason\":\"SAFETY\""},
        {CONVO_STOP_PAUSED, "\"finishReason\":\"STOP\",\"finishMessage\":\"raw\""},
        {CONVO_STOP_OTHER, "\"finishReason\":\"OTHER\",\"finishMessage\":\"raw\""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo_answer ans = {.n_choices = 1};
        struct buf out;

        ans.finish[0].stop = rows[i].stop;
        ans.finish[0].raw = SLICE("raw");
        buf_init(&out, TEST_BYTES / 4);
        D->encode_answer(&ans, SLICE("m"), 1, &out);
        buf_add_char(&out, '\0');
        assert_non_null(strstr(out.p, rows[i].want));
        buf_deinit(&out);
    }
}

/* --- there and back -------------------------------------------------------------------------- */

static uint64_t seed;

static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static struct slice words(void)
{
    static const char *const list[] = {"a", "b c", "\"q\"", "data: x", "\\", "ü", "}{"};

    return slice_cstr(list[below(7)]);
}

static void add_user_turn(struct convo *c, unsigned *n_calls, unsigned *n_answered)
{
    struct convo_turn *t = convo_add_turn(c, CONVO_USER);
    struct convo_part *p;

    for (; *n_answered < *n_calls; ++*n_answered) {
        struct slice id = arena_printf(arena, "id%u", *n_answered);

        add_result(c, t, id.p, words().p)->name = SLICE("f");
    }
    p = convo_add_part(c, t, CONVO_TEXT);
    p->text = words();
    if (below(2)) {
        p = convo_add_part(c, t, CONVO_IMAGE);
        p->mime = SLICE("image/png");
        p->data = SLICE("AAAA");
    }
}

static void add_model_turn(struct convo *c, unsigned *n_calls)
{
    struct convo_turn *t = convo_add_turn(c, CONVO_ASSISTANT);
    struct convo_part *p = convo_add_part(c, t, CONVO_TEXT);
    unsigned n = below(3);

    p->text = words();
    for (; n; n--) {
        struct slice id = arena_printf(arena, "id%u", (*n_calls)++);

        p = add_call(c, t, id.p, "f", "{\"a\":1}");
        p->signature = below(2) ? SLICE("c2ln") : SLICE_NONE;
    }
}

static struct convo *any_convo(void)
{
    struct convo *c = convo_new(arena);
    unsigned n_calls = 0, n_answered = 0, rounds = below(4);

    c->model = SLICE("m");
    if (below(2))
        add_text(c, CONVO_SYSTEM, words().p);
    add_user_turn(c, &n_calls, &n_answered);
    for (; rounds; rounds--) {
        add_model_turn(c, &n_calls);
        add_user_turn(c, &n_calls, &n_answered);
    }
    add_tool(c, "f", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}");
    c->tool_choice = (enum convo_tool_choice)below(4);
    c->max_tokens = below(100);
    c->temperature = below(2) ? SLICE("0.25") : SLICE_NONE;
    c->thinking_budget = below(2) ? 1000 : -1;
    return c;
}

static void test_any_conversation_survives_there_and_back(void **state)
{
    for (seed = 1; seed < 2000000; seed += 10007) {
        uint64_t kept = seed;
        struct encoded once = encode(D, any_convo(), &gemini), twice;
        struct read r;

        assert_int_equal(once.err, GW_OK);
        r = read_request(once.body);
        if (r.err)
            fail_msg("%.*s in %.*s", SLICE_ARG(r.rep.why), SLICE_ARG(once.body));
        twice = encode(D, r.c, &gemini);
        assert_int_equal(twice.err, GW_OK);
        assert_shown(twice.body, once.body);
        seed = kept;
    }
}

/* --- bodies that pass through ----------------------------------------------------------------- */

static void assert_passed(const char *body, const char *want)
{
    struct json root;
    struct buf out;

    assert_int_equal(json_parse(arena, slice_cstr(body), NULL, &root, NULL), GW_OK);
    buf_init(&out, TEST_BYTES / 4);
    assert_int_equal(D->pass_body(root, &gemini, true, &out), GW_OK);
    assert_shown(arena_dup(arena, buf_slice(&out)), slice_cstr(want));
    buf_deinit(&out);
}

static void test_a_body_loses_only_our_own_member(void **state)
{
    assert_passed("{ \"contents\" : [1.50] }", "{ \"contents\" : [1.50] }");
    assert_passed("{\"fallbacks\":[\"a\"],\"b\":1}", "{\"b\":1}");
    assert_passed("{\"b\":1, \"fallbacks\" : [\"a\"] }", "{\"b\":1 }");
    assert_passed("{\"a\":1,\"fallbacks\":[],\"b\":2}", "{\"a\":1,\"b\":2}");
    assert_passed("{\"fallbacks\":[]}", "{}");
}

static void test_the_model_inside_a_request_to_be_counted_is_the_providers(void **state)
{
    assert_passed("{\"fallbacks\":[],\"generateContentRequest\":{\"model\":\"models/google/x\","
                  "\"contents\":[]}}",
                  "{\"generateContentRequest\":{\"model\":\"models/gemini\",\"contents\":[]}}");
}

static struct dialect_pass_info passed_event(const char *data, enum gw_err want)
{
    struct dialect_pass_info info = {.usage = {.known = false}};

    assert_int_equal(D->pass_event(slice_cstr(data), arena, &info), want);
    return info;
}

static void test_relayed_events_tell_content_finish_usage_and_errors(void **state)
{
    struct dialect_pass_info i =
        passed_event("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}", GW_OK);

    assert_true(i.has_content && !i.finish && !i.has_usage && !i.error && !i.done);
    i = passed_event("{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":"
                     "{\"promptTokenCount\":3,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":5,"
                     "\"totalTokenCount\":12}}",
                     GW_OK);
    assert_true(i.finish && i.has_usage);
    assert_int_equal(i.usage.output, 9);
    i = passed_event("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}", GW_OK);
    assert_true(i.finish && i.has_content);
    i = passed_event("{\"error\":{\"code\":503,\"message\":\"m\"}}", GW_OK);
    assert_true(i.error && slice_is(i.text, "m"));
    passed_event("nonsense", GW_EUPBAD);
    passed_event("[]", GW_EUPBAD);
}

static void test_a_relayed_answer_must_be_one(void **state)
{
    struct dialect_pass_info u = {.done = false};

    assert_int_equal(D->pass_answer(arena, golden("google/text.json"), &u), GW_OK);
    assert_true(u.usage.known && u.usage.input > 0);
    assert_false(u.odd_end);
    assert_int_equal(D->pass_answer(arena, golden("google/blocked.json"), &u), GW_OK);
    assert_true(u.odd_end);
    assert_int_equal(
        D->pass_answer(arena, SLICE("{\"candidates\":[{\"finishReason\":\"SAFETY\"}]}"), &u),
        GW_OK);
    assert_true(u.odd_end);
    assert_true(passed_event("{\"candidates\":[{\"finishReason\":\"NEWS\"}]}", GW_OK).odd_end);
    assert_false(
        passed_event("{\"candidates\":[{\"finishReason\":\"MAX_TOKENS\"}]}", GW_OK).odd_end);
    assert_int_equal(D->pass_answer(arena, SLICE("{}"), &u), GW_EUPBAD);
    assert_int_equal(D->pass_answer(arena, SLICE("{\"candidates\":[]}"), &u), GW_EUPBAD);
    assert_int_equal(D->pass_answer(arena, SLICE("{\"error\":{}}"), &u), GW_EUPBAD);
    assert_int_equal(D->pass_answer(arena, SLICE("<html>"), &u), GW_EUPBAD);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_request_with_everything_reaches_openai),
        T(test_a_request_with_everything_reaches_anthropic),
        T(test_a_request_with_everything_reaches_google_again),
        T(test_what_is_left_out_is_named),
        T(test_both_spellings_of_a_member_are_one_member),
        T(test_a_wrong_field_is_refused_by_its_name),
        T(test_responses_find_their_calls_by_name_and_order_in_the_last_turn),
        T(test_several_allowed_functions_are_the_only_ones_shown),
        T(test_redacted_thinking_comes_back_as_it_was),
        T(test_an_answer_of_anthropic_is_written_as_google_would),
        T(test_a_stream_of_anthropic_is_written_as_google_would),
        T(test_a_stream_says_what_the_whole_answer_says),
        T(test_a_call_goes_out_whole_once_its_arguments_are),
        T(test_text_between_two_pieces_of_arguments_breaks_no_call),
        T(test_check_059_after_an_error_nothing_follows_and_no_finish_reason),
        T(test_reasons_to_stop_have_googles_words),
        T(test_any_conversation_survives_there_and_back),
        T(test_a_body_loses_only_our_own_member),
        T(test_the_model_inside_a_request_to_be_counted_is_the_providers),
        T(test_relayed_events_tell_content_finish_usage_and_errors),
        T(test_a_relayed_answer_must_be_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
