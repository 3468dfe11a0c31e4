/* test_pg.c - the Postgres pool without a server: what is pure, and what is said when there is
 * none. */
#include "tests/unit/pg_rig.h"

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
        {"53100", GW_EUNAVAIL},  {"25006", GW_EUNAVAIL},  {"58030", GW_EIO},
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

static void test_a_cancelled_answer_is_not_delivered(void **state)
{
    struct outcome o;

    assert_int_equal(pg_init(&conf), GW_OK);
    start(&o, &(struct pg_stmt){"x", "SELECT 1"}, NULL, 0); /* ends at once, is told later */
    op_cancel(&o.op);
    assert_int_equal(run("SELECT 1").err, GW_EUNAVAIL);
    assert_int_equal(o.calls, 0);
}

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
        pool_test(test_a_cancelled_answer_is_not_delivered),
    };

    assert_true(metrics_init(1) == GW_OK);
    return cmocka_run_group_tests_name("pg", tests, NULL, NULL);
}
