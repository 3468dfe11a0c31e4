/*
 * limiter.c - see limiter.h.
 *
 * The script is bucket.c's arithmetic in Lua, in microseconds: a bucket is the time at which it
 * will be full again (its "tat"). Lua's numbers are doubles; such times are below 2^53. A tat
 * further ahead than an empty bucket's is cut to that, for good: rates may have been lowered,
 * or the server's clock put back.
 */
#include "storage/limiter.h"

#include "gateway/core/decimal.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "storage/redis.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <uthash.h>
#include <utlist.h>

#define IDENTITY_BYTES 80u
#define NAME_BYTES (LIMITER_KEY_BYTES - 7u - 2 * IDENTITY_BYTES)
#define NUMBER_BYTES 24u

/* ARGV: step and depth of each key's bucket. Answers {refused, which, remaining, full_in_us,
 * retry_in_us}. */
static struct redis_script script = {
    .name = "limiter",
    .text = "local t = redis.call('TIME')\n"
            "local now = t[1] * 1000000 + t[2]\n"
            "local function keep(key, tat)\n"
            "  redis.call('SET', key, string.format('%.0f', tat), 'PX',\n"
            "             string.format('%.0f', math.ceil((tat - now) / 1000) + 1))\n"
            "end\n"
            "local was, tats, worst, least = redis.call('MGET', unpack(KEYS)), {}, nil, nil\n"
            "for i, key in ipairs(KEYS) do\n"
            "  local step, depth = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])\n"
            "  local tat = was[i] and tonumber(was[i]) or now\n"
            "  if not (tat > now) then tat = now end\n"
            "  if tat > now + depth then\n"
            "    tat = now + depth\n"
            "    keep(key, tat)\n"
            "  end\n"
            "  local wait = tat + step - depth - now\n"
            "  if wait > 0 then\n"
            "    if not worst or wait > worst[5] then\n"
            "      worst = {1, i - 1, math.floor((depth - (tat - now)) / step), tat - now, wait}\n"
            "    end\n"
            "  else\n"
            "    tat = tat + step\n"
            "    local left = math.floor((depth - (tat - now)) / step)\n"
            "    if not least or left < least[3] then least = {0, i - 1, left, tat - now, 0} end\n"
            "  end\n"
            "  tats[i] = tat\n"
            "end\n"
            "if worst then return worst end\n"
            "for i, key in ipairs(KEYS) do keep(key, tats[i]) end\n"
            "return least\n",
};

static bool failing; /* Redis is there, but its last answer was no verdict */
static struct metric_series *m_local;

/* --- keys and arguments ----------------------------------------------------------------------- */

struct texts {
    char key[LIMITER_MAX_BUCKETS][LIMITER_KEY_BYTES];
    char number[2 * LIMITER_MAX_BUCKETS][NUMBER_BYTES];
    struct slice keys[LIMITER_MAX_BUCKETS], args[2 * LIMITER_MAX_BUCKETS];
};

static char *put_cut(char *at, struct slice s, size_t most)
{
    return s.n ? mempcpy(at, s.p, s.n < most ? s.n : most) : at;
}

/* "rl:<name>:{<identity>}", with a group "rl:<name>:{<group>}:<identity>" or, of the group's own,
 * "rl:<name>:{<group>}"; texts are cut rather than the buffer overrun. */
static struct slice put_key(const struct limiter_call *c, unsigned i, char *to)
{
    const struct limiter_bucket *b = &c->buckets[i];
    char *at = mempcpy(to, "rl:", 3);

    at = put_cut(at, b->name, NAME_BYTES);
    at = mempcpy(at, ":{", 2);
    at = put_cut(at, c->group.n ? c->group : c->identity, IDENTITY_BYTES);
    *at++ = '}';
    if (c->group.n && !b->of_group) {
        *at++ = ':';
        at = put_cut(at, c->identity, IDENTITY_BYTES);
    }
    return slice_of(to, (size_t)(at - to));
}

static struct slice put_number(uint64_t v, char *to)
{
    return slice_of(to, (size_t)(decimal_u64(to, v) - to));
}

static void put_texts(const struct limiter_call *c, struct texts *t)
{
    unsigned i;

    for (i = 0; i < c->n; i++) {
        const struct bucket_rate *r = &c->buckets[i].rate;
        uint64_t step = bucket_step_us(r);

        t->keys[i] = put_key(c, i, t->key[i]);
        t->args[2 * i] = put_number(step, t->number[2 * i]);
        t->args[2 * i + 1] = put_number(step * (uint64_t)r->burst, t->number[2 * i + 1]);
    }
}

/* --- the process's own buckets ---------------------------------------------------------------- */

struct caller {
    struct bucket bucket;
    struct caller *prev, *next; /* most recently used first */
    UT_hash_handle hh;
    size_t n;
    char key[];
};

static struct caller *table, *recent;

static void forget(struct caller *c)
{
    HASH_DEL(table, c);
    DL_DELETE(recent, c);
    free(c);
}

static struct caller *add_caller(struct slice key)
{
    struct caller *c = calloc(1, sizeof(*c) + key.n);

    if (!c)
        return NULL;
    c->n = key.n;
    memcpy(c->key, key.p, key.n);
    HASH_ADD_KEYPTR(hh, table, c->key, c->n, c);
    if (!c->hh.tbl) { /* out of memory: it was not added */
        free(c);
        return NULL;
    }
    return c;
}

/* The caller's bucket, made full if new; NULL out of memory. */
static struct caller *caller_of(struct slice key)
{
    struct caller *c;

    HASH_FIND(hh, table, key.p, key.n, c);
    if (c) {
        DL_DELETE(recent, c);
    } else {
        if (HASH_COUNT(table) >= LIMITER_MAX_LOCAL)
            forget(recent->prev);
        c = add_caller(key);
    }
    if (c)
        DL_PREPEND(recent, c);
    return c;
}

/* Looks first, so that nothing is taken from one bucket when another refuses. */
void limiter_local(const struct limiter_call *call, struct limiter_verdict *ret)
{
    char text[LIMITER_KEY_BYTES];
    struct caller *own[LIMITER_MAX_BUCKETS];
    struct limiter_verdict v = {.state.remaining = INT64_MAX};
    uint64_t now = loop_now_us();
    struct bucket trial;
    struct bucket_state s;
    unsigned i;

    for (i = 0; i < call->n; i++) {
        own[i] = caller_of(put_key(call, i, text));
        trial = own[i] ? own[i]->bucket : (struct bucket){0};
        if (bucket_take(&trial, &call->buckets[i].rate, now, &s)) {
            if (!v.refused && s.remaining < v.state.remaining)
                v = (struct limiter_verdict){false, i, s};
        } else if (!v.refused || s.retry_in_us > v.state.retry_in_us) {
            v = (struct limiter_verdict){true, i, s};
        }
    }
    for (i = 0; i < call->n && !v.refused; i++)
        if (own[i])
            (void)bucket_take(&own[i]->bucket, &call->buckets[i].rate, now, NULL);
    *ret = v;
}

/* --- Redis ------------------------------------------------------------------------------------ */

static void tell_mode(void)
{
    metrics_set(m_local, redis_enabled() && !limiter_is_shared());
}

static void set_failing(bool now)
{
    if (failing == now)
        return;
    failing = now;
    tell_mode();
}

static bool read_verdict(const struct redis_value *v, const struct limiter_call *c,
                         struct limiter_verdict *ret)
{
    unsigned i;

    if (v->kind != REDIS_ARRAY || v->n != 5)
        return false;
    for (i = 0; i < 5; i++) {
        if (v->items[i].kind != REDIS_INT || v->items[i].i < 0)
            return false;
    }
    if (v->items[1].i >= (int64_t)c->n)
        return false;
    ret->refused = v->items[0].i != 0;
    ret->which = (unsigned)v->items[1].i;
    ret->state.remaining = v->items[2].i;
    ret->state.full_in_us = (uint64_t)v->items[3].i;
    ret->state.retry_in_us = (uint64_t)v->items[4].i;
    return true;
}

static void on_answer(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct limiter_call *c = arg;
    struct limiter_verdict verdict;
    bool good = err == GW_OK && read_verdict(v, c, &verdict);

    c->op = NULL;
    set_failing(!good);
    if (!good)
        limiter_local(c, &verdict);
    c->done(&verdict, c->arg);
}

bool limiter_begin(struct limiter_call *call,
                   void (*done)(const struct limiter_verdict *v, void *arg), void *arg)
{
    struct texts t;

    if (!redis_up())
        return false;
    put_texts(call, &t);
    call->done = done;
    call->arg = arg;
    call->op = redis_eval(&script, t.keys, call->n, t.args, 2 * call->n, on_answer, call);
    if (!call->op)
        set_failing(true);
    return call->op != NULL;
}

void limiter_cancel(struct limiter_call *call)
{
    op_cancel(&call->op);
}

bool limiter_is_shared(void)
{
    return redis_up() && !failing;
}

static void on_redis(bool up, void *arg)
{
    failing = false;
    tell_mode();
}

enum gw_err limiter_init(const struct conf *c)
{
    m_local = metrics_get(M_LIMITER_LOCAL, NULL, NULL, NULL);
    failing = false;
    tell_mode();
    redis_on_change(on_redis, NULL);
    return GW_OK;
}

void limiter_deinit(void)
{
    while (recent)
        forget(recent);
}
