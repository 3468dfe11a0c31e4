/*
 * responses_client.c - answers towards clients of the Responses API: whole, and as a stream.
 *
 *     response.created, response.in_progress
 *     for each item: response.output_item.added, its parts and deltas, response.output_item.done
 *     response.completed | response.incomplete | response.failed, error
 *
 * At most one message or thought is open; calls may be open beside it, since OpenAI's models tell
 * parallel calls mixed. An item is done when another begins, when the provider says so, or at the
 * answer's finish: only then is it known whether it was cut off. A whole answer is the stream's
 * last response, made by the same events with nothing written (`quiet`).
 */
#include "gateway/core/rng.h"
#include "providers/dialect/responses_stream.h"

static void free_buf(void *obj)
{
    buf_deinit(obj);
}

static bool make_buf(struct dialect_encoder *e, struct buf *b)
{
    buf_init(b, e->max);
    return arena_defer(e->arena, free_buf, b);
}

static enum gw_err hold(struct dialect_encoder *e, size_t n)
{
    if (n > e->max - e->held)
        return GW_ETOOBIG;
    e->held += n;
    return GW_OK;
}

/* --- items ------------------------------------------------------------------------------------ */

static struct responses_item *item_new(struct dialect_encoder *e, enum responses_kind kind,
                                       unsigned part)
{
    struct responses_item *item = arena_new(e->arena, struct responses_item);

    if (!item || !make_buf(e, &item->text))
        return NULL;
    item->kind = kind;
    item->part = part;
    item->index = e->n_items++;
    item->status = "in_progress";
    if (e->last_item)
        e->last_item->next = item;
    else
        e->items = item;
    e->last_item = item;
    return item;
}

/* A reasoning item that says nothing, but brings something back. */
static enum gw_err add_sealed(struct dialect_encoder *e, const struct responses_seal *seal,
                              struct buf *out)
{
    struct responses_item *item;
    enum gw_err err = hold(e, seal->text.n + seal->signature.n + seal->id.n);

    if (err)
        return err;
    item = item_new(e, RESPONSES_REASONING, 0);
    if (!item)
        return GW_ENOMEM;
    item->sealed = item->done = true;
    item->seal = *seal;
    item->seal.id = arena_dup(e->arena, seal->id);
    item->seal.text = arena_dup(e->arena, seal->text);
    item->seal.signature = arena_dup(e->arena, seal->signature);
    if (!item->seal.id.p || !item->seal.text.p || !item->seal.signature.p)
        return GW_ENOMEM;
    responses_tell_item(e, "response.output_item.added", item, out);
    item->status = "completed";
    responses_tell_item(e, "response.output_item.done", item, out);
    return GW_OK;
}

static void close_piece(struct dialect_encoder *e, const struct responses_item *item,
                        struct buf *out)
{
    const struct responses_piece *p = item->last_piece;

    if (!p)
        return;
    if (responses_begin_part(e, p->refusal ? "response.refusal.done" : "response.output_text.done",
                             item, out)) {
        responses_put_member(out, p->refusal ? "refusal" : "text", buf_slice(&p->text));
        if (!p->refusal) {
            LIT(out, ",\"logprobs\":[");
            buf_add_slice(out, buf_slice(&p->logprobs));
            buf_add_char(out, ']');
        }
        responses_end(out);
    }
    responses_tell_piece(e, "response.content_part.done", item, out);
}

static void close_summary(struct dialect_encoder *e, const struct responses_item *item,
                          struct buf *out)
{
    struct slice text = buf_slice(&item->text);

    if (text.n == 0)
        return;
    if (responses_begin_part(e, "response.reasoning_summary_text.done", item, out)) {
        responses_put_member(out, "text", text);
        responses_end(out);
    }
    responses_tell_summary_part(e, "response.reasoning_summary_part.done", item, text, out);
}

/* A call without arguments has an empty object. */
static enum gw_err close_args(struct dialect_encoder *e, struct responses_item *item,
                              struct buf *out)
{
    if (item->text.n == 0) {
        buf_add_cstr(&item->text, "{}");
        responses_tell_args(e, item, SLICE("{}"), out);
    }
    if (responses_begin_of(e, "response.function_call_arguments.done", item, out)) {
        responses_put_member(out, "name", item->name);
        responses_put_member(out, "arguments", buf_slice(&item->text));
        responses_end(out);
    }
    return buf_err(&item->text);
}

/* What was learnt too late to be told in the item itself. */
static enum gw_err tell_late(struct dialect_encoder *e, const struct responses_item *item,
                             struct buf *out)
{
    struct responses_seal seal = {.id = item->call, .signature = item->late};

    seal.kind = SEAL_CALL;
    if (item->kind == RESPONSES_MESSAGE) {
        seal = (struct responses_seal){.signature = item->signature};
        seal.kind = SEAL_TEXT;
    }
    return seal.signature.n && item->kind != RESPONSES_REASONING ? add_sealed(e, &seal, out)
                                                                 : GW_OK;
}

static enum gw_err close_item(struct dialect_encoder *e, struct responses_item *item,
                              const char *status, struct buf *out)
{
    enum gw_err err = GW_OK;

    if (!item || item->done)
        return GW_OK;
    item->done = true;
    item->status = status;
    if (e->open == item)
        e->open = NULL;
    if (item->kind == RESPONSES_MESSAGE)
        close_piece(e, item, out);
    else if (item->kind == RESPONSES_REASONING)
        close_summary(e, item, out);
    else
        err = close_args(e, item, out);
    if (err)
        return err;
    responses_tell_item(e, "response.output_item.done", item, out);
    return tell_late(e, item, out);
}

static enum gw_err close_open(struct dialect_encoder *e, struct buf *out)
{
    return close_item(e, e->open, "completed", out);
}

/* Closing may add items; those are done already. */
static enum gw_err close_all(struct dialect_encoder *e, const char *status, struct buf *out)
{
    enum gw_err err = GW_OK;

    for (struct responses_item *i = e->items; i && !err; i = i->next)
        err = close_item(e, i, status, out);
    return err;
}

/* --- text and refusals ------------------------------------------------------------------------ */

static enum gw_err open_message(struct dialect_encoder *e, struct buf *out)
{
    enum gw_err err = close_open(e, out);

    if (err)
        return err;
    e->open = item_new(e, RESPONSES_MESSAGE, 0);
    if (!e->open)
        return GW_ENOMEM;
    responses_tell_item(e, "response.output_item.added", e->open, out);
    return GW_OK;
}

static enum gw_err open_piece(struct dialect_encoder *e, const struct convo_event *ev,
                              struct buf *out)
{
    struct responses_piece *p = arena_new(e->arena, struct responses_piece);
    struct responses_item *item = e->open;

    if (!p || !make_buf(e, &p->text) || !make_buf(e, &p->logprobs) || !make_buf(e, &p->annotations))
        return GW_ENOMEM;
    p->part = ev->part;
    p->refusal = ev->kind == CONVO_EV_REFUSAL;
    close_piece(e, item, out);
    if (item->last_piece)
        item->last_piece->next = p;
    else
        item->pieces = p;
    item->last_piece = p;
    item->n_pieces++;
    responses_tell_piece(e, "response.content_part.added", item, out);
    return GW_OK;
}

/* Only the last piece of a message may be signed, so that the signature finds it again. */
static enum gw_err find_piece(struct dialect_encoder *e, const struct convo_event *ev,
                              struct buf *out)
{
    struct responses_item *item = e->open;
    bool refusal = ev->kind == CONVO_EV_REFUSAL;
    enum gw_err err = GW_OK;

    if (item && item->kind == RESPONSES_MESSAGE && item->last_piece &&
        item->last_piece->part == ev->part && item->last_piece->refusal == refusal)
        return GW_OK;
    if (!item || item->kind != RESPONSES_MESSAGE || item->signature.n)
        err = open_message(e, out);
    return err ? err : open_piece(e, ev, out);
}

/* The elements of the log probabilities that came with a piece of text; none when they are of
 * another dialect. */
static enum gw_err logprobs_of(struct dialect_encoder *e, struct slice raw, struct slice *ret)
{
    struct json root, content;
    enum gw_err err = raw.n ? json_parse(e->arena, raw, NULL, &root, NULL) : GW_EBADJSON;

    *ret = SLICE_NONE;
    if (err)
        return err == GW_ENOMEM ? err : GW_OK;
    content = json_get(root, "content");
    if (json_is(content, JSON_ARRAY) && json_count(content) > 0)
        *ret = slice_of(json_raw(content).p + 1, json_raw(content).n - 2);
    return GW_OK;
}

static enum gw_err on_text(struct dialect_encoder *e, const struct convo_event *ev, struct buf *out)
{
    struct slice logprobs;
    struct responses_piece *p;
    enum gw_err err = hold(e, ev->text.n + ev->raw.n);

    if (ev->text.n == 0 && ev->raw.n == 0) {
        e->has_empty_part = true;
        e->empty_part = ev->part;
        return GW_OK;
    }
    if (!err)
        err = find_piece(e, ev, out);
    if (!err)
        err = logprobs_of(e, ev->raw, &logprobs);
    if (err)
        return err;
    p = e->open->last_piece;
    buf_add_slice(&p->text, ev->text);
    if (p->logprobs.n && logprobs.n)
        buf_add_char(&p->logprobs, ',');
    responses_put_raw(&p->logprobs, logprobs);
    if (responses_begin_part(e,
                             p->refusal ? "response.refusal.delta" : "response.output_text.delta",
                             e->open, out)) {
        responses_put_member(out, "delta", ev->text);
        if (!p->refusal) {
            LIT(out, ",\"logprobs\":[");
            responses_put_raw(out, logprobs);
            buf_add_char(out, ']');
        }
        responses_end(out);
    }
    return buf_err(&p->text) ? buf_err(&p->text) : buf_err(&p->logprobs);
}

/* --- thoughts --------------------------------------------------------------------------------- */

static enum gw_err open_thought(struct dialect_encoder *e, unsigned part, struct buf *out)
{
    enum gw_err err;

    if (e->open && e->open->kind == RESPONSES_REASONING && e->open->part == part)
        return GW_OK;
    err = close_open(e, out);
    if (err)
        return err;
    e->open = item_new(e, RESPONSES_REASONING, part);
    if (!e->open)
        return GW_ENOMEM;
    responses_tell_item(e, "response.output_item.added", e->open, out);
    return GW_OK;
}

static enum gw_err on_reasoning(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    enum gw_err err = hold(e, ev->text.n);

    if (!err)
        err = open_thought(e, ev->part, out);
    if (err || ev->text.n == 0)
        return err;
    if (e->open->text.n == 0)
        responses_tell_summary_part(e, "response.reasoning_summary_part.added", e->open, SLICE_NONE,
                                    out);
    buf_add_slice(&e->open->text, ev->text);
    if (responses_begin_part(e, "response.reasoning_summary_text.delta", e->open, out)) {
        responses_put_member(out, "delta", ev->text);
        responses_end(out);
    }
    return buf_err(&e->open->text);
}

static enum gw_err on_redacted(struct dialect_encoder *e, const struct convo_event *ev,
                               struct buf *out)
{
    struct responses_seal seal = {.text = ev->text};
    enum gw_err err = close_open(e, out);

    seal.kind = SEAL_REDACTED;
    return err ? err : add_sealed(e, &seal, out);
}

/* The call with that part number, the newest first to be asked for. */
static struct responses_item *call_of(struct dialect_encoder *e, unsigned part)
{
    struct responses_item *found = NULL;

    for (struct responses_item *i = e->items; i; i = i->next)
        if (i->kind == RESPONSES_CALL && i->part == part)
            found = i;
    return found;
}

static enum gw_err keep(struct dialect_encoder *e, struct slice text, struct slice *ret)
{
    enum gw_err err = hold(e, text.n);

    if (err)
        return err;
    *ret = arena_dup(e->arena, text);
    return ret->p ? GW_OK : GW_ENOMEM;
}

static enum gw_err on_signature(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    struct responses_item *item = e->open, *call = call_of(e, ev->part);
    struct responses_seal seal = {.signature = ev->text};
    enum gw_err err;

    if (item && item->kind == RESPONSES_MESSAGE && item->last_piece->part == ev->part)
        return keep(e, ev->text, &item->signature);
    if (call && !call->done)
        return keep(e, ev->text, &call->late);
    if (call || (e->has_empty_part && e->empty_part == ev->part)) {
        seal.kind = call ? SEAL_CALL : SEAL_TEXT;
        seal.id = call ? call->call : SLICE_NONE;
        err = close_open(e, out);
        return err ? err : add_sealed(e, &seal, out);
    }
    err = open_thought(e, ev->part, out); /* perhaps a signature without a text */
    return err ? err : keep(e, ev->text, &e->open->signature);
}

/* --- calls and the rest ----------------------------------------------------------------------- */

static enum gw_err on_tool_begin(struct dialect_encoder *e, const struct convo_event *ev,
                                 struct buf *out)
{
    struct responses_item *item;
    enum gw_err err = close_open(e, out);

    if (err)
        return err;
    item = item_new(e, RESPONSES_CALL, ev->part);
    if (!item)
        return GW_ENOMEM;
    err = keep(e, ev->id, &item->call);
    if (!err)
        err = keep(e, ev->name, &item->name);
    if (!err)
        err = keep(e, ev->text, &item->signature);
    if (!err)
        responses_tell_item(e, "response.output_item.added", item, out);
    return err;
}

static enum gw_err on_tool_args(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out)
{
    struct responses_item *item = e->last_item;
    enum gw_err err = hold(e, ev->text.n);

    if (!item || item->kind != RESPONSES_CALL || item->part != ev->part)
        item = call_of(e, ev->part);
    if (err || !item || item->done)
        return err ? err : GW_EINTERNAL;
    if (ev->text.n == 0)
        return GW_OK;
    buf_add_slice(&item->text, ev->text);
    responses_tell_args(e, item, ev->text, out);
    return buf_err(&item->text);
}

/* Text may go on in a part of its own, so a message stays open. */
static enum gw_err on_part_end(struct dialect_encoder *e, unsigned part, struct buf *out)
{
    if (e->open && e->open->kind == RESPONSES_REASONING && e->open->part == part)
        return close_open(e, out);
    return close_item(e, call_of(e, part), "completed", out);
}

/* The chat form of a citation has its members one level deeper. */
static void put_annotation(struct buf *out, struct json v)
{
    struct json inner = json_get(v, "url_citation");

    if (!json_is(inner, JSON_OBJECT) || json_count(inner) == 0) {
        responses_put_raw(out, json_raw(v));
        return;
    }
    LIT(out, "{\"type\":\"url_citation\",");
    responses_put_raw(out, slice_from(json_raw(inner), 1));
}

static enum gw_err on_annotations(struct dialect_encoder *e, struct json list, struct buf *out)
{
    struct responses_item *item = e->open;
    struct responses_piece *p = item->last_piece;

    for (struct json v = json_first(list); json_exists(v); v = json_next(list, v)) {
        if (p->annotations.n)
            buf_add_char(&p->annotations, ',');
        put_annotation(&p->annotations, v);
        if (responses_begin_part(e, "response.output_text.annotation.added", item, out)) {
            LIT(out, ",\"annotation_index\":");
            buf_add_u64(out, p->n_annotations);
            LIT(out, ",\"annotation\":");
            put_annotation(out, v);
            responses_end(out);
        }
        p->n_annotations++;
    }
    return buf_err(&p->annotations);
}

static enum gw_err on_opaque(struct dialect_encoder *e, const struct convo_event *ev,
                             struct buf *out)
{
    bool in_text = e->open && e->open->kind == RESPONSES_MESSAGE && !e->open->last_piece->refusal;
    struct slice raw;
    struct json root;
    enum gw_err err = keep(e, ev->text, &raw);

    if (!err && in_text && slice_is(ev->name, "annotations")) {
        err = json_parse(e->arena, raw, NULL, &root, NULL);
        if (!err && json_is(root, JSON_ARRAY))
            return on_annotations(e, root, out);
        err = err == GW_ENOMEM ? err : GW_OK;
    }
    if (err)
        return err;
    if (e->opaque.n)
        buf_add_char(&e->opaque, ',');
    LIT(&e->opaque, "{\"kind\":");
    responses_put_string(&e->opaque, ev->name);
    LIT(&e->opaque, ",\"value\":");
    responses_put_raw(&e->opaque, raw);
    buf_add_char(&e->opaque, '}');
    return buf_err(&e->opaque);
}

static enum gw_err on_finish(struct dialect_encoder *e, const struct convo_event *ev,
                             struct buf *out)
{
    enum gw_err err = keep(e, ev->stop_raw, &e->stop_raw);

    e->stop = ev->stop;
    return err ? err : close_all(e, responses_cut_word(ev->stop) ? "incomplete" : "completed", out);
}

/* --- the stream ------------------------------------------------------------------------------- */

struct dialect_encoder *responses_encoder_new(struct arena *a, struct json asked,
                                              struct slice model_shown, uint64_t wall_s,
                                              size_t max_bytes)
{
    struct dialect_encoder *e = arena_new(a, struct dialect_encoder);
    struct buf echo;

    if (!e)
        return NULL;
    e->arena = a;
    e->model = model_shown;
    e->created = wall_s;
    e->max = max_bytes;
    buf_init(&echo, json_raw(asked).n + 4096);
    responses_put_settings(&echo, asked);
    e->echo = buf_err(&echo) ? SLICE_NONE : arena_dup(a, buf_slice(&echo));
    buf_deinit(&echo);
    return e->echo.p && make_buf(e, &e->opaque) ? e : NULL;
}

/* Fixes the id with the first event. */
static enum gw_err start(struct dialect_encoder *e, struct slice id, struct buf *out)
{
    char hex[32];
    struct buf b;

    if (e->id.n)
        return GW_OK;
    buf_init(&b, 65536);
    if (id.n) {
        json_escape(&b, slice_starts(id, "resp_") ? slice_from(id, 5) : id);
    } else {
        rng_hex(hex, sizeof(hex) / 2);
        buf_add(&b, hex, sizeof(hex));
    }
    e->id = buf_err(&b) ? SLICE_NONE : arena_dup(e->arena, buf_slice(&b));
    buf_deinit(&b);
    if (e->id.n == 0)
        return GW_ENOMEM;
    responses_tell(e, "response.created", "in_progress", NULL, out);
    responses_tell(e, "response.in_progress", "in_progress", NULL, out);
    return GW_OK;
}

static enum gw_err on_error(struct dialect_encoder *e, const struct convo_event *ev,
                            struct buf *out)
{
    const struct err_info *info = err_info(ev->err ? ev->err : GW_EUPSTREAM);
    struct convo_event error = *ev;

    e->over = true;
    if (error.text.n == 0)
        error.text = slice_cstr(info->title);
    for (struct responses_item *i = e->items; i; i = i->next)
        if (!i->done)
            i->status = "incomplete";
    responses_tell(e, "response.failed", "failed", &error, out);
    if (!responses_begin(e, "error", out))
        return GW_OK;
    responses_put_member(out, "code", slice_cstr(info->slug));
    responses_put_member(out, "message", error.text);
    LIT(out, ",\"param\":null,\"error\":{\"type\":");
    responses_put_string(out, slice_cstr(info->openai_type));
    responses_put_member(out, "code", slice_cstr(info->slug));
    responses_put_member(out, "message", error.text);
    LIT(out, ",\"param\":null}");
    responses_end(out);
    return GW_OK;
}

static void on_end(struct dialect_encoder *e, struct buf *out)
{
    e->over = true;
    if (responses_cut_word(e->stop))
        responses_tell(e, "response.incomplete", "incomplete", NULL, out);
    else
        responses_tell(e, "response.completed", "completed", NULL, out);
}

static enum gw_err on_content(struct dialect_encoder *e, const struct convo_event *ev,
                              struct buf *out)
{
    switch (ev->kind) {
    case CONVO_EV_TEXT:
    case CONVO_EV_REFUSAL:
        return on_text(e, ev, out);
    case CONVO_EV_REASONING:
        return on_reasoning(e, ev, out);
    case CONVO_EV_SIGNATURE:
        return on_signature(e, ev, out);
    case CONVO_EV_REDACTED:
        return on_redacted(e, ev, out);
    case CONVO_EV_TOOL_BEGIN:
        return on_tool_begin(e, ev, out);
    case CONVO_EV_TOOL_ARGS:
        return on_tool_args(e, ev, out);
    case CONVO_EV_PART_END:
        return on_part_end(e, ev->part, out);
    case CONVO_EV_OPAQUE:
        return on_opaque(e, ev, out);
    case CONVO_EV_FINISH:
        return on_finish(e, ev, out);
    case CONVO_EV_USAGE:
        e->usage = ev->usage;
        return GW_OK;
    case CONVO_EV_ERROR:
        return on_error(e, ev, out);
    case CONVO_EV_END:
        on_end(e, out);
        return GW_OK;
    default:
        return GW_OK;
    }
}

enum gw_err responses_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                   struct buf *out)
{
    enum gw_err err;

    if (e->over || ev->kind == CONVO_EV_PING || ev->choice > 0) /* one answer is all there is */
        return GW_OK;
    err = start(e, ev->kind == CONVO_EV_START ? ev->id : SLICE_NONE, out);
    if (!err)
        err = on_content(e, ev, out);
    return err ? err : buf_err(out);
}

/* --- a whole answer --------------------------------------------------------------------------- */

static enum gw_err replay(struct dialect_encoder *e, const struct convo_out_part *p,
                          struct slice logprobs, struct buf *out)
{
    static const enum convo_event_kind kinds[] = {
        [CONVO_TEXT] = CONVO_EV_TEXT,           [CONVO_REFUSAL] = CONVO_EV_REFUSAL,
        [CONVO_REASONING] = CONVO_EV_REASONING, [CONVO_REDACTED] = CONVO_EV_REDACTED,
        [CONVO_TOOL_CALL] = CONVO_EV_TOOL_ARGS, [CONVO_OPAQUE] = CONVO_EV_OPAQUE,
    };
    struct convo_event ev = {.choice = p->choice, .part = p->part};
    enum gw_err err = GW_OK;

    if (p->kind == CONVO_TOOL_CALL) {
        ev.kind = CONVO_EV_TOOL_BEGIN;
        ev.id = p->id;
        ev.name = p->name;
        ev.text = p->signature;
        err = responses_encode_event(e, &ev, out);
    }
    ev.kind = kinds[p->kind];
    ev.name = p->name;
    ev.text = p->text;
    ev.raw = p->kind == CONVO_TEXT ? logprobs : SLICE_NONE;
    if (!err)
        err = responses_encode_event(e, &ev, out);
    if (err || p->kind == CONVO_TOOL_CALL || p->signature.n == 0)
        return err;
    ev.kind = CONVO_EV_SIGNATURE;
    ev.text = p->signature;
    return responses_encode_event(e, &ev, out);
}

enum gw_err responses_encode_answer(struct arena *a, struct json asked,
                                    const struct convo_answer *ans, struct slice model_shown,
                                    uint64_t wall_s, struct buf *out)
{
    struct dialect_encoder *e = responses_encoder_new(a, asked, model_shown, wall_s, out->max);
    struct convo_event ev = {.kind = CONVO_EV_START, .id = ans->id};
    struct slice logprobs = ans->finish[0].logprobs;
    enum gw_err err;

    if (!e)
        return GW_ENOMEM;
    e->quiet = true;
    err = responses_encode_event(e, &ev, out);
    for (const struct convo_out_part *p = ans->parts; p && !err; p = p->next) {
        err = replay(e, p, logprobs, out);
        if (p->kind == CONVO_TEXT && p->choice == 0)
            logprobs = SLICE_NONE; /* they are joined over the whole answer */
    }
    ev = (struct convo_event){
        .kind = CONVO_EV_FINISH, .stop = ans->finish[0].stop, .stop_raw = ans->finish[0].raw};
    if (!err)
        err = responses_encode_event(e, &ev, out);
    if (err)
        return err;
    e->usage = ans->usage;
    responses_put(e, responses_cut_word(e->stop) ? "incomplete" : "completed", NULL, out);
    return buf_err(out);
}
