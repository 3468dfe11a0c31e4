/*
 * ledger_ship.c - batches from the spool to Postgres.
 *
 *     IDLE --time, or a batch is full--> (READ) --> BEGIN --> PROGRESS --> COPY --> ROLLUP -->
 * COMMIT ^                                   |          data refused: half the rows, down to one;
 *      '-- pause after an error -----------'          that one --> REJECT --> BEGIN --> PROGRESS
 * --> COMMIT
 *
 * A batch is a run of records of one segment. In one transaction the segment's position in
 * ledger_progress is moved from where the batch begins to where it ends, its rows are copied, and
 * what they add up to is added to the daily rollup. So position and rows are one: whatever is lost
 * or unknown, READ asks for the position and goes on from there. The position moves only from the
 * one that was expected; when it does not, somebody else has moved it, or the database has been
 * put back to an older state, and READ tells. A file that the database may have forgotten
 * (ledger_keep.c) is put aside then.
 *
 * Rows leave the spool when the COMMIT has been confirmed. One row that the server refuses by
 * itself is tried without the vendor's usage, and then goes to rejected-<date>.log in the spool's
 * directory, so that it does not hold up those behind it. Errors that are not the data's (tables
 * missing, disk full, nobody there) never reject: the batch waits.
 *
 * At most one operation is outstanding; `ship.g` is not NULL from READ or BEGIN until the flow is
 * IDLE again, and has unshipped records all that time, so the spool keeps it.
 */
#include "storage/ledger_private.h"

#include "gateway/core/buf.h"
#include "gateway/core/loop.h"
#include "gateway/core/offload.h"
#include "gateway/core/rng.h"
#include "storage/pg.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BATCH_BYTES (1u << 20)
#define KEEP_BYTES (64u << 10) /* of the buffer, between batches */
#define TX_US 30000000u
#define TIME_BYTES 32u
#define MIN_PAUSE_US 100000u
#define MAX_PAUSE_US 2000000u

enum ship_state {
    SHIP_IDLE,
    SHIP_READ,
    SHIP_REJECT,
    SHIP_BEGIN,
    SHIP_PROGRESS,
    SHIP_COPY,
    SHIP_ROLLUP,
    SHIP_COMMIT
};

static const struct pg_stmt stmt_read = {"ledger_read",
                                         "SELECT pos FROM ledger_progress WHERE spool_id = $1"};

static const struct pg_stmt stmt_first = {
    "ledger_progress", "INSERT INTO ledger_progress (spool_id, pos) VALUES ($1, $2) "
                       "ON CONFLICT (spool_id) DO NOTHING RETURNING pos"};

static const struct pg_stmt stmt_move = {"ledger_progress",
                                         "UPDATE ledger_progress SET pos = $2, updated_at = now() "
                                         "WHERE spool_id = $1 AND pos = $3 RETURNING pos"};

static const struct pg_stmt stmt_copy = {"ledger_copy",
                                         "COPY provider_calls (" LEDGER_COLUMNS ") FROM STDIN"};

/* In one order for all, so that two writers never wait for each other crosswise. */
static const struct pg_stmt stmt_rollup = {
    "ledger_rollup",
    "INSERT INTO usage_daily AS u (day, owner_id, key_id, team_id, provider, model, purpose, "
    "calls, "
    "cached, tokens_in, tokens_out, cache_read, cost_nano_usd, unknown_cost_calls, "
    "avoided_nano_usd) "
    "SELECT (at AT TIME ZONE 'UTC')::date, owner_id, key_id, team_id, provider, model, purpose, "
    "count(*), count(*) FILTER (WHERE cache IN ('hit', 'semantic', 'coalesced')), "
    "coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0), coalesce(sum(cache_read), 0), "
    "coalesce(sum(cost_nano_usd), 0), count(*) FILTER (WHERE cost_nano_usd IS NULL), "
    "coalesce(sum(avoided_nano_usd), 0) "
    "FROM provider_calls WHERE spool_id = $1 AND spool_pos > $2 AND spool_pos <= $3 "
    "AND at BETWEEN $4 AND $5 GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7 "
    "ON CONFLICT (day, owner_id, key_id, team_id, provider, model, purpose) DO UPDATE SET "
    "calls = u.calls + excluded.calls, cached = u.cached + excluded.cached, "
    "tokens_in = u.tokens_in + excluded.tokens_in, tokens_out = u.tokens_out + "
    "excluded.tokens_out, "
    "cache_read = u.cache_read + excluded.cache_read, "
    "cost_nano_usd = u.cost_nano_usd + excluded.cost_nano_usd, "
    "unknown_cost_calls = u.unknown_cost_calls + excluded.unknown_cost_calls, "
    "avoided_nano_usd = u.avoided_nano_usd + excluded.avoided_nano_usd"};

static struct {
    enum ship_state state;
    struct segment *g; /* of the batch */
    size_t from, to;   /* positions: the batch is what lies between */
    unsigned rows;
    char first_at[TIME_BYTES], last_at[TIME_BYTES]; /* earliest and latest time in it */
    struct buf data;
    unsigned max_rows; /* of a batch; less than configured after a refusal */
    struct {
        char segment[SEGMENT_NAME]; /* "" = none */
        size_t from;
        bool reject; /* moved over, not stored; else stored without the vendor's usage */
    } suspect;       /* the one row the server refused */
    struct op *op;
    struct pg_tx *tx;
    struct loop_timer timer;
    struct loop_deferred soon;
    uint64_t pause_us; /* 0 = the last attempt went well */
    bool flush;
    enum gw_err told; /* the trouble that was logged last */
} ship;

static void ship_goto(enum ship_state next);
static void begin(void *arg);

/* --- ends ------------------------------------------------------------------------------------- */

/* Back to IDLE; the transaction, if one is open, is undone. */
static void stop(void)
{
    op_cancel(&ship.op);
    pg_rollback(ship.tx);
    ship.tx = NULL;
    ship.g = NULL;
    ship.state = SHIP_IDLE;
    if (ship.data.cap > KEEP_BYTES)
        buf_deinit(&ship.data);
}

/* Something that will pass: once more after a pause. What is in the database is unknown now. */
static void wait_for_better(enum gw_err err)
{
    struct spool_stats st;

    spool_stats(ledger.spool, &st);
    if (ship.told != err)
        log_warn(&ledger_log, "ledger_waits", F_CSTR("err", err_info(err)->name),
                 F_INT("step", ship.state), F_INT("rows", st.rows));
    ship.told = err;
    ship.g->unsure = true;
    stop();
    if (err == GW_EDEADLINE && ship.rows > 1)
        ship.max_rows = ship.rows / 2; /* too much for the statement timeout */
    ship.pause_us = ship.pause_us ? ship.pause_us * 2 : MIN_PAUSE_US;
    if (ship.pause_us > MAX_PAUSE_US)
        ship.pause_us = MAX_PAUSE_US;
    loop_timer_set(&ship.timer,
                   loop_now_us() + ship.pause_us / 2 + rng_u64() % (ship.pause_us / 2));
}

/* Is the batch that begins here the one row that was refused? */
static bool is_suspect(const struct segment *g, size_t from)
{
    return strcmp(ship.suspect.segment, g->name) == 0 && ship.suspect.from == from;
}

static void suspect(const struct segment *g, bool rejected)
{
    memcpy(ship.suspect.segment, g->name, sizeof(ship.suspect.segment));
    ship.suspect.from = ship.from;
    ship.suspect.reject = rejected;
}

/* The server refuses the data. */
static void narrow_down(void)
{
    if (ship.rows > 1)
        ship.max_rows = ship.rows / 2;
    else
        suspect(ship.g, is_suspect(ship.g, ship.from));
    stop();
    begin(NULL);
}

static bool is_refusal(enum gw_err err)
{
    return err == GW_EBADREQ || err == GW_ECONFLICT || err == GW_ENOTFOUND;
}

static void failed(enum gw_err err)
{
    if (is_refusal(err) && (ship.state == SHIP_COPY || ship.state == SHIP_ROLLUP))
        narrow_down();
    else
        wait_for_better(err);
}

/* Takes the records between two positions out of what is due, or back into it. Returns how many. */
static uint64_t count_due(const struct segment *g, size_t from, size_t to,
                          void (*count)(const struct ledger_line *))
{
    struct ledger_line line;
    struct slice record;
    uint64_t rows = 0;

    while (from < to && (record = segment_next(g, &from)).p && from <= to) {
        rows++;
        if (ledger_line_read(record, &line))
            count(&line);
    }
    return rows;
}

/* Is the batch a row that is given up? */
static bool is_rejected(void)
{
    return is_suspect(ship.g, ship.from) && ship.suspect.reject;
}

static void committed(void)
{
    struct segment *g = ship.g;

    if (ship.told)
        log_info(&ledger_log, "ledger_goes_on", F_INT("rows", ship.rows));
    ledger_due_batch_take();
    if (is_rejected())
        ledger_count_rejected();
    else
        ledger_count_stored(ship.rows);
    ship.suspect.segment[0] = '\0';
    ship.told = GW_OK;
    ship.pause_us = 0;
    g->unsure = false;
    ship.max_rows = ship.max_rows * 2 < ledger.batch_rows ? ship.max_rows * 2 : ledger.batch_rows;
    stop();
    spool_shipped(ledger.spool, g, ship.to, ship.rows);
    ledger_gauges();
    ledger_ship_kick();
}

/* --- building a batch ------------------------------------------------------------------------- */

static void add_line(const struct ledger_line *line, size_t pos, bool plain)
{
    buf_add(&ship.data, ship.g->name, SEGMENT_NAME - 1);
    buf_add_char(&ship.data, '\t');
    buf_add_u64(&ship.data, pos);
    buf_add_char(&ship.data, '\t');
    if (plain) {
        buf_add(&ship.data, line->columns.p, line->columns.n - line->raw.n);
        buf_add_cstr(&ship.data, "\\N");
    } else {
        buf_add_slice(&ship.data, line->columns);
    }
    buf_add_char(&ship.data, '\n');
}

/* Times are all of one length and sort as text. */
static void note_time(struct slice at)
{
    size_t n = at.n < TIME_BYTES - 1 ? at.n : TIME_BYTES - 1;

    if (!ship.first_at[0] || memcmp(at.p, ship.first_at, n) < 0)
        memcpy(ship.first_at, at.p, n);
    if (!ship.last_at[0] || memcmp(at.p, ship.last_at, n) > 0)
        memcpy(ship.last_at, at.p, n);
}

/* Fills the buffer with what comes next in the segment. A row that was refused, and a record that
 * is no line of this version, make a batch of their own. */
static void build(void)
{
    size_t pos = ship.g->done;
    bool alone = is_suspect(ship.g, pos), good;
    struct ledger_line line;
    struct slice record;

    buf_reset(&ship.data);
    ledger_due_batch();
    ship.from = ship.to = pos;
    ship.rows = 0;
    memset(ship.first_at, 0, sizeof(ship.first_at));
    memset(ship.last_at, 0, sizeof(ship.last_at));
    while (ship.rows < (alone ? 1 : ship.max_rows) && ship.data.n < BATCH_BYTES &&
           (record = segment_next(ship.g, &pos)).p) {
        good = ledger_line_read(record, &line);
        if (!good && ship.rows)
            break;
        ship.rows++;
        ship.to = pos;
        if (!good) {
            suspect(ship.g, true);
            break;
        }
        ledger_due_batch_add(&line);
        add_line(&line, pos, alone);
        note_time(line.at);
    }
}

/* --- a row that is refused -------------------------------------------------------------------- */

struct reject_job {
    char path[4224];
    struct buf text;
    bool written;
};

static void reject_free(void *arg)
{
    struct reject_job *j = arg;

    buf_deinit(&j->text);
    free(j);
}

static void reject_work(void *arg)
{
    struct reject_job *j = arg;
    int fd = open(j->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    j->written = write(fd, j->text.p, j->text.n) == (ssize_t)j->text.n && fdatasync(fd) == 0;
    close(fd);
}

/* A row that could not be put aside stays in the spool, and what is behind it waits. */
static void reject_done(void *arg)
{
    struct reject_job *j = arg;
    bool written = j->written;

    ship.op = NULL;
    if (written)
        log_error(&ledger_log, "ledger_row_rejected", F_CSTR("spool_id", ship.g->name),
                  F_INT("spool_pos", ship.to), F_CSTR("file", j->path));
    reject_free(j);
    if (written)
        ship_goto(SHIP_BEGIN);
    else
        failed(GW_EIO);
}

/* "<spool id> TAB <position> TAB <the record>", in a file a day. */
static struct reject_job *reject_new(void)
{
    struct reject_job *j = calloc(1, sizeof(*j));
    time_t now = (time_t)(loop_wall_us() / 1000000);
    size_t pos = ship.from;
    char date[16];
    struct tm tm;

    if (!j)
        return NULL;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%Y-%m-%d", &tm);
    snprintf(j->path, sizeof(j->path), "%s/rejected-%s.log", ledger.dir, date);
    buf_init(&j->text, 2 * SEGMENT_MAX_RECORD);
    buf_printf(&j->text, "%s\t%zu\t", ship.g->name, ship.to);
    buf_add_slice(&j->text, segment_next(ship.g, &pos));
    buf_add_char(&j->text, '\n');
    if (!buf_err(&j->text))
        return j;
    reject_free(j);
    return NULL;
}

static struct op *reject(void)
{
    struct reject_job *j = reject_new();
    struct op *op = j ? offload_run(reject_work, reject_done, reject_free, j) : NULL;

    if (j && !op)
        reject_free(j);
    return op;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Its rows may be in the database, which no longer knows: nobody but its owner can tell. */
static void put_aside(struct segment *g)
{
    char file[SEGMENT_NAME + sizeof(".spool.old")];
    uint64_t rows;

    snprintf(file, sizeof(file), "%s.spool.old", g->name);
    count_due(g, g->done, g->end, ledger_due_take);
    stop();
    rows = spool_put_aside(ledger.spool, g);
    ledger_count_aside(rows);
    ledger_gauges();
    log_error(&ledger_log, "ledger_file_too_old", F_CSTR("file", file), F_INT("rows", rows),
              F_CSTR("dir", ledger.dir));
    begin(NULL);
}

/* Where does the database stand? */
static void on_read(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct segment *g = ship.g;
    int64_t pos = pg_int(rows, 0, 0);
    size_t known = g->done, now;
    uint64_t moved;

    ship.op = NULL;
    if (err) {
        failed(err);
        return;
    }
    if (pg_count(rows) == 0 && g->fd >= 0 && ledger_may_be_forgotten(g)) {
        put_aside(g);
        return;
    }
    now = pos < 0 ? 0 : (uint64_t)pos > g->end ? g->end : (size_t)pos;
    moved = now > known ? count_due(g, known, now, ledger_due_take)
                        : count_due(g, now, known, ledger_due_add);
    if (now > known)
        ledger_count_stored(moved);
    g->unsure = false;
    stop();
    spool_move(ledger.spool, g, now);
    ledger_gauges();
    begin(NULL);
}

static void on_step(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    ship.op = NULL;
    if (err) {
        failed(err);
        return;
    }
    if (ship.state == SHIP_PROGRESS && pg_count(rows) == 0) {
        ship.g->unsure = true; /* it is not where it should be */
        stop();
        begin(NULL);
        return;
    }
    if (ship.state == SHIP_PROGRESS && is_rejected())
        ship_goto(SHIP_COMMIT);
    else
        ship_goto(ship.state + 1);
}

static void on_begin(enum gw_err err, struct pg_tx *tx, void *arg)
{
    ship.op = NULL;
    if (err) {
        failed(err);
        return;
    }
    ship.tx = tx;
    ship_goto(SHIP_PROGRESS);
}

static void on_commit(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    ship.op = NULL;
    if (err)
        failed(err);
    else
        committed();
}

static struct op *read_position(void)
{
    struct pg_args args = {0};

    pg_arg_text(&args, slice_of(ship.g->name, SEGMENT_NAME - 1));
    return pg_query(PG_WRITE, &stmt_read, &args, 0, on_read, NULL);
}

static struct op *move_position(void)
{
    struct pg_args args = {0};

    pg_arg_text(&args, slice_of(ship.g->name, SEGMENT_NAME - 1));
    pg_arg_int(&args, (int64_t)ship.to);
    if (ship.from)
        pg_arg_int(&args, (int64_t)ship.from);
    return pg_tx_query(ship.tx, ship.from ? &stmt_move : &stmt_first, &args, on_step, NULL);
}

static struct op *roll_up(void)
{
    struct pg_args args = {0};

    pg_arg_text(&args, slice_of(ship.g->name, SEGMENT_NAME - 1));
    pg_arg_int(&args, (int64_t)ship.from);
    pg_arg_int(&args, (int64_t)ship.to);
    pg_arg_cstr(&args, ship.first_at);
    pg_arg_cstr(&args, ship.last_at);
    return pg_tx_query(ship.tx, &stmt_rollup, &args, on_step, NULL);
}

static struct op *commit(void)
{
    struct pg_tx *tx = ship.tx;

    ship.tx = NULL;
    return pg_commit(tx, on_commit, NULL);
}

static struct op *start_step(void)
{
    switch (ship.state) {
    case SHIP_READ:
        return read_position();
    case SHIP_REJECT:
        return reject();
    case SHIP_BEGIN:
        return pg_begin(loop_now_us() + TX_US, on_begin, NULL);
    case SHIP_PROGRESS:
        return move_position();
    case SHIP_COPY:
        return pg_tx_copy(ship.tx, &stmt_copy, buf_slice(&ship.data), on_step, NULL);
    case SHIP_ROLLUP:
        return roll_up();
    case SHIP_COMMIT:
        return commit();
    case SHIP_IDLE:
        break;
    }
    return NULL;
}

/* The only place that changes the state, but for stop(). */
static void ship_goto(enum ship_state next)
{
    ship.state = next;
    ship.op = start_step();
    if (!ship.op)
        failed(GW_ENOMEM);
}

/* Rows are said to be left in the segment, and none can be read: its disk or its memory has changed
 * under us. What they cost stays due until the next start. */
static void give_up_rest(void)
{
    struct segment *g = ship.g;

    stop();
    ledger_count_damaged(g, g->rows - g->shipped);
    spool_give_up(ledger.spool, g);
    ledger_gauges();
    loop_defer(&ship.soon, begin, NULL);
}

/* Takes the next batch, if there is one. */
static void begin(void *arg)
{
    if (ship.state != SHIP_IDLE)
        return;
    loop_timer_clear(&ship.timer);
    ship.g = spool_first(ledger.spool);
    if (!ship.g) {
        ship.flush = false;
        ship.pause_us = 0;
        return;
    }
    if (ship.g->unsure) {
        ship_goto(SHIP_READ);
        return;
    }
    build();
    if (buf_err(&ship.data))
        wait_for_better(buf_err(&ship.data));
    else if (!ship.rows)
        give_up_rest();
    else
        ship_goto(is_rejected() ? SHIP_REJECT : SHIP_BEGIN);
}

/* --- when ------------------------------------------------------------------------------------- */

void ledger_ship_kick(void)
{
    struct spool_stats st;

    if (ship.state != SHIP_IDLE || ship.pause_us)
        return;
    spool_stats(ledger.spool, &st);
    if (!st.rows)
        return;
    if (ship.flush || st.rows >= ship.max_rows || st.bytes >= BATCH_BYTES)
        loop_defer(&ship.soon, begin, NULL);
    else if (!ship.timer.due_us)
        loop_timer_set(&ship.timer, loop_now_us() + ledger.flush_us);
}

bool ledger_ship_is_sure(void)
{
    return ship.state != SHIP_COMMIT && !spool_is_unsure(ledger.spool);
}

void ledger_ship_flush(void)
{
    ship.flush = true;
    begin(NULL);
}

void ledger_ship_init(void)
{
    memset(&ship, 0, sizeof(ship));
    ship.max_rows = ledger.batch_rows;
    buf_init(&ship.data, BATCH_BYTES + 2 * LEDGER_LINE_MAX);
    loop_timer_init(&ship.timer, begin, NULL);
}

void ledger_ship_deinit(void)
{
    stop();
    loop_undefer(&ship.soon);
    loop_timer_stop(&ship.timer);
    buf_deinit(&ship.data);
}
