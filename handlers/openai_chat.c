/* openai_chat.c - POST /v1/chat/completions: the OpenAI surface of chat.c. */
#include "handlers/chat.h"
#include "handlers/chat_peek.h"

static enum gw_err decode(struct chat *c, struct convo_report *rep)
{
    return dialect_openai.decode_request(c->req->arena, c->body, &c->convo, rep);
}

/* What it may cost: of two limits the larger one, since hosts differ in which they take. */
static enum gw_err peek_limits(struct chat *c)
{
    int64_t older = 0, newer = 0;
    enum gw_err err = chat_peek_number(c->body, chat_peek_exact, "max_tokens", &older);

    if (!err)
        err = chat_peek_number(c->body, chat_peek_exact, "max_completion_tokens", &newer);
    if (!err)
        err = chat_peek_number(c->body, chat_peek_exact, "n", &c->convo->n);
    c->convo->max_tokens = older > newer ? older : newer;
    return err;
}

static enum gw_err peek(struct chat *c, struct convo_report *rep)
{
    struct json model = json_get(c->body, "model"), stream = json_get(c->body, "stream");
    struct json options = json_get(c->body, "stream_options");

    c->convo = convo_new(c->req->arena);
    if (!c->convo)
        return GW_ENOMEM;
    if (!json_is(model, JSON_STRING) || json_str(model).n == 0)
        return convo_refuse(rep, GW_ESCHEMA, SLICE("model"), SLICE("must be a non-empty string"));
    if (json_exists(stream) && !json_is(stream, JSON_NULL) && !json_bool(stream, &c->convo->stream))
        return convo_refuse(rep, GW_ESCHEMA, SLICE("stream"), SLICE("must be a boolean"));
    c->convo->model = json_str(model);
    (void)json_bool(json_get(options, "include_usage"), &c->convo->include_usage);
    return peek_limits(c);
}

static const struct chat_form form = {
    .name = "openai",
    .dialect = &dialect_openai,
    .decode = decode,
    .peek = peek,
    .answer = chat_dialect_answer,
    .event = chat_dialect_event,
    .stream_type = CHAT_EVENT_STREAM,
    .heartbeat = CHAT_SSE_COMMENT,
};

void chat_completions(struct request *req)
{
    chat_begin(req, &form);
}
