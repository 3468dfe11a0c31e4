/*
 * kept.c - see kept.h. A fixed head of numbers, the lengths of the texts among them, then the texts
 * one behind the other. Numbers are in this machine's order: a blob never leaves its machines'
 * Redis, and one of another layout does not have our mark.
 */
#include "handlers/kept.h"

#define MARK 0x31544b50u /* "PKT1" */
#define TEXTS 5u

struct head {
    uint32_t mark;
    uint32_t stream, known;
    uint32_t length[TEXTS];
    uint64_t input, cache_read, cache_write, output, reasoning;
    int64_t cost_nano_usd;
};

struct blob *kept_write(const struct kept *k)
{
    const struct slice texts[TEXTS] = {k->content_type, k->provider, k->model, k->dropped, k->body};
    struct head h = {
        .mark = MARK,
        .stream = k->stream,
        .known = k->usage.known,
        .input = k->usage.input,
        .cache_read = k->usage.cache_read,
        .cache_write = k->usage.cache_write,
        .output = k->usage.output,
        .reasoning = k->usage.reasoning,
        .cost_nano_usd = k->cost_nano_usd,
    };
    size_t n = sizeof(h);
    struct blob *b;
    char *at;

    for (unsigned i = 0; i < TEXTS; i++) {
        h.length[i] = (uint32_t)texts[i].n;
        n += texts[i].n;
    }
    b = blob_new(n);
    if (!b)
        return NULL;
    at = mempcpy(b->bytes, &h, sizeof(h));
    for (unsigned i = 0; i < TEXTS; i++)
        if (texts[i].n)
            at = mempcpy(at, texts[i].p, texts[i].n);
    return b;
}

bool kept_read(const struct blob *b, struct kept *ret)
{
    struct slice texts[TEXTS];
    size_t at = sizeof(struct head);
    struct head h;

    if (b->n < sizeof(h))
        return false;
    memcpy(&h, b->bytes, sizeof(h));
    if (h.mark != MARK)
        return false;
    for (unsigned i = 0; i < TEXTS; i++) {
        if (h.length[i] > b->n - at)
            return false;
        texts[i] = slice_of(b->bytes + at, h.length[i]);
        at += h.length[i];
    }
    *ret = (struct kept){
        .stream = h.stream != 0,
        .content_type = texts[0],
        .provider = texts[1],
        .model = texts[2],
        .dropped = texts[3],
        .body = texts[4],
        .usage = {.known = h.known != 0,
                  .input = h.input,
                  .cache_read = h.cache_read,
                  .cache_write = h.cache_write,
                  .output = h.output,
                  .reasoning = h.reasoning},
        .cost_nano_usd = h.cost_nano_usd,
    };
    return at == b->n;
}
