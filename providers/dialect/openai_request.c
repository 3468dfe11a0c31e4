/*
 * openai_request.c - the OpenAI dialect: its table, path and headers of a call, and a conversation
 * as a chat completions request.
 *
 * A user turn may hold tool results beside what the user said. They become `tool` messages in front
 * of the user's own; images in a result, which a `tool` message cannot hold, move to the user
 * message right after.
 */
#include "providers/dialect/media.h"
#include "providers/dialect/openai.h"
#include "providers/dialect/toolname.h"

struct out {
    const struct convo *c;
    const struct registry_model *m;
    struct convo_report *rep;
    struct json_writer w;
    bool vendor;     /* OpenAI itself, which knows the developer role and refuses unknown fields */
    bool signatures; /* the host takes thought signatures of tool calls */
};

/* --- path and headers ------------------------------------------------------------------------- */

static void header(struct dialect_request *out, struct slice name, struct slice value)
{
    out->headers[out->n_headers++] = (struct dialect_header){name, value};
}

static enum gw_err common_headers(struct arena *a, const struct registry_model *m,
                                  struct dialect_request *out)
{
    struct slice bearer;

    out->n_headers = 0;
    if (m->provider->api_key.n) {
        bearer = arena_join(a, SLICE("Bearer "), m->provider->api_key);
        if (!bearer.p)
            return GW_ENOMEM;
        header(out, SLICE("Authorization"), bearer);
    }
    return GW_OK;
}

enum gw_err openai_pass_request(struct arena *a, const struct registry_model *m, bool stream,
                                struct dialect_request *out)
{
    out->path = SLICE("/chat/completions");
    return common_headers(a, m, out);
}

enum gw_err openai_encode_embed(struct arena *a, const struct dialect_embed_request *r,
                                const struct registry_model *m, struct dialect_request *out,
                                struct convo_report *rep)
{
    struct json_writer w;
    enum gw_err err = common_headers(a, m, out);

    if (err)
        return err;
    out->path = SLICE("/embeddings");
    json_writer_init(&w, out->body);
    json_obj(&w);
    json_kv_str(&w, "model", m->name);
    json_put_key(&w, "input");
    if (r->raw_input.n) {
        json_put_raw(&w, r->raw_input);
    } else {
        json_arr(&w);
        for (unsigned i = 0; i < r->n_inputs; i++)
            json_put_str(&w, r->inputs[i]);
        json_arr_end(&w);
    }
    if (r->task.n)
        convo_drop(rep, "taskType");
    if (r->title.n)
        convo_drop(rep, "title");
    json_kv_cstr(&w, "encoding_format", r->base64 ? "base64" : "float");
    if (r->dimensions > 0)
        json_kv_int(&w, "dimensions", r->dimensions);
    if (r->user.n)
        json_kv_str(&w, "user", r->user);
    json_obj_end(&w);
    return buf_err(out->body);
}

/* --- parts ------------------------------------------------------------------------------------ */

static void put_typed(struct json_writer *w, const char *type, const char *key, struct slice text)
{
    json_obj(w);
    json_kv_cstr(w, "type", type);
    json_kv_str(w, key, text);
    json_obj_end(w);
}

static void put_data_url(struct json_writer *w, const char *key, struct slice mime,
                         struct slice data)
{
    json_put_key(w, key);
    json_put_raw(w, SLICE("\"data:"));
    json_escape(w->out, mime);
    buf_add_cstr(w->out, ";base64,");
    json_escape(w->out, data);
    buf_add_char(w->out, '"');
}

static void put_image(struct out *o, const struct convo_part *p)
{
    struct json_writer *w = &o->w;

    json_obj(w);
    json_kv_cstr(w, "type", "image_url");
    json_kv_obj(w, "image_url");
    if (p->url.n)
        json_kv_str(w, "url", p->url);
    else
        put_data_url(w, "url", p->mime.n ? p->mime : SLICE("image/png"), p->data);
    if (p->detail.n)
        json_kv_str(w, "detail", p->detail);
    json_obj_end(w);
    json_obj_end(w);
}

static enum gw_err put_file(struct out *o, const struct convo_part *p)
{
    struct json_writer *w = &o->w;
    struct slice mime = p->mime.n ? p->mime : SLICE("application/pdf");

    if (p->data.n == 0 && p->file_id.n == 0 && p->text.n) {
        put_typed(w, "text", "text", p->text);
        return GW_OK;
    }
    if (p->data.n == 0 && p->file_id.n == 0)
        return convo_refuse(o->rep, GW_EUNSUPPORTED, SLICE("file.url"),
                            SLICE("This provider takes no files by URL; send the file's data"));
    if (p->data.n == 0 && slice_starts(p->file_id, "file_")) /* Anthropic's; ours is "file-" */
        return convo_refuse(
            o->rep, GW_EUNSUPPORTED, SLICE("file.file_id"),
            SLICE("Files of another provider cannot be referred to; send the file's data"));
    json_obj(w);
    json_kv_cstr(w, "type", "file");
    json_kv_obj(w, "file");
    if (p->data.n) {
        if (p->name.n)
            json_kv_str(w, "filename", p->name);
        else
            json_kv_cstr(w, "filename",
                         media_is(mime, "application/pdf") ? "document.pdf" : "document");
        put_data_url(w, "file_data", mime, p->data);
    } else {
        json_kv_str(w, "file_id", p->file_id);
    }
    json_obj_end(w);
    json_obj_end(w);
    return GW_OK;
}

static enum gw_err put_audio(struct out *o, const struct convo_part *p)
{
    bool wav = media_is(p->mime, "audio/wav") || media_is(p->mime, "audio/x-wav") ||
               media_is(p->mime, "audio/wave");
    bool mp3 = media_is(p->mime, "audio/mp3") || media_is(p->mime, "audio/mpeg");
    struct json_writer *w = &o->w;

    if ((!wav && !mp3) || p->data.n == 0)
        return convo_refuse(o->rep, GW_EUNSUPPORTED, SLICE("input_audio.format"),
                            SLICE("This provider takes audio as wav or mp3 data only"));
    json_obj(w);
    json_kv_cstr(w, "type", "input_audio");
    json_kv_obj(w, "input_audio");
    json_kv_str(w, "data", p->data);
    json_kv_cstr(w, "format", wav ? "wav" : "mp3");
    json_obj_end(w);
    json_obj_end(w);
    return GW_OK;
}

static void note_lost_marks(struct out *o, const struct convo_part *p)
{
    if (p->cache_control.n)
        convo_drop(o->rep, "cache_control");
    if (p->kind == CONVO_TEXT && p->signature.n)
        convo_drop(o->rep, "thought_signature");
}

/* One part of a content array. Parts that are no content are left to others. */
static enum gw_err put_part(struct out *o, const struct convo_part *p)
{
    note_lost_marks(o, p);
    switch (p->kind) {
    case CONVO_TEXT:
        put_typed(&o->w, "text", "text", p->text);
        return GW_OK;
    case CONVO_IMAGE:
        if (p->url.n == 0 && p->data.n == 0)
            return convo_refuse(o->rep, GW_EUNSUPPORTED, SLICE("image.file_id"),
                                SLICE("This provider takes images as data or by URL only"));
        put_image(o, p);
        return GW_OK;
    case CONVO_FILE:
        return put_file(o, p);
    case CONVO_AUDIO:
        return put_audio(o, p);
    case CONVO_OPAQUE:
        convo_drop(o->rep, "opaque content");
        return GW_OK;
    default:
        return GW_OK;
    }
}

static bool is_content(const struct convo_part *p)
{
    return p->kind == CONVO_TEXT || p->kind == CONVO_IMAGE || p->kind == CONVO_FILE ||
           p->kind == CONVO_AUDIO;
}

/* --- calls and results ------------------------------------------------------------------------ */

/* How many parts of this kind and name, without an id, come before this one. */
static unsigned count_before(const struct convo *c, const struct convo_part *part)
{
    unsigned n = 0;

    for (const struct convo_turn *t = c->turns; t; t = t->next)
        for (const struct convo_part *p = t->parts; p; p = p->next) {
            if (p == part)
                return n;
            if (p->kind == part->kind && p->id.n == 0 && slice_eq(p->name, part->name))
                n++;
        }
    return n;
}

/* Calls need ids, and older models of other vendors give none. The k-th call without one of a name
 * and the k-th result of that name get the same. */
static void put_call_id(struct out *o, const char *key, const struct convo_part *part)
{
    if (part->id.n) {
        json_kv_str(&o->w, key, part->id);
        return;
    }
    json_put_key(&o->w, key);
    json_put_raw(&o->w, SLICE("\"call_"));
    json_escape(o->w.out, part->name);
    buf_printf(o->w.out, "_%u\"", count_before(o->c, part));
}

static enum gw_err put_tool_name(struct out *o, const char *key, struct slice name)
{
    struct slice safe = toolname_safe(o->c->arena, name, TOOLNAME_ANY_FIRST);

    if (!safe.p)
        return GW_ENOMEM;
    json_kv_str(&o->w, key, safe);
    return GW_OK;
}

static enum gw_err put_call(struct out *o, const struct convo_part *p)
{
    struct json_writer *w = &o->w;
    enum gw_err err;

    json_obj(w);
    put_call_id(o, "id", p);
    json_kv_cstr(w, "type", "function");
    json_kv_obj(w, "function");
    err = put_tool_name(o, "name", p->name);
    json_kv_str(w, "arguments", p->args.n ? p->args : SLICE("{}"));
    json_obj_end(w);
    if (p->signature.n && o->signatures) {
        json_put_key(w, "extra_content");
        json_put_raw(w, SLICE("{\"google\":{\"thought_signature\":\""));
        json_escape(w->out, p->signature);
        buf_add_cstr(w->out, "\"}}");
    } else if (p->signature.n) {
        convo_drop(o->rep, "thought_signature");
    }
    json_obj_end(w);
    return err;
}

static void put_result_text(struct out *o, const struct convo_part *content)
{
    const struct convo_part *only = NULL;
    unsigned n = 0;

    for (const struct convo_part *p = content; p; p = p->next)
        if (p->kind == CONVO_TEXT) {
            only = p;
            n++;
        }
    json_put_key(&o->w, "content");
    if (n < 2) {
        json_put_str(&o->w, only ? only->text : SLICE(""));
        return;
    }
    json_arr(&o->w);
    for (const struct convo_part *p = content; p; p = p->next)
        if (p->kind == CONVO_TEXT)
            put_typed(&o->w, "text", "text", p->text);
    json_arr_end(&o->w);
}

static void put_result(struct out *o, const struct convo_part *p)
{
    json_obj(&o->w);
    json_kv_cstr(&o->w, "role", "tool");
    put_call_id(o, "tool_call_id", p);
    put_result_text(o, p->content);
    json_obj_end(&o->w);
    if (p->is_error)
        convo_drop(o->rep, "tool_result.is_error");
    if (p->cache_control.n)
        convo_drop(o->rep, "cache_control");
}

/* --- messages --------------------------------------------------------------------------------- */

static void put_name(struct out *o, const struct convo_turn *t)
{
    if (t->name.n)
        json_kv_str(&o->w, "name", t->name);
}

/* A lone text is a string, which every server takes; else an array of parts. */
static enum gw_err put_content(struct out *o, const struct convo_part *const *parts, unsigned n)
{
    enum gw_err err = GW_OK;

    json_put_key(&o->w, "content");
    if (n == 1 && parts[0]->kind == CONVO_TEXT) {
        note_lost_marks(o, parts[0]);
        json_put_str(&o->w, parts[0]->text);
        return GW_OK;
    }
    json_arr(&o->w);
    for (unsigned i = 0; i < n && !err; i++)
        err = put_part(o, parts[i]);
    json_arr_end(&o->w);
    return err;
}

/* Gathers the content of a turn: first what tool results hold beside text, then its own. */
static enum gw_err gather(struct out *o, const struct convo_turn *t,
                          const struct convo_part ***ret_parts, unsigned *ret_n)
{
    const struct convo_part **parts, *p, *q;
    unsigned n = 0, room = 0;

    for (p = t->parts; p; p = p->next)
        for (room++, q = p->content; q; q = q->next)
            room++;
    parts = (const struct convo_part **)arena_array(o->c->arena, void *, room ? room : 1);
    if (!parts)
        return GW_ENOMEM;
    for (p = t->parts; p; p = p->next)
        for (q = p->kind == CONVO_TOOL_RESULT ? p->content : NULL; q; q = q->next)
            if (is_content(q) && q->kind != CONVO_TEXT)
                parts[n++] = q;
    for (p = t->parts; p; p = p->next) {
        if (is_content(p))
            parts[n++] = p;
        else if (p->kind == CONVO_OPAQUE && t->role != CONVO_ASSISTANT)
            convo_drop(o->rep, "opaque content");
    }
    *ret_parts = parts;
    *ret_n = n;
    return GW_OK;
}

static const char *role_word(const struct out *o, enum convo_role role)
{
    if (role == CONVO_DEVELOPER)
        return o->vendor && !registry_has_quirk(o->m, "developer_as_system") ? "developer"
                                                                             : "system";
    return role == CONVO_SYSTEM ? "system" : "user";
}

static enum gw_err put_plain_turn(struct out *o, const struct convo_turn *t)
{
    const struct convo_part **parts;
    unsigned n;
    bool results = false;
    enum gw_err err;

    for (const struct convo_part *p = t->parts; p; p = p->next)
        if (p->kind == CONVO_TOOL_RESULT) {
            put_result(o, p);
            results = true;
        }
    err = gather(o, t, &parts, &n);
    if (err || (n == 0 && results))
        return err;
    json_obj(&o->w);
    json_kv_cstr(&o->w, "role", role_word(o, t->role));
    put_name(o, t);
    if (n)
        err = put_content(o, parts, n);
    else
        json_kv_cstr(&o->w, "content", "");
    json_obj_end(&o->w);
    return err;
}

static enum gw_err put_calls(struct out *o, const struct convo_turn *t)
{
    enum gw_err err = GW_OK;
    bool open = false;

    for (const struct convo_part *p = t->parts; p && !err; p = p->next) {
        bool custom = p->kind == CONVO_OPAQUE && slice_is(p->name, "openai.tool_call");

        if (p->kind != CONVO_TOOL_CALL && !custom)
            continue;
        if (!open) {
            json_kv_arr(&o->w, "tool_calls");
            open = true;
        }
        if (custom)
            json_put_raw(&o->w, p->raw);
        else
            err = put_call(o, p);
    }
    if (open)
        json_arr_end(&o->w);
    return err;
}

/* What an assistant turn holds beside its content and its calls. */
static void put_assistant_extras(struct out *o, const struct convo_turn *t)
{
    bool refusal = false;

    for (const struct convo_part *p = t->parts; p; p = p->next) {
        if (p->kind == CONVO_REDACTED || (p->kind == CONVO_REASONING && p->signature.n))
            convo_drop(o->rep, "thinking_blocks");
        else if (p->kind == CONVO_REASONING)
            convo_drop(o->rep, "reasoning_content");
        else if (p->kind == CONVO_OPAQUE && slice_is(p->name, "openai.audio"))
            json_kv_raw(&o->w, "audio", p->raw);
        else if (p->kind == CONVO_OPAQUE && !slice_is(p->name, "openai.tool_call"))
            convo_drop(o->rep, "opaque content");
        if (p->kind != CONVO_REFUSAL)
            continue;
        if (!refusal)
            json_kv_str(&o->w, "refusal", p->text);
        else
            convo_drop(o->rep, "refusal");
        refusal = true;
    }
}

/* Content may be null only beside calls, a refusal or audio. */
static bool may_lack_content(const struct convo_turn *t)
{
    for (const struct convo_part *p = t->parts; p; p = p->next)
        if (p->kind == CONVO_TOOL_CALL || p->kind == CONVO_REFUSAL ||
            (p->kind == CONVO_OPAQUE && slice_starts(p->name, "openai.")))
            return true;
    return false;
}

static enum gw_err put_assistant_turn(struct out *o, const struct convo_turn *t)
{
    const struct convo_part **parts;
    unsigned n;
    enum gw_err err = gather(o, t, &parts, &n);

    if (err)
        return err;
    json_obj(&o->w);
    json_kv_cstr(&o->w, "role", "assistant");
    put_name(o, t);
    if (n)
        err = put_content(o, parts, n);
    else
        json_kv_cstr(&o->w, "content", may_lack_content(t) ? NULL : "");
    put_assistant_extras(o, t);
    if (!err)
        err = put_calls(o, t);
    json_obj_end(&o->w);
    return err;
}

static enum gw_err put_messages(struct out *o)
{
    enum gw_err err = GW_OK;

    json_kv_arr(&o->w, "messages");
    for (const struct convo_turn *t = o->c->turns; t && !err; t = t->next)
        err = t->role == CONVO_ASSISTANT ? put_assistant_turn(o, t) : put_plain_turn(o, t);
    json_arr_end(&o->w);
    return err;
}

/* --- tools ------------------------------------------------------------------------------------ */

static enum gw_err put_tool(struct out *o, const struct convo_tool *t)
{
    struct json_writer *w = &o->w;
    enum gw_err err;

    if (t->raw.n) {
        json_put_raw(w, t->raw);
        return GW_OK;
    }
    json_obj(w);
    json_kv_cstr(w, "type", "function");
    json_kv_obj(w, "function");
    err = put_tool_name(o, "name", t->name);
    if (t->description.n)
        json_kv_str(w, "description", t->description);
    if (t->schema.n)
        json_kv_raw(w, "parameters", t->schema);
    if (t->strict >= 0)
        json_kv_bool(w, "strict", t->strict);
    json_obj_end(w);
    json_obj_end(w);
    if (t->cache_control.n)
        convo_drop(o->rep, "cache_control");
    return err;
}

static enum gw_err put_choice(struct out *o)
{
    struct json_writer *w = &o->w;
    enum gw_err err;

    static const char *const words[] = {[CONVO_CHOICE_AUTO] = "auto",
                                        [CONVO_CHOICE_NONE] = "none",
                                        [CONVO_CHOICE_ANY] = "required"};

    if (o->c->tool_choice == CONVO_CHOICE_UNSET)
        return GW_OK;
    json_put_key(w, "tool_choice");
    if (o->c->tool_choice != CONVO_CHOICE_NAMED) {
        json_put_cstr(w, words[o->c->tool_choice]);
        return GW_OK;
    }
    json_obj(w);
    json_kv_cstr(w, "type", "function");
    json_kv_obj(w, "function");
    err = put_tool_name(o, "name", o->c->tool_choice_name);
    json_obj_end(w);
    json_obj_end(w);
    return err;
}

/* A tool of another vendor (web search, a shell) means nothing here. */
static bool is_ours(const struct convo_tool *t)
{
    return t->raw.n == 0 || slice_is(t->name, "custom");
}

static enum gw_err put_tools(struct out *o)
{
    enum gw_err err = GW_OK;
    unsigned n = 0;

    for (const struct convo_tool *t = o->c->tools; t && !err; t = t->next) {
        const char *lost;

        if (is_ours(t)) {
            if (n++ == 0) {
                json_kv_arr(&o->w, "tools");
            }
            err = put_tool(o, t);
            continue;
        }
        lost = arena_printf(o->c->arena, "tools.%.*s", SLICE_ARG(t->name)).p;
        if (!lost)
            return GW_ENOMEM;
        convo_drop(o->rep, lost);
    }
    if (n == 0 || err)
        return err;
    json_arr_end(&o->w);
    err = put_choice(o);
    if (o->c->parallel_tools >= 0)
        json_kv_bool(&o->w, "parallel_tool_calls", o->c->parallel_tools);
    return err;
}

/* --- the other members ------------------------------------------------------------------------ */

static void put_format(struct out *o)
{
    const struct convo *c = o->c;
    struct json_writer *w = &o->w;

    static const char *const words[] = {[CONVO_FORMAT_TEXT] = "text",
                                        [CONVO_FORMAT_JSON] = "json_object",
                                        [CONVO_FORMAT_SCHEMA] = "json_schema"};

    if (c->format == CONVO_FORMAT_UNSET)
        return;
    json_kv_obj(w, "response_format");
    json_kv_cstr(w, "type", words[c->format]);
    if (c->format == CONVO_FORMAT_SCHEMA) {
        json_kv_obj(w, "json_schema");
        json_kv_str(w, "name", c->schema_name.n ? c->schema_name : SLICE("answer"));
        if (c->schema_description.n)
            json_kv_str(w, "description", c->schema_description);
        if (c->schema.n)
            json_kv_raw(w, "schema", c->schema);
        if (c->schema_strict >= 0)
            json_kv_bool(w, "strict", c->schema_strict);
        json_obj_end(w);
    }
    json_obj_end(w);
}

static enum convo_effort effort_of_budget(int64_t tokens)
{
    if (tokens < 1024)
        return CONVO_EFFORT_MINIMAL;
    if (tokens < 2048)
        return CONVO_EFFORT_LOW;
    return tokens < 4096 ? CONVO_EFFORT_MEDIUM : CONVO_EFFORT_HIGH;
}

static void put_reasoning(struct out *o)
{
    static const char *const words[] = {
        [CONVO_EFFORT_NONE] = "none", [CONVO_EFFORT_MINIMAL] = "minimal",
        [CONVO_EFFORT_LOW] = "low",   [CONVO_EFFORT_MEDIUM] = "medium",
        [CONVO_EFFORT_HIGH] = "high", [CONVO_EFFORT_MAX] = "xhigh"};
    enum convo_effort effort = o->c->effort;

    if (o->c->thinking_budget >= 0)
        convo_drop(o->rep, "thinking.budget_tokens");
    if (o->c->include_thoughts == 1)
        convo_drop(o->rep, "include_thoughts");
    if (effort == CONVO_EFFORT_UNSET && o->c->thinking_budget > 0)
        effort = effort_of_budget(o->c->thinking_budget);
    if (effort != CONVO_EFFORT_UNSET)
        json_kv_cstr(&o->w, "reasoning_effort", words[effort]);
}

static void put_sampling(struct out *o)
{
    const struct convo *c = o->c;
    const struct {
        const char *key;
        struct slice raw;
    } rows[] = {
        {"temperature", c->temperature},
        {"top_p", c->top_p},
        {"presence_penalty", c->presence_penalty},
        {"frequency_penalty", c->frequency_penalty},
        {"seed", c->seed},
        {"logit_bias", c->logit_bias},
        {"metadata", c->metadata},
        {"prediction", c->prediction},
        {"modalities", c->modalities},
        {"audio", c->audio},
        {"web_search_options", c->web_search},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (rows[i].raw.n)
            json_kv_raw(&o->w, rows[i].key, rows[i].raw);
    if (c->top_k.n)
        convo_drop(o->rep, "top_k");
    if (c->logprobs >= 0)
        json_kv_bool(&o->w, "logprobs", c->logprobs);
    if (c->top_logprobs >= 0)
        json_kv_int(&o->w, "top_logprobs", c->top_logprobs);
    if (c->n_stop == 0)
        return;
    json_kv_arr(&o->w, "stop");
    for (unsigned i = 0; i < c->n_stop; i++)
        json_put_str(&o->w, c->stop[i]);
    json_arr_end(&o->w);
}

/* Other vendors' words for a tier are not OpenAI's. */
static void put_service_tier(struct out *o)
{
    static const char *const known[] = {"auto", "default", "flex", "scale", "priority", "fast"};

    if (o->c->service_tier.n == 0)
        return;
    if (slice_is(o->c->service_tier, "standard_only")) { /* Anthropic's */
        json_kv_cstr(&o->w, "service_tier", "default");
        return;
    }
    for (unsigned i = 0; i < sizeof(known) / sizeof(*known); i++) {
        if (slice_is(o->c->service_tier, known[i])) {
            json_kv_str(&o->w, "service_tier", o->c->service_tier);
            return;
        }
    }
    convo_drop(o->rep, "service_tier");
}

static void put_limits(struct out *o)
{
    const struct convo *c = o->c;
    struct json_writer *w = &o->w;

    if (c->max_tokens > 0)
        json_kv_int(
            w, o->m->provider->use_max_completion_tokens ? "max_completion_tokens" : "max_tokens",
            c->max_tokens);
    if (c->n > 0)
        json_kv_int(w, "n", c->n);
    if (c->user.n)
        json_kv_str(w, "user", c->user);
    if (!c->stream)
        return;
    json_kv_bool(w, "stream", true);
    json_kv_raw(w, "stream_options", SLICE("{\"include_usage\":true}"));
}

enum gw_err openai_encode_request(const struct convo *c, const struct registry_model *m,
                                  struct dialect_request *out, struct convo_report *rep)
{
    struct out o = {.c = c, .m = m, .rep = rep};
    enum gw_err err = openai_pass_request(c->arena, m, c->stream, out);

    if (err)
        return err;
    o.vendor = strcmp(m->provider->name, "openai") == 0;
    o.signatures = registry_has_quirk(m, "thought_signatures");
    json_writer_init(&o.w, out->body);
    json_obj(&o.w);
    json_kv_str(&o.w, "model", m->name);
    err = put_messages(&o);
    if (!err)
        err = put_tools(&o);
    if (err)
        return err;
    put_limits(&o);
    put_sampling(&o);
    put_format(&o);
    put_reasoning(&o);
    put_service_tier(&o);
    json_obj_end(&o.w);
    return buf_err(out->body);
}

const struct dialect dialect_openai = {
    .name = "openai",
    .encode_request = openai_encode_request,
    .pass_request = openai_pass_request,
    .pass_body = openai_pass_body,
    .pass_event = openai_pass_event,
    .pass_answer = openai_pass_answer,
    .decode_answer = openai_decode_answer,
    .decoder_new = openai_decoder_new,
    .decode_event = openai_decode_event,
    .decode_end = openai_decode_end,
    .decode_error = openai_decode_error,
    .encode_embed = openai_encode_embed,
    .decode_embed = openai_decode_embed,
    .decode_request = openai_decode_request,
    .encode_answer = openai_encode_answer,
    .encoder_new = openai_encoder_new,
    .encode_event = openai_encode_event,
};
