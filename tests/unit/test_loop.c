/* The reactor: the file under test is included, to reach the watchdog's pure step. */
#include "gateway/core/loop.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000u

struct probe {
    struct loop_timer timer;
    struct loop_deferred deferred;
    unsigned calls, deferred_calls;
    uint64_t due, first_now, later_now, clock;
};

static int setup(void **state)
{
    assert_int_equal(loop_init(), GW_OK);
    *state = calloc(1, sizeof(struct probe));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct probe *p = *state;

    loop_timer_stop(&p->timer);
    loop_undefer(&p->deferred);
    loop_deinit();
    free(p);
    return 0;
}

static void on_due(void *arg)
{
    struct probe *p = arg;

    p->calls++;
    p->first_now = loop_now_us();
    while (loop_clock_us() == p->first_now)
        ; /* until the real clock has moved on */
    p->later_now = loop_now_us();
    p->clock = loop_clock_us();
}

static void turns_until(const unsigned *calls, unsigned wanted)
{
    while (*calls < wanted)
        loop_turn();
}

static void test_the_clock_stands_still_within_a_turn(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, on_due, p);
    loop_timer_set(&p->timer, loop_now_us());
    turns_until(&p->calls, 1);
    assert_int_equal(p->first_now, p->later_now);
    assert_true(p->clock > p->later_now);
    assert_true(loop_now_us() >= p->clock);
    assert_false(loop_in_turn());
}

static void on_due_check(void *arg)
{
    struct probe *p = arg;

    p->calls++;
    assert_true(loop_now_us() >= p->due);
    assert_true(loop_clock_us() >= p->due);
    p->due = loop_now_us() + 300 + p->calls * 531;
    if (p->calls < 20)
        loop_timer_set(&p->timer, p->due);
}

static void test_a_timer_never_fires_early(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, on_due_check, p);
    p->due = loop_now_us() + 3 * MS + 1;
    loop_timer_set(&p->timer, p->due);
    turns_until(&p->calls, 20);
}

static void test_moving_a_timer_later_only_stores_and_earlier_arms_again(void **state)
{
    struct probe *p = *state;
    uint64_t now = loop_now_us(), armed;

    loop_timer_init(&p->timer, on_due_check, p);
    loop_timer_set(&p->timer, now + 5 * MS);
    armed = p->timer.armed_us;
    p->due = now + 12 * MS;
    loop_timer_set(&p->timer, p->due);
    assert_int_equal(p->timer.armed_us, armed);
    p->calls = 19; /* do not set it again */
    turns_until(&p->calls, 20);

    loop_timer_set(&p->timer, loop_now_us() + 3600 * 1000000ull);
    armed = p->timer.armed_us;
    p->due = loop_now_us() + MS;
    loop_timer_set(&p->timer, p->due);
    assert_true(p->timer.armed_us < armed);
    turns_until(&p->calls, 21);
}

static void test_a_time_that_has_passed_fires_in_the_next_turn(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, on_due, p);
    loop_timer_set(&p->timer, 0);
    loop_turn();
    assert_int_equal(p->calls, 1);
}

static void count_call(void *arg)
{
    (*(unsigned *)arg)++;
}

static void test_a_cleared_or_stopped_timer_does_not_fire(void **state)
{
    struct probe *p = *state;
    struct loop_timer stopped = {0};
    unsigned wrong = 0;

    loop_timer_stop(&stopped); /* fine when never set */
    loop_timer_init(&stopped, count_call, &wrong);
    loop_timer_set(&stopped, loop_now_us());
    loop_timer_stop(&stopped);
    loop_timer_stop(&stopped);
    assert_int_equal(stopped.due_us, 0);

    loop_timer_init(&p->timer, count_call, &wrong);
    loop_timer_set(&p->timer, loop_now_us());
    loop_timer_clear(&p->timer);
    loop_turn();
    assert_int_equal(wrong, 0);

    loop_timer_set(&p->timer, loop_now_us()); /* usable again */
    turns_until(&wrong, 1);
}

struct owner {
    struct loop_timer timer;
    struct loop_deferred deferred;
    unsigned *gone;
};

static void on_owner_end(void *arg)
{
    struct owner *o = arg;

    loop_timer_stop(&o->timer);
    (*o->gone)++;
    free(o);
}

static void test_a_timer_may_free_its_owner(void **state)
{
    struct owner *o = calloc(1, sizeof(*o));
    unsigned gone = 0;

    o->gone = &gone;
    loop_timer_init(&o->timer, on_owner_end, o);
    loop_timer_set(&o->timer, loop_now_us() + MS);
    turns_until(&gone, 1);
}

static void test_far_deadlines_are_waited_for_in_pieces(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, on_due, p);
    loop_timer_set(&p->timer, UINT64_MAX);
    assert_true(p->timer.armed_us < UINT64_MAX);
    on_timer(-1, EV_TIMEOUT, &p->timer); /* as when the first piece is over */
    assert_int_equal(p->calls, 0);
    assert_int_equal(p->timer.due_us, UINT64_MAX);
    assert_true(p->timer.armed_us != 0);
}

/* --- deferred calls ------------------------------------------------------------------------- */

static void note_deferred(void *arg)
{
    struct probe *p = arg;

    assert_true(loop_in_turn());
    p->deferred_calls++;
}

static void defer_twice(void *arg)
{
    struct probe *p = arg;

    p->calls++;
    loop_defer(&p->deferred, note_deferred, p);
    loop_defer(&p->deferred, note_deferred, p);
    assert_int_equal(p->deferred_calls, 0);
}

static void test_a_deferred_call_runs_once_after_the_callbacks(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, defer_twice, p);
    loop_timer_set(&p->timer, loop_now_us());
    turns_until(&p->calls, 1);
    assert_int_equal(p->deferred_calls, 1);
}

static void test_a_turn_with_deferred_work_does_not_wait(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, on_due, p);
    loop_timer_set(&p->timer, loop_now_us() + 3600 * 1000000ull); /* a waiting turn would hang */
    loop_defer(&p->deferred, note_deferred, p);
    loop_turn();
    assert_int_equal(p->deferred_calls, 1);
    assert_int_equal(p->calls, 0);
}

static void test_a_deferred_call_taken_back_does_not_run(void **state)
{
    struct probe *p = *state;
    struct loop_deferred other = {0};
    unsigned n = 0;

    loop_undefer(&p->deferred); /* fine when not queued */
    loop_defer(&p->deferred, note_deferred, p);
    loop_defer(&other, count_call, &n);
    loop_undefer(&p->deferred);
    loop_turn();
    assert_int_equal(p->deferred_calls, 0);
    assert_int_equal(n, 1);
}

static void test_a_deferred_call_may_free_its_owner(void **state)
{
    struct owner *o = calloc(1, sizeof(*o));
    unsigned gone = 0;

    o->gone = &gone;
    loop_defer(&o->deferred, on_owner_end, o);
    loop_turn();
    assert_int_equal(gone, 1);
}

static void defer_again(void *arg)
{
    struct probe *p = arg;

    p->deferred_calls++;
    loop_defer(&p->deferred, defer_again, p);
}

static void test_endless_deferring_cannot_hold_a_turn(void **state)
{
    struct probe *p = *state;

    loop_defer(&p->deferred, defer_again, p);
    loop_turn();
    assert_int_equal(p->deferred_calls, DEFER_ROUNDS);
    loop_turn();
    assert_int_equal(p->deferred_calls, 2 * DEFER_ROUNDS);
}

static void stop_and_defer(void *arg)
{
    struct probe *p = arg;

    loop_stop();
    loop_defer(&p->deferred, note_deferred, p);
}

static void test_deferred_calls_run_before_loop_run_returns(void **state)
{
    struct probe *p = *state;

    loop_timer_init(&p->timer, stop_and_defer, p);
    loop_timer_set(&p->timer, loop_now_us());
    loop_run();
    assert_int_equal(p->deferred_calls, 1);
}

/* --- hooks and signals ---------------------------------------------------------------------- */

struct hooked {
    unsigned calls;
    uint64_t turn_us;
    const char *place;
    unsigned deferred_before;
    const struct probe *p;
};

static void on_turn_end(uint64_t turn_us, const char *place, void *arg)
{
    struct hooked *h = arg;

    h->calls++;
    h->turn_us = turn_us;
    h->place = place;
    h->deferred_before = h->p->deferred_calls;
}

static void place_and_defer(void *arg)
{
    loop_place("first");
    loop_place("second");
    on_due(arg); /* lets at least a microsecond pass */
    defer_twice(arg);
}

static void test_hooks_see_the_turn_after_its_deferred_calls(void **state)
{
    struct probe *p = *state;
    struct hooked h = {.p = p};

    loop_after_turn(on_turn_end, &h);
    loop_after_turn(on_turn_end, &h); /* counts once */
    loop_timer_init(&p->timer, place_and_defer, p);
    loop_timer_set(&p->timer, loop_now_us());
    loop_turn();
    assert_int_equal(h.calls, 1);
    assert_string_equal(h.place, "second");
    assert_true(h.turn_us > 0);
    assert_int_equal(h.deferred_before, 1);
    loop_defer(&p->deferred, note_deferred, p);
    loop_turn();
    assert_string_equal(h.place, "");
}

static void on_usr1(int signo, void *arg)
{
    assert_int_equal(signo, SIGUSR1);
    (*(unsigned *)arg)++;
    loop_stop();
}

static void test_a_signal_sent_before_the_loop_runs_is_not_lost(void **state)
{
    unsigned got = 0;

    loop_block_signals();
    assert_int_equal(kill(getpid(), SIGUSR1), 0); /* would kill us if it were not blocked */
    loop_on_signal(SIGUSR1, on_usr1, &got);
    loop_run();
    assert_int_equal(got, 1);
}

static void test_the_loop_does_not_die_of_a_closed_pipe(void **state)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    assert_int_equal(write(fds[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(fds[1]);
}

/* --- watchdog ------------------------------------------------------------------------------- */

static unsigned stalls;
static uint64_t stall_us;
static int stall_pipe[2];

static void note_stall(uint64_t us, const char *place)
{
    stalls++;
    stall_us = us;
}

/* The numbers a look sees, without the thread. */
static void look_setup(uint64_t warn_us, uint64_t abort_us)
{
    stalls = 0;
    dog.warn_us = warn_us;
    dog.abort_us = abort_us;
    dog.on_stall = note_stall;
}

static void test_a_long_turn_is_reported_once(void **state)
{
    struct watch w = {.last_us = 1000};

    look_setup(400, 0);
    turn_start_us = 1000;
    for (uint64_t now = 1100; now <= 1300; now += 100)
        assert_false(watch_look(&w, now, 100));
    assert_int_equal(stalls, 0);
    for (uint64_t now = 1400; now <= 9000; now += 100)
        assert_false(watch_look(&w, now, 100));
    assert_int_equal(stalls, 1);
    assert_int_equal(stall_us, 400);
    turn_start_us = 9100; /* another turn, another report */
    for (uint64_t now = 9100; now <= 9600; now += 100)
        assert_false(watch_look(&w, now, 100));
    assert_int_equal(stalls, 2);
    turn_start_us = 0;
}

static void test_time_in_which_the_process_was_stopped_does_not_count(void **state)
{
    struct watch w = {.last_us = 900};

    look_setup(400, 1000);
    turn_start_us = 950;
    assert_false(watch_look(&w, 1000, 100));
    assert_false(watch_look(&w, 50000, 100)); /* SIGSTOP, SIGCONT */
    assert_int_equal(stalls, 0);
    turn_start_us = 60000; /* and when the turn began just before the stop */
    assert_false(watch_look(&w, 90000, 100));
    assert_int_equal(stalls, 0);
    turn_start_us = 0;
}

static void test_past_the_limit_the_process_has_to_go(void **state)
{
    struct watch w = {.last_us = 1000};
    uint64_t now = 1000;

    look_setup(400, 1000);
    turn_start_us = 1000;
    while (!watch_look(&w, now, 100))
        now += 100;
    assert_int_equal(now, 2000);
    assert_int_equal(stalls, 2);
    assert_int_equal(stall_us, 1000);
    turn_start_us = 0;
}

static void write_stall(uint64_t us, const char *place)
{
    if (write(stall_pipe[1], place, strlen(place)) < 0)
        abort();
}

/* Stalls until the watchdog has spoken (or for ever, to be aborted). */
static void stall(void *arg)
{
    bool *for_ever = arg;
    char c;

    loop_place("deep thought");
    if (read(stall_pipe[0], &c, 1) != 1 || *for_ever)
        for (;;)
            pause();
    loop_stop();
}

static void stall_in_child(bool for_ever)
{
    struct loop_timer t = {0};

    if (loop_init() || loop_watchdog_start(2000, for_ever ? 20000 : 0, write_stall))
        _exit(3);
    loop_timer_init(&t, stall, &for_ever);
    loop_timer_set(&t, 1);
    alarm(60); /* an upper bound only */
    loop_run();
    loop_timer_stop(&t);
    loop_deinit();
    _exit(0);
}

static int stalled_child(bool for_ever, char *ret_place, size_t n)
{
    int wstatus;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(stall_pipe), 0);
    pid = fork();
    if (pid == 0)
        stall_in_child(for_ever);
    assert_int_equal(waitpid(pid, &wstatus, 0), pid);
    close(stall_pipe[1]);
    got = read(stall_pipe[0], ret_place, n - 1);
    ret_place[got > 0 ? got : 0] = '\0';
    close(stall_pipe[0]);
    return wstatus;
}

static void test_check_100_a_stalled_turn_is_reported_with_its_place(void **state)
{
    char place[64];
    int wstatus = stalled_child(false, place, sizeof(place));

    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), 0);
    assert_string_equal(place, "eep thought"); /* the stalled turn read the first letter */
}

static void test_check_100_past_the_limit_the_process_aborts(void **state)
{
    char place[64];
    int wstatus = stalled_child(true, place, sizeof(place));

    assert_true(WIFSIGNALED(wstatus));
    assert_int_equal(WTERMSIG(wstatus), SIGABRT);
    assert_string_equal(place, "eep thoughtdeep thought"); /* and once more before it went */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_clock_stands_still_within_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_timer_never_fires_early, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_moving_a_timer_later_only_stores_and_earlier_arms_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_time_that_has_passed_fires_in_the_next_turn, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_cleared_or_stopped_timer_does_not_fire, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_timer_may_free_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_deadlines_are_waited_for_in_pieces, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_deferred_call_runs_once_after_the_callbacks, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_turn_with_deferred_work_does_not_wait, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_deferred_call_taken_back_does_not_run, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_deferred_call_may_free_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endless_deferring_cannot_hold_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deferred_calls_run_before_loop_run_returns, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_hooks_see_the_turn_after_its_deferred_calls, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_signal_sent_before_the_loop_runs_is_not_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_loop_does_not_die_of_a_closed_pipe, setup,
                                        teardown),
        cmocka_unit_test(test_a_long_turn_is_reported_once),
        cmocka_unit_test(test_time_in_which_the_process_was_stopped_does_not_count),
        cmocka_unit_test(test_past_the_limit_the_process_has_to_go),
        cmocka_unit_test(test_check_100_a_stalled_turn_is_reported_with_its_place),
        cmocka_unit_test(test_check_100_past_the_limit_the_process_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
