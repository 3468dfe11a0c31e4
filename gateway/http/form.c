/*
 * form.c - see form.h.
 *
 * One reader walks the members of an object beside the rows of a form; it stops when
 * FORM_MAX_ERRORS failures are known, so that a million unknown members cost no more than fifty.
 */
#include "gateway/http/form.h"

#include "gateway/http/router.h"
#include "gateway/http/screen.h"

#include <assert.h>
#include <stdio.h>

#define DEFAULT_CHARS 4096
#define DEFAULT_ITEM_CHARS 256
#define DEFAULT_ITEMS 100
#define MAX_NAME_BYTES 96u /* of a member's name, in a pointer */
#define MAX_TOKENS 200000u
#define BILLION INT64_C(1000000000)

const struct form form_empty = {NULL, 0, 0};

/* What one reading carries along. */
struct reader {
    struct arena *arena;
    const struct conf *conf;
    struct form_errors *errors;
    unsigned found; /* kinds of attempts in all texts so far (detect.h) */
    bool query;     /* names are those of query arguments */
};

/* Where a value stands: the pointer is only written out when something is wrong with it. */
struct place {
    const struct place *up;
    struct slice name; /* empty: the root */
};

/* --- telling ---------------------------------------------------------------------------------- */

static void add_escaped(struct buf *b, struct slice name)
{
    size_t n = name.n < MAX_NAME_BYTES ? name.n : MAX_NAME_BYTES;

    while (n < name.n && n && ((unsigned char)name.p[n] & 0xc0) == 0x80)
        n--; /* between two characters */
    for (size_t i = 0; i < n; i++) {
        if (name.p[i] == '~')
            buf_add_cstr(b, "~0");
        else if (name.p[i] == '/')
            buf_add_cstr(b, "~1");
        else
            buf_add_char(b, name.p[i]);
    }
    if (n < name.n)
        buf_add_cstr(b, "...");
}

static void add_path(struct buf *b, const struct place *at)
{
    if (!at || !at->up)
        return;
    add_path(b, at->up);
    buf_add_char(b, '/');
    add_escaped(b, at->name);
}

static struct slice pointer_text(struct arena *a, const struct place *at)
{
    struct slice text;
    struct buf b;

    buf_init(&b, 4096);
    add_path(&b, at);
    text = buf_err(&b) ? SLICE_NONE : arena_dup(a, buf_slice(&b));
    buf_deinit(&b);
    return text;
}

static void tell(struct reader *r, const struct place *at, struct slice detail)
{
    struct form_errors *e = r->errors;
    struct error_item *item;

    if (e->n == FORM_MAX_ERRORS)
        return;
    item = &e->items[e->n];
    *item = (struct error_item){.detail = detail};
    if (r->query)
        item->param = at->name;
    else
        item->pointer = pointer_text(r->arena, at);
    if (!detail.p || (!r->query && !item->pointer.p))
        e->nomem = true;
    e->n++;
}

static bool is_full(const struct reader *r)
{
    return r->errors->nomem || r->errors->n == FORM_MAX_ERRORS;
}

/* --- single values ---------------------------------------------------------------------------- */

static bool has_bounds(const struct form_field *f)
{
    return f->min || f->max;
}

static struct slice range_text(struct arena *a, const struct form_field *f, const char *what)
{
    return arena_printf(a, "must be %s from %lld to %lld", what, (long long)f->min,
                        (long long)f->max);
}

bool form_is_among(const char *words, struct slice text)
{
    const char *p = words;

    while (*p) {
        size_t n = strcspn(p, " ");

        if (slice_eq(slice_of(p, n), text))
            return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

int64_t form_characters(struct slice s)
{
    int64_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

/* Does it look like an injection attempt, and is that a reason to refuse it? Words of a list and
 * opaque texts are not looked at. */
static bool is_screened_out(struct reader *r, const struct form_field *f, struct slice text)
{
    switch (f->class) {
    case FORM_OPAQUE:
        return false;
    case FORM_FREE:
    case FORM_LINE:
        return screen_free(r->conf, &r->found, text);
    default:
        return screen_strict(&r->found, text);
    }
}

/* Checks one text; false when something was told. */
static bool check_text(struct reader *r, const struct form_field *f, const struct place *at,
                       struct slice text, int64_t min, int64_t max)
{
    /* bytes are no fewer than characters: mostly they need not be counted */
    int64_t n = (int64_t)text.n > max || min > 1 ? form_characters(text) : (int64_t)text.n;
    const char *problem = f->words ? NULL : form_class_problem(f->class, text);

    if (n < min || n > max)
        tell(r, at,
             arena_printf(r->arena, "must have %lld to %lld characters", (long long)min,
                          (long long)max));
    else if (f->words && !form_is_among(f->words, text))
        tell(r, at, arena_printf(r->arena, "must be one of: %s", f->words));
    else if (!f->words && is_screened_out(r, f, text))
        tell(r, at, SLICE(SCREEN_DETAIL));
    else if (problem)
        tell(r, at, slice_cstr(problem));
    else
        return true;
    return false;
}

static void read_text(struct reader *r, const struct form_field *f, const struct place *at,
                      struct slice text, void *to)
{
    int64_t max = f->max ? f->max : DEFAULT_CHARS;

    if (check_text(r, f, at, text, f->min, max))
        *(struct slice *)to = text;
}

static void read_string(struct reader *r, const struct form_field *f, const struct place *at,
                        struct json v, void *to)
{
    struct slice text = json_str(v);

    if (!json_is(v, JSON_STRING))
        tell(r, at, SLICE("must be a string"));
    else if (!text.p)
        r->errors->nomem = true;
    else
        read_text(r, f, at, text, to);
}

static void read_int(struct reader *r, const struct form_field *f, const struct place *at,
                     struct json v, void *to)
{
    int64_t n;

    if (!json_int(v, &n) || (has_bounds(f) && (n < f->min || n > f->max)))
        tell(r, at,
             has_bounds(f) ? range_text(r->arena, f, "a whole number")
                           : SLICE("must be a whole number"));
    else
        *(int64_t *)to = n;
}

static bool decimal_fits(const struct form_field *f, int64_t billionths)
{
    int64_t low, high;

    if (!has_bounds(f))
        return true;
    if (__builtin_mul_overflow(f->min, BILLION, &low) ||
        __builtin_mul_overflow(f->max, BILLION, &high))
        return false;
    return billionths >= low && billionths <= high;
}

static void read_decimal(struct reader *r, const struct form_field *f, const struct place *at,
                         struct json v, void *to)
{
    int64_t n;

    if (!json_scaled(v, 9, &n) || !decimal_fits(f, n))
        tell(r, at,
             has_bounds(f) ? range_text(r->arena, f, "a number of at most nine decimals")
                           : SLICE("must be a number of at most nine decimals"));
    else
        *(int64_t *)to = n;
}

static void read_number(struct reader *r, const struct form_field *f, const struct place *at,
                        struct json v, void *to)
{
    double d;

    if (!json_double(v, &d) || (has_bounds(f) && (d < (double)f->min || d > (double)f->max)))
        tell(r, at,
             has_bounds(f) ? range_text(r->arena, f, "a number") : SLICE("must be a number"));
    else
        *(struct slice *)to = json_raw(v);
}

static void read_bool(struct reader *r, const struct form_field *f, const struct place *at,
                      struct json v, void *to)
{
    bool b;

    if (json_bool(v, &b))
        *(bool *)to = b;
    else
        tell(r, at, SLICE("must be true or false"));
}

/* --- lists ------------------------------------------------------------------------------------ */

static bool check_count(struct reader *r, const struct form_field *f, const struct place *at,
                        int64_t n)
{
    int64_t max = f->max ? f->max : DEFAULT_ITEMS;

    if (n >= f->min && n <= max)
        return true;
    tell(r, at,
         arena_printf(r->arena, "must have %lld to %lld elements", (long long)f->min,
                      (long long)max));
    return false;
}

/* One element; its place is told by its number. */
static void check_element(struct reader *r, const struct form_field *f, const struct place *list,
                          unsigned i, struct slice text)
{
    struct place at = {.up = list};
    char number[12];

    snprintf(number, sizeof(number), "%u", i);
    at.name = r->query ? list->name : slice_cstr(number);
    if (text.p)
        check_text(r, f, &at, text, f->class == FORM_FREE ? 0 : 1,
                   f->item_max ? f->item_max : DEFAULT_ITEM_CHARS);
    else
        tell(r, &at, SLICE("must be a string"));
}

static void read_strings(struct reader *r, const struct form_field *f, const struct place *at,
                         struct json v, void *to)
{
    struct slice *items;
    unsigned n = 0;
    struct json it;

    if (!json_is(v, JSON_ARRAY)) {
        tell(r, at, SLICE("must be an array of strings"));
        return;
    }
    if (!check_count(r, f, at, json_count(v)))
        return;
    items = arena_array(r->arena, struct slice, json_count(v) + 1);
    if (!items) {
        r->errors->nomem = true;
        return;
    }
    for (it = json_first(v); json_exists(it) && !is_full(r); it = json_next(v, it)) {
        items[n] = json_str(it);
        check_element(r, f, at, n, items[n]);
        n++;
    }
    *(struct form_list *)to = (struct form_list){items, n};
}

/* --- objects ---------------------------------------------------------------------------------- */

static void read_members(struct reader *r, const struct form *f, const struct place *at,
                         struct json object, void *into, struct form_seen *seen);

static void read_object(struct reader *r, const struct form_field *f, const struct place *at,
                        struct json v, void *into)
{
    struct form_seen inner = {0};

    if (!json_is(v, JSON_OBJECT))
        tell(r, at, SLICE("must be an object"));
    else if (f->form)
        read_members(r, f->form, at, v, into, &inner);
    else
        *(struct json *)((char *)into + f->at) = v;
}

static void read_value(struct reader *r, const struct form_field *f, const struct place *at,
                       struct json v, void *into)
{
    void *to = (char *)into + f->at;

    switch (f->type) {
    case FORM_STRING:
        read_string(r, f, at, v, to);
        break;
    case FORM_INT:
        read_int(r, f, at, v, to);
        break;
    case FORM_DECIMAL:
        read_decimal(r, f, at, v, to);
        break;
    case FORM_NUMBER:
        read_number(r, f, at, v, to);
        break;
    case FORM_BOOL:
        read_bool(r, f, at, v, to);
        break;
    case FORM_STRINGS:
        read_strings(r, f, at, v, to);
        break;
    case FORM_OBJECT:
        read_object(r, f, at, v, into);
        break;
    case FORM_ANY:
        *(struct json *)to = v;
        break;
    }
}

static unsigned row_of(const struct form *f, struct slice name)
{
    unsigned i = 0;

    while (i < f->n && !slice_is(name, f->fields[i].name))
        i++;
    return i;
}

static void read_member(struct reader *r, const struct form *f, const struct place *up,
                        struct json v, void *into, uint64_t *there, struct form_seen *seen)
{
    struct place at = {.up = up, .name = json_key(v)};
    unsigned i = row_of(f, at.name);
    uint64_t bit = UINT64_C(1) << (i % FORM_MAX_FIELDS);
    const struct form_field *row = &f->fields[i];

    if (i == f->n) {
        tell(r, &at, SLICE("is not known here"));
    } else if (*there & bit) {
        tell(r, &at, SLICE("is there more than once"));
    } else if (json_is(v, JSON_NULL) && row->type != FORM_ANY) {
        if (row->nullable)
            seen->nulls |= bit;
        else if (row->required)
            tell(r, &at, SLICE("must not be null"));
        *there |= bit;
    } else {
        *there |= bit;
        seen->given |= bit;
        read_value(r, row, &at, v, into);
    }
}

static void read_members(struct reader *r, const struct form *f, const struct place *at,
                         struct json object, void *into, struct form_seen *seen)
{
    uint64_t there = 0;
    struct json it;

    assert(f->n <= FORM_MAX_FIELDS);
    for (it = json_first(object); json_exists(it) && !is_full(r); it = json_next(object, it))
        read_member(r, f, at, it, into, &there, seen);
    for (unsigned i = 0; i < f->n && !is_full(r); i++) {
        struct place missing = {.up = at, .name = slice_cstr(f->fields[i].name)};

        if (f->fields[i].required && !(there & (UINT64_C(1) << i)))
            tell(r, &missing, SLICE("is required"));
    }
}

void form_check(struct request *req, struct json root, const struct form *f, void *into,
                struct form_seen *seen, struct form_errors *errors)
{
    struct reader r = {.arena = req->arena, .conf = req->conf, .errors = errors};
    unsigned refused = arena_refusals(req->arena);
    struct form_seen none = {0};
    const struct place top = {0};

    if (seen)
        *seen = none;
    if (json_is(root, JSON_OBJECT))
        read_members(&r, f, &top, root, into, seen ? seen : &none);
    else
        tell(&r, &top, SLICE("must be an object"));
    errors->nomem = errors->nomem || arena_refusals(req->arena) != refused;
    screen_tell(req, r.found, errors->n > 0);
}

/* --- answering -------------------------------------------------------------------------------- */

void form_refuse(struct request *req, const struct form_errors *errors)
{
    struct error_detail d = {.items = errors->items, .n_items = errors->n};

    if (errors->nomem) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    if (errors->n == 1)
        d.message = arena_printf(req->arena, "%.*s %.*s.",
                                 SLICE_ARG(errors->items[0].param.n     ? errors->items[0].param
                                           : errors->items[0].pointer.n ? errors->items[0].pointer
                                                                        : SLICE("The body")),
                                 SLICE_ARG(errors->items[0].detail));
    else
        d.message = arena_printf(req->arena, "%s%u fields are wrong; `errors` names them.",
                                 errors->n == FORM_MAX_ERRORS ? "At least " : "", errors->n);
    request_fail(req, GW_ESCHEMA, &d);
}

void form_add(struct form_errors *errors, const char *pointer, const char *detail)
{
    if (errors->n < FORM_MAX_ERRORS)
        errors->items[errors->n++] =
            (struct error_item){.pointer = slice_cstr(pointer), .detail = slice_cstr(detail)};
}

void form_refuse_field(struct request *req, const char *pointer, const char *detail)
{
    struct form_errors e = {.n = 0};

    form_add(&e, pointer, detail);
    form_refuse(req, &e);
}

static bool settle(struct request *req, const struct form_errors *errors)
{
    if (errors->n == 0 && !errors->nomem)
        return true;
    form_refuse(req, errors);
    return false;
}

void form_refuse_json(struct request *req, enum gw_err err, const struct json_error *why)
{
    struct error_detail d = {0};

    if (why->what)
        d.message = arena_printf(req->arena, "Invalid JSON at byte %zu: %s.", why->at, why->what);
    request_fail(req, err, &d);
}

/* The parsed body, or {} for a body of no bytes. False when the request has been answered. */
static bool parse_body(struct request *req, struct json *ret_root)
{
    const struct json_limits limits = {.max_tokens = MAX_TOKENS};
    struct slice text = req->body.n ? req->body : SLICE("{}");
    struct json_error why = {0};
    enum gw_err err = json_parse(req->arena, text, &limits, ret_root, &why);

    if (err)
        form_refuse_json(req, err, &why);
    return !err;
}

bool form_read_into(struct request *req, void *into, size_t size, struct form_seen *seen)
{
    const struct form *f = req->route->form;
    struct form_errors *errors = arena_new(req->arena, struct form_errors);
    struct json root;

    assert(f && (f->size == size || f->n == 0));
    if (!errors) {
        request_fail(req, GW_ENOMEM, NULL);
        return false;
    }
    if (!parse_body(req, &root))
        return false;
    form_check(req, root, f, into, seen, errors);
    return settle(req, errors);
}

bool form_read_nothing(struct request *req)
{
    return form_read_into(req, NULL, 0, NULL);
}

bool form_given(const struct form *f, const struct form_seen *seen, const char *name)
{
    unsigned i = row_of(f, slice_cstr(name));

    assert(i < f->n);
    return (seen->given >> i) & 1;
}

bool form_nulled(const struct form *f, const struct form_seen *seen, const char *name)
{
    unsigned i = row_of(f, slice_cstr(name));

    assert(i < f->n);
    return (seen->nulls >> i) & 1;
}

/* --- query arguments -------------------------------------------------------------------------- */

/* A list's elements are separated by commas; empty ones do not count. */
static void query_strings(struct reader *r, const struct form_field *f, const struct place *at,
                          struct slice text, struct form_list *to)
{
    struct slice *items = arena_array(r->arena, struct slice, text.n / 2 + 1);
    unsigned n = 0;

    if (!items) {
        r->errors->nomem = true;
        return;
    }
    while (text.n && !is_full(r)) {
        size_t comma = slice_find(text, ',');
        struct slice one = slice_trim(slice_of(text.p, comma));

        text = slice_from(text, comma + 1);
        if (one.n == 0)
            continue;
        check_element(r, f, at, n, one);
        items[n++] = one;
    }
    if (check_count(r, f, at, n))
        *to = (struct form_list){items, n};
}

/* Numbers and booleans are read as the JSON they look like. */
static void query_literal(struct reader *r, const struct form_field *f, const struct place *at,
                          struct slice text, void *into)
{
    const struct json_limits limits = {.max_bytes = 64};
    struct json v = {0};
    enum gw_err err = json_parse(r->arena, text, &limits, &v, NULL);

    if (err == GW_ENOMEM)
        r->errors->nomem = true;
    else
        read_value(r, f, at, err ? (struct json){0} : v, into);
}

static void query_value(struct reader *r, const struct form_field *f, const struct place *at,
                        struct slice text, void *into)
{
    void *to = (char *)into + f->at;

    if (f->type == FORM_STRING)
        read_text(r, f, at, text, to);
    else if (f->type == FORM_STRINGS)
        query_strings(r, f, at, text, to);
    else
        query_literal(r, f, at, text, into);
}

/* One of them would be taken, and another reader of the same URL might take the other. */
static bool is_doubled(struct slice query, struct slice name)
{
    unsigned n = 0;

    while (query.n) {
        struct slice pair = slice_of(query.p, slice_find(query, '&'));

        n += slice_eq(slice_of(pair.p, slice_find(pair, '=')), name);
        query = slice_from(query, pair.n + 1);
    }
    return n > 1;
}

static void query_field(struct reader *r, const struct request *req, const struct form_field *f,
                        void *into, struct form_seen *seen, uint64_t bit)
{
    struct place at = {.name = slice_cstr(f->name)};
    enum gw_err err;
    struct slice text = request_query(req, f->name, &err);

    if (err == GW_ENOMEM)
        r->errors->nomem = true;
    else if (err || (text.p && !json_utf8_valid(text)))
        tell(r, &at, SLICE("must be percent-encoded UTF-8"));
    else if (text.p && is_doubled(req->query, at.name))
        tell(r, &at, SLICE("is there more than once"));
    else if (!text.p && f->required)
        tell(r, &at, SLICE("is required"));
    if (err || !text.p || r->errors->nomem || !json_utf8_valid(text))
        return;
    seen->given |= bit;
    query_value(r, f, &at, text, into);
}

bool form_query_into(struct request *req, const struct form *f, void *into, size_t size,
                     struct form_seen *seen)
{
    struct form_errors *errors = arena_new(req->arena, struct form_errors);
    struct reader r = {.arena = req->arena, .conf = req->conf, .errors = errors, .query = true};
    unsigned refused = arena_refusals(req->arena);
    struct form_seen none = {0};

    assert(f->size == size && f->n <= FORM_MAX_FIELDS);
    if (!errors) {
        request_fail(req, GW_ENOMEM, NULL);
        return false;
    }
    if (seen)
        *seen = none;
    for (unsigned i = 0; i < f->n && !is_full(&r); i++)
        query_field(&r, req, &f->fields[i], into, seen ? seen : &none, UINT64_C(1) << i);
    errors->nomem = errors->nomem || arena_refusals(req->arena) != refused;
    screen_tell(req, r.found, errors->n > 0);
    return settle(req, errors);
}
