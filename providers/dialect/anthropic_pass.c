/*
 * anthropic_pass.c - Anthropic bodies that are relayed as they are; see the end of dialect.h.
 *
 * A request is copied member by member from the source text: all but the model's name keeps its
 * bytes, and our own `fallbacks` goes. The usage of a relayed stream is gathered from message_start
 * and message_delta, whose numbers are cumulative and do not contain each other.
 */
#include "providers/dialect/anthropic.h"

#define EVENT_TOKENS 160u

/* --- the request ---------------------------------------------------------------------------- */

static void copy_member(struct json v, const struct registry_model *m, struct buf *out)
{
    struct json key = {v.doc, v.i - 1};
    struct slice raw = json_raw(v), name = json_raw(key);

    if (slice_is(json_key(v), "model")) {
        buf_add(out, name.p, (size_t)(raw.p - name.p));
        buf_add_char(out, '"');
        json_escape(out, m->name);
        buf_add_char(out, '"');
    } else {
        buf_add(out, name.p, (size_t)(raw.p + raw.n - name.p));
    }
}

enum gw_err anthropic_pass_body(struct json root, const struct registry_model *m, bool stream,
                                struct buf *out)
{
    bool any = false;
    unsigned before;

    if (!json_is(root, JSON_OBJECT))
        return GW_EBADREQ;
    before = arena_refusals(root.doc->arena);
    buf_add_char(out, '{');
    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it)) {
        if (slice_is(json_key(it), "fallbacks"))
            continue;
        if (any)
            buf_add_char(out, ',');
        any = true;
        copy_member(it, m, out);
    }
    buf_add_char(out, '}');
    return dialect_end(root.doc->arena, before, buf_err(out));
}

/* --- usage ---------------------------------------------------------------------------------- */

static bool count(struct json usage, const char *name, uint64_t *to)
{
    int64_t v;

    if (!json_int(json_get(usage, name), &v) || v < 0 || v > INT64_MAX / 4)
        return false;
    *to = (uint64_t)v;
    return true;
}

/* Sets what this object tells and leaves the rest; false when it tells nothing. */
static bool merge_usage(struct json usage, struct convo_usage *u)
{
    uint64_t input = u->input - u->cache_read - u->cache_write; /* as the vendor counts */
    bool known = count(usage, "input_tokens", &input);

    known |= count(usage, "cache_read_input_tokens", &u->cache_read);
    known |= count(usage, "cache_creation_input_tokens", &u->cache_write);
    known |= count(usage, "output_tokens", &u->output);
    count(json_get(usage, "output_tokens_details"), "thinking_tokens", &u->reasoning);
    u->input = input + u->cache_read + u->cache_write;
    u->known |= known;
    if (known)
        u->raw = json_raw(usage);
    return known;
}

/* --- relayed events ------------------------------------------------------------------------- */

/* Text and thinking blocks begin empty: no sign of life yet. */
static bool begins_with_content(struct json event)
{
    struct json type = json_get(json_get(event, "content_block"), "type");

    return !json_str_is(type, "text") && !json_str_is(type, "thinking");
}

static size_t delta_bytes(struct json delta)
{
    static const size_t frame = sizeof("{\"type\":\"text_delta\",\"text\":\"\"}") - 1;
    size_t n = json_raw(delta).n;

    return n > frame ? n - frame : 0;
}

static void read_stop(struct json from, struct dialect_pass_info *info)
{
    struct json reason = json_get(from, "stop_reason");

    info->finish = json_is(reason, JSON_STRING);
    info->odd_end = info->finish && !convo_stop_is_ordinary(anthropic_stop(json_str(reason)));
}

static void inspect(struct json event, struct dialect_pass_info *info)
{
    struct json type = json_get(event, "type");

    if (json_str_is(type, "content_block_delta")) {
        info->has_content = true;
        info->content_bytes = delta_bytes(json_get(event, "delta"));
    } else if (json_str_is(type, "content_block_start")) {
        info->has_content = begins_with_content(event);
    } else if (json_str_is(type, "message_start")) {
        info->has_usage = merge_usage(json_get(json_get(event, "message"), "usage"), &info->usage);
    } else if (json_str_is(type, "message_delta")) {
        if (!info->usage.raw_first.n)
            info->usage.raw_first = info->usage.raw;
        info->has_usage = merge_usage(json_get(event, "usage"), &info->usage);
        read_stop(json_get(event, "delta"), info);
    } else if (json_str_is(type, "message_stop")) {
        info->done = true;
    } else if (json_str_is(type, "error")) {
        info->error = true;
        info->text = json_str(json_get(json_get(event, "error"), "message"));
    }
}

enum gw_err anthropic_pass_event(struct slice data, struct arena *scratch,
                                 struct dialect_pass_info *ret)
{
    struct convo_usage usage = ret->usage;
    struct json_token tokens[EVENT_TOKENS];
    struct json_doc doc = {.arena = scratch};
    struct json root = {NULL, 0};
    unsigned before = arena_refusals(scratch);
    enum gw_err err = json_parse_into(&doc, tokens, EVENT_TOKENS, data, &root);

    *ret = (struct dialect_pass_info){.usage = usage};
    if (err == GW_ETOOBIG)
        err = json_parse(scratch, data, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT))
        return GW_EUPBAD;
    inspect(root, ret);
    return dialect_end(scratch, before, GW_OK);
}

enum gw_err anthropic_pass_answer(struct arena *scratch, struct slice body,
                                  struct dialect_pass_info *ret)
{
    struct json_limits limits = {.max_tokens = 4000000};
    struct json root;
    enum gw_err err = json_parse(scratch, body, &limits, &root, NULL);

    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT) || !json_is(json_get(root, "content"), JSON_ARRAY))
        return GW_EUPBAD;
    *ret = (struct dialect_pass_info){.done = true};
    (void)merge_usage(json_get(root, "usage"), &ret->usage);
    read_stop(root, ret);
    return GW_OK;
}
