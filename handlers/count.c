/*
 * count.c - see count.h.
 *
 *     relay --> CALL --on_bytes--> (answered) --on_end--> end
 *
 * struct counting lives in the request's arena and holds one reference on the request;
 * counting_end() is reached once: by the call's end or by the client leaving.
 */
#include "handlers/count.h"

#include "gateway/core/metrics.h"
#include "handlers/llm.h"

struct counting {
    struct request *req; /* counted reference, dropped by counting_end() */
    struct op *call;
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

void count_relay(struct request *req, const struct count_ask *ask)
{
    struct counting *c = arena_new(req->arena, struct counting);
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = ask->route,
        .convo = ask->convo,
        .inbound = ask->inbound,
        .body = ask->body,
        .pass_headers = ask->headers,
        .n_pass_headers = ask->n_headers,
        .count = true,
        .deadline_us = req->deadline_us,
        .request_id = req->id,
        .traceparent = req->traceparent,
    };

    if (c)
        *c = (struct counting){.req = req, .call = provider_call(&call, &sink, c)};
    if (!c || !c->call) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    request_ref(req);
    request_on_abort(req, on_client_gone, c);
}

void count_estimate(struct request *req, const struct convo *convo, const char *member,
                    uint64_t least)
{
    uint64_t n = convo_estimate_tokens(convo);
    struct slice body = arena_printf(req->arena, "{\"%s\":%llu}", member,
                                     (unsigned long long)(n > least ? n : least));

    request_set_header(req, "X-Postern-Token-Count", SLICE("estimated"));
    request_finish(req, body.p ? GW_OK : GW_ENOMEM, body);
}
