/*
 * people.c - see people.h.
 *
 *     create: (team by name) --> hash --> added
 *     change: (compared, with If-Match) --> (team by name) --> (hash) --> changed, or: there is
 *             none, it is another by now, or the last administrator --> looked up to tell which
 *
 * With If-Match only the row is changed whose ETag the client has seen. Tags are compared weakly,
 * since ours are weak.
 */
#include "handlers/people.h"

#include "gateway/core/password.h"
#include "gateway/core/rng.h"
#include "gateway/http/etag.h"
#include "gateway/http/form.h"
#include "handlers/admin.h"
#include "handlers/query.h"
#include "storage/keyring.h"
#include "storage/teams.h"
#include "storage/users.h"

/* --- writing ---------------------------------------------------------------------------------- */

void people_put(struct json_writer *w, const struct user *u)
{
    json_kv_str(w, "id", u->id);
    json_kv_str(w, "user_id", u->user_id);
    query_put_text(w, "email", u->email);
    json_kv_str(w, "role", u->role);
    query_put_text(w, "team", u->team_name);
    query_put_text(w, "team_id", u->team_id);
    json_kv_bool(w, "disabled", u->disabled);
    query_put_text(w, "locked_until", u->locked_until);
    json_kv_str(w, "created_at", u->created_at);
    json_kv_str(w, "updated_at", u->updated_at);
}

static void write_user(struct buf *out, const struct user *u)
{
    struct json_writer w;

    buf_init(out, QUERY_MAX_OUT);
    json_writer_init(&w, out);
    json_obj(&w);
    people_put(&w, u);
    json_obj_end(&w);
}

static void reply_user(struct query *q, int status, const struct user *u)
{
    struct buf out;

    write_user(&out, u);
    request_set_header(q->req, "ETag", etag_of(q->req->arena, buf_slice(&out)));
    query_reply(q, status, &out);
}

/* --- create and change ------------------------------------------------------------------------ */

struct user_asked {
    struct slice user_id, email, password, role, team;
    bool disabled;
};

static const struct form_field create_fields[] = {
    {.name = "user_id",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, user_id),
     .required = true,
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = 64},
    {.name = "email",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, email),
     .class = FORM_EMAIL,
     .min = 3,
     .max = 254},
    {.name = "password",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, password),
     .required = true,
     .class = FORM_OPAQUE,
     .min = PASSWORD_MIN,
     .max = PASSWORD_MAX / 4},
    {.name = "role",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, role),
     .class = FORM_IDENTIFIER,
     .words = "user admin"},
    {.name = "team",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, team),
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = 64},
};
const struct form people_create_form = FORM_OF(struct user_asked, create_fields);

static const struct form_field change_fields[] = {
    {.name = "email",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, email),
     .nullable = true,
     .class = FORM_EMAIL,
     .min = 3,
     .max = 254},
    {.name = "password",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, password),
     .class = FORM_OPAQUE,
     .min = PASSWORD_MIN,
     .max = PASSWORD_MAX / 4},
    {.name = "role",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, role),
     .class = FORM_IDENTIFIER,
     .words = "user admin"},
    {.name = "team",
     .type = FORM_STRING,
     .at = offsetof(struct user_asked, team),
     .nullable = true,
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = 64},
    {.name = "disabled", .type = FORM_BOOL, .at = offsetof(struct user_asked, disabled)},
};
const struct form people_change_form = FORM_OF(struct user_asked, change_fields);

struct edit {
    struct query q;
    struct user_asked in;
    struct user_change to; /* of a change; slices in the arena */
    bool creates;
    char id[UUID_TEXT];
};

static void on_created(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct user u;

    query_over(&e->q);
    if (err == GW_ECONFLICT) {
        query_refuse(&e->q, err, SLICE("There is a user of that name already."));
        return;
    }
    if (err || !user_read(rows, 0, &u)) {
        query_fail(&e->q, err ? err : GW_EINTERNAL);
        return;
    }
    keyring_changed();
    admin_audit(e->q.req, "user.create", u.user_id, "ok", SLICE_NONE);
    reply_user(&e->q, 201, &u);
}

static void refuse_last(struct query *q)
{
    query_refuse(q, GW_ECONFLICT, SLICE("This is the last administrator."));
}

static void refuse_missing(struct query *q)
{
    query_refuse(q, GW_ENOTFOUND, SLICE("There is no such user."));
}

/* Nothing was changed: is nobody there, or must one stay? */
static void on_why(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (!query_good(q, err))
        return;
    if (pg_count(rows))
        refuse_last(q);
    else
        refuse_missing(q);
}

static void on_why_unchanged(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct user u;

    if (!err && e->to.version.n && user_read(rows, 0, &u) && !slice_eq(e->to.version, u.version)) {
        query_over(&e->q);
        query_refuse(&e->q, GW_EPRECOND, SLICE_NONE);
        return;
    }
    on_why(err, rows, e);
}

static void on_changed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct user u;

    if (!query_good(&e->q, err))
        return;
    if (!user_read(rows, 0, &u)) {
        query_wait(&e->q,
                   users_by_id(slice_cstr(e->id), e->q.req->deadline_us, on_why_unchanged, e));
        return;
    }
    keyring_changed();
    admin_audit(e->q.req, "user.change", u.user_id, "ok", SLICE_NONE);
    reply_user(&e->q, 200, &u);
}

static void store(struct edit *e)
{
    const struct user_new u = {
        .id = slice_cstr(e->id),
        .user_id = e->in.user_id,
        .email = e->in.email,
        .password_hash = e->to.password_hash,
        .role = e->in.role,
        .team_id = e->to.team_id,
    };
    uint64_t deadline_us = e->q.req->deadline_us;

    query_wait(&e->q, e->creates
                          ? users_add(&u, deadline_us, on_created, e)
                          : users_change(slice_cstr(e->id), &e->to, deadline_us, on_changed, e));
}

static void on_hashed(enum gw_err err, struct slice stored, void *arg)
{
    struct edit *e = arg;

    if (!query_good(&e->q, err))
        return;
    e->to.password_hash = arena_dup(e->q.req->arena, stored);
    if (e->to.password_hash.p)
        store(e);
    else
        query_fail(&e->q, GW_ENOMEM);
}

static void hash(struct edit *e)
{
    struct op *op;

    if (!e->in.password.p) {
        store(e);
        return;
    }
    op = password_hash(e->in.password, on_hashed, e);
    if (op)
        query_wait(&e->q, op);
    else
        query_refuse(&e->q, GW_EOVERLOAD, SLICE("Too many passwords at once."));
}

static void on_team(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;

    if (!query_good(&e->q, err))
        return;
    if (pg_count(rows) == 0) {
        query_refuse(&e->q, GW_ENOTFOUND, SLICE("There is no such team."));
        return;
    }
    e->to.team_id = arena_dup(e->q.req->arena, pg_text(rows, 0, 0));
    hash(e);
}

static void begin(struct edit *e)
{
    if (e->in.team.n)
        query_wait(&e->q, teams_by_name(e->in.team, e->q.req->deadline_us, on_team, e));
    else
        hash(e);
}

void people_create(struct request *req)
{
    struct user_asked in = {.role = SLICE("user")};
    struct edit *e;

    if (!form_read(req, &in, NULL))
        return;
    e = query_new(req, struct edit);
    if (!e)
        return;
    e->in = in;
    e->creates = true;
    rng_uuid(e->id);
    begin(e);
}

/* Is it still what the client has seen? */
static void on_to_compare(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct request *req = e->q.req;
    struct slice tag;
    struct user u;
    struct buf out;

    if (!query_good(&e->q, err))
        return;
    if (!user_read(rows, 0, &u)) {
        refuse_missing(&e->q);
        return;
    }
    write_user(&out, &u);
    tag = etag_of(req->arena, buf_slice(&out));
    buf_deinit(&out);
    e->to.version = arena_dup(req->arena, u.version);
    if (!tag.n || !e->to.version.n)
        query_fail(&e->q, GW_ENOMEM);
    else if (!etag_listed(request_header(req, "if-match"), tag))
        query_refuse(&e->q, GW_EPRECOND, SLICE_NONE);
    else
        begin(e);
}

static void deny_missing(struct request *req)
{
    query_deny(req, GW_ENOTFOUND, SLICE("There is no such user."));
}

void people_change(struct request *req)
{
    struct user_asked in = {.email = SLICE_NONE};
    struct form_seen seen;
    struct edit *e;

    if (!form_read(req, &in, &seen))
        return;
    if (!query_is_uuid(req->params[0])) {
        deny_missing(req);
        return;
    }
    e = query_new(req, struct edit);
    if (!e)
        return;
    e->in = in;
    memcpy(e->id, req->params[0].p, UUID_TEXT - 1);
    e->to.email = form_nulled(&people_change_form, &seen, "email") ? SLICE("") : in.email;
    e->to.role = in.role;
    if (form_nulled(&people_change_form, &seen, "team"))
        e->to.team_id = SLICE("");
    if (form_given(&people_change_form, &seen, "disabled"))
        e->to.disabled = &e->in.disabled;
    if (request_header_count(req, "if-match"))
        query_wait(&e->q, users_by_id(slice_cstr(e->id), req->deadline_us, on_to_compare, e));
    else
        begin(e);
}

/* --- list, get, remove ------------------------------------------------------------------------ */

struct listing {
    struct query q;
    struct page page;
};

static void on_page(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct listing *l = arg;
    struct user u = {.total = 0};
    struct json_writer w;
    struct buf out;

    if (!query_good(&l->q, err))
        return;
    buf_init(&out, QUERY_MAX_OUT);
    page_begin(&w, &out);
    for (unsigned i = 0; user_read(rows, i, &u); i++) {
        json_obj(&w);
        people_put(&w, &u);
        json_obj_end(&w);
    }
    query_page(&l->q, &l->page, u.total, &w);
}

void people_list(struct request *req)
{
    struct listing *l;
    struct page page;

    if (!page_read(req, &page))
        return;
    l = query_new(req, struct listing);
    if (!l)
        return;
    l->page = page;
    query_wait(&l->q, users_page(page.per_page, page.offset, req->deadline_us, on_page, l));
}

static void on_one(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;
    struct user u;

    if (!query_good(q, err))
        return;
    if (user_read(rows, 0, &u))
        reply_user(q, 200, &u);
    else
        refuse_missing(q);
}

void people_get(struct request *req)
{
    struct query *q;

    if (!query_is_uuid(req->params[0])) {
        deny_missing(req);
        return;
    }
    q = query_new(req, struct query);
    if (q)
        query_wait(q, users_by_id(req->params[0], req->deadline_us, on_one, q));
}

static void on_removed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (err == GW_ENOTFOUND) {
        query_over(q);
        query_refuse(q, GW_ECONFLICT, SLICE("The user still has documents."));
        return;
    }
    if (!query_good(q, err))
        return;
    if (pg_count(rows) == 0) {
        query_wait(q, users_by_id(q->req->params[0], q->req->deadline_us, on_why, q));
        return;
    }
    keyring_changed();
    admin_audit(q->req, "user.remove", q->req->params[0], "ok", SLICE_NONE);
    query_none(q);
}

void people_remove(struct request *req)
{
    struct query *q;

    if (!query_is_uuid(req->params[0])) {
        deny_missing(req);
        return;
    }
    q = query_new(req, struct query);
    if (q)
        query_wait(q, users_remove(req->params[0], req->deadline_us, on_removed, q));
}
