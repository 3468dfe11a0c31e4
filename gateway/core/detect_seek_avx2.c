/*
 * detect_seek_avx2.c - see detect_seek.h: 32 bytes at a time, with byte shuffles as table look-ups
 * by half a byte (the way Hyperscan's "Teddy" finds literals).
 */
#include "gateway/core/detect_seek.h"

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE AVX2 __attribute__((always_inline)) static inline

#define TRIGGERS 0x0f /* bits of the class: punctuation that triggers a rule */
#define WORDS 0xf0    /* letters, digits and the underscore */

/* Bit 0: " $ % & ' /    bit 1: ; <    bit 2: `    bit 3: |
 * Bit 4: 0-9    bits 5 and 6: the two halves of the alphabet    bit 7: _ */
/* clang-format off */
#define CLASS_LOW                                                                                  \
    4 | 16 | 64, 16 | 32 | 64, 1 | 16 | 32 | 64, 16 | 32 | 64, 1 | 16 | 32 | 64, 1 | 16 | 32 | 64, \
    1 | 16 | 32 | 64, 1 | 16 | 32 | 64, 16 | 32 | 64, 16 | 32 | 64, 32 | 64, 2 | 32, 2 | 8 | 32,   \
    32, 32, 1 | 32 | 128
#define CLASS_HIGH 0, 0, 1, 2 | 16, 32, 64 | 128, 4 | 32, 8 | 64, 0, 0, 0, 0, 0, 0, 0, 0
/* clang-format on */

static _Alignas(32) const uint8_t class_low[32] = {CLASS_LOW, CLASS_LOW};
static _Alignas(32) const uint8_t class_high[32] = {CLASS_HIGH, CLASS_HIGH};

static void learn_byte(struct detect_seek *s, unsigned set, unsigned place, char c)
{
    for (unsigned lane = 0; lane < 32; lane += 16) {
        s->low[place][lane + (c & 15)] |= (uint8_t)(1u << set);
        s->high[place][lane + ((unsigned char)c >> 4)] |= (uint8_t)(1u << set);
    }
}

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

void detect_seek_learn(struct detect_seek *s, unsigned set, const char *word, const char *third)
{
    learn_byte(s, set, 0, word[0]);
    learn_byte(s, set, 0, word[0] ^ 0x20);
    learn_byte(s, set, 1, word[1]);
    if (is_letter(word[1]))
        learn_byte(s, set, 1, word[1] ^ 0x20);
    for (; *third; third++) {
        learn_byte(s, set, 2, *third);
        if (is_letter(*third))
            learn_byte(s, set, 2, *third ^ 0x20);
    }
}

bool detect_seek_usable(void)
{
    return __builtin_cpu_supports("avx2");
}

AVX2_INLINE __m256i bytes_at(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* For each byte what both of its halves have in common. */
AVX2_INLINE __m256i look_up(__m256i bytes, const uint8_t low[32], const uint8_t high[32])
{
    __m256i half = _mm256_set1_epi8(15);

    return _mm256_and_si256(
        _mm256_shuffle_epi8(bytes_at(low), _mm256_and_si256(bytes, half)),
        _mm256_shuffle_epi8(bytes_at(high), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), half)));
}

/* A bit for each byte that has one of these. */
AVX2_INLINE uint32_t bits_of(__m256i bytes, int which)
{
    __m256i those = _mm256_and_si256(bytes, _mm256_set1_epi8((char)which));

    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(those, _mm256_setzero_si256()));
}

#define BEYOND (DETECT_SEEK_WORD - 1) /* bytes read behind a block */

/* *in_word: does a word go on into the block, and out of it?
 */
AVX2_INLINE uint32_t block(const struct detect_seek *s, const char *p, uint32_t *in_word)
{
    __m256i here = bytes_at(p);
    __m256i class = look_up(here, class_low, class_high);
    __m256i sets = look_up(here, s->low[0], s->high[0]);
    uint32_t words = bits_of(class, WORDS);
    uint32_t inside = words << 1 | *in_word;

    sets = _mm256_and_si256(sets, look_up(bytes_at(p + 1), s->low[1], s->high[1]));
    sets = _mm256_and_si256(sets, look_up(bytes_at(p + 2), s->low[2], s->high[2]));
    *in_word = words >> 31;
    return bits_of(class, TRIGGERS) | (bits_of(sets, 0xff) & ~inside);
}

static bool is_word(char c)
{
    return class_low[c & 15] & class_high[(unsigned char)c >> 4] & WORDS;
}

AVX2 void detect_seek_blocks(const struct detect_seek *s, struct slice text, size_t from, size_t n,
                             uint32_t *found)
{
    uint32_t in_word = from && is_word(text.p[from - 1]);
    const char *p = text.p + from;
    size_t left = text.n - from;
    size_t safe = left < BEYOND ? 0 : (left - BEYOND) / DETECT_SEEK_BLOCK, i = 0;
    char last[2 * DETECT_SEEK_BLOCK + BEYOND] = {0};

    for (; i < n && i < safe; i++)
        found[i] = block(s, p + i * DETECT_SEEK_BLOCK, &in_word);
    if (i == n)
        return;
    memcpy(last, p + i * DETECT_SEEK_BLOCK, left - i * DETECT_SEEK_BLOCK);
    for (p = last; i < n; i++, p += DETECT_SEEK_BLOCK)
        found[i] = block(s, p, &in_word);
}
