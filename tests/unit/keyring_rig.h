/*
 * keyring_rig.h - Postgres, the clocks, the timers and the end of the turn made by hand (--wrap),
 * and callers that ask the keyring; for its tests.
 */
#pragma once

#define MAYBE __attribute__((unused))

#include "gateway/core/conf.h"
#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/problems.h"
#include "storage/apikeys.h"
#include "storage/keyring.h"
#include "storage/keytext.h"
#include "storage/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

/* --- clocks, timers, deferred calls
 * ---------------------------------------------------------------
 */

#define S 1000000u

MAYBE static uint64_t now_us, wall_us;
MAYBE static struct loop_timer *timers[8];
MAYBE static struct loop_deferred *deferred[8];

uint64_t __wrap_loop_now_us(void);
uint64_t __wrap_loop_wall_us(void);
void __wrap_loop_timer_set(struct loop_timer *t, uint64_t due_us);
void __wrap_loop_timer_stop(struct loop_timer *t);
void __wrap_loop_defer(struct loop_deferred *d, void (*fn)(void *), void *arg);
void __wrap_loop_undefer(struct loop_deferred *d);

uint64_t __wrap_loop_now_us(void)
{
    return now_us;
}

uint64_t __wrap_loop_wall_us(void)
{
    return wall_us;
}

void __wrap_loop_timer_set(struct loop_timer *t, uint64_t due_us)
{
    unsigned i = 0;

    while (timers[i] && timers[i] != t)
        i++;
    assert_true(i < 7);
    timers[i] = t;
    t->due_us = due_us;
}

void __wrap_loop_timer_stop(struct loop_timer *t)
{
    t->due_us = 0;
}

void __wrap_loop_defer(struct loop_deferred *d, void (*fn)(void *), void *arg)
{
    unsigned i = 0;

    d->fn = fn;
    d->arg = arg;
    while (deferred[i] && deferred[i] != d)
        i++;
    deferred[i] = d;
    d->queued = true;
}

void __wrap_loop_undefer(struct loop_deferred *d)
{
    d->queued = false;
}

MAYBE static void end_turn(void)
{
    for (unsigned i = 0; i < 8; i++)
        if (deferred[i] && deferred[i]->queued) {
            deferred[i]->queued = false;
            deferred[i]->fn(deferred[i]->arg);
        }
}

/* Lets time pass; what is due runs at its end. */
MAYBE static void pass(uint64_t us)
{
    now_us += us;
    wall_us += us;
    for (unsigned i = 0; i < 8; i++)
        if (timers[i] && timers[i]->due_us && timers[i]->due_us <= now_us) {
            timers[i]->due_us = 0;
            timers[i]->fn(timers[i]->arg);
        }
    end_turn();
}

/* --- Postgres --------------------------------------------------------------------------------- */

#define MAX_CELLS 20u

struct pg_rows {
    unsigned n;
    const char *cells[300][MAX_CELLS];
};

struct asked {
    struct op op;
    const struct pg_stmt *stmt;
    char *array; /* its first parameter */
    pg_done done;
    void *arg;
    uint64_t number; /* of the statement, from 1; 0 = none in this place */
    bool open;
};

MAYBE static struct asked asked[16];
MAYBE static uint64_t last_number;
MAYBE static unsigned n_asked; /* since forget_asked() */
MAYBE static bool enabled, no_memory;

bool __wrap_pg_enabled(void);
unsigned __wrap_pg_count(const struct pg_rows *r);
bool __wrap_pg_is_null(const struct pg_rows *r, unsigned row, unsigned col);
struct slice __wrap_pg_text(const struct pg_rows *r, unsigned row, unsigned col);
int64_t __wrap_pg_int(const struct pg_rows *r, unsigned row, unsigned col);
void __wrap_pg_arg_text(struct pg_args *a, struct slice text);
bool __wrap_budget_period_parse(const char *name, enum budget_period *ret);
struct op *__wrap_pg_query(enum pg_role role, const struct pg_stmt *stmt,
                           const struct pg_args *args, uint64_t deadline_us, pg_done done,
                           void *arg);

bool __wrap_pg_enabled(void)
{
    return enabled;
}

unsigned __wrap_pg_count(const struct pg_rows *r)
{
    return r ? r->n : 0;
}

bool __wrap_pg_is_null(const struct pg_rows *r, unsigned row, unsigned col)
{
    return !r || row >= r->n || !r->cells[row][col];
}

struct slice __wrap_pg_text(const struct pg_rows *r, unsigned row, unsigned col)
{
    return __wrap_pg_is_null(r, row, col) ? SLICE_NONE : slice_cstr(r->cells[row][col]);
}

int64_t __wrap_pg_int(const struct pg_rows *r, unsigned row, unsigned col)
{
    return __wrap_pg_is_null(r, row, col) ? 0 : strtoll(r->cells[row][col], NULL, 10);
}

void __wrap_pg_arg_text(struct pg_args *a, struct slice text)
{
    a->arg[a->n++].text = text;
}

bool __wrap_budget_period_parse(const char *name, enum budget_period *ret)
{
    *ret = strcmp(name, "day") == 0 ? BUDGET_DAY : BUDGET_TOTAL;
    return true;
}

MAYBE static void asked_cancel(struct op *op)
{
    struct asked *a = (struct asked *)op;

    assert_true(a->open);
    a->open = false;
}

struct op *__wrap_pg_query(enum pg_role role, const struct pg_stmt *stmt,
                           const struct pg_args *args, uint64_t deadline_us, pg_done done,
                           void *arg)
{
    struct asked *a = asked;

    assert_int_equal(role, PG_WRITE); /* a replica may be late */
    if (no_memory)
        return NULL;
    while (a->open)
        a++;
    assert_true(a < asked + 16);
    assert_true(deadline_us == 0 || deadline_us - now_us == S);
    free(a->array);
    a->op.cancel = asked_cancel;
    a->stmt = stmt;
    a->array = args->n ? strndup(args->arg[0].text.p, args->arg[0].text.n) : NULL;
    a->done = done;
    a->arg = arg;
    a->open = true;
    a->number = ++last_number;
    n_asked++;
    return &a->op;
}

/* The oldest statement of that name that waits for its answer, or NULL. */
MAYBE static struct asked *waiting(const char *name)
{
    struct asked *oldest = NULL;

    for (struct asked *a = asked; a < asked + 16; a++)
        if (a->open && strcmp(a->stmt->name, name) == 0 && (!oldest || a->number < oldest->number))
            oldest = a;
    return oldest;
}

MAYBE static unsigned count_waiting(const char *name)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        n += asked[i].open && strcmp(asked[i].stmt->name, name) == 0;
    return n;
}

MAYBE static void answer(const char *name, enum gw_err err, const struct pg_rows *rows)
{
    struct asked *a = waiting(name);

    if (!a)
        fail_msg("nobody asks for %s", name);
    a->open = false;
    a->done(err, err ? NULL : rows, a->arg);
    end_turn();
}

/* Counts anew; what is open stays so. */
MAYBE static void forget_asked(void)
{
    n_asked = 0;
}

MAYBE static struct pg_rows rows;

MAYBE static void row(const char *const *cells, unsigned n)
{
    assert_true(n <= MAX_CELLS && rows.n < 300);
    memset(rows.cells[rows.n], 0, sizeof(rows.cells[0]));
    memcpy(rows.cells[rows.n++], cells, n * sizeof(cells[0]));
}

#define ROW(...)                                                                                   \
    row((const char *const[]){__VA_ARGS__},                                                        \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

MAYBE static void answer_version(int64_t v)
{
    static char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    rows.n = 0;
    ROW(text);
    answer("keyring_version", GW_OK, &rows);
}

MAYBE static void answer_revoked(const char *a, const char *b)
{
    rows.n = 0;
    if (a)
        ROW(a);
    if (b)
        ROW(b);
    answer("keyring_revoked", GW_OK, &rows);
}

/* Reads the version, as the next tick does. */
MAYBE static void version_is(int64_t v)
{
    pass(S / 2);
    answer_version(v);
    if (waiting("keyring_revoked"))
        answer_revoked(NULL, NULL);
}

/* --- those who ask ---------------------------------------------------------------------------- */

struct caller {
    unsigned calls;
    enum gw_err err;
    const struct principal *p;
    struct op *op;
    void (*then)(struct caller *c);
};

MAYBE static void on_done(enum gw_err err, const struct principal *p, void *arg)
{
    struct caller *c = arg;

    c->op = NULL;
    c->calls++;
    c->err = err;
    assert_int_equal(err == GW_OK, p != NULL);
    c->p = principal_unref(c->p);
    c->p = p;
    if (c->then)
        c->then(c);
}

MAYBE static enum gw_err ask(struct caller *c, const char *key)
{
    const struct principal *p = NULL;
    enum gw_err err = keyring_key(slice_cstr(key), &p, &c->op, on_done, c);

    assert_int_equal(err == GW_EAGAIN, c->op != NULL);
    assert_int_equal(err == GW_OK, p != NULL);
    principal_unref(c->p);
    c->p = p;
    return err;
}

MAYBE static enum gw_err ask_token(struct caller *c, const struct jwt_claims *claims)
{
    const struct principal *p = NULL;
    enum gw_err err = keyring_token(claims, &p, &c->op, on_done, c);

    assert_int_equal(err == GW_EAGAIN, c->op != NULL);
    principal_unref(c->p);
    c->p = p;
    return err;
}

MAYBE static void drop(struct caller *c)
{
    op_cancel(&c->op);
    c->p = principal_unref(c->p);
}

MAYBE static const char *key_text(unsigned i)
{
    static char text[4][APIKEY_CHARS + 1];
    static unsigned at;
    char *to = text[at++ % 4];

    snprintf(to, APIKEY_CHARS + 1, "pk-%042uA", i);
    return to;
}

MAYBE static const char *hex_of(unsigned i)
{
    static char hex[300][65];
    unsigned char sha[32];

    assert_true(i < 300 && keytext_sha256(slice_cstr(key_text(i)), sha));
    for (unsigned k = 0; k < 32; k++)
        snprintf(hex[i] + 2 * k, 3, "%02x", sha[k]);
    return hex[i];
}

#define OWNER "11111111-0000-4000-8000-000000000001"
#define TEAM_ID "22222222-0000-4000-8000-000000000001"
#define KEY_ID "33333333-0000-4000-8000-000000000001"

MAYBE static void key_row(unsigned i)
{
    ROW(hex_of(i), OWNER, "ada", "user", NULL, NULL, NULL, NULL, NULL, NULL, KEY_ID, "pk-00000000",
        "", "", NULL, NULL, NULL, "total", NULL);
}

MAYBE static void found(unsigned i)
{
    rows.n = 0;
    key_row(i);
    answer("keyring_keys", GW_OK, &rows);
}

MAYBE static void not_found(void)
{
    rows.n = 0;
    answer("keyring_keys", GW_OK, &rows);
}

MAYBE static struct caller one, two;

/* Key 1 is known and fresh, the version is 7. */
MAYBE static void know_one(void)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
    one = (struct caller){.p = principal_unref(one.p)};
    forget_asked();
}

MAYBE static int64_t counted(const char *outcome)
{
    return metrics_value(metrics_get(M_KEYRING, outcome, NULL, NULL));
}

MAYBE static int enter(void **state)
{
    const struct conf_source src = {.dir = "/nonexistent", .env_file = "/dev/null"};
    struct problems ps = {0};
    struct conf *c;

    clearenv();
    c = conf_load(&src, &ps);
    problems_deinit(&ps);
    if (!c)
        return -1;
    conf_publish(c);
    now_us = 50ull * S;
    wall_us = 1800000000ull * S;
    memset(timers, 0, sizeof(timers));
    memset(deferred, 0, sizeof(deferred));
    one = two = (struct caller){0};
    enabled = true;
    no_memory = false;
    return keyring_init(c) ? -1 : 0;
}

MAYBE static int leave(void **state)
{
    drop(&one);
    drop(&two);
    keyring_deinit();
    forget_asked();
    conf_publish(NULL);
    for (unsigned i = 0; i < 16; i++) {
        assert_false(asked[i].open);
        free(asked[i].array);
        asked[i].array = NULL;
    }
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

MAYBE static int enter_group(void **state)
{
    return metrics_init(1) ? -1 : 0;
}

MAYBE static int leave_group(void **state)
{
    metrics_deinit();
    return 0;
}
