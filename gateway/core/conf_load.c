/*
 * conf_load.c - fills a snapshot from files and environment (conf.h).
 *
 * Each row is read from its default, then from its YAML key, then from its environment name. A
 * value that cannot be used is a problem and leaves the one before it, so that reading and checking
 * go on to the end.
 */
#include "gateway/core/conf_private.h"

#include "gateway/core/buf.h"
#include "gateway/core/readfile.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ARENA_MAX_BYTES (8u * 1024u * 1024u)
#define SECRET_FILE_MAX_BYTES (16u * 1024u)
#define MODELS_FILE "models_registry.yaml"

/* Other names an environment name goes by. */
static const struct {
    const char *name, *alias;
} aliases[] = {{"JWT_SECRET_KEY", "SECRET_KEY"}};

struct load {
    struct conf_snapshot *s;
    struct problems *ps;
    bool no_memory;
};

/* --- values ----------------------------------------------------------------------------------- */

static bool has_control(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    }
    return false;
}

__attribute__((format(printf, 3, 4))) static void
complain(struct load *l, const struct conf_place *at, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    problems_add(l->ps, at->file, at->line, "%.100s: %s", at->label, text);
}

static bool set_int(struct load *l, const struct conf_row *row, struct slice text,
                    const struct conf_place *at)
{
    int64_t value = 0;
    enum gw_err err = yaml_text_int(text, &value);

    if (err == GW_EBADREQ)
        complain(l, at, "a whole number expected, not \"%.*s\"", (int)(text.n < 60 ? text.n : 60),
                 text.p);
    else if (err || value < row->min || value > row->max)
        complain(l, at, "%.*s is out of range (%" PRId64 " to %" PRId64 ")",
                 (int)(text.n < 40 ? text.n : 40), text.p, row->min, row->max);
    else
        *(int64_t *)conf_member(&l->s->pub, row) = value;
    return !err && value >= row->min && value <= row->max;
}

static bool set_bool(struct load *l, const struct conf_row *row, struct slice text,
                     const struct conf_place *at)
{
    if (yaml_text_bool(text, conf_member(&l->s->pub, row)) == GW_OK)
        return true;
    complain(l, at, "true or false expected, not \"%.*s\"", (int)(text.n < 60 ? text.n : 60),
             text.p);
    return false;
}

/* The words a row allows, for a message: "development, test, ...". */
static void complain_word(struct load *l, const struct conf_row *row, struct slice text,
                          const struct conf_place *at)
{
    struct slice words = slice_from(slice_cstr(row->help), 1);

    words.n = slice_find(words, '}');
    complain(l, at, "one of %.*s expected, not \"%.*s\"", (int)words.n, words.p,
             (int)(text.n < 60 ? text.n : 60), text.p);
}

/* Copies a text into the snapshot's memory. */
static bool set_slice(struct load *l, struct slice text, struct slice *ret)
{
    struct slice copy = arena_dup(l->s->arena, text);

    l->no_memory |= copy.p == NULL;
    if (copy.p)
        *ret = copy;
    return copy.p != NULL;
}

/* Values of STR and SECRET are never shown: they may hold a password. */
static bool set_text(struct load *l, const struct conf_row *row, struct slice text,
                     const struct conf_place *at)
{
    if (row->type == CONF_T_ENUM && !conf_word_allowed(row, text)) {
        complain_word(l, row, text, at);
        return false;
    }
    if (has_control(text)) {
        complain(l, at, "must not hold line ends or other control characters");
        return false;
    }
    if (row->type != CONF_T_ENUM && (text.n < (uint64_t)row->min || text.n > (uint64_t)row->max)) {
        complain(l, at, "must be %" PRId64 " to %" PRId64 " characters long", row->min, row->max);
        return false;
    }
    return set_slice(l, text, conf_member(&l->s->pub, row));
}

static bool set_list(struct load *l, const struct conf_row *row, struct slice text,
                     const struct conf_place *at)
{
    struct slice *items;
    size_t i, n_max = 1;
    unsigned n = 0;

    if (has_control(text)) {
        complain(l, at, "must not hold line ends or other control characters");
        return false;
    }
    for (i = 0; i < text.n; i++)
        n_max += text.p[i] == ',';
    items = arena_array(l->s->arena, struct slice, n_max);
    l->no_memory |= !items;
    while (items && text.n) {
        size_t end = slice_find(text, ',');
        struct slice item = slice_trim(slice_of(text.p, end));

        if (item.n && set_slice(l, item, &items[n]))
            n++;
        text = slice_from(text, end + 1);
    }
    *(struct conf_list *)conf_member(&l->s->pub, row) = (struct conf_list){items, n};
    return true;
}

/* Sets a row from text; false when the text was refused (and the problem added). */
static bool set_value(struct load *l, const struct conf_row *row, struct slice text,
                      const struct conf_place *at)
{
    switch (row->type) {
    case CONF_T_INT:
        return set_int(l, row, text, at);
    case CONF_T_BOOL:
        return set_bool(l, row, text, at);
    case CONF_T_LIST:
        return set_list(l, row, text, at);
    case CONF_T_STR:
    case CONF_T_SECRET:
    case CONF_T_ENUM:
        break;
    }
    return set_text(l, row, text, at);
}

static void set_place(struct load *l, const struct conf_row *row, struct conf_place at)
{
    l->s->places[row - conf_rows] = at;
}

/* --- YAML ------------------------------------------------------------------------------------- */

static bool list_from_yaml(struct load *l, const struct conf_row *row, const struct yaml *y,
                           const struct conf_place *at)
{
    const struct yaml *first = yaml_items(y, YAML_SEQ, true, l->ps), *i;
    struct slice *items, text = SLICE_NONE;
    bool ok = y->kind == YAML_SEQ;
    unsigned n = 0;

    for (i = first; i; i = i->next)
        n++;
    items = arena_array(l->s->arena, struct slice, n ? n : 1);
    l->no_memory |= !items;
    for (i = first, n = 0; i && items; i = i->next) {
        struct conf_place item_at = {.file = at->file, .line = i->line, .label = at->label};

        if (!yaml_read_str(i, &text, l->ps))
            ok = false;
        else if (has_control(text) || text.n == 0)
            complain(l, &item_at, "an item must not be empty or hold control characters");
        else if (set_slice(l, text, &items[n]))
            n++;
    }
    if (ok && items)
        *(struct conf_list *)conf_member(&l->s->pub, row) = (struct conf_list){items, n};
    return ok;
}

static bool row_from_yaml(struct load *l, const struct conf_row *row, const struct yaml *y,
                          const struct conf_place *at)
{
    void *member = conf_member(&l->s->pub, row);
    struct slice text = SLICE_NONE;

    switch (row->type) {
    case CONF_T_INT:
        return yaml_read_int(y, row->min, row->max, member, l->ps);
    case CONF_T_BOOL:
        return yaml_read_bool(y, member, l->ps);
    case CONF_T_LIST:
        return list_from_yaml(l, row, y, at);
    case CONF_T_STR:
    case CONF_T_SECRET:
    case CONF_T_ENUM:
        break;
    }
    return yaml_read_str(y, &text, l->ps) && set_text(l, row, text, at);
}

/* "server: 5" hides all of server.*: each step of the way must be a map, or nothing. */
static void check_parents(struct load *l, const struct yaml *root, const char *key)
{
    struct slice rest = slice_cstr(key);
    char name[64];
    size_t dot;

    for (dot = slice_find(rest, '.'); dot < rest.n && root; dot = slice_find(rest, '.')) {
        if (snprintf(name, sizeof(name), "%.*s", (int)dot, rest.p) >= (int)sizeof(name))
            return;
        root = yaml_get(root, name);
        if (root && root->kind != YAML_NULL)
            yaml_items(root, YAML_MAP, false, l->ps);
        rest = slice_from(rest, dot + 1);
    }
}

static void rows_from_tree(struct load *l, const char *file, const struct yaml *root)
{
    unsigned i;

    for (i = 0; i < conf_n_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        const struct yaml *y;
        struct conf_place at = {.file = row->file, .label = row->key};

        if (strcmp(row->file, file) != 0)
            continue;
        check_parents(l, root, row->key);
        y = yaml_path(root, row->key);
        if (!y)
            continue;
        at.line = y->line;
        at.text = arena_printf(l->s->arena, "%s:%u", row->file, y->line).p;
        l->no_memory |= !at.text;
        if (row_from_yaml(l, row, y, &at))
            set_place(l, row, at);
    }
    yaml_report_unused(root, l->ps);
}

/* Has an earlier row this row's file? */
static bool file_done(unsigned row)
{
    unsigned i;

    for (i = 0; i < row; i++) {
        if (strcmp(conf_rows[i].file, conf_rows[row].file) == 0)
            return true;
    }
    return false;
}

static struct yaml *load_tree(struct load *l, const char *file)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s", l->s->pub.dir, file) >= (int)sizeof(path)) {
        problems_add(l->ps, file, 0, "the path is too long");
        return NULL;
    }
    return yaml_load(path, l->ps);
}

static void load_files(struct load *l)
{
    unsigned i;

    if (!l->s->pub.dir)
        return;
    for (i = 0; i < conf_n_rows; i++) {
        const char *file = conf_rows[i].file;
        struct yaml *root;

        if (!*file || file_done(i))
            continue;
        root = load_tree(l, file);
        if (root)
            rows_from_tree(l, file, root);
        yaml_destroy(root);
    }
    l->s->models = load_tree(l, MODELS_FILE);
    l->s->pub.models = l->s->models;
}

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The directory to read, or NULL for defaults alone. */
static void choose_dir(struct load *l, const char *given)
{
    static const char *const usual[] = {"conf", "/etc/postern"};
    const char *dir = given;
    size_t i;

    for (i = 0; !dir && i < sizeof(usual) / sizeof(usual[0]); i++) {
        if (is_directory(usual[i]))
            dir = usual[i];
    }
    if (given && !is_directory(given)) {
        problems_add(l->ps, "", 0, "the configuration directory %.300s does not exist", given);
        dir = NULL;
    }
    if (dir) {
        l->s->pub.dir = arena_cstr(l->s->arena, slice_cstr(dir));
        l->no_memory |= !l->s->pub.dir;
    }
}

/* --- environment ------------------------------------------------------------------------------ */

/* One of the two layers: the environment, or the env file. */
static struct slice layer_get(struct load *l, bool env_file, const char *name,
                              struct conf_place *ret_at)
{
    const struct envfile_entry *e = env_file ? envfile_get(&l->s->env, name) : NULL;

    *ret_at = (struct conf_place){.text = env_file ? "env file" : "environment",
                                  .file = e ? l->s->env.file : "",
                                  .line = e ? e->line : 0,
                                  .label = name};
    if (env_file)
        return e ? e->value : SLICE_NONE;
    return slice_cstr(getenv(name));
}

/* The content of a secret's file, without line ends at its end. */
static bool read_secret(struct load *l, struct slice path, const struct conf_place *at,
                        struct slice *ret)
{
    const char *name = arena_cstr(l->s->arena, path), *why = "out of memory";
    struct slice text;
    struct buf b;
    enum gw_err err;

    buf_init(&b, SECRET_FILE_MAX_BYTES);
    err = name ? readfile(name, &b, &why) : GW_ENOMEM;
    text = buf_slice(&b);
    while (text.n && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r'))
        text.n--;
    if (err)
        complain(l, at, "%.200s cannot be read: %s", name ? name : "its file", why);
    else if (text.n == 0)
        complain(l, at, "%.200s is empty", name);
    else
        err = set_slice(l, text, ret) ? GW_OK : GW_ENOMEM;
    buf_deinit(&b);
    return !err && text.n > 0;
}

/* The path in <NAME>_FILE, if that is set. Takes memory only then: unset names may be asked for
 * often. */
static struct slice find_path(struct load *l, bool env_file, const char *name,
                              struct conf_place *ret_at)
{
    char file_name[160];
    struct slice path;

    if (snprintf(file_name, sizeof(file_name), "%s_FILE", name) >= (int)sizeof(file_name))
        return SLICE_NONE;
    path = layer_get(l, env_file, file_name, ret_at);
    if (path.n)
        ret_at->label = arena_cstr(l->s->arena, slice_cstr(file_name));
    if (path.n && !ret_at->label) {
        l->no_memory = true;
        return SLICE_NONE;
    }
    return path;
}

/* Looks up one name in one layer, with its _FILE form when that is allowed. */
static bool find_in_layer(struct load *l, bool env_file, const char *name, bool allow_file,
                          struct slice *ret, struct conf_place *ret_at)
{
    struct conf_place at, file_at;
    struct slice value = layer_get(l, env_file, name, &at);
    struct slice path = allow_file ? find_path(l, env_file, name, &file_at) : SLICE_NONE;

    if (value.n && path.n)
        complain(l, &at, "is set, and so is %.100s; use one of them", file_at.label);
    *ret_at = path.n && !value.n ? file_at : at;
    if (value.n)
        return set_slice(l, value, ret);
    return path.n && read_secret(l, path, &file_at, ret);
}

static bool find_name(struct load *l, const char *name, bool allow_file, struct slice *ret,
                      struct conf_place *ret_at)
{
    return find_in_layer(l, false, name, allow_file, ret, ret_at) ||
           find_in_layer(l, true, name, allow_file, ret, ret_at);
}

/* find_name() over all the names it goes by. */
static bool find_aliased(struct load *l, const char *name, bool allow_file, struct slice *ret,
                         struct conf_place *ret_at)
{
    bool found = find_name(l, name, allow_file, ret, ret_at);
    struct slice other = SLICE_NONE;
    struct conf_place at;
    size_t i;

    for (i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        if (strcmp(aliases[i].name, name) != 0 ||
            !find_name(l, aliases[i].alias, allow_file, &other, &at))
            continue;
        if (found && !slice_eq(*ret, other))
            complain(l, &at, "is set and differs from %s, which it is another name of", name);
        if (!found) {
            *ret = other;
            *ret_at = at;
        }
        found = true;
    }
    return found;
}

static void rows_from_environment(struct load *l)
{
    unsigned i;

    for (i = 0; i < conf_n_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        struct slice value = SLICE_NONE;
        struct conf_place at;

        if (*row->env && find_aliased(l, row->env, row->type == CONF_T_SECRET, &value, &at) &&
            set_value(l, row, value, &at))
            set_place(l, row, at);
    }
}

struct slice conf_env(const struct conf *c, const char *name, struct problems *problems)
{
    struct load l = {.s = conf_snapshot(c), .ps = problems};
    struct slice value = SLICE_NONE;
    struct conf_found *f;
    struct conf_place at;

    for (f = l.s->found; f; f = f->next) {
        if (strcmp(f->name, name) == 0)
            return f->value;
    }
    if (!find_name(&l, name, true, &value, &at))
        return SLICE_NONE;
    if (has_control(value)) {
        complain(&l, &at, "must not hold line ends or other control characters");
        return SLICE_NONE;
    }
    f = arena_new(l.s->arena, struct conf_found);
    if (f) {
        *f = (struct conf_found){
            .next = l.s->found, .name = arena_cstr(l.s->arena, slice_cstr(name)), .value = value};
        if (f->name)
            l.s->found = f;
    }
    return value;
}

/* --- all of it -------------------------------------------------------------------------------- */

static void rows_from_defaults(struct load *l)
{
    unsigned i;

    for (i = 0; i < conf_n_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        struct conf_place at = {
            .text = "default", .file = "", .label = *row->key ? row->key : row->env};

        /* Empty lists, secrets and texts: what a zeroed member says already, but terminated. */
        set_value(l, row, slice_cstr(row->def), &at);
        set_place(l, row, at);
    }
}

static struct conf_snapshot *snapshot_new(void)
{
    struct conf_snapshot *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->refs = 1;
    s->arena = arena_create(ARENA_MAX_BYTES);
    if (s->arena)
        s->places = arena_array(s->arena, struct conf_place, conf_n_rows);
    if (!s->places) {
        arena_destroy(s->arena);
        free(s);
        return NULL;
    }
    return s;
}

struct conf *conf_load(const struct conf_source *src, struct problems *problems)
{
    struct load l = {.s = snapshot_new(), .ps = problems};

    if (!l.s)
        return NULL;
    rows_from_defaults(&l);
    choose_dir(&l, src->dir);
    envfile_load(src->env_file ? src->env_file : ".env", src->env_file != NULL, l.s->arena,
                 &l.s->env, problems);
    load_files(&l);
    rows_from_environment(&l);
    if (l.no_memory) {
        conf_unref(&l.s->pub);
        return NULL;
    }
    conf_check_values(&l.s->pub, problems);
    return &l.s->pub;
}
