/* test_reuse.c - may an answer be used again, and under which key; and how it is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "handlers/kept.h"
#include "handlers/reuse.h"
#include "storage/principal.h"

#include <string.h>

#define SECOND 1000000u

static struct conf conf;
static struct request req;
static struct http_header header;

static struct reuse_policy policy(const char *mode, const char *control, bool deterministic)
{
    conf = (struct conf){.cache_response = slice_cstr(mode), .cache_response_ttl_s = 3600};
    header = (struct http_header){SLICE("Cache-Control"), slice_cstr(control)};
    req = (struct request){.conf = &conf, .headers = &header, .n_headers = control ? 1 : 0};
    return reuse_policy_of(&req, deterministic);
}

static void expect(struct reuse_policy p, bool look, bool keep, uint64_t ttl_s)
{
    assert_int_equal(p.look, look);
    assert_int_equal(p.keep, keep);
    if (keep)
        assert_int_equal(p.ttl_us, ttl_s * SECOND);
}

static void test_auto_keeps_what_is_deterministic_or_asked_for(void **state)
{
    expect(policy("auto", NULL, false), false, false, 0);
    expect(policy("auto", NULL, true), true, true, 3600);
    expect(policy("auto", "max-age=60", false), true, true, 60);
    expect(policy("auto", "no-store", true), false, false, 0);
    expect(policy("auto", "no-cache", true), false, true, 3600);
    expect(policy("all", NULL, false), true, true, 3600);
    expect(policy("off", "max-age=60", true), false, false, 0);
}

static void test_cache_control_is_read_as_rfc_9111_has_it(void **state)
{
    struct reuse_policy p = policy("auto", " Private ,MAX-AGE = \"7\" , only-if-cached", false);

    expect(p, true, true, 7);
    assert_true(p.only_cached);
    assert_int_equal(p.max_age_us, 7 * SECOND);
    expect(policy("all", "max-age=0", true), false, false, 0);
    expect(policy("all", "max-age=x", true), true, true, 3600);
    expect(policy("all", "max-age=99999999999999999999", true), true, true, INT32_MAX);
    expect(policy("all", "max-age=5, no-store", true), false, false, 0);
}

/* --- the key --------------------------------------------------------------------------------- */

struct asked {
    const char *form, *model, *body, *tenant;
    bool stream, strict;
};

static void key_of(const struct asked *a, unsigned char sha[32])
{
    struct arena *arena = arena_create(1 << 20);
    struct registry_route route = {0};
    struct principal who = {0};
    struct reuse_subject s = {.form = a->form,
                              .model = slice_cstr(a->model),
                              .stream = a->stream,
                              .strict = a->strict,
                              .route = &route};
    struct lru_key key;

    assert_non_null(arena);
    assert_int_equal(json_parse(arena, slice_cstr(a->body), NULL, &s.body, NULL), GW_OK);
    snprintf(who.tenant, sizeof(who.tenant), "%s", a->tenant);
    req = (struct request){.arena = arena, .conf = &conf, .body = slice_cstr(a->body)};
    req.principal = &who;
    assert_int_equal(reuse_key(&req, &s, &key), GW_OK);
    memcpy(sha, key.sha, 32);
    arena_destroy(arena);
}

static bool meet(struct asked a, struct asked b)
{
    unsigned char x[32], y[32];

    key_of(&a, x);
    key_of(&b, y);
    return memcmp(x, y, 32) == 0;
}

static const struct asked plain = {"openai", "m", "{\"a\":1,\"b\":[2]}", "team:1", false, false};

static void test_the_same_question_of_one_tenant_meets(void **state)
{
    struct asked other = plain;

    assert_true(meet(plain, other));
    other.body = "{ \"b\": [2], \"user\": \"x\", \"a\": 1, \"fallbacks\": [\"z\"] }";
    assert_true(meet(plain, other));
}

static void test_anything_that_matters_keeps_questions_apart(void **state)
{
    struct asked other = plain;

    other.tenant = "team:2";
    assert_false(meet(plain, other));
    other = plain;
    other.form = "anthropic";
    assert_false(meet(plain, other));
    other = plain;
    other.model = "n";
    assert_false(meet(plain, other));
    other = plain;
    other.stream = true;
    assert_false(meet(plain, other));
    other = plain;
    other.strict = true;
    assert_false(meet(plain, other));
    other = plain;
    other.body = "{\"a\":1,\"b\":[3]}";
    assert_false(meet(plain, other));
}

/* --- kept answers ---------------------------------------------------------------------------- */

static void test_a_kept_answer_is_read_as_it_was_written(void **state)
{
    struct kept k = {.stream = true,
                     .content_type = SLICE("text/event-stream"),
                     .provider = SLICE("openai"),
                     .model = SLICE("openai/m"),
                     .usage = {.known = true, .input = 5, .output = 7},
                     .cost_nano_usd = -1,
                     .body = SLICE("data: 1\n\n")};
    struct blob *b = kept_write(&k);
    struct kept got;

    assert_non_null(b);
    assert_true(kept_read(b, &got));
    assert_true(got.stream && got.usage.known);
    assert_int_equal(got.usage.output, 7);
    assert_int_equal(got.cost_nano_usd, -1);
    assert_true(slice_eq(got.body, k.body) && slice_eq(got.model, k.model));
    assert_true(slice_eq(got.content_type, k.content_type) && got.dropped.n == 0);
    blob_unref(b);
}

static void test_what_is_no_kept_answer_is_refused(void **state)
{
    struct kept k = {.body = SLICE("0123456789")}, got;
    struct blob *good = kept_write(&k), *b;

    for (size_t n = 0; n < good->n; n++) {
        b = blob_new(n);
        memcpy(b->bytes, good->bytes, n);
        assert_false(kept_read(b, &got));
        blob_unref(b);
    }
    good->bytes[0] ^= 1;
    assert_false(kept_read(good, &got));
    blob_unref(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_keeps_what_is_deterministic_or_asked_for),
        cmocka_unit_test(test_cache_control_is_read_as_rfc_9111_has_it),
        cmocka_unit_test(test_the_same_question_of_one_tenant_meets),
        cmocka_unit_test(test_anything_that_matters_keeps_questions_apart),
        cmocka_unit_test(test_a_kept_answer_is_read_as_it_was_written),
        cmocka_unit_test(test_what_is_no_kept_answer_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
