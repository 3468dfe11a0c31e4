/*
 * canonical.h - one hash for all spellings of a JSON value: members in any order, any white space,
 * any escapes in strings.
 *
 * Numbers count as they are written (1.0 is not 1): a cache may miss, but never mixes two up. What
 * is hashed is a tagged form in which every piece carries its length, so that no two values run
 * together (the idea of RFC 8785 without its number formatting).
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/json.h"

/* Collects pieces and hashes them at the end. */
struct canonical {
    struct buf text;
    struct slice
        masked; /* a text that counts as any other: set it before adding values; empty = none */
};

/* max_bytes bounds what is collected. */
void canonical_init(struct canonical *c, size_t max_bytes);
void canonical_deinit(struct canonical *c);

/* A piece of text, told apart from its neighbours. */
void canonical_add(struct canonical *c, struct slice text);
void canonical_add_int(struct canonical *c, int64_t v);

/* A value; of the object itself (not below) the members named in `but` are left out, a list that
 * ends with NULL, or NULL. */
void canonical_add_json(struct canonical *c, struct json v, const char *const *but);

/* The SHA-256 of it all. GW_ENOMEM, GW_ETOOBIG. */
enum gw_err canonical_hash(struct canonical *c, unsigned char ret_sha[32]) MUST_CHECK;
