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

#include "handlers/chat.c"

static unsigned unrefs, cancels;

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

    buf_init(&c.out, 1024);
    on_live(&info, &c);
    assert_int_equal(cancels, 1);
    assert_int_equal(unrefs, 1);
    assert_null(c.call);
    arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_that_cannot_begin_ends_the_call_and_the_chat_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
