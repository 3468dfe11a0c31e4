/* teams.c - see teams.h. */
#include "storage/teams.h"

/* clang-format off */
#define COLUMNS                                                                                    \
    "t.id, t.name, to_json(t.models), coalesce(t.budget_nano_usd, -1), t.budget_period, "          \
    "coalesce(t.requests_per_minute, 0), coalesce(t.tokens_per_minute, 0), "                       \
    PG_TIME("t.created_at") ", (SELECT count(*) FROM users WHERE team_id = t.id)"
/* clang-format on */
#define VALUES_OF                                                                                  \
    "ARRAY(SELECT json_array_elements_text($3::json)), $4::bigint, $5::text, $6::integer, "        \
    "$7::bigint"

static const struct pg_stmt add = {
    "teams_add", "INSERT INTO teams AS t (id, name, models, budget_nano_usd, budget_period, "
                 "requests_per_minute, tokens_per_minute) VALUES ($1, $2, " VALUES_OF
                 ") RETURNING " COLUMNS ", 1"};
static const struct pg_stmt change = {
    "teams_change", "UPDATE teams AS t SET (name, models, budget_nano_usd, budget_period, "
                    "requests_per_minute, tokens_per_minute) = ROW($2, " VALUES_OF
                    ") WHERE t.id = $1 RETURNING " COLUMNS ", 1"};
static const struct pg_stmt page = {"teams_page",
                                    PG_PAGE(COLUMNS, "teams", "t", "true", "t.name", "$1", "$2")};
static const struct pg_stmt by_id = {"teams_by_id",
                                     "SELECT " COLUMNS ", 1 FROM teams t WHERE t.id = $1"};
static const struct pg_stmt by_name = {"teams_by_name",
                                       "SELECT " COLUMNS ", 1 FROM teams t WHERE t.name = $1"};
/* Keys that were taken back go without their team; those that are valid keep it and its limits. */
static const struct pg_stmt removal = {
    "teams_remove",
    "WITH idle AS (SELECT id FROM teams WHERE id = $1 AND NOT EXISTS (SELECT FROM api_keys WHERE "
    "team_id = $1 AND revoked_at IS NULL) FOR UPDATE), k AS (UPDATE api_keys SET team_id = NULL "
    "FROM idle WHERE team_id = idle.id) DELETE FROM teams t USING idle WHERE t.id = idle.id "
    "RETURNING t.id"};

bool team_read(const struct pg_rows *rows, unsigned row, struct team *ret)
{
    if (row >= pg_count(rows))
        return false;
    *ret = (struct team){
        .id = pg_text(rows, row, 0),
        .name = pg_text(rows, row, 1),
        .models = pg_text(rows, row, 2),
        .budget_nano_usd = pg_int(rows, row, 3),
        .budget_period = pg_text(rows, row, 4),
        .requests_per_minute = pg_int(rows, row, 5),
        .tokens_per_minute = pg_int(rows, row, 6),
        .created_at = pg_text(rows, row, 7),
        .members = pg_int(rows, row, 8),
        .total = pg_int(rows, row, 9),
    };
    return true;
}

static void put(struct pg_args *a, const struct team_new *t)
{
    pg_arg_text(a, t->id);
    pg_arg_text(a, t->name);
    pg_arg_text(a, t->models.n ? t->models : SLICE("[]"));
    pg_arg_int_if(a, t->budget_nano_usd >= 0, t->budget_nano_usd);
    pg_arg_cstr(a, t->budget_period ? t->budget_period : "total");
    pg_arg_int_if(a, t->requests_per_minute > 0, t->requests_per_minute);
    pg_arg_int_if(a, t->tokens_per_minute > 0, t->tokens_per_minute);
}

struct op *teams_add(const struct team_new *t, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    put(&a, t);
    return pg_query(PG_WRITE, &add, &a, deadline_us, done, arg);
}

struct op *teams_change(const struct team_new *t, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    put(&a, t);
    return pg_query(PG_WRITE, &change, &a, deadline_us, done, arg);
}

struct op *teams_page(int64_t limit, int64_t offset, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_int(&a, limit);
    pg_arg_int(&a, offset);
    return pg_query(PG_READ, &page, &a, deadline_us, done, arg);
}

struct op *teams_by_id(struct slice id, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &by_id, id, deadline_us, done, arg);
}

struct op *teams_by_name(struct slice name, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &by_name, name, deadline_us, done, arg);
}

struct op *teams_remove(struct slice id, uint64_t deadline_us, pg_done done, void *arg)
{
    return pg_query_text(PG_WRITE, &removal, id, deadline_us, done, arg);
}
