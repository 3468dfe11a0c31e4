/* spend.h - what a key or a team has spent, summed up from the ledger's daily table. */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/op.h"

#include <stdint.h>

/* From the day `begin_s` lies in (seconds since 1970, UTC) to before the day of `end_s` (0 = open).
 * `scope` is "key:<uuid>" or "team:<uuid>". done(err, nano_usd, arg): as pg_query(). NULL out of
 * memory. */
struct op *spend_of_scope(const char *scope, int64_t begin_s, int64_t end_s, uint64_t deadline_us,
                          void (*done)(enum gw_err err, int64_t nano_usd, void *arg), void *arg);
