/*
 * toolname.h - tool names and call ids that every provider accepts.
 *
 * Providers allow fewer characters and less length than clients use (MCP servers give names such as
 * "files/read.text" or 100 characters). A name that is not safe becomes a prefix of it, '_' and 8
 * hex digits of its SHA-256: the same name always gives the same safe one, and two names two. A
 * decoder restores what the client called it with a map made from the request's tools.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/slice.h"
#include "providers/convo.h"

#define TOOLNAME_MAX 64u

enum toolname_rule {
    TOOLNAME_ANY_FIRST,   /* letters, digits, '_' and '-', up to 64 */
    TOOLNAME_LETTER_FIRST /* the same, and the first is a letter or '_' */
};

/* The name itself when it is safe, else a safe one in the arena; p == NULL out of memory. */
struct slice toolname_safe(struct arena *a, struct slice name, enum toolname_rule rule);

struct toolname_map;

/* A map of the request's tools whose names had to change. `c` may be NULL. NULL out of memory. */
struct toolname_map *toolname_map_new(struct arena *a, const struct convo *c,
                                      enum toolname_rule rule);

/* What the client called the tool; the name itself when it was not changed. */
struct slice toolname_restore(const struct toolname_map *map, struct slice name);
