/*
 * ledger_keep.c - the table's partitions: those of the coming months are made, those past the
 * retention are dropped (the daily rollups stay), and positions of spool files that are long gone
 * are forgotten. At start and once a day; the statements may be run by all processes at once.
 *
 *     PARTITIONS --> DROP --> FORGET --> idle for a day
 *          '------------ error: again in a minute
 */
#include "storage/ledger_private.h"

#include "gateway/core/day.h"
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

/*
 * A file whose position is forgotten would be stored again from its beginning. So one that comes
 * back and may have been forgotten is not stored: it began too long ago, by the time of its first
 * row, which is before that of any position. The two limits lie apart by more than clocks differ.
 */
#define FORGET_DAYS 180
#define REPLAY_DAYS 170
#define DAY_S 86400

static const struct pg_stmt stmt_forget = {
    "ledger_forget", "DELETE FROM ledger_progress WHERE updated_at < now() - make_interval(days => "
                     "$1::int)"};

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
    else if (next == KEEP_FORGET)
        pg_arg_int(&args, FORGET_DAYS);
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

/* The day of its first row; false when there is no row that can be read. */
static bool first_day(const struct segment *g, int64_t *ret_unix_s)
{
    struct ledger_line line;
    struct slice record;
    size_t pos = 0;

    while ((record = segment_next(g, &pos)).p)
        if (ledger_line_read(record, &line))
            return line.at.n >= 10 && day_parse(slice_of(line.at.p, 10), ret_unix_s);
    return false;
}

/* Rows that cannot be read are never stored, so they may come again. Times to come are as doubtful
 * as those long past: somebody's clock was wrong. */
bool ledger_may_be_forgotten(const struct segment *g)
{
    int64_t day, now = (int64_t)(loop_wall_us() / 1000000u);

    if (!first_day(g, &day))
        return false;
    return now - day > REPLAY_DAYS * DAY_S || day - now > (FORGET_DAYS - REPLAY_DAYS) * DAY_S;
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
