/* admin_teams.c - see admin_teams.h. One statement a route, and another to tell why nothing was
 * removed. */
#include "handlers/admin_teams.h"

#include "gateway/core/rng.h"
#include "handlers/admin.h"
#include "handlers/limits.h"
#include "handlers/query.h"
#include "storage/teams.h"

struct team_asked {
    struct slice name;
    struct limits_asked limits;
};

static const struct form_field fields[] = {
    {"name", FORM_STRING, offsetof(struct team_asked, name), true, .class = FORM_IDENTIFIER,
     .min = 1, .max = 64},
    LIMITS_ROWS(struct team_asked, limits),
};
const struct form admin_teams_form = FORM_OF(struct team_asked, fields);

static void put_members(struct json_writer *w, const struct team *t)
{
    json_kv_str(w, "id", t->id);
    json_kv_str(w, "name", t->name);
    json_kv_raw(w, "models", t->models);
    query_put_usd(w, "budget_usd", t->budget_nano_usd);
    json_kv_str(w, "budget_period", t->budget_period);
    query_put_count(w, "requests_per_minute", t->requests_per_minute);
    query_put_count(w, "tokens_per_minute", t->tokens_per_minute);
    json_kv_int(w, "members", t->members);
    json_kv_str(w, "created_at", t->created_at);
}

static void reply_team(struct query *q, int status, const struct team *t)
{
    struct json_writer w;
    struct buf out;

    query_object(&w, &out);
    put_members(&w, t);
    json_obj_end(&w);
    query_reply(q, status, &out);
}

/* --- create and replace ----------------------------------------------------------------------- */

struct edit {
    struct query q;
    struct team_asked in;
    char id[UUID_TEXT];
    bool creates;
};

static void on_stored(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;
    struct team t;

    if (!query_good_or(&e->q, err, GW_ECONFLICT, SLICE("There is a team of that name already.")) ||
        !query_found(&e->q, team_read(rows, 0, &t), "team"))
        return;
    admin_changed(e->q.req, e->creates ? "team.create" : "team.change", e->in.name);
    reply_team(&e->q, e->creates ? 201 : 200, &t);
}

static void store(struct edit *e)
{
    struct arena *a = e->q.req->arena;
    uint64_t deadline_us = e->q.req->deadline_us;
    const struct limits_asked *limits = &e->in.limits;
    struct team_new t = {
        .id = slice_cstr(e->id),
        .name = e->in.name,
        .models = query_strings(a, &limits->models),
        .budget_nano_usd = limits->budget_nano_usd,
        .budget_period = arena_cstr(a, limits->budget_period),
        .requests_per_minute = limits->requests_per_minute,
        .tokens_per_minute = limits->tokens_per_minute,
    };

    if (!t.models.p || !t.budget_period)
        query_fail(&e->q, GW_ENOMEM);
    else
        query_wait(&e->q, e->creates ? teams_add(&t, deadline_us, on_stored, e)
                                     : teams_change(&t, deadline_us, on_stored, e));
}

/* `id` empty: a new one. */
static void edit(struct request *req, struct slice id)
{
    struct team_asked in = {.limits = LIMITS_NONE};
    struct edit *e;

    if (!form_read(req, &in, NULL))
        return;
    e = query_new(req, struct edit);
    if (!e)
        return;
    e->in = in;
    e->creates = !id.n;
    if (e->creates)
        rng_uuid(e->id);
    else
        memcpy(e->id, id.p, UUID_TEXT - 1);
    store(e);
}

void admin_teams_create(struct request *req)
{
    edit(req, SLICE_NONE);
}

void admin_teams_put(struct request *req)
{
    if (query_id(req, "team"))
        edit(req, req->params[0]);
}

/* --- list, get, remove ------------------------------------------------------------------------ */

static int64_t put_row(struct json_writer *w, const struct pg_rows *rows, unsigned row)
{
    struct team t;

    team_read(rows, row, &t);
    put_members(w, &t);
    return t.total;
}

void admin_teams_list(struct request *req)
{
    query_list(req, teams_page, put_row);
}

static void on_one(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;
    struct team t;

    if (query_good(q, err) && query_found(q, team_read(rows, 0, &t), "team"))
        reply_team(q, 200, &t);
}

void admin_teams_get(struct request *req)
{
    struct query *q = query_of_id(req, "team");

    if (q)
        query_wait(q, teams_by_id(req->params[0], req->deadline_us, on_one, q));
}

/* A team is not taken away from keys that are valid: they would be without its limits. */
static void on_why_there(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (query_good(q, err) && query_found(q, pg_count(rows), "team"))
        query_refuse(q, GW_ECONFLICT, SLICE("The team has keys that are valid."));
}

static void on_removed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;
    struct request *req = q->req;

    if (!query_good(q, err))
        return;
    if (pg_count(rows) == 0) {
        query_wait(q, teams_by_id(req->params[0], req->deadline_us, on_why_there, q));
        return;
    }
    admin_changed(req, "team.remove", req->params[0]);
    query_none(q);
}

void admin_teams_remove(struct request *req)
{
    struct query *q = query_of_id(req, "team");

    if (q)
        query_wait(q, teams_remove(req->params[0], req->deadline_us, on_removed, q));
}
