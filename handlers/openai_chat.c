/* openai_chat.c - POST /v1/chat/completions: the OpenAI surface of chat.c. */
#include "gateway/core/loop.h"
#include "handlers/chat.h"

static enum gw_err decode(struct chat *c, struct convo_report *rep)
{
    return dialect_openai.decode_request(c->req->arena, c->body, &c->convo, rep);
}

static void answer(struct chat *c, const struct convo_answer *ans, struct buf *out)
{
    struct slice shown = ans->model.n ? ans->model : c->info->model->name;

    dialect_openai.encode_answer(ans, shown, loop_wall_us() / 1000000, out);
}

static enum gw_err event(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    if (!c->encoder)
        c->encoder = dialect_openai.encoder_new(c->req->arena, c->convo, c->info->model->name,
                                                loop_wall_us() / 1000000);
    return c->encoder ? dialect_openai.encode_event(c->encoder, ev, out) : GW_ENOMEM;
}

static const struct chat_form form = {
    .dialect = &dialect_openai,
    .decode = decode,
    .answer = answer,
    .event = event,
};

void chat_completions(struct request *req)
{
    chat_begin(req, &form);
}
