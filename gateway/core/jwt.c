/*
 * jwt.c - see jwt.h.
 *
 *     three parts, alphabet --> header --> signature --> payload --> times
 *
 * Everything up to the signature is decided from at most 8 KiB that nobody vouches for; the header
 * is looked at first only because it is the cheaper half, and it chooses nothing. Keying HMAC costs
 * two blocks of SHA-256 and several allocations, so the contexts of the two secrets stay keyed.
 */
#include "gateway/core/jwt.h"

#include "gateway/core/base64url.h"
#include "gateway/core/json.h"
#include "gateway/core/utf8.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <stdio.h>

#define MAC_BYTES 32u
#define MAC_CHARS BASE64URL_CHARS(MAC_BYTES)
#define MAX_SECRET 512u
#define MAX_HEADER_VALUES 16u
#define MAX_PAYLOAD_VALUES 256u
#define MAX_TIME_S 253402300799.0 /* the last second of the year 9999 */
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

/* --- the signature -------------------------------------------------------------------------- */

/* A keyed context and the secret it was keyed with. */
struct keyed {
    EVP_MAC_CTX *ctx;
    char secret[MAX_SECRET];
    size_t n;
};

static struct keyed keyed[2];
static unsigned oldest; /* of `keyed`: the next to be replaced */

void jwt_deinit(void)
{
    for (unsigned i = 0; i < 2; i++)
        EVP_MAC_CTX_free(keyed[i].ctx);
    OPENSSL_cleanse(keyed, sizeof(keyed));
}

static EVP_MAC_CTX *new_context(struct slice secret)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac); /* the context holds its own reference */
    if (ctx && EVP_MAC_init(ctx, (const unsigned char *)secret.p, secret.n, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

/* The context of a secret, ready for a message; NULL out of memory. */
static EVP_MAC_CTX *context_of(struct slice secret)
{
    struct keyed *k;

    for (k = keyed; k < keyed + 2; k++)
        if (k->ctx && slice_eq(slice_of(k->secret, k->n), secret))
            return EVP_MAC_init(k->ctx, NULL, 0, NULL) == 1 ? k->ctx : NULL;
    k = &keyed[oldest];
    oldest = 1 - oldest;
    EVP_MAC_CTX_free(k->ctx);
    k->ctx = secret.n <= sizeof(k->secret) ? new_context(secret) : NULL;
    if (!k->ctx)
        return NULL;
    memcpy(k->secret, secret.p, secret.n);
    k->n = secret.n;
    return k->ctx;
}

static bool sign(struct slice secret, struct slice text, unsigned char mac[MAC_BYTES])
{
    EVP_MAC_CTX *ctx = context_of(secret);
    size_t n = 0;

    return ctx && EVP_MAC_update(ctx, (const unsigned char *)text.p, text.n) == 1 &&
           EVP_MAC_final(ctx, mac, &n, MAC_BYTES) == 1 && n == MAC_BYTES;
}

/* GW_EUNAUTH when it is not this secret's signature. */
static enum gw_err check_mac(struct slice secret, struct slice text, const unsigned char *given)
{
    unsigned char mac[MAC_BYTES];

    if (secret.n == 0)
        return GW_EUNAUTH;
    if (!sign(secret, text, mac))
        return GW_ENOMEM;
    return CRYPTO_memcmp(mac, given, MAC_BYTES) == 0 ? GW_OK : GW_EUNAUTH;
}

/* --- parts and header ----------------------------------------------------------------------- */

struct parts {
    struct slice header, payload, mac;
    struct slice signed_text; /* header "." payload */
};

static bool split(struct slice token, struct parts *ret)
{
    size_t a = slice_find(token, '.'), b;
    struct slice rest = slice_from(token, a + 1);

    b = slice_find(rest, '.');
    if (a == token.n || b == rest.n)
        return false;
    ret->header = slice_of(token.p, a);
    ret->payload = slice_of(rest.p, b);
    ret->mac = slice_from(rest, b + 1);
    ret->signed_text = slice_of(token.p, a + 1 + b);
    return slice_find(ret->mac, '.') == ret->mac.n;
}

bool jwt_looks_like(struct slice token)
{
    struct parts p;

    return split(token, &p);
}

static enum gw_err decode(struct arena *scratch, struct slice text, struct slice *ret)
{
    char *to = arena_bytes(scratch, text.n / 4 * 3 + 3);
    size_t n;

    if (!to)
        return GW_ENOMEM;
    if (!base64url_decode(to, text.n / 4 * 3 + 3, text, &n))
        return GW_EUNAUTH;
    *ret = slice_of(to, n);
    return GW_OK;
}

/* A key's name is never looked up; one that could be a path or a statement shows what its sender is
 * after. */
static bool is_sane_kid(struct slice kid)
{
    if (kid.n == 0 || kid.n > 128 || kid.p[0] == '.')
        return false;
    for (size_t i = 0; i < kid.n; i++)
        if (kid.p[i] != '.' && !base64url_is_text(slice_of(kid.p + i, 1)))
            return false;
    return true;
}

static bool is_good_member(struct slice name, struct json value)
{
    struct slice text = json_str(value);

    if (!text.p)
        return false;
    if (slice_is(name, "alg"))
        return slice_is(text, "HS256");
    if (slice_is(name, "typ"))
        return slice_is_nocase(text, "JWT");
    if (slice_is(name, "cty"))
        return slice_is_nocase(text, "json") || slice_is_nocase(text, "application/json");
    return slice_is(name, "kid") && is_sane_kid(text);
}

/* Any name twice? The values are few, and unlike json_any_duplicate() this asks for no memory. */
static bool has_duplicate(struct json object)
{
    struct slice names[MAX_PAYLOAD_VALUES / 2];
    unsigned n = 0;

    for (struct json it = json_first(object); json_exists(it); it = json_next(object, it)) {
        names[n] = json_key(it);
        for (unsigned i = 0; i < n; i++)
            if (slice_eq(names[i], names[n]))
                return true;
        n++;
    }
    return false;
}

static enum gw_err check_header(struct arena *scratch, struct slice text)
{
    struct json_token tokens[MAX_HEADER_VALUES];
    struct json_doc doc = {.arena = scratch};
    struct json root, it;
    enum gw_err err = json_parse_into(&doc, tokens, MAX_HEADER_VALUES, text, &root);

    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT) || has_duplicate(root) ||
        !json_exists(json_get(root, "alg")))
        return GW_EUNAUTH;
    for (it = json_first(root); json_exists(it); it = json_next(root, it))
        if (!is_good_member(json_key(it), it))
            return GW_EUNAUTH;
    return GW_OK;
}

static bool is_our_header(struct slice encoded)
{
    char ours[BASE64URL_CHARS(sizeof(HEADER) - 1)];

    base64url_encode(ours, HEADER, sizeof(HEADER) - 1);
    return slice_eq(encoded, slice_of(ours, sizeof(ours)));
}

enum gw_err jwt_open(struct arena *scratch, const struct jwt_secrets *secrets, struct slice token,
                     struct slice *ret_payload)
{
    unsigned refusals = arena_refusals(scratch);
    unsigned char mac[MAC_BYTES];
    struct slice header;
    struct parts p;
    size_t n;
    enum gw_err err;

    if (token.n > JWT_MAX_BYTES || !split(token, &p) || p.mac.n != MAC_CHARS ||
        !base64url_decode(mac, sizeof(mac), p.mac, &n))
        return GW_EUNAUTH;
    if (!is_our_header(p.header)) {
        err = decode(scratch, p.header, &header);
        if (!err)
            err = check_header(scratch, header);
        if (err)
            return arena_refusals(scratch) == refusals ? err : GW_ENOMEM;
    }
    err = check_mac(secrets->current, p.signed_text, mac);
    if (err == GW_EUNAUTH && secrets->previous.n)
        err = check_mac(secrets->previous, p.signed_text, mac);
    return err ? err : decode(scratch, p.payload, ret_payload);
}

/* --- claims --------------------------------------------------------------------------------- */

/* C0, DEL and C1 (U+0080..U+009F, in UTF-8 C2 80..9F). */
static bool is_control(const char *p, size_t len)
{
    unsigned char c = (unsigned char)p[0];

    return c < 0x20 || c == 0x7f || (len == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0);
}

bool jwt_sub_valid(struct slice sub)
{
    size_t i = 0, len;

    if (sub.n == 0 || sub.n > JWT_MAX_SUB)
        return false;
    for (; i < sub.n; i += len) {
        len = utf8_length(sub.p + i, sub.n - i);
        if (len == 0 || is_control(sub.p + i, len))
            return false;
    }
    return true;
}

/* A NumericDate: seconds since 1970, a fraction is fine. */
static bool read_time(struct json v, int64_t *ret_us)
{
    double s;

    if (!json_double(v, &s) || s <= 0 || s > MAX_TIME_S)
        return false;
    *ret_us = (int64_t)(s * 1e6 + 0.5);
    return *ret_us > 0;
}

/* An optional text of printable ASCII without blanks. */
static bool read_text(struct json v, char *to, size_t size)
{
    struct slice text = json_str(v);

    to[0] = '\0';
    if (!json_exists(v))
        return true;
    if (text.n == 0 || text.n >= size)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] <= ' ' || text.p[i] >= 0x7f)
            return false;
    memcpy(to, text.p, text.n);
    to[text.n] = '\0';
    return true;
}

static bool read_role(struct json v, bool *ret_admin)
{
    *ret_admin = json_str_is(v, "admin");
    return !json_exists(v) || *ret_admin || json_str_is(v, "user");
}

static bool read_claims(struct json root, struct jwt_claims *c, int64_t *ret_nbf_us)
{
    struct json nbf = json_get(root, "nbf"), iat = json_get(root, "iat");
    struct slice sub = json_str(json_get(root, "sub"));

    if (!sub.p || !jwt_sub_valid(sub) || !read_time(json_get(root, "exp"), &c->exp_us))
        return false;
    memcpy(c->sub, sub.p, sub.n);
    return (!json_exists(nbf) || read_time(nbf, ret_nbf_us)) &&
           (!json_exists(iat) || read_time(iat, &c->iat_us)) &&
           read_text(json_get(root, "jti"), c->jti, sizeof(c->jti)) &&
           read_text(json_get(root, "uid"), c->uid, sizeof(c->uid)) &&
           read_role(json_get(root, "role"), &c->admin);
}

enum gw_err jwt_verify(struct arena *scratch, const struct jwt_secrets *secrets, struct slice token,
                       uint64_t wall_us, unsigned leeway_s, struct jwt_claims *ret)
{
    struct json_token tokens[MAX_PAYLOAD_VALUES];
    struct json_doc doc = {.arena = scratch};
    int64_t now = (int64_t)wall_us, leeway = (int64_t)leeway_s * 1000000, nbf = 0;
    unsigned refusals = arena_refusals(scratch);
    struct jwt_claims c = {0};
    struct slice payload;
    struct json root;
    enum gw_err err = jwt_open(scratch, secrets, token, &payload);

    if (err)
        return err;
    err = json_parse_into(&doc, tokens, MAX_PAYLOAD_VALUES, payload, &root);
    if (err || !json_is(root, JSON_OBJECT) || has_duplicate(root) || !read_claims(root, &c, &nbf))
        return err == GW_ENOMEM || arena_refusals(scratch) != refusals ? GW_ENOMEM : GW_EUNAUTH;
    if (nbf > now + leeway || c.iat_us > now + leeway)
        return GW_EUNAUTH;
    *ret = c;
    return c.exp_us + leeway <= now ? GW_ETOKENEXPIRED : GW_OK;
}

/* --- making one ----------------------------------------------------------------------------- */

static void put_time(struct json_writer *w, const char *key, int64_t us)
{
    char text[32];
    int n = us % 1000000 ? snprintf(text, sizeof(text), "%lld.%06lld", (long long)(us / 1000000),
                                    (long long)(us % 1000000))
                         : snprintf(text, sizeof(text), "%lld", (long long)(us / 1000000));

    json_kv_raw(w, key, slice_of(text, (size_t)n));
}

static void write_claims(struct buf *out, const struct jwt_claims *c)
{
    struct json_writer w;

    json_writer_init(&w, out);
    json_obj(&w);
    json_kv_cstr(&w, "sub", c->sub);
    json_kv_cstr(&w, "role", c->admin ? "admin" : "user");
    if (c->iat_us)
        put_time(&w, "iat", c->iat_us);
    put_time(&w, "exp", c->exp_us);
    if (c->jti[0])
        json_kv_cstr(&w, "jti", c->jti);
    if (c->uid[0])
        json_kv_cstr(&w, "uid", c->uid);
    json_obj_end(&w);
}

/* header "." payload "." signature, terminated, of a payload as bytes. */
static enum gw_err seal(struct arena *scratch, struct slice secret, struct slice payload,
                        struct slice *ret)
{
    size_t n = BASE64URL_CHARS(sizeof(HEADER) - 1) + 1 + BASE64URL_CHARS(payload.n);
    char *text = arena_bytes(scratch, n + 1 + MAC_CHARS + 1), *at = text;
    unsigned char mac[MAC_BYTES];

    if (!text)
        return GW_ENOMEM;
    at += base64url_encode(at, HEADER, sizeof(HEADER) - 1);
    *at++ = '.';
    at += base64url_encode(at, payload.p, payload.n);
    if (!sign(secret, slice_of(text, n), mac))
        return GW_ENOMEM;
    *at++ = '.';
    at += base64url_encode(at, mac, sizeof(mac));
    *at = '\0';
    *ret = slice_of(text, (size_t)(at - text));
    return GW_OK;
}

enum gw_err jwt_issue(struct arena *scratch, const struct jwt_secrets *secrets,
                      const struct jwt_claims *claims, struct slice *ret_token)
{
    struct buf out;
    enum gw_err err;

    if (secrets->current.n == 0)
        return GW_EUNAVAIL;
    if (!jwt_sub_valid(slice_cstr(claims->sub)) || claims->exp_us <= 0)
        return GW_EINTERNAL;
    buf_init(&out, JWT_MAX_BYTES);
    write_claims(&out, claims);
    err = buf_err(&out);
    if (!err)
        err = seal(scratch, secrets->current, buf_slice(&out), ret_token);
    buf_deinit(&out);
    return err;
}
