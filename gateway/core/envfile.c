/*
 * envfile.c - see envfile.h.
 */
#include "gateway/core/envfile.h"

#include "gateway/core/readfile.h"

static bool is_name_char(char c, bool first)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice skip_blanks(struct slice s)
{
    while (s.n && is_blank(s.p[0]))
        s = slice_from(s, 1);
    return s;
}

static const char *bad_bytes(struct slice line)
{
    size_t i;

    for (i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return "a control character";
    }
    return NULL;
}

/* Up to the closing quote, escapes undone into `out` (as long as the line). NULL or what is wrong.
 */
static const char *read_quoted(struct slice s, char *out, size_t *ret_n, struct slice *ret_rest)
{
    char quote = s.p[0];
    size_t i, n = 0;

    for (i = 1; i < s.n && s.p[i] != quote; i++) {
        if (quote == '"' && s.p[i] == '\\' && i + 1 < s.n && memchr("\"\\$`", s.p[i + 1], 4))
            i++;
        out[n++] = s.p[i];
    }
    if (i >= s.n)
        return "a quote is not closed on its line";
    *ret_n = n;
    *ret_rest = slice_from(s, i + 1);
    return NULL;
}

/* Up to the end or a comment, without blanks at the end. */
static size_t read_plain(struct slice s, char *out)
{
    size_t n = 0;

    while (n < s.n && !(s.p[n] == '#' && (n == 0 || is_blank(s.p[n - 1])))) {
        out[n] = s.p[n];
        n++;
    }
    while (n && is_blank(out[n - 1]))
        n--;
    return n;
}

/* The value after '='; `out` has room for s.n + 1 bytes. NULL or what is wrong. */
static const char *read_value(struct slice s, char *out, size_t *ret_n)
{
    struct slice rest = SLICE_NONE;
    const char *wrong;

    if (s.n == 0 || (s.p[0] != '"' && s.p[0] != '\'')) {
        *ret_n = s.n ? read_plain(s, out) : 0;
        return NULL;
    }
    wrong = read_quoted(s, out, ret_n, &rest);
    if (wrong)
        return wrong;
    if (rest.n && !is_blank(rest.p[0]))
        return "text after the closing quote";
    rest = skip_blanks(rest);
    return rest.n && rest.p[0] != '#' ? "text after the closing quote" : NULL;
}

/* Splits off the name; *s is what follows the '='. NULL or what is wrong. */
static const char *read_name(struct slice *s, struct slice *ret_name)
{
    size_t n = 0;

    if (s->n > 6 && slice_starts(*s, "export") && is_blank(s->p[6]))
        *s = skip_blanks(slice_from(*s, 7));
    while (n < s->n && is_name_char(s->p[n], n == 0))
        n++;
    if (n == 0)
        return "NAME=VALUE expected";
    if (n < s->n && is_blank(s->p[n]))
        return "NAME=VALUE expected, without a blank before the =";
    if (n == s->n || s->p[n] != '=')
        return "NAME=VALUE expected";
    *ret_name = slice_of(s->p, n);
    *s = skip_blanks(slice_from(*s, n + 1));
    return NULL;
}

/* One line that is not blank or a comment. NULL or what is wrong. */
static const char *read_entry(struct slice line, struct arena *a, struct envfile_entry *ret)
{
    struct slice name = SLICE_NONE;
    const char *wrong = bad_bytes(line);
    size_t n = 0;
    char *out;

    if (!wrong)
        wrong = read_name(&line, &name);
    if (wrong)
        return wrong;
    out = arena_bytes(a, line.n + 1);
    ret->name = arena_dup(a, name);
    if (!out || !ret->name.p)
        return "out of memory";
    wrong = read_value(line, out, &n);
    out[n] = '\0';
    ret->value = slice_of(out, n);
    return wrong;
}

static void add_entry(struct envfile *e, const struct envfile_entry *entry, struct problems *ps)
{
    struct envfile_entry *old = (struct envfile_entry *)envfile_get(e, entry->name.p);

    if (!old) {
        e->items[e->n++] = *entry;
        return;
    }
    problems_warn(ps, e->file, entry->line, "%.100s: set on line %u too; this one counts",
                  entry->name.p, old->line);
    *old = *entry;
}

/* The next line without its end; *text moves on. */
static struct slice take_line(struct slice *text)
{
    size_t end = slice_find(*text, '\n');
    struct slice line = slice_of(text->p, end);

    *text = slice_from(*text, end + 1);
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return skip_blanks(line);
}

void envfile_parse(struct slice text, const char *file, struct arena *a, struct envfile *ret,
                   struct problems *ps)
{
    struct envfile_entry entry;
    const char *wrong;
    unsigned line;

    *ret = (struct envfile){.file = arena_cstr(a, slice_cstr(file)),
                            .items = arena_array(a, struct envfile_entry, ENVFILE_MAX_ENTRIES)};
    if (!ret->file || !ret->items || text.n > ENVFILE_MAX_BYTES) {
        problems_add(ps, file, 0, text.n > ENVFILE_MAX_BYTES ? "too big" : "out of memory");
        return;
    }
    if (slice_starts(text, "\xef\xbb\xbf"))
        text = slice_from(text, 3);
    for (line = 1; text.n; line++) {
        struct slice s = take_line(&text);

        if (s.n == 0 || s.p[0] == '#')
            continue;
        if (ret->n == ENVFILE_MAX_ENTRIES) {
            problems_add(ps, file, line, "more than %u names", ENVFILE_MAX_ENTRIES);
            return;
        }
        entry = (struct envfile_entry){.line = line};
        wrong = read_entry(s, a, &entry);
        if (wrong)
            problems_add(ps, file, line, "%s", wrong);
        else
            add_entry(ret, &entry, ps);
    }
}

void envfile_load(const char *path, bool required, struct arena *a, struct envfile *ret,
                  struct problems *ps)
{
    const char *why = "";
    struct buf b;
    enum gw_err err;

    *ret = (struct envfile){0};
    buf_init(&b, ENVFILE_MAX_BYTES);
    err = readfile(path, &b, &why);
    if (!err)
        envfile_parse(buf_slice(&b), path, a, ret, ps);
    else if (err != GW_ENOTFOUND || required)
        problems_add(ps, path, 0, "cannot be read: %s", why);
    buf_deinit(&b);
}

const struct envfile_entry *envfile_get(const struct envfile *e, const char *name)
{
    unsigned i;

    for (i = 0; i < e->n; i++) {
        if (slice_is(e->items[i].name, name))
            return &e->items[i];
    }
    return NULL;
}
