/*
 * google.c - the Gemini generateContent dialect: its table, paths and headers, what its errors
 * mean, and embeddings.
 */
#include "providers/dialect/google.h"
#include "providers/dialect/google_client.h"

/* --- path and headers ---------------------------------------------------------------------- */

struct slice google_model_name(const struct registry_model *m)
{
    return slice_starts(m->name, "models/") ? slice_from(m->name, 7) : m->name;
}

/* No segment that a client library or a server would take for "here" or "up". */
static bool name_stays(struct slice name)
{
    while (name.n > 0) {
        size_t n = slice_find(name, '/');
        struct slice segment = slice_of(name.p, n);

        if (n == 0 || n == name.n - 1 || slice_is(segment, ".") || slice_is(segment, ".."))
            return false;
        name = slice_from(name, n + 1);
    }
    return true;
}

static bool is_unreserved(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           (ch && strchr("-._~/", ch));
}

static struct slice percent_encode(struct arena *a, struct slice name)
{
    static const char hex[] = "0123456789ABCDEF";
    char *p = name.n < SIZE_MAX / 3 ? arena_bytes(a, name.n * 3 + 1) : NULL;
    size_t n = 0;

    if (!p)
        return SLICE_NONE;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char ch = (unsigned char)name.p[i];

        if (is_unreserved((char)ch)) {
            p[n++] = (char)ch;
            continue;
        }
        p[n++] = '%';
        p[n++] = hex[ch >> 4];
        p[n++] = hex[ch & 15];
    }
    return slice_of(p, n);
}

enum gw_err google_target(struct arena *a, const struct registry_model *m, const char *verb,
                          struct dialect_request *out)
{
    struct slice name = google_model_name(m);

    if (name.n == 0 || !name_stays(name))
        return GW_EBADREQ;
    name = percent_encode(a, name);
    if (!name.p)
        return GW_ENOMEM;
    out->path = arena_printf(a, "/v1beta/models/%.*s%s", SLICE_ARG(name), verb);
    if (!out->path.p)
        return GW_ENOMEM;
    out->n_headers = 0;
    if (m->provider->api_key.n > 0)
        out->headers[out->n_headers++] =
            (struct dialect_header){SLICE("x-goog-api-key"), m->provider->api_key};
    return GW_OK;
}

enum gw_err google_pass_request(struct arena *a, const struct registry_model *m, bool stream,
                                struct dialect_request *out)
{
    return google_target(a, m, stream ? ":streamGenerateContent?alt=sse" : ":generateContent", out);
}

static enum gw_err google_count_request(struct arena *a, const struct registry_model *m,
                                        struct dialect_request *out)
{
    return google_target(a, m, ":countTokens", out);
}

/* --- errors -------------------------------------------------------------------------------- */

static bool contains(struct slice text, const char *word)
{
    return text.n > 0 && memmem(text.p, text.n, word, strlen(word)) != NULL;
}

static bool has_reason(struct json error, const char *reason)
{
    struct json details = json_get(error, "details");

    for (struct json it = json_first(details); json_exists(it); it = json_next(details, it))
        if (json_str_is(json_get(it, "reason"), reason))
            return true;
    return false;
}

static struct slice violated_field(struct json error)
{
    struct json details = json_get(error, "details");

    for (struct json it = json_first(details); json_exists(it); it = json_next(details, it)) {
        struct slice field =
            json_str(json_get(json_first(json_get(it, "fieldViolations")), "field"));

        if (field.n > 0)
            return field;
    }
    return SLICE_NONE;
}

/* The vendor's codes are gRPC's; each has its HTTP status. */
static const struct {
    const char *code;
    int status;
} codes[] = {
    {"INVALID_ARGUMENT", 400},   {"FAILED_PRECONDITION", 400},
    {"OUT_OF_RANGE", 400},       {"UNAUTHENTICATED", 401},
    {"PERMISSION_DENIED", 403},  {"NOT_FOUND", 404},
    {"ALREADY_EXISTS", 409},     {"ABORTED", 409},
    {"RESOURCE_EXHAUSTED", 429}, {"CANCELLED", 499},
    {"INTERNAL", 500},           {"UNKNOWN", 500},
    {"UNIMPLEMENTED", 501},      {"UNAVAILABLE", 503},
    {"DEADLINE_EXCEEDED", 504},
};

static int status_of(struct json error, struct slice code, int status)
{
    int64_t told;

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (slice_is(code, codes[i].code))
            return codes[i].status;
    if (status == 0 && json_int(json_get(error, "code"), &told) && told >= 400 && told < 600)
        return (int)told;
    return status;
}

static enum gw_err error_of(struct json error, int status, const struct dialect_error *e)
{
    if (contains(e->message, "API key not valid") || contains(e->message, "API key expired") ||
        has_reason(error, "API_KEY_INVALID") || slice_is(e->code, "FAILED_PRECONDITION"))
        return GW_EUPAUTH; /* the gateway's key or account, though it comes as a bad request */
    switch (status) {
    case 401:
    case 402:
    case 403:
        return GW_EUPAUTH;
    case 404:
        return GW_EMODEL;
    case 408:
    case 499:
        return GW_EUPSTREAM;
    case 413:
        return GW_ETOOBIG;
    case 429:
        return GW_EUPRATE;
    default:
        return status >= 400 && status < 500 ? GW_EUPREJECT : GW_EUPSTREAM;
    }
}

void google_read_error(struct json error, int status, struct dialect_error *ret)
{
    *ret = (struct dialect_error){0};
    ret->message = json_str(json_get(error, "message"));
    ret->code = json_str(json_get(error, "status"));
    ret->param = violated_field(error);
    status = status_of(error, ret->code, status);
    ret->err = error_of(error, status, ret);
    ret->status = err_info(ret->err)->status;
    if (ret->err == GW_EUPREJECT && status == 422)
        ret->status = status;
}

static struct slice keep(struct arena *a, struct slice s)
{
    struct slice copy = s.n ? arena_dup(a, s) : SLICE_NONE;

    return copy.p ? copy : SLICE_NONE;
}

static void google_decode_error(struct arena *a, int status, struct slice body,
                                struct dialect_error *ret)
{
    struct json root = {0};
    enum gw_err err = json_parse(a, body, NULL, &root, NULL);

    if (err)
        root = (struct json){0};
    else if (json_type(root) == JSON_ARRAY) /* a stream's error, without alt=sse */
        root = json_first(root);
    google_read_error(json_get(root, "error"), status, ret);
    ret->message = keep(a, ret->message);
    ret->code = keep(a, ret->code);
    ret->param = keep(a, ret->param);
}

/* --- embeddings ---------------------------------------------------------------------------- */

static enum gw_err google_encode_embed(struct arena *a, const struct dialect_embed_request *r,
                                       const struct registry_model *m, struct dialect_request *out,
                                       struct convo_report *rep)
{
    enum gw_err err = google_target(a, m, ":batchEmbedContents", out);
    struct slice name = arena_printf(a, "models/%.*s", SLICE_ARG(google_model_name(m)));
    struct json_writer w;

    if (err == GW_EBADREQ)
        return convo_refuse(rep, err, SLICE("model"), SLICE("not a model name"));
    if (err || !name.p)
        return err ? err : GW_ENOMEM;
    if (r->user.n > 0)
        convo_drop(rep, "user");
    if (r->raw_input.n > 0)
        return convo_refuse(rep, GW_EUNSUPPORTED, SLICE("input"),
                            SLICE("this provider takes texts, no token numbers"));
    json_writer_init(&w, out->body);
    json_obj(&w);
    json_kv_arr(&w, "requests");
    for (unsigned i = 0; i < r->n_inputs; i++) {
        json_obj(&w);
        json_kv_str(&w, "model", name);
        json_kv_obj(&w, "content");
        json_kv_arr(&w, "parts");
        json_obj(&w);
        json_kv_str(&w, "text", r->inputs[i]);
        json_obj_end(&w);
        json_arr_end(&w);
        json_obj_end(&w);
        if (r->task.n > 0)
            json_kv_str(&w, "taskType", r->task);
        if (r->title.n > 0)
            json_kv_str(&w, "title", r->title);
        if (r->dimensions > 0)
            json_kv_int(&w, "outputDimensionality", r->dimensions);
        json_obj_end(&w);
    }
    json_arr_end(&w);
    json_obj_end(&w);
    return buf_err(out->body);
}

static enum gw_err google_decode_embed(struct arena *a, struct slice body,
                                       struct dialect_embed_answer *ret)
{
    struct dialect_embed_answer ans = {0};
    struct json root, list;
    int64_t tokens;
    enum gw_err err = json_parse(a, body, NULL, &root, NULL);

    if (err)
        return err == GW_ENOMEM ? err : GW_EUPBAD;
    list = json_get(root, "embeddings");
    if (!json_is(list, JSON_ARRAY) || json_count(list) == 0)
        return GW_EUPBAD;
    ans.vectors = arena_array(a, struct dialect_embedding, json_count(list));
    if (!ans.vectors)
        return GW_ENOMEM;
    for (struct json it = json_first(list); json_exists(it); it = json_next(list, it)) {
        struct json values = json_get(it, "values");

        if (!dialect_is_vector(values))
            return GW_EUPBAD;
        ans.vectors[ans.n].value = arena_dup(a, json_raw(values));
        if (!ans.vectors[ans.n++].value.p)
            return GW_ENOMEM;
    }
    if (json_int(json_get(json_get(root, "usageMetadata"), "promptTokenCount"), &tokens) &&
        tokens >= 0) {
        ans.usage.known = true;
        ans.usage.input = (uint64_t)tokens;
        ans.usage.raw = json_raw(json_get(root, "usageMetadata"));
    }
    *ret = ans;
    return GW_OK;
}

const struct dialect dialect_google = {
    .name = "google",
    .encode_request = google_encode_request,
    .pass_request = google_pass_request,
    .count_request = google_count_request,
    .pass_body = google_pass_body,
    .pass_event = google_pass_event,
    .pass_answer = google_pass_answer,
    .ends_on_finish = true,
    .decode_answer = google_decode_answer,
    .decoder_new = google_decoder_new,
    .decode_event = google_decode_event,
    .decode_end = google_decode_end,
    .decode_error = google_decode_error,
    .encode_embed = google_encode_embed,
    .decode_embed = google_decode_embed,
    .decode_request = google_decode_request,
    .encode_answer = google_encode_answer,
    .encoder_new = google_encoder_new,
    .encode_event = google_encode_event,
};
