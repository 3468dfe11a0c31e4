/* test_page.c - pages of lists and their links (gateway/http/page.h). */
#include "tests/unit/middleware_harness.h"

#include "gateway/http/page.h"

static struct page page;
static struct request *req;

static bool reads(const char *query)
{
    if (req)
        drop(req);
    req = request_of(&public_route);
    req->query = slice_cstr(query);
    return page_read(req, &page);
}

static int end(void **state)
{
    if (req)
        drop(req);
    req = NULL;
    return leave(state);
}

static const char *header(const char *name)
{
    const char *value = out_header(req, name);

    return value ? value : "";
}

static const char *link_of(const char *query, int64_t total)
{
    assert_true(reads(query));
    assert_true(page_set_headers(req, &page, total));
    return header("Link");
}

static void test_without_arguments_it_is_the_first_page_of_twenty(void **state)
{
    assert_true(reads(""));
    assert_int_equal(page.page, 1);
    assert_int_equal(page.per_page, 20);
    assert_int_equal(page.offset, 0);
    assert_true(reads("page=3&per_page=100"));
    assert_int_equal(page.offset, 200);
    assert_true(reads("page=1000000000&per_page=100"));
    assert_true(page.offset == INT64_C(99999999900));
}

static void refused(const char *query, const char *errors)
{
    if (reads(query))
        fail_msg("was accepted: %s", query);
    assert_in(conn.sent, "HTTP/1.1 422 ");
    assert_in(conn.sent, errors);
}

static void test_pages_that_cannot_be_are_422(void **state)
{
    refused("page=0",
            "{\"param\":\"page\",\"detail\":\"must be a whole number from 1 to 1000000000\"}");
    refused("per_page=101&page=x",
            "\"errors\":[{\"param\":\"page\",\"detail\":\"must be a whole number from 1 to "
            "1000000000\"},{\"param\":\"per_page\",\"detail\":\"must be a whole number from 1 to "
            "100\"}]");
    refused("per_page=0", "\"param\":\"per_page\"");
    refused("per_page=-1", "\"param\":\"per_page\"");
    refused("page=", "\"param\":\"page\"");
    refused("page=1e40", "\"param\":\"page\"");
    refused("page=99999999999999999999", "\"param\":\"page\"");
    refused("page=1%00", "\"param\":\"page\"");
}

static void test_links_name_first_prev_next_and_last(void **state)
{
    assert_string_equal(link_of("page=2&per_page=10", 35),
                        "</public/7?page=1&per_page=10>; rel=\"first\", "
                        "</public/7?page=1&per_page=10>; rel=\"prev\", "
                        "</public/7?page=3&per_page=10>; rel=\"next\", "
                        "</public/7?page=4&per_page=10>; rel=\"last\"");
    assert_string_equal(header("X-Total-Count"), "35");
    assert_string_equal(link_of("per_page=10", 10),
                        "</public/7?page=1&per_page=10>; rel=\"first\", "
                        "</public/7?page=1&per_page=10>; rel=\"last\"");
    assert_string_equal(link_of("", 0), "</public/7?page=1&per_page=20>; rel=\"first\", "
                                        "</public/7?page=1&per_page=20>; rel=\"last\"");
    assert_string_equal(link_of("page=9", 25), "</public/7?page=1&per_page=20>; rel=\"first\", "
                                               "</public/7?page=2&per_page=20>; rel=\"prev\", "
                                               "</public/7?page=2&per_page=20>; rel=\"last\"");
}

static void test_links_keep_other_arguments_but_no_credential(void **state)
{
    link_of("sort=name&page=1&key=pk-secret&q=a%20b%3E<x>\"&&per_page=5", 6);
    assert_in(header("Link"),
              "</public/7?sort=name&q=a%20b%3E%3Cx%3E%22&page=2&per_page=5>; rel=\"next\"");
    assert_not_in(header("Link"), "secret");
}

static void test_links_are_absolute_behind_a_trusted_proxy(void **state)
{
    req = request_of(&public_route, "host", "10.0.0.1:8765", "x-forwarded-proto", "https",
                     "x-forwarded-host", "api.example.org");
    assert_true(page_read(req, &page));
    assert_true(page_set_headers(req, &page, 1));
    assert_in(header("Link"), "</public/7?page=1");
    req->peer_trusted = true;
    assert_true(page_set_headers(req, &page, 1));
    assert_in(header("Link"), "<https://api.example.org/public/7?page=1");
    drop(req);
    req = request_of(&public_route, "host", "a.example", "x-forwarded-proto", "http");
    req->peer_trusted = true;
    assert_slice(page_url(req, SLICE("/a b\"%2F")), "http://a.example/a%20b%22%2F");
    drop(req);
    req = request_of(&public_route, "host", "a.example", "x-forwarded-proto", "javascript");
    req->peer_trusted = true;
    assert_slice(page_url(req, SLICE("/a")), "/a");
    drop(req);
    req = request_of(&public_route, "host", "a>b", "x-forwarded-proto", "https");
    req->peer_trusted = true;
    assert_slice(page_url(req, SLICE("/a")), "/a");
}

static void test_a_list_is_answered_with_its_numbers(void **state)
{
    struct json_writer w;
    struct buf out;

    assert_true(reads("page=2&per_page=2"));
    buf_init(&out, 4096);
    page_begin(&w, &out);
    json_put_str(&w, SLICE("c"));
    page_reply(req, &page, 3, &w);
    buf_deinit(&out);
    assert_in(conn.sent, "{\"items\":[\"c\"],\"page\":2,\"per_page\":2,\"total\":3}");
    assert_in(conn.sent, "X-Total-Count: 3\r\n");
    assert_in(conn.sent, "rel=\"prev\"");
    assert_not_in(conn.sent, "rel=\"next\"");
}

#define R(name) cmocka_unit_test_setup_teardown(name, enter, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        R(test_without_arguments_it_is_the_first_page_of_twenty),
        R(test_pages_that_cannot_be_are_422),
        R(test_links_name_first_prev_next_and_last),
        R(test_links_keep_other_arguments_but_no_credential),
        R(test_links_are_absolute_behind_a_trusted_proxy),
        R(test_a_list_is_answered_with_its_numbers),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
