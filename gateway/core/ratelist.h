/*
 * ratelist.h - rates of single routes: "POST /v1/chat/completions=120/20". Pure.
 */
#pragma once

#include "gateway/core/bucket.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

struct ratelist_item {
    struct slice route;        /* "POST /v1/chat/completions", as written */
    struct slice method, path; /* its halves; the path is a route's template */
    struct bucket_rate rate;
};

/* Takes one item apart; slices point into the text. GW_EBADREQ when it is none. */
enum gw_err ratelist_parse(struct slice text, struct ratelist_item *ret) MUST_CHECK;
