/* principal.c - see principal.h. Who makes one fills it in; its lists are one block each. */
#include "storage/principal.h"

#include <stdlib.h>

const struct principal *principal_ref(const struct principal *p)
{
    struct principal *counted = (struct principal *)p;

    if (counted && counted->kind != PRINCIPAL_MASTER)
        counted->refs++;
    return p;
}

const struct principal *principal_unref(const struct principal *p)
{
    struct principal *counted = (struct principal *)p;

    if (!counted || counted->kind == PRINCIPAL_MASTER || --counted->refs > 0)
        return NULL;
    free(counted->models);
    free(counted->team_models);
    free(counted);
    return NULL;
}

static bool matches(struct slice pattern, struct slice name)
{
    if (pattern.n && pattern.p[pattern.n - 1] == '*')
        return name.n >= pattern.n - 1 && memcmp(name.p, pattern.p, pattern.n - 1) == 0;
    return slice_eq(pattern, name);
}

/* An empty list allows all. */
static bool lists(const struct slice *patterns, unsigned n, struct slice asked, struct slice id)
{
    for (unsigned i = 0; i < n; i++)
        if (matches(patterns[i], id) || slice_eq(patterns[i], asked))
            return true;
    return n == 0;
}

bool principal_allows_model(const struct principal *p, struct slice asked, struct slice id)
{
    return lists(p->models, p->n_models, asked, id) &&
           lists(p->team_models, p->n_team_models, asked, id);
}

bool principal_has_scope(const struct principal *p, unsigned scope)
{
    return p->scopes == 0 || (p->scopes & scope) != 0;
}
