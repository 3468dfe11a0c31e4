/*
 * dbversion.c - see dbversion.h.
 *
 *     idle --timer--> FIND (is there a table of steps?) --yes--> READ --> idle
 *                       '--no: version 0--> idle      '--any failure--> idle, state as before
 *
 * One operation at most is outstanding; the timer is set when none is.
 */
#include "storage/dbversion.h"

#include "gateway/core/loop.h"
#include "storage/migrations.h"
#include "storage/pg.h"

#include <string.h>

#define SOON_US 2000000u   /* while there is something to wait for */
#define LATER_US 60000000u /* when all is well */

static const struct pg_stmt find = {"schema_find",
                                    "SELECT to_regclass('schema_migrations') IS NOT NULL"};
static const struct pg_stmt read_version = {
    "schema_version", "SELECT coalesce(max(version), 0) FROM schema_migrations"};

static struct {
    enum dbversion_state state;
    struct op *op; /* outstanding statement, or NULL */
    struct loop_timer timer;
    void (*on_change)(enum dbversion_state state, unsigned there, unsigned program);
} watch;

static void rest(void)
{
    bool well = watch.state == DBVERSION_CURRENT || watch.state == DBVERSION_AHEAD;

    loop_timer_set(&watch.timer, loop_now_us() + (well ? LATER_US : SOON_US));
}

static void conclude(unsigned there)
{
    enum dbversion_state state = there < n_migrations   ? DBVERSION_BEHIND
                                 : there > n_migrations ? DBVERSION_AHEAD
                                                        : DBVERSION_CURRENT;
    bool changed = state != watch.state;

    watch.state = state;
    rest();
    if (changed && watch.on_change)
        watch.on_change(state, there, n_migrations);
}

static void on_version(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    watch.op = NULL;
    if (err)
        rest();
    else
        conclude((unsigned)pg_int(rows, 0, 0));
}

static void on_found(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    watch.op = NULL;
    if (!err && !pg_bool(rows, 0, 0)) {
        conclude(0);
        return;
    }
    if (!err)
        watch.op = pg_query(PG_WRITE, &read_version, NULL, 0, on_version, NULL);
    if (!watch.op)
        rest();
}

static void on_time(void *arg)
{
    watch.op = pg_query(PG_WRITE, &find, NULL, 0, on_found, NULL);
    if (!watch.op)
        rest();
}

enum gw_err dbversion_init(const struct conf *c)
{
    if (!pg_enabled())
        return GW_OK;
    watch.state = DBVERSION_UNKNOWN;
    loop_timer_init(&watch.timer, on_time, NULL);
    loop_timer_set(&watch.timer, loop_now_us());
    return GW_OK;
}

void dbversion_deinit(void)
{
    op_cancel(&watch.op);
    loop_timer_stop(&watch.timer);
    memset(&watch, 0, sizeof(watch));
}

void dbversion_on_change(void (*fn)(enum dbversion_state state, unsigned there, unsigned program))
{
    watch.on_change = fn;
}

enum dbversion_state dbversion_state(void)
{
    return watch.state;
}
