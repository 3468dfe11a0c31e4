/*
 * anthropic.c - the Anthropic Messages dialect: its table, the path and headers of a call, the plan
 * of a request, and what its errors mean.
 */
#include "providers/dialect/anthropic.h"

#include "providers/dialect/toolname.h"

#define DEFAULT_MAX_TOKENS 4096
#define MIN_BUDGET DIALECT_MIN_THINKING

/* --- the plan ------------------------------------------------------------------------------ */

static void drop(struct convo_report *rep, const char *field)
{
    if (rep)
        convo_drop(rep, field);
}

/* The tool that carries the answer must not be mistaken for one of the client's. */
static enum gw_err plan_answer_tool(struct arena *a, const struct convo *c, struct slice *ret)
{
    struct slice name = SLICE("postern_answer");
    const struct convo_tool *t = c->tools;
    unsigned n = 1;

    while (t) {
        if (!slice_eq(t->name, name)) {
            t = t->next;
            continue;
        }
        name = arena_printf(a, "postern_answer_%u", ++n);
        if (!name.p)
            return GW_ENOMEM;
        t = c->tools;
    }
    *ret = name;
    return GW_OK;
}

static bool has_signed_reasoning(const struct convo_turn *t)
{
    for (const struct convo_part *p = t->parts; p; p = p->next)
        if ((p->kind == CONVO_REASONING && p->signature.n > 0) || p->kind == CONVO_REDACTED)
            return true;
    return false;
}

static bool has_tool_call(const struct convo_turn *t)
{
    for (const struct convo_part *p = t->parts; p; p = p->next)
        if (p->kind == CONVO_TOOL_CALL)
            return true;
    return false;
}

/*
 * With a thinking budget the vendor wants the assistant turn of an unfinished tool loop to begin
 * with its thinking. Clients that do not send it back would be refused.
 */
static bool loop_lost_its_thinking(const struct convo *c)
{
    const struct convo_turn *last = NULL;

    for (const struct convo_turn *t = c->turns; t; t = t->next)
        if (t->role == CONVO_ASSISTANT)
            last = t;
    return last && has_tool_call(last) && !has_signed_reasoning(last);
}

static const char *effort_word(const struct convo *c)
{
    switch (c->effort) {
    case CONVO_EFFORT_MINIMAL:
    case CONVO_EFFORT_LOW:
        return "low";
    case CONVO_EFFORT_MEDIUM:
        return "medium";
    case CONVO_EFFORT_HIGH:
        return "high";
    case CONVO_EFFORT_MAX:
        return "max";
    case CONVO_EFFORT_UNSET:
    case CONVO_EFFORT_NONE:
        break;
    }
    return c->thinking_budget < 2048 ? "low" : c->thinking_budget < 4096 ? "medium" : "high";
}

static int64_t budget_wanted(const struct convo *c)
{
    if (c->thinking_budget > 0)
        return c->thinking_budget;
    switch (c->effort) {
    case CONVO_EFFORT_MEDIUM:
        return 2048;
    case CONVO_EFFORT_HIGH:
        return 4096;
    case CONVO_EFFORT_MAX:
        return 16384;
    default:
        return MIN_BUDGET;
    }
}

/* The budget must be at least 1024 and less than max_tokens, which grows when it leaves no room. */
static void plan_budget(const struct convo *c, struct anthropic_plan *p, struct convo_report *rep)
{
    int64_t budget = budget_wanted(c);

    if (budget > p->max_tokens - 1)
        budget = p->max_tokens - 1;
    if (budget < MIN_BUDGET)
        budget = MIN_BUDGET;
    if (p->max_tokens <= budget) {
        p->max_tokens += budget;
        drop(rep, "max_tokens");
    }
    if (c->thinking_budget > 0 && budget != c->thinking_budget)
        drop(rep, "thinking.budget_tokens");
    p->thinking = ANTHROPIC_THINKING_BUDGET;
    p->budget = budget;
}

static void plan_thinking(const struct convo *c, const struct registry_model *m,
                          struct anthropic_plan *p, struct convo_report *rep)
{
    bool adaptive = registry_has_quirk(m, "adaptive_thinking");
    bool wanted = c->effort > CONVO_EFFORT_NONE || c->thinking_budget > 0;
    bool forced =
        c->tools && (c->tool_choice == CONVO_CHOICE_ANY || c->tool_choice == CONVO_CHOICE_NAMED);

    if (!wanted) {
        if (adaptive && !registry_has_quirk(m, "always_thinks") &&
            (c->effort == CONVO_EFFORT_NONE || c->thinking_budget == 0))
            p->thinking = ANTHROPIC_THINKING_OFF;
    } else if (m->listed && !(m->capabilities & REGISTRY_CAN_REASONING)) {
        drop(rep, "reasoning_effort");
    } else if (adaptive) {
        p->effort = effort_word(c);
        if (c->thinking_budget > 0)
            drop(rep, "thinking.budget_tokens");
        if (forced)
            drop(rep, "thinking");
        else
            p->thinking = ANTHROPIC_THINKING_ADAPTIVE;
    } else if (forced || loop_lost_its_thinking(c)) {
        drop(rep, "reasoning_effort");
    } else {
        plan_budget(c, p, rep);
    }
}

/* A schema the model has no field for becomes a tool. "Any JSON object" is a schema too, but only
 * where the tool can be forced: elsewhere it is asked for in words. */
static void plan_format(const struct convo *c, const struct registry_model *m,
                        struct anthropic_plan *p)
{
    bool thinks = p->thinking == ANTHROPIC_THINKING_BUDGET ||
                  p->thinking == ANTHROPIC_THINKING_ADAPTIVE ||
                  registry_has_quirk(m, "always_thinks");

    if (c->format == CONVO_FORMAT_SCHEMA && !p->native_schema) {
        p->emulate = true;
        p->answer_schema = c->schema;
    } else if (c->format == CONVO_FORMAT_JSON && !thinks) {
        p->emulate = true;
        p->answer_schema = SLICE("{\"type\":\"object\"}");
    }
}

enum gw_err anthropic_plan(struct arena *a, const struct convo *c, const struct registry_model *m,
                           struct anthropic_plan *ret, struct convo_report *rep)
{
    bool client_forces =
        c->tools && (c->tool_choice == CONVO_CHOICE_ANY || c->tool_choice == CONVO_CHOICE_NAMED);

    *ret = (struct anthropic_plan){.max_tokens = DEFAULT_MAX_TOKENS};
    if (c->max_tokens > 0)
        ret->max_tokens = c->max_tokens;
    else if (m->max_output_tokens > 0)
        ret->max_tokens = m->max_output_tokens;
    ret->native_schema =
        registry_has_quirk(m, "native_schema") || (m->capabilities & REGISTRY_CAN_SCHEMA) != 0;
    plan_thinking(c, m, ret, rep);
    /* a turn that must be a tool call has no text to shape */
    if (!client_forces)
        plan_format(c, m, ret);
    return ret->emulate ? plan_answer_tool(a, c, &ret->answer_tool) : GW_OK;
}

/* --- path and headers ---------------------------------------------------------------------- */

static void add_header(struct dialect_request *out, struct slice name, struct slice value)
{
    if (out->n_headers < DIALECT_MAX_HEADERS)
        out->headers[out->n_headers++] = (struct dialect_header){name, value};
}

enum gw_err anthropic_pass_request(struct arena *a, const struct registry_model *m, bool stream,
                                   struct dialect_request *out)
{
    out->path = SLICE("/v1/messages");
    out->n_headers = 0;
    if (m->provider->api_key.n > 0)
        add_header(out, SLICE("x-api-key"), m->provider->api_key);
    add_header(out, SLICE("anthropic-version"), SLICE("2023-06-01"));
    return GW_OK;
}

static enum gw_err count_request(struct arena *a, const struct registry_model *m,
                                 struct dialect_request *out)
{
    enum gw_err err = anthropic_pass_request(a, m, false, out);

    out->path = SLICE("/v1/messages/count_tokens");
    return err;
}

/* --- errors -------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    enum gw_err err;
} error_types[] = {
    {"invalid_request_error", GW_EUPREJECT},
    {"authentication_error", GW_EUPAUTH},
    {"billing_error", GW_EUPAUTH},
    {"permission_error", GW_EUPAUTH},
    {"not_found_error", GW_EMODEL},
    {"request_too_large", GW_ETOOBIG},
    {"rate_limit_error", GW_EUPRATE},
    {"timeout_error", GW_EUPSTREAM},
    {"api_error", GW_EUPSTREAM},
    {"overloaded_error", GW_EUPSTREAM},
};

static enum gw_err error_by_status(int status)
{
    switch (status) {
    case 401:
    case 402:
    case 403:
        return GW_EUPAUTH;
    case 404:
        return GW_EMODEL;
    case 408:
        return GW_EUPSTREAM;
    case 413:
        return GW_ETOOBIG;
    case 429:
        return GW_EUPRATE;
    default:
        return status >= 400 && status < 500 ? GW_EUPREJECT : GW_EUPSTREAM;
    }
}

static bool contains(struct slice text, const char *word)
{
    return text.n > 0 && memmem(text.p, text.n, word, strlen(word)) != NULL;
}

enum gw_err anthropic_error(int status, struct slice type, struct slice message)
{
    enum gw_err err = error_by_status(status);

    if (status == 0) /* inside a stream only the type tells */
        for (size_t i = 0; i < sizeof(error_types) / sizeof(error_types[0]); i++)
            if (slice_is(type, error_types[i].type))
                err = error_types[i].err;
    /* an empty purse is the gateway's trouble, though it comes as an invalid request */
    if (err == GW_EUPREJECT && contains(message, "credit balance is too low"))
        err = GW_EUPAUTH;
    return err;
}

static struct slice keep(struct arena *a, struct slice s)
{
    struct slice copy = s.n ? arena_dup(a, s) : SLICE_NONE;

    return copy.p ? copy : SLICE_NONE;
}

static void anthropic_decode_error(struct arena *a, int status, struct slice body,
                                   struct dialect_error *ret)
{
    struct json root = {0}, error;
    enum gw_err err;

    *ret = (struct dialect_error){0};
    err = json_parse(a, body, NULL, &root, NULL);
    error = err ? (struct json){0} : json_get(root, "error");
    ret->message = keep(a, json_str(json_get(error, "message")));
    ret->type = keep(a, json_str(json_get(error, "type")));
    ret->err = anthropic_error(status, ret->type, ret->message);
    ret->status = err_info(ret->err)->status;
    if (ret->err == GW_EUPREJECT && (status == 404 || status == 413 || status == 422))
        ret->status = status;
}

const struct dialect dialect_anthropic = {
    .name = "anthropic",
    .encode_request = anthropic_encode_request,
    .pass_request = anthropic_pass_request,
    .decode_answer = anthropic_decode_answer,
    .decoder_new = anthropic_decoder_new,
    .decode_event = anthropic_decode_event,
    .decode_end = anthropic_decode_end,
    .count_request = count_request,
    .pass_body = anthropic_pass_body,
    .pass_event = anthropic_pass_event,
    .pass_answer = anthropic_pass_answer,
    .decode_error = anthropic_decode_error,
    .decode_request = anthropic_decode_request,
    .encode_answer = anthropic_encode_answer,
    .encoder_new = anthropic_encoder_new,
    .encode_event = anthropic_encode_event,
};
