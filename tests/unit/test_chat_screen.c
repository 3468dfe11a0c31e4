/* test_chat_screen.c - a conversation's prose is looked at, however long, some of it in each turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define screen_tell t_screen_tell
#define request_fail t_request_fail

#include "handlers/chat_screen.c"

#include <stdlib.h>

#define LONG (4u << 20)

static unsigned told, told_kinds, failed, done;
static bool told_refused, passed;

void screen_tell(struct request *req, unsigned kinds, bool refused)
{
    told++;
    told_kinds = kinds;
    told_refused = refused;
}

void request_fail(struct request *req, enum gw_err err, const struct error_detail *d)
{
    failed++;
    assert_int_equal(err, GW_ESCHEMA);
}

static void on_screened(struct chat *c, bool ok)
{
    assert_null(c->screening);
    done++;
    passed = ok;
}

static struct conf conf;
static struct request req = {.conf = &conf};
static struct convo convo;
static struct chat c = {.req = &req, .convo = &convo};
static struct convo_turn turns[3];
static struct convo_part parts[3];

/* Three messages: of the user, the assistant and the user again. */
static void say(const char *policy, struct slice a, struct slice b, struct slice d)
{
    static const enum convo_role roles[] = {CONVO_USER, CONVO_ASSISTANT, CONVO_USER};
    const struct slice texts[] = {a, b, d};

    for (unsigned i = 0; i < 3; i++) {
        parts[i] = (struct convo_part){.kind = CONVO_TEXT, .text = texts[i]};
        turns[i] = (struct convo_turn){
            .role = roles[i], .parts = &parts[i], .next = i < 2 ? &turns[i + 1] : NULL};
    }
    convo.turns = turns;
    conf.free_text_policy = slice_cstr(policy);
    told = told_kinds = failed = done = 0;
}

static struct slice long_text(char fill, const char *end)
{
    char *p = malloc(LONG);
    size_t n = strlen(end);

    assert_non_null(p);
    memset(p, fill, LONG);
    memcpy(p + LONG - n, end, n);
    return slice_of(p, LONG);
}

/* The turns it took. */
static unsigned wait_for_it(void)
{
    unsigned n = 0;

    for (; !done; n++)
        loop_turn();
    return n;
}

static int set_up(void **state)
{
    req.arena = arena_create(1u << 20);
    return req.arena && loop_init() == GW_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    loop_deinit();
    arena_destroy(req.arena);
    return 0;
}

static void test_a_short_one_is_looked_at_at_once(void **state)
{
    say("flag", SLICE("a <script>"), SLICE("; rm -rf"), SLICE("hello"));
    assert_int_equal(chat_screen(&c, on_screened), SCREEN_PASSED);
    assert_int_equal(told_kinds, DETECT_XSS_SCRIPT); /* the assistant's is not looked at */
    assert_int_equal(done, 0);

    say("reject", SLICE("a"), SLICE("b"), SLICE("$(id)"));
    assert_int_equal(chat_screen(&c, on_screened), SCREEN_REFUSED);
    assert_true(told_refused);
    assert_int_equal(failed, 1);

    say("off", SLICE("$(id)"), SLICE("b"), SLICE("$(id)"));
    assert_int_equal(chat_screen(&c, on_screened), SCREEN_PASSED);
    assert_int_equal(told, 0);
}

static void test_a_long_one_is_looked_at_to_its_end_over_turns(void **state)
{
    struct slice first = long_text('x', " <script>"), last = long_text('y', " $(id)");

    say("flag", first, SLICE("b"), last);
    assert_int_equal(chat_screen(&c, on_screened), SCREEN_LATER);
    assert_non_null(c.screening);
    assert_int_equal(told, 0);
    assert_true(wait_for_it() >= 2 * LONG / DETECT_TURN_WORK - 1);
    assert_true(passed);
    assert_int_equal(told, 1);
    assert_int_equal(told_kinds, DETECT_XSS_SCRIPT | DETECT_SHELL_SUBST);

    say("reject", SLICE("a"), SLICE("b"), last);
    assert_int_equal(chat_screen(&c, on_screened), SCREEN_LATER);
    wait_for_it();
    assert_false(passed);
    assert_int_equal(failed, 1);
    free((char *)first.p);
    free((char *)last.p);
}

static void test_one_that_is_given_up_says_nothing(void **state)
{
    struct slice text = long_text('\'', "");

    say("flag", text, SLICE("b"), SLICE("c"));
    assert_int_equal(chat_screen(&c, on_screened), SCREEN_LATER);
    for (unsigned i = 0; i < 3; i++)
        loop_turn();
    op_cancel(&c.screening);
    assert_int_equal(done + told + failed, 0);
    free((char *)text.p); /* nobody looks at it any more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_short_one_is_looked_at_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_one_is_looked_at_to_its_end_over_turns, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_is_given_up_says_nothing, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
