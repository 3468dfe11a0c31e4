/* generate_models.c - Google's lists of models: GET /v1beta/models and /v1beta/models/{id}. */
#include "gateway/core/json.h"
#include "handlers/generate.h"
#include "handlers/llm.h"
#include "handlers/models.h"

#define MAX_OUT (16u << 20)
#define MAX_PAGE 1000

static void put_methods(struct json_writer *w, unsigned capabilities)
{
    static const char *const chat[] = {"generateContent", "streamGenerateContent", "countTokens"};
    static const char *const embed[] = {"embedContent", "batchEmbedContents"};

    json_kv_arr(w, "supportedGenerationMethods");
    for (size_t i = 0; i < 3 && !(capabilities & REGISTRY_CAN_EMBED); i++)
        json_put_cstr(w, chat[i]);
    for (size_t i = 0; i < 2 && (capabilities & REGISTRY_CAN_EMBED); i++)
        json_put_cstr(w, embed[i]);
    json_arr_end(w);
}

/* `m` is what the name stands for; an alias has its own name. */
static void put_model(struct json_writer *w, struct slice name, const struct registry_model *m)
{
    json_obj(w);
    json_put_key(w, "name");
    json_put_raw(w, SLICE("\"models/"));
    json_escape(w->out, name);
    buf_add_char(w->out, '"');
    json_kv_str(w, "baseModelId", m->name);
    json_kv_cstr(w, "version", "001");
    json_kv_str(w, "displayName", name);
    if (m->context_tokens > 0)
        json_kv_int(w, "inputTokenLimit", m->context_tokens);
    if (m->max_output_tokens > 0)
        json_kv_int(w, "outputTokenLimit", m->max_output_tokens);
    json_kv_bool(w, "thinking", (m->capabilities & REGISTRY_CAN_REASONING) != 0);
    put_methods(w, m->listed ? m->capabilities : 0);
    json_obj_end(w);
}

/* --- the list -------------------------------------------------------------------------------- */

/* A page of it: Google's clients ask for the next with the token of the last. */
struct page {
    int64_t from, size; /* places in the list */
    int64_t at;         /* entries seen */
};

static void put_on_page(struct json_writer *w, struct page *p, struct slice name,
                        const struct registry_model *m)
{
    if (p->at >= p->from && p->at < p->from + p->size)
        put_model(w, name, m);
    p->at++;
}

void generate_models(struct request *req)
{
    const struct registry *r = llm_registry(req);
    struct page page = {.size = MAX_PAGE};
    struct json_writer w;
    struct buf out;
    enum gw_err err = models_query_int(req, "pageSize", &page.size);

    if (!err)
        err = models_query_int(req, "pageToken", &page.from);
    if (err) {
        struct error_detail d = {.message = SLICE("pageSize and pageToken must be numbers."),
                                 .param = SLICE("pageSize")};

        request_fail(req, err, err == GW_ESCHEMA ? &d : NULL);
        return;
    }
    page.size = page.size < 1 || page.size > MAX_PAGE ? MAX_PAGE : page.size;
    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_arr(&w, "models");
    for (const struct registry_alias *a = r->aliases; a; a = a->next)
        if (a->n_targets)
            put_on_page(&w, &page, a->name, a->targets[0].model);
    for (const struct registry_model *m = r->models; m; m = m->next)
        if (m->provider->enabled)
            put_on_page(&w, &page, m->id, m);
    json_arr_end(&w);
    if (page.from + page.size < page.at)
        json_kv_str(&w, "nextPageToken",
                    arena_printf(req->arena, "%lld", (long long)(page.from + page.size)));
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

/* --- one of them ----------------------------------------------------------------------------- */

void generate_model(struct request *req)
{
    const struct registry *r = llm_registry(req);
    struct error_detail d = {.param = SLICE("name")};
    struct slice name = req->params[0];
    struct registry_route route;
    struct json_writer w;
    struct buf out;
    enum gw_err err = registry_resolve(r, req->arena, name, &route, &d.message);

    if (err) {
        request_fail(req, err, &d);
        return;
    }
    json_begin(&w, &out, MAX_OUT);
    put_model(&w, models_is_alias(r, name) ? name : route.targets[0].model->id,
              route.targets[0].model);
    request_finish_buf(req, &out);
}
