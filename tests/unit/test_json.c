/* Tests of gateway/core/json.c and json_write.c. */
#include "gateway/core/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ARENA_MAX (256u << 20)

static struct arena *arena;

static int setup(void **state)
{
    arena = arena_create(ARENA_MAX);
    return arena ? 0 : -1;
}

static int teardown(void **state)
{
    arena = arena_destroy(arena);
    return 0;
}

/* Parses an exactly sized heap copy, so that a sanitizer sees a read past the end. The copy lives
 * as long as the arena. */
static enum gw_err parse_bytes(const char *p, size_t n, struct json *root, struct json_error *err)
{
    char *copy = malloc(n ? n : 1);

    assert_non_null(copy);
    memcpy(copy, p, n);
    assert_true(arena_defer(arena, free, copy));
    return json_parse(arena, slice_of(copy, n), NULL, root, err);
}

static struct json parsed(const char *text)
{
    struct json root = {NULL, 0};
    struct json_error err = {NULL, 0};

    if (parse_bytes(text, strlen(text), &root, &err) != GW_OK)
        fail_msg("%s: %s at %zu", text, err.what, err.at);
    return root;
}

static void assert_slice(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(got), want);
}

#define ACCEPT(lit) accept_bytes(lit, sizeof(lit) - 1)
#define REFUSE(lit) refuse_bytes(lit, sizeof(lit) - 1)

static void accept_bytes(const char *p, size_t n)
{
    struct json root;
    struct json_error err = {NULL, 0};

    if (parse_bytes(p, n, &root, &err) != GW_OK)
        fail_msg("refused: %.*s (%s at %zu)", (int)n, p, err.what, err.at);
    assert_int_equal(root.i, 0);
    assert_int_equal(root.doc->tokens[0].next, root.doc->n);
}

static void refuse_bytes(const char *p, size_t n)
{
    struct json root = {NULL, 7};
    struct json_error err = {NULL, SIZE_MAX};

    if (parse_bytes(p, n, &root, &err) != GW_EBADJSON)
        fail_msg("accepted: %.*s", (int)n, p);
    assert_non_null(err.what);
    assert_true(err.at <= n);
    assert_null(root.doc); /* written only on success */
}

static void test_check_044_what_rfc_8259_allows_is_accepted(void **state)
{
    ACCEPT("[]");
    ACCEPT("{}");
    ACCEPT("[[]   ]");
    ACCEPT("[\"\"]");
    ACCEPT("\"\"");
    ACCEPT("\"a lone string\"");
    ACCEPT("42");
    ACCEPT("-0.1");
    ACCEPT("null");
    ACCEPT("true");
    ACCEPT("false");
    ACCEPT(" [1] ");
    ACCEPT("\t\r\n [\r\n1\t,\n2 ]\n");
    ACCEPT("[null, 1, \"1\", {}]");
    ACCEPT("{\"\":0}");
    ACCEPT("{\"a\":\"b\",\"a\":\"c\"}");
    ACCEPT("{\"min\": -1.0e+28, \"max\": 1.0e+28}");
    ACCEPT("{ \"a\" : { \"b\" : [ ] } }");
    ACCEPT("[0]");
    ACCEPT("[-0]");
    ACCEPT("[-0.0]");
    ACCEPT("[0e1]");
    ACCEPT("[0e+1]");
    ACCEPT("[1E22]");
    ACCEPT("[1E-2]");
    ACCEPT("[1E+2]");
    ACCEPT("[123.456e78]");
    ACCEPT("[123.456789]");
    ACCEPT("[-123]");
    ACCEPT("[20e1]");
    ACCEPT("[1e400]");
    ACCEPT("[0.00000000000000000000000000000000000000000000000000000000000000000000000000001]");
    ACCEPT("[100000000000000000000000000000000000000000000000000000000000000000000000000]");
    ACCEPT("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]");
    ACCEPT("[\"\\u0060\\u012a\\u12AB\"]");
    ACCEPT("[\"\\uD801\\udc37\"]");
    ACCEPT("[\"\\ud83d\\ude39\\ud83d\\udc8d\"]");
    ACCEPT("[\"\\uDBFF\\uDFFF\"]");
    ACCEPT("[\"\\uFDD0\\uFFFF\\u10ff\"]");
    ACCEPT("[\"\\\\u0000\"]");
    ACCEPT("[\"\x7f\"]");
    ACCEPT("[\"\xcf\x80\xe2\x8d\x82\xf0\x9d\x84\x9e\"]");
    ACCEPT("[\"\xef\xbf\xbf\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\"]");
    ACCEPT("[\"\xe2\x80\xa8\xe2\x80\xa9 \xef\xbb\xbf\"]");
    ACCEPT("[\"a/*b*/c/*d//e\"]");
}

static void test_check_044_what_rfc_8259_forbids_in_structure_is_refused(void **state)
{
    REFUSE("");
    REFUSE(" ");
    REFUSE("\xef\xbb\xbf{}");
    REFUSE("\xef\xbb");
    REFUSE("[");
    REFUSE("]");
    REFUSE("{");
    REFUSE("}");
    REFUSE("[1 true]");
    REFUSE("[\"\": 1]");
    REFUSE("[\"\"],");
    REFUSE("[,1]");
    REFUSE("[1,,2]");
    REFUSE("[1,]");
    REFUSE("[\"x\"]]");
    REFUSE("[3[4]]");
    REFUSE("[1:2]");
    REFUSE("[1,\n1\n,1");
    REFUSE("[\"a\",\n4\n,1,");
    REFUSE("[{}");
    REFUSE("[1}");
    REFUSE("{\"a\":1]");
    REFUSE("{\"x\", null}");
    REFUSE("{\"x\"::\"b\"}");
    REFUSE("{\"a\":\"a\" 123}");
    REFUSE("{key: 'value'}");
    REFUSE("{\"a\" b}");
    REFUSE("{:\"b\"}");
    REFUSE("{\"a\":");
    REFUSE("{\"a\"");
    REFUSE("{\"a\" \"b\"}");
    REFUSE("{1:1}");
    REFUSE("{null:null}");
    REFUSE("{\"id\":0,}");
    REFUSE("{\"id\":0,,}");
    REFUSE("{'a':0}");
    REFUSE("{\"a\":\"b\"}/**/");
    REFUSE("{\"a\":\"b\"}#");
    REFUSE("{\"a\":/*c*/\"b\"}");
    REFUSE("{\"a\":true} \"x\"");
    REFUSE("{}}");
    REFUSE("[][]");
    REFUSE("1 2");
    REFUSE("{}\0");
    REFUSE("[\f1]");
    REFUSE("[\v1]");
    REFUSE("[\xc2\xa0"
           "1]");
    REFUSE("[\xe2\x81\xa0]");
    REFUSE("\0");
    REFUSE("[1\0]");
    REFUSE("*");
    REFUSE("<.>");
    REFUSE("abc");
}

static void test_check_044_malformed_words_and_numbers_are_refused(void **state)
{
    REFUSE("nul");
    REFUSE("tru");
    REFUSE("[fals]");
    REFUSE("nulll");
    REFUSE("[True]");
    REFUSE("[TRUE]");
    REFUSE("[NaN]");
    REFUSE("[Infinity]");
    REFUSE("[-Infinity]");
    REFUSE("[nan]");
    REFUSE("[+1]");
    REFUSE("[++1]");
    REFUSE("[-]");
    REFUSE("-");
    REFUSE("[--1]");
    REFUSE("[-01]");
    REFUSE("[012]");
    REFUSE("[00]");
    REFUSE("[-012]");
    REFUSE("[.5]");
    REFUSE("[-.5]");
    REFUSE("[2.]");
    REFUSE("[-2.]");
    REFUSE("[1.e3]");
    REFUSE("[1.2.3]");
    REFUSE("[0.e1]");
    REFUSE("[0e]");
    REFUSE("[0e+]");
    REFUSE("[1e-]");
    REFUSE("[1eE2]");
    REFUSE("[1e1.5]");
    REFUSE("[0x42]");
    REFUSE("[0x]");
    REFUSE("[1a]");
    REFUSE("[1_000]");
    REFUSE("[1 000]");
    REFUSE("[- 1]");
    REFUSE("[\xef\xbc\x91]");
    REFUSE("1.");
    REFUSE("1e");
    REFUSE("1e+");
}

static void test_check_044_malformed_strings_are_refused(void **state)
{
    REFUSE("\"");
    REFUSE("[\"a");
    REFUSE("[\"\\\"]");
    REFUSE("[\"\\");
    REFUSE("[\"\\x00\"]");
    REFUSE("[\"\\a\"]");
    REFUSE("[\"\\U0041\"]");
    REFUSE("[\"\\u\"]");
    REFUSE("[\"\\u00A\"]");
    REFUSE("[\"\\u00G0\"]");
    REFUSE("[\"\\u 041\"]");
    REFUSE("[\"\\u+041\"]");
    REFUSE("[\"\\\t\"]");
    REFUSE("[\"\\\xf0\x9f\x8c\x80\"]");
    REFUSE("[\"\\\0\"]");
    REFUSE("[\"a\0b\"]");
    REFUSE("['single']");
    REFUSE("[\"new\nline\"]");
    REFUSE("[\"tab\there\"]");
    REFUSE("[\"0123456789abcdef\x1f\"]");
    REFUSE("[\"0123456789abcde\x01 and a tail\"]");
    REFUSE("{\"a\tb\":1}");
    REFUSE("[\\u0020\"a\"]");
}

static void test_check_046_nul_surrogates_and_invalid_utf8_are_refused(void **state)
{
    REFUSE("\"\\u0000\"");
    REFUSE("{\"a\\u0000\":1}");
    REFUSE("[\"a\\u0000b\"]");
    REFUSE("[\"\\ud800\"]");
    REFUSE("[\"\\udc00\"]");
    REFUSE("[\"\\ud800\\ud800\"]");
    REFUSE("[\"\\ud800\\u0041\"]");
    REFUSE("[\"\\ud800\\n\"]");
    REFUSE("[\"\\ud800abcdef\"]");
    REFUSE("[\"\\udbff\\u\"]");
    REFUSE("[\"\\udbff\\udff\"]");
    REFUSE("[\"\\udd1e\\ud834\"]");
    REFUSE("[\"\x80\"]");
    REFUSE("[\"\xbf\xbf\"]");
    REFUSE("[\"\xc0\x80\"]");
    REFUSE("[\"\xc1\xbf\"]");
    REFUSE("[\"\xc3\"]");
    REFUSE("[\"\xc3(\"]");
    REFUSE("[\"\xe0\x80\x80\"]");
    REFUSE("[\"\xe0\x9f\xbf\"]");
    REFUSE("[\"\xe2\x82\"]");
    REFUSE("[\"\xed\xa0\x80\"]");
    REFUSE("[\"\xed\xbf\xbf\"]");
    REFUSE("[\"\xf0\x80\x80\x80\"]");
    REFUSE("[\"\xf0\x8f\xbf\xbf\"]");
    REFUSE("[\"\xf0\x9f\x8c\"]");
    REFUSE("[\"\xf4\x90\x80\x80\"]");
    REFUSE("[\"\xf5\x80\x80\x80\"]");
    REFUSE("[\"\xff\"]");
    REFUSE("[\"\xfe\"]");
    REFUSE("{\"\xe9\":1}");
    REFUSE("[\"\xf0\x9f\x8c"); /* cut inside a character at the very end */
    REFUSE("\xe5");
}

static void test_bad_bytes_are_found_at_every_offset_of_a_long_string(void **state)
{
    static const char *const wrong[] = {"\x01", "\x1f", "\x80", "\xc3 ", "\\x", "\\u0000"};
    char text[100];

    for (unsigned w = 0; w < sizeof(wrong) / sizeof(*wrong); w++) {
        for (size_t at = 1; at < 70; at++) {
            size_t n = strlen(wrong[w]);

            memset(text, 'a', sizeof(text));
            text[0] = '"';
            memcpy(text + at, wrong[w], n);
            text[99] = '"';
            refuse_bytes(text, sizeof(text));
            memset(text + at, 'b', n);
            accept_bytes(text, sizeof(text));
        }
    }
}

static void test_every_prefix_of_a_document_is_refused(void **state)
{
    static const char text[] =
        "{\"a\":[1,-2.5e+3,true,false,null,\"x\\n\\u00e9\\ud83d\\ude39\xc3\xa9\"],\"b\":{\"\":{}}}";

    accept_bytes(text, sizeof(text) - 1);
    for (size_t n = 0; n + 1 < sizeof(text); n++)
        refuse_bytes(text, n);
}

static char *nested(unsigned depth, char open, const char *inner, char close, size_t *ret_n)
{
    size_t n = strlen(inner);
    char *text = malloc(2 * (size_t)depth + n);

    assert_non_null(text);
    memset(text, open, depth);
    memcpy(text + depth, inner, n);
    memset(text + depth + n, close, depth);
    *ret_n = 2 * (size_t)depth + n;
    return text;
}

static void test_check_045_depth_64_is_accepted_and_65_is_not(void **state)
{
    size_t n;
    char *text = nested(64, '[', "", ']', &n);

    accept_bytes(text, n);
    free(text);
    text = nested(65, '[', "", ']', &n);
    refuse_bytes(text, n);
    free(text);
    text = nested(63, '[', "{\"a\":1}", ']', &n);
    accept_bytes(text, n);
    free(text);
    text = nested(64, '[', "{\"a\":1}", ']', &n);
    refuse_bytes(text, n);
    free(text);
}

static void test_check_044_a_hundred_thousand_open_brackets_are_refused(void **state)
{
    size_t n = 100000;
    char *text = malloc(n);

    assert_non_null(text);
    memset(text, '[', n);
    refuse_bytes(text, n);
    for (size_t i = 0; i + 5 <= n; i += 5)
        memcpy(text + i, "{\"\":", 4), text[i + 4] = ' ';
    refuse_bytes(text, n);
    free(text);
}

static void test_limits_of_the_caller_hold(void **state)
{
    struct json_limits limits = {.max_bytes = 10, .max_tokens = 3, .max_depth = 2};
    struct json_error err;
    struct json root;

    assert_int_equal(json_parse(arena, SLICE("[[1],2]   "), &limits, &root, &err), GW_ETOOBIG);
    assert_string_equal(err.what, "too many values");
    assert_int_equal(json_parse(arena, SLICE("[[1]]"), &limits, &root, &err), GW_OK);
    assert_int_equal(json_parse(arena, SLICE("[[[]]]"), &limits, &root, &err), GW_EBADJSON);
    assert_int_equal(json_parse(arena, SLICE("[         ]"), &limits, &root, &err), GW_ETOOBIG);
    assert_int_equal(json_parse(arena, SLICE("[        ]"), &limits, &root, NULL), GW_OK);
    assert_int_equal(json_parse(arena, SLICE("[}"), &limits, &root, NULL), GW_EBADJSON);
}

static char *ones(uint32_t count, size_t *ret_n)
{
    char *text = malloc(2 * (size_t)count + 1);

    assert_non_null(text);
    for (uint32_t i = 0; i < count; i++)
        memcpy(text + 2 * (size_t)i, i ? ",1" : "[1", 2);
    text[2 * (size_t)count] = ']';
    *ret_n = 2 * (size_t)count + 1;
    return text;
}

static void test_check_045_a_million_values_are_the_ceiling(void **state)
{
    size_t n;
    char *text = ones(999999, &n);
    struct json root;

    assert_int_equal(json_parse(arena, slice_of(text, n), NULL, &root, NULL), GW_OK);
    assert_int_equal(json_count(root), 999999);
    free(text);
    text = ones(1000000, &n);
    assert_int_equal(json_parse(arena, slice_of(text, n), NULL, &root, NULL), GW_ETOOBIG);
    free(text);
}

static void test_a_small_text_is_read_into_the_callers_tokens(void **state)
{
    struct json_token tokens[5];
    struct json_doc doc = {.arena = arena};
    struct json root = {NULL, 0};
    size_t before = arena_used(arena);
    struct slice text = SLICE("{\"a\\u0062\":[1,\"x\"]}");

    assert_int_equal(json_parse_into(&doc, tokens, 4, text, &root), GW_ETOOBIG);
    assert_int_equal(json_parse_into(&doc, tokens, 5, SLICE("[1"), &root), GW_EBADJSON);
    assert_int_equal(json_parse_into(&doc, tokens, 5, SLICE(""), &root), GW_EBADJSON);
    assert_null(root.doc);
    assert_int_equal(json_parse_into(&doc, tokens, 5, text, &root), GW_OK);
    assert_int_equal(json_count(json_get(root, "ab")), 2);
    assert_int_equal(arena_used(arena), before);
}

static void test_a_small_arena_is_out_of_memory(void **state)
{
    struct arena *small = arena_create(1000);
    size_t n;
    char *text = ones(500, &n);
    struct json root;

    assert_int_equal(json_parse(small, slice_of(text, n), NULL, &root, NULL), GW_ENOMEM);
    free(text);
    arena_destroy(small);
}

static void test_the_error_names_the_place(void **state)
{
    struct json_error err;
    struct json root;

    assert_int_equal(parse_bytes("{\"a\": 01}", 9, &root, &err), GW_EBADJSON);
    assert_string_equal(err.what, "number with a leading zero");
    assert_int_equal(err.at, 7);
    assert_int_equal(parse_bytes("[1] x", 5, &root, &err), GW_EBADJSON);
    assert_string_equal(err.what, "bytes after the value");
    assert_int_equal(err.at, 4);
}

static void test_members_and_elements_are_walked_in_order(void **state)
{
    struct json root =
        parsed("{\"a\":1,\"b\":[10,[20,21],{\"x\":{}}],\"c\":{\"d\":[]},\"e\":\"\"}");
    static const char *const keys[] = {"a", "b", "c", "e"};
    static const char *const raws[] = {"1", "[10,[20,21],{\"x\":{}}]", "{\"d\":[]}", "\"\""};
    unsigned i = 0;

    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it), i++) {
        assert_true(i < 4);
        assert_slice(json_key(it), keys[i]);
        assert_slice(json_raw(it), raws[i]);
    }
    assert_int_equal(i, 4);
    assert_int_equal(json_count(root), 4);
    root = json_get(root, "b");
    i = 0;
    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it), i++)
        assert_slice(json_raw(it), i == 0 ? "10" : i == 1 ? "[20,21]" : "{\"x\":{}}");
    assert_int_equal(i, 3);
}

static void test_absent_values_are_read_as_nothing(void **state)
{
    struct json none = json_get(parsed("{\"a\":1}"), "b");
    int64_t i = 7;
    double d = 7;
    bool b = true;

    assert_false(json_exists(none));
    assert_false(json_is(none, JSON_NULL));
    assert_false(json_exists(json_get(none, "x")));
    assert_false(json_exists(json_first(none)));
    assert_int_equal(json_count(none), 0);
    assert_null(json_raw(none).p);
    assert_null(json_str(none).p);
    assert_null(json_key(none).p);
    assert_false(json_str_is(none, ""));
    assert_false(json_int(none, &i));
    assert_false(json_double(none, &d));
    assert_false(json_bool(none, &b));
    assert_false(json_has_duplicate(none, "a"));
    assert_false(json_any_duplicate(none, NULL));
    assert_int_equal(i, 7);
    assert_false(json_exists(json_get(parsed("[1]"), "a")));
    assert_false(json_exists(json_get(parsed("\"a\""), "a")));
    assert_false(json_exists(json_first(parsed("{}"))));
    assert_false(json_exists(json_first(parsed("3"))));
}

static void test_types_are_told(void **state)
{
    struct json root = parsed("[null,false,true,1,\"\",[],{}]");
    unsigned want = JSON_NULL;

    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it), want++) {
        assert_int_equal(json_type(it), want);
        assert_true(json_is(it, (enum json_type)want));
    }
    assert_int_equal(want, JSON_OBJECT + 1);
}

static void test_strings_are_unescaped(void **state)
{
    struct json root =
        parsed("[\"plain\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"a\\u0041\\u00e9\\u20AC\\ud83d"
               "\\ude00z\",\"\",\"\\u0001\\u007f\\u0080\\u07ff\\u0800\\uffff\"]");
    static const char *const want[] = {"plain", "\"\\/\b\f\n\r\t",
                                       "aA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", "",
                                       "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"};
    unsigned i = 0;

    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it), i++) {
        assert_non_null(json_str(it).p);
        assert_slice(json_str(it), want[i]);
        assert_true(json_str_is(it, want[i]));
        assert_false(json_str_is(it, "plain?"));
        assert_false(json_str_is(it, "a"));
    }
    assert_int_equal(i, 5);
    assert_slice(json_raw(json_first(root)), "\"plain\"");
}

static void test_escaped_names_are_found_by_what_they_spell(void **state)
{
    struct json root = parsed("{\"m\\u006fdel\":1,\"\\ud83d\\ude00\":2,\"a\\\\b\":3}");
    int64_t v;

    assert_true(json_int(json_get(root, "model"), &v));
    assert_int_equal(v, 1);
    assert_true(json_int(json_get(root, "\xf0\x9f\x98\x80"), &v));
    assert_int_equal(v, 2);
    assert_true(json_int(json_get(root, "a\\b"), &v));
    assert_int_equal(v, 3);
    assert_false(json_exists(json_get(root, "mode")));
    assert_false(json_exists(json_get(root, "models")));
    assert_false(json_exists(json_get(root, "Model")));
    assert_false(json_exists(json_get(root, "")));
}

static void test_check_047_duplicate_names_are_found(void **state)
{
    struct json root =
        parsed("{\"model\":1,\"n\":{\"x\":1,\"x\":2},\"mod\\u0065l\":2,\"stream\":3}");
    struct slice name = SLICE_NONE;

    assert_true(json_has_duplicate(root, "model"));
    assert_false(json_has_duplicate(root, "stream"));
    assert_false(json_has_duplicate(root, "x"));
    assert_false(json_has_duplicate(root, "absent"));
    assert_true(json_any_duplicate(root, &name));
    assert_slice(name, "model");
    assert_true(json_any_duplicate(json_get(root, "n"), NULL));
    assert_false(json_any_duplicate(parsed("{\"a\":1,\"b\":1,\"ab\":1,\"\":1}"), NULL));
    assert_true(json_any_duplicate(parsed("{\"\":1,\"a\":1,\"\":1}"), NULL));
    assert_false(json_any_duplicate(parsed("[1,1]"), NULL));
    assert_false(json_any_duplicate(parsed("{\"a\":1}"), NULL));
}

static void test_check_047_integers_are_read_exactly_or_not_at_all(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t v;
    } rows[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"1", true, 1},
        {"-1", true, -1},
        {"9007199254740993", true, 9007199254740993},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"18446744073709551616", false, 0},
        {"1.0", true, 1},
        {"1.50e1", true, 15},
        {"1e3", true, 1000},
        {"10.0", true, 10},
        {"100e-2", true, 1},
        {"0.5", false, 0},
        {"1e-1", false, 0},
        {"0e400", true, 0},
        {"0.000e-99999999999", true, 0},
        {"1e18", true, 1000000000000000000},
        {"1e19", false, 0},
        {"1e99999999999999999999", false, 0},
        {"1e-99999999999999999999", false, 0},
        {"123456789.0000000000000000000000000", true, 123456789},
        {"\"1\"", false, 0},
        {"true", false, 0},
        {"null", false, 0},
        {"[1]", false, 0},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        int64_t v = 77;

        if (json_int(parsed(rows[i].text), &v) != rows[i].ok)
            fail_msg("%s", rows[i].text);
        assert_true(v == (rows[i].ok ? rows[i].v : 77));
    }
}

static void test_doubles_and_booleans_are_read(void **state)
{
    char text[300];
    double d = 7;
    bool b = false;

    assert_true(json_double(parsed("-2.5e-3"), &d));
    assert_true(d == -2.5e-3);
    assert_true(json_double(parsed("4"), &d) && d == 4.0);
    assert_false(json_double(parsed("1e400"), &d));
    assert_false(json_double(parsed("-1e400"), &d));
    assert_false(json_double(parsed("\"1\""), &d));
    assert_true(json_double(parsed("1e-400"), &d) && d == 0);
    memset(text, '0', sizeof(text));
    memcpy(text, "0.", 2);
    memcpy(text + 290, "1e290", 6);
    assert_true(json_double(parsed(text), &d));
    assert_true(d > 9.9 && d < 10.1);
    assert_true(json_bool(parsed("true"), &b) && b);
    assert_true(json_bool(parsed("false"), &b) && !b);
    assert_false(json_bool(parsed("null"), &b));
    assert_false(json_bool(parsed("1"), &b));
}

static void test_valid_utf8_is_told_from_invalid(void **state)
{
    assert_true(json_utf8_valid(SLICE_NONE));
    assert_true(json_utf8_valid(SLICE("abc\x01\x7f\xc3\xa9\xf4\x8f\xbf\xbf")));
    assert_false(json_utf8_valid(SLICE("a\0b")));
    assert_false(json_utf8_valid(SLICE("a\xc3")));
    assert_false(json_utf8_valid(SLICE("\xed\xa0\x80")));
    assert_false(json_utf8_valid(SLICE("\xf8\x88\x80\x80\x80")));
}

/* --- writing --------------------------------------------------------------------------------- */

static void test_the_writer_puts_commas_and_escapes(void **state)
{
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, 4096);
    json_obj(&w);
    json_kv_cstr(&w, "a", "x\"y\\z\n\r\t\b\f\x01\x1f/");
    json_kv_int(&w, "min", INT64_MIN);
    json_kv_arr(&w, "list");
    json_put_int(&w, 1);
    json_obj(&w);
    json_obj_end(&w);
    json_arr(&w);
    json_arr_end(&w);
    json_put_raw(&w, SLICE("{\"raw\":1}"));
    json_put_null(&w);
    json_put_cstr(&w, NULL);
    json_arr_end(&w);
    json_kv_bool(&w, "t", true);
    json_kv_bool(&w, "f", false);
    json_kv_null(&w, "n");
    json_kv_raw(&w, "r", SLICE("1e400"));
    json_kv_text(&w, "some", SLICE("a\"b"));
    json_kv_text(&w, "none", SLICE(""));
    json_kv_str(&w, "u", SLICE("\xc3\xa9\xf0\x9f\x98\x80"));
    json_kv_obj(&w, "o");
    json_kv_null(&w, "p");
    json_obj_end(&w);
    json_put_key_slice(&w, SLICE("k\"ey"));
    json_put_str(&w, SLICE_NONE);
    json_obj_end(&w);
    assert_int_equal(buf_err(&out), GW_OK);
    assert_slice(
        buf_slice(&out),
        "{\"a\":\"x\\\"y\\\\z\\n\\r\\t\\b\\f\\u0001\\u001f/\",\"min\":-9223372036854775808,"
        "\"list\":[1,{},[],{\"raw\":1},null,null],\"t\":true,\"f\":false,\"n\":null,"
        "\"r\":1e400,\"some\":\"a\\\"b\",\"none\":null,\"u\":\"\xc3\xa9\xf0\x9f\x98\x80\","
        "\"o\":{\"p\":null},\"k\\\"ey\":\"\"}");
    buf_deinit(&out);
}

static void test_written_doubles_read_back_the_same(void **state)
{
    static const double values[] = {0,     -0.5,  0.1,      1.0 / 3, 1e300, 5e-324,
                                    123.0, 2.675, 1e15 + 1, 0.7,     -1e-7, 1.7976931348623157e308};
    struct json_writer w;
    struct buf out;

    buf_init(&out, 4096);
    for (unsigned i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char text[64];
        double back = 77;

        buf_reset(&out);
        json_writer_init(&w, &out);
        json_put_double(&w, values[i]);
        assert_true(out.n < sizeof(text));
        memcpy(text, out.p, out.n);
        text[out.n] = '\0';
        assert_true(json_double(parsed(text), &back));
        assert_true(back == values[i]);
    }
    buf_reset(&out);
    json_writer_init(&w, &out);
    json_put_double(&w, 0.1);
    json_put_double(&w, strtod("inf", NULL));
    json_put_double(&w, strtod("nan", NULL));
    assert_slice(buf_slice(&out), "0.1,null,null");
    buf_deinit(&out);
}

static void test_what_is_escaped_is_read_back_for_every_byte_and_offset(void **state)
{
    char text[64], json[512];
    struct buf out;

    buf_init(&out, 4096);
    for (unsigned c = 1; c < 0x80; c++) {
        for (size_t at = 0; at < 40; at++) {
            memset(text, 'x', 40);
            text[at] = (char)c;
            text[40] = '\0';
            buf_reset(&out);
            json_escape(&out, slice_of(text, 40));
            snprintf(json, sizeof(json), "\"%.*s\"", (int)out.n, out.p);
            assert_slice(json_str(parsed(json)), text);
        }
    }
    buf_deinit(&out);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_check_044_what_rfc_8259_allows_is_accepted),
        T(test_check_044_what_rfc_8259_forbids_in_structure_is_refused),
        T(test_check_044_malformed_words_and_numbers_are_refused),
        T(test_check_044_malformed_strings_are_refused),
        T(test_check_046_nul_surrogates_and_invalid_utf8_are_refused),
        T(test_bad_bytes_are_found_at_every_offset_of_a_long_string),
        T(test_every_prefix_of_a_document_is_refused),
        T(test_check_045_depth_64_is_accepted_and_65_is_not),
        T(test_check_044_a_hundred_thousand_open_brackets_are_refused),
        T(test_limits_of_the_caller_hold),
        T(test_check_045_a_million_values_are_the_ceiling),
        T(test_a_small_text_is_read_into_the_callers_tokens),
        T(test_a_small_arena_is_out_of_memory),
        T(test_the_error_names_the_place),
        T(test_members_and_elements_are_walked_in_order),
        T(test_absent_values_are_read_as_nothing),
        T(test_types_are_told),
        T(test_strings_are_unescaped),
        T(test_escaped_names_are_found_by_what_they_spell),
        T(test_check_047_duplicate_names_are_found),
        T(test_check_047_integers_are_read_exactly_or_not_at_all),
        T(test_doubles_and_booleans_are_read),
        T(test_valid_utf8_is_told_from_invalid),
        T(test_the_writer_puts_commas_and_escapes),
        T(test_written_doubles_read_back_the_same),
        T(test_what_is_escaped_is_read_back_for_every_byte_and_offset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
