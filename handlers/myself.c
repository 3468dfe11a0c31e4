/*
 * myself.c - see myself.h.
 *
 *     get:      user --> budgets (when there are any) --> answered
 *     password: user --> verify --> hash --> changed
 *     export:   user --> the parts, page by page --> answered
 *
 * Rows live in their callback only, so what is answered is written as it comes, into a buffer the
 * request's arena frees. A credential without a row (the master key, or a token where there is no
 * database) is told what it is.
 */
#include "handlers/myself.h"

#include "gateway/core/password.h"
#include "gateway/http/form.h"
#include "handlers/admin.h"
#include "handlers/keys.h"
#include "handlers/people.h"
#include "handlers/query.h"
#include "storage/apikeys.h"
#include "storage/principal.h"
#include "storage/users.h"

#define MAX_EXPORT (32u << 20)
#define STEP 1000

struct me {
    struct query q;
    struct buf out;
    struct json_writer w;
    unsigned part;  /* of an export: being written */
    int64_t offset; /* of its next rows */
};

static void free_out(void *out)
{
    buf_deinit(out);
}

/* A flow with an open object; NULL when the request has been answered. */
static struct me *me_new(struct request *req, size_t max_bytes)
{
    struct me *m = query_new(req, struct me);

    if (!m)
        return NULL;
    json_begin(&m->w, &m->out, max_bytes);
    json_obj(&m->w);
    if (arena_defer(req->arena, free_out, &m->out))
        return m;
    query_fail(&m->q, GW_ENOMEM);
    return NULL;
}

static void me_end(struct me *m)
{
    json_obj_end(&m->w);
    query_reply(&m->q, 200, &m->out);
}

/* --- get -------------------------------------------------------------------------------------- */

static void put_budget(struct json_writer *w, const struct budget_scope *s,
                       const struct budget_standing *is)
{
    json_obj(w);
    json_kv_cstr(w, "scope", s->id);
    query_put_usd(w, "limit_usd", s->limit_nano_usd);
    json_kv_cstr(w, "period", budget_period_name(s->period));
    query_put_count(w, "tokens_per_minute", s->tokens_per_minute);
    query_put_usd(w, "spent_usd", is ? is->spent_nano_usd : -1);
    query_put_usd(w, "held_usd", is ? is->held_nano_usd : -1);
    json_obj_end(w);
}

/* What nobody knows at the moment is null. */
static void on_standing(enum gw_err err, const struct budget_standing *s, void *arg)
{
    struct me *m = arg;
    const struct principal *p = m->q.req->principal;

    query_over(&m->q);
    json_kv_arr(&m->w, "budgets");
    for (unsigned i = 0; i < p->n_budget_scopes; i++)
        put_budget(&m->w, &p->scopes_of_budget[i], err ? NULL : &s[i]);
    json_arr_end(&m->w);
    me_end(m);
}

static void put_budgets(struct me *m)
{
    const struct principal *p = m->q.req->principal;

    if (p && p->n_budget_scopes) {
        query_wait(&m->q, budget_look(p->scopes_of_budget, p->n_budget_scopes, on_standing, m));
        return;
    }
    json_kv_raw(&m->w, "budgets", SLICE("[]"));
    me_end(m);
}

static void on_me(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct me *m = arg;
    struct user u;

    if (!query_good(&m->q, err) || !query_found(&m->q, user_read(rows, 0, &u), "user"))
        return;
    people_put(&m->w, &u);
    put_budgets(m);
}

static void put_rowless(struct me *m)
{
    const struct request *req = m->q.req;
    const struct principal *p = req->principal;

    json_kv_null(&m->w, "id");
    json_kv_text(&m->w, "user_id", p && *p->user_id ? slice_cstr(p->user_id) : req->who.subject);
    json_kv_cstr(&m->w, "role", query_is_admin(req) ? "admin" : "user");
    put_budgets(m);
}

void myself_get(struct request *req)
{
    struct me *m = me_new(req, QUERY_MAX_OUT);

    if (!m)
        return;
    if (query_owner(req).n)
        query_wait(&m->q, users_by_id(query_owner(req), req->deadline_us, on_me, m));
    else
        put_rowless(m);
}

/* --- password --------------------------------------------------------------------------------- */

struct password_asked {
    struct slice current, fresh;
};

static const struct form_field password_fields[] = {
    {"current_password", FORM_STRING, offsetof(struct password_asked, current), true,
     .class = FORM_OPAQUE, .min = 1, .max = PASSWORD_MAX},
    {"new_password", FORM_STRING, offsetof(struct password_asked, fresh), true,
     .class = FORM_OPAQUE, .min = PASSWORD_MIN, .max = PASSWORD_MAX / 4},
};
const struct form myself_password_form = FORM_OF(struct password_asked, password_fields);

struct renewal {
    struct query q;
    struct password_asked in;
    struct slice stored; /* hash the current one is verified against; in the arena */
};

static void on_renewed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (!query_good(q, err))
        return;
    if (pg_count(rows) == 0) {
        query_refuse(q, GW_ECONFLICT, SLICE("The account has changed meanwhile."));
        return;
    }
    admin_changed(q->req, "password.change", slice_cstr(q->req->principal->user_id));
    query_none(q);
}

static void on_hashed(enum gw_err err, struct slice stored, void *arg)
{
    struct renewal *r = arg;
    struct request *req = r->q.req;

    if (query_good(&r->q, err))
        query_wait(&r->q, users_renew(query_owner(req), r->stored, stored, req->deadline_us,
                                      on_renewed, r));
}

static void on_failure_booked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (!query_good(q, err))
        return;
    admin_audit(q->req, "password.change", slice_cstr(q->req->principal->user_id), "failed",
                SLICE_NONE);
    query_refuse(q, GW_EFORBIDDEN, SLICE("The current password is wrong."));
}

static void wait_for_pool(struct renewal *r, struct op *op)
{
    query_wait_hash(&r->q, op, SLICE("Too many passwords at once."));
}

/* A stolen token must not be a way to try passwords: failures count as those of logins do. */
static void on_verified(enum gw_err err, void *arg)
{
    struct renewal *r = arg;
    struct request *req = r->q.req;

    query_over(&r->q);
    if (err == GW_EUNAUTH)
        query_wait(&r->q, users_login_failed(query_owner(req), req->conf->lockout_failures,
                                             req->conf->lockout_minutes, on_failure_booked, r));
    else if (err)
        query_fail(&r->q, err);
    else
        wait_for_pool(r, password_hash(r->in.fresh, on_hashed, r));
}

static void on_mine(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct renewal *r = arg;
    struct user u;

    if (!query_good(&r->q, err) || !query_found(&r->q, user_read(rows, 0, &u), "user"))
        return;
    if (!query_keep(&r->q, u.password_hash, &r->stored))
        return;
    if (u.locked)
        query_refuse_later(&r->q, GW_ELOCKED, SLICE_NONE,
                           (uint64_t)r->q.req->conf->lockout_minutes * 60);
    else
        wait_for_pool(r, password_verify(r->in.current, r->stored, on_verified, r));
}

/* Has the caller a row of its own? Answers when not. */
static bool has_row(struct request *req)
{
    if (query_owner(req).n)
        return true;
    if (pg_enabled())
        query_deny(req, GW_EFORBIDDEN, SLICE("This credential belongs to no user."));
    else
        query_deny(req, GW_EUNAVAIL, SLICE("Users need a database: set DATABASE_URL."));
    return false;
}

void myself_password(struct request *req)
{
    struct password_asked in;
    struct renewal *r;

    if (!form_read(req, &in, NULL) || !has_row(req))
        return;
    if (in.current.n > PASSWORD_MAX) {
        form_refuse_field(req, "/current_password", "is longer than any password is");
        return;
    }
    r = query_new(req, struct renewal);
    if (!r)
        return;
    r->in = in;
    query_wait(&r->q, users_by_id(query_owner(req), req->deadline_us, on_mine, r));
}

/* --- export ----------------------------------------------------------------------------------- */

static int64_t put_day(struct json_writer *w, const struct pg_rows *rows, unsigned row)
{
    struct usage_day d;

    usage_day_read(rows, row, &d);
    json_kv_str(w, "day", d.day);
    json_kv_text(w, "key_id", d.key_id);
    json_kv_text(w, "provider", d.provider);
    json_kv_text(w, "model", d.model);
    json_kv_text(w, "purpose", d.purpose);
    json_kv_int(w, "calls", d.calls);
    json_kv_int(w, "cached", d.cached);
    json_kv_int(w, "tokens_in", d.tokens_in);
    json_kv_int(w, "tokens_out", d.tokens_out);
    query_put_usd(w, "cost_usd", d.cost_nano_usd);
    return 0;
}

/* What there may be much of, in the order it is written. */
static const struct {
    const char *name;
    struct op *(*ask)(struct slice owner_id, int64_t limit, int64_t offset, uint64_t deadline_us,
                      pg_done done, void *arg);
    query_put_row put_row;
} parts[] = {
    {"api_keys", apikeys_page, keys_put_row},
    {"usage_daily", users_usage, put_day},
};
#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static void on_part(enum gw_err err, const struct pg_rows *rows, void *arg);

static void ask_part(struct me *m)
{
    query_wait(&m->q, parts[m->part].ask(query_owner(m->q.req), STEP, m->offset,
                                         m->q.req->deadline_us, on_part, m));
}

static void begin_part(struct me *m, unsigned part)
{
    m->part = part;
    m->offset = 0;
    json_kv_arr(&m->w, parts[part].name);
    ask_part(m);
}

static void on_part(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct me *m = arg;

    if (!query_good(&m->q, err))
        return;
    (void)query_put_rows(&m->w, rows, parts[m->part].put_row);
    m->offset += STEP;
    if (pg_count(rows) == STEP) {
        ask_part(m);
        return;
    }
    json_arr_end(&m->w);
    if (m->part + 1 < N_PARTS)
        begin_part(m, m->part + 1);
    else
        me_end(m);
}

static void on_exported_user(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct me *m = arg;
    struct user u;

    if (!query_good(&m->q, err) || !query_found(&m->q, user_read(rows, 0, &u), "user"))
        return;
    json_kv_obj(&m->w, "user");
    people_put(&m->w, &u);
    json_obj_end(&m->w);
    begin_part(m, 0);
}

void myself_export(struct request *req)
{
    struct me *m = has_row(req) ? me_new(req, MAX_EXPORT) : NULL;

    if (m)
        query_wait(&m->q, users_by_id(query_owner(req), req->deadline_us, on_exported_user, m));
}
