/* trail.h - the audit record, newest first. */
#pragma once

#include "gateway/http/request.h"

void trail_list(struct request *req); /* GET /api/v1/admin/audit?actor=,action=,since= */
