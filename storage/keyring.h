/*
 * keyring.h - who a credential stands for, from this process's memory where it can, else from
 * Postgres.
 *
 *     NEW --found--> KNOWN <--looked up again--> UNKNOWN <--not there-- NEW
 *
 * KNOWN answers at once for key_cache_s, and after that too while it is being looked up again.
 * Every half second one number is read (identity_version): when it has moved, something about
 * users, keys, teams or revoked tokens has changed, and everything remembered is verified before it
 * is believed again. So a revoked key is refused within a second. While Postgres is away what is
 * KNOWN goes on for key_stale_s from when it was last verified. UNKNOWN is remembered for some
 * seconds, in a part of its own, so that invented keys neither reach Postgres twice nor push real
 * ones out.
 *
 * Look-ups of one turn travel together, and all who wait for the same one share it: at most two
 * statements are under way for keys and two for users, whatever is asked.
 *
 * One thread (the loop's). The wall clock is asked only whether a key has expired.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/jwt.h"
#include "gateway/core/op.h"
#include "storage/principal.h"

/* GW_OK: `p` is the caller's reference. Else p is NULL and err as keyring_key() says. */
typedef void (*keyring_done)(enum gw_err err, const struct principal *p, void *arg);

/* After pg_init(); begins to watch the version when a database is configured. */
enum gw_err keyring_init(const struct conf *c) MUST_CHECK;
/* Nobody may be waiting any more. */
void keyring_deinit(void);

/*
 * Whose API key is this? GW_OK with the caller's reference in *ret; GW_EUNAUTH (no such key,
 * revoked, its owner disabled); GW_ETOKENEXPIRED; GW_EUNAVAIL (not known here and Postgres is away,
 * or too many unknown ones at once); GW_ENOMEM. GW_EAGAIN: it is being looked up, *ret_op is the
 * operation and done gets one of the others.
 */
enum gw_err keyring_key(struct slice key, const struct principal **ret, struct op **ret_op,
                        keyring_done done, void *arg) MUST_CHECK;

/*
 * Likewise of a token's verified claims: the user must exist under that name (and uid), not be
 * disabled, the token not be older than the user's tokens_valid_from nor its jti revoked. What the
 * user may do is in the database and not in the token. Without a database the token stands for
 * itself.
 */
enum gw_err keyring_token(const struct jwt_claims *claims, const struct principal **ret,
                          struct op **ret_op, keyring_done done, void *arg) MUST_CHECK;

/* This process has changed something about identities: look at the version now. */
void keyring_changed(void);

struct keyring_stats {
    unsigned known, unknown; /* remembered */
    unsigned waiting;        /* look-ups under way or queued */
    unsigned revoked;        /* revoked tokens kept */
    int64_t version;         /* 0 = not read yet */
    bool watching;           /* it was read a moment ago */
};
void keyring_stats(struct keyring_stats *ret);
