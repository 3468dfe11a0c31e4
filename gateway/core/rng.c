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
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[64];
    size_t i;

    assert(n_bytes <= sizeof(raw));
    rng_fill(raw, n_bytes);
    for (i = 0; i < n_bytes; i++) {
        to[2 * i] = digits[raw[i] >> 4];
        to[2 * i + 1] = digits[raw[i] & 15];
    }
}

void rng_uuid(char to[37])
{
    static const unsigned char dashes[] = {8, 13, 18, 23};
    char hex[32];
    size_t from = 0;

    rng_hex(hex, 16);
    hex[12] = '4';
    hex[16] = "89ab"[hex[16] & 3];
    for (size_t i = 0, d = 0; i < 36; i++) {
        bool dash = d < sizeof(dashes) && i == dashes[d];

        to[i] = dash ? '-' : hex[from++];
        d += dash;
    }
    to[36] = '\0';
}
