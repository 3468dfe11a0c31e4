/*
 * provider_request.c - what is sent to a target: its body, its URL, its headers.
 */
#include "providers/provider_private.h"

#include "gateway/core/rng.h"

#include <assert.h>

static_assert(PROVIDER_MAX_HEADERS <= TRANSPORT_MAX_HEADERS, "what a call can have is taken");

/* The client would rather have no answer than one without what it asked for. */
static enum gw_err refuse_lossy(struct provider_call *c)
{
    struct slice field = slice_cstr(c->report.dropped[0]);

    return convo_refuse(&c->report, GW_EUNSUPPORTED, field,
                        arena_printf(c->req.arena,
                                     "%.*s cannot be carried to %.*s, and X-Postern-Strict is set.",
                                     SLICE_ARG(field), SLICE_ARG(c->model->id)));
}

enum gw_err provider_encode(struct provider_call *c)
{
    const struct dialect *d = c->model->provider->dialect;
    struct dialect_request *out = &c->dialect_request;
    enum gw_err err;

    *out = (struct dialect_request){.body = &c->body};
    buf_reset(&c->body);
    c->report = (struct convo_report){0};
    c->info.passed_through = false;
    if (c->req.embed) {
        err = d->encode_embed(c->req.arena, c->req.embed, c->model, out, &c->report);
    } else if (c->req.inbound == d && d->pass_body && json_exists(c->req.body)) {
        c->info.passed_through = true;
        err = c->req.count ? d->count_request(c->req.arena, c->model, out)
                           : d->pass_request(c->req.arena, c->model, c->stream, out);
        if (!err)
            err = d->pass_body(c->req.body, c->model, c->stream, &c->body);
    } else {
        if (c->req.decoded)
            c->report = *c->req.decoded;
        err = d->encode_request(c->req.convo, c->model, out, &c->report);
        if (!err && c->req.strict && c->report.n_dropped)
            err = refuse_lossy(c);
    }
    if (!err)
        err = buf_err(&c->body);
    c->url = arena_join(c->req.arena, c->model->provider->base_url, out->path);
    return err || c->url.p ? err : GW_ENOMEM;
}

/* The client's own header of this name goes along instead. */
static bool is_passed(const struct provider_call *c, struct slice name)
{
    for (unsigned i = 0; c->info.passed_through && i < c->req.n_pass_headers; i++)
        if (slice_eq_nocase(c->req.pass_headers[i].name, name))
            return true;
    return false;
}

unsigned provider_put_headers(struct provider_call *c, struct transport_header *to)
{
    const struct registry_provider *p = c->model->provider;
    unsigned n = 0;

    to[n++] = (struct transport_header){SLICE("Content-Type"), SLICE("application/json")};
    to[n++] = (struct transport_header){SLICE("Accept"), c->stream ? SLICE("text/event-stream")
                                                                   : SLICE("application/json")};
    for (unsigned i = 0; i < c->dialect_request.n_headers; i++)
        if (!is_passed(c, c->dialect_request.headers[i].name))
            to[n++] = (struct transport_header){c->dialect_request.headers[i].name,
                                                c->dialect_request.headers[i].value};
    for (unsigned i = 0; i < p->n_headers; i++)
        to[n++] = (struct transport_header){p->headers[i].name, p->headers[i].value};
    for (unsigned i = 0; c->info.passed_through && i < c->req.n_pass_headers; i++)
        to[n++] =
            (struct transport_header){c->req.pass_headers[i].name, c->req.pass_headers[i].value};
    if (c->req.request_id.n)
        to[n++] = (struct transport_header){SLICE("x-request-id"), c->req.request_id};
    if (c->req.traceparent.n)
        to[n++] = (struct transport_header){SLICE("traceparent"), c->req.traceparent};
    if (p->dialect == &dialect_openai && strcmp(p->name, "openai") == 0) {
        if (!c->idempotency_key[0])
            rng_hex(c->idempotency_key, sizeof(c->idempotency_key) / 2);
        to[n++] = (struct transport_header){
            SLICE("Idempotency-Key"), slice_of(c->idempotency_key, sizeof(c->idempotency_key))};
    }
    return n;
}
