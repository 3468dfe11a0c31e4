/*
 * ratelimit.c - SPEC 4's limits: a token bucket for each class and caller, one for a key with a
 * rate of its own, one for a team with one, and one for the instance.
 *
 *     run --Redis away, or an answer at once--> decide --tokens--> next row
 *       '--asked--> PARKED --verdict--> decide           '--none--> 429
 *
 * The caller is the credential's subject, else the client's address; where passwords are tried it
 * is the address. The class of a route comes from its row, `probe` is never limited; a route listed
 * in conf's `endpoints` has a bucket of its own instead (an alias has its successor's). Who counts
 * is the limiter's matter (storage/limiter.h); the instance's bucket is this process's.
 *
 * struct limiting lives in the request's arena. It holds a reference on the request from parking
 * until the verdict or the client's leaving.
 */
#include "gateway/core/bucket.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/ratelist.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"
#include "storage/limiter.h"
#include "storage/principal.h"
#include "storage/redis.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define MAX_SUBJECT 72u
#define IPV6_SITE_BYTES 8u
#define IDENTITY_BYTES 80u

struct limiting {
    struct request *req;
    struct limiter_call call;
    char identity[IDENTITY_BYTES];
};

static struct bucket instance;

/* conf's `endpoints` taken apart, once for each configuration. */
static struct {
    const struct slice *of; /* the list it was made of */
    unsigned generation;
    struct ratelist_item *items;
    unsigned n;
} overrides;

/* A route for which a credential is but one proof among others takes passwords: who had a bucket
 * for each of their keys there could guess those of others without end. */
static bool goes_by_address(const struct request *req)
{
    return !req->who.subject.n ||
           (req->route && req->route->access == ACCESS_OPTIONAL && !req->who.admin);
}

/* --- which buckets ---------------------------------------------------------------------------- */

static struct limiter_bucket class_bucket(const struct conf *c, enum rate_class k)
{
    switch (k) {
    case RATE_AI:
        return (struct limiter_bucket){SLICE("ai"), {c->rate_ai_rpm, c->rate_ai_burst}};
    case RATE_AUTH:
        return (struct limiter_bucket){SLICE("auth"), {c->rate_auth_rpm, c->rate_auth_burst}};
    case RATE_UPLOAD:
        return (struct limiter_bucket){SLICE("upload"), {c->rate_upload_rpm, c->rate_upload_burst}};
    default:
        return (struct limiter_bucket){SLICE("default"),
                                       {c->rate_default_rpm, c->rate_default_burst}};
    }
}

static void forget_overrides(void)
{
    free(overrides.items);
    memset(&overrides, 0, sizeof(overrides));
}

/* The list was checked with the configuration; out of memory there are none until the next try. */
static void read_overrides(const struct conf *c)
{
    const struct conf_list *list = &c->rate_overrides;
    unsigned i;

    if (overrides.of == list->items && overrides.generation == c->generation)
        return;
    forget_overrides();
    overrides.items = calloc(list->n, sizeof(*overrides.items));
    if (!overrides.items)
        return;
    for (i = 0; i < list->n; i++)
        overrides.n += !ratelist_parse(list->items[i], &overrides.items[overrides.n]);
    overrides.of = list->items;
    overrides.generation = c->generation;
}

static const struct ratelist_item *override_of(const struct request *req)
{
    const struct route *r = req->route;
    const char *path;
    unsigned i;

    if (req->conf->rate_overrides.n == 0 || !r)
        return NULL;
    read_overrides(req->conf);
    path = r->successor ? r->successor : r->path;
    for (i = 0; i < overrides.n; i++) {
        if (slice_is(overrides.items[i].path, path) &&
            slice_is(overrides.items[i].method, http_method_name(r->method)))
            return &overrides.items[i];
    }
    return NULL;
}

/* What a key, and all of its team together, may ask in a minute besides the class. */
static void add_own_buckets(const struct principal *p, struct limiter_call *c)
{
    int64_t key = p->kind == PRINCIPAL_KEY ? p->requests_per_minute : 0;
    int64_t team = p->team_requests_per_minute;

    if (key > 0)
        c->buckets[c->n++] = (struct limiter_bucket){SLICE("key"), {key, key}, false};
    if (team > 0) {
        c->buckets[c->n++] = (struct limiter_bucket){SLICE("team"), {team, team}, true};
        c->group = slice_cstr(p->team_id);
    }
}

static void choose_buckets(const struct request *req, enum rate_class k, struct limiter_call *c)
{
    const struct ratelist_item *own = override_of(req);

    c->buckets[0] = class_bucket(req->conf, k);
    if (own)
        c->buckets[0] = (struct limiter_bucket){own->route, own->rate, false};
    c->n = 1;
    if (req->principal && !goes_by_address(req))
        add_own_buckets(req->principal, c);
}

/* --- who -------------------------------------------------------------------------------------- */

/* The /64 of an IPv6 address: one customer usually has all of it. */
static size_t put_site(struct slice text, char *to, size_t size)
{
    char buf[INET6_ADDRSTRLEN];
    struct in6_addr v6;

    if (text.n == 0 || text.n >= sizeof(buf) || !memchr(text.p, ':', text.n))
        return 0;
    memcpy(buf, text.p, text.n);
    buf[text.n] = '\0';
    if (inet_pton(AF_INET6, buf, &v6) != 1 || IN6_IS_ADDR_V4MAPPED(&v6))
        return 0;
    memset(v6.s6_addr + IPV6_SITE_BYTES, 0, sizeof(v6.s6_addr) - IPV6_SITE_BYTES);
    return inet_ntop(AF_INET6, &v6, to, (socklen_t)size) ? strlen(to) : 0;
}

/* "key:...", "user:...", "master", or "ip:<address>": a subject never looks like an address. */
static struct slice put_identity(const struct request *req, char to[IDENTITY_BYTES])
{
    bool by_address = goes_by_address(req);
    struct slice who = by_address ? req->client_ip : req->who.subject;
    const char *kind = by_address ? "ip:" : "";
    char site[INET6_ADDRSTRLEN];
    size_t n = by_address ? put_site(who, site, sizeof(site)) : 0;
    char *at = mempcpy(to, kind, strlen(kind));

    if (n)
        who = slice_of(site, n);
    if (who.n)
        at = mempcpy(at, who.p, who.n < MAX_SUBJECT ? who.n : MAX_SUBJECT);
    return slice_of(to, (size_t)(at - to));
}

/* --- what is said ----------------------------------------------------------------------------- */

static uint64_t seconds_up(uint64_t us)
{
    return (us + 999999) / 1000000;
}

/* "class" with up to two numbers: "ai";q=60;w=60. Written by hand, since every answer has two. */
static struct slice item(struct arena *a, struct slice class, const char *name, struct slice value,
                         const char *name2, struct slice value2)
{
    size_t n = class.n, n1 = strlen(name), n2 = strlen(name2);
    char *p = arena_bytes(a, n + 2 + n1 + value.n + n2 + value2.n), *at = p;

    if (!p)
        return SLICE_NONE;
    *at++ = '"';
    at = mempcpy(at, class.p, n);
    *at++ = '"';
    at = mempcpy(at, name, n1);
    at = mempcpy(at, value.p, value.n);
    at = mempcpy(at, name2, n2);
    at = mempcpy(at, value2.p, value2.n);
    return slice_of(p, (size_t)(at - p));
}

/* The de-facto X-RateLimit-* and the standard ones (draft-ietf-httpapi-ratelimit-headers). */
static void tell(struct request *req, struct slice class, const struct bucket_rate *r,
                 const struct bucket_state *s)
{
    struct arena *a = req->arena;
    struct slice limit = arena_u64(a, (uint64_t)r->per_minute);
    struct slice left = arena_u64(a, (uint64_t)s->remaining);
    struct slice reset = arena_u64(a, seconds_up(s->full_in_us));

    if (!limit.p || !left.p || !reset.p)
        return;
    request_set_header(req, "X-RateLimit-Limit", limit);
    request_set_header(req, "X-RateLimit-Remaining", left);
    request_set_header(req, "X-RateLimit-Reset", reset);
    request_set_header(req, "RateLimit-Policy", item(a, class, ";q=", limit, ";w=", SLICE("60")));
    request_set_header(req, "RateLimit", item(a, class, ";r=", left, ";t=", reset));
}

static enum chain_verdict refuse(struct request *req, struct slice class,
                                 const struct bucket_state *s)
{
    struct error_detail d = {.retry_after_s = seconds_up(s->retry_in_us)};

    d.message =
        arena_printf(req->arena, "Rate limit of class \"%.*s\" reached; try again in %llu s.",
                     SLICE_ARG(class), (unsigned long long)d.retry_after_s);
    metrics_add(metrics_series(M_RATE_LIMITED, &class), 1);
    request_note(req, "rate_limit", class);
    request_fail(req, GW_ERATE, &d);
    return CHAIN_DONE;
}

/* The caller's verdict is there; the instance has a word too, but only on what would pass. */
static enum chain_verdict decide(struct limiting *l, const struct limiter_verdict *v)
{
    const struct limiter_bucket *b = &l->call.buckets[v->which];
    struct request *req = l->req;
    struct bucket_rate all = {req->conf->rate_global_rpm, req->conf->rate_global_burst};
    struct bucket_state s;

    tell(req, b->name, &b->rate, &v->state);
    if (v->refused)
        return refuse(req, b->name, &v->state);
    if (!bucket_take(&instance, &all, loop_now_us(), &s))
        return refuse(req, SLICE("global"), &s);
    return CHAIN_NEXT;
}

/* --- the flow --------------------------------------------------------------------------------- */

static void on_gone(struct request *req, void *arg)
{
    struct limiting *l = arg;

    limiter_cancel(&l->call);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    request_unref(req);
}

static void on_verdict(const struct limiter_verdict *v, void *arg)
{
    struct limiting *l = arg;
    struct request *req = l->req;

    request_on_abort(req, NULL, NULL);
    if (decide(l, v) == CHAIN_NEXT)
        chain_resume(req);
    request_unref(req);
}

static enum chain_verdict park(struct limiting *l)
{
    request_ref(l->req);
    request_on_abort(l->req, on_gone, l);
    return CHAIN_PARKED;
}

enum chain_verdict ratelimit_run(struct request *req)
{
    enum rate_class k = req->route ? req->route->rate : RATE_DEFAULT;
    struct limiter_verdict v;
    struct limiting here = {.req = req}, *l = &here;

    if (k == RATE_PROBE || !req->conf->rate_enabled)
        return CHAIN_NEXT;
    if (redis_up())
        l = arena_new(req->arena, struct limiting);
    l = l ? l : &here; /* short of memory is no reason to refuse: it is decided here, then */
    l->req = req;
    l->call.identity = put_identity(req, l->identity);
    choose_buckets(req, k, &l->call);
    if (l != &here && limiter_begin(&l->call, on_verdict, l))
        return park(l);
    limiter_local(&l->call, &v);
    return decide(l, &v);
}

void ratelimit_deinit(void)
{
    forget_overrides();
    limiter_deinit();
}
