/*
 * responses.c - see responses.h.
 *
 * Providers are always asked in their chat dialects, so no body passes through. Nothing is stored:
 * there is nothing to retrieve, continue or delete afterwards.
 */
#include "handlers/responses.h"

#include "gateway/core/loop.h"
#include "handlers/chat.h"
#include "providers/dialect/responses_wire.h"

static enum gw_err decode(struct chat *c, struct convo_report *rep)
{
    return responses_decode_request(c->req->arena, c->body, &c->convo, rep);
}

static void answer(struct chat *c, const struct convo_answer *ans, struct buf *out)
{
    enum gw_err err = responses_encode_answer(c->req->arena, c->body, ans, chat_model_shown(c, ans),
                                              loop_wall_us() / 1000000, out);

    if (err && !buf_err(out))
        out->err = err;
}

static enum gw_err event(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    size_t max = (size_t)c->req->conf->provider_max_response_mb << 18;

    /* the last events repeat what came before, up to three times at once */
    if (!c->encoder)
        c->encoder = responses_encoder_new(c->req->arena, c->body, c->info->model->name,
                                           loop_wall_us() / 1000000, max);
    return c->encoder ? responses_encode_event(c->encoder, ev, out) : GW_ENOMEM;
}

static const struct chat_form form = {
    .name = "responses",
    .decode = decode,
    .answer = answer,
    .event = event,
    .stream_type = CHAT_EVENT_STREAM,
    .heartbeat = CHAT_SSE_COMMENT,
};

void responses_create(struct request *req)
{
    chat_begin(req, &form);
}
