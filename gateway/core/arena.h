/*
 * arena.h - bump allocator for everything that lives no longer than one request or one call.
 *
 * Nothing is freed singly. Foreign objects are handed over with their destructor. An arena has a
 * ceiling; past it, or out of memory, allocations return NULL and the caller answers GW_ENOMEM.
 */
#pragma once

#include "gateway/core/slice.h"

#include <stddef.h>
#include <stdint.h>

struct arena;

/* A new arena that hands out at most max_bytes; NULL when out of memory. */
struct arena *arena_create(size_t max_bytes);

/* Runs the deferred destructors, last first, and frees everything. NULL is fine; returns NULL. */
struct arena *arena_destroy(struct arena *a);

/* n zeroed bytes aligned for any object, or NULL. */
void *arena_alloc(struct arena *a, size_t n);

/* n bytes, not zeroed and not aligned, for text; or NULL. */
char *arena_bytes(struct arena *a, size_t n);

#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_alloc_array((a), sizeof(type), (n)))
void *arena_alloc_array(struct arena *a, size_t size, size_t n);

/* A copy of s followed by a NUL. p == NULL when out of memory (for an empty s, p points to ""). */
struct slice arena_dup(struct arena *a, struct slice s);

/* A terminated copy of s, or NULL. */
char *arena_cstr(struct arena *a, struct slice s);

/* x and y in one, terminated; p == NULL when out of memory. */
struct slice arena_join(struct arena *a, struct slice x, struct slice y);

/* Formatted text, terminated; p == NULL when out of memory. */
struct slice arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A number in decimal, terminated; p == NULL when out of memory. Far cheaper than arena_printf().
 */
struct slice arena_u64(struct arena *a, uint64_t v);

/* Calls fn(obj) when the arena dies. Returns false when out of memory: then fn(obj) has been
 * called already, so the object is never leaked. */
bool arena_defer(struct arena *a, void (*fn)(void *), void *obj);

/* How many allocations the arena has refused (ceiling, memory). Readers such as json_str() cannot
 * tell "not there" from "no memory"; whoever acts on what they say compares this before and after.
 */
unsigned arena_refusals(const struct arena *a);

/* Bytes handed out so far. */
size_t arena_used(const struct arena *a);
