/* admin_cache.h - route handlers of admin_cache.c. */
#pragma once

#include "gateway/http/request.h"

void admin_cache(struct request *req);       /* GET /api/v1/admin/cache */
void admin_cache_clear(struct request *req); /* DELETE /api/v1/admin/cache/{namespace} */
