/* base64url.c - see base64url.h. */
#include "gateway/core/base64url.h"

#include <stdint.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Value of each character + 1; 0 = not of the alphabet. */
#define RUN8(c, v)                                                                                 \
    [c] = (v) + 1, [(c) + 1] = (v) + 2, [(c) + 2] = (v) + 3, [(c) + 3] = (v) + 4,                  \
    [(c) + 4] = (v) + 5, [(c) + 5] = (v) + 6, [(c) + 6] = (v) + 7, [(c) + 7] = (v) + 8
#define RUN26(c, v)                                                                                \
    RUN8(c, v), RUN8((c) + 8, (v) + 8), RUN8((c) + 16, (v) + 16), [(c) + 24] = (v) + 25,           \
                                                                         [(c) + 25] = (v) + 26
static const uint8_t values[256] = {
    RUN26('A', 0), RUN26('a', 26), RUN8('0', 52), ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64};

size_t base64url_encode(char *to, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    char *at = to;

    for (; n >= 3; n -= 3, p += 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        *at++ = digits[v >> 6 & 63];
        *at++ = digits[v & 63];
    }
    if (n) {
        uint32_t v = (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0);

        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        if (n == 2)
            *at++ = digits[v >> 6 & 63];
    }
    return (size_t)(at - to);
}

bool base64url_decode(void *to, size_t size, struct slice text, size_t *ret_n)
{
    uint8_t *at = to;
    uint32_t bits = 0;
    unsigned held = 0; /* bits of `bits` that are not written yet */

    if (text.n % 4 == 1 || text.n / 4 * 3 + (text.n % 4 ? text.n % 4 - 1 : 0) > size)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        unsigned v = values[(unsigned char)text.p[i]];

        if (v == 0)
            return false;
        bits = bits << 6 | (v - 1);
        held += 6;
        if (held >= 8) {
            held -= 8;
            *at++ = (uint8_t)(bits >> held);
        }
    }
    if (bits & ((1u << held) - 1))
        return false;
    *ret_n = (size_t)(at - (uint8_t *)to);
    return true;
}

bool base64url_is_text(struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (values[(unsigned char)text.p[i]] == 0)
            return false;
    return true;
}
