/*
 * loop.c - see loop.h.
 *
 * A turn is: event_base_loop(EVLOOP_ONCE) -> deferred calls -> after-turn hooks. The turn's clock
 * is stamped lazily, because the wait for events and the callbacks are one call to libevent; the
 * same stamp, kept in an atomic, is what the watchdog thread looks at (0 = nothing is running).
 *
 * The base uses libevent's coarse clock (no timerfd per turn), which lags by up to one kernel tick,
 * so libevent may wake a timer a little early; on_timer() then arms it again for the rest.
 *
 * The epoll change list must not meet descriptors made with dup(): nobody here adds such events.
 */
#include "gateway/core/loop.h"

#include <event2/event.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_HOOKS 8
#define MAX_SIGNALS 8
#define DEFER_ROUNDS 8         /* rounds of deferred calls in one turn */
#define DEFER_LAST_ROUNDS 1000 /* when the loop ends */
#define MAX_ARM_US                                                                                 \
    3600000000ull /* longest single wait asked of libevent; then it is armed again                 \
                   */

TAILQ_HEAD(deferred_list, loop_deferred);

struct hook {
    void (*fn)(uint64_t turn_us, const char *place, void *arg);
    void *arg;
};

struct signal_watch {
    struct event *ev;
    void (*fn)(int signo, void *arg);
    void *arg;
};

struct watchdog {
    pthread_t thread;
    pthread_mutex_t lock; /* guards stop */
    pthread_cond_t wake;
    bool stop, running;
    uint64_t warn_us, abort_us;
    void (*on_stall)(uint64_t us, const char *place);
};

static struct {
    struct event_base *base;
    struct deferred_list deferred;
    size_t n_deferred;
    struct hook hooks[MAX_HOOKS];
    struct signal_watch signals[MAX_SIGNALS];
    size_t n_hooks, n_signals;
    uint64_t now_us; /* the turn's clock; 0 = not read yet in this turn */
    bool in_turn, stopped;
} loop = {.deferred = TAILQ_HEAD_INITIALIZER(loop.deferred)};

/* What the watchdog sees of the turn. */
static _Atomic uint64_t turn_start_us; /* 0 = between turns, or nothing has stamped this turn */
static _Atomic(const char *) turn_place = "";

static struct watchdog dog = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t clock_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t loop_clock_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

uint64_t loop_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

uint64_t loop_now_us(void)
{
    if (!loop.in_turn)
        return loop_clock_us();
    if (!loop.now_us) {
        loop.now_us = loop_clock_us();
        atomic_store_explicit(&turn_start_us, loop.now_us, memory_order_relaxed);
    }
    return loop.now_us;
}

void loop_place(const char *literal)
{
    if (!loop.in_turn)
        return;
    atomic_store_explicit(&turn_place, literal, memory_order_relaxed);
    (void)loop_now_us();
}

bool loop_in_turn(void)
{
    return loop.in_turn;
}

/* --- life ----------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Where memory is watched, so is what is done with events: added twice, or freed while added.
 * libevent takes this once, and only before the first base. */
static void watch_events(void)
{
    static bool done;

    if (SANITIZED && !done)
        event_enable_debug_mode();
    done = true;
}

enum gw_err loop_init(void)
{
    struct event_config *config;

    assert(!loop.base);
    watch_events();
    config = event_config_new();
    if (!config)
        return GW_ENOMEM;
    signal(SIGPIPE, SIG_IGN);
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop.base = event_base_new_with_config(config);
    event_config_free(config);
    return loop.base ? GW_OK : GW_ENOMEM;
}

void loop_deinit(void)
{
    loop_watchdog_stop();
    if (!loop.base)
        return;
    while (loop.n_signals)
        event_free(loop.signals[--loop.n_signals].ev);
    event_base_free(loop.base);
    loop.base = NULL;
    loop.n_hooks = 0;
    loop.stopped = false;
}

struct event_base *loop_base(void)
{
    return loop.base;
}

/* --- turns ---------------------------------------------------------------------------------- */

/* One round is what was queued when it began; calls made meanwhile join the next round. */
static void run_deferred(unsigned max_rounds)
{
    struct loop_deferred *d;
    size_t n;

    while (loop.n_deferred && max_rounds--) {
        (void)loop_now_us();
        for (n = loop.n_deferred; n && (d = TAILQ_FIRST(&loop.deferred)); n--) {
            loop_undefer(d);
            d->fn(d->arg);
        }
    }
}

static void end_turn(void)
{
    uint64_t start = loop.now_us;
    uint64_t turn_us = start ? loop_clock_us() - start : 0;
    const char *place = atomic_load_explicit(&turn_place, memory_order_relaxed);

    for (size_t i = 0; i < loop.n_hooks; i++)
        loop.hooks[i].fn(turn_us, place, loop.hooks[i].arg);
    loop.in_turn = false;
    loop.now_us = 0;
    atomic_store_explicit(&turn_start_us, 0, memory_order_relaxed);
    atomic_store_explicit(&turn_place, "", memory_order_relaxed);
}

static void run_turn(int flags)
{
    int rc;

    assert(loop.base && !loop.in_turn);
    loop.in_turn = true;
    if (loop.n_deferred)
        flags = (flags & ~EVLOOP_ONCE) | EVLOOP_NONBLOCK;
    rc = event_base_loop(loop.base, flags);
    assert(rc >= 0); /* epoll itself failed: nothing can go on */
    (void)rc;
    run_deferred(DEFER_ROUNDS);
    end_turn();
}

void loop_turn(void)
{
    run_turn(EVLOOP_ONCE);
}

static void waiting_signals(sigset_t *ret)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

    sigemptyset(ret);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaddset(ret, signals[i]);
}

void loop_run(void)
{
    sigset_t set;

    waiting_signals(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    while (!loop.stopped)
        run_turn(EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    loop.stopped = false;
    run_deferred(DEFER_LAST_ROUNDS);
}

void loop_stop(void)
{
    loop.stopped = true;
}

/* --- deferred calls ------------------------------------------------------------------------- */

void loop_defer(struct loop_deferred *d, void (*fn)(void *), void *arg)
{
    d->fn = fn;
    d->arg = arg;
    if (d->queued)
        return;
    (void)loop_now_us();
    d->queued = true;
    TAILQ_INSERT_TAIL(&loop.deferred, d, link);
    loop.n_deferred++;
}

void loop_undefer(struct loop_deferred *d)
{
    if (!d->queued)
        return;
    d->queued = false;
    TAILQ_REMOVE(&loop.deferred, d, link);
    loop.n_deferred--;
}

/* --- timers --------------------------------------------------------------------------------- */

static void on_timer(evutil_socket_t fd, short what, void *arg);

static void timer_arm(struct loop_timer *t)
{
    uint64_t now = loop_now_us();
    uint64_t wait_us = t->due_us > now ? t->due_us - now : 0;
    struct timeval tv;

    if (!t->assigned) {
        evtimer_assign(&t->ev, loop.base, on_timer, t);
        t->assigned = true;
    }
    if (wait_us > MAX_ARM_US)
        wait_us = MAX_ARM_US;
    tv.tv_sec = (time_t)(wait_us / 1000000u);
    tv.tv_usec = (suseconds_t)(wait_us % 1000000u);
    t->armed_us = now + wait_us;
    if (evtimer_add(&t->ev, &tv) != 0)
        abort(); /* out of memory for one heap slot: a lost deadline would hang its owner */
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *t = arg;

    t->armed_us = 0;
    if (!t->due_us)
        return;
    if (t->due_us > loop_now_us()) {
        timer_arm(t);
        return;
    }
    t->due_us = 0;
    t->fn(t->arg);
}

void loop_timer_init(struct loop_timer *t, void (*fn)(void *), void *arg)
{
    *t = (struct loop_timer){.fn = fn, .arg = arg};
}

void loop_timer_set(struct loop_timer *t, uint64_t due_us)
{
    t->due_us = due_us ? due_us : 1;
    if (!t->armed_us || t->armed_us > t->due_us)
        timer_arm(t);
}

void loop_timer_clear(struct loop_timer *t)
{
    t->due_us = 0;
}

void loop_timer_stop(struct loop_timer *t)
{
    if (t->assigned) {
        evtimer_del(&t->ev);
        event_debug_unassign(&t->ev);
        t->assigned = false;
    }
    t->due_us = 0;
    t->armed_us = 0;
}

/* --- hooks and signals ---------------------------------------------------------------------- */

void loop_after_turn(void (*fn)(uint64_t turn_us, const char *place, void *arg), void *arg)
{
    for (size_t i = 0; i < loop.n_hooks; i++)
        if (loop.hooks[i].fn == fn && loop.hooks[i].arg == arg)
            return;
    assert(loop.n_hooks < MAX_HOOKS);
    loop.hooks[loop.n_hooks++] = (struct hook){fn, arg};
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
    struct signal_watch *w = arg;

    loop_place("signal");
    w->fn((int)signo, w->arg);
}

void loop_on_signal(int signo, void (*fn)(int signo, void *arg), void *arg)
{
    struct signal_watch *w = &loop.signals[loop.n_signals];

    assert(loop.base && loop.n_signals < MAX_SIGNALS);
    *w = (struct signal_watch){.fn = fn, .arg = arg};
    w->ev = evsignal_new(loop.base, signo, on_signal, w);
    if (!w->ev || evsignal_add(w->ev, NULL) != 0)
        abort(); /* start-up, out of memory */
    loop.n_signals++;
}

void loop_block_signals(void)
{
    sigset_t set;

    waiting_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* --- watchdog ------------------------------------------------------------------------------- */

/* What the thread remembers between two looks. */
struct watch {
    uint64_t turn;    /* start of the turn last seen; 0 = none */
    uint64_t last_us; /* time of the last look */
    uint64_t lost_us; /* time within this turn in which the whole process stood still */
    bool reported;
};

/* One look; returns true when the process has to go. `every_us` is the time meant between looks. */
static bool watch_look(struct watch *w, uint64_t now, uint64_t every_us)
{
    uint64_t start = atomic_load_explicit(&turn_start_us, memory_order_relaxed);
    const char *place = atomic_load_explicit(&turn_place, memory_order_relaxed);
    uint64_t since = now - w->last_us, stalled;

    w->last_us = now;
    if (start != w->turn)
        *w = (struct watch){.turn = start, .last_us = now};
    if (since > 2 * every_us)
        w->lost_us += since - every_us;
    if (!start || now < start + w->lost_us)
        return false;
    stalled = now - start - w->lost_us;
    if (stalled < dog.warn_us)
        return false;
    if (!w->reported)
        dog.on_stall(stalled, place);
    w->reported = true;
    if (!dog.abort_us || stalled < dog.abort_us)
        return false;
    dog.on_stall(stalled, place);
    return true;
}

static struct timespec timespec_of(uint64_t us)
{
    return (struct timespec){(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};
}

static void *watch_main(void *arg)
{
    uint64_t every_us = dog.warn_us / 4 ? dog.warn_us / 4 : 1;
    struct watch w = {.last_us = loop_clock_us()};
    struct timespec until;

    pthread_mutex_lock(&dog.lock);
    while (!dog.stop) {
        until = timespec_of(loop_clock_us() + every_us);
        if (pthread_cond_timedwait(&dog.wake, &dog.lock, &until) != ETIMEDOUT)
            continue;
        if (watch_look(&w, loop_clock_us(), every_us))
            abort();
    }
    pthread_mutex_unlock(&dog.lock);
    return NULL;
}

static int start_without_signals(pthread_t *thread, void *(*fn)(void *))
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(thread, NULL, fn, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

enum gw_err loop_watchdog_start(uint64_t warn_us, uint64_t abort_us,
                                void (*on_stall)(uint64_t us, const char *place))
{
    pthread_condattr_t attr;

    assert(!dog.running && warn_us);
    dog.warn_us = warn_us;
    dog.abort_us = abort_us && abort_us < warn_us ? warn_us : abort_us;
    dog.on_stall = on_stall;
    dog.stop = false;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.wake, &attr);
    pthread_condattr_destroy(&attr);
    dog.running = start_without_signals(&dog.thread, watch_main) == 0;
    if (!dog.running)
        pthread_cond_destroy(&dog.wake);
    return dog.running ? GW_OK : GW_ENOMEM;
}

void loop_watchdog_stop(void)
{
    if (!dog.running)
        return;
    pthread_mutex_lock(&dog.lock);
    dog.stop = true;
    pthread_cond_signal(&dog.wake);
    pthread_mutex_unlock(&dog.lock);
    pthread_join(dog.thread, NULL);
    pthread_cond_destroy(&dog.wake);
    dog.running = false;
}
