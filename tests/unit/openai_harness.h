/* openai_harness.h - what the tests of the OpenAI dialect share. Every function here is used by
 * each of them or marked. */
#pragma once

#include "gateway/core/json.h"
#include "providers/dialect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAYBE __attribute__((unused))

static struct arena *arena;
static struct registry_provider provider;
static struct registry_model model;

static MAYBE int setup(void **state)
{
    arena = arena_create(1u << 30);
    provider = (struct registry_provider){
        .name = "openai", .api_key = SLICE("sk-up"), .use_max_completion_tokens = true};
    model = (struct registry_model){
        .id = SLICE("openai/gpt-up"), .name = SLICE("gpt-up"), .provider = &provider};
    return arena ? 0 : -1;
}

static MAYBE int teardown(void **state)
{
    arena = arena_destroy(arena);
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static MAYBE void free_buf_of_test(void *b)
{
    buf_deinit(b);
}

/* A buffer that lives as long as the arena. */
static MAYBE struct buf *test_buf(void)
{
    struct buf *b = arena_new(arena, struct buf);

    buf_init(b, 64u << 20);
    assert_true(arena_defer(arena, free_buf_of_test, b));
    return b;
}

static MAYBE struct json parsed(struct slice text)
{
    struct json root = {NULL, 0};
    struct json_error err = {NULL, 0};

    if (json_parse(arena, text, NULL, &root, &err) != GW_OK)
        fail_msg("%s at %zu: %.*s", err.what, err.at, SLICE_ARG(text));
    return root;
}

static MAYBE void assert_slice(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(got), want);
}

/* The same value: members in any order, numbers by their text. */
static bool json_same(struct json a, struct json b)
{
    struct json x, y;

    if (!json_exists(a) || !json_exists(b) || json_type(a) != json_type(b) ||
        json_count(a) != json_count(b))
        return false;
    if (json_type(a) == JSON_STRING)
        return slice_eq(json_str(a), json_str(b));
    if (json_type(a) == JSON_NUMBER)
        return slice_eq(json_raw(a), json_raw(b));
    x = json_first(a);
    y = json_first(b);
    for (; json_exists(x); x = json_next(a, x)) {
        if (json_type(a) == JSON_OBJECT)
            y = json_get(b, arena_cstr(arena, json_key(x)));
        if (!json_same(x, y))
            return false;
        if (json_type(a) == JSON_ARRAY)
            y = json_next(b, y);
    }
    return true;
}

static MAYBE void assert_json(const char *what, struct json got, struct json want)
{
    if (!json_same(got, want))
        fail_msg("%s\n got %.*s\nwant %.*s", what, SLICE_ARG(json_raw(got)),
                 SLICE_ARG(json_raw(want)));
}

static MAYBE struct convo *decoded(struct slice body)
{
    struct convo_report rep = {.n_dropped = 0};
    struct convo *c = NULL;
    enum gw_err err = dialect_openai.decode_request(arena, parsed(body), &c, &rep);

    if (err)
        fail_msg("%s %.*s: %.*s", err_info(err)->name, SLICE_ARG(rep.refused), SLICE_ARG(rep.why));
    return c;
}

/* The request for the provider, as JSON. */
static MAYBE struct json encoded(const struct convo *c, struct convo_report *rep)
{
    struct dialect_request out = {.body = test_buf()};
    enum gw_err err = dialect_openai.encode_request(c, &model, &out, rep);

    if (err)
        fail_msg("%s %.*s: %.*s", err_info(err)->name, SLICE_ARG(rep->refused),
                 SLICE_ARG(rep->why));
    assert_slice(out.path, "/chat/completions");
    return parsed(buf_slice(out.body));
}

/* A file of the source tree, in the arena. */
static MAYBE struct slice read_source(const char *path)
{
    const char *root = getenv("POSTERN_SRC");
    struct slice name = arena_printf(arena, "%s/%s", root ? root : ".", path);
    FILE *f = fopen(name.p, "rb");
    struct buf *b = test_buf();
    size_t n;

    if (!f)
        fail_msg("cannot open %s", name.p);
    do {
        n = fread(buf_reserve(b, 65536), 1, 65536, f);
        b->n += n;
    } while (n > 0);
    fclose(f);
    return buf_slice(b);
}
