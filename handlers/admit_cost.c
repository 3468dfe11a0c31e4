/* admit_cost.c - see admit_cost.h. */
#include "handlers/admit_cost.h"

#define PICO_PER_NANO 1000
#define BYTES_PER_TOKEN 4

/* --- before --------------------------------------------------------------------------------- */

static int64_t saturated(uint64_t v)
{
    return v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

static int64_t times(int64_t a, int64_t b)
{
    int64_t r;

    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

static int64_t plus(int64_t a, int64_t b)
{
    int64_t r;

    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

/* 0 for embeddings and counting, which write nothing. */
static int64_t worst_output(const struct admit_ask *ask, const struct registry_model *m)
{
    int64_t each = ask->output_tokens;

    if (strcmp(ask->purpose, "chat") != 0)
        return 0;
    if (each <= 0)
        each = m->max_output_tokens > 0 ? m->max_output_tokens : ADMIT_DEFAULT_OUTPUT;
    return times(each, ask->choices > 0 ? ask->choices : 1);
}

static int64_t input_price(const struct registry_model *m)
{
    const struct registry_prices *p = &m->pico_usd;

    return p->input < 0 || p->input > p->cache_write ? p->input : p->cache_write;
}

bool admit_is_priced(const struct admit_ask *ask, const struct registry_model *m)
{
    return m->pico_usd.input >= 0 && (worst_output(ask, m) == 0 || m->pico_usd.output >= 0);
}

/* Rounded up. */
static int64_t worst_cost(const struct admit_ask *ask, const struct registry_model *m)
{
    int64_t output = worst_output(ask, m), pico;

    pico = times(saturated(ask->input_tokens), input_price(m));
    if (output)
        pico = plus(pico, times(output, m->pico_usd.output));
    return pico == INT64_MAX ? pico : pico / PICO_PER_NANO + (pico % PICO_PER_NANO != 0);
}

struct admit_worst admit_worst_case(const struct admit_ask *ask)
{
    struct admit_worst w = {0};

    for (unsigned i = 0; i < ask->route->n_targets; i++) {
        const struct registry_model *m = ask->route->targets[i].model;
        int64_t tokens = plus(saturated(ask->input_tokens), worst_output(ask, m)), cost;

        if (tokens > w.tokens)
            w.tokens = tokens;
        if (!admit_is_priced(ask, m)) {
            w.unpriced = w.unpriced ? w.unpriced : m;
            continue;
        }
        cost = worst_cost(ask, m);
        if (cost > w.cost)
            w.cost = cost;
    }
    return w;
}

/* --- after ---------------------------------------------------------------------------------- */

static bool went_live(const struct provider_call_info *info)
{
    return info->first_event_us > 0;
}

/* Usage as far as it was told, the rest as it looks from here. */
static struct convo_usage estimate(const struct admit_ask *ask, const struct admit_outcome *out)
{
    struct convo_usage u = out->usage && out->usage->known ? *out->usage : (struct convo_usage){0};
    uint64_t written = 0;

    if (strcmp(ask->purpose, "chat") == 0)
        written = (out->info->output_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    if (u.input == 0)
        u.input = ask->likely_input_tokens;
    if (u.output < written)
        u.output = written;
    u.known = true;
    return u;
}

static bool is_told(const struct admit_outcome *out)
{
    return out->err == GW_OK && out->usage && out->usage->known;
}

struct admit_bill admit_bill_of(const struct admit_ask *ask, const struct admit_outcome *out)
{
    const struct provider_call_info *info = out->info;
    struct admit_bill b = {.usage = {.known = true}};

    if (!info || info->attempts == 0 || !info->model || strcmp(ask->purpose, "count") == 0)
        return b;
    if (is_told(out)) {
        b.usage = *out->usage;
    } else if (went_live(info) || info->in_flight) {
        b.usage = estimate(ask, out);
        b.estimated = true;
    } else if (out->usage && out->usage->known) {
        b.usage = *out->usage;
    }
    b.cost = registry_cost(info->model, &b.usage);
    b.tokens = plus(saturated(b.usage.input), saturated(b.usage.output));
    return b;
}
