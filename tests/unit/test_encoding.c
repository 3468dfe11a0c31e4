/* test_encoding.c - gzip of whole answers (gateway/http/encoding.h) and Vary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http/encoding.h"

#include <string.h>
#include <zlib.h>

#define BIG 300000u

static struct arena *arena;
static struct request *req;
static struct conf conf;
static struct http_header headers[2];
static char text[BIG];

static int set_up(void **state)
{
    arena = arena_create(1 << 20);
    assert_non_null(arena);
    req = arena_new(arena, struct request);
    assert_non_null(req);
    req->arena = arena;
    req->conf = &conf;
    req->headers = headers;
    conf.gzip = true;
    conf.gzip_min_bytes = 100;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = "{\"key\": \"value\"} "[i % 17];
    return 0;
}

static int tear_down(void **state)
{
    arena_destroy(arena);
    return 0;
}

static void accept_line(const char *line)
{
    headers[0] = (struct http_header){SLICE("Accept-Encoding"), slice_cstr(line)};
    req->n_headers = line ? 1 : 0;
}

static const char *out_header(const char *name)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is(req->out[i].name, name))
            return arena_cstr(arena, req->out[i].value);
    return NULL;
}

static void test_codings_are_weighed_as_rfc_9110_says(void **state)
{
    static const struct {
        const char *line;
        bool gzip;
    } cases[] = {
        {"gzip", true},
        {"GZip", true},
        {"x-gzip", true},
        {"deflate, gzip;q=1.0, *;q=0.5", true},
        {"*", true},
        {"gzip;q=0.001", true},
        {"gzip ; q=0.5 , br", true},
        {"gzip;level=9;q=1", true},
        {"br;q=1.0, gzip;q=0.8", true},
        {"gzip;q=0.5, identity;q=0.5", true},
        {"", false},
        {"identity", false},
        {"deflate, br", false},
        {"gzip;q=0", false},
        {"gzip;q=0.000", false},
        {"*;q=0", false},
        {"gzip;q=0, *", false},
        {"gzip;q=0.2, identity;q=0.8", false},
        {"gzip;q=", false},
        {"gzip;q=2", false},
        {"gzip;q=1.5", false},
        {"gzip;q=-1", false},
        {"gzip;q=0.1234", false},
        {"gzip;q=high", false},
        {"gzipped", false},
        {",,;;,=,q=1", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        accept_line(cases[i].line);
        if (encoding_accepts_gzip(req) != cases[i].gzip)
            fail_msg("%s", cases[i].line);
    }
    accept_line(NULL);
    assert_false(encoding_accepts_gzip(req));
}

static void test_several_lines_are_one_list(void **state)
{
    accept_line("br");
    headers[1] = (struct http_header){SLICE("accept-encoding"), SLICE("gzip")};
    req->n_headers = 2;
    assert_true(encoding_accepts_gzip(req));
}

static void test_what_may_be_compressed_depends_on_type_length_and_configuration(void **state)
{
    accept_line("gzip");
    assert_true(encoding_choose(req, SLICE("application/json"), 100));
    assert_true(encoding_choose(req, SLICE("Application/JSON; charset=utf-8"), 262144));
    assert_true(encoding_choose(req, SLICE("application/problem+json"), 500));
    assert_false(encoding_choose(req, SLICE("application/json"), 99));
    assert_false(encoding_choose(req, SLICE("application/json"), 262145));
    assert_false(encoding_choose(req, SLICE("text/event-stream"), 500));
    assert_false(encoding_choose(req, SLICE("application/jsonx"), 500));
    assert_false(encoding_choose(req, SLICE_NONE, 500));
    request_set_header(req, "Content-Encoding", SLICE("br"));
    assert_false(encoding_choose(req, SLICE("application/json"), 500));
    req->n_out = 0;
    conf.gzip = false;
    assert_false(encoding_choose(req, SLICE("application/json"), 500));
}

static void test_vary_is_told_to_those_who_did_not_ask_too_and_keeps_what_was_there(void **state)
{
    accept_line(NULL);
    assert_false(encoding_choose(req, SLICE("application/json"), 50));
    assert_null(out_header("Vary"));
    assert_false(encoding_choose(req, SLICE("application/json"), 500));
    assert_string_equal(out_header("Vary"), "Accept-Encoding");
    request_vary(req, "Origin");
    request_vary(req, "origin");
    request_vary(req, "Accept-Encoding");
    assert_string_equal(out_header("Vary"), "Accept-Encoding, Origin");
    request_set_header(req, "Vary", SLICE("*"));
    request_vary(req, "Origin");
    assert_string_equal(out_header("Vary"), "*");
}

/* Decompresses and compares. */
static void check_gzip(struct slice packed, struct slice plain)
{
    static char back[BIG];
    z_stream z = {.next_in = (Bytef *)packed.p,
                  .avail_in = (uInt)packed.n,
                  .next_out = (Bytef *)back,
                  .avail_out = sizeof(back)};

    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    assert_int_equal(z.total_out, plain.n);
    assert_memory_equal(back, plain.p, plain.n);
    inflateEnd(&z);
}

static void test_compressed_bodies_come_back_one_after_another(void **state)
{
    static const size_t sizes[] = {200, 262144, 65536, 101, 100000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct slice plain = slice_of(text, sizes[i]), packed = encoding_gzip(req, plain);

        assert_true(packed.n < plain.n);
        check_gzip(packed, plain);
        assert_string_equal(out_header("Content-Encoding"), "gzip");
        req->n_out = 0;
    }
}

static void test_a_body_that_does_not_get_shorter_stays_as_it_is(void **state)
{
    struct slice noise;
    uint32_t x = 1;

    for (size_t i = 0; i < 1000; i++) {
        x = x * 1664525u + 1013904223u;
        text[i] = (char)(x >> 24);
    }
    noise = slice_of(text, 1000);
    assert_ptr_equal(encoding_gzip(req, noise).p, noise.p);
    assert_null(out_header("Content-Encoding"));
    assert_int_equal(encoding_gzip(req, SLICE_NONE).n, 0);
    assert_null(out_header("Content-Encoding"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_codings_are_weighed_as_rfc_9110_says),
        TEST(test_several_lines_are_one_list),
        TEST(test_what_may_be_compressed_depends_on_type_length_and_configuration),
        TEST(test_vary_is_told_to_those_who_did_not_ask_too_and_keeps_what_was_there),
        TEST(test_compressed_bodies_come_back_one_after_another),
        TEST(test_a_body_that_does_not_get_shorter_stays_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
