/*
 * flight.c - see flight.h.
 *
 * A flight is in the table of those that can be joined until it is over or given up. It is freed
 * when its leader has ended and no follower is left; telling followers is deferred, since the tap
 * runs inside the leader's funnel.
 */
#include "handlers/flight.h"

#include "gateway/core/loop.h"
#include "gateway/http/tap.h"
#include "storage/cache.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#define ARENA_BYTES 65536u
#define AHEAD_BYTES (8u << 20) /* of an answer its leader's client need not have taken */

struct flight {
    struct lru_key key;
    struct flight_limits limits;
    struct tap tap;
    struct flight **slot; /* the leader's pointer to us */
    bool listed;          /* can be joined */
    bool over;            /* the leader has ended */
    bool busy;            /* telling: whoever leaves does not free it */
    bool keeping;
    bool has_head, complete;
    int status;
    enum gw_err err;
    struct kept kept; /* texts in the arena */
    struct flight_refusal refusal;
    struct buf bytes;
    struct arena *arena;
    struct flight_follower *followers;
    void (*on_followed)(void *arg); /* NULL once the answer has ended */
    void *on_followed_arg;
    struct loop_deferred telling;
    UT_hash_handle hh;
};

static struct flight *table;

struct flight *flight_find(const struct lru_key *key)
{
    struct flight *f;

    HASH_FIND(hh, table, key, sizeof(*key), f);
    return f;
}

static void unlist(struct flight *f)
{
    if (f->listed)
        HASH_DEL(table, f);
    f->listed = false;
}

static void free_if_done(struct flight *f)
{
    if (!f->over || f->busy || f->followers)
        return;
    unlist(f);
    loop_undefer(&f->telling);
    buf_deinit(&f->bytes);
    arena_destroy(f->arena);
    free(f);
}

/* --- telling --------------------------------------------------------------------------------- */

/* A follower may leave, or be freed, in its own on_news. */
static void tell(void *arg)
{
    struct flight *f = arg;
    struct flight_follower *who, *next;

    f->busy = true;
    for (who = f->followers; who; who = next) {
        next = who->next;
        who->on_news(who);
    }
    f->busy = false;
    free_if_done(f);
}

static void news(struct flight *f)
{
    if (f->followers)
        loop_defer(&f->telling, tell, f);
}

/* --- the leader ------------------------------------------------------------------------------ */

static struct slice header_of(struct flight *f, const struct request *req, const char *name)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is_nocase(req->out[i].name, name))
            return arena_dup(f->arena, req->out[i].value);
    return SLICE_NONE;
}

static void on_head(struct request *req, int status, struct slice type, bool stream, void *arg)
{
    struct flight *f = arg;

    f->has_head = true;
    f->status = status;
    f->err = req->err;
    f->kept.stream = stream;
    f->kept.content_type = arena_dup(f->arena, type);
    f->kept.provider = header_of(f, req, "X-Postern-Provider");
    f->kept.model = header_of(f, req, "X-Postern-Model");
    f->kept.dropped = header_of(f, req, "X-Postern-Dropped");
    f->refusal = (struct flight_refusal){.retry_after = header_of(f, req, "Retry-After"),
                                         .source = header_of(f, req, "X-Postern-Error-Source")};
    f->keeping = f->keeping && status == 200 && !req->err && !arena_refusals(f->arena);
    news(f);
}

/* Too large to be kept, and nobody follows: there is no need to gather any more. */
static void stop_gathering(struct flight *f)
{
    unlist(f);
    buf_deinit(&f->bytes);
}

static void on_bytes(struct request *req, struct slice bytes, void *arg)
{
    struct flight *f = arg;

    (void)req;
    if (!f->keeping && !f->followers) {
        stop_gathering(f); /* nobody may join it behind the bytes that are not gathered */
        return;
    }
    buf_add_slice(&f->bytes, bytes);
    if (f->bytes.n > f->limits.keep_bytes || buf_err(&f->bytes)) {
        f->keeping = false;
        unlist(f);
    }
    if (!f->keeping && !f->followers)
        stop_gathering(f);
    news(f);
}

static void store(struct flight *f)
{
    struct blob *b;

    f->kept.body = buf_slice(&f->bytes);
    b = kept_write(&f->kept);
    if (b)
        cache_store(CACHE_RESPONSE, &f->key, b, f->limits.ttl_us);
    blob_unref(b);
}

static void on_end(struct request *req, bool complete, void *arg)
{
    struct flight *f = arg;

    unlist(f);
    *f->slot = NULL;
    f->on_followed = NULL;
    f->over = true;
    f->err = req->err;
    if (!complete && !f->err)
        f->err = GW_EUPSTREAM;
    if (!complete && f->err == GW_EGONECLIENT)
        f->err = GW_EOVERLOAD; /* too many go on without their clients: those who follow are here */
    if (complete && buf_err(&f->bytes))
        f->err = GW_EUPBAD; /* whoever follows has not got all of it */
    f->complete = complete && !f->err;
    if (f->complete && f->keeping && f->limits.ttl_us)
        store(f);
    news(f);
    free_if_done(f);
}

struct flight *flight_lead(struct request *req, const struct lru_key *key,
                           const struct flight_limits *limits, struct flight **slot)
{
    struct flight *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    f->arena = arena_create(ARENA_BYTES);
    if (!f->arena) {
        free(f);
        return NULL;
    }
    f->slot = slot;
    f->key = *key;
    f->limits = *limits;
    f->keeping = true;
    f->kept.cost_nano_usd = -1;
    f->tap = (struct tap){.on_head = on_head, .on_bytes = on_bytes, .on_end = on_end, .arg = f};
    buf_init(&f->bytes, limits->max_bytes);
    if (!flight_find(key)) {
        HASH_ADD(hh, table, key, sizeof(f->key), f);
        f->listed = f->hh.tbl != NULL; /* else memory was short: nobody can join it */
    }
    tap_add(req, &f->tap);
    return f;
}

void flight_on_followed(struct flight *f, void (*fn)(void *arg), void *arg)
{
    f->on_followed = fn;
    f->on_followed_arg = arg;
}

bool flight_runs_ahead(const struct flight *f)
{
    return f && f->followers && f->bytes.n <= AHEAD_BYTES;
}

void flight_note(struct flight *f, const struct convo_usage *usage, int64_t cost_nano_usd)
{
    f->kept.usage = *usage;
    f->kept.cost_nano_usd = cost_nano_usd;
}

void flight_keep_not(struct flight *f)
{
    f->keeping = false;
}

/* --- followers ------------------------------------------------------------------------------- */

void flight_follow(struct flight *f, struct flight_follower *who)
{
    who->flight = f;
    DL_APPEND(f->followers, who);
    f->tap.outlive = true;
    if (f->on_followed)
        f->on_followed(f->on_followed_arg);
    news(f);
}

void flight_leave(struct flight_follower *who)
{
    struct flight *f = who->flight;

    if (!f)
        return;
    who->flight = NULL;
    DL_DELETE(f->followers, who);
    f->tap.outlive = f->followers != NULL;
    free_if_done(f);
}

bool flight_has_head(const struct flight *f)
{
    return f->has_head;
}

bool flight_is_over(const struct flight *f)
{
    return f->over;
}

bool flight_is_good(const struct flight *f)
{
    return !f->err && (!f->has_head || f->status == 200);
}

int flight_status(const struct flight *f)
{
    return f->status;
}

enum gw_err flight_err(const struct flight *f)
{
    return f->err;
}

struct flight_refusal flight_refusal(const struct flight *f)
{
    return f->refusal;
}

const struct kept *flight_kept(const struct flight *f)
{
    return &f->kept;
}

struct slice flight_gathered(const struct flight *f)
{
    return buf_slice(&f->bytes);
}
