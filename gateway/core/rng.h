/*
 * rng.h - random numbers: OpenSSL's generator, drawn in pages so that an id does not cost a call.
 *
 * Good enough for ids and tokens. Each thread has its own page; a forked child discards what it
 * inherited.
 */
#pragma once

#include "gateway/core/uuid.h"

#include <stddef.h>
#include <stdint.h>

/* Fills n bytes (n <= 256). Aborts if the system has no randomness at all. */
void rng_fill(void *p, size_t n);

uint64_t rng_u64(void);

/* Writes 2 * n_bytes lower-case hex digits and no terminator; n_bytes <= 64. */
void rng_hex(char *to, size_t n_bytes);

/* A random UUID (version 4), as text and as bytes. */
void rng_uuid(char to[UUID_TEXT]);
void rng_uuid_bytes(unsigned char to[UUID_BYTES]);
