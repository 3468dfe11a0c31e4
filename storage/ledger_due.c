/*
 * ledger_due.c - cost of the rows that are spooled here and not stored yet, by scope. An entry
 * lives as long as it has rows.
 */
#include "storage/ledger_private.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <uthash.h>

struct due {
    UT_hash_handle hh;
    char scope[48]; /* "key:<uuid>" */
    unsigned n;
    uint64_t rows;
    int64_t nano_usd;
    uint64_t batch_rows; /* of those, in the batch that is under way */
    int64_t batch_nano_usd;
};

static struct due *dues;

static struct due *find(struct slice scope)
{
    struct due *d = NULL;

    HASH_FIND(hh, dues, scope.p, scope.n, d);
    return d;
}

/* NULL out of memory: what is due is then told too low. */
static struct due *find_or_make(struct slice scope)
{
    struct due *d = find(scope);

    if (d)
        return d;
    d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    memcpy(d->scope, scope.p, scope.n);
    d->n = (unsigned)scope.n;
    HASH_ADD(hh, dues, scope, d->n, d);
    if (d->hh.tbl)
        return d;
    free(d);
    return NULL;
}

static struct slice scope_of(char to[48], const char *kind, struct slice id)
{
    size_t n = strlen(kind);

    if (id.n != 36)
        return SLICE_NONE;
    memcpy(to, kind, n);
    memcpy(to + n, id.p, id.n);
    return slice_of(to, n + id.n);
}

static void add(const char *kind, struct slice id, int64_t nano_usd)
{
    char text[48];
    struct slice scope = scope_of(text, kind, id);
    struct due *d = scope.n ? find_or_make(scope) : NULL;

    if (!d)
        return;
    d->rows++;
    d->nano_usd += nano_usd;
}

/* Rows have left; the last one ends the entry. */
static void lessen(struct due *d, uint64_t rows, int64_t nano_usd)
{
    d->rows -= rows < d->rows ? rows : d->rows;
    d->nano_usd -= nano_usd;
    if (d->rows)
        return;
    HASH_DEL(dues, d);
    free(d);
}

static struct due *find_id(const char *kind, struct slice id)
{
    char text[48];
    struct slice scope = scope_of(text, kind, id);

    return scope.n ? find(scope) : NULL;
}

static void take(struct due *d, int64_t nano_usd)
{
    if (d)
        lessen(d, 1, nano_usd);
}

static void batch_add(struct due *d, int64_t nano_usd)
{
    if (!d)
        return;
    d->batch_rows++;
    d->batch_nano_usd += nano_usd;
}

void ledger_due_add(const struct ledger_line *line)
{
    add("key:", line->key, line->cost_nano_usd);
    add("team:", line->team, line->cost_nano_usd);
}

void ledger_due_take(const struct ledger_line *line)
{
    take(find_id("key:", line->key), line->cost_nano_usd);
    take(find_id("team:", line->team), line->cost_nano_usd);
}

void ledger_due_batch(void)
{
    for (struct due *d = dues; d; d = d->hh.next) {
        d->batch_rows = 0;
        d->batch_nano_usd = 0;
    }
}

void ledger_due_batch_add(const struct ledger_line *line)
{
    batch_add(find_id("key:", line->key), line->cost_nano_usd);
    batch_add(find_id("team:", line->team), line->cost_nano_usd);
}

void ledger_due_batch_take(void)
{
    struct due *d, *next;

    HASH_ITER(hh, dues, d, next)
    {
        uint64_t rows = d->batch_rows;

        d->batch_rows = 0;
        if (rows)
            lessen(d, rows, d->batch_nano_usd);
    }
}

int64_t ledger_due(struct slice scope)
{
    const struct due *d = scope.n ? find(scope) : NULL;

    return d ? d->nano_usd : 0;
}

void ledger_due_clear(void)
{
    struct due *d, *next;

    HASH_ITER(hh, dues, d, next)
    {
        HASH_DEL(dues, d);
        free(d);
    }
}
