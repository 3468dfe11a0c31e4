/*
 * loop.h - the reactor: one event base per process, one clock per turn, lazy timers, work deferred
 * to the end of the turn, and a measure of how long each turn took.
 *
 * Everything here belongs to the loop's thread except what says otherwise.
 */
#pragma once

#include "gateway/core/err.h"

#include <event2/event_struct.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct event_base;

/* Makes the event base (epoll with its change list). Call once per process, after any fork. */
enum gw_err loop_init(void) MUST_CHECK;
void loop_deinit(void);

/* The libevent base, for files that own a descriptor. */
struct event_base *loop_base(void);

/* Runs turns until loop_stop(). After each turn's callbacks come the deferred calls, then the
 * after-turn hooks. */
void loop_run(void);

/* Runs one turn; waits for events if nothing is due. For tests. */
void loop_turn(void);

/* Makes loop_run() return after the present turn (at once when it is not running yet). Calls that
 * are still deferred run before it returns. */
void loop_stop(void);

/* True inside a turn: in callbacks, deferred calls and hooks. */
bool loop_in_turn(void);

/* Monotonic microseconds. Read at the first call in a turn and then constant until the turn ends,
 * so that all decisions of a turn agree. Outside a turn it is read at each call. */
uint64_t loop_now_us(void);

/* Monotonic microseconds, read now; for measuring inside a turn. Any thread. */
uint64_t loop_clock_us(void);

/* Wall clock, microseconds since 1970, read now. Only for what leaves the process (logs, token
 * validity). Any thread. */
uint64_t loop_wall_us(void);

/* Names what runs now (a string literal), for the watchdog and the slow-turn log line. libevent
 * says nothing before it runs callbacks, so a turn's length counts from the first of: this,
 * loop_now_us(), loop_defer(), a loop timer or loop signal. Every callback on a descriptor begins
 * with this call. */
void loop_place(const char *literal);

/* --- deferred calls ------------------------------------------------------------------------- */

/* Embedded in the object to be ended. Zero-initialised means not queued. */
struct loop_deferred {
    TAILQ_ENTRY(loop_deferred) link;
    void (*fn)(void *arg);
    void *arg;
    bool queued;
};

/* Calls fn(arg) after this turn's callbacks, once; queueing twice is one call. fn may free the
 * object that embeds d. A call deferred from a deferred call runs in the same round, up to a
 * bound, then in the next turn. */
void loop_defer(struct loop_deferred *d, void (*fn)(void *), void *arg);

/* Takes it off the queue if it is on it. */
void loop_undefer(struct loop_deferred *d);

/* --- timers --------------------------------------------------------------------------------- */

/*
 * A lazy one-shot timer: moving the deadline later only stores a number; when the earlier expiry
 * comes the timer re-arms itself. So a deadline that moves with every request costs nothing.
 * Embedded; zero it, then loop_timer_init().
 */
struct loop_timer {
    struct event ev;
    void (*fn)(void *arg);
    void *arg;
    uint64_t due_us;   /* 0 = not set */
    uint64_t armed_us; /* when libevent will wake us; 0 = not armed */
    bool assigned;     /* ev is known to libevent */
};

/* fn runs on the loop when the time has come; it may set the timer again or free its owner. */
void loop_timer_init(struct loop_timer *t, void (*fn)(void *), void *arg);

/* Fires at loop_now_us() >= due_us, never early, usually less than 5 ms late (libevent's coarse
 * clock); replaces an earlier setting. A time that has passed fires in the next turn. */
void loop_timer_set(struct loop_timer *t, uint64_t due_us);

/* Not due any more; stays armed inside libevent at most until its old expiry. */
void loop_timer_clear(struct loop_timer *t);

/* Clears it and takes it out of libevent; needed before the owner's memory goes. Fine on a zeroed
 * timer and twice; the timer can be set again afterwards. */
void loop_timer_stop(struct loop_timer *t);

/* --- hooks ---------------------------------------------------------------------------------- */

/* Calls fn(turn_us, place, arg) at the end of every turn, after the deferred calls (log flush, lag
 * histogram); at most 8 hooks, until loop_deinit(); the same fn and arg twice is one hook. May be
 * called before loop_init(). turn_us: how long callbacks and deferred calls took (0 when nothing in
 * the turn read the clock). place: the last loop_place() of the turn, "" if none. */
void loop_after_turn(void (*fn)(uint64_t turn_us, const char *place, void *arg), void *arg);

/* Calls fn(signo, arg) on the loop for a signal; at most 8 signals, once each. After loop_init().
 */
void loop_on_signal(int signo, void (*fn)(int signo, void *arg), void *arg);

/* Blocks SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 until loop_run(), so that none is lost or
 * kills the process at start-up. Call it first thing, before threads. */
void loop_block_signals(void);

/* Watchdog thread: a turn longer than warn_us is reported once by on_stall (called on that thread,
 * must only write(2)); longer than abort_us on_stall is called again and the process aborts.
 * abort_us 0 = never. Time in which the whole process stood still (SIGSTOP) does not count. */
enum gw_err loop_watchdog_start(uint64_t warn_us, uint64_t abort_us,
                                void (*on_stall)(uint64_t us, const char *place)) MUST_CHECK;
void loop_watchdog_stop(void);
