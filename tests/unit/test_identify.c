/*
 * test_identify.c - who asks (identify.c), and whether that is enough (authorise.c).
 */
#include "tests/unit/middleware_harness.h"

#include "gateway/core/jwt.h"
#include "storage/keyring.h"

#define KEY "pk-master-0123456789"

static int enter_with_key(void **state)
{
    if (enter(state))
        return -1;
    conf->jwt_secret = SLICE("a-secret-of-some-length-0123456789");
    conf->master_key = SLICE(KEY);
    return 0;
}

static int leave_with_key(void **state)
{
    jwt_deinit();
    return leave(state);
}

#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, enter_with_key, leave_with_key)

static const struct route user_route = {.method = HTTP_POST,
                                        .path = "/user/{id}",
                                        .surface = SURFACE_NATIVE,
                                        .access = ACCESS_USER,
                                        .rate = RATE_DEFAULT};

/* --- a keyring made by hand
 * ------------------------------------------------------------------------
 */

static struct {
    bool in_use; /* else the real one, which has no database */
    enum gw_err err;
    struct principal p; /* with GW_OK */
    struct op op;
    keyring_done done;
    void *arg;
    unsigned asked, cancelled, resumed;
    struct jwt_claims claims;
} ring;

enum gw_err __real_keyring_key(struct slice key, const struct principal **ret, struct op **ret_op,
                               keyring_done done, void *arg);
enum gw_err __wrap_keyring_key(struct slice key, const struct principal **ret, struct op **ret_op,
                               keyring_done done, void *arg);
enum gw_err __real_keyring_token(const struct jwt_claims *claims, const struct principal **ret,
                                 struct op **ret_op, keyring_done done, void *arg);
enum gw_err __wrap_keyring_token(const struct jwt_claims *claims, const struct principal **ret,
                                 struct op **ret_op, keyring_done done, void *arg);
void __wrap_chain_resume(struct request *req);

static void ring_cancel(struct op *op)
{
    ring.cancelled++;
}

static enum gw_err ring_ask(const struct principal **ret, struct op **ret_op, keyring_done done,
                            void *arg)
{
    ring.asked++;
    ring.op.cancel = ring_cancel;
    ring.done = done;
    ring.arg = arg;
    if (ring.err == GW_EAGAIN)
        *ret_op = &ring.op;
    if (ring.err == GW_OK)
        *ret = principal_ref(&ring.p);
    return ring.err;
}

enum gw_err __wrap_keyring_key(struct slice key, const struct principal **ret, struct op **ret_op,
                               keyring_done done, void *arg)
{
    return ring.in_use ? ring_ask(ret, ret_op, done, arg)
                       : __real_keyring_key(key, ret, ret_op, done, arg);
}

enum gw_err __wrap_keyring_token(const struct jwt_claims *claims, const struct principal **ret,
                                 struct op **ret_op, keyring_done done, void *arg)
{
    ring.claims = *claims;
    return ring.in_use ? ring_ask(ret, ret_op, done, arg)
                       : __real_keyring_token(claims, ret, ret_op, done, arg);
}

void __wrap_chain_resume(struct request *req)
{
    ring.resumed++;
}

static void use_ring(enum gw_err err)
{
    memset(&ring, 0, sizeof(ring));
    ring.in_use = true;
    ring.err = err;
    ring.p = (struct principal){
        .refs = 1, .kind = PRINCIPAL_KEY, .subject = "key:pk-01234567", .admin = true};
}

/* --- identify.c ------------------------------------------------------------------------------- */

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
    struct request *req = request_with(&user_route, headers);
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

/* --- who it is
 * -------------------------------------------------------------------------------------
 */

#define API_KEY "pk-0000000000000000000000000000000000000000000"

static struct request *asking(const struct route *route, const char *key)
{
    return request_of(route, "x-api-key", key);
}

static void test_a_known_key_is_its_principal_until_the_request_ends(void **state)
{
    struct request *req;

    use_ring(GW_OK);
    req = asking(&user_route, API_KEY);
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_true(req->who.known && req->who.admin);
    assert_ptr_equal(req->principal, &ring.p);
    assert_slice(req->who.subject, "key:pk-01234567");
    assert_int_equal(ring.p.refs, 2);
    drop(req);
    assert_int_equal(ring.p.refs, 1);
}

static void test_a_key_that_is_not_here_parks_the_request(void **state)
{
    static const enum gw_err errs[] = {GW_OK, GW_EUNAUTH, GW_ETOKENEXPIRED, GW_EUNAVAIL};

    for (unsigned i = 0; i < 4; i++) {
        struct request *req;

        use_ring(GW_EAGAIN);
        req = asking(&user_route, API_KEY);
        assert_int_equal(identify_run(req), CHAIN_PARKED);
        assert_false(req->who.known || req->who.invalid || req->who.unavailable);
        ring.done(errs[i], errs[i] ? NULL : principal_ref(&ring.p), ring.arg);
        assert_int_equal(ring.resumed, 1);
        assert_null(req->on_abort);
        assert_int_equal(req->who.known, errs[i] == GW_OK);
        assert_int_equal(req->who.invalid, errs[i] == GW_EUNAUTH || errs[i] == GW_ETOKENEXPIRED);
        assert_int_equal(req->who.expired, errs[i] == GW_ETOKENEXPIRED);
        assert_int_equal(req->who.unavailable, errs[i] == GW_EUNAVAIL);
        assert_int_equal(conn.answers, 0);
        drop(req);
        assert_int_equal(ring.p.refs, 1);
    }
}

static void test_out_of_memory_is_an_answer_and_not_a_wrong_key(void **state)
{
    struct request *req;

    use_ring(GW_EAGAIN);
    req = asking(&user_route, API_KEY);
    assert_int_equal(identify_run(req), CHAIN_PARKED);
    ring.done(GW_ENOMEM, NULL, ring.arg);
    assert_int_equal(ring.resumed, 0);
    assert_int_equal(req->status, 503);
    drop(req);
    use_ring(GW_ENOMEM);
    req = asking(&user_route, API_KEY);
    assert_int_equal(identify_run(req), CHAIN_DONE);
    assert_int_equal(req->status, 503);
    drop(req);
}

static void test_a_client_that_leaves_is_not_looked_up_any_more(void **state)
{
    struct request *req;

    use_ring(GW_EAGAIN);
    req = asking(&user_route, API_KEY);
    assert_int_equal(identify_run(req), CHAIN_PARKED);
    assert_int_equal(req->refs, 2);
    req->on_abort(req, req->on_abort_arg);
    assert_int_equal(ring.cancelled, 1);
    assert_int_equal(req->refs, 1);
    drop(req);
}

static void test_public_routes_do_not_wait_for_a_database(void **state)
{
    struct request *req;

    use_ring(GW_EAGAIN);
    req = asking(&public_route, API_KEY);
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    drop(req);
    req = asking(NULL, API_KEY); /* 404 */
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    drop(req);
    assert_int_equal(ring.asked, 0);
    req = asking(&public_route, KEY);
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_ptr_equal(req->principal, principal_master());
    drop(req);
}

static void test_without_a_database_there_are_no_keys(void **state)
{
    memset(&ring, 0, sizeof(ring));
    assert_int_equal(ID("", "x-api-key", API_KEY), INVALID);
}

/* A token of `secret` that expires `in_s` from now, offered in the way of a client. */
static struct request *bearer(struct slice secret, int64_t in_s)
{
    const struct jwt_secrets secrets = {.current = secret};
    struct jwt_claims c = {.sub = "ada", .exp_us = (int64_t)loop_wall_us() + in_s * 1000000};
    struct request *req = request_of(&user_route);
    struct http_header *h = arena_new(req->arena, struct http_header);
    struct slice token;

    assert_int_equal(jwt_issue(req->arena, &secrets, &c, &token), GW_OK);
    *h = (struct http_header){SLICE("authorization"),
                              arena_printf(req->arena, "Bearer %.*s", SLICE_ARG(token))};
    req->headers = h;
    req->n_headers = 1;
    return req;
}

static void test_a_token_stands_for_its_user(void **state)
{
    struct request *req = bearer(conf->jwt_secret, 60);

    memset(&ring, 0, sizeof(ring));
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_true(req->who.known);
    assert_false(req->who.admin);
    assert_slice(req->who.subject, "user:ada");
    assert_string_equal(req->principal->user_id, "ada");
    drop(req);
}

static void test_a_wrong_token_is_never_asked_about_and_an_old_one_is_told_so(void **state)
{
    struct request *req = bearer(SLICE("another secret"), 60);

    use_ring(GW_OK);
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_true(req->who.invalid && !req->who.expired && !req->who.known);
    drop(req);
    req = bearer(conf->jwt_secret, -3600);
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_true(req->who.invalid && req->who.expired && !req->who.known);
    assert_int_equal(ring.asked, 0);
    drop(req);
    req = bearer(conf->jwt_secret, 60);
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_int_equal(ring.asked, 1);
    assert_string_equal(ring.claims.sub, "ada");
    drop(req);
}

static void test_the_previous_secret_is_believed_too(void **state)
{
    struct request *req = bearer(conf->jwt_secret, 60);

    memset(&ring, 0, sizeof(ring));
    conf->jwt_secret_previous = conf->jwt_secret;
    conf->jwt_secret = SLICE("the secret after it, 0123456789012");
    assert_int_equal(identify_run(req), CHAIN_NEXT);
    assert_true(req->who.known);
    drop(req);
}

/* --- authorise.c ------------------------------------------------------------------------------ */

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
        assert_in(conn.sent, "WWW-Authenticate: Bearer realm=\"postern\"");
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
        {ACCESS_PUBLIC, 0, 0, 0, 0},     {ACCESS_OPTIONAL, 0, 0, 401, 401},
        {ACCESS_USER, 401, 0, 401, 401}, {ACCESS_ADMIN, 401, 0, 401, 401},
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

static void test_the_challenge_tells_a_bad_credential_from_none(void **state)
{
    static const struct {
        struct identity who;
        const char *status, *header, *slug;
    } rows[] = {
        {{.known = false}, "HTTP/1.1 401 ", "Bearer realm=\"postern\"\r\n", ":unauthorized"},
        {{.invalid = true}, "HTTP/1.1 401 ", "error=\"invalid_token\"\r\n", ":unauthorized"},
        {{.invalid = true, .expired = true},
         "HTTP/1.1 401 ",
         "error=\"invalid_token\", error_description=\"expired\"\r\n",
         ":token-expired"},
        {{.conflicting = true}, "HTTP/1.1 401 ", "error=\"invalid_request\"\r\n", ":unauthorized"},
        {{.unavailable = true}, "HTTP/1.1 503 ", "Retry-After: 5\r\n", ":dependency-unavailable"},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct request *req = request_of(&user_route);

        req->who = rows[i].who;
        assert_int_equal(authorise_run(req), CHAIN_DONE);
        assert_in(conn.sent, rows[i].status);
        assert_in(conn.sent, rows[i].header);
        assert_in(conn.sent, rows[i].slug);
        drop(req);
    }
}

/* The status of a route for a key with these scopes, or 0. */
static int opened(struct route route, unsigned scopes, bool admin)
{
    struct principal p = {.refs = 1, .kind = PRINCIPAL_KEY, .scopes = scopes, .admin = admin};
    struct request *req = request_of(&route);
    int status;

    req->principal = &p;
    req->who = (struct identity){.known = true, .admin = admin, .subject = SLICE("key:x")};
    status = authorise_run(req) == CHAIN_NEXT ? 0 : req->status;
    if (status && scopes)
        assert_in(conn.sent, "error=\"insufficient_scope\"");
    drop(req);
    return status;
}

static void test_a_key_opens_what_its_scopes_name(void **state)
{
    struct route get = user_route, post = user_route, chat = user_route, admin = user_route;

    get.method = HTTP_GET;
    chat.scope = SCOPE_CHAT | SCOPE_EMBEDDINGS;
    admin.access = ACCESS_ADMIN;
    assert_int_equal(opened(get, 0, false), 0);
    assert_int_equal(opened(get, SCOPE_READ, false), 0);
    assert_int_equal(opened(get, SCOPE_WRITE | SCOPE_CHAT, false), 403);
    assert_int_equal(opened(post, 0, false), 0);
    assert_int_equal(opened(post, SCOPE_WRITE, false), 0);
    assert_int_equal(opened(post, SCOPE_READ, false), 403);
    assert_int_equal(opened(chat, SCOPE_EMBEDDINGS, false), 0);
    assert_int_equal(opened(chat, SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN, true), 403);
    assert_int_equal(opened(chat, SCOPE_UNHEARD, true), 403);
    assert_int_equal(opened(admin, 0, false), 403);
    assert_int_equal(opened(admin, 0, true), 0);
    assert_int_equal(opened(admin, SCOPE_READ, true), 403);
    assert_int_equal(opened(admin, SCOPE_ADMIN, true), 0);
}

/* --- operators -------------------------------------------------------------------------------- */

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
        T(test_a_known_key_is_its_principal_until_the_request_ends),
        T(test_a_key_that_is_not_here_parks_the_request),
        T(test_out_of_memory_is_an_answer_and_not_a_wrong_key),
        T(test_a_client_that_leaves_is_not_looked_up_any_more),
        T(test_public_routes_do_not_wait_for_a_database),
        T(test_without_a_database_there_are_no_keys),
        T(test_a_token_stands_for_its_user),
        T(test_a_wrong_token_is_never_asked_about_and_an_old_one_is_told_so),
        T(test_the_previous_secret_is_believed_too),
        T(test_the_challenge_tells_a_bad_credential_from_none),
        T(test_a_key_opens_what_its_scopes_name),
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
