/* chain.c - see chain.h. Where a request stands is kept in its arena, from the first row to the
 * handler. */
#include "gateway/http/chain.h"

#include "gateway/http/router.h"

#include <assert.h>

struct chain_run {
    unsigned at; /* row being run, or the one that parked */
    bool parked;
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
    return req->replied || req->finished || !req->conn;
}

/* Runs the rows of a phase from run->at on; true when all of them said NEXT. */
static bool run_rows(struct request *req, enum chain_phase phase)
{
    struct chain_run *run = req->run;
    enum chain_verdict v;

    for (; run->at < table_n; run->at++) {
        if (table[run->at].phase != phase)
            continue;
        v = table[run->at].run(req);
        assert(v != CHAIN_PARKED || phase == CHAIN_BODY);
        run->parked = v == CHAIN_PARKED;
        if (v != CHAIN_NEXT || is_over(req))
            return false;
    }
    return true;
}

static bool run_ready(struct request *req)
{
    if (!req->run)
        req->run = arena_new(req->arena, struct chain_run);
    if (!req->run) {
        request_fail(req, GW_ENOMEM, NULL);
        return false;
    }
    *req->run = (struct chain_run){0};
    return true;
}

bool chain_run_head(struct request *req)
{
    return run_ready(req) && run_rows(req, CHAIN_HEAD);
}

static void go_on(struct request *req)
{
    if (run_rows(req, CHAIN_BODY))
        req->route->handler(req);
}

void chain_run_body(struct request *req)
{
    assert(req->route);
    if (run_ready(req))
        go_on(req);
}

void chain_resume(struct request *req)
{
    assert(req->run && req->run->parked);
    req->run->parked = false;
    if (is_over(req))
        return;
    req->run->at++;
    go_on(req);
}
