/*
 * provider.c - what is kept of each provider by its name, over configuration reloads: breaker,
 * retry budget, latency, calls in flight and metric series. The flow of a call is in
 * provider_call.c.
 */
#include "providers/provider_private.h"

#include "gateway/core/loop.h"

#include <stdlib.h>

#define MAX_UNLISTED                                                                               \
    16u /* models nobody listed that are kept apart per provider; further ones share one record */

static struct provider_state *states;
static struct provider_share sharing;

/* --- states and models ---------------------------------------------------------------------- */

static void state_free(struct provider_state *s)
{
    struct provider_model *m;

    for (unsigned i = 0; i < PROVIDER_MODEL_SLOTS; i++)
        while ((m = s->models[i])) {
            s->models[i] = m->next;
            free(m);
        }
    free(s->other);
    free(s->name);
    free(s);
}

/* The name lies behind the struct. */
static struct provider_model *model_new(struct slice name)
{
    struct provider_model *m = calloc(1, sizeof(*m) + name.n);

    if (!m)
        return NULL;
    if (name.n)
        memcpy(m + 1, name.p, name.n);
    m->name = slice_of((char *)(m + 1), name.n);
    return m;
}

static struct provider_state *state_new(const char *name)
{
    struct provider_state *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->name = strdup(name);
    s->other = model_new(SLICE("other"));
    if (!s->name || !s->other) {
        state_free(s);
        return NULL;
    }
    breaker_init(&s->breaker);
    retry_budget_init(&s->budget);
    s->m_in_flight = metrics_get(M_PROVIDER_INFLIGHT, name, NULL, NULL);
    s->m_circuit = metrics_get(M_CIRCUIT_STATE, name, NULL, NULL);
    s->m_ttft = metrics_get(M_LLM_TTFT, name, NULL, NULL);
    metrics_set(s->m_circuit, BREAKER_CLOSED);
    return s;
}

static struct provider_state **state_link(const char *name)
{
    struct provider_state **at = &states;

    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

struct provider_state *provider_state_of(const char *name)
{
    struct provider_state **at = state_link(name);

    if (!*at)
        *at = state_new(name);
    return *at;
}

static unsigned hash(struct slice s)
{
    unsigned h = 2166136261u;

    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 16777619u;
    return h;
}

struct provider_model *provider_model_of(struct provider_state *s, const struct registry_model *rm)
{
    struct provider_model **slot = &s->models[hash(rm->name) % PROVIDER_MODEL_SLOTS], *m;

    for (m = *slot; m; m = m->next)
        if (slice_eq(m->name, rm->name))
            return m;
    m = rm->listed || s->n_unlisted < MAX_UNLISTED ? model_new(rm->name) : NULL;
    if (!m)
        return s->other;
    s->n_unlisted += !rm->listed;
    m->next = *slot;
    *slot = m;
    return m;
}

/* --- the breaker ---------------------------------------------------------------------------- */

/* Publishes a change of state: metrics, and to the other processes when it is our own finding. */
static void state_changed(struct provider_state *s, bool ours)
{
    const struct breaker *b = &s->breaker;
    uint64_t now = loop_now_us();
    uint64_t open_us = now > b->opened_us ? now - b->opened_us : 0;

    metrics_set(s->m_circuit, b->state);
    metrics_add(metrics_get(M_CIRCUIT_EVENTS, s->name, breaker_state_name(b->state), NULL), 1);
    if (ours && sharing.changed)
        sharing.changed(s->name, b->state,
                        b->state == BREAKER_CLOSED ? 0 : loop_wall_us() - open_us);
}

bool provider_allow(struct provider_state *s, struct breaker_pass *ret_pass)
{
    enum breaker_state before = s->breaker.state;
    bool allowed = breaker_allow(&s->breaker, &s->config, loop_now_us(), ret_pass);

    if (s->breaker.state != before)
        state_changed(s, true);
    return allowed;
}

void provider_report(struct provider_state *s, struct breaker_pass pass, enum breaker_verdict v)
{
    if (breaker_report(&s->breaker, &s->config, pass, v, loop_now_us()))
        state_changed(s, true);
}

struct op *provider_claim(struct provider_state *s, uint64_t id, uint64_t lease_us,
                          void (*done)(uint64_t wait_us, void *arg), void *arg)
{
    struct op *op = NULL;

    if (sharing.claim && breaker_would_probe(&s->breaker, &s->config, loop_now_us()))
        op = sharing.claim(s->name, id, s->config.probes, lease_us, done, arg);
    if (op)
        breaker_ask(&s->breaker);
    return op;
}

void provider_claimed(struct provider_state *s, uint64_t wait_us)
{
    breaker_answer(&s->breaker, wait_us ? loop_now_us() + wait_us : 0);
}

void provider_release(struct provider_state *s, uint64_t id)
{
    if (sharing.release)
        sharing.release(s->name, id);
}

void provider_report_late_failure(struct provider_state *s)
{
    struct breaker_pass pass = {.epoch = s->breaker.epoch};

    if (s->breaker.state == BREAKER_CLOSED)
        provider_report(s, pass, BREAKER_FAILURE);
}

/* --- metrics -------------------------------------------------------------------------------- */

static struct metric_series *series(struct metric_series **kept, enum metric family,
                                    const struct provider_state *s, const struct provider_model *m,
                                    const char *third)
{
    struct slice labels[3] = {slice_cstr(s->name), m->name, slice_cstr(third)};

    if (!*kept)
        *kept = metrics_series(family, labels);
    return *kept;
}

void provider_count_request(struct provider_state *s, struct provider_model *m,
                            enum provider_outcome outcome)
{
    static const char *const names[OUTCOMES] = {
        [OUTCOME_OK] = "ok",
        [OUTCOME_RATE_LIMITED] = "rate_limited",
        [OUTCOME_REJECTED] = "rejected",
        [OUTCOME_AUTH] = "auth",
        [OUTCOME_ERROR] = "error",
        [OUTCOME_BAD_ANSWER] = "bad_answer",
        [OUTCOME_TIMEOUT] = "timeout",
        [OUTCOME_UNREACHABLE] = "unreachable",
        [OUTCOME_CANCELLED] = "cancelled",
    };

    metrics_add(series(&m->requests[outcome], M_LLM_REQUESTS, s, m, names[outcome]), 1);
}

void provider_count_usage(struct provider_state *s, struct provider_model *m,
                          const struct registry_model *rm, const struct convo_usage *u, bool embed)
{
    static const char *const names[TOKEN_KINDS] = {"input", "output", "cache_read", "cache_write",
                                                   "reasoning"};
    const uint64_t counts[TOKEN_KINDS] = {u->input, u->output, u->cache_read, u->cache_write,
                                          u->reasoning};
    int64_t cost;

    if (!u->known)
        return;
    for (unsigned i = 0; i < TOKEN_KINDS; i++)
        if (counts[i])
            metrics_add(series(&m->tokens[i], M_LLM_TOKENS, s, m, names[i]), (int64_t)counts[i]);
    cost = registry_cost(rm, u);
    if (cost > 0)
        metrics_add(series(&m->cost[embed], M_LLM_COST, s, m, embed ? "embeddings" : "chat"), cost);
}

void provider_add_in_flight(struct provider_state *s, int delta)
{
    s->in_flight += (unsigned)delta;
    metrics_add(s->m_in_flight, delta);
}

/* --- life ----------------------------------------------------------------------------------- */

enum gw_err provider_init(void)
{
    return GW_OK;
}

void provider_deinit(void)
{
    struct provider_state *s;

    while ((s = states)) {
        states = s->next;
        state_free(s);
    }
    sharing = (struct provider_share){0};
}

/* Out of memory a provider is left out here; its first call makes its state. */
void provider_adopt(const struct registry *r)
{
    struct provider_state *s, **at, *ordered = NULL, **tail = &ordered;

    for (s = states; s; s = s->next)
        s->present = false;
    for (const struct registry_provider *p = r->providers; p; p = p->next) {
        if (!provider_state_of(p->name))
            continue;
        at = state_link(p->name);
        s = *at;
        *at = s->next;
        s->next = NULL;
        s->present = true;
        s->config = p->breaker;
        *tail = s;
        tail = &s->next;
    }
    *tail = states;
    states = ordered;
}

/* --- health, admin, sharing ----------------------------------------------------------------- */

void provider_each(void (*fn)(const struct provider_status *s, void *arg), void *arg)
{
    uint64_t now = loop_now_us();

    for (const struct provider_state *s = states; s; s = s->next) {
        const struct breaker *b = &s->breaker;
        bool open = b->state == BREAKER_OPEN;
        struct provider_status status = {
            .name = s->name,
            .state = b->state,
            .failures = b->failures,
            .in_flight = s->in_flight,
            .n_success = b->n_success,
            .n_failure = b->n_failure,
            .n_rejected = b->n_rejected,
            .n_opened = b->n_opened,
            .opened_ago_us = open && now > b->opened_us ? now - b->opened_us : 0,
            .retry_in_us = breaker_retry_in_us(b, &s->config, now),
            .recovery_us = s->config.recovery_us,
            .latency_us = select_ewma_value(&s->latency, now),
        };

        if (s->present)
            fn(&status, arg);
    }
}

static struct provider_state *find(struct slice name)
{
    struct provider_state *s = states;

    while (s && !slice_is(name, s->name))
        s = s->next;
    return s;
}

bool provider_reset(struct slice name)
{
    struct provider_state *s = find(name);

    if (!s)
        return false;
    if (breaker_reset(&s->breaker))
        state_changed(s, true);
    else if (sharing.changed) /* open elsewhere, perhaps */
        sharing.changed(s->name, BREAKER_CLOSED, 0);
    return true;
}

void provider_set_share(const struct provider_share *share)
{
    sharing = share ? *share : (struct provider_share){0};
}

void provider_share_in(struct slice name, enum breaker_state state, uint64_t opened_wall_us)
{
    struct provider_state *s = find(name);
    uint64_t now = loop_now_us(), wall = loop_wall_us();
    uint64_t ago_us = wall > opened_wall_us ? wall - opened_wall_us : 0;

    if (s && breaker_force(&s->breaker, state, now > ago_us ? now - ago_us : 0))
        state_changed(s, false);
}
