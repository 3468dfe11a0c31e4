/*
 * ledger_private.h - what the files of the ledger share; nobody else includes this.
 *
 *     ledger.c        rows in, numbers out, start and stop
 *     ledger_line.c   a row as a line of text, and back
 *     ledger_due.c    cost of what is not stored yet, by scope and day
 *     ledger_ship.c   batches to Postgres
 *     ledger_keep.c   partitions, retention
 */
#pragma once

#include "gateway/core/log.h"
#include "storage/ledger.h"
#include "storage/spool.h"

extern const struct log_ctx ledger_log;

/* --- ledger.c --- */

struct ledger {
    bool on;
    char dir[4097];
    struct spool *spool;
    uint64_t flush_us;
    unsigned batch_rows;
    uint64_t stored, dropped, rejected, aside;
};
extern struct ledger ledger;

/* Rows [old position, new position) of a segment have left the spool (or come back: from > to). */
void ledger_count_stored(uint64_t rows);
void ledger_count_rejected(void);
void ledger_count_aside(uint64_t rows);
/* Rows that were there and can be read no more: dropped. */
void ledger_count_damaged(const struct segment *g, uint64_t rows);
void ledger_gauges(void);

/* --- ledger_line.c --- */

/* A line, in the text format of COPY, without its end:
 *     "1", key, team, cost, time, the other columns of the table in its order, raw usage
 * The first field is the format: other versions of this program may read it. */
#define LEDGER_LINE_MAX 24576u

/* Writes a row's line (at most LEDGER_LINE_MAX bytes) and returns its length. */
size_t ledger_line_write(char *to, const struct ledger_row *row);

struct ledger_line {
    struct slice key, team; /* ids; "\N" = none */
    int64_t cost_nano_usd;  /* 0 when unknown */
    struct slice at;        /* sorts as text */
    struct slice columns;   /* all but the format, as COPY takes them */
    struct slice raw;       /* the last of the columns */
};
/* False when it is no line this version understands. */
bool ledger_line_read(struct slice record, struct ledger_line *ret);

/* The columns, for COPY: what stands before them (spool_id, spool_pos) included. */
#define LEDGER_COLUMNS                                                                             \
    "spool_id, spool_pos, key_id, team_id, cost_nano_usd, at, request_id, idempotency_key, "       \
    "owner_id, subject, provider, model, asked_model, surface, purpose, status, cache, stream, "   \
    "attempts, fallback_index, usage_known, tokens_in, cache_read, cache_write, tokens_out, "      \
    "reasoning, avoided_nano_usd, duration_us, first_token_us, price_version, raw_usage"

/* --- ledger_due.c --- */

void ledger_due_add(const struct ledger_line *line);
void ledger_due_take(const struct ledger_line *line);
/* The rows of the batch that is under way: begun anew, one more, all of them taken at once. */
void ledger_due_batch(void);
void ledger_due_batch_add(const struct ledger_line *line);
void ledger_due_batch_take(void);
int64_t ledger_due(struct slice scope, int64_t begin_s, int64_t end_s);
void ledger_due_clear(void);

/* --- ledger_ship.c --- */

void ledger_ship_init(void);
void ledger_ship_deinit(void);
/* Something was added: ships soon, or at once when a batch is full. */
void ledger_ship_kick(void);
/* Are the pending rows not in Postgres, and all others there? Not while a COMMIT is under way. */
bool ledger_ship_is_sure(void);
/* Ships what there is without waiting for more. */
void ledger_ship_flush(void);

/* --- ledger_keep.c --- */

/* May the database have had rows of this file and forgotten it? Asked when it knows nothing of it.
 */
bool ledger_may_be_forgotten(const struct segment *g);

void ledger_keep_init(void);
void ledger_keep_deinit(void);
