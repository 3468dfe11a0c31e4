/*
 * anthropic_decode.c - a client's Messages request as a conversation: the members of the request
 * itself. Its system text and messages are read in anthropic_blocks.c.
 *
 * One walk over the members, each looked up in a table. Members that are not in the table are noted
 * as dropped: a target that speaks Anthropic still gets them, since its body passes through.
 */
#include "providers/dialect/anthropic.h"

#define MAX_STOPS 64u
#define MAX_STEPS 16u
#define MAX_TOKENS_CEILING 1000000000

/* --- saying what is wrong ------------------------------------------------------------------- */

/* "messages.0.content.1.text" of `at`, or of its member `name`, in the arena. */
static struct slice place(struct anthropic_in *in, const struct anthropic_at *at, const char *name)
{
    const struct anthropic_at *steps[MAX_STEPS];
    struct slice text;
    struct buf out;
    unsigned n = 0;

    for (; at && n < MAX_STEPS; at = at->up)
        steps[n++] = at;
    buf_init(&out, 4096);
    while (n > 0) {
        const struct anthropic_at *step = steps[--n];

        if (out.n)
            buf_add_char(&out, '.');
        if (step->name)
            buf_add_cstr(&out, step->name);
        else
            buf_add_u64(&out, step->index);
    }
    if (name && out.n)
        buf_add_char(&out, '.');
    if (name)
        buf_add_cstr(&out, name);
    text = buf_err(&out) ? SLICE_NONE : arena_dup(in->arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

enum gw_err anthropic_wrong(struct anthropic_in *in, const struct anthropic_at *at,
                            const char *name, const char *why)
{
    struct slice where = place(in, at, name);

    return where.p ? convo_refuse(in->rep, GW_ESCHEMA, where, slice_cstr(why)) : GW_ENOMEM;
}

/* --- reading members ------------------------------------------------------------------------ */

struct json anthropic_get(struct json object, const char *name)
{
    struct json v = json_get(object, name);

    return json_is(v, JSON_NULL) ? (struct json){NULL, 0} : v;
}

enum gw_err anthropic_get_str(struct anthropic_in *in, const struct anthropic_at *at,
                              struct json object, const char *name, bool required,
                              struct slice *ret)
{
    struct json v = anthropic_get(object, name);
    struct slice text;

    if (!json_exists(v))
        return required ? anthropic_wrong(in, at, name, "Field required") : GW_OK;
    if (!json_is(v, JSON_STRING))
        return anthropic_wrong(in, at, name, "Input should be a valid string");
    text = json_str(v);
    if (!text.p)
        return GW_ENOMEM;
    if (required && text.n == 0)
        return anthropic_wrong(in, at, name, "Input should not be empty");
    *ret = text;
    return GW_OK;
}

static enum gw_err get_flag(struct anthropic_in *in, const struct anthropic_at *at,
                            struct json object, const char *name, int *ret)
{
    struct json v = anthropic_get(object, name);
    bool b;

    if (!json_exists(v))
        return GW_OK;
    if (!json_bool(v, &b))
        return anthropic_wrong(in, at, name, "Input should be a valid boolean");
    *ret = b;
    return GW_OK;
}

static enum gw_err want_object(struct anthropic_in *in, struct json v,
                               const struct anthropic_at *at)
{
    return json_is(v, JSON_OBJECT) ? GW_OK
                                   : anthropic_wrong(in, at, NULL, "Input should be an object");
}

/* --- tools ---------------------------------------------------------------------------------- */

static enum gw_err read_custom(struct anthropic_in *in, struct json v,
                               const struct anthropic_at *at)
{
    static const char *const lost[] = {"input_examples", "defer_loading", "allowed_callers",
                                       "eager_input_streaming"};
    struct json schema = anthropic_get(v, "input_schema");
    struct slice name = SLICE_NONE;
    struct convo_tool *t;
    enum gw_err err = anthropic_get_str(in, at, v, "name", true, &name);

    if (err)
        return err;
    if (!json_is(schema, JSON_OBJECT))
        return anthropic_wrong(in, at, "input_schema", "Input should be an object");
    t = convo_add_tool(in->c, name);
    if (!t)
        return GW_ENOMEM;
    t->schema = json_raw(schema);
    for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++)
        if (json_exists(anthropic_get(v, lost[i])))
            convo_drop(in->rep, lost[i]);
    if (json_is(json_get(v, "cache_control"), JSON_OBJECT))
        t->cache_control = json_raw(json_get(v, "cache_control"));
    err = anthropic_get_str(in, at, v, "description", false, &t->description);
    return err ? err : get_flag(in, at, v, "strict", &t->strict);
}

static enum gw_err read_tool(struct anthropic_in *in, struct json v, const struct anthropic_at *at)
{
    struct slice type = SLICE_NONE;
    struct convo_tool *t;
    enum gw_err err = want_object(in, v, at);

    if (!err)
        err = anthropic_get_str(in, at, v, "type", false, &type);
    if (err)
        return err;
    if (type.n == 0 || slice_is(type, "custom"))
        return read_custom(in, v, at);
    t = convo_add_tool(in->c, type);
    if (!t)
        return GW_ENOMEM;
    t->raw = json_raw(v);
    return GW_OK;
}

static enum gw_err read_tools(struct anthropic_in *in, struct json v, const struct anthropic_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(v, JSON_ARRAY))
        return anthropic_wrong(in, at, NULL, "Input should be a valid list");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it))
        err = read_tool(in, it, &(struct anthropic_at){at, NULL, i++});
    return err;
}

static enum gw_err read_tool_choice(struct anthropic_in *in, struct json v,
                                    const struct anthropic_at *at)
{
    static const struct {
        const char *word;
        enum convo_tool_choice choice;
    } rows[] = {{"auto", CONVO_CHOICE_AUTO},
                {"any", CONVO_CHOICE_ANY},
                {"none", CONVO_CHOICE_NONE},
                {"tool", CONVO_CHOICE_NAMED}};
    int alone = -1;
    enum gw_err err = want_object(in, v, at);

    if (!err)
        err = get_flag(in, at, v, "disable_parallel_tool_use", &alone);
    if (err)
        return err;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_str_is(json_get(v, "type"), rows[i].word))
            in->c->tool_choice = rows[i].choice;
    if (in->c->tool_choice == CONVO_CHOICE_UNSET)
        return anthropic_wrong(in, at, "type", "Input should be auto, any, tool or none");
    if (alone >= 0)
        in->c->parallel_tools = !alone;
    return in->c->tool_choice == CONVO_CHOICE_NAMED
               ? anthropic_get_str(in, at, v, "name", true, &in->c->tool_choice_name)
               : GW_OK;
}

/* --- thinking and the answer's form ----------------------------------------------------------- */

static enum gw_err read_display(struct anthropic_in *in, struct json v,
                                const struct anthropic_at *at)
{
    struct slice display = SLICE_NONE;
    enum gw_err err = anthropic_get_str(in, at, v, "display", false, &display);

    in->c->include_thoughts = !slice_is(display, "omitted");
    return err;
}

static enum gw_err read_thinking(struct anthropic_in *in, struct json v,
                                 const struct anthropic_at *at)
{
    struct json type = json_get(v, "type"), tokens = json_get(v, "budget_tokens");
    struct convo *c = in->c;
    enum gw_err err = want_object(in, v, at);

    if (err)
        return err;
    if (json_str_is(type, "disabled")) {
        c->thinking_budget = 0;
        return GW_OK;
    }
    if (json_str_is(type, "adaptive")) {
        if (c->effort == CONVO_EFFORT_UNSET)
            c->effort = CONVO_EFFORT_MEDIUM; /* output_config.effort, before or after, wins */
        return read_display(in, v, at);
    }
    if (!json_str_is(type, "enabled"))
        return anthropic_wrong(in, at, "type", "Input should be enabled, disabled or adaptive");
    if (!json_int(tokens, &c->thinking_budget) || c->thinking_budget < 1 ||
        c->thinking_budget > MAX_TOKENS_CEILING) {
        c->thinking_budget = -1;
        return anthropic_wrong(in, at, "budget_tokens", "Input should be a number of tokens");
    }
    return read_display(in, v, at);
}

static bool is_in(struct json list, struct slice name)
{
    for (struct json it = json_first(list); json_exists(it); it = json_next(list, it))
        if (slice_eq(json_str(it), name))
            return true;
    return false;
}

/* Every property required and no other allowed, all the way down: what vendors enforce to the
 * letter. Others are taken as a wish. */
static bool is_closed(struct json schema)
{
    static const char *const values[] = {"enum", "const", "default", "examples", "required"};
    struct json properties = json_get(schema, "properties");

    if (json_is(schema, JSON_OBJECT) &&
        (json_exists(properties) || json_str_is(json_get(schema, "type"), "object")) &&
        !json_is(json_get(schema, "additionalProperties"), JSON_FALSE))
        return false;
    for (struct json it = json_first(properties); json_exists(it); it = json_next(properties, it))
        if (!is_in(json_get(schema, "required"), json_key(it)) || !is_closed(it))
            return false;
    for (struct json it = json_first(schema); json_exists(it); it = json_next(schema, it)) {
        struct slice key = json_is(schema, JSON_OBJECT) ? json_key(it) : SLICE_NONE;
        bool skip = slice_is(key, "properties");

        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
            skip |= slice_is(key, values[i]);
        if (!skip && !is_closed(it))
            return false;
    }
    return true;
}

static enum gw_err read_format(struct anthropic_in *in, struct json v,
                               const struct anthropic_at *at)
{
    enum gw_err err = want_object(in, v, at);

    if (err)
        return err;
    if (!json_str_is(json_get(v, "type"), "json_schema"))
        return anthropic_wrong(in, at, "type", "Input should be json_schema");
    if (!json_is(json_get(v, "schema"), JSON_OBJECT))
        return anthropic_wrong(in, at, "schema", "Input should be an object");
    in->c->format = CONVO_FORMAT_SCHEMA;
    in->c->schema = json_raw(json_get(v, "schema"));
    if (is_closed(json_get(v, "schema")))
        in->c->schema_strict = 1;
    return GW_OK;
}

static enum gw_err read_effort(struct anthropic_in *in, struct json v,
                               const struct anthropic_at *at)
{
    static const struct {
        const char *word;
        enum convo_effort effort;
    } rows[] = {{"low", CONVO_EFFORT_LOW},
                {"medium", CONVO_EFFORT_MEDIUM},
                {"high", CONVO_EFFORT_HIGH},
                {"xhigh", CONVO_EFFORT_MAX},
                {"max", CONVO_EFFORT_MAX}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_str_is(v, rows[i].word)) {
            in->c->effort = rows[i].effort;
            return GW_OK;
        }
    return anthropic_wrong(in, at, NULL, "Input should be low, medium, high, xhigh or max");
}

static enum gw_err read_output_config(struct anthropic_in *in, struct json v,
                                      const struct anthropic_at *at)
{
    struct json effort = anthropic_get(v, "effort"), format = anthropic_get(v, "format");
    enum gw_err err = want_object(in, v, at);

    if (!err && json_exists(effort))
        err = read_effort(in, effort, &(struct anthropic_at){at, "effort", 0});
    if (!err && json_exists(format))
        err = read_format(in, format, &(struct anthropic_at){at, "format", 0});
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it))
        if (!slice_is(json_key(it), "effort") && !slice_is(json_key(it), "format"))
            convo_drop(in->rep, "output_config");
    return err;
}

/* Where thinking is off no effort is asked for, in whatever order the two came. */
static void finish_effort(struct anthropic_in *in)
{
    if (in->c->thinking_budget != 0 || in->c->effort == CONVO_EFFORT_UNSET)
        return;
    in->c->effort = CONVO_EFFORT_UNSET;
    convo_drop(in->rep, "output_config.effort");
}

/* --- the rest ------------------------------------------------------------------------------- */

static enum gw_err read_stops(struct anthropic_in *in, struct json v, const struct anthropic_at *at)
{
    unsigned n = json_count(v), i = 0;
    struct slice *stops;

    if (!json_is(v, JSON_ARRAY))
        return anthropic_wrong(in, at, NULL, "Input should be a valid list");
    if (n > MAX_STOPS)
        return anthropic_wrong(in, at, NULL, "Too many stop sequences");
    stops = arena_array(in->arena, struct slice, n ? n : 1);
    if (!stops)
        return GW_ENOMEM;
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it)) {
        if (!json_is(it, JSON_STRING))
            return anthropic_wrong(in, &(struct anthropic_at){at, NULL, i}, NULL,
                                   "Input should be a valid string");
        stops[i] = json_str(it);
        if (!stops[i++].p)
            return GW_ENOMEM;
    }
    in->c->stop = stops;
    in->c->n_stop = n;
    return GW_OK;
}

static enum gw_err read_metadata(struct anthropic_in *in, struct json v,
                                 const struct anthropic_at *at)
{
    enum gw_err err = want_object(in, v, at);

    if (err)
        return err;
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it))
        if (!slice_is(json_key(it), "user_id"))
            convo_drop(in->rep, "metadata");
    return anthropic_get_str(in, at, v, "user_id", false, &in->c->user);
}

static enum gw_err read_stream(struct anthropic_in *in, struct json v,
                               const struct anthropic_at *at)
{
    return json_bool(v, &in->c->stream)
               ? GW_OK
               : anthropic_wrong(in, at, NULL, "Input should be a valid boolean");
}

/* Ours, read elsewhere: no loss. */
static enum gw_err read_nothing(struct anthropic_in *in, struct json v,
                                const struct anthropic_at *at)
{
    return GW_OK;
}

/* --- the table ------------------------------------------------------------------------------- */

enum kind { TEXT, NUMBER, WHOLE, OTHER };

struct member {
    const char *name;
    enum kind kind;
    size_t at;        /* of the field in struct convo */
    double low, high; /* of a number */
    enum gw_err (*read)(struct anthropic_in *in, struct json v, const struct anthropic_at *at);
};

#define AT(field) offsetof(struct convo, field)

static const struct member members[] = {
    {"model", TEXT, AT(model)},
    {"system", OTHER, .read = anthropic_decode_system},
    {"messages", OTHER, .read = anthropic_decode_messages},
    {"max_tokens", WHOLE, AT(max_tokens), 1, MAX_TOKENS_CEILING},
    {"stream", OTHER, .read = read_stream},
    {"temperature", NUMBER, AT(temperature), 0, 1},
    {"top_p", NUMBER, AT(top_p), 0, 1},
    {"top_k", NUMBER, AT(top_k), 0, 1e9},
    {"stop_sequences", OTHER, .read = read_stops},
    {"tools", OTHER, .read = read_tools},
    {"tool_choice", OTHER, .read = read_tool_choice},
    {"thinking", OTHER, .read = read_thinking},
    {"output_config", OTHER, .read = read_output_config},
    {"output_format", OTHER, .read = read_format},
    {"metadata", OTHER, .read = read_metadata},
    {"service_tier", TEXT, AT(service_tier)},
    {"fallbacks", OTHER, .read = read_nothing},
};

#define N_MEMBERS (sizeof(members) / sizeof(members[0]))

_Static_assert(N_MEMBERS <= 64, "one bit for each member");

static enum gw_err read_number(struct anthropic_in *in, const struct member *m, struct json v,
                               const struct anthropic_at *at)
{
    double d;

    if (!json_double(v, &d))
        return anthropic_wrong(in, at, NULL, "Input should be a valid number");
    if (d < m->low || d > m->high)
        return anthropic_wrong(in, at, NULL, "Input is out of range");
    *(convo_number *)((char *)in->c + m->at) = json_raw(v);
    return GW_OK;
}

static enum gw_err read_whole(struct anthropic_in *in, const struct member *m, struct json v,
                              const struct anthropic_at *at)
{
    int64_t n;

    if (!json_int(v, &n))
        return anthropic_wrong(in, at, NULL, "Input should be a valid integer");
    if ((double)n < m->low || (double)n > m->high)
        return anthropic_wrong(in, at, NULL, "Input is out of range");
    *(int64_t *)((char *)in->c + m->at) = n;
    return GW_OK;
}

static enum gw_err read_member(struct anthropic_in *in, const struct member *m, struct json v)
{
    struct anthropic_at at = {NULL, m->name, 0};
    struct slice *text = (struct slice *)((char *)in->c + m->at);

    switch (m->kind) {
    case TEXT:
        if (!json_is(v, JSON_STRING))
            return anthropic_wrong(in, &at, NULL, "Input should be a valid string");
        *text = json_str(v);
        return text->p ? GW_OK : GW_ENOMEM;
    case NUMBER:
        return read_number(in, m, v, &at);
    case WHOLE:
        return read_whole(in, m, v, &at);
    default:
        return m->read(in, v, &at);
    }
}

static enum gw_err read_one(struct anthropic_in *in, struct json v, uint64_t *seen)
{
    struct slice name = json_key(v);
    const char *unknown;

    if (!name.p)
        return GW_ENOMEM;
    for (unsigned i = 0; i < N_MEMBERS; i++) {
        if (!slice_is(name, members[i].name))
            continue;
        if (*seen & 1ull << i)
            return convo_refuse(in->rep, GW_EBADREQ, slice_cstr(members[i].name),
                                SLICE("Is given twice"));
        *seen |= 1ull << i;
        return json_is(v, JSON_NULL) ? GW_OK : read_member(in, &members[i], v);
    }
    if (json_is(v, JSON_NULL))
        return GW_OK;
    unknown = arena_cstr(in->arena, name);
    if (!unknown)
        return GW_ENOMEM;
    convo_drop(in->rep, unknown);
    return GW_OK;
}

enum gw_err anthropic_decode_request(struct arena *a, struct json root, struct convo **ret,
                                     struct convo_report *rep)
{
    struct anthropic_in in = {.arena = a, .c = convo_new(a), .rep = rep};
    unsigned before = arena_refusals(a);
    uint64_t seen = 0;
    enum gw_err err = GW_OK;

    if (!in.c)
        return GW_ENOMEM;
    if (!json_is(root, JSON_OBJECT))
        return convo_refuse(rep, GW_EBADREQ, SLICE(""), SLICE("The body must be a JSON object"));
    for (struct json it = json_first(root); json_exists(it) && !err; it = json_next(root, it))
        err = read_one(&in, it, &seen);
    finish_effort(&in);
    if (!err && in.c->model.n == 0)
        err = anthropic_wrong(&in, NULL, "model", "Field required");
    if (!err && !json_is(json_get(root, "messages"), JSON_ARRAY))
        err = anthropic_wrong(&in, NULL, "messages", "Field required");
    in.c->include_usage = true; /* this dialect always tells it */
    err = dialect_end(a, before, err);
    if (!err)
        *ret = in.c;
    return err;
}
