/*
 * google_pass.c - Gemini bodies that are relayed as they are; see the end of dialect.h.
 *
 * The model is in the URL, so a request loses nothing but `fallbacks`, which is ours, and only one
 * to be counted names its model again. Relayed events are read with tokens on the C stack, as in
 * openai_pass.c.
 */
#include "providers/dialect/google.h"
#include "providers/dialect/google_client.h"

#define EVENT_TOKENS 160u

/* --- the request --------------------------------------------------------------------------- */

/* Where the source gets other bytes. */
struct edit {
    const char *from, *to;
    struct slice with;
};

/* The member whose value is `v`, from its key to its value, and the comma that parts it from the
 * others. */
static struct edit without_member(struct slice whole, struct json v)
{
    const char *end = whole.p + whole.n;
    const char *from = json_raw((struct json){v.doc, v.i - 1}).p;
    const char *to = json_raw(v).p + json_raw(v).n, *after = to;

    while (after < end && *after && strchr(" \t\r\n", *after))
        after++;
    if (after < end && *after == ',')
        return (struct edit){from, after + 1, SLICE_NONE};
    while (from > whole.p && from[-1] != ',' && from[-1] != '{')
        from--;
    return (struct edit){from > whole.p && from[-1] == ',' ? from - 1 : from, to, SLICE_NONE};
}

static const char *copy_edited(struct buf *out, const char *at, const struct edit *e)
{
    if (!e->from)
        return at;
    buf_add(out, at, (size_t)(e->from - at));
    buf_add_slice(out, e->with);
    return e->to;
}

enum gw_err google_pass_body(struct json root, const struct registry_model *m, bool stream,
                             struct buf *out)
{
    unsigned before = json_exists(root) ? arena_refusals(root.doc->arena) : 0;
    struct json own = json_get(root, "fallbacks");
    struct json model = google_get(google_get(root, "generateContentRequest"), "model");
    struct slice whole = json_raw(root), name = google_model_name(m);
    struct edit cut = {NULL, NULL, SLICE_NONE}, named = cut;
    const char *at = whole.p;

    (void)stream;
    if (!json_is(root, JSON_OBJECT))
        return GW_EBADREQ;
    if (json_exists(own))
        cut = without_member(whole, own);
    if (json_is(model, JSON_STRING)) { /* countTokens says the model once more */
        named.from = json_raw(model).p;
        named.to = named.from + json_raw(model).n;
        named.with = arena_printf(root.doc->arena, "\"models/%.*s\"", SLICE_ARG(name));
        if (!named.with.p)
            return GW_ENOMEM;
    }
    if (cut.from && named.from && named.from < cut.from) {
        at = copy_edited(out, at, &named);
        at = copy_edited(out, at, &cut);
    } else {
        at = copy_edited(out, at, &cut);
        at = copy_edited(out, at, &named);
    }
    buf_add(out, at, (size_t)(whole.p + whole.n - at));
    return dialect_end(root.doc->arena, before, buf_err(out));
}

/* --- relayed events ------------------------------------------------------------------------ */

/* What the candidates say: are they at their end, and how much did the model write? */
static void inspect_candidates(struct json candidates, struct dialect_pass_info *info)
{
    static const size_t frame = sizeof("[{\"text\":\"\"}]") - 1;

    for (struct json c = json_first(candidates); json_exists(c); c = json_next(candidates, c)) {
        size_t n = json_raw(json_get(json_get(c, "content"), "parts")).n;
        struct json reason = json_get(c, "finishReason");

        info->content_bytes += n > frame ? n - frame : 0;
        if (!json_is(reason, JSON_STRING))
            continue;
        info->finish = true;
        info->odd_end |= !convo_stop_is_ordinary(google_stop(json_str(reason)));
    }
}

/* One walk over the members instead of a search for each. */
static void inspect(struct json root, struct dialect_pass_info *info)
{
    struct json error = {NULL, 0}, candidates = error, usage = error, feedback = error;

    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it)) {
        struct slice name = json_key(it);

        if (slice_is(name, "candidates"))
            candidates = it;
        else if (slice_is(name, "usageMetadata"))
            usage = it;
        else if (slice_is(name, "promptFeedback"))
            feedback = it;
        else if (slice_is(name, "error") && json_is(it, JSON_OBJECT))
            error = it;
    }
    if (json_exists(error)) {
        struct dialect_error e;

        google_read_error(error, 0, &e);
        info->error = true;
        info->text = e.message;
        return;
    }
    info->has_usage = google_usage(usage, &info->usage);
    inspect_candidates(candidates, info);
    if (json_is(json_get(feedback, "blockReason"), JSON_STRING))
        info->finish = info->odd_end = true;
    info->has_content = json_count(candidates) > 0 || info->finish;
}

enum gw_err google_pass_event(struct slice data, struct arena *scratch,
                              struct dialect_pass_info *ret)
{
    struct json_token tokens[EVENT_TOKENS];
    struct json_doc doc = {.arena = scratch};
    struct json root = {NULL, 0};
    unsigned before = arena_refusals(scratch);
    enum gw_err err;

    *ret = (struct dialect_pass_info){.usage = ret->usage};
    err = json_parse_into(&doc, tokens, EVENT_TOKENS, data, &root);
    if (err == GW_ETOOBIG)
        err = json_parse(scratch, data, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (!err && json_is(root, JSON_ARRAY)) /* an error's way of coming */
        root = json_first(root);
    if (err || !json_is(root, JSON_OBJECT))
        return GW_EUPBAD;
    inspect(root, ret);
    return dialect_end(scratch, before, GW_OK);
}

enum gw_err google_pass_answer(struct arena *scratch, struct slice body,
                               struct dialect_pass_info *ret)
{
    struct json_limits limits = {.max_tokens = 4000000};
    struct json root;
    enum gw_err err = json_parse(scratch, body, &limits, &root, NULL);

    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT) || json_is(json_get(root, "error"), JSON_OBJECT))
        return GW_EUPBAD;
    if (json_count(json_get(root, "candidates")) == 0 &&
        !json_is(json_get(root, "promptFeedback"), JSON_OBJECT))
        return GW_EUPBAD;
    *ret = (struct dialect_pass_info){.done = true};
    inspect(root, ret);
    return GW_OK;
}
