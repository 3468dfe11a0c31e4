/*
 * openai_client.c - answers towards OpenAI clients: whole, and as a stream of chunks.
 *
 * A chunk is a head that never changes within a stream, a delta, and a tail. Order: the role first
 * (per choice), content, one chunk with finish_reason per choice, the usage chunk if it was asked
 * for, [DONE]. After an error nothing follows, not even [DONE].
 *
 * Extensions beyond OpenAI's documented form, as other gateways have them: `reasoning_content`;
 * `thinking_blocks` (a whole block, once its signature is known, so that clients can send it back);
 * `extra_content.google.thought_signature`; `postern_stop_reason` for a stop that OpenAI has no
 * word for; `postern_opaque` for blocks only their vendor knows.
 */
#include "gateway/core/rng.h"
#include "providers/dialect/callid.h"
#include "providers/dialect/openai.h"

#define MAX_CHOICES 16u
#define MAX_REASONING (4u << 20)

/* One call of the stream. */
struct called {
    struct called *next;
    unsigned part, choice;
    unsigned index; /* among the calls of its choice */
    bool has_args;
};

struct dialect_encoder {
    struct arena *arena;
    struct slice model;
    uint64_t created;
    bool include_usage;
    bool over;         /* END or ERROR went out */
    struct slice head; /* up to and with `"choices":`; empty until START */
    struct slice tail; /* from behind the choice to the end of the event */
    struct convo_usage usage;
    bool opened[MAX_CHOICES]; /* the role chunk went out */
    unsigned n_calls[MAX_CHOICES];
    struct called *calls; /* newest first */
    struct buf reasoning; /* text of the reasoning part under way */
    unsigned reasoning_part;
    bool has_reasoning, text_seen;
    unsigned text_part;
};

/* --- what whole answers and streams share ----------------------------------------------------- */

static void put_id(struct buf *out, struct slice id)
{
    char hex[24];

    buf_add_char(out, '"');
    if (!slice_starts(id, "chatcmpl-"))
        buf_add_cstr(out, "chatcmpl-");
    if (id.n) {
        json_escape(out, id);
    } else {
        rng_hex(hex, sizeof(hex) / 2);
        buf_add(out, hex, sizeof(hex));
    }
    buf_add_char(out, '"');
}

static void put_string(struct buf *out, struct slice text)
{
    buf_add_char(out, '"');
    json_escape(out, text);
    buf_add_char(out, '"');
}

static const char *finish_word(enum convo_stop stop, bool has_calls)
{
    switch (stop) {
    case CONVO_STOP_LENGTH:
        return "length";
    case CONVO_STOP_FILTERED:
        return "content_filter";
    case CONVO_STOP_TOOLS:
        return "tool_calls";
    case CONVO_STOP_DONE:
        return has_calls ? "tool_calls" : "stop";
    default:
        return "stop";
    }
}

/* `"finish_reason":...`, and the vendor's own word where OpenAI has none. */
static void put_finish(struct buf *out, enum convo_stop stop, struct slice raw, bool has_calls)
{
    buf_add_cstr(out, "\"finish_reason\":\"");
    buf_add_cstr(out, finish_word(stop, has_calls));
    buf_add_char(out, '"');
    if ((stop != CONVO_STOP_PAUSED && stop != CONVO_STOP_OTHER) || raw.n == 0)
        return;
    buf_add_cstr(out, ",\"postern_stop_reason\":");
    put_string(out, raw);
}

static void put_usage(struct buf *out, const struct convo_usage *u)
{
    buf_add_cstr(out, "{\"prompt_tokens\":");
    buf_add_u64(out, u->input);
    buf_add_cstr(out, ",\"completion_tokens\":");
    buf_add_u64(out, u->output);
    buf_add_cstr(out, ",\"total_tokens\":");
    buf_add_u64(out, u->input + u->output);
    buf_add_cstr(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    buf_add_u64(out, u->cache_read);
    if (u->cache_write) { /* LiteLLM's name, and OpenAI's later one */
        buf_add_cstr(out, ",\"cache_creation_tokens\":");
        buf_add_u64(out, u->cache_write);
        buf_add_cstr(out, ",\"cache_write_tokens\":");
        buf_add_u64(out, u->cache_write);
    }
    buf_add_cstr(out, "},\"completion_tokens_details\":{\"reasoning_tokens\":");
    buf_add_u64(out, u->reasoning);
    buf_add_cstr(out, "}}");
}

static void put_thought_signature(struct buf *out, struct slice signature)
{
    buf_add_cstr(out, "\"extra_content\":{\"google\":{\"thought_signature\":");
    put_string(out, signature);
    buf_add_cstr(out, "}}");
}

static void put_block(struct buf *out, bool redacted, struct slice text, struct slice signature)
{
    buf_add_cstr(out, redacted ? "{\"type\":\"redacted_thinking\",\"data\":"
                               : "{\"type\":\"thinking\",\"thinking\":");
    put_string(out, text);
    if (signature.n) {
        buf_add_cstr(out, ",\"signature\":");
        put_string(out, signature);
    }
    buf_add_char(out, '}');
}

/* Raw JSON of the provider on one line: a line end, which can only be white space there, would end
 * the `data` field of an event. */
static void put_raw(struct buf *out, struct slice raw)
{
    char *to = buf_reserve(out, raw.n);

    for (size_t i = 0; to && i < raw.n; i++)
        to[i] = raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i];
    if (to)
        out->n += raw.n;
}

/* Members of an answer that OpenAI itself documents, kept raw by its decoder. */
static bool is_own_member(struct slice name)
{
    return slice_is(name, "annotations") || slice_is(name, "audio");
}

/* --- a whole answer --------------------------------------------------------------------------- */

static bool is_call(const struct convo_out_part *p)
{
    return p->kind == CONVO_TOOL_CALL ||
           (p->kind == CONVO_OPAQUE && slice_is(p->name, "openai.tool_call"));
}

static bool is_block(const struct convo_out_part *p)
{
    return p->kind == CONVO_REASONING || p->kind == CONVO_REDACTED;
}

static bool is_other_opaque(const struct convo_out_part *p)
{
    return p->kind == CONVO_OPAQUE && !is_call(p) && !is_own_member(p->name);
}

#define EACH_PART(p, ans, c)                                                                       \
    for (const struct convo_out_part *p = (ans)->parts; p; p = p->next)                            \
        if (p->choice == (c))

/* The texts of one kind joined: a string, or null when there is none. */
static void put_joined(struct buf *out, const struct convo_answer *ans, unsigned choice,
                       enum convo_part_kind kind)
{
    bool any = false;

    EACH_PART(p, ans, choice)
    {
        if (p->kind != kind)
            continue;
        if (!any)
            buf_add_char(out, '"');
        any = true;
        json_escape(out, p->text);
    }
    buf_add_cstr(out, any ? "\"" : "null");
}

static void put_call(struct buf *out, const struct convo_out_part *p)
{
    if (p->kind == CONVO_OPAQUE) {
        put_raw(out, p->text);
        return;
    }
    buf_add_cstr(out, "{\"id\":");
    callid_put(out, p->id, p->signature);
    buf_add_cstr(out, ",\"type\":\"function\",\"function\":{\"name\":");
    put_string(out, p->name);
    buf_add_cstr(out, ",\"arguments\":");
    put_string(out, p->text);
    buf_add_char(out, '}');
    if (p->signature.n) {
        buf_add_char(out, ',');
        put_thought_signature(out, p->signature);
    }
    buf_add_char(out, '}');
}

static void put_opaque(struct buf *out, struct slice name, struct slice raw)
{
    buf_add_cstr(out, "{\"kind\":");
    put_string(out, name);
    buf_add_cstr(out, ",\"value\":");
    put_raw(out, raw);
    buf_add_char(out, '}');
}

/* The parts for which `want` holds, as an array under `key`; nothing when there are none. */
static bool put_list(struct buf *out, const struct convo_answer *ans, unsigned choice,
                     const char *key, bool (*want)(const struct convo_out_part *))
{
    bool any = false;

    EACH_PART(p, ans, choice)
    {
        if (!want(p))
            continue;
        if (any) {
            buf_add_char(out, ',');
        } else {
            buf_add_cstr(out, ",\"");
            buf_add_cstr(out, key);
            buf_add_cstr(out, "\":[");
        }
        any = true;
        if (is_block(p))
            put_block(out, p->kind == CONVO_REDACTED, p->text, p->signature);
        else if (is_call(p))
            put_call(out, p);
        else
            put_opaque(out, p->name, p->text);
    }
    if (any)
        buf_add_char(out, ']');
    return any;
}

/* Returns whether there are tool calls. */
static bool put_message(struct buf *out, const struct convo_answer *ans, unsigned choice)
{
    struct slice signature = SLICE_NONE;
    bool reasoning = false, blocks = false, calls;

    buf_add_cstr(out, "{\"role\":\"assistant\",\"content\":");
    put_joined(out, ans, choice, CONVO_TEXT);
    buf_add_cstr(out, ",\"refusal\":");
    put_joined(out, ans, choice, CONVO_REFUSAL);
    EACH_PART(p, ans, choice)
    {
        reasoning |= p->kind == CONVO_REASONING;
        blocks |= p->kind == CONVO_REDACTED || (p->kind == CONVO_REASONING && p->signature.n);
        if (p->kind == CONVO_TEXT && p->signature.n)
            signature = p->signature;
        if (p->kind == CONVO_OPAQUE && is_own_member(p->name)) {
            buf_add_cstr(out, slice_is(p->name, "audio") ? ",\"audio\":" : ",\"annotations\":");
            put_raw(out, p->text);
        }
    }
    if (reasoning) {
        buf_add_cstr(out, ",\"reasoning_content\":");
        put_joined(out, ans, choice, CONVO_REASONING);
    }
    if (blocks)
        put_list(out, ans, choice, "thinking_blocks", is_block);
    calls = put_list(out, ans, choice, "tool_calls", is_call);
    put_list(out, ans, choice, "postern_opaque", is_other_opaque);
    if (signature.n) {
        buf_add_char(out, ',');
        put_thought_signature(out, signature);
    }
    buf_add_char(out, '}');
    return calls;
}

void openai_encode_answer(const struct convo_answer *ans, struct slice model_shown, uint64_t wall_s,
                          struct buf *out)
{
    unsigned n = ans->n_choices ? ans->n_choices : 1;

    buf_add_cstr(out, "{\"id\":");
    put_id(out, ans->id);
    buf_add_cstr(out, ",\"object\":\"chat.completion\",\"created\":");
    buf_add_u64(out, wall_s);
    buf_add_cstr(out, ",\"model\":");
    put_string(out, model_shown);
    buf_add_cstr(out, ",\"choices\":[");
    for (unsigned i = 0; i < n; i++) {
        bool calls;

        buf_printf(out, "%s{\"index\":%u,\"message\":", i ? "," : "", i);
        calls = put_message(out, ans, i);
        buf_add_cstr(out, ",\"logprobs\":");
        buf_add_slice(out, ans->finish[i].logprobs.n ? ans->finish[i].logprobs : SLICE("null"));
        buf_add_char(out, ',');
        put_finish(out, ans->finish[i].stop, ans->finish[i].raw, calls);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
    if (ans->usage.known) {
        buf_add_cstr(out, ",\"usage\":");
        put_usage(out, &ans->usage);
    }
    buf_add_char(out, '}');
}

/* --- a stream --------------------------------------------------------------------------------- */

static void free_reasoning(void *obj)
{
    struct dialect_encoder *e = obj;

    buf_deinit(&e->reasoning);
}

struct dialect_encoder *openai_encoder_new(struct arena *a, const struct convo *c,
                                           struct slice model_shown, uint64_t wall_s)
{
    struct dialect_encoder *e = arena_new(a, struct dialect_encoder);

    if (!e)
        return NULL;
    e->arena = a;
    e->model = model_shown;
    e->created = wall_s;
    e->include_usage = c && c->include_usage;
    e->tail = e->include_usage ? SLICE("]"
                                       ",\"usage\":null}\n\n")
                               : SLICE("]}\n\n");
    buf_init(&e->reasoning, MAX_REASONING);
    return arena_defer(a, free_reasoning, e) ? e : NULL;
}

static enum gw_err make_head(struct dialect_encoder *e, struct slice id)
{
    struct buf b;

    if (e->head.n)
        return GW_OK;
    buf_init(&b, 65536);
    buf_add_cstr(&b, "data: {\"id\":");
    put_id(&b, id);
    buf_add_cstr(&b, ",\"object\":\"chat.completion.chunk\",\"created\":");
    buf_add_u64(&b, e->created);
    buf_add_cstr(&b, ",\"model\":");
    put_string(&b, e->model);
    buf_add_cstr(&b, ",\"choices\":[");
    e->head = buf_err(&b) ? SLICE_NONE : arena_dup(e->arena, buf_slice(&b));
    buf_deinit(&b);
    return e->head.n ? GW_OK : GW_ENOMEM;
}

#define LIT(out, lit) buf_add((out), lit, sizeof(lit) - 1)

/* From the event's start to the inside of the delta's braces. */
static void chunk_open(struct dialect_encoder *e, unsigned choice, struct buf *out)
{
    buf_add_slice(out, e->head);
    if (choice == 0) {
        LIT(out, "{\"index\":0,\"delta\":{");
        return;
    }
    LIT(out, "{\"index\":");
    buf_add_u64(out, choice);
    LIT(out, ",\"delta\":{");
}

static void chunk_close(struct dialect_encoder *e, struct slice logprobs, struct buf *out)
{
    if (logprobs.n) {
        LIT(out, "},\"logprobs\":");
        put_raw(out, logprobs);
        LIT(out, ",\"finish_reason\":null}");
    } else {
        LIT(out, "},\"logprobs\":null,\"finish_reason\":null}");
    }
    buf_add_slice(out, e->tail);
}

static void put_role(struct dialect_encoder *e, unsigned choice, struct buf *out)
{
    if (e->opened[choice])
        return;
    e->opened[choice] = true;
    chunk_open(e, choice, out);
    LIT(out, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    chunk_close(e, SLICE_NONE, out);
}

/* A chunk whose delta is one string member. */
static void put_text(struct dialect_encoder *e, const struct convo_event *ev, struct slice key,
                     struct buf *out)
{
    chunk_open(e, ev->choice, out);
    buf_add_slice(out, key);
    json_escape(out, ev->text);
    buf_add_char(out, '"');
    chunk_close(e, ev->raw, out);
}

/* Keeps the text too, for the block its signature belongs to; one that is too long for that has
 * none. */
static enum gw_err on_reasoning(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    if (!e->has_reasoning || e->reasoning_part != ev->part)
        buf_reset(&e->reasoning);
    e->has_reasoning = true;
    e->reasoning_part = ev->part;
    buf_add_slice(&e->reasoning, ev->text);
    put_text(e, ev, SLICE("\"reasoning_content\":\""), out);
    return buf_err(&e->reasoning) == GW_ENOMEM ? GW_ENOMEM : GW_OK;
}

static struct called *called_of(struct dialect_encoder *e, unsigned part)
{
    struct called *t;

    for (t = e->calls; t; t = t->next)
        if (t->part == part)
            break;
    return t;
}

static void call_open(struct dialect_encoder *e, const struct called *t, struct buf *out)
{
    chunk_open(e, t->choice, out);
    LIT(out, "\"tool_calls\":[{\"index\":");
    buf_add_u64(out, t->index);
}

static void put_args(struct dialect_encoder *e, struct called *t, struct slice text,
                     struct buf *out)
{
    t->has_args = true;
    call_open(e, t, out);
    LIT(out, ",\"function\":{\"arguments\":\"");
    json_escape(out, text);
    LIT(out, "\"}}]");
    chunk_close(e, SLICE_NONE, out);
}

static enum gw_err on_tool_begin(struct dialect_encoder *e, const struct convo_event *ev,
                                 struct buf *out)
{
    struct called *t = arena_new(e->arena, struct called);

    if (!t)
        return GW_ENOMEM;
    *t = (struct called){e->calls, ev->part, ev->choice, e->n_calls[ev->choice]++, false};
    e->calls = t;
    call_open(e, t, out);
    LIT(out, ",\"id\":");
    callid_put(out, ev->id, ev->text);
    LIT(out, ",\"type\":\"function\",\"function\":{\"name\":");
    put_string(out, ev->name);
    LIT(out, ",\"arguments\":\"\"}");
    if (ev->text.n) {
        buf_add_char(out, ',');
        put_thought_signature(out, ev->text);
    }
    LIT(out, "}]");
    chunk_close(e, SLICE_NONE, out);
    return GW_OK;
}

static void put_stream_block(struct dialect_encoder *e, unsigned choice, bool redacted,
                             struct slice text, struct slice signature, struct buf *out)
{
    chunk_open(e, choice, out);
    LIT(out, "\"thinking_blocks\":[");
    put_block(out, redacted, text, signature);
    buf_add_char(out, ']');
    chunk_close(e, SLICE_NONE, out);
}

static void on_signature(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    struct called *t = called_of(e, ev->part);
    bool known = e->has_reasoning && e->reasoning_part == ev->part && !buf_err(&e->reasoning);

    if (t || (e->text_seen && e->text_part == ev->part)) {
        if (t) {
            call_open(e, t, out);
            buf_add_char(out, ',');
        } else {
            chunk_open(e, ev->choice, out);
        }
        put_thought_signature(out, ev->text);
        if (t)
            LIT(out, "}]");
        chunk_close(e, SLICE_NONE, out);
        return;
    }
    put_stream_block(e, ev->choice, false, known ? buf_slice(&e->reasoning) : SLICE_NONE, ev->text,
                     out);
}

static void on_opaque(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    chunk_open(e, ev->choice, out);
    if (slice_is(ev->name, "openai.tool_call")) {
        LIT(out, "\"tool_calls\":[");
        put_raw(out, ev->text);
        buf_add_char(out, ']');
    } else if (is_own_member(ev->name)) {
        put_string(out, ev->name);
        buf_add_char(out, ':');
        put_raw(out, ev->text);
    } else {
        LIT(out, "\"postern_opaque\":[");
        put_opaque(out, ev->name, ev->text);
        buf_add_char(out, ']');
    }
    chunk_close(e, SLICE_NONE, out);
}

/* Calls that got no arguments have an empty object. */
static void close_calls(struct dialect_encoder *e, unsigned choice, const unsigned *part,
                        struct buf *out)
{
    for (struct called *t = e->calls; t; t = t->next)
        if (t->choice == choice && !t->has_args && (!part || t->part == *part))
            put_args(e, t, SLICE("{}"), out);
}

static void on_finish(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    close_calls(e, ev->choice, NULL, out);
    chunk_open(e, ev->choice, out);
    LIT(out, "},\"logprobs\":null,");
    put_finish(out, ev->stop, ev->stop_raw, e->n_calls[ev->choice] > 0);
    buf_add_char(out, '}');
    buf_add_slice(out, e->tail);
}

static void on_error(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    const struct err_info *info = err_info(ev->err ? ev->err : GW_EUPSTREAM);

    e->over = true;
    LIT(out, "data: {\"error\":{\"message\":");
    put_string(out, ev->text.n ? ev->text : slice_cstr(info->title));
    LIT(out, ",\"type\":");
    put_string(out, slice_cstr(info->openai_type));
    LIT(out, ",\"param\":null,\"code\":");
    put_string(out, slice_cstr(info->slug));
    LIT(out, "}}\n\n");
}

static void on_end(struct dialect_encoder *e, struct buf *out)
{
    e->over = true;
    if (e->include_usage && e->usage.known) {
        buf_add_slice(out, e->head);
        LIT(out, "],\"usage\":");
        put_usage(out, &e->usage);
        LIT(out, "}\n\n");
    }
    LIT(out, "data: [DONE]\n\n");
}

static enum gw_err on_content(struct dialect_encoder *e, const struct convo_event *ev,
                              struct buf *out)
{
    struct called *t;

    switch (ev->kind) {
    case CONVO_EV_TEXT:
        e->text_seen = true;
        e->text_part = ev->part;
        put_text(e, ev, SLICE("\"content\":\""), out);
        break;
    case CONVO_EV_REFUSAL:
        put_text(e, ev, SLICE("\"refusal\":\""), out);
        break;
    case CONVO_EV_REASONING:
        return on_reasoning(e, ev, out);
    case CONVO_EV_SIGNATURE:
        on_signature(e, ev, out);
        break;
    case CONVO_EV_REDACTED:
        put_stream_block(e, ev->choice, true, ev->text, SLICE_NONE, out);
        break;
    case CONVO_EV_TOOL_BEGIN:
        return on_tool_begin(e, ev, out);
    case CONVO_EV_TOOL_ARGS:
        t = called_of(e, ev->part);
        if (!t)
            return GW_EINTERNAL;
        put_args(e, t, ev->text, out);
        break;
    case CONVO_EV_OPAQUE:
        on_opaque(e, ev, out);
        break;
    case CONVO_EV_FINISH:
        on_finish(e, ev, out);
        break;
    default:
        break;
    }
    return GW_OK;
}

enum gw_err openai_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    enum gw_err err;

    if (e->over || ev->kind == CONVO_EV_PING)
        return GW_OK;
    if (ev->kind == CONVO_EV_ERROR) {
        on_error(e, ev, out);
        return buf_err(out);
    }
    if (ev->kind == CONVO_EV_USAGE) {
        e->usage = ev->usage;
        return GW_OK;
    }
    if (ev->choice >= MAX_CHOICES)
        return GW_EUPBAD;
    err = make_head(e, ev->id);
    if (err)
        return err;
    if (ev->kind == CONVO_EV_END) {
        on_end(e, out);
        return buf_err(out);
    }
    put_role(e, ev->choice, out);
    if (ev->kind == CONVO_EV_PART_END)
        close_calls(e, ev->choice, &ev->part, out);
    else
        err = on_content(e, ev, out);
    return err ? err : buf_err(out);
}
