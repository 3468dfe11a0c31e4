/*
 * test_idempotency.c - outcomes kept in this process, and their records (storage/idempotency.h).
 * What Redis adds is tested with a real one: tests/integration/test_idempotency.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/idempotency.c"

#define HOUR_US 3600000000u

static struct arena *arena;

static int set_up(void **state)
{
    arena = arena_create(8 << 20);
    assert_non_null(arena);
    return idempotency_init(NULL) ? -1 : 0;
}

static int tear_down(void **state)
{
    idempotency_deinit();
    arena_destroy(arena);
    return 0;
}

static struct idem_use use(const char *owner, const char *key, char fingerprint)
{
    struct idem_use u = {0};

    assert_int_equal(idempotency_use(arena, slice_cstr(owner), slice_cstr(key), &u), GW_OK);
    memset(u.fingerprint, fingerprint, sizeof(u.fingerprint));
    return u;
}

static const struct idem_outcome made = {
    .status = 201,
    .kind = IDEM_STREAM,
    .type = {"text/event-stream", 17},
    .body = {"data: a\0b\n\n", 11},
    .headers = {{{"Location", 8}, {"/x", 2}}, {{"X-Postern-Model", 15}, {"", 0}}},
    .n_headers = 2,
};

static void check_made(const struct idem_outcome *o)
{
    assert_int_equal(o->status, made.status);
    assert_int_equal(o->kind, made.kind);
    assert_true(slice_eq(o->type, made.type));
    assert_true(slice_eq(o->body, made.body));
    assert_int_equal(o->n_headers, made.n_headers);
    for (unsigned i = 0; i < o->n_headers; i++) {
        assert_true(slice_eq(o->headers[i].name, made.headers[i].name));
        assert_true(slice_eq(o->headers[i].value, made.headers[i].value));
    }
}

static void test_an_outcome_comes_back_as_it_was(void **state)
{
    struct idem_use u = use("o", "k", 1), again = use("o", "k", 1);
    struct idem_outcome o = {0};

    assert_int_equal(idempotency_look(&u, arena, &o), IDEM_FIRST);
    idempotency_keep(&u, &made, HOUR_US);
    assert_int_equal(idempotency_look(&again, arena, &o), IDEM_DONE);
    check_made(&o);
}

static void test_another_request_under_the_key_is_told_apart(void **state)
{
    struct idem_use u = use("o", "k", 1), other = use("o", "k", 2);
    struct idem_outcome o = {0};

    idempotency_keep(&u, &made, HOUR_US);
    assert_int_equal(idempotency_look(&other, arena, &o), IDEM_REUSED);
}

static void test_keys_of_other_owners_and_other_keys_are_free(void **state)
{
    struct idem_use u = use("o", "k", 1);
    struct idem_use others[] = {use("p", "k", 1), use("o", "K", 1), use("o", "k2", 1)};
    struct idem_outcome o = {0};

    idempotency_keep(&u, &made, HOUR_US);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(idempotency_look(&others[i], arena, &o), IDEM_FIRST);
}

static void test_the_hash_tag_is_the_owners_whatever_the_key_holds(void **state)
{
    struct idem_use a = use("o", "}:{x}", 1), b = use("o", "k", 1), c = use("p", "k", 1);

    assert_true(slice_starts(a.name, "idem:{"));
    assert_int_equal(slice_find(a.name, '}'), 6 + OWNER_HEX);
    assert_memory_equal(a.name.p, b.name.p, 6 + OWNER_HEX + 2);
    assert_memory_not_equal(b.name.p, c.name.p, 6 + OWNER_HEX);
    assert_true(slice_is(slice_from(a.name, 6 + OWNER_HEX + 2), "}:{x}"));
}

static void test_a_mark_is_busy_for_the_same_request_and_reused_for_another(void **state)
{
    struct idem_use u = use("o", "k", 1), other = use("o", "k", 2);
    struct idem_outcome o = {0};
    char mark[MARK_BYTES];

    mark_write(&u, mark);
    assert_int_equal(verdict_of(&u, slice_of(mark, sizeof(mark)), &o), IDEM_BUSY);
    assert_int_equal(verdict_of(&other, slice_of(mark, sizeof(mark)), &o), IDEM_REUSED);
    assert_int_equal(verdict_of(&u, slice_of(mark, sizeof(mark) - 1), &o), IDEM_FIRST);
}

static void test_marks_of_two_uses_differ(void **state)
{
    struct idem_use a = use("o", "k", 1), b = use("o", "k", 1);
    char one[MARK_BYTES], two[MARK_BYTES];

    mark_write(&a, one);
    mark_write(&b, two);
    assert_memory_not_equal(one, two, MARK_BYTES);
}

/* A copy of exactly n bytes, so that the sanitizer sees a read beyond them. */
static enum idem_verdict verdict_on(const struct idem_use *u, const char *p, size_t n)
{
    char *copy = malloc(n ? n : 1);
    struct idem_outcome o = {0};
    enum idem_verdict v;

    assert_non_null(copy);
    memcpy(copy, p, n);
    v = verdict_of(u, slice_of(copy, n), &o);
    free(copy);
    return v;
}

static void test_a_record_cut_anywhere_or_with_more_behind_it_is_nobodys(void **state)
{
    struct idem_use u = use("o", "k", 1);
    struct buf b;

    buf_init(&b, 1 << 16);
    record_write(&b, &u, &made);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(verdict_on(&u, b.p, n), IDEM_FIRST);
    assert_int_equal(verdict_on(&u, b.p, b.n), IDEM_DONE);
    buf_add_char(&b, 'x');
    assert_int_equal(verdict_on(&u, b.p, b.n), IDEM_FIRST);
    buf_deinit(&b);
}

static void test_a_record_with_any_byte_changed_is_read_without_harm(void **state)
{
    struct idem_use u = use("o", "k", 1);
    struct buf b;

    buf_init(&b, 1 << 16);
    record_write(&b, &u, &made);
    for (size_t i = 0; i < b.n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            b.p[i] ^= (char)(1 << bit);
            verdict_on(&u, b.p, b.n);
            b.p[i] ^= (char)(1 << bit);
        }
    }
    assert_int_equal(verdict_on(&u, b.p, b.n), IDEM_DONE);
    buf_deinit(&b);
}

static void test_without_redis_there_is_nothing_to_claim(void **state)
{
    struct idem_use u = use("o", "k", 1);

    assert_null(idempotency_claim(&u, arena, NULL, NULL));
    idempotency_renew(&u);
    idempotency_release(&u);
    assert_false(u.marked);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_outcome_comes_back_as_it_was),
        TEST(test_another_request_under_the_key_is_told_apart),
        TEST(test_keys_of_other_owners_and_other_keys_are_free),
        TEST(test_the_hash_tag_is_the_owners_whatever_the_key_holds),
        TEST(test_a_mark_is_busy_for_the_same_request_and_reused_for_another),
        TEST(test_marks_of_two_uses_differ),
        TEST(test_a_record_cut_anywhere_or_with_more_behind_it_is_nobodys),
        TEST(test_a_record_with_any_byte_changed_is_read_without_harm),
        TEST(test_without_redis_there_is_nothing_to_claim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
