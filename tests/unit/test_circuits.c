/*
 * test_circuits.c - circuits.c over a Redis that the test plays: what it is asked, and what each
 * answer does to the process's own circuits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/circuits.c"

#define T1 1700000000000000u
#define T2 1700000001000000u

/* --- the Redis -------------------------------------------------------------------------------- */

enum asked {
    ASKED_INFO,
    ASKED_LOOK,
    ASKED_OPEN,
    ASKED_HALF_OPEN,
    ASKED_DELETE,
    ASKED_CLAIM,
    ASKED_RELEASE
};

struct pending {
    struct op op;
    enum asked what;
    redis_done done;
    void *arg;
    char key[80], at[24], ttl[24];
    char args[80]; /* of a claim or a release, a space behind each */
    bool cancelled;
};

static struct pending queue[64];
static unsigned queued, answered; /* in the order of asking */
static bool up;
static void (*tell_up)(bool up, void *arg);

static void on_cancel(struct op *op)
{
    ((struct pending *)op)->cancelled = true;
}

static struct pending *ask(enum asked what, redis_done done, void *arg)
{
    struct pending *p = &queue[queued++];

    assert_true(queued < 64);
    *p = (struct pending){.op = {on_cancel}, .what = what, .done = done, .arg = arg};
    return p;
}

static void copy_text(char *to, size_t size, struct slice s)
{
    snprintf(to, size, "%.*s", SLICE_ARG(s));
}

struct op *redis_eval(struct redis_script *script, const struct slice *keys, unsigned n_keys,
                      const struct slice *args, unsigned n_args, redis_done done, void *arg)
{
    struct pending *p;

    if (!up)
        return NULL;
    p = ask(script == &look             ? ASKED_LOOK
            : script == &claim_script   ? ASKED_CLAIM
            : script == &release_script ? ASKED_RELEASE
                                        : ASKED_DELETE,
            done, arg);
    copy_text(p->key, sizeof(p->key), keys[0]);
    for (unsigned i = 0; i < n_args && p->what >= ASKED_CLAIM; i++)
        snprintf(p->args + strlen(p->args), sizeof(p->args) - strlen(p->args), "%.*s ",
                 SLICE_ARG(args[i]));
    if (script == &write_script) {
        p->what = slice_is(args[0], "open") ? ASKED_OPEN : ASKED_HALF_OPEN;
        copy_text(p->at, sizeof(p->at), args[1]);
        copy_text(p->ttl, sizeof(p->ttl), args[2]);
    }
    return &p->op;
}

struct op *redis_command(const struct slice *argv, unsigned argc, redis_done done, void *arg)
{
    return up ? &ask(ASKED_INFO, done, arg)->op : NULL;
}

bool redis_up(void)
{
    return up;
}

bool redis_enabled(void)
{
    return true;
}

void redis_on_change(void (*fn)(bool up, void *arg), void *arg)
{
    tell_up = fn;
}

static void answer(enum gw_err err, const struct redis_value *v)
{
    struct pending *p = &queue[answered++];

    assert_true(answered <= queued);
    if (!p->cancelled)
        p->done(err, v, p->arg);
}

static struct pending *expect(enum asked what)
{
    assert_true(answered < queued);
    assert_int_equal(queue[answered].what, what);
    return &queue[answered];
}

static void say_id(const char *id)
{
    char text[128];
    struct redis_value v = {.kind = REDIS_STR};

    snprintf(text, sizeof(text), "# Server\r\nredis_version:7\r\nrun_id:%s\r\ntcp_port:1\r\n", id);
    v.s = slice_cstr(text);
    expect(ASKED_INFO);
    answer(GW_OK, &v);
}

static void say_int(enum asked what, int64_t i)
{
    struct redis_value v = {.kind = REDIS_INT, .i = i};

    expect(what);
    answer(GW_OK, &v);
}

static struct redis_value text_value(const char *text)
{
    return text ? (struct redis_value){.kind = REDIS_STR, .s = slice_cstr(text)}
                : (struct redis_value){.kind = REDIS_NIL};
}

static void say_key(const char *state, const char *at)
{
    struct redis_value items[2] = {text_value(state), text_value(at)};
    struct redis_value v = {.kind = REDIS_ARRAY, .items = items, .n = 2};

    expect(ASKED_LOOK);
    answer(GW_OK, &v);
}

static void say_time(const char *state, uint64_t at)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, at);
    say_key(state, text);
}

static void come_up(const char *id)
{
    up = true;
    tell_up(true, NULL);
    go_round();
    say_id(id);
}

static void go_down(void)
{
    up = false;
    while (answered < queued)
        answer(GW_EUNAVAIL, NULL);
    tell_up(false, NULL);
}

/* --- the process's circuit -------------------------------------------------------------------- */

static struct circuit_now here;
static unsigned taken;

static void each(void (*fn)(const struct circuit_now *now, void *arg), void *arg)
{
    fn(&here, arg);
}

static void take_in(struct slice name, enum circuit_state state, uint64_t opened_wall_us)
{
    assert_true(slice_is(name, "acme"));
    here.state = state;
    here.opened_wall_us = opened_wall_us;
    taken++;
}

static void change(enum circuit_state state, uint64_t at)
{
    here.state = state;
    here.opened_wall_us = at;
    circuits_changed(&here);
}

static int begin(void **state)
{
    static const struct circuits_link link = {each, take_in};

    assert_int_equal(loop_init(), GW_OK);
    queued = answered = taken = 0;
    up = false;
    here = (struct circuit_now){.name = "acme", .recovery_us = 60000000};
    return circuits_init(&link);
}

static int end(void **state)
{
    circuits_deinit();
    loop_deinit();
    return 0;
}

static void begin_up(void)
{
    come_up("one");
    say_key(NULL, NULL);
}

/* Opened here and known to be in Redis. */
static void open_here(uint64_t at)
{
    change(CIRCUIT_OPEN, at);
    say_int(ASKED_OPEN, 1);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_an_opening_is_written_and_a_closing_deletes(void **state)
{
    struct pending *p;

    begin_up();
    change(CIRCUIT_OPEN, T1);
    p = expect(ASKED_OPEN);
    assert_string_equal(p->key, "circuit:acme");
    assert_string_equal(p->at, "1700000000000000");
    assert_string_equal(p->ttl, "600001");
    say_int(ASKED_OPEN, 1);
    change(CIRCUIT_HALF_OPEN, 0);
    assert_string_equal(expect(ASKED_HALF_OPEN)->at, "1700000000000000");
    say_int(ASKED_HALF_OPEN, 1);
    change(CIRCUIT_CLOSED, 0);
    say_int(ASKED_DELETE, 1);
    assert_int_equal(taken, 0);
}

static void test_check_080_a_deleted_key_closes_the_circuit(void **state)
{
    begin_up();
    open_here(T1);
    go_round();
    say_time("open", T1);
    assert_int_equal(here.state, CIRCUIT_OPEN);
    go_round();
    say_key(NULL, NULL);
    assert_int_equal(taken, 1);
    assert_int_equal(here.state, CIRCUIT_CLOSED);
    go_round();
    say_key(NULL, NULL);
    assert_int_equal(taken, 1);
}

static void test_check_080_also_while_half_open(void **state)
{
    begin_up();
    open_here(T1);
    change(CIRCUIT_HALF_OPEN, 0);
    say_int(ASKED_HALF_OPEN, 0); /* the operator was faster: nothing was written */
    go_round();
    say_key(NULL, NULL);
    assert_int_equal(here.state, CIRCUIT_CLOSED);
}

static void test_anothers_opening_is_taken_over_once(void **state)
{
    begin_up();
    go_round();
    say_time("open", T1);
    assert_int_equal(taken, 1);
    assert_int_equal(here.state, CIRCUIT_OPEN);
    assert_true(here.opened_wall_us == T1);
    here.state = CIRCUIT_HALF_OPEN; /* our own probe is out */
    go_round();
    say_time("open", T1);
    assert_int_equal(taken, 1);
    go_round();
    say_time("open", T2); /* another's probe has failed */
    assert_int_equal(taken, 2);
    assert_int_equal(here.state, CIRCUIT_OPEN);
}

static void test_anothers_half_open_is_an_opening_for_who_has_not_heard_of_it(void **state)
{
    begin_up();
    go_round();
    say_time("half_open", T1);
    assert_int_equal(taken, 1);
    assert_int_equal(here.state, CIRCUIT_OPEN);
    go_round();
    say_time("open", T1);
    go_round();
    say_time("half_open", T1);
    assert_int_equal(taken, 1);
    assert_int_equal(here.state, CIRCUIT_OPEN);
}

/* --- probes ----------------------------------------------------------------------------------- */

static uint64_t told_wait_us;
static unsigned told;

static void on_told(uint64_t wait_us, void *arg)
{
    assert_string_equal(arg, "arg");
    told_wait_us = wait_us;
    told++;
}

static struct op *claim(uint64_t id)
{
    told = 0;
    return circuits_claim("acme", id, 2, 55000000, on_told, "arg");
}

static void test_a_probe_is_claimed_in_the_circuits_own_key(void **state)
{
    struct pending *p;

    begin_up();
    assert_non_null(claim(0xabc));
    p = expect(ASKED_CLAIM);
    assert_string_equal(p->key, "circuit:acme");
    assert_string_equal(p->args, "probe:0000000000000abc 55001 2 ");
    assert_int_equal(told, 0);
    say_int(ASKED_CLAIM, 0);
    assert_int_equal(told, 1);
    assert_int_equal(told_wait_us, 0);
    circuits_release("acme", 0xabc);
    p = expect(ASKED_RELEASE);
    assert_string_equal(p->key, "circuit:acme");
    assert_string_equal(p->args, "probe:0000000000000abc ");
    say_int(ASKED_RELEASE, 1);
}

static void test_a_lease_has_an_end(void **state)
{
    begin_up();
    assert_non_null(circuits_claim("acme", 1, 1, UINT64_MAX, on_told, "arg"));
    assert_string_equal(expect(ASKED_CLAIM)->args, "probe:0000000000000001 3600000 1 ");
    say_int(ASKED_CLAIM, 0);
}

static void test_who_may_not_probe_is_told_when_to_ask_again(void **state)
{
    static const int64_t rows[][2] = {{1, 1000}, {250, 250000}, {54321, 1000000}};

    begin_up();
    for (unsigned i = 0; i < 3; i++) {
        assert_non_null(claim(i + 1));
        say_int(ASKED_CLAIM, rows[i][0]);
        assert_int_equal(told_wait_us, rows[i][1]);
    }
}

static void test_without_a_redis_that_answers_the_probe_is_ones_own(void **state)
{
    struct redis_value text = {.kind = REDIS_STR, .s = SLICE("x")};
    struct redis_value less = {.kind = REDIS_INT, .i = -5};

    assert_null(claim(1));
    circuits_release("acme", 1);
    begin_up();
    for (unsigned i = 0; i < 3; i++) {
        assert_non_null(claim(1));
        expect(ASKED_CLAIM);
        answer(i ? GW_OK : GW_EUNAVAIL, i == 0 ? NULL : i == 1 ? &text : &less);
        assert_int_equal(told, 1);
        assert_int_equal(told_wait_us, 0);
    }
}

static void test_a_claim_that_is_given_up_tells_nobody(void **state)
{
    struct op *op;

    begin_up();
    op = claim(1);
    op_cancel(&op);
    assert_true(queue[answered].cancelled);
    say_int(ASKED_CLAIM, 0);
    assert_int_equal(told, 0);
}

static void test_an_opening_while_redis_was_away_is_written_when_it_is_back(void **state)
{
    change(CIRCUIT_OPEN, T1);
    assert_int_equal(queued, 0);
    come_up("one");
    say_key(NULL, NULL); /* absent, but it was never there */
    assert_int_equal(taken, 0);
    assert_string_equal(expect(ASKED_OPEN)->at, "1700000000000000");
    say_int(ASKED_OPEN, 1);
    go_round();
    say_key(NULL, NULL); /* now it has been deleted */
    assert_int_equal(here.state, CIRCUIT_CLOSED);
}

static void test_a_redis_that_came_back_empty_is_told_again(void **state)
{
    begin_up();
    open_here(T1);
    go_down();
    come_up("two");
    say_key(NULL, NULL);
    assert_int_equal(taken, 0);
    say_int(ASKED_OPEN, 1);
}

static void test_a_redis_that_was_only_out_of_reach_is_believed(void **state)
{
    begin_up();
    open_here(T1);
    go_down();
    come_up("one");
    say_key(NULL, NULL);
    assert_int_equal(taken, 1);
    assert_int_equal(here.state, CIRCUIT_CLOSED);
}

static void test_an_opening_whose_writing_failed_is_written_again(void **state)
{
    begin_up();
    change(CIRCUIT_OPEN, T1);
    expect(ASKED_OPEN);
    answer(GW_EAGAIN, NULL);
    go_round();
    say_key(NULL, NULL);
    assert_int_equal(taken, 0);
    say_int(ASKED_OPEN, 1);
}

static void test_what_was_seen_before_our_own_writing_means_nothing(void **state)
{
    begin_up();
    open_here(T1);
    go_round();
    change(CIRCUIT_CLOSED, 0);
    change(CIRCUIT_OPEN, T2);
    say_time("open", T1); /* asked before */
    assert_int_equal(taken, 0);
    say_int(ASKED_DELETE, 1);
    say_int(ASKED_OPEN, 1);
    go_round();
    change(CIRCUIT_CLOSED, 0);
    say_key(NULL, NULL);
    say_int(ASKED_DELETE, 0);
    assert_int_equal(taken, 0);
}

static void test_a_closing_while_redis_was_away_deletes_when_it_is_back(void **state)
{
    begin_up();
    open_here(T1);
    go_down();
    change(CIRCUIT_CLOSED, 0);
    come_up("one");
    say_time("open", T1);
    assert_int_equal(taken, 0);
    say_int(ASKED_DELETE, 1);
    go_round();
    say_key(NULL, NULL);
    assert_int_equal(taken, 0);
}

static void test_but_not_when_another_has_opened_it_since(void **state)
{
    begin_up();
    open_here(T1);
    go_down();
    change(CIRCUIT_CLOSED, 0);
    come_up("one");
    say_time("open", T2);
    assert_int_equal(here.state, CIRCUIT_OPEN);
    assert_int_equal(answered, queued);
}

static void test_check_080_wrong_values_are_ignored(void **state)
{
    static const struct {
        const char *state, *at;
    } rows[] = {
        {"open", NULL},
        {NULL, "1700000000000000"},
        {"ajar", "1700000001000000"},
        {"", ""},
        {"open", "0"},
        {"open", "-5"},
        {"open", "1e15"},
        {"open", "99999999999999999"}, /* the year 5138 */
        {"open", "170000000000000000000000000"},
        {"open", "1700000001000000 "},
        {"closed", "1700000001000000"},
    };

    begin_up();
    open_here(T1);
    go_round();
    say_time("open", T1);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        go_round();
        say_key(rows[i].state, rows[i].at);
        assert_int_equal(taken, 0);
        assert_int_equal(here.state, CIRCUIT_OPEN);
    }
    go_round();
    expect(ASKED_LOOK);
    answer(GW_EBADREQ, NULL); /* a list under our key */
    go_round();
    say_int(ASKED_LOOK, 7);
    assert_int_equal(taken, 0);
    assert_int_equal(answered, queued);
}

static void test_a_look_that_is_not_answered_is_not_repeated(void **state)
{
    begin_up();
    go_round();
    go_round();
    go_round();
    assert_int_equal(queued - answered, 1);
}

static void test_a_server_that_will_not_say_who_it_is_counts_as_another(void **state)
{
    begin_up();
    open_here(T1);
    go_down();
    up = true;
    tell_up(true, NULL);
    go_round();
    expect(ASKED_INFO);
    answer(GW_EBADREQ, NULL);
    say_key(NULL, NULL);
    assert_int_equal(taken, 0);
    say_int(ASKED_OPEN, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_an_opening_is_written_and_a_closing_deletes),
        CASE(test_check_080_a_deleted_key_closes_the_circuit),
        CASE(test_check_080_also_while_half_open),
        CASE(test_anothers_opening_is_taken_over_once),
        CASE(test_anothers_half_open_is_an_opening_for_who_has_not_heard_of_it),
        CASE(test_a_probe_is_claimed_in_the_circuits_own_key),
        CASE(test_a_lease_has_an_end),
        CASE(test_who_may_not_probe_is_told_when_to_ask_again),
        CASE(test_without_a_redis_that_answers_the_probe_is_ones_own),
        CASE(test_a_claim_that_is_given_up_tells_nobody),
        CASE(test_an_opening_while_redis_was_away_is_written_when_it_is_back),
        CASE(test_a_redis_that_came_back_empty_is_told_again),
        CASE(test_a_redis_that_was_only_out_of_reach_is_believed),
        CASE(test_an_opening_whose_writing_failed_is_written_again),
        CASE(test_what_was_seen_before_our_own_writing_means_nothing),
        CASE(test_a_closing_while_redis_was_away_deletes_when_it_is_back),
        CASE(test_but_not_when_another_has_opened_it_since),
        CASE(test_check_080_wrong_values_are_ignored),
        CASE(test_a_look_that_is_not_answered_is_not_repeated),
        CASE(test_a_server_that_will_not_say_who_it_is_counts_as_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
