/*
 * pg.c - see pg.h: operations, transactions, start and stop.
 *
 * Every operation ends in pg_op_end(), which counts it and defers its done to the end of the turn:
 * so done never runs inside a start call, nor inside libpq's or the pool's own callbacks.
 */
#include "storage/pg_private.h"

#include "gateway/core/metrics.h"

#include <assert.h>
#include <stdlib.h>

#define LATE_US 250000u /* the server's own limit comes first, and leaves the connection usable */
#define ROLLBACK_US 5000000u

struct pg_settings pg_set;
struct pg_server pg_primary, pg_replica;
const struct log_ctx pg_log = {.component = "postgres"};

TAILQ_HEAD(pg_tx_list, pg_tx);
static struct pg_op_list ending = TAILQ_HEAD_INITIALIZER(ending);
static struct pg_tx_list txs = TAILQ_HEAD_INITIALIZER(txs);

static const struct pg_stmt stmt_begin = {"begin", "BEGIN"};
static const struct pg_stmt stmt_commit = {"commit", "COMMIT"};
static const struct pg_stmt stmt_rollback = {"rollback", "ROLLBACK"};

/* --- transactions' memory --------------------------------------------------------------------- */

static struct pg_tx *tx_new(uint64_t deadline_us)
{
    struct pg_tx *tx = calloc(1, sizeof(*tx));

    if (!tx)
        return NULL;
    tx->deadline_us = deadline_us;
    TAILQ_INSERT_TAIL(&txs, tx, link);
    return tx;
}

static void tx_free(struct pg_tx *tx)
{
    if (tx->conn)
        tx->conn->tx = NULL;
    TAILQ_REMOVE(&txs, tx, link);
    free(tx);
}

void pg_tx_lost(struct pg_tx *tx, enum gw_err err)
{
    tx->conn->tx = NULL;
    tx->conn = NULL;
    if (!tx->err)
        tx->err = err;
}

/* --- operations ------------------------------------------------------------------------------- */

static void op_free(struct pg_op *op)
{
    PQclear(op->rows.res);
    free(op);
}

static void op_deliver(void *arg)
{
    struct pg_op *op = arg;

    TAILQ_REMOVE(&ending, op, link);
    if (op->kind != PGK_BEGIN) {
        if (op->done)
            op->done(op->err, op->rows.res ? &op->rows : NULL, op->arg);
    } else if (op->err) {
        pg_rollback(op->tx);
        op->tx_done(op->err, NULL, op->arg);
    } else {
        op->tx_done(GW_OK, op->tx, op->arg);
    }
    op_free(op);
}

static void op_count(const struct pg_op *op, enum gw_err err)
{
    const char *name = op->stmt->name;

    metrics_observe_us(metrics_get(M_DB_SECONDS, name, NULL, NULL), loop_now_us() - op->begun_us);
    if (err)
        metrics_add(metrics_get(M_DB_ERRORS, name, err_info(err)->slug, NULL), 1);
}

/* Nothing has come from the replica for half as long as the read was there: it is not the read that
 * takes long. */
static bool is_silent(const struct pg_op *op)
{
    return op->srv->heard_us < op->deadline_us - (op->deadline_us - op->begun_us) / 2;
}

/* May a read that ended like this at the replica succeed at the primary? It is away, behind (a
 * table is missing there), or what it replays does not go with the read. */
static bool goes_on(const struct pg_op *op, enum gw_err err)
{
    if (op->srv != &pg_replica || op->cancelled || op->last_us <= loop_now_us())
        return false;
    return err == GW_EUNAVAIL || err == GW_EAGAIN || err == GW_EINTERNAL || err == GW_EIO ||
           (err == GW_EDEADLINE && is_silent(op));
}

void pg_op_to_primary(struct pg_op *op)
{
    op->conn = NULL;
    op->srv = &pg_primary;
    op->deadline_us = op->last_us;
    pg_pool_submit(op);
}

void pg_op_end(struct pg_op *op, enum gw_err err, PGresult *res)
{
    if (goes_on(op, err)) {
        PQclear(res);
        pg_op_to_primary(op);
        return;
    }
    op_count(op, err);
    op->err = err;
    op->rows.res = res;
    op->conn = NULL;
    if (op->cancelled) {
        if (op->kind == PGK_BEGIN)
            tx_free(op->tx); /* it ran: the connection is settled by who calls this */
        op_free(op);
        return;
    }
    op->place = PGO_ENDING;
    TAILQ_INSERT_TAIL(&ending, op, link);
    loop_defer(&op->ending, op_deliver, op);
}

/* Waiting or ending it goes at once; running it stays until its statement ends. */
static void op_give_up(struct op *o)
{
    struct pg_op *op = (struct pg_op *)o;

    op->cancelled = true;
    op->data = SLICE_NONE;
    if (op->place == PGO_RUNNING)
        return;
    if (op->place == PGO_WAITING) {
        pg_pool_withdraw(op);
    } else {
        loop_undefer(&op->ending);
        TAILQ_REMOVE(&ending, op, link);
    }
    if (op->kind == PGK_BEGIN)
        pg_rollback(op->tx);
    op_free(op);
}

/* Bytes the texts take with their ends; a NUL inside makes them bad. */
static size_t texts_size(const struct pg_args *args, bool *ret_bad)
{
    size_t n = 0;
    unsigned i;

    for (i = 0; args && i < args->n; i++) {
        struct slice text = pg_arg_get(args, i);

        *ret_bad |= text.n && memchr(text.p, '\0', text.n);
        n += text.n + 1;
    }
    return n;
}

static void copy_texts(struct pg_op *op, const struct pg_args *args)
{
    char *to = op->texts;
    unsigned i;

    op->n = (int)args->n;
    for (i = 0; i < args->n; i++) {
        struct slice text = pg_arg_get(args, i);

        if (!text.p)
            continue;
        memcpy(to, text.p, text.n);
        to[text.n] = '\0';
        op->values[i] = to;
        to += text.n + 1;
    }
}

static uint64_t default_deadline(uint64_t deadline_us)
{
    return deadline_us ? deadline_us : loop_now_us() + pg_set.statement_us + LATE_US;
}

/* NULL out of memory. With op->err set it must not be sent: end it with that. */
static struct pg_op *op_new(enum pg_kind kind, const struct pg_stmt *stmt,
                            const struct pg_args *args, uint64_t deadline_us)
{
    bool bad = false;
    size_t size = texts_size(args, &bad);
    struct pg_op *op = calloc(1, sizeof(*op) + size);

    if (!op)
        return NULL;
    op->op.cancel = op_give_up;
    op->kind = kind;
    op->stmt = stmt;
    op->begun_us = loop_now_us();
    op->deadline_us = op->last_us = default_deadline(deadline_us);
    op->err = bad ? GW_EBADREQ : GW_OK;
    if (args && !bad)
        copy_texts(op, args);
    return op;
}

struct pg_op *pg_op_rollback(void)
{
    return op_new(PGK_ROLLBACK, &stmt_rollback, NULL, loop_now_us() + ROLLBACK_US);
}

/* --- single statements ------------------------------------------------------------------------ */

static void submit(struct pg_op *op, enum pg_role role)
{
    uint64_t now = loop_now_us();

    op->srv = &pg_primary;
    if (op->err || !op->srv->enabled) {
        pg_op_end(op, op->err ? op->err : GW_EUNAVAIL, NULL);
        return;
    }
    if (op->deadline_us <= now) {
        pg_op_end(op, GW_EDEADLINE, NULL);
        return;
    }
    if (role == PG_READ && pg_replica.up) {
        op->srv = &pg_replica;
        op->deadline_us = now + (op->last_us - now) / 2;
    }
    pg_pool_submit(op);
}

struct op *pg_query(enum pg_role role, const struct pg_stmt *stmt, const struct pg_args *args,
                    uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_op *op = op_new(PGK_QUERY, stmt, args, deadline_us);

    if (!op)
        return NULL;
    op->done = done;
    op->arg = arg;
    submit(op, role);
    return &op->op;
}

struct op *pg_query_text(enum pg_role role, const struct pg_stmt *stmt, struct slice text,
                         uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args args = {0};

    pg_arg_text(&args, text);
    return pg_query(role, stmt, &args, deadline_us, done, arg);
}

/* --- transactions ----------------------------------------------------------------------------- */

struct op *pg_begin(uint64_t deadline_us, void (*done)(enum gw_err, struct pg_tx *, void *),
                    void *arg)
{
    struct pg_op *op = op_new(PGK_BEGIN, &stmt_begin, NULL, deadline_us);

    if (!op)
        return NULL;
    op->tx = tx_new(deadline_us);
    if (!op->tx) {
        op_free(op);
        return NULL;
    }
    op->tx_done = done;
    op->arg = arg;
    submit(op, PG_WRITE);
    return &op->op;
}

/* Why the transaction takes no statement now; GW_OK when it does. */
static enum gw_err tx_trouble(const struct pg_tx *tx, const struct pg_op *op)
{
    if (tx->err)
        return tx->err;
    if (tx->conn->op)
        return GW_EINTERNAL; /* one at a time */
    if (op->deadline_us <= loop_now_us())
        return GW_EDEADLINE;
    return op->err;
}

static struct op *tx_start(struct pg_tx *tx, struct pg_op *op, pg_done done, void *arg)
{
    enum gw_err err = tx_trouble(tx, op);

    op->done = done;
    op->arg = arg;
    if (err) {
        if (!tx->err)
            tx->err = err;
        pg_op_end(op, err, NULL);
    } else {
        op->srv = tx->conn->srv;
        pg_conn_run(tx->conn, op);
    }
    return &op->op;
}

struct op *pg_tx_query(struct pg_tx *tx, const struct pg_stmt *stmt, const struct pg_args *args,
                       pg_done done, void *arg)
{
    struct pg_op *op = op_new(PGK_TX_QUERY, stmt, args, tx->deadline_us);

    return op ? tx_start(tx, op, done, arg) : NULL;
}

struct op *pg_tx_copy(struct pg_tx *tx, const struct pg_stmt *stmt, struct slice data, pg_done done,
                      void *arg)
{
    struct pg_op *op = op_new(PGK_TX_COPY, stmt, NULL, tx->deadline_us);

    if (!op)
        return NULL;
    op->data = data;
    return tx_start(tx, op, done, arg);
}

struct op *pg_commit(struct pg_tx *tx, pg_done done, void *arg)
{
    struct pg_op *op = op_new(PGK_COMMIT, &stmt_commit, NULL, tx->deadline_us);
    struct pg_conn *c = tx->conn;
    enum gw_err err;

    if (!op) {
        pg_rollback(tx);
        return NULL;
    }
    op->done = done;
    op->arg = arg;
    err = tx_trouble(tx, op);
    if (err || !tx->begun) { /* a transaction without a statement is committed as it is */
        pg_rollback(tx);
        pg_op_end(op, err, NULL);
        return &op->op;
    }
    op->srv = c->srv;
    tx_free(tx);
    pg_conn_run(c, op);
    return &op->op;
}

void pg_rollback(struct pg_tx *tx)
{
    struct pg_conn *c;

    if (!tx)
        return;
    c = tx->conn;
    tx_free(tx);
    if (c && !c->op) /* else it follows when the statement has ended */
        pg_conn_rollback(c);
}

/* --- state ------------------------------------------------------------------------------------ */

bool pg_enabled(void)
{
    return pg_primary.enabled;
}

bool pg_up(void)
{
    return pg_primary.up;
}

static void add_stats(struct pg_stats *s, const struct pg_server *srv)
{
    if (!srv->enabled)
        return;
    s->busy += srv->n[PGC_BUSY] + srv->n[PGC_HELD];
    s->open += srv->n[PGC_IDLE] + srv->n[PGC_BUSY] + srv->n[PGC_HELD];
    s->max += pg_set.max;
    s->waiting += srv->n_waiting;
}

void pg_stats(struct pg_stats *ret)
{
    memset(ret, 0, sizeof(*ret));
    add_stats(ret, &pg_primary);
    add_stats(ret, &pg_replica);
    ret->read_replica = pg_replica.enabled;
    ret->read_up = pg_replica.up;
}

/* --- start and stop --------------------------------------------------------------------------- */

static enum gw_err start(struct pg_server *srv, const char *name, struct slice url)
{
    enum gw_err err;

    memset(srv, 0, sizeof(*srv));
    if (url.n == 0)
        return GW_OK;
    err = pg_target_init(&srv->target, url.p);
    if (err) {
        log_error(&pg_log, "postgres_address_invalid", F_CSTR("server", name));
        return err;
    }
    pg_pool_start(srv, name);
    return GW_OK;
}

/* Connections of this worker: its share of the instance's, but at least what is to be kept. */
static unsigned max_connections(const struct conf *c)
{
    unsigned size = (unsigned)c->pg_pool_size, max = size + (unsigned)c->pg_max_overflow;
    unsigned share = CONF_DATABASE_CONNECTIONS / (unsigned)(c->workers > 0 ? c->workers : 1);

    if (max > share)
        max = share > size ? share : size;
    return max;
}

enum gw_err pg_init(const struct conf *c)
{
    enum gw_err err;

    pg_set = (struct pg_settings){
        .size = (unsigned)c->pg_pool_size,
        .max = max_connections(c),
        .queue_limit = (unsigned)c->pg_queue_limit,
        .wait_us = (uint64_t)c->pg_wait_ms * 1000,
        .connect_us = (uint64_t)c->pg_connect_ms * 1000,
        .statement_us = (uint64_t)c->pg_statement_ms * 1000,
        .lifetime_us = (uint64_t)c->pg_lifetime_s * 1000000,
        .pipeline = c->pg_pipeline,
    };
    err = start(&pg_primary, "primary", c->database_url);
    if (!err && pg_primary.enabled)
        err = start(&pg_replica, "replica", c->database_read_url);
    if (err)
        pg_deinit();
    else
        pg_pool_gauges();
    return err;
}

void pg_op_drop(struct pg_op *op)
{
    op_free(op);
}

void pg_deinit(void)
{
    struct pg_op *op;
    struct pg_tx *tx;

    pg_pool_stop(&pg_replica);
    pg_pool_stop(&pg_primary);
    while ((op = TAILQ_FIRST(&ending)) != NULL) {
        loop_undefer(&op->ending);
        TAILQ_REMOVE(&ending, op, link);
        op_free(op);
    }
    while ((tx = TAILQ_FIRST(&txs)) != NULL)
        tx_free(tx);
}
