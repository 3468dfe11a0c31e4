/* health.h - route handlers of health.c, and the state they tell. */
#pragma once

#include "gateway/http/request.h"

void health_full(struct request *req);  /* GET /api/v1/health, /api/health, /health */
void health_live(struct request *req);  /* GET /api/v1/health/live */
void health_ready(struct request *req); /* GET /api/v1/health/ready */

/* Called once when the process serves; before, `ready` answers 503. */
void health_started(void);
