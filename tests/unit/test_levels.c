/* test_levels.c - log levels changed for all workers (gateway/core/levels.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/levels.h"
#include "gateway/core/log.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct log_ctx http = {.component = "http"}, other = {.component = "other"};

static int set_up(void **state)
{
    log_reset_levels();
    log_set_level(NULL, LVL_INFO);
    return levels_init();
}

static int tear_down(void **state)
{
    levels_deinit();
    return 0;
}

static void test_a_change_is_in_force_when_it_is_applied(void **state)
{
    assert_true(levels_change(SLICE("http"), LVL_DEBUG));
    assert_false(log_enabled(LVL_DEBUG, &http));
    levels_apply();
    assert_true(log_enabled(LVL_DEBUG, &http));
    assert_false(log_enabled(LVL_DEBUG, &other));
    assert_true(levels_change(SLICE_NONE, LVL_ERROR));
    levels_apply();
    assert_false(log_enabled(LVL_WARN, &other));
    assert_true(log_enabled(LVL_DEBUG, &http));
}

static void test_names_that_are_too_long_are_refused(void **state)
{
    assert_false(levels_change(SLICE("0123456789012345678901234567890123"), LVL_DEBUG));
}

/* A worker forked before sees what another changes; the exit status tells. */
static void test_another_process_sees_the_change(void **state)
{
    int pipes[2], status = -1;
    char c = 0;
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (read(pipes[0], &c, 1) != 1)
            _exit(2);
        levels_apply();
        _exit(log_enabled(LVL_DEBUG, &http) ? 0 : 1);
    }
    assert_true(levels_change(SLICE("http"), LVL_DEBUG));
    assert_int_equal(write(pipes[1], "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(pipes[0]);
    close(pipes[1]);
}

static void test_what_is_over_is_not_applied_by_a_new_worker(void **state)
{
    pid_t pid;
    int status = -1;

    assert_true(levels_change(SLICE("http"), LVL_DEBUG));
    levels_forget();
    assert_true(levels_change(SLICE("other"), LVL_DEBUG));
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        levels_apply();
        _exit(!log_enabled(LVL_DEBUG, &http) && log_enabled(LVL_DEBUG, &other) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_more_changes_than_there_is_room_for_end_with_the_last(void **state)
{
    for (unsigned i = 0; i < 100; i++)
        assert_true(levels_change(SLICE("http"), i % 2 ? LVL_DEBUG : LVL_ERROR));
    levels_apply();
    assert_true(log_enabled(LVL_DEBUG, &http));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_change_is_in_force_when_it_is_applied),
        TEST(test_names_that_are_too_long_are_refused),
        TEST(test_another_process_sees_the_change),
        TEST(test_what_is_over_is_not_applied_by_a_new_worker),
        TEST(test_more_changes_than_there_is_room_for_end_with_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
