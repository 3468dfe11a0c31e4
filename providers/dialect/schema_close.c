/* schema_close.c - schemas for Anthropic; see schema.h. */
#include "providers/dialect/schema.h"
#include "providers/dialect/schema_tree.h"

#include "gateway/core/buf.h"

#define MAX_NOTES (1u << 20) /* bytes told in one description */

enum rule {
    KEEP,           /* as it is */
    KEEP_FORMAT,    /* if the vendor knows the format */
    KEEP_MIN_ITEMS, /* if 0 or 1 */
    SCHEMA,         /* a schema */
    SCHEMAS,        /* an array of schemas */
    NAMED,          /* an object of schemas */
    FORGET,         /* an annotation the vendor has no use for */
    TELL            /* goes into the description; also for keywords that are not listed */
};

static const struct {
    const char *key;
    enum rule rule;
} rules[] = {
    {"type", KEEP},
    {"title", KEEP},
    {"description", KEEP},
    {"enum", KEEP},
    {"const", KEEP},
    {"default", KEEP},
    {"required", KEEP},
    {"$ref", KEEP},
    {"additionalProperties", KEEP},
    {"format", KEEP_FORMAT},
    {"minItems", KEEP_MIN_ITEMS},
    {"items", SCHEMA},
    {"anyOf", SCHEMAS},
    {"oneOf", SCHEMAS},
    {"allOf", SCHEMAS},
    {"properties", NAMED},
    {"$defs", NAMED},
    {"definitions", NAMED},
    {"$schema", FORGET},
    {"$id", FORGET},
    {"$comment", FORGET},
    {"examples", FORGET},
    {"example", FORGET},
    {"deprecated", FORGET},
    {"readOnly", FORGET},
    {"writeOnly", FORGET},
    {"strict", FORGET},
};

static const char *const formats[] = {"date-time", "time", "date", "duration", "email",
                                      "hostname",  "uri",  "ipv4", "ipv6",     "uuid"};

static void close_schema(struct schema_walk *w, cJSON *node, unsigned depth);

static bool known_format(const cJSON *value)
{
    const char *text = cJSON_GetStringValue(value);

    for (size_t i = 0; text && i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(text, formats[i]) == 0)
            return true;
    return false;
}

static enum rule rule_of(const cJSON *member)
{
    enum rule rule = TELL;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (strcmp(member->string, rules[i].key) == 0)
            rule = rules[i].rule;
    if (rule == KEEP_FORMAT)
        return known_format(member) ? KEEP : TELL;
    if (rule == KEEP_MIN_ITEMS)
        return cJSON_IsRaw(member) && strlen(member->valuestring) == 1 &&
                       strchr("01", member->valuestring[0])
                   ? KEEP
                   : TELL;
    return rule;
}

/* "{minimum: 3}", one after the other with a space between. */
static void tell(struct schema_walk *w, struct buf *notes, const cJSON *member)
{
    char *value = cJSON_PrintUnformatted(member);

    if (!value)
        w->err = GW_ENOMEM;
    else
        buf_printf(notes, "%s{%s: %s}", notes->n ? " " : "", member->string, value);
    cJSON_free(value);
    w->lossy = true;
}

static bool is_object_schema(const cJSON *node)
{
    const cJSON *type = schema_tree_get(node, "type"), *t;
    const char *text = cJSON_GetStringValue(type);

    if (text && strcmp(text, "object") == 0)
        return true;
    if (cJSON_IsArray(type))
        cJSON_ArrayForEach(t, type) if (cJSON_IsString(t) &&
                                        strcmp(t->valuestring, "object") == 0) return true;
    return !type && cJSON_IsObject(schema_tree_get(node, "properties"));
}

static void shut(struct schema_walk *w, cJSON *node)
{
    const cJSON *open = schema_tree_get(node, "additionalProperties");

    if (cJSON_IsFalse(open))
        return;
    if (open)
        w->lossy = true;
    cJSON_DeleteItemFromObjectCaseSensitive(node, "additionalProperties");
    schema_tree_put(w, node, "additionalProperties", cJSON_CreateFalse());
}

static void close_member(struct schema_walk *w, cJSON *node, cJSON *member, unsigned depth,
                         struct buf *notes)
{
    cJSON *sub;

    switch (rule_of(member)) {
    case SCHEMA:
        close_schema(w, member, depth + 1);
        break;
    case SCHEMAS:
    case NAMED:
        cJSON_ArrayForEach(sub, member) close_schema(w, sub, depth + 1);
        break;
    case TELL:
        tell(w, notes, member);
        cJSON_Delete(cJSON_DetachItemViaPointer(node, member));
        break;
    case FORGET:
        cJSON_Delete(cJSON_DetachItemViaPointer(node, member));
        break;
    default:
        break;
    }
}

static void close_schema(struct schema_walk *w, cJSON *node, unsigned depth)
{
    cJSON *member, *next;
    struct buf notes;

    if (!cJSON_IsObject(node) || w->err)
        return;
    if (depth > SCHEMA_MAX_DEPTH || ++w->nodes > SCHEMA_MAX_NODES) {
        w->err = GW_EBADREQ;
        return;
    }
    if (is_object_schema(node))
        shut(w, node);
    buf_init(&notes, MAX_NOTES);
    for (member = node->child; member && !w->err; member = next) {
        next = member->next;
        close_member(w, node, member, depth, &notes);
    }
    if (buf_err(&notes) && !w->err)
        w->err = buf_err(&notes) == GW_ENOMEM ? GW_ENOMEM : GW_EBADREQ;
    if (notes.n > 0 && !w->err)
        schema_tree_note(w, node, buf_slice(&notes));
    buf_deinit(&notes);
}

enum gw_err schema_close(struct arena *a, struct slice schema, struct slice *ret, bool *ret_lossy)
{
    struct schema_walk w = {0};
    cJSON *tree;
    enum gw_err err = schema_tree_parse(a, schema, &tree);

    if (err)
        return err;
    close_schema(&w, tree, 1);
    err = w.err ? w.err : schema_tree_print(a, tree, ret);
    cJSON_Delete(tree);
    if (!err)
        *ret_lossy = w.lossy;
    return err;
}
