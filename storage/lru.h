/*
 * lru.h - the in-process tier of a cache: blobs by SHA-256, least recently used out first.
 *
 * Bounded by entries and by bytes. A blob is immutable and counted, so whoever is being answered
 * from one keeps it while the cache may already have dropped it. Pure: the time is an argument.
 */
#pragma once

#include "gateway/core/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define LRU_KEY_BYTES 32u

struct lru_key {
    unsigned char sha[LRU_KEY_BYTES];
};

struct blob {
    unsigned refs;
    uint64_t
        born_us; /* loop clock at which it was fresh; the age of what came from Redis is in it */
    uint64_t dies_us; /* loop clock */
    size_t n;
    char bytes[];
};

/* A blob with room for n bytes, to be filled in; one reference. NULL out of memory. */
struct blob *blob_new(size_t n);
struct blob *blob_ref(struct blob *b);
struct blob *blob_unref(struct blob *b); /* NULL is fine; returns NULL */

static inline struct slice blob_slice(const struct blob *b)
{
    return slice_of(b->bytes, b->n);
}

struct lru;

/* NULL out of memory. */
struct lru *lru_new(void);
struct lru *lru_free(struct lru *l); /* NULL is fine; returns NULL */

/* New bounds (at least one entry); what is too much goes at once. */
void lru_set_limits(struct lru *l, size_t max_entries, size_t max_bytes);

/* The live entry under the key, now the most recently used, borrowed until the next call; or NULL.
 */
struct blob *lru_get(struct lru *l, const struct lru_key *key, uint64_t now_us);

/* Stores b under the key, replacing what was there; takes a reference of its own. One that is
 * larger than all of the cache, or that memory cannot take, is not stored: the key then has
 * nothing. */
void lru_put(struct lru *l, const struct lru_key *key, struct blob *b);

void lru_remove(struct lru *l, const struct lru_key *key);

/* Forgets everything; returns how many entries there were. */
size_t lru_clear(struct lru *l);

size_t lru_entries(const struct lru *l);
size_t lru_bytes(const struct lru *l); /* blobs and what it takes to keep them */
