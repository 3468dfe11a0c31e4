/*
 * ledger_due.c - cost of the rows that are spooled here and not stored yet, by scope and day. An
 * entry lives as long as it has rows.
 */
#include "storage/ledger_private.h"

#include "gateway/core/day.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1 /* else uthash ends the process when it cannot grow */
#include <uthash.h>

#define DAY_BYTES 10u /* "2026-01-01" */
#define KEY_BYTES 56u

struct due {
    UT_hash_handle hh;
    char key[KEY_BYTES]; /* "key:<uuid>" and, behind it, the bytes of begin_s */
    unsigned n;
    int64_t begin_s; /* of its day, since 1970 */
    uint64_t rows;
    int64_t nano_usd;
    uint64_t batch_rows; /* of those, in the batch that is under way */
    int64_t batch_nano_usd;
};

static struct due *dues;

static struct due *find(struct slice key)
{
    struct due *d = NULL;

    HASH_FIND(hh, dues, key.p, key.n, d);
    return d;
}

/* NULL out of memory: what is due is then told too low. */
static struct due *find_or_make(struct slice key, int64_t begin_s)
{
    struct due *d = find(key);

    if (d)
        return d;
    d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    memcpy(d->key, key.p, key.n);
    d->n = (unsigned)key.n;
    d->begin_s = begin_s;
    HASH_ADD(hh, dues, key, d->n, d);
    if (d->hh.tbl)
        return d;
    free(d);
    return NULL;
}

/* Of a line's time; 0 when it is none. */
static int64_t day_of(const struct ledger_line *line)
{
    int64_t begin_s = 0;

    if (line->at.n < DAY_BYTES || !day_parse(slice_of(line->at.p, DAY_BYTES), &begin_s))
        return 0;
    return begin_s;
}

static struct slice key_of(char to[KEY_BYTES], const char *kind, struct slice id, int64_t begin_s)
{
    char *at = stpcpy(to, kind);

    if (id.n != 36)
        return SLICE_NONE;
    at = mempcpy(at, id.p, id.n);
    at = mempcpy(at, &begin_s, sizeof(begin_s));
    return slice_of(to, (size_t)(at - to));
}

static void add(const char *kind, struct slice id, int64_t begin_s, int64_t nano_usd)
{
    char text[KEY_BYTES];
    struct slice key = key_of(text, kind, id, begin_s);
    struct due *d = key.n ? find_or_make(key, begin_s) : NULL;

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

static struct due *find_id(const char *kind, struct slice id, int64_t begin_s)
{
    char text[KEY_BYTES];
    struct slice key = key_of(text, kind, id, begin_s);

    return key.n ? find(key) : NULL;
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
    int64_t begin_s = day_of(line);

    add("key:", line->key, begin_s, line->cost_nano_usd);
    add("team:", line->team, begin_s, line->cost_nano_usd);
}

void ledger_due_take(const struct ledger_line *line)
{
    int64_t begin_s = day_of(line);

    take(find_id("key:", line->key, begin_s), line->cost_nano_usd);
    take(find_id("team:", line->team, begin_s), line->cost_nano_usd);
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
    int64_t begin_s = day_of(line);

    batch_add(find_id("key:", line->key, begin_s), line->cost_nano_usd);
    batch_add(find_id("team:", line->team, begin_s), line->cost_nano_usd);
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

/* Looks at all: this is asked seldom, and there are few. */
int64_t ledger_due(struct slice scope, int64_t begin_s, int64_t end_s)
{
    int64_t sum = 0;

    for (const struct due *d = dues; d; d = d->hh.next)
        if (d->begin_s >= begin_s && (end_s == 0 || d->begin_s < end_s) &&
            d->n == scope.n + sizeof(d->begin_s) && memcmp(d->key, scope.p, scope.n) == 0)
            sum += d->nano_usd;
    return sum;
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
