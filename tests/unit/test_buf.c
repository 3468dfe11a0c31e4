/* The byte buffer: growth, ceiling, sticky error. */
#include "gateway/core/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_a_fresh_buffer_is_empty_and_holds_nothing(void **state)
{
    struct buf b;

    buf_init(&b, 10);
    assert_null(b.p);
    assert_int_equal(buf_slice(&b).n, 0);
    assert_int_equal(buf_err(&b), GW_OK);
    buf_deinit(&b);
    buf_deinit(NULL);
}

static void test_bytes_arrive_in_order(void **state)
{
    struct buf b;

    buf_init(&b, 1000);
    buf_add(&b, "ab", 2);
    buf_add(&b, NULL, 0);
    buf_add_slice(&b, SLICE("cd"));
    buf_add_slice(&b, SLICE_NONE);
    buf_add_cstr(&b, "ef");
    buf_add_char(&b, 'g');
    buf_printf(&b, "<%d %s>", 5, "x");
    assert_true(slice_is(buf_slice(&b), "abcdefg<5 x>"));
    buf_deinit(&b);
}

static void test_numbers_are_exact_at_their_limits(void **state)
{
    struct buf b;

    buf_init(&b, 1000);
    buf_add_u64(&b, 0);
    buf_add_char(&b, ' ');
    buf_add_u64(&b, UINT64_MAX);
    buf_add_char(&b, ' ');
    buf_add_i64(&b, INT64_MIN);
    buf_add_char(&b, ' ');
    buf_add_i64(&b, INT64_MAX);
    buf_add_char(&b, ' ');
    buf_add_i64(&b, -1);
    assert_true(slice_is(buf_slice(&b), "0 18446744073709551615 -9223372036854775808 "
                                        "9223372036854775807 -1"));
    buf_deinit(&b);
}

static void test_it_grows_byte_by_byte_up_to_its_ceiling(void **state)
{
    struct buf b;

    buf_init(&b, 1000);
    for (unsigned i = 0; i < 1000; i++)
        buf_add_char(&b, (char)('a' + i % 26));
    assert_int_equal(buf_err(&b), GW_OK);
    assert_int_equal(b.n, 1000);
    assert_true(b.cap <= 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(b.p[i], 'a' + i % 26);
    buf_add_char(&b, 'x');
    assert_int_equal(buf_err(&b), GW_ETOOBIG);
    assert_int_equal(b.n, 1000);
    buf_deinit(&b);
}

static void test_an_error_is_sticky_until_the_reset(void **state)
{
    struct buf b;

    buf_init(&b, 4);
    buf_add_cstr(&b, "abc");
    buf_add_cstr(&b, "de");
    buf_add_char(&b, 'f'); /* would fit, but the text would have a hole */
    assert_int_equal(buf_err(&b), GW_ETOOBIG);
    assert_true(slice_is(buf_slice(&b), "abc"));
    assert_null(buf_reserve(&b, 1));
    buf_reset(&b);
    buf_add_cstr(&b, "wxyz");
    assert_int_equal(buf_err(&b), GW_OK);
    assert_true(slice_is(buf_slice(&b), "wxyz"));
    buf_deinit(&b);
}

static void test_sizes_that_overflow_are_refused(void **state)
{
    struct buf b;

    buf_init(&b, 100);
    buf_add_char(&b, 'x');
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(buf_err(&b), GW_ETOOBIG);
    buf_reset(&b);
    assert_null(buf_reserve(&b, 101));
    assert_int_equal(buf_err(&b), GW_ETOOBIG);
    buf_deinit(&b);
}

static void test_memory_that_cannot_be_had_is_an_error(void **state)
{
    struct buf b;

    buf_init(&b, SIZE_MAX);
    buf_add_char(&b, 'x');
    assert_null(buf_reserve(&b, SIZE_MAX / 2));
    assert_int_equal(buf_err(&b), GW_ENOMEM);
    assert_true(slice_is(buf_slice(&b), "x"));
    buf_deinit(&b);
}

static void test_reserved_room_is_written_by_the_caller(void **state)
{
    struct buf b;
    char *to;

    buf_init(&b, 5000);
    buf_add_cstr(&b, "head ");
    to = buf_reserve(&b, 3000);
    assert_non_null(to);
    memset(to, 'z', 3000);
    b.n += 2;
    buf_add_char(&b, '!');
    assert_true(slice_is(buf_slice(&b), "head zz!"));
    buf_deinit(&b);
}

static void test_consumed_bytes_leave_the_rest_in_front(void **state)
{
    struct buf b;

    buf_init(&b, 100);
    buf_consume(&b, 0);
    buf_add_cstr(&b, "abcdef");
    buf_consume(&b, 2);
    assert_true(slice_is(buf_slice(&b), "cdef"));
    buf_consume(&b, 4);
    assert_int_equal(b.n, 0);
    buf_add_cstr(&b, "g");
    assert_true(slice_is(buf_slice(&b), "g"));
    buf_deinit(&b);
}

static void test_a_freed_buffer_can_be_used_again(void **state)
{
    struct buf b;

    buf_init(&b, 3);
    buf_add_cstr(&b, "abcd");
    buf_deinit(&b);
    assert_null(b.p);
    buf_add_cstr(&b, "abc");
    assert_int_equal(buf_err(&b), GW_OK);
    buf_deinit(&b);
}

static void test_formatted_text_may_fill_the_buffer_exactly(void **state)
{
    struct buf b;

    buf_init(&b, 6);
    buf_printf(&b, "%s", "123456");
    assert_int_equal(buf_err(&b), GW_OK);
    assert_true(slice_is(buf_slice(&b), "123456"));
    buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fresh_buffer_is_empty_and_holds_nothing),
        cmocka_unit_test(test_bytes_arrive_in_order),
        cmocka_unit_test(test_numbers_are_exact_at_their_limits),
        cmocka_unit_test(test_it_grows_byte_by_byte_up_to_its_ceiling),
        cmocka_unit_test(test_an_error_is_sticky_until_the_reset),
        cmocka_unit_test(test_sizes_that_overflow_are_refused),
        cmocka_unit_test(test_memory_that_cannot_be_had_is_an_error),
        cmocka_unit_test(test_reserved_room_is_written_by_the_caller),
        cmocka_unit_test(test_consumed_bytes_leave_the_rest_in_front),
        cmocka_unit_test(test_a_freed_buffer_can_be_used_again),
        cmocka_unit_test(test_formatted_text_may_fill_the_buffer_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
