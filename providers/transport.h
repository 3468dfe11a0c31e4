/*
 * transport.h - HTTP calls to providers: libcurl's multi interface on the loop. Only transport*.c
 * know curl (shared/TRAPS.md, 5).
 *
 * Connections and handles are reused. libcurl never repeats a POST by itself, follows no redirect,
 * uses no proxy from the environment, and verifies TLS. All callbacks run on the loop, never inside
 * transport_start() nor inside libcurl, so any function here may be called in any of them; after
 * op_cancel() none runs.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#include <stdint.h>

struct transport_config {
    const char *ca_file;      /* NULL = system */
    const char *proxy;        /* NULL = none */
    unsigned max_connections; /* kept open when idle */
};

#define TRANSPORT_MAX_HEADERS 40u

struct transport_header {
    struct slice name, value;
};

struct transport_request {
    const char *method;                     /* "POST", "GET" */
    struct slice url;                       /* absolute http(s) */
    const struct transport_header *headers; /* one with a control character is left out */
    unsigned n_headers;                     /* up to TRANSPORT_MAX_HEADERS */
    struct slice body;                      /* borrowed until done or cancel */
    bool stream; /* asks for identity encoding and HTTP/1.1; on_data gets bytes as they come */
    bool http2;  /* HTTP/2 where offered (not with stream) */
    uint64_t connect_timeout_us;    /* resolve + connect + TLS */
    uint64_t first_byte_timeout_us; /* from the start to the end of the final head; 0 = none */
    uint64_t
        gap_timeout_us;    /* longest silence after the head; 0 = none. Not counted while paused */
    uint64_t deadline_us;  /* loop clock; 0 = none (started streams) */
    size_t max_body_bytes; /* decoded; more is GW_EUPBAD; 0 = no limit */
};

/* How a call ended, beside the error code. */
struct transport_result {
    int status;  /* 0 = no HTTP answer */
    bool sent;   /* the request may have reached the provider: a resend may run it twice */
    bool reused; /* on a connection that was open before */
    bool timed_out;
    uint64_t first_byte_us, total_us; /* since the start; first_byte 0 = none */
    uint64_t bytes_in;                /* decoded body bytes */
    const char *detail;               /* libcurl's words, for the log; valid during the callback */
};

struct transport_head {
    int status;
    struct slice content_type, retry_after, request_id; /* vendor's x-request-id / request-id */
};

struct transport_callbacks {
    /* The final response head (never 1xx). Slices valid during the call. */
    void (*on_head)(const struct transport_head *head, void *arg);
    /* The next body bytes. Valid during the call. */
    void (*on_data)(struct slice bytes, void *arg);
    /* The end, once: GW_OK for any complete HTTP answer, whatever its status; GW_EUPCONNECT
     * (resolve, connect, TLS), GW_EUPSTREAM (cut, reset, partial), GW_EDEADLINE (first byte, gap or
     * deadline), GW_EUPBAD (too big, bad encoding, not HTTP), GW_ENOMEM. */
    void (*on_done)(enum gw_err err, const struct transport_result *res, void *arg);
};

enum gw_err transport_init(const struct transport_config *cfg) MUST_CHECK;
void transport_deinit(void); /* all transfers must have ended or been cancelled */

/* Starts a call. Never calls back before it has returned; NULL out of memory or when the URL is
 * none. The strings of `req` except the body are copied; `cb` must stay. op_cancel() closes the
 * connection unless the answer was complete. */
struct op *transport_start(const struct transport_request *req,
                           const struct transport_callbacks *cb, void *arg);

/* Stops and restarts the reading of body bytes (back-pressure). What had been read in this turn may
 * still be delivered after a pause, up to one on_data. transport_resume() delivers from the loop,
 * never inside the call. A paused transfer has no gap limit; resuming starts it anew. */
void transport_pause(struct op *transfer);
void transport_resume(struct op *transfer);

/* Replaces the deadline (a stream that has begun has none: 0). */
void transport_set_deadline(struct op *transfer, uint64_t deadline_us);

/* Has the whole request body left? Then it is not read again and may go, though the transfer runs:
 * a long stream need not keep its prompt. */
bool transport_body_sent(struct op *transfer);

/* Transfers running now. */
unsigned transport_active(void);
