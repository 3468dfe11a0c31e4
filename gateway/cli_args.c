/* cli_args.c - see cli_args.h. */
#include "gateway/cli_args.h"

#include "gateway/core/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NANO_DECIMALS 9
#define MAX_USD 1000000000
#define MAX_ITEMS 100u
#define ITEM_CHARS 256u

/* --- the words -------------------------------------------------------------------------------- */

/* Where the value of an option goes, or NULL. */
static const char **option(struct cli_args *a, const char *name)
{
    const struct {
        const char *name;
        const char **to;
    } table[] = {
        {"--conf", &a->source.dir},   {"--env-file", &a->source.env_file},
        {"--email", &a->email},       {"--team", &a->team},
        {"--owner", &a->owner},       {"--name", &a->name},
        {"--scopes", &a->scopes},     {"--models", &a->models},
        {"--budget", &a->budget},     {"--period", &a->period},
        {"--rpm", &a->rpm},           {"--tpm", &a->tpm},
        {"--expires-days", &a->days},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(name, table[i].name) == 0)
            return table[i].to;
    return NULL;
}

static bool *flag(struct cli_args *a, const char *name)
{
    if (strcmp(name, "--admin") == 0)
        return &a->admin;
    return strcmp(name, "--password-stdin") == 0 ? &a->password_stdin : NULL;
}

bool cli_args_parse(int argc, char **argv, const char *options, struct cli_args *ret)
{
    *ret = (struct cli_args){.word = NULL};
    for (int i = 2; i < argc; i++) {
        const char **to = argv[i][0] == '-' ? option(ret, argv[i]) : &ret->word;
        bool *on = flag(ret, argv[i]),
             common = form_is_among("--conf --env-file", slice_cstr(argv[i]));

        if (argv[i][0] == '-' && !common && !form_is_among(options, slice_cstr(argv[i])))
            return false;
        if (on)
            *on = true;
        else if (!to || *to || (to != &ret->word && ++i == argc))
            return false;
        else
            *to = argv[i];
    }
    return true;
}

/* --- what they may be ------------------------------------------------------------------------- */

static bool wrong(const char *option, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool wrong(const char *option, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "postern: %s ", option);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

static bool text_is_good(const char *option, struct slice text, enum form_class class, unsigned min,
                         unsigned max)
{
    int64_t n = form_characters(text);
    const char *problem = n ? form_class_problem(class, text) : NULL;

    if (n < min || n > max)
        return wrong(option, "must have %u to %u characters", min, max);
    if (problem || !json_utf8_valid(text))
        return wrong(option, "%s", problem ? problem : "must be UTF-8");
    return true;
}

bool cli_args_text(const char *option, const char *text, enum form_class class, unsigned min,
                   unsigned max)
{
    return !text || text_is_good(option, slice_cstr(text), class, min, max);
}

bool cli_args_number(const char *option, const char *text, int64_t max, int64_t *ret)
{
    size_t n = text ? strspn(text, "0123456789") : 0;
    int64_t v;

    if (!text)
        return true;
    v = n && n <= 18 && !text[n] ? strtoll(text, NULL, 10) : 0;
    if (v < 1 || v > max)
        return wrong(option, "must be a whole number from 1 to %lld", (long long)max);
    *ret = v;
    return true;
}

bool cli_args_dollars(const char *option, const char *text, int64_t *ret_nano_usd)
{
    size_t whole = text ? strspn(text, "0123456789") : 0;
    size_t part = text && text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    int64_t nano = 0;

    if (!text)
        return true;
    if (!whole || whole > 10 || part > NANO_DECIMALS || (text[whole] == '.' && !part) ||
        text[whole + (part ? part + 1 : 0)])
        return wrong(option, "must be dollars, as 20 or 12.50");
    for (size_t i = 0; i < whole; i++)
        nano = nano * 10 + (text[i] - '0');
    if (nano > MAX_USD)
        return wrong(option, "must be no more than %d dollars", MAX_USD);
    for (size_t i = 0; i < NANO_DECIMALS; i++)
        nano = nano * 10 + (i < part ? text[whole + 1 + i] - '0' : 0);
    *ret_nano_usd = nano;
    return true;
}

bool cli_args_list(const char *option, const char *text, enum form_class class, const char *words,
                   struct buf *ret_json)
{
    struct slice rest = slice_cstr(text);
    struct json_writer w;
    unsigned n = 0;
    bool more = text != NULL;

    json_begin(&w, ret_json, MAX_ITEMS * ITEM_CHARS * 8);
    json_arr(&w);
    while (more) {
        size_t comma = slice_find(rest, ',');
        struct slice one = slice_trim(slice_of(rest.p, comma));

        more = comma < rest.n;
        rest = slice_from(rest, comma + 1);
        if (++n > MAX_ITEMS)
            return wrong(option, "must have at most %u elements", MAX_ITEMS);
        if (words && !form_is_among(words, one))
            return wrong(option, "must be of: %s", words);
        if (!words && !text_is_good(option, one, class, 1, ITEM_CHARS))
            return false;
        json_put_str(&w, one);
    }
    json_arr_end(&w);
    return true;
}
