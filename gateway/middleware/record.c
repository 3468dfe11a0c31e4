/*
 * record.c - acts that were refused or failed are in the audit record too.
 *
 * A handler records what it did, or what it made of it. Most refusals happen elsewhere (in
 * authorise.c, or where nothing was found to be changed), so the end of a request whose route names
 * an act is looked at here: when it was not done and nobody has recorded it, this does.
 *
 * What could not be understood (400, 413, 415, 422), was too much (429) or took too long is no
 * decision about anybody. Callers nobody knows get the line in the log only: they could fill the
 * table, from which nothing can be deleted.
 */
#include "gateway/core/conceal.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"
#include "storage/audit.h"

#define TARGET_BYTES 96u

/* "refused", "failed", or NULL for what is not recorded. */
static const char *outcome_of(int status)
{
    switch (status) {
    case 401:
    case 403:
    case 404:
    case 409:
    case 412:
    case 423:
        return "refused";
    case 500:
    case 502:
    case 503:
        return "failed";
    default:
        return NULL;
    }
}

void record_hook(struct request *req)
{
    const char *outcome = req->route && req->route->act ? outcome_of(req->status) : NULL;
    char target[TARGET_BYTES];
    struct audit_entry e;

    if (!outcome || req->recorded)
        return;
    conceal_keys(req->params[0], target, sizeof(target));
    e = (struct audit_entry){
        .actor = req->who.known ? req->who.subject : SLICE("anonymous"),
        .actor_ip = req->client_ip,
        .action = req->route->act,
        .target = slice_cstr(target),
        .outcome = outcome,
        .request_id = req->id,
        .detail = arena_printf(req->arena, "{\"error\": \"%s\"}", err_info(req->err)->slug),
    };
    if (req->who.known)
        audit_write(&req->log, &e);
    else
        audit_note(&req->log, &e);
}
