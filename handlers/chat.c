/*
 * chat.c - a conversation goes to a provider, its answer comes back; streamed or whole, passed
 * through or translated.
 *
 *     begin --decoded, routed--> SCREEN --passed, allowed--> LOOK --nothing kept--> ADMIT
 *       '--refused--> (answered)   '--refused--> end           |      end <--refused--' |
 *                                                              |                        | held
 *          (replay.c) <--kept answer---------------------------'                        v
 *               ^--an identical one is under way-------------------------------------- CALL
 *                                                                                       |
 *                               end <--on_end-- (head out) <--on_live-------------------'
 *
 * struct chat lives in the request's arena and holds one reference on the request. chat_end() is
 * reached once, unless the request is handed over to a replay: by a refusal of ADMIT, by the call's
 * end or by the client leaving; it settles what ADMIT has reserved. At most one of `screening`,
 * `looking`, `admitting` and `call` is outstanding. Backpressure: a full client stream pauses the
 * call, the drained stream resumes it; not while others follow it (flight_runs_ahead).
 */
#include "handlers/chat.h"

#include "gateway/core/loop.h"
#include "handlers/chat_reuse.h"
#include "handlers/chat_screen.h"
#include "handlers/llm.h"

static void on_live(const struct provider_call_info *info, void *arg);
static enum gw_err on_event(const struct convo_event *ev, void *arg);
static void on_bytes(struct slice bytes, void *arg);
static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg);

static const struct provider_sink sink = {
    .on_live = on_live,
    .on_event = on_event,
    .on_bytes = on_bytes,
    .on_end = on_end,
};

/* Before the call is given up: what it has used. */
static void note_usage(struct chat *c)
{
    if (!c->call)
        return;
    c->info = provider_call_info(c->call);
    c->usage = *provider_call_usage(c->call);
    c->req->upstream_us = c->info->upstream_us;
}

/* Books what it used, once: before the end of the answer leaves, so that no client ever holds an
 * answer the ledger does not know, whenever this process is killed. */
static void settle(struct chat *c, enum gw_err err)
{
    struct admit_outcome out = {
        .err = err,
        .info = c->info,
        .usage = &c->usage,
        .cache = c->policy.look || c->policy.keep ? "miss" : "bypass",
    };

    if (!c->admission || c->settled)
        return;
    c->settled = true;
    admit_settle(c->req, c->admission, &c->ask, &out);
}

/* The only exit; `c` may be gone when this returns. */
static void chat_end(struct chat *c, enum gw_err err)
{
    struct request *req = c->req;

    note_usage(c);
    settle(c, err);
    op_cancel(&c->screening);
    op_cancel(&c->looking);
    op_cancel(&c->admitting);
    op_cancel(&c->call);
    request_on_abort(req, NULL, NULL);
    buf_deinit(&c->out);
    request_unref(req);
}

/* Somebody else answers the request, or has. */
static void chat_hand_over(struct chat *c)
{
    struct request *req = c->req;

    buf_deinit(&c->out);
    request_unref(req);
}

static void on_client_gone(struct request *req, void *arg)
{
    struct chat *c = arg;

    note_usage(c);
    chat_end(c, llm_client_gone(req, c->stream));
}

/* --- forms ------------------------------------------------------------------------------------ */

struct slice chat_model_shown(const struct chat *c, const struct convo_answer *ans)
{
    return ans->model.n ? ans->model : c->info->model->name;
}

void chat_dialect_answer(struct chat *c, const struct convo_answer *ans, struct buf *out)
{
    c->form->dialect->encode_answer(ans, chat_model_shown(c, ans), loop_wall_us() / 1000000, out);
}

enum gw_err chat_dialect_event(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    const struct dialect *d = c->form->dialect;

    if (!c->encoder)
        c->encoder =
            d->encoder_new(c->req->arena, c->convo, c->info->model->name, loop_wall_us() / 1000000);
    return c->encoder ? d->encode_event(c->encoder, ev, out) : GW_ENOMEM;
}

/* --- towards the client --------------------------------------------------------------------- */

static void on_drained(struct request *req, void *arg)
{
    struct chat *c = arg;

    if (c->call)
        provider_call_resume(c->call);
}

static void begin_stream(struct chat *c)
{
    struct stream_options opt = {
        .status = 200,
        .content_type = c->form->stream_type,
        .heartbeat = c->form->heartbeat,
        .heartbeat_us = (uint64_t)c->req->conf->stream_heartbeat_s * 1000000u,
        .on_drained = on_drained,
        .arg = c,
    };

    request_set_header(c->req, "Cache-Control", SLICE("no-cache"));
    request_set_header(c->req, "X-Accel-Buffering", SLICE("no"));
    c->stream = stream_begin(c->req, &opt);
}

static void send_bytes(struct chat *c, struct slice bytes)
{
    bool full = c->stream && bytes.n && !stream_write(c->stream, bytes);

    if (full && c->call && !flight_runs_ahead(c->flight))
        provider_call_pause(c->call);
}

/* Writes what c->out holds. */
static void send_out(struct chat *c)
{
    send_bytes(c, buf_slice(&c->out));
    buf_reset(&c->out);
}

static void answer_whole(struct chat *c, struct slice type, struct slice body)
{
    c->answered = true;
    chat_reuse_note(c);
    llm_set_headers(c->req, c->info, &c->usage);
    admit_set_headers(c->req, c->admission, c->info, &c->usage);
    settle(c, GW_OK);
    request_reply(c->req, 200, type, body);
}

/* --- from the provider ------------------------------------------------------------------------ */

static void on_live(const struct provider_call_info *info, void *arg)
{
    struct chat *c = arg;

    c->info = info;
    if (!c->convo->stream)
        return;
    llm_set_headers(c->req, info, NULL);
    begin_stream(c);
    if (!c->stream) /* it was answered instead: memory is short */
        chat_end(c, GW_ENOMEM);
}

static enum gw_err on_event(const struct convo_event *ev, void *arg)
{
    struct chat *c = arg;
    enum gw_err err;

    if (!c->convo->stream)
        return convo_builder_event(ev, c->builder);
    err = c->form->event(c, ev, &c->out);
    send_out(c);
    return err;
}

static void end_stream(struct chat *c, enum gw_err err, const struct dialect_error *vendor);

/* Bytes of a relayed stream. The chat is over, and `c` may be gone, when they cannot be framed. */
static void relay_bytes(struct chat *c, struct slice bytes)
{
    enum gw_err err;

    if (!c->form->relay) {
        send_bytes(c, bytes);
        return;
    }
    err = c->form->relay(c, bytes, &c->out);
    if (!err) {
        send_out(c);
        return;
    }
    note_usage(c);
    op_cancel(&c->call);
    end_stream(c, err, NULL);
    chat_end(c, err);
}

static void on_bytes(struct slice bytes, void *arg)
{
    struct chat *c = arg;

    if (c->convo->stream) {
        relay_bytes(c, bytes);
        return;
    }
    note_usage(c);
    answer_whole(c, c->info->content_type.n ? c->info->content_type : SLICE("application/json"),
                 bytes);
}

/* A stream that has begun ends: well, or with the error told in-band. */
static void end_stream(struct chat *c, enum gw_err err, const struct dialect_error *vendor)
{
    struct convo_event ev = {.kind = CONVO_EV_ERROR, .err = err};

    if (!err && c->form->relay) {
        err = ev.err = c->form->relay(c, SLICE_NONE, &c->out);
        if (!err)
            send_out(c);
    }
    if (!err) {
        settle(c, GW_OK);
        stream_end(c->stream);
        return;
    }
    ev.text = llm_error_text(err, NULL, vendor);
    buf_reset(&c->out);
    if (c->form->event(c, &ev, &c->out) == GW_OK)
        send_out(c);
    stream_end_failed(c->stream, err);
}

static void end_whole(struct chat *c)
{
    const struct convo_answer *ans = convo_builder_answer(c->builder);

    if (!ans) {
        request_fail(c->req, GW_ENOMEM, NULL);
        return;
    }
    c->form->answer(c, ans, &c->out);
    if (buf_err(&c->out))
        request_fail(c->req, GW_EUPBAD, NULL);
    else
        answer_whole(c, SLICE("application/json"), buf_slice(&c->out));
}

static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    struct chat *c = arg;

    c->call = NULL;
    c->info = info;
    c->usage = *usage;
    c->req->upstream_us = info->upstream_us;
    chat_reuse_note(c);
    if (c->stream)
        end_stream(c, err, vendor);
    else if (err)
        llm_fail(c->req, err, info, vendor);
    else if (!c->answered)
        end_whole(c);
    chat_end(c, err);
}

/* --- beginning -------------------------------------------------------------------------------- */

static bool chat_start_call(struct chat *c)
{
    struct request *req = c->req;
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = c->route,
        .convo = c->convo,
        .inbound = c->foreign ? NULL : c->form->dialect,
        .body = c->body,
        .pass_headers = c->pass_headers,
        .n_pass_headers = c->n_pass_headers,
        .decoded = &c->decoded,
        .strict = llm_is_strict(req),
        .deadline_us = req->deadline_us,
        .request_id = req->id,
        .traceparent = req->traceparent,
    };

    if (!c->convo->stream) {
        c->builder =
            convo_builder_new(req->arena, (size_t)req->conf->provider_max_response_mb << 20);
        if (!c->builder)
            return false;
    }
    c->call = provider_call(&call, &sink, c);
    return c->call != NULL;
}

/* A body we cannot read, but its providers may: it is new to us, not wrong. They are asked when the
 * bytes pass through to all of them; else `err` stands. False when the request has been answered.
 */
static bool chat_pass_unread(struct chat *c, enum gw_err err, const struct convo_report *why)
{
    struct convo_report rep = {0};
    bool is_content = err == GW_ESCHEMA || err == GW_EUNSUPPORTED;

    if (is_content && c->form->peek && c->form->peek(c, &rep) == GW_OK) {
        if (!llm_resolve(c->req, c->convo->model, c->body, &c->route))
            return false;
        if (registry_route_speaks(&c->route, c->form->dialect))
            return true;
    }
    llm_refuse(c->req, err, why);
    return false;
}

/* Reads, decodes and routes; false when the request has been answered. */
static bool chat_prepare(struct chat *c)
{
    enum gw_err err;

    if (!llm_parse_body(c->req, &c->body))
        return false;
    err = c->form->decode(c, &c->decoded);
    return err ? chat_pass_unread(c, err, &c->decoded)
               : llm_resolve(c->req, c->convo->model, c->body, &c->route);
}

static void on_admitted(struct admission *a, void *arg)
{
    struct chat *c = arg;

    c->admitting = NULL;
    c->admission = a;
    if (!a) {
        chat_end(c, GW_OK);
    } else if (chat_reuse_join(c) == REUSE_TAKEN) {
        admit_release(a);
        chat_hand_over(c);
    } else if (!chat_start_call(c)) {
        request_fail(c->req, GW_ENOMEM, NULL);
        chat_end(c, GW_ENOMEM);
    }
}

static void on_looked(struct chat *c, bool taken)
{
    if (taken) {
        chat_hand_over(c);
        return;
    }
    c->admitting = admit_begin(c->req, &c->ask, on_admitted, c);
    if (!c->admitting) {
        request_fail(c->req, GW_ENOMEM, NULL);
        chat_end(c, GW_ENOMEM);
    }
}

/* Leaves the targets the caller may use. */
static void on_screened(struct chat *c, bool passed)
{
    enum chat_reuse_step step;

    if (passed) {
        c->ask = admit_ask_chat(c->convo, c->req->body, &c->route);
        passed = admit_models(c->req, &c->ask);
    }
    if (!passed) {
        chat_end(c, GW_OK);
        return;
    }
    step = chat_reuse_look(c, on_looked);
    if (step != REUSE_LATER)
        on_looked(c, step == REUSE_TAKEN);
}

void chat_begin(struct request *req, const struct chat_form *form)
{
    enum chat_screen_step step;
    struct chat *c = arena_new(req->arena, struct chat);

    if (!c) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    c->req = req;
    c->form = form;
    /* escaping can double what the provider may send */
    buf_init(&c->out, (size_t)req->conf->provider_max_response_mb << 21);
    if (!chat_prepare(c))
        return;
    request_ref(req);
    request_on_abort(req, on_client_gone, c);
    step = chat_screen(c, on_screened);
    if (step != SCREEN_LATER)
        on_screened(c, step == SCREEN_PASSED);
}
