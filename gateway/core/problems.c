/*
 * problems.c - see problems.h.
 */
#include "gateway/core/problems.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 512

void problems_deinit(struct problems *ps)
{
    unsigned i;

    for (i = 0; i < ps->n; i++) {
        free((char *)ps->items[i].file);
        free((char *)ps->items[i].text);
    }
    free(ps->items);
    *ps = (struct problems){0};
}

static void clean(char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || (unsigned char)*s == 0x7f)
            *s = '?';
    }
}

static bool is_listed(const struct problems *ps, const char *file, unsigned line, bool warning,
                      const char *text)
{
    unsigned i;

    for (i = 0; i < ps->n; i++) {
        const struct problem *p = &ps->items[i];

        if (p->line == line && p->warning == warning && strcmp(p->text, text) == 0 &&
            strcmp(p->file, file) == 0)
            return true;
    }
    return false;
}

static bool has_room(struct problems *ps)
{
    unsigned cap = ps->cap ? ps->cap * 2 : 16;
    struct problem *items;

    if (ps->n >= PROBLEMS_MAX)
        return false;
    if (ps->n < ps->cap)
        return true;
    items = realloc(ps->items, cap * sizeof(*items));
    if (!items)
        return false;
    ps->items = items;
    ps->cap = cap;
    return true;
}

static void insert(struct problems *ps, const char *file, unsigned line, bool warning,
                   const char *text)
{
    char *own_file, *own_text;

    if (is_listed(ps, file, line, warning, text))
        return;
    if (!warning)
        ps->errors++;
    own_file = strdup(file);
    own_text = strdup(text);
    if (!own_file || !own_text || !has_room(ps)) {
        free(own_file);
        free(own_text);
        ps->truncated = true;
        return;
    }
    clean(own_file);
    ps->items[ps->n++] = (struct problem){own_file, line, warning, own_text};
}

static void add(struct problems *ps, const char *file, unsigned line, bool warning, const char *fmt,
                va_list ap) __attribute__((format(printf, 5, 0)));

static void add(struct problems *ps, const char *file, unsigned line, bool warning, const char *fmt,
                va_list ap)
{
    char text[TEXT_MAX];

    if (!ps)
        return;
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    clean(text);
    insert(ps, file ? file : "", line, warning, text);
}

void problems_add(struct problems *ps, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(ps, file, line, false, fmt, ap);
    va_end(ap);
}

void problems_warn(struct problems *ps, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(ps, file, line, true, fmt, ap);
    va_end(ap);
}

static int by_place(const void *a, const void *b)
{
    const struct problem *x = *(const struct problem *const *)a;
    const struct problem *y = *(const struct problem *const *)b;
    int order = strcmp(x->file, y->file);

    if (order == 0 && x->line != y->line)
        order = x->line < y->line ? -1 : 1;
    if (order == 0) /* as they were added: both point into one array */
        order = x < y ? -1 : 1;
    return order;
}

static void print_one(const struct problem *p, FILE *out)
{
    if (*p->file && p->line)
        fprintf(out, "%s:%u: ", p->file, p->line);
    else if (*p->file)
        fprintf(out, "%s: ", p->file);
    fprintf(out, "%s%s\n", p->warning ? "warning: " : "", p->text);
}

void problems_print(const struct problems *ps, FILE *out)
{
    const struct problem **order = calloc(ps->n ? ps->n : 1, sizeof(*order));
    unsigned i;

    for (i = 0; i < ps->n && order; i++)
        order[i] = &ps->items[i];
    if (order)
        qsort(order, ps->n, sizeof(*order), by_place);
    for (i = 0; i < ps->n; i++)
        print_one(order ? order[i] : &ps->items[i], out);
    if (ps->truncated)
        fprintf(out, "further problems are not listed\n");
    free(order);
}
