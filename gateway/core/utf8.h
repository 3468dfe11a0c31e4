/* utf8.h - what is a character of well-formed UTF-8 (RFC 3629): shortest form, no surrogates. */
#pragma once

#include <stddef.h>

/* Bytes of the character at p, of which n > 0 can be read; 0 when it is none or is cut off. */
static inline size_t utf8_length(const char *at, size_t n)
{
    const unsigned char *p = (const unsigned char *)at;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || n < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}
