/*
 * replay.h - answers a request with bytes that are there already, or that another request's call is
 * still gathering: whole, or as a stream at its reader's pace.
 */
#pragma once

#include "handlers/flight.h"
#include "handlers/kept.h"

/* How it is told; outlives the call. */
struct replay_form {
    struct slice heartbeat; /* what keeps a silent stream alive; empty = none */
    const char *x_cache;    /* "HIT", "SEMANTIC" */
    double similarity;      /* of a question that means the same; 0 = the same question */
    /* A whole answer as this client should see it; NULL: as it is. */
    enum gw_err (*retell)(struct slice body, struct buf *out, void *arg);
    /* How it ended, once, before the request is let go; `k` is NULL when nothing was there. */
    void (*over)(const struct kept *k, enum gw_err err, void *arg);
    void *arg;
};

/* Answers from a blob (a reference is taken). False when it cannot be read: nothing was done. */
bool replay_blob(struct request *req, struct blob *b, const struct replay_form *form);

/* Answers with what the flight gathers. GW_ENOMEM: nothing was done. */
enum gw_err replay_flight(struct request *req, struct flight *f, const struct replay_form *form);
