/*
 * schema_tree.h - trees for schema.h: cJSON trees made from strictly read JSON, numbers as raw
 * text. Private to schema*.c.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <cjson/cJSON.h>

#define SCHEMA_MAX_DEPTH 32u
#define SCHEMA_MAX_NODES 5000u
#define SCHEMA_MAX_WORK (8u << 20) /* steps and bytes of output, roughly */

/* One conversion. The first error sticks; what is built after it is thrown away. */
struct schema_walk {
    const cJSON *root;
    unsigned nodes; /* schemas made so far */
    size_t work;    /* spent so far */
    bool lossy;
    enum gw_err err;
    const cJSON *open[SCHEMA_MAX_DEPTH]; /* targets of the references being inlined */
    unsigned n_open;
    unsigned base; /* from here on they belong to the schema being converted */
};

/* Charges the conversion; past SCHEMA_MAX_WORK it fails with GW_EBADREQ. */
void schema_tree_spend(struct schema_walk *w, size_t n);

/* The tree of a JSON object, owned by the caller (cJSON_Delete). */
enum gw_err schema_tree_parse(struct arena *a, struct slice text, cJSON **ret) MUST_CHECK;

/* The tree's text in the arena, without white space. */
enum gw_err schema_tree_print(struct arena *a, const cJSON *tree, struct slice *ret) MUST_CHECK;

/* Member of an object by its exact name; NULL when there is none. */
const cJSON *schema_tree_get(const cJSON *object, const char *key);

/* An item that shows what `item` holds and owns nothing of it; NULL out of memory. (cJSON's own
 * ...ReferenceToObject leaks the reference when the key cannot be copied.) */
cJSON *schema_tree_reference(const cJSON *item);

/* Adds an item that it takes over; NULL is "out of memory". */
void schema_tree_put(struct schema_walk *w, cJSON *object, const char *key, cJSON *item);
void schema_tree_append(struct schema_walk *w, cJSON *array, cJSON *item);

/* Sets `description` to what it was, an empty line and the note. */
void schema_tree_note(struct schema_walk *w, cJSON *object, struct slice note);
