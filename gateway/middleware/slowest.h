/*
 * slowest.h - the slowest requests of the last hour, of all workers, for the administration's page.
 *
 * Each worker keeps a few, in memory the workers share: a faster or an old one makes room. A place
 * belongs to a worker's number, not to its process: what a worker kept outlives its replacement.
 */
#pragma once

#include "gateway/http/request.h"

#define SLOWEST_ROOM 32u
#define SLOWEST_HOLD_US UINT64_C(3600000000)
#define SLOWEST_ID_BYTES 64u
#define SLOWEST_PATH_BYTES 96u

struct slow_request {
    uint64_t ended_us;    /* loop clock */
    uint64_t wall_us;     /* the same on the wall clock */
    uint64_t took_us;     /* 0: free */
    uint64_t upstream_us; /* of it, waiting for providers */
    enum http_method method;
    int status;
    char endpoint[SLOWEST_PATH_BYTES]; /* the route's template, cut; "unmatched" */
    char id[SLOWEST_ID_BYTES];         /* X-Request-ID, cut */
};

/* Maps memory for n workers, before they are forked; GW_ENOMEM. Without it this process keeps its
 * own. */
enum gw_err slowest_init(unsigned n_workers) MUST_CHECK;
/* Says which worker this process is (0 ... n - 1). */
void slowest_attach(unsigned worker);
/* Forgets all. */
void slowest_deinit(void);

/* Finish hook. */
void slowest_hook(struct request *req);

/* Copies those of all workers that are not too old, slowest first, to out[SLOWEST_ROOM]; returns
 * how many. */
unsigned slowest_list(struct slow_request *out);
