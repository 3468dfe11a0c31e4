/*
 * yaml.h - a small, strict tree over libyaml's events, with line numbers, and the list of problems
 * that everything which reads configuration adds to.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* --- problems --------------------------------------------------------------------------------- */

struct problem {
    const char *file; /* "" when it has none (environment) */
    unsigned line;    /* from 1; 0 when it has none */
    bool warning;     /* shown, but does not refuse */
    const char *text;
};

struct problems {
    struct problem *items;
    unsigned n, cap;
    unsigned errors; /* those that are not warnings */
};

void problems_deinit(struct problems *ps);
void problems_add(struct problems *ps, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void problems_warn(struct problems *ps, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* --- tree ------------------------------------------------------------------------------------- */

enum yaml_kind { YAML_NULL, YAML_SCALAR, YAML_SEQ, YAML_MAP };

struct yaml {
    enum yaml_kind kind;
    bool quoted;              /* a scalar in quotes: always a string */
    bool used;                /* a reader asked for it; what nobody asked for is an unknown key */
    unsigned line;
    struct slice key;         /* in a map: its name */
    struct slice text;        /* scalar's text, NUL-terminated */
    struct yaml *next;        /* next sibling */
    struct yaml *first;       /* first child of a map or sequence */
    const char *file;         /* base name, for problems */
};

/* Reads one file. Problems (missing, empty, too big, syntax with line, tabs, aliases, duplicate keys,
 * depth, more than one document) are added; NULL when there is no usable tree. Free with yaml_free(). */
struct yaml *yaml_load(const char *path, struct problems *ps);

/* The same from memory, for tests and the fuzzer. `file` is kept, not copied. */
struct yaml *yaml_parse(struct slice text, const char *file, struct problems *ps);
struct yaml *yaml_free(struct yaml *y);

/* Child of a map by name (marks it used), or NULL; NULL in gives NULL. */
const struct yaml *yaml_get(const struct yaml *map, const char *name);

/* Follows "a.b.c". */
const struct yaml *yaml_path(const struct yaml *map, const char *dotted);

/* Typed readers: `ret` is left alone when y is NULL; a wrong type or range is a problem and false. */
bool yaml_read_str(const struct yaml *y, struct slice *ret, struct problems *ps);
bool yaml_read_int(const struct yaml *y, int64_t min, int64_t max, int64_t *ret, struct problems *ps);
bool yaml_read_bool(const struct yaml *y, bool *ret, struct problems *ps);
/* A non-negative decimal with up to 9 places, as billionths: "0.15" -> 150000000. Prices. */
bool yaml_read_nano(const struct yaml *y, int64_t *ret, struct problems *ps);

/* Adds a problem for every key below y that no reader asked for. */
void yaml_report_unused(const struct yaml *y, struct problems *ps);
