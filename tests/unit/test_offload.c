/* The offload pool: which of done() and drop() runs, where, and when. Run it under TSan as well. */
#include "gateway/core/offload.h"

#include "gateway/core/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* A door the pool's threads wait at. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool open;
    unsigned arrived;
} door = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

struct task {
    struct op *op;
    pthread_t worked_on;
    unsigned worked, done, dropped;
    unsigned place; /* in the order of their ends, from 1 */
    bool waits;
    struct task *cancels; /* done() cancels this one */
    struct task *starts;  /* done() starts this one */
};

static pthread_t loop_thread;
static unsigned ended;

static void door_move(bool open)
{
    pthread_mutex_lock(&door.lock);
    door.open = open;
    pthread_cond_broadcast(&door.moved);
    pthread_mutex_unlock(&door.lock);
}

static void door_wait_for(unsigned threads)
{
    pthread_mutex_lock(&door.lock);
    while (door.arrived < threads)
        pthread_cond_wait(&door.moved, &door.lock);
    pthread_mutex_unlock(&door.lock);
}

static void door_pass(void)
{
    pthread_mutex_lock(&door.lock);
    door.arrived++;
    pthread_cond_broadcast(&door.moved);
    while (!door.open)
        pthread_cond_wait(&door.moved, &door.lock);
    pthread_mutex_unlock(&door.lock);
}

static void work(void *arg)
{
    struct task *t = arg;

    if (t->waits)
        door_pass();
    t->worked_on = pthread_self();
    t->worked++;
}

static void drop(void *arg);
static void done(void *arg);

static void start(struct task *t)
{
    t->op = offload_run(work, done, drop, t);
    assert_non_null(t->op);
}

static void done(void *arg)
{
    struct task *t = arg;

    assert_true(pthread_equal(pthread_self(), loop_thread));
    t->op = NULL;
    t->done++;
    t->place = ++ended;
    if (t->cancels)
        op_cancel(&t->cancels->op);
    if (t->starts)
        start(t->starts);
}

static void drop(void *arg)
{
    struct task *t = arg;

    assert_true(pthread_equal(pthread_self(), loop_thread));
    t->dropped++;
    ended++;
}

static void turns_until_ended(unsigned wanted)
{
    while (ended < wanted)
        loop_turn();
}

static int setup_pool(unsigned threads, unsigned queued)
{
    loop_thread = pthread_self();
    ended = 0;
    door.open = false;
    door.arrived = 0;
    assert_int_equal(loop_init(), GW_OK);
    assert_int_equal(offload_init(threads, queued), GW_OK);
    return 0;
}

static int setup(void **state)
{
    return setup_pool(1, 4);
}

static int setup_many(void **state)
{
    return setup_pool(4, 64);
}

static int teardown(void **state)
{
    door_move(true);
    offload_deinit();
    loop_deinit();
    return 0;
}

static void test_work_runs_on_a_thread_and_done_on_the_loop(void **state)
{
    struct task t = {0};

    start(&t);
    assert_int_equal(t.done, 0);
    turns_until_ended(1);
    assert_int_equal(t.worked, 1);
    assert_int_equal(t.done, 1);
    assert_int_equal(t.dropped, 0);
    assert_false(pthread_equal(t.worked_on, loop_thread));
}

static void test_a_job_cancelled_while_waiting_is_never_worked_on(void **state)
{
    struct task busy = {.waits = true}, t = {0};

    start(&busy);
    door_wait_for(1);
    start(&t);
    assert_int_equal(offload_queued(), 1);
    op_cancel(&t.op);
    assert_null(t.op);
    assert_int_equal(t.dropped, 0); /* not inside op_cancel() */
    assert_int_equal(offload_queued(), 0);
    loop_turn();
    assert_int_equal(t.dropped, 1);
    door_move(true);
    turns_until_ended(2);
    assert_int_equal(t.worked, 0);
    assert_int_equal(t.done, 0);
    assert_int_equal(busy.done, 1);
}

static void test_a_job_cancelled_while_running_is_dropped_when_its_thread_is_through(void **state)
{
    struct task t = {.waits = true};

    start(&t);
    door_wait_for(1);
    op_cancel(&t.op);
    assert_int_equal(t.dropped, 0);
    door_move(true);
    turns_until_ended(1);
    assert_int_equal(t.worked, 1);
    assert_int_equal(t.dropped, 1);
    assert_int_equal(t.done, 0);
}

static void test_done_may_cancel_a_job_that_has_finished_too(void **state)
{
    struct task gate = {.waits = true}, second = {0}, first = {.cancels = &second};

    start(&gate);
    door_wait_for(1);
    start(&first);
    start(&second);
    door_move(true);
    turns_until_ended(3);
    assert_int_equal(first.done, 1);
    assert_int_equal(second.done, 0);
    assert_int_equal(second.dropped, 1);
}

static void test_done_may_start_the_next_job(void **state)
{
    struct task second = {0}, first = {.starts = &second};

    start(&first);
    turns_until_ended(2);
    assert_int_equal(first.done, 1);
    assert_int_equal(second.done, 1);
}

static void test_a_full_queue_takes_nothing_over(void **state)
{
    struct task busy = {.waits = true}, waiting[4] = {{0}}, refused = {0};

    start(&busy);
    door_wait_for(1);
    for (unsigned i = 0; i < 4; i++)
        start(&waiting[i]);
    assert_int_equal(offload_queued(), 4);
    assert_null(offload_run(work, done, drop, &refused));
    door_move(true);
    turns_until_ended(5);
    assert_int_equal(refused.worked + refused.done + refused.dropped, 0);
    start(&refused); /* there is room again */
    turns_until_ended(6);
    assert_int_equal(refused.done, 1);
}

static void start_long(struct task *t)
{
    t->op = offload_run_long(work, done, drop, t);
    assert_non_null(t->op);
}

/* A storm of long jobs must not be felt by the others. */
static void test_long_jobs_leave_a_thread_to_short_ones(void **state)
{
    struct task slow[8] = {{0}}, quick = {0};

    for (unsigned i = 0; i < 8; i++) {
        slow[i].waits = true;
        start_long(&slow[i]);
    }
    door_wait_for(3); /* of four threads */
    start(&quick);
    turns_until_ended(1);
    assert_int_equal(quick.done, 1);
    assert_int_equal(offload_queued(), 5);
    op_cancel(&slow[7].op);
    assert_int_equal(offload_queued(), 4);
    door_move(true);
    turns_until_ended(9);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(slow[i].done + slow[i].dropped, 1);
}

static void test_short_jobs_overtake_long_ones_on_the_only_thread(void **state)
{
    struct task busy = {.waits = true}, slow = {.waits = true}, quick = {0};

    start_long(&busy);
    door_wait_for(1);
    start_long(&slow);
    start(&quick);
    door_move(true);
    turns_until_ended(3);
    assert_int_equal(busy.place, 1);
    assert_int_equal(quick.place, 2);
    assert_int_equal(slow.place, 3);
}

static void test_few_long_jobs_wait_and_short_ones_still_may(void **state)
{
    struct task busy = {.waits = true}, waiting[4] = {{0}}, refused = {0}, quick = {0};

    start_long(&busy);
    door_wait_for(1);
    for (unsigned i = 0; i < 4; i++)
        start_long(&waiting[i]);
    assert_null(offload_run_long(work, done, drop, &refused));
    start(&quick);
    door_move(true);
    offload_deinit();
    assert_int_equal(quick.done + quick.dropped, 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(waiting[i].done + waiting[i].dropped, 1);
    assert_int_equal(refused.worked + refused.done + refused.dropped, 0);
}

static void test_the_end_of_the_pool_waits_for_running_jobs_and_drops_the_rest(void **state)
{
    struct task running = {.waits = true}, waiting = {0}, cancelled = {0};

    start(&running);
    door_wait_for(1);
    start(&waiting);
    start(&cancelled);
    op_cancel(&cancelled.op);
    door_move(true);
    offload_deinit();
    assert_int_equal(running.worked, 1);
    assert_int_equal(running.dropped + waiting.dropped + cancelled.dropped, 3);
    assert_int_equal(running.done + waiting.done + cancelled.done, 0);
    assert_int_equal(cancelled.worked, 0);
    assert_null(offload_run(work, done, drop, &waiting));
}

#define TASKS 3000u

static void test_of_thousands_of_jobs_each_ends_exactly_once(void **state)
{
    struct task *tasks = calloc(TASKS, sizeof(*tasks));
    unsigned started = 0, lost = 0;

    assert_non_null(tasks);
    while (ended < TASKS) {
        while (started < TASKS && offload_queued() < 32) {
            struct task *t = &tasks[started++];

            start(t);
            if (started % 3 == 0)
                op_cancel(&t->op);
            if (started % 7 == 0 && tasks[started / 2].op)
                op_cancel(&tasks[started / 2].op);
        }
        loop_turn();
    }
    for (unsigned i = 0; i < TASKS; i++)
        if (tasks[i].done + tasks[i].dropped != 1 || (tasks[i].done && !tasks[i].worked))
            lost++;
    assert_int_equal(lost, 0);
    assert_int_equal(ended, TASKS);
    free(tasks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_work_runs_on_a_thread_and_done_on_the_loop, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_job_cancelled_while_waiting_is_never_worked_on,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_job_cancelled_while_running_is_dropped_when_its_thread_is_through, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_done_may_cancel_a_job_that_has_finished_too, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_done_may_start_the_next_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_queue_takes_nothing_over, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_the_end_of_the_pool_waits_for_running_jobs_and_drops_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_jobs_leave_a_thread_to_short_ones, setup_many,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_short_jobs_overtake_long_ones_on_the_only_thread,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_few_long_jobs_wait_and_short_ones_still_may, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_of_thousands_of_jobs_each_ends_exactly_once,
                                        setup_many, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
