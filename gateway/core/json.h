/*
 * json.h - strict reading of untrusted JSON, and writing.
 *
 * Reading: one pass over the bytes checks everything RFC 8259 asks (and UTF-8, depth, no U+0000, no
 * lone surrogates) and leaves an index of tokens in the arena. Values are then read from the source
 * text itself, so a number keeps its digits and a subtree can be passed on byte for byte; that is
 * why untrusted bodies are not read through cJSON, which is lax and turns numbers into doubles
 * (shared/TRAPS.md, 8). cJSON is used for trees that are changed (schemas) and for our own answers.
 *
 * Writing: json_writer appends to a struct buf and puts the commas itself.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/buf.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define JSON_MAX_DEPTH 64u

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

/* One value, or one member's key (type JSON_STRING, followed by its value). */
struct json_token {
    uint8_t type;     /* enum json_type */
    bool escaped;     /* a string with at least one backslash */
    uint32_t at, len; /* source bytes; a string's without its quotes, a container's with brackets */
    uint32_t next;    /* index of the token after this value and all below it */
    uint32_t children; /* members of an object, elements of an array */
};

struct json_doc {
    const char *src;           /* borrowed: must outlive the document */
    struct json_token *tokens; /* tokens[0] is the root */
    uint32_t n;
    struct arena *arena; /* where unescaped strings go */
};

/* A value: a position in a document. `doc == NULL` is "absent"; every reader below accepts that. */
struct json {
    const struct json_doc *doc;
    uint32_t i;
};

struct json_limits {
    size_t max_bytes;    /* 0 = no limit beyond 2^32-1 */
    uint32_t max_tokens; /* 0 = 1,000,000 */
    uint32_t max_depth;  /* 0 = JSON_MAX_DEPTH */
};

/* What was wrong, for the client: static text and the byte offset. */
struct json_error {
    const char *what;
    size_t at;
};

/*
 * Checks and indexes `src`, which must hold exactly one value and white space. GW_EBADJSON with
 * *err filled in, GW_ETOOBIG over a limit (depth counts as GW_EBADJSON), GW_ENOMEM. Tokens go to
 * the arena. `err` may be NULL.
 */
enum gw_err json_parse(struct arena *arena, struct slice src, const struct json_limits *limits,
                       struct json *ret_root, struct json_error *err) MUST_CHECK;

/*
 * The same into the caller's token array, for small texts that are looked at and forgotten:
 * allocates nothing. The caller has set doc->arena, where escaped strings go when they are read. No
 * more than `cap` values are accepted: GW_ETOOBIG.
 */
enum gw_err json_parse_into(struct json_doc *doc, struct json_token *tokens, uint32_t cap,
                            struct slice src, struct json *ret_root) MUST_CHECK;

static inline bool json_exists(struct json v)
{
    return v.doc != NULL;
}

/* Type of a value that exists. */
enum json_type json_type(struct json v);
bool json_is(struct json v, enum json_type type); /* false when absent */

/* Member of an object by its exact name, the first of that name; absent if none or no object. */
struct json json_get(struct json object, const char *name);

/* True when the object has two members called `name`. */
bool json_has_duplicate(struct json object, const char *name);

/* Any name twice in this object (not below)? O(n log n). ret_name may be NULL. */
bool json_any_duplicate(struct json object, struct slice *ret_name);

uint32_t json_count(struct json container); /* 0 when absent or no container */

/* Iteration: for (it = json_first(v); json_exists(it); it = json_next(v, it)). Over an array the
 * elements; over an object the values, whose key is json_key(it). */
struct json json_first(struct json container);
struct json json_next(struct json container, struct json it);
struct slice json_key(struct json member); /* unescaped; valid as long as the arena */

/* Source text of the value, strings with their quotes. Empty when absent. */
struct slice json_raw(struct json v);

/* Text of a string, unescaped (borrowed from the source when it has no escapes, else in the
 * arena). p == NULL when absent, no string, or out of memory. */
struct slice json_str(struct json v);
bool json_str_is(struct json v, const char *text);

/* Numbers: false when absent, not a number, not exactly an integer in range / not finite. */
bool json_int(struct json v, int64_t *ret);
/* The number times 10^decimals, when that is exactly an integer in range: money without rounding.
 * decimals is at most 18. */
bool json_scaled(struct json v, unsigned decimals, int64_t *ret);
bool json_double(struct json v, double *ret);
bool json_bool(struct json v, bool *ret);

/* --- writing --------------------------------------------------------------------------------- */

struct json_writer {
    struct buf *out;
    bool comma; /* the next value in this container needs one */
};

void json_writer_init(struct json_writer *w, struct buf *out);
/* The same with a buffer of its own, of so many bytes at most; the caller frees it. */
void json_begin(struct json_writer *w, struct buf *out, size_t max_bytes);
void json_obj(struct json_writer *w);
void json_obj_end(struct json_writer *w);
void json_arr(struct json_writer *w);
void json_arr_end(struct json_writer *w);
/* `literal` is written as it is: names known at compile time. */
void json_put_key(struct json_writer *w, const char *literal);
void json_put_key_slice(struct json_writer *w, struct slice name);
void json_put_str(struct json_writer *w, struct slice text); /* escaped; must be UTF-8 */
void json_put_cstr(struct json_writer *w, const char *text); /* NULL writes null */
void json_put_int(struct json_writer *w, int64_t v);
void json_put_double(struct json_writer *w, double v);
void json_put_bool(struct json_writer *w, bool v);
void json_put_null(struct json_writer *w);
/* Bytes that are one JSON value already. */
void json_put_raw(struct json_writer *w, struct slice value);

/* key + value in one call */
void json_kv_str(struct json_writer *w, const char *key, struct slice text);
void json_kv_cstr(struct json_writer *w, const char *key, const char *text);
void json_kv_text(struct json_writer *w, const char *key, struct slice text); /* empty: null */
void json_kv_int(struct json_writer *w, const char *key, int64_t v);
void json_kv_double(struct json_writer *w, const char *key, double v);
void json_kv_bool(struct json_writer *w, const char *key, bool v);
void json_kv_null(struct json_writer *w, const char *key);
void json_kv_raw(struct json_writer *w, const char *key, struct slice value);
void json_kv_obj(struct json_writer *w, const char *key); /* begins one */
void json_kv_arr(struct json_writer *w, const char *key);

/* Appends `text` escaped, without quotes. */
void json_escape(struct buf *out, struct slice text);

/* True when the bytes are well-formed UTF-8 without U+0000. */
bool json_utf8_valid(struct slice text);
