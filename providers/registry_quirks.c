/*
 * registry_quirks.c - the words that tell a dialect how a model differs from its family, also for
 * models nobody has listed.
 *
 * A name that is not listed has the quirks of whichever is longest: the listed model of the same
 * provider that its name begins with (claude-sonnet-4-5-20250929 of claude-sonnet-4-5), or a prefix
 * of the provider's `unlisted` table.
 */
#include "providers/registry_private.h"

/* The words dialect.h explains. */
static const char *const known[] = {
    "native_schema",  "adaptive_thinking", "no_sampling",        "json_schema_params",
    "thinking_level", "thinking_minimal",  "thought_signatures", "always_thinks",
};

static bool is_known(struct slice word)
{
    size_t k;

    for (k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
        if (slice_is(word, known[k]))
            return true;
    }
    return false;
}

static unsigned count(const struct yaml *y)
{
    unsigned n = 0;

    for (; y; y = y->next)
        n++;
    return n;
}

bool registry_read_quirks(struct arena *a, const struct yaml *y, struct registry_quirks *ret,
                          struct problems *ps)
{
    const struct yaml *i = yaml_items(y, YAML_SEQ, true, ps);
    struct slice *words = i ? arena_array(a, struct slice, count(i)) : NULL;

    *ret = (struct registry_quirks){.words = words};
    if (i && !words)
        return false;
    for (; i; i = i->next) {
        struct slice word = SLICE_NONE;

        if (!yaml_read_str(i, &word, ps))
            continue;
        if (is_known(word))
            words[ret->n++] = word;
        else
            problems_add(ps, i->file, i->line, "unknown quirk \"%.60s\"", word.p);
    }
    return true;
}

bool registry_read_unlisted(struct arena *a, const struct yaml *y, struct registry_provider *p,
                            struct problems *ps)
{
    const struct yaml *i = yaml_items(y, YAML_MAP, true, ps);
    struct registry_unlisted *rows = i ? arena_array(a, struct registry_unlisted, count(i)) : NULL;

    if (i && !rows)
        return false;
    p->unlisted = rows;
    for (; i; i = i->next) {
        struct registry_unlisted *row = &rows[p->n_unlisted++];

        row->prefix = i->key;
        yaml_get(y, i->key.p); /* marks it as read */
        if (!registry_read_quirks(a, i, &row->quirks, ps))
            return false;
    }
    return true;
}

static bool begins_with(struct slice name, struct slice prefix)
{
    return name.n >= prefix.n && memcmp(name.p, prefix.p, prefix.n) == 0;
}

struct registry_quirks registry_quirks_of(const struct registry *r,
                                          const struct registry_provider *p, struct slice name)
{
    struct registry_quirks best = {0};
    const struct registry_model *m;
    size_t longest = 0;
    unsigned i;

    for (m = r->models; m; m = m->next) {
        if (m->provider == p && m->name.n > longest && begins_with(name, m->name)) {
            best = (struct registry_quirks){m->quirks, m->n_quirks};
            longest = m->name.n;
        }
    }
    for (i = 0; i < p->n_unlisted; i++) {
        if (p->unlisted[i].prefix.n > longest && begins_with(name, p->unlisted[i].prefix)) {
            best = p->unlisted[i].quirks;
            longest = p->unlisted[i].prefix.n;
        }
    }
    return best;
}

bool registry_has_quirk(const struct registry_model *m, const char *word)
{
    unsigned i;

    for (i = 0; i < m->n_quirks; i++) {
        if (slice_is(m->quirks[i], word))
            return true;
    }
    return false;
}
