/*
 * test_conf.c - from files and environment to a snapshot, with every problem named. What the
 * env file may hold is in test_envfile.c, what production refuses in test_conf_production.c, the
 * shipped files in test_conf_files.c.
 */
#include "tests/unit/conf_rig.h"

/* --- the table -------------------------------------------------------------------------------- */

static void test_every_default_is_valid_and_every_row_is_well_formed(void **state)
{
    unsigned i, j;

    load_clean(*state);
    for (i = 0; i < conf_n_rows; i++) {
        const struct conf_row *row = &conf_rows[i];

        assert_true(row->min <= row->max);
        assert_true(row->help[0] != '\0');
        assert_int_equal(*row->file == '\0', *row->key == '\0');
        assert_true(*row->file || *row->env);
        assert_int_equal(row->type == CONF_T_ENUM, row->help[0] == '{');
        assert_true(row->type != CONF_T_SECRET || *row->file == '\0');
        for (j = 0; j < i; j++) {
            assert_string_not_equal(row->field, conf_rows[j].field);
            assert_true(!*row->env || strcmp(row->env, conf_rows[j].env) != 0);
            assert_true(!*row->key || strcmp(row->key, conf_rows[j].key) != 0 ||
                        strcmp(row->file, conf_rows[j].file) != 0);
        }
    }
}

static void test_without_files_or_environment_the_defaults_serve(void **state)
{
    const struct conf *c = load_clean(*state);

    assert_int_equal(c->port, 8765);
    assert_true(slice_is(c->host, "127.0.0.1"));
    assert_true(slice_is(c->environment, "development"));
    assert_int_equal(c->cors_origins.n, 1);
    assert_true(slice_is(c->cors_origins.items[0], "http://localhost:5173"));
    assert_int_equal(c->trusted_proxies.n, 0);
    assert_true(c->provider_http2);
    assert_null(c->dir);
    assert_null(c->models);
    assert_string_equal(conf_origin(c, "port"), "default");
    assert_null(conf_origin(c, "no_such_field"));
    assert_int_equal(c->jwt_secret.p[0], 0);
}

/* --- precedence ------------------------------------------------------------------------------- */

static void test_environment_beats_env_file_beats_yaml_beats_default(void **state)
{
    struct room *r = *state;
    const struct conf *c;

    put_conf("# one\nserver:\n  port: 1001\n");
    c = load_clean(r);
    assert_int_equal(c->port, 1001);
    assert_string_equal(conf_origin(c, "port"), "gateway.yaml:3");
    put(".env", "API_PORT=1002\n");
    c = load_clean(r);
    assert_int_equal(c->port, 1002);
    assert_string_equal(conf_origin(c, "port"), "env file");
    setenv("API_PORT", "1003", 1);
    c = load_clean(r);
    assert_int_equal(c->port, 1003);
    assert_string_equal(conf_origin(c, "port"), "environment");
    setenv("API_PORT", "", 1); /* empty is the same as none */
    assert_int_equal(load_clean(r)->port, 1002);
}

static void test_every_type_is_read_from_yaml(void **state)
{
    const struct conf *c;

    put_conf(
        "environment: test\nserver: {host: '::1', port: 0, trusted_proxies: [10.0.0.0/8, '::1']}\n"
        "providers: {http2: false, proxy: \"\"}\nauth: {required: true}\ncors: {origins: []}\n");
    c = load_clean(*state);
    assert_true(slice_is(c->environment, "test"));
    assert_true(slice_is(c->host, "::1"));
    assert_int_equal(c->port, 0);
    assert_int_equal(c->trusted_proxies.n, 2);
    assert_true(slice_is(c->trusted_proxies.items[1], "::1"));
    assert_false(c->provider_http2);
    assert_true(slice_is(c->require_auth, "true"));
    assert_int_equal(c->cors_origins.n, 0);
    assert_non_null(c->models);
    assert_string_equal(c->dir, "conf");
}

static void test_a_list_in_the_environment_is_separated_by_commas(void **state)
{
    const struct conf *c;

    setenv("CORS_ORIGINS", " https://a.example , ,http://b.example:8080,", 1);
    c = load_clean(*state);
    assert_int_equal(c->cors_origins.n, 2);
    assert_true(slice_is(c->cors_origins.items[0], "https://a.example"));
    assert_string_equal(c->cors_origins.items[1].p, "http://b.example:8080");
}

static void test_other_yaml_files_in_the_directory_are_left_alone(void **state)
{
    put_conf("{}\n");
    put("conf/other.yaml", "\tnot yaml: [\n");
    load_clean(*state);
}

static void test_a_section_without_keys_keeps_its_defaults(void **state)
{
    put_conf("server:\nlog:\n  # level: debug\n");
    assert_int_equal(load_clean(*state)->port, 8765);
}

/* --- problems --------------------------------------------------------------------------------- */

static void test_check_102_every_problem_of_every_file_is_listed_with_its_line(void **state)
{
    struct room *r = *state;

    mkdir("conf", 0700);
    put("conf/gateway.yaml", "server:\n"
                             "  port: 70000\n"
                             "  prot: 1\n"
                             "  workers: many\n"
                             "  workers: 2\n"
                             "log: [a]\n"
                             "streams:\n"
                             "  gap_s: '30'\n"
                             "  heartbeat_s: &a 5\n"
                             "  buffer_kb: *a\n"
                             "environment: prod\n"
                             "limits: {chat_body_mb: 0, nonsense: {x: 1}}\n"
                             "cors: {origins: http://a}\n");
    put("conf/rate_limits.yaml", "enabled: yes\nclasses:\n\tai: 1\n");
    put("conf/circuit_breaker.yaml", "");
    expect_problems(
        r, "cache.yaml: is missing: conf/cache.yaml\n"
           "circuit_breaker.yaml: is empty\n"
           "gateway.yaml:2: port: 70000 is out of range (0 to 65535)\n"
           "gateway.yaml:3: unknown key \"prot\"\n"
           "gateway.yaml:4: workers: a whole number expected, not \"many\"\n"
           "gateway.yaml:5: duplicate key \"workers\", first on line 4\n"
           "gateway.yaml:6: log: a map of keys and values expected, not a list\n"
           "gateway.yaml:8: gap_s: a whole number expected, not text in quotes\n"
           "gateway.yaml:9: anchors (&a) are not supported\n"
           "gateway.yaml:10: aliases (*a) are not supported; write the value out\n"
           "gateway.yaml:11: environment: one of development test staging production expected, "
           "not \"prod\"\n"
           "gateway.yaml:12: chat_body_mb: 0 is out of range (1 to 1024)\n"
           "gateway.yaml:12: unknown key \"nonsense\"\n"
           "gateway.yaml:13: origins: a list expected, not a single value\n"
           "models_registry.yaml: is missing: conf/models_registry.yaml\n"
           "rate_limits.yaml:3: tab in the indentation; use spaces\n"
           "storage_config.yaml: is missing: conf/storage_config.yaml\n");
    assert_int_equal(r->ps.errors, 17);
}

static void test_check_102_a_file_of_ten_megabytes_is_a_problem(void **state)
{
    size_t n = 10u * 1024 * 1024;
    char *big = malloc(n);

    assert_non_null(big);
    memset(big, '#', n);
    put_conf("{}\n");
    put_bytes("conf/rate_limits.yaml", big, n);
    free(big);
    expect_problems(*state, "rate_limits.yaml: too big: more than 1048576 bytes\n");
}

static void test_check_104_unknown_environment_values_are_one_clear_line_each(void **state)
{
    setenv("ENVIRONMENT", "prod", 1);
    setenv("API_PORT", "abc", 1);
    setenv("API_WORKERS", "65", 1);
    setenv("RATE_LIMIT_ENABLED", "yes", 1);
    setenv("LOG_FORMAT", "xml\nforged: line", 1);
    expect_problems(*state,
                    "ENVIRONMENT: one of development test staging production expected, not "
                    "\"prod\"\n"
                    "API_PORT: a whole number expected, not \"abc\"\n"
                    "API_WORKERS: 65 is out of range (1 to 64)\n"
                    "LOG_FORMAT: one of auto json console expected, not \"xml?forged: line\"\n"
                    "RATE_LIMIT_ENABLED: true or false expected, not \"yes\"\n");
}

static void test_a_value_from_the_env_file_is_blamed_on_its_line(void **state)
{
    put(".env", "# x\n\nAPI_PORT=99999999999999999999\n");
    expect_problems(*state,
                    ".env:3: API_PORT: 99999999999999999999 is out of range (0 to 65535)\n");
}

static void test_a_directory_that_was_asked_for_must_exist(void **state)
{
    struct room *r = *state;

    load_from(r, &(struct conf_source){.dir = "nowhere"});
    expect_printed(&r->ps, "the configuration directory nowhere does not exist\n");
    put("file", "x");
    load_from(r, &(struct conf_source){.dir = "file"});
    assert_int_equal(r->ps.errors, 1);
}

static void test_an_env_file_that_was_asked_for_must_exist(void **state)
{
    struct room *r = *state;

    load_from(r, &(struct conf_source){.env_file = "nowhere"});
    expect_printed(&r->ps, "nowhere: cannot be read: No such file or directory\n");
}

static void test_values_out_of_syntax_are_refused(void **state)
{
    setenv("API_HOST", "localhost", 1);
    setenv("TRUSTED_PROXIES", "10.0.0.1,10.0.0.0/33,::/129,fe80::/10,nginx,1.2.3.4/,1.2.3.4/08", 1);
    setenv("CORS_ORIGINS",
           "*,https://a.b/,a.b,http://a:0,http://a:99999,http://[::1]:5173,"
           "tauri://localhost,http://a b,http://u@h,http://h:",
           1);
    setenv("LOG_LEVELS", "provider=debug,http=loud,=info,conf", 1);
    setenv("POSTERN_PROXY", "socks5://user:geheim@h", 1);
    setenv("POSTERN_CA_FILE", "missing.pem", 1);
    expect_problems(
        *state,
        "API_HOST: \"localhost\" is not an IPv4 or IPv6 address\n"
        "TRUSTED_PROXIES: \"10.0.0.0/33\" is not an address or CIDR block (10.0.0.0/8, ::1)\n"
        "TRUSTED_PROXIES: \"::/129\" is not an address or CIDR block (10.0.0.0/8, ::1)\n"
        "TRUSTED_PROXIES: \"nginx\" is not an address or CIDR block (10.0.0.0/8, ::1)\n"
        "TRUSTED_PROXIES: \"1.2.3.4/\" is not an address or CIDR block (10.0.0.0/8, ::1)\n"
        "TRUSTED_PROXIES: \"1.2.3.4/08\" is not an address or CIDR block (10.0.0.0/8, ::1)\n"
        "CORS_ORIGINS: \"https://a.b/\" is not an origin (scheme://host[:port] and nothing more, "
        "or *)\n"
        "CORS_ORIGINS: \"a.b\" is not an origin (scheme://host[:port] and nothing more, or *)\n"
        "CORS_ORIGINS: \"http://a:0\" is not an origin (scheme://host[:port] and nothing more, or "
        "*)\n"
        "CORS_ORIGINS: \"http://a:99999\" is not an origin (scheme://host[:port] and nothing more, "
        "or *)\n"
        "CORS_ORIGINS: \"http://a b\" is not an origin (scheme://host[:port] and nothing more, or "
        "*)\n"
        "CORS_ORIGINS: \"http://u@h\" is not an origin (scheme://host[:port] and nothing more, or "
        "*)\n"
        "CORS_ORIGINS: \"http://h:\" is not an origin (scheme://host[:port] and nothing more, or "
        "*)\n"
        "LOG_LEVELS: \"http=loud\" is not component=level (provider=debug)\n"
        "LOG_LEVELS: \"=info\" is not component=level (provider=debug)\n"
        "LOG_LEVELS: \"conf\" is not component=level (provider=debug)\n"
        "POSTERN_CA_FILE: missing.pem cannot be read: No such file or directory\n"
        "POSTERN_PROXY: must begin with http:// or https://\n");
}

static void test_a_sunset_that_is_no_day_is_refused(void **state)
{
    put_conf("legacy: {sunset: 2026-02-29}\n");
    expect_problems(*state,
                    "gateway.yaml:1: legacy.sunset: \"2026-02-29\" is not a day, YYYY-MM-DD\n");
}

static void test_budgets_counted_by_each_worker_alone_are_warned_of(void **state)
{
    struct room *r = *state;

    setenv("API_WORKERS", "2", 1);
    load_clean(r);
    setenv("DATABASE_URL", "postgres://db/x", 1);
    expect_problems(r, "warning: API_WORKERS: without Redis each of 2 workers counts budgets and "
                       "limits by itself\n");
    setenv("REDIS_URL", "redis://127.0.0.1:6379", 1);
    load_clean(r);
    setenv("REDIS_ENABLED", "false", 1);
    assert_int_equal(load(r)->workers, 2);
    assert_int_equal(r->ps.n, 1);
}

static void test_alerts_are_shares(void **state)
{
    put_conf("budgets: {alert_percent: [50, 0, x]}\n");
    expect_problems(*state,
                    "gateway.yaml:1: budgets.alert_percent: \"0\" is not a share in percent "
                    "(80)\n"
                    "gateway.yaml:1: budgets.alert_percent: \"x\" is not a share in percent "
                    "(80)\n");
}

static void test_values_that_contradict_each_other_are_refused(void **state)
{
    put_conf("retry:\n  base_ms: 500\n  max_ms: 100\nwatchdog:\n  warn_ms: 2000\n  abort_ms: 1000\n"
             "streams:\n  gap_s: 5\n");
    expect_problems(*state,
                    "warning: streams.heartbeat_s: is longer than streams.gap_s (5): no heartbeat "
                    "will be sent\n"
                    "gateway.yaml:2: retry.base_ms: is longer than retry.max_ms (100)\n"
                    "gateway.yaml:6: watchdog.abort_ms: is shorter than watchdog.warn_ms (2000)\n");
}

static void test_check_104_certificate_and_key_go_together_and_are_readable(void **state)
{
    struct room *r = *state;

    put_conf("server:\n  tls_certificate: file\n");
    put("file", "x");
    expect_problems(r, "gateway.yaml:2: server.tls_certificate: needs server.tls_key too\n");
    put_conf("server:\n  tls_certificate: file\n  tls_key: gone.pem\n");
    expect_problems(r, "gateway.yaml:3: server.tls_key: gone.pem cannot be read: "
                       "No such file or directory\n");
    put_conf("server:\n  tls_key: file\n");
    expect_problems(r, "gateway.yaml:2: server.tls_key: needs server.tls_certificate too\n");
    put_conf("server: {tls_key: file, tls_certificate: file}\n");
    load_clean(r);
}

/* --- secrets ---------------------------------------------------------------------------------- */

static void test_a_secret_comes_from_a_file_without_its_line_end(void **state)
{
    struct room *r = *state;
    const struct conf *c;

    put("secret", "s3cret with space \r\n\n");
    setenv("POSTERN_MASTER_KEY_FILE", "secret", 1);
    c = load_clean(r);
    assert_string_equal(c->master_key.p, "s3cret with space ");
    assert_string_equal(conf_origin(c, "master_key"), "environment");
    unsetenv("POSTERN_MASTER_KEY_FILE");
    put(".env", "POSTERN_MASTER_KEY_FILE=secret\n");
    c = load_clean(r);
    assert_string_equal(c->master_key.p, "s3cret with space ");
    setenv("POSTERN_MASTER_KEY", "direct", 1); /* the environment comes before the env file */
    assert_string_equal(load_clean(r)->master_key.p, "direct");
}

static void test_secret_files_that_cannot_be_used_are_problems(void **state)
{
    struct room *r = *state;

    setenv("JWT_SECRET_KEY_FILE", "nowhere", 1);
    expect_problems(r, "JWT_SECRET_KEY_FILE: nowhere cannot be read: No such file or directory\n");
    put("secret", "\n");
    setenv("JWT_SECRET_KEY_FILE", "secret", 1);
    expect_problems(r, "JWT_SECRET_KEY_FILE: secret is empty\n");
    put("secret", "two\nlines\n");
    expect_problems(r, "JWT_SECRET_KEY_FILE: must not hold line ends or other control "
                       "characters\n");
    put("secret", "fine\n");
    setenv("JWT_SECRET_KEY", "geheim", 1);
    expect_problems(r, "JWT_SECRET_KEY: is set, and so is JWT_SECRET_KEY_FILE; use one of them\n");
    setenv("JWT_SECRET_KEY_FILE", "/dev/zero", 1);
    unsetenv("JWT_SECRET_KEY");
    expect_problems(r, "JWT_SECRET_KEY_FILE: /dev/zero cannot be read: not a regular file\n");
}

static void test_secret_key_is_another_name_of_jwt_secret_key(void **state)
{
    struct room *r = *state;

    setenv("SECRET_KEY", "one", 1);
    assert_string_equal(load_clean(r)->jwt_secret.p, "one");
    setenv("JWT_SECRET_KEY", "one", 1);
    assert_string_equal(load_clean(r)->jwt_secret.p, "one");
    setenv("JWT_SECRET_KEY", "two", 1);
    expect_problems(r, "SECRET_KEY: is set and differs from JWT_SECRET_KEY, which it is another "
                       "name of\n");
}

static void test_a_secret_too_long_is_refused_without_being_shown(void **state)
{
    char text[600];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    setenv("POSTERN_MASTER_KEY", text, 1);
    expect_problems(*state, "POSTERN_MASTER_KEY: must be 0 to 512 characters long\n");
}

static void test_names_outside_the_table_are_looked_up_the_same_way(void **state)
{
    struct room *r = *state;
    const struct conf *c;
    struct slice first;
    size_t before;

    put(".env", "GROQ_API_KEY=gk\nOPENAI_API_KEY=from-file\n");
    put("secret", "ak\n");
    put("secret2", "a\nb\n");
    setenv("OPENAI_API_KEY", "ok", 1);
    setenv("ANTHROPIC_API_KEY_FILE", "secret", 1);
    setenv("GOOGLE_API_KEY_FILE", "secret2", 1);
    c = load_clean(r);
    first = conf_env(c, "GROQ_API_KEY", NULL);
    assert_string_equal(first.p, "gk");
    assert_ptr_equal(conf_env(c, "GROQ_API_KEY", NULL).p, first.p);
    assert_string_equal(conf_env(c, "OPENAI_API_KEY", &r->ps).p, "ok");
    assert_string_equal(conf_env(c, "ANTHROPIC_API_KEY", &r->ps).p, "ak");
    before = arena_used(conf_snapshot(c)->arena);
    assert_int_equal(conf_env(c, "OLLAMA_API_KEY", &r->ps).n, 0);
    assert_int_equal(conf_env(c, "OPENAI_API_KEY", &r->ps).n, 2);
    assert_int_equal(arena_used(conf_snapshot(c)->arena), before); /* asking often costs nothing */
    expect_printed(&r->ps, "");
    assert_int_equal(conf_env(c, "GOOGLE_API_KEY", NULL).n, 0);
    assert_int_equal(conf_env(c, "GOOGLE_API_KEY", &r->ps).n, 0);
    expect_printed(&r->ps, "GOOGLE_API_KEY_FILE: must not hold line ends or other control "
                           "characters\n");
}

/* --- a snapshot's life ------------------------------------------------------------------------ */

static void test_reload_warns_of_what_needs_a_restart_and_only_of_that(void **state)
{
    struct room *r = *state;
    struct problems ps = {0};
    struct conf *old;

    put_conf("server:\n  port: 1\n  drain_timeout_s: 5\n");
    load_clean(r);
    old = r->conf;
    r->conf = NULL;
    put_conf("server:\n  drain_timeout_s: 6\n  port: 2\n");
    setenv("LOG_FORMAT", "json", 1);
    load_clean(r);
    conf_reload_diff(old, r->conf, &ps);
    expect_printed(&ps, "warning: LOG_FORMAT: changed; takes effect with a restart\n"
                        "gateway.yaml:3: warning: server.port: changed; takes effect with a "
                        "restart\n");
    assert_int_equal(ps.errors, 0);
    problems_deinit(&ps);
    conf_reload_diff(r->conf, r->conf, &ps);
    assert_int_equal(ps.n, 0);
    conf_unref(old);
}

static void on_free(void *p)
{
    ++*(int *)p;
}

static void test_a_published_snapshot_lives_until_its_last_holder_lets_go(void **state)
{
    const struct conf_source src = {0};
    struct problems ps = {0};
    struct conf *a = conf_load(&src, &ps), *b = conf_load(&src, &ps);
    const struct conf *held;
    int freed_a = 0, freed_b = 0;

    a->attached = &freed_a;
    b->attached = &freed_b;
    a->attached_free = b->attached_free = on_free;
    assert_null(conf_current());
    conf_publish(a);
    assert_int_equal(a->generation, 1);
    held = conf_ref(conf_current());
    conf_publish(b);
    assert_int_equal(b->generation, 2);
    assert_ptr_equal(conf_current(), b);
    assert_int_equal(freed_a, 0);
    assert_int_equal(held->port, 8765);
    assert_null(conf_unref(held));
    assert_int_equal(freed_a, 1);
    conf_publish(NULL);
    assert_int_equal(freed_b, 1);
    assert_null(conf_current());
    assert_null(conf_unref(NULL));
    problems_deinit(&ps);
}

static void collect(const char *field, const char *key, const char *value, const char *origin,
                    void *arg)
{
    if (strcmp(origin, "default") != 0)
        fprintf(arg, "%s|%s|%s|%s\n", field, key, value, origin);
}

static void test_the_listing_hides_secrets_and_passwords(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    put_conf("server: {port: 9, trusted_proxies: [10.0.0.1, '::1']}\nproviders: {http2: false}\n");
    setenv("JWT_SECRET_KEY", "geheim", 1);
    setenv("POSTERN_PROXY", "http://user:geheim@proxy:3128/p@q", 1);
    conf_each(load_clean(*state), collect, f);
    fclose(f);
    assert_string_equal(text, "port|server.port|9|gateway.yaml:1\n"
                              "trusted_proxies|server.trusted_proxies|10.0.0.1,::1|gateway.yaml:1\n"
                              "jwt_secret||[redacted]|environment\n"
                              "provider_http2|providers.http2|false|gateway.yaml:2\n"
                              "provider_proxy|providers.proxy|http://[redacted]@proxy:3128/p@q|"
                              "environment\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_every_default_is_valid_and_every_row_is_well_formed),
        T(test_without_files_or_environment_the_defaults_serve),
        T(test_environment_beats_env_file_beats_yaml_beats_default),
        T(test_every_type_is_read_from_yaml),
        T(test_a_list_in_the_environment_is_separated_by_commas),
        T(test_other_yaml_files_in_the_directory_are_left_alone),
        T(test_a_section_without_keys_keeps_its_defaults),
        T(test_check_102_every_problem_of_every_file_is_listed_with_its_line),
        T(test_check_102_a_file_of_ten_megabytes_is_a_problem),
        T(test_check_104_unknown_environment_values_are_one_clear_line_each),
        T(test_a_value_from_the_env_file_is_blamed_on_its_line),
        T(test_a_directory_that_was_asked_for_must_exist),
        T(test_an_env_file_that_was_asked_for_must_exist),
        T(test_values_out_of_syntax_are_refused),
        T(test_a_sunset_that_is_no_day_is_refused),
        T(test_budgets_counted_by_each_worker_alone_are_warned_of),
        T(test_alerts_are_shares),
        T(test_values_that_contradict_each_other_are_refused),
        T(test_check_104_certificate_and_key_go_together_and_are_readable),
        T(test_a_secret_comes_from_a_file_without_its_line_end),
        T(test_secret_files_that_cannot_be_used_are_problems),
        T(test_secret_key_is_another_name_of_jwt_secret_key),
        T(test_a_secret_too_long_is_refused_without_being_shown),
        T(test_names_outside_the_table_are_looked_up_the_same_way),
        T(test_reload_warns_of_what_needs_a_restart_and_only_of_that),
        T(test_a_published_snapshot_lives_until_its_last_holder_lets_go),
        T(test_the_listing_hides_secrets_and_passwords),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
