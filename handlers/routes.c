/*
 * routes.c - every route: one row each. HEAD comes with GET, OPTIONS with all, deprecated aliases
 * with their successors (legacy.h).
 */
#include "handlers/routes.h"

#include "gateway/http/form.h"
#include "gateway/http/legacy.h"
#include "gateway/http/router.h"
#include "handlers/admin.h"
#include "handlers/admin_cache.h"
#include "handlers/admin_teams.h"
#include "handlers/chat.h"
#include "handlers/embeddings.h"
#include "handlers/generate.h"
#include "handlers/health.h"
#include "handlers/index.h"
#include "handlers/keys.h"
#include "handlers/messages.h"
#include "handlers/models.h"
#include "handlers/myself.h"
#include "handlers/ops.h"
#include "handlers/people.h"
#include "handlers/responses.h"
#include "handlers/spending.h"
#include "handlers/tokens.h"
#include "handlers/trail.h"
#include "storage/principal.h"

/* Lists of models are for whoever may ask one, too. */
#define SCOPE_ANY_MODEL (SCOPE_READ | SCOPE_CHAT | SCOPE_EMBEDDINGS)

/* clang-format off */
static const struct route routes[] = {
    /* OpenAI's surface */
    {HTTP_POST, "/v1/chat/completions", chat_completions,  SURFACE_OPENAI, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_CHAT, .quiet = false},
    {HTTP_POST, "/v1/responses",        responses_create,  SURFACE_OPENAI, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_CHAT, .quiet = false},
    {HTTP_POST, "/v1/embeddings",       embeddings_openai, SURFACE_OPENAI, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_EMBEDDINGS, .quiet = false},
    {HTTP_GET,  "/v1/models",           models_list,       SURFACE_OPENAI, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_ANY_MODEL, .quiet = false},
    {HTTP_GET,  "/v1/models/{id...}",   models_get,        SURFACE_OPENAI, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_ANY_MODEL, .quiet = false},

    /* Anthropic's surface; its /v1/models is OpenAI's, told apart by the anthropic-version header */
    {HTTP_POST, "/v1/messages",              messages_create, SURFACE_ANTHROPIC, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_CHAT, .quiet = false},
    {HTTP_POST, "/v1/messages/count_tokens", messages_count,  SURFACE_ANTHROPIC, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_CHAT, .quiet = false},

    /* Google's surface: the method stands behind the model's name */
    {HTTP_POST, "/v1beta/models/{model...}", generate_post,   SURFACE_GOOGLE, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_CHAT | SCOPE_EMBEDDINGS, .quiet = false},
    {HTTP_GET,  "/v1beta/models",            generate_models, SURFACE_GOOGLE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_ANY_MODEL, .quiet = false},
    {HTTP_GET,  "/v1beta/models/{id...}",    generate_model,  SURFACE_GOOGLE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_ANY_MODEL, .quiet = false},

    /* the native surface */
    {HTTP_POST, "/api/v1/chat",         native_chat,       SURFACE_NATIVE, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_CHAT, .form = &native_chat_form},
    {HTTP_POST, "/api/v1/embeddings",   embeddings_native, SURFACE_NATIVE, ACCESS_USER, RATE_AI, BODY_CHAT, .scope = SCOPE_EMBEDDINGS, .form = &embeddings_native_form},
    {HTTP_GET,  "/api/v1/models",       models_native,     SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_ANY_MODEL, .quiet = false},
    {HTTP_GET,  "/api/v1/providers",    models_providers,  SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_ANY_MODEL, .quiet = false},
    {HTTP_GET,  "/api/v1/usage",        spending_own,      SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .scope = SCOPE_READ, .quiet = false},

    {HTTP_GET,  "/api",                 index_get,         SURFACE_NATIVE, ACCESS_PUBLIC, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,  "/api/v1",              index_get,         SURFACE_NATIVE, ACCESS_PUBLIC, RATE_DEFAULT, BODY_NONE, .quiet = false},

    /* tokens, keys and users */
    {HTTP_POST, "/api/v1/auth/token",    tokens_issue,    SURFACE_NATIVE, ACCESS_OPTIONAL, RATE_AUTH, BODY_JSON, .act = "token.issue", .form = &tokens_issue_form},
    {HTTP_GET,  "/api/v1/auth/validate", tokens_validate, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_AUTH, BODY_NONE, .quiet = false},
    {HTTP_POST, "/api/v1/auth/validate", tokens_validate, SURFACE_NATIVE, ACCESS_PUBLIC, RATE_AUTH, BODY_JSON, .form = &tokens_validate_form},
    {HTTP_POST, "/api/v1/auth/revoke",   tokens_revoke,   SURFACE_NATIVE, ACCESS_USER, RATE_AUTH, BODY_JSON, .act = "token.revoke", .form = &tokens_revoke_form},
    {HTTP_POST, "/api/v1/auth/api-keys", keys_create,     SURFACE_NATIVE, ACCESS_USER, RATE_AUTH, BODY_JSON, .act = "apikey.create", .form = &keys_create_form},
    {HTTP_GET,  "/api/v1/auth/api-keys", keys_list,       SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_DELETE, "/api/v1/auth/api-keys/{id}", keys_revoke, SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .act = "apikey.revoke"},
    {HTTP_GET,    "/api/v1/users/me",          myself_get,      SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,    "/api/v1/users/me/export",   myself_export,   SURFACE_NATIVE, ACCESS_USER, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_POST,   "/api/v1/users/me/password", myself_password, SURFACE_NATIVE, ACCESS_USER, RATE_AUTH, BODY_JSON, .act = "password.change", .form = &myself_password_form},
    {HTTP_POST,   "/api/v1/users",             people_create,   SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_JSON, .act = "user.create", .form = &people_create_form},
    {HTTP_GET,    "/api/v1/users",             people_list,     SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,    "/api/v1/users/{id}",        people_get,      SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_PATCH,  "/api/v1/users/{id}",        people_change,   SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_JSON, .act = "user.change", .form = &people_change_form},
    {HTTP_DELETE, "/api/v1/users/{id}",        people_remove,   SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .act = "user.remove"},
    {HTTP_POST,   "/api/v1/admin/teams",       admin_teams_create, SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_JSON, .act = "team.create", .form = &admin_teams_form},
    {HTTP_GET,    "/api/v1/admin/teams",       admin_teams_list,   SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,    "/api/v1/admin/teams/{id}",  admin_teams_get,    SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_PUT,    "/api/v1/admin/teams/{id}",  admin_teams_put,    SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_JSON, .act = "team.change", .form = &admin_teams_form},
    {HTTP_DELETE, "/api/v1/admin/teams/{id}",  admin_teams_remove, SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .act = "team.remove"},
    {HTTP_GET,    "/api/v1/admin/audit",       trail_list,         SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},

    /* probes and operators */
    {HTTP_GET,  "/api/v1/health",       health_full,       SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE, .quiet = true},
    {HTTP_GET,  "/api/v1/health/live",  health_live,       SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE, .quiet = true},
    {HTTP_GET,  "/api/v1/health/ready", health_ready,      SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE, .quiet = true},
    {HTTP_GET,  "/api/health",          health_full,       SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE, .quiet = true},
    {HTTP_GET,  "/health",              health_full,       SURFACE_NATIVE, ACCESS_PUBLIC, RATE_PROBE, BODY_NONE, .quiet = true},
    {HTTP_GET,  "/metrics",             ops_metrics,       SURFACE_NATIVE, ACCESS_OPS, RATE_PROBE, BODY_NONE, .quiet = true},
    {HTTP_GET,  "/api/v1/admin/performance",           admin_performance, SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,  "/api/v1/admin/config",                admin_config,      SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_POST, "/api/v1/admin/config/reload",         admin_reload,      SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .act = "config.reload", .form = &form_empty},
    {HTTP_PUT,  "/api/v1/admin/log-level",             admin_level,       SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_JSON, .act = "log.level", .form = &admin_level_form},
    {HTTP_GET,  "/api/v1/admin/costs",                 spending_all,      SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,  "/api/v1/admin/circuits",              ops_circuits,      SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_GET,  "/api/v1/admin/cache",                 admin_cache,       SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .quiet = false},
    {HTTP_DELETE, "/api/v1/admin/cache/{namespace}",   admin_cache_clear, SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .act = "cache.clear"},
    {HTTP_POST, "/api/v1/admin/circuits/{name}/reset", ops_circuit_reset, SURFACE_NATIVE, ACCESS_ADMIN, RATE_DEFAULT, BODY_NONE, .act = "circuit.reset", .form = &form_empty},
};
/* clang-format on */

#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))
#define MAX_TABLE_BYTES (1u << 20)

static struct arena *table; /* the rows the router has, aliases among them */

enum gw_err routes_init(void)
{
    const struct route *all = NULL;
    unsigned n = 0;
    enum gw_err err;

    routes_deinit();
    table = arena_create(MAX_TABLE_BYTES);
    if (!table)
        return GW_ENOMEM;
    err = legacy_widen(table, routes, N_ROUTES, &all, &n);
    if (!err)
        err = router_init(all, n);
    if (err)
        routes_deinit();
    return err;
}

void routes_deinit(void)
{
    router_deinit();
    table = arena_destroy(table);
}

void routes_each(void (*fn)(const struct route *r, void *arg), void *arg)
{
    for (unsigned i = 0; i < N_ROUTES; i++)
        fn(&routes[i], arg);
}
