/* test_password.c - scrypt, as it is stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/loop.h"
#include "gateway/core/offload.h"
#include "gateway/core/password.h"

#include <string.h>

static void test_a_password_is_recognised_and_no_other(void **state)
{
    char one[PASSWORD_STORED_MAX], two[PASSWORD_STORED_MAX];

    assert_int_equal(password_hash_now(SLICE("correct horse"), one), GW_OK);
    assert_int_equal(password_hash_now(SLICE("correct horse"), two), GW_OK);
    assert_string_not_equal(one, two);
    assert_memory_equal(one, "$scrypt$ln=15,r=8,p=1$", 22);
    assert_int_equal(password_verify_now(SLICE("correct horse"), slice_cstr(one)), GW_OK);
    assert_int_equal(password_verify_now(SLICE("correct horsf"), slice_cstr(one)), GW_EUNAUTH);
    assert_int_equal(password_verify_now(SLICE("correct hors"), slice_cstr(one)), GW_EUNAUTH);
    assert_int_equal(password_verify_now(SLICE(""), slice_cstr(one)), GW_EUNAUTH);
}

/* Made with another implementation: Python's hashlib.scrypt(n=1024, r=8, p=1, dklen=32). */
static void test_another_implementations_hash_is_recognised(void **state)
{
    static const char stored[] = "$scrypt$ln=10,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$"
                                 "o3zBilPc86r0aNumivxDqGJbs1CVkVYyLfGzVSIFS0U";

    assert_int_equal(password_verify_now(SLICE("pleaseletmein"), SLICE(stored)), GW_OK);
    assert_int_equal(password_verify_now(SLICE("pleaseletmeim"), SLICE(stored)), GW_EUNAUTH);
}

static void test_nobody_has_no_password(void **state)
{
    assert_int_equal(password_verify_now(SLICE("anything"), SLICE_NONE), GW_EUNAUTH);
}

static void test_stored_text_that_is_none_is_an_error(void **state)
{
    static const char *const bad[] = {
        "x",
        "$scrypt$ln=99,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "$scrypt$ln=15,r=8,p=1$short$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "$scrypt$ln=15,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY$",
        "$2b$12$abcdefghijklmnopqrstuv"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(password_verify_now(SLICE("x"), slice_cstr(bad[i])), GW_EINTERNAL);
}

struct got {
    char stored[PASSWORD_STORED_MAX];
    enum gw_err err;
    unsigned n;
};

static void on_hash(enum gw_err err, struct slice stored, void *arg)
{
    struct got *g = arg;

    g->err = err;
    g->n++;
    memcpy(g->stored, stored.p, stored.n);
    loop_stop();
}

static void on_verify(enum gw_err err, void *arg)
{
    struct got *g = arg;

    g->err = err;
    g->n++;
    loop_stop();
}

static void test_the_pool_does_it_off_the_loop(void **state)
{
    struct got g = {.err = GW_EINTERNAL};
    struct op *op;

    assert_int_equal(loop_init(), GW_OK);
    assert_int_equal(offload_init(2, 8), GW_OK);
    assert_non_null(password_hash(SLICE("secret word"), on_hash, &g));
    assert_int_equal(g.n, 0);
    loop_run();
    assert_int_equal(g.err, GW_OK);
    assert_non_null(password_verify(SLICE("secret word"), slice_cstr(g.stored), on_verify, &g));
    loop_run();
    assert_int_equal(g.err, GW_OK);
    assert_non_null(password_verify(SLICE("secret wore"), slice_cstr(g.stored), on_verify, &g));
    loop_run();
    assert_int_equal(g.err, GW_EUNAUTH);
    assert_int_equal(g.n, 3);
    op = password_verify(SLICE("secret word"), slice_cstr(g.stored), on_verify, &g);
    op_cancel(&op);
    offload_deinit();
    loop_deinit();
    assert_int_equal(g.n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_password_is_recognised_and_no_other),
        cmocka_unit_test(test_another_implementations_hash_is_recognised),
        cmocka_unit_test(test_nobody_has_no_password),
        cmocka_unit_test(test_stored_text_that_is_none_is_an_error),
        cmocka_unit_test(test_the_pool_does_it_off_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
