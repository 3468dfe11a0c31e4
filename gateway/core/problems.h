/*
 * problems.h - the list of problems that everything which reads configuration adds to, so that all
 * of them can be shown in one pass.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct problem {
    const char *file; /* "" when it has none (environment) */
    unsigned line;    /* from 1; 0 when it has none */
    bool warning;     /* shown, but does not refuse */
    const char *text;
};

/* Zero-initialised is empty. Owns all its texts. */
struct problems {
    struct problem *items;
    unsigned n, cap;
    unsigned errors; /* those that are not warnings; counted even when the text could not be kept */
    bool truncated;  /* more than PROBLEMS_MAX, or out of memory: some are counted, not listed */
};

#define PROBLEMS_MAX 1000u

void problems_deinit(struct problems *ps);

/*
 * Add a problem. file may be NULL or ""; text and file are copied, cut at 511 bytes, and control
 * characters in them become '?', so that what was read from a file cannot forge lines. One that is
 * in the list already is not added again. ps == NULL does nothing.
 */
void problems_add(struct problems *ps, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void problems_warn(struct problems *ps, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Writes one line each, sorted by file and line: "gateway.yaml:12: text"; without a line
 * "gateway.yaml: text", without a file just the text. Warnings say "warning: " before their text.
 */
void problems_print(const struct problems *ps, FILE *out);
