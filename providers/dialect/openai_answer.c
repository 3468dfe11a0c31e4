/*
 * openai_answer.c - answers of OpenAI-compatible servers as events.
 *
 * A whole answer goes the same way as a stream: its `message` is read as one big `delta`, so both
 * give the same events. FINISH is held back until the answer's end, because usage comes after the
 * finish_reason and because an answer that breaks off must not look finished.
 *
 * What servers do beside the documented form, and is understood here: `reasoning` for
 * `reasoning_content`; tool calls without `index`, without `id`, several under one index, whole in
 * one piece; content as an array of parts; usage in any chunk or under `x_groq`.
 */
#include "gateway/core/buf.h"
#include "providers/dialect/openai.h"
#include "providers/dialect/toolname.h"

#define MAX_CHOICES 16u
#define MAX_CALLS 4096u
#define NO_INDEX INT64_MIN
#define EVENT_TOKENS 160u

/* A tool call that has begun, newest first. */
struct call {
    struct call *next;
    unsigned choice, part, tool;
    int64_t index; /* the server's, or NO_INDEX */
    struct slice id;
    bool announced; /* TOOL_BEGIN went out: not before the name is known */
};

struct choice {
    bool open;                  /* `part` takes more of `kind` */
    enum convo_event_kind kind; /* TEXT, REASONING or REFUSAL */
    unsigned part;
    bool finished;
    enum convo_stop stop;
    struct slice stop_raw; /* in the arena */
    bool seen;
};

struct dialect_decoder {
    struct arena *arena;
    struct toolname_map *names; /* NULL: nothing to restore */
    convo_event_fn fn;          /* of the call under way */
    void *arg;
    bool started, done; /* done: END or ERROR went out, nothing follows */
    bool whole;         /* the answer came in one piece */
    bool finished;      /* some choice has a finish_reason */
    unsigned n_parts, n_tools;
    struct call *calls;
    struct choice choices[MAX_CHOICES];
    uint64_t seed; /* for ids of calls that have none: differs from answer to answer */
};

static enum gw_err emit(struct dialect_decoder *d, const struct convo_event *ev)
{
    return d->fn(ev, d->arg);
}

struct dialect_decoder *openai_decoder_new(struct arena *a, const struct convo *asked,
                                           const struct registry_model *m)
{
    struct dialect_decoder *d = arena_new(a, struct dialect_decoder);

    if (!d)
        return NULL;
    d->arena = a;
    d->names = toolname_map_new(a, asked, TOOLNAME_ANY_FIRST);
    return d->names ? d : NULL;
}

/* --- text of one kind or another -------------------------------------------------------------- */

static enum gw_err emit_piece(struct dialect_decoder *d, unsigned choice,
                              enum convo_event_kind kind, struct slice text, struct slice raw)
{
    struct choice *c = &d->choices[choice];

    if (text.n == 0 && raw.n == 0)
        return GW_OK; /* an empty piece begins nothing */
    if (!c->open || c->kind != kind) {
        c->open = true;
        c->kind = kind;
        c->part = d->n_parts++;
    }
    return emit(d, &(struct convo_event){
                       .kind = kind, .choice = choice, .part = c->part, .text = text, .raw = raw});
}

/* A signature of the open part of `kind`; without one, of a new part that has no text. */
static enum gw_err emit_signature(struct dialect_decoder *d, unsigned choice,
                                  enum convo_event_kind kind, struct slice signature)
{
    struct choice *c = &d->choices[choice];

    if (signature.n == 0)
        return GW_OK;
    if (!c->open || c->kind != kind)
        c->part = d->n_parts++;
    c->open = false;
    return emit(
        d, &(struct convo_event){
               .kind = CONVO_EV_SIGNATURE, .choice = choice, .part = c->part, .text = signature});
}

/* `thinking_blocks`, LiteLLM's form of reasoning with its signatures. */
static enum gw_err read_blocks(struct dialect_decoder *d, unsigned choice, struct json blocks)
{
    struct choice *c = &d->choices[choice];
    enum gw_err err = GW_OK;

    for (struct json b = json_first(blocks); json_exists(b) && !err; b = json_next(blocks, b)) {
        if (json_str_is(json_get(b, "type"), "redacted_thinking")) {
            c->open = false;
            err = emit(d, &(struct convo_event){.kind = CONVO_EV_REDACTED,
                                                .choice = choice,
                                                .part = d->n_parts++,
                                                .text = json_str(json_get(b, "data"))});
            continue;
        }
        err = emit_piece(d, choice, CONVO_EV_REASONING, json_str(json_get(b, "thinking")),
                         SLICE_NONE);
        if (!err)
            err = emit_signature(d, choice, CONVO_EV_REASONING, json_str(json_get(b, "signature")));
        if (d->whole && c->kind == CONVO_EV_REASONING)
            c->open = false; /* each is a block of its own */
    }
    return err;
}

static enum gw_err read_reasoning(struct dialect_decoder *d, unsigned choice, struct json delta)
{
    struct json blocks = json_get(delta, "thinking_blocks");
    struct json text = json_get(delta, "reasoning_content");

    if (json_is(blocks, JSON_ARRAY) && json_count(blocks) > 0)
        return read_blocks(d, choice, blocks);
    if (!json_is(text, JSON_STRING))
        text = json_get(delta, "reasoning");
    return emit_piece(d, choice, CONVO_EV_REASONING, json_str(text), SLICE_NONE);
}

/* Content as an array of typed parts (Mistral and others). */
static enum gw_err read_parts(struct dialect_decoder *d, unsigned choice, struct json parts)
{
    enum gw_err err = GW_OK;

    for (struct json p = json_first(parts); json_exists(p) && !err; p = json_next(parts, p)) {
        struct json inner = json_get(p, "thinking");

        if (json_is(inner, JSON_ARRAY)) {
            for (struct json t = json_first(inner); json_exists(t) && !err; t = json_next(inner, t))
                err = emit_piece(d, choice, CONVO_EV_REASONING, json_str(json_get(t, "text")),
                                 SLICE_NONE);
        } else if (json_str_is(json_get(p, "type"), "refusal")) {
            err = emit_piece(d, choice, CONVO_EV_REFUSAL, json_str(json_get(p, "refusal")),
                             SLICE_NONE);
        } else {
            err = emit_piece(d, choice, CONVO_EV_TEXT, json_str(json_get(p, "text")), SLICE_NONE);
        }
    }
    return err;
}

/* --- tool calls ------------------------------------------------------------------------------- */

/* An id for a call that came without one: the same each time this answer is read. */
static struct slice made_id(struct dialect_decoder *d, unsigned tool)
{
    uint64_t h = d->seed ^ (tool + 1) * 0x9e3779b97f4a7c15u;

    h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
    return arena_printf(d->arena, "call_%016llx", (unsigned long long)(h ^ h >> 32));
}

static struct call *call_new(struct dialect_decoder *d, unsigned choice, int64_t index,
                             struct slice id)
{
    struct call *c = d->n_tools < MAX_CALLS ? arena_new(d->arena, struct call) : NULL;

    if (!c)
        return NULL;
    *c = (struct call){.next = d->calls,
                       .choice = choice,
                       .part = d->n_parts++,
                       .tool = d->n_tools++,
                       .index = index};
    c->id = id.n ? arena_dup(d->arena, id) : made_id(d, c->tool);
    d->calls = c;
    d->choices[choice].open = false;
    return c->id.p ? c : NULL;
}

/*
 * Which call a delta belongs to: the newest under its index (of the same id, if it names one), or
 * the newest of the choice when the server gives no index. A delta that names a function and brings
 * another id begins a call.
 */
static struct call *call_of(struct dialect_decoder *d, unsigned choice, struct json delta)
{
    struct slice id = json_str(json_get(delta, "id"));
    bool named = json_str(json_get(json_get(delta, "function"), "name")).n > 0;
    int64_t index = NO_INDEX;
    struct call *c;

    if (d->whole)
        return call_new(d, choice, NO_INDEX, id);
    json_int(json_get(delta, "index"), &index);
    for (c = d->calls; c; c = c->next)
        if (c->choice == choice && (index == NO_INDEX || c->index == index))
            break;
    if (!c)
        return call_new(d, choice, index, id);
    if (named && c->announced && (id.n ? !slice_eq(id, c->id) : index == NO_INDEX))
        return call_new(d, choice, index, id);
    return c;
}

static enum gw_err begin_call(struct dialect_decoder *d, struct call *c, struct slice name,
                              struct slice signature)
{
    c->announced = true;
    return emit(d, &(struct convo_event){.kind = CONVO_EV_TOOL_BEGIN,
                                         .choice = c->choice,
                                         .part = c->part,
                                         .tool = c->tool,
                                         .id = c->id,
                                         .name = toolname_restore(d->names, name),
                                         .text = signature});
}

static struct slice thought_signature(struct json holder)
{
    struct json google = json_get(json_get(holder, "extra_content"), "google");

    return json_str(json_get(google, "thought_signature"));
}

static enum gw_err read_call(struct dialect_decoder *d, struct call *c, struct json function,
                             struct slice signature)
{
    struct slice name = json_str(json_get(function, "name"));
    struct json args = json_get(function, "arguments");
    struct slice text = json_is(args, JSON_OBJECT) ? json_raw(args) : json_str(args);
    enum gw_err err = GW_OK;

    if (!c->announced && (name.n || text.n))
        err = begin_call(d, c, name, signature);
    else if (signature.n)
        err = emit(d, &(struct convo_event){.kind = CONVO_EV_SIGNATURE,
                                            .choice = c->choice,
                                            .part = c->part,
                                            .tool = c->tool,
                                            .text = signature});
    if (err || text.n == 0)
        return err;
    return emit(d, &(struct convo_event){.kind = CONVO_EV_TOOL_ARGS,
                                         .choice = c->choice,
                                         .part = c->part,
                                         .tool = c->tool,
                                         .text = text});
}

static enum gw_err read_calls(struct dialect_decoder *d, unsigned choice, struct json delta)
{
    struct json calls = json_get(delta, "tool_calls"), legacy = json_get(delta, "function_call");
    enum gw_err err = GW_OK;

    for (struct json it = json_first(calls); json_exists(it) && !err; it = json_next(calls, it)) {
        struct call *c;

        if (json_is(json_get(it, "custom"), JSON_OBJECT)) {
            d->choices[choice].open = false;
            err = emit(d, &(struct convo_event){.kind = CONVO_EV_OPAQUE,
                                                .choice = choice,
                                                .part = d->n_parts++,
                                                .name = SLICE("openai.tool_call"),
                                                .text = json_raw(it)});
            continue;
        }
        c = call_of(d, choice, it);
        if (!c)
            return d->n_tools < MAX_CALLS ? GW_ENOMEM : GW_EUPBAD;
        err = read_call(d, c, json_get(it, "function"), thought_signature(it));
    }
    if (!err && json_is(legacy, JSON_OBJECT)) {
        struct call *c = call_of(d, choice, legacy);

        err = c ? read_call(d, c, legacy, SLICE_NONE) : GW_ENOMEM;
    }
    return err;
}

/* --- choices ---------------------------------------------------------------------------------- */

static enum gw_err read_extras(struct dialect_decoder *d, unsigned choice, struct json delta)
{
    static const char *const names[] = {"annotations", "audio"};
    enum gw_err err = GW_OK;

    for (unsigned i = 0; i < 2 && !err; i++) {
        struct json v = json_get(delta, names[i]);

        if (json_count(v) > 0) /* a container with something in it */
            err = emit(d, &(struct convo_event){.kind = CONVO_EV_OPAQUE,
                                                .choice = choice,
                                                .part = d->n_parts++,
                                                .name = slice_cstr(names[i]),
                                                .text = json_raw(v)});
    }
    if (!err && json_is(json_get(delta, "extra_content"), JSON_OBJECT))
        err = emit_signature(d, choice, CONVO_EV_TEXT, thought_signature(delta));
    return err;
}

/* The log probabilities of one chunk, when there are any of this kind of text. */
static struct slice logprobs_of(struct json logprobs, const char *kind)
{
    return json_count(json_get(logprobs, kind)) > 0 ? json_raw(logprobs) : SLICE_NONE;
}

static enum gw_err read_delta(struct dialect_decoder *d, unsigned choice, struct json delta,
                              struct json logprobs)
{
    struct json content = json_get(delta, "content");
    enum gw_err err = read_reasoning(d, choice, delta);

    if (!err && json_is(content, JSON_ARRAY))
        err = read_parts(d, choice, content);
    else if (!err)
        err = emit_piece(d, choice, CONVO_EV_TEXT, json_str(content),
                         logprobs_of(logprobs, "content"));
    if (!err)
        err = emit_piece(d, choice, CONVO_EV_REFUSAL, json_str(json_get(delta, "refusal")),
                         logprobs_of(logprobs, "refusal"));
    if (!err)
        err = read_calls(d, choice, delta);
    return err ? err : read_extras(d, choice, delta);
}

enum convo_stop openai_stop(struct slice reason)
{
    static const struct {
        const char *word;
        enum convo_stop stop;
    } rows[] = {
        {"stop", CONVO_STOP_DONE},
        {"length", CONVO_STOP_LENGTH},
        {"tool_calls", CONVO_STOP_TOOLS},
        {"function_call", CONVO_STOP_TOOLS},
        {"content_filter", CONVO_STOP_FILTERED},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (slice_is(reason, rows[i].word))
            return rows[i].stop;
    return CONVO_STOP_OTHER;
}

static enum gw_err read_choice(struct dialect_decoder *d, struct json v, unsigned position)
{
    struct json delta = json_get(v, d->whole ? "message" : "delta");
    struct slice reason = json_str(json_get(v, "finish_reason"));
    int64_t index = position;
    struct choice *c;
    enum gw_err err;

    json_int(json_get(v, "index"), &index);
    if (!json_is(v, JSON_OBJECT) || index < 0 || index >= MAX_CHOICES)
        return GW_EUPBAD;
    if (d->whole && !json_is(delta, JSON_OBJECT))
        return GW_EUPBAD;
    c = &d->choices[index];
    c->seen = true;
    err = read_delta(d, (unsigned)index, delta, json_get(v, "logprobs"));
    if (err || reason.n == 0)
        return err;
    c->finished = d->finished = true;
    c->stop = openai_stop(reason);
    c->stop_raw = arena_dup(d->arena, reason);
    return c->stop_raw.p ? GW_OK : GW_ENOMEM;
}

/* --- the answer ------------------------------------------------------------------------------- */

static uint64_t hash_more(uint64_t h, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    return h;
}

static enum gw_err start(struct dialect_decoder *d, struct json root)
{
    struct convo_event ev = {.kind = CONVO_EV_START,
                             .id = json_str(json_get(root, "id")),
                             .model = json_str(json_get(root, "model"))};

    if (d->started)
        return GW_OK;
    d->started = true;
    d->seed = hash_more(hash_more(0xcbf29ce484222325u, ev.id), json_raw(json_get(root, "created")));
    return emit(d, &ev);
}

static enum gw_err fail_in_band(struct dialect_decoder *d, struct json error)
{
    struct convo_event ev = {.kind = CONVO_EV_ERROR};

    ev.err = openai_error_in_band(error, &ev.text);
    d->done = true;
    return emit(d, &ev);
}

static enum gw_err read_usage(struct dialect_decoder *d, struct json root)
{
    struct convo_event ev = {.kind = CONVO_EV_USAGE};
    struct json usage = json_get(root, "usage");

    if (!json_is(usage, JSON_OBJECT))
        usage = json_get(json_get(root, "x_groq"), "usage");
    return openai_usage(usage, &ev.usage) ? emit(d, &ev) : GW_OK;
}

static enum gw_err read_root(struct dialect_decoder *d, struct json root)
{
    struct json error = json_get(root, "error"), choices = json_get(root, "choices");
    unsigned position = 0;
    enum gw_err err;

    if (!json_is(root, JSON_OBJECT))
        return GW_EUPBAD;
    if (json_exists(error) && !json_is(error, JSON_NULL))
        return fail_in_band(d, error);
    if (d->whole && json_count(choices) == 0)
        return GW_EUPBAD;
    err = start(d, root);
    if (!json_is(choices, JSON_ARRAY))
        choices = (struct json){NULL, 0};
    for (struct json it = json_first(choices); json_exists(it) && !err; it = json_next(choices, it))
        err = read_choice(d, it, position++);
    return err ? err : read_usage(d, root);
}

/* FINISH for each choice, then END. [DONE] behind nothing finished is a proxy's, not the model's.
 */
static enum gw_err finish(struct dialect_decoder *d)
{
    enum gw_err err = d->finished ? GW_OK : GW_EUPBAD;

    for (unsigned i = 0; i < MAX_CHOICES; i++)
        if (d->choices[i].seen && !d->choices[i].finished)
            err = GW_EUPBAD;
    for (unsigned i = 0; i < MAX_CHOICES && !err; i++) {
        const struct choice *c = &d->choices[i];

        if (c->seen)
            err = emit(d, &(struct convo_event){.kind = CONVO_EV_FINISH,
                                                .choice = i,
                                                .stop = c->stop,
                                                .stop_raw = c->stop_raw});
    }
    if (err)
        return err;
    d->done = true;
    return emit(d, &(struct convo_event){.kind = CONVO_EV_END});
}

static enum gw_err bad_answer(enum gw_err err)
{
    return err == GW_EBADJSON || err == GW_ETOOBIG ? GW_EUPBAD : err;
}

enum gw_err openai_decode_answer(struct arena *a, const struct convo *asked,
                                 const struct registry_model *m, struct slice body,
                                 convo_event_fn fn, void *arg)
{
    unsigned before = arena_refusals(a);
    struct dialect_decoder *d = openai_decoder_new(a, asked, m);
    struct json root;
    enum gw_err err;

    if (!d)
        return GW_ENOMEM;
    d->whole = true;
    d->fn = fn;
    d->arg = arg;
    err = bad_answer(json_parse(a, body, NULL, &root, NULL));
    if (!err)
        err = read_root(d, root);
    if (!err && !d->done)
        err = finish(d);
    return dialect_end(a, before, err);
}

enum gw_err openai_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                convo_event_fn fn, void *arg)
{
    struct slice data = slice_trim(ev->data);
    struct json_token tokens[EVENT_TOKENS];
    struct json_doc doc;
    struct json root;
    enum gw_err err;

    if (d->done || data.n == 0)
        return GW_OK;
    d->fn = fn;
    d->arg = arg;
    if (slice_is(data, "[DONE]"))
        return finish(d);
    doc.arena = arena_create(SIZE_MAX / 2); /* bounded by the event, which is */
    if (!doc.arena)
        return GW_ENOMEM;
    err = json_parse_into(&doc, tokens, EVENT_TOKENS, data, &root);
    if (err == GW_ETOOBIG)
        err = json_parse(doc.arena, data, NULL, &root, NULL);
    err = err ? bad_answer(err) : read_root(d, root);
    err = dialect_end(doc.arena, 0, err);
    arena_destroy(doc.arena);
    return err;
}

/* Without [DONE] the answer has no end: nothing that is held back may go out. */
enum gw_err openai_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg)
{
    return GW_OK;
}
