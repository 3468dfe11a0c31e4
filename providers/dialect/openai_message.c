/*
 * openai_message.c - the messages of a client's chat completions request as turns.
 *
 * Consecutive `tool` (and legacy `function`) messages become one user turn of tool results. What an
 * assistant message holds becomes parts in the order the model gave them: reasoning, text, refusal,
 * tool calls.
 */
#include "providers/dialect/callid.h"
#include "providers/dialect/media.h"
#include "providers/dialect/openai.h"

#define ROLE_ASSISTANT 1u
#define ROLE_USER 2u
#define ROLE_SYSTEM 4u
#define ROLE_TOOL 8u

struct convo_part *openai_add_part(struct openai_in *in, struct openai_target *to,
                                   enum convo_part_kind kind)
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

/* --- media ------------------------------------------------------------------------------------ */

static enum gw_err read_image(struct openai_in *in, struct openai_target *to, struct json v,
                              const struct openai_at *at, struct convo_part **ret)
{
    struct slice url = SLICE_NONE, mime, data = SLICE_NONE, detail = SLICE_NONE;
    enum convo_part_kind kind = CONVO_IMAGE;
    struct convo_part *p;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "An object with a url is required");
    err = openai_get_str(in, at, v, "url", true, &url);
    if (!err)
        err = openai_get_str(in, at, v, "detail", false, &detail);
    if (err)
        return err;
    if (media_split_data_url(url, &mime, &data)) {
        if (media_is(mime, "application/pdf"))
            kind = CONVO_FILE;
        else if (mime.n < 6 || strncasecmp(mime.p, "image/", 6) != 0)
            return openai_wrong(in, at, "url", "Must be an image");
    } else if (!media_is_web_url(url)) {
        return openai_wrong(in, at, "url", "Must be a base64 data URL or an http or https URL");
    }
    p = *ret = openai_add_part(in, to, kind);
    if (!p)
        return GW_ENOMEM;
    p->detail = detail;
    p->mime = data.n ? mime : SLICE_NONE;
    p->data = data;
    p->url = data.n ? SLICE_NONE : url;
    return GW_OK;
}

static enum gw_err read_file(struct openai_in *in, struct openai_target *to, struct json v,
                             const struct openai_at *at, struct convo_part **ret)
{
    struct slice data = SLICE_NONE, id = SLICE_NONE, name = SLICE_NONE, mime = SLICE_NONE;
    struct slice inner;
    struct convo_part *p;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "An object is required");
    err = openai_get_str(in, at, v, "file_data", false, &data);
    if (!err)
        err = openai_get_str(in, at, v, "file_id", false, &id);
    if (!err)
        err = openai_get_str(in, at, v, "filename", false, &name);
    if (err)
        return err;
    if (data.n == 0 && id.n == 0)
        return openai_wrong(in, at, NULL, "file_data or file_id is required");
    if (data.n && media_split_data_url(data, &mime, &inner))
        data = inner;
    else if (data.n && slice_find(data, ':') < data.n)
        return openai_wrong(in, at, "file_data", "Must be base64 data or a base64 data URL");
    else if (data.n)
        mime = media_guess(name, SLICE("application/pdf"));
    p = *ret = openai_add_part(in, to, CONVO_FILE);
    if (!p)
        return GW_ENOMEM;
    p->data = data;
    p->mime = mime;
    p->file_id = id;
    p->name = name;
    return GW_OK;
}

static enum gw_err read_audio(struct openai_in *in, struct openai_target *to, struct json v,
                              const struct openai_at *at, struct convo_part **ret)
{
    struct slice data = SLICE_NONE, format = SLICE_NONE;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "An object is required");
    err = openai_get_str(in, at, v, "data", true, &data);
    if (!err)
        err = openai_get_str(in, at, v, "format", true, &format);
    if (err)
        return err;
    if (!slice_is(format, "wav") && !slice_is(format, "mp3"))
        return openai_wrong(in, at, "format", "Must be wav or mp3");
    *ret = openai_add_part(in, to, CONVO_AUDIO);
    if (!*ret)
        return GW_ENOMEM;
    (*ret)->data = data;
    (*ret)->mime = slice_is(format, "wav") ? SLICE("audio/wav") : SLICE("audio/mp3");
    return GW_OK;
}

/* --- content ---------------------------------------------------------------------------------- */

static enum gw_err read_text(struct openai_in *in, struct openai_target *to, struct json part,
                             const struct openai_at *at, enum convo_part_kind kind,
                             struct convo_part **ret)
{
    struct slice text = SLICE_NONE;
    const char *name = kind == CONVO_REFUSAL ? "refusal" : "text";
    enum gw_err err;

    if (!json_exists(openai_get(part, name)))
        return openai_wrong(in, at, name, "A string is required");
    err = openai_get_str(in, at, part, name, false, &text);
    if (err)
        return err;
    *ret = openai_add_part(in, to, kind);
    if (!*ret)
        return GW_ENOMEM;
    (*ret)->text = text;
    return GW_OK;
}

/* A block of reasoning, in LiteLLM's (and Anthropic's) form. */
static enum gw_err read_block(struct openai_in *in, struct openai_target *to, struct json v,
                              const struct openai_at *at)
{
    bool redacted = json_str_is(json_get(v, "type"), "redacted_thinking");
    struct convo_part *p;
    enum gw_err err;

    if (!redacted && !json_str_is(json_get(v, "type"), "thinking"))
        return openai_wrong(in, at, "type", "Must be thinking or redacted_thinking");
    p = openai_add_part(in, to, redacted ? CONVO_REDACTED : CONVO_REASONING);
    if (!p)
        return GW_ENOMEM;
    if (redacted)
        return openai_get_str(in, at, v, "data", true, &p->data);
    err = openai_get_str(in, at, v, "thinking", false, &p->text);
    return err ? err : openai_get_str(in, at, v, "signature", false, &p->signature);
}

static bool is_block(struct json type)
{
    return json_str_is(type, "thinking") || json_str_is(type, "redacted_thinking");
}

static enum gw_err read_part(struct openai_in *in, struct openai_target *to, struct json v,
                             unsigned role, const struct openai_at *at)
{
    struct json type = json_get(v, "type"), mark = openai_get(v, "cache_control");
    struct convo_part *p = NULL;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    if (json_str_is(type, "text"))
        err = read_text(in, to, v, at, CONVO_TEXT, &p);
    else if (json_str_is(type, "image_url") && (role & (ROLE_USER | ROLE_TOOL)))
        err = read_image(in, to, json_get(v, "image_url"), &(struct openai_at){at, "image_url", 0},
                         &p);
    else if (json_str_is(type, "file") && (role & (ROLE_USER | ROLE_TOOL)))
        err = read_file(in, to, json_get(v, "file"), &(struct openai_at){at, "file", 0}, &p);
    else if (json_str_is(type, "input_audio") && role == ROLE_USER)
        err = read_audio(in, to, json_get(v, "input_audio"),
                         &(struct openai_at){at, "input_audio", 0}, &p);
    else if (json_str_is(type, "refusal") && role == ROLE_ASSISTANT)
        err = read_text(in, to, v, at, CONVO_REFUSAL, &p);
    else if (is_block(type) && role == ROLE_ASSISTANT)
        err = read_block(in, to, v, at);
    else
        return openai_wrong(in, at, "type", "Is no type of content that this message can hold");
    if (!err && p && json_is(mark, JSON_OBJECT))
        p->cache_control = json_raw(mark);
    return err;
}

static enum gw_err read_content(struct openai_in *in, struct openai_target *to, struct json message,
                                unsigned role, const struct openai_at *at)
{
    struct json v = openai_get(message, "content");
    struct openai_at here = {at, "content", 0};
    struct convo_part *p;
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_is(v, JSON_STRING)) {
        if (role == ROLE_ASSISTANT && json_str_is(v, ""))
            return GW_OK;
        p = openai_add_part(in, to, CONVO_TEXT);
        if (!p)
            return GW_ENOMEM;
        p->text = json_str(v);
        return p->text.p ? GW_OK : GW_ENOMEM;
    }
    if (!json_is(v, JSON_ARRAY))
        return openai_wrong(in, &here, NULL, "Must be a string or an array of parts");
    if (json_count(v) == 0 && role != ROLE_ASSISTANT)
        return openai_wrong(in, &here, NULL, "Must not be empty");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = read_part(in, to, it, role, &(struct openai_at){&here, NULL, i++});
    return err;
}

/* --- calls ------------------------------------------------------------------------------------ */

/* The arguments must be a JSON object, since every other dialect carries them as one. */
enum gw_err openai_read_args(struct openai_in *in, struct json holder, struct convo_part *p,
                             const struct openai_at *at)
{
    struct json root;
    enum gw_err err;

    if (!json_exists(openai_get(holder, "arguments")))
        return openai_wrong(in, at, "arguments", "A string is required");
    err = openai_get_str(in, at, holder, "arguments", false, &p->args);
    if (err)
        return err;
    if (p->args.n == 0) {
        p->args = SLICE("{}");
        return GW_OK;
    }
    err = json_parse(in->arena, p->args, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(root, JSON_OBJECT))
        return openai_wrong(in, at, "arguments", "Must be the text of a JSON object");
    p->args = json_raw(root);
    return GW_OK;
}

static enum gw_err read_function(struct openai_in *in, struct json f, struct convo_part *p,
                                 const struct openai_at *at)
{
    enum gw_err err;

    if (!json_is(f, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "An object is required");
    err = openai_get_str(in, at, f, "name", true, &p->name);
    return err ? err : openai_read_args(in, f, p, at);
}

static enum gw_err read_signature(struct openai_in *in, struct json holder,
                                  const struct openai_at *at, struct slice *ret)
{
    struct openai_at extra = {at, "extra_content", 0}, google = {&extra, "google", 0};
    struct json v = openai_get(openai_get(holder, "extra_content"), "google");

    return openai_get_str(in, &google, v, "thought_signature", false, ret);
}

/* A call of a custom tool: only OpenAI knows those. */
static enum gw_err keep_opaque(struct openai_in *in, struct openai_target *to, struct json v,
                               struct slice name)
{
    struct convo_part *p = openai_add_part(in, to, CONVO_OPAQUE);

    if (!p)
        return GW_ENOMEM;
    p->name = name;
    p->raw = json_raw(v);
    return GW_OK;
}

static enum gw_err read_call(struct openai_in *in, struct openai_target *to, struct json v,
                             const struct openai_at *at)
{
    struct json type = openai_get(v, "type");
    struct slice carried = SLICE_NONE;
    struct convo_part *p;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    if (json_str_is(type, "custom"))
        return keep_opaque(in, to, v, SLICE("openai.tool_call"));
    if (json_exists(type) && !json_str_is(type, "function"))
        return openai_wrong(in, at, "type", "Must be function or custom");
    p = openai_add_part(in, to, CONVO_TOOL_CALL);
    if (!p)
        return GW_ENOMEM;
    err = openai_get_str(in, at, v, "id", true, &p->id);
    carried = callid_split(&p->id);
    if (!err)
        err = read_function(in, json_get(v, "function"), p, &(struct openai_at){at, "function", 0});
    if (!err)
        err = read_signature(in, v, at, &p->signature);
    if (!p->signature.n)
        p->signature = carried;
    return err;
}

static enum gw_err read_calls(struct openai_in *in, struct openai_target *to, struct json message,
                              const struct openai_at *at)
{
    struct json calls = openai_get(message, "tool_calls");
    struct json legacy = openai_get(message, "function_call");
    struct openai_at here = {at, "tool_calls", 0};
    struct convo_part *p;
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_exists(calls) && !json_is(calls, JSON_ARRAY))
        return openai_wrong(in, &here, NULL, "Must be an array");
    for (struct json it = json_first(calls); json_exists(it) && !err; it = json_next(calls, it))
        err = read_call(in, to, it, &(struct openai_at){&here, NULL, i++});
    if (err || !json_exists(legacy))
        return err;
    p = openai_add_part(in, to, CONVO_TOOL_CALL);
    if (!p)
        return GW_ENOMEM;
    p->id = in->legacy_call_id = arena_printf(in->arena, "call_legacy_%u", in->n_legacy_calls++);
    if (!p->id.p)
        return GW_ENOMEM;
    return read_function(in, legacy, p, &(struct openai_at){at, "function_call", 0});
}

/* --- messages --------------------------------------------------------------------------------- */

static enum gw_err read_reasoning(struct openai_in *in, struct openai_target *to,
                                  struct json message, const struct openai_at *at)
{
    struct json blocks = openai_get(message, "thinking_blocks");
    struct openai_at here = {at, "thinking_blocks", 0};
    struct slice text = SLICE_NONE;
    struct convo_part *p;
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_exists(blocks) && !json_is(blocks, JSON_ARRAY))
        return openai_wrong(in, &here, NULL, "Must be an array");
    for (struct json it = json_first(blocks); json_exists(it) && !err; it = json_next(blocks, it))
        err = read_block(in, to, it, &(struct openai_at){&here, NULL, i++});
    if (err || i > 0)
        return err; /* the blocks say the same and more */
    err = openai_get_str(in, at, message, "reasoning_content", false, &text);
    if (!err && text.n == 0)
        err = openai_get_str(in, at, message, "reasoning", false, &text);
    if (err || text.n == 0)
        return err;
    p = openai_add_part(in, to, CONVO_REASONING);
    if (!p)
        return GW_ENOMEM;
    p->text = text;
    return GW_OK;
}

static enum gw_err read_refusal(struct openai_in *in, struct openai_target *to, struct json message,
                                const struct openai_at *at)
{
    struct json audio = openai_get(message, "audio");
    struct slice text = SLICE_NONE;
    struct convo_part *p;
    enum gw_err err = openai_get_str(in, at, message, "refusal", false, &text);

    if (err)
        return err;
    if (text.n) {
        p = openai_add_part(in, to, CONVO_REFUSAL);
        if (!p)
            return GW_ENOMEM;
        p->text = text;
    }
    if (!json_exists(audio))
        return GW_OK;
    if (!json_is(audio, JSON_OBJECT))
        return openai_wrong(in, at, "audio", "Must be an object");
    return keep_opaque(in, to, audio, SLICE("openai.audio"));
}

static enum gw_err read_assistant(struct openai_in *in, struct json message,
                                  const struct openai_at *at)
{
    struct openai_target to = {.turn = convo_add_turn(in->c, CONVO_ASSISTANT)};
    bool content = json_exists(openai_get(message, "content"));
    struct slice signature = SLICE_NONE;
    enum gw_err err;

    if (!to.turn)
        return GW_ENOMEM;
    err = openai_get_str(in, at, message, "name", false, &to.turn->name);
    if (!err)
        err = read_reasoning(in, &to, message, at);
    if (!err && content)
        err = read_content(in, &to, message, ROLE_ASSISTANT, at);
    if (!err)
        err = read_signature(in, message, at, &signature);
    if (!err && signature.n && to.turn->last_part && to.turn->last_part->kind == CONVO_TEXT)
        to.turn->last_part->signature = signature;
    if (!err)
        err = read_refusal(in, &to, message, at);
    if (!err)
        err = read_calls(in, &to, message, at);
    if (!err && !content && !to.turn->parts)
        err = openai_wrong(in, at, "content", "Content, a refusal or tool calls are required");
    return err;
}

/* The turn that takes tool results: the one before when it holds nothing else. */
static struct convo_turn *results_turn(struct openai_in *in)
{
    struct convo_turn *t = in->c->last_turn;

    if (t && t->role == CONVO_USER && t->parts && t->parts->kind == CONVO_TOOL_RESULT)
        return t;
    return convo_add_turn(in->c, CONVO_USER);
}

static enum gw_err read_result(struct openai_in *in, struct json message, bool legacy,
                               const struct openai_at *at)
{
    struct json content = openai_get(message, "content"),
                mark = openai_get(message, "cache_control");
    struct openai_target to = {.turn = results_turn(in)};
    enum gw_err err;

    if (!to.turn)
        return GW_ENOMEM;
    to.result = convo_add_part(in->c, to.turn, CONVO_TOOL_RESULT);
    if (!to.result)
        return GW_ENOMEM;
    to.tail = &to.result->content;
    if (legacy)
        to.result->id = in->legacy_call_id;
    else {
        err = openai_get_str(in, at, message, "tool_call_id", true, &to.result->id);
        if (err)
            return err;
        (void)callid_split(&to.result->id);
    }
    err = openai_get_str(in, at, message, "name", legacy, &to.result->name);
    if (err)
        return err;
    if (json_is(mark, JSON_OBJECT))
        to.result->cache_control = json_raw(mark);
    if (legacy && !json_exists(content))
        return GW_OK;
    return read_content(in, &to, message, ROLE_TOOL, at);
}

static enum gw_err read_plain(struct openai_in *in, struct json message, enum convo_role role,
                              const struct openai_at *at)
{
    struct openai_target to = {.turn = convo_add_turn(in->c, role)};
    enum gw_err err;

    if (!to.turn)
        return GW_ENOMEM;
    err = openai_get_str(in, at, message, "name", false, &to.turn->name);
    if (err)
        return err;
    return read_content(in, &to, message, role == CONVO_USER ? ROLE_USER : ROLE_SYSTEM, at);
}

static enum gw_err read_message(struct openai_in *in, struct json v, const struct openai_at *at)
{
    static const char *const once[] = {"role", "content", "tool_calls", "tool_call_id"};
    struct json role = json_get(v, "role");

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    for (unsigned i = 0; i < sizeof(once) / sizeof(*once); i++)
        if (json_has_duplicate(v, once[i])) {
            enum gw_err err = openai_wrong(in, at, once[i], "Is given twice");

            return err == GW_ESCHEMA ? GW_EBADREQ : err;
        }
    if (json_str_is(role, "user"))
        return read_plain(in, v, CONVO_USER, at);
    if (json_str_is(role, "assistant"))
        return read_assistant(in, v, at);
    if (json_str_is(role, "tool"))
        return read_result(in, v, false, at);
    if (json_str_is(role, "system"))
        return read_plain(in, v, CONVO_SYSTEM, at);
    if (json_str_is(role, "developer"))
        return read_plain(in, v, CONVO_DEVELOPER, at);
    if (json_str_is(role, "function"))
        return read_result(in, v, true, at);
    return openai_wrong(in, at, "role",
                        "Must be system, developer, user, assistant, tool or function");
}

enum gw_err openai_decode_messages(struct openai_in *in, struct json messages)
{
    struct openai_at here = {NULL, "messages", 0};
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(messages, JSON_ARRAY))
        return openai_wrong(in, &here, NULL, "Must be an array");
    if (json_count(messages) == 0)
        return openai_wrong(in, &here, NULL, "Must not be empty");
    for (struct json it = json_first(messages); json_exists(it) && !err;
         it = json_next(messages, it))
        err = read_message(in, it, &(struct openai_at){&here, NULL, i++});
    return err;
}
