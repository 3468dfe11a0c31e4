/* The Gemini dialect: requests. */
#include "tests/unit/dialect_test.h"

#define D (&dialect_google)

static const struct registry_provider provider = {.name = "google", .api_key = {"AIza", 4}};
static const struct slice three_quirks[] = {
    {"json_schema_params", 18}, {"thinking_level", 14}, {"thought_signatures", 18}};

static const struct registry_model two = {
    .name = {"gemini-2.0-flash", 16}, .provider = &provider, .listed = true, .capabilities = 63};
static const struct registry_model three = {.name = {"gemini-3-pro-preview", 20},
                                            .provider = &provider,
                                            .listed = true,
                                            .capabilities = 63,
                                            .quirks = three_quirks,
                                            .n_quirks = 3};

#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":[\"string\",\"null\"]}},"             \
    "\"required\":[\"city\"],\"additionalProperties\":false}"

static struct convo *hello(void)
{
    struct convo *c = convo_new(arena);

    add_text(c, CONVO_USER, "Hello");
    return c;
}

static void assert_refused(struct encoded e, enum gw_err err, const char *field)
{
    assert_int_equal(e.err, err);
    if (!slice_is(e.rep.refused, field))
        fail_msg("refused for %.*s", SLICE_ARG(e.rep.refused));
    assert_true(e.rep.why.n > 0);
}

static void test_a_plain_question_has_the_vendors_shape(void **state)
{
    struct convo *c = hello();
    struct encoded e = encode(D, c, &two);

    assert_json(e.body,
                SLICE("{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Hello\"}]}],"
                      "\"generationConfig\":{}}"));
    assert_true(slice_is(e.req.path, "/v1beta/models/gemini-2.0-flash:generateContent"));
    assert_int_equal(e.req.n_headers, 1);
    assert_true(slice_is(e.req.headers[0].name, "x-goog-api-key"));
    assert_true(slice_is(e.req.headers[0].value, "AIza"));
    c->stream = true;
    e = encode(D, c, &two);
    assert_true(
        slice_is(e.req.path, "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse"));
}

static void test_a_models_name_cannot_leave_its_path(void **state)
{
    static const struct {
        const char *name, *path;
    } rows[] = {
        {"models/gemini-x", "/v1beta/models/gemini-x:generateContent"},
        {"a/b c?d#e%:f", "/v1beta/models/a/b%20c%3Fd%23e%25%3Af:generateContent"},
        {"..", NULL},
        {"a/../../b", NULL},
        {"a//b", NULL},
        {"a/.", NULL},
        {"/a", NULL},
        {"a/", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct registry_model m = two;
        struct encoded e;

        m.name = slice_cstr(rows[i].name);
        e = encode(D, hello(), &m);
        if (!rows[i].path) {
            assert_refused(e, GW_EBADREQ, "model");
            assert_int_equal(D->pass_request(arena, &m, false, &e.req), GW_EBADREQ);
        } else {
            assert_int_equal(e.err, GW_OK);
            assert_true(slice_is(e.req.path, rows[i].path));
        }
    }
}

static struct convo_part *add_media(struct convo *c, struct convo_turn *t,
                                    enum convo_part_kind kind, const char *mime, const char *data,
                                    const char *url)
{
    struct convo_part *p = convo_add_part(c, t, kind);

    p->mime = slice_cstr(mime);
    p->data = slice_cstr(data);
    p->url = slice_cstr(url);
    return p;
}

static struct convo *everything(void)
{
    static const struct slice stops[] = {{"###", 3}};
    struct convo *c = convo_new(arena);
    struct convo_turn *t;
    struct convo_part *p;

    add_text(c, CONVO_SYSTEM, "You are terse.");
    t = convo_add_turn(c, CONVO_USER);
    add_media(c, t, CONVO_IMAGE, "image/png", "aGk=", NULL);
    add_media(c, t, CONVO_IMAGE, NULL, NULL, "https://example.com/a.webp?x=1.gif");
    add_media(c, t, CONVO_IMAGE, NULL, NULL, "https://example.com/plain");
    add_media(c, t, CONVO_FILE, NULL, "JVBERi0=", NULL)->name = SLICE("report.pdf");
    add_media(c, t, CONVO_AUDIO, "audio/mpeg", "aGk=", NULL);
    add_text(c, CONVO_USER, "What is the weather?");
    t = convo_add_turn(c, CONVO_ASSISTANT);
    convo_add_part(c, t, CONVO_TEXT)->text = SLICE("Let me see.");
    add_call(c, t, "fc-1", "get_weather", "{\"city\":\"Paris\"}");
    add_call(c, t, "call_0123456789abcdef", "get.time", "");
    add_call(c, t, "fc-3", "get_list", "{}");
    add_text(c, CONVO_DEVELOPER, "Answer in French.");
    add_text(c, CONVO_USER, "Hurry.");
    t = convo_add_turn(c, CONVO_USER);
    p = add_result(c, t, "fc-3", "[1, 2]");
    p->content->next = arena_new(arena, struct convo_part);
    *p->content->next =
        (struct convo_part){.kind = CONVO_IMAGE, .mime = SLICE("image/png"), .data = SLICE("aGk=")};
    add_result(c, t, "call_0123456789abcdef", "no clock")->is_error = true;
    add_result(c, t, "fc-1", "{\"degrees\": 18.50}");
    t = convo_add_turn(c, CONVO_ASSISTANT);
    p = convo_add_part(c, t, CONVO_TEXT);
    p->text = SLICE("18.");
    p->signature = SLICE("dGV4dA==");
    p = add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "fc-1", "get_news", "{}");
    p->signature = SLICE("Y2FsbA==");
    add_result(c, convo_add_turn(c, CONVO_USER), "fc-1", "none");
    add_tool(c, "get_weather", SCHEMA)->description = SLICE("Current weather");
    add_tool(c, "get.time", "{\"type\":\"object\",\"properties\":{}}");
    add_tool(c, "get_list", "");
    add_tool(c, "get_news", "");
    c->tool_choice = CONVO_CHOICE_NAMED;
    c->tool_choice_name = SLICE("get.time");
    c->temperature = SLICE("1.70");
    c->top_p = SLICE("0.9");
    c->top_k = SLICE("40");
    c->presence_penalty = SLICE("0.5");
    c->frequency_penalty = SLICE("-0.5");
    c->seed = SLICE("42");
    c->max_tokens = 500;
    c->n = 2;
    c->logprobs = 1;
    c->top_logprobs = 3;
    c->stop = stops;
    c->n_stop = 1;
    c->service_tier = SLICE("flex");
    c->effort = CONVO_EFFORT_MEDIUM;
    return c;
}

static void test_everything_that_has_a_place_gets_there(void **state)
{
    struct encoded e = encode(D, everything(), &two);

    assert_request(&e, "google/request_everything.json");
    assert_int_equal(e.rep.n_dropped, 0);
}

static void test_newer_models_get_signatures_levels_and_plain_schemas(void **state)
{
    struct convo *c = everything();
    struct encoded e;

    c->format = CONVO_FORMAT_SCHEMA;
    c->schema = SLICE(SCHEMA);
    e = encode(D, c, &three);
    assert_string_equal(at(&e, "contents.1.parts.1.thoughtSignature"),
                        "\"skip_thought_signature_validator\"");
    assert_string_equal(at(&e, "contents.1.parts.2.thoughtSignature"), "");
    assert_string_equal(at(&e, "contents.3.parts.1.thoughtSignature"), "\"Y2FsbA==\"");
    assert_string_equal(at(&e, "generationConfig.thinkingConfig"),
                        "{\"thinkingLevel\":\"MEDIUM\",\"includeThoughts\":true}");
    assert_string_equal(at(&e, "generationConfig.responseMimeType"), "\"application/json\"");
    assert_string_equal(at(&e, "generationConfig.responseJsonSchema"), SCHEMA);
    assert_string_equal(at(&e, "tools.0.functionDeclarations.0.parametersJsonSchema"), SCHEMA);
    e = encode(D, c, &two);
    assert_string_equal(at(&e, "generationConfig.responseSchema.type"), "\"OBJECT\"");
}

static void test_a_result_without_its_call_is_refused(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    add_result(c, convo_add_turn(c, CONVO_USER), "nowhere", "1");
    assert_refused(encode(D, c, &two), GW_EBADREQ, "messages.tool_call_id");
    c = hello();
    add_result(c, convo_add_turn(c, CONVO_USER), "nowhere", "1")->name = SLICE("told");
    e = encode(D, c, &two);
    assert_string_equal(at(&e, "contents.0.parts.0.functionResponse.name"), "\"told\"");
}

static void test_a_call_after_the_result_is_not_its_call(void **state)
{
    struct convo *c = hello();

    add_result(c, convo_add_turn(c, CONVO_USER), "x", "1");
    add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "x", "f", "{}");
    assert_refused(encode(D, c, &two), GW_EBADREQ, "messages.tool_call_id");
}

static void test_arguments_that_are_no_object_are_refused(void **state)
{
    struct convo *c = hello();

    add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "a", "f", "[1]");
    assert_refused(encode(D, c, &two), GW_EBADREQ, "messages.tool_calls.function.arguments");
}

static void test_results_are_wrapped_unless_they_are_objects(void **state)
{
    static const struct {
        const char *text;
        bool is_error;
        const char *want;
    } rows[] = {
        {"plain", false, "{\"output\":\"plain\"}"},
        {"", false, "{\"output\":\"\"}"},
        {"42", false, "{\"output\":\"42\"}"},
        {"[1,2]", false, "{\"output\":[1,2]}"},
        {"{\"a\":1.0}", false, "{\"a\":1.0}"},
        {"{\"a\":", false, "{\"output\":\"{\\\"a\\\":\"}"},
        {"boom", true, "{\"error\":\"boom\"}"},
        {"{\"a\":1}", true, "{\"error\":{\"a\":1}}"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo *c = hello();
        struct encoded e;

        add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "a", "f", "{}");
        add_result(c, convo_add_turn(c, CONVO_USER), "a", rows[i].text)->is_error =
            rows[i].is_error;
        e = encode(D, c, &two);
        assert_string_equal(at(&e, "contents.2.parts.0.functionResponse.response"), rows[i].want);
    }
}

static void test_tool_choices_are_mapped(void **state)
{
    static const struct {
        enum convo_tool_choice choice;
        const char *want;
    } rows[] = {
        {CONVO_CHOICE_UNSET, ""},
        {CONVO_CHOICE_AUTO, "{\"mode\":\"AUTO\"}"},
        {CONVO_CHOICE_NONE, "{\"mode\":\"NONE\"}"},
        {CONVO_CHOICE_ANY, "{\"mode\":\"ANY\"}"},
        {CONVO_CHOICE_NAMED, "{\"mode\":\"ANY\",\"allowedFunctionNames\":[\"f\"]}"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo *c = hello();
        struct encoded e;

        add_tool(c, "f", SCHEMA);
        c->tool_choice = rows[i].choice;
        c->tool_choice_name = SLICE("f");
        e = encode(D, c, &two);
        assert_string_equal(at(&e, "toolConfig.functionCallingConfig"), rows[i].want);
    }
}

static void test_efforts_are_mapped(void **state)
{
    static const struct {
        enum convo_effort effort;
        const char *budget, *level;
    } rows[] = {
        {CONVO_EFFORT_NONE, "0", "\"LOW\""},      {CONVO_EFFORT_MINIMAL, "1024", "\"LOW\""},
        {CONVO_EFFORT_LOW, "1024", "\"LOW\""},    {CONVO_EFFORT_MEDIUM, "8192", "\"MEDIUM\""},
        {CONVO_EFFORT_HIGH, "24576", "\"HIGH\""}, {CONVO_EFFORT_MAX, "24576", "\"HIGH\""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo *c = hello();
        struct encoded e;

        c->effort = rows[i].effort;
        e = encode(D, c, &two);
        assert_string_equal(at(&e, "generationConfig.thinkingConfig.thinkingBudget"),
                            rows[i].budget);
        e = encode(D, c, &three);
        assert_string_equal(at(&e, "generationConfig.thinkingConfig.thinkingLevel"), rows[i].level);
        assert_int_equal(was_dropped(&e, "reasoning_effort"), i == 0);
    }
}

static void test_a_budget_of_its_own_wins(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    c->effort = CONVO_EFFORT_HIGH;
    c->thinking_budget = 77;
    c->include_thoughts = 0;
    e = encode(D, c, &three);
    assert_string_equal(at(&e, "generationConfig.thinkingConfig"),
                        "{\"thinkingBudget\":77,\"includeThoughts\":false}");
}

static void test_what_has_no_place_is_listed_or_refused(void **state)
{
    static const char *const listed[] = {"logit_bias",
                                         "user",
                                         "metadata",
                                         "prediction",
                                         "messages.name",
                                         "parallel_tool_calls",
                                         "tools.function.strict",
                                         "messages.reasoning"};
    struct convo *c = hello();
    struct convo_part *p = convo_add_part(c, convo_add_turn(c, CONVO_ASSISTANT), CONVO_REASONING);
    struct encoded e;

    p->text = SLICE("hm");
    c->logit_bias = c->metadata = c->prediction = SLICE("{}");
    c->user = SLICE("u");
    c->turns->name = SLICE("ann");
    c->parallel_tools = 0;
    add_tool(c, "f", "")->strict = 1;
    e = encode(D, c, &two);
    assert_int_equal(e.err, GW_OK);
    for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++)
        assert_true(was_dropped(&e, listed[i]));
    assert_int_equal(e.rep.n_dropped, sizeof(listed) / sizeof(listed[0]));
    c->web_search = SLICE("{}");
    assert_refused(encode(D, c, &two), GW_EUNSUPPORTED, "web_search_options");
    c = hello();
    convo_add_part(c, c->last_turn, CONVO_FILE)->file_id = SLICE("file-1");
    assert_refused(encode(D, c, &two), GW_EUNSUPPORTED, "file.file_id");
    c = hello();
    add_tool(c, "f", "[]");
    assert_refused(encode(D, c, &two), GW_EBADREQ, "tools.function.parameters");
    c = hello();
    add_tool(c, "f", "{\"$ref\":\"#/nowhere\"}");
    assert_refused(encode(D, c, &two), GW_EBADREQ, "tools.function.parameters");
    c = convo_new(arena);
    add_text(c, CONVO_SYSTEM, "Alone");
    assert_refused(encode(D, c, &two), GW_EBADREQ, "messages");
}

static void test_a_name_beginning_with_a_digit_is_made_safe(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    add_tool(c, "2nd", "");
    e = encode(D, c, &two);
    assert_non_null(strstr(at(&e, "tools.0.functionDeclarations.0.name"), "\"_nd_"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_plain_question_has_the_vendors_shape),
        T(test_a_models_name_cannot_leave_its_path),
        T(test_everything_that_has_a_place_gets_there),
        T(test_newer_models_get_signatures_levels_and_plain_schemas),
        T(test_a_result_without_its_call_is_refused),
        T(test_a_call_after_the_result_is_not_its_call),
        T(test_arguments_that_are_no_object_are_refused),
        T(test_results_are_wrapped_unless_they_are_objects),
        T(test_tool_choices_are_mapped),
        T(test_efforts_are_mapped),
        T(test_a_budget_of_its_own_wins),
        T(test_what_has_no_place_is_listed_or_refused),
        T(test_a_name_beginning_with_a_digit_is_made_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
