/*
 * tokens.c - see tokens.h.
 *
 *     issue: look up --password--> verify --right--> booked --> answered
 *               |                     '--wrong--> booked (unknown users too) --> 401
 *               '--another proof--> answered
 *
 * A wrong password and an unknown user are one answer and one amount of work: a hash and a
 * statement. Failures are counted in Postgres, so an account is locked for all instances. The
 * flows live in their request's arena (query.h).
 *
 * The jti of a token begins with its owner's id, so that one can tell whose it is without keeping
 * a list of all that were issued.
 */
#include "handlers/tokens.h"

#include "gateway/core/jwt.h"
#include "gateway/core/metrics.h"
#include "gateway/core/password.h"
#include "gateway/core/rng.h"
#include "gateway/http/form.h"
#include "handlers/admin.h"
#include "handlers/query.h"
#include "storage/keyring.h"
#include "storage/users.h"

#include <stdio.h>

#define HOUR_S 3600
#define MICRO 1000000u

/* --- issue ------------------------------------------------------------------------------------ */

struct token_asked {
    struct slice user_id, password, role;
    int64_t expires_in_hours;
};

static const struct form_field issue_fields[] = {
    {.name = "user_id",
     .type = FORM_STRING,
     .at = offsetof(struct token_asked, user_id),
     .required = true,
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = JWT_MAX_SUB},
    {.name = "password",
     .type = FORM_STRING,
     .at = offsetof(struct token_asked, password),
     .class = FORM_OPAQUE,
     .min = 1,
     .max = PASSWORD_MAX},
    {.name = "expires_in_hours",
     .type = FORM_INT,
     .at = offsetof(struct token_asked, expires_in_hours),
     .min = 1,
     .max = 8760},
    {.name = "role",
     .type = FORM_STRING,
     .at = offsetof(struct token_asked, role),
     .class = FORM_IDENTIFIER,
     .words = "user admin"},
};
const struct form tokens_issue_form = FORM_OF(struct token_asked, issue_fields);

struct issue {
    struct query q;
    struct token_asked in;
    bool found, admin, usable;
    char id[UUID_TEXT]; /* of the user, or one that is nobody's */
};

static void count(const char *outcome)
{
    metrics_add(metrics_get(M_AUTH, "password", outcome, NULL), 1);
}

bool tokens_may_delegate(const struct request *req)
{
    const struct principal *p = req->principal;

    if (!p || p->kind != PRINCIPAL_KEY)
        return true;
    return p->requests_per_minute == 0 && p->expires_wall_us == 0 &&
           !(p->n_budget_scopes && slice_starts(slice_cstr(p->scopes_of_budget[0].id), "key:"));
}

static void write_token(struct issue *i, const struct jwt_claims *c, struct slice token)
{
    struct request *req = i->q.req;
    struct json_writer w;
    struct buf out;

    buf_init(&out, QUERY_MAX_OUT);
    json_writer_init(&w, &out);
    json_obj(&w);
    json_kv_str(&w, "access_token", token);
    json_kv_cstr(&w, "token_type", "bearer");
    json_kv_int(&w, "expires_in", (c->exp_us - c->iat_us) / (int64_t)MICRO);
    json_kv_str(&w, "expires_at", query_time(req->arena, c->exp_us / (int64_t)MICRO));
    json_kv_cstr(&w, "user_id", c->sub);
    json_obj_end(&w);
    request_set_header(req, "Cache-Control", SLICE("no-store"));
    query_reply(&i->q, 200, &out);
}

static void mint(struct issue *i)
{
    struct request *req = i->q.req;
    const struct conf *conf = req->conf;
    const struct jwt_secrets secrets = {.current = conf->jwt_secret};
    struct jwt_claims c = {.admin = i->admin, .iat_us = (int64_t)loop_wall_us()};
    struct slice token = SLICE_NONE;
    char random[25] = "";
    enum gw_err err;

    rng_hex(random, 12);
    snprintf(c.sub, sizeof(c.sub), "%.*s", SLICE_ARG(i->in.user_id));
    snprintf(c.uid, sizeof(c.uid), "%s", i->id);
    snprintf(c.jti, sizeof(c.jti), "%s.%s", *i->id ? i->id : "master", random);
    c.exp_us = c.iat_us + i->in.expires_in_hours * HOUR_S * (int64_t)MICRO;
    err = jwt_issue(req->arena, &secrets, &c, &token);
    admin_audit(req, "token.issue", i->in.user_id, err ? "failed" : "ok", SLICE_NONE);
    if (err)
        query_fail(&i->q, err);
    else
        write_token(i, &c, token);
}

static void refuse_login(struct issue *i)
{
    count("refused");
    admin_audit(i->q.req, "login", i->in.user_id, "failed", SLICE_NONE);
    request_set_header(i->q.req, "WWW-Authenticate", SLICE("Bearer realm=\"postern\""));
    query_refuse(&i->q, GW_EUNAUTH, SLICE("The user or the password is wrong."));
}

static void on_failure_booked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct issue *i = arg;

    if (query_good(&i->q, err))
        refuse_login(i);
}

static void refuse_locked(struct issue *i)
{
    count("locked");
    admin_audit(i->q.req, "login", i->in.user_id, "refused", SLICE_NONE);
    query_refuse_later(&i->q, GW_ELOCKED,
                       SLICE("Too many wrong passwords: the account is locked for a while."),
                       (uint64_t)i->q.req->conf->lockout_minutes * 60);
}

static void on_success_booked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct issue *i = arg;

    if (!query_good(&i->q, err))
        return;
    if (pg_count(rows) == 0) {
        refuse_locked(i);
        return;
    }
    count("accepted");
    admin_audit(i->q.req, "login", i->in.user_id, "ok", SLICE_NONE);
    mint(i);
}

static void on_verified(enum gw_err err, void *arg)
{
    struct issue *i = arg;
    const struct conf *c = i->q.req->conf;

    if (err != GW_EUNAUTH && !query_good(&i->q, err))
        return;
    query_over(&i->q);
    if (!err && i->usable)
        query_wait(&i->q, users_login_good(slice_cstr(i->id), on_success_booked, i));
    else
        query_wait(&i->q, users_login_failed(slice_cstr(i->id), c->lockout_failures,
                                             c->lockout_minutes, on_failure_booked, i));
}

static void verify(struct issue *i, struct slice stored)
{
    struct op *op = password_verify(i->in.password, stored, on_verified, i);

    if (op)
        query_wait(&i->q, op);
    else
        query_refuse(&i->q, GW_EOVERLOAD, SLICE("Too many logins at once."));
}

static void read_user(struct issue *i, const struct user *u)
{
    i->found = true;
    i->admin = slice_is(u->role, "admin");
    i->usable = !u->disabled;
    snprintf(i->id, sizeof(i->id), "%.*s", SLICE_ARG(u->id));
}

static void on_login(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct issue *i = arg;
    struct user u = {.id = SLICE_NONE};

    if (!query_good(&i->q, err))
        return;
    if (user_read(rows, 0, &u))
        read_user(i, &u);
    else
        rng_uuid(i->id);
    if (!u.locked) {
        verify(i, u.password_hash);
        return;
    }
    refuse_locked(i);
}

/* A key's team limits what it may do; a token would have its user's team. */
static bool leaves_team(const struct principal *p, const struct user *u)
{
    return p && p->kind == PRINCIPAL_KEY && !p->admin && *p->team_id &&
           !slice_is(u->team_id, p->team_id);
}

static void on_vouched(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct issue *i = arg;
    struct user u;

    if (!query_good(&i->q, err))
        return;
    if (user_read(rows, 0, &u))
        read_user(i, &u);
    if (!i->found)
        query_refuse(&i->q, GW_ENOTFOUND, SLICE("There is no such user."));
    else if (!i->usable)
        query_refuse(&i->q, GW_EFORBIDDEN, SLICE("The user is disabled."));
    else if (leaves_team(i->q.req->principal, &u))
        query_refuse(&i->q, GW_EFORBIDDEN, SLICE("A token would allow more than this key does."));
    else
        mint(i);
}

static bool is_open(const struct conf *c)
{
    return c->dev_open_tokens &&
           (slice_is(c->environment, "development") || slice_is(c->environment, "test"));
}

/* Why a request without a password may not have this token; GW_OK when it may. */
static enum gw_err judge_proof(struct request *req, const struct token_asked *in,
                               struct slice *ret_why)
{
    const struct principal *p = req->principal;

    if (!p) {
        *ret_why = SLICE("A token needs a proof: the password, or a credential in the headers.");
        return is_open(req->conf) ? GW_OK : GW_EUNAUTH;
    }
    *ret_why = SLICE("This credential may not make a token for that user.");
    if (p->kind == PRINCIPAL_USER && !p->admin)
        return GW_EFORBIDDEN;
    if (p->kind == PRINCIPAL_KEY && (p->scopes || p->n_models || !tokens_may_delegate(req))) {
        *ret_why = SLICE("A token would allow more than this key does.");
        return GW_EFORBIDDEN;
    }
    return p->admin || slice_is(in->user_id, p->user_id) ? GW_OK : GW_EFORBIDDEN;
}

static bool is_master(const struct request *req)
{
    return req->principal && req->principal->kind == PRINCIPAL_MASTER;
}

/* Without a database only the master key vouches, and the token says the role itself. */
static void issue_alone(struct issue *i)
{
    if (i->in.password.n || !is_master(i->q.req)) {
        query_refuse(&i->q, GW_EUNAVAIL, SLICE("Users need a database: set DATABASE_URL."));
        return;
    }
    i->admin = slice_is(i->in.role, "admin");
    mint(i);
}

static void issue_begin(struct request *req, const struct token_asked *in)
{
    struct issue *i = query_new(req, struct issue);

    if (!i)
        return;
    i->in = *in;
    if (!pg_enabled())
        issue_alone(i);
    else if (in->password.n)
        query_wait(&i->q, users_by_name(in->user_id, req->deadline_us, on_login, i));
    else
        query_wait(&i->q, users_by_name(in->user_id, req->deadline_us, on_vouched, i));
}

void tokens_issue(struct request *req)
{
    struct token_asked in = {.expires_in_hours = req->conf->jwt_expiration_h};
    struct slice why = SLICE_NONE;
    enum gw_err err = GW_OK;

    if (!form_read(req, &in, NULL))
        return;
    if (in.expires_in_hours > req->conf->jwt_max_expiration_h) {
        form_refuse_field(req, "/expires_in_hours", "is longer than a token may be valid here");
    } else if (in.role.n && pg_enabled()) {
        form_refuse_field(req, "/role", "is the user's, and told only where there is no database");
    } else if (in.password.n > PASSWORD_MAX) {
        form_refuse_field(req, "/password", "is longer than any password is");
    } else if (req->conf->jwt_secret.n == 0) {
        query_deny(req, GW_EUNAVAIL, SLICE("No tokens are made here: JWT_SECRET_KEY is not set."));
    } else {
        if (!in.password.n)
            err = judge_proof(req, &in, &why);
        if (err == GW_EUNAUTH)
            request_set_header(req, "WWW-Authenticate", SLICE("Bearer realm=\"postern\""));
        if (err) {
            admin_audit(req, "token.issue", in.user_id, "refused", SLICE_NONE);
            query_deny(req, err, why);
        } else {
            issue_begin(req, &in);
        }
    }
}

/* --- validate --------------------------------------------------------------------------------- */

struct token_given {
    struct slice token;
};

static const struct form_field validate_fields[] = {
    {.name = "token",
     .type = FORM_STRING,
     .at = offsetof(struct token_given, token),
     .class = FORM_OPAQUE,
     .min = 1,
     .max = JWT_MAX_BYTES},
};
const struct form tokens_validate_form = FORM_OF(struct token_given, validate_fields);

struct validation {
    struct query q;
    struct jwt_claims claims;
};

static struct slice own_token(const struct request *req)
{
    struct slice value = request_header(req, "authorization");

    if (value.n > 7 && strncasecmp(value.p, "Bearer ", 7) == 0)
        value = slice_trim(slice_from(value, 7));
    else
        value = request_header(req, "x-api-key");
    return jwt_looks_like(value) ? value : SLICE_NONE;
}

static enum gw_err verify_token(struct request *req, struct slice token, struct jwt_claims *ret)
{
    const struct jwt_secrets secrets = {req->conf->jwt_secret, req->conf->jwt_secret_previous};

    return jwt_verify(req->arena, &secrets, token, loop_wall_us(),
                      (unsigned)req->conf->jwt_leeway_s, ret);
}

static void put_when(struct json_writer *w, struct arena *a, const char *key, int64_t us)
{
    query_put_text(w, key, us ? query_time(a, us / (int64_t)MICRO) : SLICE_NONE);
}

static void write_valid(struct validation *v, const struct principal *p)
{
    struct arena *a = v->q.req->arena;
    struct json_writer w;
    struct buf out;

    buf_init(&out, QUERY_MAX_OUT);
    json_writer_init(&w, &out);
    json_obj(&w);
    json_kv_bool(&w, "valid", true);
    json_kv_cstr(&w, "user_id", v->claims.sub);
    json_kv_raw(&w, "roles", p->admin ? SLICE("[\"admin\"]") : SLICE("[\"user\"]"));
    put_when(&w, a, "issued_at", v->claims.iat_us);
    put_when(&w, a, "expires_at", v->claims.exp_us);
    json_obj_end(&w);
    principal_unref(p);
    request_set_header(v->q.req, "Cache-Control", SLICE("no-store"));
    query_reply(&v->q, 200, &out);
}

static void validation_end(struct validation *v, enum gw_err err, const struct principal *p)
{
    if (!err) {
        write_valid(v, p);
        return;
    }
    if (err == GW_EUNAUTH || err == GW_ETOKENEXPIRED)
        request_set_header(v->q.req, "WWW-Authenticate",
                           SLICE("Bearer realm=\"postern\", error=\"invalid_token\""));
    query_refuse(&v->q, err, err == GW_EUNAUTH ? SLICE("The token is not valid.") : SLICE_NONE);
}

static void on_known(enum gw_err err, const struct principal *p, void *arg)
{
    struct validation *v = arg;

    query_over(&v->q);
    validation_end(v, err, p);
}

void tokens_validate(struct request *req)
{
    struct token_given in = {.token = SLICE_NONE};
    const struct principal *p = NULL;
    struct validation *v;
    struct op *op = NULL;
    enum gw_err err;

    if (req->method == HTTP_POST && !form_read(req, &in, NULL))
        return;
    v = query_new(req, struct validation);
    if (!v)
        return;
    err = verify_token(req, in.token.n ? in.token : own_token(req), &v->claims);
    if (!err)
        err = keyring_token(&v->claims, &p, &op, on_known, v);
    if (err == GW_EAGAIN)
        query_wait(&v->q, op);
    else
        validation_end(v, err, p);
}

/* --- revoke ----------------------------------------------------------------------------------- */

struct revoke_asked {
    struct slice jti;
    bool all;
};

static const struct form_field revoke_fields[] = {
    {.name = "jti",
     .type = FORM_STRING,
     .at = offsetof(struct revoke_asked, jti),
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = JWT_MAX_JTI},
    {.name = "all", .type = FORM_BOOL, .at = offsetof(struct revoke_asked, all)},
};
const struct form tokens_revoke_form = FORM_OF(struct revoke_asked, revoke_fields);

static void on_revoked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query *q = arg;

    if (!query_good(q, err))
        return;
    keyring_changed();
    admin_audit(q->req, "token.revoke", SLICE_NONE, "ok", SLICE_NONE);
    query_none(q);
}

static void revoke_all(struct request *req)
{
    struct query *q;

    if (!query_owner(req).n) {
        query_deny(req, GW_EBADREQ, SLICE("This credential is nobody's: it has no tokens."));
        return;
    }
    q = query_new(req, struct query);
    if (q)
        query_wait(q, users_revoke_all(query_owner(req), req->deadline_us, on_revoked, q));
}

/* Tokens of others are as if they were not there. */
static bool is_own(const struct request *req, struct slice jti)
{
    struct slice owner = query_owner(req);

    if (query_is_admin(req))
        return true;
    return owner.n && jti.n > owner.n && jti.p[owner.n] == '.' &&
           slice_eq(slice_of(jti.p, owner.n), owner);
}

static void revoke_one(struct request *req, struct slice jti, int64_t expires_s)
{
    struct query *q;

    if (!is_own(req, jti)) {
        query_deny(req, GW_ENOTFOUND, SLICE("There is no such token."));
        return;
    }
    q = query_new(req, struct query);
    if (q)
        query_wait(q, users_revoke_token(jti, expires_s, req->deadline_us, on_revoked, q));
}

/* The token the request came with: it is the caller's whatever its jti looks like. */
static void revoke_this(struct request *req)
{
    struct jwt_claims c;
    struct slice token = own_token(req);
    struct query *q;

    if (!token.n || verify_token(req, token, &c) || !*c.jti) {
        form_refuse_field(req, "/jti", "is needed: the request does not carry a token with one");
        return;
    }
    q = query_new(req, struct query);
    if (q)
        query_wait(q, users_revoke_token(slice_cstr(c.jti), c.exp_us / (int64_t)MICRO + 1,
                                         req->deadline_us, on_revoked, q));
}

void tokens_revoke(struct request *req)
{
    struct revoke_asked in = {.all = false};
    const int64_t longest_s = 8760 * HOUR_S; /* whatever the configuration was when it was made */

    if (!form_read(req, &in, NULL))
        return;
    if (in.all && in.jti.n)
        form_refuse_field(req, "/jti", "says nothing together with `all`");
    else if (in.all)
        revoke_all(req);
    else if (in.jti.n)
        revoke_one(req, in.jti, (int64_t)(loop_wall_us() / MICRO) + longest_s);
    else
        revoke_this(req);
}
