/* test_rng.c - numbers differ, across forks too; hex is hex. */
#include "gateway/core/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void test_ten_thousand_numbers_are_all_different(void **state)
{
    static uint64_t v[10000];
    size_t i;

    (void)state;
    for (i = 0; i < 10000; i++)
        v[i] = rng_u64();
    qsort(v, 10000, sizeof(v[0]), compare);
    for (i = 1; i < 10000; i++)
        assert_true(v[i] != v[i - 1]);
}

static void test_a_forked_child_does_not_repeat_its_parent(void **state)
{
    uint64_t mine, theirs = 0;
    int fds[2], status;
    pid_t pid;

    (void)state;
    rng_u64();
    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        theirs = rng_u64();
        _exit(write(fds[1], &theirs, sizeof(theirs)) == sizeof(theirs) ? 0 : 1);
    }
    mine = rng_u64();
    assert_int_equal(read(fds[0], &theirs, sizeof(theirs)), sizeof(theirs));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(mine != theirs);
    close(fds[0]);
    close(fds[1]);
}

static void test_hex_writes_two_digits_a_byte_and_nothing_more(void **state)
{
    char text[34];

    (void)state;
    memset(text, '!', sizeof(text));
    rng_hex(text, 16);
    assert_int_equal(strspn(text, "0123456789abcdef"), 32);
    assert_int_equal(text[32], '!');
}

static void test_a_uuid_is_random_and_of_version_4(void **state)
{
    char one[37], two[37];

    rng_uuid(one);
    rng_uuid(two);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), 36);
    assert_int_equal(strspn(one, "0123456789abcdef-"), 36);
    assert_true(one[8] == '-' && one[13] == '-' && one[18] == '-' && one[23] == '-');
    assert_int_equal(one[14], '4');
    assert_non_null(memchr("89ab", one[19], 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_uuid_is_random_and_of_version_4),
        cmocka_unit_test(test_ten_thousand_numbers_are_all_different),
        cmocka_unit_test(test_a_forked_child_does_not_repeat_its_parent),
        cmocka_unit_test(test_hex_writes_two_digits_a_byte_and_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
