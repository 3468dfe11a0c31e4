/*
 * budget_owed.c - holds on their way to Redis.
 *
 *     (made) --kept by Redis--> OPEN --settled--> SENDING --booked--> gone
 *       '--decided here--settled-------------------^  |
 *                                                     '--Redis away--> OWED --back, timer-->
 * SENDING
 *
 * A hold is in exactly one list, and the list is its place. OPEN ones are renewed, so that only
 * those of a dead process expire. OWED ones are booked in the accounts here meanwhile. Spending
 * that Redis has never heard of is merged, per set of scopes and period, into one hold under one
 * id: an outage of any length costs memory for the keys used, not for the calls. What Redis may
 * have booked already keeps its own id.
 */
#include "storage/budget_private.h"

#include "gateway/core/log.h"
#include "gateway/core/loop.h"

#include <stdlib.h>
#include <string.h>

#define TICK_US 10000000u    /* holds are renewed, accounts forgotten */
#define OWED_TICK_US 250000u /* what is owed is offered again */
#define DEINIT_US 200000u

TAILQ_HEAD(hold_list, budget_hold);

static struct hold_list holds_open = TAILQ_HEAD_INITIALIZER(holds_open),
                        holds_sending = TAILQ_HEAD_INITIALIZER(holds_sending),
                        holds_owed = TAILQ_HEAD_INITIALIZER(holds_owed);
static struct loop_timer timer;
static const struct log_ctx ctx = {.component = "budget"};

static void on_settled(enum gw_err err, const struct redis_value *v, void *arg);

/* --- places --------------------------------------------------------------------------------- */

static struct hold_list *list_of(enum budget_place place)
{
    switch (place) {
    case PLACE_OPEN:
        return &holds_open;
    case PLACE_SENDING:
        return &holds_sending;
    case PLACE_OWED:
        return &holds_owed;
    case PLACE_NONE:
        break;
    }
    return NULL;
}

/* The only function that moves a hold. */
static void place(struct budget_hold *h, enum budget_place next)
{
    struct hold_list *from = list_of(h->place), *to = list_of(next);

    if (from)
        TAILQ_REMOVE(from, h, link);
    if (to)
        TAILQ_INSERT_TAIL(to, h, link);
    h->place = next;
}

static void watch(void)
{
    uint64_t wait = TAILQ_FIRST(&holds_owed) ? OWED_TICK_US : TICK_US;

    loop_timer_set(&timer, loop_now_us() + wait);
}

/* --- owing ---------------------------------------------------------------------------------- */

static bool same_scopes(const struct budget_hold *a, const struct budget_hold *b)
{
    if (a->n != b->n)
        return false;
    for (unsigned i = 0; i < a->n; i++)
        if (strcmp(a->scopes[i].id, b->scopes[i].id) != 0 ||
            a->scopes[i].period != b->scopes[i].period || a->period[i].begin != b->period[i].begin)
            return false;
    return true;
}

/* Adds it to what the same scopes owe already; `h` is gone then. */
static bool merge(struct budget_hold *h, struct budget_hold *into)
{
    if (!into || !same_scopes(h, into) || into->spent > BUDGET_MAX_AMOUNT - h->spent)
        return false;
    into->spent += h->spent;
    free(h);
    return true;
}

/* In the accounts here, once. */
static void book(struct budget_hold *h)
{
    for (unsigned i = 0; !h->booked && i < h->n; i++)
        budget_local_spend(h, i);
    h->booked = true;
}

static void owe(struct budget_hold *h)
{
    bool unheard = h->in_redis == NOT_IN_REDIS && !h->sent;
    struct budget_hold **slot = unheard ? budget_local_owed(h) : NULL;

    book(h);
    if (slot && merge(h, *slot))
        return;
    place(h, PLACE_OWED);
    if (slot)
        *slot = h;
    watch();
}

/* Nobody adds to it any more. */
static void seal(struct budget_hold *h)
{
    struct budget_hold **slot = budget_local_owed(h);

    if (slot && *slot == h)
        *slot = NULL;
}

/* --- sending -------------------------------------------------------------------------------- */

/* False when it cannot be sent now. */
static bool hold_send(struct budget_hold *h)
{
    h->op = budget_redis_settle(h, on_settled, h);
    if (!h->op)
        return false;
    seal(h);
    h->sent = true;
    place(h, PLACE_SENDING);
    return true;
}

/* A sum that is behind what was known before (it was lost, and put back to an older state) is as
 * far behind now. What was known cannot hold this call: replies come in order. */
static int64_t at_least(const struct budget_hold *h, unsigned i, int64_t spent)
{
    int64_t known = budget_local_spent(h, i);

    if (h->booked || known < 0 || known > BUDGET_MAX_AMOUNT - h->spent)
        return spent;
    return known + h->spent > spent ? known + h->spent : spent;
}

static void learn(const struct budget_hold *h, const int64_t *spent)
{
    for (unsigned i = 0; i < h->n; i++) {
        if (h->scopes[i].limit_nano_usd < 0)
            continue;
        if (spent[i] < 0) {
            if (!h->booked)
                budget_local_spend(h, i);
            continue;
        }
        if (!h->booked)
            budget_tell_shares(&h->scopes[i], spent[i] - h->spent, spent[i]);
        budget_local_learn(h, i, at_least(h, i, spent[i]));
    }
}

static void on_settled(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct budget_hold *h = arg;
    int64_t spent[BUDGET_MAX_SCOPES];

    h->op = NULL;
    if (err == GW_EUNAVAIL || err == GW_EAGAIN) {
        owe(h);
        return;
    }
    if (!err && budget_redis_settled(h, v, spent)) {
        learn(h, spent);
    } else if (err) { /* something else is under its keys: asking again will not help */
        log_debug(&ctx, "budget_settle_refused", F_CSTR("err", err_info(err)->name));
        book(h);
    }
    place(h, PLACE_NONE);
    free(h);
}

int64_t budget_owed_unanswered(const char *scope, enum budget_period period, int64_t begin)
{
    const struct budget_hold *h;
    int64_t sum = 0;

    TAILQ_FOREACH (h, &holds_sending, link)
        for (unsigned i = 0; i < h->n && !h->booked; i++)
            if (strcmp(h->scopes[i].id, scope) == 0 && h->scopes[i].period == period &&
                h->period[i].begin == begin)
                sum += h->spent;
    return sum;
}

void budget_owed_open(struct budget_hold *h)
{
    h->renew_us = loop_now_us() + h->hold_us / 3;
    place(h, PLACE_OPEN);
    if (!timer.due_us)
        watch();
}

void budget_owed_settle(struct budget_hold *h)
{
    place(h, PLACE_NONE);
    if (h->spent == 0 && h->in_redis == NOT_IN_REDIS) {
        free(h);
        return;
    }
    if (!hold_send(h))
        owe(h);
}

/* --- time ----------------------------------------------------------------------------------- */

/* Each of those that are owed now is tried once, until Redis takes no more. */
static void offer(void)
{
    struct budget_hold *h, *end = TAILQ_LAST(&holds_owed, hold_list);
    bool more = end != NULL;

    while (more && redis_up() && (h = TAILQ_FIRST(&holds_owed))) {
        more = h != end;
        if (!hold_send(h))
            break;
    }
}

static void renew(void)
{
    struct budget_hold *h;
    uint64_t now = loop_now_us();

    while ((h = TAILQ_FIRST(&holds_open)) && h->renew_us <= now) {
        budget_redis_renew(h);
        h->renew_us = now + h->hold_us / 3;
        place(h, PLACE_OPEN);
    }
}

static void on_timer(void *arg)
{
    offer();
    renew();
    budget_local_sweep();
    watch();
}

static void on_change(bool up, void *arg)
{
    if (up)
        offer();
}

/* --- life ----------------------------------------------------------------------------------- */

void budget_owed_init(void)
{
    loop_timer_init(&timer, on_timer, NULL);
    if (redis_enabled())
        redis_on_change(on_change, NULL);
    watch();
}

static void drop_all(struct hold_list *list)
{
    struct budget_hold *h;

    while ((h = TAILQ_FIRST(list))) {
        op_cancel(&h->op);
        seal(h);
        place(h, PLACE_NONE);
        free(h);
    }
}

void budget_owed_deinit(void)
{
    uint64_t until = loop_clock_us() + DEINIT_US;

    offer();
    loop_timer_set(&timer, loop_now_us() + DEINIT_US); /* so that the last turn ends */
    while (TAILQ_FIRST(&holds_sending) && loop_clock_us() < until)
        loop_turn();
    if (TAILQ_FIRST(&holds_owed) || TAILQ_FIRST(&holds_sending))
        log_warn(&ctx, "budget_spending_untold",
                 F_CSTR("hint", "Redis is away; the ledger has it"));
    loop_timer_stop(&timer);
    drop_all(&holds_sending);
    drop_all(&holds_owed);
    TAILQ_INIT(&holds_open); /* those belong to who got them */
}
