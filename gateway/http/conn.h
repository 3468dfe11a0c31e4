/*
 * conn.h - what the files of gateway/http tell each other about a connection and the request on it.
 * Nobody else includes this.
 */
#pragma once

#include "gateway/http/request.h"

#include <sys/uio.h>

struct http_conn;

/* --- server_conn.c: towards the client ----------------------------------------------------- */

/* Sends bytes: into the socket as far as it takes them now, the rest is copied and follows by
 * itself. Never calls back, never frees; a broken connection is told later by request_lost(). */
void conn_write(struct http_conn *c, const struct iovec *iov, unsigned n);

/* Bytes that the socket has not taken yet. */
size_t conn_unsent(const struct http_conn *c);

/* True when the connection ends after the answer being made; decided once, before its head. */
bool conn_must_close(struct http_conn *c);

/* The whole answer has been given to conn_write(). The exchange ends after the turn, once it is
 * out. */
void conn_answered(struct http_conn *c);

/* Ends the connection after the turn without sending anything more. */
void conn_doom(struct http_conn *c);

/* Asks for stream_flush() of the request's stream after this turn's callbacks. */
void conn_flush_later(struct http_conn *c);

/* stream_progress() is called whenever fewer than `low` bytes are unsent. */
void conn_set_low_mark(struct http_conn *c, size_t low);

/* Recomputes what the connection's timer waits for. */
void conn_rearm(struct http_conn *c);

/* --- request.c: towards the server --------------------------------------------------------- */

/* A request in the arena, which it owns from now on, with one reference and conf's present
 * snapshot. NULL out of memory (the arena is gone then too). */
struct request *request_create(struct arena *arena, struct http_conn *conn);

/* Room for n more body bytes behind req->body_buf.n, counted against conf's body memory; NULL with
 * *ret_err GW_EOVERLOAD, GW_ETOOBIG or GW_ENOMEM. */
char *request_body_room(struct request *req, size_t n, enum gw_err *ret_err);

/* Runs the finish hooks, the first time it is called. */
void request_conclude(struct request *req);

/* The connection is gone: aborts what is not answered and concludes; or the request goes on
 * detached, if one of its taps wants that and fewer than so many do. */
#define REQUEST_MAX_DETACHED 64u
void request_lost(struct request *req);

/* Detached requests; and their end, as if each client had left only now. */
unsigned request_detached(void);
void request_abort_detached(void);

/* The deadline has passed without an answer: 504, then the abort hook. */
void request_overdue(struct request *req);

/* Marks the request answered, runs the response hooks and builds the head. length: bytes of the
 * body, or one of these. The bytes are valid until the next call. */
#define LENGTH_CHUNKED (-1)
#define LENGTH_UNTIL_CLOSE (-2)
struct slice response_head(struct request *req, int status, struct slice type, int64_t length);

/* Whether a body may follow (not for HEAD, 204, 304). */
bool response_has_body(const struct request *req, int status);

/* "Not Found"; never NULL. */
const char *response_reason(int status);

/* Runs the hooks of request_add_response_hook(). */
void request_run_response_hooks(struct request *req);

/* --- stream.c: towards the server ---------------------------------------------------------- */

struct stream;

/* Sends what was written in this turn. */
void stream_flush(struct stream *s);

/* The socket took bytes: calls on_drained when there is room again. */
void stream_progress(struct stream *s);

/* When stream_tick() is wanted; 0 = never. */
uint64_t stream_due_us(const struct stream *s);
void stream_tick(struct stream *s);

/* The client is gone: nothing is sent any more. */
void stream_lost(struct stream *s);

/* The client is gone, the stream goes on for the taps alone: it is never full. */
void stream_detached(struct stream *s);
bool stream_is_over(const struct stream *s);
