/* spend.c - see spend.h. */
#include "storage/spend.h"

#include "storage/pg.h"

#include <stdlib.h>
#include <string.h>

/* sum() of bigint is numeric; what does not fit is more than anybody's limit. */
#define SUM_OF(column)                                                                             \
    "SELECT least(coalesce(sum(cost_nano_usd), 0), 9007199254740991)::bigint FROM usage_daily "    \
    "WHERE " column " = $1::uuid AND day >= (to_timestamp($2::bigint) AT TIME ZONE 'UTC')::date "  \
    "AND ($3::bigint = 0 OR day < (to_timestamp($3::bigint) AT TIME ZONE 'UTC')::date)"

static const struct pg_stmt key_stmt = {"spend_of_key", SUM_OF("key_id")};
static const struct pg_stmt team_stmt = {"spend_of_team", SUM_OF("team_id")};

struct asking {
    struct op op; /* first member */
    struct op *query;
    void (*done)(enum gw_err err, int64_t nano_usd, void *arg);
    void *arg;
};

static void on_rows(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct asking *a = arg;
    void (*done)(enum gw_err, int64_t, void *) = a->done;
    void *done_arg = a->arg;

    free(a);
    done(err, err ? 0 : pg_int(rows, 0, 0), done_arg);
}

static void asking_cancel(struct op *op)
{
    struct asking *a = (struct asking *)op;

    op_cancel(&a->query);
    free(a);
}

struct op *spend_of_scope(const char *scope, int64_t begin_s, int64_t end_s, uint64_t deadline_us,
                          void (*done)(enum gw_err err, int64_t nano_usd, void *arg), void *arg)
{
    bool team = strncmp(scope, "team:", 5) == 0;
    struct asking *a = calloc(1, sizeof(*a));
    struct pg_args args = {0};

    if (!a)
        return NULL;
    *a = (struct asking){.op = {asking_cancel}, .done = done, .arg = arg};
    pg_arg_cstr(&args, strchr(scope, ':') ? strchr(scope, ':') + 1 : scope);
    pg_arg_int(&args, begin_s);
    pg_arg_int(&args, end_s);
    a->query = pg_query(PG_WRITE, team ? &team_stmt : &key_stmt, &args, deadline_us, on_rows, a);
    if (!a->query) {
        free(a);
        return NULL;
    }
    return &a->op;
}
