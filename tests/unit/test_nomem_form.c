/*
 * test_nomem_form.c - CHECK 94 for forms, pages and aliases: every allocation fails once, and for
 * good. The caller then gets what it was to get, 503, or nothing; never half a form.
 */
#include "tests/unit/middleware_harness.h"
#include "tests/unit/nomem.h"

#include "gateway/http/form.h"
#include "gateway/http/legacy.h"
#include "gateway/http/page.h"

struct thing {
    struct slice name;
    int64_t price;
    struct form_list tags;
};

static const struct form_field fields[] = {
    {"name", FORM_STRING, offsetof(struct thing, name), true},
    {"price", FORM_DECIMAL, offsetof(struct thing, price), .min = 0, .max = 10},
    {"tags", FORM_STRINGS, offsetof(struct thing, tags), .class = FORM_IDENTIFIER},
};
static const struct form form = FORM_OF(struct thing, fields);
static const struct route route = {
    HTTP_POST,    "/api/things/{id}", NULL, SURFACE_NATIVE, .successor = "/api/v1/things/{id}",
    .form = &form};

/* The request is over: tells what it was answered, or that there was no memory. */
static enum gw_err outcome(struct run *run, struct request *req, bool arm)
{
    enum gw_err err = GW_OK;

    fault.armed = false;
    if (conn.doomed || req->status == 503)
        err = GW_ENOMEM;
    else
        show_int(run, req->status);
    drop(req);
    fault.armed = arm;
    return err;
}

static struct request *make(void)
{
    struct request *req = request_of(&route);

    req->path = SLICE("/api/things/a%2Fb");
    req->params[0] = SLICE("a/b");
    return req;
}

static void show_thing(struct run *run, const struct thing *t)
{
    show(run, t->name);
    show_int(run, t->price);
    for (unsigned i = 0; i < t->tags.n; i++)
        show(run, t->tags.items[i]);
}

static enum gw_err op_read(struct run *run)
{
    bool arm = fault.armed;
    struct thing t = {.price = 7};
    struct request *req;

    fault.armed = false;
    req = make();
    req->body = slice_cstr(run->input);
    fault.armed = arm;
    if (form_read(req, &t, NULL)) {
        show_thing(run, &t);
        request_finish(req, GW_OK, SLICE("{}"));
    }
    return outcome(run, req, arm);
}

static enum gw_err op_query(struct run *run)
{
    bool arm = fault.armed;
    struct thing t = {.price = 7};
    struct request *req;

    fault.armed = false;
    req = make();
    req->query = slice_cstr(run->input);
    fault.armed = arm;
    if (form_query(req, &form, &t, NULL)) {
        show_thing(run, &t);
        request_finish(req, GW_OK, SLICE("{}"));
    }
    return outcome(run, req, arm);
}

static enum gw_err op_page(struct run *run)
{
    bool arm = fault.armed;
    struct json_writer w;
    struct request *req;
    struct page p;
    struct buf out;

    fault.armed = false;
    req = make();
    req->query = slice_cstr(run->input);
    fault.armed = arm;
    if (page_read(req, &p)) {
        buf_init(&out, 65536);
        page_begin(&w, &out);
        json_put_int(&w, 1);
        page_reply(req, &p, 100, &w);
        buf_deinit(&out);
    }
    if (req->status == 200) {
        assert_in(out_header(req, "Link"), "rel=\"first\"");
        assert_in(out_header(req, "Link"), "rel=\"last\"");
        assert_string_equal(out_header(req, "X-Total-Count"), "100");
    }
    return outcome(run, req, arm);
}

static enum gw_err op_alias(struct run *run)
{
    static const struct route rows[] = {
        {HTTP_POST, "/api/v1/chat", NULL, SURFACE_NATIVE},
        {HTTP_GET, "/api/v1/things/{id}", NULL, SURFACE_NATIVE},
    };
    const struct route *all = NULL;
    unsigned n = 0;
    enum gw_err err = legacy_widen(run->arena, rows, 2, &all, &n);

    for (unsigned i = 0; !err && i < n; i++)
        show(run, slice_cstr(all[i].path));
    return err;
}

static void test_check_094_a_body_is_read_whole_or_not_at_all(void **state)
{
    torture("a body", op_read,
            "{\"name\":\"\\u00fcber\",\"price\":1.5,\"tags\":[\"a\",\"\\u0062\",\"c\"]}");
    torture("a wrong body", op_read,
            "{\"price\":11,\"tags\":[\"a b\",7],\"x\":1,\"y~/\":2,\"name\":null}");
    torture("no JSON", op_read, "{\"name\":");
    torture("no body", op_read, "");
}

static void test_check_094_arguments_are_read_whole_or_not_at_all(void **state)
{
    torture("arguments", op_query, "name=%C3%BCber&price=1.5&tags=a,b,,c");
    torture("wrong arguments", op_query, "name=%zz&price=11&tags=a%20b");
}

static void test_check_094_pages_have_all_their_links_or_are_not_sent(void **state)
{
    torture("a page", op_page, "page=3&per_page=10&q=a%20b");
    torture("no page", op_page, "page=x");
}

static void test_check_094_the_table_has_all_its_aliases_or_none(void **state)
{
    torture("aliases", op_alias, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_check_094_a_body_is_read_whole_or_not_at_all),
        T(test_check_094_arguments_are_read_whole_or_not_at_all),
        T(test_check_094_pages_have_all_their_links_or_are_not_sent),
        T(test_check_094_the_table_has_all_its_aliases_or_none),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
