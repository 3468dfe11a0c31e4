/* models.h - route handlers of models.c. */
#pragma once

#include "gateway/http/request.h"

void models_list(struct request *req);      /* GET /v1/models */
void models_get(struct request *req);       /* GET /v1/models/{id...} */
void models_native(struct request *req);    /* GET /api/v1/models */
void models_providers(struct request *req); /* GET /api/v1/providers */

/* Of the lists (Google's is in generate_models.c): is it an alias's name, and a whole number of the
 * query string, left as it was when there is none; GW_ESCHEMA for other text. */
struct registry;
bool models_is_alias(const struct registry *r, struct slice name);
enum gw_err models_query_int(struct request *req, const char *name, int64_t *ret);
