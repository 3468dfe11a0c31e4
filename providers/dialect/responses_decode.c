/*
 * responses_decode.c - a client's responses request as a conversation: the members of the request
 * itself. Its input items are read in responses_input.c.
 *
 * What asks for state that is not in the request is refused by name; so are tools that run at the
 * vendor, since leaving them out would change the answer. `strict` of a function that does not say
 * it stays unset, although OpenAI takes that as true here: it also rewrites the schema then, and
 * other providers would refuse it.
 */
#include "providers/dialect/responses_wire.h"

#define MAX_TOKENS_CEILING 1000000000

/* --- members that are refused, or stand for nothing here -------------------------------------- */

static enum gw_err refuse_state(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return openai_refuse(in, GW_EUNSUPPORTED, at, NULL,
                         "Nothing is stored between requests: send the whole conversation as "
                         "`input`, with the items of earlier answers");
}

static enum gw_err refuse_prompt(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return openai_refuse(in, GW_EUNSUPPORTED, at, NULL,
                         "Stored prompts are not known here: send `instructions` and `input`");
}

static enum gw_err read_background(struct openai_in *in, struct json v, const struct openai_at *at)
{
    bool on;

    if (!json_bool(v, &on))
        return openai_wrong(in, at, NULL, "Must be true or false");
    if (!on)
        return GW_OK;
    return openai_refuse(in, GW_EUNSUPPORTED, at, NULL,
                         "Nothing is stored between requests, so none can run in the background");
}

static enum gw_err read_store(struct openai_in *in, struct json v, const struct openai_at *at)
{
    bool on;

    if (!json_bool(v, &on))
        return openai_wrong(in, at, NULL, "Must be true or false");
    if (on)
        convo_drop(in->rep, "store");
    return GW_OK;
}

static enum gw_err read_truncation(struct openai_in *in, struct json v, const struct openai_at *at)
{
    if (json_str_is(v, "auto"))
        convo_drop(in->rep, "truncation");
    else if (!json_str_is(v, "disabled"))
        return openai_wrong(in, at, NULL, "Must be auto or disabled");
    return GW_OK;
}

/* Read elsewhere, repeated in the answer, or of no effect here: no loss. */
static enum gw_err read_nothing(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return GW_OK;
}

static enum gw_err read_metadata(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return json_is(v, JSON_OBJECT) ? GW_OK : openai_wrong(in, at, NULL, "Must be an object");
}

/* --- members with a meaning ------------------------------------------------------------------- */

static enum gw_err read_input(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct convo_turn *t;
    struct convo_part *p;

    if (!json_is(v, JSON_STRING))
        return responses_decode_items(in, v, at);
    t = convo_add_turn(in->c, CONVO_USER);
    p = t ? convo_add_part(in->c, t, CONVO_TEXT) : NULL;
    if (!p)
        return GW_ENOMEM;
    p->text = json_str(v);
    return p->text.p ? GW_OK : GW_ENOMEM;
}

/* They come before the input, wherever they stand in the body. */
static enum gw_err read_instructions(struct openai_in *in, struct json root)
{
    struct slice text = SLICE_NONE;
    struct convo_turn *t;
    struct convo_part *p;
    enum gw_err err = openai_get_str(in, NULL, root, "instructions", false, &text);

    if (err || text.n == 0)
        return err;
    t = convo_add_turn(in->c, CONVO_SYSTEM);
    p = t ? convo_add_part(in->c, t, CONVO_TEXT) : NULL;
    if (!p)
        return GW_ENOMEM;
    p->text = text;
    return GW_OK;
}

static enum gw_err read_stream(struct openai_in *in, struct json v, const struct openai_at *at)
{
    return json_bool(v, &in->c->stream) ? GW_OK
                                        : openai_wrong(in, at, NULL, "Must be true or false");
}

/* Usage always comes with the last event, and nothing is ever padded. */
static enum gw_err read_stream_options(struct openai_in *in, struct json v,
                                       const struct openai_at *at)
{
    int padded = 0;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    return openai_get_flag(in, at, v, "include_obfuscation", &padded);
}

static enum gw_err read_tool(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct slice type = SLICE_NONE;
    struct convo_tool *t;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_str(in, at, v, "type", true, &type);
    if (err)
        return err;
    if (!slice_is(type, "function"))
        return openai_refuse(in, GW_EUNSUPPORTED, at, "type",
                             "Only tools of the type function are supported here");
    return openai_read_function(in, v, at, &t);
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

static enum gw_err read_tool_choice(struct openai_in *in, struct json v, const struct openai_at *at)
{
    if (json_is(v, JSON_STRING))
        return openai_choice_word(in, v, at);
    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be none, auto, required or an object");
    if (!json_is(json_get(v, "type"), JSON_STRING))
        return openai_wrong(in, at, "type", "A string is required");
    if (!json_str_is(json_get(v, "type"), "function"))
        return openai_refuse(in, GW_EUNSUPPORTED, at, "type",
                             "Only a tool of the type function can be chosen here");
    in->c->tool_choice = CONVO_CHOICE_NAMED;
    return openai_get_str(in, at, v, "name", true, &in->c->tool_choice_name);
}

static enum gw_err read_format(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json type = json_get(v, "type");

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    if (json_str_is(type, "json_schema"))
        return openai_read_schema(in, v, at);
    if (json_str_is(type, "text"))
        in->c->format = CONVO_FORMAT_TEXT;
    else if (json_str_is(type, "json_object"))
        in->c->format = CONVO_FORMAT_JSON;
    else
        return openai_wrong(in, at, "type", "Must be text, json_object or json_schema");
    return GW_OK;
}

static enum gw_err read_text(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json format = openai_get(v, "format");
    struct slice verbosity = SLICE_NONE;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_str(in, at, v, "verbosity", false, &verbosity);
    if (!err && verbosity.n && !slice_is(verbosity, "medium"))
        convo_drop(in->rep, "text.verbosity");
    if (err || !json_exists(format))
        return err;
    return read_format(in, format, &(struct openai_at){at, "format", 0});
}

static enum gw_err read_reasoning(struct openai_in *in, struct json v, const struct openai_at *at)
{
    struct json effort = openai_get(v, "effort");
    struct slice summary = SLICE_NONE, old = SLICE_NONE;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return openai_wrong(in, at, NULL, "Must be an object");
    err = openai_get_str(in, at, v, "summary", false, &summary);
    if (!err)
        err = openai_get_str(in, at, v, "generate_summary", false, &old);
    if (!err && (summary.n || old.n))
        in->c->include_thoughts = 1;
    if (err || !json_exists(effort))
        return err;
    return openai_read_effort(in, effort, &(struct openai_at){at, "effort", 0});
}

/* Signed reasoning always comes with its encrypted_content, since nothing is stored. */
static enum gw_err read_include(struct openai_in *in, struct json v, const struct openai_at *at)
{
    unsigned i = 0;

    if (!json_is(v, JSON_ARRAY))
        return openai_wrong(in, at, NULL, "Must be an array");
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it), i++) {
        if (!json_is(it, JSON_STRING))
            return openai_wrong(in, &(struct openai_at){at, NULL, i}, NULL, "Must be a string");
        if (json_str_is(it, "message.output_text.logprobs"))
            in->c->logprobs = 1;
        else if (!json_str_is(it, "reasoning.encrypted_content"))
            convo_drop(in->rep, "include");
    }
    return GW_OK;
}

/* The end user by another name; `user` wins. */
static enum gw_err read_safety(struct openai_in *in, struct json v, const struct openai_at *at)
{
    if (!json_is(v, JSON_STRING))
        return openai_wrong(in, at, NULL, "Must be a string");
    if (in->c->user.n)
        return GW_OK;
    in->c->user = json_str(v);
    return in->c->user.p ? GW_OK : GW_ENOMEM;
}

/* --- the table -------------------------------------------------------------------------------- */

#define AT(field) offsetof(struct convo, field)

static const struct openai_member members[] = {
    {"model", OPENAI_TEXT, AT(model)},
    {"input", OPENAI_OTHER, .read = read_input},
    {"instructions", OPENAI_OTHER, .read = read_nothing},
    {"stream", OPENAI_OTHER, .read = read_stream},
    {"stream_options", OPENAI_OTHER, .read = read_stream_options},
    {"max_output_tokens", OPENAI_WHOLE, AT(max_tokens), 1, MAX_TOKENS_CEILING},
    {"temperature", OPENAI_NUMBER, AT(temperature), 0, 2},
    {"top_p", OPENAI_NUMBER, AT(top_p), 0, 1},
    {"tools", OPENAI_OTHER, .read = read_tools},
    {"tool_choice", OPENAI_OTHER, .read = read_tool_choice},
    {"parallel_tool_calls", OPENAI_SWITCH, AT(parallel_tools)},
    {"max_tool_calls", OPENAI_OTHER, .read = read_nothing}, /* counts the vendor's own tools */
    {"text", OPENAI_OTHER, .read = read_text},
    {"reasoning", OPENAI_OTHER, .read = read_reasoning},
    {"include", OPENAI_OTHER, .read = read_include},
    {"top_logprobs", OPENAI_WHOLE, AT(top_logprobs), 0, 20},
    {"user", OPENAI_TEXT, AT(user)},
    {"safety_identifier", OPENAI_OTHER, .read = read_safety},
    {"service_tier", OPENAI_TEXT, AT(service_tier)},
    {"metadata", OPENAI_OTHER, .read = read_metadata},
    {"truncation", OPENAI_OTHER, .read = read_truncation},
    {"store", OPENAI_OTHER, .read = read_store},
    {"background", OPENAI_OTHER, .read = read_background},
    {"previous_response_id", OPENAI_OTHER, .read = refuse_state},
    {"conversation", OPENAI_OTHER, .read = refuse_state},
    {"prompt", OPENAI_OTHER, .read = refuse_prompt},
    {"fallbacks", OPENAI_OTHER, .read = read_nothing},
};

#define N_MEMBERS (sizeof(members) / sizeof(*members))

_Static_assert(N_MEMBERS <= OPENAI_MAX_MEMBERS, "one bit for each member");

static enum gw_err check_whole(struct openai_in *in, struct json root)
{
    if (in->c->model.n == 0)
        return openai_wrong(in, NULL, "model", "A model is required");
    if (!json_exists(openai_get(root, "input")) || !in->c->turns)
        return openai_wrong(in, NULL, "input", "Input is required");
    if (in->c->top_logprobs < 0 || in->c->logprobs == 1)
        return GW_OK;
    in->c->top_logprobs = -1; /* the vendor tells none either unless they are included */
    convo_drop(in->rep, "top_logprobs");
    return GW_OK;
}

enum gw_err responses_decode_request(struct arena *a, struct json root, struct convo **ret,
                                     struct convo_report *rep)
{
    struct openai_in in = {.arena = a, .c = convo_new(a), .rep = rep};
    unsigned before = arena_refusals(a);
    enum gw_err err;

    if (!in.c)
        return GW_ENOMEM;
    if (!json_is(root, JSON_OBJECT))
        return convo_refuse(rep, GW_EBADREQ, SLICE(""), SLICE("The body must be a JSON object"));
    err = read_instructions(&in, root);
    if (!err)
        err = openai_read_members(&in, members, N_MEMBERS, root);
    if (!err)
        err = check_whole(&in, root);
    err = in.nomem ? GW_ENOMEM : dialect_end(a, before, err);
    if (!err)
        *ret = in.c;
    return err;
}
