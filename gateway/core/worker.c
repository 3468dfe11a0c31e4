/*
 * worker.c - see worker.h.
 *
 *     RUNNING --died--> WAITING (for its pause) --> RUNNING
 *
 * One thread, no handlers: the signals are blocked and taken by sigtimedwait(), whose timeout is
 * the nearest start that is due. SIGCHLD tells only that something ended; waitpid() is asked until
 * it has no more, so merged signals lose nothing.
 */
#include "gateway/core/worker.h"

#include "gateway/core/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHORT_LIFE_US 1000000u
#define PAUSE_FIRST_US 100000u
#define PAUSE_MAX_US 5000000u
#define LONGEST_WAIT_US 60000000u
#define FORK_AGAIN_US 1000000u /* when fork() itself fails */

struct child {
    pid_t pid;           /* 0 = not running */
    uint64_t started_us; /* of the present or last life */
    uint64_t start_us;   /* when to start it, if not running */
    uint64_t pause_us;   /* what the last start waited */
    bool replaced;       /* this is not its first life */
    bool ended;          /* not to be started any more */
};

struct supervisor {
    struct child *children; /* owned */
    unsigned n;
    int (*run)(unsigned worker, void *arg);
    void (*on_restart)(void *arg);
    void *arg;
    sigset_t signals, old_signals; /* taken by us; mask to restore at the end */
    pid_t pid;                     /* our own */
    unsigned stops;                /* SIGTERM and SIGINT so far */
    int status;
};

/* --- pure: when to start again -------------------------------------------------------------- */

/* The pause before a worker that lived so long is started again; last_us is the pause before. */
static uint64_t next_pause_us(uint64_t lived_us, uint64_t last_us, bool replaced)
{
    if (lived_us >= SHORT_LIFE_US || !replaced)
        return 0;
    if (!last_us)
        return PAUSE_FIRST_US;
    return last_us < PAUSE_MAX_US / 2 ? last_us * 2 : PAUSE_MAX_US;
}

/* --- children ------------------------------------------------------------------------------- */

static pid_t supervisor_pid;

int worker_supervisor(void)
{
    return supervisor_pid;
}

/* Never returns. */
static void be_worker(const struct supervisor *s, unsigned number)
{
    sigset_t chld;
    int (*run)(unsigned worker, void *arg) = s->run;
    void *arg = s->arg;
    pid_t parent = s->pid;

    setpgid(0, 0); /* Ctrl-C reaches the supervisor alone, which passes it on once */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1); /* it died before we could ask to be told */
    supervisor_pid = parent;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &chld, NULL);
    free(s->children);
    exit(run(number, arg));
}

static void start_child(struct supervisor *s, unsigned number)
{
    struct child *c = &s->children[number];
    pid_t pid = fork();

    if (pid == 0)
        be_worker(s, number);
    if (pid < 0) {
        c->start_us = loop_clock_us() + FORK_AGAIN_US;
        return;
    }
    c->pid = pid;
    c->started_us = loop_clock_us();
}

/* Starts who is due; returns microseconds until the next one is, or UINT64_MAX. */
static uint64_t start_due(struct supervisor *s)
{
    uint64_t now = loop_clock_us(), wait_us = UINT64_MAX;

    for (unsigned i = 0; i < s->n; i++) {
        struct child *c = &s->children[i];

        if (c->pid || c->ended)
            continue;
        if (c->start_us <= now)
            start_child(s, i);
        if (!c->pid && c->start_us > now && c->start_us - now < wait_us)
            wait_us = c->start_us - now;
    }
    return wait_us;
}

static void kill_all(const struct supervisor *s, int signo)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->children[i].pid)
            kill(s->children[i].pid, signo);
}

static void stop(struct supervisor *s, int signo)
{
    kill_all(s, s->stops ? SIGKILL : signo);
    s->stops++;
    for (unsigned i = 0; i < s->n; i++)
        if (!s->children[i].pid)
            s->children[i].ended = true;
}

static void child_ended(struct supervisor *s, struct child *c, int wstatus)
{
    uint64_t now = loop_clock_us();
    bool clean = WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0;

    c->pid = 0;
    if (s->stops) {
        c->ended = true;
        if (!clean && !s->status)
            s->status = 1;
    } else if (WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == WORKER_EXIT_CONFIG && !c->replaced) {
        s->status = WORKER_EXIT_CONFIG;
        c->ended = true;
        stop(s, SIGTERM);
    } else {
        c->pause_us = next_pause_us(now - c->started_us, c->pause_us, c->replaced);
        c->start_us = now + c->pause_us;
        c->replaced = true;
        if (s->on_restart)
            s->on_restart(s->arg);
    }
}

/* All that ended, ours and strangers (as process 1 we inherit them). */
static void reap(struct supervisor *s)
{
    int wstatus;
    pid_t pid;

    while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0)
        for (unsigned i = 0; i < s->n; i++)
            if (s->children[i].pid == pid)
                child_ended(s, &s->children[i], wstatus);
}

static bool all_ended(const struct supervisor *s)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!s->children[i].ended)
            return false;
    return true;
}

/* --- signals -------------------------------------------------------------------------------- */

static void block_signals(struct supervisor *s)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD};

    signal(SIGCHLD, SIG_DFL); /* inherited as ignored, nobody would be left to wait for */
    sigemptyset(&s->signals);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaddset(&s->signals, signals[i]);
    pthread_sigmask(SIG_BLOCK, &s->signals, &s->old_signals);
}

static void take_signal(struct supervisor *s, uint64_t wait_us)
{
    struct timespec ts = {(time_t)(wait_us / 1000000u), (long)(wait_us % 1000000u) * 1000};
    int signo = sigtimedwait(&s->signals, NULL, &ts);

    if (signo == SIGTERM || signo == SIGINT)
        stop(s, signo);
    else if (signo == SIGHUP || signo == SIGUSR1)
        kill_all(s, signo);
}

static int supervise(struct supervisor *s)
{
    uint64_t wait_us;

    while (!all_ended(s)) {
        wait_us = start_due(s);
        take_signal(s, wait_us < LONGEST_WAIT_US ? wait_us : LONGEST_WAIT_US);
        reap(s);
    }
    return s->status;
}

int worker_supervise(unsigned n, int (*run)(unsigned worker, void *arg),
                     void (*on_restart)(void *arg), void *arg)
{
    struct supervisor s = {
        .n = n, .run = run, .on_restart = on_restart, .arg = arg, .pid = getpid()};

    assert(n);
    if (n == 1 && s.pid != 1)
        return run(0, arg);
    s.children = calloc(n, sizeof(*s.children));
    if (!s.children)
        return 1;
    block_signals(&s);
    s.status = supervise(&s);
    pthread_sigmask(SIG_SETMASK, &s.old_signals, NULL);
    free(s.children);
    return s.status;
}
