/* audited.c - see audited.h. */
#include "handlers/audited.h"

#include "storage/audit.h"

void audited(struct request *req, const char *action, struct slice target, const char *outcome)
{
    struct audit_entry e = {
        .actor = req->who.known ? req->who.subject : SLICE("anonymous"),
        .actor_ip = req->client_ip,
        .action = action,
        .target = target,
        .outcome = outcome,
        .request_id = req->id,
    };

    audit_write(&req->log, &e);
}
