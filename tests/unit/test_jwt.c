/*
 * test_jwt.c - what a token must be (CHECKS 28-34), line by line.
 */
#include "gateway/core/base64url.h"
#include "gateway/core/json.h"
#include "gateway/core/jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <stdio.h>
#include <stdlib.h>

#define NOW_S 1800000000
#define NOW_US ((uint64_t)NOW_S * 1000000)
#define LEEWAY_S 30
#define SECRET SLICE("a-secret-of-some-length-0123456789")
#define OLD_SECRET SLICE("what-was-used-before-0123456789abc")
#define GOOD_HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define GOOD_CLAIMS "{\"sub\":\"ada\",\"exp\":1800000100}"

static const struct jwt_secrets secrets = {.current = {"a-secret-of-some-length-0123456789", 34},
                                           .previous = {"what-was-used-before-0123456789abc", 34}};
static struct arena *arena;
static struct jwt_claims claims;

static int enter(void **state)
{
    arena = arena_create(8u << 20);
    memset(&claims, 0x55, sizeof(claims));
    return arena ? 0 : -1;
}

static int leave(void **state)
{
    arena_destroy(arena);
    jwt_deinit();
    return 0;
}

/* header "." payload "." signature, all of it made here and not by jwt.c */
static struct slice sealed_with(struct slice secret, struct slice header, struct slice payload)
{
    char *text = arena_bytes(arena, (header.n + payload.n) * 2 + 100), *at = text;
    unsigned char mac[32];
    unsigned n = sizeof(mac);

    assert_non_null(text);
    at += base64url_encode(at, header.p, header.n);
    *at++ = '.';
    at += base64url_encode(at, payload.p, payload.n);
    HMAC(EVP_sha256(), secret.p, (int)secret.n, (unsigned char *)text, (size_t)(at - text), mac,
         &n);
    *at++ = '.';
    at += base64url_encode(at, mac, sizeof(mac));
    return slice_of(text, (size_t)(at - text));
}

static enum gw_err verified(struct slice token)
{
    return jwt_verify(arena, &secrets, token, NOW_US, LEEWAY_S, &claims);
}

static enum gw_err header(const char *text)
{
    return verified(sealed_with(SECRET, slice_cstr(text), SLICE(GOOD_CLAIMS)));
}

static enum gw_err payload(const char *text)
{
    return verified(sealed_with(SECRET, SLICE(GOOD_HEADER), slice_cstr(text)));
}

/* A payload with one more member. */
static enum gw_err claim(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static enum gw_err claim(const char *fmt, ...)
{
    char text[8192];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    assert_true(n > 0 && (size_t)n < sizeof(text));
    return payload(text);
}

/* The number as `exp`. */
static enum gw_err expires(const char *number)
{
    return claim("{\"sub\":\"ada\",\"exp\":%s}", number);
}

#define OK(call) assert_int_equal((call), GW_OK)
#define BAD(call) assert_int_equal((call), GW_EUNAUTH)
#define OLD(call) assert_int_equal((call), GW_ETOKENEXPIRED)

/* --- the good ones ---------------------------------------------------------------------------- */

static void test_what_is_issued_is_read_back(void **state)
{
    struct jwt_claims c = {
        .admin = true, .iat_us = (int64_t)NOW_US - 250000, .exp_us = (int64_t)NOW_US + 3600000000};
    struct slice token;

    strcpy(c.sub, "J\xc3\xbcrgen \"the\" User");
    strcpy(c.jti, "0123456789abcdef");
    strcpy(c.uid, "0b5c7a52-0000-4000-8000-000000000001");
    OK(jwt_issue(arena, &secrets, &c, &token));
    assert_true(jwt_looks_like(token));
    assert_int_equal(token.p[token.n], '\0');
    OK(verified(token));
    assert_memory_equal(&claims, &c, sizeof(c));
    BAD(jwt_verify(arena, &(struct jwt_secrets){.current = OLD_SECRET}, token, NOW_US, 30,
                   &claims));
}

static void test_a_token_of_the_former_secret_is_still_good_and_none_is_made_with_it(void **state)
{
    struct slice old = sealed_with(OLD_SECRET, SLICE(GOOD_HEADER), SLICE(GOOD_CLAIMS));
    struct slice other =
        sealed_with(SLICE("neither of the two"), SLICE(GOOD_HEADER), SLICE(GOOD_CLAIMS));
    struct jwt_claims c = {.sub = "ada", .exp_us = (int64_t)NOW_US + 1000000};

    OK(verified(old));
    OK(payload(GOOD_CLAIMS));
    BAD(verified(other));
    OK(verified(old)); /* other secrets between do not confuse the kept contexts */
    OK(jwt_issue(arena, &secrets, &c, &other));
    BAD(jwt_verify(arena, &(struct jwt_secrets){.current = OLD_SECRET}, other, NOW_US, 0, &claims));
}

static void test_without_a_secret_nothing_is_signed_and_nothing_is_believed(void **state)
{
    const struct jwt_secrets none = {SLICE_NONE, SLICE_NONE};
    struct jwt_claims c = {.sub = "ada", .exp_us = 1};
    struct slice token = sealed_with(SLICE(""), SLICE(GOOD_HEADER), SLICE(GOOD_CLAIMS));

    BAD(jwt_verify(arena, &none, token, NOW_US, 30, &claims));
    assert_int_equal(jwt_issue(arena, &none, &c, &token), GW_EUNAVAIL);
}

static void test_claims_that_could_not_be_read_back_are_not_issued(void **state)
{
    struct jwt_claims c = {.exp_us = 1};
    struct slice token;

    assert_int_equal(jwt_issue(arena, &secrets, &c, &token), GW_EINTERNAL);
    strcpy(c.sub, "a\nb");
    assert_int_equal(jwt_issue(arena, &secrets, &c, &token), GW_EINTERNAL);
    strcpy(c.sub, "ab");
    c.exp_us = 0;
    assert_int_equal(jwt_issue(arena, &secrets, &c, &token), GW_EINTERNAL);
}

/* --- CHECKS 28-34 ----------------------------------------------------------------------------- */

static void test_check_028_none_is_no_algorithm(void **state)
{
    static const char *const names[] = {"none", "None", "NONE", "nOnE", "none "};

    for (unsigned i = 0; i < 5; i++) {
        struct slice h = arena_printf(arena, "{\"alg\":\"%s\",\"typ\":\"JWT\"}", names[i]);
        struct slice token = sealed_with(SECRET, h, SLICE(GOOD_CLAIMS));

        BAD(verified(token));
        BAD(verified(slice_of(token.p, token.n - 43))); /* "header.payload." */
        BAD(verified(slice_of(token.p, token.n - 44))); /* "header.payload" */
    }
}

static void test_check_029_the_algorithm_is_hs256_to_the_letter(void **state)
{
    OK(header("{\"alg\":\"HS256\"}"));
    OK(header("{ \"typ\" : \"jwt\",\r\n \"alg\" : \"HS256\" }"));
    OK(header("{\"alg\":\"\\u0048S256\"}"));
    BAD(header("{\"alg\":\"HS384\"}"));
    BAD(header("{\"alg\":\"HS512\"}"));
    BAD(header("{\"alg\":\"RS256\"}"));
    BAD(header("{\"alg\":\"ES256\"}"));
    BAD(header("{\"alg\":\"hs256\"}"));
    BAD(header("{\"alg\":\"HS256 \"}"));
    BAD(header("{\"alg\":\"\"}"));
    BAD(header("{\"alg\":256}"));
    BAD(header("{\"alg\":null}"));
    BAD(header("{\"alg\":true}"));
    BAD(header("{\"alg\":[\"HS256\"]}"));
    BAD(header("{\"alg\":{\"HS256\":1}}"));
    BAD(header("{\"ALG\":\"HS256\"}"));
    BAD(header("{\"typ\":\"JWT\"}"));
    BAD(header("{\"alg\":\"HS256\",\"alg\":\"HS256\"}"));
    BAD(header("{\"alg\":\"none\",\"\\u0061lg\":\"HS256\"}"));
    BAD(header("{}"));
    BAD(header("[]"));
    BAD(header("\"HS256\""));
    BAD(header(""));
    BAD(header("{\"alg\":\"HS256\"}x"));
    BAD(header("{\"alg\":\"HS256\""));
}

static void test_check_030_a_signature_has_one_spelling(void **state)
{
    struct slice good = sealed_with(SECRET, SLICE(GOOD_HEADER), SLICE(GOOD_CLAIMS));
    char *t = arena_cstr(arena, good);
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char last = t[good.n - 1];
    unsigned accepted = 0;

    OK(verified(good));
    for (size_t i = 1; i <= 44; i++)
        BAD(verified(slice_of(t, good.n - i)));
    for (const char *d = digits; *d; d++) { /* two bits of the last character mean nothing */
        t[good.n - 1] = *d;
        accepted += verified(slice_of(t, good.n)) == GW_OK;
    }
    assert_int_equal(accepted, 1);
    t[good.n - 1] = last;
    BAD(verified(arena_printf(arena, "%sA", t)));
    BAD(verified(arena_printf(arena, "%s=", t)));
    BAD(verified(arena_printf(arena, "%s.", t)));
    BAD(verified(arena_printf(arena, "%s\n", t)));
    BAD(verified(arena_printf(arena, " %s", t)));
    BAD(verified(arena_printf(arena, ".%s", t)));
    BAD(verified(slice_of(t, good.n + 1))); /* with its NUL */
    OK(verified(slice_of(t, good.n)));
}

static void test_check_030_every_single_changed_character_is_noticed(void **state)
{
    struct slice good = sealed_with(SECRET, SLICE(GOOD_HEADER), SLICE(GOOD_CLAIMS));
    char *t = arena_cstr(arena, good);

    for (size_t i = 0; i < good.n; i++) {
        char was = t[i];

        t[i] = was == 'A' ? 'B' : 'A';
        BAD(verified(slice_of(t, good.n)));
        t[i] = was;
    }
    OK(verified(slice_of(t, good.n)));
}

static void test_check_030_the_standard_alphabet_is_refused(void **state)
{
    unsigned tried = 0;

    for (unsigned i = 0; i < 64; i++) { /* some of the signatures have a - or _ in them */
        struct slice p = arena_printf(arena, "{\"sub\":\"u%u\",\"exp\":1800000100}", i);
        struct slice good = sealed_with(SECRET, SLICE(GOOD_HEADER), p);
        char *t = arena_cstr(arena, good), *at;

        OK(verified(good));
        for (at = strrchr(t, '.'); *at; at++) {
            char was = *at;

            if (was != '-' && was != '_')
                continue;
            *at = was == '-' ? '+' : '/';
            BAD(verified(slice_of(t, good.n)));
            *at = was;
            tried++;
        }
    }
    assert_true(tried > 10);
}

static void test_check_031_times_are_judged_with_the_leeway_and_nothing_more(void **state)
{
    OK(expires("1799999971"));  /* NOW - 29 */
    OLD(expires("1799999970")); /* NOW - leeway */
    OLD(expires("1799999965")); /* NOW - leeway - 5 */
    OLD(expires("1"));
    OK(expires("1800000000.5"));
    OK(expires("1.8000001e9"));
    OLD(expires("1799999969.999999"));
    OK(claim("{\"sub\":\"a\",\"exp\":1800000100,\"nbf\":1800000030}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"nbf\":1800000031}"));
    OK(claim("{\"sub\":\"a\",\"exp\":1800000100,\"iat\":1800000030}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"iat\":1800000030.5}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"nbf\":\"1\"}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"nbf\":null}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"iat\":-1}"));
}

static void test_check_031_exp_is_one_number_in_range(void **state)
{
    BAD(payload("{\"sub\":\"ada\"}"));
    BAD(expires("\"1800000100\""));
    BAD(expires("0"));
    BAD(expires("0.0000001"));
    BAD(expires("-1"));
    BAD(expires("-1800000100"));
    BAD(expires("1e400"));
    BAD(expires("9223372036854775808"));
    BAD(expires("253402300800"));
    OK(expires("253402300799"));
    BAD(expires("null"));
    BAD(expires("true"));
    BAD(expires("[1800000100]"));
    BAD(expires("1800000100,\"exp\":1800000100"));
    BAD(expires("1800000100,\"\\u0065xp\":1"));
    BAD(payload("{\"sub\":\"ada\",\"EXP\":1800000100}"));
    BAD(expires("0x6B49D264"));
    BAD(expires("01800000100"));
    BAD(expires("NaN"));
}

static void test_an_expired_token_with_another_fault_is_bad_and_not_expired(void **state)
{
    struct slice old = sealed_with(SLICE("someone else's secret"), SLICE(GOOD_HEADER),
                                   SLICE("{\"sub\":\"ada\",\"exp\":1}"));

    BAD(verified(old));
    BAD(claim("{\"exp\":1}"));
    OLD(claim("{\"sub\":\"ada\",\"exp\":1,\"role\":\"admin\"}"));
    assert_string_equal(claims.sub, "ada"); /* told, for the log */
}

static void test_check_032_nothing_in_the_header_chooses_a_key(void **state)
{
    struct slice big = arena_printf(arena, "{\"alg\":\"HS256\",\"kid\":\"%05000d\"}", 1);

    OK(header("{\"alg\":\"HS256\",\"kid\":\"2026-11-k_1.A\"}"));
    OK(header("{\"alg\":\"HS256\",\"cty\":\"json\"}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":\"../../../../dev/null\"}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":\"/etc/passwd\"}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":\"x' UNION SELECT 'secret\"}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":\"a\\u0000b\"}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":\"\"}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":1}"));
    BAD(header("{\"alg\":\"HS256\",\"kid\":[\"a\"]}"));
    BAD(header(big.p));
    BAD(header("{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"YWJj\"}}"));
    BAD(header("{\"alg\":\"HS256\",\"jku\":\"https://127.0.0.1/keys\"}"));
    BAD(header("{\"alg\":\"HS256\",\"x5u\":\"https://127.0.0.1/cert\"}"));
    BAD(header("{\"alg\":\"HS256\",\"x5c\":[\"MIIB\"]}"));
    BAD(header("{\"alg\":\"HS256\",\"x5t\":\"YWJj\"}"));
    BAD(header("{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}"));
    BAD(header("{\"alg\":\"HS256\",\"b64\":false}"));
    BAD(header("{\"alg\":\"HS256\",\"zip\":\"DEF\"}"));
    BAD(header("{\"alg\":\"HS256\",\"enc\":\"A128GCM\"}"));
    BAD(header("{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}"));
    BAD(header("{\"alg\":\"HS256\",\"cty\":\"JWT\"}")); /* a token inside a token */
    BAD(header("{\"alg\":\"HS256\",\"\":\"\"}"));
}

static void test_check_033_the_payload_is_one_object_and_sub_a_sane_name(void **state)
{
    char *deep = arena_bytes(arena, 200001);
    struct slice good = SLICE(GOOD_CLAIMS);

    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    deep[200000] = '\0';
    BAD(payload(deep));
    BAD(payload("[" GOOD_CLAIMS "]"));
    BAD(payload("\"ada\""));
    BAD(payload("null"));
    BAD(payload(""));
    BAD(payload(GOOD_CLAIMS "x"));
    BAD(payload(GOOD_CLAIMS GOOD_CLAIMS));
    BAD(verified(sealed_with(SECRET, SLICE(GOOD_HEADER), slice_of(good.p, good.n + 1)))); /* NUL */
    BAD(payload("{\"sub\":\"\xff\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"\xc3\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"\xed\xa0\x80\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"a\\u0000b\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"a\\u000ab\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"a\\u007fb\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"a\\u0085b\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"a\xc2\x9f\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"\",\"exp\":1800000100}"));
    BAD(payload("{\"sub\":null,\"exp\":1800000100}"));
    BAD(payload("{\"sub\":7,\"exp\":1800000100}"));
    BAD(payload("{\"exp\":1800000100}"));
    BAD(payload("{\"sub\":\"a\",\"sub\":\"b\",\"exp\":1800000100}"));
    OK(claim("{\"sub\":\"%064d\",\"exp\":1800000100}", 7));
    BAD(claim("{\"sub\":\"%065d\",\"exp\":1800000100}", 7));
    OK(payload("{\"sub\":\"J\\u00fcrgen\",\"exp\":1800000100,\"x\":{\"y\":[1,2]}}"));
    assert_string_equal(claims.sub, "J\xc3\xbcrgen");
}

static void test_a_token_of_more_than_8_kib_or_many_values_is_refused(void **state)
{
    struct slice big =
        arena_printf(arena, "{\"sub\":\"a\",\"exp\":1800000100,\"x\":\"%06100d\"}", 1);
    struct slice ok =
        arena_printf(arena, "{\"sub\":\"a\",\"exp\":1800000100,\"x\":\"%05900d\"}", 1);
    char many[2048] = "{\"sub\":\"a\",\"exp\":1800000100,\"x\":[1";

    BAD(payload(big.p));
    OK(payload(ok.p));
    for (unsigned i = 0; i < 300; i++)
        strcat(many, ",1");
    strcat(many, "]}");
    BAD(payload(many));
}

static void test_role_jti_and_uid_are_what_we_write(void **state)
{
    OK(payload(GOOD_CLAIMS));
    assert_false(claims.admin);
    assert_string_equal(claims.jti, "");
    assert_int_equal(claims.iat_us, 0);
    OK(claim("{\"sub\":\"a\",\"exp\":1800000100,\"role\":\"user\",\"jti\":\"x\"}"));
    assert_false(claims.admin);
    assert_string_equal(claims.jti, "x");
    OK(claim("{\"sub\":\"a\",\"exp\":1800000100,\"role\":\"admin\"}"));
    assert_true(claims.admin);
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"role\":\"Admin\"}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"role\":[\"admin\"]}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"role\":\"admin\",\"role\":\"user\"}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"jti\":\"\"}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"jti\":\"a b\"}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"jti\":5}"));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"jti\":\"%065d\"}", 1));
    BAD(claim("{\"sub\":\"a\",\"exp\":1800000100,\"uid\":\"%037d\"}", 1));
}

/* The published texts: signatures alone, since most of their payloads are no claims. */
static void test_check_034_public_jose_vectors(void **state)
{
    const char *root = getenv("POSTERN_SRC");
    char path[1024], *text = arena_bytes(arena, 1u << 20);
    unsigned good = 0, bad = 0;
    struct json all, v;
    FILE *f;

    snprintf(path, sizeof(path), "%s/tests/unit/golden/jws/vectors.json", root ? root : ".");
    f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(
        json_parse(arena, slice_of(text, fread(text, 1, 1u << 20, f)), NULL, &all, NULL), GW_OK);
    fclose(f);
    for (v = json_first(all); json_exists(v); v = json_next(all, v)) {
        struct slice key = json_str(json_get(v, "key")), ret = SLICE_NONE;
        struct jwt_secrets s = {0};
        char secret[256];
        bool valid = false;
        enum gw_err err;

        assert_true(base64url_decode(secret, sizeof(secret), key, &s.current.n));
        s.current.p = secret;
        assert_true(json_bool(json_get(v, "valid"), &valid));
        err = jwt_open(arena, &s, json_str(json_get(v, "jws")), &ret);
        if (err != (valid ? GW_OK : GW_EUNAUTH))
            fail_msg("%.*s: %d", SLICE_ARG(json_str(json_get(v, "id"))), err);
        BAD(jwt_verify(arena, &s, json_str(json_get(v, "jws")), NOW_US, 30, &claims));
        good += valid;
        bad += !valid;
    }
    assert_true(good >= 8 && bad >= 60);
}

static void test_what_looks_like_a_token(void **state)
{
    assert_true(jwt_looks_like(SLICE("a.b.c")));
    assert_true(jwt_looks_like(SLICE("..")));
    assert_false(jwt_looks_like(SLICE("a.b")));
    assert_false(jwt_looks_like(SLICE("a.b.c.d")));
    assert_false(jwt_looks_like(SLICE("")));
    assert_false(jwt_looks_like(SLICE("pk-0123456789")));
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_what_is_issued_is_read_back),
        T(test_a_token_of_the_former_secret_is_still_good_and_none_is_made_with_it),
        T(test_without_a_secret_nothing_is_signed_and_nothing_is_believed),
        T(test_claims_that_could_not_be_read_back_are_not_issued),
        T(test_check_028_none_is_no_algorithm),
        T(test_check_029_the_algorithm_is_hs256_to_the_letter),
        T(test_check_030_a_signature_has_one_spelling),
        T(test_check_030_every_single_changed_character_is_noticed),
        T(test_check_030_the_standard_alphabet_is_refused),
        T(test_check_031_times_are_judged_with_the_leeway_and_nothing_more),
        T(test_check_031_exp_is_one_number_in_range),
        T(test_an_expired_token_with_another_fault_is_bad_and_not_expired),
        T(test_check_032_nothing_in_the_header_chooses_a_key),
        T(test_check_033_the_payload_is_one_object_and_sub_a_sane_name),
        T(test_a_token_of_more_than_8_kib_or_many_values_is_refused),
        T(test_role_jti_and_uid_are_what_we_write),
        T(test_check_034_public_jose_vectors),
        T(test_what_looks_like_a_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
