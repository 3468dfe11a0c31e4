/*
 * cache.h - the caches of SPEC 5: an in-process tier (lru.h) in front of one in Redis that all
 * processes share.
 *
 *     cache_look (here) --miss--> cache_fetch (Redis, within its deadline) --miss--> the caller
 * makes it
 *                                                                            '--> cache_store
 * (both)
 *
 * Keys are SHA-256; whoever makes one puts the tenant into it, so nobody can see another's entry.
 * Values are bytes that only their maker reads; a value in Redis is preceded by its age and
 * lifetime, and anything that does not look like that is a miss. Redis away is a miss, never an
 * error.
 *
 * Clearing a cache moves its generation, a counter in Redis that every process looks at once a
 * second: their in-process tiers follow within that.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "storage/lru.h"

enum cache_kind {
    CACHE_RESPONSE,   /* "llm": whole answers */
    CACHE_EXTRACTION, /* "extract": what was read from documents */
    CACHE_ENTITY,     /* "entity": matches */
    CACHE_EMBEDDING,  /* "emb": vectors */
    CACHE_KINDS
};

enum gw_err cache_init(const struct conf *c) MUST_CHECK;
void cache_deinit(void);
/* Takes over sizes from a new configuration. */
void cache_adopt(const struct conf *c);

/* "response", "extraction", "entity", "embedding": the `cache` label and the admin routes' names.
 */
const char *cache_name(enum cache_kind k);

/* What this process has, borrowed until the next turn; NULL when nothing. `max_age_us`: older ones
 * are not wanted. Counts a hit, but no miss: see cache_fetch(). */
struct blob *cache_look(enum cache_kind k, const struct lru_key *key, uint64_t max_age_us);

/* Asks Redis. done(blob, arg): NULL for a miss; else borrowed, and kept in this process too.
 * Returns NULL, and counts a miss, when Redis cannot be asked: that is a miss as well. */
struct op *cache_fetch(enum cache_kind k, const struct lru_key *key, uint64_t max_age_us,
                       void (*done)(struct blob *b, void *arg), void *arg);

/* Keeps the blob in both tiers for ttl_us from now; fills in its times. */
void cache_store(enum cache_kind k, const struct lru_key *key, struct blob *b, uint64_t ttl_us);

/* Of all workers: what they hold in process, each on its own, and what they looked up since the
 * gateway's start. */
struct cache_stats {
    uint64_t entries, bytes;
    uint64_t hits_l1, hits_l2, misses;
};
void cache_stats(enum cache_kind k, struct cache_stats *ret);

/* Empties the in-process tier here and, within a second, in the other processes, and removes the
 * entries from Redis, a page of keys at a time. done(removed, arg): entries removed here and in
 * Redis; runs once, on the loop or inside cache_deinit(), never inside this call. False out of
 * memory: nothing was done. */
bool cache_clear(enum cache_kind k, void (*done)(uint64_t removed, void *arg), void *arg);
