/*
 * The supervisor. Each test runs one in a process of its own; the workers report on a pipe, one
 * record an event, and the test waits for records, never for time.
 */
#include "gateway/core/worker.c"

#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PATIENCE_MS 60000 /* an upper bound only */

struct event_record {
    char what; /* 's'tarted, 'h'up, 'u'sr1, 't'erm, 'r'estarted (by the supervisor), 'o'rphan */
    unsigned worker;
    pid_t pid;
};

static int fds[2];

static void report(char what, unsigned worker)
{
    struct event_record e = {.what = what, .worker = worker, .pid = getpid()};

    if (write(fds[1], &e, sizeof(e)) != sizeof(e))
        _exit(99);
}

static struct event_record next_event(void)
{
    struct pollfd pfd = {.fd = fds[0], .events = POLLIN};
    struct event_record e = {0};

    assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
    assert_int_equal(read(fds[0], &e, sizeof(e)), sizeof(e));
    return e;
}

static struct event_record expect_event(char what)
{
    struct event_record e = next_event();

    assert_int_equal(e.what, what);
    return e;
}

static void note_restart(void *arg)
{
    report('r', 0);
}

/* Waits for a blocked signal, as the loop would. */
static int next_signal(void)
{
    sigset_t set;
    int signo = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigwait(&set, &signo);
    return signo;
}

static int serve_until_term(unsigned worker, void *arg)
{
    report('s', worker);
    for (;;) {
        switch (next_signal()) {
        case SIGHUP:
            report('h', worker);
            break;
        case SIGUSR1:
            report('u', worker);
            break;
        default:
            report('t', worker);
            return 0;
        }
    }
}

static int ignore_term(unsigned worker, void *arg)
{
    report('s', worker);
    for (;;)
        if (next_signal() == SIGTERM)
            report('t', worker);
    return 0;
}

static int end_badly(unsigned worker, void *arg)
{
    serve_until_term(worker, arg);
    return worker == 1 ? 7 : 0;
}

static int bad_configuration(unsigned worker, void *arg)
{
    return worker == 0 ? WORKER_EXIT_CONFIG : serve_until_term(worker, arg);
}

/* Dies four times at once, then serves. The lives are counted in shared memory. */
static int die_at_first(unsigned worker, void *arg)
{
    unsigned *lives = arg;

    if (worker == 0 && ++*lives <= 4)
        return *lives == 2 ? WORKER_EXIT_CONFIG : 1;
    return serve_until_term(worker, arg);
}

/* Leaves the supervisor a grandchild, which ends at once. */
static int leave_an_orphan(unsigned worker, void *arg)
{
    pid_t child = worker == 0 ? fork() : -1;
    pid_t middle;

    if (child == 0) {
        middle = getpid();
        if (fork() == 0) {
            while (getppid() == middle)
                sched_yield();
            report('o', 0);
            _exit(0);
        }
        _exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    return serve_until_term(worker, arg);
}

static pid_t start(unsigned n, int (*run)(unsigned, void *), void *arg)
{
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        alarm(60); /* never outlives a failed test */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        exit(worker_supervise(n, run, note_restart, arg));
    }
    close(fds[1]);
    return pid;
}

static int status_of(pid_t pid)
{
    int wstatus;

    assert_int_equal(waitpid(pid, &wstatus, 0), pid);
    assert_true(WIFEXITED(wstatus));
    return WEXITSTATUS(wstatus);
}

/* All writers of the pipe, supervisor and workers, are gone. */
static void expect_nobody_left(void)
{
    struct event_record e;
    struct pollfd pfd = {.fd = fds[0], .events = POLLIN};

    do
        assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
    while (read(fds[0], &e, sizeof(e)) > 0);
    close(fds[0]);
}

static void test_the_pause_grows_while_lives_are_short(void **state)
{
    uint64_t pause = next_pause_us(10, 0, false);

    assert_int_equal(pause, 0); /* the first time at once */
    assert_int_equal(pause = next_pause_us(10, pause, true), 100000);
    assert_int_equal(pause = next_pause_us(10, pause, true), 200000);
    assert_int_equal(pause = next_pause_us(10, pause, true), 400000);
    assert_int_equal(pause = next_pause_us(10, pause, true), 800000);
    assert_int_equal(pause = next_pause_us(10, pause, true), 1600000);
    assert_int_equal(pause = next_pause_us(10, pause, true), 3200000);
    assert_int_equal(pause = next_pause_us(10, pause, true), 5000000);
    assert_int_equal(next_pause_us(10, pause, true), 5000000);
    assert_int_equal(next_pause_us(1000000, pause, true), 0);
}

static void test_all_workers_run_and_a_stop_ends_with_zero(void **state)
{
    pid_t pid = start(3, serve_until_term, NULL);
    unsigned seen = 0;

    for (int i = 0; i < 3; i++)
        seen |= 1u << expect_event('s').worker;
    assert_int_equal(seen, 7);
    kill(pid, SIGTERM);
    for (int i = 0; i < 3; i++)
        expect_event('t');
    assert_int_equal(status_of(pid), 0);
    expect_nobody_left();
}

static void test_an_interrupt_stops_like_a_termination(void **state)
{
    pid_t pid = start(2, serve_until_term, NULL);

    expect_event('s');
    expect_event('s');
    kill(pid, SIGINT);
    expect_event('t');
    expect_event('t');
    assert_int_equal(status_of(pid), 0);
    expect_nobody_left();
}

static void test_a_killed_worker_is_replaced_under_its_number(void **state)
{
    pid_t pid = start(2, serve_until_term, NULL);
    struct event_record victim = expect_event('s'), next;

    expect_event('s');
    for (int i = 0; i < 3; i++) {
        kill(victim.pid, SIGKILL);
        expect_event('r');
        next = expect_event('s');
        assert_int_equal(next.worker, victim.worker);
        assert_int_not_equal(next.pid, victim.pid);
        victim = next;
    }
    kill(pid, SIGTERM);
    assert_int_equal(status_of(pid), 0);
    expect_nobody_left();
}

static void test_a_worker_that_dies_at_once_is_tried_again(void **state)
{
    unsigned *lives =
        mmap(NULL, sizeof(*lives), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned restarts = 0, started = 0;
    pid_t pid;

    assert_true(lives != MAP_FAILED);
    pid = start(2, die_at_first, lives);

    while (started < 2) {
        struct event_record e = next_event();

        restarts += e.what == 'r';
        started += e.what == 's';
    }
    assert_int_equal(restarts, 4); /* a later 78 is a failure like any other */
    assert_int_equal(*lives, 5);
    kill(pid, SIGTERM);
    assert_int_equal(status_of(pid), 0);
    expect_nobody_left();
}

static void test_bad_configuration_stops_all_and_is_the_status(void **state)
{
    pid_t pid = start(3, bad_configuration, NULL);

    assert_int_equal(status_of(pid), WORKER_EXIT_CONFIG);
    expect_nobody_left();
}

static void test_a_worker_that_ends_badly_shows_in_the_status(void **state)
{
    pid_t pid = start(2, end_badly, NULL);

    expect_event('s');
    expect_event('s');
    kill(pid, SIGTERM);
    assert_int_equal(status_of(pid), 1);
    expect_nobody_left();
}

static void test_hup_and_usr1_are_passed_on(void **state)
{
    pid_t pid = start(2, serve_until_term, NULL);

    expect_event('s');
    expect_event('s');
    kill(pid, SIGHUP);
    expect_event('h');
    expect_event('h');
    kill(pid, SIGUSR1);
    expect_event('u');
    expect_event('u');
    kill(pid, SIGTERM);
    assert_int_equal(status_of(pid), 0);
    expect_nobody_left();
}

static void test_a_second_termination_kills(void **state)
{
    pid_t pid = start(2, ignore_term, NULL);

    expect_event('s');
    expect_event('s');
    kill(pid, SIGTERM);
    expect_event('t');
    expect_event('t');
    kill(pid, SIGTERM);
    assert_int_equal(status_of(pid), 1);
    expect_nobody_left();
}

static void test_strangers_are_reaped(void **state)
{
    pid_t pid = start(2, leave_an_orphan, NULL);
    pid_t orphan = 0;

    for (int i = 0; i < 3; i++) {
        struct event_record e = next_event();

        if (e.what == 'o')
            orphan = e.pid;
    }
    assert_true(orphan > 0);
    while (kill(orphan, 0) == 0) /* a zombie still answers */
        sched_yield();
    assert_int_equal(errno, ESRCH);
    kill(pid, SIGTERM);
    assert_int_equal(status_of(pid), 0);
    expect_nobody_left();
}

static void test_workers_end_with_their_supervisor(void **state)
{
    pid_t pid = start(2, serve_until_term, NULL);

    expect_event('s');
    expect_event('s');
    kill(pid, SIGKILL);
    expect_event('t');
    expect_event('t');
    waitpid(pid, NULL, 0);
    expect_nobody_left();
}

static int note_pid(unsigned worker, void *arg)
{
    *(pid_t *)arg = getpid();
    return worker == 0 ? 42 : 0;
}

static void test_one_worker_runs_in_this_process(void **state)
{
    pid_t ran_in = 0;

    assert_int_equal(worker_supervise(1, note_pid, NULL, &ran_in), 42);
    assert_int_equal(ran_in, getpid());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_pause_grows_while_lives_are_short),
        cmocka_unit_test(test_all_workers_run_and_a_stop_ends_with_zero),
        cmocka_unit_test(test_an_interrupt_stops_like_a_termination),
        cmocka_unit_test(test_a_killed_worker_is_replaced_under_its_number),
        cmocka_unit_test(test_a_worker_that_dies_at_once_is_tried_again),
        cmocka_unit_test(test_bad_configuration_stops_all_and_is_the_status),
        cmocka_unit_test(test_a_worker_that_ends_badly_shows_in_the_status),
        cmocka_unit_test(test_hup_and_usr1_are_passed_on),
        cmocka_unit_test(test_a_second_termination_kills),
        cmocka_unit_test(test_strangers_are_reaped),
        cmocka_unit_test(test_workers_end_with_their_supervisor),
        cmocka_unit_test(test_one_worker_runs_in_this_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
