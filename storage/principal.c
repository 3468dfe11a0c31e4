/* principal.c - see principal.h. A principal, its patterns and their text are one block of memory.
 */
#include "storage/principal.h"

#include <assert.h>
#include <stdlib.h>

static struct principal master = {
    .refs = 1,
    .kind = PRINCIPAL_MASTER,
    .admin = true,
    .subject = "master",
    .tenant = "master",
};

const struct principal *principal_master(void)
{
    return &master;
}

const struct principal *principal_ref(const struct principal *p)
{
    if (p && p->kind != PRINCIPAL_MASTER)
        ((struct principal *)p)->refs++;
    return p;
}

const struct principal *principal_unref(const struct principal *p)
{
    struct principal *own = (struct principal *)p;

    if (!p || p->kind == PRINCIPAL_MASTER)
        return NULL;
    assert(own->refs > 0);
    if (--own->refs == 0)
        free(own);
    return NULL;
}

/* --- making one ----------------------------------------------------------------------------- */

static unsigned count_lines(struct slice text)
{
    unsigned n = text.n > 0;

    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n;
}

/* Splits the text, copied to *text, into `to`. */
static void take_lines(struct slice *to, char **text, struct slice from)
{
    struct slice rest = slice_of(*text, from.n);

    if (from.n == 0)
        return;
    memcpy(*text, from.p, from.n);
    *text += from.n;
    for (;; to++) {
        size_t end = slice_find(rest, '\n');

        *to = slice_of(rest.p, end);
        if (end == rest.n)
            return;
        rest = slice_of(rest.p + end + 1, rest.n - end - 1);
    }
}

const struct principal *principal_new(const struct principal *fields, struct slice models,
                                      struct slice team_models)
{
    unsigned n = count_lines(models), n_team = count_lines(team_models);
    size_t slices = (size_t)(n + n_team) * sizeof(struct slice);
    struct principal *p = malloc(sizeof(*p) + slices + models.n + team_models.n);
    char *text = (char *)p + sizeof(*p) + slices;

    if (!p)
        return NULL;
    *p = *fields;
    p->refs = 1;
    p->models = (struct slice *)(p + 1);
    p->n_models = n;
    p->team_models = p->models + n;
    p->n_team_models = n_team;
    take_lines(p->models, &text, models);
    take_lines(p->team_models, &text, team_models);
    return p;
}

/* --- what it may do --------------------------------------------------------------------------- */

static bool begins(struct slice name, struct slice with)
{
    return name.n >= with.n && memcmp(name.p, with.p, with.n) == 0;
}

static bool matches(struct slice pattern, struct slice asked, struct slice id)
{
    struct slice stem = slice_of(pattern.p, pattern.n ? pattern.n - 1 : 0);

    if (pattern.n == 0)
        return false;
    if (pattern.p[pattern.n - 1] != '*')
        return slice_eq(pattern, id) || slice_eq(pattern, asked);
    if (stem.n == 0 || (id.n && begins(id, stem)))
        return true;
    /* an alias may be called what it likes: it must not pass for a provider's model */
    return asked.n && slice_find(asked, '/') == asked.n && begins(asked, stem);
}

static bool any_matches(const struct slice *patterns, unsigned n, struct slice asked,
                        struct slice id)
{
    for (unsigned i = 0; i < n; i++)
        if (matches(patterns[i], asked, id))
            return true;
    return n == 0;
}

bool principal_allows_model(const struct principal *p, struct slice asked, struct slice id)
{
    return any_matches(p->models, p->n_models, asked, id) &&
           any_matches(p->team_models, p->n_team_models, asked, id);
}

bool principal_has_scope(const struct principal *p, unsigned scope)
{
    return p->scopes == 0 || (p->scopes & scope) != 0;
}

unsigned principal_scope_bit(struct slice name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"chat", SCOPE_CHAT},
                 {"embeddings", SCOPE_EMBEDDINGS},
                 {"read", SCOPE_READ},
                 {"write", SCOPE_WRITE},
                 {"admin", SCOPE_ADMIN}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_is(name, names[i].name))
            return names[i].bit;
    return SCOPE_UNHEARD;
}
