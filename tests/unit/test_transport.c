/* test_transport.c - answers good and bad, what is sent, limits of time, slow names. */
#include "tests/unit/transport_rig.h"

/* --- good answers ----------------------------------------------------------------------------- */

static void test_an_answer_comes_back_with_its_head(void **state)
{
    struct seen *s = fetch("ok");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->heads, 1);
    assert_int_equal(s->status, 200);
    assert_string_equal(s->type, "text/plain");
    assert_body(s, "hello");
    assert_int_equal(s->res.status, 200);
    assert_true(s->res.sent);
    assert_false(s->res.reused);
    assert_false(s->res.timed_out);
    assert_int_equal(s->res.bytes_in, 5);
    assert_true(s->res.first_byte_us > 0);
    assert_true(s->res.total_us >= s->res.first_byte_us);
}

static void test_connections_are_reused(void **state)
{
    for (int i = 0; i < 20; i++) {
        struct seen *s = fetch(i % 2 ? "ok" : "limited");

        assert_int_equal(s->err, GW_OK);
        assert_int_equal(s->res.reused, i > 0);
    }
    assert_int_equal(n_accepted, 1);
    assert_int_equal(n_executed, 20);
}

static void test_any_status_is_a_complete_answer(void **state)
{
    struct seen *s = fetch("limited");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->status, 429);
    assert_string_equal(s->retry_after, "7");
    assert_string_equal(s->request_id, "abc");
    assert_string_equal(s->type, "application/json");
    s = fetch("empty");
    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->status, 204);
    assert_int_equal(s->body.n, 0);
    s = fetch("vendor-id");
    assert_string_equal(s->request_id, "req_1");
}

static void test_chunked_answers_and_their_trailers_are_read(void **state)
{
    struct seen *s = fetch("chunked");

    assert_int_equal(s->err, GW_OK);
    assert_body(s, "abcdefg");
    assert_string_equal(s->type, "");
    assert_int_equal(s->pieces, 1);
}

static void test_heads_of_1xx_are_not_the_answers(void **state)
{
    struct seen *s = fetch("continue");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->heads, 1);
    assert_int_equal(s->status, 200);
    assert_string_equal(s->retry_after, "");
    assert_string_equal(s->type, "");
    assert_body(s, "ok");
}

static void test_check_071_a_redirect_is_an_answer_and_not_followed(void **state)
{
    struct seen *s = fetch("redirect");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->status, 302);
    turns(5);
    assert_int_equal(n_executed, 1);
}

static void test_a_body_without_length_ends_with_the_connection(void **state)
{
    struct seen *s = fetch("until-close");

    assert_int_equal(s->err, GW_OK);
    assert_body(s, "all of it");
}

static void test_bytes_after_the_answer_are_not_the_next_one(void **state)
{
    struct seen *s = fetch("excess");

    assert_int_equal(s->err, GW_OK);
    assert_body(s, "ok");
    s = fetch("ok");
    assert_body(s, "hello");
    assert_false(s->res.reused);
}

static void test_many_calls_at_once_each_get_their_own_answer(void **state)
{
    static const char *const paths[] = {"ok", "chunked", "continue", "until-close"};
    static const char *const bodies[] = {"hello", "abcdefg", "ok", "all of it"};
    struct transport_request req;

    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 8; i++) {
            req = request_to(paths[i % 4]);
            req.stream = (i + (unsigned)round) % 3 == 0;
            begin(i, &req);
        }
        assert_int_equal(transport_active(), 8);
        for (unsigned i = 0; i < 8; i++) {
            finish(&seen[i]);
            assert_int_equal(seen[i].err, GW_OK);
            assert_body(&seen[i], bodies[i % 4]);
        }
    }
}

/* --- what is sent ----------------------------------------------------------------------------- */

static void test_requests_say_no_more_than_they_are_told(void **state)
{
    struct transport_header headers[] = {{SLICE("Content-Type"), SLICE("application/json")},
                                         {SLICE("x-empty"), SLICE("")},
                                         {SLICE("x-split"), SLICE("a\r\nx-evil: 1")},
                                         {SLICE("x bad"), SLICE("1")},
                                         {SLICE("x-bad:"), SLICE("1")},
                                         {SLICE("Authorization"), SLICE("Bearer k")}};
    struct transport_request req = request_to("echo");
    char wanted[512];

    req.headers = headers;
    req.n_headers = 6;
    req.stream = true;
    snprintf(wanted, sizeof(wanted),
             "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept: */*\r\n"
             "User-Agent: postern/" POSTERN_VERSION
             "\r\nContent-Type: application/json\r\nx-empty:\r\n"
             "Authorization: Bearer k\r\nContent-Length: 2\r\n\r\n",
             port);
    assert_body(fetch_with(&req), wanted);
    req.stream = false;
    fetch_with(&req);
    assert_non_null(strstr(request_head, "Accept-Encoding: gzip\r\n"));
}

static void test_a_caller_may_name_itself(void **state)
{
    struct transport_header headers[] = {{SLICE("user-agent"), SLICE("another")},
                                         {SLICE("accept-encoding"), SLICE("identity")}};
    struct transport_request req = request_to("echo");

    req.headers = headers;
    req.n_headers = 2;
    fetch_with(&req);
    assert_non_null(strstr(request_head, "user-agent: another\r\n"));
    assert_non_null(strstr(request_head, "accept-encoding: identity\r\n"));
    assert_null(strcasestr(request_head, "postern"));
    assert_null(strcasestr(request_head, "gzip"));
}

static void test_as_many_headers_as_there_may_be(void **state)
{
    struct transport_header headers[TRANSPORT_MAX_HEADERS];
    char name[TRANSPORT_MAX_HEADERS][16], line[32];
    struct transport_request req = request_to("echo");

    for (unsigned i = 0; i < TRANSPORT_MAX_HEADERS; i++) {
        snprintf(name[i], sizeof(name[i]), "x-number-%u", i);
        headers[i] = (struct transport_header){slice_cstr(name[i]), SLICE("v")};
    }
    req.headers = headers;
    req.n_headers = TRANSPORT_MAX_HEADERS;
    fetch_with(&req);
    for (unsigned i = 0; i < TRANSPORT_MAX_HEADERS; i++) {
        snprintf(line, sizeof(line), "x-number-%u: v\r\n", i);
        assert_non_null(strstr(request_head, line));
    }
}

static void test_kept_handles_forget_the_call_before(void **state)
{
    struct transport_header header = {SLICE("x-one"), SLICE("1")};
    struct transport_request req = request_to("echo");

    req.headers = &header;
    req.n_headers = 1;
    fetch_with(&req);
    assert_non_null(strstr(request_head, "x-one: 1\r\n"));
    req.n_headers = 0;
    req.method = "GET";
    req.body = SLICE_NONE;
    fetch_with(&req);
    assert_memory_equal(request_head, "GET /echo ", 10);
    assert_null(strstr(request_head, "x-one"));
    assert_null(strstr(request_head, "Content-Length"));
    req.method = "POST";
    fetch_with(&req);
    assert_memory_equal(request_head, "POST /echo ", 11);
    assert_non_null(strstr(request_head, "Content-Length: 0\r\n"));
    fetch("ok?a=b");
    assert_memory_equal(request_head, "POST /ok?a=b ", 13);
}

static void test_a_large_body_is_sent_without_waiting_for_100_continue(void **state)
{
    struct transport_request req = request_to("ok");
    size_t n = 5u << 20;
    char *body = calloc(1, n);

    req.body = slice_of(body, n);
    assert_int_equal(fetch_with(&req)->err, GW_OK);
    assert_int_equal(request_body_bytes, n);
    assert_null(strcasestr(request_head, "Expect"));
    free(body);
}

static void test_proxies_of_the_environment_are_not_used(void **state)
{
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(fetch("ok")->err, GW_OK);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void test_other_protocols_and_broken_urls_are_refused(void **state)
{
    static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/x",
                                       "gopher://127.0.0.1/"};
    struct transport_request req = request_to("ok");

    for (unsigned i = 0; i < 3; i++) {
        req.url = slice_cstr(urls[i]);
        assert_int_equal(fetch_with(&req)->err, GW_EUPCONNECT);
        assert_false(seen[0].res.sent);
    }
    req.url = SLICE("http://127.0.0.1:1/a b");
    assert_null(transport_start(&req, &callbacks, &seen[0]));
    assert_int_equal(fetch("ok")->err, GW_OK);
}

/* --- bad answers ------------------------------------------------------------------------------ */

static void test_check_062_and_064_cut_and_wrong_answers_are_never_success(void **state)
{
    static const struct {
        const char *path;
        enum gw_err err;
        int status;
    } cases[] = {
        {"cut-head", GW_EUPSTREAM, 0},     {"cut-body", GW_EUPSTREAM, 200},
        {"cut-chunks", GW_EUPSTREAM, 200}, {"cut-last-chunk", GW_EUPSTREAM, 200},
        {"no-answer", GW_EUPSTREAM, 0},    {"reset", GW_EUPSTREAM, 0},
        {"garbage", GW_EUPBAD, 0},         {"http09", GW_EUPBAD, 0},
        {"http2.5", GW_EUPBAD, 0},         {"bad-chunk", GW_EUPSTREAM, 200},
        {"bad-gzip", GW_EUPBAD, 200},      {"switch", GW_EUPBAD, 0},
        {"long-head", GW_EUPBAD, 0},       {"long-line", GW_EUPBAD, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen *s = fetch(cases[i].path);

        if (s->err != cases[i].err || s->res.status != cases[i].status)
            fail_msg("%s: %s %d (%s)", cases[i].path, err_info(s->err)->name, s->res.status,
                     s->detail);
        assert_true(s->res.sent);
        assert_int_equal(s->heads, cases[i].status != 0);
    }
    assert_int_equal(n_executed, sizeof(cases) / sizeof(cases[0]));
}

static void test_check_061_a_closed_port_is_a_connection_failure(void **state)
{
    struct transport_request req = request_to("ok");
    struct seen *s;

    req.url = SLICE("http://127.0.0.1:1/x");
    s = fetch_with(&req);
    assert_int_equal(s->err, GW_EUPCONNECT);
    assert_false(s->res.sent);
    assert_int_equal(s->res.status, 0);
    assert_true(strlen(s->detail) > 0);
}

static void test_check_064_a_body_over_the_limit_is_cut(void **state)
{
    struct seen *s = fetch("huge");

    assert_int_equal(s->err, GW_EUPBAD);
    assert_true(s->body.n <= LIMIT);
    turn_until(&peer_closed);
}

static void test_a_body_of_exactly_the_limit_is_taken(void **state)
{
    struct transport_request req = request_to("ok");

    req.max_body_bytes = 5;
    assert_int_equal(fetch_with(&req)->err, GW_OK);
    req.max_body_bytes = 4;
    assert_int_equal(fetch_with(&req)->err, GW_EUPBAD);
    req.max_body_bytes = 0;
    assert_int_equal(fetch_with(&req)->err, GW_OK);
}

static void test_check_072_a_gzip_bomb_is_cut_at_the_decoded_limit(void **state)
{
    struct seen *s = fetch("bomb");

    assert_int_equal(s->err, GW_EUPBAD);
    assert_true(s->body.n <= LIMIT);
}

static void test_gzip_is_decoded_on_whole_answers(void **state)
{
    struct seen *s = fetch("small-gzip");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->body.n, 25801);
    for (size_t i = 0; i < s->body.n; i++)
        assert_int_equal(s->body.p[i], 0);
}

static void test_a_coding_nobody_asked_for_on_a_stream_is_refused(void **state)
{
    struct transport_request req = request_to("small-gzip");

    req.stream = true;
    assert_int_equal(fetch_with(&req)->err, GW_EUPBAD);
    assert_int_equal(seen[0].heads, 0);
}

/* --- limits of time --------------------------------------------------------------------------- */

static void assert_times_out(const struct transport_request *req, int status)
{
    struct seen *s = fetch_with(req);

    assert_int_equal(s->err, GW_EDEADLINE);
    assert_true(s->res.timed_out);
    assert_int_equal(s->res.status, status);
    turn_until(&peer_closed);
}

static void test_check_063_each_limit_of_time_ends_the_call_and_the_connection(void **state)
{
    struct transport_request req = request_to("hang");

    req.first_byte_timeout_us = 20000;
    assert_times_out(&req, 0);
    req = request_to("hang-head");
    req.first_byte_timeout_us = 20000;
    assert_times_out(&req, 0);
    req = request_to("hang-body");
    req.gap_timeout_us = 20000;
    assert_times_out(&req, 200);
    assert_body(&seen[0], "abc");
    req = request_to("hang-body");
    req.deadline_us = loop_now_us() + 20000;
    assert_times_out(&req, 200);
    req.deadline_us = loop_now_us();
    fetch_with(&req);
    assert_int_equal(seen[0].err, GW_EDEADLINE);
}

static void test_the_gap_starts_anew_with_each_byte(void **state)
{
    struct transport_request req = request_to("trickle");
    struct seen *s;

    req.gap_timeout_us = 30 * S;
    req.first_byte_timeout_us = 30 * S;
    s = begin(0, &req);
    for (int i = 0; i < 39; i++) { /* the head and one byte */
        sem_post(&go);
        turns(1);
    }
    while (s->pieces == 0)
        loop_turn();
    struct transfer *t = (struct transfer *)s->op;
    uint64_t before = next_due(t);

    sem_post(&go);
    while (s->pieces == 1)
        loop_turn();
    assert_true(next_due(t) > before);
    sem_post(&go);
    sem_post(&go);
    finish(s);
    assert_int_equal(s->err, GW_OK);
    assert_body(s, "abc");
}

static void test_a_stream_that_began_has_no_deadline(void **state)
{
    struct transport_request req = request_to("hang-body");
    struct seen *s;

    req.deadline_us = loop_now_us() + 20 * S;
    s = begin(0, &req);
    while (!s->pieces)
        loop_turn();
    transport_set_deadline(s->op, 0);
    assert_int_equal(next_due((struct transfer *)s->op), 0);
    transport_set_deadline(s->op, loop_now_us() + 1000);
    finish(s);
    assert_int_equal(s->err, GW_EDEADLINE);
}

static void test_a_body_counts_as_sent_when_all_of_it_has_left(void **state)
{
    struct transport_request req = request_to("hang-body");
    struct seen *s;

    s = begin(0, &req);
    assert_false(transport_body_sent(s->op));
    while (!s->pieces)
        loop_turn();
    assert_true(transport_body_sent(s->op));
    op_cancel(&s->op);
}

/* --- resolving -------------------------------------------------------------------------------- */

static void test_a_name_that_does_not_exist_is_a_connection_failure(void **state)
{
    struct transport_request req = request_to("ok");

    req.url = SLICE("http://nobody.test/x");
    assert_int_equal(fetch_with(&req)->err, GW_EUPCONNECT);
    assert_false(seen[0].res.sent);
}

/* The resolver is let go only afterwards: a loop that waited for it would never come back. */
static void
test_check_061_a_slow_resolver_stalls_neither_cancel_nor_timeout_nor_other_calls(void **state)
{
    struct transport_request req = request_to("ok");
    struct seen *s;

    req.url = SLICE("http://slow.test/x");
    s = begin(1, &req);
    while (!n_resolving)
        loop_turn();
    assert_int_equal(fetch("ok")->err, GW_OK);
    op_cancel(&s->op);
    turns(3);
    req.connect_timeout_us = 20000;
    s = fetch_with(&req);
    assert_int_equal(s->err, GW_EUPCONNECT);
    assert_true(s->res.timed_out);
    req.connect_timeout_us = 20 * S;
    req.deadline_us = loop_now_us() + 20000;
    assert_int_equal(fetch_with(&req)->err, GW_EDEADLINE);
    while (n_resolving < 3)
        loop_turn();
    for (int i = 0; i < 3; i++)
        sem_post(&resolver_may_go);
    while (n_resolving)
        loop_turn();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_answer_comes_back_with_its_head),
        TEST(test_connections_are_reused),
        TEST(test_any_status_is_a_complete_answer),
        TEST(test_chunked_answers_and_their_trailers_are_read),
        TEST(test_heads_of_1xx_are_not_the_answers),
        TEST(test_check_071_a_redirect_is_an_answer_and_not_followed),
        TEST(test_a_body_without_length_ends_with_the_connection),
        TEST(test_bytes_after_the_answer_are_not_the_next_one),
        TEST(test_many_calls_at_once_each_get_their_own_answer),
        TEST(test_requests_say_no_more_than_they_are_told),
        TEST(test_a_caller_may_name_itself),
        TEST(test_as_many_headers_as_there_may_be),
        TEST(test_kept_handles_forget_the_call_before),
        TEST(test_a_large_body_is_sent_without_waiting_for_100_continue),
        TEST(test_proxies_of_the_environment_are_not_used),
        TEST(test_other_protocols_and_broken_urls_are_refused),
        TEST(test_check_062_and_064_cut_and_wrong_answers_are_never_success),
        TEST(test_check_061_a_closed_port_is_a_connection_failure),
        TEST(test_check_064_a_body_over_the_limit_is_cut),
        TEST(test_a_body_of_exactly_the_limit_is_taken),
        TEST(test_check_072_a_gzip_bomb_is_cut_at_the_decoded_limit),
        TEST(test_gzip_is_decoded_on_whole_answers),
        TEST(test_a_coding_nobody_asked_for_on_a_stream_is_refused),
        TEST(test_check_063_each_limit_of_time_ends_the_call_and_the_connection),
        TEST(test_the_gap_starts_anew_with_each_byte),
        TEST(test_a_body_counts_as_sent_when_all_of_it_has_left),
        TEST(test_a_stream_that_began_has_no_deadline),
        TEST(test_a_name_that_does_not_exist_is_a_connection_failure),
        TEST(test_check_061_a_slow_resolver_stalls_neither_cancel_nor_timeout_nor_other_calls),
    };

    sem_init(&resolver_may_go, 0, 0);
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
