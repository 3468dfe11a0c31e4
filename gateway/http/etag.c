/* etag.c - see etag.h. */
#include "gateway/http/etag.h"

#include "gateway/core/hex.h"
#include "gateway/http/encoding.h"
#include "gateway/http/router.h"

#include <openssl/evp.h>

#define MAX_BYTES (1u << 20) /* hashing more would hold up the loop */
#define TAG_BYTES 16u        /* of the SHA-256 */

/* The opaque part with its quotes; empty when s does not begin with a tag. */
static struct slice opaque(struct slice s)
{
    if (s.n > 2 && s.p[0] == 'W' && s.p[1] == '/')
        s = slice_from(s, 2);
    if (s.n < 2 || s.p[0] != '"')
        return SLICE_NONE;
    for (size_t i = 1; i < s.n; i++)
        if (s.p[i] == '"')
            return slice_of(s.p, i + 1);
    return SLICE_NONE;
}

bool etag_listed(struct slice list, struct slice tag)
{
    struct slice want = opaque(tag), have;

    list = slice_trim(list);
    if (slice_is(list, "*"))
        return true;
    while (list.n) {
        have = opaque(list);
        if (!have.n)
            return false;
        if (slice_eq(have, want))
            return true;
        list = slice_trim(slice_from(list, (size_t)(have.p - list.p) + have.n));
        if (list.n && list.p[0] != ',')
            return false;
        while (list.n && list.p[0] == ',')
            list = slice_trim(slice_from(list, 1));
    }
    return false;
}

struct slice etag_of(struct arena *a, struct slice body)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    char text[2 * TAG_BYTES];

    if (EVP_Digest(body.n ? body.p : "", body.n, sum, NULL, EVP_sha256(), NULL) != 1)
        return SLICE_NONE;
    hex_write(text, sum, TAG_BYTES);
    return arena_printf(a, "W/\"%.*s\"", (int)sizeof(text), text);
}

static struct slice tag_set(const struct request *req)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is_nocase(req->out[i].name, "etag"))
            return req->out[i].value;
    return SLICE_NONE;
}

static bool wants_tag(const struct request *req, struct slice type, struct slice body)
{
    return req->route && req->route->surface == SURFACE_NATIVE && req->route->rate != RATE_PROBE &&
           body.n <= MAX_BYTES && encoding_is_json(type);
}

bool etag_check(struct request *req, int status, struct slice type, struct slice body)
{
    struct slice tag;

    if (status != 200 || (req->method != HTTP_GET && req->method != HTTP_HEAD))
        return false;
    tag = tag_set(req);
    if (!tag.p && wants_tag(req, type, body)) {
        tag = etag_of(req->arena, body);
        if (tag.p)
            request_set_header(req, "ETag", tag);
    }
    if (!tag.n)
        return false;
    for (unsigned i = 0; i < req->n_headers; i++)
        if (slice_is_nocase(req->headers[i].name, "if-none-match") &&
            etag_listed(req->headers[i].value, tag))
            return true;
    return false;
}
