/*
 * schema.c - schemas for Gemini; see schema.h.
 *
 * Each schema is first made flat: an object of references to the members that hold after its $ref
 * and allOf have been merged in (its own members win). From the flat one the new schema is written,
 * keyword by keyword. The references followed on the way stay open while the members below are
 * converted, so a cycle is seen when it closes.
 */
#include "providers/dialect/schema.h"

#include "providers/dialect/schema_tree.h"

#include <stdlib.h>

enum type { T_STRING, T_NUMBER, T_INTEGER, T_BOOLEAN, T_ARRAY, T_OBJECT, N_TYPES };

static const struct {
    const char *json, *openapi;
} types[N_TYPES] = {
    [T_STRING] = {"string", "STRING"},    [T_NUMBER] = {"number", "NUMBER"},
    [T_INTEGER] = {"integer", "INTEGER"}, [T_BOOLEAN] = {"boolean", "BOOLEAN"},
    [T_ARRAY] = {"array", "ARRAY"},       [T_OBJECT] = {"object", "OBJECT"},
};

#define ON(t) (1u << (t))

/* Keywords copied as they are, and the types they belong to. */
static const struct {
    const char *key;
    unsigned on;
} copied[] = {
    {"title", ~0u},
    {"description", ~0u},
    {"default", ~0u},
    {"minLength", ON(T_STRING)},
    {"maxLength", ON(T_STRING)},
    {"pattern", ON(T_STRING)},
    {"minimum", ON(T_NUMBER) | ON(T_INTEGER)},
    {"maximum", ON(T_NUMBER) | ON(T_INTEGER)},
    {"minItems", ON(T_ARRAY)},
    {"maxItems", ON(T_ARRAY)},
    {"minProperties", ON(T_OBJECT)},
    {"maxProperties", ON(T_OBJECT)},
};

/* Constraints that are lost. */
static const char *const lost[] = {
    "not",
    "if",
    "then",
    "else",
    "contains",
    "uniqueItems",
    "multipleOf",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
};

/* The other keywords that are read. */
static const char *const read_keys[] = {
    "type",
    "enum",
    "const",
    "format",
    "nullable",
    "anyOf",
    "oneOf",
    "items",
    "prefixItems",
    "properties",
    "required",
    "exclusiveMinimum",
    "exclusiveMaximum",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ANY_TYPE ON(N_TYPES) /* what belongs to every schema */
#define MAX_REF_DEPTH 20u

static const struct {
    const char *format;
    unsigned on;
} formats[] = {
    {"date-time", ON(T_STRING)}, {"enum", ON(T_STRING)},   {"float", ON(T_NUMBER)},
    {"double", ON(T_NUMBER)},    {"int32", ON(T_INTEGER)}, {"int64", ON(T_INTEGER)},
};

static cJSON *convert(struct schema_walk *w, const cJSON *in, unsigned depth);

/* --- references ---------------------------------------------------------------------------- */

/* One step of a JSON pointer: `part` is changed in place. */
static const cJSON *step(const cJSON *at, char *part)
{
    char *to = part;

    for (const char *from = part; *from; from++, to++) {
        *to = *from;
        if (from[0] == '~' && (from[1] == '0' || from[1] == '1'))
            *to = *++from == '0' ? '~' : '/';
    }
    *to = '\0';
    if (cJSON_IsArray(at)) {
        char *end;
        unsigned long i = strtoul(part, &end, 10);

        return *part && !*end && i < SCHEMA_MAX_NODES ? cJSON_GetArrayItem(at, (int)i) : NULL;
    }
    return schema_tree_get(at, part);
}

/* What "#/a/b" points to; NULL when that is nowhere in this schema. */
static const cJSON *resolve(struct schema_walk *w, const char *ref)
{
    const cJSON *at = w->root;
    char *copy, *part, *rest;

    if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/'))
        return NULL;
    copy = strdup(ref + (ref[1] ? 2 : 1));
    if (!copy) {
        w->err = GW_ENOMEM;
        return NULL;
    }
    rest = ref[1] ? copy : NULL;
    while (at && (part = strsep(&rest, "/")) != NULL)
        at = step(at, part);
    free(copy);
    return at;
}

/* Where among the open references; n_open when it is none of them. */
static unsigned open_index(const struct schema_walk *w, const cJSON *target)
{
    unsigned i = 0;

    while (i < w->n_open && w->open[i] != target)
        i++;
    return i;
}

/* --- flattening ---------------------------------------------------------------------------- */

static void flatten(struct schema_walk *w, cJSON *flat, const cJSON *node, bool weak,
                    unsigned depth);

static void set_reference(struct schema_walk *w, cJSON *object, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    schema_tree_put(w, object, key, schema_tree_reference(value));
}

static cJSON *own_container(struct schema_walk *w, cJSON *flat, const char *key, cJSON *fresh)
{
    cJSON *had = cJSON_GetObjectItemCaseSensitive(flat, key);

    if (had) {
        cJSON_Delete(fresh);
        return had;
    }
    schema_tree_put(w, flat, key, fresh);
    return w->err ? NULL : fresh;
}

static void merge_properties(struct schema_walk *w, cJSON *flat, const cJSON *value, bool weak)
{
    cJSON *to = own_container(w, flat, "properties", cJSON_CreateObject()), *it;
    size_t n = to ? (size_t)cJSON_GetArraySize(to) : 0;

    if (!to)
        return;
    cJSON_ArrayForEach(it, value)
    {
        schema_tree_spend(w, ++n);
        if (w->err)
            return;
        if (!weak || !schema_tree_get(to, it->string))
            set_reference(w, to, it->string, it);
    }
}

static void merge_required(struct schema_walk *w, cJSON *flat, const cJSON *value)
{
    cJSON *to = own_container(w, flat, "required", cJSON_CreateArray()), *it;

    if (!to)
        return;
    cJSON_ArrayForEach(it, value)
    {
        if (!cJSON_IsString(it) || w->err)
            continue;
        schema_tree_spend(w, strlen(it->valuestring));
        schema_tree_append(w, to, cJSON_CreateString(it->valuestring));
    }
}

static bool is_read(const char *key)
{
    for (size_t i = 0; i < COUNT(read_keys); i++)
        if (strcmp(key, read_keys[i]) == 0)
            return true;
    for (size_t i = 0; i < COUNT(copied); i++)
        if (strcmp(key, copied[i].key) == 0)
            return true;
    return false;
}

static bool is_lost(const char *key)
{
    for (size_t i = 0; i < COUNT(lost); i++)
        if (strcmp(key, lost[i]) == 0)
            return true;
    return false;
}

static void merge_member(struct schema_walk *w, cJSON *flat, cJSON *member, bool weak)
{
    const char *key = member->string;

    if (strcmp(key, "properties") == 0 && cJSON_IsObject(member)) {
        merge_properties(w, flat, member, weak);
    } else if (strcmp(key, "required") == 0 && cJSON_IsArray(member)) {
        merge_required(w, flat, member);
    } else if (!is_read(key)) {
        w->lossy |= is_lost(key);
    } else if (strcmp(key, "properties") != 0 && strcmp(key, "required") != 0) {
        bool had = schema_tree_get(flat, key) != NULL;

        if (had && (strcmp(key, "anyOf") == 0 || strcmp(key, "oneOf") == 0))
            w->lossy = true; /* only one of two unions can be kept */
        if (!had || !weak)
            set_reference(w, flat, key, member);
    }
}

static void follow(struct schema_walk *w, cJSON *flat, const char *ref, bool weak, unsigned depth)
{
    const cJSON *target;
    unsigned at;

    schema_tree_spend(w, strlen(ref));
    target = w->err ? NULL : resolve(w, ref);
    at = open_index(w, target);

    if (w->err)
        return;
    if (!target) {
        w->err = GW_EBADREQ;
    } else if (at < w->n_open && at >= w->base) {
        return; /* merged into this schema already */
    } else if (at < w->n_open || w->n_open == SCHEMA_MAX_DEPTH || depth > MAX_REF_DEPTH) {
        w->lossy = true; /* a cycle: any object from here on */
        if (!schema_tree_get(flat, "type"))
            schema_tree_put(w, flat, "type", cJSON_CreateString("object"));
    } else {
        w->open[w->n_open++] = target;
        flatten(w, flat, target, weak, depth + 1);
    }
}

/* Adds the members of `node`; `weak` ones give way to those that are there. */
static void flatten(struct schema_walk *w, cJSON *flat, const cJSON *node, bool weak,
                    unsigned depth)
{
    const cJSON *ref = schema_tree_get(node, "$ref"), *all = schema_tree_get(node, "allOf"), *sub;
    cJSON *member;

    if (!cJSON_IsObject(node) || w->err)
        return;
    if (depth > SCHEMA_MAX_DEPTH || ++w->nodes > SCHEMA_MAX_NODES) {
        w->err = GW_EBADREQ;
        return;
    }
    if (cJSON_IsString(ref))
        follow(w, flat, ref->valuestring, weak, depth);
    if (cJSON_IsArray(all))
        cJSON_ArrayForEach(sub, all) flatten(w, flat, sub, weak, depth + 1);
    cJSON_ArrayForEach(member, node)
    {
        schema_tree_spend(w, 8);
        if (w->err)
            return;
        if (strcmp(member->string, "$ref") != 0 && strcmp(member->string, "allOf") != 0)
            merge_member(w, flat, member, weak);
    }
}

/* --- null and unions ----------------------------------------------------------------------- */

static bool is_null_schema(const cJSON *s)
{
    const cJSON *type = schema_tree_get(s, "type"), *list = schema_tree_get(s, "enum");
    const char *word = cJSON_GetStringValue(type);

    if (word)
        return strcmp(word, "null") == 0;
    return cJSON_IsNull(schema_tree_get(s, "const")) ||
           (cJSON_GetArraySize(list) == 1 && cJSON_IsNull(cJSON_GetArrayItem(list, 0)));
}

static const char *union_key(const cJSON *flat)
{
    if (cJSON_IsArray(schema_tree_get(flat, "anyOf")))
        return "anyOf";
    return cJSON_IsArray(schema_tree_get(flat, "oneOf")) ? "oneOf" : NULL;
}

/* Members of a union that are not null; counts them, the last one in *ret_last. */
static unsigned union_count(const cJSON *list, const cJSON **ret_last, bool *nullable)
{
    const cJSON *it;
    unsigned n = 0;

    cJSON_ArrayForEach(it, list)
    {
        if (is_null_schema(it)) {
            *nullable = true;
        } else {
            *ret_last = it;
            n++;
        }
    }
    return n;
}

/* A union of one is that one. */
static void collapse_union(struct schema_walk *w, cJSON *flat, bool *nullable, unsigned depth)
{
    const char *key;

    while (!w->err && (key = union_key(flat)) != NULL) {
        cJSON *list = cJSON_DetachItemFromObjectCaseSensitive(flat, key);
        const cJSON *only = NULL;
        unsigned n = union_count(list, &only, nullable);

        if (n > 1) {
            schema_tree_put(w, flat, key, list);
            return;
        }
        if (n == 1)
            flatten(w, flat, only, true, depth + 1);
        cJSON_Delete(list);
    }
}

static void put_union(struct schema_walk *w, cJSON *out, const cJSON *list, unsigned depth)
{
    cJSON *any = cJSON_CreateArray();
    const cJSON *it;

    schema_tree_put(w, out, "anyOf", any);
    cJSON_ArrayForEach(it, list)
    {
        if (w->err)
            return;
        if (!is_null_schema(it))
            schema_tree_append(w, any, convert(w, it, depth + 1));
    }
}

/* --- types --------------------------------------------------------------------------------- */

static unsigned type_bit(const cJSON *word, bool *nullable)
{
    const char *text = cJSON_GetStringValue(word);

    for (unsigned t = 0; text && t < N_TYPES; t++)
        if (strcasecmp(text, types[t].json) == 0)
            return ON(t);
    if (text && strcasecmp(text, "null") == 0)
        *nullable = true;
    return 0;
}

static unsigned value_bit(const cJSON *value, bool *nullable)
{
    if (cJSON_IsNull(value))
        *nullable = true;
    if (cJSON_IsBool(value))
        return ON(T_BOOLEAN);
    if (cJSON_IsRaw(value))
        return strpbrk(value->valuestring, ".eE") ? ON(T_NUMBER) : ON(T_INTEGER);
    return cJSON_IsString(value) ? ON(T_STRING) : 0;
}

/* The types a flat schema allows, as bits; guessed from its keywords when it does not say. */
static unsigned types_of(const cJSON *flat, bool *nullable)
{
    const cJSON *type = schema_tree_get(flat, "type"), *list = schema_tree_get(flat, "enum"), *it;
    unsigned bits = type_bit(type, nullable);

    if (cJSON_IsArray(type))
        cJSON_ArrayForEach(it, type) bits |= type_bit(it, nullable);
    if (bits)
        return bits;
    if (schema_tree_get(flat, "properties"))
        return ON(T_OBJECT);
    if (schema_tree_get(flat, "items") || schema_tree_get(flat, "prefixItems"))
        return ON(T_ARRAY);
    if (schema_tree_get(flat, "const"))
        return value_bit(schema_tree_get(flat, "const"), nullable);
    cJSON_ArrayForEach(it, list) bits |= value_bit(it, nullable);
    return bits;
}

/* --- keywords ------------------------------------------------------------------------------ */

static void put_values(struct schema_walk *w, cJSON *out, const cJSON *const *values, unsigned n)
{
    cJSON *list = cJSON_CreateArray();

    for (unsigned i = 0; i < n && list && !w->err; i++) {
        schema_tree_spend(w, strlen(values[i]->valuestring) + 8);
        schema_tree_append(w, list, cJSON_CreateString(values[i]->valuestring));
    }
    schema_tree_put(w, out, "enum", list);
}

/* Values that are no strings cannot be an enum there; they are told in the description. */
static void tell_values(struct schema_walk *w, cJSON *out, const cJSON *list)
{
    char *text = cJSON_PrintUnformatted(list);
    struct slice note = slice_cstr("One of the values "), all = slice_cstr(text);
    char *whole = text ? malloc(note.n + all.n) : NULL;

    if (!whole) {
        w->err = GW_ENOMEM;
    } else {
        schema_tree_spend(w, all.n);
        memcpy(whole, note.p, note.n);
        memcpy(whole + note.n, all.p, all.n);
        schema_tree_note(w, out, slice_of(whole, note.n + all.n));
        w->lossy = true;
    }
    free(whole);
    cJSON_free(text);
}

static void put_enum(struct schema_walk *w, cJSON *out, const cJSON *list, enum type type)
{
    int size = cJSON_GetArraySize(list);
    const cJSON **strings = calloc((size_t)size + 1, sizeof(*strings)), *it;
    unsigned n = 0, others = 0;

    if (!strings) {
        w->err = GW_ENOMEM;
        return;
    }
    cJSON_ArrayForEach(it, list)
    {
        if (cJSON_IsString(it) && it->valuestring[0])
            strings[n++] = it;
        else if (!cJSON_IsNull(it))
            others++;
    }
    if (type == T_STRING && n > 0) {
        put_values(w, out, strings, n);
        w->lossy |= others > 0;
    } else if (others > 0) {
        tell_values(w, out, list);
    }
    free(strings);
}

static void put_values_allowed(struct schema_walk *w, cJSON *out, const cJSON *flat, enum type type)
{
    cJSON *value = cJSON_GetObjectItemCaseSensitive(flat, "const");
    const cJSON *list = schema_tree_get(flat, "enum");
    cJSON *one = cJSON_CreateArray();

    if (!one || (value && !cJSON_AddItemReferenceToArray(one, value)))
        w->err = GW_ENOMEM;
    else if (value)
        put_enum(w, out, one, type);
    else if (cJSON_IsArray(list))
        put_enum(w, out, list, type);
    cJSON_Delete(one);
}

static void put_format(struct schema_walk *w, cJSON *out, const cJSON *flat, enum type type)
{
    const char *format = cJSON_GetStringValue(schema_tree_get(flat, "format"));

    for (size_t i = 0; format && i < COUNT(formats); i++)
        if (strcmp(format, formats[i].format) == 0 && (formats[i].on & ON(type)))
            schema_tree_put(w, out, "format", cJSON_CreateString(format));
}

/* The looser bound is kept where there is only an exclusive one. */
static void put_exclusive(struct schema_walk *w, cJSON *out, const cJSON *flat,
                          const char *exclusive, const char *inclusive)
{
    const cJSON *bound = schema_tree_get(flat, exclusive);

    if (!bound)
        return;
    w->lossy = true;
    if (cJSON_IsRaw(bound) && !schema_tree_get(flat, inclusive))
        schema_tree_put(w, out, inclusive, cJSON_Duplicate(bound, 1));
}

static cJSON *any_of_items(struct schema_walk *w, const cJSON *list, unsigned depth)
{
    cJSON *out;

    if (cJSON_GetArraySize(list) == 1)
        return convert(w, list->child, depth);
    out = cJSON_CreateObject();
    if (out)
        put_union(w, out, list, depth);
    return out;
}

/* The vendor refuses arrays that do not say what is in them. */
static void put_items(struct schema_walk *w, cJSON *out, const cJSON *flat, unsigned depth)
{
    const cJSON *items = schema_tree_get(flat, "items"),
                *tuple = schema_tree_get(flat, "prefixItems");
    cJSON *converted;

    if (cJSON_IsArray(items))
        tuple = items; /* what prefixItems was called before */
    if (tuple && cJSON_GetArraySize(tuple) > 0) {
        w->lossy = true;
        converted = any_of_items(w, tuple, depth + 1);
    } else {
        converted = convert(w, cJSON_IsObject(items) ? items : NULL, depth + 1);
    }
    schema_tree_put(w, out, "items", converted);
}

static void put_properties(struct schema_walk *w, cJSON *out, const cJSON *flat, unsigned depth)
{
    const cJSON *from = schema_tree_get(flat, "properties"),
                *need = schema_tree_get(flat, "required");
    cJSON *props, *required = NULL;
    const cJSON *it;
    size_t n = 0;

    if (!cJSON_IsObject(from) || !from->child)
        return; /* the vendor refuses an empty object of properties */
    props = cJSON_CreateObject();
    schema_tree_put(w, out, "properties", props);
    cJSON_ArrayForEach(it, from)
    {
        if (w->err)
            return;
        schema_tree_spend(w, strlen(it->string) + 8);
        schema_tree_put(w, props, it->string, convert(w, it, depth + 1));
        n++;
    }
    cJSON_ArrayForEach(it, need)
    {
        schema_tree_spend(w, n);
        if (w->err || !schema_tree_get(props, it->valuestring))
            continue; /* the vendor refuses names that are no properties */
        if (!required) {
            required = cJSON_CreateArray();
            schema_tree_put(w, out, "required", required);
        }
        if (!w->err)
            schema_tree_append(w, required, cJSON_CreateString(it->valuestring));
    }
}

/* --- one schema ---------------------------------------------------------------------------- */

/* Text, a number or a literal: what a copied keyword's value may be. */
static bool is_scalar(const cJSON *value)
{
    return !cJSON_IsObject(value) && !cJSON_IsArray(value);
}

static void put_copied(struct schema_walk *w, cJSON *out, const cJSON *flat, unsigned on)
{
    for (size_t i = 0; i < COUNT(copied) && !w->err; i++) {
        const cJSON *value = schema_tree_get(flat, copied[i].key);

        if (!value || !is_scalar(value) || !(copied[i].on & on))
            continue;
        schema_tree_spend(w, cJSON_IsString(value) ? strlen(value->valuestring) : 8);
        schema_tree_put(w, out, copied[i].key, cJSON_Duplicate(value, 1));
    }
}

static void put_typed(struct schema_walk *w, cJSON *out, const cJSON *flat, enum type type,
                      unsigned depth)
{
    schema_tree_put(w, out, "type", cJSON_CreateString(types[type].openapi));
    put_copied(w, out, flat, ON(type));
    if (w->err)
        return;
    put_values_allowed(w, out, flat, type);
    put_format(w, out, flat, type);
    if (type == T_NUMBER || type == T_INTEGER) {
        put_exclusive(w, out, flat, "exclusiveMinimum", "minimum");
        put_exclusive(w, out, flat, "exclusiveMaximum", "maximum");
    } else if (type == T_ARRAY) {
        put_items(w, out, flat, depth);
    } else if (type == T_OBJECT) {
        put_properties(w, out, flat, depth);
    }
}

/* Several types, or none said: a union of them. */
static void put_types(struct schema_walk *w, cJSON *out, const cJSON *flat, unsigned bits,
                      unsigned depth)
{
    cJSON *any = cJSON_CreateArray();

    schema_tree_put(w, out, "anyOf", any);
    for (unsigned t = 0; t < N_TYPES && !w->err; t++) {
        cJSON *one;

        if (!(bits & ON(t)))
            continue;
        one = cJSON_CreateObject();
        schema_tree_append(w, any, one);
        if (!w->err)
            put_typed(w, one, flat, (enum type)t, depth);
    }
}

static bool is_one_bit(unsigned bits)
{
    return bits != 0 && (bits & (bits - 1)) == 0;
}

static void put_schema(struct schema_walk *w, cJSON *out, const cJSON *flat, bool nullable,
                       unsigned depth)
{
    const char *key = union_key(flat);
    bool shaped = schema_tree_get(flat, "properties") || schema_tree_get(flat, "items");
    unsigned bits = types_of(flat, &nullable);

    if (key && !shaped) {
        put_copied(w, out, flat, ANY_TYPE);
        put_union(w, out, schema_tree_get(flat, key), depth);
    } else if (is_one_bit(bits)) {
        w->lossy |= key != NULL; /* a union beside properties cannot be said */
        put_typed(w, out, flat, (enum type)__builtin_ctz(bits), depth);
    } else {
        w->lossy |= bits == 0;
        put_types(w, out, flat, bits ? bits : ON(T_STRING) | ON(T_NUMBER) | ON(T_BOOLEAN), depth);
    }
    if (!w->err && (nullable || cJSON_IsTrue(schema_tree_get(flat, "nullable"))))
        schema_tree_put(w, out, "nullable", cJSON_CreateTrue());
}

/* A new schema, or NULL with w->err set. `in` may be NULL or a boolean: anything. */
static cJSON *convert(struct schema_walk *w, const cJSON *in, unsigned depth)
{
    cJSON *flat = cJSON_CreateObject(), *out = cJSON_CreateObject();
    unsigned n_open = w->n_open, base = w->base;
    bool nullable = false;

    w->base = n_open;

    if (depth > SCHEMA_MAX_DEPTH || ++w->nodes > SCHEMA_MAX_NODES)
        w->err = GW_EBADREQ;
    else if (!flat || !out)
        w->err = GW_ENOMEM;
    if (!w->err && cJSON_IsObject(in))
        flatten(w, flat, in, false, depth);
    if (!w->err)
        collapse_union(w, flat, &nullable, depth);
    if (!w->err)
        put_schema(w, out, flat, nullable, depth);
    w->n_open = n_open;
    w->base = base;
    cJSON_Delete(flat);
    if (!w->err)
        return out;
    cJSON_Delete(out);
    return NULL;
}

enum gw_err schema_to_openapi(struct arena *a, struct slice schema, struct slice *ret,
                              bool *ret_lossy)
{
    struct schema_walk w = {0};
    cJSON *in, *out;
    enum gw_err err = schema_tree_parse(a, schema, &in);

    if (err)
        return err;
    w.root = in;
    w.open[w.n_open++] = in; /* "#" inside is a cycle */
    out = convert(&w, in, 1);
    err = out ? schema_tree_print(a, out, ret) : w.err;
    cJSON_Delete(out);
    cJSON_Delete(in);
    if (!err)
        *ret_lossy = w.lossy;
    return err;
}
