/*
 * ledger.h - what every call cost: spooled to a file at once, written to Postgres in batches.
 *
 *     ledger_add --> spool (shared memory map of an append-only file) --> COPY + progress --> table
 *
 * A row is in the spool file's pages before the answer leaves, so a killed process loses none. A
 * batch and the spool position behind it are committed in one transaction: a replay begins where
 * the last commit ended, and doubles nothing, whatever was lost in between. Files of dead processes
 * are taken over. Without a database the ledger is off: metrics still count.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

/* All texts are copied; empty ones are NULL in the table. */
struct ledger_row {
    uint64_t at_wall_us;
    struct slice request_id, idempotency_key;
    struct slice owner_id, key_id, team_id; /* uuids as text */
    struct slice subject;                   /* who, readable */
    struct slice provider, model, asked_model;
    const char *surface; /* "openai", "anthropic", "google", "native" */
    const char *purpose; /* "chat", "embeddings", "count" */
    const char *status;  /* "ok", or the error's slug; "client-gone" */
    const char *cache;   /* "miss", "hit", "semantic", "coalesced", "bypass" */
    bool stream;
    unsigned attempts, fallback_index;
    bool usage_known;
    uint64_t input, cache_read, cache_write, output, reasoning; /* tokens */
    int64_t cost_nano_usd;                                      /* -1 = unknown */
    int64_t avoided_nano_usd; /* what a cache hit saved; 0 otherwise */
    uint64_t duration_us, first_token_us;
    const char *price_version;
    struct slice raw_usage; /* the vendor's usage object as it came, or empty */
};

enum gw_err ledger_init(const struct conf *c) MUST_CHECK;
/* Tries for up to two seconds to hand over what is spooled, then leaves it to the next process. */
void ledger_deinit(void);

/* Never fails, never waits. Rows that neither file nor memory can take are counted as dropped and
 * logged. */
void ledger_add(const struct ledger_row *row);

struct ledger_stats {
    bool enabled;
    uint64_t pending_rows, pending_bytes; /* spooled, not yet in Postgres */
    /* since the start: rejected are single rows, aside those of files that came too late */
    uint64_t stored, dropped, rejected, aside;
    bool sure; /* of this process: those pending are not in Postgres, and all others are */
};
void ledger_stats(struct ledger_stats *ret);  /* of this process */
void ledger_totals(struct ledger_stats *ret); /* of all workers, since the gateway's start */

/* Cost of rows of one scope ("key:<uuid>", "team:<uuid>") that are spooled here and not stored yet,
 * of the days that begin in [begin_s, end_s), seconds since 1970; end_s 0 = all from begin_s on. */
int64_t ledger_pending_cost(const char *scope, int64_t begin_s, int64_t end_s);
