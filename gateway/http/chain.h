/*
 * chain.h - runs an array of middleware rows, then the route's handler. A row may park the request
 * and resume it later from the loop, in either phase.
 */
#pragma once

#include "gateway/http/request.h"

enum chain_verdict {
    CHAIN_NEXT,  /* go on with the next row */
    CHAIN_DONE,  /* it has answered (request_finish/fail/reply) */
    CHAIN_PARKED /* it will call chain_resume() later, from the loop, or finish the request. It
                    holds a reference and has set request_on_abort() to learn that the client has
                    left or the deadline has passed; it takes the hook away before it resumes */
};

/* When a row runs. */
enum chain_phase {
    CHAIN_HEAD, /* as soon as the head is read, before the body: may refuse early. While such a row
                   is parked the body waits in the socket and in a bounded buffer */
    CHAIN_BODY  /* when the body is complete */
};

struct chain_row {
    const char *name;
    enum chain_phase phase;
    enum chain_verdict (*run)(struct request *req);
};

/* The chain of all requests; the table must stay. */
void chain_init(const struct chain_row *rows, unsigned n);

/*
 * Runs the rows of CHAIN_HEAD. NEXT: all have passed it, its body is wanted. DONE: it was answered,
 * or its client is gone. PARKED: `passed` is called from chain_resume() once the rows behind the
 * parked one have passed it too; never when it is answered in the end. Called by the server.
 */
enum chain_verdict chain_run_head(struct request *req, void (*passed)(struct request *req));

/* Runs the rows of CHAIN_BODY, then route->handler. Called by the server. */
void chain_run_body(struct request *req);

/* Goes on behind the row that parked. On the loop, not inside that row's run(). Does nothing more
 * when the request has been answered or its client has left meanwhile. */
void chain_resume(struct request *req);
