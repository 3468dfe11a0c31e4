/*
 * test_keyring.c - what the keyring asks Postgres, and what it answers without. Postgres, the
 * clocks, the timers and the end of the turn are made by hand here (--wrap).
 */
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

static uint64_t now_us, wall_us;
static struct loop_timer *timers[8];
static struct loop_deferred *deferred[8];

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

static void end_turn(void)
{
    for (unsigned i = 0; i < 8; i++)
        if (deferred[i] && deferred[i]->queued) {
            deferred[i]->queued = false;
            deferred[i]->fn(deferred[i]->arg);
        }
}

/* Lets time pass; what is due runs at its end. */
static void pass(uint64_t us)
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

/* --- Postgres ----------------------------------------------------------------------------------
 */

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

static struct asked asked[16];
static uint64_t last_number;
static unsigned n_asked; /* since forget_asked() */
static bool enabled, no_memory;

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

static void asked_cancel(struct op *op)
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
static struct asked *waiting(const char *name)
{
    struct asked *oldest = NULL;

    for (struct asked *a = asked; a < asked + 16; a++)
        if (a->open && strcmp(a->stmt->name, name) == 0 && (!oldest || a->number < oldest->number))
            oldest = a;
    return oldest;
}

static unsigned count_waiting(const char *name)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        n += asked[i].open && strcmp(asked[i].stmt->name, name) == 0;
    return n;
}

static void answer(const char *name, enum gw_err err, const struct pg_rows *rows)
{
    struct asked *a = waiting(name);

    if (!a)
        fail_msg("nobody asks for %s", name);
    a->open = false;
    a->done(err, err ? NULL : rows, a->arg);
    end_turn();
}

/* Counts anew; what is open stays so. */
static void forget_asked(void)
{
    n_asked = 0;
}

static struct pg_rows rows;

static void row(const char *const *cells, unsigned n)
{
    assert_true(n <= MAX_CELLS && rows.n < 300);
    memset(rows.cells[rows.n], 0, sizeof(rows.cells[0]));
    memcpy(rows.cells[rows.n++], cells, n * sizeof(cells[0]));
}

#define ROW(...)                                                                                   \
    row((const char *const[]){__VA_ARGS__},                                                        \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void answer_version(int64_t v)
{
    static char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    rows.n = 0;
    ROW(text);
    answer("keyring_version", GW_OK, &rows);
}

static void answer_revoked(const char *a, const char *b)
{
    rows.n = 0;
    if (a)
        ROW(a);
    if (b)
        ROW(b);
    answer("keyring_revoked", GW_OK, &rows);
}

/* Reads the version, as the next tick does. */
static void version_is(int64_t v)
{
    pass(S / 2);
    answer_version(v);
    if (waiting("keyring_revoked"))
        answer_revoked(NULL, NULL);
}

/* --- those who ask -------------------------------------------------------------------------------
 */

struct caller {
    unsigned calls;
    enum gw_err err;
    const struct principal *p;
    struct op *op;
    void (*then)(struct caller *c);
};

static void on_done(enum gw_err err, const struct principal *p, void *arg)
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

static enum gw_err ask(struct caller *c, const char *key)
{
    const struct principal *p = NULL;
    enum gw_err err = keyring_key(slice_cstr(key), &p, &c->op, on_done, c);

    assert_int_equal(err == GW_EAGAIN, c->op != NULL);
    assert_int_equal(err == GW_OK, p != NULL);
    principal_unref(c->p);
    c->p = p;
    return err;
}

static enum gw_err ask_token(struct caller *c, const struct jwt_claims *claims)
{
    const struct principal *p = NULL;
    enum gw_err err = keyring_token(claims, &p, &c->op, on_done, c);

    assert_int_equal(err == GW_EAGAIN, c->op != NULL);
    principal_unref(c->p);
    c->p = p;
    return err;
}

static void drop(struct caller *c)
{
    op_cancel(&c->op);
    c->p = principal_unref(c->p);
}

static const char *key_text(unsigned i)
{
    static char text[4][APIKEY_CHARS + 1];
    static unsigned at;
    char *to = text[at++ % 4];

    snprintf(to, APIKEY_CHARS + 1, "pk-%042uA", i);
    return to;
}

static const char *hex_of(unsigned i)
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

static void key_row(unsigned i)
{
    ROW(hex_of(i), OWNER, "ada", "user", NULL, NULL, NULL, NULL, NULL, NULL, KEY_ID, "pk-00000000",
        "", "", NULL, NULL, NULL, "total", NULL);
}

static void found(unsigned i)
{
    rows.n = 0;
    key_row(i);
    answer("keyring_keys", GW_OK, &rows);
}

static void not_found(void)
{
    rows.n = 0;
    answer("keyring_keys", GW_OK, &rows);
}

static struct caller one, two;

/* Key 1 is known and fresh, the version is 7. */
static void know_one(void)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
    one = (struct caller){.p = principal_unref(one.p)};
    forget_asked();
}

static int64_t counted(const char *outcome)
{
    return metrics_value(metrics_get(M_KEYRING, outcome, NULL, NULL));
}

static int enter(void **state)
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

static int leave(void **state)
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

/* --- keys ------------------------------------------------------------------------------------- */

static void test_a_key_is_looked_up_once_and_then_known(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_null(waiting("keyring_keys")); /* not before the turn ends */
    end_turn();
    assert_int_equal(one.calls, 0);
    found(1);
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.err, GW_OK);
    assert_string_equal(one.p->subject, "key:pk-00000000");
    forget_asked();
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
    end_turn();
    assert_int_equal(n_asked, 0);
}

static void test_all_who_ask_for_the_same_key_share_one_look_up(void **state)
{
    struct caller c[50] = {{0}};

    version_is(7);
    for (unsigned i = 0; i < 25; i++)
        assert_int_equal(ask(&c[i], key_text(1)), GW_EAGAIN);
    end_turn();
    for (unsigned i = 25; i < 50; i++) /* also while it is under way */
        assert_int_equal(ask(&c[i], key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 1);
    found(1);
    assert_null(waiting("keyring_keys"));
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(c[i].calls, 1);
        assert_int_equal(c[i].err, GW_OK);
        drop(&c[i]);
    }
}

static void test_the_keys_of_one_turn_travel_together(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_int_equal(ask(&two, key_text(2)), GW_EAGAIN);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 1);
    assert_non_null(strstr(waiting("keyring_keys")->array, hex_of(1)));
    assert_non_null(strstr(waiting("keyring_keys")->array, hex_of(2)));
    assert_int_equal(strncmp(waiting("keyring_keys")->array, "{\"\\\\x", 5), 0);
    found(2);
    assert_int_equal(one.err, GW_EUNAUTH);
    assert_int_equal(two.err, GW_OK);
}

static void test_garbage_is_never_asked_for(void **state)
{
    char longer[APIKEY_CHARS + 2];
    char nul[APIKEY_CHARS + 1];

    version_is(7);
    forget_asked();
    snprintf(longer, sizeof(longer), "%s ", key_text(1));
    memcpy(nul, key_text(1), sizeof(nul));
    nul[20] = '\0';
    assert_int_equal(ask(&one, ""), GW_EUNAUTH);
    assert_int_equal(ask(&one, "pk-"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "PK-0000000000000000000000000000000000000000001A"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "sk-000000000000000000000000000000000000000001A"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "pk-00000000000000000000000000000000000000001+A"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "pk-000000000000000000000000000000000000000001B"), GW_EUNAUTH);
    assert_int_equal(ask(&one, longer), GW_EUNAUTH);
    assert_int_equal(keyring_key(slice_of(nul, APIKEY_CHARS), &one.p, &one.op, on_done, &one),
                     GW_EUNAUTH);
    end_turn();
    assert_int_equal(n_asked, 0);
}

/* The last byte of a key is as much of it as the first: what is looked up is the hash of all. */
static void test_check_035_a_key_that_differs_anywhere_is_another_hash(void **state)
{
    char text[APIKEY_CHARS + 1];

    know_one();
    for (unsigned i = 3; i < APIKEY_CHARS; i++) {
        memcpy(text, key_text(1), sizeof(text));
        text[i] = text[i] == 'Q' ? 'A' : 'Q'; /* Q has no left-over bits */
        assert_int_equal(ask(&one, text), GW_EAGAIN);
    }
    op_cancel(&one.op);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

static void test_an_unknown_key_is_remembered_for_some_seconds(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    assert_int_equal(one.err, GW_EUNAUTH);
    forget_asked();
    for (unsigned i = 0; i < 9; i++) {
        version_is(7);
        assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
    }
    assert_null(waiting("keyring_keys"));
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
}

static void test_a_key_that_is_made_later_is_known_as_soon_as_the_version_moves(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    version_is(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
}

static void test_an_old_entry_answers_while_it_is_looked_up_again(void **state)
{
    know_one();
    for (unsigned i = 0; i < 61; i++) /* key_cache_s is 30 */
        version_is(7);
    forget_asked();
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 1);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    not_found(); /* it is gone meanwhile */
    assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
}

static void
test_check_037_a_moved_version_makes_everything_be_verified_before_it_is_believed(void **state)
{
    know_one();
    version_is(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    assert_int_equal(one.err, GW_EUNAUTH);
    assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
}

static void test_check_037_revocation_is_seen_within_a_second_of_the_loop(void **state)
{
    know_one();
    pass(S / 2); /* the next reading of the version begins no later than this */
    assert_non_null(waiting("keyring_version"));
    answer_version(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
}

static void test_who_asks_after_the_version_moved_gets_no_answer_from_before(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();    /* this statement may see the state of version 7 */
    version_is(8); /* the key is revoked */
    assert_int_equal(ask(&two, key_text(1)), GW_EAGAIN);
    found(1);
    assert_int_equal(one.calls + two.calls, 0);
    assert_int_equal(count_waiting("keyring_keys"), 1);
    not_found();
    assert_int_equal(two.err, GW_EUNAUTH);
    assert_int_equal(one.err, GW_EUNAUTH);
}

static void test_a_change_of_our_own_is_looked_for_at_once(void **state)
{
    know_one();
    keyring_changed();
    pass(0);
    assert_non_null(waiting("keyring_version"));
    keyring_changed(); /* another, while the first is looked for */
    answer_version(8);
    forget_asked();
    pass(0);
    assert_non_null(waiting("keyring_version"));
}

/* --- Postgres is away ----------------------------------------------------------------------------
 */

static void lose_postgres(void)
{
    pass(S / 2);
    answer("keyring_version", GW_EUNAVAIL, NULL);
    pass(2 * S);
    answer("keyring_version", GW_EUNAVAIL, NULL);
}

static void test_a_known_key_works_for_key_stale_s_while_postgres_is_away(void **state)
{
    know_one();
    lose_postgres();
    forget_asked();
    for (unsigned i = 0; i < 100; i++) {
        pass(30 * S);
        if (waiting("keyring_version"))
            answer("keyring_version", GW_EUNAVAIL, NULL);
        assert_int_equal(ask(&one, key_text(1)), GW_OK); /* and nobody waits for it */
        end_turn();
        if (waiting("keyring_keys"))
            answer("keyring_keys", GW_EUNAVAIL, NULL);
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
        end_turn();
        assert_null(waiting("keyring_keys")); /* not again at once */
        forget_asked();
    }
    pass(600 * S); /* an hour from when it was verified is over */
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    assert_int_equal(one.err, GW_EUNAVAIL);
    assert_true(counted("stale") >= 100);
    assert_true(counted("unavailable") >= 1);
}

static void test_postgres_that_is_back_is_believed_again(void **state)
{
    know_one();
    lose_postgres();
    pass(31 * S);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    end_turn();
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    answer_version(9); /* revoked meanwhile */
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    assert_int_equal(one.err, GW_EUNAUTH);
}

static void test_an_unknown_key_cannot_be_judged_while_postgres_is_away(void **state)
{
    lose_postgres();
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    assert_int_equal(one.err, GW_EUNAVAIL);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN); /* and is not taken for a wrong one */
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
}

static void test_a_known_key_whose_verification_fails_is_borne(void **state)
{
    know_one();
    version_is(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    answer("keyring_keys", GW_EDEADLINE, NULL);
    assert_int_equal(one.err, GW_OK);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN); /* the version could be read: once more */
}

static void test_what_is_queued_behind_a_failed_statement_fails_with_it(void **state)
{
    struct caller c[3] = {{0}};

    version_is(7);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(&c[i], key_text(i)), GW_EAGAIN);
        end_turn();
    }
    assert_int_equal(count_waiting("keyring_keys"), 2);
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    assert_int_equal(c[0].err, GW_EUNAVAIL);
    assert_int_equal(c[1].calls, 0);
    assert_int_equal(c[2].err, GW_EUNAVAIL);
    found(1);
    assert_int_equal(c[1].err, GW_OK);
    drop(&c[1]);
}

static void test_without_memory_nobody_waits_for_ever(void **state)
{
    version_is(7);
    no_memory = true;
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.err, GW_EUNAVAIL);
    pass(S / 2); /* nor is the version forgotten */
    no_memory = false;
    pass(S / 2);
    assert_non_null(waiting("keyring_version"));
}

/* --- bounds --------------------------------------------------------------------------------------
 */

static void test_a_flood_of_invented_keys_is_two_statements_and_a_bounded_queue(void **state)
{
    static struct caller c[6000];
    struct keyring_stats st;
    unsigned refused = 0;

    memset(c, 0, sizeof(c));
    know_one();
    version_is(8);
    for (unsigned i = 0; i < 6000; i++) {
        enum gw_err err = ask(&c[i], key_text(1000 + i));

        assert_true(err == GW_EAGAIN || err == GW_EUNAVAIL);
        refused += err == GW_EUNAVAIL;
    }
    assert_int_equal(refused, 6000 - 4096);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 2);
    assert_non_null(strstr(waiting("keyring_keys")->array, hex_of(1))); /* a real one goes first */
    found(1);
    assert_int_equal(one.err, GW_OK);
    assert_int_equal(count_waiting("keyring_keys"), 2);
    forget_asked();
    keyring_stats(&st);
    assert_int_equal(st.known, 1);
    assert_int_equal(st.waiting, 4097 - 256);
    for (unsigned i = 0; i < 6000; i++)
        drop(&c[i]);
}

static void test_unknown_keys_never_push_out_a_known_one(void **state)
{
    struct keyring_stats st;

    know_one();
    for (unsigned i = 0; i < 9000; i++) {
        assert_int_equal(ask(&two, key_text(1000 + i)), GW_EAGAIN);
        end_turn();
        not_found();
        forget_asked();
    }
    keyring_stats(&st);
    assert_int_equal(st.known, 1);
    assert_int_equal(st.unknown, 8192);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

/* --- callbacks
 * ------------------------------------------------------------------------------------
 */

static void test_who_gives_up_is_not_called_and_the_look_up_goes_on(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_int_equal(ask(&two, key_text(1)), GW_EAGAIN);
    end_turn();
    op_cancel(&one.op);
    found(1);
    assert_int_equal(one.calls, 0);
    assert_int_equal(two.calls, 1);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

static void cancel_two(struct caller *c)
{
    op_cancel(&two.op);
}

static void test_a_callback_may_cancel_the_next(void **state)
{
    one.then = cancel_two;
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_int_equal(ask(&two, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 0);
}

static void ask_again(struct caller *c)
{
    if (c->calls < 3)
        assert_int_equal(ask(c, key_text(1)), GW_EAGAIN);
}

static void test_a_callback_may_ask_again_when_it_failed(void **state)
{
    one.then = ask_again;
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    for (unsigned i = 1; i <= 3; i++) {
        answer("keyring_keys", GW_EUNAVAIL, NULL);
        assert_int_equal(one.calls, i);
    }
    assert_null(waiting("keyring_keys"));
}

/* --- what a row says
 * ------------------------------------------------------------------------------
 */

static void test_expiry_is_judged_by_the_wall_clock_at_each_use(void **state)
{
    char at[24];

    snprintf(at, sizeof(at), "%llu", (unsigned long long)(wall_us + 10ull * S));
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    ROW(hex_of(1), OWNER, "ada", "user", NULL, NULL, NULL, NULL, NULL, NULL, KEY_ID, "pk-00000000",
        "", "", NULL, NULL, NULL, "total", at);
    answer("keyring_keys", GW_OK, &rows);
    assert_int_equal(one.err, GW_OK);
    wall_us += 9ull * S;
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    wall_us += S;
    assert_int_equal(ask(&one, key_text(1)), GW_ETOKENEXPIRED);
    wall_us -= 5ull * S; /* the clock is set back */
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

static void test_a_row_becomes_a_principal(void **state)
{
    const struct principal *p;

    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    ROW(hex_of(1), OWNER, "ada", "admin", TEAM_ID, "openai/*\nfast", "600", "90000", "5000000000",
        "day", KEY_ID, "pk-00000000", "chat\nread", "openai/gpt-4o", "60", "1000", "0", "total",
        NULL);
    answer("keyring_keys", GW_OK, &rows);
    assert_int_equal(one.err, GW_OK);
    p = one.p;
    assert_int_equal(p->kind, PRINCIPAL_KEY);
    assert_false(p->admin); /* its owner is, but its scopes have no admin */
    assert_int_equal(p->scopes, SCOPE_CHAT | SCOPE_READ);
    assert_string_equal(p->tenant, "team:" TEAM_ID);
    assert_string_equal(p->key_id, KEY_ID);
    assert_string_equal(p->owner_id, OWNER);
    assert_string_equal(p->user_id, "ada");
    assert_string_equal(p->team_id, TEAM_ID);
    assert_int_equal(p->n_models, 1);
    assert_int_equal(p->n_team_models, 2);
    assert_true(slice_is(p->team_models[1], "fast"));
    assert_int_equal(p->requests_per_minute, 60);
    assert_int_equal(p->team_requests_per_minute, 600);
    assert_int_equal(p->n_budget_scopes, 2);
    assert_string_equal(p->scopes_of_budget[0].id, "key:" KEY_ID);
    assert_int_equal(p->scopes_of_budget[0].limit_nano_usd, 0); /* nothing, and not "no limit" */
    assert_int_equal(p->scopes_of_budget[0].tokens_per_minute, 1000);
    assert_string_equal(p->scopes_of_budget[1].id, "team:" TEAM_ID);
    assert_int_equal(p->scopes_of_budget[1].limit_nano_usd, 5000000000);
    assert_int_equal(p->scopes_of_budget[1].period, BUDGET_DAY);
    assert_int_equal(p->expires_wall_us, 0);
}

static void test_a_scope_nobody_has_heard_of_opens_nothing(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    ROW(hex_of(1), OWNER, "ada", "admin", NULL, NULL, NULL, NULL, NULL, NULL, KEY_ID, "pk-00000000",
        "telepathy", "", NULL, NULL, NULL, "total", NULL);
    answer("keyring_keys", GW_OK, &rows);
    assert_false(principal_has_scope(one.p, SCOPE_CHAT | SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN));
    assert_false(one.p->admin);
    assert_string_equal(one.p->tenant, "user:" OWNER);
    assert_int_equal(one.p->n_budget_scopes, 0);
}

static void test_a_row_nobody_asked_for_is_nobody(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    key_row(2);
    ROW("not hex", OWNER, "ada", "user");
    answer("keyring_keys", GW_OK, &rows);
    assert_int_equal(one.err, GW_EUNAUTH);
}

/* --- tokens
 * --------------------------------------------------------------------------------------- */

static const struct jwt_claims token = {.sub = "ada",
                                        .jti = "j-1",
                                        .uid = OWNER,
                                        .iat_us = 1799999000000000,
                                        .exp_us = 1900000000000000};

static void user_found(const char *id, const char *role, const char *valid_from)
{
    rows.n = 0;
    ROW("ada", id, "ada", role, NULL, NULL, NULL, NULL, NULL, NULL, valid_from);
    answer("keyring_users", GW_OK, &rows);
}

static enum gw_err judged(const struct jwt_claims *c, const char *id, const char *valid_from)
{
    assert_int_equal(ask_token(&one, c), GW_EAGAIN);
    end_turn();
    user_found(id, "user", valid_from);
    return one.err;
}

static void test_a_token_is_its_user_and_the_role_is_the_databases(void **state)
{
    struct jwt_claims c = token;

    c.admin = true;
    version_is(7);
    assert_int_equal(judged(&c, OWNER, NULL), GW_OK);
    assert_false(one.p->admin);
    assert_int_equal(one.p->kind, PRINCIPAL_USER);
    assert_string_equal(one.p->subject, "user:ada");
    assert_string_equal(one.p->tenant, "user:" OWNER);
    assert_int_equal(ask_token(&one, &c), GW_OK); /* known now */
    version_is(8);
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    user_found(OWNER, "admin", NULL);
    assert_true(one.p->admin);
}

static void test_a_user_that_is_not_there_or_disabled_is_nobody(void **state)
{
    version_is(7);
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    rows.n = 0;
    answer("keyring_users", GW_OK, &rows);
    assert_int_equal(one.err, GW_EUNAUTH);
}

static void test_the_bearer_of_a_name_that_was_given_away_is_nobody(void **state)
{
    version_is(7);
    assert_int_equal(judged(&token, "99999999-0000-4000-8000-000000000001", NULL), GW_EUNAUTH);
}

static void test_tokens_from_before_tokens_valid_from_are_void(void **state)
{
    struct jwt_claims c = token;

    version_is(7);
    assert_int_equal(judged(&token, OWNER, "1799999000000001"), GW_EUNAUTH);
    c.iat_us++;
    assert_int_equal(ask_token(&one, &c), GW_OK);
    c.iat_us = 0; /* it does not say when */
    assert_int_equal(ask_token(&one, &c), GW_EUNAUTH);
}

static void test_a_revoked_token_is_refused_and_its_user_is_not(void **state)
{
    struct jwt_claims other = token;

    strcpy(other.jti, "j-2");
    pass(S / 2);
    answer_version(7);
    answer_revoked("a", "j-1");
    assert_int_equal(judged(&token, OWNER, NULL), GW_EUNAUTH);
    assert_int_equal(ask_token(&one, &other), GW_OK);
    other.jti[0] = '\0';
    assert_int_equal(ask_token(&one, &other), GW_OK);
}

static void test_users_wait_until_the_revoked_tokens_are_here(void **state)
{
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    assert_null(waiting("keyring_users"));
    pass(S / 2);
    answer_version(7);
    assert_null(waiting("keyring_users"));
    answer_revoked("j-1", NULL);
    user_found(OWNER, "user", NULL);
    assert_int_equal(one.err, GW_EUNAUTH);
    pass(S / 2);
    answer_version(8); /* another is revoked: known users wait likewise */
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    assert_null(waiting("keyring_users"));
    answer_revoked(NULL, NULL);
    user_found(OWNER, "user", NULL);
    assert_int_equal(one.err, GW_OK);
}

static void test_users_are_not_left_waiting_when_the_revoked_tokens_cannot_be_read(void **state)
{
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    end_turn();
    pass(S / 2);
    answer("keyring_version", GW_EUNAVAIL, NULL);
    assert_int_equal(one.err, GW_EUNAVAIL);
    assert_int_equal(ask_token(&one, &token), GW_EAGAIN);
    pass(S / 2);
    answer_version(7);
    answer("keyring_revoked", GW_EDEADLINE, NULL);
    assert_int_equal(one.calls, 2);
    assert_int_equal(one.err, GW_EUNAVAIL);
    version_is(7); /* read again with the next version, though it is the same */
    assert_int_equal(judged(&token, OWNER, NULL), GW_OK);
}

static void test_names_with_quotes_travel_escaped(void **state)
{
    struct jwt_claims c = token;

    strcpy(c.sub, "a\"b\\c,{}");
    version_is(7);
    assert_int_equal(ask_token(&one, &c), GW_EAGAIN);
    end_turn();
    assert_string_equal(waiting("keyring_users")->array, "{\"a\\\"b\\\\c,{}\"}");
}

static void test_without_a_database_a_token_stands_for_itself_and_keys_are_unknown(void **state)
{
    struct jwt_claims c = token;

    enabled = false;
    c.admin = true;
    assert_int_equal(ask_token(&one, &c), GW_OK);
    assert_true(one.p->admin);
    assert_string_equal(one.p->subject, "user:ada");
    assert_string_equal(one.p->tenant, "user:ada");
    assert_string_equal(one.p->owner_id, "");
    assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
    keyring_changed();
    end_turn();
    assert_int_equal(n_asked, 0);
}

/* --- last use
 * --------------------------------------------------------------------------------------
 */

static void test_the_use_of_a_key_is_written_once_a_minute(void **state)
{
    know_one();
    for (unsigned i = 0; i < 9; i++) {
        version_is(7);
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
    }
    assert_null(waiting("keyring_used"));
    version_is(7);
    version_is(7);
    assert_string_equal(waiting("keyring_used")->array, "{" KEY_ID "}");
    rows.n = 0;
    answer("keyring_used", GW_OK, &rows);
    forget_asked();
    for (unsigned i = 0; i < 100; i++) {
        pass(S / 2);
        answer_version(7);
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
        end_turn();
        if (waiting("keyring_keys"))
            found(1);
        forget_asked();
    }
    for (unsigned i = 0; i < 30; i++) {
        version_is(7);
        forget_asked();
    }
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    pass(5 * S);
    assert_non_null(waiting("keyring_used"));
}

static void test_nothing_is_left_behind_when_it_ends_in_the_middle(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(ask(&two, key_text(2)), GW_EAGAIN);
    assert_int_equal(ask_token(&(struct caller){0}, &token), GW_EAGAIN);
    keyring_deinit();
    one.op = two.op = NULL; /* dead */
    assert_null(waiting("keyring_keys"));
}

static int enter_group(void **state)
{
    return metrics_init(1) ? -1 : 0;
}

static int leave_group(void **state)
{
    metrics_deinit();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_key_is_looked_up_once_and_then_known),
        T(test_all_who_ask_for_the_same_key_share_one_look_up),
        T(test_the_keys_of_one_turn_travel_together),
        T(test_garbage_is_never_asked_for),
        T(test_check_035_a_key_that_differs_anywhere_is_another_hash),
        T(test_an_unknown_key_is_remembered_for_some_seconds),
        T(test_a_key_that_is_made_later_is_known_as_soon_as_the_version_moves),
        T(test_an_old_entry_answers_while_it_is_looked_up_again),
        T(test_check_037_a_moved_version_makes_everything_be_verified_before_it_is_believed),
        T(test_check_037_revocation_is_seen_within_a_second_of_the_loop),
        T(test_who_asks_after_the_version_moved_gets_no_answer_from_before),
        T(test_a_change_of_our_own_is_looked_for_at_once),
        T(test_a_known_key_works_for_key_stale_s_while_postgres_is_away),
        T(test_postgres_that_is_back_is_believed_again),
        T(test_an_unknown_key_cannot_be_judged_while_postgres_is_away),
        T(test_a_known_key_whose_verification_fails_is_borne),
        T(test_what_is_queued_behind_a_failed_statement_fails_with_it),
        T(test_without_memory_nobody_waits_for_ever),
        T(test_a_flood_of_invented_keys_is_two_statements_and_a_bounded_queue),
        T(test_unknown_keys_never_push_out_a_known_one),
        T(test_who_gives_up_is_not_called_and_the_look_up_goes_on),
        T(test_a_callback_may_cancel_the_next),
        T(test_a_callback_may_ask_again_when_it_failed),
        T(test_expiry_is_judged_by_the_wall_clock_at_each_use),
        T(test_a_row_becomes_a_principal),
        T(test_a_scope_nobody_has_heard_of_opens_nothing),
        T(test_a_row_nobody_asked_for_is_nobody),
        T(test_a_token_is_its_user_and_the_role_is_the_databases),
        T(test_a_user_that_is_not_there_or_disabled_is_nobody),
        T(test_the_bearer_of_a_name_that_was_given_away_is_nobody),
        T(test_tokens_from_before_tokens_valid_from_are_void),
        T(test_a_revoked_token_is_refused_and_its_user_is_not),
        T(test_users_wait_until_the_revoked_tokens_are_here),
        T(test_users_are_not_left_waiting_when_the_revoked_tokens_cannot_be_read),
        T(test_names_with_quotes_travel_escaped),
        T(test_without_a_database_a_token_stands_for_itself_and_keys_are_unknown),
        T(test_the_use_of_a_key_is_written_once_a_minute),
        T(test_nothing_is_left_behind_when_it_ends_in_the_middle),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
