/*
 * openai_decode.c - a client's chat completions request as a conversation: the members of the
 * request itself. Its messages are read in openai_message.c.
 *
 * One walk over the members, each looked up in a table. Members that are not in the table are noted
 * as dropped: a target that speaks OpenAI still gets them, since its body passes through.
 */
#include "providers/dialect/openai.h"

#define MAX_STOPS 16u
#define MAX_STEPS 16u
#define MAX_TOKENS_CEILING 1000000000

/* --- saying what is wrong ----------------------------------------------------------------------
 */

static void put_step(struct buf *out, struct slice name)
{
    buf_add_char(out, '/');
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '~' || name.p[i] == '/')
            buf_add(out, name.p[i] == '~' ? "~0" : "~1", 2);
        else
            buf_add_char(out, name.p[i]);
    }
}

/* The JSON pointer of `at`, or of its member `name`, in the arena. */
static struct slice pointer(struct openai_in *in, const struct openai_at *at, const char *name)
{
    const struct openai_at *steps[MAX_STEPS];
    struct slice text;
    struct buf out;
    unsigned n = 0;

    for (; at && n < MAX_STEPS; at = at->up)
        steps[n++] = at;
    buf_init(&out, 4096);
    while (n > 0) {
        const struct openai_at *step = steps[--n];

        if (step->name)
            put_step(&out, slice_cstr(step->name));
        else
            buf_printf(&out, "/%u", step->index);
    }
    if (name)
        put_step(&out, slice_cstr(name));
    in->nomem |= buf_err(&out) == GW_ENOMEM;
    text = arena_dup(in->arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

enum gw_err openai_refuse(struct openai_in *in, enum gw_err err, const struct openai_at *at,
                          const char *name, const char *why)
{
    return convo_refuse(in->rep, err, pointer(in, at, name), slice_cstr(why));
}

enum gw_err openai_wrong(struct openai_in *in, const struct openai_at *at, const char *name,
                         const char *why)
{
    return openai_refuse(in, GW_ESCHEMA, at, name, why);
}

/* --- reading members ---------------------------------------------------------------------------
 */

struct json openai_get(struct json object, const char *name)
{
    struct json v = json_get(object, name);

    return json_is(v, JSON_NULL) ? (struct json){NULL, 0} : v;
}

enum gw_err openai_get_str(struct openai_in *in, const struct openai_at *at, struct json object,
                           const char *name, bool required, struct slice *ret)
{
    struct json v = openai_get(object, name);
    struct slice text;

    if (!json_exists(v))
        return required ? openai_wrong(in, at, name, "A string is required") : GW_OK;
    if (!json_is(v, JSON_STRING))
        return openai_wrong(in, at, name, "Must be a string");
    text = json_str(v);
    if (!text.p)
        return GW_ENOMEM;
    if (required && text.n == 0)
        return openai_wrong(in, at, name, "Must not be empty");
    *ret = text;
    return GW_OK;
}

enum gw_err openai_get_flag(struct openai_in *in, const struct openai_at *at, struct json object,
                            const char *name, int *ret)
{
    struct json v = openai_get(object, name);
    bool b;

    if (!json_exists(v))
        return GW_OK;
    if (!json_bool(v, &b))
        return openai_wrong(in, at, name, "Must be true or false");
    *ret = b;
    return GW_OK;
}

/* --- members that are more than one value ------------------------------------------------------
 */

static enum gw_err read_stop(struct openai_in *in, struct json v, const struct openai_at *at)
{
    unsigned n = json_is(v, JSON_STRING) ? 1 : json_count(v), i = 0;
    struct slice *stops;

    if (!json_is(v, JSON_STRING) && !json_is(v, JSON_ARRAY))
        return openai_wrong(in, at, NULL, "Must be a string or an array of strings");
    if (n > MAX_STOPS)
        return openai_wrong(in, at, NULL, "Too many stop sequences");
    stops = arena_array(in->arena, struct slice, n ? n : 1);
    if (!stops)
        return GW_ENOMEM;
    if (json_is(v, JSON_STRING))
        stops[i++] = json_str(v);
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it)) {
        if (!json_is(it, JSON_STRING))
            return openai_wrong(in, &(struct openai_at){at, NULL, i}, NULL, "Must be a string");
        stops[i++] = json_str(it);
    }
    for (i = 0; i < n; i++)
        if (!stops[i].p)
            return GW_ENOMEM;
    in->c->stop = stops;
    in->c->n_stop = n;
    return GW_OK;
}

/* A function's description, under `tools[].function` or in the legacy `functions`. */
enum gw_err openai_read_function(struct openai_in *in, struct json f, const struct openai_at *at,
                                 struct convo_tool **ret)
{
    struct json schema = openai_get(f, "parameters");
    struct slice name = SLICE_NONE;
    struct convo_tool *t;
    enum gw_err err;

    if (!json_is(f, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_str(in, at, f, "name", true, &name);
    if (err)
        return err;
    t = convo_add_tool(in->c, name);
    if (!t)
        return GW_ENOMEM;
    err = openai_get_str(in, at, f, "description", false, &t->description);
    if (err)
        return err;
    if (json_exists(schema) && !json_is(schema, JSON_OBJECT))
        return openai_wrong(in, at, "parameters", "Must be an object");
    t->schema = json_raw(schema);
    *ret = t;
    return openai_get_flag(in, at, f, "strict", &t->strict);
}

static enum gw_err read_tool(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json mark = openai_get(v, "cache_control");
    struct slice type = SLICE_NONE;
    struct convo_tool *t = NULL;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_str(in, at, v, "type", true, &type);
    if (err)
        return err;
    if (slice_is(type, "function")) {
        err = openai_read_function(in, json_get(v, "function"),
                                   &(struct openai_at){at, "function", 0}, &t);
        if (!err && json_is(mark, JSON_OBJECT))
            t->cache_control = json_raw(mark);
        return err;
    }
    t = convo_add_tool(in->c, type);
    if (!t)
        return GW_ENOMEM;
    t->raw = json_raw(v);
    return GW_OK;
}

static enum gw_err read_tools(struct openai_in *in, struct json v, const struct openai_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(v, JSON_ARRAY))
        return openai_wrong(in, at, NULL, "Must be an array");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = read_tool(in, it, &(struct openai_at){at, NULL, i++});
    return err;
}

static enum gw_err read_functions(struct openai_in *in, struct json v, const struct openai_at *at)
{
    unsigned i = 0;
    struct convo_tool *t;
    enum gw_err err = GW_OK;

    if (!json_is(v, JSON_ARRAY))
        return openai_wrong(in, at, NULL, "Must be an array");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = openai_read_function(in, it, &(struct openai_at){at, NULL, i++}, &t);
    return err;
}

enum gw_err openai_choice_word(struct openai_in *in, struct json v, const struct openai_at *at)
{
    if (json_str_is(v, "auto"))
        in->c->tool_choice = CONVO_CHOICE_AUTO;
    else if (json_str_is(v, "none"))
        in->c->tool_choice = CONVO_CHOICE_NONE;
    else if (json_str_is(v, "required"))
        in->c->tool_choice = CONVO_CHOICE_ANY;
    else
        return openai_wrong(in, at, NULL, "Must be none, auto, required or an object");
    return GW_OK;
}

static enum gw_err read_tool_choice(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json type = json_get(v, "type");
    const char *kind = json_str_is(type, "custom") ? "custom" : "function";

    if (json_is(v, JSON_STRING))
        return openai_choice_word(in, v, at);
    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be none, auto, required or an object");
    if (json_str_is(type, "allowed_tools"))
        return openai_refuse(in, GW_EUNSUPPORTED, at, "allowed_tools",
                             "allowed_tools is not supported; send only the tools allowed");
    if (!json_str_is(type, kind))
        return openai_wrong(in, at, "type", "Must be function or custom");
    if (!json_is(json_get(v, kind), JSON_OBJECT))
        return openai_wrong(in, at, kind, "An object is required");
    in->c->tool_choice = CONVO_CHOICE_NAMED;
    return openai_get_str(in, &(struct openai_at){at, kind, 0}, json_get(v, kind), "name", true,
                          &in->c->tool_choice_name);
}

static enum gw_err read_function_call(struct openai_in *in, struct json v,
                                      const struct openai_at *at)
{
    if (!json_is(v, JSON_OBJECT))
        return openai_choice_word(in, v, at);
    in->c->tool_choice = CONVO_CHOICE_NAMED;
    return openai_get_str(in, at, v, "name", true, &in->c->tool_choice_name);
}

enum gw_err openai_read_schema(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json schema = openai_get(v, "schema");
    struct convo *c = in->c;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "An object is required");
    if (json_exists(schema) && !json_is(schema, JSON_OBJECT))
        return openai_wrong(in, at, "schema", "Must be an object");
    c->format = CONVO_FORMAT_SCHEMA;
    c->schema = json_raw(schema);
    err = openai_get_str(in, at, v, "name", true, &c->schema_name);
    if (!err)
        err = openai_get_str(in, at, v, "description", false, &c->schema_description);
    return err ? err : openai_get_flag(in, at, v, "strict", &c->schema_strict);
}

static enum gw_err read_format(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json type = json_get(v, "type");

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    if (json_str_is(type, "json_schema"))
        return openai_read_schema(in, json_get(v, "json_schema"),
                                  &(struct openai_at){at, "json_schema", 0});
    if (json_str_is(type, "text"))
        in->c->format = CONVO_FORMAT_TEXT;
    else if (json_str_is(type, "json_object"))
        in->c->format = CONVO_FORMAT_JSON;
    else
        return openai_wrong(in, at, "type", "Must be text, json_object or json_schema");
    return GW_OK;
}

enum gw_err openai_read_effort(struct openai_in *in, struct json v, const struct openai_at *at)
{
    static const struct {
        const char *word;
        enum convo_effort effort;
    } rows[] = {
        {"none", CONVO_EFFORT_NONE}, {"minimal", CONVO_EFFORT_MINIMAL},
        {"low", CONVO_EFFORT_LOW},   {"medium", CONVO_EFFORT_MEDIUM},
        {"high", CONVO_EFFORT_HIGH}, {"xhigh", CONVO_EFFORT_MAX},
        {"max", CONVO_EFFORT_MAX},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (json_str_is(v, rows[i].word)) {
            in->c->effort = rows[i].effort;
            return GW_OK;
        }
    return openai_wrong(in, at, NULL, "Must be none, minimal, low, medium, high, xhigh or max");
}

static enum gw_err read_budget(struct openai_in *in, struct json v, const char *name,
                               const struct openai_at *at)
{
    struct json tokens = openai_get(v, name);

    if (!json_exists(tokens))
        return GW_OK;
    if (!json_int(tokens, &in->c->thinking_budget) || in->c->thinking_budget < 0 ||
        in->c->thinking_budget > MAX_TOKENS_CEILING)
        return openai_wrong(in, at, name, "Must be a number of tokens");
    return GW_OK;
}

/* OpenRouter's form: {effort} or {max_tokens}, {exclude}. */
static enum gw_err read_reasoning(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json effort = openai_get(v, "effort");
    int exclude = -1;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_flag(in, at, v, "exclude", &exclude);
    if (!err)
        err = read_budget(in, v, "max_tokens", at);
    if (!err && json_exists(effort))
        err = openai_read_effort(in, effort, &(struct openai_at){at, "effort", 0});
    if (exclude >= 0)
        in->c->include_thoughts = !exclude;
    return err;
}

/* Anthropic's `thinking`, as LiteLLM takes it on this surface. */
static enum gw_err read_thinking(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json type = json_get(v, "type");

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    if (json_str_is(type, "disabled")) {
        in->c->thinking_budget = 0;
        return GW_OK;
    }
    if (json_str_is(type, "adaptive")) {
        in->c->include_thoughts = 1;
        if (in->c->effort == CONVO_EFFORT_UNSET)
            in->c->effort = CONVO_EFFORT_MEDIUM; /* reasoning_effort, read later, wins */
        return GW_OK;
    }
    if (!json_str_is(type, "enabled"))
        return openai_wrong(in, at, "type", "Must be enabled, disabled or adaptive");
    in->c->include_thoughts = 1;
    return read_budget(in, v, "budget_tokens", at);
}

static enum gw_err read_stream_options(struct openai_in *in, struct json v,
                                       const struct openai_at *at)
{
    int usage = 0;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_flag(in, at, v, "include_usage", &usage);
    in->c->include_usage = usage == 1;
    return err;
}

static enum gw_err read_stream(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return json_bool(v, &in->c->stream) ? GW_OK
                                        : openai_wrong(in, at, NULL, "Must be true or false");
}

static enum gw_err read_messages(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return openai_decode_messages(in, v);
}

/* Ours, read elsewhere: no loss. */
static enum gw_err read_nothing(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return GW_OK;
}

/* --- the table ---------------------------------------------------------------------------------
 */

#define AT(field) offsetof(struct convo, field)

/* `thinking` stands before the efforts only in effect: see read_thinking(). */
static const struct openai_member members[] = {
    {"model", OPENAI_TEXT, AT(model)},
    {"messages", OPENAI_OTHER, .read = read_messages},
    {"stream", OPENAI_OTHER, .read = read_stream},
    {"stream_options", OPENAI_OTHER, .read = read_stream_options},
    {"max_tokens", OPENAI_WHOLE, AT(max_tokens), 1, MAX_TOKENS_CEILING},
    {"max_completion_tokens", OPENAI_WHOLE, AT(max_tokens), 1, MAX_TOKENS_CEILING},
    {"temperature", OPENAI_NUMBER, AT(temperature), 0, 2},
    {"top_p", OPENAI_NUMBER, AT(top_p), 0, 1},
    {"top_k", OPENAI_NUMBER, AT(top_k), 0, 1e9},
    {"presence_penalty", OPENAI_NUMBER, AT(presence_penalty), -2, 2},
    {"frequency_penalty", OPENAI_NUMBER, AT(frequency_penalty), -2, 2},
    {"seed", OPENAI_NUMBER, AT(seed), -1e300, 1e300},
    {"n", OPENAI_WHOLE, AT(n), 1, 128},
    {"stop", OPENAI_OTHER, .read = read_stop},
    {"tools", OPENAI_OTHER, .read = read_tools},
    {"tool_choice", OPENAI_OTHER, .read = read_tool_choice},
    {"parallel_tool_calls", OPENAI_SWITCH, AT(parallel_tools)},
    {"functions", OPENAI_OTHER, .read = read_functions},
    {"function_call", OPENAI_OTHER, .read = read_function_call},
    {"response_format", OPENAI_OTHER, .read = read_format},
    {"reasoning_effort", OPENAI_OTHER, .read = openai_read_effort},
    {"reasoning", OPENAI_OTHER, .read = read_reasoning},
    {"thinking", OPENAI_OTHER, .read = read_thinking},
    {"logprobs", OPENAI_SWITCH, AT(logprobs)},
    {"top_logprobs", OPENAI_WHOLE, AT(top_logprobs), 0, 20},
    {"logit_bias", OPENAI_OBJECT, AT(logit_bias)},
    {"user", OPENAI_TEXT, AT(user)},
    {"service_tier", OPENAI_TEXT, AT(service_tier)},
    {"metadata", OPENAI_OBJECT, AT(metadata)},
    {"prediction", OPENAI_OBJECT, AT(prediction)},
    {"modalities", OPENAI_LIST, AT(modalities)},
    {"audio", OPENAI_OBJECT, AT(audio)},
    {"web_search_options", OPENAI_OBJECT, AT(web_search)},
    {"fallbacks", OPENAI_OTHER, .read = read_nothing},
};

#define N_MEMBERS (sizeof(members) / sizeof(*members))

_Static_assert(N_MEMBERS <= OPENAI_MAX_MEMBERS, "one bit for each member");

static enum gw_err read_number(struct openai_in *in, const struct openai_member *m, struct json v,
                               const struct openai_at *at)
{
    double d;

    if (!json_is(v, JSON_NUMBER) || !json_double(v, &d))
        return openai_wrong(in, at, NULL, "Must be a number");
    if (d < m->low || d > m->high)
        return openai_wrong(in, at, NULL, "Is out of range");
    *(convo_number *)((char *)in->c + m->at) = json_raw(v);
    return GW_OK;
}

static enum gw_err read_whole(struct openai_in *in, const struct openai_member *m, struct json v,
                              const struct openai_at *at)
{
    int64_t n;

    if (!json_int(v, &n))
        return openai_wrong(in, at, NULL, "Must be an integer");
    if ((double)n < m->low || (double)n > m->high)
        return openai_wrong(in, at, NULL, "Is out of range");
    *(int64_t *)((char *)in->c + m->at) = n;
    return GW_OK;
}

static enum gw_err read_member(struct openai_in *in, const struct openai_member *m, struct json v)
{
    struct openai_at at = {NULL, m->name, 0};
    char *field = (char *)in->c + m->at;
    bool b;

    switch (m->kind) {
    case OPENAI_TEXT:
        if (!json_is(v, JSON_STRING))
            return openai_wrong(in, &at, NULL, "Must be a string");
        *(struct slice *)field = json_str(v);
        return ((struct slice *)field)->p ? GW_OK : GW_ENOMEM;
    case OPENAI_NUMBER:
        return read_number(in, m, v, &at);
    case OPENAI_WHOLE:
        return read_whole(in, m, v, &at);
    case OPENAI_SWITCH:
        if (!json_bool(v, &b))
            return openai_wrong(in, &at, NULL, "Must be true or false");
        *(int *)field = b;
        return GW_OK;
    case OPENAI_OBJECT:
    case OPENAI_LIST:
        if (!json_is(v, m->kind == OPENAI_OBJECT ? JSON_OBJECT : JSON_ARRAY))
            return openai_wrong(
                in, &at, NULL, m->kind == OPENAI_OBJECT ? "Must be an object" : "Must be an array");
        *(struct slice *)field = json_raw(v);
        return GW_OK;
    default:
        return m->read(in, v, &at);
    }
}

static enum gw_err read_one(struct openai_in *in, const struct openai_member *table, unsigned n,
                            struct json v, uint64_t *seen)
{
    struct slice name = json_key(v);
    const char *unknown;

    if (!name.p)
        return GW_ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        if (!slice_is(name, table[i].name))
            continue;
        if (*seen & 1ull << i)
            return openai_refuse(in, GW_EBADREQ, NULL, table[i].name, "Is given twice");
        *seen |= 1ull << i;
        return json_is(v, JSON_NULL) ? GW_OK : read_member(in, &table[i], v);
    }
    unknown = arena_cstr(in->arena, name);
    if (!unknown)
        return GW_ENOMEM;
    convo_drop(in->rep, unknown);
    in->c->other_bytes += json_raw(v).n;
    return GW_OK;
}

enum gw_err openai_read_members(struct openai_in *in, const struct openai_member *table, unsigned n,
                                struct json root)
{
    uint64_t seen = 0;
    enum gw_err err = GW_OK;

    for (struct json it = json_first(root); json_exists(it) && !err; it = json_next(root, it))
        err = read_one(in, table, n, it, &seen);
    return err;
}

static enum gw_err check_whole(struct openai_in *in, struct json root)
{
    if (in->c->model.n == 0)
        return openai_wrong(in, NULL, "model", "A model is required");
    if (!in->c->turns)
        return openai_wrong(in, NULL, "messages", "At least one message is required");
    if (json_exists(openai_get(root, "max_tokens")) &&
        json_exists(openai_get(root, "max_completion_tokens")))
        return openai_wrong(in, NULL, "max_tokens",
                            "Cannot be given together with max_completion_tokens");
    if (in->c->top_logprobs >= 0 && in->c->logprobs != 1)
        return openai_wrong(in, NULL, "top_logprobs", "Needs logprobs to be true");
    return GW_OK;
}

enum gw_err openai_decode_request(struct arena *a, struct json root, struct convo **ret,
                                  struct convo_report *rep)
{
    struct openai_in in = {.arena = a, .c = convo_new(a), .rep = rep};
    struct json effort = openai_get(root, "reasoning_effort");
    unsigned before = arena_refusals(a);
    enum gw_err err;

    if (!in.c)
        return GW_ENOMEM;
    if (!json_is(root, JSON_OBJECT))
        return convo_refuse(rep, GW_EBADREQ, SLICE(""), SLICE("The body must be a JSON object"));
    err = openai_read_members(&in, members, N_MEMBERS, root);
    if (!err && json_exists(effort)) /* wins over what `thinking` stands for */
        err = openai_read_effort(&in, effort, &(struct openai_at){NULL, "reasoning_effort", 0});
    if (!err)
        err = check_whole(&in, root);
    err = in.nomem ? GW_ENOMEM : dialect_end(a, before, err);
    if (!err)
        *ret = in.c;
    return err;
}
