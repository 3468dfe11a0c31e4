/*
 * legacy.h - the deprecated paths: which there are, and what each is now.
 *
 * Nobody writes rows for them. The table of routes is widened at start: each native route
 * /api/v1/X also answers at /api/X, unless a row of its own is there, and a few old names
 * (/auth/token, /chat) answer where their successor exists. An alias is a copy of its successor's
 * row with `path` changed and `successor` set; deprecation.c does the rest.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/http/router.h"

/* `rows` and their aliases, in the arena, which must stay as long as the router has the table.
 * GW_ENOMEM. */
enum gw_err legacy_widen(struct arena *a, const struct route *rows, unsigned n,
                         const struct route **ret_rows, unsigned *ret_n) MUST_CHECK;

/* The path this request should have been sent to, with %2F and %25 escaped as in req->path;
 * req->path itself when it is no alias. p == NULL out of memory. */
struct slice legacy_path(const struct request *req);
