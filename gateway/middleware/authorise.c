/*
 * authorise.c - does the caller have what the route asks for?
 *
 * A wrong or doubled credential is refused wherever one is looked at, even where none is needed: a
 * client that thinks it is somebody must not be served as nobody. One that cannot be judged now
 * (the database is away) is told to come back: it may be a good one.
 */
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"
#include "storage/principal.h"

#define COME_BACK_S 5u

static enum chain_verdict refuse(struct request *req, enum gw_err err, struct slice challenge,
                                 struct slice why)
{
    struct error_detail d = {.message = why, .retry_after_s = err == GW_EUNAVAIL ? COME_BACK_S : 0};

    if (challenge.n)
        request_set_header(req, "WWW-Authenticate", challenge);
    request_fail(req, err, &d);
    return CHAIN_DONE;
}

static bool is_local(const struct request *req)
{
    return req->peer_trusted || slice_starts(req->peer, "127.") || slice_is(req->peer, "::1");
}

/* The scopes a key needs one of. */
static unsigned scope_of(const struct route *r)
{
    if (r->scope)
        return r->scope;
    if (r->access == ACCESS_ADMIN || r->access == ACCESS_OPS)
        return SCOPE_ADMIN;
    return r->method == HTTP_GET ? SCOPE_READ : SCOPE_WRITE;
}

static enum chain_verdict need_scope(struct request *req)
{
    if (!req->principal || principal_has_scope(req->principal, scope_of(req->route)))
        return CHAIN_NEXT;
    return refuse(req, GW_EFORBIDDEN, SLICE(AUTHORISE_CHALLENGE ", error=\"insufficient_scope\""),
                  SLICE("The key's scopes do not open this route."));
}

static enum chain_verdict need_user(struct request *req)
{
    if (req->who.conflicting)
        return refuse(req, GW_EUNAUTH, SLICE(AUTHORISE_CHALLENGE ", error=\"invalid_request\""),
                      SLICE("The request carries two different credentials."));
    if (req->who.expired)
        return refuse(
            req, GW_ETOKENEXPIRED,
            SLICE(AUTHORISE_CHALLENGE ", error=\"invalid_token\", error_description=\"expired\""),
            SLICE("The credential has expired."));
    if (req->who.invalid)
        return refuse(req, GW_EUNAUTH, SLICE(AUTHORISE_CHALLENGE ", error=\"invalid_token\""),
                      SLICE("The credential is not valid."));
    if (req->who.unavailable)
        return refuse(req, GW_EUNAVAIL, SLICE_NONE,
                      SLICE("The credential cannot be verified at the moment."));
    if (!req->who.known && req->route->access != ACCESS_OPTIONAL && conf_auth_required(req->conf))
        return refuse(req, GW_EUNAUTH, SLICE(AUTHORISE_CHALLENGE),
                      SLICE("A credential is needed: Authorization: Bearer, x-api-key, "
                            "x-goog-api-key or ?key=."));
    return need_scope(req);
}

static enum chain_verdict need_admin(struct request *req)
{
    enum chain_verdict v = need_user(req);

    if (v != CHAIN_NEXT || req->who.admin)
        return v;
    if (!req->who.known && !conf_auth_required(req->conf))
        return CHAIN_NEXT;
    return refuse(req, GW_EFORBIDDEN, SLICE_NONE, SLICE("This route is for administrators."));
}

/* Whoever a proxy passes on is a stranger, unless the proxy says that it asks for itself. The
 * header is looked at here because trusted_proxy.c leaves the proxy's address in client_ip where it
 * cannot make out the client's; and a proxy on this host passes strangers on even if nobody told us
 * of it.
 */
static bool is_forwarded(const struct request *req)
{
    unsigned n = request_header_count(req, "x-forwarded-for");

    return request_header_count(req, "forwarded") > 0 ||
           (n > 0 && !(n == 1 && slice_eq(request_header(req, "x-forwarded-for"), req->peer)));
}

/* For the machines around us: the same host, a trusted proxy, or an administrator. */
static enum chain_verdict need_ops(struct request *req)
{
    return is_local(req) && !is_forwarded(req) ? CHAIN_NEXT : need_admin(req);
}

/* What is told to one caller is no other's. A shared cache knows that of requests with
 * Authorization, but not of those with x-api-key or ?key=; who is answered may keep it and ask
 * again with its ETag. Handlers may say something stricter. */
static void keep_private(struct request *req)
{
    if (req->route->access != ACCESS_PUBLIC && req->route->method == HTTP_GET)
        request_set_header(req, "Cache-Control", SLICE("private, no-cache"));
}

enum chain_verdict authorise_run(struct request *req)
{
    if (!req->route)
        return CHAIN_NEXT;
    keep_private(req);
    switch (req->route->access) {
    case ACCESS_PUBLIC:
        return CHAIN_NEXT;
    case ACCESS_OPTIONAL:
    case ACCESS_USER:
        return need_user(req);
    case ACCESS_ADMIN:
        return need_admin(req);
    case ACCESS_OPS:
        return need_ops(req);
    }
    return refuse(req, GW_EINTERNAL, SLICE_NONE, SLICE_NONE);
}
