/*
 * conf.h - the configuration: YAML files, .env and environment read into one immutable snapshot.
 *
 * Order of precedence: real environment, the env file, YAML, the default of conf.def. An empty
 * value in the environment or the env file is the same as none. Secrets, and the names read with
 * conf_env(), may also come as <NAME>_FILE, whose content (without line ends at its end) is the
 * value; both at once are a problem. SECRET_KEY is another name of JWT_SECRET_KEY. A snapshot is
 * built and checked as a whole, with every problem listed; only a snapshot without errors is ever
 * used. Requests hold a reference to the one they began with.
 *
 * YAML is read strictly (yaml.h): no anchors or aliases, no duplicate or unknown keys, no tabs,
 * files up to 1 MiB, depth up to 16; booleans are true/false only. Of the directory only the files
 * named in conf.def and models_registry.yaml are read, and each must be there.
 *
 * All functions run on the loop thread, but for conf_load(), which may build a snapshot elsewhere.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"
#include "gateway/core/yaml.h"

#include <stdint.h>

struct conf_list {
    const struct slice *items;
    unsigned n;
};

#define CONF_C_INT int64_t
#define CONF_C_BOOL bool
#define CONF_C_STR struct slice
#define CONF_C_SECRET struct slice
#define CONF_C_ENUM struct slice
#define CONF_C_LIST struct conf_list

struct conf {
    /* One member per row of conf.def. Strings are NUL-terminated too. */
#define X(field, type, file, key, env, def, min, max, unit, reload, help) CONF_C_##type field;
#include "gateway/core/conf.def"
#undef X
    unsigned generation;           /* 1 for the first, counted by conf_publish() */
    const struct yaml *models;     /* models_registry.yaml, or NULL when there is no file; the
                                      registry reads it (providers/registry.h) */
    const char *dir;               /* directory the files came from, or NULL */
    void *attached;                /* what the subsystems derived from this snapshot (main.c) */
    void (*attached_free)(void *); /* frees it with the snapshot */
};

/* Connections to one Postgres that all workers of an instance may open together, unless the kept
 * ones (pg_pool_size) are more. */
#define CONF_DATABASE_CONNECTIONS 50

/* Where to read from. */
struct conf_source {
    const char *dir;      /* --conf, or NULL: "conf", then "/etc/postern", then defaults alone */
    const char *env_file; /* --env-file, or NULL: ".env" if it exists */
};

/*
 * Builds a snapshot. Problems are added to `problems`; a snapshot is returned even with problems,
 * so that all checks can run over it (then it must not be used to serve). NULL only out of memory.
 * Reads files: at start-up, and for a reload in the offload pool or between turns.
 */
struct conf *conf_load(const struct conf_source *src, struct problems *problems);

/* Adds everything staging and production refuse (SPEC 4) and, as warnings, what they only warn of.
 * Does nothing in other environments. */
void conf_check_production(const struct conf *c, struct problems *problems);

/* Adds a warning for each key that differs but takes effect only with a restart. */
void conf_reload_diff(const struct conf *old, const struct conf *fresh, struct problems *problems);

/* Value of an environment name (environment, env file, or <NAME>_FILE), for names that are not rows
 * of the table (provider keys and base URLs). Empty when unset or refused. NUL-terminated, valid as
 * long as the snapshot. An unreadable *_FILE and control characters are problems. `problems` may be
 * NULL. */
struct slice conf_env(const struct conf *c, const char *name, struct problems *problems);

/* Where a field's value came from, for the admin route: "environment", "env file", "default", or
 * "gateway.yaml:12"; NULL when there is no such field. */
const char *conf_origin(const struct conf *c, const char *field);

/* A field's default as text, and whether a reload changes it; NULL and false for no such field. */
const char *conf_default(const char *field);
bool conf_is_reloadable(const char *field);

/* Calls fn for every row: value as text, secrets as "[redacted]" when set, and so the user part of
 * URLs. The strings live as long as the call of fn. */
void conf_each(const struct conf *c,
               void (*fn)(const char *field, const char *key, const char *value, const char *origin,
                          void *arg),
               void *arg);

/* True when authentication is to be enforced (resolves "auto"). */
bool conf_auth_required(const struct conf *c);
bool conf_is_production(const struct conf *c); /* staging counts as production here */

/* The snapshot in force, NULL before the first. conf_publish() takes over one reference, numbers
 * the snapshot and drops the reference to the former one; conf_publish(NULL) drops it at the end of
 * the program. conf_load() gives one reference. */
const struct conf *conf_current(void);
void conf_publish(struct conf *c);
const struct conf *conf_ref(const struct conf *c);
const struct conf *conf_unref(const struct conf *c); /* NULL is fine; returns NULL */
