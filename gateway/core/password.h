/*
 * password.h - passwords, hashed with scrypt (RFC 7914) in the offload pool: a hash takes some tens
 * of milliseconds and 32 MiB, which the loop must not feel.
 *
 * The stored text is $scrypt$ln=15,r=8,p=1$<salt>$<hash>, salt and hash in base64url: the
 * parameters travel along, so they can grow (OWASP Password Storage Cheat Sheet: N = 2^15, r = 8, p
 * = 3 or more memory; p = 1 with a lock after a few failures is what a small machine bears).
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define PASSWORD_MIN 8u
#define PASSWORD_MAX 1024u
#define PASSWORD_STORED_MAX 160u

/* done(GW_OK, stored text) or GW_ENOMEM. The password is copied, and wiped afterwards. NULL when
 * the pool is full or memory out. */
struct op *password_hash(struct slice password,
                         void (*done)(enum gw_err err, struct slice stored, void *arg), void *arg);

/* done(GW_OK) when the password is the stored one, GW_EUNAUTH when not. An empty `stored` (no such
 * user) costs the same time and is never right. GW_EINTERNAL when the stored text is none of ours.
 */
struct op *password_verify(struct slice password, struct slice stored,
                           void (*done)(enum gw_err err, void *arg), void *arg);

/* The same, here and now: for the command line and tests. */
enum gw_err password_hash_now(struct slice password,
                              char ret_stored[PASSWORD_STORED_MAX]) MUST_CHECK;
enum gw_err password_verify_now(struct slice password, struct slice stored) MUST_CHECK;
