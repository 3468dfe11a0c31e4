/* admin_teams.c - see admin_teams.h. One statement a route, and another to tell why nothing was
 * removed. */
#include "handlers/admin_teams.h"

#include "gateway/core/rng.h"
#include "gateway/http/form.h"
#include "handlers/admin.h"
#include "handlers/query.h"
#include "storage/keyring.h"
#include "storage/teams.h"

struct team_asked {
    struct slice name, period;
    struct form_list models;
    int64_t budget_nano_usd, rpm, tpm;
};

static const struct form_field fields[] = {
    {.name = "name",
     .type = FORM_STRING,
     .at = offsetof(struct team_asked, name),
     .required = true,
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = 64},
    {.name = "models",
     .type = FORM_STRINGS,
     .at = offsetof(struct team_asked, models),
     .class = FORM_MODEL,
     .max = 100},
    {.name = "budget_usd",
     .type = FORM_DECIMAL,
     .at = offsetof(struct team_asked, budget_nano_usd),
     .min = 0,
     .max = 1000000000},
    {.name = "budget_period",
     .type = FORM_STRING,
     .at = offsetof(struct team_asked, period),
     .class = FORM_IDENTIFIER,
     .words = "total day week month"},
    {.name = "requests_per_minute",
     .type = FORM_INT,
     .at = offsetof(struct team_asked, rpm),
     .min = 1,
     .max = 1000000000},
    {.name = "tokens_per_minute",
     .type = FORM_INT,
     .at = offsetof(struct team_asked, tpm),
     .min = 1,
     .max = 1000000000000},
};
const struct form admin_teams_form = FORM_OF(struct team_asked, fields);

static void put_team(struct json_writer *w, const struct team *t)
{
    json_obj(w);
    json_kv_str(w, "id", t->id);
    json_kv_str(w, "name", t->name);
    json_kv_raw(w, "models", t->models);
    query_put_usd(w, "budget_usd", t->budget_nano_usd);
    json_kv_str(w, "budget_period", t->budget_period);
    query_put_count(w, "requests_per_minute", t->requests_per_minute);
    query_put_count(w, "tokens_per_minute", t->tokens_per_minute);
    json_kv_int(w, "members", t->members);
    json_kv_str(w, "created_at", t->created_at);
    json_obj_end(w);
}

static void reply_team(struct query *q, int status, const struct pg_rows *rows)
{
    struct json_writer w;
    struct team t;
    struct buf out;

    if (!team_read(rows, 0, &t)) {
        query_refuse(q, GW_ENOTFOUND, SLICE("There is no such team."));
        return;
    }
    buf_init(&out, QUERY_MAX_OUT);
    json_writer_init(&w, &out);
    put_team(&w, &t);
    query_reply(q, status, &out);
}

/* --- create and replace ------------------------------------------------------------------------
 */

struct edit {
    struct query q;
    struct team_asked in;
    char id[UUID_TEXT];
    bool creates;
};

static void on_stored(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct edit *e = arg;

    query_over(&e->q);
    if (err == GW_ECONFLICT) {
        query_refuse(&e->q, err, SLICE("There is a team of that name already."));
        return;
    }
    if (err) {
        query_fail(&e->q, err);
        return;
    }
    if (pg_count(rows)) {
        keyring_changed();
        admin_audit(e->q.req, e->creates ? "team.create" : "team.change", e->in.name, "ok",
                    SLICE_NONE);
    }
    reply_team(&e->q, e->creates ? 201 : 200, rows);
}

static void store(struct edit *e)
{
    struct arena *a = e->q.req->arena;
    uint64_t deadline_us = e->q.req->deadline_us;
    struct team_new t = {
        .id = slice_cstr(e->id),
        .name = e->in.name,
        .models = query_strings(a, &e->in.models),
        .budget_nano_usd = e->in.budget_nano_usd,
        .budget_period = arena_cstr(a, e->in.period),
        .requests_per_minute = e->in.rpm,
        .tokens_per_minute = e->in.tpm,
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
    struct team_asked in = {.period = SLICE("total"), .budget_nano_usd = -1};
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

/* Answers when the path's id is none. */
static bool is_id(struct request *req)
{
    if (query_is_uuid(req->params[0]))
        return true;
    query_deny(req, GW_ENOTFOUND, SLICE("There is no such team."));
    return false;
}

void admin_teams_create(struct request *req)
{
    edit(req, SLICE_NONE);
}

void admin_teams_put(struct request *req)
{
    if (is_id(req))
        edit(req, req->params[0]);
}

/* --- list, get, remove -------------------------------------------------------------------------
 */

struct listing {
    struct query q;
    struct page page;
};

static void on_page(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct listing *l = arg;
    struct team t = {.total = 0};
    struct json_writer w;
    struct buf out;

    if (!query_good(&l->q, err))
        return;
    buf_init(&out, QUERY_MAX_OUT);
    page_begin(&w, &out);
    for (unsigned i = 0; team_read(rows, i, &t); i++)
        put_team(&w, &t);
    query_page(&l->q, &l->page, t.total, &w);
}

void admin_teams_list(struct request *req)
{
    struct listing *l;
    struct page page;

    if (!page_read(req, &page))
        return;
    l = query_new(req, struct listing);
    if (!l)
        return;
    l->page = page;
    query_wait(&l->q, teams_page(page.per_page, page.offset, req->deadline_us, on_page, l));
}

static void on_one(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (query_good(q, err))
        reply_team(q, 200, rows);
}

void admin_teams_get(struct request *req)
{
    struct query *q = is_id(req) ? query_new(req, struct query) : NULL;

    if (q)
        query_wait(q, teams_by_id(req->params[0], req->deadline_us, on_one, q));
}

/* A team is not taken away from keys that are valid: they would be without its limits. */
static void on_why(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (!query_good(q, err))
        return;
    if (pg_count(rows))
        query_refuse(q, GW_ECONFLICT, SLICE("The team has keys that are valid."));
    else
        query_refuse(q, GW_ENOTFOUND, SLICE("There is no such team."));
}

static void on_removed(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (!query_good(q, err))
        return;
    if (pg_count(rows) == 0) {
        query_wait(q, teams_by_id(q->req->params[0], q->req->deadline_us, on_why, q));
        return;
    }
    keyring_changed();
    admin_audit(q->req, "team.remove", q->req->params[0], "ok", SLICE_NONE);
    query_none(q);
}

void admin_teams_remove(struct request *req)
{
    struct query *q = is_id(req) ? query_new(req, struct query) : NULL;

    if (q)
        query_wait(q, teams_remove(req->params[0], req->deadline_us, on_removed, q));
}
