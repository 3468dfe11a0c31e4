/*
 * json_scan.h - finds the first byte of a JSON string that needs a look, 16 bytes at a time.
 * For json.c and json_write.c alone.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define JSON_SCAN_ONES 0x0101010101010101ull
#define JSON_SCAN_HIGH 0x8080808080808080ull

/* Non-zero when one of the eight bytes is a quote, a backslash or a control character. Bytes from
 * 0x80 up may be reported too when `high` is JSON_SCAN_HIGH; they never are when it is 0. */
static inline uint64_t json_scan_word(uint64_t w, uint64_t high)
{
    uint64_t quote = w ^ (JSON_SCAN_ONES * '"'), slash = w ^ (JSON_SCAN_ONES * '\\');
    uint64_t hit = (w - JSON_SCAN_ONES * 0x20) & ~w;

    hit |= (quote - JSON_SCAN_ONES) & ~quote;
    hit |= (slash - JSON_SCAN_ONES) & ~slash;
    return ((hit | w) & high) | (hit & JSON_SCAN_HIGH);
}

/*
 * The first byte in [p, end) that is a quote, a backslash, a control character below 0x20 or, when
 * `stop_at_high`, not ASCII; `end` when there is none.
 */
static inline const char *json_scan(const char *p, const char *end, int stop_at_high)
{
#ifdef __SSE2__
    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')),
                                   _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
        int mask;

        hit = _mm_or_si128(
            hit, _mm_cmpeq_epi8(_mm_subs_epu8(x, _mm_set1_epi8(0x1f)), _mm_setzero_si128()));
        if (stop_at_high)
            hit = _mm_or_si128(hit, x);
        mask = _mm_movemask_epi8(hit);
        if (mask)
            return p + __builtin_ctz((unsigned)mask);
        p += 16;
    }
#endif
    while (end - p >= 8) {
        uint64_t w;

        memcpy(&w, p, 8);
        if (json_scan_word(w, stop_at_high ? JSON_SCAN_HIGH : 0))
            break;
        p += 8;
    }
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;

        if (c < 0x20 || c == '"' || c == '\\' || (stop_at_high && c >= 0x80))
            break;
    }
    return p;
}
