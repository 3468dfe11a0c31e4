/* test_gate.c - the strict check of request heads and chunked framing (gateway/http/gate.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http/gate.h"

#include <stdio.h>
#include <stdlib.h>

struct parsed {
    struct arena *arena;
    struct gate_head head;
    enum gw_err err;
    size_t bytes;
    const char *why;
};

static struct parsed parse(struct slice in)
{
    struct parsed r = {.arena = arena_create(1 << 20), .why = "none"};
    struct gate_scan scan = {0};

    assert_non_null(r.arena);
    r.err = gate_head_scan(&scan, in, &r.bytes, &r.why);
    if (!r.err)
        r.err = gate_head_parse(r.arena, slice_of(in.p + scan.start, r.bytes - scan.start), &r.head,
                                &r.why);
    return r;
}

static void expect_err(const char *text, enum gw_err want)
{
    struct parsed r = parse(slice_cstr(text));

    if (r.err != want)
        fail_msg("%s: %s (%s), wanted %s", text, err_info(r.err)->name, r.why,
                 err_info(want)->name);
    arena_destroy(r.arena);
}

/* The request line alone decides; the rest of the head is fine. */
static void expect_line(const char *line, enum gw_err want)
{
    char text[16384];

    assert_true(snprintf(text, sizeof(text), "%s\r\nHost: a\r\n\r\n", line) < (int)sizeof(text));
    expect_err(text, want);
}

static void expect_field(const char *field, enum gw_err want)
{
    char text[16384];

    assert_true(snprintf(text, sizeof(text), "POST /x HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", field) <
                (int)sizeof(text));
    expect_err(text, want);
}

static void test_a_plain_head_is_read_whole(void **state)
{
    struct slice in = SLICE("POST /v1/chat/completions?a=b&c HTTP/1.1\r\n"
                            "Host: example.org:8765\r\n"
                            "content-length:  12 \t\r\n"
                            "X-Empty:\r\n"
                            "\r\nbody");
    struct parsed r = parse(in);

    assert_int_equal(r.err, GW_OK);
    assert_int_equal(r.bytes, in.n - 4);
    assert_int_equal(r.head.method, HTTP_POST);
    assert_int_equal(r.head.minor, 1);
    assert_true(slice_is(r.head.path, "/v1/chat/completions"));
    assert_true(slice_is(r.head.query, "a=b&c"));
    assert_int_equal(r.head.n_headers, 3);
    assert_true(slice_is(r.head.headers[1].name, "content-length"));
    assert_true(slice_is(r.head.headers[1].value, "12"));
    assert_non_null(r.head.headers[2].value.p);
    assert_int_equal(r.head.headers[2].value.n, 0);
    assert_true(r.head.has_length);
    assert_int_equal(r.head.length, 12);
    assert_true(r.head.keep_alive);
    assert_false(r.head.path_bad);
    arena_destroy(r.arena);
}

static void test_the_answer_does_not_depend_on_how_the_bytes_arrive(void **state)
{
    struct slice in = SLICE("\r\nGET /a HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n");
    struct gate_scan scan = {0};
    size_t bytes = 0;

    for (size_t n = 0; n < in.n; n++)
        assert_int_equal(gate_head_scan(&scan, slice_of(in.p, n), &bytes, NULL), GW_EAGAIN);
    assert_int_equal(gate_head_scan(&scan, in, &bytes, NULL), GW_OK);
    assert_int_equal(bytes, in.n);
    assert_int_equal(scan.start, 2);
}

static void test_check_001_length_and_transfer_encoding_together_are_refused(void **state)
{
    expect_field("Content-Length: 3\r\nTransfer-Encoding: chunked", GW_EBADREQ);
    expect_field("Transfer-Encoding: chunked\r\nContent-Length: 3", GW_EBADREQ);
}

static void test_check_002_two_lengths_are_refused(void **state)
{
    expect_field("Content-Length: 3\r\nContent-Length: 3", GW_EBADREQ);
    expect_field("Content-Length: 3\r\nContent-Length: 4", GW_EBADREQ);
}

static void test_check_003_a_length_is_a_plain_number(void **state)
{
    static const char *const bad[] = {"+3", "-1", "0x3", "3,3", "", "3 3", "1.0", "\"3\"", "3;"};
    char field[128];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(field, sizeof(field), "Content-Length: %s", bad[i]);
        expect_field(field, GW_EBADREQ);
    }
    expect_field("Content-Length: 18446744073709551616", GW_ETOOBIG);
    expect_field("Content-Length: 50000000000000000000", GW_ETOOBIG);
    expect_field("Content-Length: 999999999999999999", GW_OK);
}

static void test_check_004_only_chunked_is_a_transfer_encoding(void **state)
{
    expect_field("Transfer-Encoding: chunked", GW_OK);
    expect_field("Transfer-Encoding: CHUNKED", GW_OK);
    expect_field("Transfer-Encoding: gzip", GW_ENOTIMPL);
    expect_field("Transfer-Encoding: gzip, chunked", GW_ENOTIMPL);
    expect_field("Transfer-Encoding: chunked, chunked", GW_ENOTIMPL);
    expect_field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", GW_ENOTIMPL);
    expect_field("Transfer-Encoding: xchunked", GW_ENOTIMPL);
    expect_field("Transfer-Encoding:", GW_ENOTIMPL);
    expect_field("Transfer-Encoding: \x0b"
                 "chunked",
                 GW_EBADREQ);
    expect_err("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", GW_EBADREQ);
}

static void test_check_005_space_before_the_colon_is_refused(void **state)
{
    expect_field("Content-Length : 5", GW_EBADREQ);
    expect_field("X\t: 5", GW_EBADREQ);
    expect_field(" X: 5", GW_EBADREQ);
}

static void test_check_006_disguises_of_framing_headers_are_refused(void **state)
{
    expect_field("Transfer_Encoding: chunked", GW_EBADREQ);
    expect_field("transfer-encodinG: identity", GW_ENOTIMPL);
    expect_field("Content_Length: 5", GW_EBADREQ);
    expect_field("Transfer-Encoding\x0b: chunked", GW_EBADREQ);
    expect_field("X: y\rTransfer-Encoding: chunked", GW_EBADREQ);
    expect_field("X: y\nTransfer-Encoding: chunked", GW_EBADREQ);
    expect_field("Xransfer-Encoding: chunked", GW_OK);
}

static void test_check_009_malformed_header_lines_are_refused(void **state)
{
    static const char nul[] = "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    struct parsed r = parse(slice_of(nul, sizeof(nul) - 1));

    assert_int_equal(r.err, GW_EBADREQ);
    arena_destroy(r.arena);
    expect_field("X: a\x01", GW_EBADREQ);
    expect_field("X: a\x7f", GW_EBADREQ);
    expect_field("X: a\rb", GW_EBADREQ);
    expect_field("X: a\r\n folded", GW_EBADREQ);
    expect_field("X: a\r\n\tfolded", GW_EBADREQ);
    expect_field(": no name", GW_EBADREQ);
    expect_field("no colon", GW_EBADREQ);
    expect_field("X(y): z", GW_EBADREQ);
    expect_field("X: \x80\xff", GW_OK);
    expect_err("GET / HTTP/1.1\nHost: a\n\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: a\n", GW_EBADREQ);
    expect_err("\n", GW_EBADREQ);
}

static void test_check_010_host_and_target_forms(void **state)
{
    expect_err("GET / HTTP/1.1\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.0\r\n\r\n", GW_OK);
    expect_err("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost:\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: a:12x\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", GW_EBADREQ);
    expect_err("GET / HTTP/1.1\r\nHost: [::1]:8765\r\n\r\n", GW_OK);
    expect_err("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", GW_EBADREQ);
    expect_line("GET http://a/ HTTP/1.1", GW_EBADREQ);
    expect_line("CONNECT a:443 HTTP/1.1", GW_EMETHOD);
    expect_line("GET * HTTP/1.1", GW_EBADREQ);
    expect_line("OPTIONS * HTTP/1.1", GW_OK);
    expect_line("GET /a#b HTTP/1.1", GW_EBADREQ);
    expect_line("GET /\xc3\xa4 HTTP/1.1", GW_EBADREQ);
}

static void test_check_011_other_versions_are_told_at_once(void **state)
{
    struct gate_scan scan = {0};
    size_t bytes;

    expect_line("GET / HTTP/2.0", GW_EVERSION);
    expect_line("PRI * HTTP/2.0", GW_EVERSION);
    expect_line("GET / HTTP/1.2", GW_EVERSION);
    expect_line("GET / HTTP/0.9", GW_EVERSION);
    expect_line("GET / HTTP/1.257", GW_EBADREQ);
    expect_line("GET / http/1.1", GW_EBADREQ);
    expect_line("GET / HTTP/1.1 ", GW_EBADREQ);
    expect_line("GET  / HTTP/1.1", GW_EBADREQ);
    expect_line("GET /", GW_EBADREQ);
    /* no empty line needed to tell HTTP/0.9, and no line at all to tell TLS */
    assert_int_equal(gate_head_scan(&scan, SLICE("GET /x\r\n"), &bytes, NULL), GW_EBADREQ);
    scan = (struct gate_scan){0};
    assert_int_equal(gate_head_scan(&scan, SLICE("\x16\x03\x01"), &bytes, NULL), GW_EBADREQ);
}

static void test_check_012_unknown_methods_are_told_apart(void **state)
{
    char line[6000];

    expect_line("BREW / HTTP/1.1", GW_ENOTIMPL);
    expect_line("get / HTTP/1.1", GW_ENOTIMPL);
    expect_line("TRACE / HTTP/1.1", GW_EMETHOD);
    expect_line("G(T / HTTP/1.1", GW_EBADREQ);
    memset(line, 'M', 5120);
    strcpy(line + 5120, " / HTTP/1.1");
    expect_line(line, GW_ENOTIMPL);
}

static void expect_path(const char *target, const char *want)
{
    char text[512];
    struct parsed r;

    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    r = parse(slice_cstr(text));
    assert_int_equal(r.err, GW_OK);
    if (want ? r.head.path_bad || !slice_is(r.head.path, want) : !r.head.path_bad)
        fail_msg("%s: %s'%.*s'", target, r.head.path_bad ? "bad " : "", SLICE_ARG(r.head.path));
    arena_destroy(r.arena);
}

static void test_check_013_paths_are_decoded_once_and_kept_safe(void **state)
{
    static const char *const bad[] = {
        "/a%00",    "/a%",       "/a%4",        "/a%zz",     "/a/../b", "/..",  "/a/.",   "/%2e%2e",
        "/a/%2E/b", "//a",       "/a//b",       "/a\\b",     "/a%5cb",  "/a;x", "/a%3bx", "/a%0ab",
        "/a%7f",    "/a%2f%2fb", "/a%2f..%2fb", "/a/..%2fb", "/%c3%28", "/%2f",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_path(bad[i], NULL);
    expect_path("/", "/");
    expect_path("/a%20b", "/a b");
    expect_path("/a/", "/a/");
    expect_path("/...", "/...");
    expect_path("/.a/b..", "/.a/b..");
    expect_path("/%C3%A4", "/\xc3\xa4");
    expect_path("/v1%2fmodels", "/v1%2Fmodels");
    expect_path("/a%252fb", "/a%252fb");
}

static void test_check_016_limits_of_the_head(void **state)
{
    static char text[GATE_MAX_HEAD + 4096];
    size_t n;
    struct parsed r;

    n = (size_t)sprintf(text, "GET /");
    memset(text + n, 'a', GATE_MAX_LINE);
    n += GATE_MAX_LINE - 5 - 10;
    strcpy(text + n, "a HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_err(text, GW_OK);
    strcpy(text + n, "aa HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_err(text, GW_EURI);

    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    memset(text + n, 'a', GATE_MAX_FIELD - 3);
    strcpy(text + n + GATE_MAX_FIELD - 3, "\r\n\r\n");
    expect_err(text, GW_OK);
    strcpy(text + n + GATE_MAX_FIELD - 3, "a\r\n\r\n");
    expect_err(text, GW_EHEADERS);

    for (unsigned fields = 99; fields <= 100; fields++) {
        n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (unsigned i = 0; i < fields; i++)
            n += (size_t)sprintf(text + n, "X-%u: y\r\n", i);
        strcpy(text + n, "\r\n");
        expect_err(text, fields == 99 ? GW_OK : GW_EHEADERS);
    }

    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");
    while (n < GATE_MAX_HEAD) {
        memset(text + n, 'x', 4000);
        text[n + 1] = ':';
        strcpy(text + n + 4000, "\r\n");
        n += 4002;
    }
    r = parse(slice_of(text, n));
    assert_int_equal(r.err, GW_EHEADERS);
    arena_destroy(r.arena);
}

static void test_an_endless_line_is_refused_before_its_end(void **state)
{
    static char text[GATE_MAX_HEAD];
    struct gate_scan scan = {0};
    size_t bytes;

    memset(text, 'A', sizeof(text));
    assert_int_equal(gate_head_scan(&scan, slice_of(text, GATE_MAX_LINE), &bytes, NULL), GW_EAGAIN);
    assert_int_equal(gate_head_scan(&scan, slice_of(text, GATE_MAX_LINE + 2), &bytes, NULL),
                     GW_EURI);
}

static void expect_keep_alive(const char *minor, const char *connection, bool want)
{
    char text[256];
    struct parsed r;

    snprintf(text, sizeof(text), "GET / HTTP/1.%s\r\nHost: a\r\n%s\r\n", minor, connection);
    r = parse(slice_cstr(text));
    assert_int_equal(r.err, GW_OK);
    assert_int_equal(r.head.keep_alive, want);
    arena_destroy(r.arena);
}

static void test_check_019_connection_tokens_decide_on_keep_alive(void **state)
{
    expect_keep_alive("1", "", true);
    expect_keep_alive("1", "Connection: close\r\n", false);
    expect_keep_alive("1", "Connection: CLOSE\r\n", false);
    expect_keep_alive("1", "Connection: te, close\r\n", false);
    expect_keep_alive("1", "Connection: te\r\nConnection: close\r\n", false);
    expect_keep_alive("1", "Connection: closed\r\n", true);
    expect_keep_alive("0", "", false);
    expect_keep_alive("0", "Connection: Keep-Alive\r\n", true);
    expect_keep_alive("0", "Connection: keep-alive, close\r\n", false);
}

static void test_check_020_expectations(void **state)
{
    struct parsed r = parse(SLICE("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n"));

    assert_int_equal(r.err, GW_OK);
    assert_true(r.head.expect_continue);
    arena_destroy(r.arena);
    expect_field("Expect: x", GW_EEXPECT);
    r = parse(SLICE("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"));
    assert_int_equal(r.err, GW_OK);
    assert_false(r.head.expect_continue);
    arena_destroy(r.arena);
}

static void test_empty_lines_before_a_request_are_skipped_up_to_four(void **state)
{
    struct parsed r = parse(SLICE("\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n"));

    assert_int_equal(r.err, GW_OK);
    assert_int_equal(r.bytes, 8 + 18);
    arena_destroy(r.arena);
    expect_err("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n", GW_EBADREQ);
}

static void test_a_refused_head_still_tells_its_path(void **state)
{
    struct parsed r = parse(SLICE("POST /v1/messages HTTP/1.1\r\nbad\r\n\r\n"));
    struct gate_head peek;

    assert_int_equal(r.err, GW_EBADREQ);
    assert_true(slice_is(r.head.path, "/v1/messages"));
    assert_true(gate_line_peek(r.arena, SLICE("PUT /a/b HTTP/1.1\r\nX: y"), &peek));
    assert_int_equal(peek.method, HTTP_PUT);
    assert_true(slice_is(peek.path, "/a/b"));
    assert_false(gate_line_peek(r.arena, SLICE("PUT /a/b HTTP/1.1"), &peek));
    assert_false(gate_line_peek(r.arena, SLICE("junk\r\n"), &peek));
    arena_destroy(r.arena);
}

static void expect_plain(struct slice in, const char *want)
{
    struct parsed r = parse(in);
    char out[GATE_PLAIN_HEAD];
    size_t n;

    assert_int_equal(r.err, GW_OK);
    n = gate_plain_head(&r.head, out);
    assert_true(n <= r.bytes);
    assert_true(slice_is(slice_of(out, n), want));
    arena_destroy(r.arena);
}

static void test_the_plain_head_is_never_longer_than_the_real_one(void **state)
{
    expect_plain(SLICE("GET / HTTP/1.0\r\n\r\n"), "GET / HTTP/1.1\r\n\r\n");
    expect_plain(SLICE("OPTIONS * HTTP/1.0\r\n\r\n"), "OPTIONS / HTTP/1.1\r\n\r\n");
    expect_plain(SLICE("POST / HTTP/1.0\r\ncontent-length:007\r\n\r\n"),
                 "POST / HTTP/1.1\r\nContent-Length:7\r\n\r\n");
    expect_plain(SLICE("POST / HTTP/1.0\r\ncontent-length:999999999999999999\r\n\r\n"),
                 "POST / HTTP/1.1\r\nContent-Length:999999999999999999\r\n\r\n");
    expect_plain(SLICE("PATCH /x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\r\n\r\n"),
                 "PATCH / HTTP/1.1\r\nTransfer-Encoding:chunked\r\n\r\n");
}

/* --- chunks --------------------------------------------------------------------------------- */

/* Feeds `text` in pieces of `step` bytes; what is kept is gathered in `out`. */
static enum gw_err feed(struct slice text, size_t step, uint64_t max, char *out, size_t *ret_used)
{
    struct gate_chunks c = {0};
    enum gw_err err = GW_EAGAIN;
    size_t used, kept, n, total = 0;
    char *piece;

    *ret_used = 0;
    for (size_t at = 0; at < text.n && err == GW_EAGAIN; at += n) {
        n = text.n - at < step ? text.n - at : step;
        piece = malloc(n);
        assert_non_null(piece);
        memcpy(piece, text.p + at, n);
        err = gate_chunks_feed(&c, piece, n, max, &used, &kept);
        assert_true(kept <= used && used <= n);
        assert_true(err != GW_EAGAIN || used == n);
        memcpy(out + total, piece, kept);
        total += kept;
        *ret_used += used;
        free(piece);
    }
    out[total] = '\0';
    return err;
}

static void expect_chunks(const char *text, enum gw_err want)
{
    char out[8192];
    size_t used;
    enum gw_err err;

    for (size_t step = 1; step < 40; step++) {
        err = feed(slice_cstr(text), step, 1000, out, &used);
        if (err != want)
            fail_msg("%s in steps of %zu: %s, wanted %s", text, step, err_info(err)->name,
                     err_info(want)->name);
    }
}

static void test_check_007_valid_chunks_are_taken_however_they_arrive(void **state)
{
    struct slice in = SLICE("5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n00\r\n\r\nGET /");
    char out[256];
    size_t used;

    for (size_t step = 1; step <= in.n; step++) {
        assert_int_equal(feed(in, step, 15, out, &used), GW_OK);
        assert_int_equal(used, in.n - 5);
        assert_string_equal(out, "5\r\nhello\r\nA\r\n0123456789\r\n00\r\n\r\n");
    }
    assert_int_equal(feed(in, 7, 14, out, &used), GW_ETOOBIG);
}

static void test_check_007_faults_in_chunks_are_refused(void **state)
{
    expect_chunks("12345678901234567\r\n", GW_EBADREQ);
    expect_chunks("00000005\r\nhello\r\n0\r\n\r\n", GW_EBADREQ);
    expect_chunks("\x80\r\n", GW_EBADREQ);
    expect_chunks("5\nhello\r\n", GW_EBADREQ);
    expect_chunks("5\r\nhelloX\n", GW_EBADREQ);
    expect_chunks("5\r\nhell\r\n0\r\n\r\n", GW_EBADREQ);
    expect_chunks("_5\r\nhello\r\n", GW_EBADREQ);
    expect_chunks("5_0\r\n", GW_EBADREQ);
    expect_chunks("0x5\r\nhello\r\n", GW_EBADREQ);
    expect_chunks("+5\r\nhello\r\n", GW_EBADREQ);
    expect_chunks(" 5\r\nhello\r\n", GW_EBADREQ);
    expect_chunks("5 \r\nhello\r\n", GW_EBADREQ);
    expect_chunks("\r\n", GW_EBADREQ);
    expect_chunks(";x\r\n", GW_EBADREQ);
    expect_chunks("5;x\nhello\r\n", GW_EBADREQ);
    expect_chunks("5;\x01\r\nhello\r\n", GW_EBADREQ);
    expect_chunks("3e9\r\n", GW_ETOOBIG);
    expect_chunks("fffffff\r\n", GW_ETOOBIG);
    expect_chunks("5\r\nhello\r\n", GW_EAGAIN);
}

static void test_check_007_a_flood_of_extensions_is_refused(void **state)
{
    static char text[2 * GATE_MAX_EXT];
    char out[4 * GATE_MAX_EXT];
    size_t used;

    memset(text, 'x', sizeof(text));
    memcpy(text, "5;", 2);
    assert_int_equal(feed(slice_of(text, sizeof(text)), 1000, 1000, out, &used), GW_EBADREQ);
    assert_true(used <= GATE_MAX_EXT + 2);
}

static void test_check_008_trailers_are_refused(void **state)
{
    expect_chunks("0\r\nX: y\r\n\r\n", GW_EBADREQ);
    expect_chunks("0\r\nGET /admin HTTP/1.1\r\n\r\n", GW_EBADREQ);
    expect_chunks("0\r\n\n", GW_EBADREQ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_head_is_read_whole),
        cmocka_unit_test(test_the_answer_does_not_depend_on_how_the_bytes_arrive),
        cmocka_unit_test(test_check_001_length_and_transfer_encoding_together_are_refused),
        cmocka_unit_test(test_check_002_two_lengths_are_refused),
        cmocka_unit_test(test_check_003_a_length_is_a_plain_number),
        cmocka_unit_test(test_check_004_only_chunked_is_a_transfer_encoding),
        cmocka_unit_test(test_check_005_space_before_the_colon_is_refused),
        cmocka_unit_test(test_check_006_disguises_of_framing_headers_are_refused),
        cmocka_unit_test(test_check_009_malformed_header_lines_are_refused),
        cmocka_unit_test(test_check_010_host_and_target_forms),
        cmocka_unit_test(test_check_011_other_versions_are_told_at_once),
        cmocka_unit_test(test_check_012_unknown_methods_are_told_apart),
        cmocka_unit_test(test_check_013_paths_are_decoded_once_and_kept_safe),
        cmocka_unit_test(test_check_016_limits_of_the_head),
        cmocka_unit_test(test_an_endless_line_is_refused_before_its_end),
        cmocka_unit_test(test_check_019_connection_tokens_decide_on_keep_alive),
        cmocka_unit_test(test_check_020_expectations),
        cmocka_unit_test(test_empty_lines_before_a_request_are_skipped_up_to_four),
        cmocka_unit_test(test_a_refused_head_still_tells_its_path),
        cmocka_unit_test(test_the_plain_head_is_never_longer_than_the_real_one),
        cmocka_unit_test(test_check_007_valid_chunks_are_taken_however_they_arrive),
        cmocka_unit_test(test_check_007_faults_in_chunks_are_refused),
        cmocka_unit_test(test_check_007_a_flood_of_extensions_is_refused),
        cmocka_unit_test(test_check_008_trailers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
