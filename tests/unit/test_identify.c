/*
 * test_identify.c - who asks (identify.c), and whether that is enough (authorise.c).
 */
#include "tests/unit/middleware_harness.h"

#define KEY "pk-master-0123456789"

static int enter_with_key(void **state)
{
    if (enter(state))
        return -1;
    conf->master_key = SLICE(KEY);
    return 0;
}

#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, enter_with_key, leave)

/* --- identify.c ----------------------------------------------------------------------------------
 */

enum who { NOBODY, MASTER, INVALID, CONFLICT };

static enum who who_of(const struct request *req)
{
    assert_true(req->who.known + req->who.invalid + req->who.conflicting <= 1);
    assert_int_equal(req->who.known, req->who.admin);
    if (req->who.known)
        assert_slice(req->who.subject, "master");
    else
        assert_int_equal(req->who.subject.n, 0);
    return req->who.known         ? MASTER
           : req->who.invalid     ? INVALID
           : req->who.conflicting ? CONFLICT
                                  : NOBODY;
}

static enum who identified(const char *query, const char *const *headers)
{
    struct request *req = request_with(&public_route, headers);
    enum who who;

    req->query = slice_cstr(query);
    assert_int_equal(identify_run(req), CHAIN_NEXT); /* it never rejects */
    assert_int_equal(conn.answers, 0);
    assert_slice(req->query, query);
    who = who_of(req);
    drop(req);
    return who;
}

#define ID(query, ...)                                                                             \
    identified((query), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL, NULL})

static void test_a_key_is_found_in_every_place(void **state)
{
    assert_int_equal(ID("", "Authorization", "Bearer " KEY), MASTER);
    assert_int_equal(ID("", "authorization", "bearer " KEY), MASTER);
    assert_int_equal(ID("", "AUTHORIZATION", "BEARER   " KEY), MASTER);
    assert_int_equal(ID("", "X-Api-Key", KEY), MASTER);
    assert_int_equal(ID("", "x-goog-api-key", KEY), MASTER);
    assert_int_equal(ID("key=" KEY), MASTER);
    assert_int_equal(ID("alt=sse&key=" KEY "&x=%zz"), MASTER);
    assert_int_equal(ID("key=pk%2Dmaster%2d0123456789"), MASTER);
}

static void test_no_key_is_nobody(void **state)
{
    assert_int_equal(ID(""), NOBODY);
    assert_int_equal(ID("keys=" KEY "&xkey=" KEY "&Key=" KEY), NOBODY);
    assert_int_equal(ID("key="), NOBODY);
    assert_int_equal(ID("key"), NOBODY);
    assert_int_equal(ID("&&&=&"), NOBODY);
    assert_int_equal(ID("", "x-api-key", "", "Authorization", ""), NOBODY);
    assert_int_equal(ID("", "x-api-keys", KEY, "cookie", "key=" KEY), NOBODY);
}

static void test_a_wrong_key_is_invalid(void **state)
{
    assert_int_equal(ID("", "Authorization", "Bearer pk-master-012345678"), INVALID);
    assert_int_equal(ID("", "Authorization", "Bearer " KEY "0"), INVALID);
    assert_int_equal(ID("", "Authorization", "Bearer PK-MASTER-0123456789"), INVALID);
    assert_int_equal(ID("", "x-api-key", "Bearer " KEY), INVALID);
    assert_int_equal(ID("key=x"), INVALID);
}

static void test_another_scheme_is_none_of_ours(void **state)
{
    assert_int_equal(ID("", "Authorization", "Basic dTpw"), INVALID);
    assert_int_equal(ID("", "Authorization", KEY), INVALID); /* a key without its scheme */
    assert_int_equal(ID("", "Authorization", "Bearer"), INVALID);
    assert_int_equal(ID("", "Authorization", "Bearer" KEY), INVALID);
    assert_int_equal(ID("", "Authorization", "Basic dTpw", "x-api-key", KEY), CONFLICT);
    assert_int_equal(ID("key=" KEY, "Authorization", "Basic dTpw"), CONFLICT);
}

static void test_bad_escapes_are_no_key(void **state)
{
    assert_int_equal(ID("key=%zz"), INVALID);
    assert_int_equal(ID("key=pk%"), INVALID);
    assert_int_equal(ID("key=pk%2"), INVALID);
    assert_int_equal(ID("key=" KEY "%00"), INVALID);
    assert_int_equal(ID("key=%zz", "x-api-key", KEY), CONFLICT);
    assert_int_equal(ID("key=%zz&key=" KEY), CONFLICT);
}

static void test_the_same_key_twice_is_one_key(void **state)
{
    assert_int_equal(
        ID("key=" KEY, "Authorization", "Bearer " KEY, "x-api-key", KEY, "x-goog-api-key", KEY),
        MASTER);
    assert_int_equal(ID("key=" KEY "&key=" KEY), MASTER);
    assert_int_equal(ID("", "x-api-key", KEY, "X-API-KEY", KEY), MASTER);
    assert_int_equal(ID("key=x&key=x", "x-api-key", "x"), INVALID);
}

static void test_two_different_keys_are_a_conflict(void **state)
{
    assert_int_equal(ID("", "Authorization", "Bearer x", "x-api-key", KEY), CONFLICT);
    assert_int_equal(ID("", "x-api-key", KEY, "x-api-key", "x"), CONFLICT);
    assert_int_equal(ID("", "Authorization", "Bearer " KEY, "Authorization", "Bearer x"), CONFLICT);
    assert_int_equal(ID("key=x", "x-goog-api-key", KEY), CONFLICT);
    assert_int_equal(ID("key=" KEY "&key=x"), CONFLICT);
    assert_int_equal(ID("key=x&a=b&key=" KEY), CONFLICT);
    /* the third agrees with the second */
    assert_int_equal(ID("key=" KEY, "Authorization", "Bearer x", "x-api-key", KEY), CONFLICT);
}

static void test_without_a_master_key_nothing_is_one(void **state)
{
    conf->master_key = SLICE_NONE;
    assert_int_equal(ID("key=", "x-api-key", ""), NOBODY);
    assert_int_equal(ID("", "x-api-key", "x"), INVALID);
    assert_int_equal(ID("", "Authorization", "Bearer "), INVALID);
}

/* --- authorise.c
 * ---------------------------------------------------------------------------------- */

static struct identity identity_of(enum who who)
{
    switch (who) {
    case MASTER:
        return (struct identity){.known = true, .admin = true, .subject = SLICE("master")};
    case INVALID:
        return (struct identity){.invalid = true};
    case CONFLICT:
        return (struct identity){.conflicting = true};
    case NOBODY:
        break;
    }
    return (struct identity){.known = false};
}

/* The status of the refusal, or 0. */
static int refused_with(enum route_access access, struct identity who)
{
    struct route route = public_route;
    struct request *req;
    int status;

    route.access = access;
    req = request_of(&route);
    req->who = who;
    status = authorise_run(req) == CHAIN_NEXT ? 0 : req->status;
    assert_int_equal(status != 0, conn.answers);
    if (status == 401)
        assert_in(conn.sent, "WWW-Authenticate: Bearer realm=\"postern\"\r\n");
    else
        assert_not_in(conn.sent, "WWW-Authenticate");
    assert_not_in(conn.sent, KEY);
    drop(req);
    return status;
}

static void test_each_route_asks_for_what_it_needs(void **state)
{
    static const struct {
        enum route_access access;
        int nobody, master, invalid, conflict;
    } rows[] = {
        {ACCESS_PUBLIC, 0, 0, 0, 0},
        {ACCESS_USER, 401, 0, 401, 401},
        {ACCESS_ADMIN, 401, 0, 401, 401},
        {ACCESS_OPS, 401, 0, 401, 401}, /* asked from afar */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(refused_with(rows[i].access, identity_of(NOBODY)), rows[i].nobody);
        assert_int_equal(refused_with(rows[i].access, identity_of(MASTER)), rows[i].master);
        assert_int_equal(refused_with(rows[i].access, identity_of(INVALID)), rows[i].invalid);
        assert_int_equal(refused_with(rows[i].access, identity_of(CONFLICT)), rows[i].conflict);
    }
}

static void test_a_user_is_no_administrator(void **state)
{
    struct identity user = {.known = true, .subject = SLICE("u")};

    assert_int_equal(refused_with(ACCESS_USER, user), 0);
    assert_int_equal(refused_with(ACCESS_ADMIN, user), 403);
    assert_int_equal(refused_with(ACCESS_OPS, user), 403);
}

static void test_without_authentication_only_wrong_keys_are_refused(void **state)
{
    struct identity user = {.known = true, .subject = SLICE("u")};

    conf->require_auth = SLICE("false");
    for (enum route_access access = ACCESS_PUBLIC; access <= ACCESS_OPS; access++) {
        assert_int_equal(refused_with(access, identity_of(NOBODY)), 0);
        assert_int_equal(refused_with(access, identity_of(INVALID)),
                         access == ACCESS_PUBLIC ? 0 : 401);
    }
    assert_int_equal(refused_with(ACCESS_ADMIN, user), 403);
}

static void test_what_has_no_route_is_not_asked_for_a_key(void **state)
{
    struct request *req = request_of(NULL);

    assert_int_equal(authorise_run(req), CHAIN_NEXT);
    drop(req);
}

static void test_the_answer_says_what_was_wrong(void **state)
{
    struct route route = public_route;
    struct request *req;

    route.access = ACCESS_USER;
    req = request_of(&route);
    req->who = identity_of(CONFLICT);
    authorise_run(req);
    assert_in(conn.sent, "two different credentials");
    drop(req);
    req = request_of(&route);
    authorise_run(req);
    assert_in(conn.sent, "x-goog-api-key");
    drop(req);
}

/* --- operators
 * ------------------------------------------------------------------------------------- */

static const struct slice here[] = {SLICE("127.0.0.0/8"), SLICE("10.0.0.5")};

/* Through trusted_proxy.c and authorise.c without a key. */
static bool is_operator(const char *peer, const char *const *headers)
{
    struct route route = public_route;
    struct request *req;
    bool passed;

    route.access = ACCESS_OPS;
    req = request_with(&route, headers);
    req->peer = req->client_ip = slice_cstr(peer);
    trusted_proxy_run(req);
    passed = authorise_run(req) == CHAIN_NEXT;
    drop(req);
    return passed;
}

#define OPS(peer, ...)                                                                             \
    is_operator((peer), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL, NULL})

static void test_machines_around_us_are_operators(void **state)
{
    assert_true(OPS("127.0.0.1"));
    assert_true(OPS("127.1.2.3"));
    assert_true(OPS("::1"));
    assert_false(OPS("10.0.0.5"));
    assert_false(OPS("203.0.113.9"));
    assert_false(OPS(""));
    conf->trusted_proxies = list_of(here, 2);
    assert_true(OPS("10.0.0.5"));
    assert_true(OPS("127.0.0.1"));
    assert_false(OPS("10.0.0.6"));
    assert_true(OPS("127.0.0.1", "x-forwarded-for", "127.0.0.1")); /* the proxy's own question */
}

static void test_strangers_behind_a_proxy_are_no_operators(void **state)
{
    for (unsigned trusting = 0; trusting < 2; trusting++) {
        conf->trusted_proxies = list_of(here, trusting ? 2 : 0);
        assert_false(OPS("127.0.0.1", "x-forwarded-for", "203.0.113.9"));
        assert_false(OPS("127.0.0.1", "x-forwarded-for", "127.0.0.1, 203.0.113.9"));
        assert_false(OPS("127.0.0.1", "x-forwarded-for", "203.0.113.9, 127.0.0.1"));
        /* the client's address cannot be made out */
        assert_false(OPS("127.0.0.1", "x-forwarded-for", "garbage"));
        assert_false(OPS("127.0.0.1", "x-forwarded-for", ""));
        assert_false(OPS("127.0.0.1", "x-forwarded-for", "x", "x-forwarded-for", "203.0.113.9"));
        assert_false(
            OPS("127.0.0.1", "x-forwarded-for", "127.0.0.1", "x-forwarded-for", "127.0.0.1"));
        assert_false(OPS("127.0.0.1", "forwarded", "for=203.0.113.9"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_key_is_found_in_every_place),
        T(test_no_key_is_nobody),
        T(test_a_wrong_key_is_invalid),
        T(test_another_scheme_is_none_of_ours),
        T(test_bad_escapes_are_no_key),
        T(test_the_same_key_twice_is_one_key),
        T(test_two_different_keys_are_a_conflict),
        T(test_without_a_master_key_nothing_is_one),
        T(test_each_route_asks_for_what_it_needs),
        T(test_a_user_is_no_administrator),
        T(test_without_authentication_only_wrong_keys_are_refused),
        T(test_what_has_no_route_is_not_asked_for_a_key),
        T(test_the_answer_says_what_was_wrong),
        T(test_machines_around_us_are_operators),
        T(test_strangers_behind_a_proxy_are_no_operators),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
