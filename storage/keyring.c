/*
 * keyring.c - see keyring.h: what is remembered, who waits, and what is answered.
 *
 * An entry is in one list at a time: `known` or `unknown` while it rests (least recently used first
 * to go), or a queue or batch of keyring_fetch.c while it is looked up; only resting ones are ever
 * forgotten. Waiters hang on their entry, so it outlives them.
 */
#include "storage/keyring_private.h"

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/rng.h"

#include <openssl/crypto.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#undef HASH_KEYCMP
#define HASH_KEYCMP(a, b, n) CRYPTO_memcmp((a), (b), (n))
/* The ids are hashes already, but their finders choose what is hashed: a secret factor keeps them
 * from filling one bucket. */
#undef HASH_FUNCTION
#define HASH_FUNCTION(at, n, ret) ((ret) = mix(at))

#define MAX_KNOWN 65536u
#define MAX_UNKNOWN 8192u
#define MAX_NEW_QUEUED 4096u
#define UNKNOWN_US 5000000u /* how long "no such key" is remembered */
#define BACKGROUND_US                                                                              \
    1000000u               /* a look-up in the background that failed is repeated after this       \
                            */
#define TOUCH_US 60000000u /* a key's use is noted so often */

struct ring_waiter {
    struct op op;
    struct ring_entry *entry;
    TAILQ_ENTRY(ring_waiter) link;
    uint64_t number; /* they wait in this order */
    keyring_done done;
    void *arg;
    struct jwt_claims claims; /* of a user's token */
};

static struct ring_entry *table;
static struct ring_list known = TAILQ_HEAD_INITIALIZER(known);
static struct ring_list unknown = TAILQ_HEAD_INITIALIZER(unknown);
static unsigned n_known, n_unknown;
static uint64_t last_number; /* of the waiters */
static uint64_t factor;

static unsigned mix(const void *id)
{
    uint64_t v;

    memcpy(&v, id, sizeof(v));
    return (unsigned)(v * factor >> 32);
}

/* --- counting --------------------------------------------------------------------------------- */

enum outcome { CACHED, FETCHED, STALE, NOBODY, UNAVAILABLE, OUTCOMES };

static void count(enum outcome o)
{
    static const char *const names[OUTCOMES] = {"cached", "fetched", "stale", "unknown",
                                                "unavailable"};
    static struct metric_series *series[OUTCOMES];

    if (!series[o])
        series[o] = metrics_get(M_KEYRING, names[o], NULL, NULL);
    metrics_add(series[o], 1);
}

/* --- entries and their lists ------------------------------------------------------------------ */

struct ring_entry *ring_find(const struct ring_id *id)
{
    struct ring_entry *e;

    HASH_FIND(hh, table, id, sizeof(*id), e);
    return e;
}

static void unlist(struct ring_entry *e)
{
    if (e->state == RING_KNOWN) {
        TAILQ_REMOVE(&known, e, link);
        n_known--;
    } else {
        TAILQ_REMOVE(&unknown, e, link);
        n_unknown--;
    }
}

/* Frees an entry that is in no list. */
static void destroy(struct ring_entry *e)
{
    assert(TAILQ_EMPTY(&e->waiters));
    HASH_DEL(table, e);
    principal_unref(e->p);
    free(e);
}

static void forget_oldest(struct ring_list *list)
{
    struct ring_entry *e = TAILQ_LAST(list, ring_list);

    unlist(e);
    destroy(e);
}

/* Back among those that rest, as the most recently used; makes room. */
static void rest(struct ring_entry *e)
{
    e->place = RING_RESTING;
    if (e->state == RING_KNOWN) {
        if (n_known >= MAX_KNOWN)
            forget_oldest(&known);
        TAILQ_INSERT_HEAD(&known, e, link);
        n_known++;
    } else {
        if (n_unknown >= MAX_UNKNOWN)
            forget_oldest(&unknown);
        TAILQ_INSERT_HEAD(&unknown, e, link);
        n_unknown++;
    }
}

static void use(struct ring_entry *e)
{
    if (e->place != RING_RESTING)
        return;
    unlist(e);
    rest(e);
}

/* A new entry, in no list. NULL out of memory. */
static struct ring_entry *entry_new(const struct ring_id *id, enum ring_kind kind)
{
    struct ring_entry *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->id = *id;
    e->kind = kind;
    TAILQ_INIT(&e->waiters);
    HASH_ADD(hh, table, id, sizeof(e->id), e);
    if (!e->hh.tbl) { /* out of memory: it was not added */
        free(e);
        return NULL;
    }
    return e;
}

/* --- what an entry says ----------------------------------------------------------------------- */

static enum gw_err judge_key(const struct ring_entry *e)
{
    return e->p->expires_wall_us && (uint64_t)e->p->expires_wall_us <= loop_wall_us()
               ? GW_ETOKENEXPIRED
               : GW_OK;
}

static enum gw_err judge_token(const struct ring_entry *e, const struct jwt_claims *c)
{
    if (c->iat_us < e->tokens_valid_from_us)
        return GW_EUNAUTH;
    if (c->uid[0] && strcmp(c->uid, e->p->owner_id) != 0)
        return GW_EUNAUTH; /* the name has another bearer now */
    return c->jti[0] && watch_is_revoked(c->jti) ? GW_EUNAUTH : GW_OK;
}

static void touch(struct ring_entry *e)
{
    uint64_t now = loop_now_us();

    if (e->kind == RING_KEY && (!e->touched_us || now - e->touched_us >= TOUCH_US) &&
        watch_touch(e->p->key_id))
        e->touched_us = now;
}

/* The verdict over what is remembered. A reference for the caller with GW_OK. */
static enum gw_err judge(struct ring_entry *e, const struct jwt_claims *c,
                         const struct principal **ret)
{
    enum gw_err err = GW_EUNAUTH;

    if (e->state == RING_KNOWN)
        err = e->kind == RING_KEY ? judge_key(e) : judge_token(e, c);
    if (!err) {
        touch(e);
        *ret = principal_ref(e->p);
    }
    return err;
}

/* May it still be believed although it could not be looked up again? */
static bool is_bearable(const struct ring_entry *e, uint64_t now)
{
    return e->state == RING_KNOWN &&
           now - e->verified_us < (uint64_t)conf_current()->key_stale_s * 1000000;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void waiter_cancel(struct op *op)
{
    struct ring_waiter *w = (struct ring_waiter *)op; /* its first member */

    TAILQ_REMOVE(&w->entry->waiters, w, link);
    free(w);
}

static enum gw_err wait_for(struct ring_entry *e, const struct jwt_claims *c, struct op **ret_op,
                            keyring_done done, void *arg)
{
    struct ring_waiter *w = calloc(1, sizeof(*w));

    if (!w)
        return GW_ENOMEM;
    w->op.cancel = waiter_cancel;
    w->entry = e;
    w->number = ++last_number;
    w->done = done;
    w->arg = arg;
    if (c)
        w->claims = *c;
    TAILQ_INSERT_TAIL(&e->waiters, w, link);
    if (e->place == RING_SENT && e->sent_version != watch_version())
        e->again = true;
    *ret_op = &w->op;
    return GW_EAGAIN;
}

/* The next of those that waited when `until` was the last number: who begins to wait in a callback
 * is not among them. */
static struct ring_waiter *next_waiter(const struct ring_entry *e, uint64_t until)
{
    struct ring_waiter *w = TAILQ_FIRST(&e->waiters);

    return w && w->number <= until ? w : NULL;
}

/* Sends it home. Its callback may ask, cancel and wait again, for this entry too. */
static void release(struct ring_waiter *w, enum gw_err err, const struct principal *p)
{
    keyring_done done = w->done;
    void *arg = w->arg;

    TAILQ_REMOVE(&w->entry->waiters, w, link);
    free(w);
    done(err, p, arg);
}

/* The entry rests as the most recently used, so no callback pushes it out. */
static void answer_all(struct ring_entry *e, bool fresh)
{
    uint64_t until = last_number;
    struct ring_waiter *w;

    while ((w = next_waiter(e, until)) != NULL) {
        const struct principal *p = NULL;
        enum gw_err err = judge(e, &w->claims, &p);

        count(!fresh ? STALE : e->state == RING_KNOWN ? FETCHED : NOBODY);
        release(w, err, p);
    }
}

static void send_all_away(struct ring_entry *e)
{
    uint64_t until = last_number;
    struct ring_waiter *w;

    while ((w = next_waiter(e, until)) != NULL) {
        count(UNAVAILABLE);
        release(w, GW_EUNAVAIL, NULL);
    }
}

/* --- look-ups --------------------------------------------------------------------------------- */

static void look_up(struct ring_entry *e)
{
    if (e->place != RING_RESTING)
        return;
    if (e->state != RING_NEW)
        unlist(e);
    fetch_queue(e);
}

void ring_settle(struct ring_entry *e, const struct principal *p, int64_t tokens_valid_from_us,
                 uint64_t began_us, int64_t version)
{
    principal_unref(e->p);
    e->p = p;
    e->state = p ? RING_KNOWN : RING_UNKNOWN;
    e->tokens_valid_from_us = tokens_valid_from_us;
    e->verified_us = began_us;
    e->version = version;
    if (e->again && !TAILQ_EMPTY(&e->waiters)) {
        e->again = false;
        fetch_queue(e);
        return;
    }
    e->again = false;
    rest(e);
    answer_all(e, true);
}

void ring_fail(struct ring_entry *e)
{
    uint64_t now = loop_now_us();

    e->again = false;
    e->retry_us = now + BACKGROUND_US;
    if (is_bearable(e, now)) {
        rest(e);
        answer_all(e, false);
        return;
    }
    e->place = RING_SENT; /* not queued from inside a callback */
    e->sent_version = watch_version();
    send_all_away(e);
    if (!TAILQ_EMPTY(&e->waiters))
        fetch_queue(e);
    else if (e->state == RING_NEW)
        destroy(e);
    else
        rest(e);
}

/* --- asking ----------------------------------------------------------------------------------- */

enum readiness { READY, READY_OLD, MUST_ASK };

/* Can it answer now? READY_OLD: yes, but it wants to be looked up again. */
static enum readiness readiness_of(const struct ring_entry *e, uint64_t now)
{
    bool moved = e->version != watch_version();
    uint64_t age = now - e->verified_us;

    if (e->state == RING_NEW)
        return MUST_ASK;
    if (e->state == RING_UNKNOWN)
        return !moved && age < UNKNOWN_US ? READY : MUST_ASK;
    if (!moved && age < (uint64_t)conf_current()->key_cache_s * 1000000)
        return READY;
    if (moved && watch_is_good())
        return MUST_ASK;
    return is_bearable(e, now) ? READY_OLD : MUST_ASK;
}

static enum gw_err ask(struct ring_entry *e, const struct jwt_claims *c,
                       const struct principal **ret, struct op **ret_op, keyring_done done,
                       void *arg)
{
    uint64_t now = loop_now_us();
    enum readiness r = readiness_of(e, now);
    enum gw_err err;

    if (r == MUST_ASK) {
        err = wait_for(e, c, ret_op, done, arg);
        look_up(e);
        return err;
    }
    if (r == READY_OLD && now >= e->retry_us)
        look_up(e);
    use(e);
    if (e->state == RING_UNKNOWN)
        count(NOBODY);
    else
        count(r == READY || watch_is_good() ? CACHED : STALE);
    return judge(e, c, ret);
}

/* The entry of an id, made if there is room for one more that nobody has heard of. */
static enum gw_err entry_of(const struct ring_id *id, enum ring_kind kind, struct ring_entry **ret)
{
    *ret = ring_find(id);
    if (*ret)
        return GW_OK;
    if (fetch_new_queued() >= MAX_NEW_QUEUED) {
        count(UNAVAILABLE);
        return GW_EUNAVAIL;
    }
    *ret = entry_new(id, kind);
    return *ret ? GW_OK : GW_ENOMEM;
}

enum gw_err keyring_key(struct slice key, const struct principal **ret, struct op **ret_op,
                        keyring_done done, void *arg)
{
    struct ring_entry *e;
    struct ring_id id;
    enum gw_err err;

    if (!pg_enabled() || !keytext_is_key(key))
        return GW_EUNAUTH;
    if (!keytext_sha256(key, id.sha))
        return GW_ENOMEM;
    err = entry_of(&id, RING_KEY, &e);
    return err ? err : ask(e, NULL, ret, ret_op, done, arg);
}

bool ring_user_id(struct slice name, struct ring_id *ret)
{
    char text[5 + JWT_MAX_SUB] = "user:";

    if (name.n > JWT_MAX_SUB)
        return false;
    memcpy(text + 5, name.p, name.n);
    return keytext_sha256(slice_of(text, 5 + name.n), ret->sha);
}

/* Nobody to ask: the token is all there is. */
static enum gw_err stand_alone(const struct jwt_claims *c, const struct principal **ret)
{
    struct principal p = {.kind = PRINCIPAL_USER, .admin = c->admin};

    snprintf(p.subject, sizeof(p.subject), "user:%s", c->sub);
    snprintf(p.tenant, sizeof(p.tenant), "user:%s", c->sub);
    snprintf(p.user_id, sizeof(p.user_id), "%s", c->sub);
    *ret = principal_new(&p, SLICE_NONE, SLICE_NONE);
    return *ret ? GW_OK : GW_ENOMEM;
}

enum gw_err keyring_token(const struct jwt_claims *claims, const struct principal **ret,
                          struct op **ret_op, keyring_done done, void *arg)
{
    struct slice name = slice_cstr(claims->sub);
    struct ring_entry *e;
    struct ring_id id;
    enum gw_err err;

    if (!pg_enabled())
        return stand_alone(claims, ret);
    if (!ring_user_id(name, &id))
        return GW_ENOMEM;
    err = entry_of(&id, RING_USER, &e);
    if (err)
        return err;
    memcpy(e->name, name.p, name.n);
    return ask(e, claims, ret, ret_op, done, arg);
}

/* --- life ------------------------------------------------------------------------------------- */

void keyring_changed(void)
{
    if (pg_enabled())
        watch_now();
}

void keyring_stats(struct keyring_stats *ret)
{
    *ret = (struct keyring_stats){.known = n_known,
                                  .unknown = n_unknown,
                                  .waiting = fetch_pending(),
                                  .revoked = watch_revoked(),
                                  .version = watch_version(),
                                  .watching = watch_is_good()};
}

enum gw_err keyring_init(const struct conf *c)
{
    (void)c;
    factor = rng_u64() | 1;
    if (pg_enabled())
        watch_init();
    return GW_OK;
}

void keyring_deinit(void)
{
    struct ring_entry *e, *next;

    watch_deinit();
    fetch_deinit();
    HASH_ITER(hh, table, e, next)
    {
        HASH_DEL(table, e);
        for (struct ring_waiter *w; (w = TAILQ_FIRST(&e->waiters)) != NULL;) {
            TAILQ_REMOVE(&e->waiters, w, link);
            free(w);
        }
        principal_unref(e->p);
        free(e);
    }
    TAILQ_INIT(&known);
    TAILQ_INIT(&unknown);
    n_known = n_unknown = 0;
    keytext_deinit();
}
