/*
 * embed_forms.c - how embeddings are asked for and told: POST /v1/embeddings (OpenAI's shape) and
 * POST /api/v1/embeddings (the native one); the flow is embeddings.c's.
 */
#include "gateway/http/form.h"
#include "handlers/embeddings.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define MAX_INPUTS 2048u

/* --- reading ---------------------------------------------------------------------------------- */

static enum gw_err read_inputs(struct request *req, struct json input,
                               struct dialect_embed_request *ask, struct convo_report *rep)
{
    bool many = json_is(input, JSON_ARRAY);
    uint32_t n = many ? json_count(input) : 1, i;
    struct slice *list = n ? arena_array(req->arena, struct slice, n) : NULL;
    struct json it = many ? json_first(input) : input;

    if (n == 0 || n > MAX_INPUTS)
        return convo_refuse(rep, GW_ESCHEMA, SLICE("/input"), SLICE("must hold 1 to 2048 texts"));
    if (!list)
        return GW_ENOMEM;
    for (i = 0; i < n; i++, it = many ? json_next(input, it) : it) {
        if (many && (json_is(it, JSON_NUMBER) || json_is(it, JSON_ARRAY))) {
            ask->raw_input = json_raw(input);
            return GW_OK;
        }
        if (!json_is(it, JSON_STRING))
            return convo_refuse(rep, GW_ESCHEMA, SLICE("/input"),
                                SLICE("must be a string, an array of strings, or tokens"));
        list[i] = json_str(it);
        if (list[i].n == 0)
            return convo_refuse(rep, GW_ESCHEMA, SLICE("/input"), SLICE("must not be empty"));
    }
    ask->inputs = list;
    ask->n_inputs = n;
    return GW_OK;
}

static enum gw_err read_encoding(struct json body, struct dialect_embed_request *ask,
                                 struct convo_report *rep)
{
    struct json format = json_get(body, "encoding_format");

    if (!json_exists(format) || json_is(format, JSON_NULL))
        return GW_OK;
    ask->base64 = json_str_is(format, "base64");
    return ask->base64 || json_str_is(format, "float")
               ? GW_OK
               : convo_refuse(rep, GW_ESCHEMA, SLICE("/encoding_format"),
                              SLICE("must be \"float\" or \"base64\""));
}

static enum gw_err read_body(struct request *req, struct json body,
                             struct dialect_embed_request *ask, struct convo_report *rep)
{
    struct json dimensions = json_get(body, "dimensions");
    enum gw_err err;

    if (ask->model.n == 0)
        return convo_refuse(rep, GW_ESCHEMA, SLICE("/model"), SLICE("must be a non-empty string"));
    err = read_inputs(req, json_get(body, "input"), ask, rep);
    if (err)
        return err;
    if (json_exists(dimensions) && !json_is(dimensions, JSON_NULL) &&
        (!json_int(dimensions, &ask->dimensions) || ask->dimensions < 1 || ask->dimensions > 4096))
        return convo_refuse(rep, GW_ESCHEMA, SLICE("/dimensions"),
                            SLICE("must be an integer from 1 to 4096"));
    ask->user = json_str(json_get(body, "user"));
    return GW_OK;
}

static enum gw_err read_model(struct json body, struct dialect_embed_request *ask,
                              struct convo_report *rep)
{
    if (json_has_duplicate(body, "model") || json_has_duplicate(body, "input"))
        return convo_refuse(rep, GW_EBADREQ, SLICE("/model"), SLICE("a member is there twice"));
    ask->model = json_str(json_get(body, "model"));
    return GW_OK;
}

static enum gw_err decode_openai(struct request *req, struct json body,
                                 struct dialect_embed_request *ask, struct convo_report *rep)
{
    enum gw_err err = read_model(body, ask, rep);

    if (!err)
        err = read_encoding(body, ask, rep);
    return err ? err : read_body(req, body, ask, rep);
}

/* The native body, read. */
struct embed_asked {
    struct slice model, user;
    int64_t dimensions;
    struct json input;
    struct form_list fallbacks; /* read by llm_resolve() */
};

#define AT(member) offsetof(struct embed_asked, member)

static const struct form_field native_fields[] = {
    {"input", FORM_ANY, AT(input), true},
    {"model", FORM_STRING, AT(model), .class = FORM_OPAQUE, .min = 1, .max = 256},
    {"dimensions", FORM_INT, AT(dimensions), .min = 1, .max = 4096},
    {"user", FORM_STRING, AT(user), .class = FORM_LINE, .max = 256},
    {"fallbacks", FORM_STRINGS, AT(fallbacks), .class = FORM_OPAQUE, .max = 8},
};
const struct form embeddings_native_form = FORM_OF(struct embed_asked, native_fields);

static enum gw_err decode_native(struct request *req, struct json body,
                                 struct dialect_embed_request *ask, struct convo_report *rep)
{
    struct form_errors *errors = arena_new(req->arena, struct form_errors);
    struct embed_asked in = {.model = SLICE("embed")};

    if (!errors)
        return GW_ENOMEM;
    form_check(req, body, &embeddings_native_form, &in, NULL, errors);
    if (errors->n || errors->nomem) {
        form_refuse(req, errors);
        return GW_ESCHEMA; /* a second answer is ignored */
    }
    ask->model = in.model;
    ask->user = in.user;
    ask->dimensions = in.dimensions;
    return read_inputs(req, in.input, ask, rep);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Elements of a JSON array text: its commas and one. */
static size_t dimension_of(struct slice vector)
{
    size_t n = vector.n > 2, i;

    for (i = 0; i < vector.n; i++)
        n += vector.p[i] == ',';
    return n;
}

/* A JSON array of numbers as base64 of little-endian floats: what OpenAI's SDKs ask for, and other
 * dialects do not have. p == NULL out of memory. */
static struct slice pack(struct arena *a, struct slice vector)
{
    size_t n = dimension_of(vector), i;
    float *floats = arena_array(a, float, n);
    unsigned char *text = arena_alloc(a, (n * sizeof(float) + 2) / 3 * 4 + 1);
    char *p = arena_cstr(a, vector), *end;

    if (!floats || !text || !p)
        return SLICE_NONE;
    for (i = 0, p++; i < n; i++, p = end + strspn(end, ", \t\r\n"))
        floats[i] = strtof(p, &end);
    return slice_of((char *)text, (size_t)EVP_EncodeBlock(text, (unsigned char *)floats,
                                                          (int)(n * sizeof(float))));
}

static void put_vector(struct json_writer *w, struct request *req,
                       const struct dialect_embed_request *ask, const struct dialect_embedding *v)
{
    struct slice packed;

    if (v->is_base64) {
        json_put_str(w, v->value);
    } else if (ask->base64) {
        packed = pack(req->arena, v->value);
        if (packed.p)
            json_put_str(w, packed);
        else
            w->out->err = GW_ENOMEM;
    } else {
        json_put_raw(w, v->value);
    }
}

static struct slice model_of(const struct dialect_embed_request *ask,
                             const struct dialect_embed_answer *ans)
{
    return ans->model.n ? ans->model : ask->model;
}

static void put_openai(struct json_writer *w, struct request *req,
                       const struct dialect_embed_request *ask,
                       const struct dialect_embed_answer *ans, const bool *cached)
{
    unsigned i;

    json_kv_cstr(w, "object", "list");
    json_kv_arr(w, "data");
    for (i = 0; i < ans->n; i++) {
        json_obj(w);
        json_kv_cstr(w, "object", "embedding");
        json_kv_int(w, "index", i);
        json_put_key(w, "embedding");
        put_vector(w, req, ask, &ans->vectors[i]);
        json_obj_end(w);
    }
    json_arr_end(w);
    json_kv_str(w, "model", model_of(ask, ans));
    json_kv_obj(w, "usage");
    json_kv_int(w, "prompt_tokens", (int64_t)ans->usage.input);
    json_kv_int(w, "total_tokens", (int64_t)ans->usage.input);
    json_obj_end(w);
}

static void put_native(struct json_writer *w, struct request *req,
                       const struct dialect_embed_request *ask,
                       const struct dialect_embed_answer *ans, const bool *cached)
{
    unsigned i;

    json_kv_arr(w, "embeddings");
    for (i = 0; i < ans->n; i++)
        put_vector(w, req, ask, &ans->vectors[i]);
    json_arr_end(w);
    json_kv_int(w, "dimension", ans->n ? (int64_t)dimension_of(ans->vectors[0].value) : 0);
    json_kv_str(w, "model", model_of(ask, ans));
    json_kv_arr(w, "cached");
    for (i = 0; i < ans->n; i++)
        json_put_bool(w, cached[i]);
    json_arr_end(w);
}

/* --- the two forms ---------------------------------------------------------------------------- */

static const struct embed_form openai = {.decode = decode_openai, .write = put_openai};
static const struct embed_form native = {.decode = decode_native, .write = put_native};

void embeddings_openai(struct request *req)
{
    embeddings_begin(req, &openai);
}

void embeddings_native(struct request *req)
{
    embeddings_begin(req, &native);
}
