/*
 * registry.h - the providers, models and aliases of conf/models_registry.yaml, and how a model name
 * of a request becomes an ordered list of targets.
 *
 *     providers:
 *       groq:
 *         dialect: openai                # openai | anthropic | google
 *         base_url: https://api.groq.com/openai/v1
 *         base_url_env: GROQ_BASE_URL    # replaces base_url when set
 *         base_path: /openai/v1          # put after a base URL that has no path of its own
 *         api_key_env: GROQ_API_KEY      # a provider without its key is not offered
 *         key_optional: false            # true: works without a key (ollama)
 *         headers: {x-name: value}       # sent with each call, up to 16
 *         max_tokens_field: max_tokens   # openai dialect: max_tokens | max_completion_tokens
 *         unlisted: {llama-: []}         # quirks of models not listed below, by the beginning of
 *                                        # their names; the longest prefix counts, listed ones too
 *         open_models: true              # names not listed under models are passed on as they are
 *         embeddings: true
 *         circuit_breaker: {failure_threshold: 5, recovery_timeout_s: 60, half_open_max_calls: 1}
 *     models:
 *       - id: openai/gpt-4o-mini         # provider/model
 *         context_tokens: 128000
 *         max_output_tokens: 16384
 *         capabilities: [vision, pdf, tools, json_schema, reasoning, embeddings, audio]
 *         prices: {input: 0.15, output: 0.60, cache_read: 0.075, cache_write: 0.15}   # USD / 1M
 * tokens, # up to 6 decimal places; a price left out is unknown quirks: [adaptive_thinking]    #
 * words the provider's dialect reads (dialect.h) aliases:
 *       - name: fast
 *         strategy: priority             # priority | weighted | least-latency | cheapest
 *         targets:
 *           - {model: groq/llama-3.1-8b-instant, weight: 3}
 *           - {model: openai/gpt-4o-mini}
 *
 * A registry belongs to one configuration snapshot and is immutable; what changes (breakers,
 * latencies, connections) hangs off the provider's name in provider.h and survives a reload.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/conf.h"
#include "gateway/core/slice.h"
#include "providers/breaker.h"
#include "providers/select.h"

#include <stdint.h>

struct dialect;

#define REGISTRY_MAX_TARGETS 16u
#define REGISTRY_MAX_HEADERS 16u

struct registry_header {
    struct slice name, value;
};

/* Words for the provider's dialect (dialect.h). */
struct registry_quirks {
    const struct slice *words;
    unsigned n;
};

struct registry_unlisted {
    struct slice prefix;
    struct registry_quirks quirks;
};

struct registry_provider {
    struct registry_provider *next;
    const char *name;
    const struct dialect *dialect;
    struct slice base_url; /* with its path, without a slash at the end */
    struct slice api_key;  /* secret; empty = none */
    bool key_optional, open_models, has_embeddings;
    bool enabled; /* has its key, or needs none */
    bool use_max_completion_tokens;
    const struct registry_header *headers;
    unsigned n_headers;
    const struct registry_unlisted *unlisted; /* quirks by the beginning of a name */
    unsigned n_unlisted;
    struct breaker_config breaker;
};

/* Prices in pico-USD per token, which is USD per million tokens times 1,000,000: exact for the six
 * decimal places a price may have (0.0375 USD per million is no whole number of nano-USD per
 * token). -1 = unknown. */
struct registry_prices {
    int64_t input, output, cache_read, cache_write;
};

enum { /* capabilities; the first six are the CONVO_NEEDS_ bits of convo.h */
       REGISTRY_CAN_VISION = 1,
       REGISTRY_CAN_PDF = 2,
       REGISTRY_CAN_TOOLS = 4,
       REGISTRY_CAN_SCHEMA = 8,
       REGISTRY_CAN_REASONING = 16,
       REGISTRY_CAN_AUDIO = 32,
       REGISTRY_CAN_EMBED = 64
};

struct registry_model {
    struct registry_model *next;
    struct slice id;   /* "provider/model" */
    struct slice name; /* the provider's own name of it */
    const struct registry_provider *provider;
    int64_t context_tokens, max_output_tokens; /* 0 = unknown */
    unsigned capabilities;
    bool listed; /* false: made up for a name passed on to an open provider; it can do anything */
    struct registry_prices pico_usd; /* per token */
    const struct slice *quirks;
    unsigned n_quirks;
};

struct registry_target {
    const struct registry_model *model;
    unsigned weight; /* >= 1 */
};

struct registry_alias {
    struct registry_alias *next;
    struct slice name;
    enum select_strategy strategy;
    struct registry_target targets[REGISTRY_MAX_TARGETS];
    unsigned n_targets;
};

struct registry {
    struct arena *arena;
    struct registry_provider *providers;
    struct registry_model *models;
    struct registry_alias *aliases;
    char price_version[17];       /* first 16 hex digits of SHA-256 over the price table */
    struct registry_index *index; /* names, sorted for look-up (registry.c) */
};

/*
 * Reads c->models; without a file, or without `providers` in it, the built-in providers (openai,
 * anthropic, google, groq, ollama with the URLs of SPEC 1, all open) are there. Adds every problem
 * found; NULL only out of memory. Texts are borrowed from `c`: the registry must not outlive it.
 * Any thread.
 */
struct registry *registry_load(const struct conf *c, struct problems *ps);
struct registry *registry_free(struct registry *r);

/* The list for one request. */
struct registry_route {
    enum select_strategy strategy;
    struct registry_target targets[REGISTRY_MAX_TARGETS];
    unsigned n_targets;
};

/*
 * Resolves a model name: an alias (its targets whose provider is enabled), "provider/model" (split
 * at the first slash), or a bare name that exactly one listed model of an enabled provider has.
 * Models made up for open providers live in `arena`; their names are of letters, digits and
 * -._:/@+~=, only, without "..". GW_EMODEL when there is no such model or its provider is not
 * enabled
 * (*ret_why, in `arena` or static, is a sentence that says which), GW_ENOMEM.
 */
enum gw_err registry_resolve(const struct registry *r, struct arena *arena, struct slice name,
                             struct registry_route *ret, struct slice *ret_why) MUST_CHECK;

/* Appends the targets of a further name (the request's own `fallbacks`); duplicates, and what is
 * past REGISTRY_MAX_TARGETS, are left out. The route becomes SELECT_PRIORITY if it had one target
 * only. */
enum gw_err registry_append(const struct registry *r, struct arena *arena, struct slice name,
                            struct registry_route *route, struct slice *ret_why) MUST_CHECK;

const struct registry_provider *registry_provider(const struct registry *r, struct slice name);
bool registry_has_quirk(const struct registry_model *m, const char *word);

/* Does every target of the route (at least one) speak this dialect? */
bool registry_route_speaks(const struct registry_route *route, const struct dialect *dialect);

/* Cost in nano-USD, rounded to the nearest, or -1 when the usage or a price that is needed is
 * unknown. */
struct convo_usage;
int64_t registry_cost(const struct registry_model *m, const struct convo_usage *u);
