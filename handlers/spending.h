/* spending.h - the routes that tell what calls cost. */
#pragma once

#include "gateway/http/request.h"

void spending_all(struct request *req); /* GET /api/v1/admin/costs */
void spending_own(struct request *req); /* GET /api/v1/usage: the caller's */
