/*
 * anthropic_messages.c - the turns of a conversation as `system` and `messages` of an Anthropic
 * request.
 *
 * System and developer turns become the top-level `system`; runs of turns of one role become one
 * message, a user's with its tool results first. Tool arguments are copied byte for byte.
 */
#include "providers/dialect/anthropic.h"

#include "providers/dialect/media.h"
#include "providers/dialect/toolname.h"

#define JSON_INSTRUCTION                                                                           \
    "Answer with one JSON object and nothing else: no text around it, no code fence."

struct writer {
    struct arena *arena;
    const struct convo *c;
    const struct anthropic_plan *plan;
    struct convo_report *rep;
    struct json_writer *w;
    bool open; /* the message being written has its head */
};

static enum gw_err refuse(struct writer *r, struct slice field, struct slice why)
{
    return convo_refuse(r->rep, GW_EUNSUPPORTED, field, why);
}

/* --- blocks -------------------------------------------------------------------------------- */

/* Begins a block of the current message, whose head is written before its first block. */
static void block(struct writer *r, const char *role, const char *type)
{
    if (!r->open) {
        json_obj(r->w);
        json_kv_cstr(r->w, "role", role);
        json_kv_arr(r->w, "content");
        r->open = true;
    }
    json_obj(r->w);
    json_kv_cstr(r->w, "type", type);
}

static void block_end(struct writer *r, const struct convo_part *p)
{
    if (p && p->cache_control.n > 0)
        json_kv_raw(r->w, "cache_control", p->cache_control);
    json_obj_end(r->w);
}

static void message_end(struct writer *r)
{
    if (!r->open)
        return;
    json_arr_end(r->w);
    json_obj_end(r->w);
    r->open = false;
}

/* The vendor refuses blocks without any text, so blank ones are left out. */
static void write_text(struct writer *r, const char *role, const struct convo_part *p)
{
    if (media_is_blank(p->text))
        return;
    block(r, role, "text");
    json_kv_str(r->w, "text", p->text);
    block_end(r, p);
}

static void source_base64(struct writer *r, struct slice mime, struct slice data)
{
    json_kv_obj(r->w, "source");
    json_kv_cstr(r->w, "type", "base64");
    json_kv_str(r->w, "media_type", mime);
    json_kv_str(r->w, "data", data);
    json_obj_end(r->w);
}

static void source_url(struct writer *r, struct slice url)
{
    json_kv_obj(r->w, "source");
    json_kv_cstr(r->w, "type", "url");
    json_kv_str(r->w, "url", url);
    json_obj_end(r->w);
}

static enum gw_err write_image(struct writer *r, const char *role, const struct convo_part *p)
{
    static const char *const known[] = {"image/jpeg", "image/png", "image/gif", "image/webp"};
    struct slice mime = SLICE_NONE;

    if (p->detail.n > 0 && !slice_is(p->detail, "auto"))
        convo_drop(r->rep, "image_url.detail");
    if (p->url.n > 0) {
        if (!media_is_http(p->url))
            return refuse(r, SLICE("image_url"), SLICE("images are sent as data or by http URL"));
        block(r, role, "image");
        source_url(r, p->url);
        block_end(r, p);
        return GW_OK;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (media_is(p->mime, known[i]))
            mime = slice_cstr(known[i]);
    if (media_is(p->mime, "image/jpg"))
        mime = SLICE("image/jpeg");
    if (mime.n == 0)
        return refuse(r, SLICE("image_url"),
                      SLICE("this provider takes JPEG, PNG, GIF and WebP images"));
    block(r, role, "image");
    source_base64(r, mime, p->data);
    block_end(r, p);
    return GW_OK;
}

static enum gw_err write_plain_document(struct writer *r, const char *role,
                                        const struct convo_part *p)
{
    struct slice text = media_text(r->arena, p->data);

    if (!text.p)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("file.file_data"),
                            SLICE("a text file must be UTF-8 in base64"));
    block(r, role, "document");
    json_kv_obj(r->w, "source");
    json_kv_cstr(r->w, "type", "text");
    json_kv_cstr(r->w, "media_type", "text/plain");
    json_kv_str(r->w, "data", text);
    json_obj_end(r->w);
    return GW_OK;
}

static enum gw_err write_file(struct writer *r, const char *role, const struct convo_part *p)
{
    struct slice mime = p->mime.n ? p->mime : media_guess(p->name, SLICE("application/pdf"));
    enum gw_err err = GW_OK;

    if (p->url.n > 0 && media_is_http(p->url)) {
        block(r, role, "document");
        source_url(r, p->url);
    } else if (p->data.n == 0) {
        return refuse(r, SLICE("file.file_id"),
                      SLICE("files of another provider cannot be referred to; send the data"));
    } else if (media_is(mime, "application/pdf")) {
        block(r, role, "document");
        source_base64(r, SLICE("application/pdf"), p->data);
    } else if (media_is_text(mime)) {
        err = write_plain_document(r, role, p);
    } else {
        return refuse(r, SLICE("file"), SLICE("this provider takes PDF and text documents"));
    }
    if (err)
        return err;
    if (p->name.n > 0)
        json_kv_str(r->w, "title", p->name);
    block_end(r, p);
    return GW_OK;
}

static enum gw_err write_media(struct writer *r, const char *role, const struct convo_part *p)
{
    switch (p->kind) {
    case CONVO_TEXT:
    case CONVO_REFUSAL:
        write_text(r, role, p);
        return GW_OK;
    case CONVO_IMAGE:
        return write_image(r, role, p);
    case CONVO_FILE:
        return write_file(r, role, p);
    case CONVO_AUDIO:
        return refuse(r, SLICE("input_audio"), SLICE("this provider takes no sound"));
    default:
        convo_drop(r->rep, "messages.content");
        return GW_OK;
    }
}

/* --- tools in messages --------------------------------------------------------------------- */

static enum gw_err put_safe(struct writer *r, const char *key, struct slice name)
{
    struct slice safe = toolname_safe(r->arena, name, TOOLNAME_ANY_FIRST);

    if (!safe.p)
        return GW_ENOMEM;
    json_kv_str(r->w, key, safe);
    return GW_OK;
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

static enum gw_err write_tool_use(struct writer *r, const struct convo_part *p)
{
    bool empty = media_is_blank(p->args);
    enum gw_err err = empty ? GW_OK : check_args(r, p->args);

    if (err)
        return err;
    if (p->signature.n > 0)
        convo_drop(r->rep, "thought_signature"); /* Gemini's, of a call */
    block(r, "assistant", "tool_use");
    err = put_safe(r, "id", p->id);
    if (!err)
        err = put_safe(r, "name", p->name);
    if (err)
        return err;
    json_kv_raw(r->w, "input", empty ? SLICE("{}") : p->args);
    block_end(r, p);
    return GW_OK;
}

static enum gw_err write_tool_result(struct writer *r, const struct convo_part *p)
{
    const struct convo_part *only = p->content && !p->content->next ? p->content : NULL;
    enum gw_err err;

    block(r, "user", "tool_result");
    err = put_safe(r, "tool_use_id", p->id);
    if (err)
        return err;
    if (only && only->kind == CONVO_TEXT && only->cache_control.n == 0) {
        if (only->text.n > 0)
            json_kv_str(r->w, "content", only->text);
    } else if (p->content) {
        json_kv_arr(r->w, "content");
        for (const struct convo_part *q = p->content; q && !err; q = q->next)
            err = write_media(r, "user", q);
        json_arr_end(r->w);
    }
    if (p->is_error)
        json_kv_bool(r->w, "is_error", true);
    block_end(r, p);
    return err;
}

/* --- reasoning ----------------------------------------------------------------------------- */

static bool is_reasoning(const struct convo_part *p)
{
    return p->kind == CONVO_REASONING || p->kind == CONVO_REDACTED;
}

static void write_reasoning(struct writer *r, const struct convo_part *p)
{
    if (p->kind == CONVO_REDACTED) {
        block(r, "assistant", "redacted_thinking");
        json_kv_str(r->w, "data", p->data);
    } else if (p->signature.n > 0) {
        block(r, "assistant", "thinking");
        json_kv_str(r->w, "thinking", p->text);
        json_kv_str(r->w, "signature", p->signature);
    } else {
        convo_drop(r->rep, "messages.reasoning"); /* the vendor takes back only what it signed */
        return;
    }
    block_end(r, NULL);
}

/* --- messages ------------------------------------------------------------------------------ */

static enum gw_err write_assistant_turn(struct writer *r, const struct convo_turn *t)
{
    /* thinking comes first; a turn that begins with it keeps its own order (interleaved thinking)
     */
    bool as_it_is = t->parts && is_reasoning(t->parts);
    enum gw_err err = GW_OK;

    for (const struct convo_part *p = t->parts; p && !as_it_is; p = p->next)
        if (is_reasoning(p))
            write_reasoning(r, p);
    for (const struct convo_part *p = t->parts; p && !err; p = p->next) {
        if (p->kind == CONVO_TOOL_CALL)
            err = write_tool_use(r, p);
        else if (!is_reasoning(p))
            err = write_media(r, "assistant", p);
        else if (as_it_is)
            write_reasoning(r, p);
    }
    return err;
}

static enum gw_err write_user_turn(struct writer *r, const struct convo_turn *t, bool results)
{
    enum gw_err err = GW_OK;

    for (const struct convo_part *p = t->parts; p && !err; p = p->next) {
        if ((p->kind == CONVO_TOOL_RESULT) != results)
            continue;
        err = results ? write_tool_result(r, p) : write_media(r, "user", p);
    }
    return err;
}

static bool is_system(const struct convo_turn *t)
{
    return t->role == CONVO_SYSTEM || t->role == CONVO_DEVELOPER;
}

/* One message of all turns from `t` up to `end`, which are of one role or system turns. */
static enum gw_err write_run(struct writer *r, const struct convo_turn *t,
                             const struct convo_turn *end)
{
    enum gw_err err = GW_OK;

    if (t->role == CONVO_ASSISTANT) {
        for (const struct convo_turn *u = t; u != end && !err; u = u->next)
            if (!is_system(u))
                err = write_assistant_turn(r, u);
    } else {
        for (int results = 1; results >= 0; results--)
            for (const struct convo_turn *u = t; u != end && !err; u = u->next)
                if (!is_system(u))
                    err = write_user_turn(r, u, results != 0);
    }
    message_end(r);
    return err;
}

static enum gw_err write_messages(struct writer *r)
{
    const struct convo_turn *t = r->c->turns, *end;
    size_t before;
    enum gw_err err = GW_OK;

    json_kv_arr(r->w, "messages");
    before = r->w->out->n;
    for (; t && !err; t = end) {
        if (t->name.n > 0)
            convo_drop(r->rep, "messages.name");
        end = t->next;
        if (is_system(t))
            continue;
        while (end && (is_system(end) || end->role == t->role)) {
            if (end->name.n > 0)
                convo_drop(r->rep, "messages.name");
            end = end->next;
        }
        err = write_run(r, t, end);
    }
    if (!err && r->w->out->n == before && !buf_err(r->w->out))
        err = convo_refuse(r->rep, GW_EBADREQ, SLICE("messages"),
                           SLICE("there must be a message with content from the user"));
    json_arr_end(r->w);
    return err;
}

static enum gw_err write_system_turn(struct writer *r, const struct convo_turn *t, bool *open)
{
    for (const struct convo_part *p = t->parts; p; p = p->next) {
        if (p->kind != CONVO_TEXT)
            return refuse(r, SLICE("messages.content"), SLICE("a system message holds text only"));
        if (media_is_blank(p->text))
            continue;
        if (!*open) {
            json_kv_arr(r->w, "system");
            *open = true;
        }
        json_obj(r->w);
        json_kv_cstr(r->w, "type", "text");
        json_kv_str(r->w, "text", p->text);
        block_end(r, p);
    }
    return GW_OK;
}

static enum gw_err write_system(struct writer *r)
{
    struct convo_part told = {.kind = CONVO_TEXT, .text = SLICE(JSON_INSTRUCTION)};
    struct convo_turn instruction = {.role = CONVO_SYSTEM, .parts = &told};
    bool open = false;
    enum gw_err err = GW_OK;

    for (const struct convo_turn *t = r->c->turns; t && !err; t = t->next)
        if (is_system(t))
            err = write_system_turn(r, t, &open);
    if (!err && r->c->format == CONVO_FORMAT_JSON && !r->plan->emulate) {
        err = write_system_turn(r, &instruction, &open);
        convo_drop(r->rep, "response_format"); /* asked for in words, not enforced */
    }
    if (open)
        json_arr_end(r->w);
    return err;
}

/* --- entry point -------------------------------------------------------------------------- */

enum gw_err anthropic_write_turns(const struct convo *c, const struct anthropic_plan *plan,
                                  struct json_writer *w, struct convo_report *rep)
{
    struct writer r = {.arena = c->arena, .c = c, .plan = plan, .rep = rep, .w = w};
    enum gw_err err = write_system(&r);

    return err ? err : write_messages(&r);
}
