/*
 * stream.h - the answer sent piece by piece: chunked (HTTP/1.1) or until close (1.0), with
 * back-pressure and heartbeats.
 *
 * Write, and when stream_write() says "full" stop the source until on_drained. The bytes waiting
 * are bounded: at most conf->stream_buffer_kb plus one write. A reader that takes nothing for
 * conf->write_timeout_s is cut (the abort hook fires).
 */
#pragma once

#include "gateway/http/request.h"

struct stream;

struct stream_options {
    int status;
    struct slice content_type;
    struct slice heartbeat; /* written after each heartbeat_us without a write; empty = none */
    uint64_t heartbeat_us;
    /* The buffer has room again after stream_write() returned false. On the loop, never inside
     * stream_write(). */
    void (*on_drained)(struct request *req, void *arg);
    void *arg;
};

/* Sends the head (response hooks run, then headers set so far). Turns off the request's deadline.
 * NULL when the client is gone. The stream lives as long as the request. */
struct stream *stream_begin(struct request *req, const struct stream_options *opt);

/* Queues bytes (copied); empty is fine. False: the buffer is full, wait for on_drained (the bytes
 * are taken all the same). */
bool stream_write(struct stream *s, struct slice bytes);

/* Ends it well: last chunk, log, metrics. */
void stream_end(struct stream *s);

/* Ends it badly after the head: no last chunk, the connection is closed once what was written is
 * out; err goes to the log. In-band error events are written before, by the caller. */
void stream_abort(struct stream *s, enum gw_err err);

/* Ends it with an error told in-band: the last chunk is sent, err goes to log and metrics. */
void stream_end_failed(struct stream *s, enum gw_err err);
