/*
 * anthropic_answer.c - an Anthropic answer, whole or as a stream, as convo events.
 *
 * A whole answer is walked through the same states as a stream: each content block begins, gets its
 * deltas (none in a whole answer, whose blocks are complete when they begin) and ends.
 *
 *     message_start -> START USAGE
 *     block: begin -> TOOL_BEGIN, or what the block already holds; delta -> TEXT, TOOL_ARGS ...;
 * end -> PART_END message_delta -> USAGE, the stop reason is kept; message_stop -> FINISH END
 *
 * When the answer's schema was sent as a tool (anthropic.h, plan.emulate), that tool's input is the
 * answer's text and the client never sees a call. Other text is held back until it is known whether
 * the call comes: beside it the text would spoil the JSON, without it the text is the answer.
 *
 * Blocks this file does not know are passed on as OPAQUE events, complete, when they end.
 */
#include "providers/dialect/anthropic.h"

#include "providers/dialect/toolname.h"

#define EVENT_ARENA (64u << 20) /* ceiling of one event's parse */
#define MAX_BLOCKS 4096u        /* blocks of one answer */
#define MAX_INPUT (4u << 20)    /* streamed input of one unknown block, bytes */
#define MAX_HELD (4u << 20)     /* text held back, bytes */
#define MAX_RAW 4096u           /* of a usage object that is kept, bytes */

enum block_kind {
    BLOCK_TEXT,
    BLOCK_THINKING,
    BLOCK_REDACTED,
    BLOCK_TOOL,
    BLOCK_ANSWER, /* the emulated answer: a tool's input shown as text */
    BLOCK_OPAQUE,
    BLOCK_SKIPPED /* beside an emulated answer */
};

struct block {
    struct block *next; /* the one before */
    int64_t index;      /* the vendor's */
    enum block_kind kind;
    unsigned part, tool;
    bool has_args; /* a piece of the input came as a delta */
    bool ended;
    struct slice input;     /* the input it began with */
    struct slice type, raw; /* BLOCK_OPAQUE: as it began */
};

struct dialect_decoder {
    struct arena *arena; /* for what lives as long as the answer */
    struct arena *event; /* for one event */
    convo_event_fn fn;   /* during a call */
    void *arg;
    const struct toolname_map *names;
    struct anthropic_plan plan;
    struct block *blocks; /* newest first */
    unsigned n_blocks, n_parts, n_tools;
    bool started, failed, ended;
    bool answered; /* the emulated answer has come */
    bool has_held;
    unsigned held_part;
    struct buf held;  /* text held back */
    struct buf input; /* streamed input of the open unknown block */
    struct convo_usage usage;
    struct {
        uint64_t input, cache_read, cache_write;
    } counted;                      /* the vendor's numbers, which do not contain each other */
    struct slice stop, stop_string; /* in the arena */
};

/* --- events -------------------------------------------------------------------------------- */

static enum gw_err emit(struct dialect_decoder *d, struct convo_event ev)
{
    return d->fn(&ev, d->arg);
}

static enum gw_err emit_text(struct dialect_decoder *d, enum convo_event_kind kind, unsigned part,
                             struct slice text)
{
    if (text.n == 0)
        return GW_OK;
    return emit(d, (struct convo_event){.kind = kind, .part = part, .text = text});
}

static enum gw_err emit_start(struct dialect_decoder *d, struct json message)
{
    if (d->started)
        return GW_OK;
    d->started = true;
    return emit(d, (struct convo_event){.kind = CONVO_EV_START,
                                        .id = json_str(json_get(message, "id")),
                                        .model = json_str(json_get(message, "model"))});
}

static bool count(struct json usage, const char *name, uint64_t *to)
{
    int64_t v;

    if (!json_int(json_get(usage, name), &v) || v < 0 || v > INT64_MAX / 4)
        return false;
    *to = (uint64_t)v;
    return true;
}

/* Numbers are cumulative; one that is missing or null keeps its last value. */
static enum gw_err take_usage(struct dialect_decoder *d, struct json usage)
{
    bool known = false;

    known |= count(usage, "input_tokens", &d->counted.input);
    known |= count(usage, "cache_read_input_tokens", &d->counted.cache_read);
    known |= count(usage, "cache_creation_input_tokens", &d->counted.cache_write);
    known |= count(usage, "output_tokens", &d->usage.output);
    count(json_get(usage, "output_tokens_details"), "thinking_tokens", &d->usage.reasoning);
    if (!known)
        return GW_OK;
    d->usage.known = true;
    d->usage.input = d->counted.input + d->counted.cache_read + d->counted.cache_write;
    d->usage.cache_read = d->counted.cache_read;
    d->usage.cache_write = d->counted.cache_write;
    d->usage.raw = json_raw(usage);
    return emit(d, (struct convo_event){.kind = CONVO_EV_USAGE, .usage = d->usage});
}

/* --- text that may have to go -------------------------------------------------------------- */

static enum gw_err release_held(struct dialect_decoder *d)
{
    enum gw_err err = GW_OK;

    if (!d->answered)
        err = emit_text(d, CONVO_EV_TEXT, d->held_part, buf_slice(&d->held));
    buf_reset(&d->held);
    d->has_held = false;
    return err;
}

static enum gw_err hold_text(struct dialect_decoder *d, unsigned part, struct slice text)
{
    if (d->has_held && d->held_part != part) {
        enum gw_err err = release_held(d);

        if (err)
            return err;
    }
    d->has_held = true;
    d->held_part = part;
    buf_add_slice(&d->held, text);
    return buf_err(&d->held) == GW_ETOOBIG ? GW_EUPBAD : buf_err(&d->held);
}

static enum gw_err take_text(struct dialect_decoder *d, const struct block *b, struct slice text)
{
    if (d->plan.emulate && text.n > 0)
        return hold_text(d, b->part, text);
    return emit_text(d, CONVO_EV_TEXT, b->part, text);
}

/* --- blocks -------------------------------------------------------------------------------- */

static struct block *find_block(struct dialect_decoder *d, int64_t index)
{
    struct block *b = d->blocks;

    while (b && (b->index != index || b->ended))
        b = b->next;
    return b;
}

static enum gw_err keep(struct dialect_decoder *d, struct slice s, struct slice *to)
{
    *to = arena_dup(d->arena, s);
    return to->p ? GW_OK : GW_ENOMEM;
}

static enum block_kind kind_of(const struct dialect_decoder *d, struct json block)
{
    static const struct {
        const char *type;
        enum block_kind kind;
    } kinds[] = {{"text", BLOCK_TEXT},
                 {"thinking", BLOCK_THINKING},
                 {"redacted_thinking", BLOCK_REDACTED},
                 {"tool_use", BLOCK_TOOL}};
    enum block_kind kind = BLOCK_OPAQUE;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (json_str_is(json_get(block, "type"), kinds[i].type))
            kind = kinds[i].kind;
    if (!d->plan.emulate)
        return kind;
    if (kind == BLOCK_TOOL && slice_eq(json_str(json_get(block, "name")), d->plan.answer_tool))
        return d->answered ? BLOCK_SKIPPED : BLOCK_ANSWER;
    return kind == BLOCK_TEXT && d->answered ? BLOCK_SKIPPED : kind;
}

static enum gw_err begin_text(struct dialect_decoder *d, struct block *b, struct json block)
{
    struct json citations = json_get(block, "citations");
    enum gw_err err = take_text(d, b, json_str(json_get(block, "text")));

    for (struct json it = json_first(citations); json_exists(it) && !err;
         it = json_next(citations, it))
        err = emit(d, (struct convo_event){.kind = CONVO_EV_OPAQUE,
                                           .part = b->part,
                                           .name = SLICE("citation"),
                                           .text = json_raw(it)});
    return err;
}

static enum gw_err begin_thinking(struct dialect_decoder *d, struct block *b, struct json block)
{
    enum gw_err err =
        emit_text(d, CONVO_EV_REASONING, b->part, json_str(json_get(block, "thinking")));

    return err ? err
               : emit_text(d, CONVO_EV_SIGNATURE, b->part, json_str(json_get(block, "signature")));
}

static enum gw_err begin_tool(struct dialect_decoder *d, struct block *b, struct json block)
{
    struct slice name = json_str(json_get(block, "name"));
    struct slice id = json_str(json_get(block, "id"));
    enum gw_err err = GW_OK;

    if (name.n == 0 || id.n == 0)
        return GW_EUPBAD;
    if (json_is(json_get(block, "input"), JSON_OBJECT))
        err = keep(d, json_raw(json_get(block, "input")), &b->input);
    if (!err && b->kind == BLOCK_TOOL)
        err = release_held(d); /* the client's own tool: text beside it is text */
    if (err)
        return err;
    if (b->kind == BLOCK_ANSWER) {
        d->answered = true;
        return release_held(d);
    }
    b->tool = d->n_tools++;
    return emit(d, (struct convo_event){.kind = CONVO_EV_TOOL_BEGIN,
                                        .part = b->part,
                                        .tool = b->tool,
                                        .id = id,
                                        .name = toolname_restore(d->names, name)});
}

static enum gw_err begin_opaque(struct dialect_decoder *d, struct block *b, struct json block)
{
    struct slice type = json_str(json_get(block, "type"));
    enum gw_err err = keep(d, json_raw(block), &b->raw);

    buf_reset(&d->input);
    return err ? err : keep(d, type, &b->type);
}

static enum gw_err block_begin(struct dialect_decoder *d, int64_t index, struct json block)
{
    struct block *b;

    if (!json_is(block, JSON_OBJECT) || d->n_blocks >= MAX_BLOCKS)
        return GW_EUPBAD;
    b = arena_new(d->arena, struct block);
    if (!b)
        return GW_ENOMEM;
    b->index = index;
    b->kind = kind_of(d, block);
    b->next = d->blocks;
    d->blocks = b;
    d->n_blocks++;
    if (b->kind == BLOCK_SKIPPED)
        return GW_OK;
    b->part = d->n_parts++;
    switch (b->kind) {
    case BLOCK_TEXT:
        return begin_text(d, b, block);
    case BLOCK_THINKING:
        return begin_thinking(d, b, block);
    case BLOCK_REDACTED:
        return emit_text(d, CONVO_EV_REDACTED, b->part, json_str(json_get(block, "data")));
    case BLOCK_TOOL:
    case BLOCK_ANSWER:
        return begin_tool(d, b, block);
    default:
        return begin_opaque(d, b, block);
    }
}

static enum gw_err take_input(struct dialect_decoder *d, struct block *b, struct slice piece)
{
    if (piece.n == 0)
        return GW_OK;
    b->has_args = true;
    if (b->kind == BLOCK_ANSWER)
        return emit_text(d, CONVO_EV_TEXT, b->part, piece);
    return emit(d,
                (struct convo_event){
                    .kind = CONVO_EV_TOOL_ARGS, .part = b->part, .tool = b->tool, .text = piece});
}

static enum gw_err opaque_delta(struct dialect_decoder *d, struct block *b, struct json delta)
{
    struct slice type = json_str(json_get(delta, "type"));

    if (b->kind == BLOCK_OPAQUE && slice_is(type, "input_json_delta")) {
        buf_add_slice(&d->input, json_str(json_get(delta, "partial_json")));
        return buf_err(&d->input) == GW_ETOOBIG ? GW_EUPBAD : buf_err(&d->input);
    }
    return emit(
        d, (struct convo_event){
               .kind = CONVO_EV_OPAQUE, .part = b->part, .name = type, .text = json_raw(delta)});
}

static enum gw_err block_delta(struct dialect_decoder *d, struct block *b, struct json delta)
{
    struct slice type = json_str(json_get(delta, "type"));

    if (b->kind == BLOCK_SKIPPED)
        return GW_OK;
    if (b->kind == BLOCK_TEXT && slice_is(type, "text_delta"))
        return take_text(d, b, json_str(json_get(delta, "text")));
    if (b->kind == BLOCK_TEXT && slice_is(type, "citations_delta"))
        return emit(d, (struct convo_event){.kind = CONVO_EV_OPAQUE,
                                            .part = b->part,
                                            .name = SLICE("citation"),
                                            .text = json_raw(json_get(delta, "citation"))});
    if (b->kind == BLOCK_THINKING && slice_is(type, "thinking_delta"))
        return emit_text(d, CONVO_EV_REASONING, b->part, json_str(json_get(delta, "thinking")));
    if (b->kind == BLOCK_THINKING && slice_is(type, "signature_delta"))
        return emit_text(d, CONVO_EV_SIGNATURE, b->part, json_str(json_get(delta, "signature")));
    if ((b->kind == BLOCK_TOOL || b->kind == BLOCK_ANSWER) && slice_is(type, "input_json_delta"))
        return take_input(d, b, json_str(json_get(delta, "partial_json")));
    return opaque_delta(d, b, delta);
}

/* The block as it would have come in a whole answer: with the input that was streamed. */
static enum gw_err opaque_end(struct dialect_decoder *d, const struct block *b)
{
    struct convo_event ev = {
        .kind = CONVO_EV_OPAQUE, .part = b->part, .name = b->type, .text = b->raw};
    struct json block, input;
    struct json_writer w;
    struct buf whole;
    enum gw_err err;

    if (d->input.n == 0)
        return emit(d, ev);
    err = json_parse(d->event, b->raw, NULL, &block, NULL);
    if (!err)
        err = json_parse(d->event, buf_slice(&d->input), NULL, &input, NULL);
    if (err)
        return err == GW_ENOMEM ? err : GW_EUPBAD;
    json_begin(&w, &whole, b->raw.n + d->input.n + 64);
    json_obj(&w);
    for (struct json it = json_first(block); json_exists(it); it = json_next(block, it)) {
        if (slice_is(json_key(it), "input"))
            continue;
        json_put_key_slice(&w, json_key(it));
        json_put_raw(&w, json_raw(it));
    }
    json_kv_raw(&w, "input", json_raw(input));
    json_obj_end(&w);
    ev.text = buf_slice(&whole);
    err = buf_err(&whole) ? GW_ENOMEM : emit(d, ev);
    buf_deinit(&whole);
    return err;
}

static enum gw_err block_end(struct dialect_decoder *d, struct block *b)
{
    enum gw_err err = GW_OK;

    b->ended = true;
    if (b->kind == BLOCK_SKIPPED)
        return GW_OK;
    if ((b->kind == BLOCK_TOOL || b->kind == BLOCK_ANSWER) && !b->has_args)
        err = take_input(d, b, b->input.n ? b->input : SLICE("{}"));
    else if (b->kind == BLOCK_OPAQUE)
        err = opaque_end(d, b);
    if (err || (d->has_held && d->held_part == b->part))
        return err; /* a part that is not out has no end either */
    return emit(d, (struct convo_event){.kind = CONVO_EV_PART_END, .part = b->part});
}

/* --- the end ------------------------------------------------------------------------------- */

enum convo_stop anthropic_stop(struct slice word)
{
    static const struct {
        const char *word;
        enum convo_stop stop;
    } stops[] = {
        {"end_turn", CONVO_STOP_DONE},     {"stop_sequence", CONVO_STOP_STRING},
        {"max_tokens", CONVO_STOP_LENGTH}, {"model_context_window_exceeded", CONVO_STOP_LENGTH},
        {"tool_use", CONVO_STOP_TOOLS},    {"pause_turn", CONVO_STOP_PAUSED},
        {"refusal", CONVO_STOP_FILTERED}};

    for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
        if (slice_is(word, stops[i].word))
            return stops[i].stop;
    return CONVO_STOP_OTHER;
}

static enum gw_err take_stop(struct dialect_decoder *d, struct json from)
{
    struct json reason = json_get(from, "stop_reason"), string = json_get(from, "stop_sequence");
    enum gw_err err = GW_OK;

    if (json_is(reason, JSON_STRING))
        err = keep(d, json_str(reason), &d->stop);
    if (!err && json_is(string, JSON_STRING))
        err = keep(d, json_str(string), &d->stop_string);
    return err;
}

/* FINISH and END. */
static enum gw_err finish(struct dialect_decoder *d)
{
    struct convo_event ev = {.kind = CONVO_EV_FINISH,
                             .stop = anthropic_stop(d->stop),
                             .stop_raw = d->stop,
                             .stop_string = d->stop_string};
    enum gw_err err = release_held(d);

    if (err)
        return err;
    if (d->answered && d->n_tools == 0 && ev.stop == CONVO_STOP_TOOLS)
        ev.stop = CONVO_STOP_DONE;
    err = emit(d, ev);
    if (err)
        return err;
    d->ended = true;
    return emit(d, (struct convo_event){.kind = CONVO_EV_END});
}

/* --- a whole answer ------------------------------------------------------------------------ */

static void drop_bufs(void *arg)
{
    struct dialect_decoder *d = arg;

    buf_deinit(&d->held);
    buf_deinit(&d->input);
}

struct dialect_decoder *anthropic_decoder_new(struct arena *a, const struct convo *asked,
                                              const struct registry_model *m)
{
    struct dialect_decoder *d = arena_new(a, struct dialect_decoder);

    if (!d)
        return NULL;
    d->arena = a;
    buf_init(&d->held, MAX_HELD);
    buf_init(&d->input, MAX_INPUT);
    d->names = toolname_map_new(a, asked, TOOLNAME_ANY_FIRST);
    if (!d->names || !arena_defer(a, drop_bufs, d))
        return NULL;
    if (asked && m && anthropic_plan(a, asked, m, &d->plan, NULL))
        return NULL;
    return d;
}

static enum gw_err whole_blocks(struct dialect_decoder *d, struct json content)
{
    int64_t index = 0;
    enum gw_err err = GW_OK;

    for (struct json it = json_first(content); json_exists(it) && !err;
         it = json_next(content, it)) {
        err = block_begin(d, index++, it);
        if (!err)
            err = block_end(d, d->blocks);
    }
    return err;
}

enum gw_err anthropic_decode_answer(struct arena *a, const struct convo *asked,
                                    const struct registry_model *m, struct slice body,
                                    convo_event_fn fn, void *arg)
{
    unsigned before = arena_refusals(a);
    struct dialect_decoder *d = anthropic_decoder_new(a, asked, m);
    struct json root;
    enum gw_err err;

    if (!d)
        return GW_ENOMEM;
    d->event = a;
    d->fn = fn;
    d->arg = arg;
    err = json_parse(a, body, NULL, &root, NULL);
    if (err)
        return err == GW_ENOMEM ? err : GW_EUPBAD;
    if (!json_is(json_get(root, "content"), JSON_ARRAY) ||
        !json_is(json_get(root, "stop_reason"), JSON_STRING))
        return GW_EUPBAD;
    err = emit_start(d, root);
    if (!err)
        err = whole_blocks(d, json_get(root, "content"));
    if (!err)
        err = take_usage(d, json_get(root, "usage"));
    if (!err)
        err = take_stop(d, root);
    if (!err)
        err = finish(d);
    return dialect_end(a, before, err);
}

/* --- a stream ------------------------------------------------------------------------------ */

static enum gw_err on_message_start(struct dialect_decoder *d, struct json event)
{
    struct json message = json_get(event, "message");
    enum gw_err err = emit_start(d, message);

    if (!err)
        err = take_usage(d, json_get(message, "usage"));
    if (d->usage.raw.n <= MAX_RAW)
        d->usage.raw_first = arena_dup(d->arena, d->usage.raw);
    return err;
}

static enum gw_err on_block_start(struct dialect_decoder *d, struct json event)
{
    int64_t index;

    if (!json_int(json_get(event, "index"), &index))
        return GW_EUPBAD;
    return block_begin(d, index, json_get(event, "content_block"));
}

static enum gw_err on_block_delta(struct dialect_decoder *d, struct json event)
{
    struct block *b;
    int64_t index;

    if (!json_int(json_get(event, "index"), &index))
        return GW_EUPBAD;
    b = find_block(d, index);
    return b ? block_delta(d, b, json_get(event, "delta")) : GW_EUPBAD;
}

static enum gw_err on_block_stop(struct dialect_decoder *d, struct json event)
{
    struct block *b;
    int64_t index;

    if (!json_int(json_get(event, "index"), &index))
        return GW_EUPBAD;
    b = find_block(d, index);
    return b ? block_end(d, b) : GW_EUPBAD;
}

static enum gw_err on_message_delta(struct dialect_decoder *d, struct json event)
{
    enum gw_err err = take_usage(d, json_get(event, "usage"));

    return err ? err : take_stop(d, json_get(event, "delta"));
}

static enum gw_err on_message_stop(struct dialect_decoder *d, struct json event)
{
    return finish(d);
}

static enum gw_err on_ping(struct dialect_decoder *d, struct json event)
{
    return emit(d, (struct convo_event){.kind = CONVO_EV_PING});
}

static enum gw_err on_error(struct dialect_decoder *d, struct json event)
{
    struct json error = json_get(event, "error");
    struct slice type = json_str(json_get(error, "type"));
    struct slice message = json_str(json_get(error, "message"));

    d->failed = true;
    return emit(d, (struct convo_event){.kind = CONVO_EV_ERROR,
                                        .err = anthropic_error(0, type, message),
                                        .name = type,
                                        .text = message});
}

static const struct {
    const char *type;
    enum gw_err (*take)(struct dialect_decoder *d, struct json event);
} stream_events[] = {
    {"content_block_delta", on_block_delta},
    {"content_block_start", on_block_start},
    {"content_block_stop", on_block_stop},
    {"message_start", on_message_start},
    {"message_delta", on_message_delta},
    {"message_stop", on_message_stop},
    {"ping", on_ping},
    {"error", on_error},
};

static enum gw_err take_event(struct dialect_decoder *d, const struct sse_event *ev)
{
    struct slice type;
    struct json root;
    enum gw_err err = json_parse(d->event, ev->data, NULL, &root, NULL);

    if (err)
        return err == GW_ENOMEM ? err : GW_EUPBAD;
    if (json_type(root) != JSON_OBJECT)
        return GW_EUPBAD;
    type = json_str(json_get(root, "type"));
    if (type.n == 0)
        type = ev->type;
    for (size_t i = 0; i < sizeof(stream_events) / sizeof(stream_events[0]); i++) {
        if (!slice_is(type, stream_events[i].type))
            continue;
        if (i < 3) /* the head may have got lost; the answer has not */
            err = emit_start(d, (struct json){0});
        return err ? err : stream_events[i].take(d, root);
    }
    return GW_OK;
}

enum gw_err anthropic_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                   convo_event_fn fn, void *arg)
{
    enum gw_err err;

    if (d->failed || d->ended || ev->data.n == 0)
        return GW_OK;
    d->event = arena_create(EVENT_ARENA);
    if (!d->event)
        return GW_ENOMEM;
    d->fn = fn;
    d->arg = arg;
    err = dialect_end(d->event, 0, take_event(d, ev));
    d->event = arena_destroy(d->event);
    return err;
}

/* message_stop is the terminal event; a stream that closes without it has no END. */
enum gw_err anthropic_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg)
{
    return GW_OK;
}
