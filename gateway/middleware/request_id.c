/*
 * request_id.c - who is who in the logs.
 *
 * A client's X-Request-ID is kept when it is 1 to 128 characters of [A-Za-z0-9._:-]; anything else
 * is replaced, so that nothing a client sends can forge a log line or a header. traceparent follows
 * W3C Trace Context, level 1: a valid one goes on with a span of ours. None begins here, since
 * nobody would record its root: what a provider sees is found by the request id.
 */
#include "gateway/core/conceal.h"
#include "gateway/core/hex.h"
#include "gateway/core/rng.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"

#include <ctype.h>
#include <stdio.h>

#define MAX_ID 128u
#define TRACEPARENT_BYTES 55u

static bool id_is_sane(struct slice id)
{
    size_t i;

    if (id.n == 0 || id.n > MAX_ID)
        return false;
    for (i = 0; i < id.n; i++)
        if (!isalnum((unsigned char)id.p[i]) && !memchr("._:-", id.p[i], 4))
            return false;
    return true;
}

static struct slice new_id(struct request *req)
{
    char *p = arena_bytes(req->arena, 32);

    if (!p)
        return SLICE("unknown");
    rng_hex(p, 16);
    return slice_of(p, 32);
}

static bool is_hex(const char *p, size_t n)
{
    bool all_zero = true;

    for (size_t i = 0; i < n; i++) {
        if (!hex_is_lower(p[i]))
            return false;
        all_zero = all_zero && p[i] == '0';
    }
    return !all_zero;
}

/* 00-<32 hex>-<16 hex>-<2 hex>, in lower case. */
static bool trace_is_valid(struct slice t)
{
    return t.n == TRACEPARENT_BYTES && slice_starts(t, "00-") && t.p[35] == '-' && t.p[52] == '-' &&
           is_hex(t.p + 3, 32) && is_hex(t.p + 36, 16) && hex_is_lower(t.p[53]) &&
           hex_is_lower(t.p[54]);
}

/* The client's trace with a span of ours; empty when there is none, or more than one. */
static struct slice trace_of(struct request *req)
{
    struct slice theirs = request_header(req, "traceparent");
    char *p;

    if (!trace_is_valid(theirs) || request_header_count(req, "traceparent") != 1)
        return SLICE_NONE;
    p = arena_bytes(req->arena, TRACEPARENT_BYTES);
    if (!p)
        return SLICE_NONE;
    memcpy(p, theirs.p, TRACEPARENT_BYTES);
    rng_hex(p + 36, 8);
    return slice_of(p, TRACEPARENT_BYTES);
}

static void log_start(const struct request *req)
{
    char text[192], path[129];

    if (!log_enabled(LVL_DEBUG, &req->log))
        return;
    conceal_keys(req->path, path, sizeof(path));
    snprintf(text, sizeof(text), "Request started: %s %s", http_method_name(req->method), path);
    log_debug(&req->log, text);
}

enum chain_verdict request_id_run(struct request *req)
{
    struct slice theirs = request_header(req, "x-request-id");

    req->id = id_is_sane(theirs) ? theirs : new_id(req);
    req->traceparent = trace_of(req);
    req->log.request_id = req->id;
    log_start(req);
    return CHAIN_NEXT;
}

void request_id_hook(struct request *req)
{
    if (req->id.n == 0)
        request_id_run(req);
    request_set_header(req, "X-Request-ID", req->id);
    if (surface_of(req) == SURFACE_ANTHROPIC)
        request_set_header(req, "request-id", req->id); /* where that vendor's libraries look */
}
