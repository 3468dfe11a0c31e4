/* tap.c - see tap.h. */
#include "gateway/http/tap.h"

#include <assert.h>

void tap_add(struct request *req, struct tap *tap)
{
    assert(!req->replied && !req->finished);
    tap->next = req->taps;
    req->taps = tap;
}

void tap_head(struct request *req, int status, struct slice type, bool stream)
{
    for (struct tap *t = req->taps; t; t = t->next)
        t->on_head(req, status, type, stream, t->arg);
}

void tap_bytes(struct request *req, struct slice bytes)
{
    if (!bytes.n)
        return;
    for (struct tap *t = req->taps; t; t = t->next)
        t->on_bytes(req, bytes, t->arg);
}

void tap_end(struct request *req, bool complete)
{
    struct tap *t = req->taps, *next;

    req->taps = NULL;
    for (; t; t = next) {
        next = t->next; /* the tap may go with its owner */
        t->on_end(req, complete, t->arg);
    }
}

bool tap_outlives(const struct request *req)
{
    for (const struct tap *t = req->taps; t; t = t->next)
        if (t->outlive)
            return true;
    return false;
}
