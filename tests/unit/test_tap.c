/*
 * test_tap.c - listening to answers, and requests that outlive their client (gateway/http/tap.h),
 * under the real server.
 */
#include "server_rig.h"

#include "gateway/http/stream.h"
#include "gateway/http/tap.h"

static struct request *held; /* by the handler; one reference */
static struct stream *stream;
static struct tap tap;
static char heard[2048]; /* what the tap was told */
static size_t heard_bytes;
static unsigned aborts, drains;

/* --- the server's side ----------------------------------------------------------------------- */

static void on_head(struct request *req, int status, struct slice type, bool is_stream, void *arg)
{
    size_t n = strlen(heard);

    snprintf(heard + n, sizeof(heard) - n, "%d %.*s %s %u;", status, (int)type.n, type.p,
             is_stream ? "stream" : "whole", req->n_out);
}

static void on_bytes(struct request *req, struct slice bytes, void *arg)
{
    size_t n = strlen(heard);

    heard_bytes += bytes.n;
    if (bytes.n < 32)
        snprintf(heard + n, sizeof(heard) - n, "[%.*s]", (int)bytes.n, bytes.p);
}

static void on_end(struct request *req, bool complete, void *arg)
{
    strcat(heard, complete ? ";complete" : ";cut");
}

static enum chain_verdict row_tap(struct request *req)
{
    tap = (struct tap){.on_head = on_head,
                       .on_bytes = on_bytes,
                       .on_end = on_end,
                       .outlive = slice_is(req->path, "/outlive")};
    tap_add(req, &tap);
    return CHAIN_NEXT;
}

static const struct chain_row rows[] = {{"tap", CHAIN_BODY, row_tap}};

static void let_go(void)
{
    held = request_unref(held);
    stream = NULL;
}

static void on_abort(struct request *req, void *arg)
{
    aborts++;
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    let_go();
}

static void handler(struct request *req)
{
    held = request_ref(req);
    request_on_abort(req, on_abort, NULL);
}

static const struct route routes[] = {
    {.method = HTTP_GET, .path = "/plain", .handler = handler},
    {.method = HTTP_GET, .path = "/outlive", .handler = handler},
};

static void reply(void *arg)
{
    request_set_header(held, "Location", SLICE("/there"));
    request_reply(held, 201, SLICE("text/x"), SLICE("made"));
    let_go();
}

static void refuse(void *arg)
{
    request_fail(held, GW_EBADREQ, NULL);
    let_go();
}

static void on_drained(struct request *req, void *arg)
{
    drains++;
}

static void begin(void *arg)
{
    struct stream_options opt = {.status = 200,
                                 .content_type = SLICE("text/event-stream"),
                                 .heartbeat = SLICE(":beat"),
                                 .heartbeat_us = 1,
                                 .on_drained = on_drained};

    stream = stream_begin(held, &opt);
    assert_non_null(stream);
}

static void write_piece(void *arg)
{
    stream_write(stream, SLICE("piece"));
}

static void write_until_full(void *arg)
{
    static char much[100000];

    memset(much, 'x', sizeof(much));
    while (stream_write(stream, slice_of(much, sizeof(much))))
        ;
}

/* Until the client, which does not read, holds the stream up. */
static void fill_the_sockets(void)
{
    unsigned before;

    do {
        before = drains;
        turn(write_until_full);
        settle();
    } while (drains != before);
}

static void end(void *arg)
{
    stream_end(stream);
    let_go();
}

static void end_failed(void *arg)
{
    stream_end_failed(stream, GW_EUPBAD);
    let_go();
}

static int set_up(void **state)
{
    aborts = drains = 0;
    heard[0] = '\0';
    heard_bytes = 0;
    rig_begin(routes, sizeof(routes) / sizeof(routes[0]), rows, sizeof(rows) / sizeof(rows[0]));
    return 0;
}

static int tear_down(void **state)
{
    rig_end();
    assert_null(held);
    return 0;
}

/* --- tests ----------------------------------------------------------------------------------- */

#define PLAIN "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
#define OUTLIVE "GET /outlive HTTP/1.1\r\nHost: x\r\n\r\n"

static void test_a_whole_answer_is_heard_with_its_headers(void **state)
{
    send_text(PLAIN);
    step(reply);
    assert_string_equal(heard, "201 text/x whole 1;[made];complete");
    assert_int_equal(received("HTTP/1.1 201 Created\r\n"), 1);
}

static void test_an_error_is_an_answer_too(void **state)
{
    send_text(PLAIN);
    step(refuse);
    assert_true(slice_starts(slice_cstr(heard), "400 application/problem+json whole "));
    assert_non_null(strstr(heard, ";complete"));
}

static void test_a_stream_is_heard_piece_by_piece_without_its_heartbeats(void **state)
{
    send_text(PLAIN);
    step(begin);
    step(write_piece);
    for (int i = 0; i < 100000 && !received(":beat"); i++)
        turn(nothing);
    assert_true(received(":beat") > 0);
    step(end);
    assert_string_equal(heard, "200 text/event-stream stream 0;[piece];complete");
}

static void test_a_stream_that_fails_in_band_was_cut(void **state)
{
    send_text(PLAIN);
    step(begin);
    step(end_failed);
    assert_string_equal(heard, "200 text/event-stream stream 0;;cut");
}

static void test_a_client_that_leaves_cuts_the_answer(void **state)
{
    send_text(PLAIN);
    disconnect();
    assert_string_equal(heard, ";cut");
    assert_int_equal(aborts, 1);
}

static void test_a_tap_that_outlives_the_client_hears_the_answer(void **state)
{
    send_text(OUTLIVE);
    disconnect();
    assert_int_equal(aborts, 0);
    assert_int_equal(request_detached(), 1);
    assert_int_equal(server_connections(), 0);
    turn(reply);
    assert_string_equal(heard, "201 text/x whole 1;[made];complete");
    assert_int_equal(request_detached(), 0);
}

static void test_an_error_after_the_client_left_is_heard(void **state)
{
    send_text(OUTLIVE);
    disconnect();
    turn(refuse);
    assert_true(slice_starts(slice_cstr(heard), "400 application/problem+json whole "));
    assert_int_equal(request_detached(), 0);
}

static void test_a_stream_begun_after_the_client_left_is_heard(void **state)
{
    send_text(OUTLIVE);
    disconnect();
    turn(begin);
    turn(write_piece);
    turn(end);
    assert_string_equal(heard, "200 text/event-stream stream 0;[piece];complete");
    assert_int_equal(request_detached(), 0);
}

static void test_a_full_stream_drains_when_its_client_leaves_and_is_never_full_again(void **state)
{
    send_text(OUTLIVE);
    turn(begin);
    fill_the_sockets();
    drains = 0;
    disconnect();
    assert_int_equal(drains, 1);
    assert_int_equal(aborts, 0);
    heard_bytes = 0;
    for (int i = 0; i < 100; i++)
        turn(write_piece);
    assert_int_equal(heard_bytes, 500);
    turn(end);
    assert_int_equal(request_detached(), 0);
}

static void test_stopping_the_server_ends_what_outlived_its_client(void **state)
{
    send_text(OUTLIVE);
    disconnect();
    server_deinit();
    server_up = false;
    assert_int_equal(aborts, 1);
    assert_string_equal(heard, ";cut");
}

static void test_stopping_the_server_ends_a_stream_that_would_outlive_its_client(void **state)
{
    send_text(OUTLIVE);
    turn(begin);
    server_deinit();
    server_up = false;
    assert_int_equal(aborts, 1);
    assert_non_null(strstr(heard, ";cut"));
}

static void on_server_drained(void *arg)
{
    *(bool *)arg = true;
}

static void test_draining_waits_for_what_outlived_its_client(void **state)
{
    bool drained = false;

    send_text(OUTLIVE);
    disconnect();
    server_drain(60000000u, on_server_drained, &drained);
    settle();
    assert_false(drained);
    turn(reply);
    for (int i = 0; i < 1000 && !drained; i++)
        loop_turn();
    assert_true(drained);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_whole_answer_is_heard_with_its_headers),
        TEST(test_an_error_is_an_answer_too),
        TEST(test_a_stream_is_heard_piece_by_piece_without_its_heartbeats),
        TEST(test_a_stream_that_fails_in_band_was_cut),
        TEST(test_a_client_that_leaves_cuts_the_answer),
        TEST(test_a_tap_that_outlives_the_client_hears_the_answer),
        TEST(test_an_error_after_the_client_left_is_heard),
        TEST(test_a_stream_begun_after_the_client_left_is_heard),
        TEST(test_a_full_stream_drains_when_its_client_leaves_and_is_never_full_again),
        TEST(test_stopping_the_server_ends_what_outlived_its_client),
        TEST(test_stopping_the_server_ends_a_stream_that_would_outlive_its_client),
        TEST(test_draining_waits_for_what_outlived_its_client),
    };

    return cmocka_run_group_tests(tests, rig_set_up_once, rig_tear_down_once);
}
