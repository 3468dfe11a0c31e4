/*
 * admin_performance.c - GET /api/v1/admin/performance
 *
 *     {workers, operations: [{method, endpoint, count, avg_ms, p95_ms, max_ms}], slow: [{...}]}
 *
 * All of it is of all workers. Operations are the cells of http_request_duration_seconds, the one
 * that took most time first.
 */
#include "gateway/core/day.h"
#include "gateway/core/json.h"
#include "gateway/core/metrics.h"
#include "gateway/http/router.h"
#include "gateway/middleware/slowest.h"
#include "handlers/admin.h"

#include <stdlib.h>

#define MAX_OUT (1u << 20)
#define MAX_OPERATIONS (METRICS_SERIES_PER_FAMILY + 1u)

struct operation {
    struct slice method, endpoint; /* in the request's arena */
    uint64_t count, sum_us, p95_us, max_us;
};

struct operations {
    struct arena *arena;
    struct operation *all;
    unsigned n;
};

static void add_operation(const struct metric_times *t, void *arg)
{
    struct operations *o = arg;

    if (!t->count || o->n == MAX_OPERATIONS)
        return;
    o->all[o->n++] = (struct operation){
        .method = arena_dup(o->arena, t->labels[0]),
        .endpoint = arena_dup(o->arena, t->labels[1]),
        .count = t->count,
        .sum_us = t->sum_us,
        .p95_us = metrics_quantile_us(t, 95),
        .max_us = t->max_us,
    };
}

static int by_total(const void *a, const void *b)
{
    const struct operation *x = a, *y = b;

    return (x->sum_us < y->sum_us) - (x->sum_us > y->sum_us);
}

static void put_operation(struct json_writer *w, const struct operation *o)
{
    json_obj(w);
    json_kv_str(w, "method", o->method);
    json_kv_str(w, "endpoint", o->endpoint);
    json_kv_int(w, "count", (int64_t)o->count);
    json_kv_double(w, "avg_ms", (double)o->sum_us / (double)o->count / 1e3);
    json_kv_double(w, "p95_ms", (double)o->p95_us / 1e3);
    json_kv_double(w, "max_ms", (double)o->max_us / 1e3);
    json_obj_end(w);
}

static void put_slow(struct json_writer *w, const struct slow_request *s)
{
    char date[DAY_HTTP_BYTES];

    json_obj(w);
    json_kv_str(w, "ended", day_http((int64_t)(s->wall_us / 1000000u), date));
    json_kv_cstr(w, "method", http_method_name(s->method));
    json_kv_cstr(w, "endpoint", s->endpoint);
    json_kv_int(w, "status", s->status);
    json_kv_double(w, "duration_ms", (double)s->took_us / 1e3);
    json_kv_double(w, "provider_ms", (double)s->upstream_us / 1e3);
    json_kv_cstr(w, "request_id", s->id);
    json_obj_end(w);
}

static void put_all(struct json_writer *w, const struct operations *o,
                    const struct slow_request *slow, unsigned n_slow)
{
    json_obj(w);
    json_kv_int(w, "workers", metrics_workers());
    json_kv_arr(w, "operations");
    for (unsigned i = 0; i < o->n; i++)
        put_operation(w, &o->all[i]);
    json_arr_end(w);
    json_kv_arr(w, "slow");
    for (unsigned i = 0; i < n_slow; i++)
        put_slow(w, &slow[i]);
    json_arr_end(w);
    json_obj_end(w);
}

void admin_performance(struct request *req)
{
    struct operations o = {.arena = req->arena,
                           .all = arena_array(req->arena, struct operation, MAX_OPERATIONS)};
    struct slow_request slow[SLOWEST_ROOM];
    struct json_writer w;
    struct buf out;

    if (!o.all || !metrics_each_times(M_HTTP_SECONDS, add_operation, &o)) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    qsort(o.all, o.n, sizeof(*o.all), by_total);
    json_begin(&w, &out, MAX_OUT);
    put_all(&w, &o, slow, slowest_list(slow));
    request_finish_buf(req, &out);
}
