/* test_provider_answer.c - the call path: answers whole, streamed, passed through, cancelled. */
#include "tests/unit/provider_rig.h"

/* --- whole answers ---------------------------------------------------------------------------- */

static void test_a_whole_answer_is_given_after_it_was_checked(void **state)
{
    start("a");
    assert_string_equal(last()->url, "http://a/toy");
    assert_string_equal(last()->body, "model=m");
    assert_false(last()->stream);
    advance(5000);
    head(200, NULL);
    data("start;text hel");
    assert_int_equal(seen.n, 0);
    data("lo;usage xx;finish;end");
    assert_int_equal(seen.n, 0);
    done(GW_OK);
    assert_seen("live(a/m#0/1) start(id1) text(hello) usage(xx) finish() END() GW_OK");
    assert_int_equal(end_usage.input, 2);
    assert_int_equal(end_info.attempts, 1);
    assert_int_equal(end_info.upstream_us, 5000);
    assert_int_equal(end_info.first_event_us, 5000);
    assert_false(end_info.vendor_failed);
    assert_int_equal(end_info.report->n_dropped, 1);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "ok"), 1);
    assert_int_equal(value(M_LLM_TOKENS, "a", "m", "input"), 2);
    assert_int_equal(value(M_LLM_TOKENS, "a", "m", "output"), 2);
    assert_int_equal(value(M_LLM_COST, "a", "m", "chat"), 6000);
    assert_int_equal(state_of("a")->breaker.n_success, 1);
}

static void test_what_is_sent_carries_our_ids_and_no_more(void **state)
{
    static const struct registry_header extra = {SLICE("x-extra"), SLICE("1")};

    providers[0].headers = &extra;
    providers[0].n_headers = 1;
    start("a");
    assert_string_equal(
        last()->headers,
        "Content-Type: application/json\nAccept: application/json\n"
        "key: sk-secret\nx-extra: 1\nx-request-id: rid-1\ntraceparent: 00-t-s-01\n");
    op_cancel(&call);
}

static void test_only_openai_gets_an_idempotency_key_and_keeps_it_on_a_retry(void **state)
{
    start("o");
    assert_non_null(strstr(last()->headers, "Idempotency-Key: "));
    answer(500, "x");
    advance(S);
    assert_int_equal(n_sent, 2);
    assert_string_equal(sent[0].headers, sent[1].headers);
    op_cancel(&call);
    start("o");
    assert_string_not_equal(sent[0].headers, sent[2].headers);
    op_cancel(&call);
    start("a");
    assert_null(strstr(last()->headers, "Idempotency"));
    op_cancel(&call);
}

static void test_check_064_garbage_with_status_200_is_a_failure_and_never_live(void **state)
{
    static const char *const bodies[] = {"<html>", "", "start;text a;finish", "text a;junk;end"};

    for (unsigned i = 0; i < 4; i++) {
        start("a");
        answer(200, bodies[i]);
        assert_seen("GW_EUPBAD");
        assert_true(end_info.vendor_failed);
        assert_int_equal(end_info.attempts, 1);
        provider_reset(SLICE("a"));
    }
    assert_int_equal(state_of("a")->breaker.n_failure, 4);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "bad_answer"), 4);
}

static void test_garbage_moves_on_to_the_next_target(void **state)
{
    start("ab");
    answer(200, "<html>");
    assert_int_equal(n_sent, 2);
    answer(200, "text hi;end");
    assert_seen("live(b/m#1/2) text(hi) END() GW_OK");
    assert_int_equal(value(M_PROVIDER_FALLBACKS, "a", "b", NULL), 1);
}

static void test_an_error_inside_a_whole_answer_is_the_vendors(void **state)
{
    start("a");
    answer(200, "start;error busy");
    assert_int_equal(waiting_timers(), 1); /* rate limited: worth a retry */
    op_cancel(&call);
    request.max_attempts = 1;
    start("a");
    answer(200, "start;error busy");
    assert_seen("GW_EUPRATE");
    assert_string_equal(end_vendor, "busy");
}

static void test_an_answer_too_big_for_the_sink_is_a_bad_answer(void **state)
{
    start("a");
    answer(200, "text toobig;end");
    assert_seen("live(a/m#0/1) text(toobig) GW_EUPBAD");
}

static void test_a_body_over_the_limit_is_a_bad_answer(void **state)
{
    char *big = malloc((1u << 20) + 2);

    memset(big, 'x', (1u << 20) + 1);
    big[(1u << 20) + 1] = '\0';
    start("a");
    head(200, NULL);
    data(big);
    assert_seen("GW_EUPBAD");
    assert_true(last()->cancelled);
    free(big);
}

/* --- translated streams ----------------------------------------------------------------------- */

static void test_a_stream_holds_everything_until_the_first_good_event(void **state)
{
    start_stream("a");
    assert_true(last()->stream);
    assert_int_equal(last()->gap_us, 30 * S);
    assert_int_equal(last()->deadline_us, request.deadline_us);
    head(200, NULL);
    data("data: start\n\ndata: ping\n\ndata: usage xxx\n\n");
    assert_int_equal(seen.n, 0);
    advance(7000);
    data("data: text he");
    assert_int_equal(seen.n, 0);
    data("llo\n\ndata: ping\n\n");
    assert_int_equal(last()->deadline_us, 0);
    assert_seen("live(a/m#0/1) start(id1) usage() text(hello) ping() ");
    assert_int_equal(state_of("a")->breaker.n_success, 1);
    data("data: usage xxxx\n\ndata: finish\n\n");
    assert_int_equal(provider_call_usage(call)->input, 4);
    data("data: end\n\n");
    assert_int_equal(last()->deadline_us, now_us + S);
    assert_seen("usage(xxxx) finish() END() ");
    data("data: text after the end\n\n");
    done(GW_OK);
    assert_seen("GW_OK");
    assert_int_equal(end_info.first_event_us, 7000);
    assert_int_equal(end_usage.input, 4);
    assert_true(slice_is(end_usage.raw, "xxxx"));
}

static void test_a_failure_after_the_end_event_does_not_matter(void **state)
{
    start_stream("a");
    head(200, NULL);
    data("data: text a\n\ndata: end\n\n");
    done(GW_EDEADLINE);
    assert_seen("live(a/m#0/1) text(a) END() GW_OK");
    assert_int_equal(state_of("a")->breaker.n_failure, 0);
}

static void test_a_stream_that_fails_before_its_first_good_event_falls_over_unseen(void **state)
{
    static const char *const bad[] = {"data: junk\n\n", "data: start\n\ndata: error busy\n\n",
                                      "data: start\n\n", ""};

    for (unsigned i = 0; i < 4; i++) {
        conf.retry_attempts = 1;
        start_stream("ab");
        head(200, NULL);
        data(bad[i]);
        if (i >= 2)
            done(i == 2 ? GW_OK : GW_EUPSTREAM);
        assert_string_equal(last()->url, "http://b/toy");
        head(200, NULL);
        data("data: start\n\ndata: text ok\n\ndata: end\n\n");
        done(GW_OK);
        assert_seen("live(b/m#1/2) start(id1) text(ok) END() GW_OK");
        provider_reset(SLICE("a"));
    }
    assert_int_equal(state_of("a")->breaker.n_failure, 4);
}

static void test_check_059_a_stream_cut_in_the_middle_ends_with_an_error_and_no_retry(void **state)
{
    static const struct {
        const char *data;
        enum gw_err done; /* GW_ERR_COUNT: the data alone ends it */
        const char *wanted;
    } cases[] = {
        {"", GW_OK, "live(a/m#0/1) text(a) GW_EUPSTREAM"},
        {"", GW_EUPSTREAM, "live(a/m#0/1) text(a) GW_EUPSTREAM"},
        {"", GW_EDEADLINE, "live(a/m#0/1) text(a) GW_EDEADLINE"},
        {"data: error broken\n\n", GW_ERR_COUNT, "live(a/m#0/1) text(a) GW_EUPRATE"},
        {"data: junk\n\n", GW_ERR_COUNT, "live(a/m#0/1) text(a) GW_EUPBAD"},
        {"data: te", GW_OK, "live(a/m#0/1) text(a) GW_EUPBAD"},
        {"data: finish\n\n", GW_OK, "live(a/m#0/1) text(a) finish() GW_EUPSTREAM"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        n_sent = 0;
        start_stream("ab");
        head(200, NULL);
        data("data: text a\n\n");
        if (cases[i].data[0])
            data(cases[i].data);
        if (cases[i].done != GW_ERR_COUNT)
            done(cases[i].done);
        assert_seen(cases[i].wanted);
        assert_int_equal(n_sent, 1);
        assert_true(end_info.vendor_failed);
        assert_int_equal(state_of("a")->breaker.failures, 1);
    }
}

static void test_check_059_a_line_of_a_mebibyte_is_refused(void **state)
{
    static char line[(1u << 20) + 64];

    memset(line, 'x', sizeof(line) - 1);
    memcpy(line, "data: text ", 11);
    start_stream("a");
    head(200, NULL);
    data("data: text a\n\n");
    data(line);
    assert_seen("live(a/m#0/1) text(a) GW_EUPBAD");
    assert_true(last()->cancelled);
}

static void test_a_dialect_without_a_terminal_event_ends_with_the_connection(void **state)
{
    start_stream("a");
    head(200, NULL);
    data("data: text a\n\ndata: willend\n\n");
    done(GW_OK);
    assert_seen("live(a/m#0/1) text(a) END() GW_OK");
    start_stream("a");
    head(200, NULL);
    data("data: text a\n\ndata: willend\n\n");
    done(GW_EUPSTREAM);
    assert_seen("live(a/m#0/1) text(a) GW_EUPSTREAM");
}

static void test_an_error_status_on_a_stream_is_read_as_an_error(void **state)
{
    start_stream("a");
    answer(400, "data: nonsense\n\n");
    assert_seen("GW_EUPREJECT");
}

static void test_pausing_reaches_the_transport(void **state)
{
    start_stream("a");
    head(200, NULL);
    data("data: text a\n\n");
    provider_call_pause(call);
    assert_true(last()->paused);
    provider_call_resume(call);
    assert_false(last()->paused);
    op_cancel(&call);
    buf_reset(&seen);
}

/* --- pass-through ----------------------------------------------------------------------------- */

static void test_a_whole_answer_passes_through_byte_for_byte(void **state)
{
    pass_through();
    start("o");
    assert_string_equal(last()->url, "http://openai/chat");
    assert_string_equal(last()->body, "pass:gpt:0");
    answer(200, "{ \"any\": 1.0e0 }");
    assert_seen("live(openai/gpt#0/1) <{ \"any\": 1.0e0 }> GW_OK");
    assert_true(end_info.passed_through);
    assert_true(slice_is(end_info.content_type, "text/x-toy"));
    assert_int_equal(end_usage.output, 4);
}

static void test_a_passed_answer_that_is_none_is_never_relayed(void **state)
{
    pass_through();
    start("oa");
    answer(200, "<html>");
    assert_string_equal(last()->url, "http://a/toy");
    answer(200, "text a;end");
    assert_seen("live(a/m#1/2) text(a) END() GW_OK");
    assert_false(end_info.passed_through);
}

static void test_another_dialect_or_no_body_is_translated(void **state)
{
    start("o");
    assert_string_equal(last()->url, "http://openai/translated");
    op_cancel(&call);
    pass_through();
    request.inbound = &other;
    start("a");
    assert_string_equal(last()->url, "http://a/toy");
    op_cancel(&call);
}

static void test_a_passed_stream_is_relayed_as_whole_events_as_they_came(void **state)
{
    pass_through();
    start_stream("o");
    assert_string_equal(last()->body, "pass:gpt:1");
    head(200, NULL);
    data("data: role\n\n");
    assert_int_equal(seen.n, 0);
    data(": comment\n\nid: 1\ndata:content1\r\n\r\ndata: content2\n\ndata: con");
    assert_seen("live(openai/gpt#0/1) <data: role\n\n> "
                "<id: 1\ndata:content1\r\n\r\ndata: content2\n\n> ");
    data("tent3\n\ndata: content4\n\ndata: cont");
    assert_seen("<data: content3\n\n> <data: content4\n\n> ");
    data("ent5\n\ndata: XXXXXX");
    assert_seen("<data: content5\n\n> ");
    data("\n\n");
    assert_seen("GW_EUPBAD");
    start_stream("o");
    head(200, NULL);
    data("data: content\n\n");
    buf_reset(&seen);
    data("data: finish\n\ndata: [DONE]\n\n");
    done(GW_OK);
    assert_seen("<data: finish\n\ndata: [DONE]\n\n> GW_OK");
}

static void test_a_usage_event_is_hidden_unless_the_client_asked(void **state)
{
    pass_through();
    start_stream("o");
    head(200, NULL);
    data("data: content\n\ndata: usage\n\ndata: [DONE]\n\n");
    done(GW_OK);
    assert_seen("live(openai/gpt#0/1) <data: content\n\n> <data: [DONE]\n\n> GW_OK");
    assert_int_equal(end_usage.input, 7);
    convo->include_usage = true;
    start_stream("o");
    head(200, NULL);
    data("data: content\n\ndata: usage\n\ndata: [DONE]\n\n");
    done(GW_OK);
    assert_seen("live(openai/gpt#0/1) <data: content\n\ndata: usage\n\ndata: [DONE]\n\n> GW_OK");
}

static void test_the_vendors_usage_is_kept_as_it_came(void **state)
{
    pass_through();
    start_stream("o");
    head(200, NULL);
    data("data: usage begin\n\ndata: content\n\n");
    data("data: usage 1\n\n");
    assert_true(slice_is(provider_call_usage(call)->raw, "[usage begin,usage 1]"));
    data("data: usage, and a longer one that needs more room than there was\n\n");
    data("data: usage 3\n\ndata: [DONE]\n\n");
    done(GW_OK);
    assert_true(slice_is(end_usage.raw, "[usage begin,usage 3]"));
}

static void test_a_vendors_usage_past_its_limit_is_not_kept(void **state)
{
    char text[4000], line[4100];

    memset(text, 'u', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    snprintf(line, sizeof(line), "data: usage%s\n\ndata: content\n\ndata: [DONE]\n\n", text);
    pass_through();
    start_stream("o");
    head(200, NULL);
    data(line);
    done(GW_OK);
    assert_int_equal(end_usage.input, 7);
    assert_int_equal(end_usage.raw.n, 0);
}

static void test_check_059_a_passed_stream_without_done_is_an_error(void **state)
{
    pass_through();
    start_stream("o");
    head(200, NULL);
    data("data: content\n\ndata: finish\n\n");
    done(GW_OK);
    assert_seen("live(openai/gpt#0/1) <data: content\n\ndata: finish\n\n> GW_EUPSTREAM");
    start_stream("o");
    head(200, NULL);
    data("data: content\n\ndata: error boom\n\ndata: [DONE]\n\n");
    assert_seen("live(openai/gpt#0/1) <data: content\n\n> GW_EUPSTREAM");
    assert_string_equal(end_vendor, "error boom");
    start_stream("o");
    head(200, NULL);
    data("data: content\n\ndata: what?\n\n");
    assert_seen("live(openai/gpt#0/1) <data: content\n\n> GW_EUPBAD");
}

static void test_an_error_in_front_of_a_passed_stream_falls_over(void **state)
{
    conf.retry_attempts = 1;
    pass_through();
    start_stream("oa");
    head(200, NULL);
    data("data: role\n\ndata: error x\n\n");
    assert_true(sent[0].cancelled);
    assert_string_equal(last()->url, "http://a/toy");
    head(200, NULL);
    data("data: text a\n\ndata: end\n\n");
    done(GW_OK);
    assert_seen("live(a/m#1/2) text(a) END() GW_OK");
}

static void test_cr_line_ends_are_rebuilt_when_they_cannot_be_relayed(void **state)
{
    pass_through();
    start_stream("o");
    head(200, NULL);
    data("data: content1\r\n\r");
    data("\ndata: content2\r\n\r\ndata: [DONE]");
    done(GW_OK);
    assert_seen("live(openai/gpt#0/1) <data: content1\n\n> <data: content2\r\n\r\n> "
                "<data: [DONE]\n\n> GW_OK");
}

/* --- embeddings ------------------------------------------------------------------------------- */

static void test_embeddings_are_given_before_the_end(void **state)
{
    struct dialect_embed_request ask = {.model = SLICE("e")};

    request.convo = NULL;
    request.embed = &ask;
    models[3].capabilities = REGISTRY_CAN_EMBED;
    start("o");
    assert_string_equal(last()->url, "http://openai/embed");
    answer(200, "vvv");
    assert_seen("live(openai/gpt#0/1) embed(3) GW_OK");
    assert_int_equal(end_usage.input, 5);
    assert_int_equal(value(M_LLM_COST, "openai", "gpt", "embeddings"), 5000);
    start("o");
    answer(200, "no");
    assert_seen("GW_EUPBAD");
    start("a");
    assert_seen("GW_EUNSUPPORTED");
    assert_non_null(strstr(end_info.report->why.p, "embeddings"));
}

/* --- cancelling ------------------------------------------------------------------------------- */

static void test_cancelling_before_the_first_step_sends_nothing(void **state)
{
    request.route.targets[0] = (struct registry_target){&models[0], 1};
    request.route.n_targets = 1;
    call = provider_call(&request, &sink, NULL);
    op_cancel(&call);
    run();
    assert_int_equal(n_sent, 0);
    assert_seen("");
}

static void test_cancelling_while_waiting_closes_the_connection(void **state)
{
    start("a");
    op_cancel(&call);
    assert_true(last()->cancelled);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "cancelled"), 1);
    assert_int_equal(state_of("a")->breaker.n_failure, 0);
    start("a");
    head(200, NULL);
    data("start;te");
    op_cancel(&call);
    assert_true(last()->cancelled);
    assert_seen("");
}

static void test_cancelling_in_the_backoff_sends_nothing_more(void **state)
{
    start("a");
    answer(500, "x");
    assert_int_equal(waiting_timers(), 1);
    op_cancel(&call);
    advance(10 * S);
    assert_int_equal(n_sent, 1);
    assert_seen("");
}

static void test_cancelling_a_stream_books_what_was_used(void **state)
{
    start_stream("a");
    head(200, NULL);
    data("data: text a\n\ndata: usage xxxxx\n\n");
    assert_int_equal(provider_call_usage(call)->input, 5);
    assert_int_equal(provider_call_info(call)->attempts, 1);
    op_cancel(&call);
    assert_int_equal(value(M_LLM_TOKENS, "a", "m", "input"), 5);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "cancelled"), 1);
    assert_int_equal(state_of("a")->breaker.n_failure, 0);
    buf_reset(&seen);
}

/* The whole script again and again, cancelled in each of its callbacks in turn. */
static void test_cancelling_inside_any_callback_is_safe(void **state)
{
    for (unsigned kind = 0; kind < 4; kind++)
        for (unsigned at = 1; at < 12; at++) {
            callbacks_left = at;
            n_sent = 0;
            if (kind >= 2)
                pass_through();
            convo->stream = kind % 2;
            start(kind >= 2 ? "o" : "a");
            head(200, NULL);
            if (kind == 0)
                data("start;text a;usage x;text b;finish;end");
            if (kind == 1)
                data("data: start\n\ndata: text a\n\ndata: usage x\n\ndata: text b\n\nda");
            if (kind == 2)
                data("{}");
            if (kind == 3)
                data("data: role\n\ndata: content\n\ndata: usage\n\ndata: content\n\ndata: co");
            if (!last()->over && kind == 1)
                data("ta: text c\n\ndata: end\n\n");
            if (!last()->over && kind == 3)
                data("ntent\n\ndata: [DONE]\n\n");
            if (!last()->over)
                done(GW_OK);
            assert_null(call);
            assert_true(last()->over);
            buf_reset(&seen);
            request.inbound = NULL;
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_whole_answer_is_given_after_it_was_checked),
        TEST(test_what_is_sent_carries_our_ids_and_no_more),
        TEST(test_only_openai_gets_an_idempotency_key_and_keeps_it_on_a_retry),
        TEST(test_check_064_garbage_with_status_200_is_a_failure_and_never_live),
        TEST(test_garbage_moves_on_to_the_next_target),
        TEST(test_an_error_inside_a_whole_answer_is_the_vendors),
        TEST(test_an_answer_too_big_for_the_sink_is_a_bad_answer),
        TEST(test_a_body_over_the_limit_is_a_bad_answer),
        TEST(test_a_stream_holds_everything_until_the_first_good_event),
        TEST(test_a_failure_after_the_end_event_does_not_matter),
        TEST(test_a_stream_that_fails_before_its_first_good_event_falls_over_unseen),
        TEST(test_check_059_a_stream_cut_in_the_middle_ends_with_an_error_and_no_retry),
        TEST(test_check_059_a_line_of_a_mebibyte_is_refused),
        TEST(test_a_dialect_without_a_terminal_event_ends_with_the_connection),
        TEST(test_an_error_status_on_a_stream_is_read_as_an_error),
        TEST(test_pausing_reaches_the_transport),
        TEST(test_a_whole_answer_passes_through_byte_for_byte),
        TEST(test_a_passed_answer_that_is_none_is_never_relayed),
        TEST(test_another_dialect_or_no_body_is_translated),
        TEST(test_a_passed_stream_is_relayed_as_whole_events_as_they_came),
        TEST(test_a_usage_event_is_hidden_unless_the_client_asked),
        TEST(test_the_vendors_usage_is_kept_as_it_came),
        TEST(test_a_vendors_usage_past_its_limit_is_not_kept),
        TEST(test_check_059_a_passed_stream_without_done_is_an_error),
        TEST(test_an_error_in_front_of_a_passed_stream_falls_over),
        TEST(test_cr_line_ends_are_rebuilt_when_they_cannot_be_relayed),
        TEST(test_embeddings_are_given_before_the_end),
        TEST(test_cancelling_before_the_first_step_sends_nothing),
        TEST(test_cancelling_while_waiting_closes_the_connection),
        TEST(test_cancelling_in_the_backoff_sends_nothing_more),
        TEST(test_cancelling_a_stream_books_what_was_used),
        TEST(test_cancelling_inside_any_callback_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
