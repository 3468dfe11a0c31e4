/*
 * detect_private.h - what the files of the detector share; nobody else includes this.
 *
 *     detect.c        the pass over a text: where is something to be looked at?
 *     detect_rules.c  what is looked for there
 *     detect_seek.h   the pass's fast part
 */
#pragma once

#include "gateway/core/detect.h"

#include <stdint.h>

/* What a byte triggers, and what it is. */
enum trigger { PASS, LETTER, QUOTE, ANGLE, PERCENT, CHAIN, DOLLAR, BACKTICK, SLASH };

#define TRIGGER 0x0fu
#define MARK 0x20u  /* a quotation mark */
#define BLANK 0x40u /* white space */
#define WORD 0x80u  /* part of words */
extern const uint8_t detect_classes[256];

static inline unsigned detect_class(char c)
{
    return detect_classes[(unsigned char)c];
}

/* The kinds found by the rule for what stands at this place; 0 where nothing triggers one. No rule
 * looks further than DETECT_LOOK_AHEAD bytes. */
#define DETECT_LOOK_AHEAD 128u
unsigned detect_look(struct slice text, size_t at);

/* Calls fn for the beginnings of all words that trigger a rule: the first two letters, and a list
 * of what may come third. The sets are those of detect_seek.h. To be called before detect_look().
 */
void detect_each_word(void (*fn)(const char *two, const char *third, unsigned set));
