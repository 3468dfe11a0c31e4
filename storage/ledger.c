/*
 * ledger.c - see ledger.h: rows in, numbers out, start and stop.
 */
#include "storage/ledger_private.h"

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "storage/pg.h"

#include <assert.h>
#include <stdio.h>

#define SEGMENT_BYTES (4u << 20)
#define MEMORY_BYTES (16u << 20)
#define SCAN_US 5000000u
#define FILL_US 86400000000ull /* long before the database forgets a file (ledger_keep.c) */
#define LAST_US 2000000u       /* for handing over at the end */
#define LOG_PAUSE_US 5000000u  /* between two lines about dropped rows */

struct ledger ledger;
const struct log_ctx ledger_log = {.component = "ledger"};

static struct {
    struct metric_series *spooled, *stored, *dropped, *rejected, *aside, *rows, *bytes;
} metric;

static struct {
    uint64_t next_us; /* not before this */
    uint64_t dropped; /* since the last line */
} drop_log;

static void find_metrics(void)
{
    metric.spooled = metrics_get(M_LEDGER_ROWS, "spooled", NULL, NULL);
    metric.stored = metrics_get(M_LEDGER_ROWS, "stored", NULL, NULL);
    metric.dropped = metrics_get(M_LEDGER_ROWS, "dropped", NULL, NULL);
    metric.rejected = metrics_get(M_LEDGER_ROWS, "rejected", NULL, NULL);
    metric.aside = metrics_get(M_LEDGER_ROWS, "aside", NULL, NULL);
    metric.rows = metrics_get(M_LEDGER_PENDING, NULL, NULL, NULL);
    metric.bytes = metrics_get(M_LEDGER_PENDING_BYTES, NULL, NULL, NULL);
}

void ledger_gauges(void)
{
    struct spool_stats st;

    spool_stats(ledger.spool, &st);
    metrics_set(metric.rows, (int64_t)st.rows);
    metrics_set(metric.bytes, (int64_t)st.bytes);
}

void ledger_count_stored(uint64_t rows)
{
    ledger.stored += rows;
    metrics_add(metric.stored, (int64_t)rows);
}

void ledger_count_damaged(const struct segment *g, uint64_t rows)
{
    ledger.dropped += rows;
    metrics_add(metric.dropped, (int64_t)rows);
    log_error(&ledger_log, "ledger_rows_damaged", F_CSTR("spool_id", g->name), F_INT("rows", rows));
}

void ledger_count_rejected(void)
{
    ledger.rejected++;
    metrics_add(metric.rejected, 1);
}

void ledger_count_aside(uint64_t rows)
{
    ledger.aside += rows;
    metrics_add(metric.aside, (int64_t)rows);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void count_dropped(void)
{
    struct spool_stats st;

    ledger.dropped++;
    drop_log.dropped++;
    metrics_add(metric.dropped, 1);
    if (loop_now_us() < drop_log.next_us)
        return;
    spool_stats(ledger.spool, &st);
    log_error(&ledger_log, "ledger_rows_dropped", F_INT("rows", drop_log.dropped),
              F_CSTR("why", err_info(st.err)->slug), F_INT("waiting_rows", st.rows));
    drop_log.dropped = 0;
    drop_log.next_us = loop_now_us() + LOG_PAUSE_US;
}

void ledger_add(const struct ledger_row *row)
{
    static char text[LEDGER_LINE_MAX];
    struct slice record;
    struct ledger_line line;

    if (!ledger.on)
        return;
    record = slice_of(text, ledger_line_write(text, row));
    if (!spool_append(ledger.spool, record)) {
        count_dropped();
        return;
    }
    metrics_add(metric.spooled, 1);
    if (ledger_line_read(record, &line))
        ledger_due_add(&line);
    ledger_gauges();
    ledger_ship_kick();
}

/* --- what the spool tells --------------------------------------------------------------------- */

static void on_adopted(const struct segment *g, void *arg)
{
    struct ledger_line line;
    struct slice record;
    size_t pos = 0;

    while ((record = segment_next(g, &pos)).p)
        if (ledger_line_read(record, &line))
            ledger_due_add(&line);
    log_info(&ledger_log, "ledger_file_taken_over", F_CSTR("spool_id", g->name),
             F_INT("rows", g->rows), F_INT("damaged_bytes", g->damaged));
    if (g->damaged)
        log_error(&ledger_log, "ledger_rows_damaged", F_CSTR("spool_id", g->name),
                  F_INT("bytes", g->damaged));
    ledger_gauges();
    ledger_ship_kick();
}

static void on_set_aside(const char *file, void *arg)
{
    log_error(&ledger_log, "ledger_file_damaged", F_CSTR("file", file),
              F_CSTR("hint", "it was renamed to end in .bad"));
}

static void on_lost(unsigned files, void *arg)
{
    log_error(&ledger_log, "ledger_files_removed", F_INT("files", files), F_CSTR("dir", ledger.dir),
              F_CSTR("hint", "somebody cleared the directory; they are written again"));
    ledger_gauges();
}

static void on_state(enum gw_err err, void *arg)
{
    if (err)
        log_warn(&ledger_log, "ledger_disk_unavailable", F_CSTR("why", err_info(err)->slug),
                 F_CSTR("dir", ledger.dir));
    else
        log_info(&ledger_log, "ledger_disk_available", F_CSTR("dir", ledger.dir));
}

/* --- life ------------------------------------------------------------------------------------- */

static enum spool_sync sync_of(const struct conf *c)
{
    if (slice_is(c->ledger_fsync, "always"))
        return SPOOL_ALWAYS;
    return slice_is(c->ledger_fsync, "never") ? SPOOL_NEVER : SPOOL_INTERVAL;
}

enum gw_err ledger_init(const struct conf *c)
{
    struct spool_config cfg = {
        .dir = ledger.dir,
        .segment_bytes = SEGMENT_BYTES,
        .memory_bytes = MEMORY_BYTES,
        .max_bytes = (uint64_t)c->ledger_max_mb << 20,
        .sync = sync_of(c),
        .sync_us = (uint64_t)c->ledger_fsync_ms * 1000,
        .scan_us = SCAN_US,
        .fill_us = FILL_US,
        .on = {.adopted = on_adopted,
               .set_aside = on_set_aside,
               .lost = on_lost,
               .state = on_state},
    };
    struct spool_stats st;

    if (!pg_enabled())
        return GW_OK;
    assert(c->ledger_dir.n && c->ledger_dir.n < sizeof(ledger.dir)); /* conf.def bounds it */
    snprintf(ledger.dir, sizeof(ledger.dir), "%.*s", SLICE_ARG(c->ledger_dir));
    find_metrics();
    ledger.flush_us = (uint64_t)c->ledger_flush_ms * 1000;
    ledger.batch_rows = (unsigned)c->ledger_batch_rows;
    ledger.spool = spool_open(&cfg);
    if (!ledger.spool)
        return GW_ENOMEM;
    ledger.on = true;
    spool_stats(ledger.spool, &st);
    if (st.err)
        on_state(st.err, NULL);
    ledger_ship_init();
    ledger_keep_init();
    return GW_OK;
}

static void on_last(void *arg)
{
    (void)arg;
}

/* Hands over what is spooled, as long as that works, and not for long. */
static void hand_over(void)
{
    uint64_t end_us = loop_clock_us() + LAST_US;
    struct spool_stats st;
    struct loop_timer timer = {0};

    loop_timer_init(&timer, on_last, NULL);
    loop_timer_set(&timer, end_us);
    spool_stats(ledger.spool, &st);
    if (st.rows)
        ledger_ship_flush();
    while (st.rows && pg_up() && loop_clock_us() < end_us) {
        loop_turn();
        spool_stats(ledger.spool, &st);
    }
    loop_timer_stop(&timer);
    if (st.rows)
        log_warn(&ledger_log, "ledger_rows_left", F_INT("rows", st.rows),
                 F_CSTR("dir", ledger.dir));
}

void ledger_deinit(void)
{
    if (!ledger.on)
        return;
    hand_over();
    ledger_keep_deinit();
    ledger_ship_deinit();
    ledger.spool = spool_close(ledger.spool);
    ledger_due_clear();
    ledger = (struct ledger){0};
}

void ledger_stats(struct ledger_stats *ret)
{
    struct spool_stats st = {0};

    if (ledger.on)
        spool_stats(ledger.spool, &st);
    *ret = (struct ledger_stats){.enabled = ledger.on,
                                 .pending_rows = st.rows,
                                 .pending_bytes = st.bytes,
                                 .stored = ledger.stored,
                                 .dropped = ledger.dropped,
                                 .rejected = ledger.rejected,
                                 .aside = ledger.aside,
                                 .sure = !ledger.on || ledger_ship_is_sure()};
}

static uint64_t total(enum metric m, const char *outcome)
{
    return (uint64_t)metrics_total(m, outcome, NULL, NULL);
}

void ledger_totals(struct ledger_stats *ret)
{
    *ret = (struct ledger_stats){.enabled = ledger.on,
                                 .pending_rows = total(M_LEDGER_PENDING, NULL),
                                 .pending_bytes = total(M_LEDGER_PENDING_BYTES, NULL),
                                 .stored = total(M_LEDGER_ROWS, "stored"),
                                 .dropped = total(M_LEDGER_ROWS, "dropped"),
                                 .rejected = total(M_LEDGER_ROWS, "rejected"),
                                 .aside = total(M_LEDGER_ROWS, "aside")};
}

int64_t ledger_pending_cost(const char *scope, int64_t begin_s, int64_t end_s)
{
    return ledger_due(slice_cstr(scope), begin_s, end_s);
}
