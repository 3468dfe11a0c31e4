/*
 * test_admit.c - admission with real accounts and no Redis: what is refused and in which words,
 * what is held and given back, who may use which model.
 */
#include "tests/unit/middleware_harness.h"
#include "tests/unit/turns.h"

#include "handlers/admit.h"
#include "handlers/admit_refuse.h"
#include "providers/dialect/anthropic.h"
#include "storage/principal.h"

static const struct registry_provider provider = {.name = "p"};
static const struct registry_model priced = {.id = SLICE("p/m"),
                                             .name = SLICE("m"),
                                             .provider = &provider,
                                             .max_output_tokens = 1000,
                                             .pico_usd = {1000000, 10000000, -1, -1}};
static const struct registry_model unpriced = {.id = SLICE("p/new"),
                                               .name = SLICE("new"),
                                               .provider = &provider,
                                               .pico_usd = {-1, -1, -1, -1}};
static const struct route route = {.method = HTTP_POST,
                                   .path = "/v1/chat/completions",
                                   .surface = SURFACE_OPENAI,
                                   .access = ACCESS_PUBLIC,
                                   .rate = RATE_AI};

/* --- helpers -------------------------------------------------------------------------------- */

struct room {
    struct principal who;
    struct registry_route targets;
    struct admit_ask ask;
    struct request *req;
    bool done;
    struct admission *admission;
};

static void on_done(struct admission *a, void *arg)
{
    struct room *r = arg;

    assert_false(r->done);
    r->done = true;
    r->admission = a;
}

/* A key with a day's budget asks for 100 tokens of input and 50 of output: 600,000 nano-USD. */
static void room_init(struct room *r, const char *id, int64_t limit)
{
    *r = (struct room){.who = {.refs = 1, .kind = PRINCIPAL_KEY, .n_budget_scopes = 1}};
    snprintf(r->who.scopes_of_budget[0].id, sizeof(r->who.scopes_of_budget[0].id), "%s", id);
    r->who.scopes_of_budget[0].limit_nano_usd = limit;
    r->who.scopes_of_budget[0].period = BUDGET_DAY;
    r->targets = (struct registry_route){.n_targets = 1};
    r->targets.targets[0].model = &priced;
    r->ask = (struct admit_ask){.asked_model = SLICE("p/m"),
                                .route = &r->targets,
                                .input_tokens = 100,
                                .likely_input_tokens = 75,
                                .output_tokens = 50,
                                .purpose = "chat"};
}

static void admit(struct room *r)
{
    r->req = request_of(&route);
    r->req->principal = &r->who;
    r->done = false;
    assert_non_null(admit_begin(r->req, &r->ask, on_done, r));
    assert_false(r->done);
    turn_until(r->done);
}

static void assert_answer(struct room *r, int status, const char *text)
{
    assert_null(r->admission);
    assert_int_equal(r->req->status, status);
    assert_in(conn.sent, text);
    drop(r->req);
}

/* Admitted; nothing has been answered. Ends without a call. */
static void assert_admitted(struct room *r)
{
    assert_non_null(r->admission);
    assert_int_equal(conn.answers, 0);
    admit_release(r->admission);
    drop(r->req);
}

/* Admitted, and `input` tokens were used. */
static void assert_spends(struct room *r, uint64_t input)
{
    struct provider_call_info info = {.model = &priced, .attempts = 1, .first_event_us = 1};
    struct convo_usage usage = {.known = true, .input = input};
    struct admit_outcome out = {.info = &info, .usage = &usage};

    assert_non_null(r->admission);
    admit_settle(r->req, r->admission, &r->ask, &out);
    drop(r->req);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_nobody_known_and_no_limits_pass(void **state)
{
    struct room r;

    room_init(&r, "key:none", -1);
    r.who.n_budget_scopes = 0;
    admit(&r);
    assert_string_equal(out_header(r.req, "X-Postern-Budget-Left-Usd"), "");
    assert_admitted(&r);
}

static void test_what_is_left_is_told_and_what_is_not_used_comes_back(void **state)
{
    struct room r;

    room_init(&r, "key:left", 1000000);
    admit(&r);
    assert_string_equal(out_header(r.req, "X-Postern-Budget-Left-Usd"), "0.000400000");
    assert_spends(&r, 30);
    admit(&r);
    assert_string_equal(out_header(r.req, "X-Postern-Budget-Left-Usd"), "0.000370000");
    assert_admitted(&r);
    admit(&r);
    assert_string_equal(out_header(r.req, "X-Postern-Budget-Left-Usd"), "0.000370000");
    assert_admitted(&r);
}

static void test_what_is_left_is_known_before_it_is_booked(void **state)
{
    struct provider_call_info info = {.model = &priced, .attempts = 1};
    struct convo_usage usage = {.known = true, .input = 30};
    struct room r;

    room_init(&r, "key:told", 1000000);
    admit(&r);
    admit_set_headers(r.req, r.admission, &info, &usage);
    assert_string_equal(out_header(r.req, "X-Postern-Budget-Left-Usd"), "0.000970000");
    usage.input = 2000; /* twice the budget */
    admit_set_headers(r.req, r.admission, &info, &usage);
    assert_string_equal(out_header(r.req, "X-Postern-Budget-Left-Usd"), "0.000000000");
    assert_spends(&r, 2000);
    admit(&r);
    assert_answer(&r, 402, "of which $0.00 is left");
}

static void test_a_refusal_says_whose_how_much_and_until_when(void **state)
{
    struct room r;

    room_init(&r, "key:small", 900000);
    admit(&r);
    assert_spends(&r, 400);
    admit(&r);
    assert_in(conn.sent, "HTTP/1.1 402 ");
    assert_in(conn.sent, "\"code\":\"budget-exceeded\"");
    assert_in(conn.sent, "\"type\":\"insufficient_quota\"");
    assert_string_not_equal(out_header(r.req, "Retry-After"), "");
    assert_answer(
        &r, 402,
        "The daily budget of this key is $0.0009, of which $0.0005 is left; this call may "
        "cost up to $0.0006. It resets at ");
}

static void test_a_call_dearer_than_the_budget_need_not_come_again(void **state)
{
    struct room r;

    room_init(&r, "team:tiny", 599999);
    admit(&r);
    assert_string_equal(out_header(r.req, "Retry-After"), "");
    assert_answer(&r, 402, "The daily budget of this team is $0.000599999");
}

static void test_a_total_does_not_reset(void **state)
{
    struct room r;

    room_init(&r, "key:total", 700000);
    r.who.scopes_of_budget[0].period = BUDGET_TOTAL;
    r.ask.output_tokens = 0;
    admit(&r);
    assert_in(conn.sent, "A limit on its output tokens makes a call cheaper.");
    assert_answer(&r, 402,
                  "The budget of this key is $0.0007, of which $0.0007 is left; this call may "
                  "cost up to $0.0101. It does not reset.");
}

static void test_tokens_a_minute_are_a_rate(void **state)
{
    struct room r;

    room_init(&r, "key:rate", -1);
    r.who.scopes_of_budget[0].tokens_per_minute = 200;
    admit(&r);
    assert_string_equal(out_header(r.req, "X-RateLimit-Limit-Tokens"), "200");
    assert_string_equal(out_header(r.req, "X-RateLimit-Remaining-Tokens"), "50");
    assert_spends(&r, 150);
    admit(&r);
    assert_string_equal(out_header(r.req, "X-RateLimit-Remaining-Tokens"), "50");
    assert_string_equal(out_header(r.req, "Retry-After"), "30");
    assert_answer(
        &r, 429,
        "This key may use 200 tokens a minute, of which 50 are left now; this call may use "
        "up to 150.");
}

static void test_a_model_without_a_price_is_named(void **state)
{
    struct room r;

    room_init(&r, "key:price", 1000000);
    r.targets.targets[0].model = &unpriced;
    admit(&r);
    assert_answer(&r, 400, "The price of the model p/new is unknown");
    room_init(&r, "key:price", 1000000); /* beside one with a price it is left out */
    r.targets.targets[1].model = &priced;
    r.targets.targets[0].model = &unpriced;
    r.targets.n_targets = 2;
    admit(&r);
    assert_int_equal(r.targets.n_targets, 1);
    assert_ptr_equal(r.targets.targets[0].model, &priced);
    assert_admitted(&r);
    room_init(&r, "key:price", -1); /* who has no budget may */
    r.who.scopes_of_budget[0].tokens_per_minute = 100000;
    r.targets.targets[0].model = &unpriced;
    admit(&r);
    assert_admitted(&r);
    conf->budget_unknown_price = SLICE("allow");
    room_init(&r, "key:price", 1000000);
    r.targets.targets[0].model = &unpriced;
    admit(&r);
    assert_admitted(&r);
}

static void test_a_cancelled_admission_holds_nothing(void **state)
{
    struct room r;
    struct op *op;

    room_init(&r, "key:cancel", 600000);
    r.req = request_of(&route);
    r.req->principal = &r.who;
    op = admit_begin(r.req, &r.ask, on_done, &r);
    op_cancel(&op);
    drop(r.req); /* and a turn */
    assert_false(r.done);
    admit(&r);
    assert_admitted(&r);
}

/* A vector for the semantic cache: the client has not asked for it. */
static void test_a_call_aside_is_refused_without_a_word(void **state)
{
    static const struct registry_model *const models[] = {&priced, &unpriced};
    struct metric_series *m = metrics_get(M_BUDGET_REFUSED, "key", NULL, NULL);
    int64_t before = metrics_value(m);
    struct room r;

    for (unsigned i = 0; i < 2; i++) {
        room_init(&r, "key:aside", 599999);
        r.targets.targets[0].model = models[i];
        r.ask.aside = true;
        admit(&r);
        assert_null(r.admission);
        assert_int_equal(conn.answers, 0);
        assert_int_equal(r.req->n_out, 0);
        drop(r.req);
    }
    assert_int_equal(metrics_value(m), before);
    room_init(&r, "key:aside", 1000000);
    r.ask.aside = true;
    r.who.scopes_of_budget[0].tokens_per_minute = 1000;
    admit(&r);
    assert_int_equal(r.req->n_out, 0);
    assert_admitted(&r);
}

/* What goes out to Anthropic never allows more than was reserved. */
static void test_the_room_that_is_made_for_thoughts_is_reserved(void **state)
{
    static const int64_t limits[] = {1, 2, 1023, 1024, 1025, 1026, 5000, 100000};
    struct arena *a = arena_create(1 << 20);
    struct convo *c = convo_new(a);
    struct registry_route none = {.n_targets = 0};
    unsigned raised = 0;

    for (unsigned i = 0; i < 8; i++)
        for (int effort = CONVO_EFFORT_UNSET; effort <= CONVO_EFFORT_MAX; effort++)
            for (int64_t budget = -1; budget < 100000; budget += 33333) {
                struct convo_report rep = {0};
                struct anthropic_plan plan;
                int64_t reserved;

                c->max_tokens = limits[i];
                c->effort = (enum convo_effort)effort;
                c->thinking_budget = budget;
                assert_int_equal(anthropic_plan(a, c, &priced, &plan, &rep), GW_OK);
                reserved = admit_ask_chat(c, SLICE("{}"), &none).output_tokens;
                assert_true(plan.max_tokens <= reserved);
                assert_true(reserved <= limits[i] + 1024);
                raised += plan.max_tokens > limits[i];
            }
    assert_true(raised > 10);
    c->max_tokens = INT64_MAX;
    assert_true(admit_ask_chat(c, SLICE("{}"), &none).output_tokens == INT64_MAX);
    c->max_tokens = 0;
    assert_int_equal(admit_ask_chat(c, SLICE("{}"), &none).output_tokens, 0);
    arena_destroy(a);
}

static void test_a_share_that_is_passed_is_logged_and_counted(void **state)
{
    struct room r;
    struct metric_series *m = metrics_get(M_BUDGET_ALERTS, "key", "80", NULL);
    int64_t before = metrics_value(m);

    room_init(&r, "key:alert", 1000000);
    admit(&r);
    assert_spends(&r, 799);
    assert_not_in(log_text, "budget_share_passed");
    r.ask.input_tokens = 10;
    r.ask.output_tokens = 1;
    admit(&r);
    assert_spends(&r, 1);
    assert_in(log_text, "warn budget_share_passed");
    assert_in(log_text, "scope=key:alert percent=80 period=day spent_nano_usd=800000");
    assert_int_equal(metrics_value(m), before + 1);
}

/* --- frame ---------------------------------------------------------------------------------- */

uint64_t __real_loop_clock_us(void);

static void keep(void *attached)
{
}

static int enter_room(void **state)
{
    static struct registry registry;

    now_us = __real_loop_clock_us(); /* timers know the real time */
    if (enter(state) || budget_init())
        return -1;
    conf->attached = &registry;
    conf->attached_free = keep;
    budget_on_alert(admit_alert);
    return 0;
}

static int leave_room(void **state)
{
    budget_deinit();
    return leave(state);
}

#undef T
#define T(name) cmocka_unit_test_setup_teardown(name, enter_room, leave_room)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_nobody_known_and_no_limits_pass),
        T(test_what_is_left_is_told_and_what_is_not_used_comes_back),
        T(test_what_is_left_is_known_before_it_is_booked),
        T(test_a_refusal_says_whose_how_much_and_until_when),
        T(test_a_call_dearer_than_the_budget_need_not_come_again),
        T(test_a_total_does_not_reset),
        T(test_tokens_a_minute_are_a_rate),
        T(test_a_model_without_a_price_is_named),
        T(test_a_cancelled_admission_holds_nothing),
        T(test_a_call_aside_is_refused_without_a_word),
        T(test_the_room_that_is_made_for_thoughts_is_reserved),
        T(test_a_share_that_is_passed_is_logged_and_counted),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
