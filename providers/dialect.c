/* dialect.c - the table of dialects; see dialect.h. */
#include "providers/dialect.h"

const struct dialect *dialect_find(struct slice name)
{
    static const struct dialect *const all[] = {
        &dialect_openai,
        &dialect_anthropic,
        &dialect_google,
    };

    for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (slice_is(name, all[i]->name))
            return all[i];
    return NULL;
}
