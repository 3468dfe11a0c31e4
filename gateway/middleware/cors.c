/*
 * cors.c - cross-origin rules (Fetch standard, "CORS protocol").
 *
 * Only origins of conf's list get an allow header; "null" never does. "*" in the list allows any
 * origin, without credentials. Preflights need no credential and cost no rate-limit token. The
 * headers are set by a response hook, so that a browser can also read a 401 or a 429.
 */
#include "gateway/middleware/middleware.h"

static const char allowed_methods[] = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
static const char exposed_headers[] =
    "X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, "
    "X-Postern-Provider, X-Postern-Model, X-Postern-Attempts, X-Postern-Fallback-Index, "
    "X-Postern-Overhead-Us, X-Postern-Cost-Usd, X-Postern-Dropped, "
    "X-Postern-Error-Source, X-Cache, Idempotency-Replayed, ETag, Link, X-Total-Count, "
    "Deprecation, "
    "Sunset";

enum origin_verdict { ORIGIN_REFUSED, ORIGIN_LISTED, ORIGIN_ANY };

static enum origin_verdict origin_check(const struct request *req, struct slice origin)
{
    enum origin_verdict v = ORIGIN_REFUSED;
    unsigned i;

    if (origin.n == 0 || slice_is(origin, "null") || request_header_count(req, "origin") != 1)
        return ORIGIN_REFUSED;
    for (i = 0; i < req->conf->cors_origins.n; i++) {
        if (slice_eq(req->conf->cors_origins.items[i], origin))
            return ORIGIN_LISTED;
        if (slice_is(req->conf->cors_origins.items[i], "*"))
            v = ORIGIN_ANY;
    }
    return v;
}

void cors_hook(struct request *req)
{
    struct slice origin = request_header(req, "origin");
    enum origin_verdict v;

    if (!origin.p)
        return;
    request_vary(req, "Origin");
    v = origin_check(req, origin);
    if (v == ORIGIN_REFUSED)
        return;
    request_set_header(req, "Access-Control-Allow-Origin", v == ORIGIN_ANY ? SLICE("*") : origin);
    if (v == ORIGIN_LISTED)
        request_set_header(req, "Access-Control-Allow-Credentials", SLICE("true"));
    request_set_header(req, "Access-Control-Expose-Headers", SLICE(exposed_headers));
}

enum chain_verdict cors_run(struct request *req)
{
    struct slice wanted = request_header(req, "access-control-request-headers");

    if (req->method != HTTP_OPTIONS || !request_header(req, "origin").p ||
        !request_header(req, "access-control-request-method").p)
        return CHAIN_NEXT;
    if (origin_check(req, request_header(req, "origin")) != ORIGIN_REFUSED) {
        request_set_header(req, "Access-Control-Allow-Methods", SLICE(allowed_methods));
        if (wanted.n)
            request_set_header(req, "Access-Control-Allow-Headers", wanted);
        request_set_header(req, "Access-Control-Max-Age", SLICE("600"));
    }
    request_reply(req, 204, SLICE_NONE, SLICE_NONE);
    return CHAIN_DONE;
}
