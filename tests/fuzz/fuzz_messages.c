/*
 * fuzz_messages.c - the Anthropic dialect's client side with whatever comes: a request, told on to
 * each dialect; a provider's answer and stream, told to a client; bodies and events that pass
 * through. What is accepted gives valid JSON on the other side; a stream opens one block at a time,
 * and ends well only when its source did.
 */
#include "providers/dialect/anthropic.h"

#include "gateway/core/json.h"
#include "providers/dialect.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct dialect *const dialects[] = {&dialect_openai, &dialect_anthropic,
                                                 &dialect_google};

static void assert_object(struct arena *a, struct slice text)
{
    struct json root;

    assert(json_parse(a, text, &(struct json_limits){.max_depth = 200}, &root, NULL) == GW_OK);
    assert(json_is(root, JSON_OBJECT));
}

static void told_to(struct arena *a, const struct convo *c, const struct dialect *d)
{
    struct registry_provider provider = {.name = "p", .dialect = d};
    struct registry_model model = {.name = {"m", 1}, .provider = &provider};
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_request out = {.n_headers = 0};
    struct buf body;
    enum gw_err err;

    buf_init(&body, 16u << 20);
    out.body = &body;
    err = d->encode_request(c, &model, &out, &rep);
    assert(err || (out.path.n > 0 && body.n > 0));
    assert(err == GW_OK || err == GW_ENOMEM || err == GW_ETOOBIG || rep.why.n > 0);
    if (!err)
        assert_object(a, buf_slice(&body));
    buf_deinit(&body);
}

static void as_request(struct arena *a, struct json root)
{
    struct registry_provider provider = {.name = "anthropic", .dialect = &dialect_anthropic};
    struct registry_model model = {.name = {"m", 1}, .provider = &provider};
    struct convo_report rep = {.n_dropped = 0};
    struct convo *c = NULL;
    enum gw_err err = anthropic_decode_request(a, root, &c, &rep);
    struct buf body;

    if (err) {
        assert(!c && (err == GW_ENOMEM || rep.why.n > 0));
    } else {
        convo_needs(c);
        convo_estimate_tokens(c);
        for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++)
            told_to(a, c, dialects[i]);
    }
    buf_init(&body, 16u << 20);
    if (anthropic_pass_body(root, &model, false, &body) == GW_OK)
        assert_object(a, buf_slice(&body));
    buf_deinit(&body);
}

static void as_answer(struct arena *a, const struct dialect *from, struct slice body)
{
    struct convo_builder *b = convo_builder_new(a, 1u << 20);
    enum gw_err err = from->decode_answer(a, NULL, NULL, body, convo_builder_event, b);
    const struct convo_answer *answer = convo_builder_answer(b);
    struct dialect_pass_info passed;
    struct buf out;

    (void)!anthropic_pass_answer(a, body, &passed);
    if (err || !answer->ended)
        return;
    buf_init(&out, 16u << 20);
    anthropic_encode_answer(answer, SLICE("shown"), 1, &out);
    assert(!buf_err(&out));
    assert_object(a, buf_slice(&out));
    buf_deinit(&out);
}

struct relay {
    struct arena *arena;
    const struct dialect *d;
    struct dialect_decoder *from;
    struct dialect_encoder *to;
    struct buf out;
    bool ended;
    bool open, stopped; /* of what was written */
    int64_t index;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;

    r->ended |= ev->kind == CONVO_EV_END;
    return anthropic_encode_event(r->to, ev, &r->out);
}

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;
    struct dialect_pass_info info = {.done = false};

    (void)!anthropic_pass_event(ev->data, r->arena, &info);
    return r->d->decode_event(r->from, ev, on_convo, r);
}

static enum gw_err on_written(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;
    struct json root, type;
    int64_t index;

    assert(!r->stopped);
    assert(json_parse(r->arena, ev->data, &(struct json_limits){.max_depth = 200}, &root, NULL) ==
           GW_OK);
    type = json_get(root, "type");
    assert(slice_eq(json_str(type), ev->type));
    if (slice_starts(ev->type, "content_block_")) {
        assert(json_int(json_get(root, "index"), &index) && index == r->index);
        assert(r->open == !slice_is(ev->type, "content_block_start"));
        r->open = !slice_is(ev->type, "content_block_stop");
        r->index += !r->open;
    }
    r->stopped = slice_is(ev->type, "message_stop") || slice_is(ev->type, "error");
    if (slice_is(ev->type, "message_stop"))
        assert(r->ended && !r->open);
    return GW_OK;
}

static void as_stream(struct arena *a, const struct dialect *d, struct slice bytes)
{
    struct relay r = {.arena = a, .d = d, .from = d->decoder_new(a, NULL, NULL)};
    struct sse_parser sse;

    r.to = anthropic_encoder_new(a, NULL, SLICE("shown"), 1);
    assert(r.from && r.to);
    buf_init(&r.out, 16u << 20);
    sse_init(&sse, 1u << 20, on_sse, &r);
    if (sse_feed(&sse, bytes) == GW_OK && sse_finish(&sse) == GW_OK)
        (void)!d->decode_end(r.from, on_convo, &r);
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
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        as_answer(a, dialects[i], bytes);
        as_stream(a, dialects[i], bytes);
    }
    arena_destroy(a);
    return 0;
}
