/* test_keyring_rows.c - what rows become: principals of keys and of users, tokens taken back, last
 * use. */
#include "tests/unit/keyring_rig.h"

/* --- what a row says
 * ------------------------------------------------------------------------------
 */

static void test_expiry_is_judged_by_the_wall_clock_at_each_use(void **state)
{
    char at[24];

    snprintf(at, sizeof(at), "%llu", (unsigned long long)(wall_us + 10ull * S));
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    ROW(hex_of(1), OWNER, "ada", "user", NULL, NULL, NULL, NULL, NULL, NULL, KEY_ID, "pk-00000000",
        "", "", NULL, NULL, NULL, "total", at);
    answer("keyring_keys", GW_OK, &rows);
    assert_int_equal(one.err, GW_OK);
    wall_us += 9ull * S;
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    wall_us += S;
    assert_int_equal(ask(&one, key_text(1)), GW_ETOKENEXPIRED);
    wall_us -= 5ull * S; /* the clock is set back */
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

static void test_a_row_becomes_a_principal(void **state)
{
    const struct principal *p;

    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    ROW(hex_of(1), OWNER, "ada", "admin", TEAM_ID, "openai/*\nfast", "600", "90000", "5000000000",
        "day", KEY_ID, "pk-00000000", "chat\nread", "openai/gpt-4o", "60", "1000", "0", "total",
        NULL);
    answer("keyring_keys", GW_OK, &rows);
    assert_int_equal(one.err, GW_OK);
    p = one.p;
    assert_int_equal(p->kind, PRINCIPAL_KEY);
    assert_false(p->admin); /* its owner is, but its scopes have no admin */
    assert_int_equal(p->scopes, SCOPE_CHAT | SCOPE_READ);
    assert_string_equal(p->tenant, "team:" TEAM_ID);
    assert_string_equal(p->key_id, KEY_ID);
    assert_string_equal(p->owner_id, OWNER);
    assert_string_equal(p->user_id, "ada");
    assert_string_equal(p->team_id, TEAM_ID);
    assert_int_equal(p->n_models, 1);
    assert_int_equal(p->n_team_models, 2);
    assert_true(slice_is(p->team_models[1], "fast"));
    assert_int_equal(p->requests_per_minute, 60);
    assert_int_equal(p->team_requests_per_minute, 600);
    assert_int_equal(p->n_budget_scopes, 2);
    assert_string_equal(p->scopes_of_budget[0].id, "key:" KEY_ID);
    assert_int_equal(p->scopes_of_budget[0].limit_nano_usd, 0); /* nothing, and not "no limit" */
    assert_int_equal(p->scopes_of_budget[0].tokens_per_minute, 1000);
    assert_string_equal(p->scopes_of_budget[1].id, "team:" TEAM_ID);
    assert_int_equal(p->scopes_of_budget[1].limit_nano_usd, 5000000000);
    assert_int_equal(p->scopes_of_budget[1].period, BUDGET_DAY);
    assert_int_equal(p->expires_wall_us, 0);
}

static void test_a_scope_nobody_has_heard_of_opens_nothing(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    ROW(hex_of(1), OWNER, "ada", "admin", NULL, NULL, NULL, NULL, NULL, NULL, KEY_ID, "pk-00000000",
        "telepathy", "", NULL, NULL, NULL, "total", NULL);
    answer("keyring_keys", GW_OK, &rows);
    assert_false(principal_has_scope(one.p, SCOPE_CHAT | SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN));
    assert_false(one.p->admin);
    assert_string_equal(one.p->tenant, "user:" OWNER);
    assert_int_equal(one.p->n_budget_scopes, 0);
}

static void test_a_row_nobody_asked_for_is_nobody(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    key_row(2);
    ROW("not hex", OWNER, "ada", "user");
    answer("keyring_keys", GW_OK, &rows);
    assert_int_equal(one.err, GW_EUNAUTH);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static const struct jwt_claims token = {.sub = "ada",
                                        .jti = "j-1",
                                        .uid = OWNER,
                                        .iat_us = 1799999000000000,
                                        .exp_us = 1900000000000000};

static void user_found(const char *id, const char *role, const char *valid_from)
{
    rows.n = 0;
    ROW("ada", id, "ada", role, NULL, NULL, NULL, NULL, NULL, NULL, valid_from);
    answer("keyring_users", GW_OK, &rows);
}

static enum gw_err judged(const struct jwt_claims *c, const char *id, const char *valid_from)
{
    assert_int_equal(ask_token(&one, c), GW_EAGAIN);
    end_turn();
    user_found(id, "user", valid_from);
    return one.err;
}

static void test_a_token_is_its_user_and_the_role_is_the_databases(void **state)
{
    struct jwt_claims c = token;

    c.admin = true;
    version_is(7);
    assert_int_equal(judged(&c, OWNER, NULL), GW_OK);
    assert_false(one.p->admin);
    assert_int_equal(one.p->kind, PRINCIPAL_USER);
    assert_string_equal(one.p->subject, "user:ada");
    assert_string_equal(one.p->tenant, "user:" OWNER);
    assert_int_equal(ask_token(&one, &c), GW_OK); /* known now */
    version_is(8);
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    user_found(OWNER, "admin", NULL);
    assert_true(one.p->admin);
}

static void test_a_user_that_is_not_there_or_disabled_is_nobody(void **state)
{
    version_is(7);
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    answer("keyring_users", GW_OK, &rows);
    assert_int_equal(one.err, GW_EUNAUTH);
}

static void test_the_bearer_of_a_name_that_was_given_away_is_nobody(void **state)
{
    version_is(7);
    assert_int_equal(judged(&token, "99999999-0000-4000-8000-000000000001", NULL), GW_EUNAUTH);
}

static void test_tokens_from_before_tokens_valid_from_are_void(void **state)
{
    struct jwt_claims c = token;

    version_is(7);
    assert_int_equal(judged(&token, OWNER, "1799999000000001"), GW_EUNAUTH);
    c.iat_us++;
    assert_int_equal(ask_token(&one, &c), GW_OK);
    c.iat_us = 0; /* it does not say when */
    assert_int_equal(ask_token(&one, &c), GW_EUNAUTH);
}

static void test_a_revoked_token_is_refused_and_its_user_is_not(void **state)
{
    struct jwt_claims other = token;

    strcpy(other.jti, "j-2");
    pass(S / 2);
    answer_version(7);
    answer_revoked("a", "j-1");
    assert_int_equal(judged(&token, OWNER, NULL), GW_EUNAUTH);
    assert_int_equal(ask_token(&one, &other), GW_OK);
    other.jti[0] = '\0';
    assert_int_equal(ask_token(&one, &other), GW_OK);
}

static void test_users_wait_until_the_revoked_tokens_are_here(void **state)
{
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    assert_null(waiting("keyring_users"));
    pass(S / 2);
    answer_version(7);
    assert_null(waiting("keyring_users"));
    answer_revoked("j-1", NULL);
    user_found(OWNER, "user", NULL);
    assert_int_equal(one.err, GW_EUNAUTH);
    pass(S / 2);
    answer_version(8); /* another is revoked: known users wait likewise */
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    assert_null(waiting("keyring_users"));
    answer_revoked(NULL, NULL);
    user_found(OWNER, "user", NULL);
    assert_int_equal(one.err, GW_OK);
}

static void test_users_are_not_left_waiting_when_the_revoked_tokens_cannot_be_read(void **state)
{
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    pass(S / 2);
    answer("keyring_version", GW_EUNAVAIL, NULL);
    assert_int_equal(one.err, GW_EUNAVAIL);
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    pass(S / 2);
    answer_version(7);
    answer("keyring_revoked", GW_EDEADLINE, NULL);
    assert_int_equal(one.calls, 2);
    assert_int_equal(one.err, GW_EUNAVAIL);
    version_is(7); /* read again with the next version, though it is the same */
    assert_int_equal(judged(&token, OWNER, NULL), GW_OK);
}

static void test_names_with_quotes_travel_escaped(void **state)
{
    struct jwt_claims c = token;

    strcpy(c.sub, "a\"b\\c,{}");
    version_is(7);
    assert_int_equal(ask_token(&one, &c), GW_EAGAIN);
    end_turn();
    assert_string_equal(waiting("keyring_users")->array, "{\"a\\\"b\\\\c,{}\"}");
}

static void test_without_a_database_a_token_stands_for_itself_and_keys_are_unknown(void **state)
{
    struct jwt_claims c = token;

    enabled = false;
    c.admin = true;
    assert_int_equal(ask_token(&one, &c), GW_OK);
    assert_true(one.p->admin);
    assert_string_equal(one.p->subject, "user:ada");
    assert_string_equal(one.p->tenant, "user:ada");
    assert_string_equal(one.p->owner_id, "");
    assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
    keyring_changed();
    end_turn();
    assert_int_equal(n_asked, 0);
}

/* --- last use
 * --------------------------------------------------------------------------------------
 */

static void test_the_use_of_a_key_is_written_once_a_minute(void **state)
{
    know_one();
    for (unsigned i = 0; i < 9; i++) {
        version_is(7);
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
    }
    assert_null(waiting("keyring_used"));
    version_is(7);
    version_is(7);
    assert_string_equal(waiting("keyring_used")->array, "{" KEY_ID "}");
    rows.n = 0;
    answer("keyring_used", GW_OK, &rows);
    forget_asked();
    for (unsigned i = 0; i < 100; i++) {
        pass(S / 2);
        answer_version(7);
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
        end_turn();
        if (waiting("keyring_keys"))
            found(1);
        forget_asked();
    }
    for (unsigned i = 0; i < 30; i++) {
        version_is(7);
        forget_asked();
    }
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    pass(5 * S);
    assert_non_null(waiting("keyring_used"));
}

static void test_nothing_is_left_behind_when_it_ends_in_the_middle(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(ask(&two, key_text(2)), GW_EAGAIN);
    assert_int_equal(ask_token(&(struct caller){0}, &token), GW_EAGAIN);
    keyring_deinit();
    one.op = two.op = NULL; /* dead */
    assert_null(waiting("keyring_keys"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_expiry_is_judged_by_the_wall_clock_at_each_use),
        T(test_a_row_becomes_a_principal),
        T(test_a_scope_nobody_has_heard_of_opens_nothing),
        T(test_a_row_nobody_asked_for_is_nobody),
        T(test_a_token_is_its_user_and_the_role_is_the_databases),
        T(test_a_user_that_is_not_there_or_disabled_is_nobody),
        T(test_the_bearer_of_a_name_that_was_given_away_is_nobody),
        T(test_tokens_from_before_tokens_valid_from_are_void),
        T(test_a_revoked_token_is_refused_and_its_user_is_not),
        T(test_users_wait_until_the_revoked_tokens_are_here),
        T(test_users_are_not_left_waiting_when_the_revoked_tokens_cannot_be_read),
        T(test_names_with_quotes_travel_escaped),
        T(test_without_a_database_a_token_stands_for_itself_and_keys_are_unknown),
        T(test_the_use_of_a_key_is_written_once_a_minute),
        T(test_nothing_is_left_behind_when_it_ends_in_the_middle),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
