/* The ledger's lines, what is due, and the way of its batches, against a database made by hand that
 * loses, refuses and forgets as told. */
#include "storage/ledger_private.h"
#include "storage/pg.h"

#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"

#include "tests/unit/turns.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "11111111-2222-3333-4444-555555555555"
#define TEAM "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define MAX_ROWS 256u

/* --- the database ----------------------------------------------------------------------------- */

struct pg_rows {
    unsigned count;
    int64_t value;
};

struct progress {
    char id[SEGMENT_NAME];
    int64_t pos;
};

struct state {
    struct progress progress[8];
    unsigned n_progress;
    char *rows[MAX_ROWS]; /* lines as copied */
    unsigned n_rows, n_rollups;
};

static struct {
    struct state now, tx;
    bool up;
    const char *refused;    /* COPY refuses lines that hold this */
    enum gw_err copy_err;   /* of the next COPY */
    enum gw_err commit_err; /* of the next COMMIT */
    bool commit_done;       /* it took place all the same */
    unsigned begins, commits, copies, reads;
} db;

struct pg_tx {
    int unused;
};

static struct pg_tx the_tx;

struct fake_op {
    struct op op;
    struct loop_deferred deferred;
    enum gw_err err;
    struct pg_rows rows;
    pg_done done;
    void (*begun)(enum gw_err, struct pg_tx *, void *);
    void *arg;
};

static void give_up(struct op *op)
{
    struct fake_op *f = (struct fake_op *)op;

    loop_undefer(&f->deferred);
    free(f);
}

static void end(void *arg)
{
    struct fake_op f = *(struct fake_op *)arg;

    free(arg);
    if (f.begun)
        f.begun(f.err, f.err ? NULL : &the_tx, f.arg);
    else
        f.done(f.err, &f.rows, f.arg);
}

static struct op *answer(enum gw_err err, struct pg_rows rows, pg_done done, void *arg)
{
    struct fake_op *f = calloc(1, sizeof(*f));

    f->op.cancel = give_up;
    f->err = db.up ? err : GW_EUNAVAIL;
    f->rows = rows;
    f->done = done;
    f->arg = arg;
    loop_defer(&f->deferred, end, f);
    return &f->op;
}

bool pg_enabled(void)
{
    return true;
}

bool pg_up(void)
{
    return db.up;
}

unsigned pg_count(const struct pg_rows *r)
{
    return r ? r->count : 0;
}

int64_t pg_int(const struct pg_rows *r, unsigned row, unsigned col)
{
    return r && r->count ? r->value : 0;
}

void pg_arg_text(struct pg_args *a, struct slice text)
{
    a->arg[a->n++].text = text;
}

void pg_arg_cstr(struct pg_args *a, const char *text)
{
    pg_arg_text(a, slice_cstr(text));
}

void pg_arg_int(struct pg_args *a, int64_t v)
{
    unsigned i = a->n++;

    snprintf(a->arg[i].number, sizeof(a->arg[i].number), "%lld", (long long)v);
    a->arg[i].text = SLICE_NONE;
}

static int64_t arg_int(const struct pg_args *a, unsigned i)
{
    return strtoll(a->arg[i].number, NULL, 10);
}

static struct progress *progress_of(struct state *s, struct slice id)
{
    for (unsigned i = 0; i < s->n_progress; i++)
        if (slice_is(id, s->progress[i].id))
            return &s->progress[i];
    return NULL;
}

static struct pg_rows set_progress(const struct pg_args *a)
{
    struct progress *p = progress_of(&db.tx, a->arg[0].text);

    if (a->n == 3 ? !p || p->pos != arg_int(a, 2) : p != NULL)
        return (struct pg_rows){0};
    if (!p) {
        p = &db.tx.progress[db.tx.n_progress++];
        snprintf(p->id, sizeof(p->id), "%.*s", SLICE_ARG(a->arg[0].text));
    }
    p->pos = arg_int(a, 1);
    return (struct pg_rows){1, p->pos};
}

struct op *pg_query(enum pg_role role, const struct pg_stmt *stmt, const struct pg_args *args,
                    uint64_t deadline_us, pg_done done, void *arg)
{
    struct progress *p;

    if (strcmp(stmt->name, "ledger_read") != 0)
        return answer(GW_OK, (struct pg_rows){1, 0}, done, arg); /* upkeep */
    db.reads++;
    p = progress_of(&db.now, args->arg[0].text);
    return answer(GW_OK, (struct pg_rows){p != NULL, p ? p->pos : 0}, done, arg);
}

struct op *pg_begin(uint64_t deadline_us, void (*done)(enum gw_err, struct pg_tx *, void *),
                    void *arg)
{
    struct op *op = answer(GW_OK, (struct pg_rows){0}, NULL, arg);

    ((struct fake_op *)op)->begun = done;
    db.tx = db.now;
    db.begins++;
    return op;
}

struct op *pg_tx_query(struct pg_tx *tx, const struct pg_stmt *stmt, const struct pg_args *args,
                       pg_done done, void *arg)
{
    if (strcmp(stmt->name, "ledger_progress") == 0)
        return answer(GW_OK, set_progress(args), done, arg);
    assert_string_equal(stmt->name, "ledger_rollup");
    assert_true(slice_starts(args->arg[3].text, "20") && slice_starts(args->arg[4].text, "20"));
    db.tx.n_rollups++;
    return answer(GW_OK, (struct pg_rows){0}, done, arg);
}

struct op *pg_tx_copy(struct pg_tx *tx, const struct pg_stmt *stmt, struct slice data, pg_done done,
                      void *arg)
{
    enum gw_err err = db.copy_err;

    db.copies++;
    db.copy_err = GW_OK;
    if (!err && db.refused && memmem(data.p, data.n, db.refused, strlen(db.refused)))
        err = GW_EBADREQ;
    while (!err && data.n) {
        size_t n = slice_find(data, '\n');

        assert_true(n < data.n && db.tx.n_rows < MAX_ROWS);
        db.tx.rows[db.tx.n_rows++] = strndup(data.p, n);
        data = slice_from(data, n + 1);
    }
    return answer(err, (struct pg_rows){0}, done, arg);
}

static void forget_rows(struct state *s, unsigned from)
{
    while (s->n_rows > from)
        free(s->rows[--s->n_rows]);
}

struct op *pg_commit(struct pg_tx *tx, pg_done done, void *arg)
{
    enum gw_err err = db.commit_err;

    db.commits++;
    db.commit_err = GW_OK;
    if (!err || db.commit_done)
        db.now = db.tx;
    else
        forget_rows(&db.tx, db.now.n_rows);
    return answer(err, (struct pg_rows){0}, done, arg);
}

void pg_rollback(struct pg_tx *tx)
{
    if (tx)
        forget_rows(&db.tx, db.now.n_rows);
}

/* --- life ------------------------------------------------------------------------------------- */

static char dir[64];
static struct conf *conf;

static int enter(void **state)
{
    const struct conf_source src = {.dir = "/nonexistent", .env_file = "/dev/null"};
    struct problems ps = {0};

    snprintf(dir, sizeof(dir), "/tmp/test_ledger.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    memset(&db, 0, sizeof(db));
    db.up = true;
    clearenv();
    setenv("LEDGER_DIR", dir, 1);
    conf = conf_load(&src, &ps);
    problems_deinit(&ps);
    if (!conf)
        return -1;
    conf->ledger_flush_ms = 1;
    conf->ledger_batch_rows = 8;
    conf_publish(conf);
    return metrics_init(1) || loop_init() || offload_init(2, 64) || ledger_init(conf) ? -1 : 0;
}

static int leave(void **state)
{
    char cmd[96];

    ledger_deinit();
    offload_deinit();
    loop_deinit();
    metrics_deinit();
    conf_publish(NULL);
    forget_rows(&db.now, 0);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static struct ledger_row row_named(const char *id)
{
    return (struct ledger_row){.at_wall_us = 1796000000123456u,
                               .request_id = slice_cstr(id),
                               .key_id = SLICE(KEY),
                               .team_id = SLICE(TEAM),
                               .provider = SLICE("openai"),
                               .model = SLICE("gpt-4o"),
                               .surface = "openai",
                               .purpose = "chat",
                               .status = "ok",
                               .cache = "miss",
                               .attempts = 1,
                               .usage_known = true,
                               .input = 7,
                               .cost_nano_usd = 1000,
                               .price_version = "v1",
                               .raw_usage = SLICE("{\"prompt_tokens\":7}")};
}

static void add(const char *id)
{
    struct ledger_row r = row_named(id);

    ledger_add(&r);
}

static void add_many(unsigned n)
{
    char id[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "r%u", i);
        add(id);
    }
}

static struct ledger_stats stats(void)
{
    struct ledger_stats st;

    ledger_stats(&st);
    return st;
}

/* How many stored lines hold the text. */
static unsigned stored(const char *text)
{
    unsigned n = 0;

    for (unsigned i = 0; i < db.now.n_rows; i++)
        n += strstr(db.now.rows[i], text) != NULL;
    return n;
}

static void expect_each_once(unsigned n)
{
    char id[16];

    assert_int_equal(db.now.n_rows, n);
    for (unsigned i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "\tr%u\t", i);
        assert_int_equal(stored(id), 1);
    }
    assert_int_equal(stats().pending_rows, 0);
    assert_int_equal(ledger_pending_cost("key:" KEY, 0, 0), 0);
}

/* --- lines ------------------------------------------------------------------------------------ */

static char line_text[LEDGER_LINE_MAX];

static struct slice line_of(const struct ledger_row *r)
{
    return slice_of(line_text, ledger_line_write(line_text, r));
}

static void expect_field(const struct ledger_row *r, unsigned index, const char *want)
{
    struct slice rest = line_of(r);

    for (; index; index--)
        rest = slice_from(rest, slice_find(rest, '\t') + 1);
    rest.n = slice_find(rest, '\t');
    if (!slice_is(rest, want))
        fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(rest), want);
}

static void test_a_line_is_what_copy_takes(void **state)
{
    struct ledger_row r = row_named("id-1");

    r.subject = SLICE("key:pk-1");
    r.stream = true;
    r.duration_us = 99;
    assert_true(slice_is(
        line_of(&r), "1\t" KEY "\t" TEAM "\t1000\t2026-11-30 00:53:20.123456+00\tid-1\t\\N\t\\N\t"
                     "key:pk-1\topenai\tgpt-4o\t\\N\topenai\tchat\tok\tmiss\tt\t1\t0\tt\t7\t0\t0\t"
                     "0\t0\t0\t99\t0\tv1\t{\"prompt_tokens\":7}"));
}

static void test_what_the_table_would_refuse_is_put_right(void **state)
{
    struct ledger_row r = row_named("a\tb\nc\\d");

    expect_field(&r, 5, "a\\tb\\nc\\\\d");
    r.request_id = slice_of("x\0y\xff\xc3\xa9", 6);
    expect_field(&r, 5, "x?y?\xc3\xa9");
    r.key_id = SLICE("not-a-uuid");
    expect_field(&r, 1, "\\N");
    r.cost_nano_usd = -1;
    expect_field(&r, 3, "\\N");
    r.cost_nano_usd = INT64_MAX;
    expect_field(&r, 3, "10000000000000000");
    r.input = UINT64_MAX;
    expect_field(&r, 20, "1000000000000");
    r.raw_usage = SLICE("{\"a\":\"\\u0000\"}");
    expect_field(&r, 29, "\\N");
    r.raw_usage = SLICE("{\n}");
    expect_field(&r, 29, "{\\n}");
}

static void test_long_texts_are_cut_between_characters(void **state)
{
    char text[300], want[300];
    struct ledger_row r = row_named("x");

    memset(text, 'a', 255);
    memcpy(text + 255, "\xc3\xa9", 2);
    memset(want, 'a', 255);
    want[255] = '\0';
    r.request_id = slice_of(text, 257);
    expect_field(&r, 5, want);
}

static void test_the_longest_line_fits(void **state)
{
    static char text[5000];
    struct slice s = slice_of(text, 5000);
    struct ledger_row r = {.at_wall_us = 1,
                           .request_id = s,
                           .idempotency_key = s,
                           .subject = s,
                           .provider = s,
                           .model = s,
                           .asked_model = s,
                           .raw_usage = slice_of(text, 4096)};

    memset(text, '\\', sizeof(text));
    assert_true(line_of(&r).n < LEDGER_LINE_MAX);
}

static void test_a_line_of_another_format_is_not_read(void **state)
{
    struct ledger_row r = row_named("x");
    struct slice line = line_of(&r);
    struct ledger_line got;

    assert_true(ledger_line_read(line, &got));
    assert_int_equal(got.cost_nano_usd, 1000);
    assert_true(slice_is(got.raw, "{\"prompt_tokens\":7}"));
    line_text[0] = '2';
    assert_false(ledger_line_read(line, &got));
    assert_false(ledger_line_read(SLICE("1\tshort"), &got));
    assert_true(ledger_line_read(SLICE("1\ta\tb\t9223372036854775807\tat\tx"), &got));
    assert_false(ledger_line_read(SLICE("1\ta\tb\t9223372036854775808\tat\tx"), &got));
    assert_false(ledger_line_read(SLICE(""), &got));
}

/* A new period begins with nothing, however long Postgres has been away. */
static void test_what_is_due_is_told_by_the_day(void **state)
{
    static const int64_t day = 86400, first = 1796000000 / 86400 * 86400;
    struct ledger_row r = row_named("x");
    const char *key = "key:" KEY;

    r.at_wall_us = (uint64_t)first * 1000000;
    ledger_add(&r);
    r.at_wall_us += 86399999999u; /* the last moment of the day */
    ledger_add(&r);
    r.at_wall_us += 1;
    r.cost_nano_usd = 7;
    ledger_add(&r);
    assert_int_equal(ledger_pending_cost(key, first, first + day), 2000);
    assert_int_equal(ledger_pending_cost(key, first + day, first + 2 * day), 7);
    assert_int_equal(ledger_pending_cost(key, first + day, 0), 7);
    assert_int_equal(ledger_pending_cost(key, first - 5 * day, first + 5 * day), 2007);
    assert_int_equal(ledger_pending_cost(key, first + 2 * day, first + 3 * day), 0);
    assert_int_equal(ledger_pending_cost("team:" TEAM, first + day, first + 2 * day), 7);
    assert_int_equal(ledger_pending_cost(key, 0, 0), 2007);
    turn_until(stats().pending_rows == 0);
    assert_int_equal(ledger_pending_cost(key, 0, 0), 0);
    assert_int_equal(ledger_pending_cost(key, first, first + day), 0);
}

/* --- batches ---------------------------------------------------------------------------------- */

static void test_rows_are_stored_once_and_are_due_until_then(void **state)
{
    add_many(20);
    assert_int_equal(ledger_pending_cost("key:" KEY, 0, 0), 20000);
    assert_int_equal(ledger_pending_cost("team:" TEAM, 0, 0), 20000);
    assert_int_equal(ledger_pending_cost("key:other", 0, 0), 0);
    turn_until(stats().pending_rows == 0);
    expect_each_once(20);
    assert_int_equal(db.reads, 0); /* of its own new files the position is known */
    assert_true(db.commits >= 3);  /* batches of eight */
    assert_int_equal(db.now.n_rollups, db.commits);
}

static void test_a_commit_whose_answer_is_lost_is_not_repeated(void **state)
{
    db.commit_err = GW_EUNAVAIL;
    db.commit_done = true;
    add_many(5);
    turn_until(db.commits == 1 && stats().pending_rows == 0);
    assert_int_equal(db.reads, 1);
    assert_int_equal(stats().stored, 5);
    expect_each_once(5);
}

static void test_a_commit_that_was_lost_is_made_again(void **state)
{
    db.commit_err = GW_EUNAVAIL;
    add_many(5);
    turn_until(stats().pending_rows == 0);
    assert_int_equal(db.commits, 2);
    expect_each_once(5);
}

static void test_rows_wait_while_the_database_is_away(void **state)
{
    db.up = false;
    add_many(30);
    turn_until(db.begins >= 1);
    loop_turn();
    assert_int_equal(stats().pending_rows, 30);
    db.up = true;
    turn_until(stats().pending_rows == 0);
    expect_each_once(30);
}

static void test_a_database_put_back_to_an_older_state_gets_its_rows_again(void **state)
{
    struct state older;

    add_many(3);
    turn_until(stats().pending_rows == 0);
    older = db.now;
    add("later");
    turn_until(stats().pending_rows == 0);
    free(db.now.rows[3]);
    db.now = older; /* restored from a backup */
    add("latest");
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stored("\tlater\t"), 1);
    assert_int_equal(stored("\tlatest\t"), 1);
    assert_int_equal(db.now.n_rows, 5);
}

#define DAY_US 86400000000ll

static struct ledger_row row_of_days_ago(const char *id, int days)
{
    struct ledger_row r = row_named(id);

    r.at_wall_us = loop_wall_us() - (uint64_t)(days * DAY_US);
    return r;
}

/* Leaves a file behind with rows of that age, as a process does that dies while the database is
 * away, and starts the next one. */
static void leave_rows(int days)
{
    struct ledger_row r = row_of_days_ago("left", days);

    db.up = false;
    for (unsigned i = 0; i < 3; i++)
        ledger_add(&r);
    ledger_deinit();
    db.up = true;
    assert_int_equal(ledger_init(conf), GW_OK);
    turn_until(stats().pending_rows > 0 || stats().stored + stats().aside > 0);
    turn_until(stats().pending_rows == 0);
}

static unsigned files_like(const char *end)
{
    char pattern[96];
    glob_t found;
    unsigned n;

    snprintf(pattern, sizeof(pattern), "%s/*%s", dir, end);
    n = glob(pattern, 0, NULL, &found) == 0 ? (unsigned)found.gl_pathc : 0;
    globfree(&found);
    return n;
}

static void test_a_file_the_database_may_have_forgotten_is_put_aside(void **state)
{
    leave_rows(171);
    assert_int_equal(stored("\tleft\t"), 0);
    assert_int_equal(stats().aside, 3);
    assert_int_equal(ledger_pending_cost("key:" KEY, 0, 0), 0);
    turn_until(files_like(".spool.old") == 1);
    add("new");
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stored("\tnew\t"), 1);
}

static void test_a_file_the_database_cannot_have_forgotten_is_stored(void **state)
{
    leave_rows(169);
    assert_int_equal(stored("\tleft\t"), 3);
    assert_int_equal(stats().aside + files_like(".spool.old"), 0);
}

/* As README.md has it: name it to the database, and give it its name back. */
static void test_a_file_that_was_put_aside_can_be_stored_all_the_same(void **state)
{
    char from[128], to[128];
    glob_t found;

    leave_rows(300);
    turn_until(files_like(".spool.old") == 1);
    snprintf(from, sizeof(from), "%s/*.spool.old", dir);
    assert_int_equal(glob(from, 0, NULL, &found), 0);
    snprintf(from, sizeof(from), "%s", found.gl_pathv[0]);
    globfree(&found);
    snprintf(to, sizeof(to), "%.*s", (int)(strlen(from) - strlen(".old")), from);
    snprintf(db.now.progress[0].id, SEGMENT_NAME, "%s", to + strlen(dir) + 1);
    db.now.progress[0].pos = SEGMENT_HEADER;
    db.now.n_progress = 1;
    assert_int_equal(rename(from, to), 0);
    turn_until(stored("\tleft\t") == 3);
    turn_until(stats().pending_rows == 0);
}

static void test_a_file_from_the_future_is_put_aside(void **state)
{
    leave_rows(-11);
    assert_int_equal(stats().aside, 3);
    leave_rows(-9);
    assert_int_equal(stored("\tleft\t"), 3);
}

static unsigned rejected_lines(void)
{
    char pattern[96], cmd[256];
    glob_t found;
    unsigned n = 0;
    FILE *f;

    snprintf(pattern, sizeof(pattern), "%s/rejected-*.log", dir);
    if (glob(pattern, 0, NULL, &found) == 0) {
        f = fopen(found.gl_pathv[0], "r");
        while (fgets(cmd, sizeof(cmd), f))
            n += strchr(cmd, '\n') != NULL;
        fclose(f);
    }
    globfree(&found);
    return n;
}

static void test_one_row_that_is_refused_holds_up_no_other(void **state)
{
    db.refused = "POISON";
    add("r0");
    add("r1");
    add("POISON");
    add("r2");
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stats().rejected, 1);
    assert_int_equal(rejected_lines(), 1);
    expect_each_once(3);
    db.refused = NULL;
}

static void test_a_refused_row_that_cannot_be_put_aside_is_kept(void **state)
{
    char path[128], date[16];
    time_t now = time(NULL);

    strftime(date, sizeof(date), "%Y-%m-%d", gmtime(&now));
    snprintf(path, sizeof(path), "%s/rejected-%s.log", dir, date);
    assert_int_equal(mkdir(path, 0700), 0); /* stands where the file should */
    db.refused = "POISON";
    add("r0");
    add("POISON");
    turn_until(stats().pending_rows == 1);
    for (unsigned i = 0; i < 50; i++)
        loop_turn();
    assert_int_equal(stats().pending_rows, 1);
    assert_int_equal(stats().rejected, 0);
    assert_int_equal(rmdir(path), 0);
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stats().rejected, 1);
    assert_int_equal(rejected_lines(), 1);
    expect_each_once(1);
    db.refused = NULL;
}

static void test_usage_that_is_refused_is_left_out(void **state)
{
    struct ledger_row r = row_named("r0");

    db.refused = "BAD";
    r.raw_usage = SLICE("BAD");
    ledger_add(&r);
    add("r1");
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stats().rejected, 0);
    expect_each_once(2);
    assert_int_equal(stored("\tv1\t\\N"), 1);
    assert_int_equal(stored("\tv1\t{\"prompt_tokens\":7}"), 1);
}

static void test_errors_that_are_not_the_datas_reject_nothing(void **state)
{
    static const enum gw_err errors[] = {GW_EINTERNAL, GW_EIO, GW_EAGAIN, GW_EDEADLINE, GW_ENOMEM};
    unsigned before;

    for (unsigned i = 0; i < 5; i++) {
        before = db.copies;
        db.copy_err = errors[i]; /* tables missing, disk full, deadlock, ... */
        add("x");
        turn_until(stats().pending_rows == 0);
        assert_true(db.copies > before + 1);
    }
    assert_int_equal(stats().rejected, 0);
    assert_int_equal(stored("\tx\t"), 5);
}

static void test_a_record_of_a_later_version_is_put_aside(void **state)
{
    add("r0");
    assert_true(spool_append(ledger.spool, SLICE("2\tsomething else")));
    add("r1");
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stats().rejected, 1);
    assert_int_equal(rejected_lines(), 1);
    expect_each_once(2);
}

static void test_a_row_damaged_under_us_is_dropped_and_holds_up_no_other(void **state)
{
    struct segment *g;
    char *found;

    db.up = false;
    add("r0");
    add("DAMAGED");
    add("r1");
    g = spool_first(ledger.spool);
    found = memmem(g->map, g->end, "DAMAGED", 7);
    found[2] ^= 1;
    db.up = true;
    turn_until(stats().pending_rows == 0);
    assert_int_equal(stats().dropped, 1);
    assert_int_equal(db.now.n_rows, 2);
    add("r2");
    turn_until(db.now.n_rows == 3);
    assert_int_equal(stats().dropped, 1);
}

static void test_what_is_left_goes_out_at_the_end_and_by_the_next(void **state)
{
    add_many(3);
    ledger_deinit();
    assert_int_equal(db.now.n_rows, 3);
    assert_int_equal(ledger_init(conf), GW_OK);
    db.up = false;
    add("left");
    ledger_deinit(); /* the database is away: it stays in the file */
    db.up = true;
    assert_int_equal(ledger_init(conf), GW_OK);
    turn_until(db.now.n_rows == 4);
    assert_int_equal(stored("\tleft\t"), 1);
    assert_int_equal(db.reads, 1); /* of a file taken over the position is asked for */
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_is_what_copy_takes),
        cmocka_unit_test(test_what_the_table_would_refuse_is_put_right),
        cmocka_unit_test(test_long_texts_are_cut_between_characters),
        cmocka_unit_test(test_the_longest_line_fits),
        cmocka_unit_test(test_a_line_of_another_format_is_not_read),
        T(test_rows_are_stored_once_and_are_due_until_then),
        T(test_what_is_due_is_told_by_the_day),
        T(test_a_commit_whose_answer_is_lost_is_not_repeated),
        T(test_a_commit_that_was_lost_is_made_again),
        T(test_rows_wait_while_the_database_is_away),
        T(test_a_database_put_back_to_an_older_state_gets_its_rows_again),
        T(test_a_file_the_database_may_have_forgotten_is_put_aside),
        T(test_a_file_the_database_cannot_have_forgotten_is_stored),
        T(test_a_file_from_the_future_is_put_aside),
        T(test_a_file_that_was_put_aside_can_be_stored_all_the_same),
        T(test_one_row_that_is_refused_holds_up_no_other),
        T(test_a_refused_row_that_cannot_be_put_aside_is_kept),
        T(test_usage_that_is_refused_is_left_out),
        T(test_errors_that_are_not_the_datas_reject_nothing),
        T(test_a_record_of_a_later_version_is_put_aside),
        T(test_a_row_damaged_under_us_is_dropped_and_holds_up_no_other),
        T(test_what_is_left_goes_out_at_the_end_and_by_the_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
