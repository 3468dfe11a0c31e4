/* The Anthropic dialect: requests. */
#include "tests/unit/dialect_test.h"

#define D (&dialect_anthropic)

static const struct registry_provider provider = {.name = "anthropic", .api_key = {"sk-1", 4}};
static const struct slice adaptive_quirks[] = {
    {"adaptive_thinking", 17}, {"native_schema", 13}, {"no_sampling", 11}};

/* An older model: no schemas, thinking by budget. */
static const struct registry_model older = {
    .id = {"anthropic/claude-3-7", 20},
    .name = {"claude-3-7", 10},
    .provider = &provider,
    .listed = true,
    .max_output_tokens = 8192,
    .capabilities = REGISTRY_CAN_TOOLS | REGISTRY_CAN_VISION | REGISTRY_CAN_REASONING};

static const struct registry_model newer = {.id = {"anthropic/claude-opus-5", 23},
                                            .name = {"claude-opus-5", 13},
                                            .provider = &provider,
                                            .listed = true,
                                            .max_output_tokens = 64000,
                                            .capabilities = 63,
                                            .quirks = adaptive_quirks,
                                            .n_quirks = 3};

static const struct registry_model unlisted = {
    .name = {"claude-x", 8}, .provider = &provider, .capabilities = ~0u};

#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]" \
    "}"

static struct convo *hello(void)
{
    struct convo *c = convo_new(arena);

    add_text(c, CONVO_USER, "Hello, Claude");
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
    struct encoded e;

    c->max_tokens = 1024;
    e = encode(D, c, &older);
    assert_request(&e, "anthropic/request_hello.json");
    assert_true(slice_is(e.req.path, "/v1/messages"));
    assert_int_equal(e.req.n_headers, 2);
    assert_true(slice_is(e.req.headers[0].name, "x-api-key"));
    assert_true(slice_is(e.req.headers[0].value, "sk-1"));
    assert_true(slice_is(e.req.headers[1].name, "anthropic-version"));
    assert_true(slice_is(e.req.headers[1].value, "2023-06-01"));
    assert_int_equal(e.rep.n_dropped, 0);
}

static void add_image(struct convo *c, struct convo_turn *t, const char *mime, const char *data,
                      const char *url)
{
    struct convo_part *p = convo_add_part(c, t, CONVO_IMAGE);

    p->mime = slice_cstr(mime);
    p->data = slice_cstr(data);
    p->url = slice_cstr(url);
}

static void add_file(struct convo *c, struct convo_turn *t, const char *mime, const char *data,
                     const char *name)
{
    struct convo_part *p = convo_add_part(c, t, CONVO_FILE);

    p->mime = slice_cstr(mime);
    p->data = slice_cstr(data);
    p->name = slice_cstr(name);
}

/* Everything that has a place there, in an order that must be put right. */
static struct convo *everything(void)
{
    static const struct slice stops[] = {{"###", 3}, {"\n\nHuman:", 8}};
    struct convo *c = convo_new(arena);
    struct convo_turn *t;
    struct convo_part *p;

    add_text(c, CONVO_SYSTEM, "You are terse.")->cache_control = SLICE("{\"type\":\"ephemeral\"}");
    t = convo_add_turn(c, CONVO_USER);
    add_image(c, t, "image/jpg", "aGk=", NULL);
    add_image(c, t, NULL, NULL, "https://example.com/a.png");
    add_file(c, t, "application/pdf", "JVBERi0=", "report.pdf");
    add_file(c, t, "text/plain; charset=utf-8", "aMOpbGxv", NULL);
    convo_add_part(c, t, CONVO_TEXT)->text = SLICE("  ");
    add_text(c, CONVO_USER, "What is the weather?");
    t = convo_add_turn(c, CONVO_ASSISTANT);
    convo_add_part(c, t, CONVO_TEXT)->text = SLICE("Let me see.");
    add_call(c, t, "call_a", "get_weather", "{\"city\": \"Paris\", \"n\": 12345678901234567890}");
    add_call(c, t, "call:b", "get_time", " ");
    p = convo_add_part(c, t, CONVO_REASONING);
    p->text = SLICE("Two calls.");
    p->signature = SLICE("c2ln");
    convo_add_part(c, t, CONVO_REDACTED)->data = SLICE("cmVk");
    convo_add_part(c, t, CONVO_REASONING)->text = SLICE("unsigned");
    add_text(c, CONVO_DEVELOPER, "Answer in French.");
    add_text(c, CONVO_USER, "Hurry.");
    t = convo_add_turn(c, CONVO_USER);
    add_result(c, t, "call_a", "18 degrees");
    p = add_result(c, t, "call:b", "");
    p->is_error = true;
    p->content->next = arena_new(arena, struct convo_part);
    *p->content->next =
        (struct convo_part){.kind = CONVO_IMAGE, .mime = SLICE("image/png"), .data = SLICE("aGk=")};
    add_tool(c, "get_weather", SCHEMA)->description = SLICE("Current weather");
    add_tool(c, "get_time", "")->cache_control = SLICE("{\"type\":\"ephemeral\",\"ttl\":\"1h\"}");
    add_tool(c, "untyped", "{\"properties\":{}}");
    c->tool_choice = CONVO_CHOICE_ANY;
    c->parallel_tools = 0;
    c->temperature = SLICE("0.30");
    c->top_p = SLICE("0.9");
    c->top_k = SLICE("40");
    c->stop = stops;
    c->n_stop = 2;
    c->user = SLICE("u-8f3a");
    c->service_tier = SLICE("default");
    c->stream = true;
    return c;
}

static void test_everything_that_has_a_place_gets_there(void **state)
{
    struct encoded e = encode(D, everything(), &older);

    assert_request(&e, "anthropic/request_everything.json");
    assert_int_equal(e.rep.n_dropped, 1);
    assert_true(was_dropped(&e, "messages.reasoning"));
}

static void test_tool_arguments_keep_their_digits(void **state)
{
    struct encoded e = encode(D, everything(), &older);

    assert_int_equal(e.err, GW_OK);
    assert_non_null(memmem(e.body.p, e.body.n, "12345678901234567890", 20));
    assert_string_equal(at(&e, "temperature"), "0.30");
}

static void test_arguments_that_are_no_object_are_refused(void **state)
{
    static const char *const bad[] = {"[1]", "{\"a\":", "\"x\"", "1", "{} {}"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct convo *c = hello();

        add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "a", "f", bad[i]);
        assert_refused(encode(D, c, &older), GW_EBADREQ, "messages.tool_calls.function.arguments");
    }
}

static void test_thinking_first_keeps_its_order(void **state)
{
    struct convo *c = hello();
    struct convo_turn *t = convo_add_turn(c, CONVO_ASSISTANT);
    struct convo_part *p;
    struct encoded e;

    p = convo_add_part(c, t, CONVO_REASONING);
    p->signature = SLICE("a");
    convo_add_part(c, t, CONVO_TEXT)->text = SLICE("x");
    p = convo_add_part(c, t, CONVO_REASONING);
    p->signature = SLICE("b");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "messages.1.content.0.signature"), "\"a\"");
    assert_string_equal(at(&e, "messages.1.content.1.text"), "\"x\"");
    assert_string_equal(at(&e, "messages.1.content.2.signature"), "\"b\"");
}

static void test_tool_choices_are_mapped(void **state)
{
    static const struct {
        enum convo_tool_choice choice;
        int parallel;
        const char *want;
    } rows[] = {
        {CONVO_CHOICE_UNSET, -1, ""},
        {CONVO_CHOICE_UNSET, 0, "{\"type\":\"auto\",\"disable_parallel_tool_use\":true}"},
        {CONVO_CHOICE_AUTO, 1, "{\"type\":\"auto\",\"disable_parallel_tool_use\":false}"},
        {CONVO_CHOICE_ANY, -1, "{\"type\":\"any\"}"},
        {CONVO_CHOICE_NONE, 0, "{\"type\":\"none\"}"},
        {CONVO_CHOICE_NAMED, -1, "{\"type\":\"tool\",\"name\":\"f\"}"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo *c = hello();
        struct encoded e;

        add_tool(c, "f", SCHEMA);
        c->tool_choice = rows[i].choice;
        c->tool_choice_name = SLICE("f");
        c->parallel_tools = rows[i].parallel;
        e = encode(D, c, &older);
        assert_string_equal(at(&e, "tool_choice"), rows[i].want);
    }
}

static void test_a_choice_without_tools_is_refused(void **state)
{
    struct convo *c = hello();

    c->tool_choice = CONVO_CHOICE_ANY;
    assert_refused(encode(D, c, &older), GW_EBADREQ, "tool_choice");
}

static void test_max_tokens_come_from_the_request_the_catalogue_or_the_default(void **state)
{
    struct convo *c = hello();
    struct encoded e = encode(D, c, &older);

    assert_string_equal(at(&e, "max_tokens"), "8192");
    e = encode(D, c, &unlisted);
    assert_string_equal(at(&e, "max_tokens"), "4096");
    c->max_tokens = 7;
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "max_tokens"), "7");
}

static void test_what_would_change_the_answer_is_refused_by_name(void **state)
{
    static const struct slice space[] = {{" \n", 2}};
    struct convo *c = hello();

    c->temperature = SLICE("1.5");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "temperature");
    c = hello();
    c->temperature = SLICE("nan-ish");
    assert_refused(encode(D, c, &older), GW_EBADREQ, "temperature");
    c = hello();
    c->stop = space;
    c->n_stop = 1;
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "stop");
    c = hello();
    c->n = 2;
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "n");
    c = hello();
    c->logprobs = 1;
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "logprobs");
    c = hello();
    c->modalities = SLICE("[\"text\", \"audio\"]");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "modalities");
    c = hello();
    c->web_search = SLICE("{}");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "web_search_options");
    c = convo_new(arena);
    add_text(c, CONVO_SYSTEM, "Alone");
    assert_refused(encode(D, c, &older), GW_EBADREQ, "messages");
}

static void test_parts_without_a_place_are_refused_by_name(void **state)
{
    struct convo *c = hello();

    add_image(c, c->last_turn, "image/tiff", "aGk=", NULL);
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "image_url");
    c = hello();
    add_image(c, c->last_turn, NULL, NULL, "file:///etc/passwd");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "image_url");
    c = hello();
    convo_add_part(c, c->last_turn, CONVO_AUDIO)->data = SLICE("aGk=");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "input_audio");
    c = hello();
    convo_add_part(c, c->last_turn, CONVO_FILE)->file_id = SLICE("file-1");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "file.file_id");
    c = hello();
    add_file(c, c->last_turn, "application/zip", "aGk=", NULL);
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "file");
    c = hello();
    add_file(c, c->last_turn, "text/plain", "/w==", NULL);
    assert_refused(encode(D, c, &older), GW_EBADREQ, "file.file_data");
}

static void test_what_would_not_change_it_is_listed(void **state)
{
    static const char *const listed[] = {"seed",     "presence_penalty", "frequency_penalty",
                                         "metadata", "logit_bias",       "prediction",
                                         "user",     "service_tier",     "messages.name"};
    struct convo *c = hello();
    struct encoded e;

    c->seed = c->presence_penalty = c->frequency_penalty = SLICE("1");
    c->metadata = c->logit_bias = c->prediction = SLICE("{}");
    c->user = SLICE("ann@example.com");
    c->service_tier = SLICE("flex");
    c->last_turn->name = SLICE("ann");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "metadata"), "");
    for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++)
        assert_true(was_dropped(&e, listed[i]));
    assert_int_equal(e.rep.n_dropped, sizeof(listed) / sizeof(listed[0]));
}

static void test_a_telephone_number_is_not_told_as_the_user(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    c->user = SLICE("+49 (170) 123-4567");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "metadata"), "");
    c->user = SLICE("1234567a");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "metadata.user_id"), "\"1234567a\"");
}

/* --- thinking --------------------------------------------------------------------------------- */

static void test_effort_becomes_a_budget_below_max_tokens(void **state)
{
    static const struct {
        enum convo_effort effort;
        int64_t asked, max_tokens;
        const char *budget, *max;
        bool told;
    } rows[] = {
        {CONVO_EFFORT_LOW, -1, 8000, "1024", "8000", false},
        {CONVO_EFFORT_MEDIUM, -1, 8000, "2048", "8000", false},
        {CONVO_EFFORT_HIGH, -1, 8000, "4096", "8000", false},
        {CONVO_EFFORT_HIGH, -1, 2000, "1999", "2000", false},
        {CONVO_EFFORT_HIGH, -1, 100, "1024", "1124", true},
        {CONVO_EFFORT_UNSET, 3000, 8000, "3000", "8000", false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo *c = hello();
        struct encoded e;

        c->effort = rows[i].effort;
        c->thinking_budget = rows[i].asked;
        c->max_tokens = rows[i].max_tokens;
        e = encode(D, c, &older);
        assert_string_equal(at(&e, "thinking.type"), "\"enabled\"");
        assert_string_equal(at(&e, "thinking.budget_tokens"), rows[i].budget);
        assert_string_equal(at(&e, "max_tokens"), rows[i].max);
        assert_int_equal(was_dropped(&e, "max_tokens"), rows[i].told);
    }
}

static void test_newer_models_get_adaptive_thinking_and_an_effort(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    c->effort = CONVO_EFFORT_HIGH;
    c->include_thoughts = 1;
    c->temperature = SLICE("1");
    c->top_p = SLICE("0.5");
    c->format = CONVO_FORMAT_SCHEMA;
    c->schema =
        SLICE("{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":"
              "1}},\"required\":[\"n\"]}");
    e = encode(D, c, &newer);
    assert_request(&e, "anthropic/request_adaptive.json");
    assert_int_equal(e.rep.n_dropped, 2);
    assert_true(was_dropped(&e, "top_p"));
    assert_true(was_dropped(&e, "response_format.json_schema.schema"));
    c->effort = CONVO_EFFORT_NONE;
    e = encode(D, c, &newer);
    assert_string_equal(at(&e, "thinking"), "{\"type\":\"disabled\"}");
}

static void test_thinking_leaves_out_sampling(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    c->effort = CONVO_EFFORT_LOW;
    c->temperature = SLICE("0.2");
    c->top_k = SLICE("3");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "temperature"), "");
    assert_string_equal(at(&e, "top_k"), "");
    assert_true(was_dropped(&e, "temperature"));
    assert_true(was_dropped(&e, "top_k"));
}

static void test_thinking_gives_way_to_a_forced_tool_and_to_a_loop_without_it(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    add_tool(c, "f", SCHEMA);
    c->effort = CONVO_EFFORT_LOW;
    c->tool_choice = CONVO_CHOICE_ANY;
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "thinking"), "");
    assert_true(was_dropped(&e, "reasoning_effort"));
    c->tool_choice = CONVO_CHOICE_AUTO;
    add_call(c, convo_add_turn(c, CONVO_ASSISTANT), "a", "f", "{}");
    add_result(c, convo_add_turn(c, CONVO_USER), "a", "1");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "thinking"), "");
    assert_true(was_dropped(&e, "reasoning_effort"));
}

static void test_a_model_that_cannot_think_is_not_asked_to(void **state)
{
    struct registry_model m = older;
    struct convo *c = hello();
    struct encoded e;

    m.capabilities = 0;
    c->effort = CONVO_EFFORT_HIGH;
    e = encode(D, c, &m);
    assert_string_equal(at(&e, "thinking"), "");
    assert_true(was_dropped(&e, "reasoning_effort"));
}

/* --- answer formats --------------------------------------------------------------------------- */

static struct convo *with_schema(void)
{
    struct convo *c = hello();

    c->format = CONVO_FORMAT_SCHEMA;
    c->schema = SLICE(SCHEMA);
    return c;
}

static void test_a_schema_is_a_forced_tool_where_the_model_knows_none(void **state)
{
    struct convo *c = with_schema();
    struct encoded e = encode(D, c, &older);

    assert_request(&e, "anthropic/request_answer_tool.json");
    c->effort = CONVO_EFFORT_LOW;
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "tool_choice"), "{\"type\":\"auto\"}");
    assert_string_equal(at(&e, "thinking.type"), "\"enabled\"");
}

static void test_the_clients_tools_stay_beside_the_answers_tool(void **state)
{
    struct convo *c = with_schema();
    struct encoded e;

    add_tool(c, "postern_answer", SCHEMA);
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "tools.0.name"), "\"postern_answer\"");
    assert_string_equal(at(&e, "tools.1.name"), "\"postern_answer_2\"");
    assert_string_equal(at(&e, "tool_choice"), "{\"type\":\"any\"}");
    c->tool_choice = CONVO_CHOICE_NAMED;
    c->tool_choice_name = SLICE("postern_answer");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "tools.1"), "");
    assert_string_equal(at(&e, "tool_choice"), "{\"type\":\"tool\",\"name\":\"postern_answer\"}");
}

static void test_a_schema_that_is_no_object_is_refused(void **state)
{
    struct convo *c = with_schema();

    c->schema = SLICE("{\"type\":\"array\"}");
    assert_refused(encode(D, c, &older), GW_EUNSUPPORTED, "response_format.json_schema.schema");
    c->schema = SLICE("[]");
    assert_refused(encode(D, c, &newer), GW_EBADREQ, "response_format.json_schema.schema");
}

static void test_a_json_object_is_the_input_of_a_forced_tool(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    c->format = CONVO_FORMAT_JSON;
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "tools.0.input_schema.type"), "\"object\"");
    assert_string_equal(at(&e, "tool_choice.type"), "\"tool\"");
    assert_false(was_dropped(&e, "response_format"));
}

static void test_a_json_object_is_asked_for_in_words_where_no_tool_can_be_forced(void **state)
{
    static const struct slice thinks = {"always_thinks", 13};
    struct registry_model m = older;
    struct convo *c = hello();
    struct encoded e;

    m.quirks = &thinks;
    m.n_quirks = 1;
    c->format = CONVO_FORMAT_JSON;
    e = encode(D, c, &m);
    assert_non_null(strstr(at(&e, "system.0.text"), "JSON object"));
    assert_true(was_dropped(&e, "response_format"));
}

static void test_strict_tools_are_closed_where_the_model_knows_them(void **state)
{
    struct convo *c = hello();
    struct encoded e;

    add_tool(c, "f", SCHEMA)->strict = 1;
    e = encode(D, c, &newer);
    assert_string_equal(at(&e, "tools.0.strict"), "true");
    assert_string_equal(at(&e, "tools.0.input_schema.additionalProperties"), "false");
    e = encode(D, c, &older);
    assert_string_equal(at(&e, "tools.0.strict"), "");
    assert_true(was_dropped(&e, "tools.function.strict"));
}

static void test_text_cannot_break_out_of_its_string(void **state)
{
    static const char naughty[] =
        "\"}],\"model\":\"x\n\ndata: [DONE]\n\n\\u0000 \x01 \xe2\x80\xa8 {{}}";
    struct convo *c = convo_new(arena);
    struct encoded e;
    struct json root, text;

    add_text(c, CONVO_USER, naughty);
    e = encode(D, c, &older);
    assert_int_equal(json_parse(arena, e.body, NULL, &root, NULL), GW_OK);
    text =
        json_get(json_first(json_get(json_first(json_get(root, "messages")), "content")), "text");
    assert_true(slice_is(json_str(text), naughty));
    assert_true(json_str_is(json_get(root, "model"), "claude-3-7"));
}

static void test_a_body_over_the_buffers_ceiling_is_too_big(void **state)
{
    struct dialect_request req = {0};
    struct convo_report rep = {0};
    struct buf body;

    buf_init(&body, 60);
    req.body = &body;
    assert_int_equal(D->encode_request(hello(), &older, &req, &rep), GW_ETOOBIG);
    buf_deinit(&body);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_plain_question_has_the_vendors_shape),
        T(test_everything_that_has_a_place_gets_there),
        T(test_tool_arguments_keep_their_digits),
        T(test_arguments_that_are_no_object_are_refused),
        T(test_thinking_first_keeps_its_order),
        T(test_tool_choices_are_mapped),
        T(test_a_choice_without_tools_is_refused),
        T(test_max_tokens_come_from_the_request_the_catalogue_or_the_default),
        T(test_what_would_change_the_answer_is_refused_by_name),
        T(test_parts_without_a_place_are_refused_by_name),
        T(test_what_would_not_change_it_is_listed),
        T(test_a_telephone_number_is_not_told_as_the_user),
        T(test_effort_becomes_a_budget_below_max_tokens),
        T(test_newer_models_get_adaptive_thinking_and_an_effort),
        T(test_thinking_leaves_out_sampling),
        T(test_thinking_gives_way_to_a_forced_tool_and_to_a_loop_without_it),
        T(test_a_model_that_cannot_think_is_not_asked_to),
        T(test_a_schema_is_a_forced_tool_where_the_model_knows_none),
        T(test_the_clients_tools_stay_beside_the_answers_tool),
        T(test_a_schema_that_is_no_object_is_refused),
        T(test_a_json_object_is_the_input_of_a_forced_tool),
        T(test_a_json_object_is_asked_for_in_words_where_no_tool_can_be_forced),
        T(test_strict_tools_are_closed_where_the_model_knows_them),
        T(test_text_cannot_break_out_of_its_string),
        T(test_a_body_over_the_buffers_ceiling_is_too_big),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
