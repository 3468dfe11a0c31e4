/*
 * keytext.h - what is presented as an API key: its form, and the hash it is looked up by. Keys are
 * made and listed in apikeys.h.
 *
 * One thread: the hash context is kept between calls, since fetching the algorithm costs more than
 * hashing a key.
 */
#pragma once

#include "gateway/core/slice.h"

#define KEYTEXT_SHA_BYTES 32u

/* Could this be a key (`pk-` and 32 bytes in base64url)? Garbage is told apart without asking
 * anybody. */
bool keytext_is_key(struct slice text);

/* SHA-256 of any bytes. False out of memory. */
bool keytext_sha256(struct slice bytes, unsigned char ret[KEYTEXT_SHA_BYTES]);

/* Forgets the hash context. */
void keytext_deinit(void);
