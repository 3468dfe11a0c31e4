/*
 * slowest.h - the slowest requests of the last hour, in this worker, for the administration's page.
 * A few are kept; a faster or an old one makes room.
 */
#pragma once

#include "gateway/http/request.h"

#define SLOWEST_ROOM 32u
#define SLOWEST_HOLD_US UINT64_C(3600000000)
#define SLOWEST_ID_BYTES 64u

struct slow_request {
    uint64_t ended_us;         /* loop clock */
    uint64_t wall_us;          /* the same on the wall clock */
    uint64_t took_us;          /* 0: free */
    uint64_t upstream_us;      /* of it, waiting for providers */
    const struct route *route; /* or NULL */
    enum http_method method;
    int status;
    char id[SLOWEST_ID_BYTES]; /* X-Request-ID, cut */
};

/* Finish hook. */
void slowest_hook(struct request *req);

/* Copies those that are not too old, slowest first, to out[SLOWEST_ROOM]; returns how many. */
unsigned slowest_list(struct slow_request *out);

/* Forgets all (tests, and the end). */
void slowest_deinit(void);
