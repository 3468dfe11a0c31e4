/*
 * test_nomem_keyring.c - CHECK 94 for the keyring: every allocation between a question and its
 * answer fails once, and for good. A good credential is then never taken for a wrong one, nobody
 * waits for ever, and with memory back everything is as it was.
 */
#include "tests/unit/keyring_rig.h"
#include "tests/unit/nomem.h"

static const struct jwt_claims token = {
    .sub = "ada", .jti = "j-1", .iat_us = 1799999000000000, .exp_us = 1900000000000000};

static void answer_all(void)
{
    for (unsigned i = 0; i < 4; i++) { /* what is refused may be asked once more */
        if (waiting("keyring_version"))
            answer_version(7);
        if (waiting("keyring_revoked"))
            answer_revoked("j-0", NULL);
        if (waiting("keyring_keys"))
            found(1);
        rows.n = 0;
        ROW("ada", OWNER, "ada", "user", NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        if (waiting("keyring_users"))
            answer("keyring_users", GW_OK, &rows);
        pass(S / 2);
    }
}

/* What it came to: at once, or by way of the callback. */
static enum gw_err came_to(const struct caller *c, enum gw_err at_once)
{
    assert_null(c->op);
    assert_int_equal(c->calls, at_once == GW_EAGAIN);
    return at_once == GW_EAGAIN ? c->err : at_once;
}

static void assert_no_verdict_but_good(enum gw_err err)
{
    assert_true(err == GW_OK || err == GW_EUNAVAIL || err == GW_ENOMEM);
}

/* True while there was an allocation to fail. */
static bool run_with_fault(void **state, unsigned long at, bool sticky)
{
    enum gw_err key, user;
    bool failed;

    assert_int_equal(enter(state), 0);
    hex_of(1);
    counted("unavailable");
    fault.source = FAULT_HEAP;
    fault.at = at;
    fault.sticky = sticky;
    fault.seen = 0;
    fault.armed = true;
    pass(S / 2);
    key = ask(&one, key_text(1));
    user = ask_token(&two, &token);
    end_turn();
    answer_all();
    fault.armed = false;
    failed = fault.seen >= at;
    assert_no_verdict_but_good(came_to(&one, key));
    assert_no_verdict_but_good(came_to(&two, user));
    if (!failed)
        assert_true(one.err == GW_OK && two.err == GW_OK);

    one.calls = two.calls = 0; /* memory is back */
    key = ask(&one, key_text(1));
    user = ask_token(&two, &token);
    end_turn();
    answer_all();
    assert_int_equal(came_to(&one, key), GW_OK);
    assert_int_equal(came_to(&two, user), GW_OK);
    assert_int_equal(leave(state), 0);
    return failed;
}

static void test_check_094_a_good_credential_is_never_taken_for_a_wrong_one(void **state)
{
    for (unsigned sticky = 0; sticky < 2; sticky++) {
        unsigned long at = 1;

        while (run_with_fault(state, at, sticky))
            at++;
        assert_true(at > 8); /* entries, waiters, batches, arrays, principals, revoked tokens */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_094_a_good_credential_is_never_taken_for_a_wrong_one),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
