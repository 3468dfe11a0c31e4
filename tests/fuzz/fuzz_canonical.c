/*
 * fuzz_canonical.c - a value written another way (members backwards, blanks between, characters
 * escaped) has the same hash, and a value that holds it another one.
 */
#include "gateway/core/canonical.h"

#include <assert.h>
#include <stdint.h>

#define MAX_TEXT (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(struct buf *out, struct json v);

/* A string with every ASCII character escaped. */
static void rewrite_string(struct buf *out, struct slice s)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x80)
            buf_printf(out, "\\u%04x", (unsigned)s.p[i]);
        else
            buf_add_char(out, s.p[i]);
    buf_add_char(out, '"');
}

static void rewrite_from(struct buf *out, struct json container, struct json it, bool *first)
{
    struct json later = json_next(container, it);

    if (json_exists(later))
        rewrite_from(out, container, later, first);
    buf_add_cstr(out, *first ? "\n" : " ,\t");
    *first = false;
    rewrite_string(out, json_key(it));
    buf_add_cstr(out, " : ");
    rewrite(out, it);
}

static void rewrite_array(struct buf *out, struct json v)
{
    bool first = true;

    buf_add_char(out, '[');
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it)) {
        buf_add_cstr(out, first ? " " : " , ");
        first = false;
        rewrite(out, it);
    }
    buf_add_cstr(out, " ]");
}

static void rewrite_object(struct buf *out, struct json v)
{
    struct json it = json_first(v);
    bool first = true;

    buf_add_char(out, '{');
    if (json_exists(it))
        rewrite_from(out, v, it, &first);
    buf_add_char(out, '}');
}

static void rewrite(struct buf *out, struct json v)
{
    if (json_is(v, JSON_OBJECT))
        rewrite_object(out, v);
    else if (json_is(v, JSON_ARRAY))
        rewrite_array(out, v);
    else if (json_is(v, JSON_STRING))
        rewrite_string(out, json_str(v));
    else
        buf_add_slice(out, json_raw(v));
}

static void hash_of(struct json v, bool held, unsigned char sha[32])
{
    struct canonical c;

    canonical_init(&c, 2 * MAX_TEXT);
    if (held)
        canonical_add(&c, SLICE("held"));
    canonical_add_json(&c, v, NULL);
    assert(canonical_hash(&c, sha) == GW_OK);
    canonical_deinit(&c);
}

static bool has_twins(struct json v)
{
    if (!json_is(v, JSON_OBJECT) && !json_is(v, JSON_ARRAY))
        return false;
    for (struct json a = json_first(v); json_exists(a); a = json_next(v, a)) {
        for (struct json b = json_next(v, a); json_is(v, JSON_OBJECT) && json_exists(b);
             b = json_next(v, b))
            if (slice_eq(json_key(a), json_key(b)))
                return true;
        if (has_twins(a))
            return true;
    }
    return false;
}

static void check(struct arena *a, struct json v)
{
    unsigned char one[32], two[32], held[32];
    struct json again;
    struct buf out;

    buf_init(&out, MAX_TEXT);
    rewrite(&out, v);
    assert(buf_err(&out) == GW_OK);
    assert(json_parse(a, buf_slice(&out), NULL, &again, NULL) == GW_OK);
    hash_of(v, false, one);
    hash_of(again, false, two);
    hash_of(v, true, held);
    assert(memcmp(one, two, sizeof(one)) == 0);
    assert(memcmp(one, held, sizeof(one)) != 0);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_create(64u << 20);
    struct json v;

    assert(a);
    if (size < (1u << 14) &&
        json_parse(a, slice_of((const char *)data, size), NULL, &v, NULL) == GW_OK && !has_twins(v))
        check(a, v);
    arena_destroy(a);
    return 0;
}
