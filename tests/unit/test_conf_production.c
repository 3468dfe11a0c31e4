/* test_conf_production.c - what staging and production refuse or warn of, and how databases are
 * judged. */
#include "tests/unit/conf_rig.h"

/* --- production ------------------------------------------------------------------------------- */

static void test_production_names_all_its_reasons_at_once(void **state)
{
    setenv("ENVIRONMENT", "production", 1);
    setenv("JWT_SECRET_KEY", "changeme", 1);
    setenv("JWT_SECRET_KEY_PREVIOUS", "before-that-7Kq", 1);
    setenv("POSTERN_MASTER_KEY", "short-but-random-Zx81", 1);
    setenv("REQUIRE_AUTHENTICATION", "false", 1);
    setenv("CORS_ORIGINS", "https://a.example,*", 1);
    setenv("AUTH_DEV_OPEN_TOKENS", "true", 1);
    setenv("RATE_LIMIT_ENABLED", "false", 1);
    expect_production(
        *state,
        "JWT_SECRET_KEY: 8 characters are too short for production; at least 32 are needed "
        "(postern keygen makes one)\n"
        "JWT_SECRET_KEY: is an example, not a secret; put one of your own there (postern keygen)\n"
        "JWT_SECRET_KEY_PREVIOUS: 15 characters are too short for production; at least 32 are "
        "needed (postern keygen makes one)\n"
        "POSTERN_MASTER_KEY: 21 characters are too short for production; at least 32 are needed "
        "(postern keygen makes one)\n"
        "REQUIRE_AUTHENTICATION: authentication is off, which production refuses\n"
        "AUTH_DEV_OPEN_TOKENS: tokens without proof are refused in production\n"
        "RATE_LIMIT_ENABLED: rate limits are off, which production refuses\n"
        "CORS_ORIGINS: * is refused in production; list the origins\n");
}

static void test_production_refuses_a_missing_secret_and_warns_of_a_development_origin(void **state)
{
    setenv("ENVIRONMENT", "staging", 1);
    expect_production(*state,
                      "JWT_SECRET_KEY: is not set; staging needs a secret of at least 32 "
                      "characters (postern keygen makes one)\n"
                      "warning: cors.origins: http://localhost:5173 is a development origin\n");
}

static void test_production_refuses_secrets_that_are_long_but_not_secret(void **state)
{
    static const char *const bad[] = {
        "your-secret-key-here-change-in-production", "CHANGE_ME_CHANGE_ME_CHANGE_ME_CHANGE_ME",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",  "abcdefghijabcdefghijabcdefghijabcdefghij",
        "<a-32-character-string-goes-here-please>",  "12121211212121222121212121212121212121212",
        "Super-Secret-Token-For-My-Home-Assistant!"};
    struct room *r = *state;
    size_t i;

    setenv("ENVIRONMENT", "production", 1);
    setenv("CORS_ORIGINS", "https://a.example", 1);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("JWT_SECRET_KEY", bad[i], 1);
        load(r);
        conf_check_production(r->conf, &r->ps);
        assert_int_equal(r->ps.errors, 1);
        assert_null(strstr(r->ps.items[0].text, bad[i]));
    }
    setenv("JWT_SECRET_KEY", GOOD_SECRET, 1);
    setenv("POSTERN_MASTER_KEY", "0123456789abcdef0fedcba987654321", 1);
    expect_production(r, "");
    setenv("POSTERN_MASTER_KEY", GOOD_SECRET, 1);
    expect_production(r,
                      "POSTERN_MASTER_KEY: is JWT_SECRET_KEY too; what signs tokens is not to be "
                      "sent over the wire\n");
}

/* What production says of a database's address and nothing else. */
static void expect_database(struct room *r, const char *url, const char *expected)
{
    setenv("ENVIRONMENT", "production", 1);
    setenv("CORS_ORIGINS", "https://a.example", 1);
    setenv("JWT_SECRET_KEY", GOOD_SECRET, 1);
    setenv("DATABASE_URL", url, 1);
    expect_production(r, expected);
}

static void test_weak_database_passwords_are_warned_of(void **state)
{
    expect_database(*state, "postgresql://u:f3Zp0qLx81mBw7Tz@h/d", "");
    expect_database(*state, "host=/run dbname=d", "");
    expect_database(*state, "postgresql://u@h/d?passfile=/x", "");
    expect_database(*state, "postgresql://u@h/d",
                    "warning: DATABASE_URL: has no password for a database that is reached over "
                    "the network\n");
    expect_database(*state, "postgresql://u:postgres@h/d",
                    "warning: DATABASE_URL: the password is one everybody tries first; a random "
                    "one is better\n");
    expect_database(*state, "postgresql://postern:Postern@h/d",
                    "warning: DATABASE_URL: the password is the user's name; a random one is "
                    "better\n");
    expect_database(*state, "host=h password=Change-Me-1234567890",
                    "warning: DATABASE_URL: the password is an example; a random one is better\n");
    expect_database(*state, "postgresql://u:f3Zp0qLx81mBw7T@h/d",
                    "warning: DATABASE_URL: the password has fewer than 16 characters; a random "
                    "one is better\n");
    expect_database(*state, "postgresql://u:fqzpaqlxwemtbwki@h/d",
                    "warning: DATABASE_URL: the password is not mixed; a random one is better\n");
}

static void test_the_database_is_judged(void **state)
{
    setenv("DATABASE_URL", "mysql://u:topsecret@h/d", 1);
    expect_problems(*state, "DATABASE_URL: is neither a URL (postgresql://...) nor keywords "
                            "(host=... dbname=...)\n");
    unsetenv("DATABASE_URL");
    setenv("DATABASE_READ_URL", "postgresql://h:x/d", 1);
    expect_problems(*state, "DATABASE_READ_URL: has a port that is no number from 1 to 65535\n"
                            "DATABASE_READ_URL: needs DATABASE_URL too\n");
    unsetenv("DATABASE_READ_URL");
    setenv("API_WORKERS", "4", 1);
    setenv("REDIS_URL", "redis://h", 1);
    load_clean(*state); /* without a database it is of no interest */
    setenv("DATABASE_URL", "postgresql://h/d", 1);
    expect_problems(*state, "warning: database.max_overflow: 60 connections of 4 workers are over "
                            "the 50 of one instance; fewer are opened beyond pool_size\n");
    setenv("DATABASE_MAX_OVERFLOW", "7", 1);
    load_clean(*state);
}

static void test_development_is_not_held_to_production_rules(void **state)
{
    setenv("JWT_SECRET_KEY", "changeme", 1);
    setenv("CORS_ORIGINS", "*", 1);
    expect_production(*state, "");
}

static void test_authentication_auto_follows_environment_and_master_key(void **state)
{
    struct room *r = *state;

    assert_false(conf_auth_required(load(r)));
    setenv("POSTERN_MASTER_KEY", "k", 1);
    assert_true(conf_auth_required(load(r)));
    setenv("REQUIRE_AUTHENTICATION", "false", 1);
    assert_false(conf_auth_required(load(r)));
    unsetenv("POSTERN_MASTER_KEY");
    setenv("REQUIRE_AUTHENTICATION", "true", 1);
    assert_true(conf_auth_required(load(r)));
    unsetenv("REQUIRE_AUTHENTICATION");
    setenv("ENVIRONMENT", "staging", 1);
    assert_true(conf_auth_required(load(r)));
    assert_true(conf_is_production(r->conf));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_production_names_all_its_reasons_at_once),
        T(test_production_refuses_a_missing_secret_and_warns_of_a_development_origin),
        T(test_production_refuses_secrets_that_are_long_but_not_secret),
        T(test_weak_database_passwords_are_warned_of),
        T(test_the_database_is_judged),
        T(test_development_is_not_held_to_production_rules),
        T(test_authentication_auto_follows_environment_and_master_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
