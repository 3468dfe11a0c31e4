/*
 * identify.c - finds the caller's credential and says who it is. Never rejects: that is
 * authorise.c.
 *
 * A credential may come as `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `?key=`; the
 * same one in several places is fine, two different ones are a conflict and count as no credential
 * at all. None of them ever travels upstream: providers are called with headers of our own making
 * only.
 */
#include "gateway/middleware/middleware.h"

#include <openssl/crypto.h>

struct found {
    struct slice token;
    bool conflict;
};

static void found_add(struct found *f, struct slice token)
{
    if (token.n == 0)
        return;
    if (f->token.n && !slice_eq(f->token, token))
        f->conflict = true;
    f->token = token;
}

/* The token of "Bearer <token>"; the scheme's name is case-insensitive (RFC 9110, 11.1). An
 * Authorization of another scheme is a credential we do not know, so it conflicts with any we do.
 */
static struct slice bearer(struct slice value)
{
    if (value.n > 7 && strncasecmp(value.p, "Bearer ", 7) == 0)
        return slice_trim(slice_from(value, 7));
    return value;
}

static void collect(struct request *req, struct found *f)
{
    enum gw_err err = GW_OK;
    unsigned i;

    for (i = 0; i < req->n_headers; i++) {
        const struct http_header *h = &req->headers[i];

        if (slice_is_nocase(h->name, "authorization"))
            found_add(f, bearer(h->value));
        else if (slice_is_nocase(h->name, "x-api-key") ||
                 slice_is_nocase(h->name, "x-goog-api-key"))
            found_add(f, h->value);
    }
    if (req->query.n)
        found_add(f, request_query(req, "key", &err));
    if (err)
        f->conflict = true;
}

static bool is_master(const struct request *req, struct slice token)
{
    struct slice key = req->conf->master_key;

    return key.n > 0 && key.n == token.n && CRYPTO_memcmp(key.p, token.p, key.n) == 0;
}

enum chain_verdict identify_run(struct request *req)
{
    struct found f = {0};

    collect(req, &f);
    req->who = (struct identity){.conflicting = f.conflict};
    if (f.conflict || f.token.n == 0)
        return CHAIN_NEXT;
    if (is_master(req, f.token)) {
        req->who.known = req->who.admin = true;
        req->who.subject = SLICE("master");
    } else {
        req->who.invalid = true;
    }
    return CHAIN_NEXT;
}
