/*
 * pg_cancel.c - stops statements at the server whose connection was given up.
 *
 * PQcancel() connects and waits, and at a frozen server it waits for ever. So it runs neither on
 * the loop nor in the offload pool (whose threads are few and are joined at the end) but on one
 * detached thread of its own, which ends when there is nothing left to cancel. What does not fit in
 * the short list is not cancelled: the server's statement_timeout ends it.
 */
#include "storage/pg_private.h"

#include <pthread.h>
#include <signal.h>

#define MAX_JOBS 32u

static struct {
    pthread_mutex_t lock;
    PGcancel *jobs[MAX_JOBS]; /* guarded by lock, as all of this */
    unsigned n;
    bool running; /* the thread exists */
} box = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* NULL ends the thread: a job that comes later starts another. */
static PGcancel *take(void)
{
    PGcancel *job = NULL;

    pthread_mutex_lock(&box.lock);
    if (box.n)
        job = box.jobs[--box.n];
    else
        box.running = false;
    pthread_mutex_unlock(&box.lock);
    return job;
}

static void *work(void *arg)
{
    PGcancel *job;
    char text[256];

    (void)arg;
    while ((job = take()) != NULL) {
        PQcancel(job, text, sizeof(text)); /* when it fails, statement_timeout remains */
        PQfreeCancel(job);
    }
    return NULL;
}

/* With all signals blocked: they belong to the loop. Called with the lock. */
static bool start_thread(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int rc;

    if (pthread_attr_init(&attr))
        return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, &attr, work, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0;
}

void pg_cancel(PGconn *pg)
{
    PGcancel *job = PQgetCancel(pg);
    bool kept = false;

    if (!job)
        return;
    pthread_mutex_lock(&box.lock);
    if (box.n < MAX_JOBS) {
        box.jobs[box.n++] = job;
        if (!box.running)
            box.running = start_thread();
        kept = box.running;
        if (!kept)
            box.n--;
    }
    pthread_mutex_unlock(&box.lock);
    if (!kept)
        PQfreeCancel(job);
}
