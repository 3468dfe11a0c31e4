/*
 * circuits.h - which circuits are open, shared by all processes through Redis: a hash
 * `circuit:<provider>` in DB 0, under exactly that name since operators type it, with
 *
 *     state      "open", or "half_open" while whoever wrote it probes
 *     opened_at  microseconds since 1970
 *     version    counts the writings since the key was made
 *
 * A closed circuit has no key: DEL closes the circuit in every running process within a second, and
 * a key is gone by itself after CIRCUITS_TTL_RECOVERIES times the recovery time. All keys are read
 * about every 400 ms.
 *
 * An absent key closes a circuit only where it is known to have been in this very server: a circuit
 * that opened while Redis was away, or whose Redis came back empty, is written again instead.
 * Another process's half_open never makes this one half-open; each sends its own probe. What is no
 * such hash, or has values that cannot be, is ignored until a circuit opens, which writes over it.
 *
 * Storage knows no providers: the program wires the two (struct circuits_link).
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define CIRCUITS_TTL_RECOVERIES 10u

enum circuit_state { CIRCUIT_CLOSED, CIRCUIT_HALF_OPEN, CIRCUIT_OPEN };

/* One provider's circuit as it is in this process. */
struct circuit_now {
    const char *name;
    enum circuit_state state;
    uint64_t opened_wall_us; /* 0 when closed */
    uint64_t recovery_us;
};

struct circuits_link {
    /* Calls fn for each circuit there is. */
    void (*each)(void (*fn)(const struct circuit_now *now, void *arg), void *arg);
    /* Another process opened a circuit (CIRCUIT_OPEN), or its key was deleted (CIRCUIT_CLOSED). */
    void (*take_in)(struct slice name, enum circuit_state state, uint64_t opened_wall_us);
};

/* After redis_init(). The link must stay. */
enum gw_err circuits_init(const struct circuits_link *link) MUST_CHECK;
void circuits_deinit(void);

/* This process's own circuit has changed (recovery_us is not looked at): it is written, or its key
 * deleted. A reset of one that was closed all the time deletes the key, too. */
void circuits_changed(const struct circuit_now *now);
