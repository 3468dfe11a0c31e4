/* test_reload.c - asking for a reload and hearing how it went (gateway/core/reload.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/reload.h"

static unsigned asked, told[3];
static struct reload_wait waits[3];

static void ask(void)
{
    asked++;
}

static void on_done(const struct reload_result *r, void *arg)
{
    told[(struct reload_wait *)arg - waits] += r->generation;
}

static int set_up(void **state)
{
    asked = 0;
    for (unsigned i = 0; i < 3; i++) {
        told[i] = 0;
        waits[i] = (struct reload_wait){.done = on_done, .arg = &waits[i]};
    }
    reload_provide(ask);
    return 0;
}

static int tear_down(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        reload_forget(&waits[i]);
    reload_provide(NULL);
    return 0;
}

static void end(unsigned generation)
{
    const struct reload_result r = {.applied = true, .generation = generation};

    reload_ended(&r);
}

static void test_all_who_asked_hear_of_it_once(void **state)
{
    assert_true(reload_ask(&waits[0]));
    assert_true(reload_ask(&waits[1]));
    assert_int_equal(asked, 2);
    reload_begun();
    end(5);
    end(7);
    assert_int_equal(told[0], 5);
    assert_int_equal(told[1], 5);
    assert_int_equal(told[2], 0);
}

static void test_who_asks_while_files_are_read_hears_of_the_next_reading(void **state)
{
    assert_true(reload_ask(&waits[0]));
    reload_begun();
    assert_true(reload_ask(&waits[1]));
    end(1);
    assert_int_equal(told[0], 1);
    assert_int_equal(told[1], 0);
    reload_begun();
    end(10);
    assert_int_equal(told[0], 1);
    assert_int_equal(told[1], 10);
}

static void test_who_forgets_is_not_told(void **state)
{
    assert_true(reload_ask(&waits[0]));
    reload_begun();
    reload_forget(&waits[0]);
    reload_forget(&waits[0]);
    end(1);
    assert_int_equal(told[0], 0);
}

static void forget_second(const struct reload_result *r, void *arg)
{
    on_done(r, arg);
    reload_forget(&waits[arg == &waits[0] ? 1 : 0]);
}

static void test_one_may_forget_another_while_being_told(void **state)
{
    waits[0].done = waits[1].done = forget_second;
    assert_true(reload_ask(&waits[0]));
    assert_true(reload_ask(&waits[1]));
    reload_begun();
    end(1);
    assert_int_equal(told[0] + told[1], 1);
}

static void test_without_a_loader_nobody_waits(void **state)
{
    reload_provide(NULL);
    assert_false(reload_ask(&waits[0]));
    reload_begun();
    end(1);
    assert_int_equal(told[0], 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_who_asked_hear_of_it_once),
        TEST(test_who_asks_while_files_are_read_hears_of_the_next_reading),
        TEST(test_who_forgets_is_not_told),
        TEST(test_one_may_forget_another_while_being_told),
        TEST(test_without_a_loader_nobody_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
