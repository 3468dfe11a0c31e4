/*
 * jwt.h - tokens of RFC 7519 signed with HS256 (RFC 7515, compact form): made and strictly read.
 *
 * The algorithm is ours and not the token's: a header that names another one, or anything that
 * would have a key looked up elsewhere, is refused. A token has exactly one spelling. Nothing here
 * asks a clock, a file or the network. The keyed HMAC contexts of the last secrets used are kept,
 * so all functions belong to one thread.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define JWT_MAX_BYTES 8192u /* of a whole token */
#define JWT_MAX_SUB 64u     /* bytes of the name in `sub` */
#define JWT_MAX_JTI 64u

/* What signs (the first), and what else is still believed. Empty ones sign and verify nothing. */
struct jwt_secrets {
    struct slice current, previous;
};

/* The claims we issue and read; others are allowed and ignored. Texts are terminated. */
struct jwt_claims {
    char sub[JWT_MAX_SUB + 1];
    char jti[JWT_MAX_JTI + 1]; /* "" = none: such a token cannot be revoked singly */
    char uid[37];              /* users.id, "" = not said */
    bool admin;                /* role is "admin"; without a role, "user" */
    int64_t iat_us, exp_us;    /* wall clock, microseconds since 1970; iat_us 0 = not said */
};

/* Is this meant to be a token: three parts with dots between? Says nothing about its worth. */
bool jwt_looks_like(struct slice token);

/*
 * Verifies the signature and reads the claims; what is not in ASCII or too long for the struct is
 * unpacked in `scratch`. GW_EUNAUTH for all that is wrong with it; GW_ETOKENEXPIRED when only its
 * time has passed (exp + leeway <= wall_us; `ret` is then filled in too); GW_ENOMEM.
 *
 * exp and sub are required; nbf and iat may not lie further in the future than the leeway.
 */
enum gw_err jwt_verify(struct arena *scratch, const struct jwt_secrets *secrets, struct slice token,
                       uint64_t wall_us, unsigned leeway_s, struct jwt_claims *ret) MUST_CHECK;

/* The first half of jwt_verify(): header and signature. The payload's bytes go to `scratch`. */
enum gw_err jwt_open(struct arena *scratch, const struct jwt_secrets *secrets, struct slice token,
                     struct slice *ret_payload) MUST_CHECK;

/* A token with these claims, signed with secrets->current, in `scratch` (terminated). iat is
 * written in full microseconds, so that "issued before" is exact. GW_EUNAVAIL without a secret,
 * GW_EINTERNAL for claims that jwt_verify() would refuse, GW_ENOMEM. */
enum gw_err jwt_issue(struct arena *scratch, const struct jwt_secrets *secrets,
                      const struct jwt_claims *claims, struct slice *ret_token) MUST_CHECK;

/* May this be the `sub` of a token (and so a user's name): 1..64 bytes of UTF-8 without control
 * characters? */
bool jwt_sub_valid(struct slice sub);

/* Forgets the keyed contexts. */
void jwt_deinit(void);
