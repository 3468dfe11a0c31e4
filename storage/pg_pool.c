/*
 * pg_pool.c - a server and its connections.
 *
 *     unknown --connected--> up --every attempt fails--> down --connected--> up
 *
 * Unknown (at start) operations wait for the first attempt. Down they are refused at once while
 * attempts go on with growing, jittered pauses of at most MAX_PAUSE_US, one at a time. Up `size`
 * connections are kept; up to `max` are opened while more wait than connect, and those above `size`
 * are closed after OVERFLOW_IDLE_US.
 *
 * A server that refuses a connection (password, max_connections) but serves others is not down.
 * One that cannot be reached is, and its idle connections are closed: they lead nowhere.
 *
 * What is needed is looked at in one place, pool_tend(), deferred to the end of the turn, so that
 * closing a connection never opens one within the same call.
 */
#include "storage/pg_private.h"

#include "gateway/core/metrics.h"
#include "gateway/core/rng.h"

#include <stdlib.h>

#define MIN_PAUSE_US 100000u
#define MAX_PAUSE_US 1500000u
#define SWEEP_US 5000000u
#define OVERFLOW_IDLE_US 15000000u
#define MAX_CONNECTING 4u
#define LOG_PAUSE_US 60000000u

static unsigned count_open(const struct pg_server *srv)
{
    return srv->n[PGC_IDLE] + srv->n[PGC_BUSY] + srv->n[PGC_HELD];
}

void pg_pool_gauges(void)
{
    unsigned servers = pg_primary.enabled + pg_replica.enabled;

    metrics_set(metrics_get(M_DB_CONNECTIONS, NULL, NULL, NULL),
                count_open(&pg_primary) + count_open(&pg_replica));
    metrics_set(metrics_get(M_DB_CONNECTIONS_MAX, NULL, NULL, NULL), servers * pg_set.max);
    metrics_set(metrics_get(M_DB_WAITING, NULL, NULL, NULL),
                pg_primary.n_waiting + pg_replica.n_waiting);
}

/* --- lists ------------------------------------------------------------------------------------ */

void pg_pool_remove(struct pg_conn *c)
{
    if (c->state == PGC_STATES)
        return;
    TAILQ_REMOVE(&c->srv->conns[c->state], c, link);
    c->srv->n[c->state]--;
    c->state = PGC_STATES;
    pg_pool_gauges();
}

/* The idle one used last is used next, so that those not needed grow old. */
void pg_pool_move(struct pg_conn *c, enum pg_state to)
{
    if (c->state == to)
        return;
    if (c->state != PGC_STATES) {
        TAILQ_REMOVE(&c->srv->conns[c->state], c, link);
        c->srv->n[c->state]--;
    }
    TAILQ_INSERT_HEAD(&c->srv->conns[to], c, link);
    c->srv->n[to]++;
    c->state = to;
    pg_pool_gauges();
}

/* --- who waits -------------------------------------------------------------------------------- */

void pg_pool_withdraw(struct pg_op *op)
{
    TAILQ_REMOVE(&op->srv->waiting, op, link);
    op->srv->n_waiting--;
    loop_timer_stop(&op->timer);
    pg_pool_gauges();
}

static void on_waited(void *arg)
{
    struct pg_op *op = arg;

    pg_pool_withdraw(op);
    pg_op_end(op, GW_EUNAVAIL, NULL);
}

static void enqueue(struct pg_op *op)
{
    uint64_t until = loop_now_us() + pg_set.wait_us;

    op->place = PGO_WAITING;
    TAILQ_INSERT_TAIL(&op->srv->waiting, op, link);
    op->srv->n_waiting++;
    loop_timer_init(&op->timer, on_waited, op);
    loop_timer_set(&op->timer, op->deadline_us < until ? op->deadline_us : until);
    pg_pool_gauges();
    pg_pool_wake(op->srv);
}

void pg_pool_submit(struct pg_op *op)
{
    struct pg_server *srv = op->srv;
    struct pg_conn *c = TAILQ_FIRST(&srv->conns[PGC_IDLE]);

    if (c && srv->n_waiting == 0)
        pg_conn_run(c, op);
    else if (srv->down || pg_primary.n_waiting + pg_replica.n_waiting >= pg_set.queue_limit)
        pg_op_end(op, GW_EUNAVAIL, NULL);
    else
        enqueue(op);
}

/* Nobody waits for a server that is away; reads go on to the primary. */
static void refuse_waiting(struct pg_server *srv)
{
    struct pg_op *op;

    while ((op = TAILQ_FIRST(&srv->waiting)) != NULL) {
        pg_pool_withdraw(op);
        if (srv == &pg_replica)
            pg_op_to_primary(op);
        else
            pg_op_end(op, GW_EUNAVAIL, NULL);
    }
}

static void heard(struct pg_server *srv)
{
    if (!srv->up && srv->logged_us)
        log_info(&pg_log, "postgres_available", F_CSTR("server", srv->name));
    if (!srv->up)
        srv->logged_us = 0;
    srv->up = true;
    srv->down = false;
    srv->heard_us = loop_now_us();
}

void pg_pool_release(struct pg_conn *c)
{
    struct pg_server *srv = c->srv;
    struct pg_op *next = TAILQ_FIRST(&srv->waiting);

    if (c->broken || PQstatus(c->pg) != CONNECTION_OK ||
        PQtransactionStatus(c->pg) != PQTRANS_IDLE || c->expires_us <= loop_now_us()) {
        pg_conn_close(c);
        return;
    }
    heard(srv);
    if (next) {
        pg_pool_withdraw(next);
        pg_conn_run(c, next);
        return;
    }
    c->idle_us = loop_now_us();
    pg_pool_move(c, PGC_IDLE);
}

/* --- coming and going ------------------------------------------------------------------------- */

void pg_pool_connected(struct pg_conn *c)
{
    struct pg_server *srv = c->srv;

    srv->failures = 0;
    srv->next_try_us = 0;
    srv->probe = false;
    pg_pool_release(c);
    pg_pool_wake(srv);
}

static void close_idle(struct pg_server *srv)
{
    struct pg_conn *c;

    while ((c = TAILQ_FIRST(&srv->conns[PGC_IDLE])) != NULL)
        pg_conn_close(c);
}

/* 100, 200, 400 ms ... 1.5 s, of which between half and all is waited. */
static uint64_t pause_us(unsigned failures)
{
    unsigned doublings = failures > 5 ? 5 : failures;
    uint64_t us = (uint64_t)MIN_PAUSE_US << (doublings ? doublings - 1 : 0);

    if (us > MAX_PAUSE_US)
        us = MAX_PAUSE_US;
    return us / 2 + rng_u64() % (us / 2);
}

/* One line when the reason changes, else one a minute. */
static void log_failure(struct pg_server *srv, const char *sqlstate, const char *text)
{
    const char *words = sqlstate[0] ? pg_sqlstate_words(sqlstate) : NULL;
    uint64_t now = loop_now_us();

    if (srv->logged_us && now - srv->logged_us < LOG_PAUSE_US &&
        strcmp(srv->logged_state, sqlstate) == 0)
        return;
    srv->logged_us = now;
    memcpy(srv->logged_state, sqlstate, strlen(sqlstate) + 1);
    log_error(&pg_log, "postgres_unavailable", F_CSTR("server", srv->name),
              F_CSTR("reason", words ? words : "no connection to the database"),
              F_CSTR("sqlstate", sqlstate), F_CSTR("detail", text),
              F_INT("open_connections", count_open(srv)));
}

void pg_pool_failed(struct pg_server *srv, const char *sqlstate, const char *text)
{
    bool refused = sqlstate[0] && strcmp(sqlstate, "57P03") != 0; /* an answer of a kind */

    srv->failures++;
    srv->probe = false;
    srv->target.resolved_us = 0;
    srv->next_try_us = loop_now_us() + pause_us(srv->failures);
    log_failure(srv, sqlstate, text);
    if (!refused)
        close_idle(srv);
    if (!refused || count_open(srv) == 0) {
        srv->down = true;
        srv->up = false;
        refuse_waiting(srv);
    }
    pg_pool_wake(srv);
}

void pg_pool_suspect(struct pg_server *srv)
{
    srv->probe = true;
    pg_pool_wake(srv);
}

/* --- what is needed --------------------------------------------------------------------------- */

static void sweep(struct pg_server *srv)
{
    uint64_t now = loop_now_us();
    struct pg_conn *c, *prev;

    for (c = TAILQ_LAST(&srv->conns[PGC_IDLE], pg_conn_list); c; c = prev) {
        prev = TAILQ_PREV(c, pg_conn_list, link);
        if (c->expires_us <= now ||
            (count_open(srv) > pg_set.size && now - c->idle_us >= OVERFLOW_IDLE_US))
            pg_conn_close(c);
    }
}

static unsigned wanted(const struct pg_server *srv)
{
    unsigned connecting = srv->n[PGC_CONNECTING], total = count_open(srv) + connecting;
    unsigned limit = srv->up && !srv->failures ? MAX_CONNECTING : 1;
    unsigned n = total < pg_set.size ? pg_set.size - total : 0;

    if (srv->n_waiting > connecting && srv->n_waiting - connecting > n)
        n = srv->n_waiting - connecting;
    if (n == 0 && srv->probe && connecting == 0)
        n = 1;
    if (total + n > pg_set.max)
        n = total < pg_set.max ? pg_set.max - total : 0;
    if (connecting + n > limit)
        n = connecting < limit ? limit - connecting : 0;
    return n;
}

static void on_resolved(enum gw_err err, void *arg)
{
    struct pg_server *srv = arg;

    srv->resolving = NULL;
    if (err)
        pg_pool_failed(srv, "", err == GW_ENOMEM ? "out of memory" : "the host has no address");
    else
        pg_pool_wake(srv);
}

static void resolve(struct pg_server *srv)
{
    if (srv->resolving)
        return;
    srv->resolving = pg_target_resolve(&srv->target, on_resolved, srv);
    if (!srv->resolving)
        pg_pool_failed(srv, "", "no free thread to look the host up");
}

static void pool_tend(void *arg)
{
    struct pg_server *srv = arg;
    uint64_t now = loop_now_us(), due = now + SWEEP_US;
    unsigned n;

    sweep(srv);
    n = wanted(srv);
    if (n && now < srv->next_try_us) {
        due = srv->next_try_us;
    } else if (n && pg_target_stale(&srv->target)) {
        resolve(srv);
    } else {
        /* The first failure sets a pause, which ends the loop. */
        for (; n && now >= srv->next_try_us; n--)
            pg_conn_open(srv);
        if (srv->next_try_us > now)
            due = srv->next_try_us;
    }
    loop_timer_set(&srv->timer, due);
}

void pg_pool_wake(struct pg_server *srv)
{
    if (srv->enabled)
        loop_defer(&srv->tending, pool_tend, srv);
}

static void on_timer(void *arg)
{
    loop_place("pg");
    pool_tend(arg);
}

/* --- start and stop --------------------------------------------------------------------------- */

void pg_pool_start(struct pg_server *srv, const char *name)
{
    unsigned i;

    srv->name = name;
    srv->enabled = true;
    for (i = 0; i < PGC_STATES; i++)
        TAILQ_INIT(&srv->conns[i]);
    TAILQ_INIT(&srv->closed);
    TAILQ_INIT(&srv->waiting);
    loop_timer_init(&srv->timer, on_timer, srv);
    pg_pool_wake(srv);
}

/* Every connection is closed; what runs or waits is dropped without a word. */
void pg_pool_stop(struct pg_server *srv)
{
    struct pg_conn *c;
    struct pg_op *op;
    unsigned i;

    if (!srv->enabled)
        return;
    srv->enabled = false;
    op_cancel(&srv->resolving);
    loop_timer_stop(&srv->timer);
    for (i = 0; i < PGC_STATES; i++) {
        while ((c = TAILQ_FIRST(&srv->conns[i])) != NULL) {
            if (c->op)
                pg_op_drop(c->op);
            pg_conn_close(c);
        }
    }
    while ((c = TAILQ_FIRST(&srv->closed)) != NULL)
        pg_conn_free(c);
    while ((op = TAILQ_FIRST(&srv->waiting)) != NULL) {
        pg_pool_withdraw(op);
        pg_op_drop(op);
    }
    loop_undefer(&srv->tending);
    pg_target_deinit(&srv->target);
}
