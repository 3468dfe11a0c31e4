/* audited.h - what a request did, in the audit record (storage/audit.h). */
#pragma once

#include "gateway/http/request.h"

/* Who asked, from where and under which request id come from the request. Outcome: "ok", "refused",
 * "failed". */
void audited(struct request *req, const char *action, struct slice target, const char *outcome);
