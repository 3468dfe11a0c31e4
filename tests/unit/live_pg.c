/* live_pg.c - the Postgres pool against a server: statements, time, faults (pg_rig.h). */
#include "tests/unit/pg_rig.h"

#include <signal.h>

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

/* --- faults ----------------------------------------------------------------------------------- */

#define END_OTHERS                                                                                 \
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() " \
    "AND application_name = current_setting('application_name')"

/* The sum of the sessions' process ids: another one when one was replaced. */
static int sessions(void)
{
    const struct pg_conn *c;
    int sum = 0;

    TAILQ_FOREACH (c, &pg_primary.conns[PGC_IDLE], link)
        sum += PQbackendPID(c->pg);
    return sum;
}

static void test_a_session_that_ended_is_replaced(void **state)
{
    int before;

    open_pool();
    turn_until(pg_primary.n[PGC_IDLE] == 2);
    before = sessions();
    expect(END_OTHERS, "1");
    turn_until(pg_primary.n[PGC_IDLE] == 2 && sessions() != before);
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

/* Stops or continues the pool's sessions, and the postmaster with them if it is given. */
static void signal_sessions(int signo, const int *pids, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        assert_int_equal(kill(pids[i], signo), 0);
}

static void test_a_frozen_session_is_given_up_and_its_late_answer_lost(void **state)
{
    static const struct pg_stmt old = {"old", "SELECT 'late'"};
    struct outcome o;
    int pid;

    open_narrow();
    must("SELECT 1");
    pid = PQbackendPID(TAILQ_FIRST(&pg_primary.conns[PGC_IDLE])->pg);
    signal_sessions(SIGSTOP, &pid, 1);
    start(&o, &old, NULL, 200000);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_EDEADLINE);
    expect("SELECT 'mine'", "mine"); /* on another session */
    signal_sessions(SIGCONT, &pid, 1);
    expect("SELECT 'still mine'", "still mine");
}

static void test_a_frozen_server_is_found_out_and_found_again(void **state)
{
    static const struct pg_stmt one = {"one", "SELECT 1"};
    struct outcome o;
    int pids[3];

    conf.pg_connect_ms = 300;
    open_pool();
    turn_until(pg_primary.n[PGC_IDLE] == 2);
    o = run("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
    pids[0] = atoi(o.text);
    assert_true(pids[0] > 1);
    pids[1] = PQbackendPID(TAILQ_FIRST(&pg_primary.conns[PGC_IDLE])->pg);
    pids[2] = PQbackendPID(TAILQ_LAST(&pg_primary.conns[PGC_IDLE], pg_conn_list)->pg);
    signal_sessions(SIGSTOP, pids, 3);
    start(&o, &one, NULL, 200000);
    turn_until(o.calls);
    assert_int_equal(o.err, GW_EDEADLINE);
    turn_until(pg_primary.down); /* a fresh connection got no answer either */
    assert_false(pg_up());
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
    assert_int_equal(gauge(M_DB_CONNECTIONS), 0);
    signal_sessions(SIGCONT, pids, 3);
    turn_until(pg_up());
    expect("SELECT 'back'", "back");
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
    char url[512];
    unsigned i;

    open_narrow();
    must("DO $$ BEGIN CREATE ROLE pool_limited LOGIN; EXCEPTION WHEN duplicate_object THEN END $$");
    must("ALTER ROLE pool_limited NOSUPERUSER CONNECTION LIMIT 1 PASSWORD 'assistant'");
    pg_deinit();
    snprintf(url, sizeof(url), "%s user=pool_limited", getenv("POSTERN_TEST_PG"));
    conf.pg_pool_size = 4;
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

static void test_a_read_only_database_is_not_available(void **state)
{
    struct pg_tx *tx;

    open_narrow();
    make_tables();
    tx = begin();
    assert_int_equal(tx_run(tx, "SET TRANSACTION READ ONLY").err, GW_OK);
    assert_int_equal(tx_run(tx, "INSERT INTO pool_test VALUES (1, 'a')").err, GW_EUNAVAIL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        pool_test(test_a_statement_is_answered),
        pool_test(test_parameters_arrive_as_they_are),
        pool_test(test_a_text_with_nul_is_refused),
        pool_test(test_megabytes_go_both_ways),
        pool_test(test_refusals_have_their_codes),
        pool_test(test_a_late_statement_is_given_up_and_stopped),
        pool_test(test_the_servers_own_limit_leaves_the_connection),
        pool_test(test_a_cancelled_statement_is_never_told),
        pool_test(test_the_queue_is_bounded_and_in_order),
        pool_test(test_nobody_waits_too_long),
        pool_test(test_many_at_once_open_more_connections),
        pool_test(test_an_old_connection_is_replaced),
        pool_test(test_a_session_that_ended_is_replaced),
        pool_test(test_a_statement_whose_session_ends_is_unavailable),
        pool_test(test_a_frozen_session_is_given_up_and_its_late_answer_lost),
        pool_test(test_a_frozen_server_is_found_out_and_found_again),
        pool_test(test_what_the_server_refuses_is_unavailable),
        pool_test(test_no_connection_left_serves_with_those_there_are),
        pool_test(test_a_read_only_database_is_not_available),
        pool_test(test_reads_go_to_the_replica_while_it_answers),
        pool_test(test_the_end_drops_what_is_outstanding),
    };

    assert_true(metrics_init(1) == GW_OK);
    return cmocka_run_group_tests_name("pg_live", tests, NULL, NULL);
}
