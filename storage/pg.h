/*
 * pg.h - Postgres on the loop: a pool of connections, single statements, transactions, COPY.
 *
 *     CONNECTING --> IDLE <--> BUSY (a statement) / HELD (a transaction)
 *          '--failed--> backoff       '--lost, lifetime, not idle at return--> closed
 *
 * A connection is in exactly one list, and the list is its state. Statements are sent unnamed with
 * their parameters apart, in text format, and nothing lives in the session outside a transaction,
 * so PgBouncer in transaction mode may stand between. Who finds no free connection waits in a queue
 * that is bounded in length and time. A statement that was sent is never sent again by this file.
 *
 * Errors: GW_EUNAVAIL (not configured, away, queue full, waited too long, connection lost before or
 * during the statement, the server's disk is full or it is read-only), GW_EDEADLINE (the statement
 * ran too long), GW_ECONFLICT (unique or exclusion violation), GW_ENOTFOUND (foreign key),
 * GW_EBADREQ (the data was refused), GW_EAGAIN (serialisation, deadlock, lock not available),
 * GW_EIO (I/O error at the server), GW_EINTERNAL (everything else: our own statement is wrong),
 * GW_ENOMEM.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#include <stdint.h>

/* Reads that may be a moment late go to DATABASE_READ_URL when it is set and answers, else where
 * writes go. What it does not answer (away, silent for too long, behind, in conflict with
 * what it replays) is asked there too. */
enum pg_role { PG_WRITE, PG_READ };

/* In SQL: a timestamp as RFC 3339 in UTC. */
#define PG_TIME(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

/* In SQL: a page of `table` under the alias `t`, and in the last column of each row how many rows
 * there are on all pages. When there are none on this one, one row comes that is NULL but for that
 * number. */
#define PG_PAGE(columns, table, t, where, order, limit, offset)                                    \
    "SELECT " columns ", all_rows.n FROM (SELECT count(*) AS n FROM " table " " t " WHERE " where  \
    ") all_rows LEFT JOIN (SELECT " t ".*, " t ".xmin FROM " table " " t " WHERE " where           \
    " ORDER BY " order " LIMIT " limit " OFFSET " offset ") " t " ON true ORDER BY " order

/* A statement. Static; `name` is the `operation` label of the metrics. */
struct pg_stmt {
    const char *name, *sql;
};

/* Parameters, in order. Texts are borrowed until the start function returns. */
#define PG_MAX_ARGS 24u
struct pg_args {
    unsigned n;
    struct {
        struct slice text; /* p == NULL: SQL NULL */
        char number[24];
    } arg[PG_MAX_ARGS];
};
void pg_arg_text(struct pg_args *a, struct slice text); /* p == NULL gives NULL; no NUL inside */
void pg_arg_cstr(struct pg_args *a, const char *text);  /* NULL and "" give NULL */
void pg_arg_int(struct pg_args *a, int64_t v);
void pg_arg_bool(struct pg_args *a, bool v);
void pg_arg_null(struct pg_args *a);
void pg_arg_or_null(struct pg_args *a, struct slice text);    /* empty gives NULL */
void pg_arg_int_if(struct pg_args *a, bool given, int64_t v); /* not given: NULL */

/* A result; valid inside done() only. All readers accept NULL. */
struct pg_rows;
unsigned pg_count(const struct pg_rows *r);
unsigned pg_columns(const struct pg_rows *r);
uint64_t pg_affected(const struct pg_rows *r);
bool pg_is_null(const struct pg_rows *r, unsigned row, unsigned col);
struct slice pg_text(const struct pg_rows *r, unsigned row, unsigned col); /* NULL: p == NULL */
struct slice pg_text_or_empty(const struct pg_rows *r, unsigned row, unsigned col);
int64_t pg_int(const struct pg_rows *r, unsigned row, unsigned col); /* NULL: 0 */
bool pg_bool(const struct pg_rows *r, unsigned row, unsigned col);   /* NULL: false */
/* With GW_ECONFLICT and GW_ENOTFOUND: the constraint's name; else empty. */
struct slice pg_constraint(const struct pg_rows *r);

typedef void (*pg_done)(enum gw_err err, const struct pg_rows *rows, void *arg);

/* Opens nothing yet when no DATABASE_URL is set: then everything answers GW_EUNAVAIL. Never waits
 * for the server: a database that is away at start is tried again. */
enum gw_err pg_init(const struct conf *c) MUST_CHECK;
/* Closes everything. Operations outstanding are dropped without their done, and transactions end:
 * their handles are dead and must not be cancelled or rolled back any more. */
void pg_deinit(void);

/* False when libpq cannot make sense of a DATABASE_URL. */
bool pg_url_ok(const char *url);

bool pg_enabled(void); /* a database is configured */
bool pg_up(void);      /* and the last thing heard of it was good */

struct pg_stats {
    unsigned open, busy, max, waiting;
    bool read_replica; /* configured */
    bool read_up;
};
void pg_stats(struct pg_stats *ret);

/* One statement by itself. deadline_us (loop clock) covers waiting and running; 0 = the statement
 * timeout from now. NULL out of memory. Cancelling gives the answer up; the statement may still
 * run. */
struct op *pg_query(enum pg_role role, const struct pg_stmt *stmt, const struct pg_args *args,
                    uint64_t deadline_us, pg_done done, void *arg);
/* The same for a statement whose only parameter is a text. */
struct op *pg_query_text(enum pg_role role, const struct pg_stmt *stmt, struct slice text,
                         uint64_t deadline_us, pg_done done, void *arg);

/* --- transactions ----------------------------------------------------------------------------
 * Begin, then one operation at a time, then commit or roll back. After an error the transaction can
 * only be rolled back. GW_EUNAVAIL from pg_commit() means unknown: it may have been committed. */
struct pg_tx;
struct op *pg_begin(uint64_t deadline_us,
                    void (*done)(enum gw_err err, struct pg_tx *tx, void *arg), void *arg);
struct op *pg_tx_query(struct pg_tx *tx, const struct pg_stmt *stmt, const struct pg_args *args,
                       pg_done done, void *arg);
/* COPY ... FROM STDIN in text format; `data` is borrowed until done. */
struct op *pg_tx_copy(struct pg_tx *tx, const struct pg_stmt *stmt, struct slice data, pg_done done,
                      void *arg);
/* Ends the transaction; tx is dead at once. */
struct op *pg_commit(struct pg_tx *tx, pg_done done, void *arg);
/* Ends it without waiting, also while an operation of it is outstanding (cancel that first) or
 * after an error. NULL is fine. */
void pg_rollback(struct pg_tx *tx);
