/* uuid.h - UUIDs as text (RFC 9562): 8-4-4-4-12 digits, in lower case. rng.h makes them. */
#pragma once

#include "gateway/core/hex.h"
#include "gateway/core/slice.h"

#define UUID_BYTES 16u
#define UUID_TEXT 37u /* 36 characters and a NUL */

static inline void uuid_write(char to[UUID_TEXT], const unsigned char id[UUID_BYTES])
{
    for (unsigned i = 0; i < UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        to = hex_write(to, id + i, 1);
    }
    *to = '\0';
}

/* Is it one as uuid_write() and Postgres write them? */
static inline bool uuid_is(struct slice s)
{
    if (s.n != UUID_TEXT - 1)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? s.p[i] != '-' : !hex_is_lower(s.p[i]))
            return false;
    }
    return true;
}
