/*
 * fuzz_headers.c - values of headers that are lists with parameters: If-None-Match,
 * Accept-Encoding, Cache-Control, Retry-After. The first byte says which; all are read at their
 * exact length, and what they say stays within its bounds.
 */
#include "gateway/http/encoding.h"
#include "gateway/http/etag.h"
#include "handlers/reuse.h"
#include "providers/retry.h"

#include <assert.h>
#include <stdlib.h>

#define SECOND 1000000u
#define DAY_US UINT64_C(86400000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A list that holds a tag still does behind one more of another's. */
static void if_none_match(struct slice v)
{
    struct slice tag = SLICE("W/\"a\"");
    char *more = malloc(v.n + 8);

    assert(more);
    memcpy(more, "\"b\", ", 5);
    memcpy(more + 5, v.p, v.n);
    if (etag_listed(v, tag) && !slice_is(slice_trim(v), "*"))
        assert(etag_listed(slice_of(more, v.n + 5), tag));
    free(more);
}

static void accept_encoding(struct slice v)
{
    size_t half = v.n / 2;
    struct http_header lines[] = {{SLICE("Accept-Encoding"), slice_trim(slice_of(v.p, half))},
                                  {SLICE("accept-encoding"), slice_trim(slice_from(v, half))}};
    struct request req = {.headers = lines, .n_headers = 2};

    encoding_accepts_gzip(&req);
    encoding_is_json(v);
}

static void cache_control(struct slice v)
{
    static const char *const modes[] = {"auto", "all", "off"};
    struct http_header line = {SLICE("Cache-Control"), slice_trim(v)};

    for (unsigned i = 0; i < 6; i++) {
        struct conf conf = {.cache_response = slice_cstr(modes[i % 3]),
                            .cache_response_ttl_s = 3600};
        struct request req = {.conf = &conf, .headers = &line, .n_headers = 1};
        struct reuse_policy p = reuse_policy_of(&req, i < 3);

        if (i % 3 == 2)
            assert(!p.look && !p.keep);
        if (p.keep)
            assert(p.ttl_us && p.ttl_us <= (uint64_t)INT32_MAX * SECOND);
        if (p.look)
            assert(p.max_age_us);
    }
}

static void retry_after(struct slice v)
{
    uint64_t us = 0;

    if (retry_parse_after(v, 1800000000, &us))
        assert(us <= DAY_US);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct slice) = {if_none_match, accept_encoding, cache_control,
                                                    retry_after};
    char *copy;

    if (size < 1)
        return 0;
    copy = malloc(size);
    assert(copy);
    memcpy(copy, data + 1, size - 1);
    readers[data[0] % 4](slice_of(copy, size - 1));
    free(copy);
    return 0;
}
