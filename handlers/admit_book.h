/* admit_book.h - the ledger's row of a call. */
#pragma once

#include "handlers/admit.h"
#include "handlers/admit_cost.h"

/* Books a call that was admitted at `begun_wall_us`: the period of its reservation is the period of
 * its row. */
void admit_book(struct request *req, const struct admit_ask *ask, const struct admit_outcome *out,
                const struct admit_bill *bill, uint64_t begun_wall_us);
