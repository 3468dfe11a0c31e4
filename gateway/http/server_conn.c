/*
 * server_conn.c - one client connection: its states, its clock, its output and its end. What comes
 * in is read by server_read.c.
 *
 *     IDLE -> HEAD -> BODY -> WORK --answer out--> IDLE ...
 *               |       '------'----closing------> LINGER -> closed
 *               '-> WORK (a head row is parked) -> BODY, or answered
 *
 * Answers go straight into the socket; only what it does not take is left to the bufferevent, whose
 * EV_WRITE is therefore off most of the time (TLS connections always use the bufferevent). libevhtp
 * is told of the end by evhtp_send_reply_end() and its own write callback, once the answer is out,
 * after the turn.
 *
 * Nothing here is freed inside a callback of its own: conn_settle() runs after the turn and does
 * what was asked for. libevhtp frees its connection in two places, both at the top of the stack:
 * our event callback and conn_settle(). Its fini hook is where this struct learns of it.
 */
#include "gateway/http/server_conn.h"

#include "gateway/core/metrics.h"
#include "gateway/http/server.h"
#include "gateway/http/stream.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_SILENCE_US 1000000u /* a lingering connection is closed after this much silence */
#define LINGER_TOTAL_US 5000000u   /* ... or after this */
#define OVERDUE_GRACE_US 250000u   /* a flow has this long to tell of its deadline itself */
#define SECONDS(n) ((uint64_t)(n)*1000000u)

static void conn_settle(void *arg);

static void settle_later(struct http_conn *c)
{
    loop_defer(&c->settle, conn_settle, c);
}

static struct evbuffer *input_of(const struct http_conn *c)
{
    return bufferevent_get_input(c->bev);
}

static struct evbuffer *output_of(const struct http_conn *c)
{
    return bufferevent_get_output(c->bev);
}

void conn_count_refused(const char *reason)
{
    metrics_add(metrics_get(M_REFUSED, reason, NULL, NULL), 1);
}

/* --- time ---------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return !a || (b && b < a) ? b : a;
}

static uint64_t work_due(const struct http_conn *c)
{
    if (!c->req)
        return 0;
    if (!c->req->replied)
        return c->req->deadline_us + OVERDUE_GRACE_US;
    return c->req->stream ? stream_due_us(c->req->stream) : 0;
}

static uint64_t state_due(const struct http_conn *c)
{
    const struct conf *conf = conf_current();

    switch (c->state) {
    case CONN_IDLE:
        return c->since_us +
               SECONDS(c->served ? conf->keepalive_timeout_s : conf->header_timeout_s);
    case CONN_HEAD:
        return c->since_us + SECONDS(conf->header_timeout_s);
    case CONN_BODY:
        return earlier(c->since_us + SECONDS(conf->body_timeout_s),
                       c->last_byte_us + SECONDS(conf->body_idle_timeout_s));
    case CONN_WORK:
        return work_due(c);
    case CONN_LINGER:
        return earlier(c->since_us + LINGER_TOTAL_US, c->last_byte_us + LINGER_SILENCE_US);
    }
    return 0;
}

void conn_rearm(struct http_conn *c)
{
    uint64_t due = state_due(c);

    if (conn_unsent(c))
        due = earlier(due, c->check_us);
    if (due)
        loop_timer_set(&c->timer, due);
    else
        loop_timer_clear(&c->timer);
}

void conn_enter(struct http_conn *c, enum conn_state state)
{
    c->state = state;
    c->since_us = c->last_byte_us = loop_now_us();
    conn_rearm(c);
}

/* --- writing ------------------------------------------------------------------------------- */

size_t conn_unsent(const struct http_conn *c)
{
    return c->bev ? evbuffer_get_length(output_of(c)) : 0;
}

static uint64_t write_timeout_us(void)
{
    return SECONDS(conf_current()->write_timeout_s);
}

/* Offers the bytes to the socket; how many it took. Errors are left to the bufferevent to find. */
static size_t write_now(const struct http_conn *c, const struct iovec *iov, unsigned n)
{
    ssize_t took;

    if (c->tls || conn_unsent(c))
        return 0;
    do
        took = writev(c->fd, iov, (int)n);
    while (took < 0 && errno == EINTR);
    return took > 0 ? (size_t)took : 0;
}

/* Keeps all but the first `skip` bytes. */
static bool keep_rest(struct http_conn *c, const struct iovec *iov, unsigned n, size_t skip)
{
    for (unsigned i = 0; i < n; i++) {
        size_t gone = skip < iov[i].iov_len ? skip : iov[i].iov_len;

        skip -= gone;
        if (iov[i].iov_len > gone &&
            evbuffer_add(output_of(c), (const char *)iov[i].iov_base + gone,
                         iov[i].iov_len - gone) != 0)
            return false;
    }
    return true;
}

void conn_write(struct http_conn *c, const struct iovec *iov, unsigned n)
{
    size_t total = 0, took, before = conn_unsent(c);

    if (!c->bev || c->doomed)
        return;
    for (unsigned i = 0; i < n; i++)
        total += iov[i].iov_len;
    took = write_now(c, iov, n);
    c->queued += total;
    if (took == total)
        return;
    if (!keep_rest(c, iov, n, took)) {
        conn_doom(c);
        return;
    }
    if (before)
        return;
    c->sent_mark = c->queued - conn_unsent(c);
    c->progress_us = loop_now_us();
    c->check_us = c->progress_us + write_timeout_us() / 4;
    if (!c->tls)
        bufferevent_enable(c->bev, EV_WRITE);
    conn_rearm(c);
}

void conn_doom(struct http_conn *c)
{
    c->doomed = true;
    settle_later(c);
}

void conn_flush_later(struct http_conn *c)
{
    c->flush = true;
    settle_later(c);
}

void conn_set_low_mark(struct http_conn *c, size_t low)
{
    c->low_mark = low;
    bufferevent_setwatermark(c->bev, EV_WRITE, low, 0);
}

bool conn_must_close(struct http_conn *c)
{
    int64_t max = conf_current()->keepalive_requests;

    c->closing = c->closing || !c->keep || !c->whole || c->req->close || server_draining() ||
                 (max && c->served >= (uint64_t)max);
    return c->closing;
}

void conn_answered(struct http_conn *c)
{
    c->answered = true;
    c->closing = c->closing || c->req->close;
    if (c->state == CONN_BODY)
        conn_enter(c, CONN_WORK);
    settle_later(c);
}

/* True when the reader has taken nothing for too long. */
static bool is_stuck(struct http_conn *c)
{
    uint64_t now = loop_now_us(), sent = c->queued - conn_unsent(c);

    if (!conn_unsent(c) || now < c->check_us)
        return false;
    c->check_us = now + write_timeout_us() / 4;
    if (sent != c->sent_mark) {
        c->sent_mark = sent;
        c->progress_us = now;
    }
    return now >= c->progress_us + write_timeout_us();
}

/* --- the end of an exchange and of a connection -------------------------------------------- */

static void shut_ours(struct http_conn *c)
{
    SSL *ssl = c->tls ? bufferevent_openssl_get_ssl(c->bev) : NULL;

    if (c->shut)
        return;
    c->shut = true;
    if (ssl)
        SSL_shutdown(ssl);
    shutdown(c->fd, SHUT_WR);
}

void conn_hear(struct http_conn *c)
{
    if (c->deaf)
        bufferevent_enable(c->bev, EV_READ);
    c->deaf = false;
}

static void linger(struct http_conn *c)
{
    conn_enter(c, CONN_LINGER);
    if (!conn_unsent(c))
        shut_ours(c);
    conn_hear(c);
    evbuffer_drain(input_of(c), evbuffer_get_length(input_of(c)));
}

/* Gives up the request; the exchange is over for it. */
static struct request *detach(struct http_conn *c)
{
    struct request *req = c->req;

    c->req = NULL;
    c->held = NULL;
    req->conn = NULL;
    server_request_ended();
    return req;
}

static void await_next(struct http_conn *c)
{
    c->scan = (struct gate_scan){0};
    c->whole = c->answered = false;
    if (c->message)
        evbuffer_drain(input_of(c), (size_t)c->message); /* answered without its body */
    c->message = 0;
    if (c->low_mark)
        conn_set_low_mark(c, 0);
    conn_hear(c);
    conn_enter(c, CONN_IDLE);
    if (evbuffer_get_length(input_of(c)))
        conn_read(c);
}

static void exchange_end(struct http_conn *c)
{
    struct request *req = detach(c);

    request_conclude(req);
    request_unref(req);
    if (c->closing) {
        linger(c);
        return;
    }
    if (c->in_evhtp) {
        evhtp_send_reply_end(c->ev->request);
        c->in_evhtp = false;
        c->ev_write(c->bev, c->ev); /* output is empty: it makes way for the next request */
    }
    if (c->ev)
        await_next(c);
}

static void conn_settle(void *arg)
{
    struct http_conn *c = arg;

    if (c->ev && c->doomed)
        conn_cut(c);
    if (!c->ev) {
        loop_undefer(&c->settle);
        free(c);
        return;
    }
    if (c->flush && c->req && c->req->stream) {
        c->flush = false;
        stream_flush(c->req->stream);
    }
    if (c->answered && c->req && !conn_unsent(c) && !c->doomed)
        exchange_end(c);
}

void conn_cut(struct http_conn *c)
{
    evhtp_connection_free(c->ev);
}

/* libevhtp frees its connection: the bufferevent is still there, but not for long. */
static evhtp_res on_fini(evhtp_connection_t *ev, void *arg)
{
    struct http_conn *c = arg;
    bool complete = c->answered && !conn_unsent(c);
    bool in_body = c->state == CONN_BODY;
    struct request *req = c->req ? detach(c) : NULL;

    loop_timer_stop(&c->timer);
    server_conn_removed(c);
    c->ev = NULL;
    c->bev = NULL;
    settle_later(c);
    if (!req)
        return EVHTP_RES_OK;
    if (in_body)
        metrics_add(metrics_get(M_CLIENT_GONE, "sending", NULL, NULL), 1);
    if (complete)
        request_conclude(req);
    else
        request_lost(req);
    request_unref(req);
    return EVHTP_RES_OK;
}

/* --- callbacks of libevent ----------------------------------------------------------------- */

static void on_read(struct bufferevent *bev, void *arg)
{
    loop_place("http_read");
    if (evbuffer_get_length(bufferevent_get_input(bev)))
        conn_read(arg);
}

static void on_write(struct bufferevent *bev, void *arg)
{
    struct http_conn *c = arg;

    loop_place("http_write");
    if (conn_unsent(c) == 0) {
        if (!c->tls)
            bufferevent_disable(bev, EV_WRITE);
        if (c->state == CONN_LINGER)
            shut_ours(c);
        else if (c->answered)
            settle_later(c);
    }
    if (c->req && c->req->stream)
        stream_progress(c->req->stream);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct http_conn *c = arg;

    loop_place("http_event");
    errno = 0; /* libevhtp takes EOF for a false alarm when it finds EAGAIN here */
    c->ev_event(bev, what, c->ev);
}

static void on_head_timeout(struct http_conn *c)
{
    size_t n = evbuffer_get_contiguous_space(input_of(c));
    struct slice in = slice_of((const char *)evbuffer_pullup(input_of(c), (ssize_t)n), n);

    conn_refuse_bytes(c, in, GW_EREQTIMEOUT, "The request head did not arrive in time");
}

static void on_due(struct http_conn *c)
{
    switch (c->state) {
    case CONN_IDLE:
    case CONN_LINGER:
        conn_doom(c);
        break;
    case CONN_HEAD:
        on_head_timeout(c);
        break;
    case CONN_BODY:
        c->whole = false;
        conn_refuse(c->req, GW_EREQTIMEOUT, "The request body did not arrive in time");
        break;
    case CONN_WORK:
        if (!c->req->replied)
            request_overdue(c->req);
        else if (c->req->stream)
            stream_tick(c->req->stream);
        break;
    }
}

static void on_timer(void *arg)
{
    struct http_conn *c = arg;
    uint64_t due;

    loop_place("http_timer");
    if (is_stuck(c)) {
        conn_count_refused("slow_reader");
        conn_doom(c);
        return;
    }
    due = state_due(c);
    if (due && due <= loop_now_us())
        on_due(c);
    if (!c->doomed)
        conn_rearm(c);
}

/* --- opening ------------------------------------------------------------------------------- */

static void note_peer(struct http_conn *c)
{
    const struct sockaddr *sa = c->ev->saddr;
    const void *addr = sa->sa_family == AF_INET6
                           ? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr
                           : (const void *)&((const struct sockaddr_in *)sa)->sin_addr;

    if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)addr))
        inet_ntop(AF_INET, (const char *)addr + 12, c->peer, sizeof(c->peer));
    else
        inet_ntop(sa->sa_family, addr, c->peer, sizeof(c->peer));
}

static void install(struct http_conn *c)
{
    void *ev = NULL;

    bufferevent_getcb(c->bev, &c->ev_read, &c->ev_write, &c->ev_event, &ev);
    assert(ev == c->ev);
    bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
    bufferevent_set_timeouts(c->bev, NULL, NULL);
    if (!c->tls)
        bufferevent_disable(c->bev, EV_WRITE);
    evhtp_connection_set_hook(c->ev, evhtp_hook_on_read, (evhtp_hook)conn_on_body, c);
    evhtp_connection_set_hook(c->ev, evhtp_hook_on_connection_fini, (evhtp_hook)on_fini, c);
}

struct http_conn *conn_open(evhtp_connection_t *ev, struct slice refusal)
{
    struct http_conn *c = calloc(1, sizeof(*c));
    struct iovec iov = {(void *)refusal.p, refusal.n};

    if (!c)
        return NULL;
    c->ev = ev;
    c->bev = ev->bev;
    c->fd = ev->sock;
    c->tls = ev->ssl != NULL;
    evutil_make_socket_closeonexec(c->fd);
    loop_timer_init(&c->timer, on_timer, c);
    note_peer(c);
    install(c);
    server_conn_added(c);
    if (refusal.n) {
        conn_write(c, &iov, 1);
        linger(c);
    } else {
        conn_enter(c, CONN_IDLE);
    }
    return c;
}
