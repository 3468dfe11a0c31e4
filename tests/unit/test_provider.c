/*
 * test_provider.c - the call path, driven by a scripted transport, a clock that only moves when
 * told, and two toy dialects ("openai", passed through where inbound, and "other", translated).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Everything the flow reaches the world with is replaced. */
#define loop_now_us t_now_us
#define loop_clock_us t_clock_us
#define loop_wall_us t_wall_us
#define loop_defer t_defer
#define loop_undefer t_undefer
#define loop_timer_init t_timer_init
#define loop_timer_set t_timer_set
#define loop_timer_stop t_timer_stop
#define rng_u64 t_rng_u64
#define rng_hex t_rng_hex
#define transport_start t_transport_start
#define transport_pause t_transport_pause
#define transport_resume t_transport_resume
#define transport_set_deadline t_transport_set_deadline
#define dialect_openai t_openai

#include "providers/provider.c"
#include "providers/provider_answer.c"
#include "providers/provider_call.c"

#include <stdlib.h>

#define S 1000000u

/* --- the clock, timers, deferred calls -------------------------------------------------------- */

static uint64_t now_us;
static TAILQ_HEAD(, loop_deferred) deferred = TAILQ_HEAD_INITIALIZER(deferred);
static struct loop_timer *timers[16];

uint64_t loop_now_us(void)
{
    return now_us;
}

uint64_t loop_clock_us(void)
{
    return now_us;
}

uint64_t loop_wall_us(void)
{
    return now_us + 1000000000000u;
}

void loop_defer(struct loop_deferred *d, void (*fn)(void *), void *arg)
{
    d->fn = fn;
    d->arg = arg;
    if (!d->queued)
        TAILQ_INSERT_TAIL(&deferred, d, link);
    d->queued = true;
}

void loop_undefer(struct loop_deferred *d)
{
    if (d->queued)
        TAILQ_REMOVE(&deferred, d, link);
    d->queued = false;
}

void loop_timer_init(struct loop_timer *t, void (*fn)(void *), void *arg)
{
    t->fn = fn;
    t->arg = arg;
    t->due_us = 0;
}

void loop_timer_set(struct loop_timer *t, uint64_t due_us)
{
    unsigned i = 0;

    t->due_us = due_us;
    while (timers[i] && timers[i] != t)
        assert_true(++i < 16);
    timers[i] = t;
}

void loop_timer_stop(struct loop_timer *t)
{
    for (unsigned i = 0; i < 16; i++)
        if (timers[i] == t)
            timers[i] = NULL;
    t->due_us = 0;
}

static void run(void)
{
    struct loop_deferred *d;

    while ((d = TAILQ_FIRST(&deferred))) {
        loop_undefer(d);
        d->fn(d->arg);
    }
}

static void advance(uint64_t us)
{
    now_us += us;
    for (unsigned i = 0; i < 16; i++) {
        struct loop_timer *t = timers[i];

        if (!t || t->due_us > now_us)
            continue;
        timers[i] = NULL;
        t->fn(t->arg);
    }
    run();
}

static unsigned waiting_timers(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        n += timers[i] != NULL;
    return n;
}

static uint64_t next_random;

uint64_t rng_u64(void)
{
    return next_random;
}

void rng_hex(char *to, size_t n_bytes)
{
    static char next = 'a';

    memset(to, next, 2 * n_bytes);
    next = next == 'z' ? 'a' : (char)(next + 1);
}

/* --- the transport ---------------------------------------------------------------------------- */

struct sent {
    struct op op;
    const struct transport_callbacks *cb;
    void *arg;
    bool over, cancelled, paused;
    bool stream;
    uint64_t deadline_us, gap_us;
    char url[128], body[128], headers[1024];
};

static struct sent sent[64];
static unsigned n_sent;
static bool transport_is_out_of_memory;

static void sent_cancel(struct op *op)
{
    struct sent *t = (struct sent *)op;

    assert_false(t->over);
    t->over = t->cancelled = true;
}

static void copy_text(char *to, size_t cap, struct slice s)
{
    assert_true(s.n < cap);
    memcpy(to, s.p, s.n);
    to[s.n] = '\0';
}

struct op *transport_start(const struct transport_request *req,
                           const struct transport_callbacks *cb, void *arg)
{
    struct sent *t = &sent[n_sent];
    size_t used = 0;

    if (transport_is_out_of_memory)
        return NULL;
    assert_true(n_sent < 64);
    n_sent++;
    *t = (struct sent){.cb = cb, .arg = arg, .stream = req->stream};
    t->op.cancel = sent_cancel;
    t->deadline_us = req->deadline_us;
    t->gap_us = req->gap_timeout_us;
    copy_text(t->url, sizeof(t->url), req->url);
    copy_text(t->body, sizeof(t->body), req->body);
    for (unsigned i = 0; i < req->n_headers; i++)
        used += (size_t)snprintf(t->headers + used, sizeof(t->headers) - used, "%.*s: %.*s\n",
                                 SLICE_ARG(req->headers[i].name), SLICE_ARG(req->headers[i].value));
    return &t->op;
}

void transport_pause(struct op *op)
{
    ((struct sent *)op)->paused = true;
}

void transport_resume(struct op *op)
{
    ((struct sent *)op)->paused = false;
}

void transport_set_deadline(struct op *op, uint64_t deadline_us)
{
    assert_false(((struct sent *)op)->over);
    ((struct sent *)op)->deadline_us = deadline_us;
}

static struct sent *last(void)
{
    assert_true(n_sent > 0);
    return &sent[n_sent - 1];
}

static void head(int status, const char *retry_after)
{
    struct transport_head h = {.status = status, .content_type = SLICE("text/x-toy")};

    h.retry_after = slice_cstr(retry_after);
    assert_false(last()->over);
    last()->cb->on_head(&h, last()->arg);
}

/* Bytes that are gone after the call, as the transport's are. */
static void data(const char *text)
{
    char *copy = strdup(text);

    assert_false(last()->over);
    last()->cb->on_data(slice_cstr(copy), last()->arg);
    memset(copy, '#', strlen(copy));
    free(copy);
}

static void done(enum gw_err err)
{
    struct transport_result res = {0};
    struct sent *t = last();

    assert_false(t->over);
    t->over = true;
    t->cb->on_done(err, &res, t->arg);
    run();
}

static void answer(int status, const char *body)
{
    head(status, NULL);
    data(body);
    done(GW_OK);
}

/* --- toy dialects ----------------------------------------------------------------------------- */

static enum gw_err other_encode(const struct convo *c, const struct registry_model *m,
                                struct dialect_request *out, struct convo_report *rep)
{
    convo_drop(rep, "toy_field");
    if (slice_starts(m->name, "deaf"))
        return convo_refuse(rep, GW_EUNSUPPORTED, SLICE("/ears"), SLICE("deaf models cannot hear"));
    if (slice_starts(m->name, "nomem"))
        return GW_ENOMEM;
    out->path = SLICE("/toy");
    out->headers[out->n_headers++] = (struct dialect_header){SLICE("key"), m->provider->api_key};
    buf_add_cstr(out->body, "model=");
    buf_add_slice(out->body, m->name);
    return GW_OK;
}

static enum gw_err toy_event(struct slice line, convo_event_fn fn, void *arg)
{
    struct convo_event ev = {.id = SLICE("id1"), .model = SLICE("m1")};
    size_t space = slice_find(line, ' ');

    ev.text = slice_from(line, space + 1);
    line.n = space;
    if (slice_is(line, "start"))
        ev.kind = CONVO_EV_START;
    else if (slice_is(line, "text"))
        ev.kind = CONVO_EV_TEXT;
    else if (slice_is(line, "ping"))
        ev.kind = CONVO_EV_PING;
    else if (slice_is(line, "finish"))
        ev.kind = CONVO_EV_FINISH;
    else if (slice_is(line, "end"))
        ev.kind = CONVO_EV_END;
    else if (slice_is(line, "usage"))
        ev.kind = CONVO_EV_USAGE;
    else if (slice_is(line, "error"))
        ev.kind = CONVO_EV_ERROR;
    else
        return GW_EUPBAD;
    ev.err = GW_EUPRATE;
    if (ev.kind == CONVO_EV_USAGE)
        ev.usage = (struct convo_usage){true, ev.text.n, 0, 0, 2, 0};
    return fn(&ev, arg);
}

static enum gw_err other_decode(struct arena *a, const struct convo *asked,
                                const struct registry_model *m, struct slice body,
                                convo_event_fn fn, void *arg)
{
    enum gw_err err = GW_OK;

    while (!err && body.n) {
        size_t end = slice_find(body, ';');

        err = toy_event(slice_of(body.p, end), fn, arg);
        body = slice_from(body, end + 1);
    }
    return err;
}

static struct dialect_decoder *other_decoder_new(struct arena *a, const struct convo *asked,
                                                 const struct registry_model *m)
{
    return arena_alloc(a, 1);
}

static enum gw_err other_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                      convo_event_fn fn, void *arg)
{
    if (slice_is(ev->data, "willend")) {
        *(char *)d = 1;
        return GW_OK;
    }
    return toy_event(ev->data, fn, arg);
}

static enum gw_err other_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg)
{
    return *(char *)d ? toy_event(SLICE("end"), fn, arg) : GW_OK;
}

static void toy_error(struct arena *a, int status, struct slice body, struct dialect_error *ret)
{
    *ret = (struct dialect_error){.status = status, .message = body};
    ret->err = status == 429                    ? GW_EUPRATE
               : status == 401 || status == 403 ? GW_EUPAUTH
               : status == 404                  ? GW_EMODEL
               : status == 413                  ? GW_ETOOBIG
               : status >= 500                  ? GW_EUPSTREAM
                                                : GW_EUPREJECT;
}

static enum gw_err toy_embed(struct arena *a, const struct dialect_embed_request *r,
                             const struct registry_model *m, struct dialect_request *out,
                             struct convo_report *rep)
{
    out->path = SLICE("/embed");
    buf_add_cstr(out->body, "embed");
    return GW_OK;
}

static enum gw_err toy_embed_answer(struct arena *a, struct slice body,
                                    struct dialect_embed_answer *ret)
{
    ret->n = (unsigned)body.n;
    ret->usage = (struct convo_usage){.known = true, .input = 5};
    return slice_starts(body, "v") ? GW_OK : GW_EUPBAD;
}

static enum gw_err openai_encode(const struct convo *c, const struct registry_model *m,
                                 struct dialect_request *out, struct convo_report *rep)
{
    out->path = SLICE("/translated");
    buf_add_cstr(out->body, "x");
    return GW_OK;
}

static enum gw_err openai_request(struct arena *a, const struct registry_model *m, bool stream,
                                  struct dialect_request *out)
{
    out->path = SLICE("/chat");
    return GW_OK;
}

static enum gw_err toy_pass_body(struct json root, const struct registry_model *m, bool stream,
                                 struct buf *out)
{
    buf_printf(out, "pass:%.*s:%d", SLICE_ARG(m->name), stream);
    return buf_err(out);
}

/* role, content, finish, usage, error, [DONE]; anything else is garbage */
static enum gw_err toy_pass_event(struct slice data_, struct arena *scratch,
                                  struct dialect_pass_info *ret)
{
    ret->done = slice_is(data_, "[DONE]");
    ret->has_content = slice_starts(data_, "content");
    ret->finish = slice_starts(data_, "finish");
    ret->error = slice_starts(data_, "error");
    ret->has_usage = ret->usage_only = slice_starts(data_, "usage");
    if (ret->has_usage)
        ret->usage = (struct convo_usage){true, 7, 0, 0, 3, 0};
    if (ret->error)
        ret->text = data_;
    return ret->done || ret->has_content || ret->finish || ret->error || ret->usage_only ||
                   slice_starts(data_, "role")
               ? GW_OK
               : GW_EUPBAD;
}

static enum gw_err toy_pass_answer(struct arena *scratch, struct slice body,
                                   struct convo_usage *ret)
{
    *ret = (struct convo_usage){true, 3, 0, 0, 4, 0};
    return slice_starts(body, "{") ? GW_OK : GW_EUPBAD;
}

const struct dialect dialect_openai = {
    .name = "openai",
    .encode_request = openai_encode,
    .pass_request = openai_request,
    .decode_answer = other_decode,
    .decoder_new = other_decoder_new,
    .decode_event = other_decode_event,
    .decode_end = other_decode_end,
    .decode_error = toy_error,
    .encode_embed = toy_embed,
    .decode_embed = toy_embed_answer,
    .pass_body = toy_pass_body,
    .pass_event = toy_pass_event,
    .pass_answer = toy_pass_answer,
};

static const struct dialect other = {
    .name = "other",
    .encode_request = other_encode,
    .decode_answer = other_decode,
    .decoder_new = other_decoder_new,
    .decode_event = other_decode_event,
    .decode_end = other_decode_end,
    .decode_error = toy_error,
};

/* --- one call and what the sink saw ----------------------------------------------------------- */

static struct buf seen;
static struct op *call;
static unsigned callbacks_left; /* cancels in the callback that counts it down to 0 */
static struct provider_call_info end_info;
static struct convo_usage end_usage;
static char end_vendor[128];

/* After cancelling no callback runs, but this one may still look at what it was given. */
static void count_callback(struct slice given)
{
    assert_non_null(call);
    if (callbacks_left && --callbacks_left == 0)
        op_cancel(&call);
    if (given.n)
        buf_add_char(&seen, given.p[given.n - 1]);
    seen.n -= given.n ? 1 : 0;
}

static void sink_live(const struct provider_call_info *info, void *arg)
{
    buf_printf(&seen, "live(%.*s#%u/%u) ", SLICE_ARG(info->model->id), info->fallback_index,
               info->attempts);
    count_callback(SLICE_NONE);
}

static enum gw_err sink_event(const struct convo_event *ev, void *arg)
{
    static const char *const names[] = {
        [CONVO_EV_START] = "start",   [CONVO_EV_TEXT] = "text", [CONVO_EV_USAGE] = "usage",
        [CONVO_EV_FINISH] = "finish", [CONVO_EV_PING] = "ping", [CONVO_EV_END] = "END",
    };

    buf_printf(&seen, "%s(%.*s) ", names[ev->kind],
               SLICE_ARG(ev->kind == CONVO_EV_START ? ev->id : ev->text));
    count_callback(ev->text);
    return slice_is(ev->text, "toobig") ? GW_ETOOBIG : GW_OK;
}

static void sink_bytes(struct slice bytes, void *arg)
{
    buf_printf(&seen, "<%.*s> ", SLICE_ARG(bytes));
    count_callback(bytes);
}

static void sink_embed(const struct dialect_embed_answer *ans, void *arg)
{
    buf_printf(&seen, "embed(%u) ", ans->n);
    count_callback(SLICE_NONE);
}

static void sink_end(enum gw_err err, const struct provider_call_info *info,
                     const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    assert_non_null(call);
    call = NULL;
    end_info = *info;
    end_usage = *usage;
    snprintf(end_vendor, sizeof(end_vendor), "%.*s",
             SLICE_ARG(vendor ? vendor->message : SLICE_NONE));
    buf_printf(&seen, "%s", err_info(err)->name);
}

static const struct provider_sink sink = {sink_live, sink_event, sink_bytes, sink_embed, sink_end};

static struct registry_provider providers[4];
static struct registry_model models[4];
static struct registry reg;
static struct conf conf;
static struct arena *arena;
static struct convo *convo;
static struct provider_call_request request;
static struct json_doc doc;

static void assert_seen(const char *wanted)
{
    buf_add_char(&seen, '\0');
    assert_string_equal(seen.p, wanted);
    buf_reset(&seen);
}

/* Providers a, b, c of the toy dialect "other" and `openai`; one model each, "a/m" and so on. */
static int set_up(void **state)
{
    static const char *const names[] = {"a", "b", "c", "openai"};
    static const char *const urls[] = {"http://a", "http://b", "http://c", "http://openai"};
    static const char *const ids[] = {"a/m", "b/m", "c/m", "openai/gpt"};

    assert_int_equal(metrics_init(1), GW_OK);
    assert_int_equal(provider_init(), GW_OK);
    now_us = 1000 * (uint64_t)S;
    n_sent = 0;
    next_random = 0;
    transport_is_out_of_memory = false;
    buf_init(&seen, 1u << 20);
    callbacks_left = 0;
    conf = (struct conf){.provider_connect_ms = 1000,
                         .provider_first_byte_s = 20,
                         .provider_max_response_mb = 1,
                         .provider_max_inflight = 100,
                         .stream_gap_s = 30,
                         .retry_attempts = 3,
                         .retry_base_ms = 100,
                         .retry_max_ms = 1000,
                         .retry_budget_percent = 20};
    for (unsigned i = 0; i < 4; i++) {
        providers[i] = (struct registry_provider){
            .next = i < 3 ? &providers[i + 1] : NULL,
            .name = names[i],
            .dialect = i == 3 ? &dialect_openai : &other,
            .base_url = slice_cstr(urls[i]),
            .api_key = SLICE("sk-secret"),
            .enabled = true,
            .has_embeddings = true,
            .breaker = {.failure_threshold = 3, .recovery_us = 60 * S, .probes = 1},
        };
        models[i] = (struct registry_model){.id = slice_cstr(ids[i]),
                                            .name = i == 3 ? SLICE("gpt") : SLICE("m"),
                                            .provider = &providers[i],
                                            .listed = true,
                                            .pico_usd = {1000000, 2000000, -1, -1}};
    }
    reg = (struct registry){.providers = &providers[0]};
    provider_adopt(&reg);
    arena = arena_create(1u << 22);
    convo = convo_new(arena);
    request = (struct provider_call_request){.arena = arena,
                                             .conf = &conf,
                                             .convo = convo,
                                             .deadline_us = now_us + 55 * (uint64_t)S,
                                             .request_id = SLICE("rid-1"),
                                             .traceparent = SLICE("00-t-s-01")};
    return 0;
}

static int tear_down(void **state)
{
    assert_null(call);
    assert_int_equal(waiting_timers(), 0);
    assert_true(TAILQ_EMPTY(&deferred));
    for (unsigned i = 0; i < n_sent; i++)
        assert_true(sent[i].over);
    for (struct provider_state *s = states; s; s = s->next) {
        assert_int_equal(s->in_flight, 0);
        assert_int_equal(s->breaker.probing, 0);
        assert_int_equal(metrics_value(s->m_in_flight), 0);
    }
    arena_destroy(arena);
    buf_deinit(&seen);
    provider_deinit();
    metrics_deinit();
    return 0;
}

static void start(const char *targets)
{
    request.route.n_targets = 0;
    for (; *targets; targets++)
        request.route.targets[request.route.n_targets++] = (struct registry_target){
            .model = &models[*targets == 'o' ? 3 : *targets - 'a'], .weight = 1};
    call = provider_call(&request, &sink, NULL);
    assert_non_null(call);
    assert_int_equal(seen.n, 0);
    run();
}

static void start_stream(const char *targets)
{
    convo->stream = true;
    start(targets);
}

static void pass_through(void)
{
    static struct json_token token = {.type = JSON_OBJECT};

    doc = (struct json_doc){.src = "{}", .tokens = &token, .n = 1};
    request.inbound = &dialect_openai;
    request.body = (struct json){&doc, 0};
}

static int64_t value(enum metric m, const char *a, const char *b, const char *c)
{
    return metrics_value(metrics_get(m, a, b, c));
}

static struct provider_state *state_of(const char *name)
{
    return provider_state_of(name);
}

/* Fails one call to the provider for good, without retries. */
static void fail_once(const char *target)
{
    request.max_attempts = 1;
    start(target);
    answer(500, "down");
    request.max_attempts = 0;
    buf_reset(&seen);
}

static void open_circuit(const char *target)
{
    while (state_of(target)->breaker.state != BREAKER_OPEN)
        fail_once(target);
    n_sent = 0;
}

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

static void test_names_clients_invent_do_not_grow_the_state_for_ever(void **state)
{
    struct provider_state *s = state_of("a");
    char name[32];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "model-%u", i);
        (void)provider_model_of(s, slice_cstr(name));
    }
    assert_int_equal(s->n_models, MAX_MODELS);
    assert_ptr_equal(provider_model_of(s, SLICE("model-999")), s->other);
    assert_ptr_not_equal(provider_model_of(s, SLICE("model-0")), s->other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

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
        TEST(test_the_latency_of_errors_is_not_taken_for_speed),
        TEST(test_no_target_at_all_is_a_model_not_found),
        TEST(test_check_067_an_open_circuit_refuses_without_a_sending_then_one_probe_closes_it),
        TEST(test_a_failed_probe_opens_the_circuit_again),
        TEST(test_an_open_circuit_is_skipped_and_the_fallback_keeps_its_index),
        TEST(test_when_all_circuits_are_open_the_soonest_retry_is_told),
        TEST(test_a_circuit_that_opens_during_the_backoff_ends_the_retries),
        TEST(test_cancelling_a_probe_gives_its_place_back),
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
        TEST(test_check_059_a_passed_stream_without_done_is_an_error),
        TEST(test_an_error_in_front_of_a_passed_stream_falls_over),
        TEST(test_cr_line_ends_are_rebuilt_when_they_cannot_be_relayed),
        TEST(test_embeddings_are_given_before_the_end),
        TEST(test_cancelling_before_the_first_step_sends_nothing),
        TEST(test_cancelling_while_waiting_closes_the_connection),
        TEST(test_cancelling_in_the_backoff_sends_nothing_more),
        TEST(test_cancelling_a_stream_books_what_was_used),
        TEST(test_cancelling_inside_any_callback_is_safe),
        TEST(test_states_survive_a_reload_and_follow_the_registrys_order),
        TEST(test_a_circuit_is_reset_by_name),
        TEST(test_our_own_changes_are_published_and_others_are_taken_over),
        TEST(test_names_clients_invent_do_not_grow_the_state_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
