/*
 * identify.c - finds the caller's credential and says who it is. Rejects nobody: that is
 * authorise.c.
 *
 *     collect --one--> master key, token (three parts), or API key --known here--> next row
 *        '--none, two, or none of ours--> next row          '--asked--> PARKED --> next row
 *
 * A credential may come as `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `?key=`; the
 * same one in several places is fine, two different ones are a conflict and count as no credential
 * at all. What can never be one of ours (another scheme, a bad escape) is an invalid one. None of
 * them ever travels upstream: providers are called with headers of our own making only.
 *
 * Public routes look at the master key only: a probe that sends a key along must not wait for a
 * database. The principal belongs to the request's arena, where its reference ends.
 */
#include "gateway/core/jwt.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"
#include "storage/keyring.h"

#include <openssl/crypto.h>

struct found {
    struct slice token;
    bool conflict;
    bool foreign; /* one that is none of ours */
};

static void found_add(struct found *f, struct slice token)
{
    if (token.n == 0)
        return;
    if (f->token.n && !slice_eq(f->token, token))
        f->conflict = true;
    f->token = token;
}

/* "Bearer <token>"; the scheme's name is case-insensitive (RFC 9110, 11.1). */
static void add_authorization(struct found *f, struct slice value)
{
    if (value.n > 7 && strncasecmp(value.p, "Bearer ", 7) == 0)
        found_add(f, slice_trim(slice_from(value, 7)));
    else if (value.n)
        f->foreign = true;
}

/* Every `key` of the query: request_query() alone would see the first one only. */
static enum gw_err add_query(struct request *req, struct found *f)
{
    struct slice whole = req->query, rest = whole;
    enum gw_err err = GW_OK;

    while (rest.n && err != GW_ENOMEM) {
        size_t amp = slice_find(rest, '&');

        req->query = slice_of(rest.p, amp);
        rest = slice_from(rest, amp + 1);
        found_add(f, request_query(req, "key", &err));
        f->foreign |= err == GW_EBADREQ;
    }
    req->query = whole;
    return err == GW_ENOMEM ? err : GW_OK;
}

static enum gw_err collect(struct request *req, struct found *f)
{
    enum gw_err err;
    unsigned i;

    for (i = 0; i < req->n_headers; i++) {
        const struct http_header *h = &req->headers[i];

        if (slice_is_nocase(h->name, "authorization"))
            add_authorization(f, h->value);
        else if (slice_is_nocase(h->name, "x-api-key") ||
                 slice_is_nocase(h->name, "x-goog-api-key"))
            found_add(f, h->value);
    }
    err = add_query(req, f);
    f->conflict |= f->foreign && f->token.n;
    return err;
}

/* --- what was found --------------------------------------------------------------------------- */

enum kind { MASTER, TOKEN, KEY, KINDS };
enum outcome { ACCEPTED, REFUSED, EXPIRED, UNAVAILABLE, OUTCOMES };

static void count(enum kind kind, enum outcome o)
{
    static const char *const kinds[KINDS] = {"master", "token", "key"};
    static const char *const outcomes[OUTCOMES] = {"accepted", "refused", "expired", "unavailable"};
    static struct metric_series *series[KINDS][OUTCOMES];

    if (!series[kind][o])
        series[kind][o] = metrics_get(M_AUTH, kinds[kind], outcomes[o], NULL);
    metrics_add(series[kind][o], 1);
}

static void unref_principal(void *p)
{
    principal_unref(p);
}

static enum chain_verdict no_memory(struct request *req)
{
    request_fail(req, GW_ENOMEM, NULL);
    return CHAIN_DONE;
}

/* Takes over the caller's reference. */
static enum chain_verdict admit_as(struct request *req, enum kind kind, const struct principal *p)
{
    if (!arena_defer(req->arena, unref_principal, (void *)p))
        return no_memory(req); /* the reference is gone */
    count(kind, ACCEPTED);
    req->principal = p;
    req->who.known = true;
    req->who.admin = p->admin;
    req->who.subject = slice_cstr(p->subject);
    return CHAIN_NEXT;
}

static enum chain_verdict conclude(struct request *req, enum kind kind, enum gw_err err,
                                   const struct principal *p)
{
    switch (err) {
    case GW_OK:
        return admit_as(req, kind, p);
    case GW_EUNAUTH:
    case GW_ETOKENEXPIRED:
        req->who.invalid = true;
        req->who.expired = err == GW_ETOKENEXPIRED;
        count(kind, req->who.expired ? EXPIRED : REFUSED);
        return CHAIN_NEXT;
    case GW_ENOMEM:
        return no_memory(req);
    default:
        req->who.unavailable = true;
        count(kind, UNAVAILABLE);
        return CHAIN_NEXT;
    }
}

/* --- asking the keyring ----------------------------------------------------------------------- */

/* In the request's arena; holds one reference on the request while `op` is outstanding. */
struct asking {
    struct request *req;
    struct op *op;
    enum kind kind;
};

static void on_gone(struct request *req, void *arg)
{
    struct asking *a = arg;

    op_cancel(&a->op);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    request_unref(req);
}

static void on_answer(enum gw_err err, const struct principal *p, void *arg)
{
    struct asking *a = arg;
    struct request *req = a->req;

    a->op = NULL;
    request_on_abort(req, NULL, NULL);
    if (conclude(req, a->kind, err, p) == CHAIN_NEXT)
        chain_resume(req);
    request_unref(req);
}

static enum gw_err begin(struct asking *a, struct slice token, const struct principal **ret)
{
    const struct conf *c = a->req->conf;
    const struct jwt_secrets secrets = {c->jwt_secret, c->jwt_secret_previous};
    struct jwt_claims claims;
    enum gw_err err;

    if (a->kind == KEY)
        return keyring_key(token, ret, &a->op, on_answer, a);
    err = jwt_verify(a->req->arena, &secrets, token, loop_wall_us(), (unsigned)c->jwt_leeway_s,
                     &claims);
    return err ? err : keyring_token(&claims, ret, &a->op, on_answer, a);
}

static enum chain_verdict look_up(struct request *req, enum kind kind, struct slice token)
{
    struct asking *a = arena_new(req->arena, struct asking);
    const struct principal *p = NULL;
    enum gw_err err;

    if (!a)
        return no_memory(req);
    a->req = req;
    a->kind = kind;
    err = begin(a, token, &p);
    if (err != GW_EAGAIN)
        return conclude(req, kind, err, p);
    request_ref(req);
    request_on_abort(req, on_gone, a);
    return CHAIN_PARKED;
}

/* --- the row ---------------------------------------------------------------------------------- */

static bool is_master(const struct request *req, struct slice token)
{
    struct slice key = req->conf->master_key;

    return key.n > 0 && key.n == token.n && CRYPTO_memcmp(key.p, token.p, key.n) == 0;
}

static bool is_looked_at(const struct request *req)
{
    return req->route && req->route->access != ACCESS_PUBLIC;
}

enum chain_verdict identify_run(struct request *req)
{
    struct found f = {0};
    bool is_token;

    if (collect(req, &f))
        return no_memory(req);
    req->who = (struct identity){.conflicting = f.conflict, .invalid = f.foreign && !f.conflict};
    if (f.conflict || f.token.n == 0)
        return CHAIN_NEXT;
    if (is_master(req, f.token))
        return admit_as(req, MASTER, principal_master());
    is_token = jwt_looks_like(f.token);
    if (!is_token && !slice_starts(f.token, "pk-"))
        return conclude(req, KEY, GW_EUNAUTH, NULL);
    if (!is_looked_at(req))
        return CHAIN_NEXT;
    return look_up(req, is_token ? TOKEN : KEY, f.token);
}
