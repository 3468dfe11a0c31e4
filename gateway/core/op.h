/*
 * op.h - the handle of one outstanding asynchronous operation.
 *
 * A start function takes `done, arg` last and returns a struct op *. `done` runs exactly once and
 * never inside the start call; after op_cancel() it never runs. Either way the handle is dead: the
 * owner sets its pointer to NULL first thing in `done`, op_cancel() does it for a cancelled one.
 */
#pragma once

#include <stddef.h>

struct op {
    /* Gives up the operation and frees what it holds. Called at most once, never after done. */
    void (*cancel)(struct op *op);
};

/* Cancels *op if there is one and sets it to NULL. Safe inside any callback. */
static inline void op_cancel(struct op **op)
{
    struct op *o = *op;

    *op = NULL;
    if (o)
        o->cancel(o);
}
