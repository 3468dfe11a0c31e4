/* reload.c - see reload.h. */
#include "gateway/core/reload.h"

#include <stddef.h>

static LIST_HEAD(, reload_wait) waiting = LIST_HEAD_INITIALIZER(waiting);
static void (*provider_ask)(void);

void reload_provide(void (*ask)(void))
{
    provider_ask = ask;
}

bool reload_ask(struct reload_wait *w)
{
    if (!provider_ask)
        return false;
    w->asked = true;
    w->begun = false;
    LIST_INSERT_HEAD(&waiting, w, link);
    provider_ask();
    return true;
}

void reload_forget(struct reload_wait *w)
{
    if (!w->asked)
        return;
    w->asked = false;
    LIST_REMOVE(w, link);
}

void reload_begun(void)
{
    struct reload_wait *w;

    LIST_FOREACH (w, &waiting, link)
        w->begun = true;
}

/* One of those the reading was for; `done` may ask again, or forget others. */
static struct reload_wait *next_of_this_reading(void)
{
    struct reload_wait *w;

    LIST_FOREACH (w, &waiting, link) {
        if (w->begun)
            return w;
    }
    return NULL;
}

void reload_ended(const struct reload_result *r)
{
    struct reload_wait *w;

    while ((w = next_of_this_reading())) {
        reload_forget(w);
        w->done(r, w->arg);
    }
}
