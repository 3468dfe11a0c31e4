/*
 * test_fields.c - walks the table of providers/dialect/fields.def: every field of every client
 * dialect fares as its row says on its way to each provider dialect, and none is lost without a
 * word.
 */
#include "gateway/core/conf.h"
#include "gateway/core/json.h"
#include "providers/dialect.h"
#include "providers/dialect/fields.h"
#include "providers/dialect/responses_wire.h"
#include "providers/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct {
    const struct dialect *dialect;
    const char *minimal; /* a request without anything that can be left out; its last byte is } */
    const char *model;   /* the target of that dialect; NULL when no provider speaks it */
} sides[FIELD_SURFACES] = {
    [FIELD_OPENAI] = {&dialect_openai,
                      "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
                      "openai/gpt-4o-mini"},
    [FIELD_ANTHROPIC] = {&dialect_anthropic,
                         "{\"model\":\"m\",\"max_tokens\":4000,\"messages\":[{\"role\":\"user\","
                         "\"content\":\"hi\"}]}",
                         "anthropic/claude-sonnet-4-5"},
    [FIELD_GOOGLE] = {&dialect_google,
                      "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]}]}",
                      "google/gemini-2.5-flash"},
    [FIELD_RESPONSES] = {NULL, "{\"model\":\"m\",\"input\":\"hi\"}", NULL},
};

struct sent {
    enum gw_err err;
    struct slice body, path;
    unsigned n_dropped;
};

static struct conf *shipped;
static struct registry *registry;
static struct arena *arena;

/* The minimal request with the sample's members in place of its own of the same names. */
static struct slice merged(const char *minimal, const char *sample)
{
    struct json base, extra, it;
    struct slice text;
    struct json_writer w;
    struct buf out;

    assert_int_equal(json_parse(arena, slice_cstr(minimal), NULL, &base, NULL), GW_OK);
    assert_int_equal(json_parse(arena, slice_cstr(sample), NULL, &extra, NULL), GW_OK);
    buf_init(&out, 1u << 20);
    json_writer_init(&w, &out);
    json_obj(&w);
    for (it = json_first(base); json_exists(it); it = json_next(base, it)) {
        char name[64];

        snprintf(name, sizeof(name), "%.*s", SLICE_ARG(json_key(it)));
        if (json_exists(json_get(extra, name)))
            continue;
        json_put_key_slice(&w, json_key(it));
        json_put_raw(&w, json_raw(it));
    }
    for (it = json_first(extra); json_exists(it); it = json_next(extra, it)) {
        json_put_key_slice(&w, json_key(it));
        json_put_raw(&w, json_raw(it));
    }
    json_obj_end(&w);
    text = arena_dup(arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

static struct sent send(enum field_dialect from, enum field_dialect to, struct slice request)
{
    struct convo_report in = {0}, rep = {0};
    struct dialect_request out = {0};
    struct registry_route route;
    struct sent s = {0};
    struct convo *c = NULL;
    struct slice why;
    struct json root;
    struct buf body;

    assert_int_equal(json_parse(arena, request, NULL, &root, NULL), GW_OK);
    assert_int_equal(registry_resolve(registry, arena, slice_cstr(sides[to].model), &route, &why),
                     GW_OK);
    s.err = from == FIELD_RESPONSES ? responses_decode_request(arena, root, &c, &in)
                                    : sides[from].dialect->decode_request(arena, root, &c, &in);
    if (s.err)
        return s;
    buf_init(&body, 1u << 20);
    out.body = &body;
    s.err = sides[to].dialect->encode_request(c, route.targets[0].model, &out, &rep);
    s.body = arena_dup(arena, buf_slice(&body));
    s.path = arena_dup(arena, out.path);
    s.n_dropped = in.n_dropped + rep.n_dropped;
    buf_deinit(&body);
    return s;
}

static bool row_is_passed(const struct field_row *row, unsigned to)
{
    return row->to[to] == FIELD_PASSED || row->to[to] == FIELD_OURS;
}

/* Does the row's path begin with this member? "messages[].name" with messages. Google's members of
 * generationConfig are rows of their own: "generationConfig.topK" with topK. */
static bool names_member(const char *path, struct slice name)
{
    static const char config[] = "generationConfig.";
    char after;

    if (strncmp(path, config, sizeof(config) - 1) == 0)
        path += sizeof(config) - 1;
    after = strlen(path) >= name.n ? path[name.n] : 'x';
    return strncmp(path, name.p, name.n) == 0 && (after == '\0' || strchr("[. ", after));
}

static bool same(const struct sent *a, const struct sent *b)
{
    return slice_eq(a->body, b->body) && slice_eq(a->path, b->path);
}

/* What became of the row's field; NULL when it is as the row says. */
static const char *fault(const struct field_row *row, enum field_dialect to)
{
    struct slice minimal = slice_cstr(sides[row->from].minimal);
    struct sent plain = send(row->from, to, minimal);
    struct sent s = send(row->from, to, merged(sides[row->from].minimal, row->sample));
    bool kept = row->to[to] == FIELD_CARRIED || row->to[to] == FIELD_TRANSLATED;

    assert_int_equal(plain.err, GW_OK);
    if (s.err)
        return row->to[to] == FIELD_REFUSED ? NULL : "was refused";
    if (row->to[to] == FIELD_REFUSED)
        return "was not refused";
    if (row->to[to] == FIELD_PARTLY)
        return s.n_dropped > plain.n_dropped && !same(&s, &plain) ? NULL
                                                                  : "was not translated partly";
    if (s.n_dropped > plain.n_dropped)
        return row->to[to] == FIELD_IGNORED ? NULL : "was dropped";
    if (row->to[to] == FIELD_IGNORED)
        return "was not named as dropped";
    if (kept && same(&s, &plain) && !strstr(row->path, "model"))
        return "was lost without a word";
    return NULL;
}

static void test_every_field_fares_as_its_row_says(void **state)
{
    unsigned n, i, faults = 0;
    const struct field_row *rows = fields_all(&n);

    (void)state;
    for (i = 0; i < n; i++) {
        for (unsigned to = 0; to < FIELD_DIALECTS; to++) {
            const char *what;

            if (row_is_passed(&rows[i], to))
                continue;
            what = fault(&rows[i], (enum field_dialect)to);
            if (what) {
                print_error("%s %s -> %s: %s, the table says %s\n",
                            rows[i].from == FIELD_RESPONSES ? "responses"
                                                            : sides[rows[i].from].dialect->name,
                            rows[i].path, sides[to].dialect->name, what,
                            field_fate_word(rows[i].to[to]));
                faults++;
            }
        }
    }
    assert_int_equal(faults, 0);
}

/* The vendors' own lists of request members (tests/sdk/fields.json, made from their packages). */
static void test_every_member_the_vendors_know_has_a_row(void **state)
{
    static const struct {
        enum field_dialect from;
        const char *package, *type;
    } lists[] = {
        {FIELD_OPENAI, "openai", "ChatCompletionCreateParamsBase"},
        {FIELD_RESPONSES, "openai", "ResponseCreateParamsBase"},
        {FIELD_ANTHROPIC, "@anthropic-ai/sdk", "MessageCreateParamsBase"},
        {FIELD_GOOGLE, "@google/genai", "GenerationConfig"},
    };
    char path[512];
    static char text[1u << 20];
    struct json root;
    unsigned n, missing = 0;
    const struct field_row *rows = fields_all(&n);
    FILE *f;
    size_t size;

    (void)state;
    snprintf(path, sizeof(path), "%s/tests/sdk/fields.json", getenv("POSTERN_SRC"));
    f = fopen(path, "rb");
    assert_non_null(f);
    size = fread(text, 1, sizeof(text), f);
    fclose(f);
    assert_int_equal(json_parse(arena, slice_of(text, size), NULL, &root, NULL), GW_OK);
    for (unsigned l = 0; l < sizeof(lists) / sizeof(lists[0]); l++) {
        static const char *const kinds[] = {"required", "optional"};
        struct json type =
            json_get(json_get(json_get(root, lists[l].package), "types"), lists[l].type);
        bool any = false;

        for (unsigned i = 0; i < n; i++)
            any |= rows[i].from == lists[l].from;
        assert_true(json_is(type, JSON_OBJECT));
        for (unsigned k = 0; any && k < 2; k++) {
            struct json names = json_get(type, kinds[k]), it;

            for (it = json_first(names); json_exists(it); it = json_next(names, it)) {
                struct slice name = json_str(it);
                unsigned i = 0;

                while (i < n &&
                       (rows[i].from != lists[l].from || !names_member(rows[i].path, name)))
                    i++;
                if (i == n) {
                    print_error("%s: no row for %.*s\n", lists[l].type, SLICE_ARG(name));
                    missing++;
                }
            }
        }
    }
    assert_int_equal(missing, 0);
}

static void test_the_documentation_is_the_table(void **state)
{
    static char text[1u << 20];
    char path[512];
    struct buf out;
    size_t size;
    FILE *f;

    (void)state;
    buf_init(&out, 1u << 20);
    fields_markdown(&out);
    snprintf(path, sizeof(path), "%s/deploy/docs/TRANSLATIONS.md", getenv("POSTERN_SRC"));
    f = fopen(path, "rb");
    assert_non_null(f);
    size = fread(text, 1, sizeof(text), f);
    fclose(f);
    if (!slice_eq(buf_slice(&out), slice_of(text, size)))
        fail_msg("run: postern fields > deploy/docs/TRANSLATIONS.md");
    buf_deinit(&out);
}

static int setup_all(void **state)
{
    static char dir[512];
    struct conf_source src = {.dir = dir};
    struct problems ps = {0};

    (void)state;
    snprintf(dir, sizeof(dir), "%s/conf", getenv("POSTERN_SRC"));
    setenv("OPENAI_API_KEY", "k", 1);
    setenv("ANTHROPIC_API_KEY", "k", 1);
    setenv("GOOGLE_API_KEY", "k", 1);
    shipped = conf_load(&src, &ps);
    registry = shipped ? registry_load(shipped, &ps) : NULL;
    arena = arena_create(256u << 20);
    problems_deinit(&ps);
    return registry && arena ? 0 : -1;
}

static int teardown_all(void **state)
{
    (void)state;
    arena = arena_destroy(arena);
    registry = registry_free(registry);
    conf_unref(shipped);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_fares_as_its_row_says),
        cmocka_unit_test(test_every_member_the_vendors_know_has_a_row),
        cmocka_unit_test(test_the_documentation_is_the_table),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
