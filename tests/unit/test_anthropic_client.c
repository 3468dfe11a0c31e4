/* The Anthropic dialect towards clients: requests, answers, streams, and bodies that pass through.
 */
#include "providers/dialect/anthropic.h"
#include "tests/unit/dialect_test.h"

#define D (&dialect_anthropic)
#define ALL_CAPABILITIES 0xffffu

static const struct registry_provider anthropic = {
    .name = "anthropic", .dialect = &dialect_anthropic, .api_key = {"sk", 2}};
static const struct registry_provider openai = {
    .name = "openai", .dialect = &dialect_openai, .use_max_completion_tokens = true};
static const struct registry_provider google = {.name = "google", .dialect = &dialect_google};

static struct registry_model model_of(const struct registry_provider *p)
{
    return (struct registry_model){.id = {"p/up", 4},
                                   .name = {"up", 2},
                                   .provider = p,
                                   .listed = true,
                                   .max_output_tokens = 8192,
                                   .capabilities = ALL_CAPABILITIES};
}

static struct json parsed(struct slice text)
{
    struct json root;

    if (json_parse(arena, text, NULL, &root, NULL))
        fail_msg("no JSON: %.*s", SLICE_ARG(text));
    return root;
}

static struct convo *decoded(struct slice body, struct convo_report *rep)
{
    struct convo *c = NULL;
    enum gw_err err = D->decode_request(arena, parsed(body), &c, rep);

    if (err)
        fail_msg("%s at %.*s: %.*s", err_info(err)->name, SLICE_ARG(rep->refused),
                 SLICE_ARG(rep->why));
    return c;
}

static bool has_dropped(const struct convo_report *rep, const char *field)
{
    for (unsigned i = 0; i < rep->n_dropped; i++)
        if (strcmp(rep->dropped[i], field) == 0)
            return true;
    return false;
}

/* --- requests ------------------------------------------------------------------------------- */

static struct encoded told_to(const struct registry_provider *p, const char *file)
{
    struct convo_report rep = {0};
    struct registry_model m = model_of(p);

    return encode(p->dialect, decoded(golden(file), &rep), &m);
}

static void test_everything_a_client_can_say_reaches_openai(void **state)
{
    struct encoded e = told_to(&openai, "anthropic/client_everything.json");

    assert_request(&e, "anthropic/client_to_openai.json");
    assert_true(was_dropped(&e, "tool_result.is_error"));
    assert_true(was_dropped(&e, "thinking_blocks"));
    assert_true(was_dropped(&e, "tools.web_search_20250305"));
    assert_true(was_dropped(&e, "cache_control"));
}

static void test_everything_a_client_can_say_reaches_google(void **state)
{
    struct encoded e = told_to(&google, "anthropic/client_everything.json");

    assert_request(&e, "anthropic/client_to_google.json");
}

static void test_everything_a_client_can_say_reaches_anthropic(void **state)
{
    struct encoded e = told_to(&anthropic, "anthropic/client_everything.json");

    assert_request(&e, "anthropic/client_to_anthropic.json");
}

static void test_what_no_other_dialect_knows_is_named(void **state)
{
    struct convo_report rep = {0};

    decoded(golden("anthropic/client_everything.json"), &rep);
    assert_true(has_dropped(&rep, "container"));
    assert_true(has_dropped(&rep, "messages.content.citations"));
    assert_false(has_dropped(&rep, "metadata"));
}

static const struct registry_model *with_quirks(struct registry_model *m, const char *quirk)
{
    static struct slice quirks[2];

    quirks[0] = SLICE("native_schema");
    quirks[1] = slice_cstr(quirk);
    m->quirks = quirks;
    m->n_quirks = 2;
    return m;
}

static void test_a_request_of_this_dialect_survives_there_and_back(void **state)
{
    static const struct {
        const char *quirk, *body;
    } rows[] = {
        {"x", "{\"model\":\"up\",\"max_tokens\":3000,\"messages\":[{\"role\":\"user\",\"content\":["
              "{\"type\":\"text\",\"text\":\"hi\"}]}],\"thinking\":{\"type\":\"enabled\","
              "\"budget_tokens\":2000}}"},
        {"adaptive_thinking",
         "{\"model\":\"up\",\"max_tokens\":3000,\"messages\":[{\"role\":\"user\",\"content\":["
         "{\"type\":\"text\",\"text\":\"hi\"}]}],\"output_config\":{\"effort\":\"high\"},"
         "\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"},\"stream\":true}"},
        {"adaptive_thinking",
         "{\"model\":\"up\",\"max_tokens\":3000,\"messages\":[{\"role\":\"user\",\"content\":["
         "{\"type\":\"text\",\"text\":\"hi\"}]}],\"thinking\":{\"type\":\"disabled\"}}"},
        {"x", "{\"model\":\"up\",\"max_tokens\":30,\"messages\":[{\"role\":\"user\",\"content\":["
              "{\"type\":\"text\",\"text\":\"hi\"}]}],\"output_config\":{\"format\":{\"type\":"
              "\"json_schema\",\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":"
              "\"string\"}},\"required\":[\"a\"],\"additionalProperties\":false}}}}"},
        {"x", "{\"model\":\"up\",\"max_tokens\":30,\"messages\":[{\"role\":\"user\",\"content\":["
              "{\"type\":\"text\",\"text\":\"hi\"}]}],\"tools\":[{\"name\":\"t\",\"input_schema\":"
              "{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"tool\",\"name\":\"t\","
              "\"disable_parallel_tool_use\":false},\"top_k\":7,\"stop_sequences\":[\"a\",\"b\"]}"},
        {"x", "{\"model\":\"up\",\"max_tokens\":30,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],"
              "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"document\",\"source\":"
              "{\"type\":\"url\",\"url\":\"https://e.org/a.pdf\"}}]},{\"role\":\"assistant\","
              "\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]}"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct registry_model m = model_of(&anthropic);
        struct convo_report rep = {0};
        struct convo *c = decoded(slice_cstr(rows[i].body), &rep);
        struct encoded e = encode(D, c, with_quirks(&m, rows[i].quirk));

        assert_int_equal(e.err, GW_OK);
        assert_json(e.body, slice_cstr(rows[i].body));
        assert_int_equal(e.rep.n_dropped + rep.n_dropped, 0);
    }
}

static void test_the_system_comes_first_wherever_its_member_stands(void **state)
{
    struct convo_report rep = {0};
    struct convo *c = decoded(SLICE("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                                    "\"a\"}],\"system\":\"s\"}"),
                              &rep);

    assert_int_equal(c->turns->role, CONVO_SYSTEM);
    assert_int_equal(c->turns->next->role, CONVO_USER);
    assert_null(c->turns->next->next);
    assert_ptr_equal(c->last_turn, c->turns->next);
}

static void test_thinking_and_effort_mean_the_same_in_any_order(void **state)
{
    static const struct {
        const char *members;
        enum convo_effort effort;
        int64_t budget;
    } rows[] = {
        {"\"thinking\":{\"type\":\"adaptive\"}", CONVO_EFFORT_MEDIUM, -1},
        {"\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"low\"}",
         CONVO_EFFORT_LOW, -1},
        {"\"output_config\":{\"effort\":\"low\"},\"thinking\":{\"type\":\"adaptive\"}",
         CONVO_EFFORT_LOW, -1},
        {"\"output_config\":{\"effort\":\"max\"},\"thinking\":{\"type\":\"disabled\"}",
         CONVO_EFFORT_UNSET, 0},
        {"\"thinking\":{\"type\":\"disabled\"},\"output_config\":{\"effort\":\"max\"}",
         CONVO_EFFORT_UNSET, 0},
        {"\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5000}", CONVO_EFFORT_UNSET, 5000},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo_report rep = {0};
        struct convo *c =
            decoded(arena_printf(arena,
                                 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                                 "\"a\"}],%s}",
                                 rows[i].members),
                    &rep);

        assert_int_equal(c->effort, rows[i].effort);
        assert_int_equal(c->thinking_budget, rows[i].budget);
    }
}

static void test_what_is_wrong_is_refused_by_its_place(void **state)
{
    static const struct {
        const char *body, *place;
    } rows[] = {
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "model"},
        {"{\"model\":1,\"messages\":[]}", "model"},
        {"{\"model\":\"m\"}", "messages"},
        {"{\"model\":\"m\",\"messages\":{}}", "messages"},
        {"{\"model\":\"m\",\"messages\":[1]}", "messages.0"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", "messages.0.content"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{}]}]}",
         "messages.0.content.0.type"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_use\","
         "\"id\":\"x\",\"name\":\"y\",\"input\":{}}]}]}",
         "messages.0.content.0.type"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":"
         "\"tool_use\",\"id\":\"x\",\"name\":\"y\",\"input\":\"{}\"}]}]}",
         "messages.0.content.0.input"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\","
         "\"source\":{\"type\":\"url\",\"url\":\"file:///etc/passwd\"}}]}]}",
         "messages.0.content.0.source.url"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
         "\"tool_use_id\":\"x\",\"content\":[{\"type\":\"text\",\"text\":7}]}]}]}",
         "messages.0.content.0.content.0.text"},
        {"{\"model\":\"m\",\"system\":[{\"type\":\"image\"}],\"messages\":[]}", "system.0.type"},
        {"{\"model\":\"m\",\"messages\":[],\"stream\":\"yes\"}", "messages"},
        {"{\"model\":\"m\",\"stream\":\"yes\"}", "stream"},
        {"{\"model\":\"m\",\"top_p\":1.5}", "top_p"},
        {"{\"model\":\"m\",\"max_tokens\":1.5}", "max_tokens"},
        {"{\"model\":\"m\",\"metadata\":{\"user_id\":5}}", "metadata.user_id"},
        {"{\"model\":\"m\",\"output_config\":{\"effort\":\"extreme\"}}", "output_config.effort"},
        {"{\"model\":\"m\",\"output_format\":{\"type\":\"json_schema\"}}", "output_format.schema"},
        {"{\"model\":\"m\",\"tools\":[{\"name\":\"t\",\"input_schema\":{}},{\"input_schema\":{}}]}",
         "tools.1.name"},
        {"{\"model\":\"m\",\"tool_choice\":{\"type\":\"tool\"}}", "tool_choice.name"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct convo_report rep = {0};
        struct convo *c = NULL;

        assert_int_equal(D->decode_request(arena, parsed(slice_cstr(rows[i].body)), &c, &rep),
                         GW_ESCHEMA);
        assert_null(c);
        assert_true(rep.why.n > 0);
        if (!slice_is(rep.refused, rows[i].place))
            fail_msg("%s: %.*s", rows[i].body, SLICE_ARG(rep.refused));
    }
}

static void test_a_member_given_twice_is_refused(void **state)
{
    struct convo_report rep = {0};
    struct convo *c = NULL;

    assert_int_equal(
        D->decode_request(arena, parsed(SLICE("{\"model\":\"a\",\"model\":\"b\"}")), &c, &rep),
        GW_EBADREQ);
}

/* --- what goes out: checked for its grammar, and read back ------------------------------------ */

struct grammar {
    bool started, open, over, failed, stopped;
    int64_t index;
};

static enum gw_err on_written(const struct sse_event *ev, void *arg)
{
    struct grammar *g = arg;
    struct json root = parsed(ev->data), type = json_get(root, "type");
    int64_t index = -1;

    assert_true(slice_eq(json_str(type), ev->type));
    assert_false(g->over || g->failed);
    (void)json_int(json_get(root, "index"), &index);
    if (json_str_is(type, "message_start")) {
        assert_false(g->started);
        g->started = true;
    } else if (json_str_is(type, "content_block_start")) {
        assert_true(g->started && !g->open && !g->stopped && index == g->index);
        g->open = true;
    } else if (json_str_is(type, "content_block_delta")) {
        assert_true(g->open && index == g->index);
    } else if (json_str_is(type, "content_block_stop")) {
        assert_true(g->open && index == g->index);
        g->open = false;
        g->index++;
    } else if (json_str_is(type, "message_delta")) {
        assert_true(g->started && !g->open && !g->stopped);
        g->stopped = true;
    } else if (json_str_is(type, "message_stop")) {
        assert_true(g->stopped);
        g->over = true;
    } else if (json_str_is(type, "error")) {
        g->failed = true;
    } else {
        assert_true(json_str_is(type, "ping") && g->started);
    }
    return GW_OK;
}

static struct grammar check_grammar(struct slice bytes)
{
    struct grammar g = {0};
    struct sse_parser p;

    sse_init(&p, 1u << 20, on_written, &g);
    assert_int_equal(sse_feed(&p, bytes), GW_OK);
    assert_false(sse_has_partial(&p));
    sse_deinit(&p);
    return g;
}

struct writing {
    struct dialect_encoder *e;
    struct convo_builder *b;
    struct buf out;
};

static enum gw_err on_event(const struct convo_event *ev, void *arg)
{
    struct writing *w = arg;
    enum gw_err err = D->encode_event(w->e, ev, &w->out);

    return err ? err : convo_builder_event(ev, w->b);
}

static struct writing writing_new(void)
{
    struct convo_report rep = {0};
    struct convo *c = decoded(SLICE("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                                    "\"twenty bytes of text\"}]}"),
                              &rep);
    struct writing w = {.e = D->encoder_new(arena, c, SLICE("up"), 1),
                        .b = convo_builder_new(arena, TEST_BYTES / 8)};

    assert_non_null(w.e);
    buf_init(&w.out, TEST_BYTES);
    return w;
}

static struct slice written(struct writing *w)
{
    struct slice text = arena_dup(arena, buf_slice(&w->out));

    buf_deinit(&w->out);
    return text;
}

static struct slice whole_of(struct writing *w)
{
    struct slice text;
    struct buf out;

    buf_init(&out, TEST_BYTES);
    D->encode_answer(convo_builder_answer(w->b), SLICE("up"), 1, &out);
    assert_int_equal(buf_err(&out), GW_OK);
    text = arena_dup(arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

/* Encodes a run of events as a stream. */
static struct slice streamed(const struct convo_event *evs, size_t n)
{
    struct writing w = writing_new();

    for (size_t i = 0; i < n; i++)
        assert_int_equal(on_event(&evs[i], &w), GW_OK);
    return written(&w);
}

#define STREAMED(evs) streamed((evs), sizeof(evs) / sizeof((evs)[0]))
#define EV(k, ...) ((struct convo_event){.kind = CONVO_EV_##k, __VA_ARGS__})
#define S(lit)                                                                                     \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }

static void test_a_stream_looks_as_the_vendor_documents_it(void **state)
{
    const struct convo_event evs[] = {
        EV(START, .id = S("x1")),
        EV(REASONING, .part = 0, .text = S("Hmm.")),
        EV(SIGNATURE, .part = 0, .text = S("c2ln")),
        EV(TEXT, .part = 1, .text = S("Hello\n")),
        EV(PING, .part = 0),
        EV(TEXT, .part = 1, .text = S("there")),
        EV(TOOL_BEGIN, .part = 2, .id = S("call_1"), .name = S("f"), .text = S("U0lH")),
        EV(TOOL_ARGS, .part = 2, .text = S("{\"a\":")),
        EV(TOOL_ARGS, .part = 2, .text = S("1}")),
        EV(TOOL_BEGIN, .part = 3, .tool = 1, .id = S("call_2"), .name = S("g")),
        EV(FINISH, .stop = CONVO_STOP_TOOLS),
        EV(USAGE, .usage = {.known = true,
                            .input = 100,
                            .cache_read = 60,
                            .cache_write = 30,
                            .output = 9,
                            .reasoning = 4}),
        EV(END, .part = 0),
    };
    struct slice got = STREAMED(evs);

    assert_true(check_grammar(got).over);
    assert_shown(got, golden("anthropic/client_stream.sse"));
}

static void test_parallel_calls_wait_for_each_other(void **state)
{
    const struct convo_event evs[] = {
        EV(TOOL_BEGIN, .part = 0, .id = S("a"), .name = S("f")),
        EV(TOOL_BEGIN, .part = 1, .id = S("b"), .name = S("g")),
        EV(TOOL_ARGS, .part = 1, .text = S("{\"y\"")),
        EV(TOOL_ARGS, .part = 0, .text = S("{\"x\":\"}\\\"")),
        EV(TOOL_ARGS, .part = 1, .text = S(":2}")),
        EV(TOOL_ARGS, .part = 0, .text = S("{\"}")),
        EV(TOOL_ARGS, .part = 0, .text = S(" \n")),
        EV(FINISH, .stop = CONVO_STOP_TOOLS),
        EV(END, .part = 0),
    };
    struct slice got = STREAMED(evs);
    enum gw_err err;

    assert_int_equal(check_grammar(got).index, 2);
    got = show_stream(D, NULL, NULL, got, &err);
    assert_non_null(memmem(got.p, got.n, "{\"x\":\"}\\\"{\"}", 12));
    assert_non_null(memmem(got.p, got.n, "{\"y\":2}", 7));
}

static void test_without_numbers_of_the_provider_the_usage_is_an_estimate(void **state)
{
    const struct convo_event evs[] = {EV(TEXT, .text = S("eight by")), EV(FINISH, .part = 0),
                                      EV(END, .part = 0)};
    struct slice got = STREAMED(evs);

    assert_non_null(memmem(got.p, got.n, "\"usage\":{\"input_tokens\":5,", 26));
    assert_non_null(memmem(got.p, got.n, "\"output_tokens\":2}", 18));
}

static void test_an_error_ends_the_stream_and_nothing_follows(void **state)
{
    static const struct {
        enum gw_err err;
        const char *type;
    } rows[] = {{GW_EUPSTREAM, "api_error"},
                {GW_EUPRATE, "rate_limit_error"},
                {GW_EDEADLINE, "timeout_error"},
                {GW_EOVERLOAD, "overloaded_error"},
                {GW_OK, "api_error"}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct convo_event evs[] = {EV(TEXT, .text = S("x")),
                                          EV(ERROR, .err = rows[i].err, .text = S("it \"broke\"")),
                                          EV(TEXT, .text = S("y")), EV(END, .part = 0)};
        struct slice got = STREAMED(evs);
        struct slice want = arena_printf(
            arena,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":"
            "\"it \\\"broke\\\"\"}}\n\n",
            rows[i].type);

        assert_true(check_grammar(got).failed);
        assert_true(got.n > want.n && memcmp(got.p + got.n - want.n, want.p, want.n) == 0);
    }
}

static void test_stop_reasons_are_the_vendors(void **state)
{
    static const struct {
        enum convo_stop stop;
        enum convo_event_kind before;
        const char *word;
    } rows[] = {
        {CONVO_STOP_DONE, CONVO_EV_TEXT, "\"end_turn\""},
        {CONVO_STOP_DONE, CONVO_EV_TOOL_BEGIN, "\"tool_use\""},
        {CONVO_STOP_DONE, CONVO_EV_REFUSAL, "\"refusal\""},
        {CONVO_STOP_TOOLS, CONVO_EV_TOOL_BEGIN, "\"tool_use\""},
        {CONVO_STOP_STRING, CONVO_EV_TEXT, "\"stop_sequence\",\"stop_sequence\":\"###\""},
        {CONVO_STOP_LENGTH, CONVO_EV_TEXT, "\"max_tokens\""},
        {CONVO_STOP_FILTERED, CONVO_EV_TEXT, "\"refusal\""},
        {CONVO_STOP_PAUSED, CONVO_EV_TEXT, "\"pause_turn\""},
        {CONVO_STOP_OTHER, CONVO_EV_TEXT,
         "\"end_turn\",\"stop_sequence\":null,\"postern_stop_reason\":\"odd\""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct convo_event evs[] = {
            {.kind = rows[i].before, .id = S("i"), .name = S("n"), .text = S("t")},
            EV(FINISH, .stop = rows[i].stop, .stop_raw = S("odd"), .stop_string = S("###")),
            EV(END, .part = 0)};
        struct slice want = arena_printf(arena, "\"stop_reason\":%s", rows[i].word);
        struct slice got = STREAMED(evs);

        if (!memmem(got.p, got.n, want.p, want.n))
            fail_msg("no %.*s in %.*s", SLICE_ARG(want), SLICE_ARG(got));
    }
}

static void test_blocks_of_other_vendors_are_no_blocks_here(void **state)
{
    const struct convo_event evs[] = {
        EV(TEXT, .part = 0, .text = S("a")),
        EV(OPAQUE, .part = 1, .name = S("executableCode"), .text = S("{\"executableCode\":{}}")),
        EV(OPAQUE, .part = 2, .name = S("server_tool_use"),
           .text = S("{\"type\":\"server_tool_use\",\n\"id\":\"s\"}")),
        EV(FINISH, .stop = CONVO_STOP_DONE), EV(END, .part = 0)};
    struct writing w = writing_new();
    struct slice whole;

    for (size_t i = 0; i < sizeof(evs) / sizeof(evs[0]); i++)
        assert_int_equal(on_event(&evs[i], &w), GW_OK);
    whole = whole_of(&w);
    assert_int_equal(check_grammar(written(&w)).index, 2);
    assert_int_equal(json_count(json_get(parsed(whole), "content")), 2);
}

/* --- properties ------------------------------------------------------------------------------- */

static uint64_t seed;

static unsigned pick(unsigned n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(seed >> 33) % n;
}

static struct slice pick_text(void)
{
    static const char *const texts[] = {"a",
                                        "\n\nevent: message_stop\ndata: {}\n\n",
                                        "\"}",
                                        "h\xc3\xa9",
                                        "[DONE]",
                                        "\\",
                                        "{\"type\":\"tool_use\"}"};

    return slice_cstr(texts[pick(sizeof(texts) / sizeof(texts[0]))]);
}

/* Gives `text` in pieces of any size. */
static void in_pieces(struct writing *w, struct convo_event ev, struct slice text)
{
    while (text.n) {
        size_t n = 1 + pick((unsigned)text.n);

        while (n < text.n && ((unsigned char)text.p[n] & 0xc0) == 0x80)
            n++;
        ev.text = slice_of(text.p, n);
        assert_int_equal(on_event(&ev, w), GW_OK);
        text = slice_from(text, n);
    }
}

static void random_part(struct writing *w, unsigned part, unsigned *tools)
{
    struct slice id;

    switch (pick(4)) {
    case 0:
        in_pieces(w, EV(TEXT, .part = part), pick_text());
        break;
    case 1:
        in_pieces(w, EV(REASONING, .part = part), pick_text());
        if (pick(2))
            assert_int_equal(on_event(&EV(SIGNATURE, .part = part, .text = S("c2ln")), w), GW_OK);
        break;
    case 2:
        assert_int_equal(on_event(&EV(REDACTED, .part = part, .text = S("cmVk")), w), GW_OK);
        break;
    default:
        id = arena_printf(arena, "call_%u", part);
        assert_int_equal(
            on_event(&EV(TOOL_BEGIN, .part = part, .tool = *tools, .id = id, .name = S("f")), w),
            GW_OK);
        if (pick(4))
            in_pieces(w, EV(TOOL_ARGS, .part = part, .tool = *tools),
                      SLICE("{\"k\":[\"}\",{\"\\\"\":\"{\"}]}"));
        ++*tools;
        break;
    }
    if (pick(2))
        assert_int_equal(on_event(&EV(PART_END, .part = part), w), GW_OK);
}

static void test_any_answer_reads_the_same_whole_and_streamed(void **state)
{
    for (seed = 1; seed < 400; seed++) {
        uint64_t kept = seed;
        struct writing w = writing_new();
        unsigned parts = 1 + pick(6), tools = 0;
        struct convo_usage usage = {.known = true,
                                    .input = 50 + pick(50),
                                    .cache_read = pick(20),
                                    .cache_write = pick(20),
                                    .output = pick(99)};
        struct slice bytes, whole;
        enum gw_err err;

        assert_int_equal(on_event(&EV(START, .id = S("msg_1")), &w), GW_OK);
        for (unsigned i = 0; i < parts; i++)
            random_part(&w, i, &tools);
        assert_int_equal(
            on_event(&EV(FINISH, .stop = tools ? CONVO_STOP_TOOLS : CONVO_STOP_DONE), &w), GW_OK);
        assert_int_equal(on_event(&EV(USAGE, .usage = usage), &w), GW_OK);
        assert_int_equal(on_event(&EV(END, .part = 0), &w), GW_OK);
        whole = show_whole(D, NULL, NULL, whole_of(&w));
        bytes = written(&w);
        assert_true(check_grammar(bytes).over);
        assert_shown(show_stream(D, NULL, NULL, bytes, &err), whole);
        assert_int_equal(err, GW_OK);
        seed = kept;
        arena = arena_destroy(arena);
        arena = arena_create(TEST_BYTES);
    }
}

static void test_the_vendors_own_answers_survive_there_and_back(void **state)
{
    static const char *const stems[] = {"text", "tools", "thinking"};

    for (size_t i = 0; i < sizeof(stems) / sizeof(stems[0]); i++) {
        struct slice sse = golden(arena_printf(arena, "anthropic/%s.sse", stems[i]).p);
        struct writing w = writing_new();
        struct slice bytes, whole, want;
        enum gw_err err;

        want = show_stream(D, NULL, NULL, sse, &err);
        err = D->decode_answer(arena, NULL, NULL,
                               golden(arena_printf(arena, "anthropic/%s.json", stems[i]).p),
                               on_event, &w);
        assert_int_equal(err, GW_OK);
        whole = show_whole(D, NULL, NULL, whole_of(&w));
        bytes = written(&w);
        bytes = show_stream(D, NULL, NULL, bytes, &err);
        assert_shown(bytes, whole);
        /* all but the name, which is the one shown to the client */
        assert_true(slice_find(want, '\n') < want.n);
        assert_shown(slice_from(whole, slice_find(whole, '\n')),
                     slice_from(want, slice_find(want, '\n')));
    }
}

/* A conversation this dialect can say comes back as it went. */
static void test_any_conversation_survives_there_and_back(void **state)
{
    for (seed = 1; seed < 300; seed++) {
        uint64_t kept = seed;
        struct registry_model m = model_of(&anthropic);
        struct convo *c = convo_new(arena);
        struct convo_report rep = {0};
        struct encoded first, second;
        unsigned turns = 1 + pick(4);

        c->model = SLICE("up");
        c->max_tokens = 1 + pick(5000);
        c->stream = pick(2);
        if (pick(2))
            add_text(c, CONVO_SYSTEM, "sys");
        if (pick(2))
            add_tool(c, "f", "{\"type\":\"object\"}")->strict = (int)pick(2) - 1;
        for (unsigned i = 0; i < turns; i++) {
            struct convo_turn *t;
            struct convo_part *p;

            add_text(c, CONVO_USER, pick_text().p);
            p = convo_add_part(c, c->last_turn, pick(2) ? CONVO_IMAGE : CONVO_FILE);
            p->mime = p->kind == CONVO_IMAGE ? SLICE("image/png") : SLICE("application/pdf");
            p->data = SLICE("aGk=");
            t = convo_add_turn(c, CONVO_ASSISTANT);
            if (pick(2)) {
                p = convo_add_part(c, t, CONVO_REASONING);
                p->text = pick_text();
                p->signature = SLICE("c2ln");
            }
            add_call(c, t, "call_1", "f", "{\"a\": 1.0}");
            t = convo_add_turn(c, CONVO_USER);
            p = add_result(c, t, "call_1", "ok");
            p->is_error = pick(2);
        }
        first = encode(D, c, &m);
        assert_int_equal(first.err, GW_OK);
        second = encode(D, decoded(first.body, &rep), &m);
        assert_int_equal(second.err, GW_OK);
        assert_shown(second.body, first.body);
        assert_int_equal(rep.n_dropped, 0);
        seed = kept;
        arena = arena_destroy(arena);
        arena = arena_create(TEST_BYTES);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_everything_a_client_can_say_reaches_openai),
        T(test_everything_a_client_can_say_reaches_google),
        T(test_everything_a_client_can_say_reaches_anthropic),
        T(test_what_no_other_dialect_knows_is_named),
        T(test_a_request_of_this_dialect_survives_there_and_back),
        T(test_the_system_comes_first_wherever_its_member_stands),
        T(test_thinking_and_effort_mean_the_same_in_any_order),
        T(test_what_is_wrong_is_refused_by_its_place),
        T(test_a_member_given_twice_is_refused),
        T(test_a_stream_looks_as_the_vendor_documents_it),
        T(test_parallel_calls_wait_for_each_other),
        T(test_without_numbers_of_the_provider_the_usage_is_an_estimate),
        T(test_an_error_ends_the_stream_and_nothing_follows),
        T(test_stop_reasons_are_the_vendors),
        T(test_blocks_of_other_vendors_are_no_blocks_here),
        T(test_any_answer_reads_the_same_whole_and_streamed),
        T(test_the_vendors_own_answers_survive_there_and_back),
        T(test_any_conversation_survives_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
