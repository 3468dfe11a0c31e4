/* test_hex.c - bytes as digits and back; UUIDs. */
#include "gateway/core/hex.h"
#include "gateway/core/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const unsigned char id[UUID_BYTES] = {0x01, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x43, 0x56,
                                             0x87, 0x89, 0xff, 0x00, 0x10, 0x0f, 0xa0, 0x0a};
#define ID_TEXT "019abcde-f012-4356-8789-ff00100fa00a"

static void test_every_byte_is_written_as_printf_would_and_read_back(void **state)
{
    char text[3], upper[3], ours[4] = "!!!";

    for (int v = 0; v < 256; v++) {
        unsigned char byte = (unsigned char)v;

        snprintf(text, sizeof(text), "%02x", v);
        snprintf(upper, sizeof(upper), "%02X", v);
        assert_ptr_equal(hex_write(ours, &byte, 1), ours + 2);
        assert_memory_equal(ours, text, 2);
        assert_int_equal(ours[2], '!');
        assert_int_equal(hex_pair(text), v);
        assert_int_equal(hex_pair(upper), v);
    }
}

static void test_no_bytes_are_no_digits(void **state)
{
    char to[2] = "!";

    assert_ptr_equal(hex_write(to, "", 0), to);
    assert_int_equal(to[0], '!');
}

/* Among them those that one bit turns into a digit. */
static void test_no_other_character_is_a_digit(void **state)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    unsigned read = 0, lower = 0;

    for (int c = -128; c < 128; c++) {
        bool is = c && strchr(digits, c);
        char high[] = {(char)c, '0'}, low[] = {'0', (char)c};

        assert_int_equal(hex_value((char)c) >= 0, is);
        assert_int_equal(hex_pair(high) >= 0, is);
        assert_int_equal(hex_pair(low) >= 0, is);
        read += hex_value((char)c) >= 0;
        lower += hex_is_lower((char)c);
    }
    assert_int_equal(read, 22);
    assert_int_equal(lower, 16);
    assert_false(hex_is_lower('A'));
    assert_true(hex_is_lower('f') && hex_is_lower('0'));
}

static void test_a_uuid_has_its_dashes_and_its_end(void **state)
{
    char text[UUID_TEXT];

    memset(text, '!', sizeof(text));
    uuid_write(text, id);
    assert_string_equal(text, ID_TEXT);
    assert_true(uuid_is(slice_cstr(text)));
}

static void test_one_wrong_character_is_no_uuid(void **state)
{
    static const char wrong[] = "-gA G\0";
    char text[UUID_TEXT] = ID_TEXT;

    for (unsigned i = 0; i < UUID_TEXT - 1; i++)
        for (unsigned k = 0; k < sizeof(wrong); k++) {
            char was = text[i];

            text[i] = wrong[k];
            assert_int_equal(uuid_is(slice_of(text, UUID_TEXT - 1)), wrong[k] == was);
            text[i] = was;
        }
    assert_true(uuid_is(slice_of(text, UUID_TEXT - 1)));
}

static void test_one_character_more_or_less_is_no_uuid(void **state)
{
    assert_false(uuid_is(SLICE_NONE));
    assert_false(uuid_is(slice_of(ID_TEXT, UUID_TEXT - 2)));
    assert_false(uuid_is(SLICE(ID_TEXT "a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_is_written_as_printf_would_and_read_back),
        cmocka_unit_test(test_no_bytes_are_no_digits),
        cmocka_unit_test(test_no_other_character_is_a_digit),
        cmocka_unit_test(test_a_uuid_has_its_dashes_and_its_end),
        cmocka_unit_test(test_one_wrong_character_is_no_uuid),
        cmocka_unit_test(test_one_character_more_or_less_is_no_uuid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
