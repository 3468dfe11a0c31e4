/*
 * anthropic_request.c - a conversation as an Anthropic Messages request: everything around its
 * turns, which are anthropic_messages.c's.
 */
#include "providers/dialect/anthropic.h"

#include "providers/dialect/media.h"
#include "providers/dialect/schema.h"
#include "providers/dialect/toolname.h"

#include <stdlib.h>

#define MAX_USER_ID 256u

struct request {
    struct arena *arena;
    const struct convo *c;
    const struct registry_model *m;
    struct convo_report *rep;
    struct anthropic_plan plan;
    struct json_writer w;
};

static enum gw_err refuse(struct request *r, struct slice field, struct slice why)
{
    return convo_refuse(r->rep, GW_EUNSUPPORTED, field, why);
}

static enum gw_err put_safe(struct request *r, const char *key, struct slice name)
{
    struct slice safe = toolname_safe(r->arena, name, TOOLNAME_ANY_FIRST);

    if (!safe.p)
        return GW_ENOMEM;
    json_kv_str(&r->w, key, safe);
    return GW_OK;
}

/* --- tools --------------------------------------------------------------------------------- */

/* A schema that the vendor enforces: closed, and without the keywords it would refuse. */
static enum gw_err put_closed(struct request *r, struct slice schema, const char *field)
{
    struct slice out;
    bool lossy = false;
    enum gw_err err = schema_close(r->arena, schema, &out, &lossy);

    if (err == GW_EBADREQ)
        return convo_refuse(r->rep, err, slice_cstr(field),
                            SLICE("the JSON schema cannot be put in this provider's words"));
    if (err)
        return err;
    if (lossy)
        convo_drop(r->rep, field);
    json_put_raw(&r->w, out);
    return GW_OK;
}

/* The vendor wants `type: object` at the root of a tool's schema. */
static void put_typed(struct request *r, struct json root)
{
    json_obj(&r->w);
    json_kv_cstr(&r->w, "type", "object");
    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it)) {
        json_put_key_slice(&r->w, json_key(it));
        json_put_raw(&r->w, json_raw(it));
    }
    json_obj_end(&r->w);
}

static enum gw_err write_tool_schema(struct request *r, struct slice schema, bool strict)
{
    struct json root;
    enum gw_err err;

    json_put_key(&r->w, "input_schema");
    if (media_is_blank(schema) || slice_is(schema, "null")) {
        json_put_raw(&r->w, strict ? SLICE("{\"type\":\"object\",\"properties\":{},"
                                           "\"additionalProperties\":false}")
                                   : SLICE("{\"type\":\"object\",\"properties\":{}}"));
        return GW_OK;
    }
    err = json_parse(r->arena, schema, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || json_type(root) != JSON_OBJECT)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("tools.function.parameters"),
                            SLICE("the parameters of a tool must be a JSON schema object"));
    if (!json_exists(json_get(root, "type")))
        put_typed(r, root);
    else if (strict)
        return put_closed(r, schema, "tools.function.parameters");
    else
        json_put_raw(&r->w, schema);
    return GW_OK;
}

static enum gw_err write_tool(struct request *r, const struct convo_tool *t)
{
    bool strict = t->strict == 1 && r->plan.native_schema;
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
    err = write_tool_schema(r, t->schema, strict);
    if (strict)
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
    json_put_raw(&r->w, r->plan.answer_schema);
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
    json_kv_obj(&r->w, "tool_choice");
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
    json_kv_arr(&r->w, "tools");
    for (const struct convo_tool *t = r->c->tools; t && !err; t = t->next)
        err = write_tool(r, t);
    if (!err && r->plan.emulate)
        err = write_answer_tool(r);
    json_arr_end(&r->w);
    return err ? err : write_tool_choice(r);
}

/* --- the rest ------------------------------------------------------------------------------ */

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
    json_kv_arr(&r->w, "stop_sequences");
    for (unsigned i = 0; i < r->c->n_stop; i++) {
        if (media_is_blank(r->c->stop[i]))
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
    json_kv_obj(&r->w, "thinking");
    json_kv_cstr(&r->w, "type", types[r->plan.thinking]);
    if (r->plan.thinking == ANTHROPIC_THINKING_BUDGET)
        json_kv_int(&r->w, "budget_tokens", r->plan.budget);
    if (r->plan.thinking == ANTHROPIC_THINKING_ADAPTIVE && r->c->include_thoughts >= 0)
        json_kv_cstr(&r->w, "display", r->c->include_thoughts ? "summarized" : "omitted");
    json_obj_end(&r->w);
}

static enum gw_err write_output_config(struct request *r)
{
    enum gw_err err = GW_OK;
    bool format = r->c->format == CONVO_FORMAT_SCHEMA && r->plan.native_schema;

    if (!format && !r->plan.effort)
        return GW_OK;
    json_kv_obj(&r->w, "output_config");
    if (r->plan.effort)
        json_kv_cstr(&r->w, "effort", r->plan.effort);
    if (format) {
        json_kv_obj(&r->w, "format");
        json_kv_cstr(&r->w, "type", "json_schema");
        json_put_key(&r->w, "schema");
        err = put_closed(r, r->c->schema, "response_format.json_schema.schema");
        json_obj_end(&r->w);
    }
    json_obj_end(&r->w);
    return err;
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
        json_kv_obj(&r->w, "metadata");
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
    err = anthropic_write_turns(r->c, &r->plan, &r->w, r->rep);
    if (!err)
        err = write_tools(r);
    if (!err)
        err = write_sampling(r);
    if (!err)
        err = write_stop(r);
    if (!err)
        err = write_output_config(r);
    if (err)
        return err;
    write_thinking(r);
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
    unsigned before = arena_refusals(r.arena);
    enum gw_err err = anthropic_pass_request(r.arena, m, c->stream, out);

    if (!err)
        err = anthropic_plan(r.arena, c, m, &r.plan, rep);
    if (!err)
        err = check_rest(&r);
    if (!err)
        err = check_answer_schema(&r);
    if (!err) {
        json_writer_init(&r.w, out->body);
        err = write_body(&r);
    }
    return dialect_end(r.arena, before, err);
}
