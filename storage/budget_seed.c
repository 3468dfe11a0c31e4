/*
 * budget_seed.c - what a period has cost before anybody counted: the daily sums of the ledger in
 * Postgres, and the rows this process has not stored yet.
 *
 *     ASKED --sum--> the waiters
 *       ^        '--rows were stored meanwhile, or may have been--.
 *       '---------------- at most MAX_TRIES times ----------------'
 *
 * A row is either in Postgres or pending; one that was stored while the query ran, or whose storing
 * is not known to have gone well, may have been counted in both or in neither, so the sum is asked
 * for again. What Redis was sent and has not answered is left out: its answer tells. One query
 * serves all who ask for the same scope and period; it lives on the heap until its waiters are told
 * or gone.
 */
#include "storage/budget_private.h"

#include "gateway/core/loop.h"
#include "storage/ledger.h"
#include "storage/spend.h"

#include <stdlib.h>
#include <string.h>

#define TIMEOUT_US 2000000u
#define MAX_TRIES 5u

struct waiter {
    struct op op; /* first member */
    LIST_ENTRY(waiter) link;
    struct seed_query *query;
    void (*done)(int64_t spent, bool exact, void *arg);
    void *arg;
};

struct seed_query {
    LIST_ENTRY(seed_query) link;
    LIST_HEAD(, waiter) waiters;
    struct budget_scope scope;
    int64_t begin, next;
    struct op *op;
    bool telling; /* off the list; freed when all are told */
    unsigned tries;
    uint64_t stored; /* rows of the ledger in Postgres when it was asked */
};

static LIST_HEAD(, seed_query) queries = LIST_HEAD_INITIALIZER(queries);

static void on_sum(enum gw_err err, int64_t nano_usd, void *arg);

static void tell(struct seed_query *q, int64_t spent, bool exact)
{
    struct waiter *w;

    LIST_REMOVE(q, link); /* who asks from inside a callback asks anew */
    q->telling = true;
    while ((w = LIST_FIRST(&q->waiters))) {
        void (*done)(int64_t, bool, void *) = w->done;
        void *arg = w->arg;

        LIST_REMOVE(w, link);
        free(w);
        done(spent, exact, arg);
    }
    free(q);
}

static bool query_ask(struct seed_query *q)
{
    struct ledger_stats st;

    ledger_stats(&st);
    q->tries++;
    q->stored = st.stored;
    q->op = spend_of_scope(q->scope.id, q->begin, q->next, loop_now_us() + TIMEOUT_US, on_sum, q);
    return q->op != NULL;
}

static void on_sum(enum gw_err err, int64_t nano_usd, void *arg)
{
    struct seed_query *q = arg;
    int64_t pending = ledger_pending_cost(q->scope.id, q->begin, q->next);
    int64_t unanswered = budget_owed_unanswered(q->scope.id, q->scope.period, q->begin), sum = -1;
    struct ledger_stats st;
    bool exact;

    ledger_stats(&st);
    exact = st.sure && st.stored == q->stored;
    q->op = NULL;
    if (!err && !exact && q->tries < MAX_TRIES && query_ask(q))
        return;
    if (!err && __builtin_add_overflow(nano_usd, pending - unanswered, &sum))
        sum = BUDGET_MAX_AMOUNT;
    if (!err && sum < 0)
        sum = 0;
    tell(q, sum, exact);
}

static struct seed_query *query_of(const struct budget_hold *h, unsigned i)
{
    const struct budget_scope *s = &h->scopes[i];
    struct seed_query *q;

    LIST_FOREACH (q, &queries, link)
        if (strcmp(q->scope.id, s->id) == 0 && q->scope.period == s->period &&
            q->begin == h->period[i].begin)
            return q;
    q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->scope = *s;
    q->begin = h->period[i].begin;
    q->next = h->period[i].next;
    LIST_INSERT_HEAD(&queries, q, link);
    if (query_ask(q))
        return q;
    LIST_REMOVE(q, link);
    free(q);
    return NULL;
}

static void waiter_cancel(struct op *op)
{
    struct waiter *w = (struct waiter *)op;
    struct seed_query *q = w->query;

    LIST_REMOVE(w, link);
    free(w);
    if (q->telling || LIST_FIRST(&q->waiters))
        return;
    op_cancel(&q->op);
    LIST_REMOVE(q, link);
    free(q);
}

struct op *budget_seed(const struct budget_hold *h, unsigned scope,
                       void (*done)(int64_t spent, bool exact, void *arg), void *arg)
{
    struct waiter *w = calloc(1, sizeof(*w));
    struct seed_query *q = w ? query_of(h, scope) : NULL;

    if (!q) {
        free(w);
        return NULL;
    }
    *w = (struct waiter){.op = {waiter_cancel}, .query = q, .done = done, .arg = arg};
    LIST_INSERT_HEAD(&q->waiters, w, link);
    return &w->op;
}
