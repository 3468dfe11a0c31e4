/* rng.c - see rng.h. Bytes handed out are wiped from the page. */
#include "gateway/core/rng.h"

#include <assert.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 2048u

static _Thread_local unsigned char page[PAGE_BYTES];
static _Thread_local size_t left;

/* A forked child has one thread, the one that runs this: its inherited page is used up. */
static void on_fork_child(void)
{
    left = 0;
}

static void watch_forks(void)
{
    if (pthread_atfork(NULL, NULL, on_fork_child) != 0)
        abort();
}

static void refill(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (pthread_once(&once, watch_forks) != 0 || RAND_bytes(page, (int)sizeof(page)) != 1)
        abort();
    left = sizeof(page);
}

void rng_fill(void *p, size_t n)
{
    assert(n <= 256);
    if (left < n)
        refill();
    left -= n;
    memcpy(p, page + left, n);
    memset(page + left, 0, n);
}

uint64_t rng_u64(void)
{
    uint64_t v;

    rng_fill(&v, sizeof(v));
    return v;
}

void rng_hex(char *to, size_t n_bytes)
{
    unsigned char raw[64];

    assert(n_bytes <= sizeof(raw));
    rng_fill(raw, n_bytes);
    hex_write(to, raw, n_bytes);
}

void rng_uuid_bytes(unsigned char to[UUID_BYTES])
{
    rng_fill(to, UUID_BYTES);
    to[6] = (unsigned char)((to[6] & 0x0f) | 0x40);
    to[8] = (unsigned char)((to[8] & 0x3f) | 0x80);
}

void rng_uuid(char to[UUID_TEXT])
{
    unsigned char id[UUID_BYTES];

    rng_uuid_bytes(id);
    uuid_write(to, id);
}
