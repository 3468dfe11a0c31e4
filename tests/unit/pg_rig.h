/*
 * pg_rig.h - for the tests of the Postgres pool. Nothing sleeps: a ticker lets the loop turn while
 * a condition is waited for. The live tests need POSTERN_TEST_PG, the conninfo of a server with a
 * superuser (they end other sessions and make roles): tests/integration/test_pg_pool.py starts one.
 */
#pragma once

#include "storage/pg_private.h"

#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"

#include "tests/unit/turns.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_US 5000u

static struct conf conf;
static struct loop_timer ticker;

static inline void on_tick(void *arg)
{
    (void)arg;
    loop_timer_set(&ticker, loop_now_us() + TICK_US);
}

/* --- what came of an operation ---------------------------------------------------------------- */

struct outcome {
    struct op *op;
    unsigned calls;
    enum gw_err err;
    unsigned rows;
    uint64_t affected;
    size_t bytes; /* of the first value */
    char text[128], constraint[64];
    struct pg_tx *tx;
};

static inline void on_done(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct outcome *o = arg;

    o->op = NULL;
    o->calls++;
    o->err = err;
    o->rows = pg_count(rows);
    o->affected = pg_affected(rows);
    o->bytes = pg_text(rows, 0, 0).n;
    snprintf(o->text, sizeof(o->text), "%.*s", SLICE_ARG(pg_text(rows, 0, 0)));
    snprintf(o->constraint, sizeof(o->constraint), "%.*s", SLICE_ARG(pg_constraint(rows)));
}

static inline void on_begun(enum gw_err err, struct pg_tx *tx, void *arg)
{
    struct outcome *o = arg;

    o->op = NULL;
    o->calls++;
    o->err = err;
    o->tx = tx;
}

/* Starts one; the statement's struct lives as long as the operation may. */
static inline void start(struct outcome *o, const struct pg_stmt *stmt, const struct pg_args *args,
                         uint64_t timeout_us)
{
    memset(o, 0, sizeof(*o));
    o->op = pg_query(PG_WRITE, stmt, args, timeout_us ? loop_now_us() + timeout_us : 0, on_done, o);
    assert_non_null(o->op);
    assert_int_equal(o->calls, 0); /* never inside the start call */
}

static inline struct outcome run_args(const char *sql, const struct pg_args *args)
{
    struct pg_stmt stmt = {"test", sql};
    struct outcome o;

    start(&o, &stmt, args, 0);
    turn_until(o.calls);
    return o;
}

static inline struct outcome run(const char *sql)
{
    return run_args(sql, NULL);
}

static inline void must(const char *sql)
{
    struct outcome o = run(sql);

    assert_int_equal(o.err, GW_OK);
}

static inline void expect(const char *sql, const char *text)
{
    struct outcome o = run(sql);

    assert_int_equal(o.err, GW_OK);
    assert_string_equal(o.text, text);
}

static inline struct pg_tx *begin(void)
{
    struct outcome o = {0};

    o.op = pg_begin(0, on_begun, &o);
    assert_non_null(o.op);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_OK);
    assert_non_null(o.tx);
    return o.tx;
}

static inline struct outcome tx_run(struct pg_tx *tx, const char *sql)
{
    struct pg_stmt stmt = {"test", sql};
    struct outcome o = {0};

    o.op = pg_tx_query(tx, &stmt, NULL, on_done, &o);
    assert_int_equal(o.calls, 0);
    turn_until(o.calls);
    return o;
}

static inline struct outcome tx_copy(struct pg_tx *tx, const char *sql, struct slice data)
{
    struct pg_stmt stmt = {"test", sql};
    struct outcome o = {0};

    o.op = pg_tx_copy(tx, &stmt, data, on_done, &o);
    turn_until(o.calls);
    return o;
}

static inline enum gw_err commit(struct pg_tx *tx)
{
    struct outcome o = {0};

    o.op = pg_commit(tx, on_done, &o);
    turn_until(o.calls);
    return o.err;
}

static inline int64_t gauge(enum metric m)
{
    return metrics_value(metrics_get(m, NULL, NULL, NULL));
}

static inline unsigned busy(void)
{
    struct pg_stats s;

    pg_stats(&s);
    return s.busy;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static inline int loop_up(void **state)
{
    (void)state;
    assert_int_equal(loop_init(), GW_OK);
    assert_int_equal(offload_init(2, 64), GW_OK);
    loop_timer_init(&ticker, on_tick, NULL);
    loop_timer_set(&ticker, loop_now_us());
    conf = (struct conf){
        .pg_pool_size = 2,
        .pg_max_overflow = 2,
        .pg_queue_limit = 16,
        .pg_wait_ms = 20000,
        .pg_connect_ms = 10000,
        .pg_statement_ms = 20000,
        .pg_lifetime_s = 3600,
        .pg_pipeline = true,
    };
    return 0;
}

static inline int loop_down(void **state)
{
    (void)state;
    pg_deinit();
    loop_timer_stop(&ticker);
    offload_deinit();
    loop_deinit();
    return 0;
}

/* Ends the program's use of the pool and begins anew, as the test's conf says. */
static inline void open_pool(void)
{
    conf.database_url = slice_cstr(getenv("POSTERN_TEST_PG"));
    assert_non_null(conf.database_url.p);
    assert_int_equal(pg_init(&conf), GW_OK);
}

static inline void open_narrow(void)
{
    conf.pg_pool_size = 1;
    conf.pg_max_overflow = 0;
    open_pool();
}

static inline void make_tables(void)
{
    must("DROP TABLE IF EXISTS pool_child");
    must("DROP TABLE IF EXISTS pool_test");
    must("CREATE TABLE pool_test (id int CONSTRAINT pool_test_id UNIQUE, v text)");
    must("CREATE TABLE pool_child (id int CONSTRAINT pool_child_id REFERENCES pool_test (id))");
}

#define pool_test(name) cmocka_unit_test_setup_teardown(name, loop_up, loop_down)
