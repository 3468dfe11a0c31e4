/* admin_teams.h - teams, for administrators. */
#pragma once

#include "gateway/http/request.h"

struct form;

void admin_teams_create(struct request *req); /* POST /api/v1/admin/teams */
void admin_teams_list(struct request *req);   /* GET /api/v1/admin/teams */
void admin_teams_get(struct request *req);    /* GET /api/v1/admin/teams/{id} */
void admin_teams_put(struct request *req);    /* PUT /api/v1/admin/teams/{id} */
void admin_teams_remove(struct request *req); /* DELETE /api/v1/admin/teams/{id} */
extern const struct form admin_teams_form;
