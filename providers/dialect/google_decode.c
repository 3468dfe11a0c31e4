/*
 * google_decode.c - a client's generateContent request as a conversation: the members of the
 * request itself, its tools and its generationConfig. Its contents are read in google_turns.c.
 *
 * One walk over the members of each object, each looked up in a table, in camelCase or snake_case.
 * The model and whether to stream are in the URL: handlers/generate.c sets them. Members that are
 * not in a table are noted as dropped: a target that speaks Gemini's dialect still gets them, since
 * its body passes through.
 */
#include "providers/dialect/google_client.h"

#define MAX_STOPS 16u
#define MAX_STEPS 16u
#define MAX_TOKENS_CEILING 1000000000

/* --- names --------------------------------------------------------------------------------- */

bool google_is_name(struct slice key, const char *camel)
{
    size_t i = 0;

    for (; *camel; camel++) {
        char low = *camel >= 'A' && *camel <= 'Z' ? (char)(*camel - 'A' + 'a') : '\0';

        if (i < key.n && key.p[i] == *camel) {
            i++;
        } else if (low && i + 1 < key.n && key.p[i] == '_' && key.p[i + 1] == low) {
            i += 2;
        } else {
            return false;
        }
    }
    return i == key.n;
}

struct json google_get(struct json object, const char *camel)
{
    if (json_is(object, JSON_OBJECT))
        for (struct json it = json_first(object); json_exists(it); it = json_next(object, it))
            if (google_is_name(json_key(it), camel) && !json_is(it, JSON_NULL))
                return it;
    return (struct json){NULL, 0};
}

/* --- saying what is wrong ------------------------------------------------------------------ */

/* The field at `at`, or its member `name`, as Google writes it; in the arena. */
static struct slice field_name(struct google_in *in, const struct google_at *at, const char *name)
{
    const struct google_at *steps[MAX_STEPS];
    struct slice text;
    struct buf out;
    unsigned n = 0;

    for (; at && n < MAX_STEPS; at = at->up)
        steps[n++] = at;
    buf_init(&out, 4096);
    while (n > 0) {
        const struct google_at *step = steps[--n];

        if (step->name)
            buf_printf(&out, "%s%s", out.n ? "." : "", step->name);
        else
            buf_printf(&out, "[%u]", step->index);
    }
    if (name)
        buf_printf(&out, "%s%s", out.n ? "." : "", name);
    in->nomem |= buf_err(&out) == GW_ENOMEM;
    text = arena_dup(in->arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

/* Google's clients see the message alone, so it names the field. */
static enum gw_err refuse(struct google_in *in, enum gw_err err, const struct google_at *at,
                          const char *name, const char *why)
{
    struct slice field = field_name(in, at, name);
    struct slice text =
        field.n ? arena_printf(in->arena, "%.*s: %s", SLICE_ARG(field), why) : slice_cstr(why);

    return text.p ? convo_refuse(in->rep, err, field, text) : GW_ENOMEM;
}

enum gw_err google_wrong(struct google_in *in, const struct google_at *at, const char *name,
                         const char *why)
{
    return refuse(in, GW_ESCHEMA, at, name, why);
}

enum gw_err google_unsupported(struct google_in *in, const struct google_at *at, const char *name,
                               const char *why)
{
    return refuse(in, GW_EUNSUPPORTED, at, name, why);
}

static enum gw_err drop(struct google_in *in, const struct google_at *at, struct slice name)
{
    const char *text = arena_cstr(in->arena, name);
    struct slice whole;

    if (!text)
        return GW_ENOMEM;
    whole = field_name(in, at, text);
    if (!whole.p)
        return GW_ENOMEM;
    convo_drop(in->rep, whole.p);
    return GW_OK;
}

/* --- reading members ----------------------------------------------------------------------- */

enum gw_err google_get_str(struct google_in *in, const struct google_at *at, struct json object,
                           const char *name, bool required, struct slice *ret)
{
    struct json v = google_get(object, name);
    struct slice text;

    if (!json_exists(v))
        return required ? google_wrong(in, at, name, "a string is required") : GW_OK;
    if (!json_is(v, JSON_STRING))
        return google_wrong(in, at, name, "must be a string");
    text = json_str(v);
    if (!text.p)
        return GW_ENOMEM;
    if (required && text.n == 0)
        return google_wrong(in, at, name, "must not be empty");
    *ret = text;
    return GW_OK;
}

typedef enum gw_err (*read_fn)(struct google_in *in, struct json v, const struct google_at *at);

enum kind { NUMBER, WHOLE, SWITCH, TEXT, READ, NOTHING, DROPPED };

struct member {
    const char *name;
    enum kind kind;
    size_t at;        /* of the field in struct convo */
    double low, high; /* of a number */
    read_fn read;
};

#define AT(field) offsetof(struct convo, field)

static enum gw_err read_number(struct google_in *in, const struct member *m, struct json v,
                               const struct google_at *at)
{
    double d;

    if (!json_is(v, JSON_NUMBER) || !json_double(v, &d))
        return google_wrong(in, at, NULL, "must be a number");
    if (d < m->low || d > m->high)
        return google_wrong(in, at, NULL, "is out of range");
    *(convo_number *)((char *)in->c + m->at) = json_raw(v);
    return GW_OK;
}

static enum gw_err read_whole(struct google_in *in, const struct member *m, struct json v,
                              const struct google_at *at)
{
    int64_t n;

    if (!json_int(v, &n))
        return google_wrong(in, at, NULL, "must be an integer");
    if ((double)n < m->low || (double)n > m->high)
        return google_wrong(in, at, NULL, "is out of range");
    *(int64_t *)((char *)in->c + m->at) = n;
    return GW_OK;
}

static enum gw_err read_member(struct google_in *in, const struct member *m, struct json v,
                               const struct google_at *up)
{
    struct google_at at = {up, m->name, 0};
    char *field = (char *)in->c + m->at;
    bool b;

    switch (m->kind) {
    case NUMBER:
        return read_number(in, m, v, &at);
    case WHOLE:
        return read_whole(in, m, v, &at);
    case SWITCH:
        if (!json_bool(v, &b))
            return google_wrong(in, &at, NULL, "must be true or false");
        *(int *)field = b;
        return GW_OK;
    case TEXT:
        if (!json_is(v, JSON_STRING))
            return google_wrong(in, &at, NULL, "must be a string");
        *(struct slice *)field = json_str(v);
        return ((struct slice *)field)->p ? GW_OK : GW_ENOMEM;
    case READ:
        return m->read(in, v, &at);
    case DROPPED:
        return drop(in, up, slice_cstr(m->name));
    default:
        return GW_OK;
    }
}

/* Reads the members of an object by a table of at most 64. */
static enum gw_err read_object(struct google_in *in, struct json object, const struct google_at *at,
                               const struct member *members, unsigned n)
{
    uint64_t seen = 0;
    enum gw_err err = GW_OK;

    if (!json_is(object, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    for (struct json it = json_first(object); json_exists(it) && !err; it = json_next(object, it)) {
        struct slice key = json_key(it);
        unsigned i = 0;

        if (!key.p)
            return GW_ENOMEM;
        while (i < n && !google_is_name(key, members[i].name))
            i++;
        if (i == n) {
            err = drop(in, at, key);
            continue;
        }
        if (seen & 1ull << i)
            return refuse(in, GW_EBADREQ, at, members[i].name, "is given twice");
        seen |= 1ull << i;
        if (!json_is(it, JSON_NULL))
            err = read_member(in, &members[i], it, at);
    }
    return err;
}

#define READ_OBJECT(in, v, at, table)                                                              \
    read_object((in), (v), (at), (table), sizeof(table) / sizeof((table)[0]))

/* --- tools --------------------------------------------------------------------------------- */

static enum gw_err read_schema(struct google_in *in, struct json v, const struct google_at *at,
                               struct slice *ret)
{
    if (!json_is(v, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    return google_json_schema(in->arena, v, ret);
}

static enum gw_err read_function(struct google_in *in, struct json f, const struct google_at *at)
{
    static const char *const lost[] = {"response", "responseJsonSchema", "behavior"};
    struct json own = google_get(f, "parameters"), plain = google_get(f, "parametersJsonSchema");
    struct slice name = SLICE_NONE;
    struct convo_tool *t;
    enum gw_err err;

    if (!json_is(f, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    err = google_get_str(in, at, f, "name", true, &name);
    if (err)
        return err;
    t = convo_add_tool(in->c, name);
    if (!t)
        return GW_ENOMEM;
    if (json_exists(own) && json_exists(plain))
        return google_wrong(in, at, "parametersJsonSchema", "cannot be given beside parameters");
    if (json_exists(plain) && !json_is(plain, JSON_OBJECT))
        return google_wrong(in, at, "parametersJsonSchema", "must be an object");
    t->schema = json_raw(plain);
    if (json_exists(own))
        err = read_schema(in, own, &(struct google_at){at, "parameters", 0}, &t->schema);
    for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]) && !err; i++)
        if (json_exists(google_get(f, lost[i])))
            convo_drop(in->rep, "tools.functionDeclarations.response");
    return err ? err : google_get_str(in, at, f, "description", false, &t->description);
}

static enum gw_err read_functions(struct google_in *in, struct json list,
                                  const struct google_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(list, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array");
    for (struct json it = json_first(list); json_exists(it) && !err; it = json_next(list, it))
        err = read_function(in, it, &(struct google_at){at, NULL, i++});
    return err;
}

/* Google's own tools: only Google can run them. */
static const char *own_tool(struct slice key)
{
    static const char *const names[] = {
        "googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps",
        "fileSearch",   "enterpriseWebSearch",   "computerUse",   "mcpServers", "retrieval",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (google_is_name(key, names[i]))
            return names[i];
    return NULL;
}

static enum gw_err read_tool_member(struct google_in *in, struct json tool, struct json v,
                                    const struct google_at *at)
{
    struct slice key = json_key(v);
    const char *own = own_tool(key);
    struct convo_tool *t;

    if (google_is_name(key, "functionDeclarations"))
        return read_functions(in, v, &(struct google_at){at, "functionDeclarations", 0});
    if (!own)
        return drop(in, &(struct google_at){NULL, "tools", 0}, key);
    t = convo_add_tool(in->c, slice_cstr(own));
    if (!t)
        return GW_ENOMEM;
    t->raw = json_raw(tool);
    return GW_OK;
}

static enum gw_err read_tools(struct google_in *in, struct json v, const struct google_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(v, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array");
    for (struct json it = json_first(v); json_exists(it) && !err; it = json_next(v, it), i++) {
        struct google_at here = {at, NULL, i};

        if (!json_is(it, JSON_OBJECT))
            return google_wrong(in, &here, NULL, "must be an object");
        for (struct json m = json_first(it); json_exists(m) && !err; m = json_next(it, m))
            if (!json_is(m, JSON_NULL))
                err = read_tool_member(in, it, m, &here);
    }
    return err;
}

static bool is_allowed(struct json names, struct slice name)
{
    for (struct json it = json_first(names); json_exists(it); it = json_next(names, it))
        if (slice_eq(json_str(it), name))
            return true;
    return false;
}

/* With several functions allowed, the others are not shown to the model at all. */
static void keep_allowed(struct convo *c, struct json names)
{
    struct convo_tool **at = &c->tools;

    c->last_tool = NULL;
    while (*at) {
        struct convo_tool *t = *at;

        if (t->raw.n == 0 && !is_allowed(names, t->name)) {
            *at = t->next;
            continue;
        }
        c->last_tool = t;
        at = &t->next;
    }
}

static enum gw_err read_allowed(struct google_in *in, struct json names, const struct google_at *at)
{
    if (!json_is(names, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array");
    if (json_count(names) > 128)
        return google_wrong(in, at, NULL, "has too many names");
    for (struct json it = json_first(names); json_exists(it); it = json_next(names, it))
        if (!json_is(it, JSON_STRING) || json_str(it).n == 0)
            return google_wrong(in, at, NULL, "must hold names of functions");
    if (json_count(names) != 1)
        return GW_OK; /* see apply_allowed() */
    in->c->tool_choice = CONVO_CHOICE_NAMED;
    in->c->tool_choice_name = json_str(json_first(names));
    return GW_OK;
}

static enum gw_err read_calling(struct google_in *in, struct json v, const struct google_at *at)
{
    static const struct {
        const char *word;
        enum convo_tool_choice choice;
    } modes[] = {
        {"MODE_UNSPECIFIED", CONVO_CHOICE_UNSET},
        {"AUTO", CONVO_CHOICE_AUTO},
        {"VALIDATED", CONVO_CHOICE_AUTO},
        {"ANY", CONVO_CHOICE_ANY},
        {"NONE", CONVO_CHOICE_NONE},
    };
    struct json names = google_get(v, "allowedFunctionNames");
    struct slice mode = SLICE_NONE;
    size_t i = 0;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    err = google_get_str(in, at, v, "mode", false, &mode);
    if (err)
        return err;
    while (mode.n && i < 5 && !slice_is_nocase(mode, modes[i].word))
        i++;
    if (i == 5)
        return google_wrong(in, at, "mode", "must be AUTO, ANY, NONE or VALIDATED");
    in->c->tool_choice = modes[i].choice;
    if (slice_is_nocase(mode, "VALIDATED"))
        convo_drop(in->rep, "toolConfig.functionCallingConfig.mode");
    if (!json_exists(names) || in->c->tool_choice != CONVO_CHOICE_ANY)
        return GW_OK;
    return read_allowed(in, names, &(struct google_at){at, "allowedFunctionNames", 0});
}

static const struct member tool_config[] = {
    {"functionCallingConfig", READ, .read = read_calling},
    {"retrievalConfig", DROPPED},
    {"includeServerSideToolInvocations", DROPPED},
};

static enum gw_err read_tool_config(struct google_in *in, struct json v, const struct google_at *at)
{
    return READ_OBJECT(in, v, at, tool_config);
}

/* After all members: the tools may come behind their configuration. */
static void apply_allowed(struct google_in *in, struct json root)
{
    struct json calling = google_get(google_get(root, "toolConfig"), "functionCallingConfig");
    struct json names = google_get(calling, "allowedFunctionNames");

    if (in->c->tool_choice == CONVO_CHOICE_ANY && json_count(names) > 1)
        keep_allowed(in->c, names);
}

/* --- generationConfig ---------------------------------------------------------------------- */

static enum gw_err read_stops(struct google_in *in, struct json v, const struct google_at *at)
{
    uint32_t n = json_count(v), i = 0;
    struct slice *stops;

    if (!json_is(v, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array of strings");
    if (n > MAX_STOPS)
        return google_wrong(in, at, NULL, "has too many stop sequences");
    stops = arena_array(in->arena, struct slice, n ? n : 1);
    if (!stops)
        return GW_ENOMEM;
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it), i++) {
        if (!json_is(it, JSON_STRING))
            return google_wrong(in, &(struct google_at){at, NULL, i}, NULL, "must be a string");
        stops[i] = json_str(it);
        if (!stops[i].p)
            return GW_ENOMEM;
    }
    in->c->stop = stops;
    in->c->n_stop = n;
    return GW_OK;
}

/* A whole number, which Python's library writes as 40.0. */
static enum gw_err read_top_k(struct google_in *in, struct json v, const struct google_at *at)
{
    double d;

    if (!json_is(v, JSON_NUMBER) || !json_double(v, &d))
        return google_wrong(in, at, NULL, "must be a number");
    if (d < 0 || d > 1e9)
        return google_wrong(in, at, NULL, "is out of range");
    if (d != (double)(int64_t)d)
        return google_wrong(in, at, NULL, "must be a whole number");
    in->c->top_k = arena_printf(in->arena, "%lld", (long long)d);
    return in->c->top_k.p ? GW_OK : GW_ENOMEM;
}

static enum gw_err read_mime(struct google_in *in, struct json v, const struct google_at *at)
{
    if (json_str_is(v, "text/plain")) {
        in->c->format = CONVO_FORMAT_TEXT;
        return GW_OK;
    }
    if (json_str_is(v, "application/json")) {
        if (in->c->format != CONVO_FORMAT_SCHEMA)
            in->c->format = CONVO_FORMAT_JSON;
        return GW_OK;
    }
    if (json_str_is(v, "text/x.enum"))
        return google_unsupported(in, at, NULL,
                                  "text/x.enum is known to Gemini models only; ask for "
                                  "application/json with an enum");
    return google_wrong(in, at, NULL, "must be text/plain or application/json");
}

static enum gw_err read_answer_schema(struct google_in *in, struct json v,
                                      const struct google_at *at)
{
    in->c->format = CONVO_FORMAT_SCHEMA;
    return read_schema(in, v, at, &in->c->schema);
}

static enum gw_err read_answer_json_schema(struct google_in *in, struct json v,
                                           const struct google_at *at)
{
    if (!json_is(v, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    in->c->format = CONVO_FORMAT_SCHEMA;
    in->c->schema = json_raw(v);
    return GW_OK;
}

static enum gw_err read_modalities(struct google_in *in, struct json v, const struct google_at *at)
{
    if (!json_is(v, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array");
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it))
        if (!json_is(it, JSON_STRING) || !slice_is_nocase(json_str(it), "TEXT"))
            return google_unsupported(in, at, NULL, "only Gemini models answer in more than text");
    return GW_OK;
}

static enum gw_err read_speech(struct google_in *in, struct json v, const struct google_at *at)
{
    return google_unsupported(in, at, NULL, "only Gemini models answer in more than text");
}

/* -1 leaves it to the model; others know that as an effort. */
static enum gw_err read_budget(struct google_in *in, struct json v, const struct google_at *at)
{
    int64_t n;

    if (!json_int(v, &n) || n < -1 || n > MAX_TOKENS_CEILING)
        return google_wrong(in, at, NULL, "must be a number of tokens, or -1");
    if (n >= 0)
        in->c->thinking_budget = n;
    else if (in->c->effort == CONVO_EFFORT_UNSET)
        in->c->effort = CONVO_EFFORT_MEDIUM;
    return GW_OK;
}

static enum gw_err read_level(struct google_in *in, struct json v, const struct google_at *at)
{
    static const struct {
        const char *word;
        enum convo_effort effort;
    } levels[] = {{"MINIMAL", CONVO_EFFORT_MINIMAL},
                  {"LOW", CONVO_EFFORT_LOW},
                  {"MEDIUM", CONVO_EFFORT_MEDIUM},
                  {"HIGH", CONVO_EFFORT_HIGH},
                  {"THINKING_LEVEL_UNSPECIFIED", CONVO_EFFORT_UNSET}};
    struct slice word = json_str(v);

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (word.n && slice_is_nocase(word, levels[i].word)) {
            in->c->effort = levels[i].effort;
            return GW_OK;
        }
    return google_wrong(in, at, NULL, "must be MINIMAL, LOW, MEDIUM or HIGH");
}

static const struct member thinking[] = {
    {"includeThoughts", SWITCH, AT(include_thoughts)},
    {"thinkingBudget", READ, .read = read_budget},
    {"thinkingLevel", READ, .read = read_level},
};

static enum gw_err read_thinking(struct google_in *in, struct json v, const struct google_at *at)
{
    return READ_OBJECT(in, v, at, thinking);
}

static const struct member config[] = {
    {"temperature", NUMBER, AT(temperature), 0, 2},
    {"topP", NUMBER, AT(top_p), 0, 1},
    {"topK", READ, .read = read_top_k},
    {"candidateCount", WHOLE, AT(n), 1, 16},
    {"maxOutputTokens", WHOLE, AT(max_tokens), 1, MAX_TOKENS_CEILING},
    {"stopSequences", READ, .read = read_stops},
    {"seed", NUMBER, AT(seed), -1e300, 1e300},
    {"presencePenalty", NUMBER, AT(presence_penalty), -2, 2},
    {"frequencyPenalty", NUMBER, AT(frequency_penalty), -2, 2},
    {"responseLogprobs", SWITCH, AT(logprobs)},
    {"logprobs", WHOLE, AT(top_logprobs), 0, 20},
    {"responseMimeType", READ, .read = read_mime},
    {"responseSchema", READ, .read = read_answer_schema},
    {"responseJsonSchema", READ, .read = read_answer_json_schema},
    {"_responseJsonSchema", READ, .read = read_answer_json_schema},
    {"thinkingConfig", READ, .read = read_thinking},
    {"responseModalities", READ, .read = read_modalities},
    {"speechConfig", READ, .read = read_speech},
    {"imageConfig", DROPPED},
    {"mediaResolution", DROPPED},
    {"enableEnhancedCivicAnswers", DROPPED},
};

static enum gw_err read_config(struct google_in *in, struct json v, const struct google_at *at)
{
    struct json mime = google_get(v, "responseMimeType");
    enum gw_err err = READ_OBJECT(in, v, at, config);

    if (err)
        return err;
    if (in->c->schema.n && !json_str_is(mime, "application/json"))
        return google_wrong(in, at, "responseMimeType",
                            "must be application/json when there is a schema");
    if (in->c->top_logprobs >= 0 && in->c->logprobs != 1)
        return google_wrong(in, at, "logprobs", "needs responseLogprobs to be true");
    return GW_OK;
}

/* --- the request --------------------------------------------------------------------------- */

static enum gw_err read_cached(struct google_in *in, struct json v, const struct google_at *at)
{
    return google_unsupported(in, at, NULL, "a cached content exists at Google only");
}

static const struct member members[] = {
    {"contents", READ, .read = google_decode_contents},
    {"systemInstruction", NOTHING}, /* read first: its turn is the first one */
    {"tools", READ, .read = read_tools},
    {"toolConfig", READ, .read = read_tool_config},
    {"generationConfig", READ, .read = read_config},
    {"serviceTier", TEXT, AT(service_tier)},
    {"cachedContent", READ, .read = read_cached},
    {"safetySettings", DROPPED},
    {"labels", DROPPED},
    {"store", DROPPED},
    {"model", NOTHING},     /* the URL says it */
    {"fallbacks", NOTHING}, /* ours, read elsewhere */
};

enum gw_err google_decode_request(struct arena *a, struct json root, struct convo **ret,
                                  struct convo_report *rep)
{
    struct google_in in = {.arena = a, .c = convo_new(a), .rep = rep};
    struct json system = google_get(root, "systemInstruction");
    unsigned before = arena_refusals(a);
    enum gw_err err = GW_OK;

    if (!in.c)
        return GW_ENOMEM;
    if (!json_is(root, JSON_OBJECT))
        return convo_refuse(rep, GW_EBADREQ, SLICE(""), SLICE("The body must be a JSON object"));
    if (json_exists(system))
        err = google_decode_system(&in, system, &(struct google_at){NULL, "systemInstruction", 0});
    if (!err)
        err = READ_OBJECT(&in, root, NULL, members);
    if (!err && (!in.c->last_turn || in.c->last_turn->role == CONVO_SYSTEM))
        err = google_wrong(&in, NULL, "contents", "at least one content is required");
    if (!err)
        apply_allowed(&in, root);
    err = in.nomem ? GW_ENOMEM : dialect_end(a, before, err);
    if (!err)
        *ret = in.c;
    return err;
}
