/*
 * router.h - exact routing by method and path. No prefixes, no regular expressions.
 *
 * A template's segment in braces matches one segment ("/v1/files/{id}"); "{name...}" at the end
 * matches all that is left, slashes included ("/v1/models/{id...}"). A literal segment wins over a
 * parameter.
 */
#pragma once

#include "gateway/http/request.h"

enum surface { SURFACE_NATIVE, SURFACE_OPENAI, SURFACE_ANTHROPIC, SURFACE_GOOGLE };
enum rate_class { RATE_PROBE, RATE_DEFAULT, RATE_AI, RATE_AUTH, RATE_UPLOAD, RATE_CLASSES };
enum body_class { BODY_NONE, BODY_JSON, BODY_CHAT, BODY_UPLOAD };
/* ACCESS_OPTIONAL: a credential is looked at, and refused when it is wrong, but none is needed. */
enum route_access { ACCESS_PUBLIC, ACCESS_OPTIONAL, ACCESS_USER, ACCESS_ADMIN, ACCESS_OPS };

struct form; /* form.h */

typedef void (*route_handler)(struct request *req);

/* One row of handlers/routes.c. */
struct route {
    enum http_method method; /* HEAD is served by GET rows, OPTIONS by the router itself */
    const char *path;        /* template; also the `endpoint` label of metrics */
    route_handler handler;
    enum surface surface;
    enum route_access access;
    enum rate_class rate;
    enum body_class body;
    unsigned scope; /* SCOPE_ bits of storage/principal.h: a key with scopes needs one of them. 0:
                       "read" for GET, "write" for others, "admin" for ACCESS_ADMIN */
    bool quiet;     /* not in the access log (probes) */
    const char *successor; /* not NULL: a deprecated alias of that template (legacy.h) */
    const char *act; /* what it does, in the audit record: "user.create"; NULL = nothing to tell */
    const struct form *form; /* what a JSON body may hold (form.h); every native POST, PUT and PATCH
                                has one */
};

/* What the route is called wherever aliases are to be one with their successor (limits, operations,
 * counters). */
static inline const char *route_name(const struct route *r)
{
    return r->successor ? r->successor : r->path;
}

/* Takes the table over (it must stay). GW_EINTERNAL when two rows collide. */
enum gw_err router_init(const struct route *routes, unsigned n) MUST_CHECK;
void router_deinit(void);

/*
 * Finds the route of a path as gate.h leaves it (decoded but for %2F and %25). GW_OK with
 * *ret_route and params filled in, in order and fully decoded; GW_ENOTFOUND; GW_EMETHOD when the
 * path exists under other methods, OPTIONS included: then *ret_allow (arena) lists them, HEAD and
 * OPTIONS too. GW_ENOMEM.
 */
enum gw_err router_find(struct arena *a, enum http_method method, struct slice path,
                        const struct route **ret_route, struct slice *params,
                        struct slice *ret_allow) MUST_CHECK;

/* The value of an Allow header: bit 1 << method for each; HEAD comes with GET, OPTIONS always. */
struct slice router_allow_text(struct arena *a, unsigned allow);

/* In whose shape errors of this request are told: its route's surface, without a route by the
 * path's prefix
 * (/v1/messages, /v1beta/, /v1/, else native). */
enum surface surface_of(const struct request *req);
