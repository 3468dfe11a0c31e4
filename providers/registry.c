/*
 * registry.c - finding models and pricing what they did (registry.h). registry_load.c reads the
 * file.
 */
#include "providers/registry_private.h"

#include "providers/convo.h"

#include <stdlib.h>

#define CAN_ALL                                                                                    \
    (REGISTRY_CAN_VISION | REGISTRY_CAN_PDF | REGISTRY_CAN_TOOLS | REGISTRY_CAN_SCHEMA |           \
     REGISTRY_CAN_REASONING | REGISTRY_CAN_AUDIO | REGISTRY_CAN_EMBED)
#define NAME_MAX_BYTES 256u
#define PICO_PER_NANO 1000

/* --- names ------------------------------------------------------------------------------------ */

static int compare(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;

    if (order == 0 && a.n != b.n)
        order = a.n < b.n ? -1 : 1;
    return order;
}

static int by_name(const void *a, const void *b)
{
    const struct registry_entry *x = a, *y = b;
    int order = compare(x->name, y->name);

    if (order == 0 && x->line != y->line)
        order = x->line < y->line ? -1 : 1;
    return order;
}

void registry_sort(struct registry_names *names)
{
    if (names->n)
        qsort(names->items, names->n, sizeof(*names->items), by_name);
}

unsigned registry_find(const struct registry_names *names, struct slice name)
{
    unsigned low = 0, high = names->n;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (compare(names->items[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < names->n && slice_eq(names->items[low].name, name) ? low : names->n;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           memchr("-._:/@+~=,", c, 10) != NULL;
}

bool registry_name_ok(struct slice name)
{
    size_t i;

    if (name.n == 0 || name.n > NAME_MAX_BYTES || name.p[0] == '/' || name.p[name.n - 1] == '/')
        return false;
    for (i = 0; i < name.n; i++) {
        if (!is_name_char(name.p[i]))
            return false;
        if (i > 0 && name.p[i] == name.p[i - 1] && (name.p[i] == '.' || name.p[i] == '/'))
            return false;
    }
    return true;
}

/* --- models ----------------------------------------------------------------------------------- */

const struct registry_provider *registry_provider(const struct registry *r, struct slice name)
{
    const struct registry_provider *p = r->providers;

    while (p && !slice_is(name, p->name))
        p = p->next;
    return p;
}

const struct registry_model *registry_made_up(const struct registry *r, struct arena *a,
                                              const struct registry_provider *p, struct slice name)
{
    struct registry_model *m = arena_new(a, struct registry_model);
    struct registry_quirks q;

    if (!m)
        return NULL;
    m->id = arena_printf(a, "%s/%.*s", p->name, SLICE_ARG(name));
    if (!m->id.p)
        return NULL;
    m->name = slice_from(m->id, strlen(p->name) + 1);
    m->provider = p;
    q = registry_quirks_of(r, p, m->name);
    m->quirks = q.words;
    m->n_quirks = q.n;
    m->capabilities = CAN_ALL;
    m->pico_usd = (struct registry_prices){-1, -1, -1, -1};
    return m;
}

/* --- routes ----------------------------------------------------------------------------------- */

/* Makes the sentence "before NAME after"; a long name is cut, not in the middle of a character. */
static enum gw_err say(struct arena *a, struct slice *ret_why, const char *before,
                       struct slice name, const char *after)
{
    struct slice shown = slice_of(name.p, name.n < 100 ? name.n : 100);

    while (shown.n && shown.n < name.n && ((unsigned char)name.p[shown.n] & 0xc0) == 0x80)
        shown.n--;
    *ret_why = arena_printf(a, "%s%.*s%s", before, SLICE_ARG(shown), after);
    return ret_why->p ? GW_EMODEL : GW_ENOMEM;
}

static enum gw_err one_target(const struct registry_model *m, struct registry_route *ret)
{
    if (!m)
        return GW_ENOMEM;
    ret->strategy = SELECT_PRIORITY;
    ret->targets[0] = (struct registry_target){.model = m, .weight = 1};
    ret->n_targets = 1;
    return GW_OK;
}

static enum gw_err resolve_alias(const struct registry_alias *alias, struct arena *arena,
                                 struct registry_route *ret, struct slice *ret_why)
{
    unsigned i;

    *ret = (struct registry_route){.strategy = alias->strategy};
    for (i = 0; i < alias->n_targets; i++) {
        if (alias->targets[i].model->provider->enabled)
            ret->targets[ret->n_targets++] = alias->targets[i];
    }
    if (ret->n_targets == 0)
        return say(arena, ret_why, "no provider of the alias ", alias->name, " has its key set");
    return GW_OK;
}

/* "provider/model" of a provider that is known. */
static enum gw_err resolve_qualified(const struct registry *r, struct arena *arena,
                                     struct slice name, const struct registry_provider *p,
                                     struct registry_route *ret, struct slice *ret_why)
{
    unsigned at = registry_find(&r->index->ids, name);
    struct slice own = slice_from(name, strlen(p->name) + 1);

    if (!p->enabled)
        return say(arena, ret_why, "the provider ", slice_cstr(p->name), " has no key set");
    if (at < r->index->ids.n)
        return one_target(r->index->ids.items[at].object, ret);
    if (!p->open_models)
        return say(arena, ret_why, "the model ", name,
                   " is not listed, and its provider takes listed models only");
    if (!registry_name_ok(own)) {
        *ret_why = SLICE("a model name may hold letters, digits and -._:/@+~=, only");
        return GW_EMODEL;
    }
    return one_target(registry_made_up(r, arena, p, own), ret);
}

/* A name without a provider: the one listed model of that name which can be reached. */
static enum gw_err resolve_bare(const struct registry *r, struct arena *arena, struct slice name,
                                struct registry_route *ret, struct slice *ret_why)
{
    const struct registry_names *names = &r->index->bare;
    const struct registry_model *found = NULL;
    unsigned i = registry_find(names, name), listed = 0;

    for (; i < names->n && slice_eq(names->items[i].name, name); i++) {
        const struct registry_model *m = names->items[i].object;

        listed++;
        if (m->provider->enabled && found)
            return say(arena, ret_why, "several providers have a model ", name,
                       "; name it as provider/model");
        if (m->provider->enabled)
            found = m;
    }
    if (found)
        return one_target(found, ret);
    if (listed)
        return say(arena, ret_why, "the provider of the model ", name, " has no key set");
    return say(arena, ret_why, "there is no model or alias ", name, "; name it as provider/model");
}

enum gw_err registry_resolve(const struct registry *r, struct arena *arena, struct slice name,
                             struct registry_route *ret, struct slice *ret_why)
{
    unsigned at = registry_find(&r->index->aliases, name);
    size_t slash = slice_find(name, '/');
    const struct registry_provider *p;

    if (at < r->index->aliases.n)
        return resolve_alias(r->index->aliases.items[at].object, arena, ret, ret_why);
    p = slash < name.n ? registry_provider(r, slice_of(name.p, slash)) : NULL;
    if (p)
        return resolve_qualified(r, arena, name, p, ret, ret_why);
    return resolve_bare(r, arena, name, ret, ret_why);
}

static bool has_target(const struct registry_route *route, const struct registry_model *m)
{
    unsigned i;

    for (i = 0; i < route->n_targets; i++) {
        if (slice_eq(route->targets[i].model->id, m->id))
            return true;
    }
    return false;
}

enum gw_err registry_append(const struct registry *r, struct arena *arena, struct slice name,
                            struct registry_route *route, struct slice *ret_why)
{
    struct registry_route more;
    enum gw_err err = registry_resolve(r, arena, name, &more, ret_why);
    unsigned i;

    if (err)
        return err;
    if (route->n_targets <= 1)
        route->strategy = SELECT_PRIORITY;
    for (i = 0; i < more.n_targets && route->n_targets < REGISTRY_MAX_TARGETS; i++) {
        if (!has_target(route, more.targets[i].model))
            route->targets[route->n_targets++] = more.targets[i];
    }
    return GW_OK;
}

/* --- cost ------------------------------------------------------------------------------------- */

/* Adds tokens at a price to *sum; false when the price is unknown or the sum does not fit. */
static bool add_cost(int64_t *sum, uint64_t tokens, int64_t pico_per_token)
{
    int64_t part;

    if (tokens == 0)
        return true;
    return pico_per_token >= 0 && !__builtin_mul_overflow(tokens, pico_per_token, &part) &&
           !__builtin_add_overflow(*sum, part, sum);
}

int64_t registry_cost(const struct registry_model *m, const struct convo_usage *u)
{
    const struct registry_prices *p = &m->pico_usd;
    uint64_t rest = u->input > u->cache_read ? u->input - u->cache_read : 0;
    int64_t pico = 0;

    rest = rest > u->cache_write ? rest - u->cache_write : 0;
    if (!u->known || !add_cost(&pico, rest, p->input) ||
        !add_cost(&pico, u->cache_read, p->cache_read) ||
        !add_cost(&pico, u->cache_write, p->cache_write) || !add_cost(&pico, u->output, p->output))
        return -1;
    return pico / PICO_PER_NANO + (pico % PICO_PER_NANO >= PICO_PER_NANO / 2);
}

bool registry_route_speaks(const struct registry_route *route, const struct dialect *dialect)
{
    unsigned i;

    for (i = 0; i < route->n_targets; i++) {
        if (route->targets[i].model->provider->dialect != dialect)
            return false;
    }
    return route->n_targets > 0;
}
