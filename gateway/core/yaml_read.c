/*
 * yaml_read.c - finding and reading the values of a tree (yaml.h).
 *
 * Trees are handed out const; `used` is the one thing readers change in them.
 */
#include "gateway/core/yaml.h"

#include <inttypes.h>

#define BILLION 1000000000

static void mark(const struct yaml *y)
{
    ((struct yaml *)y)->used = true;
}

const struct yaml *yaml_get(const struct yaml *map, const char *name)
{
    const struct yaml *y;

    if (!map || map->kind != YAML_MAP)
        return NULL;
    for (y = map->first; y; y = y->next) {
        if (slice_is(y->key, name)) {
            mark(y);
            return y;
        }
    }
    return NULL;
}

/* Child by a name that is not terminated. */
static const struct yaml *get_part(const struct yaml *map, struct slice name)
{
    const struct yaml *y = map && map->kind == YAML_MAP ? map->first : NULL;

    while (y && !slice_eq(y->key, name))
        y = y->next;
    if (y)
        mark(y);
    return y;
}

const struct yaml *yaml_path(const struct yaml *map, const char *dotted)
{
    struct slice rest = slice_cstr(dotted);

    while (map && rest.n) {
        size_t dot = slice_find(rest, '.');

        map = get_part(map, slice_of(rest.p, dot));
        rest = slice_from(rest, dot + 1);
    }
    return map;
}

static const char *kind_name(enum yaml_kind kind)
{
    switch (kind) {
    case YAML_MAP:
        return "a map of keys and values";
    case YAML_SEQ:
        return "a list";
    case YAML_SCALAR:
        return "a single value";
    case YAML_NULL:
        break;
    }
    return "nothing";
}

/* "key: " for a message; an item of a list has none. */
static const char *label(const struct yaml *y)
{
    return y->key.n ? y->key.p : "item";
}

static void wrong_kind(const struct yaml *y, const char *expected, struct problems *ps)
{
    if (!y->broken)
        problems_add(ps, y->file, y->line, "%.100s: %s expected, not %s", label(y), expected,
                     kind_name(y->kind));
}

const struct yaml *yaml_items(const struct yaml *y, enum yaml_kind kind, bool all,
                              struct problems *ps)
{
    const struct yaml *i;

    if (!y)
        return NULL;
    mark(y);
    if (y->kind != kind) {
        wrong_kind(y, kind_name(kind), ps);
        return NULL;
    }
    for (i = y->first; i && all; i = i->next)
        mark(i);
    return y->first;
}

/* Is y a scalar that can be read? Adds the problem if not. */
static bool is_scalar(const struct yaml *y, const char *expected, struct problems *ps)
{
    mark(y);
    if (y->broken)
        return false;
    if (y->kind != YAML_SCALAR) {
        wrong_kind(y, expected, ps);
        return false;
    }
    return true;
}

bool yaml_read_str(const struct yaml *y, struct slice *ret, struct problems *ps)
{
    if (!y)
        return true;
    if (!is_scalar(y, "text", ps))
        return false;
    *ret = y->text;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

enum gw_err yaml_text_int(struct slice text, int64_t *ret)
{
    bool minus = text.n && text.p[0] == '-';
    struct slice digits = slice_from(text, minus);
    int64_t value = 0;
    size_t i;

    /* 010 would be eight to YAML 1.1 and ten to people: neither is taken. */
    if (digits.n == 0 || (digits.p[0] == '0' && digits.n > 1))
        return GW_EBADREQ;
    for (i = 0; i < digits.n; i++) {
        if (!is_digit(digits.p[i]))
            return GW_EBADREQ;
    }
    for (i = 0; i < digits.n; i++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digits.p[i] - '0', &value))
            return GW_ETOOBIG;
    }
    if (!minus && value == INT64_MIN)
        return GW_ETOOBIG;
    *ret = minus ? value : -value;
    return GW_OK;
}

enum gw_err yaml_text_bool(struct slice text, bool *ret)
{
    if (!slice_is(text, "true") && !slice_is(text, "false"))
        return GW_EBADREQ;
    *ret = text.n == 4;
    return GW_OK;
}

/* Digits of `text` as a number padded with zeros to `places`. They fit: at most 9 are taken. */
static bool fixed_digits(struct slice text, unsigned places, int64_t *ret)
{
    int64_t value = 0;
    unsigned i;

    if (text.n > 9)
        return false;
    for (i = 0; i < places || i < text.n; i++) {
        if (i < text.n && !is_digit(text.p[i]))
            return false;
        value = value * 10 + (i < text.n ? text.p[i] - '0' : 0);
    }
    *ret = value;
    return true;
}

enum gw_err yaml_text_nano(struct slice text, int64_t *ret)
{
    size_t dot = slice_find(text, '.');
    struct slice places = slice_from(text, dot + 1);
    int64_t whole, fraction;

    if (dot == 0 || (dot < text.n && places.n == 0))
        return GW_EBADREQ;
    if (!fixed_digits(slice_of(text.p, dot), 0, &whole) || !fixed_digits(places, 9, &fraction))
        return GW_EBADREQ;
    *ret = whole * BILLION + fraction;
    return GW_OK;
}

/* Is y a plain scalar? Quotes make text of what looks like a number. */
static bool is_plain(const struct yaml *y, const char *expected, struct problems *ps)
{
    if (!is_scalar(y, expected, ps))
        return false;
    if (y->quoted)
        problems_add(ps, y->file, y->line, "%.100s: %s expected, not text in quotes", label(y),
                     expected);
    return !y->quoted;
}

static void not_a(const struct yaml *y, const char *expected, struct problems *ps)
{
    problems_add(ps, y->file, y->line, "%.100s: %s expected, not \"%.60s\"", label(y), expected,
                 y->text.p);
}

bool yaml_read_int(const struct yaml *y, int64_t min, int64_t max, int64_t *ret,
                   struct problems *ps)
{
    int64_t value = 0;
    enum gw_err err;

    if (!y)
        return true;
    if (!is_plain(y, "a whole number", ps))
        return false;
    err = yaml_text_int(y->text, &value);
    if (err == GW_EBADREQ) {
        not_a(y, "a whole number", ps);
        return false;
    }
    if (err || value < min || value > max) {
        problems_add(ps, y->file, y->line,
                     "%.100s: %.40s is out of range (%" PRId64 " to %" PRId64 ")", label(y),
                     y->text.p, min, max);
        return false;
    }
    *ret = value;
    return true;
}

bool yaml_read_bool(const struct yaml *y, bool *ret, struct problems *ps)
{
    if (!y)
        return true;
    if (!is_plain(y, "true or false", ps))
        return false;
    if (yaml_text_bool(y->text, ret)) {
        not_a(y, "true or false", ps);
        return false;
    }
    return true;
}

bool yaml_read_nano(const struct yaml *y, int64_t *ret, struct problems *ps)
{
    static const char expected[] = "a decimal number below 1000000000 with at most 9 places";

    if (!y)
        return true;
    if (!is_plain(y, expected, ps))
        return false;
    if (yaml_text_nano(y->text, ret)) {
        not_a(y, expected, ps);
        return false;
    }
    return true;
}

void yaml_report_unused(const struct yaml *y, struct problems *ps)
{
    const struct yaml *child = y ? y->first : NULL;

    for (; child; child = child->next) {
        if (child->broken)
            continue;
        if (y->kind == YAML_MAP && !child->used)
            problems_add(ps, child->file, child->line, "unknown key \"%.100s\"", child->key.p);
        else
            yaml_report_unused(child, ps);
    }
}
