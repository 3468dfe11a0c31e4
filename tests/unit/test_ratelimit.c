/*
 * test_ratelimit.c - token buckets per class and caller, and one for the instance. The clock stands
 * still unless a test moves it.
 */
#include "tests/unit/middleware_harness.h"

#include "storage/principal.h"

#define MINUTE_US 60000000u
#define MAX_BUCKETS 65536u

static struct route route_of(enum rate_class rate)
{
    struct route route = public_route;

    route.rate = rate;
    return route;
}

/* A bucket of the instance that is never empty, unless a test says so. The clock moves on, so that
 * what earlier tests took from it is forgotten. */
static int enter_with_room(void **state)
{
    if (enter(state))
        return -1;
    conf->rate_global_rpm = 1000000000;
    conf->rate_global_burst = 1000000000;
    now_us += 3600ull * 1000000 * 1000;
    return 0;
}

#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, enter_with_room, leave)

static const char *numbered(unsigned i)
{
    static char name[16];

    snprintf(name, sizeof(name), "c-%u", i);
    return name;
}

/* One request; true when it goes on. The request is left for looking at, and must be dropped. */
static bool passes(struct request *req)
{
    bool next = ratelimit_run(req) == CHAIN_NEXT;

    assert_int_equal(next, conn.answers == 0);
    if (!next)
        assert_int_equal(req->status, 429);
    return next;
}

static bool ask(enum rate_class rate, const char *subject, const char *address)
{
    struct route route = route_of(rate);
    struct request *req = request_of(&route);
    bool next;

    req->who.subject = slice_cstr(subject);
    req->client_ip = slice_cstr(address);
    next = passes(req);
    drop(req);
    return next;
}

static unsigned passed_of(unsigned n, enum rate_class rate, const char *subject,
                          const char *address)
{
    unsigned passed = 0;

    for (unsigned i = 0; i < n; i++)
        passed += ask(rate, subject, address);
    return passed;
}

static void test_the_burst_is_exact_in_each_class(void **state)
{
    static const struct {
        enum rate_class rate;
        unsigned burst;
    } rows[] = {{RATE_DEFAULT, 60}, {RATE_AI, 10}, {RATE_AUTH, 5}, {RATE_UPLOAD, 10}};

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(passed_of(200, rows[i].rate, NULL, "1.1.1.1"), rows[i].burst);
}

static void test_one_token_comes_back_at_its_moment(void **state)
{
    uint64_t step = MINUTE_US / 60; /* ai: 60 a minute */

    assert_int_equal(passed_of(20, RATE_AI, "a", "1.1.1.1"), 10);
    now_us += step - 1;
    assert_false(ask(RATE_AI, "a", "1.1.1.1"));
    now_us += 1;
    assert_true(ask(RATE_AI, "a", "1.1.1.1"));
    assert_false(ask(RATE_AI, "a", "1.1.1.1"));
    now_us += 3 * step;
    assert_int_equal(passed_of(20, RATE_AI, "a", "1.1.1.1"), 3);
    now_us += MINUTE_US;
    assert_int_equal(passed_of(20, RATE_AI, "a", "1.1.1.1"), 10); /* never more than the burst */
}

static void test_classes_and_callers_do_not_share(void **state)
{
    assert_int_equal(passed_of(20, RATE_AI, "a", "1.1.1.1"), 10);
    assert_int_equal(passed_of(20, RATE_AI, "b", "1.1.1.1"), 10);
    assert_int_equal(passed_of(20, RATE_UPLOAD, "a", "1.1.1.1"), 10);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "1.1.1.1"), 10);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "1.1.1.2"), 10);
}

static void test_an_ipv6_caller_is_its_64(void **state)
{
    assert_int_equal(passed_of(6, RATE_AI, NULL, "2001:db8:1:2::1"), 6);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "2001:db8:1:2:ffff::9"), 4);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "2001:db8:1:3::1"), 10);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "::ffff:1.2.3.4"), 10);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "::ffff:1.2.3.5"), 10);
}

static void test_a_subject_is_one_caller_from_everywhere(void **state)
{
    assert_int_equal(passed_of(6, RATE_AI, "a", "1.1.1.1"), 6);
    assert_int_equal(passed_of(6, RATE_AI, "a", "2.2.2.2"), 4);
    /* a subject named like an address is not that address */
    assert_int_equal(passed_of(20, RATE_AI, "3.3.3.3", "1.1.1.1"), 10);
    assert_int_equal(passed_of(20, RATE_AI, NULL, "3.3.3.3"), 10);
}

static void test_wrong_keys_are_limited_by_address(void **state)
{
    struct route route = route_of(RATE_AUTH);

    for (unsigned i = 0; i < 6; i++) {
        char key[16];
        struct request *req;

        snprintf(key, sizeof(key), "guess-%u", i);
        req = request_of(&route, "x-api-key", key);
        identify_run(req);
        assert_int_equal(passes(req), i < 5);
        drop(req);
    }
}

/* Whoever has many keys has no more guesses at others' passwords. */
static void test_logins_are_limited_by_address_whatever_comes_along(void **state)
{
    struct route route = route_of(RATE_AUTH);

    route.access = ACCESS_OPTIONAL;
    for (unsigned i = 0; i < 8; i++) {
        struct request *req = request_of(&route);

        req->who = (struct identity){.known = true, .subject = slice_cstr(numbered(i))};
        req->client_ip = SLICE("203.0.113.77");
        assert_int_equal(passes(req), i < 5);
        drop(req);
    }
    for (unsigned i = 0; i < 5; i++) { /* administrators make tokens for others */
        struct request *req = request_of(&route);

        req->who = (struct identity){.known = true, .admin = true, .subject = SLICE("user:root")};
        req->client_ip = SLICE("203.0.113.77");
        assert_true(passes(req));
        drop(req);
    }
}

static void test_probes_and_a_limiter_switched_off_are_free(void **state)
{
    struct route route = route_of(RATE_PROBE);
    struct request *req = request_of(&route);

    conf->rate_global_burst = 1;
    conf->rate_global_rpm = 1;
    assert_int_equal(passed_of(500, RATE_PROBE, NULL, "1.1.1.1"), 500);
    assert_true(passes(req));
    assert_int_equal(req->n_out, 0);
    drop(req);
    conf->rate_enabled = false;
    assert_int_equal(passed_of(500, RATE_AI, NULL, "1.1.1.1"), 500);
}

static void test_what_has_no_route_is_of_the_default_class(void **state)
{
    for (unsigned i = 0; i < 61; i++) {
        struct request *req = request_of(NULL);

        assert_int_equal(passes(req), i < 60);
        drop(req);
    }
}

static void test_headers_tell_what_is_left(void **state)
{
    struct route route = route_of(RATE_AI);
    struct request *req;

    for (unsigned i = 0; i < 10; i++) {
        char left[24], rest[64];

        req = request_of(&route);
        assert_true(passes(req));
        snprintf(left, sizeof(left), "%u", 9 - i);
        snprintf(rest, sizeof(rest), "\"ai\";r=%u;t=%u", 9 - i, i + 1);
        assert_string_equal(out_header(req, "X-RateLimit-Limit"), "60");
        assert_string_equal(out_header(req, "X-RateLimit-Remaining"), left);
        assert_string_equal(out_header(req, "RateLimit"), rest);
        assert_string_equal(out_header(req, "RateLimit-Policy"), "\"ai\";q=60;w=60");
        assert_string_equal(out_header(req, "Retry-After"), "");
        drop(req);
    }
    req = request_of(&route);
    assert_false(passes(req));
    assert_string_equal(out_header(req, "X-RateLimit-Remaining"), "0");
    assert_string_equal(out_header(req, "X-RateLimit-Reset"), "10");
    assert_string_equal(out_header(req, "Retry-After"), "1");
    assert_in(conn.sent, "HTTP/1.1 429 Too Many Requests\r\n");
    assert_in(conn.sent, "Retry-After: 1\r\n");
    drop(req);
}

static void test_retry_after_is_long_enough(void **state)
{
    struct route route = route_of(RATE_AUTH); /* 10 a minute: one in 6 s */
    struct request *req;

    assert_int_equal(passed_of(9, RATE_AUTH, NULL, "203.0.113.9"), 5);
    now_us += 1; /* 5.999999 s are left */
    req = request_of(&route);
    assert_false(passes(req));
    assert_string_equal(out_header(req, "Retry-After"), "6");
    drop(req);
    now_us += 6000000 - 1;
    assert_true(ask(RATE_AUTH, NULL, "203.0.113.9"));
}

static void test_a_refusal_is_counted_and_noted(void **state)
{
    struct route route = route_of(RATE_AI);
    struct metric_series *refused = metrics_get(M_RATE_LIMITED, "ai", NULL, NULL);
    int64_t had = metrics_value(refused);
    struct request *req;

    passed_of(10, RATE_AI, NULL, "203.0.113.9");
    req = request_of(&route);
    assert_false(passes(req));
    assert_int_equal(metrics_value(refused), had + 1);
    log_text[0] = '\0';
    drop(req);
    assert_in(log_text, " error=rate-limited rate_limit=ai");
}

static void test_all_callers_together_have_a_limit(void **state)
{
    struct metric_series *refused = metrics_get(M_RATE_LIMITED, "global", NULL, NULL);
    int64_t had = metrics_value(refused);
    unsigned passed = 0;

    conf->rate_global_rpm = 60;
    conf->rate_global_burst = 7;
    for (unsigned i = 0; i < 20; i++) {
        char address[16];

        snprintf(address, sizeof(address), "1.1.1.%u", i);
        passed += ask(RATE_DEFAULT, NULL, address);
    }
    assert_int_equal(passed, 7);
    assert_int_equal(metrics_value(refused), had + 13);
    now_us += 1000000;
    assert_true(ask(RATE_DEFAULT, NULL, "1.1.1.99"));
    assert_false(ask(RATE_DEFAULT, NULL, "1.1.1.98"));
}

/* A flood of one caller must not take the others' tokens. */
static void test_what_a_class_refuses_costs_the_instance_nothing(void **state)
{
    conf->rate_global_rpm = 60;
    conf->rate_global_burst = 20;
    assert_int_equal(passed_of(500, RATE_AUTH, NULL, "1.1.1.1"), 5);
    assert_int_equal(passed_of(100, RATE_DEFAULT, NULL, "2.2.2.2"), 15);
}

static void test_long_subjects_are_told_apart_by_their_first_72_bytes(void **state)
{
    char a[101], b[101];

    memset(a, 'x', 100);
    memset(b, 'x', 100);
    a[100] = b[100] = '\0';
    b[99] = 'y'; /* beyond what is looked at: the same caller, who gains nothing by it */
    assert_int_equal(passed_of(20, RATE_AI, a, "1.1.1.1"), 10);
    assert_int_equal(passed_of(20, RATE_AI, b, "1.1.1.1"), 0);
    b[71] = 'y';
    assert_int_equal(passed_of(20, RATE_AI, b, "1.1.1.1"), 10);
}

/* The quietest caller is forgotten when one more comes than there is room for, and only that one.
 */
static void test_the_table_is_bounded_and_forgets_the_quietest(void **state)
{
    assert_int_equal(passed_of(5, RATE_AUTH, numbered(0), "1.1.1.1"), 5);
    assert_int_equal(passed_of(5, RATE_AUTH, numbered(1), "1.1.1.1"), 5);
    for (unsigned i = 2; i < MAX_BUCKETS; i++)
        assert_true(ask(RATE_AUTH, numbered(i), "1.1.1.1"));
    /* the table is full; caller 0 speaks again and becomes the latest */
    assert_false(ask(RATE_AUTH, numbered(0), "1.1.1.1"));
    assert_true(ask(RATE_AUTH, numbered(MAX_BUCKETS), "1.1.1.1"));
    assert_false(ask(RATE_AUTH, numbered(0), "1.1.1.1")); /* still known */
    assert_true(ask(RATE_AUTH, numbered(1), "1.1.1.1"));  /* forgotten: begins with a full bucket */
    assert_int_equal(passed_of(9, RATE_AUTH, numbered(3), "1.1.1.1"), 4);
}

static void test_new_limits_count_from_the_next_request(void **state)
{
    assert_int_equal(passed_of(20, RATE_AI, "a", "1.1.1.1"), 10);
    conf->rate_ai_burst = 15;
    assert_int_equal(passed_of(20, RATE_AI, "a", "1.1.1.1"), 5);
}

/* --- keys with a rate of their own, routes with a limit of their own -------------------------- */

static bool ask_as_key(int64_t per_minute, const char **ret_policy)
{
    static char policy[128];
    struct principal key = {.kind = PRINCIPAL_KEY, .requests_per_minute = per_minute};
    struct route route = route_of(RATE_AI);
    struct request *req = request_of(&route);
    bool next;

    req->who.subject = SLICE("key:pk-1");
    req->principal = &key;
    next = passes(req);
    snprintf(policy, sizeof(policy), "%s", out_header(req, "RateLimit-Policy"));
    *ret_policy = policy;
    req->principal = NULL;
    drop(req);
    return next;
}

static void test_a_key_has_its_own_limit_besides_its_class(void **state)
{
    const char *policy = "";

    for (unsigned i = 0; i < 3; i++) {
        assert_true(ask_as_key(3, &policy));
        assert_string_equal(policy, "\"key\";q=3;w=60");
    }
    assert_false(ask_as_key(3, &policy));
    assert_string_equal(policy, "\"key\";q=3;w=60");
    assert_int_equal(passed_of(20, RATE_AI, "key:pk-1", "1.1.1.1"),
                     7); /* what the class has left */
}

static void test_a_key_that_may_more_than_its_class_is_limited_by_the_class(void **state)
{
    const char *policy = "";

    for (unsigned i = 0; i < 10; i++)
        assert_true(ask_as_key(1000, &policy));
    assert_string_equal(policy, "\"ai\";q=60;w=60");
    assert_false(ask_as_key(1000, &policy));
}

static bool ask_in_team(enum principal_kind kind, const char *subject, int64_t own, int64_t team,
                        char policy[128])
{
    struct principal p = {.kind = kind,
                          .requests_per_minute = own,
                          .team_requests_per_minute = team,
                          .team_id = "4fca9c41-0000-4000-8000-000000000001"};
    struct route route = route_of(RATE_AI);
    struct request *req = request_of(&route);
    bool next;

    req->who.subject = slice_cstr(subject);
    req->principal = &p;
    next = passes(req);
    snprintf(policy, 128, "%s", out_header(req, "RateLimit-Policy"));
    assert_int_equal(atoi(out_header(req, "Retry-After")) > 0, !next);
    req->principal = NULL;
    drop(req);
    return next;
}

static void test_keys_and_users_of_a_team_share_its_limit(void **state)
{
    char policy[128];

    assert_true(ask_in_team(PRINCIPAL_KEY, "key:pk-1", 0, 3, policy));
    assert_string_equal(policy, "\"team\";q=3;w=60");
    assert_true(ask_in_team(PRINCIPAL_KEY, "key:pk-2", 5, 3, policy));
    assert_true(ask_in_team(PRINCIPAL_USER, "user:ada", 0, 3, policy));
    for (unsigned i = 0; i < 3; i++) {
        assert_false(ask_in_team(PRINCIPAL_KEY, i ? "key:pk-1" : "key:pk-3", 0, 3, policy));
        assert_string_equal(policy, "\"team\";q=3;w=60");
    }
    assert_int_equal(passed_of(20, RATE_AI, "key:pk-4", "1.1.1.1"), 10); /* of no team */
}

static void test_the_tighter_of_a_keys_and_its_teams_limit_is_told(void **state)
{
    char policy[128];

    assert_true(ask_in_team(PRINCIPAL_KEY, "key:pk-1", 2, 4, policy));
    assert_string_equal(policy, "\"key\";q=2;w=60");
    assert_true(ask_in_team(PRINCIPAL_KEY, "key:pk-1", 2, 4, policy));
    assert_false(ask_in_team(PRINCIPAL_KEY, "key:pk-1", 2, 4, policy));
    assert_string_equal(policy, "\"key\";q=2;w=60");
    /* the refusal has taken none of the team's */
    assert_true(ask_in_team(PRINCIPAL_KEY, "key:pk-2", 9, 4, policy));
    assert_string_equal(policy, "\"team\";q=4;w=60");
    assert_true(ask_in_team(PRINCIPAL_KEY, "key:pk-2", 9, 4, policy));
    assert_false(ask_in_team(PRINCIPAL_KEY, "key:pk-2", 9, 4, policy));
    assert_string_equal(policy, "\"team\";q=4;w=60");
}

static unsigned passed_on(unsigned n, const struct route *route)
{
    unsigned passed = 0;

    for (unsigned i = 0; i < n; i++) {
        struct request *req = request_of(route);

        passed += passes(req);
        drop(req);
    }
    return passed;
}

static void test_a_listed_route_has_a_bucket_of_its_own_and_its_alias_the_same(void **state)
{
    static const struct slice list[] = {{"GET /a=1/4", 10}, {"POST /b/{id}=1/2", 16}};
    static const struct slice later[] = {{"GET /a=1/6", 10}};
    const struct route a = {.method = HTTP_GET, .path = "/a", .rate = RATE_AI};
    const struct route post = {.method = HTTP_POST, .path = "/a", .rate = RATE_AI};
    const struct route b = {.method = HTTP_POST, .path = "/b/{id}", .rate = RATE_AI};
    const struct route alias = {
        .method = HTTP_GET, .path = "/old", .successor = "/a", .rate = RATE_AI};

    conf->rate_overrides = list_of(list, 2);
    assert_int_equal(passed_on(3, &a), 3);
    assert_int_equal(passed_on(9, &alias), 1);
    assert_int_equal(passed_on(9, &b), 2);
    assert_int_equal(passed_on(20, &post), 10);
    conf->rate_overrides = list_of(later, 1);
    assert_int_equal(passed_on(9, &a), 2);
    assert_int_equal(passed_on(9, &b), 0); /* of its class again, which is used up */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_the_burst_is_exact_in_each_class),
        T(test_one_token_comes_back_at_its_moment),
        T(test_classes_and_callers_do_not_share),
        T(test_an_ipv6_caller_is_its_64),
        T(test_a_subject_is_one_caller_from_everywhere),
        T(test_wrong_keys_are_limited_by_address),
        T(test_logins_are_limited_by_address_whatever_comes_along),
        T(test_probes_and_a_limiter_switched_off_are_free),
        T(test_what_has_no_route_is_of_the_default_class),
        T(test_headers_tell_what_is_left),
        T(test_retry_after_is_long_enough),
        T(test_a_refusal_is_counted_and_noted),
        T(test_all_callers_together_have_a_limit),
        T(test_what_a_class_refuses_costs_the_instance_nothing),
        T(test_long_subjects_are_told_apart_by_their_first_72_bytes),
        T(test_the_table_is_bounded_and_forgets_the_quietest),
        T(test_new_limits_count_from_the_next_request),
        T(test_a_key_has_its_own_limit_besides_its_class),
        T(test_a_key_that_may_more_than_its_class_is_limited_by_the_class),
        T(test_keys_and_users_of_a_team_share_its_limit),
        T(test_the_tighter_of_a_keys_and_its_teams_limit_is_told),
        T(test_a_listed_route_has_a_bucket_of_its_own_and_its_alias_the_same),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
