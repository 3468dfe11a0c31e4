/*
 * responses_input.c - the input items of a client's responses request as turns.
 *
 * What the model said is one assistant turn, however many items it took: reasoning, messages and
 * calls. Consecutive function_call_output items become one user turn of tool results. What was
 * sealed into a reasoning item (responses_seal.c) goes back to where it came from.
 */
#include "providers/dialect/callid.h"
#include "providers/dialect/media.h"
#include "providers/dialect/responses_wire.h"

#define MAX_SEALED_CALLS 64u /* each is looked for among all that the turn holds */

/* --- content ---------------------------------------------------------------------------------- */

static enum gw_err read_text(struct openai_in *in, struct openai_target *to, struct json v,
                             const char *name, const struct openai_at *at, struct convo_part **ret)
{
    struct slice text = SLICE_NONE;
    enum gw_err err;

    if (!json_exists(openai_get(v, name)))
        return openai_wrong(in, at, name, "A string is required");
    err = openai_get_str(in, at, v, name, false, &text);
    if (err)
        return err;
    *ret = openai_add_part(in, to, strcmp(name, "refusal") == 0 ? CONVO_REFUSAL : CONVO_TEXT);
    if (!*ret)
        return GW_ENOMEM;
    (*ret)->text = text;
    return GW_OK;
}

/* Files that the vendor keeps are beyond the reach of any other. */
static enum gw_err refuse_image_id(struct openai_in *in, const struct openai_at *at)
{
    return openai_refuse(in, GW_EUNSUPPORTED, at, "file_id",
                         "Images by file_id are not supported: send image_url");
}

static enum gw_err read_image(struct openai_in *in, struct openai_target *to, struct json v,
                              const struct openai_at *at, struct convo_part **ret)
{
    struct slice url = SLICE_NONE, mime, data = SLICE_NONE, detail = SLICE_NONE;
    enum convo_part_kind kind = CONVO_IMAGE;
    enum gw_err err = openai_get_str(in, at, v, "image_url", false, &url);

    if (!err)
        err = openai_get_str(in, at, v, "detail", false, &detail);
    if (err)
        return err;
    if (url.n == 0)
        return json_exists(openai_get(v, "file_id"))
                   ? refuse_image_id(in, at)
                   : openai_wrong(in, at, "image_url", "A string is required");
    if (media_split_data_url(url, &mime, &data)) {
        if (media_is(mime, "application/pdf"))
            kind = CONVO_FILE;
        else if (mime.n < 6 || strncasecmp(mime.p, "image/", 6) != 0)
            return openai_wrong(in, at, "image_url", "Must be an image");
    } else if (!media_is_web_url(url)) {
        return openai_wrong(in, at, "image_url",
                            "Must be a base64 data URL or an http or https URL");
    }
    *ret = openai_add_part(in, to, kind);
    if (!*ret)
        return GW_ENOMEM;
    (*ret)->detail = detail;
    (*ret)->mime = data.n ? mime : SLICE_NONE;
    (*ret)->data = data;
    (*ret)->url = data.n ? SLICE_NONE : url;
    return GW_OK;
}

/* What a file's members say; the data without its URL's head. */
static enum gw_err read_file_members(struct openai_in *in, struct json v,
                                     const struct openai_at *at, struct convo_part *p)
{
    struct slice inner;
    enum gw_err err = openai_get_str(in, at, v, "file_data", false, &p->data);

    if (!err)
        err = openai_get_str(in, at, v, "file_id", false, &p->file_id);
    if (!err)
        err = openai_get_str(in, at, v, "file_url", false, &p->url);
    if (!err)
        err = openai_get_str(in, at, v, "filename", false, &p->name);
    if (err)
        return err;
    if (p->data.n == 0 && p->file_id.n == 0 && p->url.n == 0)
        return openai_wrong(in, at, NULL, "file_data, file_url or file_id is required");
    if (p->url.n && !media_is_web_url(p->url))
        return openai_wrong(in, at, "file_url", "Must be an http or https URL");
    if (p->data.n && media_split_data_url(p->data, &p->mime, &inner))
        p->data = inner;
    else if (p->data.n && slice_find(p->data, ':') < p->data.n)
        return openai_wrong(in, at, "file_data", "Must be base64 data or a base64 data URL");
    else if (p->data.n)
        p->mime = media_guess(p->name, SLICE("application/pdf"));
    return GW_OK;
}

static enum gw_err read_file(struct openai_in *in, struct openai_target *to, struct json v,
                             const struct openai_at *at, struct convo_part **ret)
{
    *ret = openai_add_part(in, to, CONVO_FILE);
    return *ret ? read_file_members(in, v, at, *ret) : GW_ENOMEM;
}

/* An explicit breakpoint of the prompt cache is what Anthropic calls cache_control. */
static struct slice cache_mark(struct json v)
{
    struct json mark = openai_get(v, "cache_control");

    if (json_is(mark, JSON_OBJECT))
        return json_raw(mark);
    if (json_is(openai_get(v, "prompt_cache_breakpoint"), JSON_OBJECT))
        return SLICE("{\"type\":\"ephemeral\"}");
    return SLICE_NONE;
}

static enum gw_err read_part(struct openai_in *in, struct openai_target *to, struct json v,
                             enum convo_role role, const struct openai_at *at)
{
    struct json type = json_get(v, "type");
    struct convo_part *p = NULL;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    if (json_str_is(type, "input_text") || json_str_is(type, "output_text") ||
        json_str_is(type, "text"))
        err = read_text(in, to, v, "text", at, &p);
    else if (json_str_is(type, "refusal") && role == CONVO_ASSISTANT)
        err = read_text(in, to, v, "refusal", at, &p);
    else if (json_str_is(type, "input_image") && role == CONVO_USER)
        err = read_image(in, to, v, at, &p);
    else if (json_str_is(type, "input_file") && role == CONVO_USER)
        err = read_file(in, to, v, at, &p);
    else
        return openai_wrong(in, at, "type", "Is no type of content that this item can hold");
    if (!err && p)
        p->cache_control = cache_mark(v);
    return err;
}

/* A string, or an array of parts. */
static enum gw_err read_content(struct openai_in *in, struct openai_target *to, struct json item,
                                const char *name, enum convo_role role, const struct openai_at *at)
{
    struct json v = openai_get(item, name);
    struct openai_at here = {at, name, 0};
    struct convo_part *p;
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_is(v, JSON_STRING)) {
        if (role == CONVO_ASSISTANT && json_str_is(v, ""))
            return GW_OK;
        p = openai_add_part(in, to, CONVO_TEXT);
        if (!p)
            return GW_ENOMEM;
        p->text = json_str(v);
        return p->text.p ? GW_OK : GW_ENOMEM;
    }
    if (!json_is(v, JSON_ARRAY))
        return openai_wrong(in, &here, NULL, "Must be a string or an array of parts");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = read_part(in, to, it, role, &(struct openai_at){&here, NULL, i++});
    return err;
}

/* --- what the model said ---------------------------------------------------------------------- */

/* The assistant turn that is being told, or a new one. */
static struct convo_turn *assistant_turn(struct openai_in *in)
{
    struct convo_turn *t = in->c->last_turn;

    return t && t->role == CONVO_ASSISTANT ? t : convo_add_turn(in->c, CONVO_ASSISTANT);
}

static enum gw_err read_call(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct convo_turn *t = assistant_turn(in);
    struct convo_part *p = t ? convo_add_part(in->c, t, CONVO_TOOL_CALL) : NULL;
    enum gw_err err;

    if (!p)
        return GW_ENOMEM;
    err = openai_get_str(in, at, v, "call_id", true, &p->id);
    if (!err)
        err = openai_get_str(in, at, v, "name", true, &p->name);
    if (err)
        return err;
    p->signature = callid_split(&p->id);
    return openai_read_args(in, v, p, at);
}

/* Texts of a reasoning item's `summary` or `content`, joined by blank lines. */
static enum gw_err join_texts(struct openai_in *in, struct json v, const char *name,
                              const struct openai_at *at, struct slice *ret)
{
    struct json list = openai_get(v, name);
    struct openai_at here = {at, name, 0};
    struct buf joined;
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_exists(list) && !json_is(list, JSON_ARRAY))
        return openai_wrong(in, &here, NULL, "Must be an array");
    buf_init(&joined, json_raw(list).n); /* unescaped and without its braces it is shorter */
    for (struct json it = json_first(list); json_exists(it) && !err; it = json_next(list, it)) {
        struct slice text = SLICE_NONE;

        err = openai_get_str(in, &(struct openai_at){&here, NULL, i++}, it, "text", false, &text);
        if (joined.n && text.n)
            buf_add_cstr(&joined, "\n\n");
        buf_add_slice(&joined, text);
    }
    if (!err)
        err = buf_err(&joined);
    if (!err)
        *ret = arena_dup(in->arena, buf_slice(&joined));
    buf_deinit(&joined);
    return err || ret->p ? err : GW_ENOMEM;
}

static enum gw_err add_thought(struct openai_in *in, enum convo_part_kind kind,
                               struct convo_part **ret)
{
    struct convo_turn *t = assistant_turn(in);

    *ret = t ? convo_add_part(in->c, t, kind) : NULL;
    return *ret ? GW_OK : GW_ENOMEM;
}

static enum gw_err sign_text(struct openai_in *in, struct slice signature)
{
    struct convo_turn *t = in->c->last_turn;
    struct convo_part *p = t && t->role == CONVO_ASSISTANT ? t->last_part : NULL;
    enum gw_err err = GW_OK;

    if (!p || p->kind != CONVO_TEXT)
        err = add_thought(in, CONVO_TEXT, &p);
    if (!err)
        p->signature = signature;
    return err;
}

/* A signature whose call the client took out is of no use. */
static enum gw_err sign_call(struct openai_in *in, const struct responses_seal *seal,
                             const struct openai_at *at)
{
    struct convo_turn *t = in->c->last_turn;

    if (in->n_sealed_calls++ == MAX_SEALED_CALLS)
        return openai_wrong(in, at, "encrypted_content", "There are too many of this kind");
    if (!t || t->role != CONVO_ASSISTANT)
        return GW_OK;
    for (struct convo_part *p = t->parts; p; p = p->next)
        if (p->kind == CONVO_TOOL_CALL && slice_eq(p->id, seal->id))
            p->signature = seal->signature;
    return GW_OK;
}

static enum gw_err put_back(struct openai_in *in, const struct responses_seal *seal,
                            const struct openai_at *at)
{
    struct convo_part *p;
    enum gw_err err;

    switch (seal->kind) {
    case SEAL_TEXT:
        return sign_text(in, seal->signature);
    case SEAL_CALL:
        return sign_call(in, seal, at);
    case SEAL_REDACTED:
        err = add_thought(in, CONVO_REDACTED, &p);
        if (!err)
            p->data = seal->text;
        return err;
    default:
        err = add_thought(in, CONVO_REASONING, &p);
        if (err)
            return err;
        p->text = seal->text;
        p->signature = seal->signature;
        return GW_OK;
    }
}

static enum gw_err read_reasoning(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct slice text = SLICE_NONE, sealed = SLICE_NONE;
    struct responses_seal seal;
    struct convo_part *p;
    enum gw_err err = openai_get_str(in, at, v, "encrypted_content", false, &sealed);

    if (!err && sealed.n) {
        err = responses_seal_read(in->arena, sealed, &seal);
        if (err != GW_EBADREQ)
            return err ? err : put_back(in, &seal, at);
        convo_drop(in->rep, "input.encrypted_content"); /* OpenAI's own: none but OpenAI reads it */
        err = GW_OK;
    }
    if (!err)
        err = join_texts(in, v, "content", at, &text);
    if (!err && text.n == 0)
        err = join_texts(in, v, "summary", at, &text);
    if (err || text.n == 0)
        return err;
    err = add_thought(in, CONVO_REASONING, &p);
    if (!err)
        p->text = text;
    return err;
}

/* --- items ------------------------------------------------------------------------------------ */

static enum gw_err read_message(struct openai_in *in, struct json v, const struct openai_at *at)
{
    static const struct {
        const char *word;
        enum convo_role role;
    } roles[] = {
        {"user", CONVO_USER},
        {"assistant", CONVO_ASSISTANT},
        {"system", CONVO_SYSTEM},
        {"developer", CONVO_DEVELOPER},
    };

    for (unsigned i = 0; i < sizeof(roles) / sizeof(*roles); i++) {
        struct openai_target to = {.turn = NULL};

        if (!json_str_is(json_get(v, "role"), roles[i].word))
            continue;
        to.turn = roles[i].role == CONVO_ASSISTANT ? assistant_turn(in)
                                                   : convo_add_turn(in->c, roles[i].role);
        if (!to.turn)
            return GW_ENOMEM;
        return read_content(in, &to, v, "content", roles[i].role, at);
    }
    return openai_wrong(in, at, "role", "Must be user, assistant, system or developer");
}

/* The turn that takes tool results: the one before when it holds nothing else. */
static struct convo_turn *results_turn(struct openai_in *in)
{
    struct convo_turn *t = in->c->last_turn;

    if (t && t->role == CONVO_USER && t->parts && t->parts->kind == CONVO_TOOL_RESULT)
        return t;
    return convo_add_turn(in->c, CONVO_USER);
}

static enum gw_err read_result(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct openai_target to = {.turn = results_turn(in)};
    enum gw_err err;

    if (!to.turn)
        return GW_ENOMEM;
    to.result = convo_add_part(in->c, to.turn, CONVO_TOOL_RESULT);
    if (!to.result)
        return GW_ENOMEM;
    to.tail = &to.result->content;
    err = openai_get_str(in, at, v, "call_id", true, &to.result->id);
    if (err)
        return err;
    (void)callid_split(&to.result->id);
    to.result->cache_control = cache_mark(v);
    return read_content(in, &to, v, "output", CONVO_USER, at);
}

static enum gw_err check_once(struct openai_in *in, struct json v, const struct openai_at *at)
{
    static const char *const once[] = {"type",   "role",      "content", "call_id",
                                       "output", "arguments", "name",    "encrypted_content"};

    for (unsigned i = 0; i < sizeof(once) / sizeof(*once); i++)
        if (json_has_duplicate(v, once[i]))
            return openai_refuse(in, GW_EBADREQ, at, once[i], "Is given twice");
    return GW_OK;
}

static enum gw_err read_item(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json type = openai_get(v, "type");
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = check_once(in, v, at);
    if (err)
        return err;
    if (!json_exists(type) && json_exists(openai_get(v, "role")))
        return read_message(in, v, at);
    if (!json_is(type, JSON_STRING))
        return openai_wrong(in, at, "type", "A string is required");
    if (json_str_is(type, "message"))
        return read_message(in, v, at);
    if (json_str_is(type, "function_call"))
        return read_call(in, v, at);
    if (json_str_is(type, "function_call_output"))
        return read_result(in, v, at);
    if (json_str_is(type, "reasoning"))
        return read_reasoning(in, v, at);
    if (json_str_is(type, "item_reference"))
        return openai_refuse(in, GW_EUNSUPPORTED, at, "type",
                             "Nothing is stored between requests: send the item itself");
    return openai_refuse(in, GW_EUNSUPPORTED, at, "type",
                         "Only message, reasoning, function_call and function_call_output items "
                         "are supported here");
}

enum gw_err responses_decode_items(struct openai_in *in, struct json items,
                                   const struct openai_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(items, JSON_ARRAY))
        return openai_wrong(in, at, NULL, "Must be a string or an array of items");
    if (json_count(items) == 0)
        return openai_wrong(in, at, NULL, "Must not be empty");
    for (struct json it = json_first(items); json_exists(it) && !err; it = json_next(items, it))
        err = read_item(in, it, &(struct openai_at){at, NULL, i++});
    return err;
}
