/*
 * detect_seek.h - the fast part of detect.c's pass: the places of a text at which a rule may find
 * something, many bytes at a time.
 *
 * A place is a byte of punctuation that triggers a rule, or the beginning of a word whose first
 * three bytes are of one set. A set tells for each half of a byte whether it may stand at the
 * first, second and third place: so a set of several words also holds mixtures of them, which the
 * rule then sorts out. There are eight sets, one to a bit.
 *
 * detect_seek_avx2.c does it where the processor can (x86-64 with AVX2); detect_seek_none.c is for
 * other machines, where detect.c looks at each byte by itself.
 */
#pragma once

#include "gateway/core/slice.h"

#include <stdint.h>

#define DETECT_SEEK_BLOCK 32u
#define DETECT_SEEK_WORD 3u /* bytes of a word that are known here */

/* By half of a byte: the sets. Twice, since the instructions look them up in two lanes. */
struct detect_seek {
    _Alignas(32) uint8_t low[DETECT_SEEK_WORD][32];
    _Alignas(32) uint8_t high[DETECT_SEEK_WORD][32];
};

/* Adds to a set (0 ... 7) what begins with the first two letters of `word`, in lower or upper case,
 * and goes on with one of `third`. */
void detect_seek_learn(struct detect_seek *s, unsigned set, const char *word, const char *third);

/* Can this machine do it? */
bool detect_seek_usable(void);

/* Bit k of found[i] says whether place from + i * DETECT_SEEK_BLOCK + k is one, for n blocks; the
 * last one may reach beyond the text. */
void detect_seek_blocks(const struct detect_seek *s, struct slice text, size_t from, size_t n,
                        uint32_t *found);
