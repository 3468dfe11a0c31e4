/*
 * arena.c - see arena.h.
 *
 * The arena itself lives at the front of its first block. First blocks are kept in a small
 * per-thread list when an arena dies, since a busy gateway makes one arena per request; under
 * a sanitizer they go back to malloc, so that use after free is seen.
 */
#include "gateway/core/arena.h"

#include "gateway/core/decimal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_BLOCK_BYTES 14336u /* a chat with all that is done for it usually fits */
#define KEPT_BLOCKS 64u
#define ALIGN 16u

#if defined(__SANITIZE_ADDRESS__)
#define KEEP_BLOCKS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEP_BLOCKS 0
#endif
#endif
#ifndef KEEP_BLOCKS
#define KEEP_BLOCKS 1
#endif

struct block {
    struct block *next;
    size_t size; /* whole block, this header included */
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *);
    void *obj;
};

struct arena {
    struct block *blocks; /* newest first; the last one holds this struct */
    char *at, *end;
    size_t used, max;
    unsigned refusals;
    struct deferred *deferred;
};

static _Thread_local struct block *kept;
static _Thread_local unsigned n_kept;

static struct block *first_block(void)
{
    struct block *b = kept;

    if (b) {
        kept = b->next;
        n_kept--;
        return b;
    }
    b = malloc(FIRST_BLOCK_BYTES);
    if (b)
        b->size = FIRST_BLOCK_BYTES;
    return b;
}

static size_t round_up(size_t n)
{
    return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

struct arena *arena_create(size_t max_bytes)
{
    struct block *b = first_block();
    struct arena *a;
    size_t head = round_up(sizeof(*b));

    if (!b)
        return NULL;
    b->next = NULL;
    a = (struct arena *)((char *)b + head);
    *a = (struct arena){.blocks = b, .max = max_bytes};
    a->at = (char *)a + round_up(sizeof(*a));
    a->end = (char *)b + b->size;
    return a;
}

static void block_release(struct block *b, bool is_first)
{
    if (KEEP_BLOCKS && is_first && n_kept < KEPT_BLOCKS) {
        b->next = kept;
        kept = b;
        n_kept++;
    } else {
        free(b);
    }
}

struct arena *arena_destroy(struct arena *a)
{
    struct block *b, *next;
    struct deferred *d;

    if (!a)
        return NULL;
    for (d = a->deferred; d; d = d->next)
        d->fn(d->obj);
    for (b = a->blocks; b; b = next) {
        next = b->next;
        block_release(b, next == NULL);
    }
    return NULL;
}

/* Opens a block with room for n more bytes. Big requests get a block of their own size. */
static bool arena_grow(struct arena *a, size_t n)
{
    size_t size = a->blocks->size < 65536 ? a->blocks->size * 2 : a->blocks->size;
    size_t head = round_up(sizeof(struct block));
    struct block *b;

    if (n > PTRDIFF_MAX - head)
        return false;
    if (size < head + n)
        size = head + n;
    b = malloc(size);
    if (!b)
        return false;
    b->size = size < 65536 ? size : 65536;
    b->next = a->blocks;
    a->blocks = b;
    a->at = (char *)b + head;
    a->end = (char *)b + size;
    return true;
}

static char *refuse(struct arena *a)
{
    a->refusals++;
    return NULL;
}

static char *arena_take(struct arena *a, size_t n, size_t align)
{
    size_t pad = (size_t)(-(uintptr_t)a->at & (align - 1));
    char *p;

    if (n > a->max || a->used > a->max - n)
        return refuse(a);
    if ((size_t)(a->end - a->at) < pad || (size_t)(a->end - a->at) - pad < n) {
        if (!arena_grow(a, n))
            return refuse(a);
        pad = 0;
    }
    p = a->at + pad;
    a->at = p + n;
    a->used += n;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    char *p = arena_take(a, n, ALIGN);

    if (p)
        memset(p, 0, n);
    return p;
}

char *arena_bytes(struct arena *a, size_t n)
{
    return arena_take(a, n, 1);
}

void *arena_alloc_array(struct arena *a, size_t size, size_t n)
{
    size_t bytes;

    if (__builtin_mul_overflow(size, n, &bytes))
        return refuse(a);
    return arena_alloc(a, bytes);
}

char *arena_cstr(struct arena *a, struct slice s)
{
    char *p = s.n == SIZE_MAX ? refuse(a) : arena_bytes(a, s.n + 1);

    if (!p)
        return NULL;
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

struct slice arena_dup(struct arena *a, struct slice s)
{
    char *p = arena_cstr(a, s);

    return p ? slice_of(p, s.n) : SLICE_NONE;
}

struct slice arena_printf(struct arena *a, const char *fmt, ...)
{
    size_t room = (size_t)(a->end - a->at);
    va_list ap, again;
    int need;
    char *p;

    va_start(ap, fmt);
    va_copy(again, ap);
    need = vsnprintf(a->at, room, fmt, again); /* most texts fit in what is left of the block */
    va_end(again);
    p = need < 0 ? refuse(a) : arena_bytes(a, (size_t)need + 1);
    if (p && (size_t)need >= room)
        vsnprintf(p, (size_t)need + 1, fmt, ap);
    va_end(ap);
    return p ? slice_of(p, (size_t)need) : SLICE_NONE;
}

struct slice arena_join(struct arena *a, struct slice x, struct slice y)
{
    char *p = y.n < SIZE_MAX - x.n ? arena_bytes(a, x.n + y.n + 1) : refuse(a);

    if (!p)
        return SLICE_NONE;
    if (x.n)
        memcpy(p, x.p, x.n);
    if (y.n)
        memcpy(p + x.n, y.p, y.n);
    p[x.n + y.n] = '\0';
    return slice_of(p, x.n + y.n);
}

struct slice arena_u64(struct arena *a, uint64_t v)
{
    char text[DECIMAL_MAX];
    size_t n = (size_t)(decimal_u64(text, v) - text);
    char *p = arena_cstr(a, slice_of(text, n));

    return p ? slice_of(p, n) : SLICE_NONE;
}

bool arena_defer(struct arena *a, void (*fn)(void *), void *obj)
{
    struct deferred *d = arena_new(a, struct deferred);

    if (!d) {
        fn(obj);
        return false;
    }
    *d = (struct deferred){.next = a->deferred, .fn = fn, .obj = obj};
    a->deferred = d;
    return true;
}

unsigned arena_refusals(const struct arena *a)
{
    return a->refusals;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}
