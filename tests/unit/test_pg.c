/*
 * The Postgres pool. What is pure runs always; what needs a server runs when POSTERN_TEST_PG holds
 * a conninfo or URL of one (tests/integration/test_pg_pool.py starts one), and is skipped
 * otherwise. The role must be a superuser: the tests end other sessions. Nothing sleeps: a ticker
 * lets the loop turn while a condition is waited for.
 */
#include "storage/pg_private.h"

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PATIENCE_US 30000000u
#define TICK_US 5000u

static struct conf conf;
static struct loop_timer ticker;

static void on_tick(void *arg)
{
    (void)arg;
    loop_timer_set(&ticker, loop_now_us() + TICK_US);
}

#define turn_until(condition)                                                                      \
    do {                                                                                           \
        uint64_t end_ = loop_clock_us() + PATIENCE_US;                                             \
                                                                                                   \
        while (!(condition) && loop_clock_us() < end_)                                             \
            loop_turn();                                                                           \
        assert_true(condition);                                                                    \
    } while (0)

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

static void on_done(enum gw_err err, const struct pg_rows *rows, void *arg)
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

static void on_begun(enum gw_err err, struct pg_tx *tx, void *arg)
{
    struct outcome *o = arg;

    o->op = NULL;
    o->calls++;
    o->err = err;
    o->tx = tx;
}

/* Starts one; the statement's struct lives as long as the operation may. */
static void start(struct outcome *o, const struct pg_stmt *stmt, const struct pg_args *args,
                  uint64_t timeout_us)
{
    memset(o, 0, sizeof(*o));
    o->op = pg_query(PG_WRITE, stmt, args, timeout_us ? loop_now_us() + timeout_us : 0, on_done, o);
    assert_non_null(o->op);
    assert_int_equal(o->calls, 0); /* never inside the start call */
}

static struct outcome run_args(const char *sql, const struct pg_args *args)
{
    struct pg_stmt stmt = {"test", sql};
    struct outcome o;

    start(&o, &stmt, args, 0);
    turn_until(o.calls);
    return o;
}

static struct outcome run(const char *sql)
{
    return run_args(sql, NULL);
}

static void must(const char *sql)
{
    struct outcome o = run(sql);

    assert_int_equal(o.err, GW_OK);
}

static void expect(const char *sql, const char *text)
{
    struct outcome o = run(sql);

    assert_int_equal(o.err, GW_OK);
    assert_string_equal(o.text, text);
}

static struct pg_tx *begin(void)
{
    struct outcome o = {0};

    o.op = pg_begin(0, on_begun, &o);
    assert_non_null(o.op);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_OK);
    assert_non_null(o.tx);
    return o.tx;
}

static struct outcome tx_run(struct pg_tx *tx, const char *sql)
{
    struct pg_stmt stmt = {"test", sql};
    struct outcome o = {0};

    o.op = pg_tx_query(tx, &stmt, NULL, on_done, &o);
    assert_int_equal(o.calls, 0);
    turn_until(o.calls);
    return o;
}

static struct outcome tx_copy(struct pg_tx *tx, const char *sql, struct slice data)
{
    struct pg_stmt stmt = {"test", sql};
    struct outcome o = {0};

    o.op = pg_tx_copy(tx, &stmt, data, on_done, &o);
    turn_until(o.calls);
    return o;
}

static enum gw_err commit(struct pg_tx *tx)
{
    struct outcome o = {0};

    o.op = pg_commit(tx, on_done, &o);
    turn_until(o.calls);
    return o.err;
}

static int64_t gauge(enum metric m)
{
    return metrics_value(metrics_get(m, NULL, NULL, NULL));
}

static unsigned busy(void)
{
    struct pg_stats s;

    pg_stats(&s);
    return s.busy;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static int loop_up(void **state)
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

static int loop_down(void **state)
{
    (void)state;
    pg_deinit();
    loop_timer_stop(&ticker);
    offload_deinit();
    loop_deinit();
    return 0;
}

/* Ends the program's use of the pool and begins anew, as the test's conf says. */
static void open_pool(void)
{
    conf.database_url = slice_cstr(getenv("POSTERN_TEST_PG"));
    if (!conf.database_url.p)
        skip();
    assert_int_equal(pg_init(&conf), GW_OK);
}

static void open_narrow(void)
{
    conf.pg_pool_size = 1;
    conf.pg_max_overflow = 0;
    open_pool();
}

static void make_tables(void)
{
    must("DROP TABLE IF EXISTS pool_child");
    must("DROP TABLE IF EXISTS pool_test");
    must("CREATE TABLE pool_test (id int CONSTRAINT pool_test_id UNIQUE, v text)");
    must("CREATE TABLE pool_child (id int CONSTRAINT pool_child_id REFERENCES pool_test (id))");
}

/* --- pure ------------------------------------------------------------------------------------- */

static void test_sqlstates_become_errors(void **state)
{
    static const struct {
        const char *sqlstate;
        enum gw_err err;
    } rows[] = {
        {"23505", GW_ECONFLICT}, {"23P01", GW_ECONFLICT}, {"23503", GW_ENOTFOUND},
        {"23502", GW_EBADREQ},   {"22021", GW_EBADREQ},   {"22P02", GW_EBADREQ},
        {"22P05", GW_EBADREQ},   {"40001", GW_EAGAIN},    {"40P01", GW_EAGAIN},
        {"55P03", GW_EAGAIN},    {"57014", GW_EDEADLINE}, {"57P01", GW_EUNAVAIL},
        {"57P03", GW_EUNAVAIL},  {"53300", GW_EUNAVAIL},  {"28P01", GW_EUNAVAIL},
        {"3D000", GW_EUNAVAIL},  {"08006", GW_EUNAVAIL},  {"08P01", GW_EUNAVAIL},
        {"53100", GW_EIO},       {"25006", GW_EIO},       {"58030", GW_EIO},
        {"42601", GW_EINTERNAL}, {"42P01", GW_EINTERNAL}, {"25P02", GW_EINTERNAL},
        {"XX000", GW_EINTERNAL}, {"", GW_EINTERNAL},
    };
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(pg_sqlstate_err(rows[i].sqlstate), rows[i].err);
}

static void test_operators_read_words(void **state)
{
    assert_non_null(pg_sqlstate_words("28P01"));
    assert_non_null(pg_sqlstate_words("3D000"));
    assert_non_null(pg_sqlstate_words("53100"));
    assert_non_null(pg_sqlstate_words("53300"));
    assert_non_null(pg_sqlstate_words("25006"));
    assert_null(pg_sqlstate_words("23505"));
    assert_null(pg_sqlstate_words("42601"));
}

static void expect_code(const char *message, const char *code)
{
    char got[6];

    pg_sqlstate_find(message, got);
    assert_string_equal(got, code);
}

static void test_a_sqlstate_is_found_in_a_message(void **state)
{
    expect_code("connection to server failed: FATAL:  28P01: no\nLOCATION:  auth_failed\n",
                "28P01");
    expect_code("FATAL:  53300\n", "53300");
    expect_code("FATAL:  3D000", "3D000");
    expect_code("FATAL:  57P03: x\nconnection: FATAL:  28000: y\n", "28000");
    expect_code("connection refused", "");
    expect_code("FATAL:  sorry, too many clients", "");
    expect_code("FATAL:  5330", "");
    expect_code("", "");
}

static void test_arguments_may_be_copied(void **state)
{
    struct pg_args a = {.n = 0}, b;

    pg_arg_int(&a, INT64_MIN);
    pg_arg_text(&a, SLICE("x"));
    pg_arg_cstr(&a, "");
    pg_arg_bool(&a, true);
    pg_arg_null(&a);
    b = a;
    memset(&a, 0x5a, sizeof(a));
    assert_int_equal(b.n, 5);
    assert_true(slice_is(pg_arg_get(&b, 0), "-9223372036854775808"));
    assert_true(slice_is(pg_arg_get(&b, 1), "x"));
    assert_null(pg_arg_get(&b, 2).p);
    assert_true(slice_is(pg_arg_get(&b, 3), "t"));
    assert_null(pg_arg_get(&b, 4).p);
}

static void test_readers_accept_nothing(void **state)
{
    assert_int_equal(pg_count(NULL), 0);
    assert_int_equal(pg_affected(NULL), 0);
    assert_true(pg_is_null(NULL, 0, 0));
    assert_null(pg_text(NULL, 0, 0).p);
    assert_int_equal(pg_int(NULL, 0, 0), 0);
    assert_false(pg_bool(NULL, 0, 0));
    assert_int_equal(pg_constraint(NULL).n, 0);
}

static void test_urls_are_judged(void **state)
{
    assert_true(pg_url_ok("postgresql://u:p@h:5432/d?sslmode=require"));
    assert_true(pg_url_ok("postgres://h/d"));
    assert_true(pg_url_ok("host=/tmp dbname=d"));
    assert_false(pg_url_ok("postgresql://u:p@h/d?nonsense=1"));
    assert_false(pg_url_ok("mysql://h/d"));
    assert_false(pg_url_ok("postgresql://h/%zz"));
}

/* --- without a server ------------------------------------------------------------------------- */

static void test_without_an_address_all_is_unavailable(void **state)
{
    assert_int_equal(pg_init(&conf), GW_OK);
    assert_false(pg_enabled());
    assert_false(pg_up());
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
}

static void test_an_absent_server_is_no_reason_to_wait(void **state)
{
    struct outcome o;

    conf.database_url = SLICE("host=127.0.0.1 port=1 dbname=x");
    assert_int_equal(pg_init(&conf), GW_OK);
    assert_true(pg_enabled());
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
    assert_false(pg_up());
    o = run("SELECT 1"); /* refused without an attempt */
    assert_int_equal(o.err, GW_EUNAVAIL);
    assert_int_equal(gauge(M_DB_WAITING), 0);
}

static void test_names_are_looked_up_off_the_loop(void **state)
{
    conf.database_url = SLICE("postgresql://localhost:1/x");
    assert_int_equal(pg_init(&conf), GW_OK);
    assert_true(pg_primary.target.named);
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
    assert_non_null(pg_primary.target.addrs);
    assert_non_null(strstr(pg_primary.target.addrs, "127.0.0.1"));
    assert_non_null(strstr(pg_primary.target.hosts, "localhost"));
    conf.database_url = SLICE("postgresql://no-such-host.invalid/x");
    pg_deinit();
    assert_int_equal(pg_init(&conf), GW_OK);
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
}

static void test_an_address_libpq_refuses_does_not_start(void **state)
{
    conf.database_url = SLICE("postgresql://h/d?nonsense=1");
    assert_int_equal(pg_init(&conf), GW_EBADREQ);
    assert_false(pg_enabled());
}

/* --- statements ------------------------------------------------------------------------------- */

static void test_a_statement_is_answered(void **state)
{
    struct outcome o;

    open_pool();
    o = run("SELECT g FROM generate_series(7, 9) g");
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.rows, 3);
    assert_string_equal(o.text, "7");
    assert_true(pg_up());
    turn_until(gauge(M_DB_CONNECTIONS) == 2); /* pool_size is kept */
    assert_int_equal(gauge(M_DB_CONNECTIONS_MAX), 4);
}

static void test_parameters_arrive_as_they_are(void **state)
{
    struct pg_args a = {.n = 0};
    struct outcome o;

    open_pool();
    pg_arg_int(&a, -42);
    pg_arg_text(&a, SLICE("'; DROP TABLE x; -- \xc3\xa9"));
    pg_arg_null(&a);
    pg_arg_bool(&a, true);
    pg_arg_text(&a, SLICE(""));
    o = run_args(
        "SELECT concat_ws('|', $1::int, $2::text, $3::text IS NULL, $4::bool, $5::text = '')", &a);
    assert_int_equal(o.err, GW_OK);
    assert_string_equal(o.text, "-42|'; DROP TABLE x; -- \xc3\xa9|t|t|t");
}

static void test_a_text_with_nul_is_refused(void **state)
{
    struct pg_args a = {.n = 0};

    open_pool();
    pg_arg_text(&a, slice_of("a\0b", 3));
    assert_int_equal(run_args("SELECT $1::text", &a).err, GW_EBADREQ);
}

static void test_megabytes_go_both_ways(void **state)
{
    struct pg_args a = {.n = 0};
    size_t n = 8u << 20;
    char *big = malloc(n);
    struct outcome o;

    open_pool();
    memset(big, 'x', n);
    pg_arg_text(&a, slice_of(big, n));
    o = run_args("SELECT $1::text || $1::text", &a);
    free(big);
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.bytes, 2 * n);
}

static void test_refusals_have_their_codes(void **state)
{
    struct outcome o;

    open_pool();
    make_tables();
    must("INSERT INTO pool_test VALUES (1, 'a')");
    o = run("INSERT INTO pool_test VALUES (1, 'b')");
    assert_int_equal(o.err, GW_ECONFLICT);
    assert_string_equal(o.constraint, "pool_test_id");
    o = run("INSERT INTO pool_child VALUES (5)");
    assert_int_equal(o.err, GW_ENOTFOUND);
    assert_string_equal(o.constraint, "pool_child_id");
    assert_int_equal(run("SELECT 'x'::int").err, GW_EBADREQ);
    assert_int_equal(run("SELECT '\xff'").err, GW_EBADREQ);
    assert_int_equal(run("SELEKT").err, GW_EINTERNAL);
    assert_int_equal(run("SELECT 1; SELECT 2").err, GW_EINTERNAL);
    assert_int_equal(run("").err, GW_EINTERNAL);
    assert_int_equal(run("COPY pool_test TO STDOUT").err, GW_EINTERNAL);
    o = run("UPDATE pool_test SET v = 'c'");
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.affected, 1);
    assert_int_equal(metrics_value(metrics_get(M_DB_ERRORS, "test", "conflict", NULL)), 1);
}

/* --- time ------------------------------------------------------------------------------------- */

static void test_a_late_statement_is_given_up_and_stopped(void **state)
{
    static const struct pg_stmt slow = {"slow", "SELECT pg_sleep(600) /* late */"};
    struct outcome o;

    open_pool();
    must("SELECT 1");
    start(&o, &slow, NULL, 200000);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_EDEADLINE);
    do
        o = run("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%/* late */' AND pid <> "
                "pg_backend_pid() AND state = 'active'");
    while (o.err == GW_OK && strcmp(o.text, "0") != 0);
    assert_string_equal(o.text, "0");
    turn_until(gauge(M_DB_CONNECTIONS) == 2);
    assert_true(pg_up());
}

static void test_the_servers_own_limit_leaves_the_connection(void **state)
{
    struct outcome o;

    conf.pg_statement_ms = 300;
    open_narrow();
    expect("SHOW statement_timeout", "300ms");
    must("SELECT set_config('pool.mark', 'here', false)");
    o = run("SELECT pg_sleep(600)");
    assert_int_equal(o.err, GW_EDEADLINE);
    expect("SELECT current_setting('pool.mark')", "here");
}

static void test_a_cancelled_statement_is_never_told(void **state)
{
    static const struct pg_stmt brief = {"brief", "SELECT pg_sleep(0.2)"};
    struct outcome o;

    open_narrow();
    must("SELECT 1");
    start(&o, &brief, NULL, 0);
    assert_int_equal(busy(), 1);
    op_cancel(&o.op);
    expect("SELECT 5", "5"); /* waits for the same connection */
    assert_int_equal(o.calls, 0);
}

static void test_a_cancelled_answer_is_not_delivered(void **state)
{
    struct outcome o;

    assert_int_equal(pg_init(&conf), GW_OK);
    start(&o, &(struct pg_stmt){"x", "SELECT 1"}, NULL, 0); /* ends at once, is told later */
    op_cancel(&o.op);
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
    assert_int_equal(o.calls, 0);
}

static void test_the_queue_is_bounded_and_in_order(void **state)
{
    static const struct pg_stmt brief = {"brief", "SELECT pg_sleep(0.3)"};
    static const struct pg_stmt clock = {"clock", "SELECT clock_timestamp()::text"};
    struct outcome first, second, third, fourth;

    conf.pg_queue_limit = 2;
    open_narrow();
    must("SELECT 1");
    start(&first, &brief, NULL, 0);
    start(&second, &clock, NULL, 0);
    start(&third, &clock, NULL, 0);
    assert_int_equal(gauge(M_DB_WAITING), 2);
    start(&fourth, &clock, NULL, 0);
    turn_until(fourth.calls);
    assert_int_equal(fourth.err, GW_EUNAVAIL);
    assert_int_equal(first.calls, 0);
    turn_until(third.calls);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 1);
    assert_int_equal(third.err, GW_OK);
    assert_true(strcmp(second.text, third.text) < 0);
    assert_int_equal(gauge(M_DB_WAITING), 0);
}

static void test_nobody_waits_too_long(void **state)
{
    static const struct pg_stmt slow = {"slow", "SELECT pg_sleep(1)"}, one = {"one", "SELECT 1"};
    struct outcome first, second, third;

    conf.pg_wait_ms = 100;
    open_narrow();
    must("SELECT 1");
    start(&first, &slow, NULL, 0);
    start(&second, &one, NULL, 0);
    start(&third, &one, NULL, 0);
    op_cancel(&third.op);
    assert_int_equal(gauge(M_DB_WAITING), 1);
    turn_until(second.calls);
    assert_int_equal(second.err, GW_EUNAVAIL);
    assert_int_equal(first.calls, 0);
    turn_until(first.calls);
    assert_int_equal(first.err, GW_OK);
    assert_int_equal(third.calls, 0);
}

static void test_many_at_once_open_more_connections(void **state)
{
    static const struct pg_stmt pid = {"pid", "SELECT pg_backend_pid() FROM pg_sleep(1)"};
    struct outcome o[4];
    unsigned i, k;

    open_pool();
    must("SELECT 1");
    for (i = 0; i < 4; i++)
        start(&o[i], &pid, NULL, 0);
    turn_until(busy() == 4);
    for (i = 0; i < 4; i++) {
        turn_until(o[i].calls);
        assert_int_equal(o[i].err, GW_OK);
        for (k = 0; k < i; k++)
            assert_string_not_equal(o[i].text, o[k].text);
    }
    assert_int_equal(gauge(M_DB_CONNECTIONS), 4);
}

static void test_an_old_connection_is_replaced(void **state)
{
    struct outcome o, later;

    conf.pg_lifetime_s = 1;
    open_narrow();
    o = run("SELECT pg_backend_pid()");
    do
        later = run("SELECT pg_backend_pid()");
    while (later.err == GW_OK && strcmp(o.text, later.text) == 0);
    assert_int_equal(later.err, GW_OK);
}

/* --- transactions ----------------------------------------------------------------------------- */

static void transaction_works(void)
{
    struct pg_tx *tx;

    open_pool();
    make_tables();
    tx = begin();
    assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (1, 'a')").affected, 1);
    expect("SELECT count(*) FROM pool_test", "0");
    assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (2, 'b')").err, GW_OK);
    assert_int_equal(commit(tx), GW_OK);
    expect("SELECT count(*) FROM pool_test", "2");
    tx = begin();
    assert_int_equal(tx_run(tx, "DELETE FROM pool_test").affected, 2);
    pg_rollback(tx);
    turn_until(busy() == 0);
    expect("SELECT count(*) FROM pool_test", "2");
}

static void test_a_transaction_is_all_or_nothing(void **state)
{
    transaction_works();
}

static void test_a_transaction_without_pipeline_too(void **state)
{
    conf.pg_pipeline = false;
    transaction_works();
}

static void test_an_empty_transaction_costs_nothing(void **state)
{
    open_narrow();
    assert_int_equal(commit(begin()), GW_OK);
    pg_rollback(begin());
    pg_rollback(NULL);
    must("SELECT 1");
}

/* The failing statement is the first, or comes after one that was good. */
static void failed_transaction(bool first)
{
    struct pg_tx *tx;
    struct outcome o;

    open_narrow();
    make_tables();
    must("INSERT INTO pool_test VALUES (1, 'a')");
    tx = begin();
    if (!first)
        assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (7, 'g')").err, GW_OK);
    o = tx_run(tx, "INSERT INTO pool_test VALUES (1, 'b')");
    assert_int_equal(o.err, GW_ECONFLICT);
    assert_string_equal(o.constraint, "pool_test_id");
    assert_int_equal(tx_run(tx, "SELECT 1").err, GW_ECONFLICT); /* nothing more is sent */
    assert_int_equal(commit(tx), GW_ECONFLICT);
    expect("SELECT count(*) FROM pool_test", "1"); /* the same connection, clean again */
}

static void test_a_failed_transaction_cannot_be_committed(void **state)
{
    failed_transaction(false);
}

static void test_a_transaction_may_fail_with_its_first_statement(void **state)
{
    failed_transaction(true);
}

static void test_a_commit_may_be_refused(void **state)
{
    struct pg_tx *tx;

    open_narrow();
    must("DROP TABLE IF EXISTS pool_late");
    must("CREATE TABLE pool_late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    tx = begin();
    assert_int_equal(tx_run(tx, "INSERT INTO pool_late VALUES (1), (1)").err, GW_OK);
    assert_int_equal(commit(tx), GW_ECONFLICT);
    expect("SELECT count(*) FROM pool_late", "0");
}

static void test_a_transaction_given_up_midway_rolls_back(void **state)
{
    static const struct pg_stmt slow = {"slow", "SELECT pg_sleep(0.3)"};
    struct pg_tx *tx;
    struct outcome o = {0};

    open_narrow();
    make_tables();
    tx = begin();
    assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (1, 'a')").err, GW_OK);
    o.op = pg_tx_query(tx, &slow, NULL, on_done, &o);
    op_cancel(&o.op);
    pg_rollback(tx);
    expect("SELECT count(*) FROM pool_test", "0");
    assert_int_equal(o.calls, 0);
}

static void test_a_begin_given_up_leaves_nothing_behind(void **state)
{
    struct outcome o = {0};

    open_narrow();
    must("SELECT 1");
    o.op = pg_begin(0, on_begun, &o);
    op_cancel(&o.op);
    assert_int_equal(busy(), 0);
    must("SELECT 1");
    pg_deinit();
    conf.pg_pipeline = false;
    open_narrow();
    must("SELECT 1");
    o.op = pg_begin(0, on_begun, &o);
    assert_int_equal(busy(), 1);
    op_cancel(&o.op);
    expect("SELECT 6", "6");
    assert_int_equal(o.calls, 0);
}

static void test_a_transaction_has_a_deadline(void **state)
{
    struct outcome o = {0};

    open_narrow();
    make_tables();
    o.op = pg_begin(loop_now_us() + 400000, on_begun, &o);
    turn_until(o.calls);
    assert_int_equal(tx_run(o.tx, "INSERT INTO pool_test VALUES (1, 'a')").err, GW_OK);
    turn_until(busy() == 0); /* its user forgot it */
    assert_int_equal(tx_run(o.tx, "SELECT 1").err, GW_EDEADLINE);
    assert_int_equal(commit(o.tx), GW_EDEADLINE);
    expect("SELECT count(*) FROM pool_test", "0");
}

/* --- COPY ------------------------------------------------------------------------------------- */

static char *many_rows(unsigned n, size_t *ret_len)
{
    char *p = malloc((size_t)n * 32);
    size_t len = 0;
    unsigned i;

    for (i = 0; i < n; i++)
        len += (size_t)sprintf(p + len, "%u\trow number %u\n", i, i);
    *ret_len = len;
    return p;
}

static void test_rows_are_copied_in(void **state)
{
    size_t len;
    char *rows = many_rows(200000, &len);
    struct pg_tx *tx;
    struct outcome o;

    open_narrow();
    make_tables();
    tx = begin();
    o = tx_copy(tx, "COPY pool_test FROM STDIN", slice_of(rows, len)); /* the first statement */
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.affected, 200000);
    o = tx_copy(tx, "COPY pool_test FROM STDIN", SLICE("-1\tx\n-2\t\\N\n"));
    assert_int_equal(o.affected, 2);
    o = tx_copy(tx, "COPY pool_test FROM STDIN", SLICE_NONE);
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.affected, 0);
    assert_int_equal(commit(tx), GW_OK);
    free(rows);
    expect("SELECT count(*) FROM pool_test", "200002");
}

static void test_bad_rows_are_refused(void **state)
{
    size_t len;
    char *rows = many_rows(100000, &len);
    struct pg_tx *tx;

    open_narrow();
    make_tables();
    memcpy(rows + 20, "x", 1); /* in the first rows, while the others are still on their way */
    memcpy(rows, "z", 1);
    tx = begin();
    assert_int_equal(tx_copy(tx, "COPY pool_test FROM STDIN", slice_of(rows, len)).err, GW_EBADREQ);
    pg_rollback(tx);
    tx = begin();
    assert_int_equal(tx_copy(tx, "COPY pool_test FROM STDIN", SLICE("1\ta\n1\tb\n")).err,
                     GW_ECONFLICT);
    pg_rollback(tx);
    free(rows);
    expect("SELECT count(*) FROM pool_test", "0");
}

static void test_a_copy_given_up_reads_its_data_no_more(void **state)
{
    static const struct pg_stmt copy = {"copy", "COPY pool_test FROM STDIN"};
    size_t len;
    struct pg_tx *tx;
    struct outcome o = {0};
    char *rows = many_rows(200000, &len);

    open_narrow();
    make_tables();
    tx = begin();
    assert_int_equal(tx_run(tx, "SELECT 1").err, GW_OK);
    o.op = pg_tx_copy(tx, &copy, slice_of(rows, len), on_done, &o);
    turn_until(tx->conn->copying); /* under way, its data not all handed over */
    op_cancel(&o.op);
    free(rows);
    pg_rollback(tx);
    expect("SELECT count(*) FROM pool_test", "0");
    assert_int_equal(o.calls, 0);
}

/* --- faults ----------------------------------------------------------------------------------- */

#define END_OTHERS                                                                                 \
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() " \
    "AND application_name = current_setting('application_name')"

static void test_a_session_that_ended_is_replaced(void **state)
{
    open_pool();
    turn_until(gauge(M_DB_CONNECTIONS) == 2);
    expect(END_OTHERS, "1");
    turn_until(gauge(M_DB_CONNECTIONS) == 1);
    turn_until(gauge(M_DB_CONNECTIONS) == 2);
    must("SELECT 1");
}

static void test_a_statement_whose_session_ends_is_unavailable(void **state)
{
    static const struct pg_stmt slow = {"slow", "SELECT pg_sleep(600)"};
    struct pg_tx *tx;
    struct outcome o;

    open_pool();
    make_tables();
    start(&o, &slow, NULL, 0);
    turn_until(busy() == 1);
    must(END_OTHERS);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_EUNAVAIL);
    tx = begin();
    assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (1, 'a')").err, GW_OK);
    must(END_OTHERS);
    turn_until(!tx->conn);
    assert_int_equal(tx_run(tx, "SELECT 1").err, GW_EUNAVAIL);
    assert_int_equal(commit(tx), GW_EUNAVAIL);
    expect("SELECT count(*) FROM pool_test", "0");
    assert_true(pg_up());
}

static void test_what_the_server_refuses_is_unavailable(void **state)
{
    char url[512];

    open_pool();
    snprintf(url, sizeof(url), "%s dbname=no_such_database", getenv("POSTERN_TEST_PG"));
    pg_deinit();
    conf.database_url = slice_cstr(url);
    assert_int_equal(pg_init(&conf), GW_OK);
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
    assert_string_equal(pg_primary.logged_state, "3D000");
    assert_false(pg_up());
}

static void test_no_connection_left_serves_with_those_there_are(void **state)
{
    static const struct pg_stmt pid = {"pid", "SELECT pg_backend_pid() FROM pg_sleep(0.3)"};
    struct outcome o[4];
    unsigned i;

    open_narrow();
    must("DROP ROLE IF EXISTS pool_limited");
    must("CREATE ROLE pool_limited LOGIN SUPERUSER");
    pg_deinit();
    conf.pg_pool_size = 4;
    open_pool();
    must("ALTER ROLE pool_limited NOSUPERUSER CONNECTION LIMIT 1");
    pg_deinit();
    char url[512];
    snprintf(url, sizeof(url), "%s user=pool_limited", getenv("POSTERN_TEST_PG"));
    conf.database_url = slice_cstr(url);
    assert_int_equal(pg_init(&conf), GW_OK);
    for (i = 0; i < 4; i++)
        start(&o[i], &pid, NULL, 0);
    for (i = 0; i < 4; i++) {
        turn_until(o[i].calls);
        assert_int_equal(o[i].err, GW_OK);
        assert_string_equal(o[i].text, o[0].text);
    }
    assert_string_equal(pg_primary.logged_state, "53300");
    assert_true(pg_up());
}

static void test_a_read_only_database_is_an_io_error(void **state)
{
    struct pg_tx *tx;

    open_narrow();
    make_tables();
    tx = begin();
    assert_int_equal(tx_run(tx, "SET TRANSACTION READ ONLY").err, GW_OK);
    assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (1, 'a')").err, GW_EIO);
    pg_rollback(tx);
    must("SELECT 1");
}

static void test_reads_go_to_the_replica_while_it_answers(void **state)
{
    static const struct pg_stmt name = {"name", "SELECT current_setting('application_name')"};
    struct outcome o = {0};
    char url[512];

    snprintf(url, sizeof(url), "%s application_name=pool_replica",
             getenv("POSTERN_TEST_PG") ? getenv("POSTERN_TEST_PG") : "");
    conf.database_read_url = slice_cstr(url);
    open_pool();
    turn_until(pg_primary.up && pg_replica.up);
    assert_int_equal(gauge(M_DB_CONNECTIONS_MAX), 8);
    o.op = pg_query(PG_READ, &name, NULL, 0, on_done, &o);
    turn_until(o.calls);
    assert_string_equal(o.text, "pool_replica");
    start(&o, &name, NULL, 0);
    turn_until(o.calls);
    assert_string_not_equal(o.text, "pool_replica");
    pg_deinit();
    conf.database_read_url = SLICE("host=127.0.0.1 port=1");
    open_pool();
    turn_until(pg_primary.up && pg_replica.down);
    memset(&o, 0, sizeof(o));
    o.op = pg_query(PG_READ, &name, NULL, 0, on_done, &o);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_OK);
}

static void test_the_end_drops_what_is_outstanding(void **state)
{
    static const struct pg_stmt slow = {"slow", "SELECT pg_sleep(0.2)"};
    struct outcome running, waiting, ended = {0};
    struct pg_tx *tx;

    conf.pg_pool_size = 2;
    conf.pg_max_overflow = 0;
    open_pool();
    turn_until(gauge(M_DB_CONNECTIONS) == 2);
    tx = begin();
    assert_int_equal(tx_run(tx, "SELECT 1").err, GW_OK);
    start(&running, &slow, NULL, 0);
    start(&waiting, &slow, NULL, 0);
    ended.op = pg_tx_query(tx, &slow, NULL, on_done, &ended);
    pg_deinit();
    assert_int_equal(gauge(M_DB_CONNECTIONS), 0);
    turn_until(true);
    loop_turn();
    assert_int_equal(running.calls + waiting.calls + ended.calls, 0);
}

#define pool_test(name) cmocka_unit_test_setup_teardown(name, loop_up, loop_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sqlstates_become_errors),
        cmocka_unit_test(test_operators_read_words),
        cmocka_unit_test(test_a_sqlstate_is_found_in_a_message),
        cmocka_unit_test(test_arguments_may_be_copied),
        cmocka_unit_test(test_readers_accept_nothing),
        cmocka_unit_test(test_urls_are_judged),
        pool_test(test_without_an_address_all_is_unavailable),
        pool_test(test_an_absent_server_is_no_reason_to_wait),
        pool_test(test_names_are_looked_up_off_the_loop),
        pool_test(test_an_address_libpq_refuses_does_not_start),
        pool_test(test_a_statement_is_answered),
        pool_test(test_parameters_arrive_as_they_are),
        pool_test(test_a_text_with_nul_is_refused),
        pool_test(test_megabytes_go_both_ways),
        pool_test(test_refusals_have_their_codes),
        pool_test(test_a_late_statement_is_given_up_and_stopped),
        pool_test(test_the_servers_own_limit_leaves_the_connection),
        pool_test(test_a_cancelled_statement_is_never_told),
        pool_test(test_a_cancelled_answer_is_not_delivered),
        pool_test(test_the_queue_is_bounded_and_in_order),
        pool_test(test_nobody_waits_too_long),
        pool_test(test_many_at_once_open_more_connections),
        pool_test(test_an_old_connection_is_replaced),
        pool_test(test_a_transaction_is_all_or_nothing),
        pool_test(test_a_transaction_without_pipeline_too),
        pool_test(test_an_empty_transaction_costs_nothing),
        pool_test(test_a_failed_transaction_cannot_be_committed),
        pool_test(test_a_transaction_may_fail_with_its_first_statement),
        pool_test(test_a_commit_may_be_refused),
        pool_test(test_a_transaction_given_up_midway_rolls_back),
        pool_test(test_a_begin_given_up_leaves_nothing_behind),
        pool_test(test_a_transaction_has_a_deadline),
        pool_test(test_rows_are_copied_in),
        pool_test(test_bad_rows_are_refused),
        pool_test(test_a_copy_given_up_reads_its_data_no_more),
        pool_test(test_a_session_that_ended_is_replaced),
        pool_test(test_a_statement_whose_session_ends_is_unavailable),
        pool_test(test_what_the_server_refuses_is_unavailable),
        pool_test(test_no_connection_left_serves_with_those_there_are),
        pool_test(test_a_read_only_database_is_an_io_error),
        pool_test(test_reads_go_to_the_replica_while_it_answers),
        pool_test(test_the_end_drops_what_is_outstanding),
    };

    assert_true(metrics_init(1) == GW_OK);
    return cmocka_run_group_tests_name("pg", tests, NULL, NULL);
}
