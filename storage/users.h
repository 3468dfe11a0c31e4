/*
 * users.h - people: their rows, logins, and the tokens that were taken back.
 *
 * Each function starts one statement (pg.h: done runs once, errors as there; NULL out of memory);
 * what comes back is read with user_read(). Names (`user_id`) are 1 to 64 characters, compared
 * exactly.
 */
#pragma once

#include "storage/pg.h"

struct user {
    struct slice id, user_id, email, role, team_id, team_name, created_at, updated_at;
    struct slice locked_until; /* empty unless locked now */
    struct slice password_hash;
    bool disabled, locked;
    int64_t failed_logins;
    struct slice version; /* changes with every change of the row */
    int64_t total;        /* of a page: rows in all pages */
};

/* A row of any statement below; slices live as long as the rows. False when there is no such row.
 */
bool user_read(const struct pg_rows *rows, unsigned row, struct user *ret);

struct op *users_by_name(struct slice user_id, uint64_t deadline_us, pg_done done, void *arg);
struct op *users_by_id(struct slice id, uint64_t deadline_us, pg_done done, void *arg);
struct op *users_page(int64_t limit, int64_t offset, uint64_t deadline_us, pg_done done, void *arg);

struct user_new {
    struct slice id; /* uuid, made by the caller */
    struct slice user_id, email, password_hash, role, team_id;
};
/* GW_ECONFLICT when the name is taken, GW_ENOTFOUND when the team is not there. */
struct op *users_add(const struct user_new *u, uint64_t deadline_us, pg_done done, void *arg);

/* Only what is given (p != NULL) changes; an email or team_id of no bytes is taken away. */
struct user_change {
    struct slice email, password_hash, role, team_id;
    const bool *disabled; /* NULL = as it is */
    struct slice version; /* only a row that still has this one; empty = any */
};
/* No row comes back when there is no such user, when it has another version, or when it is the last
 * administrator and would be none any more: users_by_id() tells which. A new password, role or a
 * disabling voids tokens given before. */
struct op *users_change(struct slice id, const struct user_change *c, uint64_t deadline_us,
                        pg_done done, void *arg);
/* Likewise; keys of the user are taken back with it. GW_ENOTFOUND when documents still need it. */
struct op *users_remove(struct slice id, uint64_t deadline_us, pg_done done, void *arg);

/* Books a wrong password; after `failures` in a row the account is locked for `minutes`. */
struct op *users_login_failed(struct slice id, int64_t failures, int64_t minutes, pg_done done,
                              void *arg);
/* Books a right one, verified against that stored hash. No row comes back when meanwhile the
 * account was locked or disabled (of guesses made all at once only the first few count) or its
 * password is another one (which must not give a token that is newer than the change). */
struct op *users_login_good(struct slice id, struct slice verified_hash, pg_done done, void *arg);
/* A user's own new password, on the strength of the one before: voids tokens given before it. No
 * row comes back in the same cases. */
struct op *users_renew(struct slice id, struct slice verified_hash, struct slice new_hash,
                       uint64_t deadline_us, pg_done done, void *arg);

/* A row of usage_daily: what one of a user's keys (or the user, with a token) asked of a model. */
struct usage_day {
    struct slice day, key_id, provider, model, purpose; /* all but the day may be empty */
    int64_t calls, cached, tokens_in, tokens_out, cost_nano_usd;
};
bool usage_day_read(const struct pg_rows *rows, unsigned row, struct usage_day *ret);
/* Of one user, the oldest first. */
struct op *users_usage(struct slice id, int64_t limit, int64_t offset, uint64_t deadline_us,
                       pg_done done, void *arg);

/* Takes one token back (until it expires, in seconds since 1970), or all of a user's. No row comes
 * back when a thousand single ones of this owner are kept already. */
struct op *users_revoke_token(struct slice jti, int64_t expires_s, uint64_t deadline_us,
                              pg_done done, void *arg);
struct op *users_revoke_all(struct slice id, uint64_t deadline_us, pg_done done, void *arg);
