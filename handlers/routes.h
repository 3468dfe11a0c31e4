/* routes.h - the table of all routes. */
#pragma once

#include "gateway/core/err.h"

struct route;

/* Hands the table, and its deprecated aliases, to the router. */
enum gw_err routes_init(void) MUST_CHECK;
void routes_deinit(void);

/* Calls fn for every row, aliases not among them. */
void routes_each(void (*fn)(const struct route *r, void *arg), void *arg);
