/*
 * costs.h - what calls cost, added up by model, provider, day, key, team, owner or purpose, from
 * the ledger's daily table. Rows that are spooled and not stored yet (ledger.h) are not in it.
 */
#pragma once

#include "gateway/core/slice.h"
#include "storage/pg.h"

enum costs_group {
    COSTS_MODEL,
    COSTS_PROVIDER,
    COSTS_DAY,
    COSTS_KEY,
    COSTS_TEAM,
    COSTS_OWNER,
    COSTS_PURPOSE,
    COSTS_GROUPS
};

/* "model", "provider", ...; the member of an answer's row too. */
const char *costs_group_name(enum costs_group group);
bool costs_group_find(struct slice name, enum costs_group *ret);

/* Empty texts are no condition. Days are "YYYY-MM-DD" (UTC), both included. */
struct costs_filter {
    struct slice from, to;
    struct slice key_id, owner_id; /* uuids: of that key, of that user alone */
    bool nobodys;                  /* of calls that have neither key nor owner: the master key's */
};

/* Columns of a row. */
enum costs_column {
    COSTS_IS_TOTAL, /* of the one row that all groups add up to; it is the first, always there */
    COSTS_GROUP,    /* what it is of: text, NULL when the calls had none */
    COSTS_NAME,     /* of a key, a team, an owner, as people know it; else NULL */
    COSTS_N_GROUPS, /* how many groups there are; more than rows when the limit cut them off */
    COSTS_CALLS,    /* whole numbers from here on */
    COSTS_CACHED,   /* calls a cache answered */
    COSTS_TOKENS_IN,
    COSTS_TOKENS_OUT,
    COSTS_CACHE_READ,
    COSTS_NANO_USD,     /* of the calls whose cost is known */
    COSTS_UNKNOWN_COST, /* calls whose cost is not */
    COSTS_AVOIDED_NANO_USD
};

/* At most `limit` groups, the dearest first (days: the latest first). As pg_query(), of PG_READ. */
struct op *costs_read(const struct costs_filter *f, enum costs_group group, int64_t limit,
                      uint64_t deadline_us, pg_done done, void *arg);
