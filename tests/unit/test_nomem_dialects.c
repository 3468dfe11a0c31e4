/*
 * test_nomem_dialects.c - CHECK 94: every allocation of the translations fails once, and for good
 * (see test_nomem.c). cJSON's own allocations are among them.
 */
#include "providers/dialect/openai.h"
#include "tests/unit/nomem.h"

#include "gateway/core/json.h"
#include "providers/dialect.h"
#include "providers/dialect/schema.h"
#include "providers/registry.h"
#include "providers/sse.h"

#include <cjson/cJSON.h>

static struct arena *inputs; /* what the operations work on */

/* --- schemas ---------------------------------------------------------------------------------- */

struct schema_case {
    enum gw_err (*fn)(struct arena *a, struct slice schema, struct slice *ret, bool *ret_lossy);
    struct slice text;
};

static enum gw_err op_schema(struct run *run)
{
    const struct schema_case *c = run->input;
    struct slice text;
    bool lossy = false;
    enum gw_err err = c->fn(run->arena, c->text, &text, &lossy);

    if (err)
        return err;
    show(run, text);
    show_int(run, lossy);
    return GW_OK;
}

#define SCHEMA                                                                                     \
    "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#/$defs/n\"},"    \
    "\"v\":{\"type\":[\"string\",\"null\"],\"minLength\":1,\"pattern\":\"^a\"}}}},"                \
    "\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/n\"},\"b\":{\"oneOf\":["        \
    "{\"const\":1},{\"enum\":[\"x\",\"y\"]}],\"description\":\"d\"},\"c\":{\"allOf\":[{\"type\":"  \
    "\"integer\",\"minimum\":0},{\"maximum\":12345678901234567890}]},\"d\":{\"type\":\"array\","   \
    "\"items\":{\"type\":\"string\",\"format\":\"date\"},\"maxItems\":3}},\"required\":[\"a\"]}"

static void test_check_094_schemas_are_translated_or_memory_is_short(void **state)
{
    const struct schema_case cases[] = {{schema_to_openapi, SLICE(SCHEMA)},
                                        {schema_close, SLICE(SCHEMA)},
                                        {schema_close, SLICE("[]")}};

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        torture("schema", op_schema, &cases[i]);
}

/* --- requests --------------------------------------------------------------------------------- */

static const struct slice quirk_sets[][3] = {
    {SLICE("none")},
    {SLICE("native_schema"), SLICE("adaptive_thinking"), SLICE("no_sampling")},
    {SLICE("json_schema_params"), SLICE("thinking_level"), SLICE("thought_signatures")},
};

static struct registry_provider provider = {
    .name = "p", .api_key = SLICE("sk-1"), .use_max_completion_tokens = true};

static struct registry_model model_with(unsigned quirks)
{
    return (struct registry_model){.id = SLICE("p/m"),
                                   .name = SLICE("m"),
                                   .provider = &provider,
                                   .listed = true,
                                   .max_output_tokens = 8192,
                                   .capabilities = ~0u,
                                   .quirks = quirk_sets[quirks],
                                   .n_quirks = quirks ? 3 : 1};
}

struct request_case {
    const struct dialect *client; /* who sends it; NULL: an OpenAI client */
    const struct dialect *to;
    struct slice body;
    unsigned quirks;
};

static void show_request(struct run *run, const struct dialect_request *out)
{
    show(run, out->path);
    for (unsigned i = 0; i < out->n_headers; i++) {
        show(run, out->headers[i].name);
        show(run, out->headers[i].value);
    }
    show(run, buf_slice(out->body));
}

/* A client's body, read and written for a provider. */
static enum gw_err op_request(struct run *run)
{
    const struct request_case *rc = run->input;
    struct registry_model m = model_with(rc->quirks);
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_request out = {.n_headers = 0};
    struct convo *c = NULL;
    struct json root;
    struct buf body;
    enum gw_err err = json_parse(run->arena, rc->body, NULL, &root, NULL);

    if (!err)
        err =
            (rc->client ? rc->client : &dialect_openai)->decode_request(run->arena, root, &c, &rep);
    if (err) {
        show(run, rep.refused);
        return err;
    }
    buf_init(&body, 1u << 20);
    out.body = &body;
    err = rc->to->encode_request(c, &m, &out, &rep);
    if (!err)
        show_request(run, &out);
    for (unsigned i = 0; i < rep.n_dropped; i++)
        show(run, slice_cstr(rep.dropped[i]));
    show(run, rep.refused);
    buf_deinit(&body);
    return err;
}

static struct json golden_rows(const char *path)
{
    struct json all;

    assert_int_equal(json_parse(inputs, source_file(inputs, path), NULL, &all, NULL), GW_OK);
    assert_true(json_count(all) > 3);
    return all;
}

#define OPENAI "tests/unit/golden/openai/"

static void torture_request(const char *name, const struct dialect *to, struct slice body)
{
    for (unsigned quirks = 0; quirks < 3; quirks++) {
        struct request_case rc = {.to = to, .body = body, .quirks = quirks};

        if (to == &dialect_openai && quirks)
            return;
        torture(name, op_request, &rc);
    }
}

static void torture_requests(const struct dialect *to)
{
    struct json all = golden_rows(OPENAI "requests.json");

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row))
        torture_request(arena_cstr(inputs, json_str(json_get(row, "name"))), to,
                        json_raw(json_get(row, "in")));
}

static void test_check_094_requests_reach_openai_or_memory_is_short(void **state)
{
    torture_requests(&dialect_openai);
}

static void test_check_094_requests_reach_anthropic_or_memory_is_short(void **state)
{
    torture_requests(&dialect_anthropic);
}

static void test_check_094_requests_reach_google_or_memory_is_short(void **state)
{
    torture_requests(&dialect_google);
}

static void test_check_094_requests_of_anthropic_clients_arrive_or_memory_is_short(void **state)
{
    static const struct dialect *const to[] = {&dialect_openai, &dialect_anthropic,
                                               &dialect_google};
    struct request_case rc = {.client = &dialect_anthropic};

    rc.body = source_file(inputs, "tests/unit/golden/anthropic/client_everything.json");
    for (unsigned i = 0; i < 3; i++) {
        rc.to = to[i];
        torture("client_everything", op_request, &rc);
    }
    rc.body =
        SLICE("{\"mod\\u0065l\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
              "\"te\\u0078t\",\"text\":[]}]}]}");
    torture("wrong", op_request, &rc);
}

static void test_check_094_wrong_requests_are_refused_or_memory_is_short(void **state)
{
    struct json all = golden_rows(OPENAI "refused.json");

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct request_case rc = {.to = &dialect_openai, .body = json_raw(json_get(row, "in"))};

        assert_true(rc.body.n > 0);
        torture(arena_cstr(inputs, json_str(json_get(row, "name"))), op_request, &rc);
    }
}

/* The same with names that must be made safe, and a schema for the answer. */
static void test_check_094_tools_and_schemas_are_carried_or_memory_is_short(void **state)
{
    static const struct slice body = SLICE(
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\\n\"},{\"role\":"
        "\"user\","
        "\"content\":[{\"type\":\"text\",\"text\":\"caf\\u00e9\"},{\"type\":\"image_url\",\"image_"
        "url\":"
        "{\"url\":\"data:image/"
        "png;base64,iVBORw0KGgo=\"}}]},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"id\":\"call "
        "1\",\"type\":\"function\",\"function\":{\"name\":\"files/re.ad\","
        "\"arguments\":\"{\\\"p\\\":\\\"/x\\\"}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"call "
        "1\","
        "\"content\":\"out\\tput\"},{\"role\":\"user\",\"content\":\"go\"}],\"tools\":[{\"type\":"
        "\"function\",\"function\":{\"name\":\"files/"
        "re.ad\",\"description\":\"d\\u00e9\",\"parameters\":" SCHEMA
        ",\"strict\":true}}],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
        "\"files/re.ad\"}},\"stop\":[\"a\\n\",\"b\"],\"max_tokens\":5,\"stream\":true,"
        "\"reasoning_effort\":\"high\",\"user\":\"u\\u0041\"}");
    static const struct slice answer = SLICE(
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"response_format\":"
        "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\\u0061\",\"description\":\"d\\n\","
        "\"strict\":true,\"schema\":" SCHEMA "}}}");
    static const struct dialect *const to[] = {&dialect_openai, &dialect_anthropic,
                                               &dialect_google};

    for (unsigned i = 0; i < 3; i++) {
        torture_request("tools", to[i], body);
        torture_request("answer schema", to[i], answer);
    }
}

static enum gw_err op_pass(struct run *run)
{
    const struct request_case *rc = run->input;
    struct registry_model m = model_with(rc->quirks);
    struct dialect_request out = {.n_headers = 0};
    struct json root;
    struct buf body;
    enum gw_err err = json_parse(run->arena, rc->body, NULL, &root, NULL);

    if (err)
        return err;
    buf_init(&body, 1u << 20);
    out.body = &body;
    err = rc->to->pass_request(run->arena, &m, true, &out);
    if (!err && rc->to == &dialect_openai)
        err = openai_pass_body(root, &m, true, &body);
    if (!err)
        err = buf_err(&body);
    if (!err)
        show_request(run, &out);
    buf_deinit(&body);
    return err;
}

static void test_check_094_a_body_is_passed_on_or_memory_is_short(void **state)
{
    static const struct slice body =
        SLICE("{\"mod\\u0065l\":\"x\",\"model\":\"a\",\"messages\":[],\"fallbacks\":[\"b\"],"
              "\"max_tokens\":7,\"stream\":true,\"stream_options\":{\"include_usage\":false}}");
    const struct request_case cases[] = {{.to = &dialect_openai, .body = body},
                                         {.to = &dialect_anthropic, .body = body},
                                         {.to = &dialect_google, .body = body}};

    for (unsigned i = 0; i < 3; i++)
        if (cases[i].to->pass_request)
            torture("pass", op_pass, &cases[i]);
}

/* --- answers ---------------------------------------------------------------------------------- */

struct answer_case {
    const struct dialect *from;
    const struct dialect *client; /* whom it is told; NULL: an OpenAI client */
    struct slice body;
    bool with_tools; /* decoded with the request that asked */
};

static void show_answer(struct run *run, const struct convo_answer *a)
{
    show(run, a->id);
    show(run, a->model);
    for (const struct convo_out_part *p = a->parts; p; p = p->next) {
        show_int(run, p->kind);
        show(run, p->id);
        show(run, p->name);
        show(run, p->text);
        show(run, p->signature);
    }
    for (unsigned i = 0; i < a->n_choices; i++) {
        show_int(run, a->finish[i].stop);
        show(run, a->finish[i].raw);
        show(run, a->finish[i].string);
        show(run, a->finish[i].logprobs);
    }
    show_int(run, (int64_t)a->usage.input);
    show_int(run, (int64_t)a->usage.output);
    show_int(run, a->ended);
    show(run, a->err_text);
}

/* The request that is answered, without a fault. */
static struct convo *asked_of(struct run *run, const struct answer_case *c)
{
    static const struct slice body = SLICE(
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{"
        "\"type\":"
        "\"function\",\"function\":{\"name\":\"files/re.ad\"}}],\"stream\":true,\"stream_options\":"
        "{\"include_usage\":true}}");
    struct convo_report rep = {.n_dropped = 0};
    bool was = fault.armed;
    struct convo *asked = NULL;
    struct json root;

    if (!c->with_tools)
        return NULL;
    fault.armed = false;
    assert_int_equal(json_parse(run->arena, body, NULL, &root, NULL), GW_OK);
    assert_int_equal(dialect_openai.decode_request(run->arena, root, &asked, &rep), GW_OK);
    fault.armed = was;
    return asked;
}

static const struct dialect *client_of(const struct answer_case *c)
{
    return c->client ? c->client : &dialect_openai;
}

/* A whole answer of a provider, gathered and written for a client. */
static enum gw_err op_answer(struct run *run)
{
    const struct answer_case *c = run->input;
    struct registry_model m = model_with(0);
    const struct convo *asked = asked_of(run, c);
    struct convo_builder *b = convo_builder_new(run->arena, 1u << 20);
    const struct convo_answer *a;
    struct buf out;
    enum gw_err err;

    if (!b)
        return GW_ENOMEM;
    err = c->from->decode_answer(run->arena, asked, asked ? &m : NULL, c->body, convo_builder_event,
                                 b);
    if (err)
        return err;
    a = convo_builder_answer(b);
    if (!a)
        return GW_ENOMEM;
    show_answer(run, a);
    buf_init(&out, 1u << 20);
    client_of(c)->encode_answer(a, SLICE("shown"), 1700000000, &out);
    err = buf_err(&out);
    if (!err)
        show(run, buf_slice(&out));
    buf_deinit(&out);
    return err;
}

struct relay {
    const struct dialect *from, *to;
    struct dialect_decoder *decoder;
    struct dialect_encoder *encoder;
    struct convo_builder *builder;
    struct buf out;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;
    enum gw_err err = convo_builder_event(ev, r->builder);

    return err ? err : r->to->encode_event(r->encoder, ev, &r->out);
}

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;

    return r->from->decode_event(r->decoder, ev, on_convo, r);
}

static enum gw_err feed(struct relay *r, struct slice bytes)
{
    struct sse_parser p;
    enum gw_err err = GW_OK;

    sse_init(&p, 1u << 20, on_sse, r);
    for (; bytes.n && !err; bytes = slice_from(bytes, 700))
        err = sse_feed(&p, slice_of(bytes.p, bytes.n < 700 ? bytes.n : 700));
    if (!err)
        err = sse_finish(&p);
    sse_deinit(&p);
    return err ? err : r->from->decode_end(r->decoder, on_convo, r);
}

/* A streamed answer, gathered and relayed to a client. */
static enum gw_err op_stream(struct run *run)
{
    const struct answer_case *c = run->input;
    struct registry_model m = model_with(0);
    const struct convo *asked = asked_of(run, c);
    struct relay r = {.from = c->from, .to = client_of(c)};
    const struct convo_answer *a = NULL;
    enum gw_err err = GW_ENOMEM;

    buf_init(&r.out, 1u << 20);
    r.decoder = c->from->decoder_new(run->arena, asked, asked ? &m : NULL);
    r.encoder = r.to->encoder_new(run->arena, asked, SLICE("sh\"own"), 1700000000);
    r.builder = convo_builder_new(run->arena, 1u << 20);
    if (r.decoder && r.encoder && r.builder)
        err = feed(&r, c->body);
    if (!err)
        err = buf_err(&r.out);
    if (!err) {
        a = convo_builder_answer(r.builder);
        err = a ? GW_OK : GW_ENOMEM;
    }
    if (!err) {
        show_answer(run, a);
        show(run, buf_slice(&r.out));
    }
    buf_deinit(&r.out);
    return err;
}

static void torture_answers(const struct dialect *from, const char *dir, const char *const *stems)
{
    for (unsigned i = 0; stems[i]; i++) {
        for (unsigned tools = 0; tools < 2; tools++) {
            struct answer_case c = {.from = from, .with_tools = tools};
            struct slice name = arena_printf(inputs, "tests/unit/golden/%s/%s.json", dir, stems[i]);

            c.body = source_file(inputs, name.p);
            torture(name.p, op_answer, &c);
            name = arena_printf(inputs, "tests/unit/golden/%s/%s.sse", dir, stems[i]);
            c.body = source_file(inputs, name.p);
            torture(name.p, op_stream, &c);
        }
    }
}

static void test_check_094_answers_of_anthropic_are_read_or_memory_is_short(void **state)
{
    static const char *const stems[] = {"answer_tool", "search", "text", "thinking", "tools", NULL};

    torture_answers(&dialect_anthropic, "anthropic", stems);
}

static void test_check_094_answers_reach_anthropic_clients_or_memory_is_short(void **state)
{
    static const char *const names[] = {"anthropic/search", "anthropic/thinking", "google/tools"};

    for (unsigned i = 0; i < 3; i++) {
        struct answer_case c = {.from = i < 2 ? &dialect_anthropic : &dialect_google,
                                .client = &dialect_anthropic};
        struct slice path = arena_printf(inputs, "tests/unit/golden/%s.json", names[i]);

        c.body = source_file(inputs, path.p);
        torture(path.p, op_answer, &c);
        path = arena_printf(inputs, "tests/unit/golden/%s.sse", names[i]);
        c.body = source_file(inputs, path.p);
        torture(path.p, op_stream, &c);
    }
}

static void test_check_094_answers_of_google_are_read_or_memory_is_short(void **state)
{
    static const char *const stems[] = {"blocked", "candidates", "text", "tools", NULL};

    torture_answers(&dialect_google, "google", stems);
}

/* A row's chunks as the bytes of a stream. */
static struct slice stream_of(struct json chunks)
{
    struct slice all = SLICE("");

    for (struct json it = json_first(chunks); json_exists(it); it = json_next(chunks, it)) {
        struct slice text = json_is(it, JSON_STRING) ? json_str(it) : json_raw(it);
        struct buf b;

        buf_init(&b, 1u << 20);
        sse_write(&b, SLICE_NONE, text);
        all = arena_printf(inputs, "%.*s%.*s", SLICE_ARG(all), SLICE_ARG(buf_slice(&b)));
        buf_deinit(&b);
    }
    return all;
}

static void test_check_094_answers_of_openai_are_read_or_memory_is_short(void **state)
{
    struct json all = golden_rows(OPENAI "answers.json");
    struct answer_case c = {.from = &dialect_openai};

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        c.body = json_raw(json_get(row, "in"));
        c.with_tools = !c.with_tools;
        torture(arena_cstr(inputs, json_str(json_get(row, "name"))), op_answer, &c);
    }
    all = golden_rows(OPENAI "streams.json");
    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        c.body = stream_of(json_get(row, "in"));
        c.with_tools = !c.with_tools;
        torture(arena_cstr(inputs, json_str(json_get(row, "name"))), op_stream, &c);
    }
}

static enum gw_err op_pass_event(struct run *run)
{
    struct dialect_pass_info info = {0};
    struct dialect_pass_info whole = {0};
    enum gw_err err = openai_pass_event(*(const struct slice *)run->input, run->arena, &info);

    if (err)
        return err;
    show_int(run, info.done + 2 * info.error + 4 * info.usage_only + 8 * info.has_content +
                      16 * info.has_usage + 32 * info.finish);
    show_int(run, (int64_t)info.usage.input);
    show(run, info.text);
    err = openai_pass_answer(run->arena, *(const struct slice *)run->input, &whole);
    show_int(run, (int64_t)whole.usage.output);
    return err;
}

static void test_check_094_relayed_events_are_read_or_memory_is_short(void **state)
{
    static const struct slice events[] = {
        SLICE("[DONE]"),
        SLICE("{\"error\":{\"message\":\"caf\\u00e9\",\"code\":\"c\"}}"),
        SLICE("{\"id\":\"i\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}"
              "}"),
        SLICE("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\\"b\"},\"message\":{},"
              "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}"),
    };

    for (unsigned i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        torture_by("relayed event", op_pass_event, &events[i], 1);
}

/* --- errors and embeddings -------------------------------------------------------------------- */

/* decode_error() never fails: short of memory it may say less, but its kind and status hold, since
 * those come from the vendor's status as long as the body adds nothing. */
static enum gw_err op_error(struct run *run)
{
    const struct answer_case *c = run->input;
    struct dialect_error e = {.err = GW_OK};

    c->from->decode_error(run->arena, 429, c->body, &e);
    show(run, slice_cstr(err_info(e.err)->name));
    show_int(run, e.status);
    assert_true(e.message.p || !e.message.n);
    return GW_OK;
}

static void test_check_094_errors_keep_their_kind_when_memory_is_short(void **state)
{
    struct slice body =
        SLICE("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"code\":"
              "429,\"message\":\"slow\\ndown\",\"status\":\"RESOURCE_EXHAUSTED\"}}");
    const struct answer_case cases[] = {{.from = &dialect_openai, .body = body},
                                        {.from = &dialect_anthropic, .body = body},
                                        {.from = &dialect_google, .body = body},
                                        {.from = &dialect_google, .body = SLICE("<html>")}};

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        torture_by("error", op_error, &cases[i], 1);
}

static enum gw_err op_embed(struct run *run)
{
    static const struct slice texts[] = {SLICE("a\"b"), SLICE("c\n")};
    const struct answer_case *c = run->input;
    struct dialect_embed_request r = {
        .model = SLICE("m"), .inputs = texts, .n_inputs = 2, .dimensions = 8, .user = SLICE("u")};
    struct registry_model m = model_with(0);
    struct dialect_request out = {.n_headers = 0};
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_embed_answer ans = {.n = 0};
    struct buf body;
    enum gw_err err;

    buf_init(&body, 1u << 20);
    out.body = &body;
    err = c->from->encode_embed(run->arena, &r, &m, &out, &rep);
    if (!err)
        show_request(run, &out);
    buf_deinit(&body);
    if (!err)
        err = c->from->decode_embed(run->arena, c->body, &ans);
    for (unsigned i = 0; i < ans.n && !err; i++)
        show(run, ans.vectors[i].value);
    return err;
}

static void test_check_094_embeddings_are_asked_for_and_read_or_memory_is_short(void **state)
{
    const struct answer_case cases[] = {
        {.from = &dialect_openai,
         .body = SLICE("{\"object\":\"list\",\"model\":\"t\\u0065\",\"data\":[{\"index\":1,"
                       "\"embedding\":\"AA\\u0041=\"},{\"index\":0,\"embedding\":[0.5,1]}],"
                       "\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}")},
        {.from = &dialect_google,
         .body = SLICE("{\"embeddings\":[{\"values\":[0.1,-1]},{\"values\":[]}]}")},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        torture("embeddings", op_embed, &cases[i]);
}

/* --- life ------------------------------------------------------------------------------------- */

static int setup_all(void **state)
{
    cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = free}; /* the wrapped ones */

    inputs = arena_create(256u << 20);
    cJSON_InitHooks(&hooks);
    return inputs ? 0 : -1;
}

static int teardown_all(void **state)
{
    cJSON_InitHooks(NULL);
    inputs = arena_destroy(inputs);
    return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, check_leaks)
    const struct CMUnitTest tests[] = {
        T(test_check_094_schemas_are_translated_or_memory_is_short),
        T(test_check_094_requests_reach_openai_or_memory_is_short),
        T(test_check_094_requests_reach_anthropic_or_memory_is_short),
        T(test_check_094_requests_reach_google_or_memory_is_short),
        T(test_check_094_requests_of_anthropic_clients_arrive_or_memory_is_short),
        T(test_check_094_answers_reach_anthropic_clients_or_memory_is_short),
        T(test_check_094_wrong_requests_are_refused_or_memory_is_short),
        T(test_check_094_tools_and_schemas_are_carried_or_memory_is_short),
        T(test_check_094_a_body_is_passed_on_or_memory_is_short),
        T(test_check_094_answers_of_openai_are_read_or_memory_is_short),
        T(test_check_094_answers_of_anthropic_are_read_or_memory_is_short),
        T(test_check_094_answers_of_google_are_read_or_memory_is_short),
        T(test_check_094_relayed_events_are_read_or_memory_is_short),
        T(test_check_094_errors_keep_their_kind_when_memory_is_short),
        T(test_check_094_embeddings_are_asked_for_and_read_or_memory_is_short),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
