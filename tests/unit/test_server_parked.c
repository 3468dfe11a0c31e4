/*
 * test_server_parked.c - rows of the head that park, under the real server and real sockets
 * (gateway/http/server_read.c).
 */
#include "server_rig.h"

#include <poll.h>

#define BIG_BODY 600000u

static struct request *parked; /* by the row; one reference */
static unsigned parks, aborts;

/* --- the server's side ----------------------------------------------------------------------- */

static void on_abort(struct request *req, void *arg)
{
    assert_ptr_equal(req, parked);
    aborts++;
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    parked = request_unref(req);
}

/* Parks what asks for it in its path. */
static enum chain_verdict row_park(struct request *req)
{
    if (!slice_starts(req->path, "/park"))
        return CHAIN_NEXT;
    assert_null(parked);
    parks++;
    parked = request_ref(req);
    request_on_abort(req, on_abort, NULL);
    return CHAIN_PARKED;
}

static const struct chain_row rows[] = {{"park", CHAIN_HEAD, row_park}};

static void handler(struct request *req)
{
    char text[64];

    snprintf(text, sizeof(text), "{\"bytes\":%zu}", req->body.n);
    request_finish(req, GW_OK, slice_cstr(text));
}

static const struct route routes[] = {
    {.method = HTTP_POST, .path = "/park", .handler = handler, .body = BODY_CHAT},
    {.method = HTTP_GET, .path = "/next", .handler = handler},
};

/* What a lookup's answer does, on the loop. */
static void resume(void *arg)
{
    struct request *req = parked;

    parked = NULL;
    request_on_abort(req, NULL, NULL);
    chain_resume(req);
    request_unref(req);
}

static void refuse(void *arg)
{
    struct request *req = parked;

    parked = NULL;
    request_fail(req, GW_ERATE, NULL);
    request_unref(req);
}

/* The deadline is not waited for: it is moved. */
static void expire(void *arg)
{
    parked->deadline_us = loop_now_us() - 1000000u;
    conn_rearm(parked->conn);
}

/* --- life ------------------------------------------------------------------------------------ */

static int set_up(void **state)
{
    parks = aborts = 0;
    rig_begin(routes, sizeof(routes) / sizeof(routes[0]), rows, sizeof(rows) / sizeof(rows[0]));
    return 0;
}

static int tear_down(void **state)
{
    rig_end();
    assert_null(parked);
    return 0;
}

/* --- tests ----------------------------------------------------------------------------------- */

#define HEAD "POST /park HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
#define NEXT "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"

static void test_a_whole_request_waits_and_then_goes_on_with_the_next_behind_it(void **state)
{
    send_text(HEAD "Content-Length: 4\r\n\r\n1234" NEXT);
    assert_int_equal(parks, 1);
    assert_int_equal(got_n, 0);
    step(resume);
    assert_int_equal(received("{\"bytes\":4}"), 1);
    assert_int_equal(received("{\"bytes\":0}"), 1);
    assert_false(closed);
}

static void test_a_body_may_come_while_the_head_is_parked_and_after(void **state)
{
    send_text(HEAD "Content-Length: 6\r\n\r\n");
    send_text("12");
    send_text("34");
    step(resume);
    assert_int_equal(got_n, 0);
    send_text("56" NEXT);
    assert_int_equal(received("{\"bytes\":6}"), 1);
    assert_int_equal(received("{\"bytes\":0}"), 1);
}

static void test_a_chunked_body_is_checked_after_the_head_was_parked(void **state)
{
    send_text(HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nab");
    send_text("c\r\n4;x=y\r\n");
    step(resume);
    send_text("defg\r\n0\r\n\r\n" NEXT);
    assert_int_equal(received("{\"bytes\":7}"), 1);
    assert_int_equal(received("{\"bytes\":0}"), 1);
}

static void test_100_continue_is_sent_only_when_the_parked_row_has_passed_it(void **state)
{
    send_text(HEAD "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_int_equal(got_n, 0);
    step(resume);
    assert_string_equal(got, "HTTP/1.1 100 Continue\r\n\r\n");
    send_text("1234");
    assert_int_equal(received("{\"bytes\":4}"), 1);
}

static void test_no_100_continue_when_the_body_came_while_the_head_was_parked(void **state)
{
    send_text(HEAD "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    send_text("1234");
    step(resume);
    assert_int_equal(received("100 Continue"), 0);
    assert_int_equal(received("{\"bytes\":4}"), 1);
}

static void test_a_whole_message_refused_while_parked_is_dropped_and_the_next_served(void **state)
{
    send_text(HEAD "Content-Length: 4\r\n\r\n12");
    send_text("34" NEXT);
    step(refuse);
    assert_int_equal(received("HTTP/1.1 429 "), 1);
    assert_int_equal(received("{\"bytes\":0}"), 1);
    assert_false(closed);
}

static void test_half_a_message_refused_while_parked_closes_the_connection(void **state)
{
    send_text(HEAD "Content-Length: 4\r\n\r\n12");
    step(refuse);
    assert_int_equal(received("HTTP/1.1 429 "), 1);
    assert_int_equal(received("Connection: close\r\n"), 1);
    assert_true(closed);
}

static void test_a_route_that_is_not_there_is_told_after_the_parked_row(void **state)
{
    send_text("GET /parked HTTP/1.1\r\nHost: x\r\n\r\n" NEXT);
    assert_int_equal(got_n, 0);
    step(resume);
    assert_int_equal(received("HTTP/1.1 404 "), 1);
    assert_int_equal(received("{\"bytes\":0}"), 1);
}

static void test_a_client_that_leaves_fires_the_hook_of_the_parked_row_once(void **state)
{
    send_text(HEAD "Content-Length: 4\r\n\r\n12");
    assert_non_null(parked);
    disconnect();
    assert_int_equal(aborts, 1);
    assert_null(parked);
    assert_int_equal(server_connections(), 0);
    assert_int_equal(server_requests(), 0);
}

static void test_the_deadline_answers_504_and_fires_the_hook(void **state)
{
    send_text(HEAD "Content-Length: 4\r\n\r\n1234" NEXT);
    step(expire);
    assert_int_equal(aborts, 1);
    assert_int_equal(received("HTTP/1.1 504 "), 1);
    assert_int_equal(received("{\"bytes\":0}"), 1);
}

/* Sends as much of a large body as the sockets take; returns how much that was. */
static size_t send_ahead(size_t from)
{
    static char zeros[BIG_BODY];
    size_t n = from;
    ssize_t took;

    memset(zeros, '0', sizeof(zeros));
    do {
        took = send(client, zeros + n, sizeof(zeros) - n, MSG_DONTWAIT | MSG_NOSIGNAL);
        n += took > 0 ? (size_t)took : 0;
        turn(nothing);
    } while (took > 0 && n < sizeof(zeros));
    return n;
}

static void test_a_client_that_sends_much_ahead_is_not_read_from_until_it_is_passed(void **state)
{
    int small = 16384;
    size_t n;

    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    send_text(HEAD "Content-Length: 600000\r\n\r\n");
    n = send_ahead(0);
    for (int i = 0; i < 5; i++)
        n = send_ahead(n);
    settle();
    assert_non_null(parked);
    assert_true(parked->conn->deaf);
    assert_true(evbuffer_get_length(bufferevent_get_input(parked->conn->bev)) < BIG_BODY / 2);
    step(resume);
    while (n < BIG_BODY) {
        struct pollfd p = {.fd = client, .events = POLLOUT};

        assert_true(poll(&p, 1, 5) >= 0); /* the kernel's window opens when it likes */
        n = send_ahead(n);
    }
    for (int i = 0; i < 1000 && !got_n; i++)
        settle();
    assert_int_equal(received("{\"bytes\":600000}"), 1);
}

static void test_stopping_the_server_fires_the_hook_of_a_parked_row(void **state)
{
    send_text(HEAD "Content-Length: 4\r\n\r\n1234");
    assert_non_null(parked);
    server_deinit();
    server_up = false;
    assert_int_equal(aborts, 1);
    assert_null(parked);
}

static void on_drained(void *arg)
{
    *(bool *)arg = true;
}

static void test_draining_lets_a_parked_request_finish(void **state)
{
    bool drained = false;

    send_text(HEAD "Content-Length: 4\r\n\r\n1234");
    server_drain(60000000u, on_drained, &drained);
    settle();
    assert_non_null(parked);
    assert_false(drained);
    step(resume);
    assert_int_equal(received("{\"bytes\":4}"), 1);
    assert_int_equal(received("Connection: close\r\n"), 1);
    assert_true(closed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_whole_request_waits_and_then_goes_on_with_the_next_behind_it),
        TEST(test_a_body_may_come_while_the_head_is_parked_and_after),
        TEST(test_a_chunked_body_is_checked_after_the_head_was_parked),
        TEST(test_100_continue_is_sent_only_when_the_parked_row_has_passed_it),
        TEST(test_no_100_continue_when_the_body_came_while_the_head_was_parked),
        TEST(test_a_whole_message_refused_while_parked_is_dropped_and_the_next_served),
        TEST(test_half_a_message_refused_while_parked_closes_the_connection),
        TEST(test_a_route_that_is_not_there_is_told_after_the_parked_row),
        TEST(test_a_client_that_leaves_fires_the_hook_of_the_parked_row_once),
        TEST(test_the_deadline_answers_504_and_fires_the_hook),
        TEST(test_a_client_that_sends_much_ahead_is_not_read_from_until_it_is_passed),
        TEST(test_stopping_the_server_fires_the_hook_of_a_parked_row),
        TEST(test_draining_lets_a_parked_request_finish),
    };

    return cmocka_run_group_tests(tests, rig_set_up_once, rig_tear_down_once);
}
