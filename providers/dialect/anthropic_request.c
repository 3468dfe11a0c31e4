/*
 * anthropic_request.c - a conversation as an Anthropic Messages request.
 *
 * System and developer turns become the top-level `system`; runs of turns of one role become one
 * message, a user's with its tool results first. JSON that the client wrote (tool arguments,
 * schemas) is copied byte for byte.
 */
#include "providers/dialect/anthropic.h"

#include "providers/dialect/media.h"
#include "providers/dialect/toolname.h"

#include <stdlib.h>

#define JSON_INSTRUCTION                                                                           \
    "Answer with one JSON object and nothing else: no text around it, no code fence."
#define MAX_USER_ID 256u

struct request {
    struct arena *arena;
    const struct convo *c;
    const struct registry_model *m;
    struct convo_report *rep;
    struct anthropic_plan plan;
    struct json_writer w;
    bool open; /* the message being written has its head */
};

static enum gw_err refuse(struct request *r, struct slice field, struct slice why)
{
    return convo_refuse(r->rep, GW_EUNSUPPORTED, field, why);
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static bool is_blank(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!strchr(" \t\r\n\f\v", s.p[i]))
            return false;
    return true;
}

/* Begins a block of the current message, whose head is written before its first block. */
static void block(struct request *r, const char *role, const char *type)
{
    if (!r->open) {
        json_obj(&r->w);
        json_kv_cstr(&r->w, "role", role);
        json_put_key(&r->w, "content");
        json_arr(&r->w);
        r->open = true;
    }
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", type);
}

static void block_end(struct request *r, const struct convo_part *p)
{
    if (p && p->cache_control.n > 0)
        json_kv_raw(&r->w, "cache_control", p->cache_control);
    json_obj_end(&r->w);
}

static void message_end(struct request *r)
{
    if (!r->open)
        return;
    json_arr_end(&r->w);
    json_obj_end(&r->w);
    r->open = false;
}

/* The vendor refuses blocks without any text, so blank ones are left out. */
static void write_text(struct request *r, const char *role, const struct convo_part *p)
{
    if (is_blank(p->text))
        return;
    block(r, role, "text");
    json_kv_str(&r->w, "text", p->text);
    block_end(r, p);
}

static void source_base64(struct request *r, struct slice mime, struct slice data)
{
    json_put_key(&r->w, "source");
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", "base64");
    json_kv_str(&r->w, "media_type", mime);
    json_kv_str(&r->w, "data", data);
    json_obj_end(&r->w);
}

static void source_url(struct request *r, struct slice url)
{
    json_put_key(&r->w, "source");
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", "url");
    json_kv_str(&r->w, "url", url);
    json_obj_end(&r->w);
}

static enum gw_err write_image(struct request *r, const char *role, const struct convo_part *p)
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

static enum gw_err write_plain_document(struct request *r, const char *role,
                                        const struct convo_part *p)
{
    struct slice text = media_text(r->arena, p->data);

    if (!text.p)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("file.file_data"),
                            SLICE("a text file must be UTF-8 in base64"));
    block(r, role, "document");
    json_put_key(&r->w, "source");
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", "text");
    json_kv_cstr(&r->w, "media_type", "text/plain");
    json_kv_str(&r->w, "data", text);
    json_obj_end(&r->w);
    return GW_OK;
}

static enum gw_err write_file(struct request *r, const char *role, const struct convo_part *p)
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
        json_kv_str(&r->w, "title", p->name);
    block_end(r, p);
    return GW_OK;
}

static enum gw_err write_media(struct request *r, const char *role, const struct convo_part *p)
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

/* --- tools in messages --------------------------------------------------------------------------
 */

static enum gw_err put_safe(struct request *r, const char *key, struct slice name)
{
    struct slice safe = toolname_safe(r->arena, name, TOOLNAME_ANY_FIRST);

    if (!safe.p)
        return GW_ENOMEM;
    json_kv_str(&r->w, key, safe);
    return GW_OK;
}

static enum gw_err check_args(struct request *r, struct slice args)
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

static enum gw_err write_tool_use(struct request *r, const struct convo_part *p)
{
    bool empty = is_blank(p->args);
    enum gw_err err = empty ? GW_OK : check_args(r, p->args);

    if (err)
        return err;
    block(r, "assistant", "tool_use");
    err = put_safe(r, "id", p->id);
    if (!err)
        err = put_safe(r, "name", p->name);
    if (err)
        return err;
    json_kv_raw(&r->w, "input", empty ? SLICE("{}") : p->args);
    block_end(r, p);
    return GW_OK;
}

static enum gw_err write_tool_result(struct request *r, const struct convo_part *p)
{
    const struct convo_part *only = p->content && !p->content->next ? p->content : NULL;
    enum gw_err err;

    block(r, "user", "tool_result");
    err = put_safe(r, "tool_use_id", p->id);
    if (err)
        return err;
    if (only && only->kind == CONVO_TEXT && only->cache_control.n == 0) {
        if (only->text.n > 0)
            json_kv_str(&r->w, "content", only->text);
    } else if (p->content) {
        json_put_key(&r->w, "content");
        json_arr(&r->w);
        for (const struct convo_part *q = p->content; q && !err; q = q->next)
            err = write_media(r, "user", q);
        json_arr_end(&r->w);
    }
    if (p->is_error)
        json_kv_bool(&r->w, "is_error", true);
    block_end(r, p);
    return err;
}

/* --- reasoning ----------------------------------------------------------------------------------
 */

static bool is_reasoning(const struct convo_part *p)
{
    return p->kind == CONVO_REASONING || p->kind == CONVO_REDACTED;
}

static void write_reasoning(struct request *r, const struct convo_part *p)
{
    if (p->kind == CONVO_REDACTED) {
        block(r, "assistant", "redacted_thinking");
        json_kv_str(&r->w, "data", p->data);
    } else if (p->signature.n > 0) {
        block(r, "assistant", "thinking");
        json_kv_str(&r->w, "thinking", p->text);
        json_kv_str(&r->w, "signature", p->signature);
    } else {
        convo_drop(r->rep, "messages.reasoning"); /* the vendor takes back only what it signed */
        return;
    }
    block_end(r, NULL);
}

/* --- messages -----------------------------------------------------------------------------------
 */

static enum gw_err write_assistant_turn(struct request *r, const struct convo_turn *t)
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

static enum gw_err write_user_turn(struct request *r, const struct convo_turn *t, bool results)
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
static enum gw_err write_run(struct request *r, const struct convo_turn *t,
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

static enum gw_err write_messages(struct request *r)
{
    const struct convo_turn *t = r->c->turns, *end;
    size_t before;
    enum gw_err err = GW_OK;

    json_put_key(&r->w, "messages");
    json_arr(&r->w);
    before = r->w.out->n;
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
    if (!err && r->w.out->n == before && !buf_err(r->w.out))
        err = convo_refuse(r->rep, GW_EBADREQ, SLICE("messages"),
                           SLICE("there must be a message with content from the user"));
    json_arr_end(&r->w);
    return err;
}

static enum gw_err write_system_turn(struct request *r, const struct convo_turn *t, bool *open)
{
    for (const struct convo_part *p = t->parts; p; p = p->next) {
        if (p->kind != CONVO_TEXT)
            return refuse(r, SLICE("messages.content"), SLICE("a system message holds text only"));
        if (is_blank(p->text))
            continue;
        if (!*open) {
            json_put_key(&r->w, "system");
            json_arr(&r->w);
            *open = true;
        }
        json_obj(&r->w);
        json_kv_cstr(&r->w, "type", "text");
        json_kv_str(&r->w, "text", p->text);
        block_end(r, p);
    }
    return GW_OK;
}

static enum gw_err write_system(struct request *r)
{
    struct convo_part told = {.kind = CONVO_TEXT, .text = SLICE(JSON_INSTRUCTION)};
    struct convo_turn instruction = {.role = CONVO_SYSTEM, .parts = &told};
    bool open = false;
    enum gw_err err = GW_OK;

    for (const struct convo_turn *t = r->c->turns; t && !err; t = t->next)
        if (is_system(t))
            err = write_system_turn(r, t, &open);
    if (!err && r->c->format == CONVO_FORMAT_JSON) {
        err = write_system_turn(r, &instruction, &open);
        convo_drop(r->rep, "response_format"); /* asked for in words, not enforced */
    }
    if (open)
        json_arr_end(&r->w);
    return err;
}

/* --- tools ---------------------------------------------------------------------------------------
 */

/* The vendor wants `type: object` at the root of a tool's schema. */
static enum gw_err write_tool_schema(struct request *r, struct slice schema)
{
    struct json root;
    enum gw_err err;

    if (is_blank(schema) || slice_is(schema, "null")) {
        json_kv_raw(&r->w, "input_schema", SLICE("{\"type\":\"object\",\"properties\":{}}"));
        return GW_OK;
    }
    err = json_parse(r->arena, schema, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || json_type(root) != JSON_OBJECT)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("tools.function.parameters"),
                            SLICE("the parameters of a tool must be a JSON schema object"));
    if (json_exists(json_get(root, "type"))) {
        json_kv_raw(&r->w, "input_schema", schema);
        return GW_OK;
    }
    json_put_key(&r->w, "input_schema");
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", "object");
    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it)) {
        json_put_key_slice(&r->w, json_key(it));
        json_put_raw(&r->w, json_raw(it));
    }
    json_obj_end(&r->w);
    return GW_OK;
}

static enum gw_err write_tool(struct request *r, const struct convo_tool *t)
{
    enum gw_err err;

    if (t->raw.n > 0) { /* a built-in tool of another provider */
        convo_drop(r->rep, "tools");
        return GW_OK;
    }
    json_obj(&r->w);
    err = put_safe(r, "name", t->name);
    if (err)
        return err;
    if (t->description.n > 0)
        json_kv_str(&r->w, "description", t->description);
    err = write_tool_schema(r, t->schema);
    if (t->strict == 1 && r->plan.native_schema)
        json_kv_bool(&r->w, "strict", true);
    else if (t->strict == 1)
        convo_drop(r->rep, "tools.function.strict");
    if (t->cache_control.n > 0)
        json_kv_raw(&r->w, "cache_control", t->cache_control);
    json_obj_end(&r->w);
    return err;
}

static enum gw_err write_answer_tool(struct request *r)
{
    json_obj(&r->w);
    json_kv_str(&r->w, "name", r->plan.answer_tool);
    json_kv_str(&r->w, "description",
                r->c->schema_description.n
                    ? r->c->schema_description
                    : SLICE("Gives the answer. Call it once, with the whole answer as its input."));
    json_put_key(&r->w, "input_schema");
    json_put_raw(&r->w, r->c->schema);
    json_obj_end(&r->w);
    return GW_OK;
}

static bool has_tools(const struct convo *c)
{
    for (const struct convo_tool *t = c->tools; t; t = t->next)
        if (t->raw.n == 0)
            return true;
    return false;
}

/* A choice that the answer's schema needs: its own tool, or any when the client has tools too. */
static const char *emulated_choice(const struct request *r)
{
    if (r->plan.thinking == ANTHROPIC_THINKING_BUDGET ||
        r->plan.thinking == ANTHROPIC_THINKING_ADAPTIVE)
        return "auto"; /* thinking forbids a forced tool */
    return has_tools(r->c) && r->c->tool_choice != CONVO_CHOICE_NONE ? "any" : "tool";
}

static enum gw_err write_tool_choice(struct request *r)
{
    static const char *const words[] = {
        [CONVO_CHOICE_AUTO] = "auto",
        [CONVO_CHOICE_NONE] = "none",
        [CONVO_CHOICE_ANY] = "any",
        [CONVO_CHOICE_NAMED] = "tool",
    };
    const char *type = words[r->c->tool_choice];
    enum gw_err err = GW_OK;

    if (r->plan.emulate)
        type = emulated_choice(r);
    else if (!type && r->c->parallel_tools == 0)
        type = "auto";
    if (!type)
        return GW_OK;
    json_put_key(&r->w, "tool_choice");
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", type);
    if (strcmp(type, "tool") == 0 && r->plan.emulate)
        json_kv_str(&r->w, "name", r->plan.answer_tool);
    else if (strcmp(type, "tool") == 0)
        err = put_safe(r, "name", r->c->tool_choice_name);
    if (strcmp(type, "none") != 0 && r->c->parallel_tools >= 0)
        json_kv_bool(&r->w, "disable_parallel_tool_use", r->c->parallel_tools == 0);
    json_obj_end(&r->w);
    return err;
}

static enum gw_err write_tools(struct request *r)
{
    bool any = has_tools(r->c);
    enum gw_err err = GW_OK;

    if (!any && !r->plan.emulate) {
        if (r->c->tools)
            convo_drop(r->rep, "tools");
        if (r->c->tool_choice == CONVO_CHOICE_ANY || r->c->tool_choice == CONVO_CHOICE_NAMED)
            return convo_refuse(r->rep, GW_EBADREQ, SLICE("tool_choice"),
                                SLICE("there is no tool to choose"));
        return GW_OK;
    }
    json_put_key(&r->w, "tools");
    json_arr(&r->w);
    for (const struct convo_tool *t = r->c->tools; t && !err; t = t->next)
        err = write_tool(r, t);
    if (!err && r->plan.emulate)
        err = write_answer_tool(r);
    json_arr_end(&r->w);
    return err ? err : write_tool_choice(r);
}

/* --- the rest
 * ------------------------------------------------------------------------------------- */

/* Value of a number as the client wrote it; false when it is no number. */
static bool number_value(convo_number n, double *ret)
{
    char text[64], *end;

    if (n.n == 0 || n.n >= sizeof(text))
        return false;
    memcpy(text, n.p, n.n);
    text[n.n] = '\0';
    *ret = strtod(text, &end);
    return *end == '\0';
}

static enum gw_err write_sampling(struct request *r)
{
    const struct convo *c = r->c;
    bool thinks = r->plan.thinking == ANTHROPIC_THINKING_BUDGET ||
                  r->plan.thinking == ANTHROPIC_THINKING_ADAPTIVE;
    bool fixed = thinks || registry_has_quirk(r->m, "no_sampling");
    double temperature = 1;
    const struct {
        const char *key;
        convo_number value;
    } rows[] = {{"temperature", c->temperature}, {"top_p", c->top_p}, {"top_k", c->top_k}};

    if (c->temperature.n > 0 && !number_value(c->temperature, &temperature))
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("temperature"), SLICE("not a number"));
    if (temperature > 1)
        return refuse(r, SLICE("temperature"), SLICE("this provider takes 0 to 1"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].value.n == 0)
            continue;
        if (!fixed)
            json_kv_raw(&r->w, rows[i].key, rows[i].value);
        else if (i != 0 || temperature < 1) /* 1 is what it is anyway */
            convo_drop(r->rep, rows[i].key);
    }
    return GW_OK;
}

static enum gw_err write_stop(struct request *r)
{
    if (r->c->n_stop == 0)
        return GW_OK;
    json_put_key(&r->w, "stop_sequences");
    json_arr(&r->w);
    for (unsigned i = 0; i < r->c->n_stop; i++) {
        if (is_blank(r->c->stop[i]))
            return refuse(r, SLICE("stop"),
                          SLICE("this provider takes no stop sequence of white space alone"));
        json_put_str(&r->w, r->c->stop[i]);
    }
    json_arr_end(&r->w);
    return GW_OK;
}

static void write_thinking(struct request *r)
{
    static const char *const types[] = {
        [ANTHROPIC_THINKING_OFF] = "disabled",
        [ANTHROPIC_THINKING_BUDGET] = "enabled",
        [ANTHROPIC_THINKING_ADAPTIVE] = "adaptive",
    };

    if (r->plan.thinking == ANTHROPIC_THINKING_UNSET)
        return;
    json_put_key(&r->w, "thinking");
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", types[r->plan.thinking]);
    if (r->plan.thinking == ANTHROPIC_THINKING_BUDGET)
        json_kv_int(&r->w, "budget_tokens", r->plan.budget);
    if (r->plan.thinking == ANTHROPIC_THINKING_ADAPTIVE && r->c->include_thoughts >= 0)
        json_kv_cstr(&r->w, "display", r->c->include_thoughts ? "summarized" : "omitted");
    json_obj_end(&r->w);
}

static void write_output_config(struct request *r)
{
    bool format = r->c->format == CONVO_FORMAT_SCHEMA && r->plan.native_schema;

    if (!format && !r->plan.effort)
        return;
    json_put_key(&r->w, "output_config");
    json_obj(&r->w);
    if (r->plan.effort)
        json_kv_cstr(&r->w, "effort", r->plan.effort);
    if (format) {
        json_put_key(&r->w, "format");
        json_obj(&r->w);
        json_kv_cstr(&r->w, "type", "json_schema");
        json_kv_raw(&r->w, "schema", r->c->schema);
        json_obj_end(&r->w);
    }
    json_obj_end(&r->w);
}

/* The vendor wants no name, e-mail address or telephone number there. */
static bool is_personal(struct slice user)
{
    size_t digits = 0, others = 0;

    for (size_t i = 0; i < user.n; i++) {
        if (user.p[i] == '@')
            return true;
        if (user.p[i] >= '0' && user.p[i] <= '9')
            digits++;
        else if (!strchr("+-(). /", user.p[i]))
            others++;
    }
    return digits >= 7 && others == 0;
}

static void write_account(struct request *r)
{
    struct slice tier = r->c->service_tier;

    if (r->c->user.n > MAX_USER_ID || is_personal(r->c->user)) {
        convo_drop(r->rep, "user");
    } else if (r->c->user.n > 0) {
        json_put_key(&r->w, "metadata");
        json_obj(&r->w);
        json_kv_str(&r->w, "user_id", r->c->user);
        json_obj_end(&r->w);
    }
    if (slice_is(tier, "auto") || slice_is(tier, "priority"))
        json_kv_cstr(&r->w, "service_tier", "auto");
    else if (slice_is(tier, "default") || slice_is(tier, "standard_only"))
        json_kv_cstr(&r->w, "service_tier", "standard_only");
    else if (tier.n > 0)
        convo_drop(r->rep, "service_tier");
}

/* What cannot be carried: refused where the answer would not be what was asked for, else listed. */
static enum gw_err check_rest(struct request *r)
{
    const struct convo *c = r->c;
    const struct {
        const char *field;
        bool given;
    } rows[] = {
        {"seed", c->seed.n > 0},
        {"presence_penalty", c->presence_penalty.n > 0},
        {"frequency_penalty", c->frequency_penalty.n > 0},
        {"logit_bias", c->logit_bias.n > 0},
        {"metadata", c->metadata.n > 0},
        {"prediction", c->prediction.n > 0},
    };

    if (c->n > 1)
        return refuse(r, SLICE("n"), SLICE("this provider gives one answer to a request"));
    if (c->logprobs == 1 || c->top_logprobs > 0)
        return refuse(r, SLICE("logprobs"), SLICE("this provider tells no probabilities"));
    if (c->audio.n > 0 ||
        (c->modalities.n > 0 && memmem(c->modalities.p, c->modalities.n, "\"audio\"", 7)))
        return refuse(r, SLICE("modalities"), SLICE("this provider answers in text only"));
    if (c->web_search.n > 0)
        return refuse(r, SLICE("web_search_options"),
                      SLICE("searching the web cannot be carried to this provider"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].given)
            convo_drop(r->rep, rows[i].field);
    return GW_OK;
}

/* A schema that becomes a tool's input must be one of objects. */
static enum gw_err check_answer_schema(struct request *r)
{
    struct json root;
    enum gw_err err;

    if (r->c->format != CONVO_FORMAT_SCHEMA)
        return GW_OK;
    err = json_parse(r->arena, r->c->schema, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || json_type(root) != JSON_OBJECT)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("response_format.json_schema.schema"),
                            SLICE("the schema must be a JSON object"));
    if (r->plan.emulate && !json_str_is(json_get(root, "type"), "object"))
        return refuse(r, SLICE("response_format.json_schema.schema"),
                      SLICE("this model takes only schemas whose root is of type object"));
    return GW_OK;
}

static enum gw_err write_body(struct request *r)
{
    enum gw_err err;

    json_obj(&r->w);
    json_kv_str(&r->w, "model", r->m->name);
    json_kv_int(&r->w, "max_tokens", r->plan.max_tokens);
    err = write_system(r);
    if (!err)
        err = write_messages(r);
    if (!err)
        err = write_tools(r);
    if (!err)
        err = write_sampling(r);
    if (!err)
        err = write_stop(r);
    if (err)
        return err;
    write_thinking(r);
    write_output_config(r);
    write_account(r);
    if (r->c->stream)
        json_kv_bool(&r->w, "stream", true);
    json_obj_end(&r->w);
    return buf_err(r->w.out);
}

enum gw_err anthropic_encode_request(const struct convo *c, const struct registry_model *m,
                                     struct dialect_request *out, struct convo_report *rep)
{
    struct request r = {.arena = c->arena, .c = c, .m = m, .rep = rep};
    enum gw_err err = anthropic_pass_request(r.arena, m, c->stream, out);

    if (!err)
        err = anthropic_plan(r.arena, c, m, &r.plan, rep);
    if (!err)
        err = check_rest(&r);
    if (!err)
        err = check_answer_schema(&r);
    if (err)
        return err;
    json_writer_init(&r.w, out->body);
    return write_body(&r);
}
