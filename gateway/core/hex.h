/* hex.h - bytes as hexadecimal digits: written in lower case, read in either. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Writes two digits for each of n bytes, without a terminator; returns where they end. */
static inline char *hex_write(char *to, const void *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++) {
        *to++ = digits[p[i] >> 4];
        *to++ = digits[p[i] & 15];
    }
    return to;
}

/* One of the digits that hex_write() writes? */
static inline bool hex_is_lower(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* What a digit stands for; -1 when it is none. */
static inline int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the two digits at p stand for; -1 when they are not both digits. */
static inline int hex_pair(const char *p)
{
    int high = hex_value(p[0]), low = hex_value(p[1]);

    return high < 0 || low < 0 ? -1 : high * 16 + low;
}
