/*
 * kept.h - an answer as it is kept in a cache: what went to the client, byte for byte, and what is
 * told in headers and books beside it.
 */
#pragma once

#include "providers/convo.h"
#include "storage/lru.h"

struct kept {
    bool stream;
    struct slice content_type;
    struct slice provider, model; /* "openai", "openai/gpt-4o": who answered */
    struct slice dropped;         /* X-Postern-Dropped, may be empty */
    struct convo_usage usage;     /* the vendor's own words of it are not kept */
    int64_t cost_nano_usd;        /* what it cost then; -1 = unknown */
    struct slice body;
};

/* A blob of it, one reference; NULL out of memory. */
struct blob *kept_write(const struct kept *k);

/* Reads a blob; slices point into it. False when it is not one of kept_write()'s. */
bool kept_read(const struct blob *b, struct kept *ret);
