/*
 * identify.c - finds the caller's credential and says who it is. Rejects nobody: that is
 * authorise.c.
 *
 * A credential may come as `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `?key=`; the
 * same one in several places is fine, two different ones are a conflict and count as no credential
 * at all. What can never be one of ours (another scheme, a bad escape) is an invalid one. None of
 * them ever travels upstream: providers are called with headers of our own making only.
 */
#include "gateway/middleware/middleware.h"

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

static bool is_master(const struct request *req, struct slice token)
{
    struct slice key = req->conf->master_key;

    return key.n > 0 && key.n == token.n && CRYPTO_memcmp(key.p, token.p, key.n) == 0;
}

enum chain_verdict identify_run(struct request *req)
{
    struct found f = {0};

    if (collect(req, &f)) {
        request_fail(req, GW_ENOMEM, NULL);
        return CHAIN_DONE;
    }
    req->who = (struct identity){.conflicting = f.conflict, .invalid = f.foreign && !f.conflict};
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
