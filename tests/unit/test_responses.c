/* Tests of the Responses API towards clients: requests, whole answers, streams. Most cases are rows
 * of tests/unit/golden/responses/; their providers' side is one of the three dialects. */
#include "tests/unit/openai_harness.h"

#include "providers/dialect/responses_wire.h"
#include "providers/sse.h"

#define GOLDEN "tests/unit/golden/responses/"
#define WALL_S 1700000000
#define MAX_BYTES (8u << 20)

static struct json rows(const char *file, unsigned at_least)
{
    struct json all = parsed(read_source(arena_printf(arena, GOLDEN "%s", file).p));

    assert_true(json_count(all) >= at_least);
    return all;
}

static const char *name_of(struct json row)
{
    return arena_cstr(arena, json_str(json_get(row, "name")));
}

static const char *word_of(enum gw_err err)
{
    return err ? err_info(err)->name : "GW_OK";
}

/* --- requests --------------------------------------------------------------------------------- */

static struct convo *understood(struct json asked, struct convo_report *rep)
{
    struct convo *c = NULL;
    enum gw_err err = responses_decode_request(arena, asked, &c, rep);

    if (err)
        fail_msg("%s %.*s: %.*s", word_of(err), SLICE_ARG(rep->refused), SLICE_ARG(rep->why));
    return c;
}

/* What a provider of the row's dialect is sent. */
static struct json sent(struct json row, struct convo_report *rep)
{
    const struct dialect *d = dialect_find(json_str(json_get(row, "dialect")));
    struct dialect_request out = {.body = test_buf()};
    struct convo *c = understood(json_get(row, "in"), rep);
    enum gw_err err;

    provider.name = d->name;
    err = d->encode_request(c, &model, &out, rep);
    if (err)
        fail_msg("%s: %s %.*s: %.*s", name_of(row), word_of(err), SLICE_ARG(rep->refused),
                 SLICE_ARG(rep->why));
    return parsed(buf_slice(out.body));
}

static struct json dropped(const struct convo_report *rep)
{
    struct buf *b = test_buf();
    struct json_writer w;

    json_writer_init(&w, b);
    json_arr(&w);
    for (unsigned i = 0; i < rep->n_dropped; i++)
        json_put_cstr(&w, rep->dropped[i]);
    json_arr_end(&w);
    return parsed(buf_slice(b));
}

static void test_requests_reach_each_dialect(void **state)
{
    struct json all = rows("requests.json", 20);

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct convo_report rep = {.n_dropped = 0};

        assert_json(name_of(row), sent(row, &rep), json_get(row, "out"));
        assert_json(name_of(row), dropped(&rep), json_get(row, "dropped"));
    }
}

static void test_wrong_requests_are_refused_with_a_pointer(void **state)
{
    struct json all = rows("refused.json", 30);

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct convo_report rep = {.n_dropped = 0};
        struct convo *c = NULL;
        enum gw_err err = responses_decode_request(arena, json_get(row, "in"), &c, &rep);

        if (!json_str_is(json_get(row, "err"), word_of(err)))
            fail_msg("%s: %s", name_of(row), word_of(err));
        if (!slice_eq(rep.refused, json_str(json_get(row, "field"))))
            fail_msg("%s: %.*s", name_of(row), SLICE_ARG(rep.refused));
        assert_true(rep.why.n > 0);
        assert_null(c);
    }
}

static void test_check_047_duplicates_of_members_that_matter_are_refused(void **state)
{
    static const struct {
        const char *body, *field;
    } bodies[] = {
        {"{\"model\":\"m\",\"input\":\"a\",\"inp\\u0075t\":\"b\"}", "/input"},
        {"{\"model\":\"m\",\"model\":\"n\",\"input\":\"a\"}", "/model"},
        {"{\"model\":\"m\",\"stream\":null,\"stream\":true,\"input\":\"a\"}", "/stream"},
        {"{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"a\",\"content\":\"b\"}]}",
         "/input/0/content"},
    };

    for (unsigned i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        struct convo_report rep = {.n_dropped = 0};
        struct convo *c = NULL;

        assert_int_equal(
            responses_decode_request(arena, parsed(slice_cstr(bodies[i].body)), &c, &rep),
            GW_EBADREQ);
        assert_slice(rep.refused, bodies[i].field);
    }
}

static void test_the_stream_switch_and_the_model_are_read(void **state)
{
    struct convo_report rep = {.n_dropped = 0};
    struct convo *c =
        understood(parsed(SLICE("{\"input\":\"hi\",\"stream\":true,\"model\":\"a/b\"}")), &rep);

    assert_true(c->stream);
    assert_slice(c->model, "a/b");
    assert_int_equal(c->parallel_tools, -1);
    assert_int_equal(rep.n_dropped, 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

static struct json asked_of(struct json row)
{
    struct json asked = json_get(row, "asked");

    return json_exists(asked) ? asked : parsed(SLICE("{\"model\":\"m\",\"input\":\"hi\"}"));
}

static struct json whole(const struct convo_answer *ans, struct json asked)
{
    struct buf *out = test_buf();

    assert_int_equal(responses_encode_answer(arena, asked, ans, SLICE("shown"), WALL_S, out),
                     GW_OK);
    return parsed(buf_slice(out));
}

/* The client's response to a provider's whole answer. */
static struct json answered(struct json row)
{
    const struct dialect *d = dialect_find(json_str(json_get(row, "dialect")));
    struct convo_builder *b = convo_builder_new(arena, 1u << 20);

    assert_int_equal(
        d->decode_answer(arena, NULL, NULL, json_raw(json_get(row, "in")), convo_builder_event, b),
        GW_OK);
    return whole(convo_builder_answer(b), asked_of(row));
}

static void test_whole_answers_are_told_as_documented(void **state)
{
    struct json all = rows("answers.json", 10);

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row))
        assert_json(name_of(row), answered(row), json_get(row, "out"));
}

static void test_an_answer_without_an_id_gets_one(void **state)
{
    struct convo_answer ans = {.n_choices = 1, .ended = true};
    struct json a = whole(&ans, parsed(SLICE("{}"))), b = whole(&ans, parsed(SLICE("{}")));

    assert_int_equal(json_str(json_get(a, "id")).n, strlen("resp_") + 32);
    assert_false(slice_eq(json_str(json_get(a, "id")), json_str(json_get(b, "id"))));
    assert_int_equal(json_count(json_get(a, "output")), 0);
    assert_true(json_is(json_get(a, "usage"), JSON_NULL));
}

static void test_an_answer_past_its_ceiling_is_refused(void **state)
{
    struct convo_out_part part = {.kind = CONVO_TEXT, .text = SLICE("0123456789")};
    struct convo_answer ans = {.n_choices = 1, .parts = &part};
    struct buf out;

    buf_init(&out, 9);
    assert_int_equal(
        responses_encode_answer(arena, parsed(SLICE("{}")), &ans, SLICE("m"), WALL_S, &out),
        GW_ETOOBIG);
    buf_deinit(&out);
}

/* --- streams ---------------------------------------------------------------------------------- */

/* Provider's events in; the client's bytes, and the same as a whole answer, out. */
struct relay {
    const struct dialect *d;
    struct dialect_decoder *from;
    struct dialect_encoder *to;
    struct convo_builder *builder;
    struct buf *out;
};

static struct relay relay_new(struct json row)
{
    struct relay r = {.out = test_buf()};

    r.d = dialect_find(json_str(json_get(row, "dialect")));
    r.from = r.d->decoder_new(arena, NULL, NULL);
    r.to = responses_encoder_new(arena, asked_of(row), SLICE("shown"), WALL_S, MAX_BYTES);
    r.builder = convo_builder_new(arena, 1u << 20);
    return r;
}

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct relay *r = arg;
    enum gw_err err = convo_builder_event(ev, r->builder);

    return err ? err : responses_encode_event(r->to, ev, r->out);
}

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct relay *r = arg;

    return r->d->decode_event(r->from, ev, on_convo, r);
}

static struct slice payload_of(struct json v)
{
    return json_is(v, JSON_STRING) ? json_str(v) : json_raw(v);
}

/* The input of a row as the bytes of a stream. */
static struct slice wire(struct json row)
{
    struct json in = json_get(row, "in");
    struct buf *b = test_buf();

    for (struct json it = json_first(in); json_exists(it); it = json_next(in, it))
        sse_write(b, json_str(json_get(it, "type")), payload_of(it));
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
    return err ? err : r->d->decode_end(r->from, on_convo, r);
}

/* Collects the payloads; each says its event's type and its number itself. */
static enum gw_err on_payload(const struct sse_event *ev, void *arg)
{
    struct json_writer *w = arg;
    struct json payload = parsed(ev->data);
    int64_t n = -1;

    assert_true(slice_eq(ev->type, json_str(json_get(payload, "type"))));
    assert_true(json_int(json_get(payload, "sequence_number"), &n));
    assert_true(n >= 0);
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
    sse_init(&sse, 16u << 20, on_payload, &w);
    assert_int_equal(sse_feed(&sse, bytes), GW_OK);
    assert_false(sse_has_partial(&sse)); /* whole events only */
    sse_deinit(&sse);
    json_arr_end(&w);
    return parsed(buf_slice(list));
}

static struct json streamed(struct json row)
{
    struct relay r = relay_new(row);
    enum gw_err err = feed(&r, wire(row), 65536);

    if (!json_str_is(json_get(row, "err"), word_of(err)))
        fail_msg("%s: %s", name_of(row), word_of(err));
    return payloads(buf_slice(r.out));
}

static void test_streams_are_told_as_documented(void **state)
{
    struct json all = rows("streams.json", 10);

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row))
        assert_json(name_of(row), streamed(row), json_get(row, "out"));
}

static void test_check_055_a_stream_cut_anywhere_gives_the_same_bytes(void **state)
{
    struct json all = rows("streams.json", 10);

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct slice bytes = wire(row);
        struct relay at_once = relay_new(row);
        enum gw_err err = feed(&at_once, bytes, bytes.n);

        for (size_t step = 1; step < 40; step += 7) {
            struct relay r = relay_new(row);

            assert_int_equal(feed(&r, bytes, step), err);
            assert_true(slice_eq(buf_slice(r.out), buf_slice(at_once.out)));
        }
    }
}

static struct json last_of(struct json list)
{
    struct json last = json_first(list);

    for (struct json it = last; json_exists(it); it = json_next(list, it))
        last = it;
    return last;
}

static void test_a_stream_ends_with_what_a_whole_answer_is(void **state)
{
    struct json all = rows("streams.json", 10);
    unsigned compared = 0;

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct relay r = relay_new(row);
        const struct convo_answer *ans;
        struct json last;

        if (feed(&r, wire(row), 65536))
            continue;
        ans = convo_builder_answer(r.builder);
        last = last_of(payloads(buf_slice(r.out)));
        if (!ans->ended || json_is(json_get(row, "late"), JSON_TRUE))
            continue; /* what was learnt late stands elsewhere in a stream */
        assert_json(name_of(row), json_get(last, "response"), whole(ans, asked_of(row)));
        compared++;
    }
    assert_true(compared >= 6);
}

/* --- events given by hand --------------------------------------------------------------------- */

static struct dialect_encoder *encoder(void)
{
    return responses_encoder_new(arena, parsed(SLICE("{\n\"model\":\"m\",\r\n\"metadata\":{\n}}")),
                                 SLICE("shown"), WALL_S, MAX_BYTES);
}

static void give(struct dialect_encoder *e, struct convo_event ev, struct buf *out)
{
    assert_int_equal(responses_encode_event(e, &ev, out), GW_OK);
}

static bool told(struct json events, const char *type)
{
    for (struct json it = json_first(events); json_exists(it); it = json_next(events, it))
        if (json_str_is(json_get(it, "type"), type))
            return true;
    return false;
}

static void test_check_054_text_that_imitates_a_stream_stays_text(void **state)
{
    struct slice evil = SLICE("\n\ndata: [DONE]\n\nevent: response.completed\ndata: {\"type\":"
                              "\"response.completed\"}\r\n\r\n</tool_call>");
    struct dialect_encoder *e = encoder();
    struct buf *out = test_buf();
    struct json events, last;

    give(e, (struct convo_event){.kind = CONVO_EV_START, .id = evil}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_REASONING, .part = 0, .text = evil}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_TEXT, .part = 1, .text = evil}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_TOOL_BEGIN, .part = 2, .id = evil, .name = evil},
         out);
    give(e, (struct convo_event){.kind = CONVO_EV_TOOL_ARGS, .part = 2, .text = evil}, out);
    events = payloads(buf_slice(out));
    assert_false(told(events, "response.completed"));
    give(e, (struct convo_event){.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_DONE}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_END}, out);
    last = last_of(payloads(buf_slice(out)));
    assert_true(json_str_is(json_get(last, "type"), "response.completed"));
    assert_int_equal(json_count(json_get(json_get(last, "response"), "output")), 3);
}

static void test_check_059_a_failure_midway_is_told_twice_and_nothing_follows(void **state)
{
    struct dialect_encoder *e = encoder();
    struct buf *out = test_buf();
    struct json events, failed, last;
    size_t n;

    give(e, (struct convo_event){.kind = CONVO_EV_START, .id = SLICE("x")}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_TEXT, .text = SLICE("half")}, out);
    give(
        e,
        (struct convo_event){.kind = CONVO_EV_ERROR, .err = GW_EUPRATE, .text = SLICE("slow down")},
        out);
    n = out->n;
    give(e, (struct convo_event){.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_DONE}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_END}, out);
    assert_int_equal(out->n, n);
    events = payloads(buf_slice(out));
    assert_false(told(events, "response.completed"));
    assert_false(told(events, "response.output_item.done"));
    assert_true(told(events, "response.failed"));
    for (struct json it = json_first(events); json_exists(it); it = json_next(events, it))
        if (json_str_is(json_get(it, "type"), "response.failed"))
            failed = json_get(it, "response");
    assert_true(json_str_is(json_get(failed, "status"), "failed"));
    assert_true(json_str_is(json_get(json_get(failed, "error"), "code"), "rate_limit_exceeded"));
    assert_true(json_str_is(json_get(json_get(failed, "error"), "message"), "slow down"));
    assert_true(
        json_str_is(json_get(json_first(json_get(failed, "output")), "status"), "incomplete"));
    last = last_of(events);
    assert_true(json_str_is(json_get(last, "type"), "error"));
    assert_true(json_str_is(json_get(last, "message"), "slow down"));
    assert_true(json_str_is(json_get(json_get(last, "error"), "type"), "rate_limit_error"));
}

static void test_a_failure_before_the_first_event_still_begins_the_stream(void **state)
{
    struct buf *out = test_buf();
    struct json events;

    give(encoder(), (struct convo_event){.kind = CONVO_EV_ERROR, .err = GW_EUPBAD}, out);
    events = payloads(buf_slice(out));
    assert_int_equal(json_count(events), 4);
    assert_true(json_str_is(json_get(json_first(events), "type"), "response.created"));
    assert_true(json_get(last_of(events), "message").doc != NULL);
}

static void test_a_stream_past_its_ceiling_fails(void **state)
{
    struct dialect_encoder *e =
        responses_encoder_new(arena, parsed(SLICE("{}")), SLICE("m"), WALL_S, 10);
    struct convo_event ev = {.kind = CONVO_EV_TEXT, .text = SLICE("0123456789")};
    struct buf *out = test_buf();

    give(e, ev, out);
    assert_int_equal(responses_encode_event(e, &ev, out), GW_ETOOBIG);
}

/* Parallel calls told mixed, as OpenAI's models may. */
static void test_mixed_calls_stay_apart(void **state)
{
    struct dialect_encoder *e = encoder();
    struct buf *out = test_buf();
    struct json output;

    for (unsigned i = 0; i < 3; i++)
        give(e,
             (struct convo_event){.kind = CONVO_EV_TOOL_BEGIN,
                                  .part = i,
                                  .tool = i,
                                  .id = arena_printf(arena, "call_%u", i),
                                  .name = SLICE("f")},
             out);
    for (unsigned i = 0; i < 12; i++)
        give(e,
             (struct convo_event){.kind = CONVO_EV_TOOL_ARGS,
                                  .part = i % 3,
                                  .tool = i % 3,
                                  .text = arena_printf(arena, "%u", i)},
             out);
    give(e, (struct convo_event){.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_TOOLS}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_END}, out);
    output = json_get(json_get(last_of(payloads(buf_slice(out))), "response"), "output");
    assert_true(json_str_is(json_get(json_first(output), "arguments"), "0369"));
    assert_true(json_str_is(json_get(last_of(output), "arguments"), "25811"));
    assert_true(json_str_is(json_get(last_of(output), "call_id"), "call_2"));
}

/* --- there and back --------------------------------------------------------------------------- */

static void test_seals_come_back_as_they_were(void **state)
{
    static const char *const texts[] = {"", "a", "two words", "\"quoted\" \\ \xc3\xa9\n\t",
                                        "sig=="};

    for (unsigned i = 0; i < 20; i++) {
        struct responses_seal in = {.id = slice_cstr(texts[i % 5]),
                                    .text = slice_cstr(texts[(i + 1) % 5]),
                                    .signature = slice_cstr(texts[(i + 2) % 5])};
        struct responses_seal got;
        struct buf *b = test_buf();

        in.kind = i % 4;
        responses_seal_put(b, &in);
        assert_int_equal(responses_seal_read(arena, json_str(parsed(buf_slice(b))), &got), GW_OK);
        assert_int_equal(got.kind, in.kind);
        assert_true(slice_eq(got.id, in.id) && slice_eq(got.text, in.text) &&
                    slice_eq(got.signature, in.signature));
    }
}

static void test_seals_of_others_are_told_apart(void **state)
{
    static const char *const foreign[] = {
        "gAAAAABo",      "", "postern.1.", "postern.1.!!!!", "postern.1.e30=", "postern.1.W10=",
        "postern.2.e30="};
    struct responses_seal got;

    for (unsigned i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
        assert_int_equal(responses_seal_read(arena, slice_cstr(foreign[i]), &got), GW_EBADREQ);
}

static uint32_t seed;

static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static struct slice random_text(void)
{
    static const char *const words[] = {"a", "two words", "\"q\"\\", "\xc3\xa9\n", "{}", "__"};

    return slice_cstr(words[next_random(6)]);
}

/* An answer of random parts, some of them signed. */
static struct convo_answer *random_answer(void)
{
    static const enum convo_part_kind kinds[] = {CONVO_TEXT, CONVO_REASONING, CONVO_REDACTED,
                                                 CONVO_TOOL_CALL, CONVO_REFUSAL};
    struct convo_answer *ans = arena_new(arena, struct convo_answer);
    struct convo_out_part **tail = &ans->parts;
    unsigned n = 1 + next_random(6);

    ans->n_choices = 1;
    ans->id = SLICE("r");
    for (unsigned i = 0; i < n; i++) {
        struct convo_out_part *p = arena_new(arena, struct convo_out_part);

        p->kind = kinds[next_random(5)];
        p->part = i;
        p->text = random_text();
        if (p->kind == CONVO_TOOL_CALL) {
            p->id = arena_printf(arena, "call_%u", i);
            p->name = SLICE("f");
            p->text = SLICE("{\"a\":1}");
        }
        if (p->kind != CONVO_REDACTED && p->kind != CONVO_REFUSAL && next_random(2))
            p->signature = SLICE("c2ln");
        *tail = p;
        tail = &p->next;
    }
    return ans;
}

static bool came_back(const struct convo_out_part *out, const struct convo_part *in)
{
    struct slice text = in->kind == CONVO_TOOL_CALL  ? in->args
                        : in->kind == CONVO_REDACTED ? in->data
                                                     : in->text;

    return out->kind == in->kind && slice_eq(out->text, text) && slice_eq(out->id, in->id) &&
           slice_eq(out->name, in->name) && slice_eq(out->signature, in->signature);
}

static void test_what_the_model_said_comes_back_as_it_was(void **state)
{
    for (seed = 1; seed < 400; seed++) {
        uint32_t start = seed;
        const struct convo_answer *ans = random_answer();
        struct json output = json_get(whole(ans, parsed(SLICE("{}"))), "output");
        struct slice body =
            arena_printf(arena, "{\"model\":\"m\",\"input\":%.*s}", SLICE_ARG(json_raw(output)));
        struct convo_report rep = {.n_dropped = 0};
        const struct convo *c = understood(parsed(body), &rep);
        const struct convo_out_part *out = ans->parts;
        const struct convo_part *in = c->turns->parts;

        assert_int_equal(c->turns->role, CONVO_ASSISTANT);
        assert_null(c->turns->next);
        for (; out && in; out = out->next, in = in->next)
            if (!came_back(out, in))
                fail_msg("seed %u part %u: %.*s", start, out->part, SLICE_ARG(body));
        assert_true(!out && !in);
        assert_int_equal(rep.n_dropped, 0);
        seed = start;
    }
}

static void test_a_signature_that_came_after_its_call_finds_it_again(void **state)
{
    struct dialect_encoder *e = encoder();
    struct buf *out = test_buf();
    struct convo_report rep = {.n_dropped = 0};
    struct json output;
    struct slice body;
    struct convo *c;

    for (unsigned i = 0; i < 2; i++)
        give(e,
             (struct convo_event){.kind = CONVO_EV_TOOL_BEGIN,
                                  .part = i,
                                  .id = i ? SLICE("second") : SLICE("first"),
                                  .name = SLICE("f")},
             out);
    give(e, (struct convo_event){.kind = CONVO_EV_SIGNATURE, .part = 0, .text = SLICE("one")}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_PART_END, .part = 1}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_SIGNATURE, .part = 1, .text = SLICE("two")}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_FINISH, .stop = CONVO_STOP_TOOLS}, out);
    give(e, (struct convo_event){.kind = CONVO_EV_END}, out);
    output = json_get(json_get(last_of(payloads(buf_slice(out))), "response"), "output");
    assert_int_equal(json_count(output), 4);
    body = arena_printf(arena, "{\"model\":\"m\",\"input\":%.*s}", SLICE_ARG(json_raw(output)));
    c = understood(parsed(body), &rep);
    assert_slice(c->turns->parts->id, "first");
    assert_slice(c->turns->parts->signature, "one");
    assert_slice(c->turns->parts->next->signature, "two");
    assert_null(c->turns->parts->next->next);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void test_check_094_a_request_is_read_whole_or_not_at_all(void **state)
{
    struct json all = rows("requests.json", 20);

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct slice body = json_raw(json_get(row, "in"));
        enum gw_err err = GW_ENOMEM;

        for (size_t room = 256; err == GW_ENOMEM && room < 4u << 20; room += 128) {
            struct convo_report rep = {.n_dropped = 0};
            struct arena *small = arena_create(room);
            struct convo *c = NULL;
            struct json root;

            assert_non_null(small);
            err = json_parse(small, body, NULL, &root, NULL);
            if (!err)
                err = responses_decode_request(small, root, &c, &rep);
            assert_true(err == GW_ENOMEM || err == GW_OK);
            assert_int_equal(c != NULL, err == GW_OK);
            arena_destroy(small);
        }
        assert_int_equal(err, GW_OK);
    }
}

static enum gw_err encode_all(struct arena *small, struct json in, struct buf *out)
{
    struct dialect_encoder *e =
        responses_encoder_new(small, (struct json){NULL, 0}, SLICE("shown"), WALL_S, MAX_BYTES);
    enum gw_err err = e ? GW_OK : GW_ENOMEM;

    for (struct json it = json_first(in); json_exists(it) && !err; it = json_next(in, it)) {
        int64_t kind = 0, part = 0;
        struct convo_event ev = {.text = json_str(json_get(it, "text"))};

        assert_true(json_int(json_get(it, "kind"), &kind));
        assert_true(json_int(json_get(it, "part"), &part));
        ev.kind = (enum convo_event_kind)kind;
        ev.part = (unsigned)part;
        ev.id = ev.name = SLICE("n");
        err = responses_encode_event(e, &ev, out);
    }
    return err;
}

static void test_check_094_a_stream_without_memory_says_so(void **state)
{
    struct json in = parsed(arena_printf(
        arena,
        "[{\"kind\":%d,\"part\":0,\"text\":\"t\"},{\"kind\":%d,\"part\":0,\"text\":\"s\"},"
        "{\"kind\":%d,\"part\":1,\"text\":\"d\"},{\"kind\":%d,\"part\":2,\"text\":\"x\"},"
        "{\"kind\":%d,\"part\":2,\"text\":\"s\"},{\"kind\":%d,\"part\":3,\"text\":\"s\"},"
        "{\"kind\":%d,\"part\":3,\"text\":\"{}\"},{\"kind\":%d,\"part\":4,\"text\":\"[1]\"},"
        "{\"kind\":%d,\"part\":0,\"text\":\"\"},{\"kind\":%d,\"part\":0,\"text\":\"\"}]",
        CONVO_EV_REASONING, CONVO_EV_SIGNATURE, CONVO_EV_REDACTED, CONVO_EV_TEXT,
        CONVO_EV_SIGNATURE, CONVO_EV_TOOL_BEGIN, CONVO_EV_TOOL_ARGS, CONVO_EV_OPAQUE,
        CONVO_EV_FINISH, CONVO_EV_END));
    enum gw_err err = GW_ENOMEM;
    unsigned refused = 0;

    for (size_t room = 64; err && room < 1u << 20; room += 64, refused++) {
        struct arena *small = arena_create(room);
        struct buf *out = test_buf();

        assert_non_null(small);
        err = encode_all(small, in, out);
        assert_true(err == GW_ENOMEM || err == GW_OK);
        if (err)
            assert_false(told(payloads(buf_slice(out)), "response.completed"));
        else
            assert_true(told(payloads(buf_slice(out)), "response.completed"));
        arena_destroy(small);
    }
    assert_int_equal(err, GW_OK);
    assert_true(refused > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_requests_reach_each_dialect),
        T(test_wrong_requests_are_refused_with_a_pointer),
        T(test_check_047_duplicates_of_members_that_matter_are_refused),
        T(test_the_stream_switch_and_the_model_are_read),
        T(test_whole_answers_are_told_as_documented),
        T(test_an_answer_without_an_id_gets_one),
        T(test_an_answer_past_its_ceiling_is_refused),
        T(test_streams_are_told_as_documented),
        T(test_check_055_a_stream_cut_anywhere_gives_the_same_bytes),
        T(test_a_stream_ends_with_what_a_whole_answer_is),
        T(test_check_054_text_that_imitates_a_stream_stays_text),
        T(test_check_059_a_failure_midway_is_told_twice_and_nothing_follows),
        T(test_a_failure_before_the_first_event_still_begins_the_stream),
        T(test_a_stream_past_its_ceiling_fails),
        T(test_mixed_calls_stay_apart),
        T(test_seals_come_back_as_they_were),
        T(test_seals_of_others_are_told_apart),
        T(test_what_the_model_said_comes_back_as_it_was),
        T(test_a_signature_that_came_after_its_call_finds_it_again),
        T(test_check_094_a_request_is_read_whole_or_not_at_all),
        T(test_check_094_a_stream_without_memory_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
