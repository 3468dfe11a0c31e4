/*
 * detect.c - see detect.h: the pass over a text.
 *
 * It stops only where a rule is to look (detect_rules.c): at punctuation that means something, and
 * where a word begins as those do that are looked for. A rule never looks further than
 * DETECT_LOOK_AHEAD bytes, so the pass stays linear.
 *
 * These places are found in two ways: by looking at each byte (run_plain), or 32 at a time
 * (detect_seek.h). The second stops at more places, since it knows words by sets of their first
 * three letters; rules find nothing there, so both find the same.
 */
#include "gateway/core/detect_private.h"
#include "gateway/core/detect_seek.h"

/* What run_plain() asks of each byte, in one load: bit 0 a trigger of its own; else bit k (k > 0)
 * that a word may begin with it and go on with the letter number k. */
static uint32_t wanted[256];

static struct detect_seek seek;

static void learn_word(const char *two, const char *third, unsigned set)
{
    unsigned char first = (unsigned char)two[0];
    uint32_t second = 1u << (two[1] & 31);

    wanted[first] |= second;
    wanted[first ^ 0x20] |= second;
    detect_seek_learn(&seek, set, two, third);
}

static void learn(void)
{
    detect_each_word(learn_word);
    for (unsigned c = 0; c < 256; c++)
        if (detect_classes[c] & TRIGGER && !(detect_classes[c] & WORD))
            wanted[c] = 1;
}

/* Looks where something may be from `from` up to `to`; counts how often. */
typedef unsigned (*run_fn)(struct slice s, size_t from, size_t to, size_t *looks);

/* Branches only where a rule is to look; that is rare in prose. */
static unsigned run_plain(struct slice s, size_t from, size_t to, size_t *looks)
{
    uint32_t in_word = from && detect_class(s.p[from - 1]) & WORD;
    unsigned kinds = 0;

    for (size_t i = from; i < to; i++) {
        uint32_t want = wanted[(unsigned char)s.p[i]];
        unsigned second = i + 1 < s.n ? (unsigned char)s.p[i + 1] & 31u : 0;
        uint32_t word = want >> second & (second > 0) & ~in_word;

        in_word = detect_class(s.p[i]) >> 7;
        if ((want | word) & 1) {
            kinds |= detect_look(s, i);
            ++*looks;
        }
    }
    return kinds;
}

#define RUN_BYTES 2048u
#define RUN_BLOCKS (RUN_BYTES / DETECT_SEEK_BLOCK)

/* At most RUN_BYTES; whole blocks but at the text's end. */
static unsigned run_sought(struct slice s, size_t from, size_t to, size_t *looks)
{
    uint32_t found[RUN_BLOCKS];
    size_t n = (to - from + DETECT_SEEK_BLOCK - 1) / DETECT_SEEK_BLOCK;
    unsigned kinds = 0;

    detect_seek_blocks(&seek, s, from, n, found);
    for (size_t i = 0; i < n; i++)
        for (uint32_t m = found[i]; m; m &= m - 1) {
            kinds |= detect_look(s, from + i * DETECT_SEEK_BLOCK + (unsigned)__builtin_ctz(m));
            ++*looks;
        }
    return kinds;
}

static unsigned scan_some(run_fn run, struct slice s, size_t *pos, size_t *work)
{
    unsigned kinds = 0;

    if (!wanted['o'])
        learn();
    while (*pos < s.n && *work) {
        size_t to = s.n - *pos > RUN_BYTES ? *pos + RUN_BYTES : s.n, looks = 0, used;

        kinds |= run(s, *pos, to, &looks);
        used = to - *pos + looks * DETECT_LOOK_WORK;
        *work -= used < *work ? used : *work;
        *pos = to;
    }
    return kinds;
}

unsigned detect_some(struct slice s, size_t *pos, size_t *work)
{
    return scan_some(detect_seek_usable() ? run_sought : run_plain, s, pos, work);
}

unsigned detect_scan(struct slice s)
{
    size_t pos = 0, work = SIZE_MAX;

    return detect_some(s, &pos, &work);
}

unsigned detect_scan_plain(struct slice s)
{
    size_t pos = 0, work = SIZE_MAX;

    return scan_some(run_plain, s, &pos, &work);
}

const char *detect_name(unsigned bit)
{
    static const char *const names[DETECT_KINDS] = {
        "sql_keyword", "sql_special", "sql_union",         "sql_or", "xss_script", "xss_handler",
        "xss_url",     "shell_chain", "shell_substitution"};

    return bit < DETECT_KINDS ? names[bit] : "other";
}
