/*
 * google_contents.c - the turns of a conversation as `systemInstruction` and `contents` of a Gemini
 * request.
 *
 * System and developer turns become systemInstruction; runs of turns of one role become one
 * content, a user's with its function responses first, in the order of the calls they answer. The
 * vendor knows a response by the function's name, which is looked up from the call's id.
 */
#include "providers/dialect/google.h"

#include "gateway/core/hex.h"
#include "providers/dialect/media.h"
#include "providers/dialect/toolname.h"

#include <stdlib.h>

#define BYPASS "skip_thought_signature_validator" /* the vendor's word for "there is none" */
#define OWN_ID_DIGITS 16u

/* A call of the conversation, for finding it by its id. */
struct call {
    struct slice id, name;
    unsigned order; /* over the whole conversation */
};

struct result {
    const struct convo_part *part;
    struct slice name;
    unsigned order;
};

struct writer {
    struct arena *arena;
    const struct convo *c;
    const struct registry_model *m;
    struct convo_report *rep;
    struct json_writer *w;
    struct call *calls; /* sorted by id, then order */
    unsigned n_calls;
    unsigned calls_before; /* calls of the turns written so far */
    bool open;             /* the content being written has its head */
    bool signed_call;      /* the content's first call has been written */
};

static enum gw_err refuse(struct writer *r, struct slice field, struct slice why)
{
    return convo_refuse(r->rep, GW_EUNSUPPORTED, field, why);
}

static bool is_system(const struct convo_turn *t)
{
    return t->role == CONVO_SYSTEM || t->role == CONVO_DEVELOPER;
}

/* --- calls by id --------------------------------------------------------------------------- */

static int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int compare_calls(const void *left, const void *right)
{
    const struct call *a = left, *b = right;
    int c = slice_compare(a->id, b->id);

    return c ? c : (a->order > b->order) - (a->order < b->order);
}

static unsigned count_calls(const struct convo_turn *t)
{
    unsigned n = 0;

    for (const struct convo_part *p = t->parts; p; p = p->next)
        n += p->kind == CONVO_TOOL_CALL;
    return n;
}

static enum gw_err index_calls(struct writer *r)
{
    unsigned n = 0;

    for (const struct convo_turn *t = r->c->turns; t; t = t->next)
        n += count_calls(t);
    if (n == 0)
        return GW_OK;
    r->calls = arena_array(r->arena, struct call, n);
    if (!r->calls)
        return GW_ENOMEM;
    for (const struct convo_turn *t = r->c->turns; t; t = t->next)
        for (const struct convo_part *p = t->parts; p; p = p->next)
            if (p->kind == CONVO_TOOL_CALL) {
                r->calls[r->n_calls] = (struct call){p->id, p->name, r->n_calls};
                r->n_calls++;
            }
    qsort(r->calls, r->n_calls, sizeof(*r->calls), compare_calls);
    return GW_OK;
}

/* The last call with this id among the first `before` ones, or NULL. */
static const struct call *find_call(const struct writer *r, struct slice id, unsigned before)
{
    struct call key = {.id = id, .order = before};
    unsigned low = 0, high = r->n_calls;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (compare_calls(&r->calls[mid], &key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && slice_eq(r->calls[low - 1].id, id) ? &r->calls[low - 1] : NULL;
}

/* --- parts --------------------------------------------------------------------------------- */

static void part(struct writer *r, const char *role)
{
    if (!r->open) {
        json_obj(r->w);
        json_kv_cstr(r->w, "role", role);
        json_kv_arr(r->w, "parts");
        r->open = true;
    }
    json_obj(r->w);
}

static void content_end(struct writer *r)
{
    if (!r->open)
        return;
    json_arr_end(r->w);
    json_obj_end(r->w);
    r->open = false;
}

static void write_text(struct writer *r, const char *role, const struct convo_part *p)
{
    if (p->text.n == 0 && p->signature.n == 0)
        return;
    part(r, role);
    json_kv_str(r->w, "text", p->text);
    if (p->signature.n > 0)
        json_kv_str(r->w, "thoughtSignature", p->signature);
    json_obj_end(r->w);
}

static void write_inline(struct writer *r, const char *role, struct slice mime, struct slice data)
{
    part(r, role);
    json_kv_obj(r->w, "inlineData");
    json_kv_str(r->w, "mimeType", mime);
    json_kv_str(r->w, "data", data);
    json_obj_end(r->w);
    json_obj_end(r->w);
}

static void write_link(struct writer *r, const char *role, struct slice mime, struct slice uri)
{
    part(r, role);
    json_kv_obj(r->w, "fileData");
    json_kv_str(r->w, "mimeType", mime);
    json_kv_str(r->w, "fileUri", uri);
    json_obj_end(r->w);
    json_obj_end(r->w);
}

static enum gw_err write_file(struct writer *r, const char *role, const struct convo_part *p,
                              struct slice fallback, struct slice field)
{
    struct slice mime = media_essence(p->mime);
    struct slice where = p->url.n ? p->url : p->file_id;

    if (p->data.n > 0) {
        write_inline(r, role, mime.n ? mime : media_guess(p->name, fallback), p->data);
        return GW_OK;
    }
    if (!media_is_http(where) && !slice_starts(where, "gs://"))
        return refuse(r, field,
                      SLICE("this provider takes data or a URL; files of another one cannot be "
                            "referred to"));
    write_link(r, role, mime.n ? mime : media_guess(where, fallback), where);
    return GW_OK;
}

/* Caching is implicit here: the marker says nothing to this provider. */
static void drop_marker(struct writer *r, const struct convo_part *p)
{
    if (p->cache_control.n > 0)
        convo_drop(r->rep, "cache_control");
}

static enum gw_err write_media(struct writer *r, const char *role, const struct convo_part *p)
{
    drop_marker(r, p);
    switch (p->kind) {
    case CONVO_TEXT:
    case CONVO_REFUSAL:
        write_text(r, role, p);
        return GW_OK;
    case CONVO_IMAGE:
        if (p->detail.n > 0 && !slice_is(p->detail, "auto"))
            convo_drop(r->rep, "image_url.detail");
        return write_file(r, role, p, SLICE("image/jpeg"), SLICE("image_url"));
    case CONVO_FILE:
        return write_file(r, role, p, SLICE("application/pdf"), SLICE("file.file_id"));
    case CONVO_AUDIO:
        return write_file(r, role, p, SLICE("audio/wav"), SLICE("input_audio"));
    case CONVO_REASONING:
    case CONVO_REDACTED:
        convo_drop(r->rep, "messages.reasoning"); /* the vendor wants its signatures, on calls */
        return GW_OK;
    default:
        convo_drop(r->rep, "messages.content");
        return GW_OK;
    }
}

/* --- calls and results --------------------------------------------------------------------- */

static enum gw_err put_safe_name(struct writer *r, struct slice name)
{
    struct slice safe = toolname_safe(r->arena, name, TOOLNAME_LETTER_FIRST);

    if (!safe.p)
        return GW_ENOMEM;
    json_kv_str(r->w, "name", safe);
    return GW_OK;
}

/* An id that the decoder made up because the vendor gave none is not told to the vendor. */
static bool is_own_id(struct slice id)
{
    if (id.n != 5 + OWN_ID_DIGITS || !slice_starts(id, "call_"))
        return false;
    for (size_t i = 5; i < id.n; i++)
        if (!hex_is_lower(id.p[i]))
            return false;
    return true;
}

static void put_id(struct writer *r, struct slice id)
{
    if (id.n > 0 && !is_own_id(id))
        json_kv_str(r->w, "id", id);
}

static enum gw_err check_args(struct writer *r, struct slice args)
{
    struct json root;
    enum gw_err err = json_parse(r->arena, args, NULL, &root, NULL);

    if (err == GW_ENOMEM)
        return err;
    if (err || json_type(root) != JSON_OBJECT)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("messages.tool_calls.function.arguments"),
                            SLICE("the arguments of a tool call must be a JSON object"));
    return GW_OK;
}

/* The first call of a content carries the thought's signature; models that insist get a stand-in.
 */
static enum gw_err write_call(struct writer *r, const struct convo_part *p)
{
    bool empty = media_is_blank(p->args);
    enum gw_err err = empty ? GW_OK : check_args(r, p->args);

    if (err)
        return err;
    drop_marker(r, p);
    part(r, "model");
    json_kv_obj(r->w, "functionCall");
    put_id(r, p->id);
    err = put_safe_name(r, p->name);
    json_kv_raw(r->w, "args", empty ? SLICE("{}") : p->args);
    json_obj_end(r->w);
    if (p->signature.n > 0)
        json_kv_str(r->w, "thoughtSignature", p->signature);
    else if (!r->signed_call && registry_has_quirk(r->m, "thought_signatures"))
        json_kv_cstr(r->w, "thoughtSignature", BYPASS);
    r->signed_call = true;
    json_obj_end(r->w);
    return err;
}

/* All text of a result, in the arena unless it is in one piece; p == NULL out of memory. */
static struct slice result_text(struct writer *r, const struct convo_part *result)
{
    size_t n = 0;
    char *p;

    if (result->content && !result->content->next && result->content->kind == CONVO_TEXT)
        return result->content->text.p ? result->content->text : SLICE("");
    for (const struct convo_part *q = result->content; q; q = q->next)
        if (q->kind == CONVO_TEXT)
            n += q->text.n;
    p = arena_bytes(r->arena, n + 1);
    if (!p)
        return SLICE_NONE;
    n = 0;
    for (const struct convo_part *q = result->content; q; q = q->next)
        if (q->kind == CONVO_TEXT && q->text.n > 0) {
            memcpy(p + n, q->text.p, q->text.n);
            n += q->text.n;
        }
    return slice_of(p, n);
}

/* The vendor wants an object: an object result is it, others are wrapped. */
static enum gw_err write_response(struct writer *r, const struct convo_part *result)
{
    struct slice text = result_text(r, result);
    struct json root = {0};
    enum gw_err err;

    if (!text.p)
        return GW_ENOMEM;
    err = json_parse(r->arena, text, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err)
        root = (struct json){0};
    json_put_key(r->w, "response");
    if (json_is(root, JSON_OBJECT) && !result->is_error) {
        json_put_raw(r->w, json_raw(root));
        return GW_OK;
    }
    json_obj(r->w);
    json_put_key(r->w, result->is_error ? "error" : "output");
    if (json_is(root, JSON_OBJECT) || json_is(root, JSON_ARRAY))
        json_put_raw(r->w, json_raw(root));
    else
        json_put_str(r->w, text);
    json_obj_end(r->w);
    return GW_OK;
}

static enum gw_err write_result(struct writer *r, const struct result *result)
{
    enum gw_err err;

    drop_marker(r, result->part);
    part(r, "user");
    json_kv_obj(r->w, "functionResponse");
    put_id(r, result->part->id);
    err = put_safe_name(r, result->name);
    if (!err)
        err = write_response(r, result->part);
    json_obj_end(r->w);
    json_obj_end(r->w);
    return err;
}

static int compare_results(const void *left, const void *right)
{
    const struct result *a = left, *b = right;

    return (a->order > b->order) - (a->order < b->order);
}

static unsigned count_results(const struct convo_turn *t, const struct convo_turn *end)
{
    unsigned n = 0;

    for (; t != end; t = t->next)
        for (const struct convo_part *p = t->parts; p; p = p->next)
            n += p->kind == CONVO_TOOL_RESULT;
    return n;
}

static enum gw_err find_result(struct writer *r, const struct convo_part *p, struct result *ret)
{
    const struct call *call = find_call(r, p->id, r->calls_before);

    *ret = (struct result){p, call ? call->name : p->name, call ? call->order : r->n_calls};
    if (ret->name.n == 0)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("messages.tool_call_id"),
                            SLICE("a tool result names no call of this conversation"));
    return GW_OK;
}

static enum gw_err write_results(struct writer *r, const struct convo_turn *t,
                                 const struct convo_turn *end)
{
    unsigned n = count_results(t, end), i = 0;
    struct result *list = n ? arena_array(r->arena, struct result, n) : NULL;
    enum gw_err err = GW_OK;

    if (n == 0)
        return GW_OK;
    if (!list)
        return GW_ENOMEM;
    for (; t != end && !err; t = t->next)
        for (const struct convo_part *p = t->parts; p && !err; p = p->next)
            if (p->kind == CONVO_TOOL_RESULT)
                err = find_result(r, p, &list[i++]);
    if (!err)
        qsort(list, n, sizeof(*list), compare_results);
    for (i = 0; i < n && !err; i++)
        err = write_result(r, &list[i]);
    for (i = 0; i < n && !err; i++) /* pictures and files of results follow them */
        for (const struct convo_part *p = list[i].part->content; p && !err; p = p->next)
            if (p->kind != CONVO_TEXT)
                err = write_media(r, "user", p);
    return err;
}

/* --- contents ------------------------------------------------------------------------------ */

static enum gw_err write_turn(struct writer *r, const struct convo_turn *t)
{
    const char *role = t->role == CONVO_ASSISTANT ? "model" : "user";
    enum gw_err err = GW_OK;

    for (const struct convo_part *p = t->parts; p && !err; p = p->next) {
        if (p->kind == CONVO_TOOL_CALL)
            err = write_call(r, p);
        else if (p->kind != CONVO_TOOL_RESULT)
            err = write_media(r, role, p);
    }
    r->calls_before += count_calls(t);
    return err;
}

/* One content of all turns from `t` up to `end`, which are of one role or system turns. */
static enum gw_err write_run(struct writer *r, const struct convo_turn *t,
                             const struct convo_turn *end)
{
    enum gw_err err = GW_OK;

    r->signed_call = false;
    if (t->role == CONVO_USER)
        err = write_results(r, t, end);
    for (; t != end && !err; t = t->next)
        if (!is_system(t))
            err = write_turn(r, t);
    content_end(r);
    return err;
}

static enum gw_err write_contents(struct writer *r)
{
    const struct convo_turn *t = r->c->turns, *end;
    size_t before;
    enum gw_err err = GW_OK;

    json_kv_arr(r->w, "contents");
    before = r->w->out->n;
    for (; t && !err; t = end) {
        end = t->next;
        if (is_system(t))
            continue;
        while (end && (is_system(end) || end->role == t->role))
            end = end->next;
        err = write_run(r, t, end);
    }
    for (t = r->c->turns; t; t = t->next)
        if (t->name.n > 0)
            convo_drop(r->rep, "messages.name");
    if (!err && r->w->out->n == before && !buf_err(r->w->out))
        err = convo_refuse(r->rep, GW_EBADREQ, SLICE("messages"),
                           SLICE("there must be a message with content from the user"));
    json_arr_end(r->w);
    return err;
}

static enum gw_err write_system(struct writer *r)
{
    bool open = false;

    for (const struct convo_turn *t = r->c->turns; t; t = t->next) {
        for (const struct convo_part *p = is_system(t) ? t->parts : NULL; p; p = p->next) {
            if (p->kind != CONVO_TEXT)
                return refuse(r, SLICE("messages.content"),
                              SLICE("a system message holds text only"));
            if (p->text.n == 0)
                continue;
            if (!open) {
                json_kv_obj(r->w, "systemInstruction");
                json_kv_arr(r->w, "parts");
                open = true;
            }
            json_obj(r->w);
            json_kv_str(r->w, "text", p->text);
            json_obj_end(r->w);
        }
    }
    if (open) {
        json_arr_end(r->w);
        json_obj_end(r->w);
    }
    return GW_OK;
}

/* --- entry point -------------------------------------------------------------------------- */

enum gw_err google_write_turns(const struct convo *c, const struct registry_model *m,
                               struct json_writer *w, struct convo_report *rep)
{
    struct writer r = {.arena = c->arena, .c = c, .m = m, .rep = rep, .w = w};
    enum gw_err err = index_calls(&r);

    if (!err)
        err = write_system(&r);
    return err ? err : write_contents(&r);
}
