/*
 * form.h - what a native route accepts: schemas of JSON bodies and of query arguments, as tables.
 *
 * A route names its form in handlers/routes.c; the handler reads the body into a struct of its own
 * with form_read(). Everything that is wrong is told at once, each with its JSON pointer, as one
 * 422 problem (`errors: [{pointer, detail}]`): wrong types, values out of range, members that are
 * missing, unknown or there twice. Text that is no JSON at all is 400. Query arguments are read by
 * the same tables (`errors: [{param, detail}]`); unknown ones are left alone.
 *
 * Of the struct only what was given is written: defaults are put there before. A null is the same
 * as an absent member, unless the row says `nullable`.
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"

#include <stddef.h>
#include <stdint.h>

/* What a field is, and what it becomes in the struct. */
enum form_type {
    FORM_STRING,  /* struct slice, unescaped */
    FORM_INT,     /* int64_t; 1.0 and 1e2 are whole numbers too, as in JSON Schema */
    FORM_DECIMAL, /* int64_t in billionths, exact: money. No more than nine decimals */
    FORM_NUMBER,  /* struct slice: the digits as they came; within min and max */
    FORM_BOOL,    /* bool */
    FORM_STRINGS, /* struct form_list */
    FORM_OBJECT,  /* struct json; with `form` set its members are read into the same struct */
    FORM_ANY,     /* struct json, whatever it is */
};

/* What a text may look like. Prose (FREE, LINE) follows security.free_text when it looks like an
 * injection attempt; all others but OPAQUE are refused then (screen.h). */
enum form_class {
    FORM_FREE,       /* prose: anything that is UTF-8 */
    FORM_OPAQUE,     /* passwords, tokens: taken as they are and never looked into */
    FORM_LINE,       /* a title: one line, no control characters */
    FORM_IDENTIFIER, /* letters, digits, and . _ - : @ inside; starts with a letter or digit */
    FORM_MODEL,      /* a model's name or a pattern of names: an identifier with / * + too */
    FORM_EMAIL,
    FORM_URL,      /* http or https, with a host; no credentials */
    FORM_FILENAME, /* one path component that is not special */
    FORM_DATE,     /* YYYY-MM-DD, a day there is */
    FORM_CLASSES
};

struct form_list {
    const struct slice *items; /* in the request's arena */
    unsigned n;
};

struct form;

struct form_field {
    const char *name;
    enum form_type type;
    size_t at;             /* offset in the struct */
    bool required;         /* must be there and not null */
    bool nullable;         /* null is told apart from absent (struct form_seen) */
    enum form_class class; /* of strings, and of each of a list */
    int64_t min, max;      /* value of numbers (in units, also of decimals), characters of strings,
                              elements of lists; both 0: any number, strings up to 4096 characters,
                              lists up to 100 */
    int64_t item_max;      /* characters of each of a list, 0 = 256 */
    const char *words;     /* the only values, separated by blanks; NULL = any */
    const struct form *form; /* of FORM_OBJECT; NULL = any members */
};

struct form {
    const struct form_field *fields; /* at most FORM_MAX_FIELDS */
    unsigned n;
    size_t size; /* of the struct it is read into */
};

#define FORM_MAX_FIELDS 64u

/* FORM_OF(struct login, login_fields): the form of a table of rows. */
#define FORM_OF(type, rows)                                                                        \
    {                                                                                              \
        (rows), sizeof(rows) / sizeof((rows)[0]), sizeof(type)                                     \
    }

/* The form of a route whose body says nothing: no body, or {}. */
extern const struct form form_empty;

/* Which fields of the (outer) form were there: bit i for row i. */
struct form_seen {
    uint64_t given; /* with a value */
    uint64_t nulls; /* null where the row is nullable */
};
bool form_given(const struct form *f, const struct form_seen *seen, const char *name);
bool form_nulled(const struct form *f, const struct form_seen *seen, const char *name);

/* What was wrong. `items` are struct error_item of request.h. */
#define FORM_MAX_ERRORS 50u
struct form_errors {
    struct error_item items[FORM_MAX_ERRORS];
    unsigned n;
    bool nomem;
};

/*
 * Reads the body by the form of the request's route. False when the request has been answered. A
 * body of no bytes is {}. `seen` may be NULL. What is written to the struct lives as long as the
 * request.
 */
#define form_read(req, into, seen) form_read_into((req), (into), sizeof(*(into)), (seen))
bool form_read_into(struct request *req, void *into, size_t size, struct form_seen *seen);

/* For routes whose form is form_empty. */
bool form_read_nothing(struct request *req);

/* The same for a query string and any form (strings, whole numbers, booleans, and lists separated
 * by commas). */
#define form_query(req, form, into, seen)                                                          \
    form_query_into((req), (form), (into), sizeof(*(into)), (seen))
bool form_query_into(struct request *req, const struct form *f, void *into, size_t size,
                     struct form_seen *seen);

/* Checks and reads a document that is parsed already; adds to *errors. */
void form_check(struct request *req, struct json root, const struct form *f, void *into,
                struct form_seen *seen, struct form_errors *errors);

/* Answers what form_check() found: 422, or 503 out of memory. */
void form_refuse(struct request *req, const struct form_errors *errors);

/* Adds a failure that no table can tell (two members that contradict each other). Both texts stay
 * as long as the request. */
void form_add(struct form_errors *errors, const char *pointer, const char *detail);

/* Answers one failure that no table can tell (two members that contradict each other). */
void form_refuse_field(struct request *req, const char *pointer, const char *detail);

/* Answers a text that is no JSON (json_parse()'s error), saying where. */
void form_refuse_json(struct request *req, enum gw_err err, const struct json_error *why);

/* Is the text one of those words, which blanks separate? */
bool form_is_among(const char *words, struct slice text);

/* How many characters the text has; it must be UTF-8. */
int64_t form_characters(struct slice text);

/* Is the text of that class? What it should have been, or NULL when it is. */
const char *form_class_problem(enum form_class class, struct slice text);
