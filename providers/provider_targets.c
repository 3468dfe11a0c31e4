/*
 * provider_targets.c - the targets of one call: what it needs, who can do it, in which order they
 * are asked.
 */
#include "providers/provider_private.h"

#include "gateway/core/rng.h"

#include <stdio.h>

struct needs {
    unsigned capabilities;
    uint64_t tokens; /* input and output */
};

static struct needs needs_of(const struct provider_call *c)
{
    struct needs n = {.capabilities = REGISTRY_CAN_EMBED};

    if (c->req.count) {
        n.capabilities = 0;
    } else if (c->req.convo) {
        n.capabilities = convo_needs(c->req.convo);
        n.tokens = convo_estimate_tokens(c->req.convo) + (uint64_t)c->req.convo->max_tokens;
    }
    return n;
}

static bool too_long(const struct registry_model *m, const struct needs *n)
{
    return m->context_tokens > 0 && n->tokens > (uint64_t)m->context_tokens;
}

static unsigned missing(const struct provider_call *c, const struct registry_model *m,
                        const struct needs *n)
{
    unsigned lacks = m->listed ? n->capabilities & ~m->capabilities : 0;

    if (c->req.embed && (!m->provider->has_embeddings || !m->provider->dialect->encode_embed))
        lacks |= REGISTRY_CAN_EMBED;
    return lacks;
}

/* "openai/gpt-4 cannot take images (vision)" */
static void refuse_incapable(struct provider_call *c, const struct registry_model *m,
                             const struct needs *n)
{
    static const char *const names[] = {"vision",    "pdf",   "tools",     "json_schema",
                                        "reasoning", "audio", "embeddings"};
    unsigned lacks = missing(c, m, n);
    char list[128] = "";
    size_t used = 0;

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (lacks & (1u << i))
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "",
                                     names[i]);
    c->refusal.refused = SLICE("model");
    if (lacks)
        c->refusal.why = arena_printf(c->req.arena, "The model %.*s has no support for: %s.",
                                      SLICE_ARG(m->id), list);
    else
        c->refusal.why = arena_printf(
            c->req.arena,
            "The request needs about %llu tokens (input and max_tokens), the context length of the "
            "model %.*s is %lld.",
            (unsigned long long)n->tokens, SLICE_ARG(m->id), (long long)m->context_tokens);
    c->refusal_err = GW_EUNSUPPORTED;
}

static bool candidate_of(struct provider_call *c, const struct registry_target *t,
                         const struct needs *n, struct select_candidate *ret)
{
    const struct registry_model *m = t->model;
    struct provider_state *s = provider_state_of(m->provider->name);
    uint64_t now = loop_now_us();

    if (!s)
        return false;
    if (!s->present)
        s->config = m->provider->breaker;
    *ret = (struct select_candidate){
        .capable = !missing(c, m, n) && !too_long(m, n),
        .open = !breaker_would_allow(&s->breaker, &s->config, now),
        .weight = t->weight,
        .price = -1,
        .ewma_us = select_ewma_value(&provider_model_of(s, m)->latency, now),
        .in_flight = s->in_flight,
    };
    if (m->pico_usd.input >= 0 && m->pico_usd.output >= 0)
        ret->price = m->pico_usd.input + m->pico_usd.output;
    return true;
}

enum gw_err provider_order_targets(struct provider_call *c)
{
    struct select_candidate list[REGISTRY_MAX_TARGETS];
    unsigned wished[REGISTRY_MAX_TARGETS];
    struct needs n = needs_of(c);
    uint64_t random = rng_u64();

    for (unsigned i = 0; i < c->req.route.n_targets; i++)
        if (!candidate_of(c, &c->req.route.targets[i], &n, &list[i]))
            return GW_ENOMEM;
    c->n_order =
        select_order(c->req.route.strategy, list, c->req.route.n_targets, random, c->order);
    for (unsigned i = 0; i < c->req.route.n_targets; i++)
        list[i].open = false;
    (void)select_order(c->req.route.strategy, list, c->req.route.n_targets, random, wished);
    for (unsigned i = 0; i < c->n_order; i++)
        c->rank[wished[i]] = i;
    if (c->n_order == 0 && c->req.route.n_targets)
        refuse_incapable(c, c->req.route.targets[0].model, &n);
    return GW_OK;
}
