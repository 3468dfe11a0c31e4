/* llm.c - see llm.h. */
#include "handlers/llm.h"

#include "gateway/core/decimal.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/form.h"

#define MAX_FALLBACKS 8u

const struct registry *llm_registry(const struct request *req)
{
    return req->conf->attached;
}

bool llm_parse_body(struct request *req, struct json *ret_root)
{
    struct json_error why = {0};
    enum gw_err err = json_parse(req->arena, req->body, NULL, ret_root, &why);

    if (!err && !json_is(*ret_root, JSON_OBJECT)) {
        err = GW_EBADREQ;
        why.what = "the body must be a JSON object";
    }
    if (err)
        form_refuse_json(req, err, &why);
    return !err;
}

static void fail_model(struct request *req, enum gw_err err, struct slice name, struct slice why)
{
    struct error_detail d = {.param = SLICE("model")};

    d.message = why.n ? why
                      : arena_printf(req->arena, "The model `%.*s` does not exist.",
                                     (int)(name.n < 128 ? name.n : 128), name.p ? name.p : "");
    request_fail(req, err, &d);
}

static bool append_fallbacks(struct request *req, struct json list, struct registry_route *route)
{
    struct error_detail d = {.param = SLICE("fallbacks")};
    struct slice why = SLICE_NONE;
    struct json it;
    enum gw_err err = GW_OK;

    if (!json_is(list, JSON_ARRAY) || json_count(list) > MAX_FALLBACKS)
        err = GW_ESCHEMA;
    for (it = json_first(list); !err && json_exists(it); it = json_next(list, it)) {
        err = json_is(it, JSON_STRING) ? GW_OK : GW_ESCHEMA;
        if (!err)
            err = registry_append(llm_registry(req), req->arena, json_str(it), route, &why);
    }
    if (!err)
        return true;
    d.message =
        err == GW_ESCHEMA ? SLICE("`fallbacks` must be an array of at most 8 model names.") : why;
    request_fail(req, err, &d);
    return false;
}

bool llm_resolve(struct request *req, struct slice model, struct json root,
                 struct registry_route *ret)
{
    struct slice why = SLICE_NONE;
    struct json fallbacks = json_get(root, "fallbacks");
    enum gw_err err = registry_resolve(llm_registry(req), req->arena, model, ret, &why);

    if (err) {
        fail_model(req, err, model, why);
        return false;
    }
    return !json_exists(fallbacks) || json_is(fallbacks, JSON_NULL) ||
           append_fallbacks(req, fallbacks, ret);
}

bool llm_is_strict(const struct request *req)
{
    return slice_is_nocase(request_header(req, "X-Postern-Strict"), "true");
}

void llm_refuse(struct request *req, enum gw_err err, const struct convo_report *rep)
{
    struct error_detail d = {.message = rep->why, .param = rep->refused};

    request_fail(req, err, &d);
}

struct slice llm_dollars(struct arena *a, int64_t nano_usd)
{
    char text[DECIMAL_NANO_MAX];

    if (nano_usd < 0)
        return SLICE_NONE;
    return arena_dup(a, slice_of(text, (size_t)(decimal_nano(text, (uint64_t)nano_usd) - text)));
}

static void set_dropped(struct request *req, const struct convo_report *rep)
{
    struct buf names;
    unsigned i;

    if (!rep || rep->n_dropped == 0)
        return;
    buf_init(&names, 2048);
    for (i = 0; i < rep->n_dropped; i++) {
        if (i)
            buf_add_cstr(&names, ", ");
        buf_add_cstr(&names, rep->dropped[i]);
    }
    if (!buf_err(&names))
        request_set_header(req, "X-Postern-Dropped", buf_slice(&names));
    buf_deinit(&names);
}

static void set_number(struct request *req, const char *name, uint64_t v)
{
    request_set_header(req, name, arena_u64(req->arena, v));
}

void llm_set_headers(struct request *req, const struct provider_call_info *info,
                     const struct convo_usage *usage)
{
    uint64_t took = loop_clock_us() - req->started_us;

    req->upstream_us = info->upstream_us;
    if (info->model) {
        request_set_header(req, "X-Postern-Provider", slice_cstr(info->model->provider->name));
        request_set_header(req, "X-Postern-Model", info->model->id);
        request_note(req, "provider", slice_cstr(info->model->provider->name));
        request_note(req, "model", info->model->id);
    }
    set_number(req, "X-Postern-Attempts", info->attempts);
    set_number(req, "X-Postern-Fallback-Index", info->fallback_index);
    set_number(req, "X-Postern-Overhead-Us",
               took > info->upstream_us ? took - info->upstream_us : 0);
    set_dropped(req, info->report);
    if (usage && usage->known && info->model) {
        struct slice cost = llm_dollars(req->arena, registry_cost(info->model, usage));

        if (cost.n)
            request_set_header(req, "X-Postern-Cost-Usd", cost);
    }
}

struct slice llm_error_text(enum gw_err err, const struct provider_call_info *info,
                            const struct dialect_error *vendor)
{
    if (vendor && vendor->message.n)
        return vendor->message;
    if (info && info->report && info->report->why.n)
        return info->report->why;
    return slice_cstr(err_info(err)->title);
}

void llm_fail(struct request *req, enum gw_err err, const struct provider_call_info *info,
              const struct dialect_error *vendor)
{
    struct error_detail d = {0};

    llm_set_headers(req, info, NULL);
    d.message = llm_error_text(err, info, vendor);
    d.vendor = info->vendor_failed;
    d.retry_after_s = (info->retry_after_us + 999999) / 1000000;
    if (info->report && !vendor)
        d.param = info->report->refused;
    if (vendor) {
        d.param = vendor->param;
        d.code = vendor->code;
        d.status = err == GW_EUPREJECT ? vendor->status : 0;
    }
    request_fail(req, err, &d);
}

enum gw_err llm_client_gone(struct request *req, bool streaming)
{
    enum gw_err err = req->err ? req->err : GW_EGONECLIENT; /* or overdue */

    metrics_add(metrics_get(M_CLIENT_GONE, streaming ? "streaming" : "waiting", NULL, NULL), 1);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    return err;
}
