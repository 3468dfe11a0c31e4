/*
 * admin.h - the administration's routes.
 *
 *     admin_performance.c   how long operations take, and the slowest requests
 *     admin_config.c        the configuration in force, and reading it again
 *     admin_level.c         log levels while running
 *     admin_audit.c         the record of what was done, for all of them
 */
#pragma once

#include "gateway/http/request.h"

void admin_performance(struct request *req); /* GET /api/v1/admin/performance */
void admin_config(struct request *req);      /* GET /api/v1/admin/config */
void admin_reload(struct request *req);      /* POST /api/v1/admin/config/reload */
void admin_level(struct request *req);       /* PUT /api/v1/admin/log-level */

extern const struct form admin_level_form;

/* Records an act of the caller (storage/audit.h), or that it was not done; what a route names as
 * its act and nobody has recorded when it was refused, middleware/record.c does. `outcome` is "ok",
 * "refused" or "failed"; `detail` a JSON object without secrets, or empty. */
void admin_audit(struct request *req, const char *action, struct slice target, const char *outcome,
                 struct slice detail);

/* The same of a change of users, teams or keys that has been made: the workers look again, too. */
void admin_changed(struct request *req, const char *action, struct slice target);
