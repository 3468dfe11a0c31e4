/* routes.h - the table of all routes. */
#pragma once

#include "gateway/core/err.h"

/* Hands the table to the router. */
enum gw_err routes_init(void) MUST_CHECK;
