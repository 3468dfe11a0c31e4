/*
 * redis.c - see redis.h. The commands in flight, their deadlines, and the breaker.
 *
 *     OFF (nothing configured)
 *     AWAY --timer--> OPENING --connected--> GREETING --PING answered in time--> UP
 *      ^                 |                      |                                |
 *      '-----------------'----------------------'---- late, lost, garbage -------'
 *
 * Only in UP do callers get a command: every other state is the open breaker. GREETING sends AUTH,
 * SELECT and PING, nothing of a caller; a PING that takes longer than a command may is a refusal,
 * so that a Redis which is merely slow does not cost a deadline again and again.
 *
 * Why hiredis' parser and not its asynchronous API with the libevent adapter: that API (0.14.1) has
 * no deadlines, writes once per command, aborts the process on a surplus reply, ends a context
 * inside its own callbacks, and resolves names while the loop waits. Here a reply is matched
 * against a command that has been written, or the connection goes (redis_reply.c holds the parser,
 * redis_link.c the socket).
 *
 * struct command belongs to the queue from its start until its reply or the end of the connection,
 * also when it was cancelled (then nobody is told). The queue is in the order of writing, and so in
 * the order of deadlines: the first one's is watched. Commands of a turn are encoded into the
 * link's buffer and written together when the turn ends; their time runs from there.
 */
#include "storage/redis.h"

#include "gateway/core/buf.h"
#include "gateway/core/decimal.h"
#include "gateway/core/hex.h"
#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/rng.h"
#include "storage/redis_link.h"
#include "storage/redis_reply.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define MAX_REPLY_BYTES (96u << 20)
#define MAX_OUT_BYTES (128u << 20)
#define MAX_LISTENERS 8u
#define SECOND_US 1000000u
#define BACKOFF_FIRST_US 500000u
#define BACKOFF_MAX_US 3000000u
#define STEADY_US (10 * (uint64_t)SECOND_US) /* up this long: the next loss starts over */

enum redis_state { REDIS_OFF, REDIS_AWAY, REDIS_OPENING, REDIS_GREETING, REDIS_UP };

struct command {
    struct op op;
    redis_done done; /* NULL: nobody waits (any more) */
    void *arg;
    struct redis_script *script; /* may be loaded and asked again once */
    struct command *next;
    uint64_t due_us, sent_us; /* 0 = not written yet */
    bool greeting, last_greeting;
    size_t n;     /* bytes kept for asking again; 0 unless script */
    char bytes[]; /* as encoded */
};

/* Arguments are given in up to three runs, so that nobody has to glue arrays together. */
struct run {
    const struct slice *v;
    unsigned n;
};

static struct redisurl url;
static struct redis_link redis_link;
static struct redis_reader *reader;
static enum redis_state state;
static uint64_t timeout_us, connect_us;
static unsigned max_in_flight;

static struct command *first, **last = &first;
static struct command *unsent; /* first that is not written */
static unsigned in_flight;
static unsigned connection; /* counts connections, from 1 */

static struct loop_timer deadline, retry;
static struct loop_deferred flushing;
static uint64_t attempt_us, up_since_us;
static unsigned failures; /* openings in a row that came to nothing lasting */

static struct {
    void (*fn)(bool up, void *arg);
    void *arg;
} listeners[MAX_LISTENERS];
static unsigned n_listeners;

static struct metric_series *m_up, *m_ok, *m_error, *m_not_now, *m_timeout, *m_lost, *m_refused,
    *m_seconds;
static const struct log_ctx ctx = {.component = "redis"};

static void leave(const char *why, struct metric_series *outcome);

/* --- encoding --------------------------------------------------------------------------------- */

static size_t digits(size_t v)
{
    size_t n = 1;

    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

static char *put_number(char *at, char kind, size_t v)
{
    *at++ = kind;
    at = decimal_u64(at, v);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static unsigned count_args(const struct run *runs)
{
    return runs[0].n + runs[1].n + runs[2].n;
}

static size_t encoded_size(const struct run *runs)
{
    size_t n = 3 + digits(count_args(runs));
    unsigned r, i;

    for (r = 0; r < 3; r++)
        for (i = 0; i < runs[r].n; i++)
            n += 3 + digits(runs[r].v[i].n) + runs[r].v[i].n + 2;
    return n;
}

static void encode(const struct run *runs, char *at)
{
    unsigned r, i;

    at = put_number(at, '*', count_args(runs));
    for (r = 0; r < 3; r++) {
        for (i = 0; i < runs[r].n; i++) {
            struct slice s = runs[r].v[i];

            at = put_number(at, '$', s.n);
            at = s.n ? mempcpy(at, s.p, s.n) : at;
            *at++ = '\r';
            *at++ = '\n';
        }
    }
}

/* Room in the write buffer, or NULL: the command is refused, not the connection. */
static char *reserve(size_t n)
{
    struct buf *out = redis_link_out(&redis_link);
    char *at = buf_reserve(out, n);

    out->err = GW_OK;
    return at;
}

/* --- commands --------------------------------------------------------------------------------- */

static void on_flush(void *arg);

static void cancel(struct op *op)
{
    ((struct command *)op)->done = NULL;
}

static void enqueue(struct command *c)
{
    c->next = NULL;
    c->sent_us = c->due_us = 0;
    *last = c;
    last = &c->next;
    if (!unsent)
        unsent = c;
    in_flight++;
    loop_defer(&flushing, on_flush, NULL);
}

static struct command *dequeue(void)
{
    struct command *c = first;

    first = c->next;
    if (!first)
        last = &first;
    if (unsent == c)
        unsent = first;
    in_flight--;
    return c;
}

/* Encodes and queues it, whatever the state; NULL without memory. */
static struct command *submit(const struct run *runs, struct redis_script *script, redis_done done,
                              void *arg)
{
    size_t n = encoded_size(runs);
    struct command *c = malloc(sizeof(*c) + (script ? n : 0));
    char *at = c ? reserve(n) : NULL;

    if (!at) {
        free(c);
        return NULL;
    }
    encode(runs, at);
    redis_link_out(&redis_link)->n += n;
    *c = (struct command){.op = {cancel}, .done = done, .arg = arg, .script = script};
    if (script) {
        memcpy(c->bytes, at, n);
        c->n = n;
    }
    enqueue(c);
    return c;
}

static bool may_start(void)
{
    if (state == REDIS_UP && in_flight < max_in_flight)
        return true;
    if (state != REDIS_OFF)
        metrics_add(m_refused, 1);
    return false;
}

static void finish(struct command *c, enum gw_err err, const struct redis_value *v)
{
    if (c->done)
        c->done(err, v, c->arg);
    free(c);
}

/* --- scripts ---------------------------------------------------------------------------------- */

static bool name_script(struct redis_script *s)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (s->sha[0])
        return true;
    if (!EVP_Digest(s->text, strlen(s->text), sum, &n, EVP_sha1(), NULL) || n != 20)
        return false;
    hex_write(s->sha, sum, n);
    return true;
}

static bool load_script(struct redis_script *s)
{
    const struct slice argv[] = {SLICE("SCRIPT"), SLICE("LOAD"), slice_cstr(s->text)};
    const struct run runs[3] = {{argv, 3}};

    if (!submit(runs, NULL, NULL, NULL))
        return false;
    s->loaded_in = connection;
    return true;
}

/* The server has forgotten the script: tells it again, and asks again. False when it cannot. */
static bool ask_again(struct command *c)
{
    char *at;

    if (!load_script(c->script))
        return false;
    at = reserve(c->n);
    if (!at)
        return false;
    memcpy(at, c->bytes, c->n);
    redis_link_out(&redis_link)->n += c->n;
    c->script = NULL;
    enqueue(c);
    return true;
}

/* --- replies ---------------------------------------------------------------------------------- */

static void set_up(bool up)
{
    unsigned i;

    metrics_set(m_up, up);
    for (i = 0; i < n_listeners; i++)
        listeners[i].fn(up, listeners[i].arg);
}

/* A reply to one of the greeting's commands. False when the connection is no more. */
static bool greeted(const struct command *c, const struct redis_value *v)
{
    if (v->kind == REDIS_FAULT) {
        log_debug(&ctx, "redis_refused", F_STR("answer", v->s));
        leave(redis_fault_sort(v->s) == REDIS_FAULT_LEAVE ? "it is loading, read-only, or wants "
                                                            "another password"
                                                          : "it refuses AUTH, SELECT or PING",
              m_error);
        return false;
    }
    if (!c->last_greeting)
        return true;
    if (loop_now_us() > c->sent_us + timeout_us) {
        leave("it is too slow", m_timeout);
        return false;
    }
    state = REDIS_UP;
    up_since_us = loop_now_us();
    log_info(&ctx, "redis_up");
    set_up(true);
    return true;
}

/* An error reply; c is the caller's. */
static void faulted(struct command *c, struct slice text)
{
    enum redis_fault fault = redis_fault_sort(text);

    if (fault == REDIS_FAULT_SCRIPT && c->script && c->done && ask_again(c))
        return;
    log_debug(&ctx, "redis_error", F_STR("answer", text));
    metrics_add(fault == REDIS_FAULT_CALLER ? m_error : m_not_now, 1);
    finish(c, fault == REDIS_FAULT_CALLER ? GW_EBADREQ : GW_EAGAIN, NULL);
    if (fault == REDIS_FAULT_LEAVE)
        leave("it is loading, read-only, or wants a password", m_lost);
}

static void answered(struct command *c, const struct redis_value *v)
{
    uint64_t now = loop_now_us();

    if (c->greeting) {
        greeted(c, v);
        free(c);
        return;
    }
    metrics_observe_us(m_seconds, now > c->sent_us ? now - c->sent_us : 0);
    if (v->kind == REDIS_FAULT) {
        faulted(c, v->s);
        return;
    }
    metrics_add(m_ok, 1);
    finish(c, GW_OK, v);
}

static void watch(void)
{
    if (first && first->due_us)
        loop_timer_set(&deadline, first->due_us);
    else
        loop_timer_clear(&deadline);
}

static void on_bytes(const char *p, size_t n)
{
    const struct redis_value *v = NULL;
    enum redis_progress got = REDIS_BROKEN;
    unsigned mine = connection;

    if (redis_reader_feed(reader, p, n)) {
        while ((got = redis_reader_next(reader, &v)) == REDIS_REPLY) {
            if (!first || first == unsent) {
                leave("it sent a reply to nothing", m_lost);
                return;
            }
            answered(dequeue(), v);
            if (connection != mine || !reader)
                return;
        }
    }
    if (got == REDIS_BROKEN)
        leave(redis_reader_why(reader), m_lost);
    else
        watch();
}

/* --- coming and going ------------------------------------------------------------------------- */

static void schedule(void)
{
    uint64_t now = loop_now_us(), wait = 0, earliest = attempt_us + SECOND_US;

    if (failures > 0)
        wait = BACKOFF_FIRST_US << (failures < 4 ? failures - 1 : 3);
    wait = wait < BACKOFF_MAX_US ? wait : BACKOFF_MAX_US;
    wait = wait ? wait / 2 + rng_u64() % (wait / 2) : rng_u64() % (BACKOFF_FIRST_US / 2);
    loop_timer_set(&retry, now + wait > earliest ? now + wait : earliest + wait % 100000);
}

/* The end of a connection or of an attempt: everyone who waits is told that there is no answer. */
static void leave(const char *why, struct metric_series *outcome)
{
    bool was_up = state == REDIS_UP;
    struct command *c, *rest = first;

    if (was_up)
        log_warn(&ctx, "redis_away", F_CSTR("why", why), F_INT("in_flight", in_flight));
    else if (failures == 0)
        log_warn(&ctx, "redis_not_there", F_CSTR("why", why));
    else
        log_debug(&ctx, "redis_not_there", F_CSTR("why", why));
    failures = was_up && loop_now_us() - up_since_us > STEADY_US ? 0 : failures + 1;
    state = REDIS_AWAY;
    redis_link_close(&redis_link);
    reader = redis_reader_free(reader);
    loop_undefer(&flushing);
    loop_timer_clear(&deadline);
    first = unsent = NULL;
    last = &first;
    in_flight = 0;
    schedule();
    if (was_up)
        set_up(false);
    while ((c = rest)) {
        rest = c->next;
        if (!c->greeting)
            metrics_add(outcome, 1);
        finish(c, GW_EUNAVAIL, NULL);
    }
}

static void on_ended(const char *why)
{
    leave(why, m_lost);
}

static bool greet(const struct slice *argv, unsigned argc, bool is_last)
{
    const struct run runs[3] = {{argv, argc}};
    struct command *c = submit(runs, NULL, NULL, NULL);

    if (!c)
        return false;
    c->greeting = true;
    c->last_greeting = is_last;
    return true;
}

/* AUTH and SELECT before anything else, then the PING that closes the breaker. */
static bool send_greeting(void)
{
    char db[16];
    size_t n = digits((size_t)url.db);
    const struct slice auth[] = {SLICE("AUTH"), slice_cstr(url.user), slice_cstr(url.password)};
    const struct slice bare[] = {SLICE("AUTH"), slice_cstr(url.password)};
    const struct slice ping[] = {SLICE("PING")};
    bool ok = true;

    put_number(db, ' ', (size_t)url.db);
    if (url.password[0])
        ok = url.user[0] ? greet(auth, 3, false) : greet(bare, 2, false);
    if (url.db)
        ok = ok && greet((struct slice[]){SLICE("SELECT"), slice_of(db + 1, n)}, 2, false);
    return ok && greet(ping, 1, true);
}

static void on_opened(void)
{
    connection++;
    state = REDIS_GREETING;
    reader = redis_reader_new(MAX_REPLY_BYTES);
    if (!reader || !send_greeting())
        leave("out of memory", m_lost);
}

static void on_retry(void *arg)
{
    loop_place("redis_retry");
    state = REDIS_OPENING;
    attempt_us = loop_now_us();
    loop_timer_set(&deadline, attempt_us + connect_us);
    redis_link_open(&redis_link);
}

/* --- time ------------------------------------------------------------------------------------- */

/* Everything of this turn goes out in one write; its time runs from now. */
static void on_flush(void *arg)
{
    uint64_t now = loop_clock_us(), due = now + timeout_us;

    for (; unsent; unsent = unsent->next) {
        unsent->sent_us = now;
        unsent->due_us = unsent->greeting ? attempt_us + connect_us : due;
    }
    redis_link_push(&redis_link);
    watch();
}

/* What was due may have come while this turn was held up: look before giving up. */
static void on_deadline(void *arg)
{
    unsigned mine = connection;

    loop_place("redis_deadline");
    if (state == REDIS_UP || state == REDIS_GREETING) {
        redis_link_pull(&redis_link);
        if (connection != mine || !reader)
            return;
        if (!first || !first->due_us || first->due_us > loop_now_us()) {
            watch();
            return;
        }
    }
    leave(state == REDIS_OPENING ? "no connection in time" : "no answer in time", m_timeout);
}

/* --- for callers ------------------------------------------------------------------------------ */

static enum gw_err read_url(const struct conf *c)
{
    const char *why = "";
    bool on = slice_is(c->redis_use, "true") || (slice_is(c->redis_use, "auto") && c->redis_url.n);

    return on && c->redis_url.n ? redisurl_parse(c->redis_url, &url, &why) : GW_EAGAIN;
}

enum gw_err redis_init(const struct conf *c)
{
    m_up = metrics_get(M_REDIS_UP, NULL, NULL, NULL);
    m_ok = metrics_get(M_REDIS_COMMANDS, "ok", NULL, NULL);
    m_error = metrics_get(M_REDIS_COMMANDS, "error", NULL, NULL);
    m_not_now = metrics_get(M_REDIS_COMMANDS, "not_now", NULL, NULL);
    m_timeout = metrics_get(M_REDIS_COMMANDS, "timeout", NULL, NULL);
    m_lost = metrics_get(M_REDIS_COMMANDS, "lost", NULL, NULL);
    m_refused = metrics_get(M_REDIS_COMMANDS, "refused", NULL, NULL);
    m_seconds = metrics_get(M_REDIS_SECONDS, NULL, NULL, NULL);
    state = REDIS_OFF;
    if (read_url(c))
        return GW_OK;
    timeout_us = (uint64_t)c->redis_timeout_ms * 1000u;
    connect_us = (uint64_t)c->redis_connect_ms * 1000u;
    max_in_flight = (unsigned)c->redis_max_inflight;
    redis_link = (struct redis_link){.opened = on_opened, .bytes = on_bytes, .ended = on_ended};
    redis_link_init(&redis_link, &url, MAX_OUT_BYTES);
    loop_timer_init(&deadline, on_deadline, NULL);
    loop_timer_init(&retry, on_retry, NULL);
    state = REDIS_AWAY;
    failures = 0;
    loop_timer_set(&retry, loop_now_us());
    return GW_OK;
}

void redis_deinit(void)
{
    struct command *c;

    if (state == REDIS_OFF)
        return;
    state = REDIS_OFF;
    loop_undefer(&flushing);
    loop_timer_stop(&deadline);
    loop_timer_stop(&retry);
    redis_link_deinit(&redis_link);
    reader = redis_reader_free(reader);
    while (first) {
        c = dequeue();
        free(c);
    }
    unsent = NULL;
    n_listeners = 0;
    metrics_set(m_up, 0);
}

bool redis_enabled(void)
{
    return state != REDIS_OFF;
}

bool redis_up(void)
{
    return state == REDIS_UP;
}

struct op *redis_command(const struct slice *argv, unsigned argc, redis_done done, void *arg)
{
    const struct run runs[3] = {{argv, argc}};
    struct command *c = may_start() ? submit(runs, NULL, done, arg) : NULL;

    return c ? &c->op : NULL;
}

bool redis_send(const struct slice *argv, unsigned argc)
{
    const struct run runs[3] = {{argv, argc}};

    return may_start() && submit(runs, NULL, NULL, NULL);
}

struct op *redis_eval(struct redis_script *script, const struct slice *keys, unsigned n_keys,
                      const struct slice *args, unsigned n_args, redis_done done, void *arg)
{
    char count[16];
    struct slice head[3] = {SLICE("EVALSHA"), {script->sha, 40}, {count + 1, digits(n_keys)}};
    const struct run runs[3] = {{head, 3}, {keys, n_keys}, {args, n_args}};
    struct command *c;

    if (!may_start() || !name_script(script))
        return NULL;
    if (script->loaded_in != connection && !load_script(script))
        return NULL;
    put_number(count, ' ', n_keys);
    c = submit(runs, script, done, arg);
    return c ? &c->op : NULL;
}

void redis_on_change(void (*fn)(bool up, void *arg), void *arg)
{
    assert(n_listeners < MAX_LISTENERS);
    listeners[n_listeners].fn = fn;
    listeners[n_listeners++].arg = arg;
}
