/*
 * tokens_issue.c - a token for a password, or for another proof of who asks.
 *
 *     look up --password--> verify --right--> booked --> answered
 *        |                     '--wrong--> booked (unknown users too) --> 401
 *        '--another proof--> answered
 *
 * A wrong password and an unknown user are one answer and one amount of work: a hash and a
 * statement. Failures are counted in Postgres, so an account is locked for all instances.
 *
 * The jti of a token begins with its owner's id, so that one can tell whose it is without keeping
 * a list of all that were issued.
 */
#include "gateway/core/jwt.h"
#include "gateway/core/metrics.h"
#include "gateway/core/password.h"
#include "gateway/core/rng.h"
#include "gateway/http/form.h"
#include "gateway/middleware/middleware.h"
#include "handlers/admin.h"
#include "handlers/query.h"
#include "handlers/tokens.h"
#include "storage/principal.h"
#include "storage/users.h"

#include <stdio.h>

#define HOUR_S 3600
#define MICRO 1000000u

/* --- the token -------------------------------------------------------------------------------- */

struct token_asked {
    struct slice user_id, password, role;
    int64_t expires_in_hours;
};

static const struct form_field issue_fields[] = {
    {"user_id", FORM_STRING, offsetof(struct token_asked, user_id), true, .class = FORM_IDENTIFIER,
     .min = 1, .max = JWT_MAX_SUB},
    {"password", FORM_STRING, offsetof(struct token_asked, password), .class = FORM_OPAQUE,
     .min = 1, .max = PASSWORD_MAX},
    {"expires_in_hours", FORM_INT, offsetof(struct token_asked, expires_in_hours), .min = 1,
     .max = 8760},
    {"role", FORM_STRING, offsetof(struct token_asked, role), .class = FORM_IDENTIFIER,
     .words = "user admin"},
};
const struct form tokens_issue_form = FORM_OF(struct token_asked, issue_fields);

struct issue {
    struct query q;
    struct token_asked in;
    bool admin, usable;
    char id[UUID_TEXT];  /* of the user, or one that is nobody's */
    struct slice stored; /* hash the password is verified against; in the arena */
};

static void count(const char *outcome)
{
    metrics_add(metrics_get(M_AUTH, "password", outcome, NULL), 1);
}

static void write_token(struct issue *i, const struct jwt_claims *c, struct slice token)
{
    struct request *req = i->q.req;
    struct json_writer w;
    struct buf out;

    query_object(&w, &out);
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

/* --- a password ------------------------------------------------------------------------------- */

static void refuse_login(struct issue *i)
{
    count("refused");
    admin_audit(i->q.req, "login", i->in.user_id, "failed", SLICE_NONE);
    request_set_header(i->q.req, "WWW-Authenticate", SLICE(AUTHORISE_CHALLENGE));
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

/* The right password counts no more: is the account locked, or has it another one by now? */
static void on_why_not(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct issue *i = arg;
    struct user u;

    if (!query_good(&i->q, err))
        return;
    if (user_read(rows, 0, &u) && u.locked)
        refuse_locked(i);
    else
        refuse_login(i);
}

static void on_success_booked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct issue *i = arg;

    if (!query_good(&i->q, err))
        return;
    if (pg_count(rows) == 0) {
        query_wait(&i->q, users_by_id(slice_cstr(i->id), 0, on_why_not, i));
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
        query_wait(&i->q, users_login_good(slice_cstr(i->id), i->stored, on_success_booked, i));
    else
        query_wait(&i->q, users_login_failed(slice_cstr(i->id), c->lockout_failures,
                                             c->lockout_minutes, on_failure_booked, i));
}

static void verify(struct issue *i)
{
    query_wait_hash(&i->q, password_verify(i->in.password, i->stored, on_verified, i),
                    SLICE("Too many logins at once."));
}

static void read_user(struct issue *i, const struct user *u)
{
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
    if (u.locked)
        refuse_locked(i);
    else if (query_keep(&i->q, u.password_hash, &i->stored))
        verify(i);
}

/* --- another proof ---------------------------------------------------------------------------- */

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

    if (!query_good(&i->q, err) || !query_found(&i->q, user_read(rows, 0, &u), "user"))
        return;
    read_user(i, &u);
    if (!i->usable)
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

/* --- the request ------------------------------------------------------------------------------ */

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

/* What no table can tell of the form; answers when it is wrong. */
static bool is_sensible(struct request *req, const struct token_asked *in)
{
    if (in->expires_in_hours > req->conf->jwt_max_expiration_h)
        form_refuse_field(req, "/expires_in_hours", "is longer than a token may be valid here");
    else if (in->role.n && pg_enabled())
        form_refuse_field(req, "/role", "is the user's, and told only where there is no database");
    else if (in->password.n > PASSWORD_MAX)
        form_refuse_field(req, "/password", "is longer than any password is");
    else
        return true;
    return false;
}

/* Is there a password, or another proof? Answers when there is none. */
static bool has_proof(struct request *req, const struct token_asked *in)
{
    struct slice why = SLICE_NONE;
    enum gw_err err = in->password.n ? GW_OK : judge_proof(req, in, &why);

    if (!err)
        return true;
    if (err == GW_EUNAUTH)
        request_set_header(req, "WWW-Authenticate", SLICE(AUTHORISE_CHALLENGE));
    admin_audit(req, "token.issue", in->user_id, "refused", SLICE_NONE);
    query_deny(req, err, why);
    return false;
}

void tokens_issue(struct request *req)
{
    struct token_asked in = {.expires_in_hours = req->conf->jwt_expiration_h};

    if (!form_read(req, &in, NULL) || !is_sensible(req, &in))
        return;
    if (req->conf->jwt_secret.n == 0)
        query_deny(req, GW_EUNAVAIL, SLICE("No tokens are made here: JWT_SECRET_KEY is not set."));
    else if (has_proof(req, &in))
        issue_begin(req, &in);
}
