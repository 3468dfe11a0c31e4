/* select.c - see select.h. Orders are made by stable insertion into order[]; n is 16 at most. */
#include "providers/select.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define MAX_CANDIDATES 16u
#define DECAY_US 10e6

static const char *const names[] = {
    [SELECT_PRIORITY] = "priority",
    [SELECT_WEIGHTED] = "weighted",
    [SELECT_LEAST_LATENCY] = "least-latency",
    [SELECT_CHEAPEST] = "cheapest",
};

/* splitmix64: one random number becomes as many as the draw needs. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static unsigned weight_of(const struct select_candidate *c)
{
    return c->weight ? c->weight : 1;
}

/* Draws without replacement: order[at...] gets a weighted permutation of itself. */
static void draw_weighted(const struct select_candidate *c, unsigned *order, unsigned n,
                          uint64_t random)
{
    for (unsigned at = 0; at + 1 < n; at++) {
        uint64_t total = 0, ticket;
        unsigned hit = at, drawn;

        for (unsigned i = at; i < n; i++)
            total += weight_of(&c[order[i]]);
        ticket = next_random(&random) % total;
        while (ticket >= weight_of(&c[order[hit]]))
            ticket -= weight_of(&c[order[hit++]]);
        drawn = order[hit];
        memmove(&order[at + 1], &order[at], (hit - at) * sizeof(order[0]));
        order[at] = drawn;
    }
}

static bool faster(const struct select_candidate *a, const struct select_candidate *b)
{
    double x = a->ewma_us * (a->in_flight + 1.0);
    double y = b->ewma_us * (b->in_flight + 1.0);

    return x < y || (x <= y && a->in_flight < b->in_flight);
}

static bool cheaper(const struct select_candidate *a, const struct select_candidate *b)
{
    if (a->price < 0 || b->price < 0)
        return a->price >= 0 && b->price < 0;
    return a->price < b->price;
}

static bool closed_first(const struct select_candidate *a, const struct select_candidate *b)
{
    return !a->open && b->open;
}

static void sort_stable(const struct select_candidate *c, unsigned *order, unsigned n,
                        bool (*before)(const struct select_candidate *,
                                       const struct select_candidate *))
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned j = i; j > 0 && before(&c[order[j]], &c[order[j - 1]]); j--) {
            unsigned swap = order[j];

            order[j] = order[j - 1];
            order[j - 1] = swap;
        }
}

unsigned select_order(enum select_strategy s, const struct select_candidate *c, unsigned n,
                      uint64_t random, unsigned *order)
{
    unsigned found = 0;

    assert(n <= MAX_CANDIDATES);
    for (unsigned i = 0; i < n; i++)
        if (c[i].capable)
            order[found++] = i;
    switch (s) {
    case SELECT_PRIORITY:
        break;
    case SELECT_WEIGHTED:
        draw_weighted(c, order, found, random);
        break;
    case SELECT_LEAST_LATENCY:
        sort_stable(c, order, found, faster);
        break;
    case SELECT_CHEAPEST:
        sort_stable(c, order, found, cheaper);
        break;
    }
    sort_stable(c, order, found, closed_first);
    return found;
}

double select_ewma_value(const struct select_ewma *e, uint64_t now_us)
{
    uint64_t past_us = now_us > e->at_us ? now_us - e->at_us : 0;

    return e->value_us > 0 ? e->value_us * exp(-(double)past_us / DECAY_US) : 0;
}

void select_ewma_observe(struct select_ewma *e, uint64_t sample_us, uint64_t now_us)
{
    uint64_t past_us = now_us > e->at_us ? now_us - e->at_us : 0;
    double sample = sample_us ? (double)sample_us : 1;
    double keep = exp(-(double)past_us / DECAY_US);

    if (sample >= e->value_us)
        e->value_us = sample;
    else
        e->value_us = e->value_us * keep + sample * (1 - keep);
    if (now_us > e->at_us)
        e->at_us = now_us;
}

bool select_strategy_parse(const char *name, enum select_strategy *ret)
{
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum select_strategy)i;
            return true;
        }
    return false;
}
