/* reuse.c - see reuse.h. */
#include "handlers/reuse.h"

#include "gateway/core/canonical.h"
#include "storage/principal.h"

#define KEY_VERSION SLICE("answer 1")
#define PARTITION_VERSION SLICE("question 1")
#define SECOND_US 1000000u

/* --- what the client says -------------------------------------------------------------------- */

struct controls {
    bool no_store, no_cache, only_cached, has_max_age;
    uint64_t max_age_s;
};

/* Delta-seconds (RFC 9111, 1.2.2): digits; too many of them count as very long. */
static bool read_seconds(struct slice s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
        s = slice_of(s.p + 1, s.n - 2);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (v < UINT32_MAX)
            v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    *ret = v < INT32_MAX ? v : INT32_MAX;
    return s.n > 0;
}

static void read_directive(struct slice d, struct controls *c)
{
    size_t eq = slice_find(d, '=');
    struct slice name = slice_trim(slice_of(d.p, eq));

    if (slice_is_nocase(name, "no-store"))
        c->no_store = true;
    else if (slice_is_nocase(name, "no-cache"))
        c->no_cache = true;
    else if (slice_is_nocase(name, "only-if-cached"))
        c->only_cached = true;
    else if (slice_is_nocase(name, "max-age"))
        c->has_max_age = read_seconds(slice_trim(slice_from(d, eq + 1)), &c->max_age_s);
}

static struct controls controls_of(const struct request *req)
{
    struct controls c = {0};

    for (unsigned i = 0; i < req->n_headers; i++) {
        struct slice rest = req->headers[i].value;

        if (!slice_is_nocase(req->headers[i].name, "cache-control"))
            continue;
        while (rest.n) {
            size_t comma = slice_find(rest, ',');

            read_directive(slice_trim(slice_of(rest.p, comma)), &c);
            rest = slice_from(rest, comma + 1);
        }
    }
    return c;
}

struct reuse_policy reuse_policy_of(const struct request *req, bool deterministic)
{
    struct controls c = controls_of(req);
    struct slice mode = req->conf->cache_response;
    bool on = slice_is(mode, "all") ||
              (slice_is(mode, "auto") && (deterministic || c.has_max_age || c.only_cached));
    struct reuse_policy p = {
        .look = on && !c.no_store && !c.no_cache,
        .keep = on && !c.no_store,
        .only_cached = c.only_cached,
        .max_age_us = UINT64_MAX,
        .ttl_us = (uint64_t)req->conf->cache_response_ttl_s * SECOND_US,
    };

    if (c.has_max_age) {
        p.max_age_us = c.max_age_s * SECOND_US;
        p.ttl_us = p.max_age_us;
        p.look = p.look && c.max_age_s > 0;
        p.keep = p.keep && c.max_age_s > 0;
    }
    return p;
}

/* --- the key --------------------------------------------------------------------------------- */

struct slice reuse_tenant(const struct request *req)
{
    if (req->principal && req->principal->tenant[0])
        return slice_cstr(req->principal->tenant);
    return req->who.known ? req->who.subject : SLICE("anonymous");
}

enum gw_err reuse_key(const struct request *req, const struct reuse_subject *s, struct lru_key *ret)
{
    /* who asks within a tenant, and where else to go when a provider fails, make no other answer */
    static const char *const but[] = {"user",  "safety_identifier", "fallbacks",
                                      "model", "conversation_id",   NULL};
    struct canonical c;
    enum gw_err err;

    canonical_init(&c, 2 * req->body.n + 65536);
    (void)buf_reserve(&c.text, 2 * req->body.n + 256); /* so that it seldom grows */
    c.masked = s->question;
    canonical_add(&c, s->question.n ? PARTITION_VERSION : KEY_VERSION);
    canonical_add(&c, reuse_tenant(req));
    canonical_add(&c, slice_cstr(s->form));
    canonical_add(&c, s->model);
    canonical_add_int(&c, s->stream);
    canonical_add_int(&c, s->strict);
    canonical_add_int(&c, s->route->n_targets);
    for (unsigned i = 0; i < s->route->n_targets; i++)
        canonical_add(&c, s->route->targets[i].model->id);
    for (unsigned i = 0; i < s->n_headers; i++) {
        canonical_add(&c, s->headers[i].name);
        canonical_add(&c, s->headers[i].value);
    }
    canonical_add_json(&c, s->body, but);
    err = canonical_hash(&c, ret->sha);
    canonical_deinit(&c);
    return err;
}
