/*
 * anthropic_client.c - answers towards Anthropic clients: whole, and as a stream of events.
 *
 *     message_start ping (content_block_start content_block_delta* content_block_stop)*
 *     message_delta message_stop
 *
 * One block is open at a time; indexes run on from 0. Where a provider streams the arguments of
 * several calls at once, the later ones wait until the JSON of the earlier is complete. The usage
 * comes with message_delta, which is held until the end, since providers tell it late;
 * message_start has the provider's numbers where it gave them, else an estimate of the input. After
 * an error nothing follows.
 *
 * A signature that no block has a member for travels in the call's id (callid.h). An extension
 * beyond the vendor's form: `postern_stop_reason`, for a stop it has no word for.
 */
#include "gateway/core/rng.h"
#include "providers/dialect/anthropic.h"
#include "providers/dialect/callid.h"

#define MAX_WAITING (16u << 20) /* arguments of calls that wait for their turn, bytes */

/* How far a JSON object has been streamed. */
struct scan {
    unsigned depth;
    bool string, escape, begun;
};

struct call {
    struct call *next;
    unsigned part;
    struct slice id, name, signature; /* in the arena */
    struct scan scan;                 /* of what went out */
    bool has_args, ended;             /* ended: the provider said so */
    struct buf waiting;
};

enum open_block { OPEN_NONE, OPEN_TEXT, OPEN_THINKING, OPEN_TOOL };

struct dialect_encoder {
    struct arena *arena;
    struct slice model, id;
    uint64_t estimate; /* input tokens */
    uint64_t text_bytes;
    bool started, over;
    enum open_block open;
    unsigned part;      /* of the open text or thinking block */
    unsigned text_part; /* the last part that was text */
    bool has_text;
    unsigned index;            /* of the open block, or the next */
    struct call *calls, *last; /* not written yet; the first is the open one */
    size_t waiting;            /* bytes in all of them */
    bool called, refused;      /* there was a call, a refusal */
    struct convo_usage usage;
    enum convo_stop stop;
    struct slice stop_raw, stop_string;
};

#define LIT(out, lit) buf_add((out), lit, sizeof(lit) - 1)

/* --- what whole answers and streams share ----------------------------------------------------- */

static void put_string(struct buf *out, struct slice text)
{
    buf_add_char(out, '"');
    json_escape(out, text);
    buf_add_char(out, '"');
}

static void put_id(struct buf *out, struct slice id)
{
    char hex[24];

    buf_add_char(out, '"');
    if (!slice_starts(id, "msg_"))
        LIT(out, "msg_");
    if (id.n) {
        json_escape(out, id);
    } else {
        rng_hex(hex, sizeof(hex) / 2);
        buf_add(out, hex, sizeof(hex));
    }
    buf_add_char(out, '"');
}

/* The cached tokens are not among the vendor's input_tokens. */
static void put_usage(struct buf *out, const struct convo_usage *u)
{
    uint64_t cached = u->cache_read + u->cache_write;

    LIT(out, "{\"input_tokens\":");
    buf_add_u64(out, u->input > cached ? u->input - cached : 0);
    LIT(out, ",\"cache_creation_input_tokens\":");
    buf_add_u64(out, u->cache_write);
    LIT(out, ",\"cache_read_input_tokens\":");
    buf_add_u64(out, u->cache_read);
    LIT(out, ",\"output_tokens\":");
    buf_add_u64(out, u->output);
    if (u->reasoning) {
        LIT(out, ",\"output_tokens_details\":{\"thinking_tokens\":");
        buf_add_u64(out, u->reasoning);
        buf_add_char(out, '}');
    }
    buf_add_char(out, '}');
}

static const char *stop_word(enum convo_stop stop, bool called, bool refused)
{
    switch (stop) {
    case CONVO_STOP_STRING:
        return "stop_sequence";
    case CONVO_STOP_LENGTH:
        return "max_tokens";
    case CONVO_STOP_TOOLS:
        return "tool_use";
    case CONVO_STOP_FILTERED:
        return "refusal";
    case CONVO_STOP_PAUSED:
        return "pause_turn";
    default:
        return called ? "tool_use" : refused ? "refusal" : "end_turn";
    }
}

/* `"stop_reason":...,"stop_sequence":...`, and the provider's own word where there is no other. */
static void put_stop(struct buf *out, enum convo_stop stop, struct slice raw, struct slice string,
                     bool called, bool refused)
{
    LIT(out, "\"stop_reason\":\"");
    buf_add_cstr(out, stop_word(stop, called, refused));
    LIT(out, "\",\"stop_sequence\":");
    if (stop == CONVO_STOP_STRING && string.n)
        put_string(out, string);
    else
        LIT(out, "null");
    if (stop != CONVO_STOP_OTHER || raw.n == 0)
        return;
    LIT(out, ",\"postern_stop_reason\":");
    put_string(out, raw);
}

/* Is it a block that only this vendor knows, a JSON object whose type is its name? Then it is
 * written, on one line. */
static bool put_own_block(struct arena *a, struct buf *out, struct slice name, struct slice raw)
{
    unsigned before = arena_refusals(a);
    struct json root;
    enum gw_err err = json_parse(a, raw, NULL, &root, NULL);
    bool own = !err && slice_eq(json_str(json_get(root, "type")), name);
    char *to;

    if (dialect_end(a, before, err) == GW_ENOMEM)
        out->err = GW_ENOMEM;
    if (!own)
        return false;
    to = buf_reserve(out, raw.n);
    for (size_t i = 0; to && i < raw.n; i++)
        to[i] = raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i];
    if (to)
        out->n += raw.n;
    return true;
}

/* --- a whole answer --------------------------------------------------------------------------- */

/* The comma in front of a block, unless it is the first. */
static void next_block(struct buf *out, bool *any)
{
    if (*any)
        buf_add_char(out, ',');
    *any = true;
}

static void put_text_block(struct buf *out, struct slice text)
{
    LIT(out, "{\"type\":\"text\",\"text\":");
    put_string(out, text);
    buf_add_char(out, '}');
}

static void put_thinking_block(struct buf *out, struct slice text, struct slice signature)
{
    LIT(out, "{\"type\":\"thinking\",\"thinking\":");
    put_string(out, text);
    LIT(out, ",\"signature\":");
    put_string(out, signature);
    buf_add_char(out, '}');
}

static void put_redacted_block(struct buf *out, struct slice data)
{
    LIT(out, "{\"type\":\"redacted_thinking\",\"data\":");
    put_string(out, data);
    buf_add_char(out, '}');
}

static void put_tool_block(struct buf *out, struct slice id, struct slice signature,
                           struct slice name, struct slice input)
{
    LIT(out, "{\"type\":\"tool_use\",\"id\":");
    callid_put(out, id, signature);
    LIT(out, ",\"name\":");
    put_string(out, name);
    LIT(out, ",\"input\":");
    buf_add_slice(out, input);
    buf_add_char(out, '}');
}

/* The arguments as they are where they are an object; what a model has garbled is kept as text, as
 * the vendor itself would never send it otherwise than as an object. */
static void put_call(struct arena *a, struct buf *out, const struct convo_out_part *p)
{
    struct slice input = slice_trim(p->text);
    struct json root;
    struct buf wrapped;
    enum gw_err err;

    if (input.n == 0)
        input = SLICE("{}");
    err = json_parse(a, input, NULL, &root, NULL);
    if (err == GW_ENOMEM)
        out->err = err;
    if (!err && json_is(root, JSON_OBJECT)) {
        put_tool_block(out, p->id, p->signature, p->name, input);
        return;
    }
    buf_init(&wrapped, out->max);
    LIT(&wrapped, "{\"postern_invalid_json\":");
    put_string(&wrapped, input);
    buf_add_char(&wrapped, '}');
    put_tool_block(out, p->id, p->signature, p->name, buf_slice(&wrapped));
    if (buf_err(&wrapped))
        out->err = buf_err(&wrapped);
    buf_deinit(&wrapped);
}

static void put_part(struct arena *a, struct buf *out, const struct convo_out_part *p, bool *any)
{
    size_t before = out->n;
    bool had = *any;

    if ((p->kind == CONVO_TEXT || p->kind == CONVO_REFUSAL) && p->text.n == 0)
        return;
    next_block(out, any);
    switch (p->kind) {
    case CONVO_TEXT:
    case CONVO_REFUSAL:
        put_text_block(out, p->text);
        break;
    case CONVO_REASONING:
        put_thinking_block(out, p->text, p->signature);
        break;
    case CONVO_REDACTED:
        put_redacted_block(out, p->text);
        break;
    case CONVO_TOOL_CALL:
        put_call(a, out, p);
        break;
    default:
        if (p->kind == CONVO_OPAQUE && put_own_block(a, out, p->name, p->text))
            break;
        out->n = buf_err(out) ? out->n : before; /* of another vendor: no block at all */
        *any = had;
        break;
    }
}

static void put_message(struct arena *a, const struct convo_answer *ans, struct slice model,
                        struct buf *out)
{
    bool any = false, called = false, refused = false;

    LIT(out, "{\"id\":");
    put_id(out, ans->id);
    LIT(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    put_string(out, model);
    LIT(out, ",\"content\":[");
    for (const struct convo_out_part *p = ans->parts; p; p = p->next) {
        if (p->choice != 0)
            continue;
        called |= p->kind == CONVO_TOOL_CALL;
        refused |= p->kind == CONVO_REFUSAL;
        put_part(a, out, p, &any);
    }
    LIT(out, "],");
    put_stop(out, ans->finish[0].stop, ans->finish[0].raw, ans->finish[0].string, called, refused);
    LIT(out, ",\"usage\":");
    put_usage(out, &ans->usage);
    buf_add_char(out, '}');
}

void anthropic_encode_answer(const struct convo_answer *ans, struct slice model_shown,
                             uint64_t wall_s, struct buf *out)
{
    struct arena *scratch = arena_create(out->max);

    if (!scratch) {
        out->err = GW_ENOMEM;
        return;
    }
    put_message(scratch, ans, model_shown, out);
    if (arena_refusals(scratch))
        out->err = GW_ENOMEM;
    arena_destroy(scratch);
}

/* --- a stream: blocks ------------------------------------------------------------------------- */

static void start_open(struct dialect_encoder *e, struct buf *out)
{
    LIT(out, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":");
    buf_add_u64(out, e->index);
    LIT(out, ",\"content_block\":");
}

static void delta_open(struct dialect_encoder *e, struct buf *out)
{
    LIT(out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    buf_add_u64(out, e->index);
    LIT(out, ",\"delta\":{\"type\":\"");
}

/* A delta of one string member; `head` is its type and that member's key. */
static void put_delta(struct dialect_encoder *e, struct slice head, struct slice text,
                      struct buf *out)
{
    delta_open(e, out);
    buf_add_slice(out, head);
    json_escape(out, text);
    LIT(out, "\"}}\n\n");
}

static void stop_block(struct dialect_encoder *e, struct buf *out)
{
    LIT(out, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
    buf_add_u64(out, e->index);
    LIT(out, "}\n\n");
    e->index++;
    e->open = OPEN_NONE;
}

/* --- a stream: calls -------------------------------------------------------------------------- */

/* True once the object is complete. */
static bool scan_more(struct scan *s, struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        char ch = text.p[i];

        if (s->escape) {
            s->escape = false;
        } else if (s->string) {
            s->escape = ch == '\\';
            s->string = ch != '"';
        } else if (ch == '"') {
            s->string = true;
        } else if (ch == '{' || ch == '[') {
            s->begun = true;
            s->depth++;
        } else if ((ch == '}' || ch == ']') && s->depth > 0) {
            s->depth--;
        }
    }
    return s->begun && s->depth == 0;
}

static bool is_complete(const struct call *t)
{
    return t->ended || (t->scan.begun && t->scan.depth == 0);
}

static void put_args(struct dialect_encoder *e, struct call *t, struct slice text, struct buf *out)
{
    t->has_args = true;
    (void)scan_more(&t->scan, text);
    put_delta(e, SLICE("input_json_delta\",\"partial_json\":\""), text, out);
}

static void open_call(struct dialect_encoder *e, struct call *t, struct buf *out)
{
    start_open(e, out);
    put_tool_block(out, t->id, t->signature, t->name, SLICE("{}"));
    LIT(out, "}\n\n");
    e->open = OPEN_TOOL;
    if (t->waiting.n)
        put_args(e, t, buf_slice(&t->waiting), out);
    e->waiting -= t->waiting.n;
    buf_deinit(&t->waiting);
}

/* The first call is over; the next, if there is one, is not open yet. */
static void close_call(struct dialect_encoder *e, struct buf *out)
{
    struct call *t = e->calls;

    if (!t->has_args)
        put_args(e, t, SLICE("{}"), out);
    stop_block(e, out);
    e->calls = t->next;
    if (!e->calls)
        e->last = NULL;
}

/* Opens the first call, and goes on while it is complete and another waits. */
static void pump_calls(struct dialect_encoder *e, struct buf *out)
{
    while (e->calls) {
        if (e->open != OPEN_TOOL)
            open_call(e, e->calls, out);
        if (!e->calls->ended && !(e->calls->next && is_complete(e->calls)))
            return;
        close_call(e, out);
    }
}

/* Everything open is closed, and what waited goes out. */
static void close_all(struct dialect_encoder *e, struct buf *out)
{
    for (struct call *t = e->calls; t; t = t->next)
        t->ended = true;
    pump_calls(e, out);
    if (e->open != OPEN_NONE)
        stop_block(e, out);
}

static struct call *call_of(struct dialect_encoder *e, unsigned part)
{
    struct call *t = e->calls;

    while (t && t->part != part)
        t = t->next;
    return t;
}

static void free_waiting(void *obj)
{
    struct call *t = obj;

    buf_deinit(&t->waiting);
}

static bool keep(struct dialect_encoder *e, struct slice s, struct slice *to)
{
    *to = arena_dup(e->arena, s);
    return to->p != NULL;
}

static enum gw_err on_tool_begin(struct dialect_encoder *e, const struct convo_event *ev,
                                 struct buf *out)
{
    struct call *t = arena_new(e->arena, struct call);

    if (!t)
        return GW_ENOMEM;
    buf_init(&t->waiting, MAX_WAITING);
    t->part = ev->part;
    if (!keep(e, ev->id, &t->id) || !keep(e, ev->name, &t->name) ||
        !keep(e, ev->text, &t->signature) || !arena_defer(e->arena, free_waiting, t))
        return GW_ENOMEM;
    e->called = true;
    if (e->open == OPEN_TEXT || e->open == OPEN_THINKING)
        stop_block(e, out);
    if (e->last)
        e->last->next = t;
    else
        e->calls = t;
    e->last = t;
    pump_calls(e, out);
    return GW_OK;
}

static enum gw_err on_tool_args(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    struct call *t = call_of(e, ev->part);

    if (!t || ev->text.n == 0)
        return GW_OK; /* behind a complete object there is only white space */
    e->text_bytes += ev->text.n;
    if (t == e->calls) {
        put_args(e, t, ev->text, out);
    } else {
        e->waiting += ev->text.n;
        if (e->waiting > MAX_WAITING)
            return GW_EUPBAD;
        buf_add_slice(&t->waiting, ev->text);
    }
    pump_calls(e, out);
    return buf_err(&t->waiting);
}

/* --- a stream: events ------------------------------------------------------------------------- */

struct dialect_encoder *anthropic_encoder_new(struct arena *a, const struct convo *c,
                                              struct slice model_shown, uint64_t wall_s)
{
    struct dialect_encoder *e = arena_new(a, struct dialect_encoder);

    if (!e)
        return NULL;
    e->arena = a;
    e->model = model_shown;
    e->estimate = c ? convo_estimate_tokens(c) : 0;
    return e;
}

static void put_start(struct dialect_encoder *e, struct buf *out)
{
    struct convo_usage usage = e->usage;

    if (e->started)
        return;
    e->started = true;
    if (!usage.known || usage.input == 0)
        usage = (struct convo_usage){.input = e->estimate};
    LIT(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
    put_id(out, e->id);
    LIT(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    put_string(out, e->model);
    LIT(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    put_usage(out, &usage);
    LIT(out, "}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n");
}

/* A text or thinking block of this part is open afterwards. */
static void want_block(struct dialect_encoder *e, enum open_block kind, unsigned part,
                       struct buf *out)
{
    if (e->open == kind && e->part == part)
        return;
    close_all(e, out);
    start_open(e, out);
    if (kind == OPEN_TEXT)
        LIT(out, "{\"type\":\"text\",\"text\":\"\"}}\n\n");
    else
        LIT(out, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n");
    e->open = kind;
    e->part = part;
}

static void on_text(struct dialect_encoder *e, const struct convo_event *ev, enum open_block kind,
                    struct buf *out)
{
    if (kind == OPEN_TEXT) {
        e->has_text = true;
        e->text_part = ev->part;
    }
    if (ev->text.n == 0)
        return;
    e->text_bytes += ev->text.n;
    want_block(e, kind, ev->part, out);
    put_delta(e,
              kind == OPEN_TEXT ? SLICE("text_delta\",\"text\":\"")
                                : SLICE("thinking_delta\",\"thinking\":\""),
              ev->text, out);
}

/* Of reasoning; text has no place for one, and a call's comes with it. */
static enum gw_err on_signature(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    struct call *t = call_of(e, ev->part);

    if (t)
        return t == e->calls || keep(e, ev->text, &t->signature) ? GW_OK : GW_ENOMEM;
    if (ev->text.n == 0 || (e->has_text && e->text_part == ev->part))
        return GW_OK;
    want_block(e, OPEN_THINKING, ev->part, out);
    put_delta(e, SLICE("signature_delta\",\"signature\":\""), ev->text, out);
    return GW_OK;
}

static void on_redacted(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    close_all(e, out);
    start_open(e, out);
    put_redacted_block(out, ev->text);
    LIT(out, "}\n\n");
    stop_block(e, out);
}

static enum gw_err on_opaque(struct dialect_encoder *e, const struct convo_event *ev,
                             struct buf *out)
{
    struct arena *scratch = arena_create(ev->text.n * 64 + 65536);
    struct buf block;

    if (!scratch)
        return GW_ENOMEM;
    buf_init(&block, out->max);
    if (put_own_block(scratch, &block, ev->name, ev->text)) {
        close_all(e, out);
        start_open(e, out);
        buf_add_slice(out, buf_slice(&block));
        LIT(out, "}\n\n");
        stop_block(e, out);
    }
    if (buf_err(&block))
        out->err = buf_err(&block);
    buf_deinit(&block);
    arena_destroy(scratch);
    return GW_OK;
}

static void on_part_end(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    struct call *t = call_of(e, ev->part);

    if (t) {
        t->ended = true;
        pump_calls(e, out);
    } else if ((e->open == OPEN_TEXT || e->open == OPEN_THINKING) && e->part == ev->part) {
        stop_block(e, out);
    }
}

static void on_error(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    const struct err_info *info = err_info(ev->err ? ev->err : GW_EUPSTREAM);
    const char *type = info->status == 429   ? "rate_limit_error"
                       : info->status == 503 ? "overloaded_error"
                       : info->status == 504 ? "timeout_error"
                       : info->status < 500  ? "invalid_request_error"
                                             : "api_error";

    e->over = true;
    LIT(out, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"");
    buf_add_cstr(out, type);
    LIT(out, "\",\"message\":");
    put_string(out, ev->text.n ? ev->text : slice_cstr(info->title));
    LIT(out, "}}\n\n");
}

static void on_end(struct dialect_encoder *e, struct buf *out)
{
    if (!e->usage.known)
        e->usage = (struct convo_usage){.input = e->estimate, .output = (e->text_bytes + 3) / 4};
    e->over = true;
    close_all(e, out);
    LIT(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    put_stop(out, e->stop, e->stop_raw, e->stop_string, e->called, e->refused);
    LIT(out, "},\"usage\":");
    put_usage(out, &e->usage);
    LIT(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

static enum gw_err on_finish(struct dialect_encoder *e, const struct convo_event *ev,
                             struct buf *out)
{
    e->stop = ev->stop;
    close_all(e, out);
    return keep(e, ev->stop_raw, &e->stop_raw) && keep(e, ev->stop_string, &e->stop_string)
               ? GW_OK
               : GW_ENOMEM;
}

static enum gw_err on_content(struct dialect_encoder *e, const struct convo_event *ev,
                              struct buf *out)
{
    switch (ev->kind) {
    case CONVO_EV_REFUSAL:
        e->refused = true;
        on_text(e, ev, OPEN_TEXT, out);
        return GW_OK;
    case CONVO_EV_TEXT:
        on_text(e, ev, OPEN_TEXT, out);
        return GW_OK;
    case CONVO_EV_REASONING:
        on_text(e, ev, OPEN_THINKING, out);
        return GW_OK;
    case CONVO_EV_SIGNATURE:
        return on_signature(e, ev, out);
    case CONVO_EV_REDACTED:
        on_redacted(e, ev, out);
        return GW_OK;
    case CONVO_EV_TOOL_BEGIN:
        return on_tool_begin(e, ev, out);
    case CONVO_EV_TOOL_ARGS:
        return on_tool_args(e, ev, out);
    case CONVO_EV_PART_END:
        on_part_end(e, ev, out);
        return GW_OK;
    case CONVO_EV_OPAQUE:
        return on_opaque(e, ev, out);
    case CONVO_EV_FINISH:
        return on_finish(e, ev, out);
    default:
        return GW_OK;
    }
}

enum gw_err anthropic_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                   struct buf *out)
{
    enum gw_err err;

    if (e->over || ev->choice != 0)
        return GW_OK;
    switch (ev->kind) {
    case CONVO_EV_START:
        return e->id.n || keep(e, ev->id, &e->id) ? GW_OK : GW_ENOMEM;
    case CONVO_EV_USAGE:
        e->usage = ev->usage;
        return GW_OK;
    case CONVO_EV_PING:
        if (e->started)
            LIT(out, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        return buf_err(out);
    case CONVO_EV_ERROR:
        on_error(e, ev, out);
        return buf_err(out);
    default:
        break;
    }
    put_start(e, out);
    if (ev->kind == CONVO_EV_END) {
        on_end(e, out);
        return buf_err(out);
    }
    err = on_content(e, ev, out);
    return err ? err : buf_err(out);
}
