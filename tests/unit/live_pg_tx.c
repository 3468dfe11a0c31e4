/* live_pg_tx.c - the Postgres pool against a server: transactions and COPY (pg_rig.h). */
#include "tests/unit/pg_rig.h"

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
    turn_until(!tx->conn || tx->conn->copying); /* 5 MiB are several turns */
    assert_non_null(tx->conn);
    op_cancel(&o.op);
    free(rows);
    pg_rollback(tx);
    expect("SELECT count(*) FROM pool_test", "0");
    assert_int_equal(o.calls, 0);
}

/* --- at random -------------------------------------------------------------------------------- */

#define USERS 12u
#define STEPS 3000u

/* One that uses the pool: at most one operation and one transaction at a time. */
struct user {
    struct outcome o;
    unsigned started, cancelled, told;
};

static const struct pg_stmt mixed[] = {
    {"good", "SELECT 1"},
    {"slow", "SELECT pg_sleep(0.002)"},
    {"wrong", "SELECT 1 / 0"},
    {"gone", "SELECT pg_terminate_backend(pg_backend_pid())"},
    {"big", "SELECT repeat('x', 100000)"},
    {"row", "INSERT INTO pool_test VALUES (1, 'x')"},
};

static const struct pg_stmt copied = {"copy", "COPY pool_test FROM STDIN"};

static void begin_something(struct user *u, unsigned dice)
{
    const struct pg_stmt *stmt = &mixed[dice / 16 % (sizeof(mixed) / sizeof(mixed[0]))];
    uint64_t deadline = dice % 7 == 0 ? loop_now_us() + 1500 : 0;
    struct pg_tx *tx = u->o.tx;

    memset(&u->o, 0, sizeof(u->o));
    if (!tx && dice % 3) {
        u->o.op = pg_query(PG_WRITE, stmt, NULL, deadline, on_done, &u->o);
    } else if (!tx) {
        u->o.op = pg_begin(deadline, on_begun, &u->o);
    } else if (dice % 5 == 0) {
        u->o.op = pg_commit(tx, on_done, &u->o);
    } else if (dice % 5 == 1) {
        pg_rollback(tx);
        return;
    } else {
        u->o.tx = tx;
        u->o.op = dice % 5 == 2 ? pg_tx_copy(tx, &copied, SLICE("5\tfive\n"), on_done, &u->o)
                                : pg_tx_query(tx, stmt, NULL, on_done, &u->o);
    }
    assert_non_null(u->o.op);
    u->started++;
}

static void user_step(struct user *u, unsigned dice)
{
    if (!u->o.op) {
        u->told += u->o.calls;
        begin_something(u, dice);
    } else if (dice % 4 == 0) {
        op_cancel(&u->o.op);
        u->cancelled++;
        if (u->o.tx)
            pg_rollback(u->o.tx);
        u->o = (struct outcome){0};
    }
}

static void user_ends(struct user *u)
{
    turn_until(!u->o.op);
    u->told += u->o.calls;
    pg_rollback(u->o.tx);
    assert_int_equal(u->started, u->told + u->cancelled);
}

static void random_use(uint64_t seed)
{
    struct user users[USERS] = {0};
    unsigned i;

    open_pool();
    must("DROP TABLE IF EXISTS pool_child");
    must("DROP TABLE IF EXISTS pool_test");
    must("CREATE TABLE pool_test (id int, v text)");
    for (i = 0; i < STEPS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        user_step(&users[(seed >> 33) % USERS], (unsigned)(seed >> 40));
        if ((seed >> 60) % 4 == 1)
            loop_turn();
    }
    for (i = 0; i < USERS; i++)
        user_ends(&users[i]);
    turn_until(busy() == 0);
    assert_int_equal(gauge(M_DB_WAITING), 0);
    assert_true(gauge(M_DB_CONNECTIONS) <= 4);
    assert_true(TAILQ_EMPTY(&pg_primary.waiting));
    expect("SELECT 'whole'", "whole");
}

static void test_random_use_leaves_the_pool_whole(void **state)
{
    random_use(1);
}

static void test_random_use_without_pipeline_too(void **state)
{
    conf.pg_pipeline = false;
    random_use(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        pool_test(test_random_use_leaves_the_pool_whole),
        pool_test(test_random_use_without_pipeline_too),
    };

    assert_true(metrics_init(1) == GW_OK);
    return cmocka_run_group_tests_name("pg_tx_live", tests, NULL, NULL);
}
