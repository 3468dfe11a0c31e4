/*
 * ratelimit.c - SPEC 4's limits: a token bucket for each class and caller, and one for the
 * instance.
 *
 * The caller is the credential's subject, else the client's address. Buckets are kept in a table of
 * at most MAX_BUCKETS; when it is full the least recently used one goes, which only helps whoever
 * was quiet longest. The class of a route comes from its row; `probe` is never limited.
 */
#include "gateway/core/bucket.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"

#include <arpa/inet.h>
#include <stdlib.h>
#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <uthash.h>
#include <utlist.h>

#define MAX_BUCKETS 65536u
#define MAX_SUBJECT 64u
#define IPV6_SITE_BYTES 8u

struct caller_key {
    uint16_t rate_class;
    bool by_address; /* a subject never shares a bucket with an address of the same text */
    uint8_t n;
    char subject[MAX_SUBJECT]; /* padded with zeros */
};

struct caller {
    struct caller_key key;
    struct bucket bucket;
    struct caller *prev, *next; /* most recently used first */
    UT_hash_handle hh;
};

static struct caller *table, *recent;
static struct bucket instance;

static const char *const class_names[RATE_CLASSES] = {"probe", "default", "ai", "auth", "upload"};

static struct bucket_rate class_rate(const struct conf *c, enum rate_class k)
{
    switch (k) {
    case RATE_AI:
        return (struct bucket_rate){c->rate_ai_rpm, c->rate_ai_burst};
    case RATE_AUTH:
        return (struct bucket_rate){c->rate_auth_rpm, c->rate_auth_burst};
    case RATE_UPLOAD:
        return (struct bucket_rate){c->rate_upload_rpm, c->rate_upload_burst};
    default:
        return (struct bucket_rate){c->rate_default_rpm, c->rate_default_burst};
    }
}

static bool is_ipv6(struct slice text, struct in6_addr *ret)
{
    char buf[INET6_ADDRSTRLEN];

    if (text.n == 0 || text.n >= sizeof(buf) || !memchr(text.p, ':', text.n))
        return false;
    memcpy(buf, text.p, text.n);
    buf[text.n] = '\0';
    return inet_pton(AF_INET6, buf, ret) == 1 && !IN6_IS_ADDR_V4MAPPED(ret);
}

/* An IPv6 caller is its /64: one customer usually has all of it. */
static struct caller_key key_of(const struct request *req, enum rate_class k)
{
    struct slice who = req->who.subject.n ? req->who.subject : req->client_ip;
    struct in6_addr v6;
    struct caller_key key;

    memset(&key, 0, sizeof(key)); /* it is compared as bytes */
    key.rate_class = (uint16_t)k;
    key.by_address = req->who.subject.n == 0;
    if (key.by_address && is_ipv6(who, &v6)) {
        key.n = IPV6_SITE_BYTES;
        memcpy(key.subject, &v6, IPV6_SITE_BYTES);
        return key;
    }
    key.n = (uint8_t)(who.n < MAX_SUBJECT ? who.n : MAX_SUBJECT);
    if (key.n)
        memcpy(key.subject, who.p, key.n);
    return key;
}

static void forget(struct caller *c)
{
    HASH_DEL(table, c);
    DL_DELETE(recent, c);
    free(c);
}

/* The caller's bucket, made full if new; NULL out of memory (then the caller is let through). */
static struct caller *caller_of(const struct request *req, enum rate_class k)
{
    struct caller_key key = key_of(req, k);
    struct caller *c;

    HASH_FIND(hh, table, &key, sizeof(key), c);
    if (!c) {
        if (HASH_COUNT(table) >= MAX_BUCKETS)
            forget(recent->prev);
        c = calloc(1, sizeof(*c));
        if (!c)
            return NULL;
        c->key = key;
        HASH_ADD(hh, table, key, sizeof(key), c);
        if (!c->hh.tbl) { /* out of memory: it was not added */
            free(c);
            return NULL;
        }
    } else {
        DL_DELETE(recent, c);
    }
    DL_PREPEND(recent, c);
    return c;
}

static uint64_t seconds_up(uint64_t us)
{
    return (us + 999999) / 1000000;
}

/* "class" with up to two numbers: "ai";q=60;w=60. Written by hand, since every answer has two. */
static struct slice item(struct arena *a, const char *class, const char *name, struct slice value,
                         const char *name2, struct slice value2)
{
    size_t n = strlen(class), n1 = strlen(name), n2 = strlen(name2);
    char *p = arena_bytes(a, n + 2 + n1 + value.n + n2 + value2.n), *at = p;

    if (!p)
        return SLICE_NONE;
    *at++ = '"';
    at = mempcpy(at, class, n);
    *at++ = '"';
    at = mempcpy(at, name, n1);
    at = mempcpy(at, value.p, value.n);
    at = mempcpy(at, name2, n2);
    at = mempcpy(at, value2.p, value2.n);
    return slice_of(p, (size_t)(at - p));
}

/* The de-facto X-RateLimit-* and the standard ones (draft-ietf-httpapi-ratelimit-headers). */
static void tell(struct request *req, const char *class, const struct bucket_rate *r,
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

static enum chain_verdict refuse(struct request *req, const char *class,
                                 const struct bucket_state *s)
{
    struct error_detail d = {.retry_after_s = seconds_up(s->retry_in_us)};

    d.message = arena_printf(req->arena, "Rate limit of class \"%s\" reached; try again in %llu s.",
                             class, (unsigned long long)d.retry_after_s);
    metrics_add(metrics_get(M_RATE_LIMITED, class, NULL, NULL), 1);
    request_note(req, "rate_limit", slice_cstr(class));
    request_fail(req, GW_ERATE, &d);
    return CHAIN_DONE;
}

enum chain_verdict ratelimit_run(struct request *req)
{
    enum rate_class k = req->route ? req->route->rate : RATE_DEFAULT;
    struct bucket_rate own, all = {req->conf->rate_global_rpm, req->conf->rate_global_burst};
    struct bucket_state s;
    struct caller *c;

    if (k == RATE_PROBE || !req->conf->rate_enabled)
        return CHAIN_NEXT;
    own = class_rate(req->conf, k);
    c = caller_of(req, k);
    if (c && !bucket_take(&c->bucket, &own, loop_now_us(), &s)) {
        tell(req, class_names[k], &own, &s);
        return refuse(req, class_names[k], &s);
    }
    if (c)
        tell(req, class_names[k], &own, &s);
    if (!bucket_take(&instance, &all, loop_now_us(), &s))
        return refuse(req, "global", &s);
    return CHAIN_NEXT;
}

void ratelimit_deinit(void)
{
    while (recent)
        forget(recent);
}
