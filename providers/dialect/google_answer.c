/*
 * google_answer.c - a Gemini answer, whole or as a stream, as convo events.
 *
 * Each frame of a stream is an answer of its own with the next pieces of each candidate; a whole
 * answer is one such frame. Text goes on in the part that is open as long as its kind stays the
 * same. The vendor has no terminal event: FINISH and END are said when the stream closes, if every
 * candidate told why it stopped or the prompt was blocked; a call may come after the frame that
 * tells the reason's first half.
 */
#include "providers/dialect/google.h"
#include "providers/dialect/google_client.h"

#include "gateway/core/rng.h"
#include "providers/dialect/toolname.h"

#include <stdio.h>

#define EVENT_ARENA (64u << 20) /* ceiling of one frame's parse */
#define MAX_CANDIDATES 16u
#define ID_BYTES 24u

enum open_kind { OPEN_NONE, OPEN_TEXT, OPEN_THOUGHT };

struct candidate {
    bool seen;
    enum open_kind open;
    unsigned part; /* the open one */
    unsigned n_tools;
    struct slice stop; /* in the arena; empty = goes on */
};

struct dialect_decoder {
    struct arena *arena;
    struct arena *event;
    convo_event_fn fn;
    void *arg;
    const struct toolname_map *names;
    struct candidate candidates[MAX_CANDIDATES];
    struct slice blocked; /* the prompt's blockReason, in the arena */
    unsigned n_parts, n_tools;
    uint64_t id_seed; /* call ids count up from here */
    bool started, failed;
    struct convo_usage usage;
};

/* --- events -------------------------------------------------------------------------------- */

static enum gw_err emit(struct dialect_decoder *d, struct convo_event ev)
{
    return d->fn(&ev, d->arg);
}

static enum gw_err keep(struct dialect_decoder *d, struct slice s, struct slice *to)
{
    *to = arena_dup(d->arena, s);
    return to->p ? GW_OK : GW_ENOMEM;
}

static enum gw_err emit_start(struct dialect_decoder *d, struct json frame)
{
    if (d->started)
        return GW_OK;
    d->started = true;
    return emit(d, (struct convo_event){.kind = CONVO_EV_START,
                                        .id = json_str(json_get(frame, "responseId")),
                                        .model = json_str(json_get(frame, "modelVersion"))});
}

static uint64_t count(struct json usage, const char *name)
{
    int64_t v;

    return json_int(json_get(usage, name), &v) && v > 0 && v < INT64_MAX / 4 ? (uint64_t)v : 0;
}

/* Each frame repeats the numbers so far. Thoughts are beside the candidates' tokens, unless the
 * total says that they are among them. */
bool google_usage(struct json usage, struct convo_usage *ret)
{
    uint64_t candidates, thoughts;

    if (!json_is(usage, JSON_OBJECT))
        return false;
    candidates = count(usage, "candidatesTokenCount");
    thoughts = count(usage, "thoughtsTokenCount");
    ret->known = true;
    ret->raw = json_raw(usage);
    ret->input = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount");
    ret->cache_read = count(usage, "cachedContentTokenCount");
    ret->reasoning = thoughts;
    ret->output = candidates + thoughts;
    if (candidates >= thoughts && ret->input + candidates == count(usage, "totalTokenCount"))
        ret->output = candidates;
    return true;
}

static enum gw_err take_usage(struct dialect_decoder *d, struct json usage)
{
    if (!google_usage(usage, &d->usage))
        return GW_OK;
    return emit(d, (struct convo_event){.kind = CONVO_EV_USAGE, .usage = d->usage});
}

/* --- log probabilities, in the shape that OpenAI gave them --------------------------------- */

static void put_probability(struct json_writer *w, struct json from)
{
    json_kv_str(w, "token", json_str(json_get(from, "token")));
    json_put_key(w, "logprob");
    if (json_is(json_get(from, "logProbability"), JSON_NUMBER))
        json_put_raw(w, json_raw(json_get(from, "logProbability")));
    else
        json_put_int(w, 0);
    json_kv_null(w, "bytes");
}

static void put_probabilities(struct json_writer *w, struct json result)
{
    struct json chosen = json_get(result, "chosenCandidates");
    struct json tops = json_get(result, "topCandidates"), top = json_first(tops);

    json_obj(w);
    json_kv_arr(w, "content");
    for (struct json it = json_first(chosen); json_exists(it); it = json_next(chosen, it)) {
        struct json list = json_get(top, "candidates");

        json_obj(w);
        put_probability(w, it);
        json_kv_arr(w, "top_logprobs");
        for (struct json t = json_first(list); json_exists(t); t = json_next(list, t)) {
            json_obj(w);
            put_probability(w, t);
            json_obj_end(w);
        }
        json_arr_end(w);
        json_obj_end(w);
        if (json_exists(top))
            top = json_next(tops, top);
    }
    json_arr_end(w);
    json_kv_null(w, "refusal");
    json_obj_end(w);
}

/* --- parts --------------------------------------------------------------------------------- */

/* The part that text of this kind belongs to: the open one, or a new one. */
static unsigned open_part(struct dialect_decoder *d, struct candidate *c, enum open_kind kind)
{
    if (c->open != kind) {
        c->open = kind;
        c->part = d->n_parts++;
    }
    return c->part;
}

static enum gw_err emit_signature(struct dialect_decoder *d, unsigned choice, unsigned part,
                                  struct json from)
{
    struct slice signature = json_str(json_get(from, "thoughtSignature"));

    if (signature.n == 0)
        return GW_OK;
    return emit(d,
                (struct convo_event){
                    .kind = CONVO_EV_SIGNATURE, .choice = choice, .part = part, .text = signature});
}

static enum gw_err take_text(struct dialect_decoder *d, unsigned choice, struct json part)
{
    bool thought = json_is(json_get(part, "thought"), JSON_TRUE);
    enum open_kind kind = thought ? OPEN_THOUGHT : OPEN_TEXT;
    struct slice text = json_str(json_get(part, "text"));
    struct candidate *c = &d->candidates[choice];
    bool fresh = c->open != kind;
    unsigned number;
    enum gw_err err = GW_OK;

    if (text.n == 0 && json_str(json_get(part, "thoughtSignature")).n == 0)
        return GW_OK;
    number = open_part(d, c, kind);
    if (text.n > 0 || fresh) /* a signature alone needs a part that it signs */
        err = emit(d, (struct convo_event){.kind = thought ? CONVO_EV_REASONING : CONVO_EV_TEXT,
                                           .choice = choice,
                                           .part = number,
                                           .text = text});
    return err ? err : emit_signature(d, choice, number, part);
}

static struct slice call_id(struct dialect_decoder *d, struct json call, char room[ID_BYTES])
{
    struct slice id = json_str(json_get(call, "id"));
    int n;

    if (id.n > 0)
        return id;
    n = snprintf(room, ID_BYTES, "call_%016llx",
                 (unsigned long long)(d->id_seed + (uint64_t)d->n_tools));
    return slice_of(room, n > 0 && (size_t)n < ID_BYTES ? (size_t)n : 0);
}

static enum gw_err take_call(struct dialect_decoder *d, unsigned choice, struct json part)
{
    struct json call = json_get(part, "functionCall"), args = json_get(call, "args");
    struct slice name = json_str(json_get(call, "name"));
    struct candidate *c = &d->candidates[choice];
    struct convo_event ev = {.choice = choice, .part = d->n_parts, .tool = d->n_tools};
    char room[ID_BYTES];
    enum gw_err err;

    if (name.n == 0)
        return GW_EUPBAD;
    ev.kind = CONVO_EV_TOOL_BEGIN;
    ev.id = call_id(d, call, room);
    ev.name = toolname_restore(d->names, name);
    ev.text = json_str(json_get(part, "thoughtSignature"));
    c->open = OPEN_NONE;
    c->n_tools++;
    d->n_parts++;
    d->n_tools++;
    err = emit(d, ev);
    if (err)
        return err;
    ev.kind = CONVO_EV_TOOL_ARGS;
    ev.id = ev.name = SLICE_NONE;
    ev.text = json_is(args, JSON_OBJECT) ? json_raw(args) : SLICE("{}");
    err = emit(d, ev);
    ev.kind = CONVO_EV_PART_END;
    ev.text = SLICE_NONE;
    return err ? err : emit(d, ev);
}

/* Code, files and what is not known yet; its kind is its first member that is not about thoughts.
 */
static enum gw_err take_other(struct dialect_decoder *d, unsigned choice, struct json part)
{
    struct slice kind = SLICE_NONE;

    for (struct json it = json_first(part); json_exists(it) && kind.n == 0;
         it = json_next(part, it))
        if (!slice_starts(json_key(it), "thought"))
            kind = json_key(it);
    if (kind.n == 0)
        return take_text(d, choice, part); /* perhaps a signature alone */
    d->candidates[choice].open = OPEN_NONE;
    return emit(d, (struct convo_event){.kind = CONVO_EV_OPAQUE,
                                        .choice = choice,
                                        .part = d->n_parts++,
                                        .name = kind,
                                        .text = json_raw(part)});
}

static enum gw_err take_part(struct dialect_decoder *d, unsigned choice, struct json part)
{
    if (!json_is(part, JSON_OBJECT))
        return GW_EUPBAD;
    if (json_is(json_get(part, "functionCall"), JSON_OBJECT))
        return take_call(d, choice, part);
    if (json_is(json_get(part, "text"), JSON_STRING))
        return take_text(d, choice, part);
    return take_other(d, choice, part);
}

/* --- candidates ---------------------------------------------------------------------------- */

/* What is said about the text beside it: sources and citations. */
static enum gw_err take_notes(struct dialect_decoder *d, unsigned choice, struct json candidate)
{
    static const char *const notes[] = {"citationMetadata", "groundingMetadata",
                                        "urlContextMetadata"};
    enum gw_err err = GW_OK;

    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]) && !err; i++) {
        struct json note = json_get(candidate, notes[i]);

        if (json_is(note, JSON_OBJECT) && json_count(note) > 0)
            err = emit(d, (struct convo_event){.kind = CONVO_EV_OPAQUE,
                                               .choice = choice,
                                               .part = d->candidates[choice].part,
                                               .name = slice_cstr(notes[i]),
                                               .text = json_raw(note)});
    }
    return err;
}

/* Probabilities belong to the frame's text; they go out with an empty piece of it. */
static enum gw_err take_probabilities(struct dialect_decoder *d, unsigned choice,
                                      struct json result)
{
    struct json_writer w;
    struct buf out;
    enum gw_err err;

    if (!json_is(result, JSON_OBJECT))
        return GW_OK;
    json_begin(&w, &out, EVENT_ARENA);
    put_probabilities(&w, result);
    err = buf_err(&out);
    if (!err)
        err = emit(d, (struct convo_event){.kind = CONVO_EV_TEXT,
                                           .choice = choice,
                                           .part = open_part(d, &d->candidates[choice], OPEN_TEXT),
                                           .raw = buf_slice(&out)});
    buf_deinit(&out);
    return err;
}

static enum gw_err take_candidate(struct dialect_decoder *d, struct json candidate, int64_t place)
{
    struct json parts = json_get(json_get(candidate, "content"), "parts");
    struct slice stop = json_str(json_get(candidate, "finishReason"));
    int64_t index = place;
    unsigned choice;
    enum gw_err err = GW_OK;

    if (!json_is(candidate, JSON_OBJECT))
        return GW_EUPBAD;
    json_int(json_get(candidate, "index"), &index);
    if (index < 0 || index >= (int64_t)MAX_CANDIDATES)
        return GW_EUPBAD;
    choice = (unsigned)index;
    d->candidates[choice].seen = true;
    for (struct json it = json_first(parts); json_exists(it) && !err; it = json_next(parts, it))
        err = take_part(d, choice, it);
    if (!err)
        err = take_probabilities(d, choice, json_get(candidate, "logprobsResult"));
    if (!err)
        err = take_notes(d, choice, candidate);
    if (!err && stop.n > 0)
        err = keep(d, stop, &d->candidates[choice].stop);
    return err;
}

/* --- frames -------------------------------------------------------------------------------- */

static enum gw_err take_error(struct dialect_decoder *d, struct json error)
{
    struct dialect_error e;

    d->failed = true;
    google_read_error(error, 0, &e);
    return emit(d, (struct convo_event){
                       .kind = CONVO_EV_ERROR, .err = e.err, .name = e.code, .text = e.message});
}

static enum gw_err take_frame(struct dialect_decoder *d, struct json frame)
{
    struct json candidates;
    struct slice blocked;
    int64_t place = 0;
    enum gw_err err;

    if (json_type(frame) == JSON_ARRAY) /* an error's way of coming */
        frame = json_first(frame);
    candidates = json_get(frame, "candidates");
    blocked = json_str(json_get(json_get(frame, "promptFeedback"), "blockReason"));
    if (!json_is(frame, JSON_OBJECT))
        return GW_EUPBAD;
    if (json_is(json_get(frame, "error"), JSON_OBJECT))
        return take_error(d, json_get(frame, "error"));
    err = emit_start(d, frame);
    for (struct json it = json_first(candidates); json_exists(it) && !err;
         it = json_next(candidates, it))
        err = take_candidate(d, it, place++);
    if (!err && blocked.n > 0)
        err = keep(d, blocked, &d->blocked);
    return err ? err : take_usage(d, json_get(frame, "usageMetadata"));
}

/* --- the end ------------------------------------------------------------------------------- */

enum convo_stop google_stop(struct slice word)
{
    static const struct {
        const char *word;
        enum convo_stop stop;
    } stops[] = {{"STOP", CONVO_STOP_DONE},
                 {"MAX_TOKENS", CONVO_STOP_LENGTH},
                 {"CONTINUATION", CONVO_STOP_LENGTH},
                 {"SAFETY", CONVO_STOP_FILTERED},
                 {"BLOCKLIST", CONVO_STOP_FILTERED},
                 {"PROHIBITED_CONTENT", CONVO_STOP_FILTERED},
                 {"SPII", CONVO_STOP_FILTERED},
                 {"RECITATION", CONVO_STOP_FILTERED},
                 {"IMAGE_SAFETY", CONVO_STOP_FILTERED},
                 {"IMAGE_PROHIBITED_CONTENT", CONVO_STOP_FILTERED},
                 {"IMAGE_RECITATION", CONVO_STOP_FILTERED}};

    for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
        if (slice_is(word, stops[i].word))
            return stops[i].stop;
    return CONVO_STOP_OTHER;
}

static enum convo_stop stop_of(const struct candidate *c)
{
    enum convo_stop stop = google_stop(c->stop);

    return stop == CONVO_STOP_DONE && c->n_tools > 0 ? CONVO_STOP_TOOLS : stop;
}

/* The answer is complete when each candidate that was seen told why it stopped. */
static bool is_complete(const struct dialect_decoder *d)
{
    bool any = false;

    for (unsigned i = 0; i < MAX_CANDIDATES; i++) {
        if (d->candidates[i].seen && d->candidates[i].stop.n == 0)
            return false;
        any |= d->candidates[i].seen;
    }
    return any || d->blocked.n > 0;
}

static enum gw_err finish(struct dialect_decoder *d)
{
    enum gw_err err = GW_OK;
    bool any = false;

    if (d->failed || !is_complete(d))
        return GW_OK;
    for (unsigned i = 0; i < MAX_CANDIDATES && !err; i++) {
        const struct candidate *c = &d->candidates[i];

        if (!c->seen)
            continue;
        any = true;
        err = emit(
            d, (struct convo_event){
                   .kind = CONVO_EV_FINISH, .choice = i, .stop = stop_of(c), .stop_raw = c->stop});
    }
    if (!err && !any)
        err = emit(d, (struct convo_event){.kind = CONVO_EV_FINISH,
                                           .stop = CONVO_STOP_FILTERED,
                                           .stop_raw = d->blocked});
    return err ? err : emit(d, (struct convo_event){.kind = CONVO_EV_END});
}

/* --- entry points -------------------------------------------------------------------------- */

struct dialect_decoder *google_decoder_new(struct arena *a, const struct convo *asked,
                                           const struct registry_model *m)
{
    struct dialect_decoder *d = arena_new(a, struct dialect_decoder);

    if (!d)
        return NULL;
    d->arena = a;
    d->id_seed = rng_u64();
    d->names = toolname_map_new(a, asked, TOOLNAME_LETTER_FIRST);
    return d->names ? d : NULL;
}

enum gw_err google_decode_answer(struct arena *a, const struct convo *asked,
                                 const struct registry_model *m, struct slice body,
                                 convo_event_fn fn, void *arg)
{
    unsigned before = arena_refusals(a);
    struct dialect_decoder *d = google_decoder_new(a, asked, m);
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
    if (!json_is(json_get(root, "candidates"), JSON_ARRAY) &&
        !json_is(json_get(root, "promptFeedback"), JSON_OBJECT))
        return GW_EUPBAD;
    err = take_frame(d, root);
    if (!err)
        err = finish(d);
    return dialect_end(a, before, err);
}

enum gw_err google_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                convo_event_fn fn, void *arg)
{
    struct json root;
    enum gw_err err;

    if (d->failed || ev->data.n == 0 || slice_is(ev->data, "[DONE]"))
        return GW_OK;
    d->event = arena_create(EVENT_ARENA);
    if (!d->event)
        return GW_ENOMEM;
    d->fn = fn;
    d->arg = arg;
    err = json_parse(d->event, ev->data, NULL, &root, NULL);
    if (err)
        err = err == GW_ENOMEM ? err : GW_EUPBAD;
    else
        err = dialect_end(d->event, 0, take_frame(d, root));
    d->event = arena_destroy(d->event);
    return err;
}

enum gw_err google_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg)
{
    d->fn = fn;
    d->arg = arg;
    return finish(d);
}
