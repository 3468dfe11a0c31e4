/*
 * stream.c - see stream.h.
 *
 * What is written in one turn is gathered in `pending` and leaves as one chunk when the turn ends.
 * Bytes wait in two places, here and in the connection; both count against the limit.
 */
#include "gateway/http/stream.h"

#include "gateway/core/metrics.h"
#include "gateway/http/conn.h"
#include "gateway/http/tap.h"

#include <assert.h>

#define KEEP_PENDING_BYTES 8192u     /* a gathering buffer larger than this is not kept */
#define PENDING_MAX_BYTES (1u << 30) /* one write on top of what may wait */

struct stream {
    struct request *req; /* not counted: the stream lives inside it */
    struct stream_options opt;
    struct buf pending; /* [head][payload of this turn] */
    size_t head_n;      /* bytes of the head at the front of pending */
    size_t high;        /* bytes waiting at which stream_write() says full */
    uint64_t quiet_since_us;
    bool chunked, no_body;
    bool full; /* stream_write() said so, on_drained is due */
    bool over; /* ended, one way or the other */
};

static void stream_free(void *arg)
{
    struct stream *s = arg;

    buf_deinit(&s->pending);
}

static void count_open(int delta)
{
    static struct metric_series *open;

    if (!open)
        open = metrics_get(M_STREAMS_OPEN, NULL, NULL, NULL);
    metrics_add(open, delta);
}

static struct stream *stream_new(struct request *req, const struct stream_options *opt)
{
    struct stream *s = arena_new(req->arena, struct stream);

    if (!s)
        return NULL;
    s->req = req;
    s->opt = *opt;
    s->opt.heartbeat = opt->heartbeat.n ? arena_dup(req->arena, opt->heartbeat) : SLICE_NONE;
    s->high = (size_t)req->conf->stream_buffer_kb * 1024u;
    buf_init(&s->pending, PENDING_MAX_BYTES);
    return arena_defer(req->arena, stream_free, s) ? s : NULL;
}

/* The head leaves with the first bytes, or when the turn ends. */
static void stream_open(struct stream *s)
{
    struct request *req = s->req;

    s->no_body = !response_has_body(req, s->opt.status);
    s->chunked = req->minor > 0;
    if (!s->chunked)
        req->close = true;
    buf_add_slice(&s->pending, response_head(req, s->opt.status, s->opt.content_type,
                                             s->chunked ? LENGTH_CHUNKED : LENGTH_UNTIL_CLOSE));
    s->head_n = s->pending.n;
    conn_set_low_mark(req->conn, s->high / 2);
    conn_rearm(req->conn);
    conn_flush_later(req->conn);
}

struct stream *stream_begin(struct request *req, const struct stream_options *opt)
{
    struct stream *s;

    if (!request_is_wanted(req) || req->replied)
        return NULL;
    s = stream_new(req, opt);
    if (!s) {
        request_fail(req, GW_ENOMEM, NULL);
        return NULL;
    }
    s->quiet_since_us = loop_now_us();
    req->stream = s;
    req->replied = true;
    req->status = opt->status;
    count_open(1);
    tap_head(req, opt->status, opt->content_type, true);
    if (req->conn)
        stream_open(s);
    return s;
}

bool stream_is_over(const struct stream *s)
{
    return s->over;
}

static size_t waiting(const struct stream *s)
{
    return s->pending.n + conn_unsent(s->req->conn);
}

/* Queues bytes for the client; false when it has enough to read. */
static bool queue_bytes(struct stream *s, struct slice bytes)
{
    s->quiet_since_us = loop_now_us();
    s->req->bytes_out += bytes.n;
    if (!s->no_body)
        buf_add_slice(&s->pending, bytes);
    if (buf_err(&s->pending)) {
        stream_abort(s, buf_err(&s->pending));
        return true;
    }
    conn_flush_later(s->req->conn);
    s->full = s->full || waiting(s) >= s->high;
    return !s->full;
}

bool stream_write(struct stream *s, struct slice bytes)
{
    if (s->over)
        return true;
    tap_bytes(s->req, bytes);
    return !s->req->conn || queue_bytes(s, bytes);
}

/* Sends head and payload as one chunk, and the last chunk if asked. */
static void send_pending(struct stream *s, bool last)
{
    size_t payload = s->pending.n - s->head_n;
    char size[24];
    struct iovec iov[4];
    unsigned n = 0;

    if (s->head_n)
        iov[n++] = (struct iovec){s->pending.p, s->head_n};
    if (payload && s->chunked) {
        int len = snprintf(size, sizeof(size), "%zx\r\n", payload);

        assert(len > 0 && len < (int)sizeof(size));
        iov[n++] = (struct iovec){size, (size_t)len};
    }
    if (payload)
        iov[n++] = (struct iovec){s->pending.p + s->head_n, payload};
    if (s->chunked && !s->no_body && (payload || last)) {
        struct slice tail = !last     ? SLICE("\r\n")
                            : payload ? SLICE("\r\n0\r\n\r\n")
                                      : SLICE("0\r\n\r\n");

        iov[n++] = (struct iovec){(void *)tail.p, tail.n};
    }
    if (n)
        conn_write(s->req->conn, iov, n);
    s->head_n = 0;
    if (s->pending.cap > KEEP_PENDING_BYTES)
        buf_deinit(&s->pending);
    else
        buf_reset(&s->pending);
}

void stream_progress(struct stream *s)
{
    if (s->over || !s->full || !s->req->conn || waiting(s) > s->high / 2)
        return;
    s->full = false;
    if (s->opt.on_drained)
        s->opt.on_drained(s->req, s->opt.arg);
}

void stream_flush(struct stream *s)
{
    if (s->over || !s->req->conn)
        return;
    send_pending(s, false);
    stream_progress(s);
}

static void finish(struct stream *s, enum gw_err err, bool last)
{
    struct request *req = s->req;

    if (s->over)
        return;
    s->over = true;
    count_open(-1);
    req->on_abort = NULL;
    if (err)
        req->err = err;
    tap_end(req, !err);
    if (!req->conn) {
        request_conclude(req);
        return;
    }
    if (!last)
        req->close = true;
    send_pending(s, last);
    conn_answered(req->conn);
}

void stream_end(struct stream *s)
{
    finish(s, GW_OK, true);
}

void stream_abort(struct stream *s, enum gw_err err)
{
    finish(s, err, false);
}

void stream_end_failed(struct stream *s, enum gw_err err)
{
    finish(s, err, true);
}

void stream_detached(struct stream *s)
{
    bool was_full = s->full;

    s->full = false;
    buf_deinit(&s->pending);
    s->head_n = 0;
    if (!s->over && was_full && s->opt.on_drained)
        s->opt.on_drained(s->req, s->opt.arg);
}

void stream_lost(struct stream *s)
{
    if (s->over)
        return;
    s->over = true;
    count_open(-1);
}

uint64_t stream_due_us(const struct stream *s)
{
    if (s->over || !s->opt.heartbeat.n || !s->opt.heartbeat_us)
        return 0;
    return s->quiet_since_us + s->opt.heartbeat_us;
}

void stream_tick(struct stream *s)
{
    uint64_t due = stream_due_us(s);

    if (!due || due > loop_now_us())
        return;
    /* a reader that is behind has enough to read */
    if (waiting(s) > 0)
        s->quiet_since_us = loop_now_us();
    else
        queue_bytes(s, s->opt.heartbeat); /* not part of the answer: taps do not see it */
}
