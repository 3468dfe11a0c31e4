/*
 * provider_answer.c - reads what a provider sends back: whole or streamed, translated or passed
 * through. Nothing reaches the sink before the first good event; what came before it is held: of a
 * translated stream START and USAGE, of a passed one the bytes.
 */
#include "providers/provider_private.h"

#define MAX_EVENT_BYTES (1u << 20)
#define MAX_HELD_BYTES (1u << 20)
#define MAX_ERROR_BYTES 65536u
#define END_GRACE_US                                                                               \
    1000000u /* after the terminal event, for the connection to become reusable                    \
              */
#define SCRATCH_BYTES (4u << 20)
#define MAX_RAW_USAGE 2048u /* of the vendor's usage object; a longer one is not kept */

static enum gw_err on_sse(const struct sse_event *ev, void *arg);

static bool is_good(const struct provider_call *c)
{
    return c->answer.status >= 200 && c->answer.status < 300;
}

void provider_answer_reset(struct provider_call *c)
{
    struct provider_answer *a = &c->answer;

    provider_answer_release(c);
    *a = (struct provider_answer){0};
    buf_init(&a->body, (size_t)c->req.conf->provider_max_response_mb << 20);
    buf_init(&a->held, MAX_HELD_BYTES);
    c->usage = (struct convo_usage){0};
    c->info.output_bytes = 0;
    c->info.odd_end = false;
}

void provider_answer_release(struct provider_call *c)
{
    struct provider_answer *a = &c->answer;

    buf_deinit(&a->body);
    buf_deinit(&a->held);
    if (a->sse_ready)
        sse_deinit(&a->sse);
    a->sse_ready = false;
    a->scratch = arena_destroy(a->scratch);
}

void provider_answer_head(struct provider_call *c, const struct transport_head *head)
{
    struct provider_answer *a = &c->answer;

    a->status = head->status;
    c->info.content_type = arena_dup(c->req.arena, head->content_type);
    if (!retry_parse_after(head->retry_after, loop_wall_us() / 1000000u, &a->retry_after_us))
        a->retry_after_us = 0;
    if (!is_good(c) || !c->stream)
        return;
    sse_init(&a->sse, MAX_EVENT_BYTES, on_sse, c);
    a->sse_ready = true;
    if (!c->info.passed_through)
        a->decoder = c->model->provider->dialect->decoder_new(c->req.arena, c->req.convo, c->model);
}

/* --- usage ------------------------------------------------------------------------------------ */

/* Room for n bytes, used again for the next usage of a stream; NULL when there is none. */
static char *raw_room(struct provider_call *c, struct provider_raw *to, size_t n)
{
    if (n > to->cap) {
        to->p = arena_bytes(c->req.arena, n + n / 2);
        to->cap = to->p ? n + n / 2 : 0;
    }
    return to->p;
}

/* The first part stays as it is: it may be what lies in c->raw. */
static struct slice keep_first(struct provider_call *c, struct slice first)
{
    char *p;

    if (first.n == 0 || first.n > MAX_RAW_USAGE)
        return SLICE_NONE;
    if (first.p == c->raw_first.p)
        return first;
    p = raw_room(c, &c->raw_first, first.n);
    if (!p)
        return SLICE_NONE;
    memcpy(p, first.p, first.n);
    return slice_of(p, first.n);
}

/* `last` alone, or "[first,last]". */
static struct slice keep_raw(struct provider_call *c, struct slice first, struct slice last)
{
    size_t n = last.n + (first.n ? first.n + 3 : 0);
    char *p, *to;

    if (last.n == 0 || last.n > MAX_RAW_USAGE)
        return SLICE_NONE;
    p = to = raw_room(c, &c->raw, n);
    if (!p)
        return SLICE_NONE;
    if (!first.n) {
        memmove(p, last.p, last.n);
        return slice_of(p, n);
    }
    *to++ = '[';
    memcpy(to, first.p, first.n);
    to += first.n;
    *to++ = ',';
    memcpy(to, last.p, last.n);
    to[last.n] = ']';
    return slice_of(p, n);
}

/* What was told of usage; its texts are copied. */
static void take_usage(struct provider_call *c, const struct convo_usage *u)
{
    c->usage = *u;
    c->usage.raw_first = keep_first(c, u->raw_first);
    c->usage.raw = keep_raw(c, c->usage.raw_first, u->raw);
}

/* --- what the provider says went wrong ------------------------------------------------------ */

static enum gw_err vendor_error(struct provider_call *c, enum gw_err err, struct slice message)
{
    struct provider_answer *a = &c->answer;

    a->has_vendor = true;
    a->vendor = (struct dialect_error){
        .err = err ? err : GW_EUPSTREAM,
        .status = err_info(err ? err : GW_EUPSTREAM)->status,
        .message = arena_dup(c->req.arena, message),
    };
    return a->vendor.err;
}

/* A complete answer whose status is not 2xx. */
static enum gw_err read_error(struct provider_call *c)
{
    struct provider_answer *a = &c->answer;

    if (a->status < 400)
        return GW_EUPSTREAM; /* a redirect is never followed */
    /* what it finds may point into the body, and must last until on_end */
    c->model->provider->dialect->decode_error(
        c->req.arena, a->status, arena_dup(c->req.arena, buf_slice(&a->body)), &a->vendor);
    if (a->vendor.err == GW_OK)
        a->vendor.err = GW_EUPSTREAM;
    a->has_vendor = true;
    return a->vendor.err;
}

/* --- translated answers ----------------------------------------------------------------------- */

static bool is_good_event(enum convo_event_kind kind)
{
    switch (kind) {
    case CONVO_EV_START:
    case CONVO_EV_PART_END:
    case CONVO_EV_USAGE:
    case CONVO_EV_PING:
    case CONVO_EV_ERROR:
        return false;
    default:
        return true;
    }
}

/* What the model wrote in this event. */
static size_t written_bytes(const struct convo_event *ev)
{
    switch (ev->kind) {
    case CONVO_EV_TEXT:
    case CONVO_EV_REFUSAL:
    case CONVO_EV_REASONING:
    case CONVO_EV_TOOL_ARGS:
        return ev->text.n;
    case CONVO_EV_TOOL_BEGIN:
        return ev->name.n;
    default:
        return 0;
    }
}

/* Usage is given as it was kept, since its texts outlive the event. */
static enum gw_err give_event(struct provider_call *c, const struct convo_event *ev)
{
    struct convo_event kept = *ev;
    enum gw_err err;

    c->info.output_bytes += written_bytes(ev);
    c->info.odd_end |= ev->kind == CONVO_EV_FINISH && !convo_stop_is_ordinary(ev->stop);
    if (ev->kind == CONVO_EV_USAGE)
        kept.usage = c->usage;
    err = c->sink->on_event(&kept, c->arg);
    if (c->dead)
        return GW_EGONECLIENT;
    return err == GW_ETOOBIG ? GW_EUPBAD : err;
}

/* Slices of an event die with its call; START is kept until the stream is live. */
static void hold_event(struct provider_call *c, const struct convo_event *ev)
{
    struct provider_answer *a = &c->answer;

    if (ev->kind == CONVO_EV_USAGE)
        a->has_usage = true;
    if (ev->kind != CONVO_EV_START || a->has_start)
        return;
    a->has_start = true;
    a->start = *ev;
    a->start.id = arena_dup(c->req.arena, ev->id);
    a->start.model = arena_dup(c->req.arena, ev->model);
    a->start.raw = arena_dup(c->req.arena, ev->raw);
    a->start.text = arena_dup(c->req.arena, ev->text);
    a->start.name = arena_dup(c->req.arena, ev->name);
}

static enum gw_err give_held_events(struct provider_call *c)
{
    struct provider_answer *a = &c->answer;
    struct convo_event usage = {.kind = CONVO_EV_USAGE, .usage = c->usage};
    enum gw_err err = GW_OK;

    if (a->has_start)
        err = give_event(c, &a->start);
    if (!err && a->has_usage)
        err = give_event(c, &usage);
    return err;
}

/* A convo_event_fn: what the dialect makes of the answer. */
static enum gw_err on_event(const struct convo_event *ev, void *arg)
{
    struct provider_call *c = arg;
    struct provider_answer *a = &c->answer;
    enum gw_err err;

    if (a->ended)
        return GW_OK;
    if (ev->kind == CONVO_EV_ERROR)
        return vendor_error(c, ev->err, ev->text);
    if (ev->kind == CONVO_EV_USAGE)
        take_usage(c, &ev->usage);
    if (!a->live) {
        if (!is_good_event(ev->kind)) {
            hold_event(c, ev);
            return GW_OK;
        }
        err = provider_go_live(c);
        if (!err)
            err = give_held_events(c);
        if (err)
            return err;
    }
    a->ended = ev->kind == CONVO_EV_END;
    return give_event(c, ev);
}

/* The first reading of a whole answer: is it one, does it end, what does it cost? */
static enum gw_err on_event_checked(const struct convo_event *ev, void *arg)
{
    struct provider_call *c = arg;

    if (ev->kind == CONVO_EV_ERROR)
        return vendor_error(c, ev->err, ev->text);
    if (ev->kind == CONVO_EV_USAGE)
        take_usage(c, &ev->usage);
    c->answer.ended |= ev->kind == CONVO_EV_END;
    return GW_OK;
}

static enum gw_err on_event_given(const struct convo_event *ev, void *arg)
{
    return give_event(arg, ev);
}

static enum gw_err read_translated(struct provider_call *c)
{
    const struct dialect *d = c->model->provider->dialect;
    struct slice body = buf_slice(&c->answer.body);
    enum gw_err err =
        d->decode_answer(c->req.arena, c->req.convo, c->model, body, on_event_checked, c);

    if (!err && !c->answer.ended)
        err = GW_EUPBAD;
    if (!err)
        err = provider_go_live(c);
    if (!err)
        err = d->decode_answer(c->req.arena, c->req.convo, c->model, body, on_event_given, c);
    return err;
}

/* --- passed-through answers ------------------------------------------------------------------- */

static enum gw_err give_bytes(struct provider_call *c, struct slice bytes)
{
    if (bytes.n)
        c->sink->on_bytes(bytes, c->arg);
    return c->dead ? GW_EGONECLIENT : GW_OK;
}

/* True when the bytes lie in the present feed, and so stay until its end. */
static bool is_in_feed(const struct provider_call *c, struct slice raw)
{
    struct slice fed = c->answer.fed;

    return raw.n && fed.n && raw.p >= fed.p && raw.p + raw.n <= fed.p + fed.n;
}

/* Events that follow each other in what was fed leave as one piece. */
static enum gw_err flush_span(struct provider_call *c)
{
    struct slice span = c->answer.span;

    c->answer.span = SLICE_NONE;
    return give_bytes(c, span);
}

static enum gw_err relay(struct provider_call *c, const struct sse_event *ev)
{
    struct provider_answer *a = &c->answer;
    struct buf rebuilt;
    enum gw_err err;

    if (is_in_feed(c, ev->raw) && a->span.n && a->span.p + a->span.n == ev->raw.p) {
        a->span.n += ev->raw.n;
        return GW_OK;
    }
    err = flush_span(c);
    if (err)
        return err;
    if (is_in_feed(c, ev->raw)) {
        a->span = ev->raw;
        return GW_OK;
    }
    if (ev->raw.n)
        return give_bytes(c, ev->raw);
    buf_init(&rebuilt, 2 * MAX_EVENT_BYTES);
    sse_write(&rebuilt, ev->type, ev->data);
    err = buf_err(&rebuilt);
    if (!err)
        err = give_bytes(c, buf_slice(&rebuilt));
    buf_deinit(&rebuilt);
    return err;
}

static enum gw_err hold_bytes(struct provider_call *c, const struct sse_event *ev)
{
    if (ev->raw.n)
        buf_add_slice(&c->answer.held, ev->raw);
    else
        sse_write(&c->answer.held, ev->type, ev->data);
    return buf_err(&c->answer.held) == GW_ETOOBIG ? GW_EUPBAD : buf_err(&c->answer.held);
}

static enum gw_err give_held_bytes(struct provider_call *c)
{
    enum gw_err err = give_bytes(c, buf_slice(&c->answer.held));

    buf_deinit(&c->answer.held);
    return err;
}

static enum gw_err pass_event(struct provider_call *c, const struct sse_event *ev)
{
    struct provider_answer *a = &c->answer;
    const struct dialect *d = c->model->provider->dialect;
    struct dialect_pass_info info = {.usage = c->usage};
    enum gw_err err;

    if (!a->scratch)
        a->scratch = arena_create(SCRATCH_BYTES);
    if (!a->scratch)
        return GW_ENOMEM;
    err = d->pass_event(ev->data, a->scratch, &info);
    if (err)
        return err;
    if (info.error)
        return vendor_error(c, GW_EUPSTREAM, info.text);
    if (info.has_usage)
        take_usage(c, &info.usage);
    if (info.usage_only && !c->req.convo->include_usage)
        return GW_OK;
    if (!a->live && !info.has_content && !info.finish && !info.done)
        return hold_bytes(c, ev);
    if (!a->live) {
        err = provider_go_live(c);
        if (!err)
            err = give_held_bytes(c);
        if (err)
            return err;
    }
    a->ended |= info.done;
    a->finished |= d->ends_on_finish && info.finish;
    c->info.output_bytes += info.content_bytes;
    c->info.odd_end |= info.odd_end;
    return relay(c, ev);
}

/* Counted tokens: one object, whose members are the vendor's business. */
static enum gw_err check_count(struct provider_call *c, struct slice body)
{
    struct json root;
    enum gw_err err = json_parse(c->req.arena, body, NULL, &root, NULL);

    if (err == GW_ENOMEM)
        return err;
    return !err && json_is(root, JSON_OBJECT) ? GW_OK : GW_EUPBAD;
}

static enum gw_err read_passed(struct provider_call *c)
{
    struct slice body = buf_slice(&c->answer.body);
    struct dialect_pass_info info = {.done = false};
    enum gw_err err = c->req.count
                          ? check_count(c, body)
                          : c->model->provider->dialect->pass_answer(c->req.arena, body, &info);

    if (!err) {
        take_usage(c, &info.usage);
        c->info.odd_end = info.odd_end;
        err = provider_go_live(c);
    }
    if (err)
        return err;
    c->answer.ended = true;
    c->info.output_bytes = body.n;
    return give_bytes(c, body);
}

/* --- embeddings ------------------------------------------------------------------------------- */

static enum gw_err read_embeddings(struct provider_call *c)
{
    struct dialect_embed_answer ans = {0};
    enum gw_err err =
        c->model->provider->dialect->decode_embed(c->req.arena, buf_slice(&c->answer.body), &ans);

    if (err)
        return err;
    take_usage(c, &ans.usage);
    err = provider_go_live(c);
    if (err)
        return err;
    c->answer.ended = true;
    c->sink->on_embed(&ans, c->arg);
    return c->dead ? GW_EGONECLIENT : GW_OK;
}

/* --- streams and the end ---------------------------------------------------------------------- */

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct provider_call *c = arg;
    struct provider_answer *a = &c->answer;
    bool was_ended = a->ended;
    enum gw_err err;

    if (was_ended)
        return GW_OK;
    if (c->info.passed_through)
        err = pass_event(c, ev);
    else
        err = c->model->provider->dialect->decode_event(a->decoder, ev, on_event, c);
    if (!err && a->ended && c->transfer)
        transport_set_deadline(c->transfer, loop_now_us() + END_GRACE_US);
    return err;
}

/* What was relayed of this feed goes out whatever came after it; the first error counts. */
static enum gw_err end_feed(struct provider_call *c, enum gw_err err)
{
    enum gw_err flushed = GW_OK;

    if (!c->dead)
        flushed = flush_span(c);
    c->answer.scratch = arena_destroy(c->answer.scratch);
    return err ? err : flushed;
}

enum gw_err provider_answer_data(struct provider_call *c, struct slice bytes)
{
    struct provider_answer *a = &c->answer;
    enum gw_err err;

    if (a->ended)
        return GW_OK;
    if (a->sse_ready) {
        if (!c->info.passed_through && !a->decoder)
            return GW_ENOMEM;
        a->fed = bytes;
        err = end_feed(c, sse_feed(&a->sse, bytes));
        a->fed = SLICE_NONE;
        return err == GW_ETOOBIG ? GW_EUPBAD : err;
    }
    if (!is_good(c) && bytes.n > MAX_ERROR_BYTES - a->body.n)
        bytes.n = MAX_ERROR_BYTES - a->body.n;
    buf_add_slice(&a->body, bytes);
    return buf_err(&a->body) == GW_ETOOBIG ? GW_EUPBAD : buf_err(&a->body);
}

static enum gw_err end_stream(struct provider_call *c)
{
    struct provider_answer *a = &c->answer;
    enum gw_err err;

    if (!c->info.passed_through && !a->decoder)
        return GW_ENOMEM;
    err = end_feed(c, sse_finish(&a->sse));
    if (!err && !a->ended && !c->info.passed_through)
        err = c->model->provider->dialect->decode_end(a->decoder, on_event, c);
    a->ended |= a->finished; /* nothing else tells the end of such a stream than its closing */
    if (err)
        return err == GW_ETOOBIG ? GW_EUPBAD : err;
    return a->ended ? GW_OK : GW_EUPSTREAM;
}

enum gw_err provider_answer_end(struct provider_call *c, enum gw_err err)
{
    if (c->answer.ended)
        return GW_OK; /* whatever became of the connection after it */
    if (err)
        return err;
    if (!is_good(c))
        return read_error(c);
    if (c->stream)
        return end_stream(c);
    if (c->req.embed)
        return read_embeddings(c);
    return c->info.passed_through ? read_passed(c) : read_translated(c);
}
