/*
 * fuzz_responses.c - the Responses API with whatever comes: as a client's request, and as a chat
 * stream from which its events are made. A request that is accepted gives valid JSON in each
 * dialect or is refused by name; what the client is told is always whole events of valid JSON, and
 * never both a failure and a completion.
 */
#include "gateway/core/json.h"
#include "providers/dialect/responses_wire.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES (16u << 20)

static struct registry_provider provider = {.name = "openai", .api_key = {"k", 1}};
static struct registry_model model = {.name = {"m", 1}, .provider = &provider};

static void assert_object(struct arena *a, struct slice text)
{
    struct json root;

    assert(json_parse(a, text, &(struct json_limits){.max_depth = 200}, &root, NULL) == GW_OK);
    assert(json_is(root, JSON_OBJECT));
}

static void encode(struct arena *a, const struct convo *c, const struct dialect *d)
{
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_request out = {.n_headers = 0};
    struct buf body;
    enum gw_err err;

    buf_init(&body, MAX_BYTES);
    out.body = &body;
    err = d->encode_request(c, &model, &out, &rep);
    assert(!err || rep.refused.n > 0);
    if (!err)
        assert_object(a, buf_slice(&body));
    buf_deinit(&body);
}

/* The settings of an accepted request are repeated in its answer. */
static void echo(struct arena *a, struct json root)
{
    struct convo_answer ans = {.n_choices = 1};
    struct buf out;

    buf_init(&out, MAX_BYTES);
    assert(responses_encode_answer(a, root, &ans, SLICE("m"), 1, &out) == GW_OK);
    assert_object(a, buf_slice(&out));
    buf_deinit(&out);
}

static void as_request(struct arena *a, struct json root)
{
    struct convo_report rep = {.n_dropped = 0};
    struct convo *c = NULL;
    enum gw_err err = responses_decode_request(a, root, &c, &rep);

    if (err) {
        assert(!c && rep.why.n > 0);
        return;
    }
    assert(rep.n_dropped <= CONVO_MAX_DROPPED && c->turns);
    convo_needs(c);
    convo_estimate_tokens(c);
    encode(a, c, &dialect_openai);
    encode(a, c, &dialect_anthropic);
    encode(a, c, &dialect_google);
    echo(a, root);
}

struct relay {
    struct arena *arena;
    struct dialect_decoder *from;
    struct dialect_encoder *to;
    struct buf out;
    bool failed, completed;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;

    return responses_encode_event(r->to, ev, &r->out);
}

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;

    return dialect_openai.decode_event(r->from, ev, on_convo, r);
}

static enum gw_err on_written(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;

    assert_object(r->arena, ev->data);
    r->failed |= slice_is(ev->type, "response.failed");
    r->completed |=
        slice_is(ev->type, "response.completed") || slice_is(ev->type, "response.incomplete");
    return GW_OK;
}

static void as_stream(struct arena *a, struct slice bytes)
{
    struct relay r = {.arena = a, .from = dialect_openai.decoder_new(a, NULL, NULL)};
    struct sse_parser sse;
    struct json asked;
    enum gw_err err = json_parse(a, SLICE("{\"model\":\"m\"}"), NULL, &asked, NULL);

    assert(!err);
    r.to = responses_encoder_new(a, asked, SLICE("shown"), 1, MAX_BYTES / 8);
    buf_init(&r.out, MAX_BYTES);
    sse_init(&sse, 1u << 20, on_sse, &r);
    err = sse_feed(&sse, bytes);
    if (!err)
        err = sse_finish(&sse);
    if (!err)
        err = dialect_openai.decode_end(r.from, on_convo, &r);
    sse_deinit(&sse);
    if (err)
        assert(on_convo(&(struct convo_event){.kind = CONVO_EV_ERROR, .err = err}, &r) == GW_OK);
    sse_init(&sse, MAX_BYTES, on_written, &r);
    assert(sse_feed(&sse, buf_slice(&r.out)) == GW_OK);
    assert(!sse_has_partial(&sse));
    assert(!(r.failed && r.completed));
    assert(!err || r.failed || r.completed);
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
    as_stream(a, bytes);
    arena_destroy(a);
    return 0;
}
