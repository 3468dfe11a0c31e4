/* detect_seek_none.c - see detect_seek.h: for machines that have nothing to do it with. */
#include "gateway/core/detect_seek.h"

void detect_seek_learn(struct detect_seek *s, unsigned set, const char *word, const char *third)
{
}

bool detect_seek_usable(void)
{
    return false;
}

void detect_seek_blocks(const struct detect_seek *s, struct slice text, size_t from, size_t n,
                        uint32_t *found)
{
    memset(found, 0xff, n * sizeof(*found)); /* as good an answer as any: look everywhere */
}
