/* tokens.c - see tokens.h. */
#include "handlers/tokens.h"

#include "gateway/core/jwt.h"
#include "gateway/http/form.h"
#include "gateway/middleware/middleware.h"
#include "handlers/admin.h"
#include "handlers/query.h"
#include "storage/keyring.h"
#include "storage/principal.h"
#include "storage/users.h"

#define HOUR_S 3600
#define MICRO 1000000u

bool tokens_may_delegate(const struct request *req)
{
    const struct principal *p = req->principal;

    if (!p || p->kind != PRINCIPAL_KEY)
        return true;
    return p->requests_per_minute == 0 && p->expires_wall_us == 0 &&
           !(p->n_budget_scopes && slice_starts(slice_cstr(p->scopes_of_budget[0].id), "key:"));
}

/* --- validate --------------------------------------------------------------------------------- */

struct token_given {
    struct slice token;
};

static const struct form_field validate_fields[] = {
    {"token", FORM_STRING, offsetof(struct token_given, token), .class = FORM_OPAQUE, .min = 1,
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
    json_kv_text(w, key, us ? query_time(a, us / (int64_t)MICRO) : SLICE_NONE);
}

static void write_valid(struct validation *v, const struct principal *p)
{
    struct arena *a = v->q.req->arena;
    struct json_writer w;
    struct buf out;

    query_object(&w, &out);
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
                           SLICE(AUTHORISE_CHALLENGE ", error=\"invalid_token\""));
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
    {"jti", FORM_STRING, offsetof(struct revoke_asked, jti), .class = FORM_IDENTIFIER, .min = 1,
     .max = JWT_MAX_JTI},
    {"all", FORM_BOOL, offsetof(struct revoke_asked, all)},
};
const struct form tokens_revoke_form = FORM_OF(struct revoke_asked, revoke_fields);

struct revocation {
    struct query q;
    struct slice what; /* the jti, or "all"; in the arena */
};

static struct revocation *revocation_new(struct request *req, struct slice what)
{
    struct revocation *r = query_new(req, struct revocation);

    if (r)
        r->what = arena_dup(req->arena, what);
    return r;
}

static void on_revoked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct revocation *r = arg;

    if (!query_good(&r->q, err))
        return;
    if (pg_count(rows) == 0) {
        query_refuse(&r->q, GW_ECONFLICT,
                     SLICE("Too many tokens are revoked one by one; revoke `all` of them."));
        return;
    }
    admin_changed(r->q.req, "token.revoke", r->what);
    query_none(&r->q);
}

static void revoke_all(struct request *req)
{
    struct revocation *r;

    if (!query_owner(req).n) {
        query_deny(req, GW_EBADREQ, SLICE("This credential is nobody's: it has no tokens."));
        return;
    }
    r = revocation_new(req, SLICE("all"));
    if (r)
        query_wait(&r->q, users_revoke_all(query_owner(req), req->deadline_us, on_revoked, r));
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

static void revoke_token(struct request *req, struct slice jti, int64_t expires_s)
{
    struct revocation *r = revocation_new(req, jti);

    if (r)
        query_wait(&r->q, users_revoke_token(jti, expires_s, req->deadline_us, on_revoked, r));
}

static void revoke_one(struct request *req, struct slice jti, int64_t expires_s)
{
    if (is_own(req, jti))
        revoke_token(req, jti, expires_s);
    else
        query_deny_missing(req, "token");
}

/* The token the request came with: it is the caller's whatever its jti looks like. */
static void revoke_this(struct request *req)
{
    struct jwt_claims c;
    struct slice token = own_token(req);

    if (!token.n || verify_token(req, token, &c) || !*c.jti)
        form_refuse_field(req, "/jti", "is needed: the request does not carry a token with one");
    else
        revoke_token(req, slice_cstr(c.jti), c.exp_us / (int64_t)MICRO + 1);
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
