/*
 * server_conn.h - one client connection; shared by the server*.c files alone.
 */
#pragma once

#include "gateway/core/loop.h"
#include "gateway/http/conn.h"
#include "gateway/http/gate.h"

#include <arpa/inet.h>
#include <evhtp.h>

enum conn_state {
    CONN_IDLE,  /* nothing of a request has come */
    CONN_HEAD,  /* part of a head has come */
    CONN_BODY,  /* libevhtp has the head, the body is coming */
    CONN_WORK,  /* a head row is parked, the request is whole, or it is being answered early */
    CONN_LINGER /* the last answer is out; what still comes is dropped, then the connection closed
                 */
};

struct http_conn {
    evhtp_connection_t *ev; /* NULL once it is gone; then this struct goes after the turn */
    struct bufferevent *bev;
    bufferevent_data_cb ev_read, ev_write; /* libevhtp's own callbacks, behind ours */
    bufferevent_event_cb ev_event;
    evutil_socket_t fd;
    TAILQ_ENTRY(http_conn) link;
    struct loop_timer timer;
    struct loop_deferred settle;
    struct request *req; /* the exchange under way; one reference */
    enum conn_state state;
    bool tls;
    bool keep;     /* the client wants the connection kept */
    bool in_evhtp; /* libevhtp has this exchange's head */
    bool whole;    /* the request has been received to its end */
    bool answered; /* its answer has been written, or waits in the output */
    bool closing;  /* the answer said so */
    bool doomed;   /* free it after the turn */
    bool flush;    /* the stream has something to send */
    bool shut;     /* our side of the socket is closed */
    bool deaf;     /* reading is off: the client has sent too much ahead */
    struct gate_scan scan;
    struct gate_chunks chunks;
    bool chunked;
    enum gw_err body_err;   /* why the body cannot be taken */
    struct held_head *held; /* a head row is parked: what was read of the head; in the arena */
    uint64_t message;       /* bytes of this request in front of the input, or still to come, that
                               libevhtp is not given (yet): dropped when the exchange is over */
    uint64_t left;          /* bytes of a body of known length not yet passed on */
    uint64_t body_max;      /* limit of the route */
    uint64_t served;        /* requests begun on this connection */
    uint64_t since_us;      /* beginning of the state */
    uint64_t last_byte_us;
    uint64_t queued,
        sent_mark; /* bytes given to conn_write(), and how many of them had gone at ... */
    uint64_t progress_us, check_us; /* ... this time; when to look again */
    size_t low_mark;
    char peer[INET6_ADDRSTRLEN];
};

/* --- server_conn.c ------------------------------------------------------------------------- */

/* Takes a connection that libevhtp has just accepted. With a refusal the bytes are sent and the
 * connection lingers. NULL out of memory. */
struct http_conn *conn_open(evhtp_connection_t *ev, struct slice refusal);

/* Closes it now; the abort hook of its request fires. Not from inside its own callbacks. */
void conn_cut(struct http_conn *c);

/* Changes the state and what the timer waits for. */
void conn_enter(struct http_conn *c, enum conn_state state);

/* Reads again from a client that had sent too much ahead. */
void conn_hear(struct http_conn *c);

/* Counts a refusal, by reason. */
void conn_count_refused(const char *reason);

/* --- server_read.c ------------------------------------------------------------------------- */

/* Looks at what is in the input, in any state. */
void conn_read(struct http_conn *c);

/* Answers an error and counts it; `why` may be NULL. */
void conn_refuse(struct request *req, enum gw_err err, const char *why);

/* Makes a request of bytes that never became one, to refuse it. */
void conn_refuse_bytes(struct http_conn *c, struct slice in, enum gw_err err, const char *why);

/* The handler libevhtp calls when a request is whole, and its hook for pieces of the body. */
void conn_on_whole(evhtp_request_t *ereq, void *arg);
evhtp_res conn_on_body(evhtp_request_t *ereq, struct evbuffer *piece, void *arg);

/* --- server.c ------------------------------------------------------------------------------ */

void server_conn_added(struct http_conn *c);
void server_conn_removed(struct http_conn *c);
void server_request_begun(void);
void server_request_ended(void);
