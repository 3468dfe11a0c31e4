/*
 * budget_look.c - what is known of scopes, for those who only look.
 *
 *     look --Redis up--> ASK --sums--> SEED (scopes nobody has counted yet) --> end
 *       '--Redis away---------------------^
 *
 * The account of this process may know more than Redis (spending it could not tell it yet): the
 * larger counts.
 */
#include "storage/budget_private.h"

#include "gateway/core/loop.h"
#include "storage/pg.h"

#include <stdlib.h>

struct looking {
    struct op op; /* first member */
    struct op *inner;
    struct loop_deferred soon;
    struct budget_hold *hold; /* holds nothing: names the periods */
    struct budget_standing standing[BUDGET_MAX_SCOPES];
    unsigned scope;
    void (*done)(enum gw_err err, const struct budget_standing *s, void *arg);
    void *arg;
};

static void on_seed(int64_t spent, bool exact, void *arg);

static void looking_free(struct looking *l)
{
    loop_undefer(&l->soon);
    op_cancel(&l->inner);
    free(l->hold);
    free(l);
}

static void looking_cancel(struct op *op)
{
    looking_free((struct looking *)op);
}

static void looking_end(struct looking *l)
{
    void (*done)(enum gw_err, const struct budget_standing *, void *) = l->done;
    struct budget_standing s[BUDGET_MAX_SCOPES];
    void *arg = l->arg;
    enum gw_err err = GW_OK;

    for (unsigned i = 0; i < l->hold->n; i++) {
        s[i] = l->standing[i];
        if (s[i].spent_nano_usd < 0)
            err = GW_EUNAVAIL;
    }
    looking_free(l);
    done(err, err ? NULL : s, arg);
}

/* Scopes nobody knows of are summed up from the ledger. */
static void look_on(struct looking *l)
{
    for (; l->scope < l->hold->n; l->scope++) {
        int64_t here = budget_local_spent(l->hold, l->scope);
        int64_t *spent = &l->standing[l->scope].spent_nano_usd;

        if (here > *spent)
            *spent = here;
        if (*spent >= 0 || !pg_enabled())
            continue;
        l->inner = budget_seed(l->hold, l->scope, on_seed, l);
        if (l->inner)
            return;
    }
    looking_end(l);
}

static void on_seed(int64_t spent, bool exact, void *arg)
{
    struct looking *l = arg;

    l->inner = NULL;
    l->standing[l->scope].spent_nano_usd = spent;
    l->scope++;
    look_on(l);
}

static void on_sums(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct looking *l = arg;

    l->inner = NULL;
    if (!err)
        (void)budget_redis_seen(l->hold, v, l->standing);
    look_on(l);
}

static void start(void *arg)
{
    look_on(arg);
}

struct op *budget_look(const struct budget_scope *scopes, unsigned n_scopes,
                       void (*done)(enum gw_err err, const struct budget_standing *s, void *arg),
                       void *arg)
{
    struct looking *l = calloc(1, sizeof(*l));

    if (l)
        l->hold = budget_hold_new(scopes, n_scopes);
    if (!l || !l->hold) {
        free(l);
        return NULL;
    }
    l->op.cancel = looking_cancel;
    l->done = done;
    l->arg = arg;
    for (unsigned i = 0; i < l->hold->n; i++)
        l->standing[i] = (struct budget_standing){.spent_nano_usd = -1};
    l->inner = l->hold->n ? budget_redis_look(l->hold, on_sums, l) : NULL;
    if (!l->inner)
        loop_defer(&l->soon, start, l);
    return &l->op;
}
