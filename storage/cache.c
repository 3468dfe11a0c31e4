/*
 * cache.c - see cache.h.
 *
 * A value in Redis is a head and the bytes. Age and lifetime are wall times there, since processes
 * share nothing else; a clock that jumps makes entries look too old, which is a miss, or as new as
 * can be. A checksum over key, head and bytes makes a miss of what was damaged or put under another
 * key, and the generation one of what was on its way while the cache was cleared.
 */
#include "storage/cache.h"

#include "gateway/core/decimal.h"
#include "gateway/core/hex.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "storage/redis.h"
#include "storage/semantic.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>
#include <zlib.h>

#define MARK "PC2"
#define KEY_MAX 80u
#define POLL_US 1000000u
#define GENERATIONS "cache:generation"
#define SCAN_COUNT "500"

static const struct {
    const char *name;   /* label and field of the generations' hash */
    const char *prefix; /* of the keys in Redis */
} kinds[CACHE_KINDS] = {
    [CACHE_RESPONSE] = {"response", "llm:"},
    [CACHE_EXTRACTION] = {"extraction", "extract:"},
    [CACHE_ENTITY] = {"entity", "entity:"},
    [CACHE_EMBEDDING] = {"embedding", "emb:"},
};

/* Of a value in Redis; numbers in this machine's order. */
struct head {
    char mark[4];
    uint32_t crc; /* of the key, what follows here, and the bytes */
    uint64_t made_us, ttl_us;
    int64_t generation;
};

_Static_assert(sizeof(struct head) == 32, "the head has no gaps");

struct tier {
    struct lru *lru;
    struct metric_series *l1, *l2, *misses, *entries, *bytes;
    int64_t generation; /* last one seen in Redis; -1 = none yet: what is here may be of
                           an older one, and goes when the first is seen */
};

static struct tier tiers[CACHE_KINDS];
static struct loop_timer poll;
static struct op *polling;

const char *cache_name(enum cache_kind k)
{
    return kinds[k].name;
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_poll(void *arg);

static enum gw_err tier_init(enum cache_kind k)
{
    struct tier *t = &tiers[k];

    *t = (struct tier){.lru = lru_new(), .generation = -1};
    t->l1 = metrics_get(M_CACHE_HITS, kinds[k].name, "l1", NULL);
    t->l2 = metrics_get(M_CACHE_HITS, kinds[k].name, "l2", NULL);
    t->misses = metrics_get(M_CACHE_MISSES, kinds[k].name, NULL, NULL);
    t->entries = metrics_get(M_CACHE_ENTRIES, kinds[k].name, NULL, NULL);
    t->bytes = metrics_get(M_CACHE_BYTES, kinds[k].name, NULL, NULL);
    return t->lru ? GW_OK : GW_ENOMEM;
}

static void show_size(struct tier *t)
{
    metrics_set(t->entries, (int64_t)lru_entries(t->lru));
    metrics_set(t->bytes, (int64_t)lru_bytes(t->lru));
}

void cache_adopt(const struct conf *c)
{
    const struct {
        int64_t entries, mb;
    } sizes[CACHE_KINDS] = {
        [CACHE_RESPONSE] = {c->cache_response_entries, c->cache_response_mb},
        [CACHE_EXTRACTION] = {c->cache_response_entries, c->cache_response_mb},
        [CACHE_ENTITY] = {c->cache_response_entries, c->cache_response_mb},
        [CACHE_EMBEDDING] = {c->cache_embedding_entries, c->cache_embedding_mb},
    };

    for (unsigned k = 0; k < CACHE_KINDS; k++) {
        lru_set_limits(tiers[k].lru, (size_t)sizes[k].entries, (size_t)sizes[k].mb << 20);
        show_size(&tiers[k]);
    }
    semantic_set_limit((unsigned)c->cache_semantic_entries);
}

enum gw_err cache_init(const struct conf *c)
{
    enum gw_err err = GW_OK;

    for (unsigned k = 0; k < CACHE_KINDS && !err; k++)
        err = tier_init(k);
    loop_timer_init(&poll, on_poll, NULL);
    if (!err && redis_enabled())
        loop_timer_set(&poll, loop_now_us() + POLL_US);
    if (!err)
        cache_adopt(c);
    return err;
}

/* --- this process ---------------------------------------------------------------------------- */

static bool is_young(const struct blob *b, uint64_t max_age_us)
{
    uint64_t now = loop_now_us();

    return now <= b->born_us || now - b->born_us <= max_age_us;
}

struct blob *cache_look(enum cache_kind k, const struct lru_key *key, uint64_t max_age_us)
{
    struct tier *t = &tiers[k];
    struct blob *b = lru_get(t->lru, key, loop_now_us());

    if (!b || !is_young(b, max_age_us))
        return NULL;
    metrics_add(t->l1, 1);
    return b;
}

static void count_miss(struct tier *t)
{
    metrics_add(t->misses, 1);
}

static void keep(enum cache_kind k, const struct lru_key *key, struct blob *b)
{
    lru_put(tiers[k].lru, key, b);
    show_size(&tiers[k]);
}

static uint64_t total(enum metric m, enum cache_kind k, const char *layer)
{
    return (uint64_t)metrics_total(m, kinds[k].name, layer, NULL);
}

void cache_stats(enum cache_kind k, struct cache_stats *ret)
{
    *ret = (struct cache_stats){
        .entries = total(M_CACHE_ENTRIES, k, NULL),
        .bytes = total(M_CACHE_BYTES, k, NULL),
        .hits_l1 = total(M_CACHE_HITS, k, "l1"),
        .hits_l2 = total(M_CACHE_HITS, k, "l2"),
        .misses = total(M_CACHE_MISSES, k, NULL),
    };
}

/* --- Redis ----------------------------------------------------------------------------------- */

/* "llm:0123..."; returns its length. */
static struct slice redis_key(enum cache_kind k, const struct lru_key *key, char to[KEY_MAX])
{
    char *at = hex_write(stpcpy(to, kinds[k].prefix), key->sha, LRU_KEY_BYTES);

    return slice_of(to, (size_t)(at - to));
}

static uint32_t checksum(const struct lru_key *key, const struct head *h, const char *p, size_t n)
{
    const size_t from = offsetof(struct head, made_us);
    uLong crc = crc32(0, key->sha, sizeof(key->sha));

    crc = crc32(crc, (const Bytef *)h + from, (uInt)(sizeof(*h) - from));
    return (uint32_t)crc32(crc, (const Bytef *)p, (uInt)n);
}

/* A blob of what Redis had under the key; NULL when it is nothing of ours, or too old. */
static struct blob *blob_read(enum cache_kind k, const struct lru_key *key, struct slice s)
{
    uint64_t now = loop_now_us(), wall = loop_wall_us(), age_us;
    struct blob *b;
    struct head h;

    if (s.n < sizeof(h))
        return NULL;
    memcpy(&h, s.p, sizeof(h));
    if (memcmp(h.mark, MARK, sizeof(h.mark)) != 0 || h.generation < tiers[k].generation ||
        h.crc != checksum(key, &h, s.p + sizeof(h), s.n - sizeof(h)))
        return NULL;
    age_us = wall > h.made_us ? wall - h.made_us : 0;
    if (age_us >= h.ttl_us)
        return NULL;
    b = blob_new(s.n - sizeof(h));
    if (!b)
        return NULL;
    memcpy(b->bytes, s.p + sizeof(h), b->n);
    b->born_us = now > age_us ? now - age_us : 0;
    b->dies_us = h.ttl_us - age_us > UINT64_MAX - now ? UINT64_MAX : now + (h.ttl_us - age_us);
    return b;
}

struct fetch {
    struct op op; /* first member */
    struct op *command;
    enum cache_kind kind;
    struct lru_key key;
    uint64_t max_age_us;
    void (*done)(struct blob *b, void *arg);
    void *arg;
};

static void fetch_cancel(struct op *op)
{
    struct fetch *f = (struct fetch *)op;

    op_cancel(&f->command);
    free(f);
}

static void on_got(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct fetch f = *(struct fetch *)arg;
    struct tier *t = &tiers[f.kind];
    struct blob *b = !err && v->kind == REDIS_STR ? blob_read(f.kind, &f.key, v->s) : NULL;

    free(arg);
    if (b && !is_young(b, f.max_age_us))
        b = blob_unref(b);
    if (b) {
        metrics_add(t->l2, 1);
        keep(f.kind, &f.key, b);
    } else {
        count_miss(t);
    }
    f.done(b, f.arg);
    blob_unref(b);
}

struct op *cache_fetch(enum cache_kind k, const struct lru_key *key, uint64_t max_age_us,
                       void (*done)(struct blob *b, void *arg), void *arg)
{
    struct fetch *f = redis_up() ? calloc(1, sizeof(*f)) : NULL;
    char text[KEY_MAX];
    struct slice argv[2] = {SLICE("GET"), redis_key(k, key, text)};

    if (f) {
        *f = (struct fetch){.op.cancel = fetch_cancel,
                            .kind = k,
                            .key = *key,
                            .max_age_us = max_age_us,
                            .done = done,
                            .arg = arg};
        f->command = redis_command(argv, 2, on_got, f);
    }
    if (f && f->command)
        return &f->op;
    free(f);
    count_miss(&tiers[k]);
    return NULL;
}

static void store_shared(enum cache_kind k, const struct lru_key *key, const struct blob *b,
                         uint64_t ttl_us)
{
    int64_t generation = tiers[k].generation;
    struct head h = {.mark = MARK,
                     .made_us = loop_wall_us(),
                     .ttl_us = ttl_us,
                     .generation = generation < 0 ? 0 : generation};
    char text[KEY_MAX], ms[24];
    char *value = redis_up() ? malloc(sizeof(h) + b->n) : NULL;
    struct slice argv[5] = {SLICE("SET"), redis_key(k, key, text),
                            slice_of(value, sizeof(h) + b->n), SLICE("PX"), SLICE_NONE};

    if (!value)
        return;
    h.crc = checksum(key, &h, b->bytes, b->n);
    memcpy(mempcpy(value, &h, sizeof(h)), b->bytes, b->n);
    argv[4] = slice_of(ms, (size_t)(decimal_u64(ms, ttl_us / 1000 ? ttl_us / 1000 : 1) - ms));
    (void)redis_send(argv, 5); /* whoever looks for it later makes it again */
    free(value);
}

void cache_store(enum cache_kind k, const struct lru_key *key, struct blob *b, uint64_t ttl_us)
{
    b->born_us = loop_now_us();
    b->dies_us = b->born_us + ttl_us;
    keep(k, key, b);
    store_shared(k, key, b, ttl_us);
}

/* --- generations ----------------------------------------------------------------------------- */

static int64_t number_of(const struct redis_value *v)
{
    char text[24];

    if (v->kind != REDIS_STR || v->s.n >= sizeof(text))
        return 0;
    memcpy(text, v->s.p, v->s.n);
    text[v->s.n] = '\0';
    return strtoll(text, NULL, 10);
}

/* What leads to answers that are gone goes with them. */
static size_t forget_all(struct tier *t)
{
    size_t removed = lru_clear(t->lru);

    if (t == &tiers[CACHE_RESPONSE])
        semantic_clear();
    return removed;
}

static void see_generation(struct tier *t, int64_t now)
{
    if (t->generation != now) {
        forget_all(t);
        show_size(t);
    }
    t->generation = now;
}

static void on_generations(enum gw_err err, const struct redis_value *v, void *arg)
{
    (void)arg;
    polling = NULL;
    if (!err && v->kind == REDIS_ARRAY && v->n == CACHE_KINDS)
        for (unsigned k = 0; k < CACHE_KINDS; k++)
            see_generation(&tiers[k], number_of(&v->items[k]));
}

static void on_poll(void *arg)
{
    struct slice argv[2 + CACHE_KINDS] = {SLICE("HMGET"), SLICE(GENERATIONS)};

    (void)arg;
    loop_place("cache_poll");
    for (unsigned k = 0; k < CACHE_KINDS; k++)
        argv[2 + k] = slice_cstr(kinds[k].name);
    if (!polling)
        polling = redis_command(argv, 2 + CACHE_KINDS, on_generations, NULL);
    loop_timer_set(&poll, loop_now_us() + POLL_US);
}

/* --- clearing -------------------------------------------------------------------------------
 *
 *     BUMP --> SCAN --a page of keys--> UNLINK --> SCAN ... --no cursor, or nobody to ask--> end
 */

struct clearing {
    struct clearing *next, *prev;
    enum cache_kind kind;
    uint64_t removed;
    char cursor[24];
    bool repaired; /* the generations' key was of another type */
    struct op *op; /* the command that is out, or NULL */
    void (*done)(uint64_t removed, void *arg);
    void *arg;
    struct loop_deferred ending;
};

static struct clearing *clearings;

static void clearing_end(void *arg)
{
    struct clearing c = *(struct clearing *)arg;

    DL_DELETE(clearings, (struct clearing *)arg);
    free(arg);
    c.done(c.removed, c.arg);
}

/* Those that are under way when everything ends. */
static void end_clearings(void)
{
    struct clearing *c;

    while ((c = clearings)) {
        op_cancel(&c->op);
        loop_undefer(&c->ending);
        clearing_end(c);
    }
}

static void scan(struct clearing *c);

static void scan_on(struct clearing *c)
{
    if (strcmp(c->cursor, "0") == 0)
        clearing_end(c);
    else
        scan(c);
}

static void on_unlinked(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct clearing *c = arg;

    c->op = NULL;
    if (!err && v->kind == REDIS_INT)
        c->removed += (uint64_t)v->i;
    scan_on(c);
}

/* A page of keys in one command; false when it cannot be sent. */
static bool unlink_keys(struct clearing *c, const struct redis_value *keys)
{
    struct slice *argv = calloc(keys->n + 1u, sizeof(*argv));

    if (!argv)
        return false;
    argv[0] = SLICE("UNLINK");
    for (unsigned i = 0; i < keys->n; i++)
        argv[i + 1] = keys->items[i].s;
    c->op = redis_command(argv, keys->n + 1, on_unlinked, c);
    free(argv);
    return c->op != NULL;
}

static void on_scanned(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct clearing *c = arg;
    bool good = !err && v->kind == REDIS_ARRAY && v->n == 2 && v->items[0].kind == REDIS_STR &&
                v->items[0].s.n < sizeof(c->cursor) && v->items[1].kind == REDIS_ARRAY;

    c->op = NULL;
    if (!good) {
        clearing_end(c);
        return;
    }
    memcpy(c->cursor, v->items[0].s.p, v->items[0].s.n);
    c->cursor[v->items[0].s.n] = '\0';
    if (v->items[1].n == 0)
        scan_on(c);
    else if (!unlink_keys(c, &v->items[1]))
        clearing_end(c);
}

/* The next part of the keys; when it cannot be asked for, the search ends. */
static void scan(struct clearing *c)
{
    char pattern[24];
    struct slice argv[6] = {SLICE("SCAN"), slice_cstr(c->cursor), SLICE("MATCH"),
                            SLICE_NONE,    SLICE("COUNT"),        SLICE(SCAN_COUNT)};

    snprintf(pattern, sizeof(pattern), "%s*", kinds[c->kind].prefix);
    argv[3] = slice_cstr(pattern);
    c->op = redis_command(argv, 6, on_scanned, c);
    if (!c->op)
        loop_defer(&c->ending, clearing_end, c);
}

static void on_bumped(enum gw_err err, const struct redis_value *v, void *arg);

/* False when it cannot be sent. */
static bool bump(struct clearing *c)
{
    struct slice argv[4] = {SLICE("HINCRBY"), SLICE(GENERATIONS), slice_cstr(kinds[c->kind].name),
                            SLICE("1")};

    c->op = redis_command(argv, 4, on_bumped, c);
    return c->op != NULL;
}

/* Something else stands where the generations should: out of the way with it, once. */
static bool bump_again(struct clearing *c)
{
    struct slice argv[2] = {SLICE("UNLINK"), SLICE(GENERATIONS)};

    if (c->repaired)
        return false;
    c->repaired = true;
    return redis_send(argv, 2) && bump(c);
}

/* What has arrived here since the call had been asked for before: it goes too. */
static void on_bumped(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct clearing *c = arg;

    c->op = NULL;
    if (err == GW_EBADREQ && bump_again(c))
        return;
    if (!err && v->kind == REDIS_INT)
        see_generation(&tiers[c->kind], v->i);
    scan(c);
}

bool cache_clear(enum cache_kind k, void (*done)(uint64_t removed, void *arg), void *arg)
{
    struct clearing *c = calloc(1, sizeof(*c));

    if (!c)
        return false;
    *c = (struct clearing){.kind = k, .cursor = "0", .done = done, .arg = arg};
    DL_APPEND(clearings, c);
    c->removed = forget_all(&tiers[k]);
    show_size(&tiers[k]);
    if (!bump(c))
        loop_defer(&c->ending, clearing_end, c);
    return true;
}

void cache_deinit(void)
{
    end_clearings();
    loop_timer_stop(&poll);
    op_cancel(&polling);
    for (unsigned k = 0; k < CACHE_KINDS; k++)
        tiers[k].lru = lru_free(tiers[k].lru);
    semantic_deinit();
}
