/*
 * tap.h - listening to the answer of a request: the head, the body as it was before any
 * content-coding, and how it ended. For whoever keeps outcomes (idempotency) or replays them.
 *
 * A tap is embedded in what listens and stays until its on_end, which comes exactly once. Callbacks
 * run inside the funnel: they may copy and take notes, and must not answer or end this request or
 * another one (loop_defer() for that).
 */
#pragma once

#include "gateway/http/request.h"

struct tap {
    /* The answer begins; headers set on the request so far are in req->out, those of the response
     * hooks are not there yet. `stream`: it comes in pieces. Not called when no answer was made. */
    void (*on_head)(struct request *req, int status, struct slice type, bool stream, void *arg);
    /* Bytes of the body, whole or a piece; heartbeats are left out. Valid inside the call. */
    void (*on_bytes)(struct request *req, struct slice bytes, void *arg);
    /* complete: the answer was made to its end (whether the client got it or not). Else it was cut,
     * ended with an error told in-band, or none was made. */
    void (*on_end)(struct request *req, bool complete, void *arg);
    void *arg;
    bool outlive; /* the answer is wanted even when the client leaves: the request then goes on
                     detached, as long as not too many do (REQUEST_MAX_DETACHED) */
    struct tap *next;
};

/* Adds one, before the answer has begun. */
void tap_add(struct request *req, struct tap *tap);

/* --- for request.c and stream.c; all do nothing on a request without taps -------------------- */

void tap_head(struct request *req, int status, struct slice type, bool stream);
void tap_bytes(struct request *req, struct slice bytes);
void tap_end(struct request *req, bool complete);
bool tap_outlives(const struct request *req);
