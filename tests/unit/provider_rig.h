/*
 * provider_rig.h - for the tests of the call path: a scripted transport, a clock that only moves
 * when told, and two toy dialects ("openai", passed through where inbound, and "other",
 * translated). Includes the files under test, with all they reach the world by replaced.
 */
#pragma once

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
#define transport_body_sent t_transport_body_sent
#define dialect_openai t_openai

#include "providers/provider.c"
#include "providers/provider_answer.c"
#include "providers/provider_call.c"
#include "providers/provider_request.c"
#include "providers/provider_targets.c"

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
static bool transport_is_out_of_memory, body_sent = true;

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

bool transport_body_sent(struct op *op)
{
    return body_sent;
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
        ev.usage =
            (struct convo_usage){.known = true, .input = ev.text.n, .output = 2, .raw = ev.text};
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

/* role, content, finish, usage, error, [DONE]; anything else is garbage. "usage begin" is the first
 * of two parts. */
static enum gw_err toy_pass_event(struct slice data_, struct arena *scratch,
                                  struct dialect_pass_info *ret)
{
    ret->done = slice_is(data_, "[DONE]");
    ret->has_content = slice_starts(data_, "content");
    ret->finish = slice_starts(data_, "finish");
    ret->error = slice_starts(data_, "error");
    ret->has_usage = ret->usage_only = slice_starts(data_, "usage");
    if (ret->has_usage)
        ret->usage = (struct convo_usage){
            .known = true,
            .input = 7,
            .output = 3,
            .raw = data_,
            .raw_first = ret->usage.raw_first.n                    ? ret->usage.raw_first
                         : slice_is(ret->usage.raw, "usage begin") ? ret->usage.raw
                                                                   : SLICE_NONE,
        };
    if (ret->error)
        ret->text = data_;
    return ret->done || ret->has_content || ret->finish || ret->error || ret->usage_only ||
                   slice_starts(data_, "role")
               ? GW_OK
               : GW_EUPBAD;
}

static enum gw_err toy_pass_answer(struct arena *scratch, struct slice body,
                                   struct dialect_pass_info *ret)
{
    *ret = (struct dialect_pass_info){.usage = {true, 3, 0, 0, 4, 0}};
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

__attribute__((unused)) static void start_stream(const char *targets)
{
    convo->stream = true;
    start(targets);
}

__attribute__((unused)) static void pass_through(void)
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
__attribute__((unused)) static void fail_once(const char *target)
{
    request.max_attempts = 1;
    start(target);
    answer(500, "down");
    request.max_attempts = 0;
    buf_reset(&seen);
}

__attribute__((unused)) static void open_circuit(const char *target)
{
    while (state_of(target)->breaker.state != BREAKER_OPEN)
        fail_once(target);
    n_sent = 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
