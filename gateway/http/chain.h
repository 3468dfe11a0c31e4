/*
 * chain.h - runs an array of middleware rows, then the route's handler. A middleware may park the
 * request and resume it later from the loop.
 */
#pragma once

#include "gateway/http/request.h"

enum chain_verdict {
    CHAIN_NEXT,  /* go on with the next row */
    CHAIN_DONE,  /* it has answered (request_finish/fail/reply) */
    CHAIN_PARKED /* it will call chain_resume() later, from the loop, or finish the request */
};

/* When a row runs. */
enum chain_phase {
    CHAIN_HEAD, /* as soon as the head is read, before the body: may refuse early; may not park */
    CHAIN_BODY  /* when the body is complete */
};

struct chain_row {
    const char *name;
    enum chain_phase phase;
    enum chain_verdict (*run)(struct request *req);
};

/* The chain of all requests; the table must stay. */
void chain_init(const struct chain_row *rows, unsigned n);

/* Runs the rows of CHAIN_HEAD. Returns true when the request goes on (its body is wanted), false
 * when it was answered. Called by the server. */
bool chain_run_head(struct request *req);

/* Runs the rows of CHAIN_BODY, then route->handler. Called by the server. */
void chain_run_body(struct request *req);

/* Goes on behind the row that parked. On the loop, not inside that row's run(). */
void chain_resume(struct request *req);
