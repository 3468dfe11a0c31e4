/* users.c - see users.h. */
#include "storage/users.h"

/* clang-format off */
#define COLUMNS                                                                                    \
    "u.id, u.user_id, u.email, u.role, u.team_id, (SELECT name FROM teams WHERE id = u.team_id), " \
    PG_TIME("u.created_at") ", " PG_TIME("u.updated_at") ", "                                      \
    "CASE WHEN u.locked_until > now() THEN " PG_TIME("u.locked_until") " END, u.password_hash, "   \
    "u.disabled, coalesce(u.locked_until > now(), false), u.failed_logins, u.xmin"
/* clang-format on */

/* Nobody may take away the last one who can administrate. The rows are locked in one order, so two
 * who try at once wait for each other. */
#define OTHER_ADMINS                                                                               \
    "WITH admins AS (SELECT id FROM users WHERE role = 'admin' AND NOT disabled ORDER BY id "      \
    "FOR UPDATE), others AS (SELECT count(*) AS n FROM admins WHERE id <> $1) "

#define MAX_REVOKED_OF_ONE 1000

/* An account on which a password that was verified a moment ago still counts. */
#define OPEN                                                                                       \
    "id = $1 AND password_hash = $2 AND NOT disabled AND coalesce(locked_until <= now(), true)"

static const struct pg_stmt by_name = {"users_by_name",
                                       "SELECT " COLUMNS ", 1 FROM users u WHERE u.user_id = $1"};
static const struct pg_stmt by_id = {"users_by_id",
                                     "SELECT " COLUMNS ", 1 FROM users u WHERE u.id = $1"};
static const struct pg_stmt page = {
    "users_page", PG_PAGE(COLUMNS, "users", "u", "true", "u.created_at, u.id", "$1", "$2")};
static const struct pg_stmt add = {
    "users_add", "INSERT INTO users AS u (id, user_id, email, password_hash, role, team_id) "
                 "VALUES ($1, $2, $3, $4, $5, $6) RETURNING " COLUMNS ", 1"};
static const struct pg_stmt change = {
    "users_change", OTHER_ADMINS
    "UPDATE users AS u SET email = CASE WHEN $2::text IS NULL THEN u.email ELSE nullif($2, '') "
    "END, "
    "password_hash = coalesce($3, u.password_hash), role = coalesce($4, u.role), "
    "team_id = CASE WHEN $5::text IS NULL THEN u.team_id ELSE nullif($5, '')::uuid END, "
    "disabled = coalesce($6::boolean, u.disabled), updated_at = now(), "
    "failed_logins = CASE WHEN $3 IS NULL THEN u.failed_logins ELSE 0 END, "
    "locked_until = CASE WHEN $3 IS NULL THEN u.locked_until END, "
    "tokens_valid_from = CASE WHEN $3 IS NULL AND $4 IS NULL AND $6::boolean IS NULL "
    "THEN u.tokens_valid_from ELSE clock_timestamp() END "
    "FROM others WHERE u.id = $1 AND ($7::text IS NULL OR u.xmin::text = $7) AND (u.role <> "
    "'admin' OR u.disabled OR others.n > 0 OR "
    "(coalesce($4, 'admin') = 'admin' AND NOT coalesce($6::boolean, false))) RETURNING " COLUMNS
    ", 1"};
static const struct pg_stmt removal = {
    "users_remove", OTHER_ADMINS
    "DELETE FROM users u USING others WHERE u.id = $1 AND (u.role <> 'admin' OR u.disabled OR "
    "others.n > 0) RETURNING u.id"};
static const struct pg_stmt login_failed = {
    "users_login_failed",
    "UPDATE users u SET failed_logins = CASE WHEN failed_logins + 1 >= $2::int THEN 0 "
    "ELSE failed_logins + 1 END, locked_until = CASE WHEN failed_logins + 1 >= $2::int "
    "THEN now() + make_interval(mins => $3::int) ELSE locked_until END WHERE u.id = $1 "
    "RETURNING " COLUMNS ", 1"};
static const struct pg_stmt login_good = {
    "users_login_good",
    "UPDATE users SET failed_logins = 0, locked_until = NULL WHERE " OPEN " RETURNING id"};
static const struct pg_stmt renew = {
    "users_renew",
    "UPDATE users SET password_hash = $3, failed_logins = 0, locked_until = NULL, "
    "tokens_valid_from = clock_timestamp(), updated_at = now() WHERE " OPEN " RETURNING id"};
/* The part of a jti before the dot says whose it is; nobody may fill a list that all read. */
static const struct pg_stmt revoke_token = {
    "users_revoke_token",
    "WITH old AS (DELETE FROM revoked_tokens WHERE expires_at < now() - interval '1 hour'), "
    "own AS (SELECT count(*) AS n FROM revoked_tokens WHERE "
    "split_part(jti, '.', 1) = split_part($1::text, '.', 1) AND expires_at > now()), "
    "new AS (INSERT INTO revoked_tokens (jti, expires_at) SELECT $1, to_timestamp($2::bigint) "
    "FROM own WHERE n < $3::int ON CONFLICT (jti) DO NOTHING) "
    "SELECT 1 FROM own WHERE n < $3::int OR EXISTS (SELECT FROM revoked_tokens WHERE jti = $1)"};
static const struct pg_stmt revoke_all = {
    "users_revoke_all",
    "UPDATE users SET tokens_valid_from = clock_timestamp() WHERE id = $1 RETURNING id"};
static const struct pg_stmt usage = {
    "users_usage", "SELECT to_char(day, 'YYYY-MM-DD'), key_id, provider, model, purpose, calls, "
                   "cached, tokens_in, tokens_out, cost_nano_usd FROM usage_daily WHERE "
                   "owner_id = $1 ORDER BY day, key_id, team_id, provider, model, purpose "
                   "LIMIT $2 OFFSET $3"};

bool user_read(const struct pg_rows *rows, unsigned row, struct user *ret)
{
    if (row >= pg_count(rows))
        return false;
    *ret = (struct user){
        .id = pg_text(rows, row, 0),
        .user_id = pg_text(rows, row, 1),
        .email = pg_text_or_empty(rows, row, 2),
        .role = pg_text(rows, row, 3),
        .team_id = pg_text_or_empty(rows, row, 4),
        .team_name = pg_text_or_empty(rows, row, 5),
        .created_at = pg_text(rows, row, 6),
        .updated_at = pg_text(rows, row, 7),
        .locked_until = pg_text_or_empty(rows, row, 8),
        .password_hash = pg_text_or_empty(rows, row, 9),
        .disabled = pg_bool(rows, row, 10),
        .locked = pg_bool(rows, row, 11),
        .failed_logins = pg_int(rows, row, 12),
        .version = pg_text(rows, row, 13),
        .total = pg_int(rows, row, 14),
    };
    return true;
}

/* Logins read where writes go: a replica may not know yet that an account is locked. */
struct op *users_by_name(struct slice user_id, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &by_name, user_id, deadline_us, done, arg);
}

struct op *users_by_id(struct slice id, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &by_id, id, deadline_us, done, arg);
}

struct op *users_page(int64_t limit, int64_t offset, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_int(&a, limit);
    pg_arg_int(&a, offset);
    return pg_query(PG_READ, &page, &a, deadline_us, done, arg);
}

struct op *users_add(const struct user_new *u, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, u->id);
    pg_arg_text(&a, u->user_id);
    pg_arg_or_null(&a, u->email);
    pg_arg_or_null(&a, u->password_hash);
    pg_arg_text(&a, u->role);
    pg_arg_or_null(&a, u->team_id);
    return pg_query(PG_WRITE, &add, &a, deadline_us, done, arg);
}

struct op *users_change(struct slice id, const struct user_change *c, uint64_t deadline_us,
                        pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, id);
    pg_arg_text(&a, c->email);
    pg_arg_text(&a, c->password_hash);
    pg_arg_text(&a, c->role);
    pg_arg_text(&a, c->team_id);
    if (c->disabled)
        pg_arg_bool(&a, *c->disabled);
    else
        pg_arg_null(&a);
    pg_arg_or_null(&a, c->version);
    return pg_query(PG_WRITE, &change, &a, deadline_us, done, arg);
}

struct op *users_remove(struct slice id, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &removal, id, deadline_us, done, arg);
}

struct op *users_login_failed(struct slice id, int64_t failures, int64_t minutes, pg_done done,
                              void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, id);
    pg_arg_int(&a, failures);
    pg_arg_int(&a, minutes);
    return pg_query(PG_WRITE, &login_failed, &a, 0, done, arg);
}

struct op *users_login_good(struct slice id, struct slice verified_hash, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, id);
    pg_arg_text(&a, verified_hash);
    return pg_query(PG_WRITE, &login_good, &a, 0, done, arg);
}

struct op *users_renew(struct slice id, struct slice verified_hash, struct slice new_hash,
                       uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, id);
    pg_arg_text(&a, verified_hash);
    pg_arg_text(&a, new_hash);
    return pg_query(PG_WRITE, &renew, &a, deadline_us, done, arg);
}

struct op *users_revoke_token(struct slice jti, int64_t expires_s, uint64_t deadline_us,
                              pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, jti);
    pg_arg_int(&a, expires_s);
    pg_arg_int(&a, MAX_REVOKED_OF_ONE);
    return pg_query(PG_WRITE, &revoke_token, &a, deadline_us, done, arg);
}

struct op *users_revoke_all(struct slice id, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &revoke_all, id, deadline_us, done, arg);
}

bool usage_day_read(const struct pg_rows *rows, unsigned row, struct usage_day *ret)
{
    if (row >= pg_count(rows))
        return false;
    *ret = (struct usage_day){
        .day = pg_text(rows, row, 0),
        .key_id = pg_text_or_empty(rows, row, 1),
        .provider = pg_text_or_empty(rows, row, 2),
        .model = pg_text_or_empty(rows, row, 3),
        .purpose = pg_text_or_empty(rows, row, 4),
        .calls = pg_int(rows, row, 5),
        .cached = pg_int(rows, row, 6),
        .tokens_in = pg_int(rows, row, 7),
        .tokens_out = pg_int(rows, row, 8),
        .cost_nano_usd = pg_int(rows, row, 9),
    };
    return true;
}

struct op *users_usage(struct slice id, int64_t limit, int64_t offset, uint64_t deadline_us,
                       pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, id);
    pg_arg_int(&a, limit);
    pg_arg_int(&a, offset);
    return pg_query(PG_READ, &usage, &a, deadline_us, done, arg);
}
