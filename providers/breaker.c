/*
 * breaker.c - see breaker.h. `probing` is meaningful in HALF_OPEN only; every change of state
 * starts a new epoch, so whatever was out before can no longer move the machine.
 */
#include "providers/breaker.h"

void breaker_init(struct breaker *b)
{
    *b = (struct breaker){.state = BREAKER_CLOSED};
}

/* The only place that changes the state. */
static void breaker_goto(struct breaker *b, enum breaker_state next)
{
    b->state = next;
    b->epoch++;
    b->failures = 0;
    b->probing = 0;
    b->wait_until_us = 0;
    if (next == BREAKER_OPEN)
        b->n_opened++;
}

static void open_at(struct breaker *b, uint64_t now_us)
{
    breaker_goto(b, BREAKER_OPEN);
    b->opened_us = now_us;
}

uint64_t breaker_retry_in_us(const struct breaker *b, const struct breaker_config *c,
                             uint64_t now_us)
{
    uint64_t elapsed_us = now_us > b->opened_us ? now_us - b->opened_us : 0;
    uint64_t recovery_us = elapsed_us < c->recovery_us ? c->recovery_us - elapsed_us : 0;
    uint64_t others_us = b->wait_until_us > now_us ? b->wait_until_us - now_us : 0;

    if (b->state != BREAKER_OPEN)
        return 0;
    return recovery_us > others_us ? recovery_us : others_us;
}

bool breaker_would_allow(const struct breaker *b, const struct breaker_config *c, uint64_t now_us)
{
    switch (b->state) {
    case BREAKER_CLOSED:
        return true;
    case BREAKER_HALF_OPEN:
        return b->probing < c->probes && !b->asking && now_us >= b->wait_until_us;
    case BREAKER_OPEN:
        return breaker_retry_in_us(b, c, now_us) == 0 && !b->asking;
    }
    return false;
}

bool breaker_would_probe(const struct breaker *b, const struct breaker_config *c, uint64_t now_us)
{
    return b->state != BREAKER_CLOSED && breaker_would_allow(b, c, now_us);
}

void breaker_ask(struct breaker *b)
{
    b->asking = true;
}

void breaker_answer(struct breaker *b, uint64_t wait_until_us)
{
    b->asking = false;
    if (b->state != BREAKER_CLOSED)
        b->wait_until_us = wait_until_us;
}

bool breaker_allow(struct breaker *b, const struct breaker_config *c, uint64_t now_us,
                   struct breaker_pass *ret_pass)
{
    if (!breaker_would_allow(b, c, now_us)) {
        b->n_rejected++;
        return false;
    }
    if (b->state == BREAKER_OPEN)
        breaker_goto(b, BREAKER_HALF_OPEN);
    if (b->state == BREAKER_HALF_OPEN)
        b->probing++;
    *ret_pass = (struct breaker_pass){.epoch = b->epoch, .probe = b->state == BREAKER_HALF_OPEN};
    return true;
}

static bool report_closed(struct breaker *b, const struct breaker_config *c, enum breaker_verdict v,
                          uint64_t now_us)
{
    if (v == BREAKER_SUCCESS)
        b->failures = 0;
    if (v != BREAKER_FAILURE || ++b->failures < c->failure_threshold)
        return false;
    open_at(b, now_us);
    return true;
}

static bool report_probe(struct breaker *b, enum breaker_verdict v, uint64_t now_us)
{
    if (v == BREAKER_NEUTRAL) {
        b->probing--;
        return false;
    }
    if (v == BREAKER_SUCCESS)
        breaker_goto(b, BREAKER_CLOSED);
    else
        open_at(b, now_us);
    return true;
}

bool breaker_report(struct breaker *b, const struct breaker_config *c, struct breaker_pass pass,
                    enum breaker_verdict v, uint64_t now_us)
{
    b->n_success += v == BREAKER_SUCCESS;
    b->n_failure += v == BREAKER_FAILURE;
    if (pass.epoch != b->epoch)
        return false;
    return pass.probe ? report_probe(b, v, now_us) : report_closed(b, c, v, now_us);
}

bool breaker_reset(struct breaker *b)
{
    b->failures = 0;
    if (b->state == BREAKER_CLOSED)
        return false;
    breaker_goto(b, BREAKER_CLOSED);
    return true;
}

bool breaker_force(struct breaker *b, enum breaker_state state, uint64_t opened_us)
{
    if (state == BREAKER_CLOSED)
        return breaker_reset(b);
    b->opened_us = opened_us;
    b->wait_until_us = 0;
    if (b->state == state)
        return false;
    breaker_goto(b, state);
    return true;
}

const char *breaker_state_name(enum breaker_state s)
{
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed", [BREAKER_HALF_OPEN] = "half_open", [BREAKER_OPEN] = "open"};

    return names[s];
}
