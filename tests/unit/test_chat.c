/* Tests of the chat flow where the world fails it: what it reaches the world with is replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define stream_begin t_stream_begin
#define request_unref t_request_unref
#define request_on_abort t_request_on_abort
#define llm_set_headers t_llm_set_headers
#define provider_call_info t_provider_call_info
#define provider_call_usage t_provider_call_usage
#define admit_settle t_admit_settle

#include "handlers/chat.c"

static unsigned unrefs, cancels, settled;
static struct admit_outcome outcome;
static struct convo_usage used = {.known = true, .input = 7, .output = 2};

struct stream *stream_begin(struct request *req, const struct stream_options *opt)
{
    return NULL; /* as when memory is short: the request has been answered */
}

struct request *request_unref(struct request *req)
{
    unrefs++;
    return NULL;
}

void request_on_abort(struct request *req, void (*fn)(struct request *req, void *arg), void *arg)
{
}

void llm_set_headers(struct request *req, const struct provider_call_info *info,
                     const struct convo_usage *usage)
{
}

/* As the real ones, they may be asked only while the call is outstanding. */
const struct provider_call_info *provider_call_info(struct op *call)
{
    static struct provider_call_info info;

    assert_non_null(call);
    assert_int_equal(cancels, 0);
    return &info;
}

const struct convo_usage *provider_call_usage(struct op *call)
{
    assert_non_null(call);
    assert_int_equal(cancels, 0);
    return &used;
}

void admit_settle(struct request *req, struct admission *a, const struct admit_ask *ask,
                  const struct admit_outcome *out)
{
    settled++;
    outcome = *out;
    assert_int_equal(out->usage->input, used.input);
    assert_int_equal(out->usage->output, used.output);
}

static void on_cancel(struct op *op)
{
    cancels++;
}

static void test_a_stream_that_cannot_begin_ends_the_call_and_the_chat_once(void **state)
{
    static struct conf conf;
    struct arena *arena = arena_create(1 << 20);
    struct request req = {.arena = arena, .conf = &conf};
    struct convo convo = {.stream = true};
    struct chat_form form = {.stream_type = SLICE("text/event-stream")};
    struct op call = {.cancel = on_cancel};
    struct chat c = {.req = &req, .convo = &convo, .form = &form, .call = &call};
    struct provider_call_info info = {0};

    c.admission = (struct admission *)&c; /* only looked at by what is replaced */

    buf_init(&c.out, 1024);
    on_live(&info, &c);
    assert_int_equal(cancels, 1);
    assert_int_equal(unrefs, 1);
    assert_null(c.call);
    assert_int_equal(settled, 1);
    assert_int_equal(outcome.err, GW_ENOMEM);
    arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_that_cannot_begin_ends_the_call_and_the_chat_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
