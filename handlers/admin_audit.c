/* admin_audit.c - see admin.h. */
#include "handlers/admin.h"
#include "storage/audit.h"
#include "storage/keyring.h"

void admin_audit(struct request *req, const char *action, struct slice target, const char *outcome,
                 struct slice detail)
{
    const struct audit_entry e = {
        .actor = req->who.subject.n ? req->who.subject : SLICE("anonymous"),
        .actor_ip = req->client_ip,
        .action = action,
        .target = target,
        .outcome = outcome,
        .request_id = req->id,
        .detail = detail,
    };

    req->recorded = true;
    audit_write(&req->log, &e);
}

void admin_changed(struct request *req, const char *action, struct slice target)
{
    keyring_changed();
    admin_audit(req, action, target, "ok", SLICE_NONE);
}
