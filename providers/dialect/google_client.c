/*
 * google_client.c - answers towards Gemini clients: whole, and as a stream of partial answers.
 *
 * Each frame of a stream is an answer with the next part of one candidate. A call goes out whole,
 * once its arguments are complete. There is no terminal event: the last frame, written at the end
 * and not before, tells why each candidate stopped and what it all cost, so a stream that breaks
 * never has a finishReason. After an error nothing follows.
 *
 * Anthropic's signatures travel as thoughtSignature of thought parts, redacted thinking as a
 * thought without text (GOOGLE_REDACTED). Beyond Google's form: `posternOpaque` in a candidate,
 * for blocks only their vendor knows; `finishMessage` holds a vendor's reason to stop that Google
 * has no word for.
 */
#include "providers/dialect/google_client.h"

#include "gateway/core/rng.h"

#define MAX_CHOICES 16u
#define MAX_ARGS (16u << 20)
#define PROBABILITY_ARENA (64u << 20)

#define LIT(out, lit) buf_add((out), lit, sizeof(lit) - 1)

/* A call whose arguments are still coming. */
struct pending {
    struct pending *next;
    unsigned part, choice;
    struct slice id, name, signature; /* in the arena */
    struct buf args;
};

struct stopped {
    bool told; /* FINISH came */
    enum convo_stop stop;
    struct slice raw; /* in the arena */
};

struct dialect_encoder {
    struct arena *arena;
    struct slice model;
    bool over;         /* END or ERROR went out */
    struct slice tail; /* from behind the candidates to the end of a frame; empty until START */
    struct convo_usage usage;
    struct pending *pending; /* oldest first */
    struct stopped stopped[MAX_CHOICES];
    bool refused[MAX_CHOICES]; /* a refusal's text went out */
    unsigned thought_part[MAX_CHOICES];
    bool has_thought[MAX_CHOICES];
};

/* --- what whole answers and streams share -------------------------------------------------- */

static void put_string(struct buf *out, struct slice text)
{
    buf_add_char(out, '"');
    json_escape(out, text);
    buf_add_char(out, '"');
}

/* Raw JSON on one line: a line end would end the `data` field of an event. */
static void put_raw(struct buf *out, struct slice raw)
{
    char *to = buf_reserve(out, raw.n);

    for (size_t i = 0; to && i < raw.n; i++)
        to[i] = raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i];
    if (to)
        out->n += raw.n;
}

static void put_id(struct buf *out, struct slice id)
{
    char hex[24];

    if (id.n) {
        put_string(out, id);
        return;
    }
    rng_hex(hex, sizeof(hex) / 2);
    put_string(out, slice_of(hex, sizeof(hex)));
}

/* `"finishReason":...`, and the vendor's own word where Google has none. */
static void put_finish(struct buf *out, enum convo_stop stop, struct slice raw, bool refused)
{
    const char *word = "STOP";

    if (stop == CONVO_STOP_LENGTH)
        word = "MAX_TOKENS";
    else if (stop == CONVO_STOP_FILTERED || (refused && stop == CONVO_STOP_DONE))
        word = "SAFETY";
    else if (stop == CONVO_STOP_OTHER || stop == CONVO_STOP_NONE)
        word = "OTHER";
    buf_add_cstr(out, "\"finishReason\":\"");
    buf_add_cstr(out, word);
    buf_add_char(out, '"');
    if ((stop != CONVO_STOP_PAUSED && stop != CONVO_STOP_OTHER) || raw.n == 0)
        return;
    LIT(out, ",\"finishMessage\":");
    put_string(out, raw);
}

/* Google counts thoughts beside the candidates' tokens, and cached ones among the prompt's. */
static void put_usage(struct buf *out, const struct convo_usage *u)
{
    uint64_t thoughts = u->reasoning < u->output ? u->reasoning : u->output;

    LIT(out, "{\"promptTokenCount\":");
    buf_add_u64(out, u->input);
    if (u->cache_read) {
        LIT(out, ",\"cachedContentTokenCount\":");
        buf_add_u64(out, u->cache_read);
    }
    LIT(out, ",\"candidatesTokenCount\":");
    buf_add_u64(out, u->output - thoughts);
    if (thoughts) {
        LIT(out, ",\"thoughtsTokenCount\":");
        buf_add_u64(out, thoughts);
    }
    LIT(out, ",\"totalTokenCount\":");
    buf_add_u64(out, u->input + u->output);
    buf_add_char(out, '}');
}

static void put_signature(struct buf *out, struct slice signature)
{
    if (signature.n == 0)
        return;
    LIT(out, ",\"thoughtSignature\":");
    put_string(out, signature);
}

static void put_text_part(struct buf *out, bool thought, struct slice text, struct slice signature)
{
    LIT(out, "{\"text\":");
    put_string(out, text);
    if (thought)
        LIT(out, ",\"thought\":true");
    put_signature(out, signature);
    buf_add_char(out, '}');
}

static void put_redacted_part(struct buf *out, struct slice data)
{
    LIT(out, "{\"text\":\"\",\"thought\":true,\"thoughtSignature\":\"" GOOGLE_REDACTED);
    json_escape(out, data);
    LIT(out, "\"}");
}

/* Arguments are an object here: what is none, from a provider that does not look, is wrapped. */
static void put_args(struct buf *out, struct slice args)
{
    struct arena *scratch;
    struct json root = {NULL, 0};
    enum gw_err err;

    if (args.n == 0 || slice_is(args, "{}")) {
        LIT(out, "{}");
        return;
    }
    scratch = arena_create(PROBABILITY_ARENA);
    err = scratch ? json_parse(scratch, args, NULL, &root, NULL) : GW_ENOMEM;
    if (!err && json_is(root, JSON_OBJECT)) {
        put_raw(out, json_raw(root));
    } else if (err == GW_ENOMEM) {
        out->err = GW_ENOMEM;
    } else {
        LIT(out, "{\"arguments\":");
        put_string(out, args);
        buf_add_char(out, '}');
    }
    arena_destroy(scratch);
}

static void put_call_part(struct buf *out, struct slice id, struct slice name, struct slice args,
                          struct slice signature)
{
    LIT(out, "{\"functionCall\":{");
    if (id.n) {
        LIT(out, "\"id\":");
        put_string(out, id);
        buf_add_char(out, ',');
    }
    LIT(out, "\"name\":");
    put_string(out, name);
    LIT(out, ",\"args\":");
    put_args(out, args);
    buf_add_char(out, '}');
    put_signature(out, signature);
    buf_add_char(out, '}');
}

/* Blocks that Google itself documents, kept raw by its decoder: parts, and members of a candidate.
 */
static bool is_own_part(struct slice name)
{
    return slice_is(name, "executableCode") || slice_is(name, "codeExecutionResult") ||
           slice_is(name, "inlineData") || slice_is(name, "fileData");
}

static bool is_own_note(struct slice name)
{
    return slice_is(name, "citationMetadata") || slice_is(name, "groundingMetadata") ||
           slice_is(name, "urlContextMetadata");
}

static void put_opaque(struct buf *out, struct slice name, struct slice raw)
{
    LIT(out, "{\"kind\":");
    put_string(out, name);
    LIT(out, ",\"value\":");
    put_raw(out, raw);
    buf_add_char(out, '}');
}

/* --- log probabilities, from the shape OpenAI gave them ------------------------------------ */

static void put_probability(struct json_writer *w, struct json from)
{
    json_obj(w);
    json_kv_str(w, "token", json_str(json_get(from, "token")));
    if (json_is(json_get(from, "logprob"), JSON_NUMBER))
        json_kv_raw(w, "logProbability", json_raw(json_get(from, "logprob")));
    json_obj_end(w);
}

static void put_probabilities(struct json_writer *w, struct json content)
{
    json_kv_arr(w, "chosenCandidates");
    for (struct json it = json_first(content); json_exists(it); it = json_next(content, it))
        put_probability(w, it);
    json_arr_end(w);
    json_kv_arr(w, "topCandidates");
    for (struct json it = json_first(content); json_exists(it); it = json_next(content, it)) {
        struct json tops = json_get(it, "top_logprobs");

        json_obj(w);
        json_kv_arr(w, "candidates");
        for (struct json t = json_first(tops); json_exists(t); t = json_next(tops, t))
            put_probability(w, t);
        json_arr_end(w);
        json_obj_end(w);
    }
    json_arr_end(w);
}

/* `,"logprobsResult":{...}`, or nothing when `raw` holds none. */
static void put_logprobs(struct buf *out, struct slice raw)
{
    struct arena *scratch = raw.n ? arena_create(PROBABILITY_ARENA) : NULL;
    struct json root = {NULL, 0};
    struct json_writer w;

    if (!scratch) {
        out->err = raw.n && !out->err ? GW_ENOMEM : out->err;
        return;
    }
    if (json_parse(scratch, raw, NULL, &root, NULL) == GW_OK &&
        json_is(json_get(root, "content"), JSON_ARRAY)) {
        LIT(out, ",\"logprobsResult\":");
        json_writer_init(&w, out);
        json_obj(&w);
        put_probabilities(&w, json_get(root, "content"));
        json_obj_end(&w);
    }
    arena_destroy(scratch);
}

/* --- a whole answer ------------------------------------------------------------------------ */

#define EACH_PART(p, ans, c)                                                                       \
    for (const struct convo_out_part *p = (ans)->parts; p; p = p->next)                            \
        if (p->choice == (c))

static bool is_part(const struct convo_out_part *p)
{
    return p->kind != CONVO_OPAQUE || is_own_part(p->name);
}

static void put_part(struct buf *out, const struct convo_out_part *p)
{
    switch (p->kind) {
    case CONVO_TOOL_CALL:
        put_call_part(out, p->id, p->name, p->text, p->signature);
        break;
    case CONVO_REDACTED:
        put_redacted_part(out, p->text);
        break;
    case CONVO_OPAQUE:
        put_raw(out, p->text);
        break;
    default:
        put_text_part(out, p->kind == CONVO_REASONING, p->text, p->signature);
        break;
    }
}

/* Returns whether the model refused. */
static bool put_content(struct buf *out, const struct convo_answer *ans, unsigned choice)
{
    bool any = false, refused = false;

    LIT(out, "{\"content\":{\"parts\":[");
    EACH_PART(p, ans, choice)
    {
        if (!is_part(p))
            continue;
        if (any)
            buf_add_char(out, ',');
        any = true;
        refused |= p->kind == CONVO_REFUSAL;
        put_part(out, p);
    }
    LIT(out, "],\"role\":\"model\"},");
    return refused;
}

static void put_notes(struct buf *out, const struct convo_answer *ans, unsigned choice)
{
    bool any = false;

    EACH_PART(p, ans, choice)
    {
        if (p->kind != CONVO_OPAQUE || !is_own_note(p->name))
            continue;
        buf_add_char(out, ',');
        put_string(out, p->name);
        buf_add_char(out, ':');
        put_raw(out, p->text);
    }
    EACH_PART(p, ans, choice)
    {
        if (is_part(p) || is_own_note(p->name))
            continue;
        buf_add_cstr(out, any ? "," : ",\"posternOpaque\":[");
        any = true;
        put_opaque(out, p->name, p->text);
    }
    if (any)
        buf_add_char(out, ']');
}

void google_encode_answer(const struct convo_answer *ans, struct slice model_shown, uint64_t wall_s,
                          struct buf *out)
{
    unsigned n = ans->n_choices ? ans->n_choices : 1;

    (void)wall_s;
    LIT(out, "{\"candidates\":[");
    for (unsigned i = 0; i < n; i++) {
        bool refused;

        if (i)
            buf_add_char(out, ',');
        refused = put_content(out, ans, i);
        put_finish(out, ans->finish[i].stop, ans->finish[i].raw, refused);
        put_logprobs(out, ans->finish[i].logprobs);
        put_notes(out, ans, i);
        LIT(out, ",\"index\":");
        buf_add_u64(out, i);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
    if (ans->usage.known) {
        LIT(out, ",\"usageMetadata\":");
        put_usage(out, &ans->usage);
    }
    LIT(out, ",\"modelVersion\":");
    put_string(out, model_shown);
    LIT(out, ",\"responseId\":");
    put_id(out, ans->id);
    buf_add_char(out, '}');
}

/* --- a stream ------------------------------------------------------------------------------ */

static void free_pending(void *obj)
{
    struct dialect_encoder *e = obj;

    for (struct pending *p = e->pending; p; p = p->next)
        buf_deinit(&p->args);
}

struct dialect_encoder *google_encoder_new(struct arena *a, const struct convo *c,
                                           struct slice model_shown, uint64_t wall_s)
{
    struct dialect_encoder *e = arena_new(a, struct dialect_encoder);

    (void)c;
    (void)wall_s;
    if (!e)
        return NULL;
    e->arena = a;
    e->model = model_shown;
    return arena_defer(a, free_pending, e) ? e : NULL;
}

static enum gw_err make_tail(struct dialect_encoder *e, struct slice id)
{
    struct buf b;

    if (e->tail.n)
        return GW_OK;
    buf_init(&b, 65536);
    LIT(&b, ",\"modelVersion\":");
    put_string(&b, e->model);
    LIT(&b, ",\"responseId\":");
    put_id(&b, id);
    LIT(&b, "}\n\n");
    e->tail = buf_err(&b) ? SLICE_NONE : arena_dup(e->arena, buf_slice(&b));
    buf_deinit(&b);
    return e->tail.n ? GW_OK : GW_ENOMEM;
}

static void frame_open(struct buf *out)
{
    LIT(out, "data: {\"candidates\":[{\"content\":{\"parts\":[");
}

static void frame_index(unsigned choice, struct buf *out)
{
    LIT(out, ",\"index\":");
    buf_add_u64(out, choice);
    buf_add_char(out, '}');
}

static void frame_close(struct dialect_encoder *e, unsigned choice, struct slice logprobs,
                        struct buf *out)
{
    LIT(out, "],\"role\":\"model\"}");
    put_logprobs(out, logprobs);
    frame_index(choice, out);
    buf_add_char(out, ']');
    buf_add_slice(out, e->tail);
}

static void put_frame_text(struct dialect_encoder *e, const struct convo_event *ev, bool thought,
                           struct slice text, struct slice signature, struct buf *out)
{
    frame_open(out);
    put_text_part(out, thought, text, signature);
    frame_close(e, ev->choice, ev->raw, out);
}

/* --- calls --------------------------------------------------------------------------------- */

static struct pending *pending_of(struct dialect_encoder *e, unsigned part)
{
    struct pending *p = e->pending;

    while (p && p->part != part)
        p = p->next;
    return p;
}

static enum gw_err on_tool_begin(struct dialect_encoder *e, const struct convo_event *ev)
{
    struct pending *p = arena_new(e->arena, struct pending), **at = &e->pending;

    if (!p)
        return GW_ENOMEM;
    p->part = ev->part;
    p->choice = ev->choice;
    p->id = arena_dup(e->arena, ev->id);
    p->name = arena_dup(e->arena, ev->name);
    p->signature = arena_dup(e->arena, ev->text);
    if (!p->id.p || !p->name.p || !p->signature.p)
        return GW_ENOMEM;
    buf_init(&p->args, MAX_ARGS);
    while (*at)
        at = &(*at)->next;
    *at = p;
    return GW_OK;
}

static enum gw_err on_tool_args(struct dialect_encoder *e, const struct convo_event *ev)
{
    struct pending *p = pending_of(e, ev->part);

    if (!p)
        return GW_EINTERNAL;
    buf_add_slice(&p->args, ev->text);
    return buf_err(&p->args);
}

/* Writes the calls of a choice, or only the one that is `part`, and forgets them. */
static void flush_calls(struct dialect_encoder *e, unsigned choice, const unsigned *part,
                        struct buf *out)
{
    struct pending **at = &e->pending;

    while (*at) {
        struct pending *p = *at;

        if (p->choice != choice || (part && p->part != *part)) {
            at = &p->next;
            continue;
        }
        frame_open(out);
        put_call_part(out, p->id, p->name, buf_slice(&p->args), p->signature);
        frame_close(e, choice, SLICE_NONE, out);
        buf_deinit(&p->args);
        *at = p->next;
    }
}

/* --- events -------------------------------------------------------------------------------- */

/* A signature belongs to a call that is still held, or to the thought or text before it. */
static enum gw_err on_signature(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    struct pending *p = pending_of(e, ev->part);
    bool thought = e->has_thought[ev->choice] && e->thought_part[ev->choice] == ev->part;

    if (!p) {
        put_frame_text(e, ev, thought, SLICE_NONE, ev->text, out);
        return GW_OK;
    }
    p->signature = arena_dup(e->arena, ev->text);
    return p->signature.p ? GW_OK : GW_ENOMEM;
}

static void on_opaque(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    bool part = is_own_part(ev->name);

    frame_open(out);
    if (part)
        put_raw(out, ev->text);
    LIT(out, "],\"role\":\"model\"}");
    if (!part && is_own_note(ev->name)) {
        buf_add_char(out, ',');
        put_string(out, ev->name);
        buf_add_char(out, ':');
        put_raw(out, ev->text);
    } else if (!part) {
        LIT(out, ",\"posternOpaque\":[");
        put_opaque(out, ev->name, ev->text);
        buf_add_char(out, ']');
    }
    frame_index(ev->choice, out);
    buf_add_char(out, ']');
    buf_add_slice(out, e->tail);
}

static enum gw_err on_finish(struct dialect_encoder *e, const struct convo_event *ev,
                             struct buf *out)
{
    struct stopped *s = &e->stopped[ev->choice];

    flush_calls(e, ev->choice, NULL, out);
    s->told = true;
    s->stop = ev->stop;
    s->raw = arena_dup(e->arena, ev->stop_raw);
    return s->raw.p ? GW_OK : GW_ENOMEM;
}

/* The last frame. */
static void on_end(struct dialect_encoder *e, struct buf *out)
{
    bool any = false;

    e->over = true;
    LIT(out, "data: {\"candidates\":[");
    for (unsigned i = 0; i < MAX_CHOICES; i++) {
        if (!e->stopped[i].told)
            continue;
        buf_add_cstr(out, any ? "," : "");
        any = true;
        LIT(out, "{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},");
        put_finish(out, e->stopped[i].stop, e->stopped[i].raw, e->refused[i]);
        frame_index(i, out);
    }
    buf_add_char(out, ']');
    if (e->usage.known) {
        LIT(out, ",\"usageMetadata\":");
        put_usage(out, &e->usage);
    }
    buf_add_slice(out, e->tail);
}

static const char *status_word(int status)
{
    switch (status) {
    case 429:
        return "RESOURCE_EXHAUSTED";
    case 503:
        return "UNAVAILABLE";
    case 504:
        return "DEADLINE_EXCEEDED";
    default:
        return status < 500 ? "INVALID_ARGUMENT" : "INTERNAL";
    }
}

static void on_error(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    const struct err_info *info = err_info(ev->err ? ev->err : GW_EUPSTREAM);

    e->over = true;
    LIT(out, "data: {\"error\":{\"code\":");
    buf_add_u64(out, (uint64_t)info->status);
    LIT(out, ",\"message\":");
    put_string(out, ev->text.n ? ev->text : slice_cstr(info->title));
    LIT(out, ",\"status\":");
    put_string(out, slice_cstr(status_word(info->status)));
    LIT(out, "}}\n\n");
}

/* Calls wait for their PART_END or for the end: a provider without PART_END may say something
 * between two pieces of arguments. */
static enum gw_err on_content(struct dialect_encoder *e, const struct convo_event *ev,
                              struct buf *out)
{
    switch (ev->kind) {
    case CONVO_EV_REFUSAL:
        e->refused[ev->choice] = true;
        /* fall through */
    case CONVO_EV_TEXT:
        if (ev->text.n || ev->raw.n)
            put_frame_text(e, ev, false, ev->text, SLICE_NONE, out);
        return GW_OK;
    case CONVO_EV_REASONING:
        e->has_thought[ev->choice] = true;
        e->thought_part[ev->choice] = ev->part;
        if (ev->text.n)
            put_frame_text(e, ev, true, ev->text, SLICE_NONE, out);
        return GW_OK;
    case CONVO_EV_SIGNATURE:
        return on_signature(e, ev, out);
    case CONVO_EV_REDACTED:
        frame_open(out);
        put_redacted_part(out, ev->text);
        frame_close(e, ev->choice, SLICE_NONE, out);
        return GW_OK;
    case CONVO_EV_TOOL_BEGIN:
        return on_tool_begin(e, ev);
    case CONVO_EV_TOOL_ARGS:
        return on_tool_args(e, ev);
    case CONVO_EV_PART_END:
        flush_calls(e, ev->choice, &ev->part, out);
        return GW_OK;
    case CONVO_EV_OPAQUE:
        on_opaque(e, ev, out);
        return GW_OK;
    case CONVO_EV_FINISH:
        return on_finish(e, ev, out);
    default:
        return GW_OK;
    }
}

enum gw_err google_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
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
    err = make_tail(e, ev->kind == CONVO_EV_START ? ev->id : SLICE_NONE);
    if (err)
        return err;
    if (ev->kind == CONVO_EV_END)
        on_end(e, out);
    else
        err = on_content(e, ev, out);
    return err ? err : buf_err(out);
}
