/* The arena: alignment, ceiling, destructors. Run under ASan, which sees every byte out of place.
 */
#include "gateway/core/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = arena_create(1u << 20);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    *state = arena_destroy(*state);
    assert_null(*state);
    return 0;
}

static void test_memory_is_zeroed_aligned_and_apart(void **state)
{
    struct arena *a = *state;
    unsigned char *p[300];

    for (size_t i = 0; i < 300; i++) {
        p[i] = arena_alloc(a, i + 1);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (size_t k = 0; k <= i; k++)
            assert_int_equal(p[i][k], 0);
        memset(p[i], (int)(i % 251) + 1, i + 1);
        assert_non_null(arena_bytes(a, 1)); /* leaves the next one unaligned */
    }
    for (size_t i = 0; i < 300; i++)
        for (size_t k = 0; k <= i; k++)
            assert_int_equal(p[i][k], i % 251 + 1);
}

static void test_memory_of_an_earlier_arena_is_zeroed_again(void **state)
{
    struct arena *a = arena_create(4096);
    unsigned char *p = arena_alloc(a, 2000);

    memset(p, 0xff, 2000);
    arena_destroy(a);
    a = arena_create(4096);
    p = arena_alloc(a, 2000);
    for (size_t i = 0; i < 2000; i++)
        assert_int_equal(p[i], 0);
    arena_destroy(a);
}

static void test_the_ceiling_holds_to_the_byte(void **state)
{
    struct arena *a = arena_create(10000);

    assert_non_null(arena_alloc(a, 6000));
    assert_null(arena_alloc(a, 4001));
    assert_non_null(arena_bytes(a, 4000));
    assert_int_equal(arena_used(a), 10000);
    assert_null(arena_bytes(a, 1));
    assert_int_equal(arena_used(a), 10000);
    arena_destroy(a);
}

static void test_sizes_that_overflow_are_refused(void **state)
{
    struct arena *a = arena_create(SIZE_MAX);

    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_alloc(a, SIZE_MAX - 8));
    assert_null(arena_alloc_array(a, SIZE_MAX / 2, 3));
    assert_null(arena_cstr(a, slice_of("x", SIZE_MAX)));
    assert_int_equal(arena_used(a), 0);
    assert_non_null(arena_alloc(a, 1));
    arena_destroy(a);
}

static void test_a_big_block_does_not_disturb_small_ones(void **state)
{
    struct arena *a = *state;
    char *small = arena_bytes(a, 10), *big = arena_bytes(a, 300000), *after = arena_bytes(a, 10);

    memset(small, 's', 10);
    memset(big, 'b', 300000);
    memset(after, 'a', 10);
    assert_int_equal(small[9], 's');
    assert_int_equal(big[299999], 'b');
    assert_int_equal(after[0], 'a');
}

static void test_copies_are_terminated_and_their_own(void **state)
{
    struct arena *a = *state;
    char text[] = "abcdef";
    struct slice copy = arena_dup(a, slice_of(text, 3));
    char *cstr = arena_cstr(a, slice_of(text + 3, 3));

    memset(text, 'x', sizeof(text) - 1);
    assert_true(slice_is(copy, "abc"));
    assert_int_equal(copy.p[3], '\0');
    assert_string_equal(cstr, "def");
    copy = arena_dup(a, SLICE_NONE);
    assert_non_null(copy.p);
    assert_int_equal(copy.n, 0);
    assert_int_equal(copy.p[0], '\0');
}

static void test_a_copy_past_the_ceiling_has_no_bytes(void **state)
{
    struct arena *a = arena_create(4);

    assert_null(arena_dup(a, SLICE("abcd")).p);
    assert_null(arena_cstr(a, SLICE("abcd")));
    assert_null(arena_printf(a, "%d", 12345).p);
    assert_true(slice_is(arena_dup(a, SLICE("abc")), "abc"));
    arena_destroy(a);
}

static void test_formatted_text_has_its_exact_length(void **state)
{
    struct arena *a = *state;
    struct slice s = arena_printf(a, "%s-%d-%5000d", "x", 7, 1);

    assert_int_equal(s.n, 5004);
    assert_int_equal(s.p[5003], '1');
    assert_int_equal(s.p[5004], '\0');
    assert_true(slice_is(arena_printf(a, "%s", ""), ""));
}

static char order[8];
static size_t n_order;

static void note(void *obj)
{
    order[n_order++] = *(char *)obj;
}

static void test_destructors_run_last_first(void **state)
{
    struct arena *a = arena_create(4096);
    char *name;

    n_order = 0;
    for (char c = 'a'; c <= 'c'; c++) {
        name = arena_bytes(a, 1);
        *name = c;
        assert_true(arena_defer(a, note, name)); /* the arena's own memory is still there */
    }
    assert_int_equal(n_order, 0);
    arena_destroy(a);
    assert_int_equal(n_order, 3);
    assert_memory_equal(order, "cba", 3);
}

static void test_an_object_that_cannot_be_deferred_is_ended_at_once(void **state)
{
    struct arena *a = arena_create(1);
    char name = 'z';

    n_order = 0;
    assert_false(arena_defer(a, note, &name));
    assert_int_equal(n_order, 1);
    arena_destroy(a);
    assert_int_equal(n_order, 1);
}

static void test_arenas_live_beside_each_other(void **state)
{
    struct arena *a[200];
    char *p[200];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 200; i++) {
            a[i] = arena_create(1 << 16);
            p[i] = arena_bytes(a[i], 5000);
            assert_non_null(p[i]);
            memset(p[i], i, 5000);
        }
        for (int i = 0; i < 200; i++) {
            assert_int_equal((unsigned char)p[i][4999], i);
            arena_destroy(a[i]);
        }
    }
    assert_null(arena_destroy(NULL));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static void test_numbers_are_written_in_decimal(void **state)
{
    struct arena *a = *state;

    assert_string_equal(arena_u64(a, 0).p, "0");
    assert_string_equal(arena_u64(a, 10).p, "10");
    assert_string_equal(arena_u64(a, UINT64_MAX).p, "18446744073709551615");
    assert_int_equal(arena_u64(a, 12345).n, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_memory_is_zeroed_aligned_and_apart),
        TEST(test_memory_of_an_earlier_arena_is_zeroed_again),
        TEST(test_the_ceiling_holds_to_the_byte),
        TEST(test_sizes_that_overflow_are_refused),
        TEST(test_a_big_block_does_not_disturb_small_ones),
        TEST(test_copies_are_terminated_and_their_own),
        TEST(test_a_copy_past_the_ceiling_has_no_bytes),
        TEST(test_formatted_text_has_its_exact_length),
        TEST(test_destructors_run_last_first),
        TEST(test_an_object_that_cannot_be_deferred_is_ended_at_once),
        TEST(test_arenas_live_beside_each_other),
        TEST(test_numbers_are_written_in_decimal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
