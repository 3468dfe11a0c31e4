/*
 * conf_private.h - what the files of the configuration share; nobody else includes this.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/conf.h"
#include "gateway/core/envfile.h"

enum conf_type { CONF_T_INT, CONF_T_BOOL, CONF_T_STR, CONF_T_SECRET, CONF_T_ENUM, CONF_T_LIST };

/* A row of conf.def. */
struct conf_row {
    const char *field;
    enum conf_type type;
    size_t offset; /* of its member in struct conf */
    const char *file, *key, *env, *def;
    int64_t min, max;
    const char *unit;
    bool reloadable;
    const char *help;
};

extern const struct conf_row conf_rows[];
extern const unsigned conf_n_rows;

/* Where a value came from: for conf_origin(), and to name the place in a problem. */
struct conf_place {
    const char *text;  /* what conf_origin() says */
    const char *file;  /* for a problem; "" for the environment and defaults */
    unsigned line;     /* for a problem; 0 = none */
    const char *label; /* the name the operator wrote: key or environment name */
};

/* A value conf_env() has looked up, kept so that its slice stays valid. */
struct conf_found {
    struct conf_found *next;
    const char *name;
    struct slice value;
};

struct conf_snapshot {
    struct conf pub; /* first: what everybody sees */
    unsigned refs;
    struct arena *arena;
    struct envfile env;
    struct yaml *models;
    struct conf_place *places; /* one per row */
    struct conf_found *found;
};

static inline struct conf_snapshot *conf_snapshot(const struct conf *c)
{
    return (struct conf_snapshot *)c;
}

/* The member of a row. */
static inline void *conf_member(const struct conf *c, const struct conf_row *row)
{
    return (char *)c + row->offset;
}

/* The place of a field; the field must exist. */
const struct conf_place *conf_place_of(const struct conf *c, const char *field);

/* Is it one of the words in braces at the start of an ENUM row's help? */
bool conf_word_allowed(const struct conf_row *row, struct slice word);

/* A row by its field; the field must exist. */
const struct conf_row *conf_row_of(const char *field);

/* Checks what types and bounds cannot: addresses, origins, levels, files, pairs of values. */
void conf_check_values(const struct conf *c, struct problems *ps);
