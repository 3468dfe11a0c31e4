/* ops.h - route handlers of ops.c. */
#pragma once

#include "gateway/http/request.h"

void ops_metrics(struct request *req);       /* GET /metrics */
void ops_circuits(struct request *req);      /* GET /api/v1/admin/circuits */
void ops_circuit_reset(struct request *req); /* POST /api/v1/admin/circuits/{name}/reset */
