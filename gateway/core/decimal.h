/* decimal.h - numbers as digits, where printf would cost more than the rest of the work. */
#pragma once

#include <stdint.h>
#include <string.h>

#define DECIMAL_MAX 20u /* characters of any 64-bit number, its sign included */
#define DECIMAL_NANO_MAX 21u

/* Writes v in decimal, without a terminator; returns where the digits end. */
static inline char *decimal_u64(char *to, uint64_t v)
{
    char text[DECIMAL_MAX];
    size_t at = sizeof(text);

    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return (char *)mempcpy(to, text + at, sizeof(text) - at);
}

/* The same with zeros in front, `digits` characters in all; v must fit. */
static inline char *decimal_padded(char *to, uint64_t v, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; v /= 10)
        to[i] = (char)('0' + v % 10);
    return to + digits;
}

/* Billionths as a number with nine places: 1500000000 is "1.500000000". */
static inline char *decimal_nano(char *to, uint64_t nano)
{
    to = decimal_u64(to, nano / 1000000000u);
    *to++ = '.';
    return decimal_padded(to, nano % 1000000000u, 9);
}

static inline char *decimal_i64(char *to, int64_t v)
{
    if (v < 0)
        *to++ = '-';
    return decimal_u64(to, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}
