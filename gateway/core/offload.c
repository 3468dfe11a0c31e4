/*
 * offload.c - see offload.h.
 *
 *     WAITING --thread takes it--> RUNNING --work() returned--> FINISHED --loop--> done() or drop()
 *        '------------------------ cancelled: loop_defer -----------------------> drop()
 *
 * A job is in exactly one place: the waiting list, a thread, the finished list, or the loop's
 * hands. `state` and the lists are guarded by `lock`; `cancelled` belongs to the loop's thread
 * alone. The threads wake the loop through an eventfd, so libevent itself needs no locks.
 *
 * Long jobs wait in a lane of their own. They are taken when no short one waits, and never by the
 * last thread: so a storm of logins holds up no write to disk and no look-up of a name for longer
 * than one job takes, and with two threads or more not at all.
 */
#include "gateway/core/offload.h"

#include "gateway/core/loop.h"

#include <event2/event.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_THREADS 8u

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_FINISHED };
enum job_length { JOB_SHORT, JOB_LONG, JOB_LENGTHS };

struct job {
    struct op op; /* first: what the caller holds */
    TAILQ_ENTRY(job) link;
    enum job_state state;
    enum job_length length;
    bool cancelled;
    struct loop_deferred deferred; /* carries a cancelled waiting job to its drop() */
    void (*work)(void *);
    void (*done)(void *);
    void (*drop)(void *);
    void *arg;
};

TAILQ_HEAD(job_list, job);

struct lane {
    struct job_list waiting;
    unsigned n, max; /* waiting */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* something waits, or stop */
    struct lane lanes[JOB_LENGTHS];
    struct job_list finished;
    struct job_list parked;    /* cancelled while waiting, drop() deferred; loop's thread only */
    unsigned n_long, max_long; /* running */
    bool stop;
    pthread_t threads[MAX_THREADS];
    unsigned n_threads;
    int fd; /* eventfd: the finished list is not empty */
    struct event *ev;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .fd = -1};

/* --- on the threads ------------------------------------------------------------------------- */

static void wake_loop(void)
{
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(pool.fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
}

/* Takes a job out of its lane; under the lock. */
static void unqueue(struct job *job)
{
    TAILQ_REMOVE(&pool.lanes[job->length].waiting, job, link);
    pool.lanes[job->length].n--;
}

/* The job a free thread may take, or NULL; under the lock. */
static struct job *next_waiting(void)
{
    struct job *job = TAILQ_FIRST(&pool.lanes[JOB_SHORT].waiting);

    if (!job && pool.n_long < pool.max_long)
        job = TAILQ_FIRST(&pool.lanes[JOB_LONG].waiting);
    return job;
}

/* Waits for a job and takes it; NULL when the pool ends. */
static struct job *take_job(void)
{
    struct job *job = NULL;

    pthread_mutex_lock(&pool.lock);
    while (!pool.stop && (job = next_waiting()) == NULL)
        pthread_cond_wait(&pool.wake, &pool.lock);
    if (job) {
        unqueue(job);
        pool.n_long += job->length == JOB_LONG;
        job->state = JOB_RUNNING;
    }
    pthread_mutex_unlock(&pool.lock);
    return job;
}

static void hand_back(struct job *job)
{
    bool first;

    pthread_mutex_lock(&pool.lock);
    first = TAILQ_EMPTY(&pool.finished);
    pool.n_long -= job->length == JOB_LONG;
    job->state = JOB_FINISHED;
    TAILQ_INSERT_TAIL(&pool.finished, job, link);
    pthread_mutex_unlock(&pool.lock);
    if (first)
        wake_loop();
}

static void *thread_main(void *arg)
{
    struct job *job;

    while ((job = take_job()) != NULL) {
        job->work(job->arg);
        hand_back(job);
    }
    return NULL;
}

/* --- on the loop ---------------------------------------------------------------------------- */

/* Ends a job: the handle is dead before the callback runs. */
static void end_job(struct job *job, bool drop)
{
    void (*fn)(void *) = drop ? job->drop : job->done;
    void *arg = job->arg;

    free(job);
    fn(arg);
}

/* One job at a time, since a callback may cancel any other, or end the pool. */
static struct job *next_finished(void)
{
    struct job *job;

    pthread_mutex_lock(&pool.lock);
    job = TAILQ_FIRST(&pool.finished);
    if (job)
        TAILQ_REMOVE(&pool.finished, job, link);
    pthread_mutex_unlock(&pool.lock);
    return job;
}

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
    struct job *job;
    uint64_t count;
    unsigned bound = pool.lanes[JOB_SHORT].max + pool.lanes[JOB_LONG].max + pool.n_threads;

    loop_place("offload");
    if (read(pool.fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
        abort(); /* an eventfd of ours cannot fail otherwise */
    for (; bound && (job = next_finished()) != NULL; bound--)
        end_job(job, job->cancelled);
    if (!bound && pool.fd >= 0)
        wake_loop(); /* enough for one turn */
}

static void drop_parked(void *arg)
{
    struct job *job = arg;

    TAILQ_REMOVE(&pool.parked, job, link);
    end_job(job, true);
}

static void cancel_job(struct op *op)
{
    struct job *job = (struct job *)op;
    bool was_waiting;

    assert(!job->cancelled);
    job->cancelled = true;
    pthread_mutex_lock(&pool.lock);
    was_waiting = job->state == JOB_WAITING;
    if (was_waiting)
        unqueue(job);
    pthread_mutex_unlock(&pool.lock);
    if (was_waiting) {
        TAILQ_INSERT_TAIL(&pool.parked, job, link);
        loop_defer(&job->deferred, drop_parked, job);
    }
}

/* Into its lane; false when that is full. */
static bool queue(struct job *job)
{
    struct lane *l = &pool.lanes[job->length];
    bool room;

    pthread_mutex_lock(&pool.lock);
    room = l->n < l->max;
    if (room) {
        TAILQ_INSERT_TAIL(&l->waiting, job, link);
        l->n++;
        pthread_cond_signal(&pool.wake);
    }
    pthread_mutex_unlock(&pool.lock);
    return room;
}

static struct op *run(enum job_length length, void (*work)(void *), void (*done)(void *),
                      void (*drop)(void *), void *arg)
{
    struct job *job = pool.n_threads ? malloc(sizeof(*job)) : NULL;

    if (!job)
        return NULL;
    *job = (struct job){.op.cancel = cancel_job,
                        .length = length,
                        .work = work,
                        .done = done,
                        .drop = drop,
                        .arg = arg};
    if (queue(job))
        return &job->op;
    free(job);
    return NULL;
}

struct op *offload_run(void (*work)(void *), void (*done)(void *), void (*drop)(void *), void *arg)
{
    return run(JOB_SHORT, work, done, drop, arg);
}

struct op *offload_run_long(void (*work)(void *), void (*done)(void *), void (*drop)(void *),
                            void *arg)
{
    return run(JOB_LONG, work, done, drop, arg);
}

unsigned offload_queued(void)
{
    unsigned n;

    pthread_mutex_lock(&pool.lock);
    n = pool.lanes[JOB_SHORT].n + pool.lanes[JOB_LONG].n;
    pthread_mutex_unlock(&pool.lock);
    return n;
}

/* --- life ----------------------------------------------------------------------------------- */

static void start_threads(unsigned n)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    while (pool.n_threads < n &&
           pthread_create(&pool.threads[pool.n_threads], NULL, thread_main, NULL) == 0)
        pool.n_threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void lane_init(struct lane *l, unsigned max)
{
    TAILQ_INIT(&l->waiting);
    l->n = 0;
    l->max = max;
}

enum gw_err offload_init(unsigned n_threads, unsigned max_queued)
{
    assert(loop_base() && !pool.ev && n_threads >= 1 && n_threads <= MAX_THREADS && max_queued);
    lane_init(&pool.lanes[JOB_SHORT], max_queued);
    lane_init(&pool.lanes[JOB_LONG], max_queued < OFFLOAD_MAX_LONG ? max_queued : OFFLOAD_MAX_LONG);
    TAILQ_INIT(&pool.finished);
    TAILQ_INIT(&pool.parked);
    pool.n_long = 0;
    pool.max_long = n_threads > 1 ? n_threads - 1 : 1;
    pool.stop = false;
    pool.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (pool.fd >= 0)
        pool.ev = event_new(loop_base(), pool.fd, EV_READ | EV_PERSIST, on_finished, NULL);
    if (pool.ev && event_add(pool.ev, NULL) == 0)
        start_threads(n_threads);
    if (pool.n_threads < n_threads) {
        offload_deinit();
        return GW_ENOMEM;
    }
    return GW_OK;
}

static bool drop_first(struct job_list *list)
{
    struct job *job = TAILQ_FIRST(list);

    if (!job)
        return false;
    TAILQ_REMOVE(list, job, link);
    if (job->state == JOB_WAITING && !job->cancelled)
        pool.lanes[job->length].n--;
    loop_undefer(&job->deferred);
    end_job(job, true);
    return true;
}

void offload_deinit(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stop = true;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    while (pool.n_threads)
        pthread_join(pool.threads[--pool.n_threads], NULL);
    if (pool.ev)
        event_free(pool.ev);
    pool.ev = NULL;
    if (pool.fd >= 0)
        close(pool.fd);
    pool.fd = -1;
    while (drop_first(&pool.finished) || drop_first(&pool.parked) ||
           drop_first(&pool.lanes[JOB_SHORT].waiting) || drop_first(&pool.lanes[JOB_LONG].waiting))
        ; /* a drop() may cancel another job, which moves it between the lists */
}
