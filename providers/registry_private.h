/*
 * registry_private.h - what registry.c and registry_load.c share; nobody else includes this.
 */
#pragma once

#include "providers/registry.h"

/* Names sorted by their bytes; equal names keep the order of the file. */
struct registry_entry {
    struct slice name;
    void *object;
    unsigned line; /* in models_registry.yaml; 0 = none */
};

struct registry_names {
    struct registry_entry *items;
    unsigned n;
};

struct registry_index {
    struct registry_names ids;     /* models by "provider/model" */
    struct registry_names bare;    /* models by their own name */
    struct registry_names aliases; /* by name */
};

void registry_sort(struct registry_names *names);
/* Index of the first entry of that name, or names->n. */
unsigned registry_find(const struct registry_names *names, struct slice name);

/* May it be a model's or an alias's name? Nothing that could leave a URL's path segment list. */
bool registry_name_ok(struct slice name);

/* A model for a name that is not listed. NULL out of memory. */
const struct registry_model *registry_made_up(const struct registry *r, struct arena *a,
                                              const struct registry_provider *p, struct slice name);

/* A sequence of quirks; an unknown word is a problem. False out of memory. */
bool registry_read_quirks(struct arena *a, const struct yaml *y, struct registry_quirks *ret,
                          struct problems *ps);

/* A provider's `unlisted`: a map of name prefixes to quirks. False out of memory. */
bool registry_read_unlisted(struct arena *a, const struct yaml *y, struct registry_provider *p,
                            struct problems *ps);

/* The quirks of a name that is not listed. */
struct registry_quirks registry_quirks_of(const struct registry *r,
                                          const struct registry_provider *p, struct slice name);
