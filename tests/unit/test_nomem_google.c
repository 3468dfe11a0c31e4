/*
 * test_nomem_google.c - CHECK 94 for the Gemini dialect's client side: every allocation of reading
 * a client's request and of writing answers and streams for it fails once, and for good (see
 * test_nomem.c).
 */
#include "tests/unit/nomem.h"

#include "gateway/core/json.h"
#include "providers/dialect.h"
#include "providers/registry.h"

static struct arena *inputs; /* what the operations work on */

static struct registry_provider provider = {.name = "p", .api_key = SLICE("k")};
static struct registry_model model = {.name = SLICE("m"), .provider = &provider};

/* A client's body, read and written for a provider, and passed on. */
static enum gw_err op_request(struct run *run)
{
    const struct slice *body = run->input;
    struct convo_report rep = {.n_dropped = 0};
    struct dialect_request out = {.n_headers = 0};
    struct convo *c = NULL;
    struct json root;
    struct buf to;
    enum gw_err err = json_parse(run->arena, *body, NULL, &root, NULL);

    if (!err)
        err = dialect_google.decode_request(run->arena, root, &c, &rep);
    if (err) {
        show(run, err == GW_ENOMEM ? SLICE_NONE : rep.refused);
        return err;
    }
    buf_init(&to, 1u << 20);
    out.body = &to;
    err = dialect_openai.encode_request(c, &model, &out, &rep);
    if (!err)
        show(run, buf_slice(&to));
    buf_reset(&to);
    if (!err)
        err = dialect_google.pass_body(root, &model, true, &to);
    if (!err)
        show(run, buf_slice(&to));
    for (unsigned i = 0; i < rep.n_dropped; i++)
        show(run, slice_cstr(rep.dropped[i]));
    buf_deinit(&to);
    return err;
}

static enum gw_err op_answer(struct run *run)
{
    const struct slice *body = run->input;
    struct convo_builder *b = convo_builder_new(run->arena, 1u << 20);
    const struct convo_answer *a = NULL;
    struct buf out;
    enum gw_err err = GW_ENOMEM;

    if (b)
        err =
            dialect_anthropic.decode_answer(run->arena, NULL, NULL, *body, convo_builder_event, b);
    if (!err)
        a = convo_builder_answer(b);
    if (!a)
        return err ? err : GW_ENOMEM;
    buf_init(&out, 1u << 20);
    dialect_google.encode_answer(a, SLICE("shown"), 1, &out);
    err = buf_err(&out);
    if (!err)
        show(run, buf_slice(&out));
    buf_deinit(&out);
    return err;
}

struct writing {
    struct dialect_encoder *encoder;
    struct buf out;
};

static enum gw_err on_convo(const struct convo_event *ev, void *arg)
{
    struct writing *w = arg;

    return dialect_google.encode_event(w->encoder, ev, &w->out);
}

static enum gw_err op_stream(struct run *run)
{
    const struct slice *body = run->input;
    struct writing w = {.encoder = dialect_google.encoder_new(run->arena, NULL, SLICE("shown"), 1)};
    enum gw_err err = GW_ENOMEM;

    buf_init(&w.out, 1u << 20);
    if (w.encoder)
        err = dialect_anthropic.decode_answer(run->arena, NULL, NULL, *body, on_convo, &w);
    if (!err)
        err = buf_err(&w.out);
    if (!err)
        show(run, buf_slice(&w.out));
    buf_deinit(&w.out);
    return err;
}

static void test_check_094_requests_of_gemini_clients_are_read_or_memory_is_short(void **state)
{
    static const char *const paths[] = {"tests/unit/golden/google/client_request.json",
                                        "tests/fuzz/corpus/google/request_odd.json"};
    static const struct slice wrong[] = {
        SLICE("{\"contents\":[{\"parts\":[{\"text\":1}]}]}"),
        SLICE("{\"contents\":[{\"parts\":[{\"te\\u0078t\":\"a\\n\"}]}],\"odd\\u0021\":1}"),
        SLICE("{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"cached_content\":\"c\"}"),
    };

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct slice body = source_file(inputs, paths[i]);

        torture(paths[i], op_request, &body);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        torture("small", op_request, &wrong[i]);
}

static void test_check_094_answers_for_gemini_clients_are_written_or_memory_is_short(void **state)
{
    static const char *const paths[] = {"tests/unit/golden/anthropic/thinking.json",
                                        "tests/unit/golden/anthropic/tools.json",
                                        "tests/unit/golden/anthropic/search.json"};

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct slice body = source_file(inputs, paths[i]);

        torture(paths[i], op_answer, &body);
        torture(paths[i], op_stream, &body);
    }
}

static int setup_all(void **state)
{
    inputs = arena_create(64u << 20);
    return inputs ? 0 : -1;
}

static int teardown_all(void **state)
{
    inputs = arena_destroy(inputs);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(
            test_check_094_requests_of_gemini_clients_are_read_or_memory_is_short, check_leaks),
        cmocka_unit_test_teardown(
            test_check_094_answers_for_gemini_clients_are_written_or_memory_is_short, check_leaks),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
