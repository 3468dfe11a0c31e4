/*
 * server_conn.c - one client connection: the gate in front of libevhtp, the life of each exchange.
 *
 *     IDLE -> HEAD -> BODY -> WORK --answer out--> IDLE ...
 *               '-------'------'----closing------> LINGER -> closed
 *
 * Bytes wait in the bufferevent's input until a whole head is there. The gate checks it, the head
 * rows of the chain run, and only then libevhtp's own read callback is called, with a plain head in
 * the place of the client's and with no byte beyond this request: what was pipelined stays behind
 * until the exchange is over. A request refused by the head rows never reaches libevhtp.
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
#include "gateway/http/chain.h"
#include "gateway/http/router.h"
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

#define ARENA_MAX_BYTES (128u << 20)
#define AHEAD_MAX_BYTES 65536u     /* a client may send this much ahead of its answers */
#define LINGER_SILENCE_US 1000000u /* a lingering connection is closed after this much silence */
#define LINGER_TOTAL_US 5000000u   /* ... or after this */
#define OVERDUE_GRACE_US 250000u   /* a flow has this long to tell of its deadline itself */
#define SECONDS(n) ((uint64_t)(n)*1000000u)

static void conn_settle(void *arg);
static void conn_read(struct http_conn *c);

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

static void refused(const char *reason)
{
    metrics_add(metrics_get(M_REFUSED, reason, NULL, NULL), 1);
}

/* --- time
 * ----------------------------------------------------------------------------------------- */

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

static void enter(struct http_conn *c, enum conn_state state)
{
    c->state = state;
    c->since_us = c->last_byte_us = loop_now_us();
    conn_rearm(c);
}

/* --- writing
 * -------------------------------------------------------------------------------------- */

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
        enter(c, CONN_WORK);
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

/* --- the end of an exchange and of a connection
 * ------------------------------------------------------ */

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

static void linger(struct http_conn *c)
{
    enter(c, CONN_LINGER);
    if (!conn_unsent(c))
        shut_ours(c);
    if (c->deaf)
        bufferevent_enable(c->bev, EV_READ);
    c->deaf = false;
    evbuffer_drain(input_of(c), evbuffer_get_length(input_of(c)));
}

/* Gives up the request; the exchange is over for it. */
static struct request *detach(struct http_conn *c)
{
    struct request *req = c->req;

    c->req = NULL;
    req->conn = NULL;
    server_request_ended();
    return req;
}

static void await_next(struct http_conn *c)
{
    c->scan = (struct gate_scan){0};
    c->whole = c->answered = false;
    if (c->low_mark)
        conn_set_low_mark(c, 0);
    if (c->deaf)
        bufferevent_enable(c->bev, EV_READ);
    c->deaf = false;
    enter(c, CONN_IDLE);
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

/* --- refusing
 * ------------------------------------------------------------------------------------- */

static void refuse(struct request *req, enum gw_err err, const char *why)
{
    struct error_detail d = {.message = slice_cstr(why)};

    refused(err_info(err)->slug);
    request_fail(req, err, &d);
}

static void set_allow_all(struct request *req)
{
    request_set_header(req, "Allow", router_allow_text(req->arena, (1u << HTTP_METHODS) - 1));
}

static struct request *begin_request(struct http_conn *c)
{
    struct arena *arena = arena_create(ARENA_MAX_BYTES);
    struct request *req = arena ? request_create(arena, c) : NULL;

    if (!req) {
        conn_doom(c);
        return NULL;
    }
    req->peer = req->client_ip = arena_dup(req->arena, slice_cstr(c->peer));
    req->started_us = c->since_us;
    req->deadline_us = loop_now_us() + SECONDS(req->conf->deadline_s);
    c->req = req;
    c->served++;
    c->keep = c->whole = c->in_evhtp = c->answered = c->closing = c->chunked = false;
    c->body_err = GW_OK;
    server_request_begun();
    return req;
}

static void take_line(struct request *req, const struct gate_head *h)
{
    req->method = h->method;
    req->minor = h->minor;
    req->target = h->target;
    req->path = h->path;
    req->query = h->query;
    req->headers = h->headers;
    req->n_headers = h->n_headers;
}

/* Answers what never became a request. */
static void refuse_bytes(struct http_conn *c, struct slice in, enum gw_err err, const char *why)
{
    struct request *req = begin_request(c);
    struct gate_head h;

    if (!req)
        return;
    enter(c, CONN_WORK);
    req->minor = 1;
    if (gate_line_peek(req->arena, slice_from(in, c->scan.start), &h))
        take_line(req, &h);
    refuse(req, err, why);
}

/* --- admitting
 * ------------------------------------------------------------------------------------ */

static bool admit_load(struct http_conn *c)
{
    struct request *req = c->req;

    if (server_requests() <= (unsigned)req->conf->max_requests_inflight)
        return true;
    refused("requests");
    request_fail(req, GW_EOVERLOAD, NULL);
    return false;
}

static bool is_json(struct slice type)
{
    size_t semi = slice_find(type, ';');

    type = slice_trim(slice_of(type.p, semi));
    return slice_is_nocase(type, "application/json") ||
           (type.n > 5 && slice_is_nocase(slice_from(type, type.n - 5), "+json"));
}

static bool has_prefix_nocase(struct slice s, const char *prefix)
{
    size_t n = strlen(prefix);

    return s.n >= n && strncasecmp(s.p, prefix, n) == 0;
}

static bool type_fits(const struct request *req)
{
    struct slice type = request_header(req, "content-type");

    if (request_header_count(req, "content-type") > 1 ||
        has_prefix_nocase(type, "application/x-www-form-urlencoded"))
        return false;
    switch (req->route->body) {
    case BODY_JSON:
    case BODY_CHAT:
        return is_json(type);
    case BODY_UPLOAD:
        return has_prefix_nocase(type, "multipart/form-data");
    case BODY_NONE:
        break;
    }
    return true;
}

static uint64_t body_limit(const struct request *req)
{
    switch (req->route->body) {
    case BODY_CHAT:
        return (uint64_t)req->conf->chat_body_mb << 20;
    case BODY_UPLOAD:
        return (uint64_t)req->conf->upload_body_mb << 20;
    default:
        return (uint64_t)req->conf->body_mb << 20;
    }
}

/* The router's verdict, told after the head rows, so that they see requests for unknown paths too.
 */
static bool admit_route(struct request *req, enum gw_err found, struct slice allow)
{
    if (found == GW_OK)
        return true;
    if (allow.n)
        request_set_header(req, "Allow", allow);
    if (found == GW_EMETHOD && req->method == HTTP_OPTIONS)
        request_reply(req, 204, SLICE_NONE, SLICE_NONE);
    else if (found == GW_EBADREQ)
        refuse(req, GW_EBADREQ, "The path is not one that can be served");
    else
        request_fail(req, found, NULL);
    return false;
}

static bool admit_body(struct http_conn *c, const struct gate_head *h)
{
    struct request *req = c->req;
    size_t max;

    c->body_max = body_limit(req);
    if (!h->chunked && !h->length)
        return true;
    if (!type_fits(req)) {
        request_fail(req, GW_EMEDIA, NULL);
        return false;
    }
    if (h->length > c->body_max) {
        refuse(req, GW_ETOOBIG, "The body is larger than this route takes");
        return false;
    }
    max = h->chunked ? (size_t)c->body_max : (size_t)h->length;
    buf_init(&req->body_buf, max);
    return true;
}

static enum gw_err route_find(struct request *req, const struct gate_head *h,
                              struct slice *ret_allow)
{
    enum gw_err err;

    if (h->path_bad)
        return GW_EBADREQ;
    if (slice_is(h->path, "*")) {
        *ret_allow = router_allow_text(req->arena, (1u << HTTP_METHODS) - 1);
        return GW_EMETHOD;
    }
    err = router_find(req->arena, req->method, req->path, &req->route, req->params, ret_allow);
    if (!err && (req->route->body == BODY_CHAT || req->route->rate == RATE_AI))
        req->deadline_us = loop_now_us() + SECONDS(req->conf->deadline_ai_s);
    return err;
}

/* Head rows, route, limits. False when the request has been answered. */
static bool admit(struct http_conn *c, const struct gate_head *h)
{
    struct slice allow = SLICE_NONE;
    enum gw_err found;

    if (!admit_load(c))
        return false;
    found = route_find(c->req, h, &allow);
    return chain_run_head(c->req) && admit_route(c->req, found, allow) && admit_body(c, h);
}

static void send_continue(struct http_conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec iov = {(void *)text, sizeof(text) - 1};

    conn_write(c, &iov, 1);
}

/* --- libevhtp
 * ------------------------------------------------------------------------------------- */

/* libevhtp has decoded a piece of the body. Taking it all keeps it from parsing forms itself. */
static evhtp_res on_body(evhtp_request_t *ereq, struct evbuffer *piece, void *arg)
{
    struct http_conn *c = arg;
    size_t n = evbuffer_get_length(piece);
    char *to = NULL;

    if (c->req && !c->body_err)
        to = request_body_room(c->req, n, &c->body_err);
    if (to && evbuffer_remove(piece, to, n) == (int)n)
        c->req->body_buf.n += n;
    evbuffer_drain(piece, evbuffer_get_length(piece));
    return EVHTP_RES_OK;
}

static struct http_conn *conn_of(const evhtp_connection_t *ev)
{
    void *arg = NULL;

    bufferevent_getcb(ev->bev, NULL, NULL, NULL, &arg);
    return arg;
}

/* Only takes note: handlers run when libevhtp is off the stack. */
void conn_on_whole(evhtp_request_t *ereq, void *arg)
{
    conn_of(ereq->conn)->whole = true;
}

/* Lets libevhtp read the first n bytes of the input, and none of what follows them. */
static void feed(struct http_conn *c, size_t n)
{
    struct evbuffer *in = input_of(c), *front = NULL, *rest = NULL;

    if (evbuffer_get_length(in) > n) {
        front = evbuffer_new();
        rest = evbuffer_new();
        if (!front || !rest || evbuffer_remove_buffer(in, front, n) != (int)n ||
            evbuffer_add_buffer(rest, in) != 0 || evbuffer_prepend_buffer(in, front) != 0)
            conn_doom(c);
    }
    if (!c->doomed)
        c->ev_read(c->bev, c->ev);
    if (rest && c->bev && evbuffer_prepend_buffer(input_of(c), rest) != 0)
        conn_doom(c);
    if (front)
        evbuffer_free(front);
    if (rest)
        evbuffer_free(rest);
}

/* --- the body
 * ------------------------------------------------------------------------------------- */

static void begin_work(struct http_conn *c)
{
    struct request *req = c->req;
    bool ai = req->route->body == BODY_CHAT || req->route->rate == RATE_AI;

    req->body = buf_slice(&req->body_buf);
    req->deadline_us =
        loop_now_us() + SECONDS(ai ? req->conf->deadline_ai_s : req->conf->deadline_s);
    enter(c, CONN_WORK);
    chain_run_body(req);
}

/* Checks chunked framing of what lies behind the first `prefix` bytes. On success *ret_n is how
 * many bytes of the input, prefix included, are libevhtp's. Extensions are cut out, so the bytes
 * before them move up. */
static enum gw_err check_chunks(struct http_conn *c, size_t prefix, size_t *ret_n)
{
    struct evbuffer *in = input_of(c);
    size_t total = evbuffer_get_length(in), used, kept, gap;
    char *p = (char *)evbuffer_pullup(in, (ssize_t)total);
    enum gw_err err;

    if (!p)
        return GW_ENOMEM;
    err = gate_chunks_feed(&c->chunks, p + prefix, total - prefix, c->body_max, &used, &kept);
    gap = used - kept;
    if (gap) {
        memmove(p + gap, p, prefix + kept);
        evbuffer_drain(in, gap);
    }
    *ret_n = prefix + kept;
    return err == GW_EAGAIN ? GW_OK : err;
}

/* Passes on what has come of the body; `prefix` bytes of the input are the head. */
static void pass_body(struct http_conn *c, size_t prefix)
{
    size_t n, here = evbuffer_get_length(input_of(c)) - prefix;
    enum gw_err err = GW_OK;

    c->last_byte_us = loop_now_us();
    if (c->chunked) {
        err = check_chunks(c, prefix, &n);
    } else {
        n = here < c->left ? here : (size_t)c->left;
        c->left -= n;
        n += prefix;
    }
    if (!err && n)
        feed(c, n);
    if (!c->ev || c->doomed)
        return;
    if (!err)
        err = c->body_err;
    if (err) {
        c->whole = false;
        refuse(c->req, err, err == GW_EBADREQ ? "The chunked body is malformed" : NULL);
    } else if (c->whole) {
        begin_work(c);
    } else if (c->state != CONN_BODY) {
        enter(c, CONN_BODY);
    }
}

/* --- the head
 * ------------------------------------------------------------------------------------- */

static enum gw_err parse_head(struct http_conn *c, struct slice in, size_t bytes,
                              struct gate_head *h, const char **ret_why)
{
    struct slice head = slice_of(in.p + c->scan.start, bytes - c->scan.start);
    enum gw_err err = gate_head_parse(c->req->arena, head, h, ret_why);

    take_line(c->req, h);
    if (err)
        c->req->minor = 1;
    if (err == GW_EMETHOD || err == GW_ENOTIMPL)
        set_allow_all(c->req);
    return err;
}

/* The head rows have answered. A message that is here as a whole is dropped and the connection may
 * go on. */
static void skip_message(struct http_conn *c, size_t bytes)
{
    if (c->whole)
        evbuffer_drain(input_of(c), bytes);
}

/* Puts the plain head where the client's was; returns its length. */
static size_t replace_head(struct http_conn *c, const struct gate_head *h, size_t bytes)
{
    char plain[GATE_PLAIN_HEAD];
    size_t n = gate_plain_head(h, plain);
    unsigned char *p = evbuffer_pullup(input_of(c), (ssize_t)bytes);

    assert(p && n <= bytes);
    memcpy(p + bytes - n, plain, n);
    evbuffer_drain(input_of(c), bytes - n);
    return n;
}

/* A whole head of `bytes` bytes is at the front of the input. */
static void take_head(struct http_conn *c, struct slice in, size_t bytes)
{
    size_t here = evbuffer_get_length(input_of(c)) - bytes;
    struct gate_head h;
    const char *why = NULL;
    enum gw_err err;

    if (!begin_request(c))
        return;
    enter(c, CONN_WORK);
    err = parse_head(c, in, bytes, &h, &why);
    if (err) {
        refuse(c->req, err, why);
        return;
    }
    c->keep = h.keep_alive;
    c->chunked = h.chunked;
    c->left = h.length;
    c->whole = !h.chunked && h.length <= here;
    if (!admit(c, &h)) {
        skip_message(c, bytes + (size_t)h.length);
        return;
    }
    c->whole = false;
    c->chunks = (struct gate_chunks){0};
    if (h.expect_continue && here == 0 && (h.chunked || h.length))
        send_continue(c);
    c->in_evhtp = true;
    pass_body(c, replace_head(c, &h, bytes));
}

static enum gw_err scan_head(struct http_conn *c, struct slice *ret_in, size_t *ret_bytes,
                             const char **ret_why)
{
    struct evbuffer *in = input_of(c);
    size_t total = evbuffer_get_length(in), n = evbuffer_get_contiguous_space(in);
    enum gw_err err = GW_EAGAIN;

    for (;;) {
        *ret_in = slice_of((const char *)evbuffer_pullup(in, (ssize_t)n), n);
        if (!ret_in->p)
            return GW_ENOMEM;
        err = gate_head_scan(&c->scan, *ret_in, ret_bytes, ret_why);
        if (err != GW_EAGAIN || n == total)
            return err;
        n = total < 2 * GATE_MAX_HEAD ? total : 2 * GATE_MAX_HEAD;
    }
}

static void conn_head(struct http_conn *c)
{
    struct slice in;
    size_t bytes = 0;
    const char *why = NULL;
    enum gw_err err;

    if (c->state == CONN_IDLE)
        enter(c, CONN_HEAD);
    err = scan_head(c, &in, &bytes, &why);
    if (err == GW_OK)
        take_head(c, in, bytes);
    else if (err != GW_EAGAIN)
        refuse_bytes(c, in, err, why);
}

static void drop_input(struct http_conn *c)
{
    evbuffer_drain(input_of(c), evbuffer_get_length(input_of(c)));
    c->last_byte_us = loop_now_us();
}

/* A request is being worked on: what comes meanwhile waits, as far as that is reasonable. */
static void hold_input(struct http_conn *c)
{
    if (evbuffer_get_length(input_of(c)) <= AHEAD_MAX_BYTES)
        return;
    bufferevent_disable(c->bev, EV_READ);
    c->deaf = true;
}

static void conn_read(struct http_conn *c)
{
    if (c->doomed)
        return;
    if (c->state == CONN_LINGER || (c->state == CONN_WORK && c->answered && !c->whole))
        drop_input(c);
    else if (c->state == CONN_BODY)
        pass_body(c, 0);
    else if (c->state == CONN_WORK)
        hold_input(c);
    else
        conn_head(c);
}

/* --- callbacks of libevent
 * --------------------------------------------------------------------------- */

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

    refuse_bytes(c, in, GW_EREQTIMEOUT, "The request head did not arrive in time");
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
        refuse(c->req, GW_EREQTIMEOUT, "The request body did not arrive in time");
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
        refused("slow_reader");
        conn_doom(c);
        return;
    }
    due = state_due(c);
    if (due && due <= loop_now_us())
        on_due(c);
    if (!c->doomed)
        conn_rearm(c);
}

/* --- opening
 * ------------------------------------------------------------------------------------------ */

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
    evhtp_connection_set_hook(c->ev, evhtp_hook_on_read, (evhtp_hook)on_body, c);
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
        enter(c, CONN_IDLE);
    }
    return c;
}
