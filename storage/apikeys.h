/*
 * apikeys.h - keys of programs: made, listed, taken back. The key itself is shown once and stored
 * as its SHA-256; what is left to see is its beginning.
 */
#pragma once

#include "gateway/core/arena.h"
#include "storage/budget.h"
#include "storage/pg.h"

#define APIKEY_CHARS 46u  /* "pk-" and 43 characters of base64url: 32 random bytes */
#define APIKEY_PREFIX 11u /* "pk-" and 8 characters are kept in the clear */

struct apikey_secret {
    char key[APIKEY_CHARS + 1];
    char prefix[APIKEY_PREFIX + 1];
    char sha256_hex[65];
};

/* A new random key. GW_ENOMEM when hashing fails. */
enum gw_err apikey_make(struct apikey_secret *ret) MUST_CHECK;

struct apikey {
    struct slice id, owner_id, owner_name, team_id, name, prefix, scopes,
        models;                                     /* arrays as JSON */
    int64_t requests_per_minute, tokens_per_minute; /* 0 = none */
    int64_t budget_nano_usd;                        /* -1 = none */
    struct slice budget_period, expires_at, last_used_at, revoked_at,
        created_at; /* empty = never */
    int64_t total;  /* of a page */
};
bool apikey_read(const struct pg_rows *rows, unsigned row, struct apikey *ret);

struct apikey_new {
    struct slice id; /* uuid */
    struct slice owner_id, team_id, name;
    const struct apikey_secret *secret;
    struct slice scopes, models;                    /* JSON arrays of strings */
    int64_t requests_per_minute, tokens_per_minute; /* 0 = none */
    int64_t budget_nano_usd;                        /* -1 = none */
    const char *budget_period;
    int64_t expires_in_s; /* 0 = never */
    int64_t max_of_owner; /* valid ones its owner may have, with this one; 0 = any number */
};
/* GW_ECONFLICT when the owner has a key of that name, GW_ENOTFOUND when owner or team are not
 * there. No row comes back when the owner has as many as it may. */
struct op *apikeys_add(const struct apikey_new *k, uint64_t deadline_us, pg_done done, void *arg);

/* Keys of one owner, or of all (owner_id empty); newest first. */
struct op *apikeys_page(struct slice owner_id, int64_t limit, int64_t offset, uint64_t deadline_us,
                        pg_done done, void *arg);

/* Takes a key back, by id or by prefix; of that owner only unless owner_id is empty. No row comes
 * back when there is none that is valid. */
struct op *apikeys_revoke(struct slice id_or_prefix, struct slice owner_id, uint64_t deadline_us,
                          pg_done done, void *arg);
