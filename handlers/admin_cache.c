/* admin_cache.c - looks at the caches and clears one. The figures are of all workers. */
#include "handlers/admin_cache.h"

#include "gateway/core/json.h"
#include "gateway/core/metrics.h"
#include "handlers/admin.h"
#include "storage/cache.h"

#define MAX_OUT 65536u

static void put_cache(struct json_writer *w, enum cache_kind k)
{
    struct cache_stats s;
    uint64_t hits;

    cache_stats(k, &s);
    hits = s.hits_l1 + s.hits_l2;
    json_obj(w);
    json_kv_cstr(w, "name", cache_name(k));
    json_kv_int(w, "entries", (int64_t)s.entries);
    json_kv_int(w, "bytes", (int64_t)s.bytes);
    json_kv_int(w, "hits_l1", (int64_t)s.hits_l1);
    json_kv_int(w, "hits_l2", (int64_t)s.hits_l2);
    json_kv_int(w, "misses", (int64_t)s.misses);
    json_put_key(w, "hit_rate");
    if (hits + s.misses)
        json_put_double(w, (double)hits / (double)(hits + s.misses));
    else
        json_put_null(w);
    json_obj_end(w);
}

void admin_cache(struct request *req)
{
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_int(&w, "workers", metrics_workers());
    json_kv_arr(&w, "caches");
    for (unsigned k = 0; k < CACHE_KINDS; k++)
        put_cache(&w, (enum cache_kind)k);
    json_arr_end(&w);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

static void on_cleared(uint64_t removed, void *arg)
{
    struct request *req = arg;

    admin_audit(req, "cache.clear", req->params[0], "ok", SLICE_NONE);
    request_finish(req, GW_OK,
                   arena_printf(req->arena, "{\"removed\":%llu}", (unsigned long long)removed));
    request_unref(req);
}

static void clear(struct request *req, enum cache_kind k)
{
    if (!cache_clear(k, on_cleared, request_ref(req))) {
        request_fail(req, GW_ENOMEM, NULL);
        request_unref(req);
    }
}

void admin_cache_clear(struct request *req)
{
    struct error_detail d = {.message = SLICE("There is no such cache.")};

    for (unsigned k = 0; k < CACHE_KINDS; k++)
        if (slice_is(req->params[0], cache_name((enum cache_kind)k))) {
            clear(req, (enum cache_kind)k);
            return;
        }
    request_fail(req, GW_ENOTFOUND, &d);
}
