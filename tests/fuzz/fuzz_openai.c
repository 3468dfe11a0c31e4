/*
 * fuzz_openai.c - the OpenAI dialect with whatever comes: as a client's request, as a provider's
 * answer, stream, error and embeddings, and as a body that passes through. What is accepted gives
 * valid JSON on the other side, and a stream never ends well without its [DONE].
 */
#include "gateway/core/json.h"
#include "providers/dialect.h"
#include "providers/dialect/openai.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct registry_provider provider = {.name = "openai", .api_key = {"k", 1}};
static struct registry_model model = {.name = {"m", 1}, .provider = &provider};

static void assert_object(struct arena *a, struct slice text)
{
    struct json root;

    assert(json_parse(a, text, &(struct json_limits){.max_depth = 200}, &root, NULL) == GW_OK);
    assert(json_is(root, JSON_OBJECT));
}

static void as_request(struct arena *a, struct json root)
{
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_request out = {.n_headers = 0};
    struct convo *c = NULL;
    struct buf body;
    enum gw_err err = dialect_openai.decode_request(a, root, &c, &rep);

    buf_init(&body, 16u << 20);
    out.body = &body;
    if (err) {
        assert(!c && rep.why.n > 0);
    } else {
        assert(rep.n_dropped <= CONVO_MAX_DROPPED);
        convo_needs(c);
        convo_estimate_tokens(c);
        err = dialect_openai.encode_request(c, &model, &out, &rep);
        assert(!err || rep.refused.n > 0);
        if (!err)
            assert_object(a, buf_slice(&body));
    }
    buf_reset(&body);
    if (openai_pass_body(root, &model, true, &body) == GW_OK)
        assert_object(a, buf_slice(&body));
    buf_deinit(&body);
}

static void as_answer(struct arena *a, struct slice body)
{
    struct convo_builder *b = convo_builder_new(a, 1u << 20);
    enum gw_err err = dialect_openai.decode_answer(a, NULL, NULL, body, convo_builder_event, b);
    const struct convo_answer *answer = convo_builder_answer(b);
    struct dialect_embed_answer vectors;
    struct dialect_pass_info passed;
    struct dialect_error e;
    struct buf out;

    buf_init(&out, 16u << 20);
    assert(!(err && answer->ended));
    if (answer->ended) {
        dialect_openai.encode_answer(answer, SLICE("shown"), 1, &out);
        assert_object(a, buf_slice(&out));
    }
    buf_deinit(&out);
    dialect_openai.decode_error(a, 400, body, &e);
    assert(e.message.n <= 2000 && (e.status == 400 || e.err == GW_EMODEL));
    (void)!dialect_openai.decode_embed(a, body, &vectors);
    (void)!openai_pass_answer(a, body, &passed);
}

struct relay {
    struct arena *arena;
    struct dialect_decoder *from;
    struct dialect_encoder *to;
    struct buf out;
    bool ended, done;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;

    assert(!r->ended);
    r->ended = ev->kind == CONVO_EV_END || ev->kind == CONVO_EV_ERROR;
    return dialect_openai.encode_event(r->to, ev, &r->out);
}

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct dialect_pass_info info;
    struct relay *r = arg;

    if (openai_pass_event(ev->data, r->arena, &info) == GW_OK)
        r->done |= info.done;
    return dialect_openai.decode_event(r->from, ev, on_convo, r);
}

static enum gw_err on_written(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;

    if (slice_is(ev->data, "[DONE]"))
        assert(r->done && r->ended);
    else
        assert_object(r->arena, ev->data);
    return GW_OK;
}

static void as_stream(struct arena *a, struct slice bytes)
{
    struct convo *c = convo_new(a);
    struct relay r = {.arena = a, .from = dialect_openai.decoder_new(a, NULL, NULL)};
    struct sse_parser sse;

    c->include_usage = true;
    r.to = dialect_openai.encoder_new(a, c, SLICE("shown"), 1);
    buf_init(&r.out, 16u << 20);
    sse_init(&sse, 1u << 20, on_sse, &r);
    if (sse_feed(&sse, bytes) == GW_OK && sse_finish(&sse) == GW_OK)
        assert(dialect_openai.decode_end(r.from, on_convo, &r) == GW_OK);
    sse_deinit(&sse);
    sse_init(&sse, 16u << 20, on_written, &r);
    assert(sse_feed(&sse, buf_slice(&r.out)) == GW_OK);
    assert(!sse_has_partial(&sse));
    sse_deinit(&sse);
    buf_deinit(&r.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_create(256u << 20);
    struct slice bytes = slice_of((const char *)data, size);
    struct json root;

    if (size > 0 && json_parse(a, bytes, NULL, &root, NULL) == GW_OK)
        as_request(a, root);
    as_answer(a, bytes);
    as_stream(a, bytes);
    arena_destroy(a);
    return 0;
}
