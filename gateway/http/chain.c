/*
 * chain.c - see chain.h. Where a request stands is kept in its arena, from the first row to the
 * handler.
 *
 *     HEAD rows --all passed--> the server reads the body --> BODY rows --all passed--> handler
 *       '--PARKED--chain_resume()--> further rows ...          '--PARKED-- the same
 */
#include "gateway/http/chain.h"

#include "gateway/http/router.h"

#include <assert.h>

struct chain_run {
    unsigned at; /* row being run, or the one that parked */
    enum chain_phase phase;
    bool parked;
    void (*passed)(struct request *req); /* what follows the phase once a row has parked in it */
};

static const struct chain_row *table;
static unsigned table_n;

void chain_init(const struct chain_row *rows, unsigned n)
{
    table = rows;
    table_n = n;
}

static bool is_over(const struct request *req)
{
    return req->replied || req->finished || !request_is_wanted(req);
}

/* Runs the rows of the phase from run->at on. */
static enum chain_verdict run_rows(struct request *req)
{
    struct chain_run *run = req->run;
    enum chain_verdict v;

    for (; run->at < table_n; run->at++) {
        if (table[run->at].phase != run->phase)
            continue;
        v = table[run->at].run(req);
        run->parked = v == CHAIN_PARKED;
        if (v != CHAIN_NEXT)
            return v;
        if (is_over(req))
            return CHAIN_DONE;
    }
    return CHAIN_NEXT;
}

static enum chain_verdict run_phase(struct request *req, enum chain_phase phase,
                                    void (*passed)(struct request *req))
{
    if (!req->run)
        req->run = arena_new(req->arena, struct chain_run);
    if (!req->run) {
        request_fail(req, GW_ENOMEM, NULL);
        return CHAIN_DONE;
    }
    *req->run = (struct chain_run){.phase = phase, .passed = passed};
    return run_rows(req);
}

enum chain_verdict chain_run_head(struct request *req, void (*passed)(struct request *req))
{
    return run_phase(req, CHAIN_HEAD, passed);
}

void chain_run_body(struct request *req)
{
    assert(req->route);
    if (run_phase(req, CHAIN_BODY, req->route->handler) == CHAIN_NEXT)
        req->route->handler(req);
}

void chain_resume(struct request *req)
{
    assert(req->run && req->run->parked);
    req->run->parked = false;
    if (is_over(req))
        return;
    req->run->at++;
    if (run_rows(req) == CHAIN_NEXT)
        req->run->passed(req);
}
