/*
 * messages.c - Anthropic's surface: POST /v1/messages, a form of chat.c, and POST
 * /v1/messages/count_tokens.
 *
 * Tokens are counted by the provider where it speaks Anthropic, else estimated here:
 *
 *     begin --decoded, routed--> CALL --on_bytes--> (answered) --on_end--> end
 *       '--not an Anthropic target--> estimate, answered
 */
#include "handlers/messages.h"

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "handlers/chat.h"
#include "handlers/llm.h"

/* --- messages ------------------------------------------------------------------------------- */

static bool is_plain(struct slice value)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f)
            return false;
    return value.n > 0;
}

/* The vendor's own headers go along with a body that passes through. */
static unsigned pass_headers(const struct request *req, struct dialect_header *to)
{
    static const char *const names[] = {"anthropic-version", "anthropic-beta"};
    unsigned n = 0;

    for (unsigned i = 0; i < req->n_headers; i++)
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
            if (n < PROVIDER_MAX_PASS_HEADERS && is_plain(req->headers[i].value) &&
                slice_is_nocase(req->headers[i].name, names[k]))
                to[n++] = (struct dialect_header){slice_cstr(names[k]), req->headers[i].value};
    return n;
}

/* Thoughts without a signature, and calls with one in their ids, came from other vendors through
 * this surface. Anthropic takes neither back. */
static bool has_foreign_history(const struct convo *c)
{
    for (const struct convo_turn *t = c->turns; t; t = t->next)
        for (const struct convo_part *p = t->parts; p; p = p->next)
            if ((p->kind == CONVO_REASONING && p->signature.n == 0) ||
                (p->kind == CONVO_TOOL_CALL && p->signature.n > 0))
                return true;
    return false;
}

static enum gw_err decode(struct chat *c, struct convo_report *rep)
{
    enum gw_err err;

    c->n_pass_headers = pass_headers(c->req, c->pass_headers);
    err = dialect_anthropic.decode_request(c->req->arena, c->body, &c->convo, rep);
    if (!err && c->convo->max_tokens == 0)
        err = convo_refuse(rep, GW_ESCHEMA, SLICE("max_tokens"), SLICE("Field required"));
    c->foreign = !err && has_foreign_history(c->convo);
    return err;
}

/* Reads the model's name and whether to stream. */
static enum gw_err peek_body(struct arena *a, struct json body, struct convo **ret,
                             struct convo_report *rep)
{
    struct json model = json_get(body, "model"), stream = json_get(body, "stream");
    struct convo *c = convo_new(a);

    if (!c)
        return GW_ENOMEM;
    if (!json_is(model, JSON_STRING) || json_str(model).n == 0)
        return convo_refuse(rep, GW_ESCHEMA, SLICE("model"), SLICE("Field required"));
    if (json_exists(stream) && !json_is(stream, JSON_NULL) && !json_bool(stream, &c->stream))
        return convo_refuse(rep, GW_ESCHEMA, SLICE("stream"),
                            SLICE("Input should be a valid boolean"));
    c->model = json_str(model);
    c->include_usage = true;
    *ret = c;
    return GW_OK;
}

static enum gw_err peek(struct chat *c, struct convo_report *rep)
{
    return peek_body(c->req->arena, c->body, &c->convo, rep);
}

static void answer(struct chat *c, const struct convo_answer *ans, struct buf *out)
{
    struct slice shown = ans->model.n ? ans->model : c->info->model->name;

    dialect_anthropic.encode_answer(ans, shown, loop_wall_us() / 1000000, out);
}

static enum gw_err event(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    if (!c->encoder)
        c->encoder = dialect_anthropic.encoder_new(c->req->arena, c->convo, c->info->model->name,
                                                   loop_wall_us() / 1000000);
    return c->encoder ? dialect_anthropic.encode_event(c->encoder, ev, out) : GW_ENOMEM;
}

static const struct chat_form form = {
    .dialect = &dialect_anthropic,
    .decode = decode,
    .peek = peek,
    .answer = answer,
    .event = event,
    .stream_type = CHAT_EVENT_STREAM,
    .heartbeat = CHAT_SSE_COMMENT,
};

void messages_create(struct request *req)
{
    chat_begin(req, &form);
}

/* --- counting ------------------------------------------------------------------------------- */

struct counting {
    struct request *req; /* counted reference, dropped by counting_end() */
    struct op *call;
    struct json body;
    struct convo *convo;
    struct registry_route route; /* targets that speak Anthropic */
    struct dialect_header headers[PROVIDER_MAX_PASS_HEADERS];
    const struct provider_call_info *info;
    bool answered;
};

/* The only exit of a call; `c` may be gone when this returns. */
static void counting_end(struct counting *c)
{
    struct request *req = c->req;

    op_cancel(&c->call);
    request_on_abort(req, NULL, NULL);
    request_unref(req);
}

static void on_client_gone(struct request *req, void *arg)
{
    metrics_add(metrics_get(M_CLIENT_GONE, "waiting", NULL, NULL), 1);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    counting_end(arg);
}

static void on_live(const struct provider_call_info *info, void *arg)
{
    struct counting *c = arg;

    c->info = info;
}

/* Bodies that pass through give no events. */
static enum gw_err on_event(const struct convo_event *ev, void *arg)
{
    return GW_EINTERNAL;
}

static void on_bytes(struct slice bytes, void *arg)
{
    struct counting *c = arg;

    c->answered = true;
    llm_set_headers(c->req, c->info, NULL);
    request_reply(c->req, 200, SLICE("application/json"), bytes);
}

static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    struct counting *c = arg;

    c->call = NULL;
    c->req->upstream_us = info->upstream_us;
    if (!c->answered)
        llm_fail(c->req, err ? err : GW_EUPBAD, info, vendor);
    counting_end(c);
}

static const struct provider_sink sink = {
    .on_live = on_live,
    .on_event = on_event,
    .on_bytes = on_bytes,
    .on_end = on_end,
};

static void answer_estimate(struct counting *c)
{
    struct slice body = arena_printf(c->req->arena, "{\"input_tokens\":%llu}",
                                     (unsigned long long)convo_estimate_tokens(c->convo));

    request_set_header(c->req, "X-Postern-Token-Count", SLICE("estimated"));
    request_finish(c->req, body.p ? GW_OK : GW_ENOMEM, body);
}

static void count_upstream(struct counting *c)
{
    struct request *req = c->req;
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = c->route,
        .convo = c->convo,
        .inbound = &dialect_anthropic,
        .body = c->body,
        .pass_headers = c->headers,
        .n_pass_headers = pass_headers(req, c->headers),
        .count = true,
        .deadline_us = req->deadline_us,
        .request_id = req->id,
        .traceparent = req->traceparent,
    };

    c->call = provider_call(&call, &sink, c);
    if (!c->call) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    request_ref(req);
    request_on_abort(req, on_client_gone, c);
}

/* Leaves the targets that count for themselves. */
static void keep_own_targets(struct registry_route *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->n_targets; i++)
        if (r->targets[i].model->provider->dialect == &dialect_anthropic)
            r->targets[n++] = r->targets[i];
    r->n_targets = n;
}

void messages_count(struct request *req)
{
    struct counting *c = arena_new(req->arena, struct counting);
    struct convo_report rep = {0}, unread = {0};
    enum gw_err err;

    if (!c) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    c->req = req;
    if (!llm_parse_body(req, &c->body))
        return;
    err = dialect_anthropic.decode_request(req->arena, c->body, &c->convo, &rep);
    if (err && (err != GW_ESCHEMA || peek_body(req->arena, c->body, &c->convo, &unread))) {
        llm_refuse(req, err, &rep);
        return;
    }
    if (!llm_resolve(req, c->convo->model, c->body, &c->route))
        return;
    if (c->route.targets[0].model->provider->dialect == &dialect_anthropic) {
        keep_own_targets(&c->route);
        count_upstream(c);
    } else if (err) {
        llm_refuse(req, err, &rep);
    } else {
        answer_estimate(c);
    }
}
