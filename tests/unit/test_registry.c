/*
 * test_registry.c - reading models_registry.yaml, resolving names, pricing usage.
 */
#include "providers/registry.h"

#include "providers/convo.h"
#include "providers/dialect.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char source_root[PATH_MAX];

/* A configuration of defaults whose registry file is `text`. */
struct world {
    struct conf *conf;
    struct yaml *tree;
    struct problems ps;
    struct registry *r;
    struct arena *arena;
};

static int enter(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    clearenv();
    if (w)
        w->arena = arena_create(1u << 20);
    *state = w;
    return w && w->arena ? 0 : -1;
}

static void unload(struct world *w)
{
    registry_free(w->r);
    yaml_destroy(w->tree);
    conf_unref(w->conf);
    problems_deinit(&w->ps);
    w->r = NULL;
    w->tree = NULL;
    w->conf = NULL;
}

static int leave(void **state)
{
    struct world *w = *state;

    unload(w);
    arena_destroy(w->arena);
    free(w);
    return 0;
}

/* Nothing but defaults is read: the directory the tests run in is left alone. */
static const struct registry *load(struct world *w, const char *text)
{
    const struct conf_source src = {.dir = "/nonexistent"};

    unload(w);
    w->conf = conf_load(&src, &w->ps);
    assert_non_null(w->conf);
    problems_deinit(&w->ps); /* that there is no directory */
    if (text) {
        w->tree = yaml_parse(slice_cstr(text), "models_registry.yaml", &w->ps);
        assert_non_null(w->tree);
        w->conf->models = w->tree;
    }
    w->r = registry_load(w->conf, &w->ps);
    assert_non_null(w->r);
    return w->r;
}

static void expect_printed(const struct problems *ps, const char *expected)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    problems_print(ps, f);
    fclose(f);
    assert_string_equal(text, expected);
    free(text);
}

static const struct registry *load_clean(struct world *w, const char *text)
{
    load(w, text);
    expect_printed(&w->ps, "");
    return w->r;
}

static void expect_problems(struct world *w, const char *text, const char *expected)
{
    load(w, text);
    expect_printed(&w->ps, expected);
}

static struct slice as_text(struct slice s)
{
    return s.p ? s : SLICE("");
}

/* "openai/a*3 openai/b*1", or "!why". */
static void expect_route(struct world *w, const char *name, const char *expected)
{
    struct registry_route route = {0};
    struct slice why = SLICE_NONE;
    char got[600] = "";
    size_t n = 0;
    unsigned i;
    enum gw_err err = registry_resolve(w->r, w->arena, slice_cstr(name), &route, &why);

    if (err) {
        assert_int_equal(err, GW_EMODEL);
        snprintf(got, sizeof(got), "!%.*s", SLICE_ARG(why));
    }
    for (i = 0; i < route.n_targets && !err; i++)
        n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%.*s*%u", i ? " " : "",
                              SLICE_ARG(as_text(route.targets[i].model->id)),
                              route.targets[i].weight);
    assert_string_equal(got, expected);
}

static const struct registry_model *model_of(struct world *w, const char *name)
{
    struct registry_route route = {0};
    struct slice why = SLICE_NONE;

    assert_int_equal(registry_resolve(w->r, w->arena, slice_cstr(name), &route, &why), GW_OK);
    assert_int_equal(route.n_targets, 1);
    return route.targets[0].model;
}

/* --- providers -------------------------------------------------------------------------------- */

static void test_without_a_file_the_five_built_in_providers_are_there(void **state)
{
    struct world *w = *state;
    const struct registry *r;
    const struct registry_provider *p;
    unsigned n = 0;

    setenv("GROQ_API_KEY", "gk", 1);
    r = load_clean(w, NULL);
    for (p = r->providers; p; p = p->next) {
        n++;
        assert_true(p->open_models);
        assert_non_null(p->dialect);
        assert_int_equal(p->breaker.failure_threshold, 5);
        assert_true(p->breaker.recovery_us == 60000000u);
        assert_int_equal(p->breaker.probes, 1);
    }
    assert_int_equal(n, 5);
    assert_false(registry_provider(r, SLICE("openai"))->enabled);
    assert_true(registry_provider(r, SLICE("openai"))->use_max_completion_tokens);
    assert_true(registry_provider(r, SLICE("groq"))->enabled);
    assert_true(registry_provider(r, SLICE("ollama"))->enabled);
    assert_true(
        slice_is(registry_provider(r, SLICE("ollama"))->base_url, "http://127.0.0.1:11434/v1"));
    assert_true(slice_is(registry_provider(r, SLICE("google"))->base_url,
                         "https://generativelanguage.googleapis.com"));
    assert_null(registry_provider(r, SLICE("Openai")));
    expect_route(w, "groq/any/model", "groq/any/model*1");
    expect_route(w, "openai/gpt-4o", "!the provider openai has no key set");
}

static void test_a_base_url_of_the_environment_replaces_the_files_and_gets_its_path(void **state)
{
    static const struct {
        const char *env, *url;
    } rows[] = {{"http://127.0.0.1:9", "http://127.0.0.1:9/v1"},
                {"http://127.0.0.1:9/", "http://127.0.0.1:9/v1"},
                {"http://127.0.0.1:9/x/", "http://127.0.0.1:9/x"},
                {"https://h//", "https://h/v1"}};
    struct world *w = *state;
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        setenv("OLLAMA_BASE_URL", rows[i].env, 1);
        load_clean(w, NULL);
        assert_true(slice_is(registry_provider(w->r, SLICE("ollama"))->base_url, rows[i].url));
    }
    setenv("OLLAMA_BASE_URL", "ftp://x", 1);
    expect_problems(w, NULL,
                    "OLLAMA_BASE_URL: not an http:// or https:// URL without user and query\n");
    assert_false(registry_provider(w->r, SLICE("ollama"))->enabled);
}

static void test_any_openai_compatible_host_is_added_by_configuration_alone(void **state)
{
    struct world *w = *state;
    const struct registry_provider *p;

    setenv("MY_KEY", "k", 1);
    load_clean(w, "providers:\n"
                  "  my-host:\n"
                  "    dialect: openai\n"
                  "    base_url: https://llm.example:8443/api/v1/\n"
                  "    api_key_env: MY_KEY\n"
                  "    headers: {X-Team: blue, x-n: 5}\n"
                  "    max_tokens_field: max_completion_tokens\n"
                  "    open_models: false\n"
                  "    embeddings: false\n"
                  "    circuit_breaker: {failure_threshold: 2, recovery_timeout_s: 7}\n"
                  "models:\n"
                  "  - id: my-host/big\n");
    p = w->r->providers;
    assert_null(p->next);
    assert_string_equal(p->name, "my-host");
    assert_ptr_equal(p->dialect, dialect_find(SLICE("openai")));
    assert_true(slice_is(p->base_url, "https://llm.example:8443/api/v1"));
    assert_true(slice_is(p->api_key, "k"));
    assert_int_equal(p->n_headers, 2);
    assert_true(slice_is(p->headers[0].name, "X-Team") && slice_is(p->headers[1].value, "5"));
    assert_true(p->use_max_completion_tokens);
    assert_false(p->has_embeddings);
    assert_int_equal(p->breaker.failure_threshold, 2);
    assert_true(p->breaker.recovery_us == 7000000u);
    assert_int_equal(p->breaker.probes, 1);
    expect_route(w, "my-host/big", "my-host/big*1");
    expect_route(w, "my-host/other",
                 "!the model my-host/other is not listed, and its provider "
                 "takes listed models only");
}

static void test_a_key_sent_in_the_clear_is_warned_of_except_to_this_machine(void **state)
{
    struct world *w = *state;

    setenv("OPENAI_API_KEY", "geheim", 1);
    setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", 1);
    load_clean(w, NULL);
    setenv("OPENAI_BASE_URL", "http://10.0.0.9/v1", 1);
    expect_problems(w, NULL,
                    "warning: OPENAI_API_KEY is sent to provider openai in the clear (http://)\n");
}

static void test_every_problem_of_providers_is_listed_with_its_line(void **state)
{
    expect_problems(
        *state,
        "providers:\n"
        "  Bad Name: {dialect: openai}\n"
        "  a: {base_url: 'https://h', key_optional: true}\n"
        "  b: {dialect: smtp, base_url: 'https://h', key_optional: true}\n"
        "  c: {dialect: openai, key_optional: true}\n"
        "  d:\n"
        "    dialect: openai\n"
        "    base_url: https://user:pw@h/\n"
        "    api_key_env: not-a-name\n"
        "    key_optional: true\n"
        "    base_path: v1\n"
        "    typo: 1\n"
        "    max_tokens_field: tokens\n"
        "    headers:\n"
        "      Authorization: x\n"
        "      'bad name': x\n"
        "      ok: \"a\\nb\"\n"
        "    circuit_breaker: {failure_threshold: 0, nope: 1}\n"
        "  e: {dialect: google, base_url: 'https://h'}\n"
        "  f: 5\n",
        "models_registry.yaml:2: \"Bad Name\" is no name for a provider: a-z, 0-9, - and _ only\n"
        "models_registry.yaml:3: provider \"a\" has no dialect\n"
        "models_registry.yaml:4: dialect: one of openai anthropic google expected, not \"smtp\"\n"
        "models_registry.yaml:5: provider \"c\" has no base_url\n"
        "models_registry.yaml:6: base_url: not an http:// or https:// URL without user and query\n"
        "models_registry.yaml:9: api_key_env: the NAME of an environment variable expected\n"
        "models_registry.yaml:11: base_path: a path as /v1 expected\n"
        "models_registry.yaml:12: unknown key \"typo\"\n"
        "models_registry.yaml:13: max_tokens_field: one of max_tokens max_completion_tokens "
        "expected, not \"tokens\"\n"
        "models_registry.yaml:15: headers: \"Authorization\" cannot be set here\n"
        "models_registry.yaml:16: headers: \"bad name\" cannot be set here\n"
        "models_registry.yaml:17: headers: the value of \"ok\" holds control characters or is too "
        "long\n"
        "models_registry.yaml:18: failure_threshold: 0 is out of range (1 to 1000)\n"
        "models_registry.yaml:18: unknown key \"nope\"\n"
        "models_registry.yaml:19: provider \"e\" needs api_key_env, or key_optional: true\n"
        "models_registry.yaml:20: f: a map of keys and values expected, not a single value\n");
}

/* --- models ----------------------------------------------------------------------------------- */

static void test_a_model_is_read_with_all_its_fields(void **state)
{
    struct world *w = *state;
    const struct registry_model *m;

    setenv("OPENAI_API_KEY", "k", 1);
    load_clean(w,
               "models:\n"
               "  - id: openai/org/m-1\n"
               "    context_tokens: 1000\n"
               "    max_output_tokens: 10\n"
               "    capabilities: [vision, pdf, tools, json_schema, reasoning, embeddings, audio]\n"
               "    prices: {input: 0.15, output: 12, cache_read: 0.0375}\n"
               "    quirks: [adaptive_thinking]\n"
               "  - id: openai/m-2\n");
    m = model_of(w, "openai/org/m-1");
    assert_true(m->listed);
    assert_true(slice_is(m->name, "org/m-1"));
    assert_int_equal(m->context_tokens, 1000);
    assert_int_equal(m->max_output_tokens, 10);
    assert_int_equal(m->capabilities, 127);
    assert_int_equal(m->pico_usd.input, 150000);
    assert_int_equal(m->pico_usd.output, 12000000);
    assert_int_equal(m->pico_usd.cache_read, 37500);
    assert_int_equal(m->pico_usd.cache_write, -1);
    assert_true(registry_has_quirk(m, "adaptive_thinking"));
    assert_false(registry_has_quirk(m, "no_sampling"));
    m = model_of(w, "m-2");
    assert_int_equal(m->context_tokens, 0);
    assert_int_equal(m->capabilities, 0);
    assert_int_equal(m->pico_usd.input, -1);
    m = model_of(w, "openai/unlisted");
    assert_false(m->listed);
    assert_int_equal(m->capabilities, 127);
    assert_int_equal(m->pico_usd.output, -1);
    assert_true(slice_is(m->name, "unlisted"));
}

static void test_every_problem_of_models_is_listed_with_its_line(void **state)
{
    expect_problems(
        *state,
        "models:\n"
        "  - id: openai/a\n"
        "  - id: nobody/a\n"
        "  - id: no-slash\n"
        "  - id: openai/../x\n"
        "  - context_tokens: 0\n"
        "  - id: openai/a\n"
        "  - id: openai/b\n"
        "    capabilities: [telepathy]\n"
        "    quirks: [odd]\n"
        "    prices: {input: 0.0000001, output: -1, cash: 1}\n"
        "  - 5\n",
        "models_registry.yaml:3: id: there is no provider \"nobody\"\n"
        "models_registry.yaml:4: id: provider/model expected, not \"no-slash\"\n"
        "models_registry.yaml:5: id: provider/model expected, not \"openai/../x\"\n"
        "models_registry.yaml:6: a model without id\n"
        "models_registry.yaml:6: context_tokens: 0 is out of range (1 to 1000000000)\n"
        "models_registry.yaml:7: model \"openai/a\" again, first on line 2\n"
        "models_registry.yaml:9: unknown capability \"telepathy\"\n"
        "models_registry.yaml:10: unknown quirk \"odd\"\n"
        "models_registry.yaml:11: input: a price has at most 6 decimal places\n"
        "models_registry.yaml:11: output: a decimal number below 1000000000 with at most 9 places "
        "expected, not \"-1\"\n"
        "models_registry.yaml:11: unknown key \"cash\"\n"
        "models_registry.yaml:12: item: a map of keys and values expected, not a single value\n");
}

static void test_a_bare_name_is_taken_when_one_reachable_model_has_it(void **state)
{
    struct world *w = *state;
    static const char text[] = "models:\n  - id: openai/shared\n  - id: groq/shared\n"
                               "  - id: groq/org/solo\n  - id: anthropic/locked\n";

    setenv("OPENAI_API_KEY", "k", 1);
    load_clean(w, text);
    expect_route(w, "shared", "openai/shared*1");
    expect_route(w, "locked", "!the provider of the model locked has no key set");
    expect_route(w, "nothing", "!there is no model or alias nothing; name it as provider/model");
    expect_route(w, "", "!there is no model or alias ; name it as provider/model");
    expect_route(w, "unknown/x",
                 "!there is no model or alias unknown/x; name it as "
                 "provider/model");
    setenv("GROQ_API_KEY", "k", 1);
    load_clean(w, text);
    expect_route(w, "shared", "!several providers have a model shared; name it as provider/model");
    expect_route(w, "org/solo", "groq/org/solo*1");
}

static const struct registry_model *made_up(struct world *w, const char *name)
{
    static struct registry_route route;
    struct slice why;

    assert_int_equal(registry_resolve(w->r, w->arena, slice_cstr(name), &route, &why), GW_OK);
    assert_false(route.targets[0].model->listed);
    return route.targets[0].model;
}

static void test_unlisted_models_have_the_quirks_of_the_longest_prefix(void **state)
{
    struct world *w = *state;

    setenv("ANTHROPIC_API_KEY", "k", 1);
    load_clean(w, "providers:\n"
                  "  anthropic:\n"
                  "    dialect: anthropic\n"
                  "    base_url: https://a.example\n"
                  "    api_key_env: ANTHROPIC_API_KEY\n"
                  "    unlisted:\n"
                  "      claude-: [no_sampling]\n"
                  "      claude-3: []\n"
                  "models:\n"
                  "  - id: anthropic/claude-4\n"
                  "    quirks: [native_schema]\n");
    assert_true(registry_has_quirk(made_up(w, "anthropic/claude-9"), "no_sampling"));
    assert_int_equal(made_up(w, "anthropic/claude-3-haiku")->n_quirks, 0);
    assert_true(registry_has_quirk(made_up(w, "anthropic/claude-4-20261101"), "native_schema"));
    assert_false(registry_has_quirk(made_up(w, "anthropic/claude-4-20261101"), "no_sampling"));
    assert_int_equal(made_up(w, "anthropic/other")->n_quirks, 0);
}

static void test_names_that_could_change_a_url_are_never_passed_on(void **state)
{
    static const char *const bad[] = {"openai/..",   "openai/a/../b",   "openai/a?x", "openai/a#b",
                                      "openai/a b",  "openai/a%2f",     "openai//a",  "openai/",
                                      "openai/a\nb", "openai/\xc3\xa9", "openai/a/"};
    struct world *w = *state;
    size_t i;

    setenv("OPENAI_API_KEY", "k", 1);
    load_clean(w, NULL);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_route(w, bad[i], "!a model name may hold letters, digits and -._:/@+~=, only");
    expect_route(w, "openai/ft:gpt-4o:org::id+1@x", "openai/ft:gpt-4o:org::id+1@x*1");
}

static void test_an_answer_never_cuts_a_character_in_two(void **state)
{
    struct world *w = *state;
    char name[201];
    struct registry_route route;
    struct slice why = SLICE_NONE;
    size_t i;

    name[0] = 'x';
    for (i = 1; i < 199; i += 2)
        memcpy(name + i, "\xc3\xa9", 2);
    load_clean(w, NULL);
    assert_int_equal(registry_resolve(w->r, w->arena, slice_of(name, 199), &route, &why),
                     GW_EMODEL);
    assert_memory_equal(why.p, "there is no model or alias x\xc3\xa9", 30);
    assert_non_null(memmem(why.p, why.n, "\xc3\xa9; name", 8));
}

/* --- aliases ---------------------------------------------------------------------------------- */

static void test_an_alias_gives_its_reachable_targets_in_order(void **state)
{
    struct world *w = *state;
    static const char text[] = "models:\n  - id: openai/a\n"
                               "aliases:\n"
                               "  - name: mix\n"
                               "    strategy: weighted\n"
                               "    targets:\n"
                               "      - {model: groq/free, weight: 3}\n"
                               "      - {model: openai/a}\n"
                               "  - name: a\n"
                               "    targets: [{model: openai/a}]\n";
    struct registry_route route = {0};
    struct slice why = SLICE_NONE;

    load_clean(w, text);
    expect_route(w, "mix", "!no provider of the alias mix has its key set");
    setenv("GROQ_API_KEY", "k", 1);
    load_clean(w, text);
    expect_route(w, "mix", "groq/free*3");
    setenv("OPENAI_API_KEY", "k", 1);
    load_clean(w, text);
    expect_route(w, "mix", "groq/free*3 openai/a*1");
    expect_route(w, "a", "openai/a*1");
    assert_int_equal(registry_resolve(w->r, w->arena, SLICE("mix"), &route, &why), GW_OK);
    assert_int_equal(route.strategy, SELECT_WEIGHTED);
    assert_int_equal(registry_resolve(w->r, w->arena, SLICE("a"), &route, &why), GW_OK);
    assert_int_equal(route.strategy, SELECT_PRIORITY);
}

static void test_every_problem_of_aliases_is_listed_with_its_line(void **state)
{
    expect_problems(
        *state,
        "providers:\n"
        "  shut: {dialect: openai, base_url: 'https://h', key_optional: true, open_models: false}\n"
        "aliases:\n"
        "  - name: a\n"
        "    strategy: random\n"
        "    targets: [{model: nobody/x}, {model: bare}, {weight: 0}, {model: shut/x}]\n"
        "  - targets: []\n"
        "  - name: 'b c'\n"
        "    targets: 5\n",
        "models_registry.yaml:5: strategy: one of priority weighted least-latency cheapest "
        "expected, not \"random\"\n"
        "models_registry.yaml:6: target: provider/model of a provider of this file expected, not "
        "\"nobody/x\"\n"
        "models_registry.yaml:6: target: provider/model of a provider of this file expected, not "
        "\"bare\"\n"
        "models_registry.yaml:6: weight: 0 is out of range (1 to 1000000)\n"
        "models_registry.yaml:6: a target without model\n"
        "models_registry.yaml:6: target: \"shut/x\" is not listed, and its provider takes listed "
        "models only\n"
        "models_registry.yaml:7: an alias without name\n"
        "models_registry.yaml:7: an alias without targets\n"
        "models_registry.yaml:8: name: letters, digits and -._:/@+~=, only, not \"b c\"\n"
        "models_registry.yaml:9: targets: a list expected, not a single value\n");
}

static void test_an_alias_twice_and_too_many_targets_are_refused(void **state)
{
    char text[2048];
    size_t n;
    unsigned i;

    n = (size_t)snprintf(text, sizeof(text),
                         "aliases:\n  - name: a\n    targets: [{model: ollama/x}]\n"
                         "  - name: a\n    targets:\n");
    for (i = 0; i < REGISTRY_MAX_TARGETS + 1; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "      - {model: ollama/m%u}\n", i);
    expect_problems(*state, text,
                    "models_registry.yaml:4: alias \"a\" again, first on line 2\n"
                    "models_registry.yaml:5: targets: more than 16\n");
}

static void test_fallbacks_are_appended_once_and_bounded(void **state)
{
    struct world *w = *state;
    struct registry_route route = {0};
    struct slice why = SLICE_NONE;
    char name[32];
    unsigned i;

    setenv("GROQ_API_KEY", "k", 1);
    load_clean(w, "aliases:\n  - name: two\n    strategy: cheapest\n"
                  "    targets: [{model: groq/x}, {model: ollama/y}]\n");
    assert_int_equal(registry_resolve(w->r, w->arena, SLICE("groq/x"), &route, &why), GW_OK);
    assert_int_equal(registry_append(w->r, w->arena, SLICE("two"), &route, &why), GW_OK);
    assert_int_equal(route.n_targets, 2);
    assert_int_equal(route.strategy, SELECT_PRIORITY);
    assert_true(slice_is(route.targets[1].model->id, "ollama/y"));
    assert_int_equal(registry_append(w->r, w->arena, SLICE("openai/z"), &route, &why), GW_EMODEL);
    assert_true(slice_is(why, "the provider openai has no key set"));
    assert_int_equal(route.n_targets, 2);
    for (i = 0; i < 2 * REGISTRY_MAX_TARGETS; i++) {
        snprintf(name, sizeof(name), "ollama/m%u", i);
        assert_int_equal(registry_append(w->r, w->arena, slice_cstr(name), &route, &why), GW_OK);
    }
    assert_int_equal(route.n_targets, REGISTRY_MAX_TARGETS);
    assert_int_equal(registry_resolve(w->r, w->arena, SLICE("two"), &route, &why), GW_OK);
    assert_int_equal(registry_append(w->r, w->arena, SLICE("ollama/z"), &route, &why), GW_OK);
    assert_int_equal(route.strategy, SELECT_CHEAPEST);
}

/* --- cost ------------------------------------------------------------------------------------- */

static void test_cost_is_exact_and_unknown_when_a_needed_price_is(void **state)
{
    struct registry_model m = {.pico_usd = {150000, 600000, 37500, -1}};
    struct convo_usage u = {.known = true, .input = 1000, .output = 100, .cache_read = 1};

    /* 999 * 150 + 37.5 + 100 * 600 nano-USD, and the half is rounded up */
    assert_int_equal(registry_cost(&m, &u), 999 * 150 + 38 + 60000);
    u.cache_write = 1;
    assert_int_equal(registry_cost(&m, &u), -1);
    m.pico_usd.cache_write = 1000000;
    assert_int_equal(registry_cost(&m, &u), 998 * 150 + 38 + 1000 + 60000);
    u.known = false;
    assert_int_equal(registry_cost(&m, &u), -1);
}

static void test_cost_needs_no_price_for_what_was_not_used(void **state)
{
    struct registry_model m = {.pico_usd = {20000, -1, -1, -1}};
    struct convo_usage u = {.known = true, .input = 10};

    assert_int_equal(registry_cost(&m, &u), 200);
    u.output = 1;
    assert_int_equal(registry_cost(&m, &u), -1);
    u = (struct convo_usage){.known = true};
    assert_int_equal(registry_cost(&m, &u), 0);
}

static void test_absurd_usage_has_no_cost_instead_of_an_overflow(void **state)
{
    struct registry_model m = {.pico_usd = {150000, 600000, 75000, 0}};
    struct convo_usage u = {.known = true, .input = UINT64_MAX, .output = UINT64_MAX};

    assert_int_equal(registry_cost(&m, &u), -1);
    /* more cached tokens than tokens: the cached ones are priced, nothing goes below zero */
    u = (struct convo_usage){.known = true, .input = 5, .cache_read = 10};
    assert_int_equal(registry_cost(&m, &u), 750);
}

static void test_the_price_version_follows_prices_and_not_their_order(void **state)
{
    struct world *w = *state;
    char first[17];

    load_clean(w, "models:\n  - {id: ollama/a, prices: {input: 1}}\n  - {id: ollama/b}\n");
    assert_int_equal(strlen(w->r->price_version), 16);
    strcpy(first, w->r->price_version);
    load_clean(w, "models:\n  - {id: ollama/b}\n  - {id: ollama/a, prices: {input: 1.0}}\n");
    assert_string_equal(w->r->price_version, first);
    load_clean(w, "models:\n  - {id: ollama/b}\n  - {id: ollama/a, prices: {input: 1.1}}\n");
    assert_string_not_equal(w->r->price_version, first);
}

/* --- the shipped file ------------------------------------------------------------------------- */

static void test_the_shipped_registry_is_valid_and_every_alias_resolves(void **state)
{
    static const char *const keys[] = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY",
                                       "GROQ_API_KEY"};
    struct world *w = *state;
    char dir[PATH_MAX + 16];
    const struct registry_alias *alias;
    const struct registry_model *m;
    unsigned n_aliases = 0, n_models = 0;
    size_t i;

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        setenv(keys[i], "k", 1);
    snprintf(dir, sizeof(dir), "%s/conf", source_root);
    w->conf = conf_load(&(struct conf_source){.dir = dir}, &w->ps);
    w->r = registry_load(w->conf, &w->ps);
    expect_printed(&w->ps, "");
    for (alias = w->r->aliases; alias; alias = alias->next) {
        struct registry_route route = {0};
        struct slice why = SLICE_NONE;

        assert_int_equal(registry_resolve(w->r, w->arena, alias->name, &route, &why), GW_OK);
        assert_int_equal(route.n_targets, alias->n_targets);
        for (i = 0; i < route.n_targets; i++)
            assert_true(route.targets[i].model->listed);
        n_aliases++;
    }
    for (m = w->r->models; m; m = m->next) {
        assert_true(m->capabilities != 0);
        n_models++;
    }
    assert_true(n_aliases >= 4 && n_models >= 20);
    assert_int_equal(model_of(w, "gpt-4o")->pico_usd.input, 2500000);
    for (i = 0; i < 5; i++) {
        static const char *const names[] = {"openai", "anthropic", "google", "groq", "ollama"};

        assert_true(registry_provider(w->r, slice_cstr(names[i]))->enabled);
    }
    assert_true(
        slice_is(registry_provider(w->r, SLICE("ollama"))->base_url, "http://127.0.0.1:11434/v1"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_without_a_file_the_five_built_in_providers_are_there),
        T(test_a_base_url_of_the_environment_replaces_the_files_and_gets_its_path),
        T(test_any_openai_compatible_host_is_added_by_configuration_alone),
        T(test_a_key_sent_in_the_clear_is_warned_of_except_to_this_machine),
        T(test_every_problem_of_providers_is_listed_with_its_line),
        T(test_a_model_is_read_with_all_its_fields),
        T(test_every_problem_of_models_is_listed_with_its_line),
        T(test_a_bare_name_is_taken_when_one_reachable_model_has_it),
        T(test_unlisted_models_have_the_quirks_of_the_longest_prefix),
        T(test_names_that_could_change_a_url_are_never_passed_on),
        T(test_an_answer_never_cuts_a_character_in_two),
        T(test_an_alias_gives_its_reachable_targets_in_order),
        T(test_every_problem_of_aliases_is_listed_with_its_line),
        T(test_an_alias_twice_and_too_many_targets_are_refused),
        T(test_fallbacks_are_appended_once_and_bounded),
        T(test_cost_is_exact_and_unknown_when_a_needed_price_is),
        T(test_cost_needs_no_price_for_what_was_not_used),
        T(test_absurd_usage_has_no_cost_instead_of_an_overflow),
        T(test_the_price_version_follows_prices_and_not_their_order),
        T(test_the_shipped_registry_is_valid_and_every_alias_resolves),
    };
    const char *root = getenv("POSTERN_SRC");

    if (!realpath(root ? root : ".", source_root))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
