/* slowest.c - see slowest.h. */
#include "gateway/middleware/slowest.h"

#include "gateway/core/loop.h"
#include "gateway/http/router.h"

#include <stdlib.h>

static struct slow_request kept[SLOWEST_ROOM];

static bool is_old(const struct slow_request *s, uint64_t now)
{
    return !s->took_us || now - s->ended_us > SLOWEST_HOLD_US;
}

/* Where the new one goes: a free or old place, else the fastest's. */
static struct slow_request *place(uint64_t now)
{
    struct slow_request *best = &kept[0];

    for (unsigned i = 0; i < SLOWEST_ROOM; i++) {
        if (is_old(&kept[i], now))
            return &kept[i];
        if (kept[i].took_us < best->took_us)
            best = &kept[i];
    }
    return best;
}

void slowest_hook(struct request *req)
{
    uint64_t now = loop_clock_us(), took = now - req->started_us;
    struct slow_request *s = place(now);
    size_t n = req->id.n < SLOWEST_ID_BYTES ? req->id.n : SLOWEST_ID_BYTES - 1;

    if (!took || (!is_old(s, now) && s->took_us >= took))
        return;
    *s = (struct slow_request){
        .ended_us = now,
        .wall_us = loop_wall_us(),
        .took_us = took,
        .upstream_us = req->upstream_us,
        .route = req->route,
        .method = req->method,
        .status = req->status,
    };
    if (n)
        memcpy(s->id, req->id.p, n);
}

static int by_time(const void *a, const void *b)
{
    const struct slow_request *x = a, *y = b;

    return (x->took_us < y->took_us) - (x->took_us > y->took_us);
}

unsigned slowest_list(struct slow_request *out)
{
    uint64_t now = loop_clock_us();
    unsigned n = 0;

    for (unsigned i = 0; i < SLOWEST_ROOM; i++)
        if (!is_old(&kept[i], now))
            out[n++] = kept[i];
    qsort(out, n, sizeof(*out), by_time);
    return n;
}

void slowest_deinit(void)
{
    memset(kept, 0, sizeof(kept));
}
