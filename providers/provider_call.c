/*
 * provider_call.c - the flow of one call. See provider.h for its states.
 *
 * struct provider_call lives in the caller's arena, its buffers on the heap until call_release().
 * Every step ends in exactly one of: a sending, a backoff, call_end(). A sink callback may cancel
 * the call: then the frames above only unwind (provider_enter, provider_leave), which is why the
 * arena must stay until the loop is back.
 */
#include "providers/provider_private.h"

#include "gateway/core/log.h"
#include "gateway/core/rng.h"

#define PROBE_US 60000000u /* what a probe takes at most that has no deadline */

static void call_next(struct provider_call *c);
static void call_send(struct provider_call *c);
static void on_backoff(void *arg);

static struct log_ctx log_of(const struct provider_call *c)
{
    return (struct log_ctx){.component = "provider", .request_id = c->req.request_id};
}

/* --- life ------------------------------------------------------------------------------------- */

/* Frees what is not in the arena. */
static void call_release(struct provider_call *c)
{
    loop_undefer(&c->starting);
    loop_timer_stop(&c->timer);
    provider_answer_release(c);
    buf_deinit(&c->body);
}

void provider_enter(struct provider_call *c)
{
    c->busy++;
}

bool provider_leave(struct provider_call *c)
{
    c->busy--;
    if (c->dead && c->busy == 0)
        call_release(c);
    return !c->dead;
}

void provider_touch_info(struct provider_call *c)
{
    uint64_t now = loop_now_us();

    if (c->first_sent_us)
        c->info.upstream_us = now > c->first_sent_us ? now - c->first_sent_us : 0;
    c->info.in_flight = c->in_flight;
}

/* The error is the provider's, not the gateway's. */
static bool is_vendors(enum gw_err err)
{
    switch (err) {
    case GW_EUPSTREAM:
    case GW_EUPBAD:
    case GW_EUPAUTH:
    case GW_EUPCONNECT:
    case GW_EUPREJECT:
    case GW_EUPRATE:
    case GW_EDEADLINE:
    case GW_EMODEL:
        return true;
    default:
        return false;
    }
}

/* The only exit but cancelling. `c` may be gone when this returns. */
static void call_end(struct provider_call *c, enum gw_err err)
{
    const struct dialect_error *vendor = err && c->answer.has_vendor ? &c->answer.vendor : NULL;

    provider_touch_info(c);
    c->info.vendor_failed = is_vendors(err) && c->info.attempts > 0;
    c->info.retry_after_us = 0;
    if (err == GW_ECIRCUIT)
        c->info.retry_after_us = c->circuit_retry_us;
    else if (err == GW_EUPRATE || err == GW_EUPSTREAM)
        c->info.retry_after_us = c->answer.retry_after_us;
    call_release(c);
    c->sink->on_end(err, &c->info, &c->usage, vendor, c->arg);
}

/* --- which target, and whether it may be asked ------------------------------------------------ */

static void call_begin(void *arg)
{
    struct provider_call *c = arg;
    enum gw_err err = provider_order_targets(c);

    if (err)
        call_end(c, err);
    else
        call_next(c);
}

/* No target is left: the best reason there is. */
static void call_exhausted(struct provider_call *c)
{
    enum gw_err err = c->err;

    if (!err)
        c->info.model = c->req.route.n_targets ? c->req.route.targets[0].model : NULL;
    if (!err && c->circuit_open)
        err = GW_ECIRCUIT;
    if (!err && c->overloaded)
        err = GW_EOVERLOAD;
    if (!err && c->refusal_err) {
        err = c->refusal_err;
        c->report = c->refusal;
    }
    call_end(c, err ? err : GW_EMODEL);
}

/* May this target be asked now? Notes why not. */
static bool target_admits(struct provider_call *c)
{
    uint64_t now = loop_now_us(), retry_us;
    struct provider_state *s = c->state;

    if (!breaker_would_allow(&s->breaker, &s->config, now)) {
        retry_us = breaker_retry_in_us(&s->breaker, &s->config, now);
        (void)provider_allow(s, &c->pass); /* counts the refusal */
        if (!c->circuit_open || retry_us < c->circuit_retry_us)
            c->circuit_retry_us = retry_us;
        c->circuit_open = true;
        return false;
    }
    if (s->in_flight >= (unsigned)c->req.conf->provider_max_inflight) {
        c->overloaded = true;
        return false;
    }
    return true;
}

/* Goes on to the first target from c->at on that can be asked, and asks it. */
static void call_next(struct provider_call *c)
{
    uint64_t now = loop_now_us();
    unsigned max = c->req.max_attempts;
    enum gw_err err;

    for (; c->at < c->n_order; c->at++) {
        if (c->req.deadline_us && now >= c->req.deadline_us) {
            call_end(c, c->err ? c->err : GW_EDEADLINE);
            return;
        }
        if (max && c->info.attempts >= max)
            break;
        c->model = c->req.route.targets[c->order[c->at]].model;
        c->state = provider_state_of(c->model->provider->name);
        if (!c->state) {
            call_end(c, GW_ENOMEM);
            return;
        }
        if (!target_admits(c))
            continue;
        err = provider_encode(c);
        if (err == GW_EUNSUPPORTED || err == GW_EBADREQ) {
            if (!c->refusal_err)
                c->refusal = c->report;
            c->refusal_err = c->refusal_err ? c->refusal_err : err;
            continue;
        }
        if (err) {
            call_end(c, err);
            return;
        }
        c->kept = provider_model_of(c->state, c->model);
        c->info.model = c->model;
        c->info.fallback_index = c->rank[c->order[c->at]];
        c->made = 0;
        call_send(c);
        return;
    }
    call_exhausted(c);
}

static void on_head(const struct transport_head *head, void *arg);
static void on_data(struct slice bytes, void *arg);
static void on_done(enum gw_err err, const struct transport_result *res, void *arg);

static const struct transport_callbacks callbacks = {on_head, on_data, on_done};

static struct op *start_transfer(struct provider_call *c)
{
    const struct conf *conf = c->req.conf;
    struct transport_header headers[PROVIDER_MAX_HEADERS];
    struct transport_request req = {
        .method = "POST",
        .url = c->url,
        .headers = headers,
        .n_headers = provider_put_headers(c, headers),
        .body = buf_slice(&c->body),
        .stream = c->stream,
        .http2 = conf->provider_http2,
        .connect_timeout_us = (uint64_t)conf->provider_connect_ms * 1000,
        .first_byte_timeout_us = (uint64_t)conf->provider_first_byte_s * 1000000,
        .gap_timeout_us = c->stream ? (uint64_t)conf->stream_gap_s * 1000000 : 0,
        .deadline_us = c->req.deadline_us,
        .max_body_bytes = c->stream ? 0 : (size_t)conf->provider_max_response_mb << 20,
    };

    return transport_start(&req, &callbacks, c);
}

static struct retry_config retry_config_of(const struct provider_call *c)
{
    const struct conf *conf = c->req.conf;

    return (struct retry_config){
        .attempts = (unsigned)conf->retry_attempts,
        .base_us = (uint64_t)conf->retry_base_ms * 1000,
        .max_us = (uint64_t)conf->retry_max_ms * 1000,
        .budget_percent = (unsigned)conf->retry_budget_percent,
    };
}

/* The breaker learns how the sending went; the other processes of a probe that told nothing. */
static void report(struct provider_call *c, enum breaker_verdict v)
{
    provider_report(c->state, c->pass, v);
    if (c->claim && v == BREAKER_NEUTRAL)
        provider_release(c->state, c->claim);
    c->claim = 0;
    c->has_pass = false;
}

/* Sends what is encoded. The breaker has been asked whether it would allow it, or just did. */
static void call_transfer(struct provider_call *c)
{
    struct retry_config rc = retry_config_of(c);
    struct log_ctx ctx = log_of(c);

    if (!provider_allow(c->state, &c->pass)) {
        c->circuit_open = true;
        c->at++;
        call_next(c);
        return;
    }
    c->has_pass = true;
    provider_answer_reset(c);
    c->transfer = start_transfer(c);
    if (!c->transfer) {
        report(c, BREAKER_NEUTRAL);
        call_end(c, GW_ENOMEM);
        return;
    }
    if (c->made == 0)
        retry_budget_deposit(&c->state->budget, &rc, loop_now_us());
    if (c->made == 0 && c->moved_from)
        metrics_add(metrics_get(M_PROVIDER_FALLBACKS, c->moved_from, c->state->name, NULL), 1);
    c->made++;
    c->info.attempts++;
    c->in_flight = true;
    provider_add_in_flight(c->state, 1);
    c->sent_us = loop_clock_us();
    if (!c->first_sent_us)
        c->first_sent_us = c->sent_us;
    log_debug(&ctx, "provider_sent", F_CSTR("provider", c->state->name),
              F_STR("model", c->model->name), F_INT("attempt", c->info.attempts));
}

/* Nothing is asked for any more, and nothing held. */
static void give_up_claim(struct provider_call *c)
{
    if (c->claiming)
        provider_claimed(c->state, 0);
    op_cancel(&c->claiming);
    if (c->claim)
        provider_release(c->state, c->claim);
    c->claim = 0;
}

/* While it was asked, the circuit may have closed or opened anew. */
static void on_claimed(uint64_t wait_us, void *arg)
{
    struct provider_call *c = arg;

    c->claiming = NULL;
    c->claim = wait_us ? 0 : c->claim;
    provider_claimed(c->state, wait_us);
    if (target_admits(c)) {
        call_transfer(c);
        return;
    }
    give_up_claim(c);
    c->at++;
    call_next(c);
}

/* False when there is nobody to ask. */
static bool claim_probe(struct provider_call *c)
{
    uint64_t now = loop_now_us(), lease_us = PROBE_US;
    uint64_t id = rng_u64() | 1;

    if (c->req.deadline_us > now)
        lease_us = c->req.deadline_us - now;
    c->claiming = provider_claim(c->state, id, lease_us, on_claimed, c);
    c->claim = c->claiming ? id : 0;
    return c->claiming != NULL;
}

/* A probe is claimed first: there is one for all processes. */
static void call_send(struct provider_call *c)
{
    if (c->state->breaker.state == BREAKER_CLOSED || !claim_probe(c))
        call_transfer(c);
}

/* --- how a sending ended ---------------------------------------------------------------------- */

static enum breaker_verdict verdict_of(enum gw_err err)
{
    switch (err) {
    case GW_OK:
        return BREAKER_SUCCESS;
    case GW_EUPRATE:
    case GW_EUPSTREAM:
    case GW_EUPCONNECT:
    case GW_EUPBAD:
    case GW_EDEADLINE:
        return BREAKER_FAILURE;
    default:
        return BREAKER_NEUTRAL;
    }
}

static enum provider_outcome outcome_of(enum gw_err err)
{
    switch (err) {
    case GW_OK:
        return OUTCOME_OK;
    case GW_EUPRATE:
        return OUTCOME_RATE_LIMITED;
    case GW_EUPREJECT:
    case GW_EMODEL:
    case GW_ETOOBIG:
        return OUTCOME_REJECTED;
    case GW_EUPAUTH:
        return OUTCOME_AUTH;
    case GW_EUPBAD:
        return OUTCOME_BAD_ANSWER;
    case GW_EDEADLINE:
        return OUTCOME_TIMEOUT;
    case GW_EUPCONNECT:
        return OUTCOME_UNREACHABLE;
    case GW_EGONECLIENT:
        return OUTCOME_CANCELLED;
    default:
        return OUTCOME_ERROR;
    }
}

static uint64_t since_sent_us(const struct provider_call *c)
{
    uint64_t now = loop_now_us();

    return now > c->sent_us ? now - c->sent_us : 1;
}

static void observe_latency(struct provider_call *c)
{
    uint64_t now = loop_now_us(), took = since_sent_us(c);

    select_ewma_observe(&c->state->latency, took, now);
    select_ewma_observe(&c->kept->latency, took, now);
}

/* Books the end of a sending: once for each, also when it is cancelled. */
static void settle(struct provider_call *c, enum gw_err err)
{
    if (!c->in_flight)
        return;
    c->in_flight = false;
    provider_add_in_flight(c->state, -1);
    provider_count_request(c->state, c->kept, outcome_of(err));
    provider_count_usage(c->state, c->kept, c->model, &c->usage, c->req.embed != NULL);
    if (err == GW_EDEADLINE)
        observe_latency(c);
    if (err == GW_EUPAUTH)
        metrics_add(metrics_get(M_PROVIDER_AUTH, c->state->name, NULL, NULL), 1);
    if (c->has_pass)
        report(c, verdict_of(err));
    else if (verdict_of(err) == BREAKER_FAILURE)
        provider_report_late_failure(c->state);
}

/* The same target again? Timeouts and garbage are not worth a second try at the same place. */
static bool same_target_again(struct provider_call *c, enum gw_err err, uint64_t *ret_wait_us)
{
    struct retry_config rc = retry_config_of(c);
    uint64_t now = loop_now_us();
    bool retryable = err == GW_EUPRATE || err == GW_EUPSTREAM || err == GW_EUPCONNECT;

    if (c->req.max_attempts && c->info.attempts >= c->req.max_attempts)
        return false;
    if (retryable && !breaker_would_allow(&c->state->breaker, &c->state->config, now))
        return false;
    return retry_decide(&rc, c->made, retryable, c->answer.retry_after_us, (uint32_t)rng_u64(), now,
                        c->req.deadline_us, ret_wait_us) == RETRY_AFTER &&
           retry_budget_withdraw(&c->state->budget, &rc, now);
}

static const char *retry_reason(enum gw_err err)
{
    return err == GW_EUPRATE ? "rate_limited" : err == GW_EUPSTREAM ? "failed" : "unreachable";
}

/* Is it worth asking another target? */
static bool may_move_on(enum gw_err err)
{
    return verdict_of(err) == BREAKER_FAILURE || err == GW_EUPAUTH || err == GW_EMODEL;
}

/* A sending is over and settled: end, wait and send again, or go to the next target. */
static void call_after(struct provider_call *c, enum gw_err err)
{
    struct log_ctx ctx = log_of(c);
    uint64_t wait_us;

    log_debug(&ctx, err ? "provider_failed" : "provider_answered",
              F_CSTR("provider", c->state->name), F_CSTR("err", err_info(err)->name),
              F_INT("status", c->answer.status), F_MS("took_ms", since_sent_us(c)));
    c->err = err;
    if (!err || c->answer.live || !may_move_on(err)) {
        call_end(c, err);
    } else if (same_target_again(c, err, &wait_us)) {
        metrics_add(metrics_get(M_PROVIDER_RETRIES, c->state->name, retry_reason(err), NULL), 1);
        loop_timer_set(&c->timer, loop_now_us() + wait_us);
    } else {
        c->moved_from = c->state->name;
        c->at++;
        call_next(c);
    }
}

/* While we waited others may have opened the circuit. */
static void on_backoff(void *arg)
{
    struct provider_call *c = arg;

    if (target_admits(c)) {
        call_send(c);
        return;
    }
    c->moved_from = c->state->name;
    c->at++;
    call_next(c);
}

/* --- from the transport ----------------------------------------------------------------------- */

enum gw_err provider_go_live(struct provider_call *c)
{
    c->answer.live = true;
    c->info.first_event_us = since_sent_us(c);
    if (c->stream) {
        metrics_observe_us(c->state->m_ttft, c->info.first_event_us);
        if (c->transfer)
            transport_set_deadline(c->transfer, 0); /* from here on the gap limit holds */
        if (c->transfer && transport_body_sent(c->transfer))
            buf_deinit(&c->body); /* it is not sent again */
    }
    if (c->has_pass)
        report(c, BREAKER_SUCCESS);
    c->info.report = &c->report;
    provider_touch_info(c);
    c->sink->on_live(&c->info, c->arg);
    return c->dead ? GW_EGONECLIENT : GW_OK;
}

static void on_head(const struct transport_head *head, void *arg)
{
    struct provider_call *c = arg;

    provider_answer_head(c, head);
    if (head->status >= 200 && head->status < 300)
        observe_latency(c);
}

static void on_data(struct slice bytes, void *arg)
{
    struct provider_call *c = arg;
    enum gw_err err;

    provider_enter(c);
    err = provider_answer_data(c, bytes);
    if (!provider_leave(c) || !err)
        return;
    op_cancel(&c->transfer);
    settle(c, err);
    call_after(c, err);
}

static void on_done(enum gw_err err, const struct transport_result *res, void *arg)
{
    struct provider_call *c = arg;

    (void)res;
    c->transfer = NULL;
    provider_enter(c);
    err = provider_answer_end(c, err);
    if (!provider_leave(c))
        return;
    settle(c, err);
    call_after(c, err);
}

/* --- the handle ------------------------------------------------------------------------------- */

static void call_cancel(struct op *op)
{
    struct provider_call *c = (struct provider_call *)op;

    c->dead = true;
    op_cancel(&c->transfer);
    if (c->claiming)
        give_up_claim(c);
    settle(c, GW_EGONECLIENT);
    if (c->busy == 0)
        call_release(c);
}

struct op *provider_call(const struct provider_call_request *req, const struct provider_sink *sink,
                         void *arg)
{
    struct provider_call *c = arena_new(req->arena, struct provider_call);

    if (!c)
        return NULL;
    c->op.cancel = call_cancel;
    c->req = *req;
    c->sink = sink;
    c->arg = arg;
    c->stream = req->convo && req->convo->stream && !req->count;
    c->info.report = &c->report;
    buf_init(&c->body, SIZE_MAX / 2);
    loop_timer_init(&c->timer, on_backoff, c);
    loop_defer(&c->starting, call_begin, c);
    return &c->op;
}

void provider_call_pause(struct op *call)
{
    struct provider_call *c = (struct provider_call *)call;

    if (c->transfer)
        transport_pause(c->transfer);
}

void provider_call_resume(struct op *call)
{
    struct provider_call *c = (struct provider_call *)call;

    if (c->transfer)
        transport_resume(c->transfer);
}

const struct provider_call_info *provider_call_info(struct op *call)
{
    struct provider_call *c = (struct provider_call *)call;

    provider_touch_info(c);
    return &c->info;
}

const struct convo_usage *provider_call_usage(struct op *call)
{
    return &((struct provider_call *)call)->usage;
}
