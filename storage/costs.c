/* costs.c - see costs.h. */
#include "storage/costs.h"

/* sum() of bigint is numeric; what does not fit is cut. */
#define SUM(column) "least(coalesce(sum(" column "), 0), 9007199254740991)::bigint AS " column

#define SUMS                                                                                       \
    SUM("calls")                                                                                   \
    ", " SUM("cached") ", " SUM("tokens_in") ", " SUM("tokens_out") ", " SUM(                      \
        "cache_read") ", " SUM("cost_nano_usd") ", " SUM("unknown_cost_calls") ", " SUM("avoided_" \
                                                                                        "nano_"    \
                                                                                        "usd")

#define WHERE                                                                                      \
    "WHERE ($1::date IS NULL OR day >= $1::date) AND ($2::date IS NULL OR day <= $2::date) "       \
    "AND ($3::uuid IS NULL OR key_id = $3::uuid) AND ($4::uuid IS NULL OR owner_id = $4::uuid) "   \
    "AND (NOT $5::boolean OR (key_id IS NULL AND owner_id IS NULL)) "

/* The grouping set () gives one row whatever there is: the total, which comes first. */
#define COSTS_OF(column, name, join, order)                                                        \
    "SELECT s.total = 1, s.id::text, " name ", s.groups, s.calls, s.cached, s.tokens_in, "         \
    "s.tokens_out, s.cache_read, s.cost_nano_usd, s.unknown_cost_calls, s.avoided_nano_usd "       \
    "FROM (SELECT " column " AS id, grouping(" column ") AS total, count(*) OVER () - 1 AS "       \
    "groups, " SUMS " FROM usage_daily " WHERE "GROUP BY GROUPING SETS ((" column                  \
    "), ())) s " join "ORDER BY s.total DESC, " order " LIMIT $6::bigint + 1"

#define BY_COST "s.cost_nano_usd DESC, s.calls DESC, s.id"

static const struct pg_stmt model_stmt = {"costs_by_model",
                                          COSTS_OF("model", "NULL::text", "", BY_COST)};
static const struct pg_stmt provider_stmt = {"costs_by_provider",
                                             COSTS_OF("provider", "NULL::text", "", BY_COST)};
static const struct pg_stmt day_stmt = {"costs_by_day",
                                        COSTS_OF("day", "NULL::text", "", "s.id DESC")};
static const struct pg_stmt key_stmt = {
    "costs_by_key", COSTS_OF("key_id", "k.name", "LEFT JOIN api_keys k ON k.id = s.id ", BY_COST)};
static const struct pg_stmt team_stmt = {
    "costs_by_team", COSTS_OF("team_id", "t.name", "LEFT JOIN teams t ON t.id = s.id ", BY_COST)};
static const struct pg_stmt owner_stmt = {
    "costs_by_owner",
    COSTS_OF("owner_id", "u.user_id", "LEFT JOIN users u ON u.id = s.id ", BY_COST)};
static const struct pg_stmt purpose_stmt = {"costs_by_purpose",
                                            COSTS_OF("purpose", "NULL::text", "", BY_COST)};

static const struct {
    const char *name;
    const struct pg_stmt *stmt;
} groups[COSTS_GROUPS] = {
    [COSTS_MODEL] = {"model", &model_stmt},
    [COSTS_PROVIDER] = {"provider", &provider_stmt},
    [COSTS_DAY] = {"day", &day_stmt},
    [COSTS_KEY] = {"key", &key_stmt},
    [COSTS_TEAM] = {"team", &team_stmt},
    [COSTS_OWNER] = {"owner", &owner_stmt},
    [COSTS_PURPOSE] = {"purpose", &purpose_stmt},
};

const char *costs_group_name(enum costs_group group)
{
    return groups[group].name;
}

bool costs_group_find(struct slice name, enum costs_group *ret)
{
    for (unsigned i = 0; i < COSTS_GROUPS; i++)
        if (slice_is(name, groups[i].name)) {
            *ret = (enum costs_group)i;
            return true;
        }
    return false;
}

struct op *costs_read(const struct costs_filter *f, enum costs_group group, int64_t limit,
                      uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args args = {0};

    pg_arg_or_null(&args, f->from);
    pg_arg_or_null(&args, f->to);
    pg_arg_or_null(&args, f->key_id);
    pg_arg_or_null(&args, f->owner_id);
    pg_arg_bool(&args, f->nobodys);
    pg_arg_int(&args, limit);
    return pg_query(PG_READ, groups[group].stmt, &args, deadline_us, done, arg);
}
