/* test_ratelist.c - rates of single routes, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/ratelist.h"

static void test_an_item_is_taken_apart(void **state)
{
    struct ratelist_item it;

    assert_int_equal(ratelist_parse(SLICE(" POST /v1/chat/completions=120/20 "), &it), GW_OK);
    assert_true(slice_is(it.route, "POST /v1/chat/completions"));
    assert_true(slice_is(it.method, "POST"));
    assert_true(slice_is(it.path, "/v1/chat/completions"));
    assert_int_equal(it.rate.per_minute, 120);
    assert_int_equal(it.rate.burst, 20);
    assert_int_equal(ratelist_parse(SLICE("GET /v1/models/{id...}=1000000000/1"), &it), GW_OK);
    assert_true(slice_is(it.path, "/v1/models/{id...}"));
    assert_int_equal(ratelist_parse(SLICE("DELETE /a=b=1/1"), &it), GW_OK);
    assert_true(slice_is(it.path, "/a=b"));
}

static void test_what_is_none_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "=1/1",
        "POST /x",
        "POST /x=",
        "POST /x=1",
        "POST /x=1/",
        "POST /x=/1",
        "POST /x=0/1",
        "POST /x=1/0",
        "POST /x=-1/1",
        "POST /x=+1/1",
        "POST /x=1/1/1",
        "POST /x=1000000001/1",
        "POST /x=1/1000000001",
        "POST /x=99999999999999999999/1",
        "post /x=1/1",
        "TRACE /x=1/1",
        "HEAD /x=1/1",
        "/x=1/1",
        "POST  /x=1/1",
        "POST x=1/1",
        "POST /x y=1/1",
        "POST /x\"=1/1",
        "POST /x\\=1/1",
        "POST /\xc3\xa4=1/1",
    };
    struct ratelist_item it;
    char text[256];

    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (ratelist_parse(slice_cstr(texts[i]), &it) != GW_EBADREQ)
            fail_msg("\"%s\" was taken", texts[i]);
    memset(text, 'x', sizeof(text));
    memcpy(text, "GET /", 5);
    memcpy(text + 160, "=1/1", 5);
    assert_int_equal(ratelist_parse(slice_cstr(text), &it), GW_OK);
    memcpy(text + 160, "x=1/1", 6);
    assert_int_equal(ratelist_parse(slice_cstr(text), &it), GW_EBADREQ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_item_is_taken_apart),
        cmocka_unit_test(test_what_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
