/*
 * pg_migrate.c - see pg_migrate.h.
 *
 * struct migrator lives in one call. `guard` sits in an open transaction that holds the advisory
 * lock GUARD; `work` runs the steps, each in a transaction that holds the advisory lock STEP.
 */
#include "storage/pg_migrate.h"

#include "storage/migrations.h"

#include <libpq-fe.h>

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOCKS "1886352244" /* "post": our space of advisory locks */
#define GUARD "1"
#define STEP "2"
#define PAUSE_MS 100

#define SQL_TABLE                                                                                  \
    "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT "    \
    "NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), duration_ms "    \
    "bigint NOT NULL)"
#define SQL_LOOK                                                                                   \
    "SELECT version, name, checksum, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD "          \
    "HH24:MI:SS'), duration_ms FROM schema_migrations ORDER BY version"

struct migrator {
    const struct pg_migrate_options *opt;
    PGconn *guard, *work;
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static void say_line(const struct migrator *m, bool complaint, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void say_line(const struct migrator *m, bool complaint, const char *fmt, va_list ap)
{
    char line[2048];

    vsnprintf(line, sizeof(line), fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    m->opt->say(m->opt->arg, complaint, line);
}

static void say(const struct migrator *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void say(const struct migrator *m, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say_line(m, false, fmt, ap);
    va_end(ap);
}

static void complain(const struct migrator *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void complain(const struct migrator *m, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say_line(m, true, fmt, ap);
    va_end(ap);
}

/* --- what the server says --------------------------------------------------------------------- */

static const char *field(const PGresult *r, int code)
{
    const char *text = PQresultErrorField(r, code);

    return text ? text : "";
}

static bool is_state(const PGresult *r, const char *state)
{
    return strcmp(field(r, PG_DIAG_SQLSTATE), state) == 0;
}

/* Line of an error in the text that was sent, 0 when it is not told. */
static unsigned error_line(const PGresult *r, const char *text)
{
    long at = strtol(field(r, PG_DIAG_STATEMENT_POSITION), NULL, 10);
    unsigned line = 1;

    if (!text || at < 1)
        return 0;
    for (; *text && at > 1; text++, at--)
        line += *text == '\n';
    return line;
}

/* Says why a statement failed. `text` is what was sent when it is a step's file, else NULL. */
static enum gw_err failed(const struct migrator *m, PGconn *conn, const PGresult *r,
                          const char *what, const char *text)
{
    const char *detail = field(r, PG_DIAG_MESSAGE_DETAIL), *state = field(r, PG_DIAG_SQLSTATE);
    unsigned line = error_line(r, text);
    char at[32] = "";

    if (PQstatus(conn) != CONNECTION_OK || !*state) {
        complain(m, "%s: connection lost: %s", what, PQerrorMessage(conn));
        return GW_EUNAVAIL;
    }
    if (line)
        snprintf(at, sizeof(at), " (line %u)", line);
    complain(m, "%s: SQLSTATE %s: %s%s%s%s", what, state, field(r, PG_DIAG_MESSAGE_PRIMARY),
             *detail ? ": " : "", detail, at);
    return is_state(r, "55P03") || is_state(r, "40P01") ? GW_EAGAIN : GW_EINTERNAL;
}

static bool result_ok(const PGresult *r)
{
    ExecStatusType s = PQresultStatus(r);

    return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK;
}

/* Runs a statement whose rows do not matter. */
static enum gw_err run(const struct migrator *m, PGconn *conn, const char *what, const char *sql)
{
    PGresult *r = PQexec(conn, sql);
    enum gw_err err = result_ok(r) ? GW_OK : failed(m, conn, r, what, NULL);

    PQclear(r);
    return err;
}

/* --- connections ------------------------------------------------------------------------------ */

static void ignore_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

static enum gw_err connect_to(const struct migrator *m, PGconn **ret)
{
    char timeout[16];
    const char *keys[] = {"dbname", "connect_timeout", "client_encoding",
                          "fallback_application_name", NULL};
    const char *values[] = {m->opt->url, timeout, "UTF8", "postern migrate", NULL};
    PGconn *conn;

    snprintf(timeout, sizeof(timeout), "%u", m->opt->connect_s);
    conn = PQconnectdbParams(keys, values, 1);
    if (!conn)
        return GW_ENOMEM;
    if (PQstatus(conn) != CONNECTION_OK) {
        complain(m, "cannot connect: %s", PQerrorMessage(conn));
        PQfinish(conn);
        return GW_EUNAVAIL;
    }
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    *ret = conn;
    return GW_OK;
}

/* Opens a transaction: its waits for locks are short, itself may take its time. */
static enum gw_err begin(const struct migrator *m, PGconn *conn)
{
    char sql[256];

    snprintf(sql, sizeof(sql),
             "BEGIN; SET LOCAL lock_timeout = %u; SET LOCAL statement_timeout = 0; "
             "SET LOCAL idle_in_transaction_session_timeout = 0",
             m->opt->lock_ms);
    return run(m, conn, "begin", sql);
}

static void roll_back(PGconn *conn)
{
    if (PQstatus(conn) == CONNECTION_OK)
        PQclear(PQexec(conn, "ROLLBACK"));
}

/* --- the guard -------------------------------------------------------------------------------- */

/* GW_EAGAIN when somebody else has it. */
static enum gw_err guard_try(struct migrator *m)
{
    enum gw_err err = begin(m, m->guard);
    PGresult *r;

    if (err)
        return err;
    r = PQexec(m->guard, "SELECT pg_try_advisory_xact_lock(" LOCKS ", " GUARD ")");
    if (!result_ok(r))
        err = failed(m, m->guard, r, "advisory lock", NULL);
    else if (strcmp(PQgetvalue(r, 0, 0), "t") != 0)
        err = GW_EAGAIN;
    PQclear(r);
    if (err)
        roll_back(m->guard);
    return err;
}

static enum gw_err guard_take(struct migrator *m)
{
    uint64_t end = now_ms() + m->opt->wait_s * 1000u;
    bool told = false;
    enum gw_err err;

    for (;;) {
        err = guard_try(m);
        if (err != GW_EAGAIN)
            return err;
        if (now_ms() >= end) {
            complain(m, "another instance has been migrating for %u s", m->opt->wait_s);
            return err;
        }
        if (!told)
            say(m, "another instance is migrating, waiting");
        told = true;
        poll(NULL, 0, PAUSE_MS);
    }
}

static void migrator_close(struct migrator *m)
{
    PQfinish(m->work); /* an open transaction ends with it */
    PQfinish(m->guard);
}

static enum gw_err migrator_open(struct migrator *m)
{
    enum gw_err err = connect_to(m, &m->guard);

    if (!err)
        err = guard_take(m);
    if (!err)
        err = connect_to(m, &m->work);
    return err;
}

/* --- what is there ---------------------------------------------------------------------------- */

/* *ret is the rows of schema_migrations, or NULL when there is no such table yet. */
static enum gw_err look(const struct migrator *m, PGconn *conn, PGresult **ret)
{
    PGresult *r = PQexec(conn, "SELECT to_regclass('schema_migrations') IS NOT NULL");
    bool there = result_ok(r) && strcmp(PQgetvalue(r, 0, 0), "t") == 0;

    *ret = NULL;
    if (result_ok(r) && !there) {
        PQclear(r);
        return GW_OK;
    }
    if (there) {
        PQclear(r);
        r = PQexec(conn, SQL_LOOK);
    }
    if (result_ok(r)) {
        *ret = r;
        return GW_OK;
    }
    failed(m, conn, r, "schema_migrations", NULL);
    PQclear(r);
    return PQstatus(conn) == CONNECTION_OK ? GW_EINTERNAL : GW_EUNAVAIL;
}

static unsigned row_version(const PGresult *rows, int i)
{
    return (unsigned)strtoul(PQgetvalue(rows, i, 0), NULL, 10);
}

/* Are these the program's first steps, unchanged, in order? Further ones of a newer program may
 * follow. */
static enum gw_err check_rows(const struct migrator *m, const PGresult *rows)
{
    int i, n = rows ? PQntuples(rows) : 0;

    for (i = 0; i < n; i++) {
        unsigned version = row_version(rows, i);

        if (version != (unsigned)i + 1) {
            complain(
                m,
                "%03u_%s is applied, but %03d is not: the database is in no state this program "
                "knows",
                version, PQgetvalue(rows, i, 1), i + 1);
            return GW_ECONFLICT;
        }
        if (version <= n_migrations &&
            strcmp(PQgetvalue(rows, i, 2), migrations[i].checksum) != 0) {
            complain(
                m,
                "%03u_%s was changed after it had been applied: its checksum is not the one in "
                "schema_migrations",
                version, PQgetvalue(rows, i, 1));
            return GW_ECONFLICT;
        }
    }
    return GW_OK;
}

/* Looks and checks; *ret_version is the last step's number. */
static enum gw_err find_version(const struct migrator *m, PGconn *conn, unsigned *ret_version)
{
    PGresult *rows;
    enum gw_err err = look(m, conn, &rows);

    if (err)
        return err;
    err = check_rows(m, rows);
    *ret_version = rows ? (unsigned)PQntuples(rows) : 0;
    PQclear(rows);
    return err;
}

/* --- steps ------------------------------------------------------------------------------------ */

static void step_name(const struct migration *s, char name[static 80])
{
    snprintf(name, 80, "%03d_%s", s->version, s->name);
}

static enum gw_err run_file(const struct migrator *m, const char *name, const char *text)
{
    PGresult *r = PQexec(m->work, text);
    enum gw_err err = result_ok(r) ? GW_OK : failed(m, m->work, r, name, text);

    PQclear(r);
    if (!err && PQtransactionStatus(m->work) != PQTRANS_INTRANS) {
        complain(m, "%s ended its own transaction", name);
        err = GW_EINTERNAL;
    }
    return err;
}

static enum gw_err note_up(const struct migrator *m, const struct migration *s, uint64_t took_ms)
{
    char version[16], ms[24];
    const char *values[] = {version, s->name, s->checksum, ms};
    enum gw_err err = GW_OK;
    PGresult *r;

    snprintf(version, sizeof(version), "%d", s->version);
    snprintf(ms, sizeof(ms), "%llu", (unsigned long long)took_ms);
    r = PQexecParams(m->work,
                     "INSERT INTO schema_migrations (version, name, checksum, duration_ms) "
                     "VALUES ($1, $2, $3, $4)",
                     4, NULL, values, NULL, NULL, 0);
    if (!result_ok(r))
        err = failed(m, m->work, r, "schema_migrations", NULL);
    PQclear(r);
    return err;
}

static enum gw_err note_down(const struct migrator *m, const struct migration *s)
{
    char sql[80];

    snprintf(sql, sizeof(sql), "DELETE FROM schema_migrations WHERE version = %d", s->version);
    return run(m, m->work, "schema_migrations", sql);
}

/* Inside the step's transaction: its lock, a look whether it is still to be done, and the step. */
static enum gw_err step_body(const struct migrator *m, const struct migration *s, bool up,
                             bool *ret_needed, uint64_t *ret_ms)
{
    unsigned version = 0, before = (unsigned)s->version - 1;
    uint64_t start = now_ms();
    char name[80];
    enum gw_err err;

    step_name(s, name);
    err = run(m, m->work, name, "SELECT pg_advisory_xact_lock(" LOCKS ", " STEP ")");
    if (!err && up)
        err = run(m, m->work, name, SQL_TABLE);
    if (!err)
        err = find_version(m, m->work, &version);
    *ret_needed = version == (up ? before : before + 1);
    if (err || !*ret_needed)
        return err;
    err = run_file(m, name, up ? s->up : s->down);
    *ret_ms = now_ms() - start;
    if (!err)
        err = up ? note_up(m, s, *ret_ms) : note_down(m, s);
    return err;
}

/* One try: all of it or nothing. */
static enum gw_err step_try(const struct migrator *m, const struct migration *s, bool up)
{
    bool needed = false;
    uint64_t ms = 0;
    char name[80];
    enum gw_err err = begin(m, m->work);

    step_name(s, name);
    if (!err)
        err = step_body(m, s, up, &needed, &ms);
    if (err || !needed) {
        roll_back(m->work);
        return err;
    }
    err = run(m, m->work, name, "COMMIT");
    if (!err)
        say(m, "%s %s (%llu ms)", name, up ? "applied" : "taken back", (unsigned long long)ms);
    return err;
}

static enum gw_err step(const struct migrator *m, const struct migration *s, bool up)
{
    uint64_t end = now_ms() + m->opt->wait_s * 1000u;
    enum gw_err err;
    char name[80];

    step_name(s, name);
    for (;;) {
        err = step_try(m, s, up);
        if (err != GW_EAGAIN || now_ms() >= end)
            break;
        say(m, "%s: trying again", name);
        poll(NULL, 0, PAUSE_MS * 5);
    }
    if (err)
        complain(m, "%s was rolled back; the steps %s it stay", name, up ? "before" : "after");
    return err;
}

/* --- commands --------------------------------------------------------------------------------- */

static enum gw_err go_up(struct migrator *m, unsigned to)
{
    unsigned version = 0, at;
    enum gw_err err = find_version(m, m->work, &version);

    for (at = version; !err && at < to && at < n_migrations; at++)
        err = step(m, &migrations[at], true);
    if (!err && version > n_migrations)
        say(m, "the database is at %03u, made by a newer program; this one's is %03u", version,
            n_migrations);
    else if (!err && at == version)
        say(m, "nothing to do: the database is at %03u", version);
    else if (!err)
        say(m, "the database is at %03u", at);
    return err;
}

static enum gw_err go_down(struct migrator *m, unsigned steps)
{
    unsigned version = 0;
    enum gw_err err = find_version(m, m->work, &version);

    if (!err && version > n_migrations) {
        complain(
            m, "the database is at %03u, made by a newer program: only that one knows the way back",
            version);
        return GW_ECONFLICT;
    }
    if (!err && version == 0)
        say(m, "nothing to do: the database is at 000");
    for (; !err && steps > 0 && version > 0; steps--, version--)
        err = step(m, &migrations[version - 1], false);
    if (!err)
        say(m, "the database is at %03u", version);
    return err;
}

static enum gw_err with_guard(const struct pg_migrate_options *opt,
                              enum gw_err (*go)(struct migrator *m, unsigned n), unsigned n)
{
    struct migrator m = {.opt = opt};
    enum gw_err err = migrator_open(&m);

    if (!err)
        err = go(&m, n);
    migrator_close(&m);
    return err;
}

enum gw_err pg_migrate_up(const struct pg_migrate_options *opt, unsigned to)
{
    return with_guard(opt, go_up, to);
}

enum gw_err pg_migrate_down(const struct pg_migrate_options *opt, unsigned steps)
{
    return with_guard(opt, go_down, steps);
}

static void say_rows(const struct migrator *m, const PGresult *rows)
{
    int i, n = rows ? PQntuples(rows) : 0;

    for (i = 0; i < n; i++) {
        unsigned v = row_version(rows, i);
        bool known = v >= 1 && v <= n_migrations;
        bool same = known && strcmp(PQgetvalue(rows, i, 2), migrations[v - 1].checksum) == 0;

        say(m, "%03u  %-16s  %-8s  %s UTC  %s ms", v, PQgetvalue(rows, i, 1),
            same    ? "applied"
            : known ? "CHANGED"
                    : "newer",
            PQgetvalue(rows, i, 3), PQgetvalue(rows, i, 4));
    }
}

enum gw_err pg_migrate_status(const struct pg_migrate_options *opt, unsigned *ret_pending)
{
    struct migrator m = {.opt = opt};
    PGresult *rows = NULL;
    enum gw_err err = connect_to(&m, &m.work);
    unsigned i;

    if (!err)
        err = look(&m, m.work, &rows);
    if (!err) {
        say_rows(&m, rows);
        err = check_rows(&m, rows);
    }
    i = rows ? (unsigned)PQntuples(rows) : 0;
    *ret_pending = i < n_migrations ? n_migrations - i : 0;
    for (; !err && i < n_migrations; i++)
        say(&m, "%03d  %-16s  pending", migrations[i].version, migrations[i].name);
    PQclear(rows);
    migrator_close(&m);
    return err;
}
