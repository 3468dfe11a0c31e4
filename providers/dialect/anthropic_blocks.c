/*
 * anthropic_blocks.c - `system` and `messages` of a client's Messages request as turns.
 *
 * Plain-text documents and search results become text with their titles in front: every model can
 * read that, and no other dialect has a shape for them. A block this file does not know becomes
 * CONVO_OPAQUE: only its own vendor can make something of it.
 */
#include "providers/dialect/anthropic.h"
#include "providers/dialect/callid.h"
#include "providers/dialect/media.h"

#define IN_USER 1u
#define IN_ASSISTANT 2u
#define IN_RESULT 4u /* the content of a tool_result */

/* Where the parts of one message go. */
struct target {
    struct convo_turn *turn;
    struct convo_part *result; /* set: they are the content of this tool result */
    struct convo_part **tail;
};

static struct convo_part *add(struct anthropic_in *in, struct target *to, enum convo_part_kind kind)
{
    struct convo_part *p;

    if (!to->result)
        return convo_add_part(in->c, to->turn, kind);
    p = arena_new(in->arena, struct convo_part);
    if (!p)
        return NULL;
    p->kind = kind;
    *to->tail = p;
    to->tail = &p->next;
    return p;
}

static enum gw_err add_text(struct anthropic_in *in, struct target *to, struct slice text,
                            struct convo_part **ret)
{
    struct convo_part *p = text.p ? add(in, to, CONVO_TEXT) : NULL;

    if (!p)
        return GW_ENOMEM;
    p->text = text;
    if (ret)
        *ret = p;
    return GW_OK;
}

/* --- text, media ---------------------------------------------------------------------------- */

static void note_lost(struct anthropic_in *in, struct json v, const char *name, const char *shown)
{
    struct json member = anthropic_get(v, name);

    if (json_exists(member) && !(json_is(member, JSON_ARRAY) && json_count(member) == 0))
        convo_drop(in->rep, shown);
}

static enum gw_err read_text(struct anthropic_in *in, struct target *to, struct json v,
                             const struct anthropic_at *at, struct convo_part **ret)
{
    struct slice text = SLICE_NONE;
    enum gw_err err;

    if (!json_exists(anthropic_get(v, "text")))
        return anthropic_wrong(in, at, "text", "Field required");
    err = anthropic_get_str(in, at, v, "text", false, &text);
    note_lost(in, v, "citations", "messages.content.citations");
    return err ? err : add_text(in, to, text, ret);
}

/* base64, url and file sources are the same for images and documents. */
static enum gw_err read_source(struct anthropic_in *in, struct json source,
                               const struct anthropic_at *at, struct convo_part *p)
{
    struct json type = json_get(source, "type");
    enum gw_err err;

    if (json_str_is(type, "base64")) {
        err = anthropic_get_str(in, at, source, "media_type", true, &p->mime);
        return err ? err : anthropic_get_str(in, at, source, "data", true, &p->data);
    }
    if (json_str_is(type, "file"))
        return anthropic_get_str(in, at, source, "file_id", true, &p->file_id);
    if (!json_str_is(type, "url"))
        return anthropic_wrong(in, at, "type", "Input is no known type of source");
    err = anthropic_get_str(in, at, source, "url", true, &p->url);
    if (!err && !media_is_http(p->url))
        err = anthropic_wrong(in, at, "url", "Input should be an http or https URL");
    return err;
}

static enum gw_err read_image(struct anthropic_in *in, struct target *to, struct json v,
                              const struct anthropic_at *at, struct convo_part **ret)
{
    struct anthropic_at here = {at, "source", 0};
    struct json source = anthropic_get(v, "source");
    struct convo_part *p;
    enum gw_err err;

    if (!json_is(source, JSON_OBJECT))
        return anthropic_wrong(in, &here, NULL, "Input should be an object");
    p = *ret = add(in, to, CONVO_IMAGE);
    if (!p)
        return GW_ENOMEM;
    err = read_source(in, source, &here, p);
    if (!err && p->data.n && (p->mime.n < 6 || strncasecmp(p->mime.p, "image/", 6) != 0))
        err = anthropic_wrong(in, &here, "media_type", "Input should be an image's media type");
    return err;
}

static enum gw_err read_parts(struct anthropic_in *in, struct target *to, struct json v,
                              unsigned where, const struct anthropic_at *at);

/* "title\n\ntext", in the arena. */
static struct slice titled(struct anthropic_in *in, struct slice title, struct slice text)
{
    char *p;

    if (title.n == 0 || !text.p)
        return text;
    p = arena_bytes(in->arena, title.n + 2 + text.n);
    if (!p)
        return SLICE_NONE;
    memcpy(p, title.p, title.n);
    memcpy(p + title.n, "\n\n", 2);
    if (text.n)
        memcpy(p + title.n + 2, text.p, text.n);
    return slice_of(p, title.n + 2 + text.n);
}

static enum gw_err read_document(struct anthropic_in *in, struct target *to, struct json v,
                                 const struct anthropic_at *at, struct convo_part **ret)
{
    struct anthropic_at here = {at, "source", 0};
    struct json source = anthropic_get(v, "source"), type = json_get(source, "type");
    struct slice title = SLICE_NONE, context = SLICE_NONE, text = SLICE_NONE;
    enum gw_err err;

    if (!json_is(source, JSON_OBJECT))
        return anthropic_wrong(in, &here, NULL, "Input should be an object");
    err = anthropic_get_str(in, at, v, "title", false, &title);
    if (!err)
        err = anthropic_get_str(in, at, v, "context", false, &context);
    if (!err && context.n)
        err = add_text(in, to, context, NULL);
    if (err)
        return err;
    note_lost(in, v, "citations", "messages.content.citations");
    if (json_str_is(type, "text")) {
        if (!json_exists(anthropic_get(source, "data")))
            return anthropic_wrong(in, &here, "data", "Field required");
        err = anthropic_get_str(in, &here, source, "data", false, &text);
        return err ? err : add_text(in, to, titled(in, title, text), ret);
    }
    if (json_str_is(type, "content")) {
        err = title.n ? add_text(in, to, title, NULL) : GW_OK;
        return err ? err
                   : read_parts(in, to, json_get(source, "content"), IN_RESULT,
                                &(struct anthropic_at){&here, "content", 0});
    }
    *ret = add(in, to, CONVO_FILE);
    if (!*ret)
        return GW_ENOMEM;
    (*ret)->name = title;
    return read_source(in, source, &here, *ret);
}

static enum gw_err read_search_result(struct anthropic_in *in, struct target *to, struct json v,
                                      const struct anthropic_at *at, struct convo_part **ret)
{
    struct slice title = SLICE_NONE, source = SLICE_NONE;
    enum gw_err err = anthropic_get_str(in, at, v, "title", true, &title);

    if (!err)
        err = anthropic_get_str(in, at, v, "source", true, &source);
    if (!err)
        err = add_text(
            in, to, arena_printf(in->arena, "%.*s\n%.*s\n\n", SLICE_ARG(title), SLICE_ARG(source)),
            ret);
    note_lost(in, v, "citations", "messages.content.citations");
    return err ? err
               : read_parts(in, to, json_get(v, "content"), IN_RESULT,
                            &(struct anthropic_at){at, "content", 0});
}

/* --- tools ---------------------------------------------------------------------------------- */

static enum gw_err read_tool_use(struct anthropic_in *in, struct target *to, struct json v,
                                 const struct anthropic_at *at, struct convo_part **ret)
{
    struct json input = anthropic_get(v, "input");
    struct convo_part *p = *ret = add(in, to, CONVO_TOOL_CALL);
    enum gw_err err;

    if (!p)
        return GW_ENOMEM;
    err = anthropic_get_str(in, at, v, "id", true, &p->id);
    if (!err)
        err = anthropic_get_str(in, at, v, "name", true, &p->name);
    if (err)
        return err;
    p->signature = callid_split(&p->id);
    if (json_exists(input) && !json_is(input, JSON_OBJECT))
        return anthropic_wrong(in, at, "input", "Input should be an object");
    p->args = json_exists(input) ? json_raw(input) : SLICE("{}");
    return GW_OK;
}

static enum gw_err read_tool_result(struct anthropic_in *in, struct target *to, struct json v,
                                    const struct anthropic_at *at, struct convo_part **ret)
{
    struct json content = anthropic_get(v, "content"), flag = anthropic_get(v, "is_error");
    struct convo_part *p = *ret = add(in, to, CONVO_TOOL_RESULT);
    struct target inside = {.turn = to->turn, .result = p, .tail = p ? &p->content : NULL};
    enum gw_err err;

    if (!p)
        return GW_ENOMEM;
    err = anthropic_get_str(in, at, v, "tool_use_id", true, &p->id);
    if (err)
        return err;
    (void)callid_split(&p->id);
    if (json_exists(flag) && !json_bool(flag, &p->is_error))
        return anthropic_wrong(in, at, "is_error", "Input should be a valid boolean");
    return json_exists(content) ? read_parts(in, &inside, content, IN_RESULT,
                                             &(struct anthropic_at){at, "content", 0})
                                : GW_OK;
}

/* --- reasoning and what is unknown ------------------------------------------------------------ */

static enum gw_err read_thinking(struct anthropic_in *in, struct target *to, struct json v,
                                 const struct anthropic_at *at, struct convo_part **ret)
{
    struct convo_part *p = add(in, to, CONVO_REASONING);
    enum gw_err err;

    if (!p)
        return GW_ENOMEM;
    if (!json_exists(anthropic_get(v, "thinking")))
        return anthropic_wrong(in, at, "thinking", "Field required");
    err = anthropic_get_str(in, at, v, "thinking", false, &p->text);
    return err ? err : anthropic_get_str(in, at, v, "signature", false, &p->signature);
}

static enum gw_err read_redacted(struct anthropic_in *in, struct target *to, struct json v,
                                 const struct anthropic_at *at, struct convo_part **ret)
{
    struct convo_part *p = add(in, to, CONVO_REDACTED);

    return p ? anthropic_get_str(in, at, v, "data", true, &p->data) : GW_ENOMEM;
}

static enum gw_err keep_opaque(struct anthropic_in *in, struct target *to, struct json v,
                               struct slice type)
{
    struct convo_part *p = add(in, to, CONVO_OPAQUE);

    if (!p)
        return GW_ENOMEM;
    p->raw = json_raw(v);
    p->name = arena_printf(in->arena, ANTHROPIC_OPAQUE "%.*s", SLICE_ARG(type));
    return p->name.p ? GW_OK : GW_ENOMEM;
}

/* --- blocks --------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    unsigned where; /* what may hold it */
    enum gw_err (*read)(struct anthropic_in *in, struct target *to, struct json v,
                        const struct anthropic_at *at, struct convo_part **ret);
} blocks[] = {
    {"text", IN_USER | IN_ASSISTANT | IN_RESULT, read_text},
    {"image", IN_USER | IN_RESULT, read_image},
    {"document", IN_USER | IN_RESULT, read_document},
    {"search_result", IN_USER | IN_RESULT, read_search_result},
    {"tool_use", IN_ASSISTANT, read_tool_use},
    {"tool_result", IN_USER, read_tool_result},
    {"thinking", IN_ASSISTANT, read_thinking},
    {"redacted_thinking", IN_ASSISTANT, read_redacted},
};

static enum gw_err read_block(struct anthropic_in *in, struct target *to, struct json v,
                              unsigned where, const struct anthropic_at *at)
{
    struct json mark = anthropic_get(v, "cache_control");
    struct slice type = SLICE_NONE;
    struct convo_part *p = NULL;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return anthropic_wrong(in, at, NULL, "Input should be an object");
    if (json_exists(mark) && !json_is(mark, JSON_OBJECT))
        return anthropic_wrong(in, at, "cache_control", "Input should be an object");
    err = anthropic_get_str(in, at, v, "type", true, &type);
    if (err)
        return err;
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        if (!slice_is(type, blocks[i].type))
            continue;
        if (!(blocks[i].where & where))
            return anthropic_wrong(in, at, "type", "Input is no type of content allowed here");
        err = blocks[i].read(in, to, v, at, &p);
        if (!err && p)
            p->cache_control = json_raw(mark);
        return err;
    }
    return keep_opaque(in, to, v, type);
}

/* A string, or a list of blocks. */
static enum gw_err read_parts(struct anthropic_in *in, struct target *to, struct json v,
                              unsigned where, const struct anthropic_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_is(v, JSON_STRING))
        return add_text(in, to, json_str(v), NULL);
    if (!json_is(v, JSON_ARRAY))
        return anthropic_wrong(in, at, NULL, "Input should be a string or a list of blocks");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = read_block(in, to, it, where, &(struct anthropic_at){at, NULL, i++});
    return err;
}

/* --- messages ------------------------------------------------------------------------------- */

/* The text of the system, wherever it stands. */
static enum gw_err read_system(struct anthropic_in *in, struct target *to, struct json v,
                               const struct anthropic_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(v, JSON_ARRAY))
        return read_parts(in, to, v, 0, at);
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it)) {
        struct anthropic_at here = {at, NULL, i++};

        err = json_str_is(json_get(it, "type"), "text")
                  ? read_block(in, to, it, IN_USER, &here)
                  : anthropic_wrong(in, &here, "type", "Input should be text");
    }
    return err;
}

/* The system comes first, wherever the member stands in the body. */
static struct convo_turn *add_front_turn(struct convo *c)
{
    struct convo_turn *before = c->last_turn, *t = convo_add_turn(c, CONVO_SYSTEM);

    if (!t || !before)
        return t;
    before->next = NULL;
    c->last_turn = before;
    t->next = c->turns;
    c->turns = t;
    return t;
}

enum gw_err anthropic_decode_system(struct anthropic_in *in, struct json v,
                                    const struct anthropic_at *at)
{
    struct target to = {.turn = NULL};

    if (json_is(v, JSON_ARRAY) && json_count(v) == 0)
        return GW_OK;
    to.turn = add_front_turn(in->c);
    return to.turn ? read_system(in, &to, v, at) : GW_ENOMEM;
}

static enum gw_err read_message(struct anthropic_in *in, struct json v,
                                const struct anthropic_at *at)
{
    struct json role = json_get(v, "role"), content = json_get(v, "content");
    struct anthropic_at here = {at, "content", 0};
    bool system = json_str_is(role, "system"), assistant = json_str_is(role, "assistant");
    struct target to = {.turn = NULL};

    if (!json_is(v, JSON_OBJECT))
        return anthropic_wrong(in, at, NULL, "Input should be an object");
    if (!system && !assistant && !json_str_is(role, "user"))
        return anthropic_wrong(in, at, "role", "Input should be user or assistant");
    to.turn = convo_add_turn(in->c, system      ? CONVO_SYSTEM
                                    : assistant ? CONVO_ASSISTANT
                                                : CONVO_USER);
    if (!to.turn)
        return GW_ENOMEM;
    if (system)
        return read_system(in, &to, content, &here);
    return read_parts(in, &to, content, assistant ? IN_ASSISTANT : IN_USER, &here);
}

enum gw_err anthropic_decode_messages(struct anthropic_in *in, struct json v,
                                      const struct anthropic_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(v, JSON_ARRAY) || json_count(v) == 0)
        return anthropic_wrong(in, at, NULL, "At least one message is required");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = read_message(in, it, &(struct anthropic_at){at, NULL, i++});
    return err;
}
