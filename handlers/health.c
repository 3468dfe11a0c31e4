/*
 * health.c - what probes ask. Words only for strangers: no hosts, no error texts (INVENTORY A14).
 *
 * healthy: all is well. degraded: something is away that requests can do without (a circuit is
 * open, another provider is not). unhealthy: no provider can be asked at all. Only unhealthy and
 * draining answer 503.
 */
#include "handlers/health.h"

#include "gateway/core/json.h"
#include "gateway/core/loop.h"
#include "gateway/http/server.h"
#include "handlers/llm.h"
#include "providers/provider.h"
#include "storage/dbversion.h"
#include "storage/limiter.h"
#include "storage/pg.h"
#include "storage/redis.h"

#define MAX_OUT 65536u

static uint64_t started_us;

void health_started(void)
{
    started_us = loop_clock_us();
}

struct tally {
    struct json_writer *w;
    unsigned open, usable;
};

static bool is_enabled(const struct registry *r, const char *name)
{
    const struct registry_provider *p = registry_provider(r, slice_cstr(name));

    return p && p->enabled;
}

static void on_count(const struct provider_status *s, void *arg)
{
    struct tally *t = arg;

    if (!is_enabled(conf_current()->attached, s->name))
        return;
    if (s->state == BREAKER_OPEN)
        t->open++;
    else
        t->usable++;
}

static void on_circuit(const struct provider_status *s, void *arg)
{
    struct tally *t = arg;

    json_kv_cstr(t->w, s->name, breaker_state_name(s->state));
}

static const char *llm_word(const struct tally *t)
{
    if (t->usable == 0)
        return "unhealthy";
    return t->open ? "degraded" : "healthy";
}

/* Requests can do without Redis: its absence never makes an instance unhealthy. */
static const char *redis_word(void)
{
    if (!redis_enabled())
        return "disabled";
    return redis_up() ? "healthy" : "degraded";
}

/* Nor does that of Postgres: what needs it says so itself. */
static const char *postgres_word(void)
{
    if (!pg_enabled())
        return "disabled";
    return pg_up() ? "healthy" : "unhealthy";
}

static const char *const schema_words[] = {
    [DBVERSION_OFF] = "disabled",    [DBVERSION_UNKNOWN] = "unknown", [DBVERSION_BEHIND] = "behind",
    [DBVERSION_CURRENT] = "current", [DBVERSION_AHEAD] = "ahead",
};

static const char *limiter_word(const struct conf *c)
{
    if (!c->rate_enabled)
        return "off";
    return limiter_is_shared() ? "redis" : "local";
}

/* Something is away that some requests need and others can do without. */
static bool is_degraded(void)
{
    return (redis_enabled() && !redis_up()) || (pg_enabled() && !pg_up()) ||
           dbversion_state() == DBVERSION_BEHIND;
}

static const char *overall_word(const struct tally *t)
{
    return t->usable && is_degraded() ? "degraded" : llm_word(t);
}

static void put_checks(struct json_writer *w, const struct tally *t)
{
    json_kv_obj(w, "checks");
    json_kv_cstr(w, "postgres", postgres_word());
    json_kv_cstr(w, "schema", schema_words[dbversion_state()]);
    json_kv_cstr(w, "redis", redis_word());
    json_kv_cstr(w, "vector_store", "disabled");
    json_kv_cstr(w, "embeddings", llm_word(t));
    json_kv_cstr(w, "llm", llm_word(t));
    json_obj_end(w);
}

void health_full(struct request *req)
{
    struct tally t = {0};
    struct json_writer w;
    struct buf out;

    provider_each(on_count, &t);
    json_begin(&w, &out, MAX_OUT);
    t.w = &w;
    json_obj(&w);
    json_kv_cstr(&w, "status", overall_word(&t));
    json_kv_cstr(&w, "service", "local-assistant-api");
    json_kv_cstr(&w, "version", POSTERN_VERSION);
    json_kv_str(&w, "environment", req->conf->environment);
    json_kv_int(&w, "uptime_seconds", (int64_t)((loop_clock_us() - started_us) / 1000000));
    json_kv_int(&w, "config_generation", conf_current()->generation);
    json_kv_bool(&w, "draining", server_draining());
    put_checks(&w, &t);
    json_kv_obj(&w, "circuit_breakers");
    provider_each(on_circuit, &t);
    json_obj_end(&w);
    json_kv_cstr(&w, "rate_limiter", limiter_word(req->conf));
    json_obj_end(&w);
    request_reply(req, t.usable ? 200 : 503, SLICE("application/json"), buf_slice(&out));
    buf_deinit(&out);
}

void health_live(struct request *req)
{
    request_finish(req, GW_OK, SLICE("{\"status\":\"alive\"}"));
}

void health_ready(struct request *req)
{
    if (server_draining())
        request_reply(req, 503, SLICE("application/json"), SLICE("{\"status\":\"draining\"}"));
    else if (!started_us)
        request_reply(req, 503, SLICE("application/json"), SLICE("{\"status\":\"starting\"}"));
    else
        request_finish(req, GW_OK,
                       is_degraded() ? SLICE("{\"status\":\"degraded\"}")
                                     : SLICE("{\"status\":\"ready\"}"));
}
