/* openai_chat.c - POST /v1/chat/completions: the OpenAI surface of chat.c. */
#include "handlers/chat.h"

static enum gw_err decode(struct chat *c, struct convo_report *rep)
{
    return dialect_openai.decode_request(c->req->arena, c->body, &c->convo, rep);
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
    return GW_OK;
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
