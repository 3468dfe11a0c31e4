/* conceal.c - see conceal.h. */
#include "gateway/core/conceal.h"

#include <assert.h>

#define SHOWN 11u  /* as many as an API key's public prefix has */
#define SECRET 24u /* shorter ones are names that begin alike */
#define MARK "..."

/* Characters of keys and of tokens with their dots. */
static size_t run_length(struct slice s)
{
    size_t n = 0;

    while (n < s.n && ((s.p[n] >= '0' && s.p[n] <= '9') || (s.p[n] >= 'a' && s.p[n] <= 'z') ||
                       (s.p[n] >= 'A' && s.p[n] <= 'Z') || (s.p[n] && strchr("-_.", s.p[n]))))
        n++;
    return n;
}

/* How long a secret begins here; 0 = none. */
static size_t secret_length(struct slice s)
{
    static const char *const leads[] = {"pk-", "sk-", "gsk_", "AIza", "eyJ"};
    size_t n;

    for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++) {
        if (!slice_starts(s, leads[i]))
            continue;
        n = run_length(s);
        return n >= SECRET ? n : 0;
    }
    return 0;
}

void conceal_keys(struct slice text, char *to, size_t size)
{
    char *at = to, *end = to + size;
    size_t n;

    assert(size > 0);
    while (text.n && at + 1 < end) {
        n = secret_length(text);
        if (!n) {
            *at++ = text.p[0];
            text = slice_from(text, 1);
            continue;
        }
        if ((size_t)(end - at) < SHOWN + sizeof(MARK))
            break;
        at = mempcpy(mempcpy(at, text.p, SHOWN), MARK, sizeof(MARK) - 1);
        text = slice_from(text, n);
    }
    *at = '\0';
}
