/*
 * transport.c - libcurl's multi interface on the loop. See transport.h and transport_private.h.
 *
 *     transport_start --add--> libcurl --socket events, timers--> staging --deliver--> on_head,
 * on_data
 *                                                                        '--messages--> on_done
 *
 * libcurl is entered from three places only: a socket event, its timer, and run_soon() at the end
 * of a turn (calls just started, timers due at once, calls resumed). Each is followed by deliver().
 *
 * Sockets: libcurl drops its interest in a connection after each call and takes it up again with
 * the next. The event stays registered for reading in between, so a warm connection costs no
 * epoll_ctl; if it becomes readable while nobody waits (the peer closed it) the event is removed
 * then. Sockets are opened and closed through our callbacks, so the event is always gone before its
 * number.
 */
#include "providers/transport_private.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define POOL_MAX 256u                 /* idle handles kept per kind */
#define STAGE_KEPT_BYTES (256u << 10) /* memory the staging buffer keeps between turns */
#define STAGE_MAX_BYTES (1u << 30)
#define STAGE_ALIGN 8u

/* What libcurl waits for on a descriptor, and what is registered with libevent. */
struct watch {
    struct event ev;
    short wanted, watched; /* EV_READ, EV_WRITE */
    bool connection;       /* opened by us for libcurl, not one of its internal pipes */
};

struct staged {
    struct transfer *t;
    uint64_t serial;
    size_t n; /* body bytes that follow */
    bool is_head;
};

static struct {
    CURLM *multi;
    CURLSH *share; /* TLS sessions, so that new connections resume */
    struct transport_config cfg;
    struct transfer *pool[TRANSFER_KINDS];
    unsigned n_pool[TRANSFER_KINDS];
    struct watch **watches; /* by descriptor; kept until the end */
    size_t n_watches;
    struct loop_timer timer; /* libcurl's */
    struct loop_deferred soon;
    TAILQ_HEAD(, transfer) resuming;
    struct buf stage;
    size_t stage_last; /* offset of the last record, valid when stage.n > 0 */
    bool delivering;
    unsigned active;
} tp;

static void deliver(void);
static void run_soon(void *arg);

static void soon(void)
{
    loop_defer(&tp.soon, run_soon, NULL);
}

/* --- sockets -------------------------------------------------------------------------------- */

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct watch *w = arg;
    int running;

    loop_place("transport");
    if (!w->wanted) {
        event_del(&w->ev);
        w->watched = 0;
        return;
    }
    curl_multi_socket_action(tp.multi, fd,
                             (what & EV_READ ? CURL_CSELECT_IN : 0) |
                                 (what & EV_WRITE ? CURL_CSELECT_OUT : 0),
                             &running);
    deliver();
}

/* Registers exactly `events`; nothing is done when it is so already. */
static bool watch_for(struct watch *w, curl_socket_t fd, short events)
{
    if (w->watched == events)
        return true;
    if (w->watched)
        event_del(&w->ev);
    w->watched = 0;
    if (!events)
        return true;
    event_assign(&w->ev, loop_base(), fd, events | EV_PERSIST, on_ready, w);
    if (event_add(&w->ev, NULL) != 0)
        return false;
    w->watched = events;
    return true;
}

static struct watch *watch_of(curl_socket_t fd)
{
    size_t at = (size_t)fd, n = tp.n_watches ? tp.n_watches : 64;

    if (at >= tp.n_watches) {
        struct watch **grown;

        while (n <= at)
            n *= 2;
        grown = realloc(tp.watches, n * sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown + tp.n_watches, 0, (n - tp.n_watches) * sizeof(*grown));
        tp.watches = grown;
        tp.n_watches = n;
    }
    if (!tp.watches[at])
        tp.watches[at] = calloc(1, sizeof(struct watch));
    return tp.watches[at];
}

/* libcurl's CURLMOPT_SOCKETFUNCTION. */
static int on_interest(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct watch *w = watch_of(fd);
    short events;

    (void)easy, (void)arg, (void)socket_arg;
    if (!w)
        return -1;
    if (!w->connection && !w->watched) /* its pipes block, which libevent's debug mode refuses */
        evutil_make_socket_nonblocking(fd);
    w->wanted =
        (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
    events = w->wanted;
    if (!events && w->connection && w->watched & EV_READ)
        events = EV_READ;
    return watch_for(w, fd, events) ? 0 : -1;
}

curl_socket_t transport_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = arg;
    struct watch *w;
    int fd;

    (void)purpose;
    if (t->n_sent) { /* libcurl wants to send the request again */
        t->resend_refused = true;
        return CURL_SOCKET_BAD;
    }
    fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) {
        t->no_socket = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        return CURL_SOCKET_BAD;
    }
    w = watch_of(fd);
    if (!w) {
        close(fd);
        t->out_of_memory = true;
        return CURL_SOCKET_BAD;
    }
    watch_for(w, fd, 0); /* left over when libcurl closed a pipe of its own in silence */
    w->connection = true;
    w->wanted = 0;
    return fd;
}

int transport_close_socket(void *arg, curl_socket_t fd)
{
    struct watch *w = tp.watches[fd];

    (void)arg;
    watch_for(w, fd, 0);
    w->wanted = 0;
    w->connection = false;
    return close(fd);
}

/* --- libcurl's timer ------------------------------------------------------------------------ */

static void on_timeout(void *arg)
{
    int running;

    (void)arg;
    loop_place("transport timer");
    curl_multi_socket_action(tp.multi, CURL_SOCKET_TIMEOUT, 0, &running);
    deliver();
}

/* libcurl's CURLMOPT_TIMERFUNCTION. */
static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi, (void)arg;
    if (timeout_ms > 0)
        loop_timer_set(&tp.timer, loop_now_us() + (uint64_t)timeout_ms * 1000);
    else
        loop_timer_clear(&tp.timer);
    if (timeout_ms == 0)
        soon();
    return 0;
}

/* --- staging -------------------------------------------------------------------------------- */

static bool stage_add(struct transfer *t, bool is_head, const char *p, size_t n)
{
    struct staged record = {.t = t, .serial = t->serial, .n = n, .is_head = is_head};
    size_t pad = (0 - tp.stage.n) & (STAGE_ALIGN - 1);
    char *to = buf_reserve(&tp.stage, pad + sizeof(record) + n);

    assert(!tp.delivering);
    if (!to) {
        tp.stage.err = GW_OK; /* this call fails, the others go on */
        return false;
    }
    tp.stage_last = tp.stage.n + pad;
    memcpy(to + pad, &record, sizeof(record));
    if (n)
        memcpy(to + pad + sizeof(record), p, n);
    tp.stage.n += pad + sizeof(record) + n;
    t->last_us = loop_now_us();
    return true;
}

bool transport_stage_head(struct transfer *t)
{
    if (!stage_add(t, true, NULL, 0))
        return false;
    t->first_byte_us = t->last_us - t->start_us;
    if (t->first_byte_us == 0)
        t->first_byte_us = 1;
    return true;
}

/* Pieces of one call that follow each other (HTTP chunks) become one. */
bool transport_stage_data(struct transfer *t, const char *p, size_t n)
{
    struct staged last;

    if (tp.stage.n) {
        memcpy(&last, tp.stage.p + tp.stage_last, sizeof(last));
        if (last.t == t && !last.is_head) {
            buf_add(&tp.stage, p, n);
            if (tp.stage.err) {
                tp.stage.err = GW_OK;
                return false;
            }
            last.n += n;
            memcpy(tp.stage.p + tp.stage_last, &last, sizeof(last));
            return true;
        }
    }
    return stage_add(t, false, p, n);
}

/* --- one call ------------------------------------------------------------------------------- */

/* The nearest limit, 0 = none. */
static uint64_t next_due(const struct transfer *t)
{
    uint64_t due = t->deadline_us, limit = 0;

    if (!t->first_byte_us)
        limit = t->first_byte_due_us;
    else if (t->gap_us && !t->paused)
        limit = t->last_us + t->gap_us;
    return limit && (!due || limit < due) ? limit : due;
}

static void timer_update(struct transfer *t)
{
    uint64_t due = next_due(t);

    if (due)
        loop_timer_set(&t->timer, due);
    else
        loop_timer_clear(&t->timer);
}

static struct transfer *transfer_take(enum transfer_kind kind)
{
    struct transfer *t = tp.pool[kind];

    if (!t)
        return transfer_new(kind, &tp.cfg, tp.share);
    tp.pool[kind] = t->next;
    tp.n_pool[kind]--;
    return t;
}

/* Never freed while staged records may still point to it. */
static void transfer_put(struct transfer *t)
{
    if (tp.n_pool[t->kind] >= POOL_MAX && !tp.delivering) {
        transfer_free(t);
        return;
    }
    t->next = tp.pool[t->kind];
    tp.pool[t->kind] = t;
    tp.n_pool[t->kind]++;
}

/* The call is over: libcurl lets go of it, nothing staged for it is delivered any more. */
static void transfer_detach(struct transfer *t)
{
    t->serial++;
    tp.active--;
    if (t->is_resuming)
        TAILQ_REMOVE(&tp.resuming, t, resuming);
    t->is_resuming = false;
    loop_timer_clear(&t->timer);
    curl_multi_remove_handle(tp.multi, t->easy);
}

static void transfer_finish(struct transfer *t, enum gw_err err, bool timed_out)
{
    struct transport_result res = {
        .status = t->head_done ? t->head.status : 0,
        .sent = t->n_sent > 0,
        .timed_out = timed_out,
        .first_byte_us = t->first_byte_us,
        .total_us = loop_now_us() - t->start_us,
        .bytes_in = t->bytes_in,
        .detail = t->detail,
    };
    long connects = 0;

    curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
    res.reused = t->resend_refused || (res.sent && connects == 0);
    transfer_detach(t);
    t->cb->on_done(err, &res, t->arg);
    transfer_put(t);
}

static void on_limit(void *arg)
{
    struct transfer *t = arg;
    uint64_t due = next_due(t);

    loop_place("transport limit");
    if (!due || due > loop_now_us())
        timer_update(t);
    else
        transfer_finish(t, GW_EDEADLINE, true);
}

static void transfer_cancel(struct op *op)
{
    struct transfer *t = (struct transfer *)op;

    transfer_detach(t);
    transfer_put(t);
}

struct op *transport_start(const struct transport_request *req,
                           const struct transport_callbacks *cb, void *arg)
{
    struct transfer *t = transfer_take(req->stream ? TRANSFER_STREAM : TRANSFER_WHOLE);

    if (!t)
        return NULL;
    if (!transfer_prepare(t, req) || curl_multi_add_handle(tp.multi, t->easy) != CURLM_OK) {
        transfer_put(t);
        return NULL;
    }
    tp.active++;
    t->serial++;
    t->op.cancel = transfer_cancel;
    t->cb = cb;
    t->arg = arg;
    if (!t->timer.fn)
        loop_timer_init(&t->timer, on_limit, t);
    t->start_us = loop_now_us();
    t->deadline_us = req->deadline_us;
    t->first_byte_due_us =
        req->first_byte_timeout_us ? t->start_us + req->first_byte_timeout_us : 0;
    t->gap_us = req->gap_timeout_us;
    t->first_byte_us = 0;
    t->paused = false;
    timer_update(t);
    soon();
    return &t->op;
}

void transport_set_deadline(struct op *transfer, uint64_t deadline_us)
{
    struct transfer *t = (struct transfer *)transfer;

    t->deadline_us = deadline_us;
    timer_update(t);
}

bool transport_body_sent(struct op *transfer)
{
    struct transfer *t = (struct transfer *)transfer;
    curl_off_t sent = 0;

    return curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK &&
           sent >= (curl_off_t)t->body_bytes;
}

static void resume_soon(struct transfer *t)
{
    if (t->is_resuming)
        return;
    t->is_resuming = true;
    TAILQ_INSERT_TAIL(&tp.resuming, t, resuming);
    soon();
}

void transport_pause(struct op *transfer)
{
    struct transfer *t = (struct transfer *)transfer;

    if (t->paused)
        return;
    t->paused = true;
    if (t->is_resuming) {
        TAILQ_REMOVE(&tp.resuming, t, resuming);
        t->is_resuming = false;
    } else if (!t->throttled) {
        curl_easy_pause(t->easy, CURLPAUSE_RECV);
    }
    timer_update(t);
}

void transport_resume(struct op *transfer)
{
    struct transfer *t = (struct transfer *)transfer;

    if (!t->paused)
        return;
    t->paused = false;
    t->last_us = loop_now_us();
    timer_update(t);
    resume_soon(t);
}

unsigned transport_active(void)
{
    return tp.active;
}

/* --- delivery ------------------------------------------------------------------------------- */

/* Body bytes are delivered: libcurl may go on with this call. The callback may have ended the
 * call and its handle may have begun another one. */
static void deliver_data(const struct staged *record, const char *p)
{
    struct transfer *t = record->t;

    t->burst = 0;
    t->cb->on_data(slice_of(p, record->n), t->arg);
    if (t->serial != record->serial || !t->throttled)
        return;
    t->throttled = false;
    if (!t->paused)
        resume_soon(t);
}

static void deliver_staged(void)
{
    struct staged record;
    size_t at = 0;

    tp.delivering = true;
    while (at < tp.stage.n) {
        memcpy(&record, tp.stage.p + at, sizeof(record));
        at += sizeof(record);
        if (record.serial == record.t->serial && record.is_head) {
            timer_update(record.t);
            record.t->cb->on_head(&record.t->head, record.t->arg);
        } else if (record.serial == record.t->serial) {
            deliver_data(&record, tp.stage.p + at);
        }
        at += record.n;
        at += (0 - at) & (STAGE_ALIGN - 1);
    }
    tp.delivering = false;
    if (tp.stage.cap > STAGE_KEPT_BYTES)
        buf_deinit(&tp.stage);
    else
        buf_reset(&tp.stage);
}

/* Hands out what arrived, then the calls that ended. */
static void deliver(void)
{
    struct transfer *t;
    CURLMsg *msg;
    int left;

    if (tp.stage.n)
        deliver_staged();
    while ((msg = curl_multi_info_read(tp.multi, &left))) {
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        transfer_finish(t, transfer_error(t, code), code == CURLE_OPERATION_TIMEDOUT);
    }
}

/* At the end of the turn: what was started, is due at once, or resumed. */
static void run_soon(void *arg)
{
    struct transfer *t;
    int running;

    (void)arg;
    loop_place("transport");
    while ((t = TAILQ_FIRST(&tp.resuming))) {
        TAILQ_REMOVE(&tp.resuming, t, resuming);
        t->is_resuming = false;
        curl_easy_pause(t->easy, CURLPAUSE_CONT);
    }
    curl_multi_socket_action(tp.multi, CURL_SOCKET_TIMEOUT, 0, &running);
    deliver();
}

/* --- life ----------------------------------------------------------------------------------- */

static char *config_text(const char *s)
{
    return s ? strdup(s) : NULL;
}

enum gw_err transport_init(const struct transport_config *cfg)
{
    assert(!tp.multi);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return GW_ENOMEM;
    tp.cfg = (struct transport_config){.ca_file = config_text(cfg->ca_file),
                                       .proxy = config_text(cfg->proxy),
                                       .max_connections = cfg->max_connections};
    tp.multi = curl_multi_init();
    tp.share = curl_share_init();
    TAILQ_INIT(&tp.resuming);
    buf_init(&tp.stage, STAGE_MAX_BYTES);
    loop_timer_init(&tp.timer, on_timeout, NULL);
    if (!tp.multi || !tp.share || (cfg->ca_file && !tp.cfg.ca_file) ||
        (cfg->proxy && !tp.cfg.proxy)) {
        transport_deinit();
        return GW_ENOMEM;
    }
    curl_share_setopt(tp.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(tp.multi, CURLMOPT_SOCKETFUNCTION, on_interest);
    curl_multi_setopt(tp.multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(tp.multi, CURLMOPT_MAXCONNECTS, (long)cfg->max_connections);
    return GW_OK;
}

void transport_deinit(void)
{
    struct transfer *t;

    assert(tp.active == 0);
    for (unsigned kind = 0; kind < TRANSFER_KINDS; kind++)
        while ((t = tp.pool[kind])) {
            tp.pool[kind] = t->next;
            transfer_free(t);
        }
    curl_multi_cleanup(tp.multi);
    curl_share_cleanup(tp.share);
    loop_timer_stop(&tp.timer);
    loop_undefer(&tp.soon);
    for (size_t i = 0; i < tp.n_watches; i++)
        free(tp.watches[i]);
    free(tp.watches);
    free((char *)tp.cfg.ca_file);
    free((char *)tp.cfg.proxy);
    buf_deinit(&tp.stage);
    memset(&tp, 0, sizeof(tp));
    curl_global_cleanup();
}
