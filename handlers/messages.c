/*
 * messages.c - Anthropic's surface: POST /v1/messages, a form of chat.c, and POST
 * /v1/messages/count_tokens.
 *
 * Tokens are counted by the provider where it speaks Anthropic, else estimated.
 */
#include "handlers/messages.h"

#include "handlers/chat.h"
#include "handlers/chat_peek.h"
#include "handlers/count.h"
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

/* Reads the model's name, whether to stream, and the limit. */
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
    return chat_peek_number(body, chat_peek_exact, "max_tokens", &c->max_tokens);
}

static enum gw_err peek(struct chat *c, struct convo_report *rep)
{
    return peek_body(c->req->arena, c->body, &c->convo, rep);
}

static const struct chat_form form = {
    .name = "anthropic",
    .dialect = &dialect_anthropic,
    .decode = decode,
    .peek = peek,
    .answer = chat_dialect_answer,
    .event = chat_dialect_event,
    .stream_type = CHAT_EVENT_STREAM,
    .heartbeat = CHAT_SSE_COMMENT,
};

void messages_create(struct request *req)
{
    chat_begin(req, &form);
}

/* --- counting ------------------------------------------------------------------------------- */

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
    struct dialect_header *headers =
        arena_array(req->arena, struct dialect_header, PROVIDER_MAX_PASS_HEADERS);
    struct count_ask ask = {.inbound = &dialect_anthropic, .headers = headers};
    struct convo_report rep = {0}, unread = {0};
    enum gw_err err;

    if (!headers) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    if (!llm_parse_body(req, &ask.body))
        return;
    err = dialect_anthropic.decode_request(req->arena, ask.body, &ask.convo, &rep);
    if (err && (err != GW_ESCHEMA || peek_body(req->arena, ask.body, &ask.convo, &unread))) {
        llm_refuse(req, err, &rep);
        return;
    }
    if (!llm_resolve(req, ask.convo->model, ask.body, &ask.route) ||
        !count_allowed(req, &ask, ask.convo->model))
        return;
    if (ask.route.targets[0].model->provider->dialect == &dialect_anthropic) {
        keep_own_targets(&ask.route);
        ask.n_headers = pass_headers(req, headers);
        count_relay(req, &ask);
    } else if (err) {
        llm_refuse(req, err, &rep);
    } else {
        count_estimate(req, ask.convo, "input_tokens", 0);
    }
}
