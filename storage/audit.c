/* audit.c - see audit.h. */
#include "storage/audit.h"

static const struct pg_stmt insert = {
    "audit_write", "INSERT INTO audit_log (actor, actor_ip, action, target, outcome, request_id, "
                   "detail) VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)"};
static const struct pg_stmt page = {
    "audit_page",
    PG_PAGE("a.id, to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), a.actor, "
            "a.actor_ip, a.action, a.target, a.outcome, a.request_id, a.detail",
            "audit_log", "a",
            "($1::text IS NULL OR a.actor = $1) AND ($2::text IS NULL OR a.action = $2) AND "
            "($3::timestamptz IS NULL OR a.at >= $3)",
            "a.id DESC", "$4", "$5")};

static void on_written(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    static const struct log_ctx ctx = {.component = "audit"};

    if (err)
        log_warn(&ctx, "audit_row_lost", F_CSTR("error", err_info(err)->slug));
}

struct op *audit_insert(const struct audit_entry *e, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, e->actor.n ? e->actor : SLICE("anonymous"));
    pg_arg_or_null(&a, e->actor_ip);
    pg_arg_cstr(&a, e->action);
    pg_arg_or_null(&a, e->target);
    pg_arg_cstr(&a, e->outcome);
    pg_arg_or_null(&a, e->request_id);
    pg_arg_or_null(&a, e->detail);
    return pg_query(PG_WRITE, &insert, &a, deadline_us, done, arg);
}

void audit_note(const struct log_ctx *log, const struct audit_entry *e)
{
    log_info(log, "audit", F_STR("actor", e->actor), F_CSTR("action", e->action),
             F_STR("target", e->target), F_CSTR("outcome", e->outcome),
             F_STR("actor_ip", e->actor_ip));
}

void audit_write(const struct log_ctx *log, const struct audit_entry *e)
{
    audit_note(log, e);
    if (pg_enabled())
        (void)audit_insert(e, 0, on_written, NULL);
}

struct op *audit_page(const struct audit_filter *f, int64_t limit, int64_t offset,
                      uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_or_null(&a, f->actor);
    pg_arg_or_null(&a, f->action);
    pg_arg_or_null(&a, f->since);
    pg_arg_int(&a, limit);
    pg_arg_int(&a, offset);
    return pg_query(PG_READ, &page, &a, deadline_us, done, arg);
}
