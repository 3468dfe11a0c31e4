/*
 * slowest.c - see slowest.h.
 *
 * A worker writes its own places only, and any reads all of them. A place has a version that is odd
 * while it is being written; a reader leaves out what was written while it copied. A worker that
 * dies in between leaves an odd version, which the next one to write there makes even again.
 */
#include "gateway/middleware/slowest.h"

#include "gateway/core/loop.h"
#include "gateway/http/router.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct place {
    _Atomic uint32_t version;
    struct slow_request r;
};

struct worker_places {
    struct place place[SLOWEST_ROOM];
};

static struct worker_places own;                       /* until there is shared memory */
static struct worker_places *all = &own, *mine = &own; /* of all workers; of this one */
static unsigned n_workers = 1;

enum gw_err slowest_init(unsigned n)
{
    void *p =
        mmap(NULL, n * sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return GW_ENOMEM;
    all = mine = p;
    n_workers = n;
    return GW_OK;
}

void slowest_attach(unsigned worker)
{
    assert(worker < n_workers);
    mine = &all[worker];
}

void slowest_deinit(void)
{
    if (all != &own)
        munmap(all, n_workers * sizeof(*all));
    all = mine = &own;
    n_workers = 1;
    memset(&own, 0, sizeof(own));
}

static bool is_old(const struct slow_request *s, uint64_t now)
{
    return !s->took_us || now - s->ended_us > SLOWEST_HOLD_US;
}

/* --- keeping ---------------------------------------------------------------------------------- */

/* Where the new one goes: a free or old place, else the fastest's. */
static struct place *place_for_new(uint64_t now)
{
    struct place *best = &mine->place[0];

    for (unsigned i = 0; i < SLOWEST_ROOM; i++) {
        struct place *p = &mine->place[i];

        if (is_old(&p->r, now))
            return p;
        if (p->r.took_us < best->r.took_us)
            best = p;
    }
    return best;
}

static void write_place(struct place *p, const struct slow_request *r)
{
    uint32_t odd = atomic_load_explicit(&p->version, memory_order_relaxed) | 1;

    atomic_store_explicit(&p->version, odd, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    p->r = *r;
    atomic_store_explicit(&p->version, odd + 1, memory_order_release);
}

/* Cut to what there is room for; `to` is all zeros. */
static void copy_text(char *to, size_t room, struct slice text)
{
    if (text.n)
        memcpy(to, text.p, text.n < room ? text.n : room - 1);
}

void slowest_hook(struct request *req)
{
    uint64_t now = loop_clock_us(), took = now - req->started_us;
    struct place *p = place_for_new(now);
    struct slow_request r;

    if (!took || (!is_old(&p->r, now) && p->r.took_us >= took))
        return;
    r = (struct slow_request){
        .ended_us = now,
        .wall_us = loop_wall_us(),
        .took_us = took,
        .upstream_us = req->upstream_us,
        .method = req->method,
        .status = req->status,
    };
    copy_text(r.endpoint, sizeof(r.endpoint),
              slice_cstr(req->route ? req->route->path : "unmatched"));
    copy_text(r.id, sizeof(r.id), req->id);
    write_place(p, &r);
}

/* --- listing ---------------------------------------------------------------------------------- */

/* False when it was written just now. */
static bool read_place(const struct place *p, struct slow_request *ret)
{
    uint32_t version = atomic_load_explicit(&p->version, memory_order_acquire);

    if (version & 1)
        return false;
    *ret = p->r;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&p->version, memory_order_relaxed) == version;
}

static int by_time(const void *a, const void *b)
{
    const struct slow_request *x = a, *y = b;

    return (x->took_us < y->took_us) - (x->took_us > y->took_us);
}

/* Adds one, in the place of the fastest when there is no other. */
static unsigned add(struct slow_request *out, unsigned n, const struct slow_request *r)
{
    struct slow_request *fastest = out;

    if (n < SLOWEST_ROOM) {
        out[n] = *r;
        return n + 1;
    }
    for (unsigned i = 1; i < n; i++)
        if (out[i].took_us < fastest->took_us)
            fastest = &out[i];
    if (fastest->took_us < r->took_us)
        *fastest = *r;
    return n;
}

unsigned slowest_list(struct slow_request *out)
{
    uint64_t now = loop_clock_us();
    struct slow_request r;
    unsigned n = 0;

    for (unsigned w = 0; w < n_workers; w++)
        for (unsigned i = 0; i < SLOWEST_ROOM; i++)
            if (read_place(&all[w].place[i], &r) && !is_old(&r, now))
                n = add(out, n, &r);
    qsort(out, n, sizeof(*out), by_time);
    return n;
}
