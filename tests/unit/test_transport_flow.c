/* test_transport_flow.c - resends, cancelling in every phase, back-pressure, calls in bulk. */
#include "tests/unit/transport_rig.h"

/* --- resends ---------------------------------------------------------------------------------- */

/* The reused connection dies after the server has read, and so run, the request. */
static void die_on_reuse(const char *method, size_t body_bytes, bool stream)
{
    struct transport_request req = request_to("ok");
    char *body = calloc(1, body_bytes + 1);
    struct seen *s;

    n_accepted = n_executed = 0;
    req.stream = stream;
    assert_int_equal(fetch_with(&req)->err, GW_OK);
    req = request_to("close-when-read");
    req.method = method;
    req.stream = stream;
    req.body = slice_of(body, strcmp(method, "POST") == 0 ? body_bytes : 0);
    s = fetch_with(&req);
    assert_int_equal(s->err, GW_EUPSTREAM);
    assert_true(s->res.sent);
    assert_true(s->res.reused);
    assert_int_equal(s->heads, 0);
    turns(10);
    assert_int_equal(n_executed, 2);
    assert_int_equal(n_accepted, 1);
    free(body);
}

static void test_check_070_a_post_is_never_sent_twice_by_libcurl(void **state)
{
    die_on_reuse("POST", 10, false);
    die_on_reuse("POST", 10, true);
    die_on_reuse("POST", 0, false);
    die_on_reuse("POST", 3u << 20, false);
    die_on_reuse("GET", 0, false);
    assert_int_equal(fetch("ok")->err, GW_OK);
}

static void test_check_070_nor_over_another_idle_connection(void **state)
{
    struct transport_request req = request_to("ok");

    for (unsigned i = 0; i < 4; i++)
        begin(i, &req);
    for (unsigned i = 0; i < 4; i++)
        finish(&seen[i]);
    assert_int_equal(n_accepted, 4);
    assert_int_equal(fetch("close-when-read")->err, GW_EUPSTREAM);
    assert_true(seen[0].res.reused);
    turns(10);
    assert_int_equal(n_executed, 5);
    assert_int_equal(n_accepted, 4);
}

static void test_an_idle_connection_closed_by_the_peer_is_replaced_in_silence(void **state)
{
    assert_int_equal(fetch("close-later")->err, GW_OK);
    sem_post(&go);
    turn_until(&peer_closed);
    turns(3);
    assert_int_equal(fetch("ok")->err, GW_OK);
    assert_false(seen[0].res.reused);
    assert_int_equal(n_executed, 2);
}

static unsigned n_watched(void)
{
    unsigned n = 0;

    for (size_t i = 0; i < tp.n_watches; i++)
        n += tp.watches[i] && tp.watches[i]->watched;
    return n;
}

static void test_an_idle_connection_stays_registered_until_it_becomes_readable(void **state)
{
    assert_int_equal(fetch("close-later")->err, GW_OK);
    assert_int_equal(n_watched(), 1);
    turns(3);
    assert_int_equal(n_watched(), 1);
    sem_post(&go);
    turn_until(&peer_closed);
    turns(3);
    assert_int_equal(n_watched(), 0);
}

/* --- cancelling ------------------------------------------------------------------------------- */

static void test_cancelling_in_the_same_turn_sends_nothing(void **state)
{
    struct transport_request req = request_to("ok");
    struct seen *s = begin(0, &req);

    op_cancel(&s->op);
    turns(3);
    assert_int_equal(s->dones, 0);
    assert_int_equal(n_executed, 0);
}

static void test_cancelling_in_any_phase_closes_the_connection_and_calls_nobody(void **state)
{
    static const char *const paths[] = {"hang", "hang-head", "hang-body", "huge"};

    for (unsigned i = 0; i < 4; i++) {
        struct transport_request req = request_to(paths[i]);
        struct seen *s;

        req.max_body_bytes = 0;
        s = begin(0, &req);
        turn_until(&got_request);
        while (i >= 2 && !s->pieces)
            loop_turn();
        op_cancel(&s->op);
        turn_until(&peer_closed);
        assert_int_equal(s->dones, 0);
        assert_int_equal(transport_active(), 0);
    }
}

static void test_cancelling_inside_the_callbacks_is_safe(void **state)
{
    for (unsigned i = 0; i < 6; i++) {
        struct transport_request req = request_to(i % 2 ? "huge" : "chunked");
        struct seen *s;

        req.max_body_bytes = 0;
        req.stream = i >= 4;
        s = begin(0, &req);
        s->cancel_in_head = i < 2;
        s->cancel_in_data = i >= 2;
        while (s->op)
            loop_turn();
        turns(5);
        assert_int_equal(s->dones, 0);
        assert_int_equal(s->heads, 1);
        assert_int_equal(s->pieces, i >= 2);
    }
    assert_int_equal(fetch("ok")->err, GW_OK);
}

static struct seen *chained;

static void chain_done(enum gw_err err, const struct transport_result *res, void *arg)
{
    struct transport_request req = request_to("chunked");

    test_done(err, res, arg);
    if (chained)
        return;
    chained = &seen[2];
    op_cancel(&seen[1].op);
    begin(2, &req);
}

/* A call ending may start another and cancel a third. */
static void test_calls_may_be_started_and_cancelled_inside_callbacks(void **state)
{
    static const struct transport_callbacks chain = {test_head, test_data, chain_done};
    struct transport_request req = request_to("hang-body");

    chained = NULL;
    begin(1, &req);
    req = request_to("ok");
    buf_deinit(&seen[0].body);
    seen[0] = (struct seen){0};
    buf_init(&seen[0].body, LIMIT);
    seen[0].op = transport_start(&req, &chain, &seen[0]);
    while (!chained)
        loop_turn();
    finish(chained);
    assert_body(chained, "abcdefg");
    assert_int_equal(seen[1].dones, 0);
}

/* --- back-pressure ---------------------------------------------------------------------------- */

static void test_check_056_a_paused_call_takes_little_more_and_goes_on_after_resume(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;
    size_t held;

    req.max_body_bytes = 0;
    req.stream = true;
    req.gap_timeout_us = 20000; /* does not run while paused */
    s = begin(0, &req);
    s->pause_in_data = true;
    while (!s->pieces)
        loop_turn();
    held = s->body.n;
    assert_true(held <= 65536);
    turns(20);
    assert_int_equal(s->body.n, held);
    assert_int_equal(s->dones, 0);
    ((struct transfer *)s->op)->gap_us = 0;
    for (int i = 0; i < 50; i++) {
        unsigned pieces = s->pieces;

        transport_resume(s->op);
        assert_int_equal(s->pieces, pieces);
        while (s->pieces == pieces)
            loop_turn();
    }
    s->pause_in_data = false;
    transport_resume(s->op);
    finish(s);
    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->body.n, HUGE_BYTES);
}

/* libcurl alone would read all of it in one go when the peer is fast enough. */
static void test_a_large_answer_is_delivered_in_pieces_over_several_turns(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;

    req.max_body_bytes = 0;
    for (int stream = 0; stream < 2; stream++) {
        req.stream = stream;
        s = begin(0, &req);
        while (!s->pieces)
            loop_turn();
        assert_true(s->body.n <= HUGE_BYTES / 4);
        finish(s);
        assert_int_equal(s->body.n, HUGE_BYTES);
        assert_true(s->pieces >= HUGE_BYTES / (stream ? 32768 : 262144 + 16384));
    }
}

static void test_pausing_and_resuming_twice_is_harmless(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;

    req.max_body_bytes = 0;
    s = begin(0, &req);
    transport_pause(s->op); /* before it is connected, too */
    transport_pause(s->op);
    turn_until(&got_request);
    turns(20);
    assert_int_equal(s->heads, 1);
    assert_int_equal(s->pieces, 0);
    transport_resume(s->op);
    transport_resume(s->op);
    transport_pause(s->op);
    turns(5);
    transport_resume(s->op);
    finish(s);
    assert_int_equal(s->body.n, HUGE_BYTES);
}

static void test_a_paused_call_can_be_cancelled(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;

    req.max_body_bytes = 0;
    s = begin(0, &req);
    s->pause_in_data = true;
    while (!s->pieces)
        loop_turn();
    op_cancel(&s->op);
    turn_until(&peer_closed);
    s = begin(0, &req);
    s->pause_in_data = true;
    while (!s->pieces)
        loop_turn();
    transport_resume(s->op);
    op_cancel(&s->op);
    turn_until(&peer_closed);
    assert_int_equal(fetch("ok")->err, GW_OK);
}

/* --- in bulk ---------------------------------------------------------------------------------- */

static void test_check_058_thousands_of_calls_cancelled_at_random_leave_nothing(void **state)
{
    static const char *const paths[] = {"ok", "chunked", "huge", "hang-body", "cut-body", "reset"};
    struct transport_request req;
    unsigned seed = 7, ended = 0;

    for (unsigned i = 0; i < 3000; i++) {
        struct seen *s = &seen[i % 8];
        bool whole = i % 60 == 59; /* some end whatever else the machine does */

        if (s->op)
            op_cancel(&s->op);
        ended += s->dones;
        seed = seed * 1103515245u + 12345u;
        req = request_to(whole ? "ok" : paths[(seed >> 16) % 6]);
        req.stream = seed >> 24 & 1;
        req.max_body_bytes = 300000;
        begin(i % 8, &req);
        while (whole && !s->dones)
            loop_turn();
        if (seed >> 25 & 1)
            loop_turn();
    }
    for (unsigned i = 0; i < 8; i++) {
        op_cancel(&seen[i].op);
        ended += seen[i].dones;
    }
    assert_true(ended >= 50);
    assert_int_equal(transport_active(), 0);
    assert_int_equal(fetch("ok")->err, GW_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_check_070_a_post_is_never_sent_twice_by_libcurl),
        TEST(test_check_070_nor_over_another_idle_connection),
        TEST(test_an_idle_connection_closed_by_the_peer_is_replaced_in_silence),
        TEST(test_an_idle_connection_stays_registered_until_it_becomes_readable),
        TEST(test_cancelling_in_the_same_turn_sends_nothing),
        TEST(test_cancelling_in_any_phase_closes_the_connection_and_calls_nobody),
        TEST(test_cancelling_inside_the_callbacks_is_safe),
        TEST(test_calls_may_be_started_and_cancelled_inside_callbacks),
        TEST(test_check_056_a_paused_call_takes_little_more_and_goes_on_after_resume),
        TEST(test_a_large_answer_is_delivered_in_pieces_over_several_turns),
        TEST(test_pausing_and_resuming_twice_is_harmless),
        TEST(test_a_paused_call_can_be_cancelled),
        TEST(test_check_058_thousands_of_calls_cancelled_at_random_leave_nothing),
    };

    sem_init(&resolver_may_go, 0, 0);
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
