/*
 * openai_pass.c - OpenAI bodies that are relayed as they are; see the end of dialect.h.
 *
 * Requests are copied member by member from the source text, so that everything that is not changed
 * keeps its bytes: numbers, escapes, white space, the order. Relayed events are read with tokens on
 * the C stack: a strict parse of an ordinary delta costs less than three searches for words that
 * might as well stand inside the text, and garbage is found on the way.
 */
#include "providers/dialect/openai.h"

#define EVENT_TOKENS 160u

/* --- the request ------------------------------------------------------------------------------ */

struct copy {
    const char *at; /* source not copied yet */
    bool any;       /* a member was written */
    struct buf *out;
};

/* Copies up to `to`; the comma in front of a first member goes. */
static void copy_gap(struct copy *c, const char *to)
{
    const char *comma = memchr(c->at, ',', (size_t)(to - c->at));

    if (comma && !c->any) {
        buf_add(c->out, c->at, (size_t)(comma - c->at));
        c->at = comma + 1;
    }
    buf_add(c->out, c->at, (size_t)(to - c->at));
    c->at = to;
    c->any = true;
}

static void put_string(struct buf *out, struct slice text)
{
    buf_add_char(out, '"');
    json_escape(out, text);
    buf_add_char(out, '"');
}

/* stream_options with include_usage set and everything else left. */
static void put_stream_options(struct buf *out, struct json v)
{
    struct slice raw = json_raw(v);
    struct json flag = json_get(v, "include_usage");

    if (!json_is(v, JSON_OBJECT) || json_count(v) == 0) {
        buf_add_cstr(out, "{\"include_usage\":true}");
    } else if (json_exists(flag)) {
        struct slice old = json_raw(flag);

        buf_add(out, raw.p, (size_t)(old.p - raw.p));
        buf_add_cstr(out, "true");
        buf_add(out, old.p + old.n, (size_t)(raw.p + raw.n - old.p - old.n));
    } else {
        buf_add_cstr(out, "{\"include_usage\":true,");
        buf_add(out, raw.p + 1, raw.n - 1);
    }
}

/* The limit's name at this provider when the member `name` must be renamed to it, or NULL. */
static const char *other_limit(struct json root, struct slice name, const struct registry_model *m)
{
    bool newer = m->provider->use_max_completion_tokens;
    const char *from = newer ? "max_tokens" : "max_completion_tokens";
    const char *to = newer ? "max_completion_tokens" : "max_tokens";

    return slice_is(name, from) && !json_exists(json_get(root, to)) ? to : NULL;
}

static void copy_member(struct copy *c, struct json root, struct json v, bool stream,
                        const struct registry_model *m)
{
    struct slice name = json_key(v), raw = json_raw(v);
    struct json key = {v.doc, v.i - 1};
    struct slice key_raw = json_raw(key);
    const char *limit = other_limit(root, name, m);

    if (slice_is(name, "fallbacks")) {
        c->at = raw.p + raw.n;
        return;
    }
    copy_gap(c, key_raw.p);
    if (limit) {
        put_string(c->out, slice_cstr(limit));
        c->at = key_raw.p + key_raw.n;
    }
    buf_add(c->out, c->at, (size_t)(raw.p - c->at));
    if (slice_is(name, "model"))
        put_string(c->out, m->name);
    else if (stream && slice_is(name, "stream_options"))
        put_stream_options(c->out, v);
    else
        buf_add_slice(c->out, raw);
    c->at = raw.p + raw.n;
}

enum gw_err openai_pass_body(struct json root, const struct registry_model *m, bool stream,
                             struct buf *out)
{
    struct slice whole = json_raw(root);
    struct copy c = {.at = whole.p, .out = out};
    unsigned before;

    if (!json_is(root, JSON_OBJECT))
        return GW_EBADREQ;
    before = arena_refusals(root.doc->arena);
    buf_add_char(out, '{');
    c.at++;
    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it))
        copy_member(&c, root, it, stream, m);
    if (stream && !json_exists(json_get(root, "stream_options"))) {
        if (c.any)
            buf_add_char(out, ',');
        buf_add_cstr(out, "\"stream_options\":{\"include_usage\":true}");
    }
    buf_add(out, c.at, (size_t)(whole.p + whole.n - c.at));
    return dialect_end(root.doc->arena, before, buf_err(out));
}

/* --- relayed events --------------------------------------------------------------------------- */

/* What the choices say: are they at their end, and how much did the model write? */
static void inspect_choices(struct json choices, struct dialect_pass_info *info)
{
    static const size_t frame = sizeof("{\"content\":\"\"}") - 1;

    for (struct json c = json_first(choices); json_exists(c); c = json_next(choices, c)) {
        size_t n = json_raw(json_get(c, "delta")).n;
        struct json reason = json_get(c, "finish_reason");

        info->content_bytes += n > frame ? n - frame : 0;
        if (!json_is(reason, JSON_STRING))
            continue;
        info->finish = true;
        info->odd_end |= !convo_stop_is_ordinary(openai_stop(json_str(reason)));
    }
}

/* One walk over the members instead of a search for each. */
static void inspect(struct json root, struct dialect_pass_info *info)
{
    struct json error = {NULL, 0}, choices = error, usage = error, groq = error;

    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it)) {
        struct slice name = json_key(it);

        if (slice_is(name, "choices"))
            choices = it;
        else if (slice_is(name, "usage"))
            usage = it;
        else if (slice_is(name, "error") && !json_is(it, JSON_NULL))
            error = it;
        else if (slice_is(name, "x_groq"))
            groq = json_get(it, "usage");
    }
    if (json_exists(error)) {
        info->error = true;
        openai_error_in_band(error, &info->text);
        return;
    }
    info->has_usage = openai_usage(json_is(usage, JSON_OBJECT) ? usage : groq, &info->usage);
    info->has_content = json_is(choices, JSON_ARRAY) && json_count(choices) > 0;
    info->usage_only = info->has_usage && json_is(choices, JSON_ARRAY) && !info->has_content;
    inspect_choices(choices, info);
}

enum gw_err openai_pass_event(struct slice data, struct arena *scratch,
                              struct dialect_pass_info *ret)
{
    struct json_token tokens[EVENT_TOKENS];
    struct json_doc doc = {.arena = scratch};
    struct json root = {NULL, 0};
    unsigned before = arena_refusals(scratch);
    enum gw_err err;

    *ret = (struct dialect_pass_info){.done = false};
    data = slice_trim(data);
    if (slice_is(data, "[DONE]")) {
        ret->done = true;
        return GW_OK;
    }
    err = json_parse_into(&doc, tokens, EVENT_TOKENS, data, &root);
    if (err == GW_ETOOBIG)
        err = json_parse(scratch, data, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT))
        return GW_EUPBAD;
    inspect(root, ret);
    return dialect_end(scratch, before, GW_OK);
}

enum gw_err openai_pass_answer(struct arena *scratch, struct slice body,
                               struct dialect_pass_info *ret)
{
    struct json_limits limits = {.max_tokens = 4000000};
    struct json root, choices;
    enum gw_err err = json_parse(scratch, body, &limits, &root, NULL);

    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT) || json_exists(openai_get(root, "error")))
        return GW_EUPBAD;
    choices = json_get(root, "choices");
    if (json_count(choices) == 0 && json_count(json_get(root, "data")) == 0)
        return GW_EUPBAD;
    *ret = (struct dialect_pass_info){.done = true};
    openai_usage(json_get(root, "usage"), &ret->usage);
    inspect_choices(choices, ret);
    return GW_OK;
}
