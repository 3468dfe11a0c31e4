/* keys.h - API keys over HTTP: everyone's own, and for administrators everybody's. */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"

struct form;
struct pg_rows;

void keys_create(struct request *req); /* POST /api/v1/auth/api-keys */
void keys_list(struct request *req);   /* GET /api/v1/auth/api-keys */
void keys_revoke(struct request *req); /* DELETE /api/v1/auth/api-keys/{id} */
extern const struct form keys_create_form;

/* The members of a row of apikeys.h (query_put_row of query.h). */
int64_t keys_put_row(struct json_writer *w, const struct pg_rows *rows, unsigned row);
