/* ops.c - the operator's routes: metrics and circuits. */
#include "handlers/ops.h"

#include "gateway/core/json.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"
#include "gateway/http/form.h"
#include "gateway/http/server.h"
#include "handlers/admin.h"
#include "providers/provider.h"

#define MAX_METRICS (16u << 20)
#define MAX_OUT (1u << 20)

void ops_metrics(struct request *req)
{
    struct buf out;

    metrics_set(metrics_get(M_OFFLOAD_QUEUED, NULL, NULL, NULL), offload_queued());
    buf_init(&out, MAX_METRICS);
    metrics_render(&out);
    if (buf_err(&out))
        request_fail(req, buf_err(&out), NULL);
    else
        request_reply(req, 200, SLICE("text/plain; version=0.0.4; charset=utf-8"), buf_slice(&out));
    buf_deinit(&out);
}

struct circuits {
    struct json_writer w;
    struct slice only; /* empty = all */
    unsigned n;
};

static void put_circuit(const struct provider_status *s, void *arg)
{
    struct circuits *c = arg;
    struct json_writer *w = &c->w;

    if (c->only.n && !slice_is(c->only, s->name))
        return;
    c->n++;
    json_obj(w);
    json_kv_cstr(w, "name", s->name);
    json_kv_cstr(w, "state", breaker_state_name(s->state));
    json_kv_int(w, "failures", s->failures);
    json_kv_int(w, "in_flight", s->in_flight);
    json_kv_int(w, "successes_total", (int64_t)s->n_success);
    json_kv_int(w, "failures_total", (int64_t)s->n_failure);
    json_kv_int(w, "rejected_total", (int64_t)s->n_rejected);
    json_kv_int(w, "opened_total", (int64_t)s->n_opened);
    json_kv_double(w, "opened_seconds_ago", (double)s->opened_ago_us / 1e6);
    json_kv_double(w, "retry_in_seconds", (double)s->retry_in_us / 1e6);
    json_kv_double(w, "latency_ms", s->latency_us / 1e3);
    json_obj_end(w);
}

void ops_circuits(struct request *req)
{
    struct circuits c = {0};
    struct buf out;

    json_begin(&c.w, &out, MAX_OUT);
    json_obj(&c.w);
    json_kv_arr(&c.w, "circuits");
    provider_each(put_circuit, &c);
    json_arr_end(&c.w);
    json_obj_end(&c.w);
    request_finish_buf(req, &out);
}

void ops_circuit_reset(struct request *req)
{
    struct circuits c = {.only = req->params[0]};
    struct error_detail d = {.message = SLICE("There is no such circuit.")};
    struct buf out;

    if (!form_read_nothing(req))
        return;
    if (!provider_reset(req->params[0])) {
        request_fail(req, GW_ENOTFOUND, &d);
        return;
    }
    admin_audit(req, "circuit.reset", req->params[0], "ok", SLICE_NONE);
    json_begin(&c.w, &out, MAX_OUT);
    provider_each(put_circuit, &c);
    request_finish_buf(req, &out);
}
