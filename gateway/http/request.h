/*
 * request.h - one HTTP request from its head to the end of its answer.
 *
 * Counted: the server holds one reference until the answer is out or the client has left, each flow
 * in flight holds one. Memory (all of it in `arena`, but for the body) goes with the last
 * reference. A request is answered exactly once, through request_finish(), request_reply() or a
 * stream (stream.h); a second answer is ignored. When the client leaves before that, or the
 * deadline passes, the abort hook fires once; flows cancel their operations, call request_finish()
 * with GW_EGONECLIENT (which then only logs and counts, or does nothing when the server has
 * answered 504), and drop their reference. A request whose answer is tapped by somebody who wants
 * it in any case (tap.h) lives on without its client: no hook fires, its flows notice nothing.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/buf.h"
#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#include <stdint.h>
#include <sys/queue.h>

struct http_conn; /* server.c */
struct route;     /* router.h */
struct stream;    /* stream.h */
struct tap;       /* tap.h */
struct chain_run; /* chain.h */
struct principal; /* storage/principal.h */

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_METHODS
};

const char *http_method_name(enum http_method m);

struct http_header {
    struct slice name, value; /* as received; value trimmed */
};

/* Who asks, found by the identify middleware. */
struct identity {
    bool known;   /* a valid credential was given */
    bool invalid; /* a credential was given and is wrong; refused where authentication is needed */
    bool expired; /* with `invalid`: it was good, its time has passed */
    bool unavailable; /* a credential was given and cannot be judged now: the database is away */
    bool conflicting; /* two different credentials in one request */
    bool admin;
    struct slice subject; /* stable name for limits and logs: "master", a key's prefix, a user;
                             never the secret */
};

#define REQUEST_MAX_PARAMS 4u
#define REQUEST_MAX_OUT_HEADERS 32u

struct request {
    struct arena *arena;
    unsigned refs;
    struct http_conn *conn; /* NULL once the client is gone or the answer is complete */
    bool detached; /* the client is gone, but a tap wants the answer: flows go on as if it were
                      there */
    const struct conf *conf; /* counted: the snapshot this request began with */

    /* request line and head; all in the arena */
    enum http_method method;
    unsigned minor; /* HTTP/1.minor */
    struct slice target, path,
        query; /* path is decoded but for %2F and %25, and safe (gate.h); query is
                  raw, without '?'. Empty when the request line was refused */
    const struct http_header *headers;
    unsigned n_headers;
    struct slice body;      /* complete when the rows of CHAIN_BODY run; held by the request */
    struct slice peer;      /* text address of the TCP peer */
    struct slice client_ip; /* the same, unless middleware finds a better one in X-Forwarded-For */
    bool peer_trusted;      /* set by middleware */

    /* found on the way */
    const struct route *route;               /* NULL: no such route */
    struct slice params[REQUEST_MAX_PARAMS]; /* path parameters in order, decoded */
    struct slice id;                         /* X-Request-ID */
    struct slice traceparent;                /* W3C, the client's with our span; or none */
    struct identity who;
    const struct principal *principal; /* what `who` may do, NULL = nobody known; the reference is
                                          the middleware's that set it, and lasts as the arena */
    struct log_ctx log;
    uint64_t started_us, deadline_us; /* loop clock */
    uint64_t upstream_us;             /* time spent waiting for providers, taken off the overhead */

    /* the answer */
    bool replied; /* head is out, or the funnel has been through */
    bool close;   /* the connection ends after this answer */
    int status;
    enum gw_err err;
    struct http_header out[REQUEST_MAX_OUT_HEADERS];
    unsigned n_out;
    uint64_t bytes_out;
    struct slice note_key[4], note[4]; /* further fields of the log line */
    unsigned n_notes;
    bool recorded; /* what was done, or not, is in the audit record (middleware/record.c) */

    struct chain_run *run;
    void (*on_abort)(struct request *req, void *arg);
    void *on_abort_arg;
    struct stream *stream;
    struct tap *taps; /* who listens to the answer, NULL = nobody */

    /* gateway/http's own */
    struct buf body_buf; /* what `body` points to */
    bool finished;       /* the finish hooks have run */
    struct loop_deferred freeing;
    TAILQ_ENTRY(request) detached_link;
};

struct request *request_ref(struct request *req);
struct request *request_unref(struct request *req); /* NULL is fine; returns NULL */

/* Is anybody there to be answered: the client, or a tap that outlives it? */
static inline bool request_is_wanted(const struct request *req)
{
    return req->conn || req->detached;
}

/* First header of that name (case-insensitive), or an empty slice with p == NULL. */
struct slice request_header(const struct request *req, const char *name);
unsigned request_header_count(const struct request *req, const char *name);

/* Value of a query argument, decoded once into the arena; p == NULL when absent. GW_EBADREQ in *err
 * (may be NULL) for a bad escape or %00. */
struct slice request_query(const struct request *req, const char *name, enum gw_err *err);

/* Sets an answer header, replacing one of that name. Names are literals; values with control
 * characters are refused (the header is left out and false returned). The value is copied. */
bool request_set_header(struct request *req, const char *name, struct slice value);

/* Adds a field's name to the answer's Vary, once. */
void request_vary(struct request *req, const char *field);

/* Adds a field to the request's log line; copied. */
void request_note(struct request *req, const char *key, struct slice value);

/* Called once if the client leaves before the answer is complete, or if no answer is there a moment
 * after the deadline (the server has then answered 504); replaces the former hook. NULL fn takes it
 * away. A client that half-closes its connection counts as gone. */
void request_on_abort(struct request *req, void (*fn)(struct request *req, void *arg), void *arg);

/* One of several things that are wrong. One of pointer and param is there. */
struct error_item {
    struct slice pointer; /* JSON pointer into the body; "" (p != NULL) is the whole of it */
    struct slice param;   /* name of a query argument */
    struct slice detail;  /* what is wrong with it */
};

/* Detail for an error answer. All optional. */
struct error_detail {
    struct slice message; /* shown instead of the error's title */
    struct slice param;   /* field or JSON pointer */
    int status; /* HTTP status to show instead of the table's (a vendor's 404, 422), 0 = table */
    struct slice code;              /* shown instead of the slug (a vendor's own code) */
    uint64_t retry_after_s;         /* Retry-After, 0 = none */
    const struct error_item *items; /* all that is wrong, for native routes */
    unsigned n_items;
    bool vendor; /* the provider failed, not the gateway: X-Postern-Error-Source: provider, else
                    gateway */
};

/*
 * The one funnel. GW_OK: answers 200 with `body` as JSON. An error: answers in the shape of the
 * route's surface (problem.h) with the table's status. Then the log line, the metrics, and the end
 * of the exchange. After the head of a stream is out it only ends the stream (abruptly for an
 * error). Bytes are copied. Never frees the request under its caller.
 */
void request_finish(struct request *req, enum gw_err err, struct slice body);
/* The same with what was written to a buffer, which is freed, or with the error it met. */
void request_finish_buf(struct request *req, struct buf *body);
void request_fail(struct request *req, enum gw_err err, const struct error_detail *detail);

/* Answers any status with a body of the given type; empty `type` = no Content-Type. Headers set
 * before go along. HEAD, 204 and 304 are dealt with here, and so are gzip (encoding.h) and
 * If-None-Match (etag.h) of JSON answers. */
void request_reply(struct request *req, int status, struct slice type, struct slice body);

/* The reply of a slow flow is due by then: deadline minus now, 0 when past. */
uint64_t request_time_left_us(const struct request *req);

/* Response hooks: run once per answer, right before its head is written (CORS, security headers,
 * request id); registered at start, at most 8. */
void request_add_response_hook(void (*fn)(struct request *req));
/* Finish hooks: run once per request at its very end (access log, metrics); at most 8. */
void request_add_finish_hook(void (*fn)(struct request *req));
