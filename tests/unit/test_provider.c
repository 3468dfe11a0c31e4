/* test_provider.c - the call path: targets, breaker, retries, errors, states that survive. */
#include "tests/unit/provider_rig.h"

/* --- errors ----------------------------------------------------------------------------------- */

static void test_a_4xx_of_the_callers_making_ends_the_call_at_once(void **state)
{
    start("ab");
    answer(400, "no such field");
    assert_seen("GW_EUPREJECT");
    assert_string_equal(end_vendor, "no such field");
    assert_int_equal(n_sent, 1);
    assert_int_equal(state_of("a")->breaker.n_failure, 0);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "rejected"), 1);
    start("ab");
    answer(413, "too long");
    assert_seen("GW_ETOOBIG");
}

static void test_check_065_a_refused_credential_moves_on_without_touching_the_breaker(void **state)
{
    start("ab");
    answer(401, "bad key");
    assert_int_equal(n_sent, 2);
    answer(403, "bad key too");
    assert_seen("GW_EUPAUTH");
    assert_string_equal(end_vendor, "bad key too");
    assert_int_equal(state_of("a")->breaker.n_failure, 0);
    assert_int_equal(state_of("b")->breaker.failures, 0);
    assert_int_equal(value(M_PROVIDER_AUTH, "a", NULL, NULL), 1);
    assert_int_equal(value(M_PROVIDER_AUTH, "b", NULL, NULL), 1);
    assert_int_equal(value(M_PROVIDER_RETRIES, "a", "rate_limited", NULL), 0);
}

static void test_a_model_the_vendor_does_not_know_moves_on(void **state)
{
    start("ab");
    answer(404, "no model");
    assert_int_equal(n_sent, 2);
    answer(200, "text b;end");
    assert_seen("live(b/m#1/2) text(b) END() GW_OK");
    assert_int_equal(state_of("a")->breaker.failures, 0);
}

static void test_check_071_a_redirect_is_a_failure_and_never_followed(void **state)
{
    request.max_attempts = 1;
    start("a");
    answer(302, "elsewhere");
    assert_seen("GW_EUPSTREAM");
    assert_int_equal(n_sent, 1);
    assert_int_equal(state_of("a")->breaker.failures, 1);
    assert_string_equal(end_vendor, "");
}

static void test_a_5xx_is_sent_again_after_a_backoff(void **state)
{
    next_random = UINT32_MAX / 2;
    start("a");
    answer(500, "oops");
    assert_int_equal(n_sent, 1);
    assert_int_equal(waiting_timers(), 1);
    advance(40000);
    assert_int_equal(n_sent, 1);
    advance(20000);
    assert_int_equal(n_sent, 2);
    assert_string_equal(sent[0].body, sent[1].body);
    answer(200, "text a;end");
    assert_seen("live(a/m#0/2) text(a) END() GW_OK");
    assert_int_equal(value(M_PROVIDER_RETRIES, "a", "failed", NULL), 1);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "error"), 1);
    assert_int_equal(end_info.upstream_us, 60000);
}

static void test_attempts_per_target_are_limited_then_the_next_one_is_asked(void **state)
{
    providers[0].breaker.failure_threshold = 100;
    provider_adopt(&reg);
    start("ab");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(n_sent, i + 1);
        assert_string_equal(last()->url, "http://a/toy");
        done(GW_EUPCONNECT);
        advance(S);
    }
    assert_int_equal(n_sent, 4);
    assert_string_equal(last()->url, "http://b/toy");
    answer(200, "text b;end");
    assert_seen("live(b/m#1/4) text(b) END() GW_OK");
    assert_int_equal(value(M_PROVIDER_RETRIES, "a", "unreachable", NULL), 2);
    assert_int_equal(value(M_PROVIDER_FALLBACKS, "a", "b", NULL), 1);
}

static void test_check_068_the_retry_budget_ends_retries_on_the_same_target(void **state)
{
    unsigned total = 0;

    providers[0].breaker.failure_threshold = 1000000;
    provider_adopt(&reg);
    for (unsigned i = 0; i < 50; i++) {
        n_sent = 0;
        start("a");
        while (call) {
            answer(500, "down");
            advance(1000);
        }
        total += n_sent;
        buf_reset(&seen);
    }
    assert_int_equal(total, 60);
    assert_int_equal(value(M_PROVIDER_RETRIES, "a", "failed", NULL), 10);
}

static void test_a_clients_limit_of_attempts_holds_over_all_targets(void **state)
{
    request.max_attempts = 2;
    start("abc");
    done(GW_EDEADLINE);
    assert_int_equal(n_sent, 2);
    done(GW_EUPSTREAM);
    advance(S);
    assert_int_equal(n_sent, 2);
    assert_seen("GW_EUPSTREAM");
}

static void test_check_066_retry_after_within_the_deadline_is_waited_for(void **state)
{
    start("a");
    head(429, "7");
    data("slow down");
    done(GW_OK);
    advance(6 * S);
    assert_int_equal(n_sent, 1);
    advance(S);
    assert_int_equal(n_sent, 2);
    answer(200, "text a;end");
    assert_seen("live(a/m#0/2) text(a) END() GW_OK");
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "rate_limited"), 1);
}

static void test_check_066_retry_after_past_the_deadline_goes_to_the_caller(void **state)
{
    start("a");
    head(429, "1000000000");
    data("come back tomorrow");
    done(GW_OK);
    assert_seen("GW_EUPRATE");
    assert_int_equal(end_info.retry_after_us, 86400ull * S);
    assert_string_equal(end_vendor, "come back tomorrow");
    assert_int_equal(state_of("a")->breaker.failures, 1);
}

static void test_a_timeout_is_not_sent_to_the_same_target_again(void **state)
{
    start("ab");
    advance(20 * S);
    done(GW_EDEADLINE);
    assert_int_equal(n_sent, 2);
    assert_string_equal(last()->url, "http://b/toy");
    advance(36 * S);
    done(GW_EDEADLINE);
    assert_seen("GW_EDEADLINE");
    assert_int_equal(state_of("a")->breaker.failures, 1);
    assert_int_equal(value(M_LLM_REQUESTS, "a", "m", "timeout"), 1);
    assert_true(select_ewma_value(&state_of("a")->latency, now_us - 36 * S) >= 20 * S);
}

static void test_nothing_is_sent_after_the_deadline(void **state)
{
    request.deadline_us = now_us;
    start("a");
    assert_seen("GW_EDEADLINE");
    request.deadline_us = now_us + S;
    start("ab");
    advance(2 * S);
    done(GW_EUPSTREAM);
    assert_int_equal(n_sent, 1);
    assert_seen("GW_EUPSTREAM");
}

static void test_out_of_memory_ends_the_call(void **state)
{
    transport_is_out_of_memory = true;
    start("ab");
    assert_seen("GW_ENOMEM");
    transport_is_out_of_memory = false;
    models[0].name = SLICE("nomem");
    start("ab");
    assert_seen("GW_ENOMEM");
    assert_int_equal(state_of("a")->breaker.n_failure, 0);
}

/* --- choosing --------------------------------------------------------------------------------- */

static void test_a_target_that_lacks_a_capability_is_left_out(void **state)
{
    convo_add_tool(convo, SLICE("f"));
    models[1].capabilities = REGISTRY_CAN_TOOLS;
    start("ab");
    assert_string_equal(last()->url, "http://b/toy");
    answer(200, "text b;end");
    assert_seen("live(b/m#0/1) text(b) END() GW_OK");
}

static void test_without_a_capable_target_the_answer_names_what_is_missing(void **state)
{
    convo_add_tool(convo, SLICE("f"));
    start("ab");
    assert_seen("GW_EUNSUPPORTED");
    assert_int_equal(n_sent, 0);
    assert_true(slice_is(end_info.report->why, "The model a/m has no support for: tools."));
    assert_false(end_info.vendor_failed);
    assert_ptr_equal(end_info.model, &models[0]);
}

static void test_an_unlisted_model_is_taken_to_be_capable(void **state)
{
    convo_add_tool(convo, SLICE("f"));
    models[0].listed = false;
    start("a");
    assert_int_equal(n_sent, 1);
    op_cancel(&call);
}

static void test_a_context_that_is_too_short_is_refused_before_sending(void **state)
{
    models[0].context_tokens = 100;
    convo->max_tokens = 101;
    start("a");
    assert_seen("GW_EUNSUPPORTED");
    assert_non_null(strstr(end_info.report->why.p, "context length"));
    convo->max_tokens = 50;
    start("a");
    assert_int_equal(n_sent, 1);
    op_cancel(&call);
}

static void
test_a_translation_that_refuses_moves_on_and_is_told_when_nothing_else_is_left(void **state)
{
    models[0].name = SLICE("deaf");
    start("ab");
    assert_string_equal(last()->url, "http://b/toy");
    answer(200, "text b;end");
    assert_seen("live(b/m#1/1) text(b) END() GW_OK");
    models[1].name = SLICE("deaf2");
    start("ab");
    assert_seen("GW_EUNSUPPORTED");
    assert_true(slice_is(end_info.report->refused, "/ears"));
    assert_int_equal(value(M_PROVIDER_FALLBACKS, "a", "b", NULL), 0);
}

static void test_a_full_provider_is_skipped_and_all_full_is_overload(void **state)
{
    struct op *first;

    conf.provider_max_inflight = 1;
    start("a");
    first = call;
    start("ab");
    assert_string_equal(last()->url, "http://b/toy");
    op_cancel(&call);
    start("a");
    assert_seen("GW_EOVERLOAD");
    op_cancel(&first);
    start("a");
    assert_non_null(call);
    op_cancel(&call);
}

static void test_cheapest_and_least_latency_order_the_targets(void **state)
{
    models[0].pico_usd.input = -1;
    models[1].pico_usd.input = 5000000;
    request.route.strategy = SELECT_CHEAPEST;
    start("abc");
    assert_string_equal(last()->url, "http://c/toy");
    op_cancel(&call);
    request.route.strategy = SELECT_LEAST_LATENCY;
    start("a");
    advance(S);
    answer(200, "text a;end");
    buf_reset(&seen);
    start("abc");
    assert_string_equal(last()->url, "http://b/toy");
    op_cancel(&call);
}

static void test_no_target_at_all_is_a_model_not_found(void **state)
{
    start("");
    assert_seen("GW_EMODEL");
}

static void test_the_latency_of_errors_is_not_taken_for_speed(void **state)
{
    request.max_attempts = 1;
    start("a");
    answer(429, "x");
    assert_true(select_ewma_value(&state_of("a")->latency, now_us) <= 0);
    buf_reset(&seen);
    start("a");
    answer(200, "text a;end");
    assert_true(select_ewma_value(&state_of("a")->latency, now_us) > 0);
    buf_reset(&seen);
}

/* --- the breaker ------------------------------------------------------------------------------ */

static void
test_check_067_an_open_circuit_refuses_without_a_sending_then_one_probe_closes_it(void **state)
{
    struct op *probe;

    open_circuit("a");
    assert_int_equal(value(M_CIRCUIT_STATE, "a", NULL, NULL), BREAKER_OPEN);
    assert_int_equal(value(M_CIRCUIT_EVENTS, "a", "open", NULL), 1);
    advance(20 * S);
    start("a");
    assert_seen("GW_ECIRCUIT");
    assert_int_equal(n_sent, 0);
    assert_int_equal(end_info.retry_after_us, 40 * S);
    assert_int_equal(end_info.attempts, 0);
    assert_false(end_info.vendor_failed);
    advance(40 * S);
    request.deadline_us = now_us + 55 * (uint64_t)S;
    start("a");
    probe = call;
    assert_int_equal(n_sent, 1);
    for (unsigned i = 0; i < 1000; i++) {
        start("a");
        assert_null(call);
        buf_reset(&seen);
    }
    assert_int_equal(n_sent, 1);
    assert_int_equal(value(M_CIRCUIT_STATE, "a", NULL, NULL), BREAKER_HALF_OPEN);
    call = probe;
    answer(200, "text a;end");
    assert_seen("live(a/m#0/1) text(a) END() GW_OK");
    assert_int_equal(value(M_CIRCUIT_STATE, "a", NULL, NULL), BREAKER_CLOSED);
}

static void test_a_failed_probe_opens_the_circuit_again(void **state)
{
    open_circuit("a");
    advance(60 * S);
    request.deadline_us = now_us + 55 * (uint64_t)S;
    start("a");
    answer(503, "still down");
    assert_seen("GW_EUPSTREAM");
    start("a");
    assert_seen("GW_ECIRCUIT");
    assert_int_equal(n_sent, 1);
}

static void test_an_open_circuit_is_skipped_and_the_fallback_keeps_its_index(void **state)
{
    open_circuit("a");
    start("ab");
    assert_string_equal(last()->url, "http://b/toy");
    answer(200, "text b;end");
    assert_seen("live(b/m#1/1) text(b) END() GW_OK");
}

static void test_when_all_circuits_are_open_the_soonest_retry_is_told(void **state)
{
    open_circuit("a");
    advance(10 * S);
    open_circuit("b");
    advance(10 * S);
    start("ba");
    assert_seen("GW_ECIRCUIT");
    assert_int_equal(end_info.retry_after_us, 40 * S);
    assert_int_equal(n_sent, 0);
}

static void test_a_circuit_that_opens_during_the_backoff_ends_the_retries(void **state)
{
    start("ab");
    answer(500, "x");
    assert_int_equal(waiting_timers(), 1);
    breaker_force(&state_of("a")->breaker, BREAKER_OPEN, now_us);
    advance(S);
    assert_int_equal(n_sent, 2);
    assert_string_equal(last()->url, "http://b/toy");
    op_cancel(&call);
}

static void test_cancelling_a_probe_gives_its_place_back(void **state)
{
    open_circuit("a");
    advance(60 * S);
    request.deadline_us = now_us + 55 * (uint64_t)S;
    start("a");
    op_cancel(&call);
    assert_int_equal(state_of("a")->breaker.state, BREAKER_HALF_OPEN);
    start("a");
    assert_int_equal(n_sent, 2);
    answer(400, "bad"); /* no verdict on the provider either */
    assert_seen("GW_EUPREJECT");
    start("a");
    assert_int_equal(n_sent, 3);
    op_cancel(&call);
}

/* --- status, sharing, reload ------------------------------------------------------------------ */

static char status_text[256];

static void note_status(const struct provider_status *s, void *arg)
{
    size_t used = strlen(status_text);

    snprintf(status_text + used, sizeof(status_text) - used, "%s:%s:%u:%u ", s->name,
             breaker_state_name(s->state), s->failures, s->in_flight);
}

static const char *status(void)
{
    status_text[0] = '\0';
    provider_each(note_status, NULL);
    return status_text;
}

static void test_states_survive_a_reload_and_follow_the_registrys_order(void **state)
{
    fail_once("b");
    open_circuit("c");
    assert_string_equal(status(), "a:closed:0:0 b:closed:1:0 c:open:0:0 openai:closed:0:0 ");
    reg.providers = &providers[2];
    providers[2].next = &providers[1];
    providers[1].next = NULL;
    provider_adopt(&reg);
    assert_string_equal(status(), "c:open:0:0 b:closed:1:0 ");
    reg.providers = &providers[0];
    providers[0].next = &providers[2];
    provider_adopt(&reg);
    assert_string_equal(status(), "a:closed:0:0 c:open:0:0 b:closed:1:0 ");
}

static void test_a_circuit_is_reset_by_name(void **state)
{
    open_circuit("a");
    assert_false(provider_reset(SLICE("nobody")));
    assert_true(provider_reset(SLICE("a")));
    assert_true(provider_reset(SLICE("a")));
    assert_int_equal(value(M_CIRCUIT_STATE, "a", NULL, NULL), BREAKER_CLOSED);
    start("a");
    assert_int_equal(n_sent, 1);
    op_cancel(&call);
}

static char shared[256];

static void note_shared(const char *provider, enum breaker_state s, uint64_t opened_wall_us)
{
    size_t used = strlen(shared);

    snprintf(shared + used, sizeof(shared) - used, "%s:%s:%lld ", provider, breaker_state_name(s),
             opened_wall_us ? (long long)(loop_wall_us() - opened_wall_us) : -1);
}

static void test_our_own_changes_are_published_and_others_are_taken_over(void **state)
{
    struct provider_share share = {.changed = note_shared};

    shared[0] = '\0';
    provider_set_share(&share);
    open_circuit("a");
    provider_share_in(SLICE("b"), BREAKER_OPEN, loop_wall_us() - 20 * S);
    provider_share_in(SLICE("nobody"), BREAKER_OPEN, 0);
    start("b");
    assert_seen("GW_ECIRCUIT");
    assert_int_equal(end_info.retry_after_us, 40 * S);
    provider_share_in(SLICE("b"), BREAKER_CLOSED, 0);
    assert_int_equal(state_of("b")->breaker.state, BREAKER_CLOSED);
    provider_share_in(SLICE("c"), BREAKER_OPEN, loop_wall_us() + 3600ull * S);
    assert_int_equal(breaker_retry_in_us(&state_of("c")->breaker, &state_of("c")->config, now_us),
                     60 * S);
    provider_reset(SLICE("a"));
    assert_string_equal(shared, "a:open:0 a:closed:-1 ");
}

/* --- one probe for all processes -------------------------------------------------------------- */

static struct {
    struct op op; /* first member */
    bool out, cancelled;
    unsigned n, probes, n_released;
    uint64_t id, lease_us, released;
    void (*done)(uint64_t wait_us, void *arg);
    void *arg;
} claim;

static void on_claim_cancel(struct op *op)
{
    claim.out = false;
    claim.cancelled = true;
}

static struct op *note_claim(const char *provider, uint64_t id, unsigned probes, uint64_t lease_us,
                             void (*answered)(uint64_t wait_us, void *arg), void *arg)
{
    assert_string_equal(provider, "a");
    assert_false(claim.out);
    claim.op.cancel = on_claim_cancel;
    claim.out = true;
    claim.n++;
    claim.id = id;
    claim.probes = probes;
    claim.lease_us = lease_us;
    claim.done = answered;
    claim.arg = arg;
    return &claim.op;
}

static void note_release(const char *provider, uint64_t id)
{
    assert_string_equal(provider, "a");
    claim.n_released++;
    claim.released = id;
}

static void say_claim(uint64_t wait_us)
{
    assert_true(claim.out);
    claim.out = false;
    claim.done(wait_us, claim.arg);
    run();
}

/* The circuit of "a" may be probed, and a call waits for leave to. */
static void claim_begin(const char *targets)
{
    static const struct provider_share share = {note_shared, note_claim, note_release};

    memset(&claim, 0, sizeof(claim));
    provider_set_share(&share);
    open_circuit("a");
    assert_int_equal(claim.n, 0); /* a closed circuit asks nobody */
    advance(60 * S);
    shared[0] = '\0';
    request.deadline_us = now_us + 55 * (uint64_t)S;
    start(targets);
    assert_int_equal(n_sent, 0);
    assert_true(claim.out);
    assert_int_equal(claim.probes, 1);
    assert_int_equal(claim.lease_us, 55 * S);
}

static void test_check_067_a_probe_goes_out_once_it_is_granted(void **state)
{
    struct op *probe;

    claim_begin("a");
    probe = call;
    for (unsigned i = 0; i < 10; i++) {
        start("a");
        assert_seen("GW_ECIRCUIT");
        buf_reset(&seen);
    }
    assert_string_equal(shared, ""); /* nothing has changed yet */
    call = probe;
    say_claim(0);
    assert_int_equal(claim.n, 1);
    assert_int_equal(n_sent, 1);
    assert_string_equal(shared, "a:half_open:60000000 ");
    answer(200, "text a;end");
    assert_seen("live(a/m#0/1) text(a) END() GW_OK");
    assert_int_equal(state_of("a")->breaker.state, BREAKER_CLOSED);
    assert_int_equal(claim.n_released, 0); /* the key is gone */
}

static void test_check_067_a_probe_of_another_process_is_ours_too(void **state)
{
    claim_begin("a");
    say_claim(700000);
    assert_seen("GW_ECIRCUIT");
    assert_int_equal(end_info.retry_after_us, 700000);
    buf_reset(&seen);
    start("ab"); /* nobody is asked before the wait is over */
    assert_string_equal(last()->url, "http://b/toy");
    answer(200, "text b;end");
    buf_reset(&seen);
    assert_int_equal(claim.n, 1);
    assert_string_equal(shared, "");
    advance(700000);
    start("a");
    assert_int_equal(claim.n, 2);
    say_claim(0);
    assert_int_equal(n_sent, 2);
    answer(503, "still down");
    assert_int_equal(state_of("a")->breaker.state, BREAKER_OPEN);
    assert_int_equal(claim.n_released, 0);
    buf_reset(&seen);
}

static void test_a_call_that_may_not_probe_goes_to_its_next_target(void **state)
{
    claim_begin("ab");
    say_claim(1000000);
    assert_string_equal(last()->url, "http://b/toy");
    answer(200, "text b;end");
    assert_seen("live(b/m#1/1) text(b) END() GW_OK");
}

static void test_a_probe_without_a_verdict_is_given_back_to_all(void **state)
{
    claim_begin("a");
    say_claim(0);
    answer(400, "the client's own fault");
    assert_seen("GW_EUPREJECT");
    assert_int_equal(claim.n_released, 1);
    assert_true(claim.released == claim.id);
    buf_reset(&seen);
    start("a");
    say_claim(0);
    op_cancel(&call);
    assert_int_equal(claim.n_released, 2);
    assert_true(claim.released == claim.id);
}

static void test_a_client_that_leaves_while_it_is_asked_holds_no_probe(void **state)
{
    claim_begin("a");
    op_cancel(&call);
    assert_true(claim.cancelled);
    assert_true(claim.n_released == 1 && claim.released == claim.id);
    start("a"); /* it is asked anew */
    assert_int_equal(claim.n, 2);
    say_claim(0);
    assert_int_equal(n_sent, 1);
    answer(200, "text a;end");
    buf_reset(&seen);
}

static void test_what_changes_while_it_is_asked_counts(void **state)
{
    claim_begin("a");
    provider_share_in(SLICE("a"), BREAKER_CLOSED, 0);
    say_claim(1000000);
    assert_int_equal(n_sent, 1); /* no probe any more */
    answer(200, "text a;end");
    assert_seen("live(a/m#0/1) text(a) END() GW_OK");
    buf_reset(&seen);
    open_circuit("a");
    advance(60 * S);
    request.deadline_us = now_us + 55 * (uint64_t)S;
    start("a");
    provider_share_in(SLICE("a"), BREAKER_OPEN, loop_wall_us());
    say_claim(0);
    assert_seen("GW_ECIRCUIT");
    assert_int_equal(end_info.retry_after_us, 60 * S);
    assert_int_equal(claim.n_released, 1);
    buf_reset(&seen);
}

static void test_names_clients_invent_do_not_grow_the_state_for_ever(void **state)
{
    struct provider_state *s = state_of("a");
    struct registry_model m = {0};
    char name[32];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "model-%u", i);
        m.name = slice_cstr(name);
        (void)provider_model_of(s, &m);
    }
    assert_int_equal(s->n_unlisted, MAX_UNLISTED);
    assert_ptr_equal(provider_model_of(s, &m), s->other);
    m.name = SLICE("model-0");
    assert_ptr_not_equal(provider_model_of(s, &m), s->other);
}

static void test_a_listed_model_keeps_its_own_record_whatever_names_clients_invent(void **state)
{
    struct provider_state *s = state_of("a");
    struct registry_model m = {0};
    struct provider_model *first;
    char name[32];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "model-%u", i);
        m.name = slice_cstr(name);
        (void)provider_model_of(s, &m);
    }
    m = (struct registry_model){.name = SLICE("listed"), .listed = true};
    first = provider_model_of(s, &m);
    assert_ptr_not_equal(first, s->other);
    assert_true(slice_is(first->name, "listed"));
    assert_ptr_equal(provider_model_of(s, &m), first);
    assert_int_equal(s->n_unlisted, MAX_UNLISTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_4xx_of_the_callers_making_ends_the_call_at_once),
        TEST(test_check_065_a_refused_credential_moves_on_without_touching_the_breaker),
        TEST(test_a_model_the_vendor_does_not_know_moves_on),
        TEST(test_check_071_a_redirect_is_a_failure_and_never_followed),
        TEST(test_a_5xx_is_sent_again_after_a_backoff),
        TEST(test_attempts_per_target_are_limited_then_the_next_one_is_asked),
        TEST(test_check_068_the_retry_budget_ends_retries_on_the_same_target),
        TEST(test_a_clients_limit_of_attempts_holds_over_all_targets),
        TEST(test_check_066_retry_after_within_the_deadline_is_waited_for),
        TEST(test_check_066_retry_after_past_the_deadline_goes_to_the_caller),
        TEST(test_a_timeout_is_not_sent_to_the_same_target_again),
        TEST(test_nothing_is_sent_after_the_deadline),
        TEST(test_out_of_memory_ends_the_call),
        TEST(test_a_target_that_lacks_a_capability_is_left_out),
        TEST(test_without_a_capable_target_the_answer_names_what_is_missing),
        TEST(test_an_unlisted_model_is_taken_to_be_capable),
        TEST(test_a_context_that_is_too_short_is_refused_before_sending),
        TEST(test_a_translation_that_refuses_moves_on_and_is_told_when_nothing_else_is_left),
        TEST(test_a_full_provider_is_skipped_and_all_full_is_overload),
        TEST(test_cheapest_and_least_latency_order_the_targets),
        TEST(test_no_target_at_all_is_a_model_not_found),
        TEST(test_the_latency_of_errors_is_not_taken_for_speed),
        TEST(test_check_067_an_open_circuit_refuses_without_a_sending_then_one_probe_closes_it),
        TEST(test_a_failed_probe_opens_the_circuit_again),
        TEST(test_an_open_circuit_is_skipped_and_the_fallback_keeps_its_index),
        TEST(test_when_all_circuits_are_open_the_soonest_retry_is_told),
        TEST(test_a_circuit_that_opens_during_the_backoff_ends_the_retries),
        TEST(test_cancelling_a_probe_gives_its_place_back),
        TEST(test_states_survive_a_reload_and_follow_the_registrys_order),
        TEST(test_a_circuit_is_reset_by_name),
        TEST(test_check_067_a_probe_goes_out_once_it_is_granted),
        TEST(test_check_067_a_probe_of_another_process_is_ours_too),
        TEST(test_a_call_that_may_not_probe_goes_to_its_next_target),
        TEST(test_a_probe_without_a_verdict_is_given_back_to_all),
        TEST(test_a_client_that_leaves_while_it_is_asked_holds_no_probe),
        TEST(test_what_changes_while_it_is_asked_counts),
        TEST(test_our_own_changes_are_published_and_others_are_taken_over),
        TEST(test_names_clients_invent_do_not_grow_the_state_for_ever),
        TEST(test_a_listed_model_keeps_its_own_record_whatever_names_clients_invent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
