/*
 * wiring.c - see wiring.h.
 */
#include "gateway/wiring.h"

#include "gateway/core/loop.h"
#include "providers/provider.h"
#include "storage/circuits.h"

/* --- circuits: the providers have them, Redis shares them ------------------------------------- */

static const enum circuit_state circuit_states[] = {
    [BREAKER_CLOSED] = CIRCUIT_CLOSED,
    [BREAKER_HALF_OPEN] = CIRCUIT_HALF_OPEN,
    [BREAKER_OPEN] = CIRCUIT_OPEN,
};

struct circuit_walk {
    void (*fn)(const struct circuit_now *now, void *arg);
    void *arg;
};

static void on_provider(const struct provider_status *s, void *arg)
{
    struct circuit_walk *walk = arg;
    struct circuit_now now = {
        .name = s->name,
        .state = circuit_states[s->state],
        .opened_wall_us = s->state == BREAKER_OPEN ? loop_wall_us() - s->opened_ago_us : 0,
        .recovery_us = s->recovery_us,
    };

    walk->fn(&now, walk->arg);
}

static void each_circuit(void (*fn)(const struct circuit_now *now, void *arg), void *arg)
{
    struct circuit_walk walk = {fn, arg};

    provider_each(on_provider, &walk);
}

static void take_in_circuit(struct slice name, enum circuit_state state, uint64_t opened_wall_us)
{
    provider_share_in(name, state == CIRCUIT_CLOSED ? BREAKER_CLOSED : BREAKER_OPEN,
                      opened_wall_us);
}

static void share_circuit(const char *provider, enum breaker_state state, uint64_t opened_wall_us)
{
    struct circuit_now now = {
        .name = provider, .state = circuit_states[state], .opened_wall_us = opened_wall_us};

    circuits_changed(&now);
}

enum gw_err wiring_start_circuits(const struct conf *c)
{
    static const struct circuits_link link = {each_circuit, take_in_circuit};
    static const struct provider_share share = {share_circuit, circuits_claim, circuits_release};

    provider_set_share(&share);
    return circuits_init(&link);
}

void wiring_stop_circuits(void)
{
    provider_set_share(NULL);
    circuits_deinit();
}
