/* Tests of the OpenAI dialect: requests both ways, whole answers, errors, embeddings. Most cases
 * are rows of tests/unit/golden/openai/. */
#include "tests/unit/openai_harness.h"

#include "providers/dialect/toolname.h"

#define GOLDEN "tests/unit/golden/openai/"

static struct json rows(const char *file)
{
    struct json all = parsed(read_source(arena_printf(arena, GOLDEN "%s", file).p));

    assert_true(json_count(all) > 10);
    return all;
}

static const char *name_of(struct json row)
{
    return arena_cstr(arena, json_str(json_get(row, "name")));
}

static void assert_dropped(struct json row, const struct convo_report *rep)
{
    struct json want = json_get(row, "dropped");

    if (rep->n_dropped != json_count(want))
        fail_msg("%s: %u dropped, first %s", name_of(row), rep->n_dropped,
                 rep->n_dropped ? rep->dropped[0] : "-");
    for (struct json it = json_first(want); json_exists(it); it = json_next(want, it)) {
        bool found = false;

        for (unsigned i = 0; i < rep->n_dropped; i++)
            found |= slice_is(json_str(it), rep->dropped[i]);
        if (!found)
            fail_msg("%s: %.*s is not among the dropped", name_of(row), SLICE_ARG(json_str(it)));
    }
}

/* Points the target at the row's provider and quirk. */
static void aim(struct json row)
{
    static struct slice quirk;
    struct json other = json_get(row, "provider");

    provider.name = json_exists(other) ? arena_cstr(arena, json_str(other)) : "openai";
    provider.use_max_completion_tokens = !json_exists(other);
    quirk = json_str(json_get(row, "quirk"));
    model.quirks = &quirk;
    model.n_quirks = quirk.n ? 1 : 0;
}

static void test_requests_go_through_the_internal_form_and_back(void **state)
{
    struct json all = rows("requests.json");

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct convo_report rep = {.n_dropped = 0};
        struct json want = json_get(row, "out"), unsafe = json_get(row, "unsafe"), got;
        struct convo *c = NULL;
        enum gw_err err;

        aim(row);
        err = dialect_openai.decode_request(arena, json_get(row, "in"), &c, &rep);
        if (err)
            fail_msg("%s: %.*s %.*s", name_of(row), SLICE_ARG(rep.refused), SLICE_ARG(rep.why));
        got = encoded(c, &rep);
        if (json_exists(unsafe)) {
            struct slice safe = toolname_safe(arena, json_str(unsafe), TOOLNAME_ANY_FIRST);
            struct json tool = json_get(json_first(json_get(got, "tools")), "function");

            assert_true(slice_eq(json_str(json_get(tool, "name")), safe));
            continue;
        }
        assert_json(name_of(row), got, want);
        assert_dropped(row, &rep);
    }
}

static void test_wrong_requests_are_refused_with_a_pointer(void **state)
{
    struct json all = rows("refused.json");

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct convo_report rep = {.n_dropped = 0};
        struct convo *c = NULL;
        enum gw_err err = dialect_openai.decode_request(arena, json_get(row, "in"), &c, &rep);

        if (!json_str_is(json_get(row, "err"), err ? err_info(err)->name : "GW_OK"))
            fail_msg("%s: %s", name_of(row), err ? err_info(err)->name : "accepted");
        if (!slice_eq(rep.refused, json_str(json_get(row, "field"))))
            fail_msg("%s: %.*s", name_of(row), SLICE_ARG(rep.refused));
        assert_true(rep.why.n > 0);
        assert_null(c);
    }
}

static enum gw_err decode_text(const char *text, struct convo_report *rep)
{
    struct convo *c = NULL;

    return dialect_openai.decode_request(arena, parsed(slice_cstr(text)), &c, rep);
}

static void test_check_047_duplicates_of_members_that_matter_are_refused(void **state)
{
    static const char *const names[] = {
        "model", "stream", "max_tokens", "max_completion_tokens", "messages",
        "tools", "n",      "fallbacks",  "stream_options",        "temperature"};
    struct convo_report rep;

    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct slice body = arena_printf(arena, "{\"%s\":null,\"\\u00%02x%s\":null}", names[i],
                                         names[i][0], names[i] + 1);

        rep = (struct convo_report){.n_dropped = 0};
        assert_int_equal(decode_text(body.p, &rep), GW_EBADREQ);
        assert_slice(rep.refused, arena_printf(arena, "/%s", names[i]).p);
    }
    rep = (struct convo_report){.n_dropped = 0};
    assert_int_equal(
        decode_text("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\","
                    "\"content\":\"b\"}]}",
                    &rep),
        GW_EBADREQ);
    assert_slice(rep.refused, "/messages/0/content");
}

static void test_a_body_that_is_no_object_is_refused(void **state)
{
    struct convo_report rep = {.n_dropped = 0};

    assert_int_equal(decode_text("[]", &rep), GW_EBADREQ);
    assert_int_equal(decode_text("\"x\"", &rep), GW_EBADREQ);
}

static void test_consecutive_tool_messages_become_one_user_turn(void **state)
{
    struct convo *c = decoded(SLICE(
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":"
        "["
        "{\"role\":\"assistant\",\"content\":\"t\",\"reasoning_content\":\"r\",\"tool_calls\":["
        "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\" {} "
        "\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"1\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"b\",\"content\":[{\"type\":\"text\",\"text\":\"2\"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://h/i\"}}]},"
        "{\"role\":\"user\",\"content\":\"next\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"3\"}]}"));
    const struct convo_turn *t = c->turns;
    const struct convo_part *p = t->parts;

    assert_int_equal(t->role, CONVO_ASSISTANT);
    assert_int_equal(p->kind, CONVO_REASONING);
    assert_int_equal(p->next->kind, CONVO_TEXT);
    assert_int_equal(p->next->next->kind, CONVO_TOOL_CALL);
    assert_slice(p->next->next->args, "{}");
    t = t->next;
    p = t->parts;
    assert_int_equal(t->role, CONVO_USER);
    assert_int_equal(p->kind, CONVO_TOOL_RESULT);
    assert_slice(p->content->text, "1");
    assert_slice(p->next->id, "b");
    assert_int_equal(p->next->content->next->kind, CONVO_IMAGE);
    assert_slice(p->next->content->next->url, "https://h/i");
    assert_null(p->next->next);
    assert_slice(t->next->parts->text, "next");
    assert_int_equal(t->next->next->parts->kind, CONVO_TOOL_RESULT);
    assert_null(t->next->next->next);
    assert_true(c->stream && c->include_usage);
    assert_int_equal(convo_needs(c), CONVO_NEEDS_TOOLS | CONVO_NEEDS_VISION);
}

static void test_thinking_blocks_keep_their_signatures(void **state)
{
    struct convo *c = decoded(SLICE(
        "{\"model\":\"m\",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024},\"messages\":["
        "{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":\"ab\",\"thinking_"
        "blocks\":["
        "{\"type\":\"thinking\",\"thinking\":\"ab\",\"signature\":\"s\"},"
        "{\"type\":\"redacted_thinking\",\"data\":\"d\"}],\"tool_calls\":[{\"id\":\"a\","
        "\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{}\"},\"extra_content\":{\"google\":{\"thought_"
        "signature\":"
        "\"ts\"}}}]},{\"role\":\"assistant\",\"content\":\"y\",\"extra_content\":{\"google\":{"
        "\"thought_signature\":\"xs\"}}}]}"));
    const struct convo_part *p = c->turns->parts;

    assert_slice(p->text, "ab");
    assert_slice(p->signature, "s");
    assert_int_equal(p->next->kind, CONVO_REDACTED);
    assert_slice(p->next->data, "d");
    assert_int_equal(p->next->next->kind, CONVO_TEXT);
    assert_slice(p->next->next->next->signature, "ts");
    assert_slice(c->turns->next->parts->signature, "xs");
    assert_int_equal(c->thinking_budget, 1024);
    assert_int_equal(c->include_thoughts, 1);
}

static void test_what_cannot_go_to_the_provider_is_refused_with_the_field(void **state)
{
    static const struct {
        struct convo_part part;
        const char *field;
    } cases[] = {
        {{.kind = CONVO_FILE, .url = {"https://h/x.pdf", 15}}, "file.url"},
        {{.kind = CONVO_AUDIO, .mime = {"audio/ogg", 9}, .data = {"AAAA", 4}},
         "input_audio.format"},
        {{.kind = CONVO_IMAGE, .file_id = {"f1", 2}}, "image.file_id"},
    };

    for (unsigned i = 0; i < 3; i++) {
        struct convo *c = convo_new(arena);
        struct convo_report rep = {.n_dropped = 0};
        struct dialect_request out = {.body = test_buf()};
        struct convo_part *p = convo_add_part(c, convo_add_turn(c, CONVO_USER), CONVO_TEXT);

        *p = cases[i].part;
        assert_int_equal(dialect_openai.encode_request(c, &model, &out, &rep), GW_EUNSUPPORTED);
        assert_slice(rep.refused, cases[i].field);
        assert_true(rep.why.n > 0);
    }
}

static void test_losses_of_other_surfaces_are_declared(void **state)
{
    struct convo *c = convo_new(arena);
    struct convo_turn *u = convo_add_turn(c, CONVO_USER);
    struct convo_part *r = convo_add_part(c, u, CONVO_TOOL_RESULT);
    struct convo_report rep = {.n_dropped = 0};
    struct json got;

    r->name = SLICE("f");
    r->is_error = true;
    convo_add_part(c, u, CONVO_TOOL_RESULT)->name = SLICE("f");
    convo_add_part(c, u, CONVO_OPAQUE)->raw = SLICE("{}");
    c->service_tier = SLICE("batch");
    got = encoded(c, &rep);
    assert_json(
        "ids are made up in order", json_get(got, "messages"),
        parsed(SLICE("[{\"role\":\"tool\",\"tool_call_id\":\"call_f_0\",\"content\":\"\"},"
                     "{\"role\":\"tool\",\"tool_call_id\":\"call_f_1\",\"content\":\"\"}]")));
    assert_int_equal(rep.n_dropped, 3);
    assert_string_equal(rep.dropped[0], "tool_result.is_error");
    assert_string_equal(rep.dropped[1], "opaque content");
    assert_string_equal(rep.dropped[2], "service_tier");
}

static void test_headers_carry_the_key_if_there_is_one(void **state)
{
    struct dialect_request out = {.n_headers = 7};

    assert_int_equal(dialect_openai.pass_request(arena, &model, true, &out), GW_OK);
    assert_int_equal(out.n_headers, 1);
    assert_slice(out.path, "/chat/completions");
    assert_slice(out.headers[0].value, "Bearer sk-up");
    provider.api_key = SLICE_NONE;
    assert_int_equal(dialect_openai.pass_request(arena, &model, false, &out), GW_OK);
    assert_int_equal(out.n_headers, 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void test_answers_go_through_the_internal_form_and_back(void **state)
{
    struct json all = rows("answers.json");

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct convo_builder *b = convo_builder_new(arena, 1u << 20);
        const struct convo_answer *answer;
        struct buf *out = test_buf();
        enum gw_err err = dialect_openai.decode_answer(
            arena, NULL, NULL, json_raw(json_get(row, "in")), convo_builder_event, b);

        if (err)
            fail_msg("%s: %s", name_of(row), err_info(err)->name);
        answer = convo_builder_answer(b);
        assert_true(answer->ended);
        dialect_openai.encode_answer(answer, SLICE("shown"), 1700000000, out);
        assert_json(name_of(row), parsed(buf_slice(out)), json_get(row, "out"));
    }
}

static void test_what_is_no_answer_is_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        "<html>",
        "{",
        "[]",
        "{}",
        "{\"choices\":[]}",
        "{\"choices\":null}",
        "{\"choices\":[1]}",
        "{\"choices\":[{\"index\":0}]}",
        "{\"choices\":[{\"index\":-1,\"message\":{},\"finish_reason\":\"stop\"}]}",
        "{\"choices\":[{\"index\":16,\"message\":{},\"finish_reason\":\"stop\"}]}",
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}",
        "{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":null}]}",
        "{\"choices\":[{\"message\":{\"content\":\"\xff\"},\"finish_reason\":\"stop\"}]}",
    };

    for (unsigned i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        struct convo_builder *b = convo_builder_new(arena, 1u << 20);

        if (dialect_openai.decode_answer(arena, NULL, NULL, slice_cstr(bodies[i]),
                                         convo_builder_event, b) != GW_EUPBAD)
            fail_msg("%s", bodies[i]);
        assert_false(convo_builder_answer(b)->ended);
    }
}

static void test_an_error_with_status_200_is_an_error_event(void **state)
{
    struct convo_builder *b = convo_builder_new(arena, 1u << 20);

    assert_int_equal(dialect_openai.decode_answer(
                         arena, NULL, NULL,
                         SLICE("{\"error\":{\"message\":\"busy\",\"type\":\"server_error\"}}"),
                         convo_builder_event, b),
                     GW_OK);
    assert_int_equal(convo_builder_answer(b)->err, GW_EUPSTREAM);
    assert_slice(convo_builder_answer(b)->err_text, "busy");
    assert_false(convo_builder_answer(b)->ended);
}

static void test_calls_without_ids_get_the_same_made_up_ids_each_time(void **state)
{
    struct slice body = SLICE(
        "{\"id\":\"r1\",\"created\":5,\"choices\":[{\"message\":{\"tool_calls\":[{\"function\":{"
        "\"name\":\"f\",\"arguments\":\"{}\"}},{\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}"
        ","
        "\"finish_reason\":\"tool_calls\"}]}");
    struct slice ids[2][2];

    for (unsigned i = 0; i < 2; i++) {
        struct convo_builder *b = convo_builder_new(arena, 1u << 20);
        const struct convo_out_part *p;

        assert_int_equal(
            dialect_openai.decode_answer(arena, NULL, NULL, body, convo_builder_event, b), GW_OK);
        p = convo_builder_answer(b)->parts;
        ids[i][0] = p->id;
        ids[i][1] = p->next->id;
    }
    assert_int_equal(ids[0][0].n, 21);
    assert_true(slice_starts(ids[0][0], "call_"));
    assert_true(slice_eq(ids[0][0], ids[1][0]));
    assert_false(slice_eq(ids[0][0], ids[0][1]));
}

static void test_tool_names_made_safe_are_restored(void **state)
{
    struct convo *c = convo_new(arena);
    struct slice safe = toolname_safe(arena, SLICE("files/read"), TOOLNAME_ANY_FIRST);
    struct convo_builder *b = convo_builder_new(arena, 1u << 20);
    struct slice body = arena_printf(
        arena,
        "{\"choices\":[{\"message\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"%.*s\","
        "\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}]}",
        SLICE_ARG(safe));

    convo_add_tool(c, SLICE("files/read"));
    assert_false(slice_is(safe, "files/read"));
    assert_int_equal(dialect_openai.decode_answer(arena, c, &model, body, convo_builder_event, b),
                     GW_OK);
    assert_slice(convo_builder_answer(b)->parts->name, "files/read");
}

/* Reads the request or the answer of a row with at most `room` bytes of memory. */
static enum gw_err read_within(size_t room, struct slice body, bool request)
{
    struct arena *small = arena_create(room);
    struct convo_builder *b = request ? NULL : convo_builder_new(small, 1u << 20);
    struct convo_report rep = {.n_dropped = 0};
    struct convo *c;
    struct json root;
    enum gw_err err = request ? json_parse(small, body, NULL, &root, NULL) : GW_OK;

    if (!request && !b)
        err = GW_ENOMEM;
    else if (!request)
        err = dialect_openai.decode_answer(small, NULL, NULL, body, convo_builder_event, b);
    else if (!err)
        err = dialect_openai.decode_request(small, root, &c, &rep);
    if (!err && b) {
        const struct convo_answer *answer = convo_builder_answer(b);

        assert_non_null(answer);
        assert_slice(answer->id, "i");
        assert_slice(answer->parts->text, "\n\n\n");
        assert_slice(answer->parts->next->name, "f");
        assert_slice(answer->parts->next->text, "{\"a\":1}");
    }
    arena_destroy(small);
    return err;
}

static void test_out_of_memory_anywhere_is_told(void **state)
{
    static const char request[] =
        "{\"model\":\"\\u0061\",\"stop\":[\"\\n\"],\"messages\":[{\"role\":\"user\",\"content\":[{"
        "\"type\":\"text\",\"text\":\"\\n\"},{\"type\":\"image_url\",\"image_url\":{\"url\":"
        "\"https:\\/\\/h\\/i\"}}]},{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"\\u0062\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]},{\"role\":\"tool\","
        "\"tool_call_id\":\"b\",\"content\":\"\\t\"}]}";
    static const char answer[] =
        "{\"id\":\"\\u0069\",\"choices\":[{\"message\":{\"content\":\"\\n\\n\\n\",\"tool_calls\":[{"
        "\"id\":\"\\u0062\",\"function\":{\"name\":\"\\u0066\",\"arguments\":\"{\\\"a\\\":1}\"}}]},"
        "\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}"
        "}";

    for (unsigned i = 0; i < 2; i++) {
        struct slice body = slice_cstr(i ? request : answer);
        unsigned failed = 0, done = 0;

        for (size_t room = 0; room < 12000; room += 16) {
            enum gw_err err = read_within(room, body, i == 1);

            assert_true(err == GW_OK || err == GW_ENOMEM);
            failed += err == GW_ENOMEM;
            done += err == GW_OK;
            assert_true(err == GW_OK || done == 0); /* more memory never fails again */
        }
        assert_true(failed > 50 && done > 50);
    }
}

/* --- errors and embeddings -------------------------------------------------------------------- */

static void assert_word(struct json row, const char *name, struct slice got)
{
    struct json want = json_get(row, name);

    if (json_exists(want) && !slice_eq(got, json_str(want)))
        fail_msg("%s: %s is %.*s", name_of(row), name, SLICE_ARG(got));
}

static void test_error_answers_are_understood_in_all_shapes(void **state)
{
    struct json all = rows("errors.json");

    for (struct json row = json_first(all); json_exists(row); row = json_next(all, row)) {
        struct dialect_error e;
        int64_t status, shown;

        assert_true(json_int(json_get(row, "status"), &status));
        assert_true(json_int(json_get(row, "shown"), &shown));
        dialect_openai.decode_error(arena, (int)status, json_str(json_get(row, "body")), &e);
        assert_word(row, "err", slice_cstr(err_info(e.err)->name));
        assert_word(row, "message", e.message);
        assert_word(row, "code", e.code);
        assert_word(row, "param", e.param);
        assert_word(row, "type", e.type);
        if (e.status != shown)
            fail_msg("%s: status %d", name_of(row), e.status);
    }
}

static void test_embeddings_are_asked_for(void **state)
{
    struct slice inputs[] = {SLICE("a\"b"), SLICE("c")};
    struct dialect_embed_request r = {
        .inputs = inputs, .n_inputs = 2, .dimensions = 256, .base64 = true, .user = SLICE("u")};
    struct dialect_request out = {.body = test_buf()};

    assert_int_equal(dialect_openai.encode_embed(arena, &r, &model, &out, NULL), GW_OK);
    assert_slice(out.path, "/embeddings");
    assert_json(
        "embed", parsed(buf_slice(out.body)),
        parsed(SLICE("{\"model\":\"gpt-up\",\"input\":[\"a\\\"b\",\"c\"],\"encoding_format\":"
                     "\"base64\",\"dimensions\":256,\"user\":\"u\"}")));
}

static void test_embeddings_are_read_in_the_order_of_their_index(void **state)
{
    struct dialect_embed_answer e;

    assert_int_equal(
        dialect_openai.decode_embed(
            arena,
            SLICE(
                "{\"object\":\"list\",\"model\":\"te\",\"data\":[{\"index\":1,\"embedding\":\"AAA="
                "\"},"
                "{\"index\":0,\"embedding\":[0.0023064255,-1e-2]}],\"usage\":{\"prompt_tokens\":8,"
                "\"total_tokens\":8}}"),
            &e),
        GW_OK);
    assert_int_equal(e.n, 2);
    assert_slice(e.vectors[0].value, "[0.0023064255,-1e-2]");
    assert_false(e.vectors[0].is_base64);
    assert_slice(e.vectors[1].value, "AAA=");
    assert_true(e.vectors[1].is_base64);
    assert_int_equal(e.usage.input, 8);
    assert_slice(e.usage.raw, "{\"prompt_tokens\":8,\"total_tokens\":8}");
    assert_slice(e.model, "te");
}

static void test_what_are_no_embeddings_is_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "{\"data\":[]}",
        "{\"data\":{\"a\":1}}",
        "{\"data\":[{\"embedding\":[]}]}",
        "{\"data\":[{\"embedding\":[1,[2]]}]}",
        "{\"data\":[{\"embedding\":[\"1\"]}]}",
        "{\"data\":[{\"index\":1,\"embedding\":[1]}]}",
        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}",
        "{\"data\":[{\"embedding\":3}]}"};
    struct dialect_embed_answer e;

    for (unsigned i = 0; i < sizeof(bodies) / sizeof(*bodies); i++)
        if (dialect_openai.decode_embed(arena, slice_cstr(bodies[i]), &e) != GW_EUPBAD)
            fail_msg("%s", bodies[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_requests_go_through_the_internal_form_and_back),
        T(test_wrong_requests_are_refused_with_a_pointer),
        T(test_check_047_duplicates_of_members_that_matter_are_refused),
        T(test_a_body_that_is_no_object_is_refused),
        T(test_consecutive_tool_messages_become_one_user_turn),
        T(test_thinking_blocks_keep_their_signatures),
        T(test_what_cannot_go_to_the_provider_is_refused_with_the_field),
        T(test_losses_of_other_surfaces_are_declared),
        T(test_headers_carry_the_key_if_there_is_one),
        T(test_answers_go_through_the_internal_form_and_back),
        T(test_what_is_no_answer_is_refused),
        T(test_an_error_with_status_200_is_an_error_event),
        T(test_calls_without_ids_get_the_same_made_up_ids_each_time),
        T(test_tool_names_made_safe_are_restored),
        T(test_out_of_memory_anywhere_is_told),
        T(test_error_answers_are_understood_in_all_shapes),
        T(test_embeddings_are_asked_for),
        T(test_embeddings_are_read_in_the_order_of_their_index),
        T(test_what_are_no_embeddings_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
