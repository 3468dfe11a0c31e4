/* test_sanitize.c - text made safe for one use (gateway/core/sanitize.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/sanitize.h"

#include <arpa/inet.h>
#include <stdlib.h>

static struct arena *arena;

static int set_up(void **state)
{
    arena = arena_create(1 << 20);
    return arena ? 0 : -1;
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    return 0;
}

static void expect(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(got), want);
}

static void test_html_is_escaped_for_content_and_attributes(void **state)
{
    struct buf b;

    buf_init(&b, 4096);
    sanitize_html(&b, SLICE("<a href=\"x\" title='y'>Tom & \xc3\xbc</a>"));
    expect(buf_slice(&b),
           "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;Tom &amp; \xc3\xbc&lt;/a&gt;");
    buf_deinit(&b);
}

static void test_a_search_is_one_line_of_so_many_characters(void **state)
{
    expect(sanitize_query(arena, SLICE("  a\t\r\n b\x01\x7f\xc2\x85 c  "), 100), "a b c");
    expect(sanitize_query(arena, SLICE("\xc3\xbc\xc3\xbc\xc3\xbc"), 2), "\xc3\xbc\xc3\xbc");
    expect(sanitize_query(arena, SLICE("ab cd"), 4), "ab c");
    expect(sanitize_query(arena, SLICE("ab cd"), 3), "ab");
    expect(sanitize_query(arena, SLICE(" \n "), 10), "");
    expect(sanitize_query(arena, SLICE("' OR 1=1"), 10), "' OR 1=1");
}

static void test_paths_are_cut_off_file_names(void **state)
{
    static const char *const rows[][2] = {
        {"report.pdf", "report.pdf"},
        {"../../../etc/passwd", "passwd"},
        {"..\\..\\windows\\system32\\config", "config"},
        {"/etc/shadow", "shadow"},
        {"C:\\boot.ini", "boot.ini"},
        {"....//....//x", "x"},
        {"..", "file"},
        {".", "file"},
        {"", "file"},
        {"a/", "file"},
        {".htaccess", "htaccess"},
        {"-rf", "rf"},
        {"..%2f..%2fx", "_2f._2fx"},
        {"a..b", "a.b"},
        {"a\nb\x7f.txt", "ab.txt"},
        {"$(id);`x`|y.txt", "_(id)__x__y.txt"},
        {"name. . ", "name"},
        {"CON", "_CON"},
        {"con.txt", "_con.txt"},
        {"LPT1.doc", "_LPT1.doc"},
        {"console.txt", "console.txt"},
        {"\xc3\xbc\xe2\x82\xac.txt", "\xc3\xbc\xe2\x82\xac.txt"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        expect(sanitize_filename(arena, slice_cstr(rows[i][0])), rows[i][1]);
}

static void test_long_file_names_keep_their_extension(void **state)
{
    char name[400];
    struct slice got;

    for (size_t i = 0; i + 1 < sizeof(name); i += 2)
        memcpy(name + i, "\xc3\xbc", 2);
    memcpy(name + 390, ".pdf", 4);
    got = sanitize_filename(arena, slice_of(name, 394));
    assert_true(got.n <= 255 && got.n >= 253);
    assert_memory_equal(got.p + got.n - 4, ".pdf", 4);
    assert_int_equal((unsigned char)got.p[got.n - 5], 0xbc);
}

static void each(bool good, const char *const *urls)
{
    for (; *urls; urls++) {
        const char *why = sanitize_url(slice_cstr(*urls));

        if ((why == NULL) != good)
            fail_msg("%s: %s", *urls, why ? why : "accepted");
    }
}

static void test_public_urls_may_be_fetched(void **state)
{
    each(true, (const char *const[]){"https://example.org", "http://example.org:8080/a?b=c#d",
                                     "https://sub.example.co.uk/", "http://93.184.216.34/",
                                     "http://[2606:2800:220:1::1]:443/x", "https://example.org./",
                                     "https://local.example.org/", NULL});
}

static void test_urls_that_lead_inside_are_refused(void **state)
{
    each(false, (const char *const[]){"http://127.0.0.1/",
                                      "http://127.1/",
                                      "http://2130706433/",
                                      "http://0x7f.1/",
                                      "http://0x7f000001/",
                                      "http://0177.0.0.1/",
                                      "http://0/",
                                      "http://10.0.0.1/",
                                      "http://172.16.0.1/",
                                      "http://172.31.255.255/",
                                      "http://192.168.1.1/",
                                      "http://169.254.169.254/latest/meta-data",
                                      "http://100.64.0.1/",
                                      "http://224.0.0.1/",
                                      "http://255.255.255.255/",
                                      "http://127.0.0.1./",
                                      "http://[::1]/",
                                      "http://[::]/",
                                      "http://[fe80::1]/",
                                      "http://[fc00::1]/",
                                      "http://[fd00::1]/",
                                      "http://[ff02::1]/",
                                      "http://[::ffff:127.0.0.1]/",
                                      "http://[::ffff:a00:1]/",
                                      "http://[64:ff9b::7f00:1]/",
                                      "http://[2002:7f00:1::]/",
                                      "http://[2001:db8::1]/",
                                      "http://[fe80::1%25eth0]/",
                                      "http://localhost/",
                                      "http://LOCALHOST:80/",
                                      "http://a.localhost/",
                                      "http://printer.local/",
                                      "http://metadata.google.internal/",
                                      "http://postgres:5432/",
                                      "http://localhost./",
                                      NULL});
}

static void test_urls_that_are_none_are_refused(void **state)
{
    each(false, (const char *const[]){"",
                                      "example.org",
                                      "//example.org/",
                                      "ftp://example.org/",
                                      "file:///etc/passwd",
                                      "javascript:alert(1)",
                                      "data:text/html,x",
                                      "gopher://example.org/",
                                      "http://",
                                      "http:///x",
                                      "http://user@example.org/",
                                      "http://user:pw@example.org/",
                                      "http://example.org@127.0.0.1/",
                                      "http://example.org:port/",
                                      "http://example.org:123456/",
                                      "http://example.org\\@127.0.0.1/",
                                      "http://exa mple.org/",
                                      "http://example.org/\n",
                                      "http://%31%32%37.0.0.1/",
                                      "http://[::1/",
                                      "http://[2606:2800:220:1::1]x/",
                                      "http://exam_ple.org/",
                                      "http://a..example.org/",
                                      "http://\xc3\xbc.example.org/",
                                      NULL});
}

static void test_addresses_of_names_are_judged_too(void **state)
{
    const unsigned char private4[] = {10, 0, 0, 1}, public4[] = {8, 8, 8, 8};
    const unsigned char loop6[16] = {[15] = 1}, public6[16] = {0x2a, 0x00, [15] = 1};

    assert_false(sanitize_is_public(AF_INET, private4));
    assert_true(sanitize_is_public(AF_INET, public4));
    assert_false(sanitize_is_public(AF_INET6, loop6));
    assert_true(sanitize_is_public(AF_INET6, public6));
    assert_false(sanitize_is_public(AF_UNIX, public4));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_html_is_escaped_for_content_and_attributes),
        TEST(test_a_search_is_one_line_of_so_many_characters),
        TEST(test_paths_are_cut_off_file_names),
        TEST(test_long_file_names_keep_their_extension),
        TEST(test_public_urls_may_be_fetched),
        TEST(test_urls_that_lead_inside_are_refused),
        TEST(test_urls_that_are_none_are_refused),
        TEST(test_addresses_of_names_are_judged_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
