/* rng.c - see rng.h. Bytes handed out are wiped from the page. */
#include "gateway/core/rng.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 2048u

static _Thread_local unsigned char page[PAGE_BYTES];
static _Thread_local size_t left;
static _Thread_local pid_t owner;

static void refill(void)
{
    if (RAND_bytes(page, (int)sizeof(page)) != 1)
        abort();
    left = sizeof(page);
    owner = getpid();
}

void rng_fill(void *p, size_t n)
{
    assert(n <= 256);
    if (left < n || owner != getpid())
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
