/*
 * pg_conn.c - one connection to Postgres.
 *
 *     CONNECTING --ready--> IDLE --pg_conn_run()--> BUSY --answered--> IDLE
 *          |                  |                      |  '--in a transaction--> HELD <--> BUSY
 *          '------------------'------- closed <------'-------------------------'
 *
 * Everything is asked of libpq in the order that cannot block: consume what can be read, flush what
 * can be written, and take results only while PQisBusy() says no. A connection whose statement got
 * no answer in time is closed, never used again, so that a late answer cannot be taken for
 * another's. An idle connection is watched too: the server's end of it shows at once.
 *
 * A closed connection leaves its list and libpq at once, its memory with the end of the turn, since
 * its own callback may be what closes it.
 */
#include "storage/pg_private.h"

#include "gateway/core/metrics.h"
#include "gateway/core/rng.h"

#include <event2/event.h>

#include <stdio.h>
#include <stdlib.h>

#define COPY_CHUNK 65536u
#define COPY_CHUNKS_A_TURN 16u
#define MAX_LEFT 64u /* results looked at after the end of a connection */

static void conn_poll(struct pg_conn *c);
static void conn_io(struct pg_conn *c, bool readable);

/* --- watching --------------------------------------------------------------------------------- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct pg_conn *c = arg;

    (void)fd;
    loop_place("pg");
    if (c->state == PGC_CONNECTING)
        conn_poll(c);
    else
        conn_io(c, (what & EV_READ) != 0);
}

static void unwatch(struct pg_conn *c)
{
    if (c->fd >= 0)
        event_del(&c->ev);
    c->fd = -1;
}

/* The socket is asked for each time: while connecting it may be another than before. */
static void watch(struct pg_conn *c, short want)
{
    int fd = PQsocket(c->pg);

    if (fd == c->fd && want == c->want && c->state != PGC_CONNECTING)
        return;
    unwatch(c);
    if (fd < 0)
        return;
    event_assign(&c->ev, loop_base(), fd, (short)(want | EV_PERSIST), on_event, c);
    event_add(&c->ev, NULL);
    c->fd = fd;
    c->want = want;
}

/* --- closing ---------------------------------------------------------------------------------- */

void pg_conn_free(struct pg_conn *c)
{
    loop_undefer(&c->gone);
    TAILQ_REMOVE(&c->srv->closed, c, link);
    free(c);
}

static void on_gone(void *arg)
{
    pg_conn_free(arg);
}

void pg_conn_close(struct pg_conn *c)
{
    if (c->closed)
        return;
    c->closed = true;
    unwatch(c);
    loop_timer_stop(&c->timer);
    if (c->tx)
        pg_tx_lost(c->tx, GW_EUNAVAIL);
    pg_pool_remove(c);
    PQclear(c->res);
    c->res = NULL;
    PQfinish(c->pg);
    c->pg = NULL;
    pg_pool_wake(c->srv);
    TAILQ_INSERT_TAIL(&c->srv->closed, c, link);
    loop_defer(&c->gone, on_gone, c);
}

/* --- connecting ------------------------------------------------------------------------------- */

static void connect_failed(struct pg_conn *c, const char *text)
{
    struct pg_server *srv = c->srv;
    char line[256], sqlstate[6];

    pg_sqlstate_find(text, sqlstate);
    snprintf(line, sizeof(line), "%.*s", (int)strcspn(text, "\n"), text);
    /* PgBouncer: "unsupported startup parameter". Once more without. */
    if (!srv->no_options && strstr(text, "startup parameter")) {
        srv->no_options = true;
        log_info(&pg_log, "postgres_without_options", F_CSTR("server", srv->name));
        pg_conn_close(c);
        return;
    }
    pg_conn_close(c);
    pg_pool_failed(srv, sqlstate, line);
}

static uint64_t lifetime_us(void)
{
    uint64_t tenth = pg_set.lifetime_us / 10;

    return pg_set.lifetime_us - (tenth ? rng_u64() % tenth : 0);
}

static void connected(struct pg_conn *c)
{
    loop_timer_clear(&c->timer);
    if (PQsetnonblocking(c->pg, 1)) {
        connect_failed(c, "out of memory");
        return;
    }
    PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
    c->expires_us = loop_now_us() + lifetime_us();
    watch(c, EV_READ);
    pg_pool_connected(c);
}

static void conn_poll(struct pg_conn *c)
{
    switch (PQconnectPoll(c->pg)) {
    case PGRES_POLLING_READING:
        watch(c, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        watch(c, EV_WRITE);
        break;
    case PGRES_POLLING_OK:
        connected(c);
        break;
    default:
        connect_failed(c, PQerrorMessage(c->pg));
        break;
    }
}

static void on_notice(void *arg, const char *text)
{
    (void)arg;
    log_debug(&pg_log, "postgres_notice", F_CSTR("text", text));
}

static void on_timer(void *arg);

void pg_conn_open(struct pg_server *srv)
{
    struct pg_conn *c = calloc(1, sizeof(*c));

    if (!c) {
        pg_pool_failed(srv, "", "out of memory");
        return;
    }
    c->srv = srv;
    c->fd = -1;
    c->state = PGC_STATES;
    loop_timer_init(&c->timer, on_timer, c);
    c->pg = pg_target_connect(&srv->target, !srv->no_options);
    if (!c->pg) {
        free(c);
        pg_pool_failed(srv, "", "out of memory");
        return;
    }
    pg_pool_move(c, PGC_CONNECTING);
    PQsetNoticeProcessor(c->pg, on_notice, NULL);
    PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE); /* so that the SQLSTATE is in the text */
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        connect_failed(c, PQerrorMessage(c->pg));
        return;
    }
    loop_timer_set(&c->timer, loop_now_us() + pg_set.connect_us);
    watch(c, EV_WRITE); /* as if PQconnectPoll() had said so */
}

/* --- the answer ------------------------------------------------------------------------------- */

/* "no partition of relation found for row": the table is at fault, not the data. */
static bool lacks_partition(const PGresult *res, const char *sqlstate)
{
    return strcmp(sqlstate, "23514") == 0 && !PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
}

static enum gw_err classify(const PGresult *res)
{
    const char *sqlstate;

    if (!res)
        return GW_EUNAVAIL;
    switch (PQresultStatus(res)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        return GW_OK;
    case PGRES_FATAL_ERROR:
    case PGRES_NONFATAL_ERROR:
        sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
        if (!sqlstate)
            return GW_EUNAVAIL; /* libpq's own: it was lost */
        return lacks_partition(res, sqlstate) ? GW_EINTERNAL : pg_sqlstate_err(sqlstate);
    default:
        return GW_EINTERNAL;
    }
}

/* Says what an operator must do something about, once in a while. */
static void log_refusal(const struct pg_op *op, enum gw_err err, const PGresult *res)
{
    static uint64_t last_us;
    const char *sqlstate = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    const char *words = sqlstate ? pg_sqlstate_words(sqlstate) : NULL;
    uint64_t now = loop_now_us();

    if (!sqlstate || (err != GW_EINTERNAL && !words) || (last_us && now - last_us < 1000000u))
        return;
    last_us = now;
    log_error(&pg_log, "statement_refused", F_CSTR("operation", op->stmt->name),
              F_CSTR("sqlstate", sqlstate),
              F_CSTR("reason", words ? words : PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY)));
}

/* Where a connection goes whose statement is over. */
static void settle(struct pg_conn *c, enum pg_kind kind)
{
    if (c->broken)
        pg_conn_close(c);
    else if (c->tx)
        pg_conn_hold(c);
    else if (kind == PGK_TX_QUERY || kind == PGK_TX_COPY || kind == PGK_BEGIN)
        pg_conn_rollback(c); /* its transaction was given up meanwhile */
    else
        pg_pool_release(c);
}

/* Ends what runs on the connection. The connection may be gone afterwards. */
static void finish(struct pg_conn *c, enum gw_err err)
{
    struct pg_op *op = c->op;
    enum pg_kind kind = op->kind;
    PGresult *res = c->res;

    c->op = NULL;
    c->res = NULL;
    loop_timer_clear(&c->timer);
    if (kind == PGK_COMMIT && !err && strcmp(PQcmdStatus(res), "COMMIT") != 0)
        err = GW_EINTERNAL; /* the transaction had failed: it was a rollback */
    if (err) {
        log_refusal(op, err, res);
        if (c->tx && !c->tx->err)
            c->tx->err = err;
    }
    pg_op_end(op, err, res);
    settle(c, kind);
}

static void send_main(struct pg_conn *c);

/* All results of what was sent are in. */
static void answered(struct pg_conn *c)
{
    struct pg_op *op = c->op;
    enum gw_err err = classify(c->res);

    if (op->opening) {
        op->opening = false;
        if (!err && op->kind != PGK_BEGIN && !op->cancelled) {
            PQclear(c->res);
            c->res = NULL;
            send_main(c);
            return;
        }
    }
    finish(c, err);
}

/* The first error counts, else the last result. */
static void keep(struct pg_conn *c, PGresult *res)
{
    if (c->res && classify(c->res) != GW_OK) {
        PQclear(res);
        return;
    }
    PQclear(c->res);
    c->res = res;
}

/* --- COPY ------------------------------------------------------------------------------------- */

/* Hands libpq what the socket takes, at most a MiB in one turn, then the end. A cancelled COPY ends
 * with an error at once, since its data may be gone. */
static void copy_pump(struct pg_conn *c)
{
    struct pg_op *op = c->op;
    unsigned chunks = 0;
    size_t n;
    int rc = 1;

    while (op->data.n && !op->cancelled) {
        if (chunks++ == COPY_CHUNKS_A_TURN)
            return;
        n = op->data.n < COPY_CHUNK ? op->data.n : COPY_CHUNK;
        rc = PQputCopyData(c->pg, op->data.p, (int)n);
        if (rc != 1)
            break;
        op->data = slice_from(op->data, n);
        if (PQflush(c->pg) != 0)
            return;
    }
    if (rc == 1)
        rc = PQputCopyEnd(c->pg, op->cancelled ? "given up" : NULL);
    c->copying = rc == 0; /* 0: once more when it has been flushed */
    c->broken |= rc < 0;
}

/* --- collecting ------------------------------------------------------------------------------- */

/* One result. True when the unit is over. */
static bool take_result(struct pg_conn *c, PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_PIPELINE_SYNC:
        PQclear(res);
        c->piped = false;
        c->broken |= PQexitPipelineMode(c->pg) != 1;
        return true;
    case PGRES_PIPELINE_ABORTED:
        PQclear(res);
        return false;
    case PGRES_COPY_IN:
        PQclear(res);
        c->copying = true;
        return false;
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH: /* no statement of ours does that */
        c->broken = true;
        keep(c, res);
        return true;
    default:
        keep(c, res);
        return false;
    }
}

/* Takes what is complete. True when all results of the unit are in. */
static bool collect(struct pg_conn *c)
{
    unsigned nothing = 0;
    PGresult *res;

    while (!c->copying && !PQisBusy(c->pg)) {
        res = PQgetResult(c->pg);
        if (res) {
            nothing = 0;
            if (take_result(c, res))
                return true;
            continue;
        }
        /* In a pipeline each statement ends with a NULL, and all of it with the sync. */
        if (!c->piped)
            return true;
        if (++nothing > 1)
            c->broken = true;
        if (c->broken)
            return false;
    }
    return false;
}

/* The connection ended under its statement: what the server still said is kept. */
static void lost(struct pg_conn *c)
{
    enum gw_err err;
    PGresult *res;
    unsigned i;

    c->broken = true;
    for (i = 0; i < MAX_LEFT && !PQisBusy(c->pg); i++) {
        res = PQgetResult(c->pg);
        if (!res)
            break;
        keep(c, res);
    }
    err = classify(c->res);
    finish(c, err == GW_OK || err == GW_EINTERNAL ? GW_EUNAVAIL : err);
}

/* --- input and output ------------------------------------------------------------------------- */

/* A COPY goes on when the socket takes more, even if all that libpq had is gone by now. */
static void flush(struct pg_conn *c)
{
    int rc = PQflush(c->pg);

    c->broken |= rc < 0;
    watch(c, rc > 0 || c->copying ? EV_READ | EV_WRITE : EV_READ);
}

/* Results are taken before anything else: after the end of the connection they may still be there.
 */
static void conn_io(struct pg_conn *c, bool readable)
{
    if (readable && PQconsumeInput(c->pg) != 1)
        c->broken = true;
    if (!c->op) {
        PQisBusy(c->pg); /* takes in notices, and what the server says before it goes */
        if (c->broken)
            pg_conn_close(c);
        return;
    }
    if (collect(c)) {
        answered(c);
        return;
    }
    if (c->copying && !c->broken)
        copy_pump(c);
    if (!c->broken)
        flush(c);
    if (c->broken)
        lost(c);
}

/* --- sending ---------------------------------------------------------------------------------- */

static bool send_statement(struct pg_conn *c, const char *sql, const struct pg_op *op)
{
    return PQsendQueryParams(c->pg, sql, op ? op->n : 0, NULL, op ? op->values : NULL, NULL, NULL,
                             0) == 1;
}

/* A session without our options gets the limit with each transaction. */
static void limit_text(char *to, size_t size)
{
    snprintf(to, size, "SET LOCAL statement_timeout = %llu",
             (unsigned long long)(pg_set.statement_us / 1000));
}

/* BEGIN by itself, its answer awaited. */
static bool send_begin(struct pg_conn *c)
{
    char limit[64], text[80];

    c->op->opening = true;
    limit_text(limit, sizeof(limit));
    snprintf(text, sizeof(text), "BEGIN%s%s", c->srv->no_options ? "; " : "",
             c->srv->no_options ? limit : "");
    return PQsendQuery(c->pg, text) == 1;
}

/* BEGIN and the first statement in one go, with one sync: when BEGIN fails the other is skipped. */
static bool send_piped(struct pg_conn *c)
{
    char limit[64];

    limit_text(limit, sizeof(limit));
    c->piped = PQenterPipelineMode(c->pg) == 1;
    return c->piped && send_statement(c, "BEGIN", NULL) &&
           (!c->srv->no_options || send_statement(c, limit, NULL)) &&
           send_statement(c, c->op->stmt->sql, c->op) && PQpipelineSync(c->pg) == 1;
}

static void send_main(struct pg_conn *c)
{
    c->broken |= !send_statement(c, c->op->stmt->sql, c->op);
    if (!c->broken)
        flush(c);
    if (c->broken)
        lost(c);
}

static void send_first(struct pg_conn *c)
{
    struct pg_tx *tx = c->tx;
    bool begin = tx && !tx->begun;

    if (!begin) {
        send_main(c);
        return;
    }
    tx->begun = true;
    /* COPY does not go through a pipeline. */
    c->broken |= !(c->op->kind == PGK_TX_QUERY ? send_piped(c) : send_begin(c));
    if (!c->broken)
        flush(c);
    if (c->broken)
        lost(c);
}

void pg_conn_run(struct pg_conn *c, struct pg_op *op)
{
    op->place = PGO_RUNNING;
    op->conn = c;
    if (op->kind == PGK_BEGIN) {
        c->tx = op->tx;
        c->tx->conn = c;
        if (pg_set.pipeline) {
            pg_conn_hold(c);
            pg_op_end(op, GW_OK, NULL);
            return;
        }
    }
    c->op = op;
    pg_pool_move(c, PGC_BUSY);
    loop_timer_set(&c->timer, op->deadline_us);
    send_first(c);
}

/* --- transactions ----------------------------------------------------------------------------- */

void pg_conn_hold(struct pg_conn *c)
{
    uint64_t until = c->tx->deadline_us;

    pg_pool_move(c, PGC_HELD);
    loop_timer_set(&c->timer, until ? until : loop_now_us() + pg_set.statement_us);
}

void pg_conn_rollback(struct pg_conn *c)
{
    struct pg_op *op;

    c->tx = NULL;
    loop_timer_clear(&c->timer);
    if (PQtransactionStatus(c->pg) == PQTRANS_IDLE) {
        pg_pool_release(c);
        return;
    }
    op = pg_op_rollback();
    if (op)
        pg_conn_run(c, op);
    else
        pg_conn_close(c);
}

/* --- time is up ------------------------------------------------------------------------------- */

static void statement_late(struct pg_conn *c)
{
    struct pg_server *srv = c->srv;
    /* Nobody knows what became of a COMMIT. */
    enum gw_err err = c->op->kind == PGK_COMMIT ? GW_EUNAVAIL : GW_EDEADLINE;

    pg_cancel(c->pg);
    c->broken = true;
    finish(c, err);
    pg_pool_suspect(srv);
}

static void on_timer(void *arg)
{
    struct pg_conn *c = arg;

    loop_place("pg");
    if (c->state == PGC_CONNECTING) {
        connect_failed(c, "no answer in time");
    } else if (c->op) {
        statement_late(c);
    } else if (c->tx) {
        pg_tx_lost(c->tx, GW_EDEADLINE);
        pg_conn_rollback(c);
    }
}
