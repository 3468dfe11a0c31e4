/*
 * buf.h - a byte buffer that grows up to a ceiling given at creation.
 *
 * The first failed add (ceiling, memory) makes the buffer failed: later adds do nothing and
 * buf_err() tells why, so a long run of adds needs one check at its end.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdarg.h>
#include <stdint.h>

struct buf {
    char *p;         /* owned, NULL until the first add */
    size_t n, cap;   /* bytes used, bytes held */
    size_t max;      /* ceiling in bytes */
    enum gw_err err; /* GW_OK, GW_ENOMEM or GW_ETOOBIG; sticky */
};

/* Prepares an empty buffer that never holds more than max_bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max_bytes);

/* Frees the bytes; the buffer may be used again as if just initialised. NULL is fine. */
void buf_deinit(struct buf *b);

/* Empties the buffer and clears its error, keeping the memory. */
void buf_reset(struct buf *b);

void buf_add_cstr(struct buf *b, const char *s);
void buf_add_u64(struct buf *b, uint64_t v); /* decimal */
void buf_add_i64(struct buf *b, int64_t v);  /* decimal */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* buf_reserve() when there is no room yet. */
char *buf_grow(struct buf *b, size_t n);

/* Makes room for n more bytes and returns where they go, or NULL (then the buffer is failed).
 * The caller writes up to n bytes there and adds what it wrote to b->n. */
static inline char *buf_reserve(struct buf *b, size_t n)
{
    return b->p && !b->err && n <= b->cap - b->n ? b->p + b->n : buf_grow(b, n);
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    char *to = n ? buf_reserve(b, n) : NULL;

    if (!to)
        return;
    memcpy(to, p, n);
    b->n += n;
}

static inline void buf_add_slice(struct buf *b, struct slice s)
{
    buf_add(b, s.p, s.n);
}

static inline void buf_add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

/* Drops the first n bytes; the rest moves to the front. n must be <= b->n. */
void buf_consume(struct buf *b, size_t n);

/* The bytes so far; valid until the next change. */
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->p, b->n);
}

static inline enum gw_err buf_err(const struct buf *b)
{
    return b->err;
}
