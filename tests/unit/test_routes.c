/* test_routes.c - promises every row of the table of routes keeps (handlers/routes.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "handlers/routes.c"

static bool has_body(enum http_method m)
{
    return m == HTTP_POST || m == HTTP_PUT || m == HTTP_PATCH;
}

static bool is_native(const struct route *r)
{
    return r->surface == SURFACE_NATIVE && strncmp(r->path, "/api/v1/", 8) == 0;
}

static void test_every_native_route_that_takes_a_body_has_a_form(void **state)
{
    unsigned n = 0;

    for (size_t i = 0; i < N_ROUTES; i++) {
        const struct route *r = &routes[i];

        if (!is_native(r) || !has_body(r->method) || r->body == BODY_UPLOAD)
            continue;
        n++;
        if (!r->form)
            fail_msg("%s %s has no form", http_method_name(r->method), r->path);
    }
    assert_true(n >= 3);
}

/* What a form asks for can be sent: the body's class is that of JSON. */
static void test_a_form_with_fields_goes_with_a_json_body(void **state)
{
    for (size_t i = 0; i < N_ROUTES; i++) {
        const struct route *r = &routes[i];

        if (r->form && r->form->n && r->body != BODY_JSON && r->body != BODY_CHAT)
            fail_msg("%s %s cannot be sent its form", http_method_name(r->method), r->path);
        if (r->form && !has_body(r->method))
            fail_msg("%s %s has a form and no body", http_method_name(r->method), r->path);
    }
}

static void check_form(const struct route *r, const struct form *f)
{
    assert_true(f->n <= FORM_MAX_FIELDS);
    for (unsigned i = 0; i < f->n; i++) {
        const struct form_field *row = &f->fields[i];

        if (!row->name || row->at >= f->size + (row->type == FORM_OBJECT))
            fail_msg("%s: field %u", r->path, i);
        if (row->max && row->min > row->max)
            fail_msg("%s: %s has min over max", r->path, row->name);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(row->name, f->fields[k].name);
        if (row->form)
            check_form(r, row->form);
    }
}

static void test_every_form_is_well_made(void **state)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        if (routes[i].form)
            check_form(&routes[i], routes[i].form);
}

static void test_administration_is_for_administrators(void **state)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        if (strncmp(routes[i].path, "/api/v1/admin", 13) == 0)
            assert_int_equal(routes[i].access, ACCESS_ADMIN);
}

/* What a change is called in the audit record, also when it is refused. */
static void test_every_change_of_accounts_or_the_system_names_its_act(void **state)
{
    unsigned n = 0;

    for (size_t i = 0; i < N_ROUTES; i++) {
        const struct route *r = &routes[i];
        bool account = r->rate == RATE_AUTH || strstr(r->path, "/auth/") != NULL;

        if (r->method == HTTP_GET || (r->access != ACCESS_ADMIN && !account))
            continue;
        n++;
        if (!r->act && r->access != ACCESS_PUBLIC)
            fail_msg("%s %s names no act", http_method_name(r->method), r->path);
    }
    assert_true(n >= 10);
}

static void test_the_router_takes_the_table_with_its_aliases(void **state)
{
    struct arena *a = arena_create(65536);
    struct slice params[REQUEST_MAX_PARAMS], allow = SLICE_NONE;
    const struct route *r = NULL;

    assert_non_null(a);
    assert_int_equal(routes_init(), GW_OK);
    assert_int_equal(router_find(a, HTTP_POST, SLICE("/chat"), &r, params, &allow), GW_OK);
    assert_string_equal(r->successor, "/api/v1/chat");
    assert_ptr_equal(r->form, &native_chat_form);
    routes_deinit();
    arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_native_route_that_takes_a_body_has_a_form),
        cmocka_unit_test(test_a_form_with_fields_goes_with_a_json_body),
        cmocka_unit_test(test_every_form_is_well_made),
        cmocka_unit_test(test_administration_is_for_administrators),
        cmocka_unit_test(test_every_change_of_accounts_or_the_system_names_its_act),
        cmocka_unit_test(test_the_router_takes_the_table_with_its_aliases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
