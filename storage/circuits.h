/*
 * circuits.h - which circuits are open, shared by all processes through Redis: a hash
 * `circuit:<provider>` in DB 0, under exactly that name since operators type it, with
 *
 *     state      "open", or "half_open" while whoever wrote it probes
 *     opened_at  microseconds since 1970
 *     version    counts the writings since the key was made
 *     probe:<id> a probe that is out, until when at most (milliseconds since 1970, Redis' clock)
 *
 * A closed circuit has no key: DEL closes the circuit in every running process within a second, and
 * a key is gone by itself after CIRCUITS_TTL_RECOVERIES times the recovery time. All keys are read
 * about every 400 ms.
 *
 * An absent key closes a circuit only where it is known to have been in this very server: a circuit
 * that opened while Redis was away, or whose Redis came back empty, is written again instead.
 * Another process's half_open never makes this one half-open (it is open until the key says more),
 * but its probe is this one's too: who wants to send one claims it first, by a script that grants
 * no more than there may be. That is the only question asked on a request's way, and only once a
 * circuit's recovery time has passed. While Redis is away each process grants its own. What is no
 * such hash, or has values that cannot be, is ignored until a circuit opens, which writes over it.
 *
 * Storage knows no providers: the program wires the two (struct circuits_link).
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define CIRCUITS_TTL_RECOVERIES 10u
#define CIRCUITS_CLAIM_AGAIN_US 1000000u

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

/* May a probe go out, named `id`, when all processes together have at most `probes` out? What is
 * granted ends after lease_us, unless it is released or the circuit changes before. done(wait_us,
 * arg) once, on the loop, never inside: 0 when it may (also when Redis fails to answer), else when
 * to ask again, at most CIRCUITS_CLAIM_AGAIN_US. NULL when Redis cannot be asked: it may. */
struct op *circuits_claim(const char *name, uint64_t id, unsigned probes, uint64_t lease_us,
                          void (*done)(uint64_t wait_us, void *arg), void *arg);
/* It has ended without saying anything about the circuit. Fine for what was never granted. */
void circuits_release(const char *name, uint64_t id);
