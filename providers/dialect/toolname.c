/* toolname.c - see toolname.h. */
#include "providers/dialect/toolname.h"

#include "gateway/core/hex.h"

#include <openssl/sha.h>

#define HASH_DIGITS 8u

struct renamed {
    struct renamed *next;
    struct slice safe, original;
};

struct toolname_map {
    struct renamed *first;
};

static bool is_letter(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
}

static bool char_ok(char ch, bool first, enum toolname_rule rule)
{
    if (is_letter(ch) || ch == '_')
        return true;
    if (first && rule == TOOLNAME_LETTER_FIRST)
        return false;
    return ch == '-' || (ch >= '0' && ch <= '9');
}

static bool name_ok(struct slice name, enum toolname_rule rule)
{
    if (name.n == 0 || name.n > TOOLNAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!char_ok(name.p[i], i == 0, rule))
            return false;
    return true;
}

struct slice toolname_safe(struct arena *a, struct slice name, enum toolname_rule rule)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    size_t keep = TOOLNAME_MAX - 1 - HASH_DIGITS, n = 0;
    char *p;

    if (name_ok(name, rule))
        return name;
    if (keep > name.n)
        keep = name.n;
    p = arena_bytes(a, keep + 1 + HASH_DIGITS);
    if (!p)
        return SLICE_NONE;
    for (; n < keep; n++)
        p[n] = char_ok(name.p[n], n == 0, rule) ? name.p[n] : '_';
    SHA256((const unsigned char *)(name.p ? name.p : ""), name.n, hash);
    p[n++] = '_';
    hex_write(p + n, hash, HASH_DIGITS / 2);
    return slice_of(p, n + HASH_DIGITS);
}

struct toolname_map *toolname_map_new(struct arena *a, const struct convo *c,
                                      enum toolname_rule rule)
{
    struct toolname_map *map = arena_new(a, struct toolname_map);

    if (!map || !c)
        return map;
    for (const struct convo_tool *t = c->tools; t; t = t->next) {
        struct renamed *r;

        if (name_ok(t->name, rule))
            continue;
        r = arena_new(a, struct renamed);
        if (!r)
            return NULL;
        r->original = t->name;
        r->safe = toolname_safe(a, t->name, rule);
        if (!r->safe.p)
            return NULL;
        r->next = map->first;
        map->first = r;
    }
    return map;
}

struct slice toolname_restore(const struct toolname_map *map, struct slice name)
{
    for (const struct renamed *r = map->first; r; r = r->next)
        if (slice_eq(r->safe, name))
            return r->original;
    return name;
}
