/* test_redis.c - redis.c against a peer made by hand on a Unix socket: what is sent, in how many
 * writes, to whom answers go, and what ends a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/redis.c"

#include "gateway/core/offload.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

/* --- the peer --------------------------------------------------------------------------------- */

static char path[64];
static int listener = -1, peer = -1;
static struct event *tick;

#define KEPT (1u << 20) /* bytes of the write buffer */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
}

static void turns(unsigned n)
{
    while (n-- > 0)
        loop_turn();
}

static void say(const char *text)
{
    assert_int_equal(write(peer, text, strlen(text)), strlen(text));
}

/* One read, after the loop has had a turn to write: what came in one piece. */
static const char *heard(void)
{
    static char got[65536];
    ssize_t n;

    turns(1);
    n = read(peer, got, sizeof(got) - 1);
    got[n > 0 ? n : 0] = '\0';
    return got;
}

static bool peer_sees_end(void)
{
    char c;

    return read(peer, &c, 1) == 0;
}

static void take_connection(void)
{
    if (peer >= 0)
        close(peer);
    do {
        turns(1);
        peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    } while (peer < 0);
}

/* --- life ------------------------------------------------------------------------------------- */

static unsigned changes;
static bool last_change;

static void on_change(bool up, void *arg)
{
    changes++;
    last_change = up;
}

static void begin(const char *credentials, const char *query)
{
    static char text[200];
    struct conf c = {.redis_timeout_ms = 5000, .redis_connect_ms = 5000, .redis_max_inflight = 4};

    snprintf(text, sizeof(text), "unix://%s%s%s", credentials, path, query);
    c.redis_url = slice_cstr(text);
    c.redis_use = SLICE("auto");
    assert_int_equal(redis_init(&c), GW_OK);
    changes = 0;
    redis_on_change(on_change, NULL);
    take_connection();
}

static void begin_up(void)
{
    begin("", "");
    assert_string_equal(heard(), "*1\r\n$4\r\nPING\r\n");
    say("+PONG\r\n");
    while (!redis_up())
        turns(1);
}

/* What the timer would do, now. */
static void try_again(void)
{
    loop_timer_clear(&retry);
    on_retry(NULL);
    take_connection();
}

static void up_again(void)
{
    try_again();
    assert_non_null(strstr(heard(), "PING"));
    say("+PONG\r\n");
    while (!redis_up())
        turns(1);
}

static int set_up_case(void **st)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval ms = {0, 1000};

    assert_int_equal(loop_init(), GW_OK);
    tick = event_new(loop_base(), -1, EV_PERSIST, on_tick, NULL);
    event_add(tick, &ms);
    snprintf(path, sizeof(path), "/tmp/test_redis.%d", getpid());
    unlink(path);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(listener, 8), 0);
    return 0;
}

static int tear_down_case(void **st)
{
    redis_deinit();
    event_free(tick);
    loop_deinit();
    close(listener);
    if (peer >= 0)
        close(peer);
    peer = -1;
    unlink(path);
    return 0;
}

/* --- waiters ---------------------------------------------------------------------------------- */

struct waiter {
    struct op *op;
    unsigned dones;
    enum gw_err err;
    enum redis_kind kind;
    int64_t i;
    unsigned n;
    char text[64];
    struct waiter *cancels; /* whose operation it ends when told */
    bool starts;            /* tries a command when told */
    bool refused;
};

static void on_done(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct waiter *w = arg;

    w->op = NULL;
    w->dones++;
    w->err = err;
    if (v) {
        w->kind = v->kind;
        w->i = v->i;
        w->n = v->n;
        snprintf(w->text, sizeof(w->text), "%.*s", SLICE_ARG(v->s));
        if (v->n)
            w->i = v->items[v->n - 1].kind == REDIS_FAULT ? -1 : v->items[v->n - 1].i;
    }
    if (w->cancels)
        op_cancel(&w->cancels->op);
    if (w->starts)
        w->refused = !redis_command((struct slice[]){SLICE("PING")}, 1, on_done, w);
}

static bool get(struct waiter *w, const char *key)
{
    const struct slice argv[] = {SLICE("GET"), slice_cstr(key)};

    w->op = redis_command(argv, 2, on_done, w);
    return w->op != NULL;
}

static void wait_for(struct waiter *w)
{
    while (!w->dones)
        turns(1);
    assert_int_equal(w->dones, 1);
}

/* --- greeting --------------------------------------------------------------------------------- */

static void test_auth_and_select_come_first_and_nothing_is_sent_before_ping_is_answered(void **st)
{
    struct waiter w = {0};

    begin("joe:s%40y@", "?db=12");
    assert_string_equal(heard(), "*3\r\n$4\r\nAUTH\r\n$3\r\njoe\r\n$3\r\ns@y\r\n"
                                 "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n*1\r\n$4\r\nPING\r\n");
    assert_false(get(&w, "k"));
    say("+OK\r\n+OK\r\n");
    turns(3);
    assert_false(redis_up());
    say("+PONG\r\n");
    turns(3);
    assert_true(redis_up());
    assert_int_equal(changes, 1);
    assert_true(last_change);
    assert_true(get(&w, "k"));
    op_cancel(&w.op);
}

static void test_an_error_in_the_greeting_is_no_connection(void **st)
{
    static const char *const answers[] = {"-NOAUTH Authentication required.\r\n",
                                          "-LOADING Redis is loading\r\n", "-ERR what?\r\n",
                                          "-BUSY script\r\n"};

    begin("", "");
    for (unsigned i = 0; i < 4; i++) {
        heard();
        say(answers[i]);
        while (state == REDIS_GREETING)
            turns(1);
        assert_int_equal(state, REDIS_AWAY);
        assert_true(peer_sees_end());
        try_again();
    }
    assert_int_equal(changes, 0);
}

static void test_a_ping_that_takes_longer_than_a_command_may_is_a_refusal(void **st)
{
    begin("", "");
    heard();
    timeout_us = 0;
    turns(2);
    say("+PONG\r\n");
    while (state == REDIS_GREETING)
        turns(1);
    assert_int_equal(state, REDIS_AWAY);
}

static void test_attempts_are_a_second_apart_and_never_more_than_five(void **st)
{
    begin("", "");
    for (unsigned i = 0; i < 200; i++) {
        failures = i % 20;
        attempt_us = loop_now_us() - i * 20000;
        schedule();
        assert_true(retry.due_us >= attempt_us + SECOND_US);
        assert_true(retry.due_us <= loop_now_us() + 3500000u);
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

static void test_commands_of_a_turn_leave_in_one_write_and_answers_find_their_waiters(void **st)
{
    struct waiter a = {0}, b = {0}, c = {0}, d = {0};

    begin_up();
    assert_true(get(&a, "a") && get(&b, "b") && get(&c, "c") && get(&d, "d"));
    assert_int_equal(strlen(heard()), 4 * strlen("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"));
    say("$3\r\none\r\n:-7\r\n$-1\r\n*3\r\n+x\r\n");
    turns(3);
    assert_string_equal(a.text, "one");
    assert_int_equal(b.i, -7);
    assert_int_equal(c.kind, REDIS_NIL);
    assert_int_equal(d.dones, 0);
    say("*1\r\n:1\r\n:42\r\n");
    wait_for(&d);
    assert_int_equal(d.kind, REDIS_ARRAY);
    assert_int_equal(d.n, 3);
    assert_int_equal(d.i, 42);
    assert_int_equal(in_flight, 0);
}

static void test_an_error_inside_a_list_is_an_item(void **st)
{
    struct waiter a = {0};

    begin_up();
    assert_true(get(&a, "a"));
    heard();
    say("*2\r\n:1\r\n-WRONGTYPE no\r\n");
    wait_for(&a);
    assert_int_equal(a.err, GW_OK);
    assert_int_equal(a.i, -1);
}

static void test_a_cancelled_commands_answer_goes_to_nobody(void **st)
{
    struct waiter a = {0}, b = {0};

    begin_up();
    assert_true(get(&a, "a") && get(&b, "b"));
    heard();
    op_cancel(&a.op);
    say("$1\r\nA\r\n$1\r\nB\r\n");
    wait_for(&b);
    assert_string_equal(b.text, "B");
    assert_int_equal(a.dones, 0);
}

static void test_check_076_commands_in_flight_are_capped(void **st)
{
    struct waiter w[5] = {0};

    begin_up();
    for (unsigned i = 0; i < 4; i++)
        assert_true(get(&w[i], "k"));
    assert_false(get(&w[4], "k"));
    assert_false(redis_send((struct slice[]){SLICE("PING")}, 1));
    heard();
    say(":0\r\n:1\r\n:2\r\n:3\r\n");
    wait_for(&w[3]);
    assert_true(get(&w[4], "k"));
    op_cancel(&w[4].op);
}

/* --- loss ------------------------------------------------------------------------------------- */

static void test_check_076_one_missed_deadline_drops_the_connection_and_opens_the_breaker(void **st)
{
    struct waiter a = {0}, b = {0}, c = {0};

    begin_up();
    timeout_us = 1000;
    assert_true(get(&a, "a") && get(&b, "b"));
    heard();
    wait_for(&a);
    assert_int_equal(b.dones, 1); /* at the same moment: there are no further deadlines */
    assert_int_equal(a.err, GW_EUNAVAIL);
    assert_int_equal(b.err, GW_EUNAVAIL);
    assert_false(redis_up());
    assert_false(last_change);
    assert_false(get(&c, "c"));
    assert_true(peer_sees_end()); /* what it would still answer reaches nobody */
    timeout_us = 5000000;
    up_again();
    assert_true(last_change);
    assert_true(get(&c, "c"));
    heard();
    say("$1\r\nC\r\n");
    wait_for(&c);
    assert_string_equal(c.text, "C");
}

static void test_an_answer_that_is_there_when_the_deadline_is_noticed_counts(void **st)
{
    struct waiter a = {0};

    begin_up();
    assert_true(get(&a, "a"));
    heard();
    say("$1\r\nA\r\n");
    first->due_us = 1;
    on_deadline(NULL);
    assert_int_equal(a.dones, 1);
    assert_int_equal(a.err, GW_OK);
    assert_true(redis_up());
}

static void test_check_075_a_lost_connection_tells_every_waiter_once(void **st)
{
    struct waiter a = {0}, b = {0}, c = {0};

    begin_up();
    a.cancels = &b;
    a.starts = true;
    assert_true(get(&a, "a") && get(&b, "b") && get(&c, "c"));
    heard();
    close(peer);
    peer = -1;
    wait_for(&c);
    assert_int_equal(a.dones, 1);
    assert_true(a.refused);
    assert_int_equal(b.dones, 0);
    assert_int_equal(c.err, GW_EUNAVAIL);
    assert_int_equal(in_flight, 0);
}

static void test_check_079_what_is_no_answer_ends_the_connection(void **st)
{
    static const char *const texts[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$1099511627776\r\n",
        "$9223372036854775807\r\nabc",
        "*1\r\n$99999999999\r\nabc",
        "*1099511627776\r\n",
        "*2000000000\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "$x\r\n",
        ":1\r\n:2\r\n", /* one too many */
    };

    begin_up();
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct waiter a = {0};

        assert_true(get(&a, "a"));
        heard();
        say(texts[i]);
        while (redis_up())
            turns(1);
        assert_int_equal(a.dones, 1);
        assert_int_equal(a.err, texts[i][0] == ':' ? GW_OK : GW_EUNAVAIL);
        assert_true(peer_sees_end());
        up_again();
    }
}

static void test_check_079_an_answer_to_a_command_that_was_not_sent_is_a_surplus_one(void **st)
{
    struct waiter a = {0};

    begin_up();
    say(":1\r\n");
    assert_true(get(&a, "a")); /* is written when the turn in which the surplus is read ends */
    wait_for(&a);
    assert_int_equal(a.err, GW_EUNAVAIL);
    assert_false(redis_up());
}

static unsigned descriptors(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_nothing_is_left_of_a_thousand_connections(void **st)
{
    struct waiter w = {0};
    unsigned had;

    begin_up();
    had = descriptors();
    for (unsigned i = 0; i < 1000; i++) {
        w.dones = 0;
        assert_true(get(&w, "k"));
        heard();
        say(i % 2 ? "!\r\n" : "$9\r\nhalf");
        if (i % 2 == 0)
            shutdown(peer, SHUT_RDWR);
        wait_for(&w);
        up_again();
    }
    assert_int_equal(descriptors(), had);
    assert_int_equal(in_flight, 0);
    assert_true(redis_link.out.cap <= KEPT);
}

static void test_half_an_answer_is_waited_for_until_the_deadline(void **st)
{
    struct waiter a = {0};

    begin_up();
    timeout_us = 1000;
    assert_true(get(&a, "a"));
    heard();
    say("$5\r\nhel");
    wait_for(&a);
    assert_int_equal(a.err, GW_EUNAVAIL);
    assert_false(redis_up());
}

/* --- errors ----------------------------------------------------------------------------------- */

static void test_check_077_error_replies_are_sorted(void **st)
{
    static const struct {
        const char *text;
        enum gw_err err;
        bool stays;
    } rows[] = {
        {"-OOM command not allowed\r\n", GW_EAGAIN, true},
        {"-BUSY Redis is busy\r\n", GW_EAGAIN, true},
        {"-MISCONF cannot save\r\n", GW_EAGAIN, true},
        {"-CLUSTERDOWN\r\n", GW_EAGAIN, true},
        {"-NOSCRIPT no such script\r\n", GW_EAGAIN, true},
        {"-WRONGTYPE Operation\r\n", GW_EBADREQ, true},
        {"-ERR unknown command\r\n", GW_EBADREQ, true},
        {"-OOMPH\r\n", GW_EBADREQ, true},
        {"-\r\n", GW_EBADREQ, true},
        {"-READONLY You can't write\r\n", GW_EAGAIN, false},
        {"-LOADING\r\n", GW_EAGAIN, false},
        {"-NOAUTH Authentication required.\r\n", GW_EAGAIN, false},
    };

    begin_up();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct waiter a = {0};

        assert_true(get(&a, "a"));
        heard();
        say(rows[i].text);
        wait_for(&a);
        assert_int_equal(a.err, rows[i].err);
        assert_int_equal(redis_up(), rows[i].stays);
        if (!rows[i].stays)
            up_again();
    }
}

#define SHA "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" /* of "return 1" */
#define EVAL "*5\r\n$7\r\nEVALSHA\r\n$40\r\n" SHA "\r\n$1\r\n1\r\n$1\r\nk\r\n$2\r\nab\r\n"
#define LOAD "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 1\r\n"

static bool eval(struct waiter *w, struct redis_script *s)
{
    const struct slice key = SLICE("k"), arg = SLICE("ab");

    w->op = redis_eval(s, &key, 1, &arg, 1, on_done, w);
    return w->op != NULL;
}

static void test_a_script_is_loaded_once_a_connection_and_again_when_forgotten(void **st)
{
    struct redis_script s = {.name = "one", .text = "return 1"};
    struct waiter a = {0}, b = {0}, c = {0};

    begin_up();
    assert_true(eval(&a, &s));
    assert_string_equal(heard(), LOAD EVAL);
    say("$40\r\n" SHA "\r\n:1\r\n");
    wait_for(&a);
    assert_true(eval(&b, &s));
    assert_string_equal(heard(), EVAL);
    say("-NOSCRIPT No matching script.\r\n");
    turns(2);
    assert_string_equal(heard(), LOAD EVAL);
    assert_int_equal(b.dones, 0);
    say("$40\r\n" SHA "\r\n:5\r\n");
    wait_for(&b);
    assert_int_equal(b.i, 5);
    close(peer);
    peer = -1;
    while (redis_up())
        turns(1);
    up_again();
    assert_true(eval(&c, &s));
    assert_string_equal(heard(), LOAD EVAL);
    op_cancel(&c.op);
}

static void test_check_077_noscript_is_answered_by_one_more_try_and_no_second(void **st)
{
    struct redis_script s = {.name = "one", .text = "return 1"};
    struct waiter a = {0};

    begin_up();
    assert_true(eval(&a, &s));
    heard();
    say("-OOM not now\r\n-NOSCRIPT\r\n");
    turns(2);
    assert_string_equal(heard(), LOAD EVAL);
    say("-OOM not now\r\n-NOSCRIPT\r\n");
    wait_for(&a);
    assert_int_equal(a.err, GW_EAGAIN);
    assert_true(redis_up());
}

static void test_stopping_tells_nobody(void **st)
{
    struct waiter a = {0}, b = {0};

    begin_up();
    assert_true(get(&a, "a"));
    heard();
    assert_true(get(&b, "b"));
    redis_deinit();
    turns(2);
    assert_int_equal(a.dones + b.dones, 0);
    assert_false(redis_enabled());
    assert_false(get(&b, "b"));
}

static void test_without_a_url_it_is_off(void **st)
{
    struct conf c = {.redis_use = SLICE("auto")};
    struct waiter a = {0};

    assert_int_equal(redis_init(&c), GW_OK);
    assert_false(redis_enabled());
    assert_false(get(&a, "a"));
    c.redis_url = SLICE("redis://127.0.0.1");
    c.redis_use = SLICE("false");
    assert_int_equal(redis_init(&c), GW_OK);
    assert_false(redis_enabled());
}

static void test_a_name_is_looked_up_in_the_pool(void **st)
{
    struct conf c = {.redis_timeout_ms = 5000,
                     .redis_connect_ms = 5000,
                     .redis_max_inflight = 4,
                     .redis_use = SLICE("auto"),
                     .redis_url = SLICE("redis://localhost:1")};

    assert_int_equal(offload_init(1, 4), GW_OK);
    assert_int_equal(redis_init(&c), GW_OK);
    while (!redis_link.resolving)
        turns(1);
    while (state != REDIS_AWAY || redis_link.resolving)
        turns(1);
    assert_true(redis_link.n_addresses > 0);
    assert_int_equal(failures, 1);
    redis_deinit();
    offload_deinit();
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up_case, tear_down_case)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_auth_and_select_come_first_and_nothing_is_sent_before_ping_is_answered),
        CASE(test_an_error_in_the_greeting_is_no_connection),
        CASE(test_a_ping_that_takes_longer_than_a_command_may_is_a_refusal),
        CASE(test_attempts_are_a_second_apart_and_never_more_than_five),
        CASE(test_commands_of_a_turn_leave_in_one_write_and_answers_find_their_waiters),
        CASE(test_an_error_inside_a_list_is_an_item),
        CASE(test_a_cancelled_commands_answer_goes_to_nobody),
        CASE(test_check_076_commands_in_flight_are_capped),
        CASE(test_check_076_one_missed_deadline_drops_the_connection_and_opens_the_breaker),
        CASE(test_an_answer_that_is_there_when_the_deadline_is_noticed_counts),
        CASE(test_check_075_a_lost_connection_tells_every_waiter_once),
        CASE(test_check_079_what_is_no_answer_ends_the_connection),
        CASE(test_check_079_an_answer_to_a_command_that_was_not_sent_is_a_surplus_one),
        CASE(test_nothing_is_left_of_a_thousand_connections),
        CASE(test_half_an_answer_is_waited_for_until_the_deadline),
        CASE(test_check_077_error_replies_are_sorted),
        CASE(test_a_script_is_loaded_once_a_connection_and_again_when_forgotten),
        CASE(test_check_077_noscript_is_answered_by_one_more_try_and_no_second),
        CASE(test_stopping_tells_nobody),
        CASE(test_without_a_url_it_is_off),
        CASE(test_a_name_is_looked_up_in_the_pool),
    };

    log_set_level(NULL, LVL_ERROR);
    if (metrics_init(1))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
