/* lru.c - see lru.h. A hash table and a list, most recently used first. */
#include "storage/lru.h"

#include <stdlib.h>
#include <sys/queue.h>
#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <uthash.h>

struct node {
    struct lru_key key;
    struct blob *blob; /* one reference */
    TAILQ_ENTRY(node) link;
    UT_hash_handle hh;
};

struct lru {
    struct node *table;
    TAILQ_HEAD(node_list, node) recent;
    size_t entries, bytes;
    size_t max_entries, max_bytes;
};

struct blob *blob_new(size_t n)
{
    struct blob *b = n < SIZE_MAX - sizeof(*b) ? malloc(sizeof(*b) + n) : NULL;

    if (b)
        *b = (struct blob){.refs = 1, .n = n};
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    b->refs++;
    return b;
}

struct blob *blob_unref(struct blob *b)
{
    if (b && --b->refs == 0)
        free(b);
    return NULL;
}

struct lru *lru_new(void)
{
    struct lru *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    TAILQ_INIT(&l->recent);
    l->max_entries = 1;
    l->max_bytes = SIZE_MAX;
    return l;
}

static size_t weight(const struct blob *b)
{
    return sizeof(struct node) + sizeof(*b) + b->n;
}

static void forget(struct lru *l, struct node *n)
{
    HASH_DEL(l->table, n);
    TAILQ_REMOVE(&l->recent, n, link);
    l->entries--;
    l->bytes -= weight(n->blob);
    blob_unref(n->blob);
    free(n);
}

static void shrink(struct lru *l)
{
    while (l->entries > l->max_entries || l->bytes > l->max_bytes)
        forget(l, TAILQ_LAST(&l->recent, node_list));
}

struct lru *lru_free(struct lru *l)
{
    if (l) {
        lru_clear(l);
        free(l);
    }
    return NULL;
}

void lru_set_limits(struct lru *l, size_t max_entries, size_t max_bytes)
{
    l->max_entries = max_entries;
    l->max_bytes = max_bytes;
    shrink(l);
}

static struct node *find(struct lru *l, const struct lru_key *key)
{
    struct node *n;

    HASH_FIND(hh, l->table, key, sizeof(*key), n);
    return n;
}

struct blob *lru_get(struct lru *l, const struct lru_key *key, uint64_t now_us)
{
    struct node *n = find(l, key);

    if (!n)
        return NULL;
    if (n->blob->dies_us <= now_us) {
        forget(l, n);
        return NULL;
    }
    TAILQ_REMOVE(&l->recent, n, link);
    TAILQ_INSERT_HEAD(&l->recent, n, link);
    return n->blob;
}

void lru_put(struct lru *l, const struct lru_key *key, struct blob *b)
{
    struct node *n;

    lru_remove(l, key);
    if (weight(b) > l->max_bytes)
        return;
    n = calloc(1, sizeof(*n));
    if (!n)
        return;
    n->key = *key;
    HASH_ADD(hh, l->table, key, sizeof(n->key), n);
    if (!n->hh.tbl) { /* out of memory: it was not added */
        free(n);
        return;
    }
    n->blob = blob_ref(b);
    TAILQ_INSERT_HEAD(&l->recent, n, link);
    l->entries++;
    l->bytes += weight(b);
    shrink(l);
}

void lru_remove(struct lru *l, const struct lru_key *key)
{
    struct node *n = find(l, key);

    if (n)
        forget(l, n);
}

size_t lru_clear(struct lru *l)
{
    size_t had = l->entries;

    while (!TAILQ_EMPTY(&l->recent))
        forget(l, TAILQ_FIRST(&l->recent));
    return had;
}

size_t lru_entries(const struct lru *l)
{
    return l->entries;
}

size_t lru_bytes(const struct lru *l)
{
    return l->bytes;
}
