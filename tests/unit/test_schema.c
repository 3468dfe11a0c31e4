/* JSON schemas in the words of Gemini and of Anthropic's strict mode. */
#include "tests/unit/dialect_test.h"

#include "providers/dialect/schema.h"

struct row {
    const char *in, *want;
    bool lossy;
};

static void assert_rows(enum gw_err (*fn)(struct arena *, struct slice, struct slice *, bool *),
                        const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct slice out = SLICE_NONE;
        bool lossy = false;

        assert_int_equal(fn(arena, slice_cstr(rows[i].in), &out, &lossy), GW_OK);
        if (!slice_is(out, rows[i].want) || lossy != rows[i].lossy)
            fail_msg("%s\ngave %d %.*s\nwant %d %s", rows[i].in, lossy, SLICE_ARG(out),
                     rows[i].lossy, rows[i].want);
    }
}

#define ROWS(fn, ...)                                                                              \
    do {                                                                                           \
        static const struct row rows_[] = {__VA_ARGS__};                                           \
        assert_rows(fn, rows_, sizeof(rows_) / sizeof(rows_[0]));                                  \
    } while (0)

static void test_types_are_put_in_capitals_and_keywords_picked(void **state)
{
    ROWS(schema_to_openapi,
         {"{\"$schema\":\"x\",\"type\":\"object\",\"title\":\"T\",\"additionalProperties\":false,"
          "\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":0,\"format\":\"int32\"},"
          "\"b\":{\"type\":\"string\",\"format\":\"email\",\"maxLength\":5}},\"required\":[\"a\","
          "\"z\"]}",
          "{\"type\":\"OBJECT\",\"title\":\"T\",\"properties\":{\"a\":{\"type\":\"INTEGER\","
          "\"minimum\":0,\"format\":\"int32\"},\"b\":{\"type\":\"STRING\",\"maxLength\":5}},"
          "\"required\":[\"a\"]}",
          false},
         {"{\"type\":\"string\",\"format\":\"date-time\",\"examples\":[\"x\"]}",
          "{\"type\":\"STRING\",\"format\":\"date-time\"}", false},
         {"{\"type\":\"number\",\"multipleOf\":5}", "{\"type\":\"NUMBER\"}", true},
         {"{\"type\":\"number\",\"exclusiveMinimum\":0}", "{\"type\":\"NUMBER\",\"minimum\":0}",
          true});
}

static void test_numbers_keep_their_digits(void **state)
{
    ROWS(schema_to_openapi, {"{\"type\":\"integer\",\"maximum\":9007199254740993,\"minimum\":-1."
                             "50e+2,\"default\":0.10}",
                             "{\"type\":\"INTEGER\",\"default\":0.10,\"minimum\":-1.50e+2,"
                             "\"maximum\":9007199254740993}",
                             false});
}

static void test_null_becomes_nullable(void **state)
{
    ROWS(schema_to_openapi,
         {"{\"type\":[\"string\",\"null\"]}", "{\"type\":\"STRING\",\"nullable\":true}", false},
         {"{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},{\"type\":\"null\"}],\"description\":"
          "\"d\"}",
          "{\"type\":\"STRING\",\"description\":\"d\",\"maxLength\":3,\"nullable\":true}", false},
         {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"},{\"const\":null}]}",
          "{\"anyOf\":[{\"type\":\"STRING\"},{\"type\":\"INTEGER\"}],\"nullable\":true}", false},
         {"{\"type\":[\"string\",\"integer\"]}",
          "{\"anyOf\":[{\"type\":\"STRING\"},{\"type\":\"INTEGER\"}]}", false},
         {"{\"enum\":[\"a\",null]}", "{\"type\":\"STRING\",\"enum\":[\"a\"],\"nullable\":true}",
          false});
}

static void test_constants_and_values_become_enums_of_strings(void **state)
{
    ROWS(schema_to_openapi, {"{\"const\":\"x\"}", "{\"type\":\"STRING\",\"enum\":[\"x\"]}", false},
         {"{\"type\":\"integer\",\"enum\":[1,2]}",
          "{\"type\":\"INTEGER\",\"description\":\"One of the values [1,2]\"}", true},
         {"{\"type\":\"boolean\",\"const\":true,\"description\":\"d\"}",
          "{\"type\":\"BOOLEAN\",\"description\":\"d\\n\\nOne of the values [true]\"}", true});
}

static void test_references_are_inlined_and_cycles_end(void **state)
{
    ROWS(
        schema_to_openapi,
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/x~1y\",\"description\":"
         "\"mine\"}},\"$defs\":{\"x/y\":{\"type\":\"string\",\"description\":\"theirs\"}}}",
         "{\"type\":\"OBJECT\",\"properties\":{\"a\":{\"type\":\"STRING\",\"description\":\"mine\"}"
         "}}",
         false},
        {"{\"$ref\":\"#/definitions/n\",\"definitions\":{\"n\":{\"type\":\"object\",\"properties\":"
         "{\"next\":{\"$ref\":\"#/definitions/n\"}}}}}",
         "{\"type\":\"OBJECT\",\"properties\":{\"next\":{\"type\":\"OBJECT\"}}}", true},
        {"{\"type\":\"object\",\"properties\":{\"me\":{\"$ref\":\"#\"}}}",
         "{\"type\":\"OBJECT\",\"properties\":{\"me\":{\"type\":\"OBJECT\"}}}", true});
}

static void test_all_of_is_merged(void **state)
{
    ROWS(
        schema_to_openapi,
        {"{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"properties\":{\"y\":{\"type\":\"number\"}},"
         "\"required\":[\"y\"]},{\"$ref\":\"#/$defs/a\"}],\"description\":\"own\",\"$defs\":{\"a\":"
         "{\"type\":\"object\",\"description\":\"base\",\"properties\":{\"x\":{\"type\":\"string\"}"
         "},"
         "\"required\":[\"x\"]}}}",
         "{\"type\":\"OBJECT\",\"description\":\"own\",\"properties\":{\"x\":{\"type\":\"STRING\"},"
         "\"y\":{\"type\":\"NUMBER\"}},\"required\":[\"x\",\"y\"]}",
         false});
}

static void test_arrays_always_say_what_is_in_them(void **state)
{
    ROWS(schema_to_openapi,
         {"{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1}",
          "{\"type\":\"ARRAY\",\"minItems\":1,\"items\":{\"type\":\"STRING\"}}", false},
         {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}",
          "{\"type\":\"ARRAY\",\"items\":{\"anyOf\":[{\"type\":\"STRING\"},{\"type\":\"INTEGER\"}]}"
          "}",
          true},
         {"{\"type\":\"array\"}",
          "{\"type\":\"ARRAY\",\"items\":{\"anyOf\":[{\"type\":\"STRING\"},{\"type\":\"NUMBER\"},"
          "{\"type\":\"BOOLEAN\"}]}}",
          true});
}

static void test_what_is_no_schema_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "true",
        "{\"a\":}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/x\"}}}",
        "{\"$ref\":\"http://example.com/s.json\"}"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct slice out;
        bool lossy;

        assert_int_equal(schema_to_openapi(arena, slice_cstr(bad[i]), &out, &lossy), GW_EBADREQ);
    }
}

/* Each definition refers twice to the next: 2^30 schemas once inlined. */
static void test_references_that_multiply_are_refused(void **state)
{
    struct slice out;
    struct buf in;
    bool lossy;

    buf_init(&in, 100000);
    buf_add_cstr(&in, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"end\":{\"type\":\"string\"}");
    for (int i = 0; i < 30; i++)
        buf_printf(&in,
                   ",\"d%d\":{\"type\":\"object\",\"properties\":{\"l\":{\"$ref\":\"#/$defs/d%d\"},"
                   "\"r\":{\"$ref\":\"#/$defs/d%d\"}}}",
                   i, i + 1, i + 1);
    buf_add_cstr(&in, ",\"d30\":{\"type\":\"string\"}}}");
    assert_int_equal(schema_to_openapi(arena, buf_slice(&in), &out, &lossy), GW_EBADREQ);
    buf_deinit(&in);
}

/* A long text or list behind a reference used many times must not grow without bound. */
static void test_large_parts_inlined_often_are_refused(void **state)
{
    struct slice out;
    struct buf in;
    bool lossy;

    buf_init(&in, 1u << 20);
    buf_add_cstr(&in,
                 "{\"type\":\"object\",\"$defs\":{\"d\":{\"type\":\"string\",\"description\":\"");
    for (int i = 0; i < 50000; i++)
        buf_add_char(&in, 'x');
    buf_add_cstr(&in, "\"}},\"properties\":{\"a\":{\"$ref\":\"#/$defs/d\"}");
    for (int i = 0; i < 1000; i++)
        buf_printf(&in, ",\"p%d\":{\"$ref\":\"#/$defs/d\"}", i);
    buf_add_cstr(&in, "}}");
    assert_int_equal(schema_to_openapi(arena, buf_slice(&in), &out, &lossy), GW_EBADREQ);
    buf_deinit(&in);
}

static void test_nesting_has_its_limit(void **state)
{
    struct slice out;
    struct buf in;
    bool lossy;

    buf_init(&in, 10000);
    for (int i = 0; i < 40; i++)
        buf_add_cstr(&in, "{\"items\":");
    buf_add_cstr(&in, "{}");
    for (int i = 0; i < 40; i++)
        buf_add_char(&in, '}');
    assert_int_equal(schema_to_openapi(arena, buf_slice(&in), &out, &lossy), GW_EBADREQ);
    assert_int_equal(schema_close(arena, buf_slice(&in), &out, &lossy), GW_EBADREQ);
    buf_deinit(&in);
}

static void test_closing_shuts_objects_and_tells_the_rest(void **state)
{
    ROWS(schema_close,
         {"{\"$schema\":\"x\",\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\","
          "\"description\":\"d\",\"minimum\":1,\"maximum\":9007199254740993}}}",
          "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"description\":"
          "\"d\\n\\n{minimum: 1} {maximum: 9007199254740993}\"}},\"additionalProperties\":false}",
          true},
         {"{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"anyOf\":["
          "{\"type\":\"object\"},{\"$ref\":\"#/$defs/x\"}]}},\"$defs\":{\"x\":{\"type\":\"array\","
          "\"items\":{\"type\":\"object\",\"properties\":{}},\"minItems\":1}}}",
          "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"anyOf\":["
          "{\"type\":\"object\",\"additionalProperties\":false},{\"$ref\":\"#/$defs/"
          "x\"}]}},\"$defs\":"
          "{\"x\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{},"
          "\"additionalProperties\":false},\"minItems\":1}}}",
          false},
         {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}",
          "{\"type\":\"object\",\"additionalProperties\":false}", true},
         {"{\"type\":\"string\",\"format\":\"uuid\"}", "{\"type\":\"string\",\"format\":\"uuid\"}",
          false},
         {"{\"type\":\"string\",\"format\":\"color\"}",
          "{\"type\":\"string\",\"description\":\"{format: \\\"color\\\"}\"}", true});
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_types_are_put_in_capitals_and_keywords_picked),
        T(test_numbers_keep_their_digits),
        T(test_null_becomes_nullable),
        T(test_constants_and_values_become_enums_of_strings),
        T(test_references_are_inlined_and_cycles_end),
        T(test_all_of_is_merged),
        T(test_arrays_always_say_what_is_in_them),
        T(test_what_is_no_schema_is_refused),
        T(test_references_that_multiply_are_refused),
        T(test_large_parts_inlined_often_are_refused),
        T(test_nesting_has_its_limit),
        T(test_closing_shuts_objects_and_tells_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
