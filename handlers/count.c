/*
 * count.c - see count.h.
 *
 *     relay --> CALL --on_bytes--> (answered) --on_end--> end
 *
 * struct counting lives in the request's arena and holds one reference on the request;
 * counting_end() is reached once: by the call's end or by the client leaving.
 */
#include "handlers/count.h"

#include "handlers/admit.h"
#include "handlers/llm.h"

struct counting {
    struct request *req; /* counted reference, dropped by counting_end() */
    struct op *call;
    const struct provider_call_info *info;
    struct registry_route route;
    struct admit_ask cost; /* nothing is reserved: counting is free */
    bool answered;
};

/* Books it, before the answer leaves. */
static void settle(struct counting *c, enum gw_err err)
{
    struct admit_outcome out = {.err = err, .info = c->info};

    if (c->call)
        out.info = provider_call_info(c->call);
    admit_settle(c->req, NULL, &c->cost, &out);
}

/* The only exit of a call; `c` may be gone when this returns. */
static void counting_end(struct counting *c, enum gw_err err)
{
    struct request *req = c->req;

    if (!c->answered)
        settle(c, err);
    op_cancel(&c->call);
    request_on_abort(req, NULL, NULL);
    request_unref(req);
}

static void on_client_gone(struct request *req, void *arg)
{
    counting_end(arg, llm_client_gone(req, false));
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
    settle(c, GW_OK);
    request_reply(c->req, 200, SLICE("application/json"), bytes);
}

static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    struct counting *c = arg;

    c->call = NULL;
    c->info = info;
    c->req->upstream_us = info->upstream_us;
    if (!c->answered)
        llm_fail(c->req, err ? err : GW_EUPBAD, info, vendor);
    counting_end(c, c->answered || err ? err : GW_EUPBAD);
}

static const struct provider_sink sink = {
    .on_live = on_live,
    .on_event = on_event,
    .on_bytes = on_bytes,
    .on_end = on_end,
};

static bool counting_start(struct counting *c, const struct count_ask *ask)
{
    struct request *req = c->req;
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = c->route,
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

    c->call = provider_call(&call, &sink, c);
    return c->call != NULL;
}

void count_relay(struct request *req, const struct count_ask *ask)
{
    struct counting *c = arena_new(req->arena, struct counting);

    if (c) {
        c->req = req;
        c->route = ask->route;
        c->cost = (struct admit_ask){
            .asked_model = ask->asked_model, .route = &c->route, .purpose = "count"};
    }
    if (!c || !counting_start(c, ask)) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    request_ref(req);
    request_on_abort(req, on_client_gone, c);
}

bool count_allowed(struct request *req, struct count_ask *ask, struct slice model)
{
    struct admit_ask cost = {.asked_model = model, .route = &ask->route, .purpose = "count"};

    ask->asked_model = model;
    return admit_models(req, &cost);
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
