/* test_lru.c - the in-process tier of the caches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/lru.h"

#include <string.h>

static struct lru_key key_of(unsigned n)
{
    struct lru_key k;

    memset(&k, 0, sizeof(k));
    memcpy(k.sha, &n, sizeof(n));
    return k;
}

static void put(struct lru *l, unsigned n, size_t bytes, uint64_t dies_us)
{
    struct lru_key k = key_of(n);
    struct blob *b = blob_new(bytes);

    assert_non_null(b);
    memset(b->bytes, (int)n, bytes);
    b->dies_us = dies_us;
    lru_put(l, &k, b);
    blob_unref(b);
}

static struct blob *get(struct lru *l, unsigned n, uint64_t now_us)
{
    struct lru_key k = key_of(n);

    return lru_get(l, &k, now_us);
}

static int enter(void **state)
{
    *state = lru_new();
    return *state ? 0 : -1;
}

static int leave(void **state)
{
    lru_free(*state);
    return 0;
}

static void test_what_was_put_is_found_until_it_dies(void **state)
{
    struct lru *l = *state;

    lru_set_limits(l, 10, 1 << 20);
    put(l, 1, 5, 100);
    assert_int_equal(get(l, 1, 99)->n, 5);
    assert_null(get(l, 1, 100));
    assert_int_equal(lru_entries(l), 0);
    assert_int_equal(lru_bytes(l), 0);
}

static void test_the_least_recently_used_goes_first(void **state)
{
    struct lru *l = *state;

    lru_set_limits(l, 3, 1 << 20);
    put(l, 1, 1, 100);
    put(l, 2, 1, 100);
    put(l, 3, 1, 100);
    assert_non_null(get(l, 1, 0));
    put(l, 4, 1, 100);
    assert_null(get(l, 2, 0));
    assert_non_null(get(l, 1, 0));
    assert_non_null(get(l, 3, 0));
    assert_non_null(get(l, 4, 0));
}

static void test_bytes_are_bounded_too(void **state)
{
    struct lru *l = *state;

    lru_set_limits(l, 1000, 10000);
    for (unsigned i = 0; i < 100; i++) {
        put(l, i, 1000, 100);
        assert_true(lru_bytes(l) <= 10000);
    }
    assert_true(lru_entries(l) < 10 && lru_entries(l) > 0);
    assert_non_null(get(l, 99, 0));
}

static void test_one_larger_than_the_cache_is_not_stored_and_takes_the_old_one_along(void **state)
{
    struct lru *l = *state;

    lru_set_limits(l, 10, 2000);
    put(l, 1, 10, 100);
    put(l, 2, 10, 100);
    put(l, 1, 5000, 100);
    assert_null(get(l, 1, 0));
    assert_non_null(get(l, 2, 0));
}

static void test_smaller_limits_hold_at_once(void **state)
{
    struct lru *l = *state;

    lru_set_limits(l, 10, 1 << 20);
    for (unsigned i = 0; i < 10; i++)
        put(l, i, 1, 100);
    lru_set_limits(l, 2, 1 << 20);
    assert_int_equal(lru_entries(l), 2);
    assert_non_null(get(l, 9, 0));
    assert_non_null(get(l, 8, 0));
}

static void test_a_blob_in_use_outlives_its_entry(void **state)
{
    struct lru *l = *state;
    struct blob *b;

    lru_set_limits(l, 10, 1 << 20);
    put(l, 7, 3, 100);
    b = blob_ref(get(l, 7, 0));
    assert_int_equal(lru_clear(l), 1);
    assert_memory_equal(b->bytes, "\7\7\7", 3);
    blob_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_put_is_found_until_it_dies, enter, leave),
        cmocka_unit_test_setup_teardown(test_the_least_recently_used_goes_first, enter, leave),
        cmocka_unit_test_setup_teardown(test_bytes_are_bounded_too, enter, leave),
        cmocka_unit_test_setup_teardown(
            test_one_larger_than_the_cache_is_not_stored_and_takes_the_old_one_along, enter, leave),
        cmocka_unit_test_setup_teardown(test_smaller_limits_hold_at_once, enter, leave),
        cmocka_unit_test_setup_teardown(test_a_blob_in_use_outlives_its_entry, enter, leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
