/* test_form.c - bodies and query arguments read by tables (gateway/http/form.h). */
#include "tests/unit/middleware_harness.h"

#include "gateway/http/form.h"

struct thing {
    struct slice id, title, note, email, url, file, day, role, secret, model, temperature;
    int64_t count, price, rpm;
    bool on;
    struct form_list tags;
    struct json extra, any;
};

#define AT(member) offsetof(struct thing, member)

static const struct form_field limit_fields[] = {
    {"rpm", FORM_INT, AT(rpm), .required = true, .min = 1, .max = 1000},
};
static const struct form limits = FORM_OF(struct thing, limit_fields);

static const struct form_field fields[] = {
    {"id", FORM_STRING, AT(id), .required = true, .class = FORM_IDENTIFIER, .min = 1, .max = 8},
    {"title", FORM_STRING, AT(title), .class = FORM_LINE, .max = 10},
    {"note", FORM_STRING, AT(note), .nullable = true},
    {"email", FORM_STRING, AT(email), .class = FORM_EMAIL},
    {"url", FORM_STRING, AT(url), .class = FORM_URL},
    {"file", FORM_STRING, AT(file), .class = FORM_FILENAME},
    {"day", FORM_STRING, AT(day), .class = FORM_DATE},
    {"role", FORM_STRING, AT(role), .words = "user admin"},
    {"secret", FORM_STRING, AT(secret), .class = FORM_OPAQUE},
    {"model", FORM_STRING, AT(model), .class = FORM_MODEL},
    {"temperature", FORM_NUMBER, AT(temperature), .min = 0, .max = 2},
    {"count", FORM_INT, AT(count), .min = -5, .max = 5},
    {"price", FORM_DECIMAL, AT(price), .min = 0, .max = 1000000},
    {"on", FORM_BOOL, AT(on)},
    {"tags", FORM_STRINGS, AT(tags), .class = FORM_IDENTIFIER, .min = 1, .max = 3, .item_max = 4},
    {"limits", FORM_OBJECT, 0, .form = &limits},
    {"extra", FORM_OBJECT, AT(extra)},
    {"any", FORM_ANY, AT(any)},
};
static const struct form form = FORM_OF(struct thing, fields);
static const struct route route = {HTTP_POST, "/api/v1/things", NULL, SURFACE_NATIVE,
                                   .form = &form};

static struct thing got;
static struct form_seen seen;
static struct request *req;

/* Reads a body; false when it was refused, and then what was sent is in conn.sent. */
static bool reads(const char *body)
{
    if (req)
        drop(req);
    got = (struct thing){.count = 3, .role = SLICE("user")};
    req = request_of(&route);
    req->body = slice_cstr(body);
    return form_read(req, &got, &seen);
}

static void refused(const char *body, const char *status, const char *errors)
{
    if (reads(body))
        fail_msg("was accepted: %s", body);
    assert_int_equal(conn.answers, 1);
    assert_in(conn.sent, status);
    assert_in(conn.sent, errors);
}

#define REFUSED(body, errors) refused(body, "HTTP/1.1 422 ", errors)

static int end(void **state)
{
    if (req)
        drop(req);
    req = NULL;
    return leave(state);
}

static void test_every_type_is_read_into_the_struct(void **state)
{
    int64_t n = 0;

    assert_true(reads(
        "{\"id\":\"a-1\",\"title\":\"\\u00fcber\",\"email\":\"a.b@c.example\","
        "\"url\":\"https://a.example:8443/x?y=1\",\"file\":\"r 1.pdf\",\"day\":\"2024-02-29\","
        "\"role\":\"admin\",\"secret\":\"' OR 1=1\",\"model\":\"openai/gpt-4*\","
        "\"temperature\":0.70,\"count\":-5,\"price\":12.000000001,\"on\":true,"
        "\"tags\":[\"a\",\"b2\"],\"limits\":{\"rpm\":60},\"extra\":{\"z\":[1]},\"any\":7}"));
    assert_slice(got.id, "a-1");
    assert_slice(got.title, "\xc3\xbc"
                            "ber");
    assert_slice(got.email, "a.b@c.example");
    assert_slice(got.url, "https://a.example:8443/x?y=1");
    assert_slice(got.file, "r 1.pdf");
    assert_slice(got.day, "2024-02-29");
    assert_slice(got.role, "admin");
    assert_slice(got.secret, "' OR 1=1");
    assert_slice(got.model, "openai/gpt-4*");
    assert_slice(got.temperature, "0.70");
    assert_int_equal(got.count, -5);
    assert_true(got.price == INT64_C(12000000001));
    assert_true(got.on);
    assert_int_equal(got.tags.n, 2);
    assert_slice(got.tags.items[1], "b2");
    assert_int_equal(got.rpm, 60);
    assert_slice(json_raw(got.extra), "{\"z\":[1]}");
    assert_true(json_int(got.any, &n));
    assert_int_equal(n, 7);
}

static void test_absent_and_null_fields_leave_the_default(void **state)
{
    assert_true(reads("{\"id\":\"a\",\"count\":null,\"note\":null}"));
    assert_int_equal(got.count, 3);
    assert_slice(got.role, "user");
    assert_true(form_given(&form, &seen, "id"));
    assert_false(form_given(&form, &seen, "count"));
    assert_false(form_nulled(&form, &seen, "count"));
    assert_true(form_nulled(&form, &seen, "note"));
    assert_false(form_given(&form, &seen, "note"));
    assert_false(form_nulled(&form, &seen, "email"));
}

static void test_every_failure_is_told_with_its_pointer(void **state)
{
    REFUSED("{\"id\":7,\"count\":6,\"role\":\"root\",\"x/y~z\":1,\"tags\":[\"ok\",5,\"a b\"],"
            "\"limits\":{\"rpm\":0,\"rps\":1},\"on\":\"yes\",\"on\":true}",
            "\"errors\":["
            "{\"pointer\":\"/id\",\"detail\":\"must be a string\"},"
            "{\"pointer\":\"/count\",\"detail\":\"must be a whole number from -5 to 5\"},"
            "{\"pointer\":\"/role\",\"detail\":\"must be one of: user admin\"},"
            "{\"pointer\":\"/x~1y~0z\",\"detail\":\"is not known here\"},"
            "{\"pointer\":\"/tags/1\",\"detail\":\"must be a string\"},"
            "{\"pointer\":\"/tags/2\",\"detail\":\"must start with a letter or digit and hold only "
            "those and . _ - : @\"},"
            "{\"pointer\":\"/limits/rpm\",\"detail\":\"must be a whole number from 1 to 1000\"},"
            "{\"pointer\":\"/limits/rps\",\"detail\":\"is not known here\"},"
            "{\"pointer\":\"/on\",\"detail\":\"must be true or false\"},"
            "{\"pointer\":\"/on\",\"detail\":\"is there more than once\"}]");
    assert_in(conn.sent, "\"detail\":\"10 fields are wrong; `errors` names them.\"");
    assert_in(conn.sent, "Content-Type: application/problem+json");
}

static void test_one_failure_is_also_told_in_words(void **state)
{
    REFUSED("{}", "\"errors\":[{\"pointer\":\"/id\",\"detail\":\"is required\"}]");
    assert_in(conn.sent, "\"detail\":\"/id is required.\"");
    REFUSED("{\"id\":null}", "{\"pointer\":\"/id\",\"detail\":\"must not be null\"}");
    REFUSED("{\"id\":\"a\",\"limits\":{}}",
            "{\"pointer\":\"/limits/rpm\",\"detail\":\"is required\"}");
    REFUSED("[1]", "\"errors\":[{\"pointer\":\"\",\"detail\":\"must be an object\"}]");
    assert_in(conn.sent, "\"detail\":\"The body must be an object.\"");
}

static void test_lengths_are_counted_in_characters(void **state)
{
    assert_true(reads("{\"id\":\"12345678\"}"));
    REFUSED("{\"id\":\"123456789\"}", "must have 1 to 8 characters");
    REFUSED("{\"id\":\"\"}", "must have 1 to 8 characters");
    assert_true(reads("{\"id\":\"a\",\"title\":\"\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc"
                      "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\"}"));
    REFUSED("{\"id\":\"a\",\"title\":\"\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc"
            "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc.\"}",
            "must have 0 to 10 characters");
    REFUSED("{\"id\":\"a\",\"tags\":[]}", "must have 1 to 3 elements");
    REFUSED("{\"id\":\"a\",\"tags\":[\"a\",\"b\",\"c\",\"d\"]}", "must have 1 to 3 elements");
    REFUSED("{\"id\":\"a\",\"tags\":[\"12345\"]}", "must have 1 to 4 characters");
}

static void test_money_is_exact_or_refused(void **state)
{
    assert_true(reads("{\"id\":\"a\",\"price\":1e-9}"));
    assert_true(got.price == 1);
    assert_true(reads("{\"id\":\"a\",\"price\":1e6}"));
    assert_true(got.price == INT64_C(1000000000000000));
    REFUSED("{\"id\":\"a\",\"price\":1e-10}", "at most nine decimals from 0 to 1000000");
    REFUSED("{\"id\":\"a\",\"price\":1000000.000000001}", "at most nine decimals");
    REFUSED("{\"id\":\"a\",\"price\":-0.01}", "at most nine decimals");
    REFUSED("{\"id\":\"a\",\"price\":\"1\"}", "at most nine decimals");
    REFUSED("{\"id\":\"a\",\"count\":1.5}", "must be a whole number");
    assert_true(reads("{\"id\":\"a\",\"count\":0.4e1}"));
    assert_int_equal(got.count, 4);
}

static void test_check_47_whole_numbers_beyond_doubles_survive(void **state)
{
    static const struct form_field big[] = {{"count", FORM_INT, AT(count)}};
    const struct form f = FORM_OF(struct thing, big);
    const struct route r = {HTTP_POST, "/x", NULL, SURFACE_NATIVE, .form = &f};
    struct request *q = request_of(&r);
    struct thing t = {0};

    q->body = SLICE("{\"count\":9007199254740993}");
    assert_true(form_read(q, &t, NULL));
    assert_true(t.count == INT64_C(9007199254740993));
    drop(q);
    q = request_of(&r);
    q->body = SLICE("{\"count\":9223372036854775808}");
    assert_false(form_read(q, &t, NULL));
    assert_in(conn.sent, "{\"pointer\":\"/count\",\"detail\":\"must be a whole number\"}");
    drop(q);
}

static void test_check_46_what_is_no_json_is_400(void **state)
{
    refused("{\"id\":", "HTTP/1.1 400 ", "malformed-json");
    refused("{\"id\":\"a\\u0000\"}", "HTTP/1.1 400 ", "malformed-json");
    refused("{\"id\":\"\xff\"}", "HTTP/1.1 400 ", "malformed-json");
    refused("{\"id\":\"\\ud800\"}", "HTTP/1.1 400 ", "malformed-json");
}

static void test_a_body_of_no_bytes_is_an_empty_object(void **state)
{
    const struct route r = {HTTP_POST, "/x", NULL, SURFACE_NATIVE, .form = &form_empty};
    struct request *q = request_of(&r);
    char nothing;

    assert_true(form_read(q, &nothing, NULL));
    drop(q);
    REFUSED("", "{\"pointer\":\"/id\",\"detail\":\"is required\"}");
    q = request_of(&r);
    q->body = SLICE("{\"x\":1}");
    assert_false(form_read(q, &nothing, NULL));
    assert_in(conn.sent, "{\"pointer\":\"/x\",\"detail\":\"is not known here\"}");
    drop(q);
}

static void test_check_45_only_so_many_failures_are_told(void **state)
{
    char *body = malloc(200 * 128), *p = body;

    assert_non_null(body);
    *p++ = '{';
    for (int i = 0; i < 200; i++)
        p += sprintf(p, "%s\"%0100d\":0", i ? "," : "", i);
    strcpy(p, "}");
    REFUSED(body, "At least 50 fields are wrong");
    assert_in(conn.sent, "000...\",\"detail\":\"is not known here\"");
    free(body);
}

/* --- classes ---------------------------------------------------------------------------------- */

static void each(enum form_class class, bool good, const char *const *texts)
{
    for (; *texts; texts++)
        if ((form_class_problem(class, slice_cstr(*texts)) == NULL) != good)
            fail_msg("class %d: \"%s\" is %s", class, *texts, good ? "refused" : "accepted");
}

#define GOOD(class, ...) each(class, true, (const char *const[]){__VA_ARGS__, NULL})
#define BAD(class, ...) each(class, false, (const char *const[]){__VA_ARGS__, NULL})

static void test_identifiers_are_strict(void **state)
{
    GOOD(FORM_IDENTIFIER, "a", "7", "alice", "alice@example.com", "a.b_c-d:e");
    BAD(FORM_IDENTIFIER, "", "-a", ".a", "a b", "a'", "a;b", "a/b", "..", "\xc3\xbc", "a\n",
        "a%00");
    GOOD(FORM_MODEL, "openai/gpt-4o", "*", "openai/*", "a+b");
    BAD(FORM_MODEL, "", "/a", "a b", "a\"b");
}

static void test_addresses_are_strict(void **state)
{
    GOOD(FORM_EMAIL, "a@b.co", "first.last+tag@sub.example.org", "o'neil@example.com");
    BAD(FORM_EMAIL, "", "a", "@b.co", "a@", "a@b", "a@@b.co", "a..b@c.de", ".a@b.co", "a.@b.co",
        "a b@c.de", "a@b..co", "a@-b.co", "a@b.co\r\nBcc: x", "\"a\"@b.co");
    GOOD(FORM_URL, "http://a.example", "https://a.example/", "HTTPS://A.example:443/p?q=%20#f",
         "http://[2001:db8::1]:80/", "http://127.0.0.1/");
    BAD(FORM_URL, "", "ftp://a.example", "javascript:alert(1)", "http://", "http:///x",
        "//a.example", "http://user:pw@a.example/", "http://a.example:0/",
        "http://a.example:65536/", "http://a.example:/", "http://a.example/a b",
        "http://a.example/<x>", "http://a_b.example/", "http://a.example/\n", "data:text/html,x",
        "file:///etc/passwd", "http://[::1", "http://a.example\\@b");
}

static void test_file_names_hold_no_path(void **state)
{
    GOOD(FORM_FILENAME, "a", "Invoice 2024-01.pdf", "\xc3\xbc.txt", "a.tar.gz");
    BAD(FORM_FILENAME, "", ".", "..", ".bashrc", "-rf", "a/b", "..\\a", "a\\b", "c:a", "a..b",
        "a\n", "a|b", "$(id)", "`id`", "a;b", "a ", "a.", " a", "\xe2\x80\xa8");
}

static void test_days_exist(void **state)
{
    GOOD(FORM_DATE, "2026-01-01", "2024-02-29", "2000-02-29");
    BAD(FORM_DATE, "", "2026-02-29", "1900-02-29", "2026-13-01", "2026-00-01", "2026-01-32",
        "2026-1-1", "20260101", "2026-01-0x", "2026-01-01T00:00:00Z");
}

static void test_a_title_is_one_line(void **state)
{
    GOOD(FORM_LINE, "", "a title", "\xf0\x9f\x98\x80", "' OR 1=1");
    BAD(FORM_LINE, "a\nb", "a\tb", "\x7f", "\xc2\x85", "a\xe2\x80\xa9");
    GOOD(FORM_FREE, "a\nb", "");
    GOOD(FORM_OPAQUE, "a\nb", "");
}

/* --- query arguments -------------------------------------------------------------------------- */

static const struct form_field query_fields[] = {
    {"id", FORM_STRING, AT(id), .required = true, .class = FORM_IDENTIFIER, .max = 8},
    {"count", FORM_INT, AT(count), .min = 1, .max = 9},
    {"on", FORM_BOOL, AT(on)},
    {"tags", FORM_STRINGS, AT(tags), .class = FORM_IDENTIFIER},
};
static const struct form query_form = FORM_OF(struct thing, query_fields);

static bool queries(const char *query)
{
    if (req)
        drop(req);
    got = (struct thing){.count = 3};
    req = request_of(&public_route);
    req->query = slice_cstr(query);
    return form_query(req, &query_form, &got, &seen);
}

static void test_query_arguments_are_read_by_the_same_tables(void **state)
{
    assert_true(queries("id=a%2D1&count=7&on=true&tags=x,%20y,,&unknown=%3Cscript%3E"));
    assert_slice(got.id, "a-1");
    assert_int_equal(got.count, 7);
    assert_true(got.on);
    assert_int_equal(got.tags.n, 2);
    assert_slice(got.tags.items[1], "y");
    assert_true(queries("id=a"));
    assert_int_equal(got.count, 3);
    assert_false(form_given(&query_form, &seen, "count"));
    assert_true(form_given(&query_form, &seen, "id"));
}

static void test_wrong_query_arguments_are_told_by_name(void **state)
{
    assert_false(queries("count=ten&on=1&tags=a,b%20c&id=%zz"));
    assert_in(conn.sent, "HTTP/1.1 422 ");
    assert_in(conn.sent, "\"errors\":["
                         "{\"param\":\"id\",\"detail\":\"must be percent-encoded UTF-8\"},"
                         "{\"param\":\"count\",\"detail\":\"must be a whole number from 1 to 9\"},"
                         "{\"param\":\"on\",\"detail\":\"must be true or false\"},"
                         "{\"param\":\"tags\",\"detail\":\"must start with");
    assert_false(queries("id=%ff"));
    assert_in(conn.sent, "{\"param\":\"id\",\"detail\":\"must be percent-encoded UTF-8\"}");
    assert_false(queries(""));
    assert_in(conn.sent, "{\"param\":\"id\",\"detail\":\"is required\"}");
}

static void test_a_query_argument_is_there_once(void **state)
{
    assert_false(queries("id=a&count=1&idx=3&count=2"));
    assert_in(conn.sent, "[{\"param\":\"count\",\"detail\":\"is there more than once\"}]");
    assert_false(queries("id=a&id=a"));
    assert_false(queries("id=a&id"));
    assert_true(queries("id=a&idx=1&idx=2&xid=1")); /* unknown ones are left alone */
}

#define R(name) cmocka_unit_test_setup_teardown(name, enter, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        R(test_every_type_is_read_into_the_struct),
        R(test_absent_and_null_fields_leave_the_default),
        R(test_every_failure_is_told_with_its_pointer),
        R(test_one_failure_is_also_told_in_words),
        R(test_lengths_are_counted_in_characters),
        R(test_money_is_exact_or_refused),
        R(test_check_47_whole_numbers_beyond_doubles_survive),
        R(test_check_46_what_is_no_json_is_400),
        R(test_a_body_of_no_bytes_is_an_empty_object),
        R(test_check_45_only_so_many_failures_are_told),
        R(test_identifiers_are_strict),
        R(test_addresses_are_strict),
        R(test_file_names_hold_no_path),
        R(test_days_exist),
        R(test_a_title_is_one_line),
        R(test_query_arguments_are_read_by_the_same_tables),
        R(test_wrong_query_arguments_are_told_by_name),
        R(test_a_query_argument_is_there_once),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
