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
#include "storage/teams.h"
#include "storage/users.h"

/* --- writing ---------------------------------------------------------------------------------- */

void people_put(struct json_writer *w, const struct user *u)
{
    json_kv_str(w, "id", u->id);
    json_kv_str(w, "user_id", u->user_id);
    json_kv_text(w, "email", u->email);
    json_kv_str(w, "role", u->role);
    json_kv_text(w, "team", u->team_name);
    json_kv_text(w, "team_id", u->team_id);
    json_kv_bool(w, "disabled", u->disabled);
    json_kv_text(w, "locked_until", u->locked_until);
    json_kv_str(w, "created_at", u->created_at);
    json_kv_str(w, "updated_at", u->updated_at);
}

static void write_user(struct buf *out, const struct user *u)
{
    struct json_writer w;

    query_object(&w, out);
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

/* What both forms have; in the one that `changes` nothing is needed, and null takes away. */
/* clang-format off */
#define USER_ROWS(changes)                                                                         \
    {"email", FORM_STRING, offsetof(struct user_asked, email), .nullable = (changes),              \
     .class = FORM_EMAIL, .min = 3, .max = 254},                                                   \
    {"password", FORM_STRING, offsetof(struct user_asked, password), .required = !(changes),       \
     .class = FORM_OPAQUE, .min = PASSWORD_MIN, .max = PASSWORD_MAX / 4},                          \
    {"role", FORM_STRING, offsetof(struct user_asked, role), .class = FORM_IDENTIFIER,             \
     .words = "user admin"},                                                                       \
    {"team", FORM_STRING, offsetof(struct user_asked, team), .nullable = (changes),                \
     .class = FORM_IDENTIFIER, .min = 1, .max = 64}
/* clang-format on */

static const struct form_field create_fields[] = {
    {"user_id", FORM_STRING, offsetof(struct user_asked, user_id), true, .class = FORM_IDENTIFIER,
     .min = 1, .max = 64},
    USER_ROWS(false),
};
const struct form people_create_form = FORM_OF(struct user_asked, create_fields);

static const struct form_field change_fields[] = {
    USER_ROWS(true),
    {"disabled", FORM_BOOL, offsetof(struct user_asked, disabled)},
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

    if (!query_good_or(&e->q, err, GW_ECONFLICT, SLICE("There is a user of that name already.")))
        return;
    if (!user_read(rows, 0, &u)) {
        query_fail(&e->q, GW_EINTERNAL);
        return;
    }
    admin_changed(e->q.req, "user.create", u.user_id);
    reply_user(&e->q, 201, &u);
}

static void refuse_last(struct query *q)
{
    query_refuse(q, GW_ECONFLICT, SLICE("This is the last administrator."));
}

/* Nothing was changed: is nobody there, is it another by now, or must one stay? */
static void on_why_unchanged(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct user u;

    if (!query_good(&e->q, err) || !query_found(&e->q, user_read(rows, 0, &u), "user"))
        return;
    if (e->to.version.n && !slice_eq(e->to.version, u.version))
        query_refuse(&e->q, GW_EPRECOND, SLICE_NONE);
    else
        refuse_last(&e->q);
}

static void on_changed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct request *req = e->q.req;
    struct user u;

    if (!query_good(&e->q, err))
        return;
    if (!user_read(rows, 0, &u)) {
        query_wait(&e->q, users_by_id(slice_cstr(e->id), req->deadline_us, on_why_unchanged, e));
        return;
    }
    admin_changed(req, "user.change", u.user_id);
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

    if (query_good(&e->q, err) && query_keep(&e->q, stored, &e->to.password_hash))
        store(e);
}

static void hash(struct edit *e)
{
    if (e->in.password.p)
        query_wait_hash(&e->q, password_hash(e->in.password, on_hashed, e),
                        SLICE("Too many passwords at once."));
    else
        store(e);
}

static void on_team(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct team t;

    if (query_good(&e->q, err) && query_found(&e->q, team_read(rows, 0, &t), "team") &&
        query_keep(&e->q, t.id, &e->to.team_id))
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

    if (!query_good(&e->q, err) || !query_found(&e->q, user_read(rows, 0, &u), "user") ||
        !query_keep(&e->q, u.version, &e->to.version))
        return;
    write_user(&out, &u);
    tag = etag_of(req->arena, buf_slice(&out));
    buf_deinit(&out);
    if (!tag.n)
        query_fail(&e->q, GW_ENOMEM);
    else if (!etag_listed(request_header(req, "if-match"), tag))
        query_refuse(&e->q, GW_EPRECOND, SLICE_NONE);
    else
        begin(e);
}

static void read_change(struct edit *e, const struct form_seen *seen)
{
    const struct form *f = &people_change_form;

    e->to.email = form_nulled(f, seen, "email") ? SLICE("") : e->in.email;
    e->to.role = e->in.role;
    if (form_nulled(f, seen, "team"))
        e->to.team_id = SLICE("");
    if (form_given(f, seen, "disabled"))
        e->to.disabled = &e->in.disabled;
}

void people_change(struct request *req)
{
    struct user_asked in = {.email = SLICE_NONE};
    struct form_seen seen;
    struct edit *e;

    if (!form_read(req, &in, &seen) || !query_id(req, "user"))
        return;
    e = query_new(req, struct edit);
    if (!e)
        return;
    e->in = in;
    memcpy(e->id, req->params[0].p, UUID_TEXT - 1);
    read_change(e, &seen);
    if (request_header_count(req, "if-match"))
        query_wait(&e->q, users_by_id(slice_cstr(e->id), req->deadline_us, on_to_compare, e));
    else
        begin(e);
}

/* --- list, get, remove ------------------------------------------------------------------------ */

static int64_t put_row(struct json_writer *w, const struct pg_rows *rows, unsigned row)
{
    struct user u;

    user_read(rows, row, &u);
    people_put(w, &u);
    return u.total;
}

void people_list(struct request *req)
{
    query_list(req, users_page, put_row);
}

static void on_one(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;
    struct user u;

    if (query_good(q, err) && query_found(q, user_read(rows, 0, &u), "user"))
        reply_user(q, 200, &u);
}

void people_get(struct request *req)
{
    struct query *q = query_of_id(req, "user");

    if (q)
        query_wait(q, users_by_id(req->params[0], req->deadline_us, on_one, q));
}

/* Nobody was removed: is nobody there, or must one stay? */
static void on_why_there(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (query_good(q, err) && query_found(q, pg_count(rows), "user"))
        refuse_last(q);
}

static void on_removed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;
    struct request *req = q->req;

    if (err == GW_ENOTFOUND)
        err = GW_ECONFLICT; /* a row of another table names this one */
    if (!query_good_or(q, err, GW_ECONFLICT, SLICE("The user still has documents.")))
        return;
    if (pg_count(rows) == 0) {
        query_wait(q, users_by_id(req->params[0], req->deadline_us, on_why_there, q));
        return;
    }
    admin_changed(req, "user.remove", req->params[0]);
    query_none(q);
}

void people_remove(struct request *req)
{
    struct query *q = query_of_id(req, "user");

    if (q)
        query_wait(q, users_remove(req->params[0], req->deadline_us, on_removed, q));
}
