/*
 * repeat.c - Idempotency-Key: a POST that is sent again gets the first one's outcome.
 *
 *     HASH (large bodies) --> the key is in use here --> WAIT --first is over--> its outcome, or
 * 409
 *        '--> kept here: replay, 409, 422
 *        '--> CLAIM in Redis --> kept or marked there: replay, 409, 422
 *               '--> FIRST (tapped) --answer made--> kept, or released
 *
 * struct repeat lives in the request's arena and holds one reference on the request until it is
 * done with. `running` holds those in CLAIM and FIRST, by owner and key; the others wait on theirs.
 *
 * Whose key it is: the credential's, or the client's address where none is needed. Kept are answers
 * that would be the same again: 2xx, and 4xx but for those that depend on the moment
 * (is_lasting()). For all else the key is released, so that a repetition runs.
 *
 * A key is to be paid for once. So a request that has one goes on when its client leaves before the
 * answer has begun, for whoever comes again (tap.h, outlive). A client that leaves in the middle of
 * a stream means to stop it: the provider is stopped, what was made is billed, and a repetition is
 * told so (409) instead of running again. A provider that fails in the middle releases the key.
 *
 * Routes of the class `auth` are left out: what they answer is secret and must not be kept.
 */
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"
#include "gateway/http/router.h"
#include "gateway/http/stream.h"
#include "gateway/http/tap.h"
#include "gateway/middleware/middleware.h"
#include "storage/idempotency.h"
#include "storage/principal.h"

#include <openssl/evp.h>
#include <sys/queue.h>
#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <uthash.h>

#define HASH_HERE_BYTES 262144u /* larger bodies are hashed off the loop */
#define RETRY_AFTER_S 1u

enum repeat_state { REPEAT_HASH, REPEAT_CLAIM, REPEAT_FIRST, REPEAT_WAIT };

TAILQ_HEAD(repeat_list, repeat);

struct repeat {
    struct request *req; /* counted reference */
    struct op *op;       /* outstanding: hashing or claiming */
    enum repeat_state state;
    bool running;  /* in the table */
    bool unhashed; /* no memory for the fingerprint */
    struct idem_use use;

    /* the first one */
    struct repeat_list waiters;
    struct tap tap;
    struct buf body; /* what has been answered so far */
    struct idem_outcome outcome;
    enum idem_verdict told; /* what waiters are told; IDEM_FIRST: it failed, there is nothing */
    struct loop_timer renew;
    struct loop_deferred wake;
    UT_hash_handle hh;

    /* one that waits */
    struct repeat *first;
    struct loop_timer due;
    TAILQ_ENTRY(repeat) link;
};

static struct repeat *running;

static void count(const char *outcome)
{
    metrics_add(metrics_get(M_IDEMPOTENCY, outcome, NULL, NULL), 1);
}

static void count_repetition(enum idem_verdict v)
{
    count(v == IDEM_DONE ? "replayed" : v == IDEM_REUSED ? "reused" : "busy");
}

/* Is over with this one; `r` may be gone when this returns. */
static void repeat_end(struct repeat *r)
{
    request_unref(r->req);
}

/* --- answering a repetition ------------------------------------------------------------------- */

static void refuse(struct request *req, enum gw_err err, const char *why)
{
    struct error_detail d = {.message = slice_cstr(why), .param = SLICE("Idempotency-Key")};

    if (err == GW_EIDEMBUSY)
        d.retry_after_s = RETRY_AFTER_S;
    request_fail(req, err, &d);
}

static void replay_body(struct request *req, const struct idem_outcome *o)
{
    struct stream_options opt = {.status = o->status, .content_type = o->type};
    struct stream *s;

    if (o->kind != IDEM_STREAM) {
        request_reply(req, o->status, o->type, o->body);
        return;
    }
    s = stream_begin(req, &opt);
    if (!s)
        return;
    stream_write(s, o->body);
    stream_end(s);
}

static void replay(struct request *req, const struct idem_outcome *o)
{
    if (o->kind == IDEM_LARGE) {
        refuse(req, GW_ECONFLICT,
               "The request with this Idempotency-Key is done, but its answer was too large to be "
               "kept. It is not run again under the same key");
        return;
    }
    if (o->kind == IDEM_CUT) {
        refuse(req, GW_ECONFLICT,
               "The stream of the request with this Idempotency-Key was cut when its client left. "
               "It is not run again under the same key");
        return;
    }
    for (unsigned i = 0; i < o->n_headers; i++) {
        const char *name = arena_cstr(req->arena, o->headers[i].name);

        if (name)
            request_set_header(req, name, o->headers[i].value);
    }
    request_set_header(req, "Idempotency-Replayed", SLICE("true"));
    replay_body(req, o);
}

/* IDEM_FIRST: the first one is over and left nothing. */
static void answer(struct request *req, enum idem_verdict v, const struct idem_outcome *o)
{
    if (v == IDEM_DONE)
        replay(req, o);
    else if (v == IDEM_REUSED)
        refuse(req, GW_EIDEMREUSED, NULL);
    else
        refuse(req, GW_EIDEMBUSY, v == IDEM_BUSY ? NULL : "The first request with this key failed");
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void stop_waiting(struct repeat *w)
{
    TAILQ_REMOVE(&w->first->waiters, w, link);
    loop_timer_stop(&w->due);
    request_on_abort(w->req, NULL, NULL);
}

static void on_waiter_gone(struct request *req, void *arg)
{
    struct repeat *w = arg;

    stop_waiting(w);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    repeat_end(w);
}

/* The first one takes longer than this one may wait. */
static void on_waited_enough(void *arg)
{
    struct repeat *w = arg;

    loop_place("idempotency_wait");
    stop_waiting(w);
    refuse(w->req, GW_EIDEMBUSY, NULL);
    repeat_end(w);
}

static void wait_for(struct repeat *w, struct repeat *first)
{
    w->state = REPEAT_WAIT;
    w->first = first;
    TAILQ_INSERT_TAIL(&first->waiters, w, link);
    loop_timer_init(&w->due, on_waited_enough, w);
    loop_timer_set(&w->due, w->req->deadline_us);
    request_on_abort(w->req, on_waiter_gone, w);
    count("waited");
}

/* After the turn: nobody answers a request inside another one's funnel. */
static void wake_waiters(void *arg)
{
    struct repeat *r = arg, *w;

    while ((w = TAILQ_FIRST(&r->waiters))) {
        stop_waiting(w);
        answer(w->req, r->told, &r->outcome);
        repeat_end(w);
    }
    buf_deinit(&r->body);
    repeat_end(r);
}

/* The first one is over, or was none. */
static void leave_running(struct repeat *r)
{
    if (r->running)
        HASH_DEL(running, r);
    r->running = false;
    loop_timer_stop(&r->renew);
    loop_defer(&r->wake, wake_waiters, r);
}

/* --- the first one's answer ------------------------------------------------------------------- */

static bool header_is_kept(struct slice name)
{
    static const char *const kept[] = {"Location", "Link", "Cache-Control", "X-Accel-Buffering"};

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        if (slice_is_nocase(name, kept[i]))
            return true;
    return name.n > 10 && strncasecmp(name.p, "X-Postern-", 10) == 0;
}

static void on_head(struct request *req, int status, struct slice type, bool stream, void *arg)
{
    struct repeat *r = arg;
    struct idem_outcome *o = &r->outcome;

    o->status = status;
    o->kind = stream ? IDEM_STREAM : IDEM_WHOLE;
    o->type = arena_dup(req->arena, type);
    for (unsigned i = 0; i < req->n_out && o->n_headers < IDEM_MAX_HEADERS; i++)
        if (header_is_kept(req->out[i].name))
            o->headers[o->n_headers++] = (struct idem_header){req->out[i].name, req->out[i].value};
    if (stream && req->conn)
        r->tap.outlive = false; /* who leaves now has seen it begin, and means to stop it */
}

static void on_bytes(struct request *req, struct slice bytes, void *arg)
{
    struct repeat *r = arg;

    if (r->outcome.kind == IDEM_LARGE)
        return;
    buf_add_slice(&r->body, bytes);
    if (!buf_err(&r->body))
        return;
    buf_deinit(&r->body);
    r->outcome.kind = IDEM_LARGE;
}

/* Would the same request be answered the same again? */
static bool is_lasting(int status)
{
    switch (status) {
    case 401: /* credentials, rights and money change */
    case 402:
    case 403:
    case 408:
    case 409:
    case 413:
    case 423:
    case 425:
    case 429:
    case 499:
        return false;
    default:
        return status >= 200 && status < 500 && status / 100 != 3;
    }
}

/* The client saw a stream begin, and left. */
static bool was_cut(const struct repeat *r)
{
    return r->outcome.status && r->req->stream && r->req->err == GW_EGONECLIENT;
}

static void on_end(struct request *req, bool complete, void *arg)
{
    struct repeat *r = arg;

    r->outcome.body = buf_slice(&r->body);
    if (!complete && was_cut(r)) {
        r->outcome.kind = IDEM_CUT;
        r->outcome.body = SLICE_NONE;
    }
    r->told = complete || r->outcome.kind == IDEM_CUT ? IDEM_DONE : IDEM_FIRST;
    if (r->told == IDEM_DONE && is_lasting(r->outcome.status))
        idempotency_keep(&r->use, &r->outcome, (uint64_t)req->conf->idempotency_ttl_h * 3600000000);
    else
        idempotency_release(&r->use);
    leave_running(r);
}

static void on_renew(void *arg)
{
    struct repeat *r = arg;

    loop_place("idempotency_renew");
    idempotency_renew(&r->use);
    loop_timer_set(&r->renew, loop_now_us() + IDEM_RENEW_US);
}

static void become_first(struct repeat *r)
{
    r->state = REPEAT_FIRST;
    r->tap = (struct tap){on_head, on_bytes, on_end, r, .outlive = true};
    buf_init(&r->body, (size_t)r->req->conf->idempotency_max_kb << 10);
    tap_add(r->req, &r->tap);
    if (r->use.marked)
        loop_timer_set(&r->renew, loop_now_us() + IDEM_RENEW_US);
    count("first");
}

/* --- deciding --------------------------------------------------------------------------------- */

static void on_gone(struct request *req, void *arg)
{
    struct repeat *r = arg;
    bool was_claiming = r->state == REPEAT_CLAIM;

    op_cancel(&r->op);
    request_on_abort(req, NULL, NULL);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    if (was_claiming)
        leave_running(r);
    else
        repeat_end(r);
}

static void on_claimed(enum idem_verdict v, const struct idem_outcome *o, void *arg)
{
    struct repeat *r = arg;

    r->op = NULL;
    request_on_abort(r->req, NULL, NULL);
    if (v == IDEM_FIRST) {
        become_first(r);
        chain_resume(r->req);
        return;
    }
    r->outcome = *o;
    r->told = v;
    count_repetition(v);
    answer(r->req, v, o);
    leave_running(r);
}

static enum chain_verdict claim(struct repeat *r)
{
    HASH_ADD(hh, running, use.hash, sizeof(r->use.hash), r);
    r->running = r->hh.tbl != NULL; /* short of memory: two in this process may both run */
    r->state = REPEAT_CLAIM;
    r->op = idempotency_claim(&r->use, r->req->arena, on_claimed, r);
    if (r->op) {
        request_on_abort(r->req, on_gone, r);
        return CHAIN_PARKED;
    }
    become_first(r);
    return CHAIN_NEXT;
}

static enum chain_verdict join(struct repeat *r, struct repeat *first)
{
    if (memcmp(first->use.fingerprint, r->use.fingerprint, IDEM_FINGERPRINT) == 0) {
        wait_for(r, first);
        return CHAIN_PARKED;
    }
    count_repetition(IDEM_REUSED);
    answer(r->req, IDEM_REUSED, NULL);
    repeat_end(r);
    return CHAIN_DONE;
}

static enum chain_verdict decide(struct repeat *r)
{
    struct repeat *first;
    struct idem_outcome o = {0};
    enum idem_verdict v;

    if (r->unhashed) {
        request_fail(r->req, GW_ENOMEM, NULL);
        repeat_end(r);
        return CHAIN_DONE;
    }
    HASH_FIND(hh, running, &r->use.hash, sizeof(r->use.hash), first);
    if (first)
        return join(r, first);
    v = idempotency_look(&r->use, r->req->arena, &o);
    if (v == IDEM_FIRST)
        return claim(r);
    count_repetition(v);
    answer(r->req, v, &o);
    repeat_end(r);
    return CHAIN_DONE;
}

/* --- the fingerprint -------------------------------------------------------------------------- */

static bool add_text(EVP_MD_CTX *ctx, struct slice s)
{
    uint64_t n = s.n; /* lengths keep the parts apart */

    return EVP_DigestUpdate(ctx, &n, sizeof(n)) == 1 &&
           EVP_DigestUpdate(ctx, s.n ? s.p : "", s.n) == 1;
}

/* SHA-256 over method, path, query and body. Any thread. */
static void take_fingerprint(void *arg)
{
    struct repeat *r = arg;
    const struct request *req = r->req;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
              add_text(ctx, slice_cstr(http_method_name(req->method))) &&
              add_text(ctx, req->path) && add_text(ctx, req->query) && add_text(ctx, req->body) &&
              EVP_DigestFinal_ex(ctx, r->use.fingerprint, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    r->unhashed = !ok;
}

static void on_hashed(void *arg)
{
    struct repeat *r = arg;

    r->op = NULL;
    request_on_abort(r->req, NULL, NULL);
    if (decide(r) == CHAIN_NEXT)
        chain_resume(r->req);
}

/* The client has left; the thread is done with the body. */
static void on_hash_dropped(void *arg)
{
    repeat_end(arg);
}

static void on_gone_hashing(struct request *req, void *arg)
{
    struct repeat *r = arg;

    request_on_abort(req, NULL, NULL);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    op_cancel(&r->op); /* on_hash_dropped() follows */
}

static enum chain_verdict fingerprint_then_decide(struct repeat *r)
{
    if (r->req->body.n > HASH_HERE_BYTES) {
        r->state = REPEAT_HASH;
        r->op = offload_run(take_fingerprint, on_hashed, on_hash_dropped, r);
    }
    if (r->op) {
        request_on_abort(r->req, on_gone_hashing, r);
        return CHAIN_PARKED;
    }
    take_fingerprint(r);
    return decide(r);
}

/* --- beginning -------------------------------------------------------------------------------- */

/* Two callers never share a key: by API key, else by user, else by what the limits go by. */
static struct slice owner_of(const struct request *req)
{
    const struct principal *p = req->principal;
    struct arena *a = req->arena;

    if (p && p->key_id[0])
        return arena_printf(a, "key %s", p->key_id);
    if (p && p->owner_id[0])
        return arena_printf(a, "owner %s", p->owner_id);
    if (req->who.known)
        return arena_printf(a, "subject %.*s", (int)req->who.subject.n, req->who.subject.p);
    return arena_printf(a, "address %.*s", (int)req->client_ip.n, req->client_ip.p);
}

static bool key_is_good(struct slice key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= 0x20 || key.p[i] >= 0x7f)
            return false;
    return key.n >= 1 && key.n <= IDEM_MAX_KEY;
}

static enum chain_verdict fail(struct request *req, enum gw_err err, const char *why)
{
    struct error_detail d = {.message = slice_cstr(why), .param = SLICE("Idempotency-Key")};

    request_fail(req, err, &d);
    return CHAIN_DONE;
}

enum chain_verdict repeat_run(struct request *req)
{
    struct slice key, owner;
    struct repeat *r;

    if (req->method != HTTP_POST || req->route->rate == RATE_AUTH)
        return CHAIN_NEXT;
    key = request_header(req, "idempotency-key");
    if (!key.p)
        return CHAIN_NEXT;
    if (!key_is_good(key) || request_header_count(req, "idempotency-key") > 1)
        return fail(req, GW_EBADREQ, "Idempotency-Key must be 1 to 255 visible ASCII characters");
    r = arena_new(req->arena, struct repeat);
    owner = owner_of(req);
    if (!r || !owner.n || idempotency_use(req->arena, owner, key, &r->use))
        return fail(req, GW_ENOMEM, NULL);
    r->req = request_ref(req);
    TAILQ_INIT(&r->waiters);
    loop_timer_init(&r->renew, on_renew, r);
    return fingerprint_then_decide(r);
}
