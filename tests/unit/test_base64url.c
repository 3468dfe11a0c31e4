/* test_base64url.c - one text for each value, and no other is read. */
#include "gateway/core/base64url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool reads(const char *text, size_t n)
{
    unsigned char to[64];
    size_t got;

    return base64url_decode(to, sizeof(to), slice_of(text, n), &got);
}

static void test_the_vectors_of_rfc_4648(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
    char to[16];
    size_t n;

    for (unsigned i = 0; i < 7; i++) {
        struct slice bytes = slice_cstr(rows[i][0]);

        n = base64url_encode(to, bytes.p, bytes.n);
        assert_int_equal(n, BASE64URL_CHARS(bytes.n));
        assert_true(slice_is(slice_of(to, n), rows[i][1]));
        assert_true(base64url_decode(to, bytes.n, slice_cstr(rows[i][1]), &n));
        assert_true(slice_eq(slice_of(to, n), bytes));
    }
}

/* Of all texts of two and three characters only those that encode something are read, and they are
 * written back as they were. */
static void test_each_text_that_is_read_is_the_only_one_of_its_bytes(void **state)
{
    unsigned char bytes[4];
    char text[3], back[8];
    size_t n, good = 0;

    for (unsigned v = 0; v < 1u << 24; v++) {
        text[0] = (char)(v >> 16);
        text[1] = (char)(v >> 8);
        text[2] = (char)v;
        if (!base64url_decode(bytes, sizeof(bytes), slice_of(text, 3), &n))
            continue;
        good++;
        assert_int_equal(n, 2);
        assert_int_equal(base64url_encode(back, bytes, n), 3);
        assert_memory_equal(back, text, 3);
    }
    assert_int_equal(good, 65536);
}

static void test_every_byte_is_of_the_alphabet_or_refused(void **state)
{
    char text[4] = "AAAA";

    for (unsigned c = 0; c < 256; c++) {
        bool is_digit = c && strchr(alphabet, (int)c);

        text[1] = (char)c;
        assert_int_equal(reads(text, 4), is_digit);
        assert_int_equal(base64url_is_text(slice_of(text, 4)), is_digit);
    }
}

static void test_padding_blanks_and_lengths_that_mean_nothing_are_refused(void **state)
{
    assert_false(reads("Zg==", 4));
    assert_false(reads("Zm8=", 4));
    assert_false(reads("Zm9v\n", 5));
    assert_false(reads(" Zm9v", 5));
    assert_false(reads("A", 1));
    assert_false(reads("AAAAA", 5));
    assert_true(reads("", 0));
}

static void test_left_over_bits_must_be_zero(void **state)
{
    char text[3] = "AA";
    unsigned good = 0;

    for (unsigned i = 0; i < 64; i++) {
        text[1] = alphabet[i];
        good += reads(text, 2);
    }
    assert_int_equal(good, 4);
    assert_false(reads("Zh", 2));
    assert_false(reads("Zm9", 3));
}

static void test_what_does_not_fit_is_not_written(void **state)
{
    unsigned char to[3] = {0, 0, 0x55};
    size_t n;

    assert_false(base64url_decode(to, 2, SLICE("Zm9v"), &n));
    assert_true(base64url_decode(to, 2, SLICE("Zm8"), &n));
    assert_int_equal(to[2], 0x55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vectors_of_rfc_4648),
        cmocka_unit_test(test_each_text_that_is_read_is_the_only_one_of_its_bytes),
        cmocka_unit_test(test_every_byte_is_of_the_alphabet_or_refused),
        cmocka_unit_test(test_padding_blanks_and_lengths_that_mean_nothing_are_refused),
        cmocka_unit_test(test_left_over_bits_must_be_zero),
        cmocka_unit_test(test_what_does_not_fit_is_not_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
