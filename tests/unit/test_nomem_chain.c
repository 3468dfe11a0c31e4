/*
 * test_nomem_chain.c - CHECK 94 for the chain: every allocation between a request's head and its
 * answer fails once, and for good. The client then gets the answer it was to get (perhaps without
 * one of the headers that only inform, or with the plain text of an error), 503, or nothing at all;
 * never another answer, and never more than it may have.
 */
#include "tests/unit/middleware_harness.h"
#include "tests/unit/nomem.h"

#include "gateway/core/json.h"
#include "gateway/core/jwt.h"
#include "storage/idempotency.h"

#define KEY "pk-master-0123456789"
#define JWT_SECRET "a-secret-of-some-length-0123456789"
/* {"alg":"HS256","typ":"JWT"} {"sub":"ada","role":"admin","exp":4102444800} */
#define TOKEN                                                                                      \
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJyb2xlIjoiYWRta"                       \
    "W4iLCJleHAiOjQxMDI0NDQ4MDB9.JQ_mJx9ukQn5P2aMtGjkXaSNd2kiTL-2tdTHwhAnMU"                       \
    "4"
/* the same with escapes in names and values, and another sub */
#define ESCAPED_TOKEN                                                                              \
    "eyJcdTAwNjFsZyI6IkhTMjU2In0.eyJzXHUwMDc1YiI6IkpcdTAwZmNyZ2VuIiwicm9sZS"                       \
    "I6Ilx1MDA2MWRtaW4iLCJleHAiOjQxMDI0NDQ4MDB9.jwwXReQ8grXPXL0TWCg7IPeSLWb"                       \
    "1zB7ajEBVZnmwSQc"
/* "exp":1 */
#define OLD_TOKEN                                                                                  \
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEiLCJleHAiOjF9.lXRImwdr2Sj3ov4lStwT"                       \
    "4szCNhLR22bIT2jbf3ndckA"
#define WRONG_TOKEN                                                                                \
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJyb2xlIjoiYWRta"                       \
    "W4iLCJleHAiOjQxMDI0NDQ4MDB9.JQ_mJx9ukQn5P2aMtGjkXaSNd2kiTL-2tdTHwhAnAA"                       \
    "A"

struct chain_case {
    const char *name;
    enum http_method method;
    enum route_access access;
    bool no_route;
    bool limited; /* by a request before it */
    bool again;   /* the same request was answered before */
    const char *query;
    const char *headers[12];
    int status;
};

static const struct chain_case cases[] = {
    {.name = "a key in a header",
     .access = ACCESS_ADMIN,
     .headers = {"authorization", "Bearer " KEY},
     .status = 200},
    {.name = "a key in the query",
     .access = ACCESS_USER,
     .query = "a=%20b&key=" KEY,
     .status = 200},
    {.name = "two keys",
     .access = ACCESS_USER,
     .query = "key=x",
     .headers = {"x-api-key", KEY},
     .status = 401},
    {.name = "no key", .access = ACCESS_USER, .status = 401},
    {.name = "a wrong key", .access = ACCESS_ADMIN, .query = "key=x", .status = 401},
    {.name = "a token",
     .access = ACCESS_ADMIN,
     .headers = {"authorization", "Bearer " TOKEN},
     .status = 200},
    {.name = "a token with escapes",
     .access = ACCESS_ADMIN,
     .headers = {"authorization", "Bearer " ESCAPED_TOKEN},
     .status = 200},
    {.name = "a token that has expired",
     .access = ACCESS_USER,
     .headers = {"authorization", "Bearer " OLD_TOKEN},
     .status = 401},
    {.name = "a token of another signature",
     .access = ACCESS_USER,
     .headers = {"authorization", "Bearer " WRONG_TOKEN},
     .status = 401},
    {.name = "a browser",
     .access = ACCESS_PUBLIC,
     .headers = {"origin", "http://localhost:5173", "traceparent",
                 "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
     .status = 200},
    {.name = "a preflight",
     .method = HTTP_OPTIONS,
     .no_route = true,
     .headers = {"origin", "http://localhost:5173", "access-control-request-method", "POST",
                 "access-control-request-headers", "authorization"},
     .status = 204},
    {.name = "too many requests", .access = ACCESS_PUBLIC, .limited = true, .status = 429},
    {.name = "an Idempotency-Key",
     .method = HTTP_POST,
     .access = ACCESS_USER,
     .headers = {"authorization", "Bearer " KEY, "idempotency-key", "k"},
     .status = 200},
    {.name = "an Idempotency-Key again",
     .method = HTTP_POST,
     .access = ACCESS_USER,
     .again = true,
     .headers = {"authorization", "Bearer " KEY, "idempotency-key", "k"},
     .status = 200},
    {.name = "no route", .no_route = true, .status = 404},
};

static void answer_ok(struct request *req)
{
    request_finish(req, GW_OK, SLICE("{\"ok\":true}"));
}

static struct request *make(const struct chain_case *c, struct route *route)
{
    struct request *req = request_with(c->no_route ? NULL : route, c->headers);

    req->method = c->method;
    req->query = slice_cstr(c->query);
    return req;
}

static void serve(struct request *req)
{
    if (chain_run_head(req, NULL) != CHAIN_NEXT)
        return;
    if (req->route)
        chain_run_body(req);
    else
        request_fail(req, GW_ENOTFOUND, NULL);
}

/* A body is whole JSON, or, of an error when there is no memory at all, not there. */
static void check_body(struct run *run, const struct request *req)
{
    const char *body = strstr(conn.sent, "\r\n\r\n");
    struct json root;

    assert_non_null(body);
    if (body[4] == '\0') {
        assert_true(req->status == 204 || (req->status >= 400 && fault.sticky));
        return;
    }
    assert_int_equal(json_parse(run->arena, slice_cstr(body + 4), NULL, &root, NULL), GW_OK);
    if (req->status == 200)
        assert_string_equal(body + 4, "{\"ok\":true}");
    else
        assert_true(slice_starts(json_str(json_get(root, "type")), "urn:postern:problem:"));
}

static enum gw_err op_chain(struct run *run)
{
    const struct chain_case *c = run->input;
    bool arm = fault.armed;
    struct route route = {.path = "/x", .handler = answer_ok, .access = c->access};
    struct request *req;
    enum gw_err err = GW_OK;

    route.rate = c->limited ? RATE_AI : RATE_DEFAULT;
    fault.armed = false;
    ratelimit_deinit();
    jwt_deinit();
    conf->rate_ai_burst = 1;
    idempotency_deinit();
    assert_int_equal(idempotency_init(conf), GW_OK);
    if (c->limited || c->again) {
        req = make(c, &route);
        serve(req);
        assert_int_equal(req->status, 200);
        drop(req);
    }
    req = make(c, &route);
    fault.armed = arm;
    serve(req);
    request_conclude(req);
    fault.armed = false;
    assert_int_equal(conn.answers + conn.doomed, 1);
    if (conn.doomed || req->status == 503) {
        err = GW_ENOMEM;
        assert_true(!conn.doomed || conn.n == 0);
    } else {
        assert_true(req->id.n > 0);
        show_int(run, req->status);
        show_int(run, req->who.known);
        check_body(run, req);
    }
    drop(req);
    fault.armed = arm;
    return err;
}

static void test_check_094_requests_are_answered_rightly_or_not_at_all(void **state)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run run;
        enum gw_err err;

        run_once(op_chain, &cases[i], 0, &run, &err);
        assert_int_equal(err, GW_OK);
        assert_int_equal(strtol(run.out.p, NULL, 10), cases[i].status);
        buf_deinit(&run.out);
        torture(cases[i].name, op_chain, &cases[i]);
    }
}

/* An arena whose first block is nearly used up, so that the heap is asked for more. */
static enum gw_err op_full_chain(struct run *run)
{
    const struct chain_case *c = run->input;
    struct route route = {.path = "/x", .handler = answer_ok, .access = c->access};
    bool arm = fault.armed;
    struct request *req;
    enum gw_err err = GW_OK;

    fault.armed = false;
    ratelimit_deinit();
    req = make(c, &route);
    while (arena_used(req->arena) < 3800)
        assert_non_null(arena_bytes(req->arena, 16));
    fault.armed = arm;
    serve(req);
    fault.armed = false;
    if (conn.doomed || req->status == 503)
        err = GW_ENOMEM;
    else
        show_int(run, req->status);
    drop(req);
    fault.armed = arm;
    return err;
}

static void test_check_094_a_request_that_needs_more_memory_is_told_when_there_is_none(void **state)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (!cases[i].limited)
            torture(cases[i].name, op_full_chain, &cases[i]);
}

/* Callers that come while the limiter's table grows; the first ones are there already. */
#define CALLERS 300u
#define CALLERS_THERE 100u

static void ask_as(struct request *req, unsigned i)
{
    char name[16];

    snprintf(name, sizeof(name), "c-%u", i);
    req->who.subject = slice_cstr(name);
    req->n_out = 0;
    assert_int_equal(ratelimit_run(req), CHAIN_NEXT); /* short of memory is no reason to refuse */
}

static enum gw_err op_table(struct run *run)
{
    struct request *req;
    bool arm = fault.armed;

    fault.armed = false;
    ratelimit_deinit();
    req = request_of(&public_route);
    for (unsigned i = 0; i < CALLERS; i++) {
        fault.armed = arm && i >= CALLERS_THERE;
        ask_as(req, i);
    }
    fault.armed = false;
    for (unsigned i = 0; i < CALLERS; i++)
        ask_as(req, i);
    drop(req);
    fault.armed = arm;
    return GW_OK;
}

static void test_check_094_the_table_of_callers_grows_or_stays_as_it_is(void **state)
{
    conf->rate_global_burst = conf->rate_global_rpm = 1000000000;
    assert_true(torture_by("table", op_table, NULL, 37) > 200);
}

static int enter_chain(void **state)
{
    if (enter(state) || idempotency_init(conf))
        return -1;
    conf->master_key = SLICE(KEY);
    conf->jwt_secret = SLICE(JWT_SECRET);
    conf->rate_global_burst = conf->rate_global_rpm = 1000000000;
    return 0;
}

static int leave_chain(void **state)
{
    leave(state);
    idempotency_deinit();
    return check_leaks(state);
}

int main(void)
{
#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, enter_chain, leave_chain)
    const struct CMUnitTest tests[] = {
        T(test_check_094_requests_are_answered_rightly_or_not_at_all),
        T(test_check_094_a_request_that_needs_more_memory_is_told_when_there_is_none),
        T(test_check_094_the_table_of_callers_grows_or_stays_as_it_is),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
