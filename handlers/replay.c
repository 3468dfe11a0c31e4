/*
 * replay.c - see replay.h.
 *
 *     WAITING (for a head) --> STREAMING --> end            or, for a whole answer, WAITING --> end
 *
 * One flow for both sources: bytes from `at` on are written as far as the client takes them, then
 * it waits for the client or for the source. struct replay lives in the request's arena and holds
 * one reference on the request; replay_end() is reached once.
 */
#include "handlers/replay.h"

#include "gateway/core/metrics.h"
#include "gateway/http/stream.h"
#include "handlers/llm.h"

#define PIECE_BYTES 16384u

struct replay {
    struct request *req; /* counted */
    struct replay_form form;
    struct blob *blob; /* counted, or NULL */
    struct flight_follower follower;
    struct kept kept; /* of a blob */
    struct stream *stream;
    size_t at; /* bytes written */
    bool full; /* the client must read first */
    bool told; /* form.over has been called */
    bool ended;
    struct loop_deferred going;
};

static void go_on(struct replay *r);

/* --- the source ------------------------------------------------------------------------------ */

static const struct kept *kept_of(const struct replay *r)
{
    return r->blob ? &r->kept : flight_kept(r->follower.flight);
}

static struct slice bytes_of(const struct replay *r)
{
    return r->blob ? r->kept.body : flight_gathered(r->follower.flight);
}

static bool has_head(const struct replay *r)
{
    return r->blob || flight_has_head(r->follower.flight);
}

static bool is_over(const struct replay *r)
{
    return r->blob || flight_is_over(r->follower.flight);
}

static enum gw_err err_of(const struct replay *r)
{
    return r->blob ? GW_OK : flight_err(r->follower.flight);
}

/* --- the end --------------------------------------------------------------------------------- */

/* Tells how it ended, once: before the end of the answer leaves. */
static void tell(struct replay *r, enum gw_err err)
{
    if (r->told)
        return;
    r->told = true;
    if (r->form.over)
        r->form.over(has_head(r) ? kept_of(r) : NULL, err, r->form.arg);
}

/* The only exit; `r` may be gone when this returns. */
static void replay_end(struct replay *r, enum gw_err err)
{
    struct request *req = r->req;

    if (r->ended)
        return;
    r->ended = true;
    request_on_abort(req, NULL, NULL);
    loop_undefer(&r->going);
    tell(r, err);
    flight_leave(&r->follower);
    blob_unref(r->blob);
    request_unref(req);
}

static void on_client_gone(struct request *req, void *arg)
{
    struct replay *r = arg;

    replay_end(r, llm_client_gone(req, r->stream));
}

/* --- towards the client ---------------------------------------------------------------------- */

static void set_if(struct request *req, const char *name, struct slice value)
{
    if (value.n)
        request_set_header(req, name, value);
}

static void set_age(struct replay *r)
{
    uint64_t now = loop_now_us(), born = r->blob->born_us;

    request_set_header(r->req, "Age",
                       arena_u64(r->req->arena, now > born ? (now - born) / 1000000u : 0));
}

static void set_headers(struct replay *r)
{
    const struct kept *k = kept_of(r);
    struct request *req = r->req;

    request_set_header(req, "X-Cache", slice_cstr(r->form.x_cache));
    if (r->blob)
        set_age(r);
    else
        request_set_header(req, "X-Postern-Coalesced", SLICE("true"));
    if (r->form.similarity > 0)
        request_set_header(req, "X-Cache-Similarity",
                           arena_printf(req->arena, "%.4f", r->form.similarity));
    set_if(req, "X-Postern-Provider", k->provider);
    set_if(req, "X-Postern-Model", k->model);
    set_if(req, "X-Postern-Dropped", k->dropped);
    request_set_header(req, "X-Postern-Cost-Usd", SLICE("0.000000000"));
    request_note(req, "cache", slice_cstr(r->form.x_cache));
}

static void reply_retold(struct replay *r)
{
    struct buf out;
    enum gw_err err;

    buf_init(&out, 2 * bytes_of(r).n + 65536);
    err = r->form.retell(bytes_of(r), &out, r->form.arg);
    if (!err)
        err = buf_err(&out);
    tell(r, err);
    if (err)
        request_fail(r->req, err, NULL);
    else
        request_reply(r->req, 200, kept_of(r)->content_type, buf_slice(&out));
    buf_deinit(&out);
}

static void reply_whole(struct replay *r)
{
    if (!is_over(r))
        return;
    set_headers(r);
    if (r->form.retell) {
        reply_retold(r);
    } else {
        tell(r, GW_OK);
        request_reply(r->req, 200, kept_of(r)->content_type, bytes_of(r));
    }
    replay_end(r, GW_OK);
}

static void on_drained(struct request *req, void *arg)
{
    struct replay *r = arg;

    (void)req;
    r->full = false;
    go_on(r);
}

static bool begin_stream(struct replay *r)
{
    struct stream_options opt = {
        .status = 200,
        .content_type = kept_of(r)->content_type,
        .heartbeat = r->form.heartbeat,
        .heartbeat_us = (uint64_t)r->req->conf->stream_heartbeat_s * 1000000u,
        .on_drained = on_drained,
        .arg = r,
    };

    set_headers(r);
    request_set_header(r->req, "Cache-Control", SLICE("no-cache"));
    request_set_header(r->req, "X-Accel-Buffering", SLICE("no"));
    r->stream = stream_begin(r->req, &opt);
    return r->stream != NULL;
}

/* Writes what is there until the client's buffer is full. */
static void write_pieces(struct replay *r)
{
    struct slice all = bytes_of(r);

    while (r->at < all.n && !r->full) {
        size_t n = all.n - r->at < PIECE_BYTES ? all.n - r->at : PIECE_BYTES;

        r->full = !stream_write(r->stream, slice_of(all.p + r->at, n));
        r->at += n;
    }
}

static void write_stream(struct replay *r)
{
    enum gw_err err = err_of(r);

    if (!r->stream && !begin_stream(r)) {
        replay_end(r, GW_ENOMEM);
        return;
    }
    write_pieces(r);
    if (r->at < bytes_of(r).n || !is_over(r))
        return;
    tell(r, err);
    if (err == GW_EOVERLOAD)
        stream_abort(r->stream, err); /* its leader was given up: nothing was told */
    else if (err)
        stream_end_failed(r->stream, err); /* what was told in-band is among the bytes */
    else
        stream_end(r->stream);
    replay_end(r, err);
}

/* The leader's error, as it was told. One that was answered well did not fit its flight. */
static void fail(struct replay *r)
{
    struct flight *f = r->follower.flight;
    struct flight_refusal told = flight_refusal(f);
    enum gw_err err = flight_err(f);

    if (flight_has_head(f) && !kept_of(r)->stream && flight_status(f) != 200) {
        set_if(r->req, "Retry-After", told.retry_after);
        set_if(r->req, "X-Postern-Error-Source", told.source);
        r->req->err = err;
        request_reply(r->req, flight_status(f), kept_of(r)->content_type, bytes_of(r));
    } else {
        request_fail(r->req, err ? err : GW_EUPSTREAM, NULL);
    }
    replay_end(r, err ? err : GW_EUPSTREAM);
}

static void go_on(struct replay *r)
{
    bool good;

    if (r->ended)
        return;
    good = r->blob || flight_is_good(r->follower.flight);
    if (!good && !r->stream) {
        if (is_over(r))
            fail(r);
    } else if (has_head(r) && kept_of(r)->stream) {
        write_stream(r);
    } else if (has_head(r)) {
        reply_whole(r);
    }
}

/* --- beginning ------------------------------------------------------------------------------- */

static void on_news(struct flight_follower *f)
{
    go_on((struct replay *)((char *)f - offsetof(struct replay, follower)));
}

static void on_go(void *arg)
{
    go_on(arg);
}

static struct replay *replay_new(struct request *req, const struct replay_form *form)
{
    struct replay *r = arena_new(req->arena, struct replay);

    if (!r)
        return NULL;
    r->form = *form;
    r->req = request_ref(req);
    r->follower.on_news = on_news;
    request_on_abort(req, on_client_gone, r);
    return r;
}

bool replay_blob(struct request *req, struct blob *b, const struct replay_form *form)
{
    struct replay *r;
    struct kept k;

    if (!kept_read(b, &k))
        return false;
    r = replay_new(req, form);
    if (!r)
        return false;
    r->kept = k;
    r->blob = blob_ref(b);
    if (k.stream)
        loop_defer(&r->going, on_go, r);
    else
        reply_whole(r);
    return true;
}

enum gw_err replay_flight(struct request *req, struct flight *f, const struct replay_form *form)
{
    struct replay *r = replay_new(req, form);

    if (!r)
        return GW_ENOMEM;
    metrics_inc(M_COALESCED);
    flight_follow(f, &r->follower);
    return GW_OK;
}
