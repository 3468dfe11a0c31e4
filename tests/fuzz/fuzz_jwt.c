/*
 * fuzz_jwt.c - the input as a whole token, as the claims of a well-signed token, and as the header
 * of one. What is accepted as claims can be issued again and means the same.
 */
#include "gateway/core/base64url.h"
#include "gateway/core/jwt.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#define WALL_US 1800000000000000u
#define SECRET SLICE("fuzz-secret-0123456789abcdefghij")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice sealed(struct arena *a, struct slice header, struct slice payload)
{
    size_t max = BASE64URL_CHARS(header.n) + BASE64URL_CHARS(payload.n) + 64;
    char *text = arena_bytes(a, max), *at = text;
    unsigned char mac[32];
    unsigned n = sizeof(mac);

    assert(text);
    at += base64url_encode(at, header.p, header.n);
    *at++ = '.';
    at += base64url_encode(at, payload.p, payload.n);
    HMAC(EVP_sha256(), SECRET.p, (int)SECRET.n, (unsigned char *)text, (size_t)(at - text), mac,
         &n);
    *at++ = '.';
    at += base64url_encode(at, mac, sizeof(mac));
    return slice_of(text, (size_t)(at - text));
}

static void check(struct arena *a, struct slice token)
{
    const struct jwt_secrets secrets = {.current = SECRET};
    struct jwt_claims c = {0}, again;
    struct slice second;
    enum gw_err err = jwt_verify(a, &secrets, token, WALL_US, 30, &c);

    assert(err == GW_OK || err == GW_EUNAUTH || err == GW_ETOKENEXPIRED);
    if (err == GW_EUNAUTH)
        return;
    assert(token.n <= JWT_MAX_BYTES && jwt_sub_valid(slice_cstr(c.sub)) && c.exp_us > 0);
    assert(jwt_issue(a, &secrets, &c, &second) == GW_OK && jwt_looks_like(second));
    assert(jwt_verify(a, &secrets, second, WALL_US, 30, &again) == err);
    assert(strcmp(again.sub, c.sub) == 0 && strcmp(again.jti, c.jti) == 0 &&
           strcmp(again.uid, c.uid) == 0 && again.admin == c.admin);
    /* a double has no microseconds left in the far future */
    assert(llabs(again.iat_us - c.iat_us) <= 64 && llabs(again.exp_us - c.exp_us) <= 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of((const char *)data, size);
    struct arena *a = arena_create(64u << 20);

    if (size < (1u << 16)) {
        check(a, in);
        check(a, sealed(a, SLICE("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"), in));
        check(a, sealed(a, in, SLICE("{\"sub\":\"ada\",\"exp\":1900000000}")));
    }
    arena_destroy(a);
    jwt_deinit();
    return 0;
}
