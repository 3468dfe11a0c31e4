/*
 * fuzz_json.c - whatever the strict reader accepts is valid UTF-8, is walked without a fault, and
 * after being written again from its values is read back as the same tree.
 */
#include "gateway/core/json.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(struct json_writer *w, struct json v)
{
    struct json it;
    bool b;

    switch (json_type(v)) {
    case JSON_NULL:
        json_put_null(w);
        break;
    case JSON_FALSE:
    case JSON_TRUE:
        assert(json_bool(v, &b));
        json_put_bool(w, b);
        break;
    case JSON_NUMBER:
        json_put_raw(w, json_raw(v));
        break;
    case JSON_STRING:
        assert(json_str(v).p && json_utf8_valid(json_str(v)));
        json_put_str(w, json_str(v));
        break;
    case JSON_ARRAY:
        json_arr(w);
        for (it = json_first(v); json_exists(it); it = json_next(v, it))
            rewrite(w, it);
        json_arr_end(w);
        break;
    case JSON_OBJECT:
        json_obj(w);
        for (it = json_first(v); json_exists(it); it = json_next(v, it)) {
            json_put_key_slice(w, json_key(it));
            rewrite(w, it);
        }
        json_obj_end(w);
        break;
    }
}

/* The same values, member by member, by way of every reader. */
static void compare(struct json a, struct json b)
{
    struct json x, y;
    int64_t i = 0, j = 0;
    double d = 0, e = 0;

    assert(json_type(a) == json_type(b) && json_count(a) == json_count(b));
    if (json_type(a) == JSON_STRING)
        assert(slice_eq(json_str(a), json_str(b)));
    assert(json_int(a, &i) == json_int(b, &j) && i == j);
    assert(json_double(a, &d) == json_double(b, &e) && d == e);
    assert(json_any_duplicate(a, NULL) == json_any_duplicate(b, NULL));
    x = json_first(a);
    y = json_first(b);
    for (; json_exists(x) && json_exists(y); x = json_next(a, x), y = json_next(b, y)) {
        if (json_type(a) == JSON_OBJECT)
            assert(slice_eq(json_key(x), json_key(y)));
        compare(x, y);
    }
    assert(!json_exists(x) && !json_exists(y));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_create(64u << 20);
    struct slice src = slice_of((const char *)data, size);
    struct json_limits limits = {.max_tokens = 20000};
    struct json_error err = {NULL, 0};
    struct json_writer w;
    struct json root, again;
    struct buf out;

    buf_init(&out, 16u << 20);
    if (json_parse(arena, src, &limits, &root, &err) == GW_OK) {
        assert(json_utf8_valid(src));
        json_writer_init(&w, &out);
        rewrite(&w, root);
        assert(buf_err(&out) == GW_OK);
        assert(json_parse(arena, buf_slice(&out), &limits, &again, NULL) == GW_OK);
        compare(root, again);
    } else {
        assert(err.what && err.at <= size);
    }
    buf_deinit(&out);
    arena_destroy(arena);
    return 0;
}
