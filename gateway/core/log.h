/*
 * log.h - one event a line: a fixed message and fields, rendered as JSON or for a console.
 *
 * Lines are gathered during a loop turn and written in one go when it ends; at once for errors,
 * when more than 32 KiB are gathered, and outside turns. Before log_init() and after log_deinit()
 * they go to standard error. A sink that cannot take a line keeps up to 128 KiB and tries again
 * with the next turn; what does not fit is dropped by whole lines and counted. Nothing here blocks
 * or exits.
 *
 * Never give a body, a prompt, a key or a token to this file; fields named like secrets (ending in
 * key or token; with authorization, cookie, credential, passw or secret in the name) are replaced
 * by
 * "[redacted]" all the same. Only the loop's thread may log.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

enum log_kind { LOG_END, LOG_STR, LOG_INT, LOG_MS, LOG_BOOL };

struct log_field {
    const char *key;
    enum log_kind kind;
    struct slice str;
    int64_t i;
};

#define F_STR(k, slice_) ((struct log_field){.key = (k), .kind = LOG_STR, .str = (slice_)})
#define F_CSTR(k, s) ((struct log_field){.key = (k), .kind = LOG_STR, .str = slice_cstr(s)})
#define F_INT(k, v) ((struct log_field){.key = (k), .kind = LOG_INT, .i = (int64_t)(v)})
/* microseconds, printed as milliseconds with three decimals under a key that ends in _ms */
#define F_MS(k, us) ((struct log_field){.key = (k), .kind = LOG_MS, .i = (int64_t)(us)})
#define F_BOOL(k, v) ((struct log_field){.key = (k), .kind = LOG_BOOL, .i = (v)})

/* What an object adds to each of its lines. */
struct log_ctx {
    const char *component;   /* "http", "provider": levels can be set per component */
    struct slice request_id; /* empty = none */
};

struct log_options {
    enum log_level level;
    bool json;               /* else console */
    const char *file;        /* NULL = standard output only */
    bool stdout_too;         /* with a file: write to standard output as well */
    uint64_t file_max_bytes; /* rotate past this; 0 = never */
    unsigned file_keep;      /* rotated files kept: FILE.1 ... FILE.n */
    const char *service, *version;
};

/* Opens the sinks and takes over libevent's own messages (as warnings, one a second). Parent
 * directories of the file are made. Several processes may write and rotate one file; call it before
 * or after the fork. Everything is copied. GW_EIO when the file cannot be opened, GW_ENOMEM; then
 * lines go on to standard error. */
enum gw_err log_init(const struct log_options *opt) MUST_CHECK;

/* Writes what is gathered, waiting up to 200 ms for a slow reader, and closes the sinks. */
void log_deinit(void);

/* Writes what is gathered. Runs by itself after each loop turn once log_init() was called. */
void log_flush(void);

/* "debug", "info", "warn"/"warning", "error"; false when it is none. */
bool log_level_parse(struct slice text, enum log_level *ret);
void log_set_level(const char *component /* NULL = all others */, enum log_level level);

/* Forgets the levels of single components (before a new configuration sets its own). At most 16
 * components of up to 31 bytes can have one; further ones keep the common level. */
void log_reset_levels(void);
bool log_enabled(enum log_level level, const struct log_ctx *ctx);

/* Lines dropped since the start (full disk, closed pipe, reader too slow). A line over 16 KiB is
 * not dropped but cut, with "truncated":true. */
uint64_t log_dropped(void);

/* `fields` ends with a LOG_END row; use the macros. */
void log_write(enum log_level level, const struct log_ctx *ctx, const char *message,
               const struct log_field *fields);

#define LOG_FIELDS(...) ((struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.kind = LOG_END}})
#define log_at(level_, ctx_, msg_, ...)                                                            \
    do {                                                                                           \
        if (log_enabled((level_), (ctx_)))                                                         \
            log_write((level_), (ctx_), (msg_), LOG_FIELDS(__VA_ARGS__));                          \
    } while (0)
#define log_error(ctx, msg, ...) log_at(LVL_ERROR, ctx, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(ctx, msg, ...) log_at(LVL_WARN, ctx, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_info(ctx, msg, ...) log_at(LVL_INFO, ctx, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_debug(ctx, msg, ...) log_at(LVL_DEBUG, ctx, msg __VA_OPT__(, ) __VA_ARGS__)
