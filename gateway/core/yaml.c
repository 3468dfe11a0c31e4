/*
 * yaml.c - see yaml.h. Builds the tree; yaml_read.c holds the readers.
 *
 * libyaml gives events and has no opinion: aliases, duplicate keys and any depth pass. The builder
 * walks the events with an explicit stack of YAML_MAX_DEPTH frames and stops at the first event it
 * cannot place. Nodes live in an arena that dies with the root; the root is the first member of
 * what owns both.
 */
#include "gateway/core/yaml.h"

#include "gateway/core/arena.h"
#include "gateway/core/buf.h"
#include "gateway/core/readfile.h"

#include <stdlib.h>
#include <yaml.h>

#define ARENA_MAX_BYTES (32u * 1024u * 1024u)
#define TABS_LISTED 20u

struct tree {
    struct yaml root; /* first: yaml_destroy() is given its address */
    struct arena *arena;
};

struct frame {
    struct yaml *node;  /* map or sequence being filled */
    struct yaml **tail; /* where its next child goes */
    unsigned n;         /* children so far */
    bool has_key;       /* in a map: `key` waits for its value */
    struct slice key;
    unsigned key_line;
};

struct builder {
    struct tree *tree;
    struct problems *ps;
    const char *file;
    struct frame stack[YAML_MAX_DEPTH];
    unsigned depth;  /* frames in use */
    unsigned nodes;  /* made so far */
    bool rooted;     /* the top value has begun */
    bool documented; /* a document has begun */
};

/* --- text checks ------------------------------------------------------------------------------ */

static bool line_has_tab(struct slice line)
{
    size_t i = 0;

    while (i < line.n && line.p[i] == ' ')
        i++;
    return i < line.n && line.p[i] == '\t';
}

/* Lists lines indented with tabs; libyaml's own words for it puzzle people. */
static bool check_tabs(struct slice text, const char *file, struct problems *ps)
{
    unsigned line, listed = 0;

    for (line = 1; text.n; line++) {
        size_t end = slice_find(text, '\n');

        if (line_has_tab(slice_of(text.p, end)) && listed++ < TABS_LISTED)
            problems_add(ps, file, line, "tab in the indentation; use spaces");
        text = slice_from(text, end + 1);
    }
    return listed == 0;
}

/* --- builder ---------------------------------------------------------------------------------- */

static unsigned line_of(yaml_mark_t mark)
{
    return mark.line < UINT32_MAX ? (unsigned)mark.line + 1 : UINT32_MAX;
}

static struct frame *top(struct builder *b)
{
    return b->depth ? &b->stack[b->depth - 1] : NULL;
}

static bool out_of_memory(struct builder *b)
{
    problems_add(b->ps, b->file, 0, "out of memory, or the file holds too much");
    return false;
}

/* A node in its place: the root, a map's value or a sequence's item. NULL ends the parse. */
static struct yaml *place(struct builder *b, enum yaml_kind kind, unsigned line)
{
    struct frame *f = top(b);
    struct yaml *y;

    if (++b->nodes > YAML_MAX_NODES) {
        problems_add(b->ps, b->file, line, "more than %u values", YAML_MAX_NODES);
        return NULL;
    }
    y = f ? arena_new(b->tree->arena, struct yaml) : &b->tree->root;
    if (!y) {
        out_of_memory(b);
        return NULL;
    }
    y->kind = kind;
    y->line = line;
    y->file = b->file;
    b->rooted = true;
    if (!f)
        return y;
    if (f->node->kind == YAML_MAP) {
        y->key = f->key;
        y->line = f->key_line;
        f->has_key = false;
    }
    *f->tail = y;
    f->tail = &y->next;
    f->n++;
    return y;
}

static struct slice copy_text(struct builder *b, const yaml_event_t *e)
{
    return arena_dup(b->tree->arena,
                     slice_of((const char *)e->data.scalar.value, e->data.scalar.length));
}

static bool has_nul(struct slice s)
{
    return s.n && memchr(s.p, '\0', s.n) != NULL;
}

static bool is_null_word(struct slice s)
{
    return s.n == 0 || slice_is(s, "~") || slice_is(s, "null") || slice_is(s, "Null") ||
           slice_is(s, "NULL");
}

static bool add_key(struct builder *b, const yaml_event_t *e)
{
    struct frame *f = top(b);

    f->key = copy_text(b, e);
    f->key_line = line_of(e->start_mark);
    f->has_key = true;
    if (!f->key.p)
        return out_of_memory(b);
    if (f->key.n == 0)
        problems_add(b->ps, b->file, f->key_line, "a key without a name");
    else if (has_nul(f->key))
        problems_add(b->ps, b->file, f->key_line, "a NUL character in a key");
    return true;
}

static bool add_scalar(struct builder *b, const yaml_event_t *e)
{
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    struct yaml *y = place(b, YAML_SCALAR, line_of(e->start_mark));

    if (!y)
        return false;
    y->quoted = !plain;
    y->text = copy_text(b, e);
    if (!y->text.p)
        return out_of_memory(b);
    if (plain && is_null_word(y->text))
        y->kind = YAML_NULL;
    if (has_nul(y->text)) {
        problems_add(b->ps, b->file, y->line, "a NUL character in a value");
        y->broken = true;
    }
    return true;
}

static bool add_alias(struct builder *b, const yaml_event_t *e)
{
    unsigned line = line_of(e->start_mark);
    struct yaml *y;

    problems_add(b->ps, b->file, line, "aliases (*%.60s) are not supported; write the value out",
                 (const char *)e->data.alias.anchor);
    y = place(b, YAML_NULL, line);
    if (y)
        y->broken = true;
    return y != NULL;
}

static bool open_node(struct builder *b, enum yaml_kind kind, const yaml_event_t *e)
{
    unsigned line = line_of(e->start_mark);
    struct yaml *y;

    if (b->depth == YAML_MAX_DEPTH) {
        problems_add(b->ps, b->file, line, "nested more than %u levels deep", YAML_MAX_DEPTH);
        return false;
    }
    y = place(b, kind, line);
    if (!y)
        return false;
    b->stack[b->depth++] = (struct frame){.node = y, .tail = &y->first};
    return true;
}

static int by_key(const void *a, const void *b)
{
    const struct yaml *x = *(const struct yaml *const *)a, *y = *(const struct yaml *const *)b;
    size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
    int order = n ? memcmp(x->key.p, y->key.p, n) : 0;

    if (order == 0 && x->key.n != y->key.n)
        order = x->key.n < y->key.n ? -1 : 1;
    if (order == 0)
        order = x->line < y->line ? -1 : x->line > y->line;
    return order;
}

/* Sorts a full map's keys to find those that come twice; the tree keeps the order of the file. */
static bool check_duplicates(struct builder *b, const struct frame *f)
{
    struct yaml **keys = f->n > 1 ? calloc(f->n, sizeof(struct yaml *)) : NULL, *y;
    unsigned i = 0;

    if (f->n <= 1)
        return true;
    if (!keys)
        return out_of_memory(b);
    for (y = f->node->first; y; y = y->next)
        keys[i++] = y;
    qsort(keys, i, sizeof(struct yaml *), by_key);
    for (i = 1; i < f->n; i++) {
        if (!slice_eq(keys[i]->key, keys[i - 1]->key))
            continue;
        problems_add(b->ps, b->file, keys[i]->line, "duplicate key \"%.100s\", first on line %u",
                     keys[i]->key.p, keys[i - 1]->line);
        keys[i]->broken = true; /* one problem for it is enough */
    }
    free(keys);
    return true;
}

static bool close_node(struct builder *b)
{
    struct frame *f = top(b);

    b->depth--;
    return f->node->kind != YAML_MAP || check_duplicates(b, f);
}

/* Anchors do no harm unless an alias uses them, but they show that one is expected to work. */
static void check_decoration(struct builder *b, const yaml_event_t *e, const yaml_char_t *anchor,
                             const yaml_char_t *tag)
{
    unsigned line = line_of(e->start_mark);

    if (anchor)
        problems_add(b->ps, b->file, line, "anchors (&%.60s) are not supported",
                     (const char *)anchor);
    if (tag)
        problems_add(b->ps, b->file, line, "tags (%.60s) are not supported", (const char *)tag);
}

static bool expects_key(struct builder *b)
{
    struct frame *f = top(b);

    return f && f->node->kind == YAML_MAP && !f->has_key;
}

static bool refuse_key(struct builder *b, const yaml_event_t *e)
{
    problems_add(b->ps, b->file, line_of(e->start_mark), "only plain text can be a key");
    return false;
}

/* One event; false ends the parse (the problem is listed). */
static bool take_event(struct builder *b, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documented)
            problems_add(b->ps, b->file, line_of(e->start_mark), "more than one document");
        else
            b->documented = true;
        return !b->rooted;
    case YAML_SCALAR_EVENT:
        check_decoration(b, e, e->data.scalar.anchor, e->data.scalar.tag);
        return expects_key(b) ? add_key(b, e) : add_scalar(b, e);
    case YAML_ALIAS_EVENT:
        return expects_key(b) ? refuse_key(b, e) : add_alias(b, e);
    case YAML_SEQUENCE_START_EVENT:
        check_decoration(b, e, e->data.sequence_start.anchor, e->data.sequence_start.tag);
        return expects_key(b) ? refuse_key(b, e) : open_node(b, YAML_SEQ, e);
    case YAML_MAPPING_START_EVENT:
        check_decoration(b, e, e->data.mapping_start.anchor, e->data.mapping_start.tag);
        return expects_key(b) ? refuse_key(b, e) : open_node(b, YAML_MAP, e);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_node(b);
    default:
        return true;
    }
}

static unsigned line_at(struct slice text, size_t offset)
{
    unsigned line = 1;
    size_t i;

    for (i = 0; i < offset && i < text.n; i++)
        line += text.p[i] == '\n';
    return line;
}

static void report_syntax(struct builder *b, const yaml_parser_t *p, struct slice text)
{
    const char *what = p->problem ? p->problem : "cannot be read";

    if (p->error == YAML_MEMORY_ERROR)
        problems_add(b->ps, b->file, 0, "out of memory");
    else if (p->error == YAML_READER_ERROR)
        problems_add(b->ps, b->file, line_at(text, p->problem_offset), "%s", what);
    else if (p->context)
        problems_add(b->ps, b->file, line_of(p->problem_mark), "%s, %s (from line %u)", what,
                     p->context, line_of(p->context_mark));
    else
        problems_add(b->ps, b->file, line_of(p->problem_mark), "%s", what);
}

static bool run_parser(struct builder *b, struct slice text)
{
    yaml_parser_t parser;
    yaml_event_t e;
    bool going = true, ended = false;

    if (!yaml_parser_initialize(&parser)) {
        problems_add(b->ps, b->file, 0, "out of memory");
        return false;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    while (going && !ended) {
        if (!yaml_parser_parse(&parser, &e)) {
            report_syntax(b, &parser, text);
            going = false;
            break;
        }
        ended = e.type == YAML_STREAM_END_EVENT;
        going = take_event(b, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    return going;
}

/* After the events: is there a map at the top? */
static bool check_root(struct builder *b)
{
    const struct yaml *root = &b->tree->root;

    if (!b->rooted || root->kind == YAML_NULL)
        problems_add(b->ps, b->file, 0, "is empty");
    else if (root->kind != YAML_MAP)
        problems_add(b->ps, b->file, root->line, "must be a map of keys and values at its top");
    return b->rooted && root->kind == YAML_MAP;
}

/* --- public ----------------------------------------------------------------------------------- */

static struct tree *tree_new(const char *file, const char **ret_file)
{
    struct arena *arena = arena_create(ARENA_MAX_BYTES);
    struct tree *t = calloc(1, sizeof(*t));

    if (arena && t)
        *ret_file = arena_cstr(arena, slice_cstr(file));
    if (!arena || !t || !*ret_file) {
        arena_destroy(arena);
        free(t);
        return NULL;
    }
    t->arena = arena;
    return t;
}

struct yaml *yaml_destroy(struct yaml *y)
{
    struct tree *t = (struct tree *)y;

    if (t) {
        arena_destroy(t->arena);
        free(t);
    }
    return NULL;
}

struct yaml *yaml_parse(struct slice text, const char *file, struct problems *ps)
{
    struct builder b = {.ps = ps, .file = NULL};

    if (text.n > YAML_MAX_BYTES) {
        problems_add(ps, file, 0, "too big: more than %u bytes", YAML_MAX_BYTES);
        return NULL;
    }
    if (!check_tabs(text, file, ps))
        return NULL;
    b.tree = tree_new(file, &b.file);
    if (!b.tree) {
        problems_add(ps, file, 0, "out of memory");
        return NULL;
    }
    if (text.n == 0)
        text = SLICE("\n"); /* libyaml wants a pointer */
    if (!run_parser(&b, text) || !check_root(&b))
        return yaml_destroy(&b.tree->root);
    return &b.tree->root;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

struct yaml *yaml_load(const char *path, struct problems *ps)
{
    const char *file = base_name(path), *why = "";
    struct yaml *y = NULL;
    struct buf b;
    enum gw_err err;

    buf_init(&b, YAML_MAX_BYTES);
    err = readfile(path, &b, &why);
    if (err == GW_ENOTFOUND)
        problems_add(ps, file, 0, "is missing: %s", path);
    else if (err == GW_ETOOBIG)
        problems_add(ps, file, 0, "too big: more than %u bytes", YAML_MAX_BYTES);
    else if (err)
        problems_add(ps, file, 0, "cannot be read: %s", why);
    else
        y = yaml_parse(buf_slice(&b), file, ps);
    buf_deinit(&b);
    return y;
}
