/* Tests of providers/convo.c. */
#include "tests/unit/openai_harness.h"

static struct convo_builder *builder;

static int setup_builder(void **state)
{
    if (setup(state))
        return -1;
    builder = convo_builder_new(arena, 1000);
    return builder ? 0 : -1;
}

#define B(name) cmocka_unit_test_setup_teardown(name, setup_builder, teardown)

static enum gw_err give(struct convo_event ev)
{
    return convo_builder_event(&ev, builder);
}

#define OK(...) assert_int_equal(give((struct convo_event){__VA_ARGS__}), GW_OK)

static const struct convo_out_part *nth(const struct convo_answer *a, unsigned n)
{
    const struct convo_out_part *p = a->parts;

    while (p && n--)
        p = p->next;
    assert_non_null(p);
    return p;
}

static void test_a_new_convo_has_nothing_set(void **state)
{
    struct convo *c = convo_new(arena);

    assert_int_equal(c->parallel_tools, -1);
    assert_int_equal(c->schema_strict, -1);
    assert_int_equal(c->thinking_budget, -1);
    assert_int_equal(c->include_thoughts, -1);
    assert_int_equal(c->logprobs, -1);
    assert_int_equal(c->top_logprobs, -1);
    assert_int_equal(c->max_tokens, 0);
    assert_int_equal(convo_needs(c), 0);
    assert_int_equal(convo_estimate_tokens(c), 0);
    assert_int_equal(convo_add_tool(c, SLICE("f"))->strict, -1);
}

static void test_turns_parts_and_tools_keep_their_order(void **state)
{
    struct convo *c = convo_new(arena);
    struct convo_turn *t = convo_add_turn(c, CONVO_SYSTEM), *u = convo_add_turn(c, CONVO_USER);
    struct convo_part *p = convo_add_part(c, u, CONVO_TEXT);
    struct convo_part *q = convo_add_part(c, u, CONVO_IMAGE);

    convo_add_tool(c, SLICE("a"));
    convo_add_tool(c, SLICE("b"));
    assert_ptr_equal(c->turns, t);
    assert_ptr_equal(t->next, u);
    assert_null(u->next);
    assert_ptr_equal(u->parts, p);
    assert_ptr_equal(p->next, q);
    assert_slice(c->tools->name, "a");
    assert_slice(c->tools->next->name, "b");
}

static void test_needs_are_found_also_inside_tool_results(void **state)
{
    struct convo *c = convo_new(arena);
    struct convo_turn *u = convo_add_turn(c, CONVO_USER);
    struct convo_part *r = convo_add_part(c, u, CONVO_TOOL_RESULT);

    assert_int_equal(convo_needs(c), CONVO_NEEDS_TOOLS);
    r->content = arena_new(arena, struct convo_part);
    r->content->kind = CONVO_IMAGE;
    assert_int_equal(convo_needs(c), CONVO_NEEDS_TOOLS | CONVO_NEEDS_VISION);
    convo_add_part(c, u, CONVO_FILE)->mime = SLICE("text/plain");
    assert_int_equal(convo_needs(c), CONVO_NEEDS_TOOLS | CONVO_NEEDS_VISION);
    convo_add_part(c, u, CONVO_FILE)->mime = SLICE("application/pdf");
    convo_add_part(c, u, CONVO_AUDIO);
    c->format = CONVO_FORMAT_SCHEMA;
    c->effort = CONVO_EFFORT_NONE;
    assert_int_equal(convo_needs(c), CONVO_NEEDS_TOOLS | CONVO_NEEDS_VISION | CONVO_NEEDS_PDF |
                                         CONVO_NEEDS_AUDIO | CONVO_NEEDS_SCHEMA);
    c->effort = CONVO_EFFORT_LOW;
    assert_true(convo_needs(c) & CONVO_NEEDS_REASONING);
}

static void test_tokens_are_estimated_by_kind(void **state)
{
    struct convo *c = convo_new(arena);
    struct convo_turn *u = convo_add_turn(c, CONVO_USER);
    struct convo_part *file;

    convo_add_part(c, u, CONVO_TEXT)->text = SLICE("0123456789abcdef");
    assert_int_equal(convo_estimate_tokens(c), 4);
    convo_add_part(c, u, CONVO_IMAGE)->data = SLICE("xxxx");
    assert_int_equal(convo_estimate_tokens(c), 1004);
    file = convo_add_part(c, u, CONVO_FILE);
    file->data = slice_of(file->data.p, 500);
    assert_int_equal(convo_estimate_tokens(c), 1014);
    convo_add_tool(c, SLICE("name"))->schema = SLICE("{\"a\":1} ");
    assert_int_equal(convo_estimate_tokens(c), 1017);
}

static void test_a_field_is_noted_as_dropped_once_and_the_table_has_an_end(void **state)
{
    struct convo_report rep = {.n_dropped = 0};

    convo_drop(&rep, "a");
    convo_drop(&rep, "b");
    convo_drop(&rep, "a");
    convo_drop(NULL, "a");
    assert_int_equal(rep.n_dropped, 2);
    for (unsigned i = 0; i < 50; i++)
        convo_drop(&rep, arena_printf(arena, "f%u", i).p);
    assert_int_equal(rep.n_dropped, CONVO_MAX_DROPPED);
    assert_int_equal(convo_refuse(&rep, GW_ESCHEMA, SLICE("/x"), SLICE("No")), GW_ESCHEMA);
    assert_slice(rep.refused, "/x");
    assert_slice(rep.why, "No");
}

static void test_pieces_become_parts_in_the_order_they_began(void **state)
{
    const struct convo_answer *a;

    OK(.kind = CONVO_EV_START, .id = SLICE("id1"), .model = SLICE("m"));
    OK(.kind = CONVO_EV_REASONING, .part = 0, .text = SLICE("hm"));
    OK(.kind = CONVO_EV_SIGNATURE, .part = 0, .text = SLICE("sig"));
    OK(.kind = CONVO_EV_REDACTED, .part = 1, .text = SLICE("blob"));
    OK(.kind = CONVO_EV_TEXT, .part = 2, .text = SLICE("Hel"));
    OK(.kind = CONVO_EV_PING);
    OK(.kind = CONVO_EV_TEXT, .part = 2, .text = SLICE("lo"));
    OK(.kind = CONVO_EV_TOOL_BEGIN, .part = 3, .id = SLICE("c1"), .name = SLICE("f"),
       .text = SLICE("ts"));
    OK(.kind = CONVO_EV_TOOL_BEGIN, .part = 4, .tool = 1, .id = SLICE("c2"), .name = SLICE("g"));
    OK(.kind = CONVO_EV_TOOL_ARGS, .part = 3, .text = SLICE("{\"a\""));
    OK(.kind = CONVO_EV_TOOL_ARGS, .part = 3, .text = SLICE(":1}"));
    OK(.kind = CONVO_EV_OPAQUE, .part = 2, .name = SLICE("note"), .text = SLICE("[1]"));
    OK(.kind = CONVO_EV_USAGE, .usage = {.known = true, .input = 5, .output = 1});
    OK(.kind = CONVO_EV_USAGE, .usage = {.known = true, .input = 5, .output = 9});
    OK(.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_TOOLS, .stop_raw = SLICE("tool_use"));
    OK(.kind = CONVO_EV_END);
    OK(.kind = CONVO_EV_TEXT, .part = 9, .text = SLICE("late"));
    a = convo_builder_answer(builder);
    assert_slice(a->id, "id1");
    assert_slice(nth(a, 0)->text, "hm");
    assert_slice(nth(a, 0)->signature, "sig");
    assert_int_equal(nth(a, 1)->kind, CONVO_REDACTED);
    assert_slice(nth(a, 2)->text, "Hello");
    assert_slice(nth(a, 3)->text, "{\"a\":1}");
    assert_slice(nth(a, 3)->signature, "ts");
    assert_slice(nth(a, 4)->text, "{}");
    assert_slice(nth(a, 4)->name, "g");
    assert_int_equal(nth(a, 5)->kind, CONVO_OPAQUE);
    assert_slice(nth(a, 5)->text, "[1]");
    assert_null(nth(a, 5)->next);
    assert_int_equal(a->usage.output, 9);
    assert_int_equal(a->n_choices, 1);
    assert_int_equal(a->finish[0].stop, CONVO_STOP_TOOLS);
    assert_slice(a->finish[0].raw, "tool_use");
    assert_true(a->ended);
}

static void test_a_signature_without_text_is_a_part_of_reasoning(void **state)
{
    OK(.kind = CONVO_EV_SIGNATURE, .part = 0, .text = SLICE("sig"));
    assert_int_equal(nth(convo_builder_answer(builder), 0)->kind, CONVO_REASONING);
    assert_slice(convo_builder_answer(builder)->parts->signature, "sig");
}

static void test_an_error_ends_the_answer_without_an_end(void **state)
{
    const struct convo_answer *a;

    OK(.kind = CONVO_EV_TEXT, .text = SLICE("x"));
    OK(.kind = CONVO_EV_ERROR, .err = GW_EUPRATE, .text = SLICE("slow down"));
    OK(.kind = CONVO_EV_END);
    a = convo_builder_answer(builder);
    assert_false(a->ended);
    assert_int_equal(a->err, GW_EUPRATE);
    assert_slice(a->err_text, "slow down");
}

static void test_the_bounds_of_an_answer_hold(void **state)
{
    char text[1000] = {0};

    memset(text, 'x', sizeof(text));
    assert_int_equal(give((struct convo_event){.kind = CONVO_EV_TEXT, .text = {text, 937}}),
                     GW_ETOOBIG);
    OK(.kind = CONVO_EV_TEXT, .text = {text, 900});
    assert_int_equal(give((struct convo_event){.kind = CONVO_EV_TEXT, .choice = 16}), GW_EUPBAD);
    assert_int_equal(give((struct convo_event){.kind = CONVO_EV_TEXT, .part = 65536}), GW_ETOOBIG);
    assert_int_equal(give((struct convo_event){.kind = CONVO_EV_TOOL_ARGS, .part = 0}),
                     GW_EINTERNAL);
}

static void test_log_probabilities_of_the_pieces_are_joined(void **state)
{
    OK(.kind = CONVO_EV_TEXT, .text = SLICE("a"),
       .raw = SLICE("{\"content\":[{\"t\":1},{\"t\":2}]}"));
    OK(.kind = CONVO_EV_TEXT, .text = SLICE("b"), .raw = SLICE("{\"content\":[]}"));
    OK(.kind = CONVO_EV_TEXT, .text = SLICE("b"), .raw = SLICE("{\"content\":[{\"t\":3}]}"));
    assert_slice(convo_builder_answer(builder)->finish[0].logprobs,
                 "{\"content\":[{\"t\":1},{\"t\":2},{\"t\":3}],\"refusal\":null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_new_convo_has_nothing_set),
        T(test_turns_parts_and_tools_keep_their_order),
        T(test_needs_are_found_also_inside_tool_results),
        T(test_tokens_are_estimated_by_kind),
        T(test_a_field_is_noted_as_dropped_once_and_the_table_has_an_end),
        B(test_pieces_become_parts_in_the_order_they_began),
        B(test_a_signature_without_text_is_a_part_of_reasoning),
        B(test_an_error_ends_the_answer_without_an_end),
        B(test_the_bounds_of_an_answer_hold),
        B(test_log_probabilities_of_the_pieces_are_joined),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
