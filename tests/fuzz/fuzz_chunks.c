/*
 * fuzz_chunks.c - the chunk check says the same however the bytes are split, and what it keeps is a
 * chunked body that it would pass again, without extensions.
 */
#include "gateway/http/gate.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_BODY 100000u

struct result {
    enum gw_err err;
    size_t used, kept;
    uint64_t total;
    char *bytes;
};

static struct result feed(const char *p, size_t n, size_t step)
{
    struct result r = {.err = GW_EAGAIN, .bytes = malloc(n + 1)};
    struct gate_chunks c = {0};
    size_t used, kept, take;

    if (!r.bytes)
        abort();
    while (r.used < n && r.err == GW_EAGAIN) {
        take = n - r.used < step ? n - r.used : step;
        memcpy(r.bytes + r.kept, p + r.used, take);
        r.err = gate_chunks_feed(&c, r.bytes + r.kept, take, MAX_BODY, &used, &kept);
        assert(kept <= used && used <= take);
        assert(r.err != GW_EAGAIN || used == take);
        r.used += used;
        r.kept += kept;
    }
    r.total = c.total;
    assert(r.total <= MAX_BODY);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data + 1;
    struct result whole, parts, again;

    if (size < 2)
        return 0;
    whole = feed(p, size - 1, size);
    parts = feed(p, size - 1, data[0] % 16 + 1u);
    assert(whole.err == parts.err && whole.used == parts.used && whole.total == parts.total);
    assert(whole.kept == parts.kept && memcmp(whole.bytes, parts.bytes, whole.kept) == 0);
    if (whole.err == GW_OK) {
        again = feed(whole.bytes, whole.kept, size);
        assert(again.err == GW_OK && again.used == whole.kept && again.kept == whole.kept);
        free(again.bytes);
    }
    free(whole.bytes);
    free(parts.bytes);
    return 0;
}
