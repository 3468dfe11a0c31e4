/*
 * pg_value.c - parameters, results and what an SQLSTATE means to us. Holds no state.
 */
#include "storage/pg_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- parameters ------------------------------------------------------------------------------- */

static void add(struct pg_args *a, struct slice text)
{
    assert(a->n < PG_MAX_ARGS);
    a->arg[a->n].text = text;
    a->arg[a->n].number[0] = '\0';
    a->n++;
}

void pg_arg_text(struct pg_args *a, struct slice text)
{
    add(a, text);
}

void pg_arg_cstr(struct pg_args *a, const char *text)
{
    add(a, text && text[0] ? slice_cstr(text) : SLICE_NONE);
}

void pg_arg_int(struct pg_args *a, int64_t v)
{
    add(a, SLICE_NONE);
    snprintf(a->arg[a->n - 1].number, sizeof(a->arg[0].number), "%" PRId64, v);
}

void pg_arg_bool(struct pg_args *a, bool v)
{
    add(a, v ? SLICE("t") : SLICE("f"));
}

void pg_arg_null(struct pg_args *a)
{
    add(a, SLICE_NONE);
}

void pg_arg_or_null(struct pg_args *a, struct slice text)
{
    add(a, text.n ? text : SLICE_NONE);
}

void pg_arg_int_if(struct pg_args *a, bool given, int64_t v)
{
    if (given)
        pg_arg_int(a, v);
    else
        pg_arg_null(a);
}

/* The number is looked up here and not pointed to, so that a struct pg_args may be copied. */
struct slice pg_arg_get(const struct pg_args *a, unsigned i)
{
    return a->arg[i].number[0] ? slice_cstr(a->arg[i].number) : a->arg[i].text;
}

/* --- results ---------------------------------------------------------------------------------- */

unsigned pg_count(const struct pg_rows *r)
{
    return r && r->res ? (unsigned)PQntuples(r->res) : 0;
}

unsigned pg_columns(const struct pg_rows *r)
{
    return r && r->res ? (unsigned)PQnfields(r->res) : 0;
}

uint64_t pg_affected(const struct pg_rows *r)
{
    return r && r->res ? strtoull(PQcmdTuples(r->res), NULL, 10) : 0;
}

static bool has(const struct pg_rows *r, unsigned row, unsigned col)
{
    return row < pg_count(r) && col < (unsigned)PQnfields(r->res) &&
           !PQgetisnull(r->res, (int)row, (int)col);
}

bool pg_is_null(const struct pg_rows *r, unsigned row, unsigned col)
{
    return !has(r, row, col);
}

struct slice pg_text(const struct pg_rows *r, unsigned row, unsigned col)
{
    if (!has(r, row, col))
        return SLICE_NONE;
    return slice_of(PQgetvalue(r->res, (int)row, (int)col),
                    (size_t)PQgetlength(r->res, (int)row, (int)col));
}

struct slice pg_text_or_empty(const struct pg_rows *r, unsigned row, unsigned col)
{
    struct slice s = pg_text(r, row, col);

    return s.p ? s : SLICE("");
}

int64_t pg_int(const struct pg_rows *r, unsigned row, unsigned col)
{
    return has(r, row, col) ? strtoll(PQgetvalue(r->res, (int)row, (int)col), NULL, 10) : 0;
}

bool pg_bool(const struct pg_rows *r, unsigned row, unsigned col)
{
    return slice_is(pg_text(r, row, col), "t");
}

struct slice pg_constraint(const struct pg_rows *r)
{
    return r && r->res ? slice_cstr(PQresultErrorField(r->res, PG_DIAG_CONSTRAINT_NAME))
                       : SLICE_NONE;
}

/* --- SQLSTATE --------------------------------------------------------------------------------- */

/* Whole codes before classes (two characters): the first row that fits counts. */
static const struct {
    const char *prefix;
    enum gw_err err;
    const char *words;
} sqlstates[] = {
    {"23505", GW_ECONFLICT, NULL},
    {"23P01", GW_ECONFLICT, NULL},
    {"23503", GW_ENOTFOUND, NULL},
    {"25006", GW_EUNAVAIL, "the database is read-only (a standby?)"},
    {"25P03", GW_EUNAVAIL, NULL},
    {"53100", GW_EUNAVAIL, "the database's disk is full"},
    {"53300", GW_EUNAVAIL, "the database has no connection left (max_connections)"},
    {"55006", GW_EAGAIN, NULL},
    {"55P03", GW_EAGAIN, NULL},
    {"57014", GW_EDEADLINE, NULL},
    {"57P03", GW_EUNAVAIL, "the database is starting or stopping"},
    {"XX001", GW_EIO, "the database reports damaged data"},
    {"XX002", GW_EIO, "the database reports a damaged index"},
    {"08", GW_EUNAVAIL, NULL},
    {"22", GW_EBADREQ, NULL},
    {"23", GW_EBADREQ, NULL},
    {"28", GW_EUNAVAIL, "the database refused user or password"},
    {"3D", GW_EUNAVAIL, "the database does not exist"},
    {"40", GW_EAGAIN, NULL},
    {"44", GW_EBADREQ, NULL},
    {"53", GW_EUNAVAIL, "the database is out of a resource"},
    {"54", GW_EBADREQ, NULL},
    {"57", GW_EUNAVAIL, NULL},
    {"58", GW_EIO, "the database's system reports an error"},
    {"P0", GW_EBADREQ, NULL},
};

static int find_row(const char *sqlstate)
{
    size_t i;

    for (i = 0; i < sizeof(sqlstates) / sizeof(sqlstates[0]); i++) {
        if (strncmp(sqlstate, sqlstates[i].prefix, strlen(sqlstates[i].prefix)) == 0)
            return (int)i;
    }
    return -1;
}

enum gw_err pg_sqlstate_err(const char *sqlstate)
{
    int row = find_row(sqlstate);

    return row < 0 ? GW_EINTERNAL : sqlstates[row].err;
}

const char *pg_sqlstate_words(const char *sqlstate)
{
    int row = find_row(sqlstate);

    return row < 0 ? NULL : sqlstates[row].words;
}

static bool is_code(const char *p)
{
    unsigned i;

    for (i = 0; i < 5; i++) {
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'A' && p[i] <= 'Z')))
            return false;
    }
    return p[5] == ':' || p[5] == '\n' || p[5] == '\0';
}

/* "... failed: FATAL:  28P01: password authentication failed": the severity is translated by the
 * server, what follows it is not. With several hosts the last one counts. */
void pg_sqlstate_find(const char *message, char ret[6])
{
    const char *p = message;

    ret[0] = '\0';
    while ((p = strstr(p, ":  ")) != NULL) {
        p += 3;
        if (is_code(p)) {
            memcpy(ret, p, 5);
            ret[5] = '\0';
        }
    }
}
