/*
 * fuzz_redis.c - what a Redis, or something in its place, sends: the same replies whole and byte by
 * byte, all of them within the ceiling and readable to their last byte.
 */
#include "storage/redis_reply.h"

#include <assert.h>
#include <stdlib.h>

#define CEILING 4096u
#define MAX_DEPTH 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read, as one number. */
static uint64_t sum_of(const struct redis_value *v, unsigned depth)
{
    uint64_t sum = (uint64_t)v->kind * 31 + (uint64_t)v->i + v->n;

    assert(depth < MAX_DEPTH);
    assert(v->s.n <= CEILING);
    for (size_t i = 0; i < v->s.n; i++)
        sum = sum * 131 + (unsigned char)v->s.p[i];
    for (unsigned i = 0; i < v->n; i++)
        sum = sum * 137 + sum_of(&v->items[i], depth + 1);
    if (v->kind == REDIS_FAULT)
        sum += redis_fault_sort(v->s);
    return sum;
}

/* Takes all replies there are; false once the reader is broken. */
static bool take(struct redis_reader *r, uint64_t *sum)
{
    const struct redis_value *v;
    enum redis_progress p;

    while ((p = redis_reader_next(r, &v)) == REDIS_REPLY)
        *sum = *sum * 139 + sum_of(v, 0);
    if (p == REDIS_BROKEN)
        assert(redis_reader_why(r) && *redis_reader_why(r));
    return p == REDIS_MORE;
}

/* The sum of all replies when the bytes come in steps of this size. */
static uint64_t read_in(const uint8_t *data, size_t size, size_t step, bool *ret_whole)
{
    struct redis_reader *r = redis_reader_new(CEILING);
    uint64_t sum = 0;

    assert(r);
    *ret_whole = true;
    for (size_t at = 0; at < size && *ret_whole; at += step) {
        size_t n = size - at < step ? size - at : step;
        char *copy = malloc(n);

        assert(copy);
        memcpy(copy, data + at, n);
        *ret_whole = redis_reader_feed(r, copy, n) && take(r, &sum);
        free(copy);
    }
    redis_reader_free(r);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool whole, pieces;
    uint64_t a = read_in(data, size, size ? size : 1, &whole);
    uint64_t b = read_in(data, size, 1, &pieces);

    assert(a == b && whole == pieces);
    redis_fault_sort(slice_of((const char *)data, size));
    return 0;
}
