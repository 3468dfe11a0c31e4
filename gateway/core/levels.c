/*
 * levels.c - see levels.h.
 *
 * A ring of the last changes. A writer takes the next number and publishes its entry by storing
 * that number in it; a reader skips entries that are not published or have been overwritten.
 */
#include "gateway/core/levels.h"

#include "gateway/core/log.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#define ROOM 32u

struct change {
    _Atomic uint64_t number; /* from 1; 0 while it is being written */
    enum log_level level;
    char component[LEVELS_COMPONENT_BYTES];
};

struct shared {
    _Atomic uint64_t last; /* number of the newest change */
    _Atomic uint64_t over; /* changes up to this one are over */
    struct change ring[ROOM];
};

static struct shared *shared;
static uint64_t seen; /* this process has applied what came up to here */

enum gw_err levels_init(void)
{
    void *p =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return GW_ENOMEM;
    shared = p;
    seen = 0;
    return GW_OK;
}

void levels_deinit(void)
{
    if (shared)
        munmap(shared, sizeof(*shared));
    shared = NULL;
}

bool levels_change(struct slice component, enum log_level level)
{
    struct change *c;
    uint64_t number;

    if (!shared || component.n >= LEVELS_COMPONENT_BYTES)
        return false;
    number = atomic_fetch_add(&shared->last, 1) + 1;
    c = &shared->ring[number % ROOM];
    atomic_store(&c->number, 0);
    c->level = level;
    if (component.n)
        memcpy(c->component, component.p, component.n);
    c->component[component.n] = '\0';
    atomic_store(&c->number, number);
    return true;
}

static void apply_one(uint64_t number)
{
    const struct change *c = &shared->ring[number % ROOM];
    struct change copy;

    if (atomic_load(&c->number) != number)
        return;
    copy.level = c->level;
    memcpy(copy.component, c->component, sizeof(copy.component));
    if (atomic_load(&c->number) == number)
        log_set_level(copy.component[0] ? copy.component : NULL, copy.level);
}

void levels_apply(void)
{
    uint64_t last, over;

    if (!shared)
        return;
    last = atomic_load(&shared->last);
    over = atomic_load(&shared->over);
    if (seen < over)
        seen = over;
    while (seen < last)
        apply_one(++seen);
}

void levels_forget(void)
{
    if (!shared)
        return;
    seen = atomic_load(&shared->last);
    atomic_store(&shared->over, seen);
}
