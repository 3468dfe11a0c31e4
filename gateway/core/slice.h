/*
 * slice.h - borrowed bytes.
 *
 * A slice owns nothing and is not terminated; it is valid as long as the bytes it points to.
 * The empty slice may have p == NULL.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *p;
    size_t n;
};

/* SLICE("literal"): the literal's bytes without its terminator. */
#define SLICE(lit) ((struct slice){(lit), sizeof(lit) - 1})
#define SLICE_NONE ((struct slice){NULL, 0})

/* printf("%.*s", SLICE_ARG(s)) */
#define SLICE_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct slice slice_of(const char *p, size_t n)
{
    return (struct slice){p, n};
}

/* The bytes of a C string; NULL gives the empty slice. */
static inline struct slice slice_cstr(const char *s)
{
    return (struct slice){s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Equal to a C string. */
static inline bool slice_is(struct slice a, const char *s)
{
    return slice_eq(a, slice_cstr(s));
}

/* ASCII letters compared without case. */
static inline bool slice_eq_nocase(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

/* Equal to a C string, ASCII letters compared without case. */
static inline bool slice_is_nocase(struct slice a, const char *s)
{
    return slice_eq_nocase(a, slice_cstr(s));
}

static inline bool slice_starts(struct slice a, const char *s)
{
    size_t n = strlen(s);

    return a.n >= n && memcmp(a.p, s, n) == 0;
}

/* The bytes from `from` on; empty when `from` is past the end. */
static inline struct slice slice_from(struct slice a, size_t from)
{
    return from >= a.n ? SLICE_NONE : slice_of(a.p + from, a.n - from);
}

/* Index of the first `c`, or a.n when there is none. */
static inline size_t slice_find(struct slice a, char c)
{
    const char *hit = a.n ? memchr(a.p, c, a.n) : NULL;

    return hit ? (size_t)(hit - a.p) : a.n;
}

/* Without the spaces and tabs at both ends. */
static inline struct slice slice_trim(struct slice a)
{
    while (a.n && (a.p[0] == ' ' || a.p[0] == '\t')) {
        a.p++;
        a.n--;
    }
    while (a.n && (a.p[a.n - 1] == ' ' || a.p[a.n - 1] == '\t'))
        a.n--;
    return a;
}
