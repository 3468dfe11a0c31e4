/*
 * openai_error.c - what OpenAI-compatible servers say beside chat: errors in all their shapes,
 * usage, embeddings.
 */
#include "providers/dialect/openai.h"

#define MAX_MESSAGE 2000u

/* --- usage ------------------------------------------------------------------------------------ */

static bool count(struct json v, uint64_t *ret)
{
    int64_t n;

    if (!json_int(v, &n) || n < 0)
        return false;
    *ret = (uint64_t)n;
    return true;
}

bool openai_usage(struct json usage, struct convo_usage *ret)
{
    struct json in = json_get(usage, "prompt_tokens_details");
    struct json out = json_get(usage, "completion_tokens_details");
    struct convo_usage u = {.known = true, .raw = json_raw(usage)};
    bool any;

    if (!json_is(usage, JSON_OBJECT))
        return false;
    any = count(json_get(usage, "prompt_tokens"), &u.input);
    any |= count(json_get(usage, "completion_tokens"), &u.output);
    if (!any)
        return false;
    if (!count(json_get(in, "cached_tokens"), &u.cache_read))
        count(json_get(usage, "prompt_cache_hit_tokens"), &u.cache_read);
    if (!count(json_get(in, "cache_write_tokens"), &u.cache_write) &&
        !count(json_get(in, "cache_creation_tokens"), &u.cache_write))
        count(json_get(usage, "cache_creation_input_tokens"), &u.cache_write);
    count(json_get(out, "reasoning_tokens"), &u.reasoning);
    *ret = u;
    return true;
}

/* --- errors ----------------------------------------------------------------------------------- */

static bool holds(struct slice s, const char *word)
{
    return s.n && memmem(s.p, s.n, word, strlen(word)) != NULL;
}

/* The error object inside whatever came: {"error": ...}, [{"error": ...}], {"errors": [...]}, or
 * the object itself. */
static struct json error_in(struct json root)
{
    struct json v;

    if (json_is(root, JSON_ARRAY))
        root = json_first(root);
    v = openai_get(root, "error");
    if (json_exists(v))
        return v;
    v = json_first(openai_get(root, "errors"));
    return json_exists(v) ? v : root;
}

static struct slice text_in(struct json error)
{
    static const char *const names[] = {"message", "detail", "error", "msg", "title"};

    if (json_is(error, JSON_STRING))
        return json_str(error);
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (json_is(json_get(error, names[i]), JSON_STRING))
            return json_str(json_get(error, names[i]));
    return SLICE_NONE;
}

/* A string, or a number's text: some servers send the status as `code`. */
static struct slice word_in(struct json error, const char *name)
{
    struct json v = json_get(error, name);

    return json_is(v, JSON_NUMBER) ? json_raw(v) : json_str(v);
}

/* At most MAX_MESSAGE bytes, not cut inside a character. */
static struct slice cut(struct slice s)
{
    size_t n = s.n < MAX_MESSAGE ? s.n : MAX_MESSAGE;

    while (n < s.n && n > 0 && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--;
    return slice_of(s.p, n);
}

static struct slice kept(struct arena *a, struct slice s)
{
    return s.n ? arena_dup(a, s) : SLICE_NONE;
}

static bool is_no_model(const struct dialect_error *e)
{
    return slice_is(e->code, "model_not_found") || slice_is(e->code, "model_not_available") ||
           (holds(e->message, "model") &&
            (holds(e->message, "not found") || holds(e->message, "does not exist")));
}

static enum gw_err err_of_status(int status, const struct dialect_error *e)
{
    switch (status) {
    case 401:
    case 403:
        return GW_EUPAUTH;
    case 402:
    case 429:
        return GW_EUPRATE;
    case 404:
        return is_no_model(e) ? GW_EMODEL : GW_EUPREJECT;
    case 408:
    case 409:
    case 425:
        return GW_EUPSTREAM;
    default:
        break;
    }
    if (slice_is(e->code, "model_not_found"))
        return GW_EMODEL;
    return status >= 400 && status < 500 ? GW_EUPREJECT : GW_EUPSTREAM;
}

void openai_decode_error(struct arena *a, int status, struct slice body, struct dialect_error *ret)
{
    struct json root = {NULL, 0}, error;

    *ret = (struct dialect_error){.err = GW_EUPSTREAM};
    if (body.n && json_parse(a, body, NULL, &root, NULL) == GW_OK) {
        error = error_in(root);
        ret->message = kept(a, cut(text_in(error)));
        ret->code = kept(a, cut(word_in(error, "code")));
        ret->param = kept(a, cut(word_in(error, "param")));
        ret->type = kept(a, cut(word_in(error, "type")));
    }
    ret->err = err_of_status(status, ret);
    ret->status = err_info(ret->err)->status;
    if (ret->err == GW_EUPREJECT && (status == 404 || status == 413 || status == 422))
        ret->status = status;
    if (ret->err == GW_EUPAUTH)
        ret->message = SLICE_NONE; /* it quotes part of the gateway's own key */
}

enum gw_err openai_error_in_band(struct json error, struct slice *ret_text)
{
    struct slice code = word_in(error, "code"), type = word_in(error, "type");

    *ret_text = cut(text_in(error));
    if (holds(type, "rate_limit") || holds(code, "rate_limit") || slice_is(code, "429") ||
        holds(type, "quota") || holds(code, "quota"))
        return GW_EUPRATE;
    if (holds(type, "authentication") || holds(type, "permission") || slice_is(code, "401") ||
        slice_is(code, "403") || slice_is(code, "invalid_api_key")) {
        *ret_text = SLICE_NONE;
        return GW_EUPAUTH;
    }
    if (slice_is(code, "model_not_found"))
        return GW_EMODEL;
    return holds(type, "invalid_request") ? GW_EUPREJECT : GW_EUPSTREAM;
}

/* --- embeddings ------------------------------------------------------------------------------- */

static enum gw_err read_vector(struct json item, unsigned position,
                               struct dialect_embed_answer *ret)
{
    struct json value = json_get(item, "embedding");
    int64_t index = position;
    struct dialect_embedding *to;

    json_int(json_get(item, "index"), &index);
    if (index < 0 || index >= (int64_t)ret->n)
        return GW_EUPBAD;
    to = &ret->vectors[index];
    if (to->value.p)
        return GW_EUPBAD; /* an index twice */
    if (dialect_is_vector(value))
        *to = (struct dialect_embedding){json_raw(value), false};
    else if (json_is(value, JSON_STRING) && json_str(value).n > 0)
        *to = (struct dialect_embedding){json_str(value), true};
    else
        return GW_EUPBAD;
    return GW_OK;
}

enum gw_err openai_decode_embed(struct arena *a, struct slice body,
                                struct dialect_embed_answer *ret)
{
    struct dialect_embed_answer answer = {.n = 0};
    unsigned position = 0, before = arena_refusals(a);
    struct json root, data;
    enum gw_err err =
        json_parse(a, body, &(struct json_limits){.max_tokens = 4000000}, &root, NULL);

    if (err)
        return err == GW_ENOMEM ? err : GW_EUPBAD;
    data = json_get(root, "data");
    answer.n = json_count(data);
    if (!json_is(data, JSON_ARRAY) || answer.n == 0)
        return GW_EUPBAD;
    answer.vectors = arena_array(a, struct dialect_embedding, answer.n);
    if (!answer.vectors)
        return GW_ENOMEM;
    for (struct json it = json_first(data); json_exists(it) && !err; it = json_next(data, it))
        err = read_vector(it, position++, &answer);
    answer.model = json_str(json_get(root, "model"));
    err = dialect_end(a, before, err);
    if (err)
        return err;
    if (count(json_get(json_get(root, "usage"), "prompt_tokens"), &answer.usage.input))
        answer.usage.known = true;
    answer.usage.raw = json_raw(json_get(root, "usage"));
    *ret = answer;
    return GW_OK;
}
