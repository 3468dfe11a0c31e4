/*
 * principal.h - who a credential stands for, and what it may do: an API key with its owner and
 * team, a user with a token, or the master key.
 *
 * Immutable once made and counted: requests in flight keep the one they began with while the
 * keyring may already hold a newer one. Made by the keyring (keyring.h); the master key's is
 * static. One thread.
 */
#pragma once

#include "gateway/core/uuid.h"
#include "storage/budget.h"

#include <stdint.h>

enum principal_kind { PRINCIPAL_MASTER, PRINCIPAL_KEY, PRINCIPAL_USER };

/* Scopes of a key, as bits; a key without scopes may do everything its owner's role allows. */
enum {
    SCOPE_CHAT = 1,       /* "chat": every route that has a model answer */
    SCOPE_EMBEDDINGS = 2, /* "embeddings" */
    SCOPE_READ = 4,       /* "read": lists and single objects */
    SCOPE_WRITE = 8,      /* "write": everything else that changes something */
    SCOPE_ADMIN = 16,     /* "admin": the admin routes, for keys of administrators */
    SCOPE_UNHEARD = 32    /* a name this program does not know: opens nothing, but the key is no
                             longer one without scopes */
};

struct principal {
    unsigned refs;
    enum principal_kind kind;
    bool admin;       /* the owner's role, and for a key its scopes allow it */
    unsigned scopes;  /* SCOPE_ bits; 0 = all */
    char subject[72]; /* "key:<prefix>", "user:<user_id>", "master": limits and logs */
    char tenant[72];  /* whose cache entries it sees: "team:<id>", "user:<id>" (without a database
                         "user:<user_id>"), "master" */
    char key_id[UUID_TEXT];   /* "" when it is no key */
    char owner_id[UUID_TEXT]; /* users.id; "" for the master key and tokens without a database */
    char user_id[65];         /* users.user_id, the name people know */
    char team_id[UUID_TEXT];  /* of the key, else of its owner; "" = none */
    struct slice *models; /* patterns of allowed models ("openai/gpt-4o", "anthropic/..*"), in its
                             own block */
    unsigned n_models;    /* 0 = all */
    struct slice *team_models; /* likewise the team's; both must allow */
    unsigned n_team_models;
    int64_t requests_per_minute;      /* of the key, 0 = none beyond the class */
    int64_t team_requests_per_minute; /* of all the team's keys and users together, 0 = none */
    struct budget_scope scopes_of_budget[BUDGET_MAX_SCOPES]; /* key first, then team */
    unsigned n_budget_scopes; /* those with a limit or a token rate */
    int64_t expires_wall_us;  /* 0 = never */
};

/* NULL is fine; principal_unref() returns NULL. */
const struct principal *principal_ref(const struct principal *p);
const struct principal *principal_unref(const struct principal *p);

/* Who has the master key: an administrator without limits. */
const struct principal *principal_master(void);

/* A copy of `fields` with one reference and the patterns of two texts, one on a line (what the
 * slices of `fields` say is ignored). NULL out of memory. */
const struct principal *principal_new(const struct principal *fields, struct slice models,
                                      struct slice team_models);

/* May it use this model? `asked` is the name in the request, `id` the "provider/model" it stands
 * for. A pattern is an exact id, an alias exactly as the request named it, or one that ends in `*`:
 * ids, and aliases without a slash, that begin so. */
bool principal_allows_model(const struct principal *p, struct slice asked, struct slice id);

/* Has it one of these SCOPE_ bits, or no scopes at all? */
bool principal_has_scope(const struct principal *p, unsigned scope);

/* The bit of a scope's name; SCOPE_UNHEARD when there is none of that name. */
unsigned principal_scope_bit(struct slice name);
