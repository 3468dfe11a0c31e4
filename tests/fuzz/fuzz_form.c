/*
 * fuzz_form.c - a body against a form with fields of all types: whatever is accepted is within the
 * form's bounds and of its class, and whatever is not is told by a pointer into the body.
 */
#include "gateway/core/metrics.h"
#include "gateway/http/form.h"

#include <assert.h>
#include <stdlib.h>

struct inner {
    struct slice name;
    int64_t n;
};

struct outer {
    struct slice free, line, id, model, email, url, file, date, opaque, word, number;
    int64_t n, decimal;
    bool yes;
    struct form_list list;
    struct json any, object;
    struct slice name;
    int64_t inner_n;
};

#define AT(f) offsetof(struct outer, f)

static const struct form_field inner_fields[] = {
    {"name", FORM_STRING, AT(name), .class = FORM_LINE, .max = 20, .required = true},
    {"n", FORM_INT, AT(inner_n), .min = 1, .max = 5},
};
static const struct form inner_form = FORM_OF(struct outer, inner_fields);

static const struct form_field fields[] = {
    {"free", FORM_STRING, AT(free), .max = 40},
    {"line", FORM_STRING, AT(line), .class = FORM_LINE, .nullable = true},
    {"id", FORM_STRING, AT(id), .class = FORM_IDENTIFIER, .max = 10},
    {"model", FORM_STRING, AT(model), .class = FORM_MODEL},
    {"email", FORM_STRING, AT(email), .class = FORM_EMAIL},
    {"url", FORM_STRING, AT(url), .class = FORM_URL},
    {"file", FORM_STRING, AT(file), .class = FORM_FILENAME},
    {"date", FORM_STRING, AT(date), .class = FORM_DATE},
    {"opaque", FORM_STRING, AT(opaque), .class = FORM_OPAQUE, .min = 2},
    {"word", FORM_STRING, AT(word), .words = "red green"},
    {"number", FORM_NUMBER, AT(number), .min = 0, .max = 2},
    {"n", FORM_INT, AT(n), .min = -3, .max = 7},
    {"decimal", FORM_DECIMAL, AT(decimal), .min = 0, .max = 1000},
    {"yes", FORM_BOOL, AT(yes)},
    {"list", FORM_STRINGS, AT(list), .max = 3, .item_max = 4},
    {"any", FORM_ANY, AT(any)},
    {"object", FORM_OBJECT, AT(object), .form = &inner_form},
};
static const struct form form = FORM_OF(struct outer, fields);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t characters(struct slice s)
{
    int64_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void check_read(const struct outer *o)
{
    assert(characters(o->free) <= 40 && characters(o->id) <= 10);
    assert(!o->id.p || !form_class_problem(FORM_IDENTIFIER, o->id));
    assert(!o->file.p || !memchr(o->file.p, '/', o->file.n));
    assert(!o->word.p || slice_is(o->word, "red") || slice_is(o->word, "green"));
    assert(o->n >= -3 && o->n <= 7);
    assert(o->decimal >= 0 && o->decimal <= INT64_C(1000000000000));
    assert(o->list.n <= 3);
    for (unsigned i = 0; i < o->list.n; i++)
        assert(characters(o->list.items[i]) <= 4);
    assert(!o->opaque.p || characters(o->opaque) >= 2);
    assert(characters(o->name) <= 20 && o->inner_n >= 0 && o->inner_n <= 5);
}

static void check_told(const struct form_errors *e)
{
    assert(e->n <= FORM_MAX_ERRORS && !e->nomem);
    for (unsigned i = 0; i < e->n; i++) {
        assert(e->items[i].detail.n && json_utf8_valid(e->items[i].detail));
        assert(json_utf8_valid(e->items[i].pointer));
        assert(!e->items[i].pointer.n || e->items[i].pointer.p[0] == '/');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conf conf = {.free_text_policy = {"flag", 4}};
    static bool begun;
    struct arena *a = arena_create(16u << 20);
    struct request req = {.arena = a, .conf = &conf};
    struct form_errors errors = {0};
    struct outer o = {0};
    struct json root;

    if (!begun)
        assert(metrics_init(1) == GW_OK);
    begun = true;
    assert(a);
    if (json_parse(a, slice_of((const char *)data, size), NULL, &root, NULL) == GW_OK) {
        form_check(&req, root, &form, &o, NULL, &errors);
        check_told(&errors);
        if (!errors.n)
            check_read(&o);
    }
    arena_destroy(a);
    return 0;
}
