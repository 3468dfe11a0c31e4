/*
 * envfile.h - reads NAME=VALUE lines (.env).
 *
 *     # comment
 *     export NAME=value          # "export" and a comment after a blank are allowed
 *     NAME='as it is'
 *     NAME="with \" \\ \$ escaped"
 *
 * A value means what it means to sh, except that nothing is expanded and a value ends on its line.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/problems.h"
#include "gateway/core/slice.h"

#define ENVFILE_MAX_BYTES (64u * 1024u)
#define ENVFILE_MAX_ENTRIES 1000u

struct envfile_entry {
    struct slice name, value; /* NUL-terminated, in the arena */
    unsigned line;
};

struct envfile {
    const char *file; /* as given, in the arena; NULL = there is no file */
    struct envfile_entry *items;
    unsigned n;
};

/*
 * Reads `text` into `ret`, with copies of everything in `a`. Lines that cannot be read are problems
 * with their line and left out; the problem never shows the value. Of a name that comes twice the
 * last line counts, with a warning. Running out of memory is a problem too.
 */
void envfile_parse(struct slice text, const char *file, struct arena *a, struct envfile *ret,
                   struct problems *ps);

/* Reads a file of at most ENVFILE_MAX_BYTES. When there is none: a problem if `required`, else
 * `ret` is left empty. */
void envfile_load(const char *path, bool required, struct arena *a, struct envfile *ret,
                  struct problems *ps);

/* The entry of a name, or NULL. */
const struct envfile_entry *envfile_get(const struct envfile *e, const char *name);
