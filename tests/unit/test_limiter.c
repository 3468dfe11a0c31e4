/*
 * test_limiter.c - what the limiter asks Redis, what it makes of each answer, and the process's own
 * buckets when several are taken from at once. (Counts against a real Redis are
 * integration/test_ratelimit_shared.py's, the local table's bounds test_ratelimit.c's.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/limiter.c"

#include <stdio.h>

/* --- the Redis -------------------------------------------------------------------------------- */

static bool up, refuses;
static void (*tell_up)(bool up, void *arg);
static redis_done asked;
static void *asked_arg;
static char sent[1024]; /* keys and arguments, each with a newline */
static bool cancelled;

static void on_cancel(struct op *op)
{
    cancelled = true;
}

static struct op handle = {on_cancel};

struct op *redis_eval(struct redis_script *s, const struct slice *keys, unsigned n_keys,
                      const struct slice *args, unsigned n_args, redis_done done, void *arg)
{
    unsigned i, n = 0;

    if (refuses)
        return NULL;
    asked = done;
    asked_arg = arg;
    for (i = 0; i < n_keys + n_args; i++) {
        struct slice v = i < n_keys ? keys[i] : args[i - n_keys];

        n += (unsigned)snprintf(sent + n, sizeof(sent) - n, "%.*s\n", SLICE_ARG(v));
    }
    return &handle;
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

static void say(enum gw_err err, const int64_t *numbers, unsigned n)
{
    struct redis_value items[6] = {{0}};
    struct redis_value v = {.kind = REDIS_ARRAY, .items = items, .n = n};

    for (unsigned i = 0; i < n; i++)
        items[i] = (struct redis_value){.kind = REDIS_INT, .i = numbers[i]};
    asked(err, err ? NULL : &v, asked_arg);
}

#define SAY(...)                                                                                   \
    say(GW_OK, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / 8)

/* --- a call ----------------------------------------------------------------------------------- */

static struct limiter_verdict got;
static unsigned verdicts;

static void on_verdict(const struct limiter_verdict *v, void *arg)
{
    assert_string_equal(arg, "arg");
    got = *v;
    verdicts++;
}

static struct limiter_call call_of(const char *who, int64_t class_burst, int64_t key_rate)
{
    return (struct limiter_call){
        .identity = slice_cstr(who),
        .buckets = {{SLICE("ai"), {1, class_burst}}, {SLICE("key"), {key_rate, key_rate}}},
        .n = key_rate ? 2 : 1,
    };
}

static bool begin(struct limiter_call *c)
{
    verdicts = 0;
    return limiter_begin(c, on_verdict, "arg");
}

static int enter(void **state)
{
    up = true;
    refuses = cancelled = false;
    return metrics_init(1) || loop_init() || limiter_init(NULL);
}

static int leave(void **state)
{
    limiter_deinit();
    loop_deinit();
    metrics_deinit();
    return 0;
}

static bool is_local(void)
{
    assert_int_equal(limiter_is_shared(), !metrics_value(m_local));
    return !limiter_is_shared();
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_keys_of_a_caller_share_a_tag_and_carry_step_and_depth(void **state)
{
    struct limiter_call c = call_of("key:pk-abc", 10, 600);

    assert_true(begin(&c));
    assert_string_equal(sent, "rl:ai:{key:pk-abc}\nrl:key:{key:pk-abc}\n"
                              "60000000\n600000000\n100000\n60000000\n");
    SAY(0, 1, 7, 123, 0);
    assert_int_equal(verdicts, 1);
    assert_false(got.refused);
    assert_int_equal(got.which, 1);
    assert_int_equal(got.state.remaining, 7);
    assert_int_equal(got.state.full_in_us, 123);
    assert_null(c.op);
}

static struct limiter_call call_in_team(const char *who, int64_t class_burst, int64_t key_rate,
                                        int64_t team_rate)
{
    struct limiter_call c = call_of(who, class_burst, key_rate);

    c.group = SLICE("t-1");
    c.buckets[c.n++] = (struct limiter_bucket){SLICE("team"), {team_rate, team_rate}, true};
    return c;
}

/* SPEC 12: a cluster keeps all keys of one script in one place. */
static void test_keys_of_a_team_share_its_tag(void **state)
{
    struct limiter_call c = call_in_team("key:pk-abc", 10, 600, 6000);

    assert_true(begin(&c));
    assert_string_equal(sent, "rl:ai:{t-1}:key:pk-abc\nrl:key:{t-1}:key:pk-abc\nrl:team:{t-1}\n"
                              "60000000\n600000000\n100000\n60000000\n10000\n60000000\n");
    SAY(1, 2, 0, 60000000, 42);
    assert_true(got.refused);
    assert_int_equal(got.which, 2);
    assert_true(begin(&c));
    SAY(0, 3, 1, 1, 1); /* there is no such bucket */
    assert_true(is_local());
}

static void test_a_refusal_tells_which_and_for_how_long(void **state)
{
    struct limiter_call c = call_of("a", 10, 600);

    assert_true(begin(&c));
    SAY(1, 0, 0, 60000000, 42);
    assert_true(got.refused);
    assert_int_equal(got.which, 0);
    assert_int_equal(got.state.retry_in_us, 42);
}

static void test_long_names_fit(void **state)
{
    char who[300] = "", class[300];
    struct limiter_call c = call_of(who, 10, 0);

    memset(who, 'w', sizeof(who));
    memset(class, 'c', sizeof(class));
    c.identity = c.group = slice_of(who, sizeof(who));
    c.buckets[0].name = slice_of(class, sizeof(class));
    assert_true(begin(&c));
    assert_true(strlen(sent) < LIMITER_KEY_BYTES + 40);
    assert_int_equal(strcspn(sent, "{"), 3 + 169 + 1);
    assert_int_equal(strspn(strchr(sent, '}') + 2, "w"), 80);
    limiter_cancel(&c);
    assert_true(cancelled);
    assert_null(c.op);
    limiter_cancel(&c);
}

static void test_no_answer_or_a_senseless_one_is_decided_here(void **state)
{
    struct limiter_call c;

    for (unsigned i = 0; i < 7; i++) {
        char who[8];

        snprintf(who, sizeof(who), "%u", i);
        c = call_of(who, 10, 0);
        assert_true(begin(&c));
        switch (i) {
        case 0:
            say(GW_EUNAVAIL, NULL, 0);
            break;
        case 1:
            say(GW_EAGAIN, NULL, 0);
            break;
        case 2:
            SAY(0, 0, 1, 1);
            break;
        case 3:
            SAY(0, 1, 1, 1, 1); /* there is no such bucket */
            break;
        case 4:
            SAY(0, 0, -1, 1, 1);
            break;
        case 5:
            SAY(0, 0, 1, 1, 1, 1);
            break;
        case 6:
            SAY(0, -1, 1, 1, 1);
            break;
        }
        assert_int_equal(verdicts, 1);
        assert_false(got.refused);
        assert_int_equal(got.state.remaining, 9);
        assert_true(is_local());
        assert_true(begin(&c));
        SAY(0, 0, 3, 1, 0);
        assert_int_equal(got.state.remaining, 3);
        assert_false(is_local());
    }
}

static void test_nothing_is_asked_while_redis_is_away(void **state)
{
    struct limiter_call c = call_of("a", 10, 0);

    up = false;
    tell_up(false, NULL);
    assert_false(begin(&c));
    assert_true(is_local());
    up = true;
    tell_up(true, NULL);
    assert_false(is_local());
    refuses = true; /* too many in flight */
    assert_false(begin(&c));
    assert_true(is_local());
}

static void test_two_local_buckets_give_a_token_each_or_none(void **state)
{
    struct limiter_call both = call_of("a", 3, 2), one = call_of("a", 3, 0);
    struct limiter_verdict v;

    limiter_local(&both, &v);
    assert_false(v.refused);
    assert_int_equal(v.which, 1); /* the one with the least left */
    assert_int_equal(v.state.remaining, 1);
    limiter_local(&both, &v);
    assert_false(v.refused);
    limiter_local(&both, &v);
    assert_true(v.refused);
    assert_int_equal(v.which, 1);
    limiter_local(&one, &v); /* of the class there is one left: the refusal has not taken it */
    assert_false(v.refused);
    assert_int_equal(v.state.remaining, 0);
    limiter_local(&both, &v);
    assert_true(v.refused);
    assert_int_equal(v.which, 0); /* it takes longer: one a minute against two */
    assert_true(v.state.retry_in_us > 30000000);
}

static void test_a_local_team_gives_its_tokens_to_all_its_members(void **state)
{
    struct limiter_call a = call_in_team("a", 9, 4, 3), b = call_in_team("b", 9, 4, 3);
    struct limiter_call alone = call_of("a", 9, 4), other = a;
    struct limiter_verdict v;

    other.group = SLICE("t-2");
    limiter_local(&a, &v);
    assert_int_equal(v.which, 2);
    assert_int_equal(v.state.remaining, 2);
    limiter_local(&b, &v);
    assert_int_equal(v.state.remaining, 1);
    limiter_local(&b, &v);
    assert_false(v.refused);
    for (unsigned i = 0; i < 9; i++) { /* refusals take nothing of the members' own buckets */
        limiter_local(&a, &v);
        assert_true(v.refused);
        assert_int_equal(v.which, 2);
        assert_true(v.state.retry_in_us > 0 && v.state.retry_in_us <= 20000000);
    }
    a.n = b.n = 2;
    limiter_local(&a, &v);
    assert_int_equal(v.state.remaining, 2);
    limiter_local(&b, &v);
    assert_int_equal(v.state.remaining, 1);
    limiter_local(&other, &v);
    assert_false(v.refused);
    limiter_local(&alone, &v);
    assert_false(v.refused);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_keys_of_a_caller_share_a_tag_and_carry_step_and_depth),
        CASE(test_keys_of_a_team_share_its_tag),
        CASE(test_a_refusal_tells_which_and_for_how_long),
        CASE(test_long_names_fit),
        CASE(test_no_answer_or_a_senseless_one_is_decided_here),
        CASE(test_nothing_is_asked_while_redis_is_away),
        CASE(test_two_local_buckets_give_a_token_each_or_none),
        CASE(test_a_local_team_gives_its_tokens_to_all_its_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
