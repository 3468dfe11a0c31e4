/*
 * google_request.c - a conversation as a Gemini generateContent request: everything around its
 * turns, which are google_contents.c's.
 */
#include "providers/dialect/google.h"

#include "providers/dialect/media.h"
#include "providers/dialect/schema.h"
#include "providers/dialect/toolname.h"

struct request {
    struct arena *arena;
    const struct convo *c;
    const struct registry_model *m;
    struct convo_report *rep;
    struct json_writer w;
};

static enum gw_err refuse(struct request *r, struct slice field, struct slice why)
{
    return convo_refuse(r->rep, GW_EUNSUPPORTED, field, why);
}

static enum gw_err put_safe_name(struct request *r, struct slice name)
{
    struct slice safe = toolname_safe(r->arena, name, TOOLNAME_LETTER_FIRST);

    if (!safe.p)
        return GW_ENOMEM;
    json_kv_str(&r->w, "name", safe);
    return GW_OK;
}

/* --- tools --------------------------------------------------------------------------------- */

/* A schema in the words the model knows, under the key for them. */
static enum gw_err write_schema(struct request *r, struct slice schema, const char *key,
                                const char *json_schema_key, const char *field)
{
    struct slice out;
    bool lossy = false;
    enum gw_err err;

    if (registry_has_quirk(r->m, "json_schema_params")) {
        json_kv_raw(&r->w, json_schema_key, schema);
        return GW_OK;
    }
    err = schema_to_openapi(r->arena, schema, &out, &lossy);
    if (err == GW_EBADREQ)
        return convo_refuse(r->rep, err, slice_cstr(field),
                            SLICE("the JSON schema cannot be put in this provider's words"));
    if (err)
        return err;
    if (lossy)
        convo_drop(r->rep, field);
    json_kv_raw(&r->w, key, out);
    return GW_OK;
}

/* The vendor refuses an object without properties; a function without parameters has none. */
static enum gw_err write_parameters(struct request *r, struct slice schema)
{
    struct json root, properties;
    enum gw_err err;

    if (media_is_blank(schema) || slice_is(schema, "null"))
        return GW_OK;
    err = json_parse(r->arena, schema, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        return err;
    if (err || json_type(root) != JSON_OBJECT)
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("tools.function.parameters"),
                            SLICE("the parameters of a tool must be a JSON schema object"));
    properties = json_get(root, "properties");
    if (json_count(properties) == 0 && !json_exists(json_get(root, "$ref")) &&
        !json_exists(json_get(root, "allOf")) && !json_exists(json_get(root, "anyOf")) &&
        !json_exists(json_get(root, "oneOf")))
        return GW_OK;
    return write_schema(r, schema, "parameters", "parametersJsonSchema",
                        "tools.function.parameters");
}

static enum gw_err write_tool(struct request *r, const struct convo_tool *t)
{
    enum gw_err err;

    if (t->strict == 1)
        convo_drop(r->rep, "tools.function.strict");
    if (t->cache_control.n > 0)
        convo_drop(r->rep, "cache_control");
    json_obj(&r->w);
    err = put_safe_name(r, t->name);
    if (t->description.n > 0)
        json_kv_str(&r->w, "description", t->description);
    if (!err)
        err = write_parameters(r, t->schema);
    json_obj_end(&r->w);
    return err;
}

static enum gw_err write_tool_choice(struct request *r)
{
    static const char *const modes[] = {
        [CONVO_CHOICE_AUTO] = "AUTO",
        [CONVO_CHOICE_NONE] = "NONE",
        [CONVO_CHOICE_ANY] = "ANY",
        [CONVO_CHOICE_NAMED] = "ANY",
    };
    struct slice name;

    if (!modes[r->c->tool_choice])
        return GW_OK;
    json_kv_obj(&r->w, "toolConfig");
    json_kv_obj(&r->w, "functionCallingConfig");
    json_kv_cstr(&r->w, "mode", modes[r->c->tool_choice]);
    if (r->c->tool_choice == CONVO_CHOICE_NAMED) {
        name = toolname_safe(r->arena, r->c->tool_choice_name, TOOLNAME_LETTER_FIRST);
        if (!name.p)
            return GW_ENOMEM;
        json_kv_arr(&r->w, "allowedFunctionNames");
        json_put_str(&r->w, name);
        json_arr_end(&r->w);
    }
    json_obj_end(&r->w);
    json_obj_end(&r->w);
    return GW_OK;
}

static enum gw_err write_tools(struct request *r)
{
    bool open = false;
    enum gw_err err = GW_OK;

    for (const struct convo_tool *t = r->c->tools; t && !err; t = t->next) {
        if (t->raw.n > 0) { /* a built-in tool of another provider */
            convo_drop(r->rep, "tools");
            continue;
        }
        if (!open) {
            json_kv_arr(&r->w, "tools");
            json_obj(&r->w);
            json_kv_arr(&r->w, "functionDeclarations");
            open = true;
        }
        err = write_tool(r, t);
    }
    if (open) {
        json_arr_end(&r->w);
        json_obj_end(&r->w);
        json_arr_end(&r->w);
    } else if (r->c->tool_choice == CONVO_CHOICE_ANY || r->c->tool_choice == CONVO_CHOICE_NAMED) {
        return convo_refuse(r->rep, GW_EBADREQ, SLICE("tool_choice"),
                            SLICE("there is no tool to choose"));
    }
    if (r->c->parallel_tools == 0 && open)
        convo_drop(r->rep, "parallel_tool_calls");
    return err || !open ? err : write_tool_choice(r);
}

/* --- generationConfig ---------------------------------------------------------------------- */

/* The budgets that the vendor's own OpenAI surface gives these words. */
static int64_t budget_of(enum convo_effort effort)
{
    switch (effort) {
    case CONVO_EFFORT_NONE:
        return 0;
    case CONVO_EFFORT_MEDIUM:
        return 8192;
    case CONVO_EFFORT_HIGH:
    case CONVO_EFFORT_MAX:
        return 24576;
    default:
        return 1024;
    }
}

static const char *level_of(struct request *r, enum convo_effort effort)
{
    switch (effort) {
    case CONVO_EFFORT_NONE:
        convo_drop(r->rep, "reasoning_effort"); /* these models think at least a little */
        /* fall through */
    case CONVO_EFFORT_MINIMAL:
        return registry_has_quirk(r->m, "thinking_minimal") ? "MINIMAL" : "LOW";
    case CONVO_EFFORT_MEDIUM:
        return "MEDIUM";
    case CONVO_EFFORT_HIGH:
    case CONVO_EFFORT_MAX:
        return "HIGH";
    default:
        return "LOW";
    }
}

static void write_thinking(struct request *r)
{
    const struct convo *c = r->c;
    bool thinks = c->effort > CONVO_EFFORT_NONE || c->thinking_budget > 0;

    if (c->effort == CONVO_EFFORT_UNSET && c->thinking_budget < 0 && c->include_thoughts < 0)
        return;
    if (r->m->listed && !(r->m->capabilities & REGISTRY_CAN_REASONING)) {
        if (thinks)
            convo_drop(r->rep, "reasoning_effort");
        return;
    }
    json_kv_obj(&r->w, "thinkingConfig");
    if (c->thinking_budget >= 0)
        json_kv_int(&r->w, "thinkingBudget", c->thinking_budget);
    else if (c->effort != CONVO_EFFORT_UNSET && registry_has_quirk(r->m, "thinking_level"))
        json_kv_cstr(&r->w, "thinkingLevel", level_of(r, c->effort));
    else if (c->effort != CONVO_EFFORT_UNSET)
        json_kv_int(&r->w, "thinkingBudget", budget_of(c->effort));
    if (c->include_thoughts >= 0 || thinks)
        json_kv_bool(&r->w, "includeThoughts", c->include_thoughts != 0);
    json_obj_end(&r->w);
}

static enum gw_err write_format(struct request *r)
{
    if (r->c->format != CONVO_FORMAT_JSON && r->c->format != CONVO_FORMAT_SCHEMA)
        return GW_OK;
    json_kv_cstr(&r->w, "responseMimeType", "application/json");
    if (r->c->format == CONVO_FORMAT_JSON)
        return GW_OK;
    return write_schema(r, r->c->schema, "responseSchema", "responseJsonSchema",
                        "response_format.json_schema.schema");
}

static void write_sampling(struct request *r)
{
    const struct convo *c = r->c;
    const struct {
        const char *key;
        convo_number value;
    } rows[] = {
        {"temperature", c->temperature},
        {"topP", c->top_p},
        {"topK", c->top_k},
        {"presencePenalty", c->presence_penalty},
        {"frequencyPenalty", c->frequency_penalty},
        {"seed", c->seed},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].value.n > 0)
            json_kv_raw(&r->w, rows[i].key, rows[i].value);
    if (c->max_tokens > 0)
        json_kv_int(&r->w, "maxOutputTokens", c->max_tokens);
    if (c->n > 1)
        json_kv_int(&r->w, "candidateCount", c->n);
    if (c->logprobs == 1)
        json_kv_bool(&r->w, "responseLogprobs", true);
    if (c->logprobs == 1 && c->top_logprobs > 0)
        json_kv_int(&r->w, "logprobs", c->top_logprobs);
    if (c->n_stop == 0)
        return;
    json_kv_arr(&r->w, "stopSequences");
    for (unsigned i = 0; i < c->n_stop; i++)
        json_put_str(&r->w, c->stop[i]);
    json_arr_end(&r->w);
}

static enum gw_err write_config(struct request *r)
{
    enum gw_err err;

    json_kv_obj(&r->w, "generationConfig");
    write_sampling(r);
    err = write_format(r);
    write_thinking(r);
    json_obj_end(&r->w);
    return err;
}

/* --- the rest ------------------------------------------------------------------------------ */

static void write_tier(struct request *r)
{
    struct slice tier = r->c->service_tier;

    if (slice_is(tier, "flex") || slice_is(tier, "priority"))
        json_kv_str(&r->w, "serviceTier", tier);
    else if (slice_is(tier, "default") || slice_is(tier, "standard"))
        json_kv_cstr(&r->w, "serviceTier", "standard");
    else if (tier.n > 0 && !slice_is(tier, "auto"))
        convo_drop(r->rep, "service_tier");
}

static enum gw_err check_rest(struct request *r)
{
    const struct convo *c = r->c;
    const struct {
        const char *field;
        bool given;
    } rows[] = {
        {"logit_bias", c->logit_bias.n > 0},
        {"user", c->user.n > 0},
        {"metadata", c->metadata.n > 0},
        {"prediction", c->prediction.n > 0},
    };

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

enum gw_err google_encode_request(const struct convo *c, const struct registry_model *m,
                                  struct dialect_request *out, struct convo_report *rep)
{
    struct request r = {.arena = c->arena, .c = c, .m = m, .rep = rep};
    enum gw_err err = google_pass_request(r.arena, m, c->stream, out);

    if (err == GW_EBADREQ)
        return convo_refuse(rep, err, SLICE("model"), SLICE("not a model name"));
    if (!err)
        err = check_rest(&r);
    if (err)
        return err;
    json_writer_init(&r.w, out->body);
    json_obj(&r.w);
    err = google_write_turns(c, m, &r.w, rep);
    if (!err)
        err = write_tools(&r);
    if (!err)
        err = write_config(&r);
    if (err)
        return err;
    write_tier(&r);
    json_obj_end(&r.w);
    return buf_err(out->body);
}
