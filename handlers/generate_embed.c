/*
 * generate_embed.c - embedContent and batchEmbedContents: Google's forms of embeddings.c.
 *
 * The model is in the URL; the one in each request of a batch says the same and is not read. What
 * the vectors are for (taskType, title) goes along to Google, whose requests of one batch share it.
 */
#include "handlers/embeddings.h"
#include "handlers/generate.h"
#include "providers/dialect/google_client.h"

#define MAX_REQUESTS 2048u

static enum gw_err wrong(struct request *req, struct convo_report *rep, const char *field,
                         const char *why)
{
    struct slice text = arena_printf(req->arena, "%s: %s", field, why);

    return text.p ? convo_refuse(rep, GW_ESCHEMA, slice_cstr(field), text) : GW_ENOMEM;
}

/* All text of a content, in one piece. */
static enum gw_err read_content(struct request *req, struct json content, struct slice *ret,
                                struct convo_report *rep)
{
    struct json parts = google_get(content, "parts");
    size_t n = 0;
    char *p;

    for (struct json it = json_first(parts); json_exists(it); it = json_next(parts, it)) {
        if (!json_is(google_get(it, "text"), JSON_STRING))
            return wrong(req, rep, "content.parts", "must be text");
        n += json_str(google_get(it, "text")).n;
    }
    if (!json_is(parts, JSON_ARRAY) || n == 0)
        return wrong(req, rep, "content.parts", "must hold text");
    if (json_count(parts) == 1) {
        *ret = json_str(google_get(json_first(parts), "text"));
        return ret->p ? GW_OK : GW_ENOMEM;
    }
    p = arena_bytes(req->arena, n + 1);
    if (!p)
        return GW_ENOMEM;
    *ret = slice_of(p, n);
    for (struct json it = json_first(parts); json_exists(it); it = json_next(parts, it)) {
        struct slice text = json_str(google_get(it, "text"));

        if (text.n)
            memcpy(p, text.p, text.n);
        p += text.n;
    }
    return GW_OK;
}

static struct slice read_word(struct json one, const char *name)
{
    struct json config = google_get(one, "embedContentConfig");
    struct json v = google_get(one, name);

    return json_str(json_exists(v) ? v : google_get(config, name));
}

static enum gw_err read_options(struct request *req, struct json one,
                                struct dialect_embed_request *ask, struct convo_report *rep)
{
    struct json size = google_get(one, "outputDimensionality");

    if (!json_exists(size))
        size = google_get(google_get(one, "embedContentConfig"), "outputDimensionality");
    ask->task = read_word(one, "taskType");
    ask->title = read_word(one, "title");
    if (!json_exists(size))
        return GW_OK;
    if (!json_int(size, &ask->dimensions) || ask->dimensions < 1 || ask->dimensions > 4096)
        return wrong(req, rep, "outputDimensionality", "must be an integer from 1 to 4096");
    return GW_OK;
}

static bool same_options(const struct dialect_embed_request *a,
                         const struct dialect_embed_request *b)
{
    return a->dimensions == b->dimensions && slice_eq(a->task, b->task) &&
           slice_eq(a->title, b->title);
}

static enum gw_err read_requests(struct request *req, struct json list, bool many,
                                 struct dialect_embed_request *ask, struct convo_report *rep)
{
    uint32_t n = many ? json_count(list) : 1, i;
    struct json it = many ? json_first(list) : list;
    struct slice *texts = arena_array(req->arena, struct slice, n ? n : 1);
    enum gw_err err = GW_OK;

    if (!texts)
        return GW_ENOMEM;
    ask->model = generate_target_of(req).model;
    ask->inputs = texts;
    ask->n_inputs = n;
    for (i = 0; i < n && !err; i++, it = many ? json_next(list, it) : it) {
        struct dialect_embed_request one = {0};

        err = read_content(req, google_get(it, "content"), &texts[i], rep);
        if (!err)
            err = read_options(req, it, i ? &one : ask, rep);
        if (!err && i && !same_options(ask, &one))
            err = wrong(req, rep, "requests", "must share taskType, title and dimensions");
    }
    return err;
}

static enum gw_err decode_one(struct request *req, struct json body,
                              struct dialect_embed_request *ask, struct convo_report *rep)
{
    return read_requests(req, body, false, ask, rep);
}

static enum gw_err decode_batch(struct request *req, struct json body,
                                struct dialect_embed_request *ask, struct convo_report *rep)
{
    struct json list = google_get(body, "requests");

    if (!json_is(list, JSON_ARRAY) || json_count(list) < 1 || json_count(list) > MAX_REQUESTS)
        return wrong(req, rep, "requests", "must hold 1 to 2048 requests");
    return read_requests(req, list, true, ask, rep);
}

/* --- writing --------------------------------------------------------------------------------- */

static void put_vector(struct json_writer *w, const struct dialect_embedding *v)
{
    json_obj(w);
    json_kv_raw(w, "values", v->value);
    json_obj_end(w);
}

static void put_usage(struct json_writer *w, const struct convo_usage *u)
{
    if (!u->known)
        return;
    json_kv_obj(w, "usageMetadata");
    json_kv_int(w, "promptTokenCount", (int64_t)u->input);
    json_obj_end(w);
}

static void write_one(struct json_writer *w, struct request *req,
                      const struct dialect_embed_request *ask,
                      const struct dialect_embed_answer *ans, const bool *cached)
{
    (void)req;
    (void)ask;
    if (ans->n == 0) {
        w->out->err = GW_ETOOBIG; /* told as a bad answer */
        return;
    }
    json_put_key(w, "embedding");
    put_vector(w, &ans->vectors[0]);
    put_usage(w, &ans->usage);
}

static void write_batch(struct json_writer *w, struct request *req,
                        const struct dialect_embed_request *ask,
                        const struct dialect_embed_answer *ans, const bool *cached)
{
    (void)req;
    (void)ask;
    json_kv_arr(w, "embeddings");
    for (unsigned i = 0; i < ans->n; i++)
        put_vector(w, &ans->vectors[i]);
    json_arr_end(w);
    put_usage(w, &ans->usage);
}

static const struct embed_form one = {.decode = decode_one, .write = write_one};
static const struct embed_form batch = {.decode = decode_batch, .write = write_batch};

void generate_embed_one(struct request *req)
{
    embeddings_begin(req, &one);
}

void generate_embed_batch(struct request *req)
{
    embeddings_begin(req, &batch);
}
