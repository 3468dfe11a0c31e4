/*
 * audit.h - the record of what was done to accounts, keys and the running system: append-only in
 * Postgres, and always a line in the log (event `audit`), which is all there is while Postgres is
 * away.
 */
#pragma once

#include "gateway/core/log.h"
#include "storage/pg.h"

struct audit_entry {
    struct slice actor; /* subject of who did it; "cli" from the command line */
    struct slice actor_ip;
    const char *action;  /* "user.create", "apikey.revoke", "login", "cache.clear", ... */
    struct slice target; /* what it was done to */
    const char *outcome; /* "ok", "refused", "failed" */
    struct slice request_id;
    struct slice detail; /* a JSON object without secrets, or empty */
};

/* Writes the line alone. */
void audit_note(const struct log_ctx *log, const struct audit_entry *e);

/* Writes the line, and the row without waiting for it. Everything is copied. */
void audit_write(const struct log_ctx *log, const struct audit_entry *e);

/* The row alone, for whoever waits for it (the command line). */
struct op *audit_insert(const struct audit_entry *e, uint64_t deadline_us, pg_done done, void *arg);

struct audit_filter {
    struct slice actor, action; /* empty = any */
    struct slice since;         /* RFC 3339, empty = any */
};
/* Rows newest first: id, at, actor, actor_ip, action, target, outcome, request_id, detail, total.
 */
struct op *audit_page(const struct audit_filter *f, int64_t limit, int64_t offset,
                      uint64_t deadline_us, pg_done done, void *arg);
