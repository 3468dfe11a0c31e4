/* Gemini's dialect: answers, whole, as a stream through the SSE parser, as errors and as
 * embeddings; requests of clients, answers and streams for them, and bodies that pass through; and
 * schemas. */
#include "tests/fuzz/fuzz_dialect.h"

#include "providers/dialect/google_client.h"
#include "providers/dialect/schema.h"

static const struct registry_provider provider = {.name = "google", .api_key = {"k", 1}};
static const struct registry_model model = {.name = {"m", 1}, .provider = &provider};

static void fuzz_schemas(struct slice text)
{
    struct arena *a = arena_create(FUZZ_BYTES);
    struct slice out;
    struct json root;
    bool lossy;

    assert(a);
    if (schema_to_openapi(a, text, &out, &lossy) == GW_OK)
        assert(json_parse(a, out, NULL, &root, NULL) == GW_OK);
    if (schema_close(a, text, &out, &lossy) == GW_OK)
        assert(json_parse(a, out, NULL, &root, NULL) == GW_OK);
    if (json_parse(a, text, NULL, &root, NULL) == GW_OK &&
        google_json_schema(a, root, &out) == GW_OK)
        assert(json_parse(a, out, NULL, &root, NULL) == GW_OK);
    arena_destroy(a);
}

static void assert_object(struct arena *a, struct slice text)
{
    struct json root;

    assert(json_parse(a, text, &(struct json_limits){.max_depth = 200}, &root, NULL) == GW_OK);
    assert(json_is(root, JSON_OBJECT));
}

/* To each dialect: what is accepted is valid JSON on the other side. */
static void as_request(struct arena *a, struct json root, const struct dialect *to)
{
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_request out = {.n_headers = 0};
    struct convo *c = NULL;
    struct buf body;
    enum gw_err err = dialect_google.decode_request(a, root, &c, &rep);

    buf_init(&body, FUZZ_BYTES);
    out.body = &body;
    if (err) {
        assert(!c && rep.why.n > 0);
    } else {
        assert(rep.n_dropped <= CONVO_MAX_DROPPED);
        convo_needs(c);
        convo_estimate_tokens(c);
        c->model = SLICE("m");
        err = to->encode_request(c, &model, &out, &rep);
        assert(!err || err == GW_ETOOBIG || rep.refused.n > 0);
        if (!err)
            assert_object(a, buf_slice(&body));
    }
    buf_reset(&body);
    if (dialect_google.pass_body(root, &model, true, &body) == GW_OK)
        assert_object(a, buf_slice(&body));
    buf_deinit(&body);
}

static void as_answer(struct arena *a, struct slice body)
{
    struct convo_builder *b = convo_builder_new(a, 1u << 20);
    enum gw_err err = dialect_google.decode_answer(a, NULL, NULL, body, convo_builder_event, b);
    const struct convo_answer *answer = convo_builder_answer(b);
    struct dialect_pass_info passed;
    struct buf out;

    buf_init(&out, FUZZ_BYTES);
    if (!err && answer->ended) {
        dialect_google.encode_answer(answer, SLICE("shown"), 1, &out);
        assert_object(a, buf_slice(&out));
    }
    buf_deinit(&out);
    (void)!dialect_google.pass_answer(a, body, &passed);
}

struct relay {
    struct arena *arena;
    struct dialect_decoder *from;
    struct dialect_encoder *to;
    struct buf out;
    bool ended;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;

    assert(!r->ended);
    r->ended = ev->kind == CONVO_EV_END || ev->kind == CONVO_EV_ERROR;
    return dialect_google.encode_event(r->to, ev, &r->out);
}

static enum gw_err on_read(const struct sse_event *ev, void *arg)
{
    struct dialect_pass_info info = {.usage = {.known = false}};
    struct relay *r = arg;

    (void)!dialect_google.pass_event(ev->data, r->arena, &info);
    return dialect_google.decode_event(r->from, ev, on_convo, r);
}

/* A finishReason is only ever written at a good end. */
static enum gw_err on_written(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;
    struct dialect_pass_info info = {.usage = {.known = false}};

    assert_object(r->arena, ev->data);
    assert(dialect_google.pass_event(ev->data, r->arena, &info) == GW_OK);
    assert(!info.finish || r->ended);
    return GW_OK;
}

static void as_stream(struct arena *a, struct slice bytes)
{
    struct relay r = {.arena = a, .from = dialect_google.decoder_new(a, NULL, NULL)};
    struct sse_parser sse;

    r.to = dialect_google.encoder_new(a, NULL, SLICE("shown"), 1);
    buf_init(&r.out, FUZZ_BYTES);
    sse_init(&sse, 1u << 20, on_read, &r);
    if (sse_feed(&sse, bytes) == GW_OK && sse_finish(&sse) == GW_OK)
        (void)!dialect_google.decode_end(r.from, on_convo, &r);
    sse_deinit(&sse);
    sse_init(&sse, FUZZ_BYTES, on_written, &r);
    assert(sse_feed(&sse, buf_slice(&r.out)) == GW_OK);
    assert(!sse_has_partial(&sse));
    sse_deinit(&sse);
    buf_deinit(&r.out);
}

static void as_client(struct slice text)
{
    static const struct dialect *const to[] = {&dialect_openai, &dialect_anthropic,
                                               &dialect_google};
    struct arena *a = arena_create(256u << 20);
    struct json root;

    assert(a);
    if (text.n > 0 && json_parse(a, text, NULL, &root, NULL) == GW_OK)
        for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++)
            as_request(a, root, to[i]);
    as_answer(a, text);
    as_stream(a, text);
    arena_destroy(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *)data, size);
    struct arena *a = arena_create(FUZZ_BYTES);
    struct dialect_embed_answer embed;

    assert(a);
    if (dialect_google.decode_embed(a, text, &embed) == GW_OK)
        assert(embed.n > 0);
    arena_destroy(a);
    fuzz_schemas(text);
    as_client(text);
    return fuzz_dialect(&dialect_google, data, size);
}
