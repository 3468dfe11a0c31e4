/* admit_book.c - see admit_book.h. */
#include "handlers/admit_book.h"

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/router.h"
#include "handlers/llm.h"
#include "storage/ledger.h"
#include "storage/principal.h"

static const char *surface_name(const struct request *req)
{
    static const char *const names[] = {[SURFACE_NATIVE] = "native",
                                        [SURFACE_OPENAI] = "openai",
                                        [SURFACE_ANTHROPIC] = "anthropic",
                                        [SURFACE_GOOGLE] = "google"};

    return names[surface_of(req)];
}

/* Who, what was asked for, and how long it took. */
static struct ledger_row row_of(const struct request *req, const struct admit_ask *ask,
                                uint64_t begun_wall_us, enum gw_err err)
{
    const struct principal *p = req->principal;
    struct ledger_row row = {
        .at_wall_us = begun_wall_us,
        .request_id = req->id,
        .idempotency_key = request_header(req, "Idempotency-Key"),
        .subject = req->who.subject,
        .asked_model = ask->asked_model,
        .surface = surface_name(req),
        .purpose = ask->purpose,
        .status = err_info(err)->slug,
        .stream = ask->stream,
        .duration_us = loop_clock_us() - req->started_us,
        .price_version = llm_registry(req)->price_version,
    };

    if (p) {
        row.owner_id = slice_cstr(p->owner_id);
        row.key_id = slice_cstr(p->key_id);
        row.team_id = slice_cstr(p->team_id);
        row.subject = slice_cstr(p->subject);
    }
    return row;
}

void admit_book(struct request *req, const struct admit_ask *ask, const struct admit_outcome *out,
                const struct admit_bill *bill, uint64_t begun_wall_us)
{
    const struct provider_call_info *info = out->info;
    enum gw_err err = out->err ? out->err : req->err; /* the answer may fail after a good call */
    struct ledger_row row = row_of(req, ask, begun_wall_us, err);

    row.cache = out->cache;
    if (info && info->model) {
        row.provider = slice_cstr(info->model->provider->name);
        row.model = info->model->name;
        row.attempts = info->attempts;
        row.fallback_index = info->fallback_index;
        row.first_token_us = info->first_event_us;
    }
    row.usage_known = !bill->estimated;
    row.input = bill->usage.input;
    row.cache_read = bill->usage.cache_read;
    row.cache_write = bill->usage.cache_write;
    row.output = bill->usage.output;
    row.reasoning = bill->usage.reasoning;
    row.cost_nano_usd = bill->cost;
    row.raw_usage = bill->usage.raw;
    ledger_add(&row);
}

/* The provider's own name of a model: what is behind "provider/". */
static struct slice name_of(const struct admit_reused *what)
{
    size_t n = what->provider.n + 1;

    return what->model.n > n && slice_eq(slice_of(what->model.p, n - 1), what->provider)
               ? slice_from(what->model, n)
               : what->model;
}

/* Its tokens were bought by another row: this one has what was saved. */
void admit_book_reused(struct request *req, const struct admit_ask *ask,
                       const struct admit_reused *what)
{
    uint64_t took = loop_clock_us() - req->started_us;
    struct ledger_row row = row_of(req, ask, loop_wall_us() - took, what->err);
    struct slice labels[2] = {what->provider, name_of(what)};

    if (what->saved_nano_usd > 0 && !what->err) {
        metrics_add(metrics_series(M_LLM_AVOIDED, labels), what->saved_nano_usd);
        row.avoided_nano_usd = what->saved_nano_usd;
    }
    row.cache = what->cache;
    row.provider = what->provider;
    row.model = labels[1];
    row.usage_known = true;
    ledger_add(&row);
}
