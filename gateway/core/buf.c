/* buf.c - see buf.h. Capacity doubles, so n adds cost O(n) copies. */
#include "gateway/core/buf.h"

#include "gateway/core/decimal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_BYTES 256u

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes};
}

void buf_deinit(struct buf *b)
{
    if (!b)
        return;
    free(b->p);
    buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->err = GW_OK;
}

static size_t grown_cap(const struct buf *b, size_t need)
{
    size_t cap = b->cap ? b->cap : BUF_FIRST_BYTES;

    while (cap < need)
        cap = cap > b->max / 2 ? b->max : cap * 2;
    return cap < b->max ? cap : b->max;
}

char *buf_grow(struct buf *b, size_t n)
{
    size_t cap;
    char *p;

    if (b->err)
        return NULL;
    if (n > b->max || b->n > b->max - n) {
        b->err = GW_ETOOBIG;
        return NULL;
    }
    if (b->n + n > b->cap || !b->p) {
        cap = grown_cap(b, b->n + n);
        p = cap < PTRDIFF_MAX ? realloc(b->p, cap + 1) : NULL; /* + 1 for vsnprintf's terminator */
        if (!p) {
            b->err = GW_ENOMEM;
            return NULL;
        }
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;
}

void buf_add_cstr(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    char text[DECIMAL_MAX];

    buf_add(b, text, (size_t)(decimal_u64(text, v) - text));
}

void buf_add_i64(struct buf *b, int64_t v)
{
    if (v < 0)
        buf_add_char(b, '-');
    buf_add_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    int need;
    char *to;

    va_copy(again, ap);
    need = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    assert(need >= 0);
    to = buf_reserve(b, (size_t)need);
    if (!to)
        return;
    vsnprintf(to, (size_t)need + 1, fmt, ap);
    b->n += (size_t)need;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (n && n < b->n)
        memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}
