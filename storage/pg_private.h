/*
 * pg_private.h - what the files of the Postgres pool share; nobody else includes it.
 *
 *     pg.c        the public calls: statements, transactions, start and stop
 *     pg_pool.c   a server: its connections, who waits for one, when to connect and when to give up
 *     pg_conn.c   one connection: connecting, sending, collecting, closing
 *     pg_target.c where to connect to: the URL, names into addresses in the offload pool
 *     pg_cancel.c stops a statement at the server whose connection was given up
 *     pg_value.c  parameters, results, SQLSTATE -> enum gw_err
 *
 * An operation (struct pg_op) is in exactly one place: waiting in a server's queue, running on a
 * connection, or ending (its done is deferred). A cancelled one that runs stays until its statement
 * ends, without an owner. A transaction belongs to its user; its connection points back at it until
 * the transaction or the connection ends, whichever is first.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "storage/pg.h"

#include <libpq-fe.h>
#include <sys/queue.h>

enum pg_state { PGC_CONNECTING, PGC_IDLE, PGC_BUSY, PGC_HELD, PGC_STATES };

enum pg_kind { PGK_QUERY, PGK_BEGIN, PGK_TX_QUERY, PGK_TX_COPY, PGK_COMMIT, PGK_ROLLBACK };

enum pg_place { PGO_WAITING, PGO_RUNNING, PGO_ENDING };

struct pg_rows {
    PGresult *res;
};

struct pg_op {
    struct op op; /* first: what the caller holds */
    TAILQ_ENTRY(pg_op) link;
    enum pg_kind kind;
    enum pg_place place;
    bool cancelled; /* nobody wants the answer any more */
    bool opening;   /* its BEGIN was sent by itself and is not answered yet */
    const struct pg_stmt *stmt;
    struct pg_server *srv;
    struct pg_conn *conn;        /* while running */
    struct pg_tx *tx;            /* of PGK_BEGIN: what done is given; owned until then */
    uint64_t begun_us;           /* for the histogram */
    uint64_t deadline_us;        /* loop clock; at the replica half of the time there is */
    uint64_t last_us;            /* all of it */
    struct loop_timer timer;     /* while waiting */
    struct loop_deferred ending; /* carries it to its done */
    enum gw_err err;
    struct pg_rows rows; /* the result, owned */
    struct slice data;   /* of a COPY, borrowed; what is not handed to libpq yet */
    pg_done done;
    void (*tx_done)(enum gw_err err, struct pg_tx *tx, void *arg);
    void *arg;
    int n;                           /* parameters */
    const char *values[PG_MAX_ARGS]; /* point into texts; NULL is SQL NULL */
    char texts[];
};

TAILQ_HEAD(pg_op_list, pg_op);

struct pg_tx {
    TAILQ_ENTRY(pg_tx) link; /* all of them, for pg_deinit() */
    struct pg_conn *conn;    /* NULL once it was lost or given back */
    enum gw_err err;         /* first error: from then on nothing but rolling back */
    bool begun;              /* BEGIN was sent */
    uint64_t deadline_us;    /* of the whole transaction; 0 = each statement has its own */
};

struct pg_conn {
    TAILQ_ENTRY(pg_conn) link;
    struct pg_server *srv;
    enum pg_state state; /* the list it is in */
    bool closed;         /* in no list, waits to be freed */
    bool broken;         /* must not be used again */
    bool piped;          /* a pipeline is under way, its end not seen */
    bool copying;        /* the server waits for the data of a COPY */
    PGconn *pg;
    struct event ev;
    int fd; /* what ev watches; -1 = nothing */
    short want;
    struct loop_timer timer; /* to connect, of the statement, of the transaction */
    struct loop_deferred gone;
    struct pg_op *op;    /* running, or NULL */
    struct pg_tx *tx;    /* holds it, or NULL */
    PGresult *res;       /* of the running statement so far */
    uint64_t expires_us; /* lifetime, loop clock */
    uint64_t idle_us;    /* since when */
};

TAILQ_HEAD(pg_conn_list, pg_conn);

/* Where a server is. hosts, addrs and ports are parallel lists for libpq once names are resolved.
 */
struct pg_target {
    PQconninfoOption *opts; /* the URL, taken apart */
    bool named;             /* holds names to be resolved */
    char *hosts, *addrs, *ports;
    uint64_t resolved_us; /* when; 0 = never, or not to be trusted any more */
};

struct pg_server {
    const char *name; /* "primary", "replica" */
    bool enabled;
    struct pg_target target;
    struct pg_conn_list conns[PGC_STATES];
    struct pg_conn_list closed; /* until the end of the turn */
    unsigned n[PGC_STATES];
    struct pg_op_list waiting;
    unsigned n_waiting;
    struct loop_timer timer;      /* next attempt, next sweep */
    struct loop_deferred tending; /* a look at what is needed */
    struct op *resolving;
    bool up;           /* the last thing heard of it was good */
    uint64_t heard_us; /* when; loop clock */
    bool down;         /* away: nobody waits for it */
    bool probe;        /* a deadline passed there: see whether it still answers */
    bool no_options;   /* refuses start-up options (PgBouncer) */
    unsigned failures; /* attempts failed in a row */
    uint64_t next_try_us;
    uint64_t logged_us; /* last line about its absence; 0 = none since it was up */
    char logged_state[6];
};

/* What pg_init() took from the configuration, in microseconds where it is a time. */
struct pg_settings {
    unsigned size, max, queue_limit;
    uint64_t wait_us, connect_us, statement_us, lifetime_us;
    bool pipeline;
};

extern struct pg_settings pg_set;
extern struct pg_server pg_primary, pg_replica;
extern const struct log_ctx pg_log;

/* --- pg.c */
/* Ends an operation: counts it and defers its done. Takes over res. */
void pg_op_end(struct pg_op *op, enum gw_err err, PGresult *res);
/* A read that the replica does not take: goes on at the primary. */
void pg_op_to_primary(struct pg_op *op);
/* An operation of the pool itself: rolls back, nobody is told. NULL out of memory. */
struct pg_op *pg_op_rollback(void);
/* Frees an operation whose done will not run, at the end of everything. */
void pg_op_drop(struct pg_op *op);
/* The transaction's connection is gone or taken away. */
void pg_tx_lost(struct pg_tx *tx, enum gw_err err);

/* --- pg_pool.c */
void pg_pool_start(struct pg_server *srv, const char *name);
void pg_pool_stop(struct pg_server *srv);
/* Runs it on an idle connection, queues it, or ends it with GW_EUNAVAIL. */
void pg_pool_submit(struct pg_op *op);
/* Takes a waiting operation out of the queue. */
void pg_pool_withdraw(struct pg_op *op);
/* A connection is free: next in the queue, or idle, or closed when it may not be used again. */
void pg_pool_release(struct pg_conn *c);
/* The one function that moves a connection between lists. */
void pg_pool_move(struct pg_conn *c, enum pg_state to);
void pg_pool_remove(struct pg_conn *c);
void pg_pool_connected(struct pg_conn *c);
/* A connection could not be made. text: libpq's, for the log. */
void pg_pool_failed(struct pg_server *srv, const char *sqlstate, const char *text);
/* A statement got no answer in time. */
void pg_pool_suspect(struct pg_server *srv);
void pg_pool_wake(struct pg_server *srv);
void pg_pool_gauges(void);

/* --- pg_conn.c */
/* Starts to connect; failure is told through pg_pool_failed(). */
void pg_conn_open(struct pg_server *srv);
/* Runs the operation; the connection is idle or held by the operation's transaction. */
void pg_conn_run(struct pg_conn *c, struct pg_op *op);
/* Rolls back what is open, then releases. */
void pg_conn_rollback(struct pg_conn *c);
/* Held by a transaction without a running statement: until when. */
void pg_conn_hold(struct pg_conn *c);
/* Closes it; an operation on it must have been ended. Its memory goes with pg_conn_free(), by
 * itself at the end of the turn. */
void pg_conn_close(struct pg_conn *c);
void pg_conn_free(struct pg_conn *c);

/* --- pg_target.c */
enum gw_err pg_target_init(struct pg_target *t, const char *url) MUST_CHECK;
void pg_target_deinit(struct pg_target *t);
/* Begins to connect; NULL out of memory. */
PGconn *pg_target_connect(const struct pg_target *t, bool with_options);
/* True when names have to be looked up first. */
bool pg_target_stale(const struct pg_target *t);
/* Looks the names up; done(err, arg) with GW_EUNAVAIL when there is no address. NULL: not started.
 */
struct op *pg_target_resolve(struct pg_target *t, void (*done)(enum gw_err err, void *arg),
                             void *arg);

/* --- pg_cancel.c */
/* Asks the server to stop what the connection runs; never waits. */
void pg_cancel(PGconn *pg);

/* --- pg_value.c */
enum gw_err pg_sqlstate_err(const char *sqlstate);
/* What an operator reads about a failed connection or a refused statement; NULL when the code says
 * nothing of interest. */
const char *pg_sqlstate_words(const char *sqlstate);
/* Finds the code in an error message of verbose form; "" when there is none. */
void pg_sqlstate_find(const char *message, char ret[6]);
/* The text of parameter i; p == NULL is SQL NULL. */
struct slice pg_arg_get(const struct pg_args *a, unsigned i);
