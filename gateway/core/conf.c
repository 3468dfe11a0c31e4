/*
 * conf.c - the key table and the life of a snapshot (conf.h). conf_load.c fills one, conf_check.c
 * judges it.
 */
#include "gateway/core/conf_private.h"

#include "gateway/core/buf.h"

#include <assert.h>
#include <stdlib.h>

#define TEXT_MAX_BYTES (1024u * 1024u)

const struct conf_row conf_rows[] = {
#define X(field_, type_, file_, key_, env_, def_, min_, max_, unit_, reload_, help_)               \
    {.field = #field_,                                                                             \
     .type = CONF_T_##type_,                                                                       \
     .offset = offsetof(struct conf, field_),                                                      \
     .file = file_,                                                                                \
     .key = key_,                                                                                  \
     .env = env_,                                                                                  \
     .def = def_,                                                                                  \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .unit = unit_,                                                                                \
     .reloadable = reload_,                                                                        \
     .help = help_},
#include "gateway/core/conf.def"
#undef X
};
const unsigned conf_n_rows = sizeof(conf_rows) / sizeof(conf_rows[0]);

static struct conf_snapshot *current;

/* --- rows ------------------------------------------------------------------------------------- */

static const struct conf_row *find_row(const char *field)
{
    unsigned i;

    for (i = 0; i < conf_n_rows; i++) {
        if (strcmp(conf_rows[i].field, field) == 0)
            return &conf_rows[i];
    }
    return NULL;
}

const struct conf_row *conf_row_of(const char *field)
{
    const struct conf_row *row = find_row(field);

    assert(row);
    return row;
}

const struct conf_place *conf_place_of(const struct conf *c, const char *field)
{
    return &conf_snapshot(c)->places[conf_row_of(field) - conf_rows];
}

bool conf_word_allowed(const struct conf_row *row, struct slice word)
{
    struct slice words = slice_from(slice_cstr(row->help), 1);

    words.n = slice_find(words, '}');
    while (words.n) {
        size_t end = slice_find(words, ' ');

        if (slice_eq(slice_of(words.p, end), word))
            return true;
        words = slice_from(words, end + 1);
    }
    return false;
}

const char *conf_origin(const struct conf *c, const char *field)
{
    const struct conf_row *row = find_row(field);

    return row ? conf_snapshot(c)->places[row - conf_rows].text : NULL;
}

const char *conf_default(const char *field)
{
    const struct conf_row *row = find_row(field);

    return row ? row->def : NULL;
}

bool conf_is_reloadable(const char *field)
{
    const struct conf_row *row = find_row(field);

    return row && row->reloadable;
}

/* --- values as text --------------------------------------------------------------------------- */

/* "https://user:secret@host/" without what is before the '@'. */
static void add_hiding_user(struct buf *b, struct slice s)
{
    const char *scheme = s.n ? memmem(s.p, s.n, "://", 3) : NULL;
    size_t from = scheme ? (size_t)(scheme - s.p) + 3 : s.n, at, end;
    struct slice authority = slice_from(s, from);

    for (end = 0; end < authority.n && !memchr("/?#", authority.p[end], 3); end++)
        ;
    for (at = end; at > 0 && authority.p[at - 1] != '@'; at--)
        ;
    buf_add_slice(b, slice_of(s.p, at ? from : s.n));
    if (at) {
        buf_add_cstr(b, "[redacted]@");
        buf_add_slice(b, slice_from(authority, at));
    }
}

static void add_list(struct buf *b, const struct conf_list *list)
{
    unsigned i;

    for (i = 0; i < list->n; i++) {
        buf_add_cstr(b, i ? "," : "");
        buf_add_slice(b, list->items[i]);
    }
}

static void add_value(struct buf *b, const struct conf *c, const struct conf_row *row)
{
    const void *p = conf_member(c, row);

    switch (row->type) {
    case CONF_T_INT:
        buf_add_i64(b, *(const int64_t *)p);
        break;
    case CONF_T_BOOL:
        buf_add_cstr(b, *(const bool *)p ? "true" : "false");
        break;
    case CONF_T_STR:
    case CONF_T_ENUM:
        add_hiding_user(b, *(const struct slice *)p);
        break;
    case CONF_T_SECRET:
        buf_add_cstr(b, ((const struct slice *)p)->n ? "[redacted]" : "");
        break;
    case CONF_T_LIST:
        add_list(b, p);
        break;
    }
    buf_add_char(b, '\0');
}

void conf_each(const struct conf *c,
               void (*fn)(const char *field, const char *key, const char *value, const char *origin,
                          void *arg),
               void *arg)
{
    struct buf b;
    unsigned i;

    buf_init(&b, TEXT_MAX_BYTES);
    for (i = 0; i < conf_n_rows; i++) {
        buf_reset(&b);
        add_value(&b, c, &conf_rows[i]);
        fn(conf_rows[i].field, conf_rows[i].key, buf_err(&b) ? "[too long]" : b.p,
           conf_snapshot(c)->places[i].text, arg);
    }
    buf_deinit(&b);
}

/* --- reload ----------------------------------------------------------------------------------- */

static bool lists_equal(const struct conf_list *a, const struct conf_list *b)
{
    unsigned i;

    for (i = 0; a->n == b->n && i < a->n; i++) {
        if (!slice_eq(a->items[i], b->items[i]))
            return false;
    }
    return a->n == b->n;
}

static bool values_equal(const struct conf_row *row, const void *a, const void *b)
{
    switch (row->type) {
    case CONF_T_INT:
        return *(const int64_t *)a == *(const int64_t *)b;
    case CONF_T_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case CONF_T_LIST:
        return lists_equal(a, b);
    case CONF_T_STR:
    case CONF_T_SECRET:
    case CONF_T_ENUM:
        break;
    }
    return slice_eq(*(const struct slice *)a, *(const struct slice *)b);
}

void conf_reload_diff(const struct conf *old, const struct conf *fresh, struct problems *problems)
{
    unsigned i;

    for (i = 0; i < conf_n_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        const struct conf_place *now = &conf_snapshot(fresh)->places[i];

        if (!row->reloadable && !values_equal(row, conf_member(old, row), conf_member(fresh, row)))
            problems_warn(problems, now->file, now->line,
                          "%s: changed; takes effect with a restart", now->label);
    }
}

/* --- meanings --------------------------------------------------------------------------------- */

bool conf_is_production(const struct conf *c)
{
    return slice_is(c->environment, "production") || slice_is(c->environment, "staging");
}

bool conf_auth_required(const struct conf *c)
{
    if (slice_is(c->require_auth, "auto"))
        return conf_is_production(c) || c->master_key.n > 0;
    return slice_is(c->require_auth, "true");
}

/* --- life ------------------------------------------------------------------------------------- */

const struct conf *conf_current(void)
{
    return current ? &current->pub : NULL;
}

void conf_publish(struct conf *c)
{
    struct conf_snapshot *old = current;

    if (c)
        c->generation = old ? old->pub.generation + 1 : 1;
    current = c ? conf_snapshot(c) : NULL;
    if (old)
        conf_unref(&old->pub);
}

const struct conf *conf_ref(const struct conf *c)
{
    conf_snapshot(c)->refs++;
    return c;
}

const struct conf *conf_unref(const struct conf *c)
{
    struct conf_snapshot *s = c ? conf_snapshot(c) : NULL;

    if (!s || --s->refs > 0)
        return NULL;
    if (s->pub.attached_free)
        s->pub.attached_free(s->pub.attached);
    yaml_destroy(s->models);
    arena_destroy(s->arena);
    free(s);
    return NULL;
}
