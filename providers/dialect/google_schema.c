/*
 * google_schema.c - a schema in Gemini's words as JSON schema. The other way is schema.c's.
 *
 * Gemini's Schema is a proto: types are enum words in capitals, 64-bit counts may be strings,
 * `nullable` stands beside the type. What is JSON schema already passes as it is.
 */
#include "providers/dialect/google_client.h"

#include <ctype.h>

#define MAX_OUT (8u << 20)

static void write_schema(struct json_writer *w, struct json v);

/* What becomes of a member. */
enum how { SCHEMA, SCHEMAS, MAP, COUNT, LEFT_OUT };

static const struct {
    const char *name;
    enum how how;
} members[] = {
    {"items", SCHEMA},        {"additionalProperties", SCHEMA},
    {"anyOf", SCHEMAS},       {"oneOf", SCHEMAS},
    {"allOf", SCHEMAS},       {"prefixItems", SCHEMAS},
    {"properties", MAP},      {"$defs", MAP},
    {"minItems", COUNT},      {"maxItems", COUNT},
    {"minLength", COUNT},     {"maxLength", COUNT},
    {"minProperties", COUNT}, {"maxProperties", COUNT},
    {"nullable", LEFT_OUT},   {"propertyOrdering", LEFT_OUT},
    {"example", LEFT_OUT},
};

static void write_lower(struct json_writer *w, struct slice word)
{
    char room[32];
    size_t n = word.n < sizeof(room) ? word.n : sizeof(room);

    for (size_t i = 0; i < n; i++)
        room[i] = (char)tolower((unsigned char)word.p[i]);
    json_put_str(w, slice_of(room, n));
}

static void write_type(struct json_writer *w, struct json type, bool nullable)
{
    struct slice word = json_str(type);

    if (!json_is(type, JSON_STRING)) {
        json_kv_raw(w, "type", json_raw(type));
        return;
    }
    if (slice_is(word, "TYPE_UNSPECIFIED"))
        return;
    json_put_key(w, "type");
    if (!nullable) {
        write_lower(w, word);
        return;
    }
    json_arr(w);
    write_lower(w, word);
    json_put_cstr(w, "null");
    json_arr_end(w);
}

/* A list of schemas; a nullable choice without a type has null as one more of them. */
static void write_list(struct json_writer *w, struct json list, bool add_null)
{
    json_arr(w);
    for (struct json it = json_first(list); json_exists(it); it = json_next(list, it))
        write_schema(w, it);
    if (add_null) {
        json_obj(w);
        json_kv_cstr(w, "type", "null");
        json_obj_end(w);
    }
    json_arr_end(w);
}

static void write_map(struct json_writer *w, struct json map)
{
    json_obj(w);
    for (struct json it = json_first(map); json_exists(it); it = json_next(map, it)) {
        json_put_key_slice(w, json_key(it));
        write_schema(w, it);
    }
    json_obj_end(w);
}

/* "3" is 3; what is no number stays as it is. */
static void write_count(struct json_writer *w, struct json v)
{
    struct slice digits = json_str(v);
    bool number = digits.n > 0 && digits.n < 16;
    int64_t n = 0;

    for (size_t i = 0; i < digits.n && number; i++) {
        number = digits.p[i] >= '0' && digits.p[i] <= '9';
        n = n * 10 + (digits.p[i] - '0');
    }
    if (number)
        json_put_int(w, n);
    else
        json_put_raw(w, json_raw(v));
}

static void write_enum(struct json_writer *w, struct json list, bool nullable)
{
    json_kv_arr(w, "enum");
    for (struct json it = json_first(list); json_exists(it); it = json_next(list, it))
        json_put_raw(w, json_raw(it));
    if (nullable)
        json_put_null(w);
    json_arr_end(w);
}

static void write_known(struct json_writer *w, const char *name, enum how how, struct json v,
                        bool add_null)
{
    if (how == LEFT_OUT)
        return;
    json_put_key(w, name);
    if (how == SCHEMA)
        write_schema(w, v);
    else if (how == COUNT)
        write_count(w, v);
    else if (how == SCHEMAS && json_is(v, JSON_ARRAY))
        write_list(w, v, add_null && strcmp(name, "anyOf") == 0);
    else if (how == MAP && json_is(v, JSON_OBJECT))
        write_map(w, v);
    else
        json_put_raw(w, json_raw(v));
}

static void write_member(struct json_writer *w, struct json v, bool nullable, bool has_type)
{
    struct slice name = json_key(v);

    if (slice_is(name, "type")) {
        write_type(w, v, nullable);
        return;
    }
    if (slice_is(name, "enum") && json_is(v, JSON_ARRAY)) {
        write_enum(w, v, nullable);
        return;
    }
    if (slice_is(name, "format") && json_str_is(v, "enum"))
        return; /* Gemini's way to say that there is an enum */
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        if (google_is_name(name, members[i].name)) {
            write_known(w, members[i].name, members[i].how, v, nullable && !has_type);
            return;
        }
    json_put_key_slice(w, name);
    json_put_raw(w, json_raw(v));
}

/* As deep as the document, which its parser has bounded. */
static void write_schema(struct json_writer *w, struct json v)
{
    bool nullable, has_type;

    if (!json_is(v, JSON_OBJECT)) {
        json_put_raw(w, json_raw(v));
        return;
    }
    nullable = json_is(json_get(v, "nullable"), JSON_TRUE);
    has_type = json_is(json_get(v, "type"), JSON_STRING);
    json_obj(w);
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it))
        write_member(w, it, nullable, has_type);
    json_obj_end(w);
}

enum gw_err google_json_schema(struct arena *a, struct json schema, struct slice *ret)
{
    struct json_writer w;
    struct slice text;
    struct buf out;

    json_begin(&w, &out, MAX_OUT + 2 * json_raw(schema).n);
    write_schema(&w, schema);
    text = buf_err(&out) ? SLICE_NONE : arena_dup(a, buf_slice(&out));
    buf_deinit(&out);
    if (!text.p)
        return GW_ENOMEM;
    *ret = text;
    return GW_OK;
}
