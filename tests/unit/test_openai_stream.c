/* Tests of the OpenAI dialect: streams from providers and towards clients. */
#include "tests/unit/openai_harness.h"

#include "providers/sse.h"

#define WALL_S 1700000000

/* Provider's events in, the client's bytes and an answer out. */
struct relay {
    struct dialect_decoder *from;
    struct dialect_encoder *to;
    struct convo_builder *builder;
    struct buf *out;
};

static struct relay relay_new(bool include_usage)
{
    struct convo *c = convo_new(arena);
    struct relay r = {.out = test_buf()};

    c->include_usage = include_usage;
    r.from = dialect_openai.decoder_new(arena, NULL, NULL);
    r.to = dialect_openai.encoder_new(arena, c, SLICE("shown"), WALL_S);
    r.builder = convo_builder_new(arena, 1u << 20);
    return r;
}

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;
    enum gw_err err = convo_builder_event(ev, r->builder);

    return err ? err : dialect_openai.encode_event(r->to, ev, r->out);
}

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;

    return dialect_openai.decode_event(r->from, ev, on_convo, r);
}

static enum gw_err give(struct relay *r, struct slice data)
{
    return on_sse(&(struct sse_event){.data = data}, r);
}

/* Collects the payloads of an SSE stream as a JSON array. */
static enum gw_err on_payload(const struct sse_event *ev, void *arg)
{
    struct json_writer *w = arg;

    assert_int_equal(ev->type.n, 0);
    if (slice_is(ev->data, "[DONE]"))
        json_put_str(w, ev->data);
    else
        json_put_raw(w, ev->data);
    return GW_OK;
}

static struct json payloads(struct slice bytes)
{
    struct buf *list = test_buf();
    struct sse_parser sse;
    struct json_writer w;

    json_writer_init(&w, list);
    json_arr(&w);
    sse_init(&sse, 1u << 20, on_payload, &w);
    assert_int_equal(sse_feed(&sse, bytes), GW_OK);
    assert_false(sse_has_partial(&sse)); /* whole events only */
    sse_deinit(&sse);
    json_arr_end(&w);
    return parsed(buf_slice(list));
}

static struct json cases(void)
{
    struct json all = parsed(read_source("tests/unit/golden/openai/streams.json"));

    assert_true(json_count(all) > 20);
    return all;
}

static struct slice payload_of(struct json v)
{
    return json_is(v, JSON_STRING) ? json_str(v) : json_raw(v);
}

static void run_case(struct json row)
{
    const char *name = arena_cstr(arena, json_str(json_get(row, "name")));
    struct json in = json_get(row, "in");
    struct relay r = relay_new(json_is(json_get(row, "include_usage"), JSON_TRUE));
    enum gw_err err = GW_OK;

    for (struct json it = json_first(in); json_exists(it) && !err; it = json_next(in, it))
        err = give(&r, payload_of(it));
    if (!err)
        err = dialect_openai.decode_end(r.from, on_convo, &r);
    if (!json_str_is(json_get(row, "err"), err ? err_info(err)->name : "GW_OK"))
        fail_msg("%s: %s", name, err ? err_info(err)->name : "GW_OK");
    assert_json(name, payloads(buf_slice(r.out)), json_get(row, "out"));
}

static void test_streams_are_relayed_as_documented(void **state)
{
    struct json all = cases();

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row))
        run_case(row);
}

/* The input of a golden case as the bytes of a stream. */
static struct slice wire(struct json in)
{
    struct buf *b = test_buf();

    for (struct json it = json_first(in); json_exists(it); it = json_next(in, it))
        sse_write(b, SLICE_NONE, payload_of(it));
    return buf_slice(b);
}

/* Feeds the stream in pieces of `step` bytes. */
static enum gw_err feed(struct relay *r, struct slice bytes, size_t step)
{
    struct sse_parser sse;
    enum gw_err err = GW_OK;

    sse_init(&sse, 1u << 20, on_sse, r);
    for (size_t at = 0; at < bytes.n && !err; at += step)
        err = sse_feed(&sse, slice_of(bytes.p + at, bytes.n - at < step ? bytes.n - at : step));
    sse_deinit(&sse);
    return err;
}

static void test_check_055_a_stream_cut_anywhere_gives_the_same_bytes(void **state)
{
    struct json all = cases();

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct slice bytes = wire(json_get(row, "in"));
        struct relay whole = relay_new(true);
        enum gw_err err = feed(&whole, bytes, bytes.n);

        for (size_t step = 1; step < 40; step += 7) {
            struct relay r = relay_new(true);

            assert_int_equal(feed(&r, bytes, step), err);
            assert_true(slice_eq(buf_slice(r.out), buf_slice(whole.out)));
        }
    }
}

static bool same_part(const struct convo_out_part *a, const struct convo_out_part *b)
{
    return a->kind == b->kind && a->choice == b->choice && a->part == b->part &&
           slice_eq(a->text, b->text) && slice_eq(a->id, b->id) && slice_eq(a->name, b->name) &&
           slice_eq(a->signature, b->signature);
}

static void assert_same_answer(const char *name, const struct convo_answer *a,
                               const struct convo_answer *b)
{
    const struct convo_out_part *x = a->parts, *y = b->parts;

    for (; x && y; x = x->next, y = y->next)
        if (!same_part(x, y))
            fail_msg("%s: part %u: \"%.*s\" \"%.*s\"", name, x->part, SLICE_ARG(x->text),
                     SLICE_ARG(y->text));
    assert_true(!x && !y);
    assert_int_equal(a->n_choices, b->n_choices);
    for (unsigned i = 0; i < a->n_choices; i++) {
        assert_int_equal(a->finish[i].stop, b->finish[i].stop);
        assert_true(slice_eq(a->finish[i].raw, b->finish[i].raw));
    }
    assert_memory_equal(&a->usage, &b->usage, offsetof(struct convo_usage, raw));
    assert_int_equal(a->ended, b->ended);
    assert_true(slice_eq(a->id, b->id));
}

static void put_chunk(struct buf *b, const char *head, const char *key, struct slice text)
{
    buf_printf(b, "data: %s{\"%s\":\"", head, key);
    json_escape(b, text);
    buf_add_cstr(b, "\"}}]}\n\n");
}

/* Splits a text into chunks of two characters, never inside one. */
static void put_chunks(struct buf *b, const char *head, const char *key, struct slice text)
{
    size_t at = 0;

    while (at < text.n) {
        size_t end = at + 2 < text.n ? at + 2 : text.n;

        while (end < text.n && ((unsigned char)text.p[end] & 0xc0) == 0x80)
            end++;
        put_chunk(b, head, key, slice_of(text.p + at, end - at));
        at = end;
    }
}

#define HEAD "{\"id\":\"r\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":"

static void test_a_stream_says_the_same_as_the_whole_answer(void **state)
{
    static const char reasoning[] = "let me \"think\"\n", text[] = "h\xc3\xa9llo \xf0\x9f\x98\x80!";
    static const char args[] = "{\"q\":\"a\\\"b\"}";
    struct buf *whole = test_buf(), *stream = test_buf();
    struct convo_builder *b = convo_builder_new(arena, 1u << 20);
    struct relay r = relay_new(true);

    buf_add_cstr(whole, "{\"id\":\"r\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
                        "\"message\":{\"role\":\"assistant\",\"reasoning_content\":\"");
    json_escape(whole, slice_cstr(reasoning));
    buf_add_cstr(whole, "\",\"content\":\"");
    json_escape(whole, slice_cstr(text));
    buf_add_cstr(whole,
                 "\",\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":"
                 "\"f\",\"arguments\":\"");
    json_escape(whole, slice_cstr(args));
    buf_add_cstr(whole, "\"}}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":3,"
                        "\"completion_tokens\":4}}");
    put_chunks(stream, HEAD, "reasoning_content", slice_cstr(reasoning));
    put_chunks(stream, HEAD, "content", slice_cstr(text));
    buf_add_cstr(stream,
                 "data: " HEAD "{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"function\","
                 "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n\n");
    for (size_t i = 0; i + 1 < sizeof(args); i++) {
        buf_add_cstr(stream,
                     "data: " HEAD "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"");
        json_escape(stream, slice_of(args + i, 1));
        buf_add_cstr(stream, "\"}}]}}]}\n\n");
    }
    buf_add_cstr(
        stream, "data: " HEAD "{},\"finish_reason\":\"tool_calls\"}]}\n\n"
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n"
                "data: [DONE]\n\n");
    assert_int_equal(
        dialect_openai.decode_answer(arena, NULL, NULL, buf_slice(whole), convo_builder_event, b),
        GW_OK);
    assert_int_equal(feed(&r, buf_slice(stream), stream->n), GW_OK);
    assert_same_answer("r", convo_builder_answer(r.builder), convo_builder_answer(b));
    assert_true(convo_builder_answer(b)->ended);
    assert_slice(convo_builder_answer(b)->parts->next->next->text, args);
}

/* What we write is read back by our own decoder as the same answer. */
static void test_what_the_encoder_writes_is_read_back_the_same(void **state)
{
    struct json all = cases();
    unsigned compared = 0;

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        const char *name = arena_cstr(arena, json_str(json_get(row, "name")));
        struct slice bytes = wire(json_get(row, "in"));
        struct relay first = relay_new(true), second = relay_new(true);
        const struct convo_answer *a, *b;

        if (feed(&first, bytes, bytes.n) != GW_OK || !convo_builder_answer(first.builder)->ended)
            continue;
        assert_int_equal(feed(&second, buf_slice(first.out), first.out->n), GW_OK);
        a = convo_builder_answer(first.builder);
        b = convo_builder_answer(second.builder);
        if (a->finish[0].stop != CONVO_STOP_OTHER && a->finish[0].stop == b->finish[0].stop &&
            slice_find(slice_cstr(name), 'g') != 0 && a->parts && a->parts->signature.n == 0) {
            assert_same_answer(name, a, b);
            compared++;
        }
        assert_true(b->ended);
    }
    assert_true(compared >= 12);
}

static enum gw_err encode(struct dialect_encoder *e, struct buf *out, struct convo_event ev)
{
    return dialect_openai.encode_event(e, &ev, out);
}

#define SEND(...) assert_int_equal(encode(e, out, (struct convo_event){__VA_ARGS__}), GW_OK)

static void test_blocks_of_other_dialects_reach_the_client(void **state)
{
    struct dialect_encoder *e = dialect_openai.encoder_new(arena, NULL, SLICE("sh\"own"), WALL_S);
    struct buf *out = test_buf();
    struct json all, delta;

    SEND(.kind = CONVO_EV_START, .id = SLICE("msg_\"1"));
    SEND(.kind = CONVO_EV_PING);
    SEND(.kind = CONVO_EV_SIGNATURE, .part = 0, .text = SLICE("sig"));
    SEND(.kind = CONVO_EV_OPAQUE, .part = 1, .name = SLICE("citation"), .text = SLICE("{\"a\":1}"));
    SEND(.kind = CONVO_EV_TOOL_BEGIN, .part = 2, .id = SLICE("a"), .name = SLICE("f"));
    SEND(.kind = CONVO_EV_PART_END, .part = 2);
    SEND(.kind = CONVO_EV_TOOL_BEGIN, .part = 3, .tool = 1, .id = SLICE("b"), .name = SLICE("g"));
    SEND(.kind = CONVO_EV_TOOL_ARGS, .part = 3, .tool = 1, .text = SLICE("{\"x\":1}"));
    SEND(.kind = CONVO_EV_SIGNATURE, .part = 3, .text = SLICE("ts"));
    SEND(.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_PAUSED, .stop_raw = SLICE("pause_turn"));
    SEND(.kind = CONVO_EV_USAGE, .usage = {.known = true, .input = 1});
    SEND(.kind = CONVO_EV_END);
    SEND(.kind = CONVO_EV_TEXT, .part = 4, .text = SLICE("late"));
    all = payloads(buf_slice(out));
    assert_int_equal(json_count(all), 10);
    delta = json_first(all);
    assert_slice(json_str(json_get(delta, "id")), "chatcmpl-msg_\"1");
    assert_slice(json_str(json_get(delta, "model")), "sh\"own");
    assert_false(json_exists(json_get(delta, "usage")));
    delta = json_next(all, delta);
    assert_json("signature alone", json_get(json_first(json_get(delta, "choices")), "delta"),
                parsed(SLICE("{\"thinking_blocks\":[{\"type\":\"thinking\",\"thinking\":\"\","
                             "\"signature\":\"sig\"}]}")));
    delta = json_next(all, delta);
    assert_json(
        "opaque", json_get(json_first(json_get(delta, "choices")), "delta"),
        parsed(SLICE("{\"postern_opaque\":[{\"kind\":\"citation\",\"value\":{\"a\":1}}]}")));
    delta = json_next(all, json_next(all, delta));
    assert_json(
        "empty arguments at the part's end",
        json_get(json_first(json_get(delta, "choices")), "delta"),
        parsed(SLICE("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}")));
    delta = json_next(all, json_next(all, json_next(all, delta)));
    assert_json("signature of a call", json_get(json_first(json_get(delta, "choices")), "delta"),
                parsed(SLICE("{\"tool_calls\":[{\"index\":1,\"extra_content\":{\"google\":{"
                             "\"thought_signature\":\"ts\"}}}]}")));
    delta = json_first(json_get(json_next(all, delta), "choices"));
    assert_slice(json_str(json_get(delta, "finish_reason")), "stop");
    assert_slice(json_str(json_get(delta, "postern_stop_reason")), "pause_turn");
}

static void test_a_stream_without_an_id_makes_one_and_keeps_it(void **state)
{
    struct dialect_encoder *e = dialect_openai.encoder_new(arena, NULL, SLICE("m"), WALL_S);
    struct buf *out = test_buf();
    struct json all;
    struct slice id;

    SEND(.kind = CONVO_EV_START);
    SEND(.kind = CONVO_EV_TEXT, .text = SLICE("a"));
    all = payloads(buf_slice(out));
    id = json_str(json_get(json_first(all), "id"));
    assert_true(slice_starts(id, "chatcmpl-") && id.n == 33);
    assert_true(slice_eq(id, json_str(json_get(json_next(all, json_first(all)), "id"))));
}

static void test_check_059_an_error_ends_the_stream_without_done(void **state)
{
    struct dialect_encoder *e = dialect_openai.encoder_new(arena, NULL, SLICE("m"), WALL_S);
    struct buf *out = test_buf();

    SEND(.kind = CONVO_EV_ERROR, .err = GW_EUPSTREAM);
    SEND(.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_DONE);
    SEND(.kind = CONVO_EV_END);
    assert_slice(buf_slice(out),
                 "data: {\"error\":{\"message\":\"The provider failed\",\"type\":\"server_error\","
                 "\"param\":null,\"code\":\"provider-failed\"}}\n\n");
}

static void test_check_059_garbage_in_a_stream_is_a_bad_answer(void **state)
{
    static const char *const lines[] = {"{",
                                        "nonsense",
                                        "{\"choices\":[{\"delta\":{}}",
                                        "\"x\"",
                                        "1",
                                        "{\"choices\":[{\"index\":99}]}",
                                        "{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}"};

    for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct relay r = relay_new(false);

        if (give(&r, slice_cstr(lines[i])) != GW_EUPBAD)
            fail_msg("%s", lines[i]);
    }
}

static void test_odd_chunks_are_no_fault(void **state)
{
    static const char *const lines[] = {
        "",
        "{}",
        "{\"choices\":[],\"prompt_filter_results\":[]}",
        "{\"choices\":null}",
        "{\"choices\":[{\"index\":0}]}",
        "{\"choices\":[{\"delta\":null}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":null,\"content\":null,\"new_thing\":[1]}}]}",
        "{\"error\":null,\"usage\":{\"prompt_tokens\":\"many\"}}",
        "{\"object\":\"ping\"}",
        "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}",
        " [DONE] "};
    struct relay r = relay_new(false);

    for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        if (give(&r, slice_cstr(lines[i])) != GW_OK)
            fail_msg("%s", lines[i]);
    assert_true(convo_builder_answer(r.builder)->ended);
    assert_slice(convo_builder_answer(r.builder)->parts->text, "x");
}

static void test_a_client_buffer_that_is_full_is_told(void **state)
{
    struct dialect_encoder *e = dialect_openai.encoder_new(arena, NULL, SLICE("m"), WALL_S);
    struct buf small;

    buf_init(&small, 100);
    assert_int_equal(encode(e, &small, (struct convo_event){.kind = CONVO_EV_START}), GW_ETOOBIG);
    buf_deinit(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_streams_are_relayed_as_documented),
        T(test_check_055_a_stream_cut_anywhere_gives_the_same_bytes),
        T(test_a_stream_says_the_same_as_the_whole_answer),
        T(test_what_the_encoder_writes_is_read_back_the_same),
        T(test_blocks_of_other_dialects_reach_the_client),
        T(test_a_stream_without_an_id_makes_one_and_keeps_it),
        T(test_check_059_an_error_ends_the_stream_without_done),
        T(test_check_059_garbage_in_a_stream_is_a_bad_answer),
        T(test_odd_chunks_are_no_fault),
        T(test_a_client_buffer_that_is_full_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
