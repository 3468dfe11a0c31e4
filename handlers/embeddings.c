/*
 * embeddings.c - embeddings: POST /v1/embeddings (OpenAI's shape) and POST /api/v1/embeddings (the
 * native one); Google's is generate_embed.c.
 *
 *     begin --decoded, routed, allowed--> LOOK --some are missing--> ADMIT --held--> CALL
 *                                           '--all are there--> end    '--refused--> end
 *     CALL --on_embed--> (answer kept) --on_end--> end
 *
 * Only the texts whose vectors are not cached (vectors.h) are asked for, and paid for; 504 instead
 * for a client that wants no other (only-if-cached).
 */
#include "handlers/embeddings.h"

#include "gateway/http/form.h"
#include "handlers/admit.h"
#include "handlers/llm.h"
#include "handlers/vectors.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define MAX_INPUTS 2048u
#define MAX_BODY_OUT (256u << 20)

struct embed {
    struct request *req;         /* counted reference, dropped by embed_end() */
    struct op *admitting, *call; /* at most one is outstanding; none while `vectors` asks Redis */
    struct json body;
    struct dialect_embed_request ask;
    struct registry_route route;
    struct vectors vectors;
    const struct dialect_embed_request *rest; /* what the provider is asked for */
    struct admit_ask cost;
    struct admission *admission; /* NULL once it is settled: before the answer leaves, at the latest
                                    by embed_end() */
    const struct provider_call_info *info;
    struct convo_usage usage;
    struct buf out; /* the answer, written when it comes; freed by embed_end() */
    const struct embed_form *form;
};

static void settle(struct embed *e, enum gw_err err)
{
    struct admit_outcome out = {
        .err = err,
        .info = e->info,
        .usage = &e->usage,
        .cache = e->vectors.n ? "miss" : "bypass",
    };

    if (e->call)
        out.info = provider_call_info(e->call);
    if (e->admission)
        admit_settle(e->req, e->admission, &e->cost, &out);
    e->admission = NULL;
}

/* The only exit; `e` may be gone when this returns. */
static void embed_end(struct embed *e, enum gw_err err)
{
    struct request *req = e->req;

    settle(e, err);
    vectors_cancel(&e->vectors);
    op_cancel(&e->admitting);
    op_cancel(&e->call);
    request_on_abort(req, NULL, NULL);
    buf_deinit(&e->out);
    request_unref(req);
}

static void on_client_gone(struct request *req, void *arg)
{
    embed_end(arg, llm_client_gone(req, false));
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
    json_put_key(w, "data");
    json_arr(w);
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
    json_put_key(w, "usage");
    json_obj(w);
    json_kv_int(w, "prompt_tokens", (int64_t)ans->usage.input);
    json_kv_int(w, "total_tokens", (int64_t)ans->usage.input);
    json_obj_end(w);
}

static void put_native(struct json_writer *w, struct request *req,
                       const struct dialect_embed_request *ask,
                       const struct dialect_embed_answer *ans, const bool *cached)
{
    unsigned i;

    json_put_key(w, "embeddings");
    json_arr(w);
    for (i = 0; i < ans->n; i++)
        put_vector(w, req, ask, &ans->vectors[i]);
    json_arr_end(w);
    json_kv_int(w, "dimension", ans->n ? (int64_t)dimension_of(ans->vectors[0].value) : 0);
    json_kv_str(w, "model", model_of(ask, ans));
    json_put_key(w, "cached");
    json_arr(w);
    for (i = 0; i < ans->n; i++)
        json_put_bool(w, cached[i]);
    json_arr_end(w);
}

/* All vectors are there. */
static void write_answer(struct embed *e, const struct convo_usage *usage)
{
    struct dialect_embed_answer all = vectors_answer(&e->vectors, usage);
    struct json_writer w;

    json_writer_init(&w, &e->out);
    json_obj(&w);
    e->form->write(&w, e->req, &e->ask, &all, e->vectors.cached);
    json_obj_end(&w);
}

static void on_embed(const struct dialect_embed_answer *ans, void *arg)
{
    struct embed *e = arg;
    enum gw_err err = vectors_take(&e->vectors, ans);

    if (err)
        e->out.err = err;
    else
        write_answer(e, &ans->usage);
}

static void on_live(const struct provider_call_info *info, void *arg)
{
    struct embed *e = arg;

    e->info = info;
}

static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    struct embed *e = arg;

    e->call = NULL;
    e->info = info;
    e->usage = *usage;
    e->req->upstream_us = info->upstream_us;
    if (err) {
        llm_fail(e->req, err, info, vendor);
    } else if (buf_err(&e->out)) {
        request_fail(e->req, buf_err(&e->out) == GW_ENOMEM ? GW_ENOMEM : GW_EUPBAD, NULL);
    } else {
        llm_set_headers(e->req, info, usage);
        admit_set_headers(e->req, e->admission, info, usage);
        settle(e, GW_OK);
        request_reply(e->req, 200, SLICE("application/json"), buf_slice(&e->out));
    }
    embed_end(e, err);
}

static const struct provider_sink sink = {
    .on_live = on_live, .on_embed = on_embed, .on_end = on_end};

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

/* Texts, or token numbers of at least two bytes each. */
static struct admit_ask cost_of(struct embed *e)
{
    const struct dialect_embed_request *ask = e->rest;
    uint64_t text = 0;

    for (unsigned i = 0; i < ask->n_inputs; i++)
        text += ask->inputs[i].n;
    return (struct admit_ask){
        .asked_model = e->ask.model,
        .route = &e->route,
        .input_tokens = text / 3 + ask->raw_input.n / 2 + ask->n_inputs + 1,
        .likely_input_tokens = text / 4 + ask->raw_input.n / 5 + 1,
        .purpose = "embeddings",
    };
}

/* Reads, decodes, routes, and leaves the targets the caller may use; false when the request has
 * been answered. */
static bool embed_prepare(struct embed *e)
{
    struct convo_report rep = {0};
    enum gw_err err;

    if (!llm_parse_body(e->req, &e->body))
        return false;
    err = e->form->decode(e->req, e->body, &e->ask, &rep);
    if (err) {
        llm_refuse(e->req, err, &rep);
        return false;
    }
    if (!llm_resolve(e->req, e->ask.model, e->body, &e->route))
        return false;
    e->rest = &e->ask;
    e->cost = cost_of(e);
    return admit_models(e->req, &e->cost);
}

static bool embed_start_call(struct embed *e)
{
    struct request *req = e->req;
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = e->route,
        .embed = e->rest,
        .deadline_us = req->deadline_us,
        .request_id = req->id,
        .traceparent = req->traceparent,
    };

    e->call = provider_call(&call, &sink, e);
    return e->call != NULL;
}

static void on_admitted(struct admission *a, void *arg)
{
    struct embed *e = arg;

    e->admitting = NULL;
    e->admission = a;
    if (!a) {
        embed_end(e, GW_OK);
    } else if (!embed_start_call(e)) {
        request_fail(e->req, GW_ENOMEM, NULL);
        embed_end(e, GW_ENOMEM);
    }
}

static void answer_cached(struct embed *e)
{
    struct convo_usage nothing = {.known = true};
    struct admit_reused what = {.cache = "hit", .saved_nano_usd = -1};

    write_answer(e, &nothing);
    admit_book_reused(e->req, &e->cost, &what);
    if (buf_err(&e->out)) {
        request_fail(e->req, buf_err(&e->out), NULL);
    } else {
        request_set_header(e->req, "X-Cache", SLICE("HIT"));
        request_reply(e->req, 200, SLICE("application/json"), buf_slice(&e->out));
    }
    embed_end(e, GW_OK);
}

static void refuse_uncached(struct embed *e)
{
    struct error_detail d = {.message = SLICE("Not all of these vectors are cached."),
                             .status = 504};

    request_fail(e->req, GW_EMISS, &d);
    embed_end(e, GW_EMISS);
}

/* Everything that can be had here is there. */
static void on_looked(void *arg)
{
    struct embed *e = arg;

    e->rest = vectors_rest(&e->vectors);
    if (!e->rest) {
        answer_cached(e);
        return;
    }
    if (e->vectors.policy.only_cached) {
        refuse_uncached(e);
        return;
    }
    request_set_header(e->req, "X-Cache", e->vectors.n ? SLICE("MISS") : SLICE("BYPASS"));
    e->cost = cost_of(e);
    e->admitting = admit_begin(e->req, &e->cost, on_admitted, e);
    if (!e->admitting) {
        request_fail(e->req, GW_ENOMEM, NULL);
        embed_end(e, GW_ENOMEM);
    }
}

void embeddings_begin(struct request *req, const struct embed_form *form)
{
    struct embed *e = arena_new(req->arena, struct embed);
    struct reuse_policy policy = reuse_policy_of(req, true);

    if (!e) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    e->req = req;
    e->form = form;
    buf_init(&e->out, MAX_BODY_OUT);
    if (!embed_prepare(e))
        return;
    if (vectors_look(&e->vectors, req, &policy, &e->ask, &e->route) != GW_OK) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    request_ref(req);
    request_on_abort(req, on_client_gone, e);
    if (!vectors_fetch(&e->vectors, on_looked, e))
        on_looked(e);
}

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
