/*
 * yaml.h - a small, strict tree over libyaml's events, with line numbers.
 *
 * Strict means: one document whose top is a map, up to 1 MiB, 100,000 values and 16 levels; no
 * anchors, aliases or tags, no duplicate or empty keys, no tabs in indentation, no NUL; plain null,
 * Null, NULL, ~ or nothing is "no value"; every other meaning is given by the reader that asks, not
 * by the look of a value.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/problems.h"
#include "gateway/core/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define YAML_MAX_BYTES (1024u * 1024u)
#define YAML_MAX_DEPTH 16u
#define YAML_MAX_NODES 100000u

enum yaml_kind { YAML_NULL, YAML_SCALAR, YAML_SEQ, YAML_MAP };

struct yaml {
    enum yaml_kind kind;
    bool quoted;        /* a scalar in quotes or a block: always a string */
    bool used;          /* a reader asked for it; what nobody asked for is an unknown key */
    bool broken;        /* its problem is listed already; readers fail without adding another */
    unsigned line;      /* of its key in a map, else its own; from 1 */
    struct slice key;   /* in a map: its name, NUL-terminated */
    struct slice text;  /* scalar's text, NUL-terminated */
    struct yaml *next;  /* next sibling */
    struct yaml *first; /* first child of a map or sequence */
    const char *file;   /* base name, for problems */
};

/* Reads one file. Problems (missing, empty, too big, syntax with line, tabs, aliases, duplicate
 * keys, depth, more than one document) are added; NULL when there is no usable tree. Where reading
 * can go on after a problem (duplicate keys, aliases, tags) it does, so that all are listed. Free
 * with yaml_destroy(). */
struct yaml *yaml_load(const char *path, struct problems *ps);

/* The same from memory, for tests and the fuzzer. `file` is copied. */
struct yaml *yaml_parse(struct slice text, const char *file, struct problems *ps);

/* Takes the root that yaml_load() or yaml_parse() gave. NULL is fine; returns NULL. (libyaml
 * exports a yaml_free of its own, which ours would replace at run time: hence the name.) */
struct yaml *yaml_destroy(struct yaml *y);

/* Child of a map by name (marks it used), or NULL; NULL in gives NULL. */
const struct yaml *yaml_get(const struct yaml *map, const char *name);

/* Follows "a.b.c". */
const struct yaml *yaml_path(const struct yaml *map, const char *dotted);

/* Children of a map or sequence for a loop over first/next: NULL when y is NULL or empty; another
 * kind is a problem and NULL. Marks y and, with `all`, each child used. */
const struct yaml *yaml_items(const struct yaml *y, enum yaml_kind kind, bool all,
                              struct problems *ps);

/* Typed readers: `ret` is left alone when y is NULL (true); a wrong type or range is a problem and
 * false. */
bool yaml_read_str(const struct yaml *y, struct slice *ret, struct problems *ps);
bool yaml_read_int(const struct yaml *y, int64_t min, int64_t max, int64_t *ret,
                   struct problems *ps);
bool yaml_read_bool(const struct yaml *y, bool *ret, struct problems *ps);
/* A non-negative decimal below a billion with up to 9 places, as billionths: "0.15" -> 150000000.
 * Prices. */
bool yaml_read_nano(const struct yaml *y, int64_t *ret, struct problems *ps);

/* The same readings of bare text, for values from the environment: GW_OK, GW_EBADREQ when it is not
 * of the type, GW_ETOOBIG when a number does not fit. */
enum gw_err yaml_text_int(struct slice text, int64_t *ret) MUST_CHECK;
enum gw_err yaml_text_bool(struct slice text, bool *ret) MUST_CHECK;
enum gw_err yaml_text_nano(struct slice text, int64_t *ret) MUST_CHECK;

/* Adds a problem for every key below y that no reader asked for. */
void yaml_report_unused(const struct yaml *y, struct problems *ps);
