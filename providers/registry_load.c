/*
 * registry_load.c - reads conf/models_registry.yaml into a registry (registry.h).
 *
 * What cannot be used is a problem and left out, so that all problems are listed in one pass. Texts
 * are borrowed from the tree, which the configuration snapshot owns.
 */
#include "providers/registry_private.h"

#include "gateway/core/hex.h"
#include "providers/dialect.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define ARENA_MAX_BYTES (64u * 1024u * 1024u)
#define MAX_TOKENS 1000000000
#define MAX_WEIGHT 1000000
#define NANO_PER_PICO                                                                              \
    1000 /* a price read as nano-USD per million tokens is 1000 times its pico-USD per token */

struct load {
    struct registry *r;
    const struct conf *conf;
    struct problems *ps;
    bool no_memory;
};

static const struct {
    const char *word;
    unsigned bit;
} capabilities[] = {
    {"vision", REGISTRY_CAN_VISION},       {"pdf", REGISTRY_CAN_PDF},
    {"tools", REGISTRY_CAN_TOOLS},         {"json_schema", REGISTRY_CAN_SCHEMA},
    {"reasoning", REGISTRY_CAN_REASONING}, {"audio", REGISTRY_CAN_AUDIO},
    {"embeddings", REGISTRY_CAN_EMBED},
};

static const struct {
    const char *name, *dialect, *base_url, *base_path, *base_url_env, *api_key_env;
    bool key_optional, embeddings, max_completion_tokens;
} built_in[] = {
    {"openai", "openai", "https://api.openai.com/v1", "/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY",
     false, true, true},
    {"anthropic", "anthropic", "https://api.anthropic.com", "", "ANTHROPIC_BASE_URL",
     "ANTHROPIC_API_KEY", false, false, false},
    {"google", "google", "https://generativelanguage.googleapis.com", "", "GOOGLE_BASE_URL",
     "GOOGLE_API_KEY", false, true, false},
    {"groq", "openai", "https://api.groq.com/openai/v1", "/openai/v1", "GROQ_BASE_URL",
     "GROQ_API_KEY", false, false, false},
    {"ollama", "openai", "http://127.0.0.1:11434", "/v1", "OLLAMA_BASE_URL", "", true, true, false},
};

/* --- small readers ---------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void complain(struct load *l, const struct yaml *y,
                                                           const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    problems_add(l->ps, y->file, y->line, "%s", text);
}

static struct slice read_text(struct load *l, const struct yaml *map, const char *key)
{
    struct slice s = SLICE_NONE;

    yaml_read_str(yaml_get(map, key), &s, l->ps);
    return s;
}

static bool read_flag(struct load *l, const struct yaml *map, const char *key, bool otherwise)
{
    yaml_read_bool(yaml_get(map, key), &otherwise, l->ps);
    return otherwise;
}

static int64_t read_number(struct load *l, const struct yaml *map, const char *key, int64_t min,
                           int64_t max, int64_t otherwise)
{
    yaml_read_int(yaml_get(map, key), min, max, &otherwise, l->ps);
    return otherwise;
}

/* A list entry that must be a map; else a problem and false. */
static bool is_map(struct load *l, const struct yaml *y)
{
    if (y->kind != YAML_MAP)
        yaml_items(y, YAML_MAP, false, l->ps);
    return y->kind == YAML_MAP;
}

static unsigned count(const struct yaml *y)
{
    unsigned n = 0;

    for (; y; y = y->next)
        n++;
    return n;
}

/* --- providers -------------------------------------------------------------------------------- */

/* Providers name metrics labels and keys in Redis: plain words only. */
static bool is_provider_name(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return s.n > 0 && s.n <= 64;
}

static bool is_env_name(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'A' && c <= 'Z') || c == '_' || (i > 0 && c >= '0' && c <= '9')))
            return false;
    }
    return s.n > 0 && s.n <= 100;
}

/* http(s)://host[:port][/path], printable, without user, query or fragment. */
static bool is_base_url(struct slice s)
{
    size_t from = slice_starts(s, "https://") ? 8 : slice_starts(s, "http://") ? 7 : 0, i;

    if (from == 0 || s.n <= from || s.n > 2048 || s.p[from] == '/' || s.p[from] == ':')
        return false;
    for (i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f ||
            memchr("@?#\\\"<>", s.p[i], 7))
            return false;
    }
    return true;
}

static bool is_loopback(struct slice url)
{
    struct slice host = slice_from(url, 7);

    return slice_starts(host, "127.") || slice_starts(host, "localhost") ||
           slice_starts(host, "[::1]");
}

/* Without slashes at the end, and with `path` after it if it has no path of its own. */
static void set_path(struct load *l, struct registry_provider *p, struct slice path)
{
    struct slice authority;

    while (p->base_url.n && p->base_url.p[p->base_url.n - 1] == '/')
        p->base_url.n--;
    authority = slice_from(p->base_url, slice_starts(p->base_url, "https://") ? 8 : 7);
    if (path.n == 0 || authority.n == 0 || slice_find(authority, '/') < authority.n)
        return;
    p->base_url = arena_printf(l->r->arena, "%.*s%.*s", SLICE_ARG(p->base_url), SLICE_ARG(path));
    l->no_memory |= !p->base_url.p;
}

/* The URL from its environment name, else as given. `y` may be NULL (built-in). */
static void set_base_url(struct load *l, struct registry_provider *p, const struct yaml *y,
                         struct slice url, struct slice env)
{
    struct slice from_env = env.n ? conf_env(l->conf, env.p, l->ps) : SLICE_NONE;

    if (from_env.n && !is_base_url(from_env))
        problems_add(l->ps, "", 0, "%.100s: not an http:// or https:// URL without user and query",
                     env.p);
    if (y && url.n && !is_base_url(url))
        complain(l, y, "base_url: not an http:// or https:// URL without user and query");
    else if (y && !url.n && !from_env.n)
        complain(l, y, "provider \"%.64s\" has no base_url", p->name);
    p->base_url = from_env.n ? from_env : url;
    if (!is_base_url(p->base_url))
        p->base_url = SLICE_NONE;
}

/* What is put after a base URL that has no path: "/v1", or nothing. */
static struct slice read_base_path(struct load *l, const struct yaml *y)
{
    struct slice s = SLICE_NONE;
    size_t i;

    if (!yaml_read_str(y, &s, l->ps) || s.n == 0)
        return SLICE_NONE;
    for (i = 0; i < s.n && s.n <= 256; i++) {
        if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f ||
            memchr("@?#\\\"<>", s.p[i], 7))
            break;
    }
    if (i < s.n || s.p[0] != '/' || s.p[s.n - 1] == '/') {
        complain(l, y, "base_path: a path as /v1 expected");
        return SLICE_NONE;
    }
    return s;
}

static void set_key(struct load *l, struct registry_provider *p, struct slice env)
{
    if (env.n)
        p->api_key = conf_env(l->conf, env.p, l->ps);
    p->enabled = p->base_url.n > 0 && (p->api_key.n > 0 || p->key_optional);
    if (p->api_key.n && slice_starts(p->base_url, "http://") && !is_loopback(p->base_url))
        problems_warn(l->ps, "", 0, "%.100s is sent to provider %.64s in the clear (http://)",
                      env.p, p->name);
}

static void set_breaker(struct load *l, struct registry_provider *p, const struct yaml *y)
{
    const struct conf *c = l->conf;

    yaml_items(y, YAML_MAP, false, l->ps);
    p->breaker.failure_threshold =
        (unsigned)read_number(l, y, "failure_threshold", 1, 1000, c->breaker_failures);
    p->breaker.recovery_us =
        (uint64_t)read_number(l, y, "recovery_timeout_s", 1, 86400, c->breaker_recovery_s) *
        1000000u;
    p->breaker.probes =
        (unsigned)read_number(l, y, "half_open_max_calls", 1, 100, c->breaker_probes);
}

/* Field names of RFC 9110; those that frame the message or carry the credential are ours to write.
 */
static bool is_header_name(struct slice s)
{
    static const char *const ours[] = {"host",       "content-length", "transfer-encoding",
                                       "connection", "content-type",   "authorization",
                                       "x-api-key",  "x-goog-api-key", "accept-encoding",
                                       "expect",     "upgrade",        "te",
                                       "trailer",    "keep-alive",     "proxy-authorization"};
    size_t i;

    for (i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (slice_is_nocase(s, ours[i]))
            return false;
    }
    for (i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              memchr("!#$%&'*+-.^_`|~", c, 15)))
            return false;
    }
    return s.n > 0 && s.n <= 100;
}

static bool is_header_value(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    }
    return s.n <= 4096;
}

static void set_headers(struct load *l, struct registry_provider *p, const struct yaml *y)
{
    const struct yaml *i = yaml_items(y, YAML_MAP, true, l->ps);
    struct registry_header *headers;
    unsigned n = count(i);

    if (n > REGISTRY_MAX_HEADERS)
        complain(l, y, "headers: more than %u", REGISTRY_MAX_HEADERS);
    if (n == 0 || n > REGISTRY_MAX_HEADERS)
        return;
    headers = arena_array(l->r->arena, struct registry_header, n);
    l->no_memory |= !headers;
    for (; i && headers; i = i->next) {
        struct slice value = SLICE_NONE;

        if (!yaml_read_str(i, &value, l->ps))
            continue;
        if (!is_header_name(i->key))
            complain(l, i, "headers: \"%.100s\" cannot be set here", i->key.p);
        else if (!is_header_value(value))
            complain(l, i,
                     "headers: the value of \"%.100s\" holds control characters or is too long",
                     i->key.p);
        else
            headers[p->n_headers++] = (struct registry_header){i->key, value};
    }
    p->headers = headers;
}

static void set_max_tokens_field(struct load *l, struct registry_provider *p, const struct yaml *y)
{
    struct slice s = SLICE("max_tokens");

    if (!yaml_read_str(y, &s, l->ps))
        return;
    p->use_max_completion_tokens = slice_is(s, "max_completion_tokens");
    if (!p->use_max_completion_tokens && !slice_is(s, "max_tokens"))
        complain(l, y,
                 "max_tokens_field: one of max_tokens max_completion_tokens expected, not "
                 "\"%.60s\"",
                 s.p);
}

/* A name of the environment, or the empty slice with a problem. */
static struct slice read_env_name(struct load *l, const struct yaml *map, const char *key)
{
    const struct yaml *y = yaml_get(map, key);
    struct slice s = SLICE_NONE;

    yaml_read_str(y, &s, l->ps);
    if (s.n && !is_env_name(s)) {
        complain(l, y, "%s: the NAME of an environment variable expected", key);
        return SLICE_NONE;
    }
    return s;
}

static void set_dialect(struct load *l, struct registry_provider *p, const struct yaml *y)
{
    const struct yaml *d = yaml_get(y, "dialect");
    struct slice name = SLICE_NONE;

    yaml_read_str(d, &name, l->ps);
    p->dialect = dialect_find(name);
    if (d && name.n && !p->dialect)
        complain(l, d, "dialect: one of openai anthropic google expected, not \"%.60s\"", name.p);
    else if (!d)
        complain(l, y, "provider \"%.64s\" has no dialect", p->name);
}

static struct registry_provider *provider_new(struct load *l, const char *name)
{
    struct registry_provider *p = arena_new(l->r->arena, struct registry_provider), **tail;

    l->no_memory |= !p;
    if (!p)
        return NULL;
    p->name = name;
    for (tail = &l->r->providers; *tail; tail = &(*tail)->next)
        ;
    *tail = p;
    return p;
}

/* Takes the last provider out again: it cannot be used. */
static void provider_drop(struct load *l, const struct registry_provider *p)
{
    struct registry_provider **tail = &l->r->providers;

    while (*tail && *tail != p)
        tail = &(*tail)->next;
    *tail = NULL;
}

static void load_provider(struct load *l, const struct yaml *y)
{
    struct registry_provider *p;
    struct slice key_env;

    if (!is_provider_name(y->key)) {
        complain(l, y, "\"%.64s\" is no name for a provider: a-z, 0-9, - and _ only", y->key.p);
        ((struct yaml *)y)->broken = true; /* its keys are not looked at */
        return;
    }
    if (!is_map(l, y))
        return;
    p = provider_new(l, y->key.p);
    if (!p)
        return;
    set_dialect(l, p, y);
    set_base_url(l, p, y, read_text(l, y, "base_url"), read_env_name(l, y, "base_url_env"));
    set_path(l, p, read_base_path(l, yaml_get(y, "base_path")));
    key_env = read_env_name(l, y, "api_key_env");
    p->key_optional = read_flag(l, y, "key_optional", false);
    if (!key_env.n && !p->key_optional)
        complain(l, y, "provider \"%.64s\" needs api_key_env, or key_optional: true", p->name);
    set_key(l, p, key_env);
    set_headers(l, p, yaml_get(y, "headers"));
    set_max_tokens_field(l, p, yaml_get(y, "max_tokens_field"));
    set_breaker(l, p, yaml_get(y, "circuit_breaker"));
    p->open_models = read_flag(l, y, "open_models", true);
    l->no_memory |= !registry_read_unlisted(l->r->arena, yaml_get(y, "unlisted"), p, l->ps);
    p->has_embeddings =
        read_flag(l, y, "embeddings", p->dialect && p->dialect->encode_embed != NULL);
    if (p->dialect && p->has_embeddings && !p->dialect->encode_embed)
        complain(l, y, "provider \"%.64s\": its dialect has no embeddings", p->name);
    if (!p->dialect)
        provider_drop(l, p);
}

static void load_built_in(struct load *l)
{
    size_t i;

    for (i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++) {
        struct registry_provider *p = provider_new(l, built_in[i].name);

        if (!p)
            return;
        p->dialect = dialect_find(slice_cstr(built_in[i].dialect));
        p->key_optional = built_in[i].key_optional;
        p->open_models = true;
        p->has_embeddings = built_in[i].embeddings;
        p->use_max_completion_tokens = built_in[i].max_completion_tokens;
        set_base_url(l, p, NULL, slice_cstr(built_in[i].base_url),
                     slice_cstr(built_in[i].base_url_env));
        set_path(l, p, slice_cstr(built_in[i].base_path));
        set_key(l, p, slice_cstr(built_in[i].api_key_env));
        set_breaker(l, p, NULL);
    }
}

/* --- models ----------------------------------------------------------------------------------- */

static void set_capabilities(struct load *l, struct registry_model *m, const struct yaml *y)
{
    const struct yaml *i = yaml_items(y, YAML_SEQ, true, l->ps);
    size_t k;

    for (; i; i = i->next) {
        struct slice word = SLICE_NONE;

        if (!yaml_read_str(i, &word, l->ps))
            continue;
        for (k = 0; k < sizeof(capabilities) / sizeof(capabilities[0]); k++) {
            if (slice_is(word, capabilities[k].word))
                break;
        }
        if (k < sizeof(capabilities) / sizeof(capabilities[0]))
            m->capabilities |= capabilities[k].bit;
        else
            complain(l, i, "unknown capability \"%.60s\"", word.p);
    }
}

static int64_t read_price(struct load *l, const struct yaml *map, const char *key)
{
    const struct yaml *y = yaml_get(map, key);
    int64_t nano_per_million = -1;

    if (!y || !yaml_read_nano(y, &nano_per_million, l->ps))
        return -1;
    if (nano_per_million % NANO_PER_PICO) {
        complain(l, y, "%s: a price has at most 6 decimal places", key);
        return -1;
    }
    return nano_per_million / NANO_PER_PICO;
}

static void set_prices(struct load *l, struct registry_model *m, const struct yaml *y)
{
    yaml_items(y, YAML_MAP, false, l->ps);
    m->pico_usd.input = read_price(l, y, "input");
    m->pico_usd.output = read_price(l, y, "output");
    m->pico_usd.cache_read = read_price(l, y, "cache_read");
    m->pico_usd.cache_write = read_price(l, y, "cache_write");
}

/* Splits the id and finds its provider; false with a problem. */
static bool set_id(struct load *l, struct registry_model *m, const struct yaml *y)
{
    size_t slash;

    if (!yaml_read_str(y, &m->id, l->ps))
        return false;
    slash = slice_find(m->id, '/');
    m->name = slice_from(m->id, slash + 1);
    if (!registry_name_ok(m->id) || m->name.n == 0) {
        complain(l, y, "id: provider/model expected, not \"%.100s\"", m->id.p);
        return false;
    }
    m->provider = registry_provider(l->r, slice_of(m->id.p, slash));
    if (!m->provider)
        complain(l, y, "id: there is no provider \"%.*s\"", (int)(slash < 64 ? slash : 64),
                 m->id.p);
    return m->provider != NULL;
}

static void load_model(struct load *l, const struct yaml *y, struct registry_model ***tail)
{
    struct registry_quirks q = {0};
    struct registry_model *m;
    const struct yaml *id;
    bool ok;

    if (!is_map(l, y))
        return;
    m = arena_new(l->r->arena, struct registry_model);
    l->no_memory |= !m;
    if (!m)
        return;
    id = yaml_get(y, "id");
    if (!id)
        complain(l, y, "a model without id");
    ok = id && set_id(l, m, id);
    m->context_tokens = read_number(l, y, "context_tokens", 1, MAX_TOKENS, 0);
    m->max_output_tokens = read_number(l, y, "max_output_tokens", 1, MAX_TOKENS, 0);
    set_capabilities(l, m, yaml_get(y, "capabilities"));
    set_prices(l, m, yaml_get(y, "prices"));
    l->no_memory |= !registry_read_quirks(l->r->arena, yaml_get(y, "quirks"), &q, l->ps);
    m->quirks = q.words;
    m->n_quirks = q.n;
    m->listed = true;
    if (!ok)
        return;
    l->r->index->ids.items[l->r->index->ids.n++] = (struct registry_entry){m->id, m, id->line};
    **tail = m;
    *tail = &m->next;
}

/* Adds a problem for each name that comes again; the index must be sorted. */
static void check_twice(struct load *l, const struct registry_names *names, const char *what)
{
    unsigned i;

    for (i = 1; i < names->n; i++) {
        if (slice_eq(names->items[i].name, names->items[i - 1].name))
            problems_add(l->ps, l->conf->models->file, names->items[i].line,
                         "%s \"%.100s\" again, first on line %u", what, names->items[i].name.p,
                         names->items[i - 1].line);
    }
}

static bool names_new(struct load *l, struct registry_names *names, unsigned n)
{
    names->items = arena_array(l->r->arena, struct registry_entry, n ? n : 1);
    l->no_memory |= !names->items;
    return names->items != NULL;
}

static void load_models(struct load *l)
{
    const struct yaml *i = yaml_items(yaml_get(l->conf->models, "models"), YAML_SEQ, true, l->ps);
    struct registry_model **tail = &l->r->models, *m;
    struct registry_index *index = l->r->index;
    unsigned n = count(i);

    if (!names_new(l, &index->ids, n) || !names_new(l, &index->bare, n))
        return;
    for (; i; i = i->next)
        load_model(l, i, &tail);
    for (m = l->r->models; m; m = m->next)
        index->bare.items[index->bare.n++] = (struct registry_entry){m->name, m, 0};
    registry_sort(&index->ids);
    registry_sort(&index->bare);
    check_twice(l, &index->ids, "model");
}

/* --- aliases ---------------------------------------------------------------------------------- */

/* The model of a target: listed, or made up for an open provider. NULL with a problem. */
static const struct registry_model *target_model(struct load *l, const struct yaml *y,
                                                 struct slice name)
{
    unsigned at = registry_find(&l->r->index->ids, name);
    size_t slash = slice_find(name, '/');
    const struct registry_provider *p = registry_provider(l->r, slice_of(name.p, slash));
    const struct registry_model *m;

    if (at < l->r->index->ids.n)
        return l->r->index->ids.items[at].object;
    if (slash == name.n || !p || !registry_name_ok(name)) {
        complain(l, y, "target: provider/model of a provider of this file expected, not \"%.100s\"",
                 name.p);
        return NULL;
    }
    if (!p->open_models) {
        complain(l, y,
                 "target: \"%.100s\" is not listed, and its provider takes listed models only",
                 name.p);
        return NULL;
    }
    m = registry_made_up(l->r, l->r->arena, p, slice_from(name, slash + 1));
    l->no_memory |= !m;
    return m;
}

static void load_target(struct load *l, struct registry_alias *alias, const struct yaml *y)
{
    const struct registry_model *m;
    struct slice name = SLICE_NONE;
    int64_t weight;

    if (!is_map(l, y))
        return;
    weight = read_number(l, y, "weight", 1, MAX_WEIGHT, 1);
    if (!yaml_get(y, "model"))
        complain(l, y, "a target without model");
    name = read_text(l, y, "model");
    m = name.n ? target_model(l, yaml_get(y, "model"), name) : NULL;
    if (m && alias->n_targets < REGISTRY_MAX_TARGETS)
        alias->targets[alias->n_targets++] =
            (struct registry_target){.model = m, .weight = (unsigned)weight};
}

static void set_strategy(struct load *l, struct registry_alias *alias, const struct yaml *y)
{
    struct slice word = SLICE("priority");

    if (yaml_read_str(y, &word, l->ps) && !select_strategy_parse(word.p, &alias->strategy))
        complain(l, y,
                 "strategy: one of priority weighted least-latency cheapest expected, not "
                 "\"%.60s\"",
                 word.p);
}

static void set_targets(struct load *l, struct registry_alias *alias, const struct yaml *y,
                        const struct yaml *map)
{
    const struct yaml *first = yaml_items(y, YAML_SEQ, true, l->ps), *i;

    if (!first && (!y || y->kind == YAML_SEQ))
        complain(l, map, "an alias without targets");
    if (count(first) > REGISTRY_MAX_TARGETS)
        complain(l, y, "targets: more than %u", REGISTRY_MAX_TARGETS);
    for (i = first; i; i = i->next)
        load_target(l, alias, i);
}

static void load_alias(struct load *l, const struct yaml *y, struct registry_alias ***tail)
{
    struct registry_alias *alias;
    const struct yaml *name;

    if (!is_map(l, y))
        return;
    alias = arena_new(l->r->arena, struct registry_alias);
    l->no_memory |= !alias;
    if (!alias)
        return;
    name = yaml_get(y, "name");
    if (!name)
        complain(l, y, "an alias without name");
    yaml_read_str(name, &alias->name, l->ps);
    if (alias->name.n && !registry_name_ok(alias->name))
        complain(l, name, "name: letters, digits and -._:/@+~=, only, not \"%.100s\"",
                 alias->name.p);
    set_strategy(l, alias, yaml_get(y, "strategy"));
    set_targets(l, alias, yaml_get(y, "targets"), y);
    if (!alias->name.n || alias->n_targets == 0)
        return;
    l->r->index->aliases.items[l->r->index->aliases.n++] =
        (struct registry_entry){alias->name, alias, name->line};
    **tail = alias;
    *tail = &alias->next;
}

static void load_aliases(struct load *l)
{
    const struct yaml *i = yaml_items(yaml_get(l->conf->models, "aliases"), YAML_SEQ, true, l->ps);
    struct registry_alias **tail = &l->r->aliases;

    if (!names_new(l, &l->r->index->aliases, count(i)))
        return;
    for (; i; i = i->next)
        load_alias(l, i, &tail);
    registry_sort(&l->r->index->aliases);
    check_twice(l, &l->r->index->aliases, "alias");
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Over the listed prices in the order of their ids, so that moving a row does not change it. */
static bool set_price_version(struct registry *r)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    char line[512];
    unsigned i;

    for (i = 0; i < r->index->ids.n && ok; i++) {
        const struct registry_model *m = r->index->ids.items[i].object;
        int n = snprintf(line, sizeof(line), "%.*s %lld %lld %lld %lld\n", SLICE_ARG(m->id),
                         (long long)m->pico_usd.input, (long long)m->pico_usd.output,
                         (long long)m->pico_usd.cache_read, (long long)m->pico_usd.cache_write);

        ok = n > 0 && (size_t)n < sizeof(line) && EVP_DigestUpdate(ctx, line, (size_t)n) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    if (ok)
        *hex_write(r->price_version, digest, 8) = '\0';
    EVP_MD_CTX_free(ctx);
    return ok;
}

static struct registry *registry_new(void)
{
    struct registry *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->arena = arena_create(ARENA_MAX_BYTES);
    r->index = r->arena ? arena_new(r->arena, struct registry_index) : NULL;
    return r->index ? r : registry_free(r);
}

struct registry *registry_free(struct registry *r)
{
    if (r)
        arena_destroy(r->arena);
    free(r);
    return NULL;
}

struct registry *registry_load(const struct conf *c, struct problems *ps)
{
    struct load l = {.r = registry_new(), .conf = c, .ps = ps};
    const struct yaml *providers = yaml_get(c->models, "providers"), *i;

    if (!l.r)
        return NULL;
    if (!providers)
        load_built_in(&l);
    for (i = yaml_items(providers, YAML_MAP, true, ps); i; i = i->next)
        load_provider(&l, i);
    load_models(&l);
    load_aliases(&l);
    yaml_report_unused(c->models, ps);
    if (l.no_memory || !set_price_version(l.r))
        return registry_free(l.r);
    return l.r;
}
