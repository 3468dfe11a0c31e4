/* models.c - what can be asked for: models and aliases of the registry, and the providers with
 * their state. */
#include "handlers/models.h"

#include "gateway/core/json.h"
#include "gateway/http/router.h"
#include "handlers/llm.h"
#include "providers/provider.h"

#define MAX_OUT (16u << 20)
/* The registry tells no date of birth; clients want a number (1 January 2024). */
#define CREATED 1704067200
#define CREATED_TEXT "2024-01-01T00:00:00Z"
#define MAX_PAGE 1000

/* --- what both lists ask ---------------------------------------------------------------------- */

enum gw_err models_query_int(struct request *req, const char *name, int64_t *ret)
{
    enum gw_err err = GW_OK;
    struct slice text = request_query(req, name, &err);
    int64_t n = 0;

    if (err || !text.p)
        return err;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || n > 1000000)
            return GW_ESCHEMA;
        n = n * 10 + (text.p[i] - '0');
    }
    *ret = n;
    return text.n ? GW_OK : GW_ESCHEMA;
}

bool models_is_alias(const struct registry *r, struct slice name)
{
    for (const struct registry_alias *a = r->aliases; a; a = a->next)
        if (slice_eq(a->name, name))
            return true;
    return false;
}

/* --- OpenAI's shape, and Anthropic's ---------------------------------------------------------- */

static void put_openai(struct json_writer *w, struct slice id, const char *owner)
{
    json_obj(w);
    json_kv_str(w, "id", id);
    json_kv_cstr(w, "object", "model");
    json_kv_int(w, "created", CREATED);
    json_kv_cstr(w, "owned_by", owner);
    json_obj_end(w);
}

static void put_anthropic(struct json_writer *w, struct slice id)
{
    json_obj(w);
    json_kv_cstr(w, "type", "model");
    json_kv_str(w, "id", id);
    json_kv_str(w, "display_name", id);
    json_kv_cstr(w, "created_at", CREATED_TEXT);
    json_obj_end(w);
}

/* One page of Anthropic's list: what the query asks for. */
struct page {
    struct slice after, before; /* ids */
    int64_t limit;
    bool reached; /* the id to begin after has come */
    bool over;    /* the id to end before has come */
    bool more;
    int64_t n;
    struct slice first, last;
};

static enum gw_err read_page(struct request *req, struct page *p)
{
    enum gw_err err = GW_OK;

    *p = (struct page){.after = request_query(req, "after_id", &err), .limit = MAX_PAGE};
    p->reached = p->after.n == 0;
    if (!err)
        p->before = request_query(req, "before_id", &err);
    if (!err)
        err = models_query_int(req, "limit", &p->limit);
    if (!err && (p->limit < 1 || p->limit > MAX_PAGE))
        err = GW_ESCHEMA;
    return err;
}

static void put_on_page(struct json_writer *w, struct page *p, struct slice id)
{
    p->over |= p->before.n > 0 && slice_eq(id, p->before);
    if (p->reached && !p->over) {
        p->more |= p->n == p->limit;
        if (p->n < p->limit) {
            put_anthropic(w, id);
            p->first = p->n++ ? p->first : id;
            p->last = id;
        }
    }
    p->reached |= slice_eq(id, p->after);
}

/* --- the lists -------------------------------------------------------------------------------- */

static void list_anthropic(struct request *req)
{
    const struct registry *r = llm_registry(req);
    struct error_detail d = {.param = SLICE("limit"), .message = SLICE("must be from 1 to 1000")};
    struct json_writer w;
    struct page page;
    struct buf out;
    enum gw_err err = read_page(req, &page);

    if (err) {
        request_fail(req, err, err == GW_ESCHEMA ? &d : NULL);
        return;
    }
    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_arr(&w, "data");
    for (const struct registry_alias *a = r->aliases; a; a = a->next)
        put_on_page(&w, &page, a->name);
    for (const struct registry_model *m = r->models; m; m = m->next)
        if (m->provider->enabled)
            put_on_page(&w, &page, m->id);
    json_arr_end(&w);
    json_kv_bool(&w, "has_more", page.more);
    json_kv_text(&w, "first_id", page.first);
    json_kv_text(&w, "last_id", page.last);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

void models_list(struct request *req)
{
    const struct registry *r = llm_registry(req);
    const struct registry_alias *a;
    const struct registry_model *m;
    struct json_writer w;
    struct buf out;

    if (surface_of(req) == SURFACE_ANTHROPIC) {
        list_anthropic(req);
        return;
    }
    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_cstr(&w, "object", "list");
    json_kv_arr(&w, "data");
    for (a = r->aliases; a; a = a->next)
        put_openai(&w, a->name, "postern");
    for (m = r->models; m; m = m->next)
        if (m->provider->enabled)
            put_openai(&w, m->id, m->provider->name);
    json_arr_end(&w);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

void models_get(struct request *req)
{
    const struct registry *r = llm_registry(req);
    struct error_detail d = {.param = SLICE("model")};
    struct registry_route route;
    struct json_writer w;
    struct slice why = SLICE_NONE;
    struct buf out;
    enum gw_err err = registry_resolve(r, req->arena, req->params[0], &route, &why);

    if (err) {
        d.message = why;
        request_fail(req, err, &d);
        return;
    }
    json_begin(&w, &out, MAX_OUT);
    if (surface_of(req) == SURFACE_ANTHROPIC)
        put_anthropic(&w, models_is_alias(r, req->params[0]) ? req->params[0]
                                                             : route.targets[0].model->id);
    else if (models_is_alias(r, req->params[0]))
        put_openai(&w, req->params[0], "postern");
    else
        put_openai(&w, route.targets[0].model->id, route.targets[0].model->provider->name);
    request_finish_buf(req, &out);
}

/* --- the native shape ------------------------------------------------------------------------- */

static void put_price(struct json_writer *w, const char *key, int64_t pico_per_token)
{
    if (pico_per_token < 0)
        json_kv_null(w, key);
    else /* pico-USD per token is USD per million times 1,000,000 */
        json_kv_double(w, key, (double)pico_per_token / 1e6);
}

static void put_capabilities(struct json_writer *w, unsigned bits)
{
    static const char *const names[] = {"vision",    "pdf",   "tools",     "json_schema",
                                        "reasoning", "audio", "embeddings"};
    unsigned i;

    json_kv_arr(w, "capabilities");
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (bits & (1u << i))
            json_put_cstr(w, names[i]);
    json_arr_end(w);
}

static void put_native(struct json_writer *w, const struct registry_model *m)
{
    json_obj(w);
    json_kv_str(w, "id", m->id);
    json_kv_cstr(w, "provider", m->provider->name);
    json_kv_str(w, "name", m->name);
    json_kv_bool(w, "available", m->provider->enabled);
    json_kv_int(w, "context_tokens", m->context_tokens);
    json_kv_int(w, "max_output_tokens", m->max_output_tokens);
    put_capabilities(w, m->capabilities);
    json_kv_obj(w, "usd_per_million_tokens");
    put_price(w, "input", m->pico_usd.input);
    put_price(w, "output", m->pico_usd.output);
    put_price(w, "cache_read", m->pico_usd.cache_read);
    put_price(w, "cache_write", m->pico_usd.cache_write);
    json_obj_end(w);
    json_obj_end(w);
}

static const char *strategy_name(enum select_strategy s)
{
    static const char *const names[] = {"priority", "weighted", "least-latency", "cheapest"};

    return names[s];
}

static void put_alias(struct json_writer *w, const struct registry_alias *a)
{
    unsigned i;

    json_obj(w);
    json_kv_str(w, "name", a->name);
    json_kv_cstr(w, "strategy", strategy_name(a->strategy));
    json_kv_arr(w, "targets");
    for (i = 0; i < a->n_targets; i++) {
        json_obj(w);
        json_kv_str(w, "model", a->targets[i].model->id);
        json_kv_int(w, "weight", a->targets[i].weight);
        json_obj_end(w);
    }
    json_arr_end(w);
    json_obj_end(w);
}

void models_native(struct request *req)
{
    const struct registry *r = llm_registry(req);
    const struct registry_model *m;
    const struct registry_alias *a;
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_cstr(&w, "price_version", r->price_version);
    json_kv_arr(&w, "models");
    for (m = r->models; m; m = m->next)
        put_native(&w, m);
    json_arr_end(&w);
    json_kv_arr(&w, "aliases");
    for (a = r->aliases; a; a = a->next)
        put_alias(&w, a);
    json_arr_end(&w);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

struct circuit_of {
    const char *name;
    struct provider_status found;
    bool has;
};

static void on_status(const struct provider_status *s, void *arg)
{
    struct circuit_of *c = arg;

    if (strcmp(s->name, c->name) == 0) {
        c->found = *s;
        c->has = true;
    }
}

static void put_provider(struct json_writer *w, const struct registry_provider *p)
{
    struct circuit_of c = {.name = p->name};

    provider_each(on_status, &c);
    json_obj(w);
    json_kv_cstr(w, "name", p->name);
    json_kv_cstr(w, "dialect", p->dialect->name);
    json_kv_bool(w, "enabled", p->enabled);
    json_kv_cstr(w, "circuit", breaker_state_name(c.has ? c.found.state : BREAKER_CLOSED));
    json_kv_int(w, "in_flight", c.has ? c.found.in_flight : 0);
    json_obj_end(w);
}

void models_providers(struct request *req)
{
    const struct registry *r = llm_registry(req);
    const struct registry_provider *p;
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_arr(&w, "providers");
    for (p = r->providers; p; p = p->next)
        put_provider(&w, p);
    json_arr_end(&w);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}
