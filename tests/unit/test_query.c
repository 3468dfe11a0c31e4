/* test_query.c - flows of statements (handlers/query.h): each step of a done, its end, lists. */
#include "tests/unit/middleware_harness.h"

#include "gateway/http/form.h"
#include "handlers/query.h"

struct pg_rows {
    unsigned n;
};

unsigned __wrap_pg_count(const struct pg_rows *r);
struct slice __real_arena_dup(struct arena *a, struct slice s);
struct slice __wrap_arena_dup(struct arena *a, struct slice s);

static bool memory_is_out;

unsigned __wrap_pg_count(const struct pg_rows *r)
{
    return r ? r->n : 0;
}

struct slice __wrap_arena_dup(struct arena *a, struct slice s)
{
    return memory_is_out ? SLICE_NONE : __real_arena_dup(a, s);
}

/* --- flows made by hand ----------------------------------------------------------------------- */

struct step {
    struct query q;
    struct slice kept;
};

static struct op op;
static unsigned cancelled;
static struct request *req;

static void on_cancel(struct op *o)
{
    assert_ptr_equal(o, &op);
    cancelled++;
}

/* A flow that waits for its statement. */
static struct step *flow(enum http_method method)
{
    struct step *s;

    req = request_of(&public_route);
    req->method = method;
    op.cancel = on_cancel;
    cancelled = 0;
    s = query_new(req, struct step);
    assert_non_null(s);
    query_wait(&s->q, &op);
    assert_ptr_equal(s->q.op, &op);
    return s;
}

/* The flow has ended, which answered like this and let go of the request. */
static void ended(const char *status, const char *body)
{
    assert_int_equal(conn.answers, 1);
    assert_int_equal(req->refs, 1);
    assert_null(req->on_abort);
    assert_in(conn.sent, status);
    assert_in(conn.sent, body);
    drop(req);
}

static void goes_on(const struct step *s)
{
    assert_int_equal(conn.answers, 0);
    assert_null(s->q.op);
}

/* Ends a flow that a test has seen enough of. */
static void finish(struct step *s)
{
    query_none(&s->q);
    ended("HTTP/1.1 204 ", "");
}

/* --- steps ------------------------------------------------------------------------------------ */

static void test_a_good_statement_lets_the_flow_go_on(void **state)
{
    struct step *s = flow(HTTP_POST);

    assert_true(query_good(&s->q, GW_OK));
    goes_on(s);
    finish(s);
}

static void test_a_database_that_is_away_is_503_with_retry_after(void **state)
{
    struct step *s = flow(HTTP_POST);

    assert_false(query_good(&s->q, GW_EUNAVAIL));
    assert_in(conn.sent, "Retry-After: 5\r\n");
    ended("HTTP/1.1 503 ", "The database is not available at the moment.");
}

static void test_an_error_with_a_reason_is_told_with_it_and_others_as_ever(void **state)
{
    struct step *s = flow(HTTP_POST);

    assert_false(query_good_or(&s->q, GW_ECONFLICT, GW_ECONFLICT, SLICE("It is taken.")));
    ended("HTTP/1.1 409 ", "It is taken.");
    s = flow(HTTP_POST);
    assert_false(query_good_or(&s->q, GW_EUNAVAIL, GW_ECONFLICT, SLICE("It is taken.")));
    assert_not_in(conn.sent, "taken");
    ended("HTTP/1.1 503 ", "not available");
    s = flow(HTTP_POST);
    assert_true(query_good_or(&s->q, GW_OK, GW_ECONFLICT, SLICE("It is taken.")));
    goes_on(s);
    finish(s);
}

static void test_what_is_not_there_is_404_with_its_noun(void **state)
{
    struct step *s = flow(HTTP_GET);

    assert_true(query_good(&s->q, GW_OK));
    assert_true(query_found(&s->q, true, "user"));
    goes_on(s);
    assert_false(query_found(&s->q, false, "user"));
    ended("HTTP/1.1 404 ", "There is no such user.");
}

static void test_what_is_kept_is_the_flows_own(void **state)
{
    struct step *s = flow(HTTP_POST);
    char row[] = "of a row";

    assert_true(query_good(&s->q, GW_OK));
    assert_true(query_keep(&s->q, slice_cstr(row), &s->kept));
    memset(row, '!', sizeof(row) - 1);
    assert_slice(s->kept, "of a row");
    goes_on(s);
    finish(s);
}

/* A key was made in its owner's team when there was no memory for the id of the one asked for. */
static void test_without_memory_to_keep_a_row_the_flow_ends(void **state)
{
    struct step *s = flow(HTTP_POST);

    assert_true(query_good(&s->q, GW_OK));
    memory_is_out = true;
    assert_false(query_keep(&s->q, SLICE("a team's id"), &s->kept));
    memory_is_out = false;
    ended("HTTP/1.1 503 ", "");
}

static void test_a_hash_that_nobody_takes_is_told_with_its_reason(void **state)
{
    struct step *s = flow(HTTP_POST);

    assert_true(query_good(&s->q, GW_OK));
    query_wait_hash(&s->q, NULL, SLICE("Too many at once."));
    assert_in(conn.sent, "Retry-After: 5\r\n");
    ended("HTTP/1.1 503 ", "Too many at once.");
}

static void test_a_statement_that_cannot_start_ends_the_flow(void **state)
{
    struct step *s = flow(HTTP_POST);

    assert_true(query_good(&s->q, GW_OK));
    query_wait(&s->q, NULL);
    ended("HTTP/1.1 503 ", "");
}

static void test_a_path_without_a_uuid_begins_no_flow(void **state)
{
    static const char *const wrong[] = {"", "7", "019ABCDE-F012-4356-8789-FF00100FA00A",
                                        "019abcde-f012-4356-8789-ff00100fa00a'"};
    struct query *q;

    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        req = request_of(&public_route);
        req->params[0] = slice_cstr(wrong[i]);
        assert_null(query_of_id(req, "team"));
        ended("HTTP/1.1 404 ", "There is no such team.");
    }
    req = request_of(&public_route);
    req->params[0] = SLICE("019abcde-f012-4356-8789-ff00100fa00a");
    q = query_of_id(req, "team");
    assert_non_null(q);
    query_none(q);
    ended("HTTP/1.1 204 ", "");
}

/* --- clients that leave ----------------------------------------------------------------------- */

static void leave_request(void)
{
    req->conn = NULL;
    request_lost(req);
}

static void test_who_reads_and_leaves_takes_the_statement_along(void **state)
{
    (void)flow(HTTP_GET);
    leave_request();
    assert_int_equal(cancelled, 1);
    assert_int_equal(conn.answers, 0);
    assert_int_equal(req->refs, 1);
    drop(req);
}

static void test_a_change_goes_on_to_its_end_without_its_client(void **state)
{
    struct step *s = flow(HTTP_POST);

    leave_request();
    assert_int_equal(cancelled, 0);
    assert_int_equal(req->refs, 2);
    assert_true(query_good(&s->q, GW_OK));
    query_none(&s->q);
    assert_int_equal(conn.answers, 0);
    assert_int_equal(req->refs, 1);
    drop(req);
}

static void test_such_flows_end_with_the_gateway(void **state)
{
    (void)flow(HTTP_DELETE);
    leave_request();
    query_deinit();
    assert_int_equal(cancelled, 1);
    assert_int_equal(req->refs, 1);
    drop(req);
    query_deinit();
    assert_int_equal(cancelled, 1);
}

/* --- lists ------------------------------------------------------------------------------------ */

static pg_done done;
static void *done_arg;

static struct op *start(int64_t limit, int64_t offset, uint64_t deadline_us, pg_done fn, void *arg)
{
    assert_int_equal(limit, 2);
    assert_int_equal(offset, 4);
    assert_int_equal(deadline_us, req->deadline_us);
    done = fn;
    done_arg = arg;
    return &op;
}

static int64_t put_row(struct json_writer *w, const struct pg_rows *rows, unsigned row)
{
    json_kv_int(w, "row", row);
    return 6;
}

static void list(const char *query)
{
    done = NULL;
    op.cancel = on_cancel;
    req = request_of(&public_route);
    req->deadline_us = now_us + 7;
    req->query = slice_cstr(query);
    query_list(req, start, put_row);
}

static void test_a_list_answers_with_the_page_asked_for(void **state)
{
    const struct pg_rows two = {2}, none = {0};

    list("page=3&per_page=2");
    done(GW_OK, &two, done_arg);
    assert_in(conn.sent, "X-Total-Count: 6\r\n");
    ended("HTTP/1.1 200 ",
          "{\"items\":[{\"row\":0},{\"row\":1}],\"page\":3,\"per_page\":2,\"total\":6}");
    list("page=3&per_page=2");
    done(GW_OK, &none, done_arg);
    ended("HTTP/1.1 200 ", "{\"items\":[],\"page\":3,\"per_page\":2,\"total\":0}");
}

static void test_a_list_of_no_page_asks_nothing(void **state)
{
    list("page=0");
    assert_null(done);
    ended("HTTP/1.1 422 ", "\"param\":\"page\"");
}

static void test_a_list_that_fails_is_told_like_any_statement(void **state)
{
    list("page=3&per_page=2");
    done(GW_EUNAVAIL, NULL, done_arg);
    ended("HTTP/1.1 503 ", "not available");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_good_statement_lets_the_flow_go_on),
        T(test_a_database_that_is_away_is_503_with_retry_after),
        T(test_an_error_with_a_reason_is_told_with_it_and_others_as_ever),
        T(test_what_is_not_there_is_404_with_its_noun),
        T(test_what_is_kept_is_the_flows_own),
        T(test_without_memory_to_keep_a_row_the_flow_ends),
        T(test_a_hash_that_nobody_takes_is_told_with_its_reason),
        T(test_a_statement_that_cannot_start_ends_the_flow),
        T(test_a_path_without_a_uuid_begins_no_flow),
        T(test_who_reads_and_leaves_takes_the_statement_along),
        T(test_a_change_goes_on_to_its_end_without_its_client),
        T(test_such_flows_end_with_the_gateway),
        T(test_a_list_answers_with_the_page_asked_for),
        T(test_a_list_of_no_page_asks_nothing),
        T(test_a_list_that_fails_is_told_like_any_statement),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
