/*
 * request.c - see request.h.
 *
 *     created --reply--> replied --out or lost--> concluded (finish hooks, once) --last
 * reference--> freed
 *       '--client gone, a tap outlives it--> detached --reply--> concluded
 *
 * Freeing is deferred to the end of the turn, so that nobody up the stack loses the request it
 * works on.
 */
#include "gateway/http/request.h"

#include "gateway/core/hex.h"
#include "gateway/core/metrics.h"
#include "gateway/http/conn.h"
#include "gateway/http/encoding.h"
#include "gateway/http/etag.h"
#include "gateway/http/problem.h"
#include "gateway/http/stream.h"
#include "gateway/http/tap.h"

#include <assert.h>

#define MAX_HOOKS 8u
#define PROBLEM_MAX_BYTES 65536u

static void (*response_hooks[MAX_HOOKS])(struct request *req);
static void (*finish_hooks[MAX_HOOKS])(struct request *req);
static unsigned n_response_hooks, n_finish_hooks;

static TAILQ_HEAD(, request) detached = TAILQ_HEAD_INITIALIZER(detached); /* one reference each */
static unsigned n_detached;

static size_t bodies_held; /* bytes of all body buffers together */

/* --- life ---------------------------------------------------------------------------------- */

struct request *request_create(struct arena *arena, struct http_conn *conn)
{
    struct request *req = arena_new(arena, struct request);

    if (!req) {
        arena_destroy(arena);
        return NULL;
    }
    req->arena = arena;
    req->refs = 1;
    req->conn = conn;
    req->conf = conf_ref(conf_current());
    req->log.component = "http";
    req->started_us = loop_now_us();
    return req;
}

struct request *request_ref(struct request *req)
{
    req->refs++;
    return req;
}

static void count_held(size_t before, size_t after)
{
    static struct metric_series *gauge;

    if (before == after)
        return;
    if (!gauge)
        gauge = metrics_get(M_BODY_BYTES, NULL, NULL, NULL);
    bodies_held += after - before;
    metrics_add(gauge, (int64_t)after - (int64_t)before);
}

char *request_body_room(struct request *req, size_t n, enum gw_err *ret_err)
{
    struct buf *b = &req->body_buf;
    size_t before = b->cap, budget = (size_t)req->conf->body_memory_mb << 20;
    char *to;

    if (n > b->cap - b->n && (n > budget || bodies_held > budget - n)) {
        *ret_err = GW_EOVERLOAD;
        return NULL;
    }
    to = buf_reserve(b, n);
    count_held(before, b->cap);
    *ret_err = buf_err(b);
    return to;
}

static void request_free(void *arg)
{
    struct request *req = arg;

    assert(req->refs == 0 && !req->conn);
    count_held(req->body_buf.cap, 0);
    buf_deinit(&req->body_buf);
    conf_unref(req->conf);
    arena_destroy(req->arena);
}

struct request *request_unref(struct request *req)
{
    if (!req)
        return NULL;
    assert(req->refs > 0);
    if (--req->refs == 0)
        loop_defer(&req->freeing, request_free, req);
    return NULL;
}

/* --- reading ------------------------------------------------------------------------------- */

struct slice request_header(const struct request *req, const char *name)
{
    struct slice key = slice_cstr(name);

    for (unsigned i = 0; i < req->n_headers; i++)
        if (slice_eq_nocase(req->headers[i].name, key))
            return req->headers[i].value;
    return SLICE_NONE;
}

unsigned request_header_count(const struct request *req, const char *name)
{
    unsigned count = 0;

    for (unsigned i = 0; i < req->n_headers; i++)
        count += slice_is_nocase(req->headers[i].name, name);
    return count;
}

/* Decodes %XX and '+'; p == NULL with *err set for a bad escape or NUL, or out of memory. */
static struct slice query_decode(struct arena *a, struct slice raw, enum gw_err *err)
{
    char *out = arena_bytes(a, raw.n + 1);
    size_t n = 0;

    *err = out ? GW_OK : GW_ENOMEM;
    for (size_t i = 0; i < raw.n && !*err; i++) {
        int c = (unsigned char)raw.p[i];

        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            c = raw.n - i > 2 ? hex_pair(raw.p + i + 1) : -1;
            i += 2;
        }
        if (c <= 0)
            *err = GW_EBADREQ;
        else
            out[n++] = (char)c;
    }
    if (*err)
        return SLICE_NONE;
    out[n] = '\0';
    return slice_of(out, n);
}

struct slice request_query(const struct request *req, const char *name, enum gw_err *err)
{
    struct slice rest = req->query, pair, value = SLICE_NONE;
    enum gw_err e = GW_OK;
    size_t amp, eq;

    while (rest.n && !value.p && !e) {
        amp = slice_find(rest, '&');
        pair = slice_of(rest.p, amp);
        rest = slice_from(rest, amp + 1);
        eq = slice_find(pair, '=');
        if (slice_is(slice_of(pair.p, eq), name))
            value = query_decode(req->arena, slice_from(pair, eq + 1), &e);
    }
    if (err)
        *err = e;
    return value;
}

uint64_t request_time_left_us(const struct request *req)
{
    uint64_t now = loop_now_us();

    return req->deadline_us > now ? req->deadline_us - now : 0;
}

/* --- writing ------------------------------------------------------------------------------- */

static bool value_is_clean(struct slice v)
{
    for (size_t i = 0; i < v.n; i++)
        if (((unsigned char)v.p[i] < 0x20 && v.p[i] != '\t') || v.p[i] == 0x7f)
            return false;
    return true;
}

bool request_set_header(struct request *req, const char *name, struct slice value)
{
    struct slice key = slice_cstr(name), copy;
    unsigned i = 0;

    if (!value_is_clean(value))
        return false;
    while (i < req->n_out && !slice_eq_nocase(req->out[i].name, key))
        i++;
    if (i == REQUEST_MAX_OUT_HEADERS)
        return false;
    copy = arena_dup(req->arena, value);
    if (!copy.p)
        return false;
    req->out[i] = (struct http_header){key, copy};
    if (i == req->n_out)
        req->n_out++;
    return true;
}

static bool list_holds(struct slice list, const char *field)
{
    while (list.n) {
        size_t n = slice_find(list, ',');

        if (slice_is_nocase(slice_trim(slice_of(list.p, n)), field))
            return true;
        list = slice_from(list, n < list.n ? n + 1 : n);
    }
    return false;
}

void request_vary(struct request *req, const char *field)
{
    struct slice now = SLICE_NONE;

    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is_nocase(req->out[i].name, "Vary"))
            now = req->out[i].value;
    if (!now.n)
        request_set_header(req, "Vary", slice_cstr(field));
    else if (!list_holds(now, field) && !slice_is(now, "*"))
        request_set_header(req, "Vary",
                           arena_printf(req->arena, "%.*s, %s", (int)now.n, now.p, field));
}

void request_note(struct request *req, const char *key, struct slice value)
{
    unsigned max = sizeof(req->note) / sizeof(req->note[0]), i = 0;
    struct slice copy;

    while (i < req->n_notes && !slice_is(req->note_key[i], key))
        i++;
    if (i == max)
        return;
    copy = arena_dup(req->arena, value);
    if (!copy.p)
        return;
    req->note_key[i] = slice_cstr(key);
    req->note[i] = copy;
    if (i == req->n_notes)
        req->n_notes++;
}

void request_on_abort(struct request *req, void (*fn)(struct request *req, void *arg), void *arg)
{
    req->on_abort = fn;
    req->on_abort_arg = arg;
}

void request_add_response_hook(void (*fn)(struct request *req))
{
    assert(n_response_hooks < MAX_HOOKS);
    response_hooks[n_response_hooks++] = fn;
}

void request_add_finish_hook(void (*fn)(struct request *req))
{
    assert(n_finish_hooks < MAX_HOOKS);
    finish_hooks[n_finish_hooks++] = fn;
}

void request_run_response_hooks(struct request *req)
{
    for (unsigned i = 0; i < n_response_hooks; i++)
        response_hooks[i](req);
}

/* --- the end ------------------------------------------------------------------------------- */

/* A detached request is over. */
static void detached_end(struct request *req)
{
    req->detached = false;
    TAILQ_REMOVE(&detached, req, detached_link);
    n_detached--;
    request_unref(req);
}

void request_conclude(struct request *req)
{
    if (req->finished)
        return;
    req->finished = true;
    tap_end(req, false);
    for (unsigned i = 0; i < n_finish_hooks; i++)
        finish_hooks[i](req);
    if (req->detached)
        detached_end(req);
}

/* Nobody is there to be answered, or is to be. */
static void end_unanswered(struct request *req)
{
    req->replied = true;
    req->err = GW_EGONECLIENT;
    if (!req->status)
        req->status = err_info(GW_EGONECLIENT)->status;
    if (req->conn)
        conn_doom(req->conn);
    request_conclude(req);
}

static void fire_abort(struct request *req)
{
    void (*fn)(struct request *, void *) = req->on_abort;

    req->on_abort = NULL;
    if (fn)
        fn(req, req->on_abort_arg);
}

/* Goes on without its client, for those who listen. */
static void request_detach(struct request *req)
{
    req->detached = true;
    request_ref(req);
    TAILQ_INSERT_TAIL(&detached, req, detached_link);
    n_detached++;
    metrics_add(metrics_get(M_CLIENT_GONE, "outlived", NULL, NULL), 1);
    if (req->stream)
        stream_detached(req->stream);
}

unsigned request_detached(void)
{
    return n_detached;
}

void request_abort_detached(void)
{
    struct request *req;

    while ((req = TAILQ_FIRST(&detached))) {
        request_ref(req);
        if (req->stream)
            stream_lost(req->stream);
        fire_abort(req);
        if (!req->finished)
            end_unanswered(req);
        request_unref(req);
    }
}

void request_lost(struct request *req)
{
    bool complete = req->replied && (!req->stream || stream_is_over(req->stream));

    if (!complete && n_detached < REQUEST_MAX_DETACHED && tap_outlives(req)) {
        request_detach(req);
        return;
    }
    if (req->stream)
        stream_lost(req->stream);
    if (complete) {
        if (!req->err)
            req->err = GW_EGONECLIENT;
    } else {
        fire_abort(req);
        if (!req->finished)
            end_unanswered(req);
    }
    request_conclude(req);
}

void request_overdue(struct request *req)
{
    void (*fn)(struct request *, void *) = req->on_abort;
    void *arg = req->on_abort_arg;

    request_ref(req);
    request_fail(req, GW_EDEADLINE, NULL);
    if (fn)
        fn(req, arg);
    request_unref(req);
}

void request_reply(struct request *req, int status, struct slice type, struct slice body)
{
    struct iovec iov[2];
    struct slice head;
    bool gzip, with_body;

    if (req->replied)
        return;
    if (request_is_wanted(req)) {
        tap_head(req, status, type, false);
        tap_bytes(req, body);
        tap_end(req, true);
    }
    if (!req->conn) {
        end_unanswered(req);
        return;
    }
    req->on_abort = NULL;
    gzip = encoding_choose(req, type, body.n);
    if (etag_check(req, status, type, body)) {
        status = 304;
        body = SLICE_NONE;
    }
    if (gzip)
        body = encoding_gzip(req, body);
    with_body = response_has_body(req, status) && body.n;
    head = response_head(req, status, type, (int64_t)body.n);
    if (!head.n) {
        conn_doom(req->conn);
        return;
    }
    iov[0] = (struct iovec){(void *)head.p, head.n};
    iov[1] = (struct iovec){(void *)body.p, body.n};
    req->bytes_out = with_body ? body.n : 0;
    conn_write(req->conn, iov, with_body ? 2 : 1);
    conn_answered(req->conn);
}

static void end_stream(struct request *req, enum gw_err err)
{
    if (!req->stream)
        return;
    if (err)
        stream_abort(req->stream, err);
    else
        stream_end(req->stream);
}

void request_finish(struct request *req, enum gw_err err, struct slice body)
{
    if (err)
        request_fail(req, err, NULL);
    else if (req->replied)
        end_stream(req, GW_OK);
    else
        request_reply(req, 200, SLICE("application/json"), body);
}

void request_finish_buf(struct request *req, struct buf *body)
{
    request_finish(req, buf_err(body), buf_slice(body));
    buf_deinit(body);
}

static void set_retry_after(struct request *req, int status, const struct error_detail *d)
{
    char text[24];

    if (!(d && d->retry_after_s) && status != 503)
        return;
    snprintf(text, sizeof(text), "%llu",
             (unsigned long long)(d && d->retry_after_s ? d->retry_after_s : 1));
    request_set_header(req, "Retry-After", slice_cstr(text));
}

void request_fail(struct request *req, enum gw_err err, const struct error_detail *detail)
{
    enum surface surface = surface_of(req);
    struct slice type;
    struct buf body;
    int status;

    if (req->replied) {
        end_stream(req, err);
        return;
    }
    if (err == GW_EGONECLIENT || !request_is_wanted(req)) {
        end_unanswered(req);
        return;
    }
    req->err = err;
    status = problem_status(surface, err, detail);
    set_retry_after(req, status, detail);
    request_set_header(req, "X-Postern-Error-Source",
                       detail && detail->vendor ? SLICE("provider") : SLICE("gateway"));
    /* the id may be made by a response hook: those run twice on errors, and set what they set
     * before */
    if (!req->id.n)
        request_run_response_hooks(req);
    buf_init(&body, PROBLEM_MAX_BYTES);
    problem_write(surface, err, detail, req->id, req->path, &body, &type);
    if (buf_err(&body)) {
        buf_deinit(&body);
        problem_write(surface, err, NULL, req->id, SLICE_NONE, &body, &type);
    }
    request_reply(req, status, type, buf_slice(&body));
    buf_deinit(&body);
}
