/*
 * server_read.c - what a client sends: the gate in front of libevhtp.
 *
 * Bytes wait in the bufferevent's input until a whole head is there. The gate checks it, the head
 * rows of the chain run, and only then libevhtp's own read callback is called, with a plain head in
 * the place of the client's and with no byte beyond this request: what was pipelined stays behind
 * until the exchange is over. A request refused by the head rows never reaches libevhtp.
 *
 *     take_head --rows passed--> on_admitted --> libevhtp
 *       '--a row parked--> (CONN_WORK, c->held) --chain_resume()--> on_admitted, or answered
 *
 * While a head row is parked the client's head and what follows it stay where they are, in the
 * input; what the gate read of the head is kept in the request's arena (struct held_head). A
 * message answered in that time, or before, is dropped when the exchange is over, if it is here as
 * a whole; otherwise the connection closes.
 *
 * Reading stays on while a request is worked on, so that a client that leaves is noticed at once;
 * only one that has sent AHEAD_MAX_BYTES ahead is not read from until its answer is out.
 */
#include "gateway/http/server_conn.h"

#include "gateway/core/metrics.h"
#include "gateway/http/chain.h"
#include "gateway/http/encoding.h"
#include "gateway/http/router.h"
#include "gateway/http/server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include <assert.h>

#define ARENA_MAX_BYTES (128u << 20)
#define AHEAD_MAX_BYTES 65536u /* a client may send this much ahead of its answers */
#define SECONDS(n) ((uint64_t)(n)*1000000u)

static struct evbuffer *input_of(const struct http_conn *c)
{
    return bufferevent_get_input(c->bev);
}

/* --- refusing ------------------------------------------------------------------------------ */

void conn_refuse(struct request *req, enum gw_err err, const char *why)
{
    struct error_detail d = {.message = slice_cstr(why)};

    conn_count_refused(err_info(err)->slug);
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
    c->held = NULL;
    c->message = 0;
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
void conn_refuse_bytes(struct http_conn *c, struct slice in, enum gw_err err, const char *why)
{
    struct request *req = begin_request(c);
    struct gate_head h;

    if (!req)
        return;
    conn_enter(c, CONN_WORK);
    req->minor = 1;
    if (gate_line_peek(req->arena, slice_from(in, c->scan.start), &h))
        take_line(req, &h);
    conn_refuse(req, err, why);
}

/* --- admitting ----------------------------------------------------------------------------- */

static bool admit_load(struct http_conn *c)
{
    struct request *req = c->req;

    if (server_requests() <= (unsigned)req->conf->max_requests_inflight)
        return true;
    conn_count_refused("requests");
    request_fail(req, GW_EOVERLOAD, NULL);
    return false;
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
        return encoding_is_json(type);
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
        conn_refuse(req, GW_EBADREQ, "The path is not one that can be served");
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
        conn_refuse(req, GW_ETOOBIG, "The body is larger than this route takes");
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

static void send_continue(struct http_conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec iov = {(void *)text, sizeof(text) - 1};

    conn_write(c, &iov, 1);
}

/* --- libevhtp ------------------------------------------------------------------------------ */

/* libevhtp has decoded a piece of the body. Taking it all keeps it from parsing forms itself. */
evhtp_res conn_on_body(evhtp_request_t *ereq, struct evbuffer *piece, void *arg)
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

/* --- the body ------------------------------------------------------------------------------ */

static void begin_work(struct http_conn *c)
{
    struct request *req = c->req;
    bool ai = req->route->body == BODY_CHAT || req->route->rate == RATE_AI;

    req->body = buf_slice(&req->body_buf);
    req->deadline_us =
        loop_now_us() + SECONDS(ai ? req->conf->deadline_ai_s : req->conf->deadline_s);
    conn_enter(c, CONN_WORK);
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
        conn_refuse(c->req, err, err == GW_EBADREQ ? "The chunked body is malformed" : NULL);
    } else if (c->whole) {
        begin_work(c);
    } else if (c->state != CONN_BODY) {
        conn_enter(c, CONN_BODY);
    }
}

/* --- the head ------------------------------------------------------------------------------ */

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

/* What is known of a head at the front of the input while the rows look at it. */
struct held_head {
    struct gate_head h;
    size_t bytes;      /* its length in the input */
    enum gw_err found; /* the router's verdict */
    struct slice allow;
};

/* All head rows have passed it: route, limits, then the rest is libevhtp's. */
static void admit(struct http_conn *c, const struct held_head *held)
{
    const struct gate_head *h = &held->h;
    size_t here = evbuffer_get_length(input_of(c)) - held->bytes;

    if (!admit_route(c->req, held->found, held->allow) || !admit_body(c, h))
        return;
    c->whole = false;
    c->message = 0;
    c->chunks = (struct gate_chunks){0};
    if (h->expect_continue && here == 0 && (h->chunked || h->length))
        send_continue(c);
    c->in_evhtp = true;
    pass_body(c, replace_head(c, h, held->bytes));
}

/* The last of the head rows has resumed it. */
static void on_passed(struct request *req)
{
    struct http_conn *c = req->conn;
    const struct held_head *held = c->held;

    c->held = NULL;
    if (c->doomed)
        return;
    conn_hear(c);
    admit(c, held);
}

static void hold_head(struct http_conn *c, const struct held_head *held)
{
    struct held_head *copy = arena_new(c->req->arena, struct held_head);

    if (!copy) {
        request_fail(c->req, GW_ENOMEM, NULL);
        return;
    }
    *copy = *held;
    c->held = copy;
}

/* Notes whether the message, whose head libevhtp has not been given, is here to its end. */
static void note_whole(struct http_conn *c)
{
    c->whole = !c->chunked && c->message <= evbuffer_get_length(input_of(c));
}

/* A whole head of `bytes` bytes is at the front of the input. */
static void take_head(struct http_conn *c, struct slice in, size_t bytes)
{
    struct held_head held = {.bytes = bytes};
    const char *why = NULL;
    enum gw_err err;

    if (!begin_request(c))
        return;
    conn_enter(c, CONN_WORK);
    err = parse_head(c, in, bytes, &held.h, &why);
    if (err) {
        conn_refuse(c->req, err, why);
        return;
    }
    c->keep = held.h.keep_alive;
    c->chunked = held.h.chunked;
    c->left = held.h.length;
    c->message = bytes + held.h.length;
    note_whole(c);
    if (!admit_load(c))
        return;
    held.found = route_find(c->req, &held.h, &held.allow);
    switch (chain_run_head(c->req, on_passed)) {
    case CHAIN_NEXT:
        admit(c, &held);
        break;
    case CHAIN_PARKED:
        hold_head(c, &held);
        break;
    case CHAIN_DONE:
        break;
    }
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
        conn_enter(c, CONN_HEAD);
    err = scan_head(c, &in, &bytes, &why);
    if (err == GW_OK)
        take_head(c, in, bytes);
    else if (err != GW_EAGAIN)
        conn_refuse_bytes(c, in, err, why);
}

static void drop_input(struct http_conn *c)
{
    evbuffer_drain(input_of(c), evbuffer_get_length(input_of(c)));
    c->last_byte_us = loop_now_us();
}

/* A request is being worked on: what comes meanwhile waits, as far as that is reasonable. */
static void hold_input(struct http_conn *c)
{
    if (c->held && !c->answered)
        note_whole(c);
    if (evbuffer_get_length(input_of(c)) <= AHEAD_MAX_BYTES)
        return;
    bufferevent_disable(c->bev, EV_READ);
    c->deaf = true;
}

void conn_read(struct http_conn *c)
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
