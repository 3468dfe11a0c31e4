/* schema_tree.c - see schema_tree.h. */
#include "providers/dialect/schema_tree.h"

#include "gateway/core/json.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_TOKENS 10000u
#define MAX_BYTES (1u << 20)

static cJSON *tree_of(struct arena *a, struct json v);

static cJSON *leaf_of(struct arena *a, struct json v)
{
    struct slice text = json_type(v) == JSON_STRING ? json_str(v) : json_raw(v);
    char *copy;

    switch (json_type(v)) {
    case JSON_NULL:
        return cJSON_CreateNull();
    case JSON_FALSE:
        return cJSON_CreateFalse();
    case JSON_TRUE:
        return cJSON_CreateTrue();
    default:
        break;
    }
    copy = text.p ? arena_cstr(a, text) : NULL;
    if (!copy)
        return NULL;
    return json_type(v) == JSON_STRING ? cJSON_CreateString(copy) : cJSON_CreateRaw(copy);
}

static bool fill(struct arena *a, cJSON *to, struct json from)
{
    bool object = json_type(from) == JSON_OBJECT;

    for (struct json it = json_first(from); json_exists(it); it = json_next(from, it)) {
        const char *key = object ? arena_cstr(a, json_key(it)) : "";
        cJSON *item = key ? tree_of(a, it) : NULL;

        if (!item)
            return false;
        if (object ? !cJSON_AddItemToObject(to, key, item) : !cJSON_AddItemToArray(to, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return true;
}

/* Recurses at most JSON_MAX_DEPTH deep. */
static cJSON *tree_of(struct arena *a, struct json v)
{
    cJSON *to;

    if (json_type(v) != JSON_OBJECT && json_type(v) != JSON_ARRAY)
        return leaf_of(a, v);
    to = json_type(v) == JSON_OBJECT ? cJSON_CreateObject() : cJSON_CreateArray();
    if (to && !fill(a, to, v)) {
        cJSON_Delete(to);
        return NULL;
    }
    return to;
}

enum gw_err schema_tree_parse(struct arena *a, struct slice text, cJSON **ret)
{
    struct json_limits limits = {.max_bytes = MAX_BYTES, .max_tokens = MAX_TOKENS};
    struct json root;
    cJSON *tree;
    enum gw_err err = json_parse(a, text, &limits, &root, NULL);

    if (err)
        return err == GW_ENOMEM ? err : GW_EBADREQ;
    if (json_type(root) != JSON_OBJECT)
        return GW_EBADREQ;
    tree = tree_of(a, root);
    if (!tree)
        return GW_ENOMEM;
    *ret = tree;
    return GW_OK;
}

enum gw_err schema_tree_print(struct arena *a, const cJSON *tree, struct slice *ret)
{
    char *text = cJSON_PrintUnformatted(tree);
    struct slice copy;

    if (!text)
        return GW_ENOMEM;
    copy = arena_dup(a, slice_cstr(text));
    cJSON_free(text);
    if (!copy.p)
        return GW_ENOMEM;
    *ret = copy;
    return GW_OK;
}

const cJSON *schema_tree_get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

void schema_tree_spend(struct schema_walk *w, size_t n)
{
    w->work += n < SCHEMA_MAX_WORK ? n : SCHEMA_MAX_WORK;
    if (w->work >= SCHEMA_MAX_WORK && !w->err)
        w->err = GW_EBADREQ;
}

cJSON *schema_tree_reference(const cJSON *item)
{
    cJSON *ref = cJSON_CreateNull();

    if (!ref)
        return NULL;
    *ref = *item;
    ref->string = NULL;
    ref->next = ref->prev = NULL;
    ref->type = (ref->type | cJSON_IsReference) & ~cJSON_StringIsConst;
    return ref;
}

void schema_tree_put(struct schema_walk *w, cJSON *object, const char *key, cJSON *item)
{
    if (item && !w->err && cJSON_AddItemToObject(object, key, item))
        return;
    cJSON_Delete(item);
    if (!w->err)
        w->err = GW_ENOMEM;
}

void schema_tree_append(struct schema_walk *w, cJSON *array, cJSON *item)
{
    if (item && !w->err && cJSON_AddItemToArray(array, item))
        return;
    cJSON_Delete(item);
    if (!w->err)
        w->err = GW_ENOMEM;
}

void schema_tree_note(struct schema_walk *w, cJSON *object, struct slice note)
{
    const char *had = cJSON_GetStringValue(schema_tree_get(object, "description"));
    char *whole = NULL;
    int n =
        asprintf(&whole, "%s%s%.*s", had ? had : "", had && *had ? "\n\n" : "", SLICE_ARG(note));

    cJSON_DeleteItemFromObjectCaseSensitive(object, "description");
    schema_tree_put(w, object, "description", n < 0 ? NULL : cJSON_CreateString(whole));
    if (n >= 0)
        free(whole);
}
