/*
 * keys.c - see keys.h.
 *
 *     create: (owner by name) --> (team by name) --> added --> answered with the key, this once
 *     list:   (owner by name) --> a page
 *
 * What is another's answers exactly like what is not there. A key that makes a key cannot give
 * more than it has: scopes and models must be within its own, and one with a budget, a rate or an
 * end makes none at all.
 */
#include "handlers/keys.h"

#include "gateway/core/rng.h"
#include "handlers/admin.h"
#include "handlers/limits.h"
#include "handlers/query.h"
#include "handlers/tokens.h"
#include "storage/apikeys.h"
#include "storage/principal.h"
#include "storage/teams.h"
#include "storage/users.h"

#include <openssl/crypto.h>

#define DAY_S 86400

/* --- writing ---------------------------------------------------------------------------------- */

static void put_key(struct json_writer *w, const struct apikey *k)
{
    json_kv_str(w, "id", k->id);
    json_kv_str(w, "prefix", k->prefix);
    json_kv_str(w, "name", k->name);
    json_kv_text(w, "owner", k->owner_name);
    json_kv_text(w, "team_id", k->team_id);
    json_kv_raw(w, "scopes", k->scopes);
    json_kv_raw(w, "models", k->models);
    query_put_count(w, "requests_per_minute", k->requests_per_minute);
    query_put_count(w, "tokens_per_minute", k->tokens_per_minute);
    query_put_usd(w, "budget_usd", k->budget_nano_usd);
    json_kv_text(w, "budget_period", k->budget_period);
    json_kv_text(w, "expires_at", k->expires_at);
    json_kv_text(w, "last_used_at", k->last_used_at);
    json_kv_text(w, "revoked_at", k->revoked_at);
    json_kv_str(w, "created_at", k->created_at);
}

int64_t keys_put_row(struct json_writer *w, const struct pg_rows *rows, unsigned row)
{
    struct apikey k;

    apikey_read(rows, row, &k);
    put_key(w, &k);
    return k.total;
}

/* Whose keys are meant: true when `asked` is nobody else than the caller. */
static bool is_self(const struct request *req, struct slice asked)
{
    return query_owner(req).n && (!asked.n || slice_is(asked, req->principal->user_id));
}

/* --- create ----------------------------------------------------------------------------------- */

struct key_asked {
    struct slice name, owner, team;
    struct form_list scopes;
    struct limits_asked limits;
    int64_t days;
};

static const struct form_field create_fields[] = {
    {"name", FORM_STRING, offsetof(struct key_asked, name), true, .class = FORM_LINE, .min = 1,
     .max = 100},
    {"owner", FORM_STRING, offsetof(struct key_asked, owner), .class = FORM_IDENTIFIER, .min = 1,
     .max = 64},
    {"team", FORM_STRING, offsetof(struct key_asked, team), .class = FORM_IDENTIFIER, .min = 1,
     .max = 64},
    {"scopes", FORM_STRINGS, offsetof(struct key_asked, scopes), .class = FORM_IDENTIFIER, .min = 1,
     .max = 8, .words = "chat embeddings read write admin"},
    LIMITS_ROWS(struct key_asked, limits),
    {"expires_in_days", FORM_INT, offsetof(struct key_asked, days), .min = 1, .max = 3650},
};
const struct form keys_create_form = FORM_OF(struct key_asked, create_fields);

struct making {
    struct query q;
    struct key_asked in;
    struct slice owner_id, team_id; /* in the arena */
    char id[UUID_TEXT];
    struct apikey_secret secret;
};

static void on_added(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct making *m = arg;
    struct json_writer w;
    struct apikey k;
    struct buf out;

    if (!query_good_or(&m->q, err, GW_ECONFLICT, SLICE("There is a key of that name already.")))
        return;
    if (!apikey_read(rows, 0, &k)) {
        query_refuse(&m->q, GW_ECONFLICT,
                     SLICE("There are as many valid keys as a user may make."));
        return;
    }
    admin_audit(m->q.req, "apikey.create", k.prefix, "ok", SLICE_NONE);
    query_object(&w, &out);
    put_key(&w, &k);
    json_kv_cstr(&w, "key", m->secret.key);
    json_obj_end(&w);
    OPENSSL_cleanse(m->secret.key, sizeof(m->secret.key));
    request_set_header(m->q.req, "Cache-Control", SLICE("no-store"));
    query_reply(&m->q, 201, &out);
}

static void add(struct making *m)
{
    struct arena *a = m->q.req->arena;
    const struct limits_asked *limits = &m->in.limits;
    struct apikey_new k = {
        .owner_id = m->owner_id,
        .team_id = m->team_id,
        .name = m->in.name,
        .secret = &m->secret,
        .scopes = query_strings(a, &m->in.scopes),
        .models = query_strings(a, &limits->models),
        .requests_per_minute = limits->requests_per_minute,
        .tokens_per_minute = limits->tokens_per_minute,
        .budget_nano_usd = limits->budget_nano_usd,
        .budget_period = arena_cstr(a, limits->budget_period),
        .expires_in_s = m->in.days * DAY_S,
        .max_of_owner = query_is_admin(m->q.req) ? 0 : m->q.req->conf->max_keys_per_user,
    };
    enum gw_err err = apikey_make(&m->secret);

    rng_uuid(m->id);
    k.id = slice_cstr(m->id);
    if (err || !k.scopes.p || !k.models.p || !k.budget_period)
        query_fail(&m->q, GW_ENOMEM);
    else
        query_wait(&m->q, apikeys_add(&k, m->q.req->deadline_us, on_added, m));
}

static void on_team(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct making *m = arg;
    struct team t;

    if (query_good(&m->q, err) && query_found(&m->q, team_read(rows, 0, &t), "team") &&
        query_keep(&m->q, t.id, &m->team_id))
        add(m);
}

static void with_owner(struct making *m)
{
    if (m->in.team.n)
        query_wait(&m->q, teams_by_name(m->in.team, m->q.req->deadline_us, on_team, m));
    else
        add(m);
}

static void on_owner(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct making *m = arg;
    struct user u;

    if (query_good(&m->q, err) && query_found(&m->q, user_read(rows, 0, &u), "user") &&
        query_keep(&m->q, u.id, &m->owner_id))
        with_owner(m);
}

static bool scopes_within(const struct principal *p, const struct form_list *scopes)
{
    if (!p || p->scopes == 0)
        return true;
    for (unsigned i = 0; i < scopes->n; i++)
        if (!(p->scopes & principal_scope_bit(scopes->items[i])))
            return false;
    return scopes->n > 0;
}

static bool models_within(const struct principal *p, const struct form_list *models)
{
    if (!p || p->n_models == 0)
        return true;
    for (unsigned i = 0; i < models->n; i++)
        if (!principal_allows_model(p, models->items[i], models->items[i]))
            return false;
    return models->n > 0;
}

static bool asks_admin(const struct form_list *scopes)
{
    for (unsigned i = 0; i < scopes->n; i++)
        if (slice_is(scopes->items[i], "admin"))
            return true;
    return false;
}

/* Why the caller may not make this key; p == NULL when it may. A team's budget is the team's, so
 * only administrators put keys into one that is not the owner's. */
static struct slice exceeds(const struct request *req, const struct key_asked *in)
{
    const struct principal *p = req->principal;

    if (!tokens_may_delegate(req))
        return SLICE("A key with a budget, a rate or an end makes no keys.");
    if (!scopes_within(p, &in->scopes) || (asks_admin(&in->scopes) && !query_is_admin(req)))
        return SLICE("A key's scopes cannot be wider than those of who makes it.");
    if (!models_within(p, &in->limits.models))
        return SLICE("A key's models cannot be more than those of who makes it.");
    if (in->team.n && !query_is_admin(req))
        return SLICE("Only administrators choose a key's team.");
    return SLICE_NONE;
}

/* Answers when the caller may not make this key. */
static bool may_make(struct request *req, const struct key_asked *in)
{
    struct slice why = exceeds(req, in);

    if (why.p)
        query_deny(req, GW_EFORBIDDEN, why);
    else if (!is_self(req, in->owner) && !query_is_admin(req))
        query_deny_missing(req, "user");
    else if (!in->owner.n && !query_owner(req).n)
        form_refuse_field(req, "/owner", "is needed: this credential is nobody's");
    else
        return true;
    return false;
}

/* A key made with a key has that one's team, whose limits it has: not the owner's. */
static struct slice team_of_own(const struct request *req)
{
    const struct principal *p = req->principal;

    return p && p->kind == PRINCIPAL_KEY ? slice_cstr(p->team_id) : SLICE_NONE;
}

void keys_create(struct request *req)
{
    struct key_asked in = {.limits = LIMITS_NONE};
    struct form_seen seen;
    struct making *m;

    if (!form_read(req, &in, &seen))
        return;
    if (form_given(&keys_create_form, &seen, "models") && !in.limits.models.n) {
        form_refuse_field(req, "/models", "must not be empty; without it the key may use all");
        return;
    }
    if (!may_make(req, &in))
        return;
    m = query_new(req, struct making);
    if (!m)
        return;
    m->in = in;
    if (!is_self(req, in.owner)) {
        query_wait(&m->q, users_by_name(in.owner, req->deadline_us, on_owner, m));
        return;
    }
    m->owner_id = query_owner(req);
    m->team_id = team_of_own(req);
    with_owner(m);
}

/* --- list ------------------------------------------------------------------------------------- */

struct owner_asked {
    struct slice owner;
};

static const struct form_field owner_fields[] = {
    {"owner", FORM_STRING, offsetof(struct owner_asked, owner), .class = FORM_IDENTIFIER, .min = 1,
     .max = 64},
};
static const struct form owner_form = FORM_OF(struct owner_asked, owner_fields);

static void list_of(struct query_list *l, struct slice owner_id)
{
    query_wait(&l->q, apikeys_page(owner_id, l->page.per_page, l->page.offset,
                                   l->q.req->deadline_us, query_list_done, l));
}

static void on_list_owner(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query_list *l = arg;
    struct user u;

    if (query_good(&l->q, err) && query_found(&l->q, user_read(rows, 0, &u), "user"))
        list_of(l, u.id);
}

/* Who is nobody (the master key) and an administrator sees all keys. */
void keys_list(struct request *req)
{
    struct owner_asked in = {.owner = SLICE_NONE};
    struct query_list *l;
    struct page page;

    if (!page_read(req, &page) || !form_query(req, &owner_form, &in, NULL))
        return;
    if (!is_self(req, in.owner) && !query_is_admin(req)) {
        query_deny_missing(req, "user");
        return;
    }
    l = query_list_new(req, &page, keys_put_row);
    if (!l)
        return;
    if (is_self(req, in.owner) || !in.owner.n)
        list_of(l, query_owner(req));
    else
        query_wait(&l->q, users_by_name(in.owner, req->deadline_us, on_list_owner, l));
}

/* --- revoke ----------------------------------------------------------------------------------- */

static void on_revoked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;
    struct apikey k;

    if (!query_good(q, err) || !query_found(q, apikey_read(rows, 0, &k), "key"))
        return;
    admin_changed(q->req, "apikey.revoke", k.prefix);
    query_none(q);
}

void keys_revoke(struct request *req)
{
    struct slice owner = query_is_admin(req) ? SLICE_NONE : query_owner(req);
    struct query *q;

    if (!owner.n && !query_is_admin(req)) {
        query_deny_missing(req, "key");
        return;
    }
    q = query_of_id(req, "key");
    if (q)
        query_wait(q, apikeys_revoke(req->params[0], owner, req->deadline_us, on_revoked, q));
}
