/* models.h - route handlers of models.c. */
#pragma once

#include "gateway/http/request.h"

void models_list(struct request *req);      /* GET /v1/models */
void models_get(struct request *req);       /* GET /v1/models/{id...} */
void models_native(struct request *req);    /* GET /api/v1/models */
void models_providers(struct request *req); /* GET /api/v1/providers */
