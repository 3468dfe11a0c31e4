/*
 * idempotency.c - see idempotency.h.
 *
 * Mark and outcome are one record of bytes: a letter, the fingerprint, then the mark's id, or the
 * outcome: status, kind, and texts each behind its length. Records from Redis are read with care:
 * what does not fit is nobody's use.
 */
#include "storage/idempotency.h"

#include "gateway/core/buf.h"
#include "gateway/core/hex.h"
#include "gateway/core/loop.h"
#include "gateway/core/rng.h"
#include "storage/redis.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_MAX_ENTRIES 4096u
#define LOCAL_MAX_BYTES (32u << 20)
#define RECORD_MAX_BYTES (64u << 20)
#define LEASE_MS 20000 /* four times IDEM_RENEW_US */
#define MARK 'R'
#define OUTCOME 'D'
#define MARK_BYTES (1u + IDEM_FINGERPRINT + IDEM_ID)
#define OWNER_HEX 32u /* half of a SHA-256 */

static struct lru *local;

static struct redis_script claim_script = {
    .name = "idempotency_claim",
    .text = "local v = redis.call('GET', KEYS[1])\n"
            "if v then return v end\n"
            "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
            "return false\n",
};

static struct redis_script keep_script = {
    .name = "idempotency_keep",
    .text = "local v = redis.call('GET', KEYS[1])\n"
            "if v and v ~= ARGV[1] then return 0 end\n"
            "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n"
            "return 1\n",
};

static struct redis_script release_script = {
    .name = "idempotency_release",
    .text = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
            "return redis.call('DEL', KEYS[1])\n",
};

static struct redis_script renew_script = {
    .name = "idempotency_renew",
    .text = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
            "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n",
};

enum gw_err idempotency_init(const struct conf *c)
{
    local = lru_new();
    if (!local)
        return GW_ENOMEM;
    lru_set_limits(local, LOCAL_MAX_ENTRIES, LOCAL_MAX_BYTES);
    return GW_OK;
}

void idempotency_deinit(void)
{
    local = lru_free(local);
}

/* --- names ------------------------------------------------------------------------------------ */

static bool sha256(struct slice s, unsigned char ret[32])
{
    return EVP_Digest(s.n ? s.p : "", s.n, ret, NULL, EVP_sha256(), NULL) == 1;
}

/* idem:{<owner>}:<key>: one owner's keys share a slot of a cluster. */
static struct slice name_of(struct arena *a, struct slice owner, struct slice key)
{
    unsigned char sum[32];
    char text[OWNER_HEX];

    if (!sha256(owner, sum))
        return SLICE_NONE;
    hex_write(text, sum, OWNER_HEX / 2);
    return arena_printf(a, "idem:{%.*s}:%.*s", (int)OWNER_HEX, text, (int)key.n, key.p);
}

enum gw_err idempotency_use(struct arena *a, struct slice owner, struct slice key,
                            struct idem_use *ret)
{
    ret->name = name_of(a, owner, key);
    if (!ret->name.n || !sha256(ret->name, ret->hash.sha))
        return GW_ENOMEM;
    rng_fill(ret->id, sizeof(ret->id));
    ret->marked = false;
    return GW_OK;
}

/* --- records ---------------------------------------------------------------------------------- */

static void mark_write(const struct idem_use *u, char ret[MARK_BYTES])
{
    ret[0] = MARK;
    memcpy(ret + 1, u->fingerprint, IDEM_FINGERPRINT);
    memcpy(ret + 1 + IDEM_FINGERPRINT, u->id, IDEM_ID);
}

static void put_u32(struct buf *b, size_t n)
{
    uint32_t v = (uint32_t)n;

    buf_add(b, &v, sizeof(v));
}

static void put_text(struct buf *b, struct slice s)
{
    put_u32(b, s.n);
    buf_add_slice(b, s);
}

static void record_write(struct buf *b, const struct idem_use *u, const struct idem_outcome *o)
{
    buf_add_char(b, OUTCOME);
    buf_add(b, u->fingerprint, IDEM_FINGERPRINT);
    put_u32(b, (size_t)o->status);
    put_u32(b, o->kind);
    put_text(b, o->type);
    put_u32(b, o->n_headers);
    for (unsigned i = 0; i < o->n_headers; i++) {
        put_text(b, o->headers[i].name);
        put_text(b, o->headers[i].value);
    }
    put_text(b, o->body);
}

static bool take_u32(struct slice *in, uint32_t *ret)
{
    if (in->n < sizeof(*ret))
        return false;
    memcpy(ret, in->p, sizeof(*ret));
    *in = slice_from(*in, sizeof(*ret));
    return true;
}

static bool take_text(struct slice *in, struct slice *ret)
{
    uint32_t n;

    if (!take_u32(in, &n) || n > in->n)
        return false;
    *ret = slice_of(in->p, n);
    *in = slice_from(*in, n);
    return true;
}

/* What follows the fingerprint; false when it makes no sense. */
static bool record_read(struct slice in, struct idem_outcome *ret)
{
    uint32_t status, kind, n;

    if (!take_u32(&in, &status) || status < 200 || status > 599 || !take_u32(&in, &kind) ||
        kind > IDEM_CUT || !take_text(&in, &ret->type) || !take_u32(&in, &n) ||
        n > IDEM_MAX_HEADERS)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!take_text(&in, &ret->headers[i].name) || !take_text(&in, &ret->headers[i].value))
            return false;
    ret->status = (int)status;
    ret->kind = (enum idem_body)kind;
    ret->n_headers = n;
    return take_text(&in, &ret->body) && in.n == 0;
}

/* What a record says to this use; *ret points into the record. */
static enum idem_verdict verdict_of(const struct idem_use *u, struct slice record,
                                    struct idem_outcome *ret)
{
    bool ours, mark = record.n == MARK_BYTES && record.p[0] == MARK;

    if (!mark && (record.n < 1 + IDEM_FINGERPRINT || record.p[0] != OUTCOME))
        return IDEM_FIRST;
    ours = memcmp(record.p + 1, u->fingerprint, IDEM_FINGERPRINT) == 0;
    if (mark)
        return ours ? IDEM_BUSY : IDEM_REUSED;
    if (!record_read(slice_from(record, 1 + IDEM_FINGERPRINT), ret))
        return IDEM_FIRST;
    return ours ? IDEM_DONE : IDEM_REUSED;
}

/* The same, with the record copied into the arena first. */
static enum idem_verdict read_record(const struct idem_use *u, struct arena *a, struct slice record,
                                     struct idem_outcome *ret)
{
    struct slice copy = arena_dup(a, record);

    return copy.p ? verdict_of(u, copy, ret) : IDEM_FIRST;
}

enum idem_verdict idempotency_look(const struct idem_use *u, struct arena *a,
                                   struct idem_outcome *ret)
{
    struct blob *b = lru_get(local, &u->hash, loop_now_us());

    return b ? read_record(u, a, blob_slice(b), ret) : IDEM_FIRST;
}

/* --- Redis ------------------------------------------------------------------------------------ */

struct claim {
    struct op op;
    struct op *asked; /* outstanding in redis.c */
    struct idem_use *use;
    struct arena *arena;
    idem_done done;
    void *arg;
};

static void on_claimed(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct claim *c = arg, copy = *c;
    struct idem_outcome o = {0};
    enum idem_verdict verdict = IDEM_FIRST;

    if (!err && v->kind == REDIS_STR)
        verdict = read_record(c->use, c->arena, v->s, &o);
    free(c);
    copy.use->marked = verdict == IDEM_FIRST;
    copy.done(verdict, &o, copy.arg);
}

/* The mark may have been left: it is taken away again. */
static void claim_cancel(struct op *op)
{
    struct claim *c = (struct claim *)op;

    op_cancel(&c->asked);
    c->use->marked = true;
    idempotency_release(c->use);
    free(c);
}

static struct op *eval(struct redis_script *script, const struct idem_use *u,
                       const struct slice *args, unsigned n, redis_done done, void *arg)
{
    return redis_eval(script, &u->name, 1, args, n, done, arg);
}

struct op *idempotency_claim(struct idem_use *u, struct arena *a, idem_done done, void *arg)
{
    struct claim *c = redis_up() ? malloc(sizeof(*c)) : NULL;
    char mark[MARK_BYTES], lease[24];
    int n = snprintf(lease, sizeof(lease), "%d", LEASE_MS);

    if (!c)
        return NULL;
    *c = (struct claim){{claim_cancel}, NULL, u, a, done, arg};
    mark_write(u, mark);
    c->asked = eval(&claim_script, u,
                    (struct slice[]){slice_of(mark, sizeof(mark)), slice_of(lease, (size_t)n)}, 2,
                    on_claimed, c);
    if (!c->asked) {
        free(c);
        return NULL;
    }
    return &c->op;
}

/* For what is sent without waiting: whether it ran is told by the next use. */
static void on_sent(enum gw_err err, const struct redis_value *v, void *arg)
{
}

void idempotency_renew(const struct idem_use *u)
{
    char mark[MARK_BYTES], lease[24];
    int n = snprintf(lease, sizeof(lease), "%d", LEASE_MS);

    if (!u->marked || !redis_up())
        return;
    mark_write(u, mark);
    eval(&renew_script, u,
         (struct slice[]){slice_of(mark, sizeof(mark)), slice_of(lease, (size_t)n)}, 2, on_sent,
         NULL);
}

void idempotency_release(const struct idem_use *u)
{
    char mark[MARK_BYTES];

    if (!u->marked || !redis_up())
        return;
    mark_write(u, mark);
    eval(&release_script, u, (struct slice[]){slice_of(mark, sizeof(mark))}, 1, on_sent, NULL);
}

static void keep_here(const struct idem_use *u, struct slice record, uint64_t ttl_us)
{
    struct blob *b = blob_new(record.n);

    if (!b)
        return;
    memcpy(b->bytes, record.p, record.n);
    b->born_us = loop_now_us();
    b->dies_us = b->born_us + ttl_us;
    lru_put(local, &u->hash, b);
    blob_unref(b);
}

static void keep_there(const struct idem_use *u, struct slice record, uint64_t ttl_us)
{
    char mark[MARK_BYTES], ttl[24];
    int n = snprintf(ttl, sizeof(ttl), "%llu", (unsigned long long)(ttl_us / 1000));

    if (!redis_up())
        return;
    mark_write(u, mark);
    eval(&keep_script, u,
         (struct slice[]){slice_of(mark, sizeof(mark)), record, slice_of(ttl, (size_t)n)}, 3,
         on_sent, NULL);
}

void idempotency_keep(const struct idem_use *u, const struct idem_outcome *o, uint64_t ttl_us)
{
    struct buf b;

    buf_init(&b, RECORD_MAX_BYTES);
    record_write(&b, u, o);
    if (buf_err(&b)) {
        idempotency_release(u);
    } else {
        keep_here(u, buf_slice(&b), ttl_us);
        keep_there(u, buf_slice(&b), ttl_us);
    }
    buf_deinit(&b);
}
