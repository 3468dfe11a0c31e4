/* The Gemini dialect: answers, streams, errors and embeddings. Requests are
 * test_google_request.c's. */
#include "tests/unit/dialect_test.h"

#define D (&dialect_google)

static const struct registry_provider provider = {.name = "google", .api_key = {"k", 1}};
static const struct registry_model embedder = {.name = {"gemini-embedding-001", 20},
                                               .provider = &provider};

static void assert_both_ways(const char *stem)
{
    struct slice json = golden(arena_printf(arena, "google/%s.json", stem).p);
    struct slice sse = golden(arena_printf(arena, "google/%s.sse", stem).p);
    struct slice want = golden(arena_printf(arena, "google/%s.txt", stem).p);
    enum gw_err err;

    assert_shown(show_whole(D, NULL, NULL, json), want);
    assert_shown(show_stream(D, NULL, NULL, sse, &err), want);
    assert_int_equal(err, GW_OK);
}

static void test_text_of_many_frames_is_one_part_and_thoughts_count_as_output(void **state)
{
    assert_both_ways("text");
}

static void test_a_call_in_an_earlier_frame_makes_the_stop_one_for_tools(void **state)
{
    assert_both_ways("tools");
}

static void test_several_candidates_and_unknown_parts_are_passed_on(void **state)
{
    assert_both_ways("candidates");
}

static void test_a_blocked_prompt_is_a_filtered_answer(void **state)
{
    assert_both_ways("blocked");
}

/* --- streams ---------------------------------------------------------------------------------- */

static void assert_stream(const char *bytes, enum gw_err want_err, const char *want)
{
    enum gw_err err;
    struct slice got = show_stream(D, NULL, NULL, slice_cstr(bytes), &err);

    assert_shown(got, slice_cstr(want));
    assert_int_equal(err, want_err);
}

#define HI "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]}\n\n"

static void test_a_stream_without_a_finish_reason_has_no_end(void **state)
{
    assert_stream(HI, GW_OK, "answer\n0.0 text: Hi\nfinish 0 none\ncut\n");
}

static void test_an_empty_stream_has_no_end(void **state)
{
    assert_stream("", GW_OK, "answer\ncut\n");
}

static void test_one_of_two_candidates_cut_is_a_cut_answer(void **state)
{
    assert_stream(
        "data: {\"candidates\":[{\"index\":0,\"finishReason\":\"STOP\"},{\"index\":1}]}\n\n", GW_OK,
        "answer\ncut\n");
}

static void test_an_error_frame_ends_the_answer(void **state)
{
    assert_stream(HI "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded.\","
                     "\"status\":\"UNAVAILABLE\"}}\n\n"
                     "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n",
                  GW_OK,
                  "answer\n0.0 text: Hi\nfinish 0 none\n"
                  "error GW_EUPSTREAM: The model is overloaded.\ncut\n");
    assert_stream("data: [{\"error\":{\"code\":429,\"message\":\"m\"}}]\n\n", GW_OK,
                  "answer\nerror GW_EUPRATE: m\ncut\n");
}

static void test_garbage_in_a_stream_is_a_bad_answer(void **state)
{
    static const char *const bad[] = {
        "data: {\"candidates\":\n\n",
        "data: hello\n\n",
        "data: 1\n\n",
        "data: {\"candidates\":[1]}\n\n",
        "data: {\"candidates\":[{\"index\":16}]}\n\n",
        "data: {\"candidates\":[{\"index\":-1}]}\n\n",
        "data: {\"candidates\":[{\"content\":{\"parts\":[\"x\"]}}]}\n\n",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{}}]}}]}\n\n",
        "data: {\"x\":\"\xff\"}\n\n",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum gw_err err;

        show_stream(D, NULL, NULL, slice_cstr(bad[i]), &err);
        assert_int_equal(err, GW_EUPBAD);
    }
}

static void test_a_signature_alone_signs_a_text_that_may_go_on(void **state)
{
    assert_stream(
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"thoughtSignature\":\"c2ln\"}]}}]}"
        "\n\n" HI "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n",
        GW_OK, "answer\n0.0 text signature=c2ln: Hi\nfinish 0 done raw=STOP\nend\n");
}

static void test_finish_reasons_have_their_meaning(void **state)
{
    static const struct {
        const char *word, *want;
    } rows[] = {
        {"STOP", "done"},        {"MAX_TOKENS", "length"},     {"CONTINUATION", "length"},
        {"SAFETY", "filtered"},  {"BLOCKLIST", "filtered"},    {"PROHIBITED_CONTENT", "filtered"},
        {"SPII", "filtered"},    {"IMAGE_SAFETY", "filtered"}, {"RECITATION", "filtered"},
        {"LANGUAGE", "other"},   {"OTHER", "other"},           {"MALFORMED_FUNCTION_CALL", "other"},
        {"NEVER_SEEN", "other"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body =
            arena_printf(arena,
                         "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},"
                         "\"finishReason\":\"%s\"}]}",
                         rows[i].word);
        struct slice want = arena_printf(arena, "answer\n0.0 text: a\nfinish 0 %s raw=%s\nend\n",
                                         rows[i].want, rows[i].word);

        assert_shown(show_whole(D, NULL, NULL, body), want);
    }
}

static void test_a_body_that_is_no_answer_is_a_bad_answer(void **state)
{
    static const char *const bad[] = {"",
                                      "null",
                                      "[]",
                                      "{}",
                                      "<html>",
                                      "{\"candidates\":{}}",
                                      "{\"usageMetadata\":{\"promptTokenCount\":1}}"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct convo_builder *b = convo_builder_new(arena, 1000);

        assert_int_equal(
            D->decode_answer(arena, NULL, NULL, slice_cstr(bad[i]), convo_builder_event, b),
            GW_EUPBAD);
    }
}

static void test_generated_call_ids_differ(void **state)
{
    struct convo_builder *b = convo_builder_new(arena, 100000);
    const struct convo_answer *ans;
    struct slice body =
        SLICE("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"}},"
              "{\"functionCall\":{\"name\":\"f\",\"args\":{}}}]},\"finishReason\":\"STOP\"}]}");

    assert_int_equal(D->decode_answer(arena, NULL, NULL, body, convo_builder_event, b), GW_OK);
    ans = convo_builder_answer(b);
    assert_true(is_own_call_id(ans->parts->id));
    assert_true(is_own_call_id(ans->parts->next->id));
    assert_false(slice_eq(ans->parts->id, ans->parts->next->id));
}

static enum gw_err keep_raw(const struct convo_event *ev, void *arg)
{
    struct slice *to = arg;

    if (ev->raw.n)
        *to = arena_dup(arena, ev->raw);
    return GW_OK;
}

static void test_log_probabilities_come_in_openai_shape(void **state)
{
    struct slice raw = SLICE_NONE;
    struct slice body = SLICE(
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\","
        "\"logprobsResult\":{\"chosenCandidates\":[{\"token\":\"a\",\"logProbability\":-0.25}],"
        "\"topCandidates\":[{\"candidates\":[{\"token\":\"b\",\"logProbability\":-1.5}]}]}}]}");

    assert_int_equal(D->decode_answer(arena, NULL, NULL, body, keep_raw, &raw), GW_OK);
    assert_json(raw, SLICE("{\"content\":[{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":null,"
                           "\"top_logprobs\":[{\"token\":\"b\",\"logprob\":-1.5,\"bytes\":null}]}],"
                           "\"refusal\":null}"));
}

/* --- errors ----------------------------------------------------------------------------------- */

static void test_errors_are_told_apart(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum gw_err err;
        int shown;
        const char *message, *param;
    } rows[] = {
        {400,
         "{\"error\":{\"code\":400,\"message\":\"API key not valid. Please pass a valid API key.\","
         "\"status\":\"INVALID_ARGUMENT\",\"details\":[{\"@type\":"
         "\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"API_KEY_INVALID\"}]}}",
         GW_EUPAUTH, 502, "API key not valid. Please pass a valid API key.", ""},
        {400,
         "{\"error\":{\"code\":400,\"message\":\"Invalid value\",\"status\":\"INVALID_ARGUMENT\","
         "\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.BadRequest\","
         "\"fieldViolations\":[{\"field\":\"contents[0].role\"}]}]}}",
         GW_EUPREJECT, 400, "Invalid value", "contents[0].role"},
        {400,
         "[{\"error\":{\"code\":400,\"message\":\"in an array\",\"status\":\"INVALID_ARGUMENT\"}}]",
         GW_EUPREJECT, 400, "in an array", ""},
        {400,
         "{\"error\":{\"message\":\"User location is not supported for the API use.\",\"status\":"
         "\"FAILED_PRECONDITION\"}}",
         GW_EUPAUTH, 502, "User location is not supported for the API use.", ""},
        {403, "{\"error\":{\"message\":\"m\",\"status\":\"PERMISSION_DENIED\"}}", GW_EUPAUTH, 502,
         "m", ""},
        {404, "{\"error\":{\"message\":\"models/x is not found\",\"status\":\"NOT_FOUND\"}}",
         GW_EMODEL, 404, "models/x is not found", ""},
        {429, "{\"error\":{\"message\":\"quota\",\"status\":\"RESOURCE_EXHAUSTED\"}}", GW_EUPRATE,
         429, "quota", ""},
        {500, "{\"error\":{\"message\":\"i\",\"status\":\"INTERNAL\"}}", GW_EUPSTREAM, 502, "i",
         ""},
        {503, "<html>", GW_EUPSTREAM, 502, "", ""},
        {413, "", GW_ETOOBIG, 413, "", ""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dialect_error e;

        D->decode_error(arena, rows[i].status, slice_cstr(rows[i].body), &e);
        assert_int_equal(e.err, rows[i].err);
        assert_int_equal(e.status, rows[i].shown);
        assert_true(slice_is(e.message, rows[i].message));
        assert_true(slice_is(e.param, rows[i].param));
    }
}

/* --- embeddings ------------------------------------------------------------------------------- */

static void test_embeddings_are_asked_for_in_one_batch(void **state)
{
    const struct slice inputs[] = {SLICE("one"), SLICE("two")};
    struct dialect_embed_request r = {.inputs = inputs, .n_inputs = 2, .dimensions = 256};
    struct convo_report rep = {0};
    struct dialect_request req = {0};
    struct buf body;

    buf_init(&body, 10000);
    req.body = &body;
    assert_int_equal(D->encode_embed(arena, &r, &embedder, &req, &rep), GW_OK);
    assert_true(slice_is(req.path, "/v1beta/models/gemini-embedding-001:batchEmbedContents"));
    assert_json(buf_slice(&body), golden("google/request_embed.json"));
    buf_deinit(&body);
}

static void test_embedding_vectors_keep_their_digits(void **state)
{
    struct dialect_embed_answer ans;

    assert_int_equal(
        D->decode_embed(arena,
                        SLICE("{\"embeddings\":[{\"values\":[0.012345678901234567,-1]},"
                              "{\"values\":[2e-3]}],\"later\":1}"),
                        &ans),
        GW_OK);
    assert_int_equal(ans.n, 2);
    assert_true(slice_is(ans.vectors[0].value, "[0.012345678901234567,-1]"));
    assert_false(ans.vectors[0].is_base64);
    assert_false(ans.usage.known);
    assert_int_equal(D->decode_embed(arena, SLICE("{\"embeddings\":[]}"), &ans), GW_EUPBAD);
    assert_int_equal(D->decode_embed(arena, SLICE("{\"embeddings\":[{}]}"), &ans), GW_EUPBAD);
    assert_int_equal(D->decode_embed(arena, SLICE("x"), &ans), GW_EUPBAD);
    assert_int_equal(D->decode_embed(arena, SLICE("{\"embeddings\":[{\"values\":[]}]}"), &ans),
                     GW_EUPBAD);
    assert_int_equal(D->decode_embed(arena, SLICE("{\"embeddings\":[{\"values\":[1,[2]]}]}"), &ans),
                     GW_EUPBAD);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_text_of_many_frames_is_one_part_and_thoughts_count_as_output),
        T(test_a_call_in_an_earlier_frame_makes_the_stop_one_for_tools),
        T(test_several_candidates_and_unknown_parts_are_passed_on),
        T(test_a_blocked_prompt_is_a_filtered_answer),
        T(test_a_stream_without_a_finish_reason_has_no_end),
        T(test_an_empty_stream_has_no_end),
        T(test_one_of_two_candidates_cut_is_a_cut_answer),
        T(test_an_error_frame_ends_the_answer),
        T(test_garbage_in_a_stream_is_a_bad_answer),
        T(test_a_signature_alone_signs_a_text_that_may_go_on),
        T(test_finish_reasons_have_their_meaning),
        T(test_a_body_that_is_no_answer_is_a_bad_answer),
        T(test_generated_call_ids_differ),
        T(test_log_probabilities_come_in_openai_shape),
        T(test_errors_are_told_apart),
        T(test_embeddings_are_asked_for_in_one_batch),
        T(test_embedding_vectors_keep_their_digits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
