/*
 * ledger_keep.c - the table's partitions: those of the coming months are made, those past the
 * retention are dropped (the daily rollups stay), and positions of spool files that are long gone
 * are forgotten. At start and once a day; the statements may be run by all processes at once.
 *
 *     PARTITIONS --> DROP --> FORGET --> idle for a day
 *          '------------ error: again in a minute
 */
#include "storage/ledger_private.h"

#include "gateway/core/loop.h"
#include "gateway/core/rng.h"
#include "storage/pg.h"

#define DAY_US 86400000000ull
#define RETRY_US 60000000ull
#define SOON_US 2000000ull

enum keep_state { KEEP_PARTITIONS, KEEP_DROP, KEEP_FORGET };

static const struct pg_stmt stmt_partitions = {"ledger_partitions", "SELECT ledger_partitions(3)"};

/* Whole months: a partition goes when all of it is past the limit. */
static const struct pg_stmt stmt_drop = {
    "ledger_drop", "SELECT ledger_drop_before((date_trunc('month', now() AT TIME ZONE 'UTC') - "
                   "make_interval(months => $1::int)) AT TIME ZONE 'UTC')"};

/* A file whose row is gone would be stored again from its beginning: so not before the file must be
 * gone, whatever became of it. */
static const struct pg_stmt stmt_forget = {
    "ledger_forget", "DELETE FROM ledger_progress WHERE updated_at < now() - interval '180 days'"};

static struct {
    enum keep_state state;
    struct op *op;
    struct loop_timer timer;
    bool told; /* that it does not work */
} keep;

static void keep_goto(enum keep_state next);

static void again(uint64_t after_us)
{
    loop_timer_set(&keep.timer, loop_now_us() + after_us);
}

static void failed(enum gw_err err)
{
    if (!keep.told && err != GW_EUNAVAIL)
        log_warn(&ledger_log, "ledger_upkeep_failed", F_CSTR("err", err_info(err)->name),
                 F_INT("step", keep.state));
    keep.told = err != GW_EUNAVAIL;
    again(err == GW_EUNAVAIL ? SOON_US : RETRY_US);
}

static void on_done(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    int64_t n = pg_int(rows, 0, 0);

    keep.op = NULL;
    if (err) {
        failed(err);
        return;
    }
    if (keep.state != KEEP_FORGET && n > 0)
        log_info(&ledger_log,
                 keep.state == KEEP_DROP ? "ledger_partitions_dropped" : "ledger_partitions_made",
                 F_INT("partitions", n));
    if (keep.state != KEEP_FORGET) {
        keep_goto(keep.state + 1);
        return;
    }
    keep.told = false;
    again(DAY_US + rng_u64() % (DAY_US / 24));
}

static void keep_goto(enum keep_state next)
{
    static const struct pg_stmt *const statements[] = {&stmt_partitions, &stmt_drop, &stmt_forget};
    int64_t months = conf_current()->ledger_retention_months;
    struct pg_args args = {0};

    if (next == KEEP_DROP && months == 0)
        next = KEEP_FORGET;
    if (next == KEEP_DROP)
        pg_arg_int(&args, months);
    keep.state = next;
    keep.op = pg_query(PG_WRITE, statements[next], &args, 0, on_done, NULL);
    if (!keep.op)
        failed(GW_ENOMEM);
}

static void begin(void *arg)
{
    (void)arg;
    keep_goto(KEEP_PARTITIONS);
}

void ledger_keep_init(void)
{
    memset(&keep, 0, sizeof(keep));
    loop_timer_init(&keep.timer, begin, NULL);
    loop_timer_set(&keep.timer, loop_now_us());
}

void ledger_keep_deinit(void)
{
    op_cancel(&keep.op);
    loop_timer_stop(&keep.timer);
}
