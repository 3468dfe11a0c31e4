/*
 * serve.c - see serve.h.
 *
 *     load --problems--> exit 78
 *       '--> (fork workers) --> subsystems start in the order of the table --> RUN
 *     RUN --SIGHUP--> load in the offload pool --> publish, or keep the old one
 *     RUN --SIGTERM, SIGINT--> DRAIN --all answered, or time is up--> subsystems stop backwards
 *     DRAIN --SIGTERM, SIGINT--> stop at once
 */
#include "gateway/serve.h"

#include "gateway/core/conf.h"
#include "gateway/core/jwt.h"
#include "gateway/core/levels.h"
#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"
#include "gateway/core/ratelist.h"
#include "gateway/core/reload.h"
#include "gateway/core/worker.h"
#include "gateway/http/router.h"
#include "gateway/http/server.h"
#include "gateway/middleware/middleware.h"
#include "gateway/middleware/slowest.h"
#include "gateway/wiring.h"
#include "handlers/admit.h"
#include "handlers/health.h"
#include "handlers/query.h"
#include "handlers/routes.h"
#include "providers/provider.h"
#include "providers/registry.h"
#include "providers/transport.h"
#include "storage/budget.h"
#include "storage/cache.h"
#include "storage/dbversion.h"
#include "storage/idempotency.h"
#include "storage/keyring.h"
#include "storage/ledger.h"
#include "storage/limiter.h"
#include "storage/pg.h"
#include "storage/redis.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_CONFIG 78
#define OFFLOAD_MAX_QUEUED 1024u
#define IDLE_PROVIDER_CONNECTIONS 256u

static struct conf_source source;
static const struct log_ctx ctx = {.component = "server"};

/* --- configuration ---------------------------------------------------------------------------- */

static void free_registry(void *r)
{
    registry_free(r);
}

struct route_search {
    const struct ratelist_item *of;
    bool found;
};

static void on_route(const struct route *r, void *arg)
{
    struct route_search *s = arg;

    s->found |=
        slice_is(s->of->path, r->path) && slice_is(s->of->method, http_method_name(r->method));
}

/* Limits for routes that do not exist are told, not refused: they do no harm. */
static void check_limited_routes(const struct conf *c, struct problems *ps)
{
    struct ratelist_item it;
    struct route_search s;
    unsigned i;

    for (i = 0; i < c->rate_overrides.n; i++) {
        if (ratelist_parse(c->rate_overrides.items[i], &it))
            continue;
        s = (struct route_search){.of = &it};
        routes_each(on_route, &s);
        if (!s.found)
            problems_warn(ps, "rate_limits.yaml", 0, "endpoints: there is no route %.*s",
                          SLICE_ARG(it.route));
    }
}

/* What only libpq can say of an address whose shape is right. */
static void check_database_urls(const struct conf *c, struct problems *ps)
{
    unsigned before = ps->errors;

    if (!before && c->database_url.n && !pg_url_ok(c->database_url.p))
        problems_add(ps, "", 0, "DATABASE_URL: has a keyword or value libpq does not know");
    if (!before && c->database_read_url.n && !pg_url_ok(c->database_read_url.p))
        problems_add(ps, "", 0, "DATABASE_READ_URL: has a keyword or value libpq does not know");
}

/* A snapshot with its registry; problems are added. NULL out of memory. Any thread. */
static struct conf *load(struct problems *ps)
{
    struct conf *c = conf_load(&source, ps);

    if (!c)
        return NULL;
    conf_check_production(c, ps);
    check_database_urls(c, ps);
    check_limited_routes(c, ps);
    if (c->workers > 1 && c->port == 0)
        problems_add(ps, "", 0, "server.port: 0 picks a port for one worker, not for %lld",
                     (long long)c->workers);
    c->attached = registry_load(c, ps);
    c->attached_free = free_registry;
    if (!c->attached) {
        conf_unref(c);
        return NULL;
    }
    return c;
}

static int parse_args(int argc, char **argv)
{
    int i;

    for (i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--conf") == 0)
            source.dir = argv[i + 1];
        else if (strcmp(argv[i], "--env-file") == 0)
            source.env_file = argv[i + 1];
        else
            break;
    }
    if (i == argc)
        return 0;
    fprintf(stderr, "usage: postern %s [--conf DIR] [--env-file FILE]\n", argv[0]);
    return 2;
}

/* Loads, prints what is wrong; NULL when there are errors. */
static struct conf *load_or_complain(void)
{
    struct problems ps = {0};
    struct conf *c = load(&ps);
    unsigned errors = ps.errors;

    problems_print(&ps, stderr);
    problems_deinit(&ps);
    if (!c)
        fprintf(stderr, "postern: out of memory\n");
    if (c && errors) {
        fprintf(stderr, "postern: %u problem%s, not starting\n", errors, errors == 1 ? "" : "s");
        conf_unref(c);
        return NULL;
    }
    return c;
}

int serve_check_command(int argc, char **argv)
{
    int rc = parse_args(argc, argv);
    struct conf *c;

    if (rc)
        return rc;
    c = load_or_complain();
    if (!c)
        return EXIT_CONFIG;
    conf_unref(c);
    puts("configuration is valid");
    return 0;
}

/* --- reload ----------------------------------------------------------------------------------- */

struct reload {
    struct problems problems;
    struct conf *conf;
};

static struct op *reloading;
static bool reload_again;

static void apply_levels(const struct conf *c)
{
    enum log_level level = LVL_INFO;
    unsigned i;

    log_reset_levels();
    if (log_level_parse(c->log_level, &level))
        log_set_level(NULL, level);
    for (i = 0; i < c->log_levels.n; i++) {
        struct slice item = c->log_levels.items[i];
        size_t eq = slice_find(item, '=');
        char name[32];

        if (eq < sizeof(name) && log_level_parse(slice_from(item, eq + 1), &level)) {
            memcpy(name, item.p, eq);
            name[eq] = '\0';
            log_set_level(name, level);
        }
    }
}

/* Puts a checked snapshot in force. */
static void publish(struct conf *c)
{
    conf_publish(c);
    apply_levels(c);
    levels_forget();
    metrics_set_aliases(c->metrics_api_aliases);
    provider_adopt(c->attached);
    cache_adopt(c);
    metrics_set(metrics_get(M_CONFIG_GENERATION, NULL, NULL, NULL), c->generation);
}

static void log_problems(const struct problems *ps)
{
    unsigned i;

    for (i = 0; i < ps->n; i++)
        log_at(ps->items[i].warning ? LVL_WARN : LVL_ERROR, &ctx, "config_problem",
               F_CSTR("file", ps->items[i].file), F_INT("line", ps->items[i].line),
               F_CSTR("text", ps->items[i].text));
}

static void reload_begin(void);

static void reload_free(struct reload *r)
{
    problems_deinit(&r->problems);
    conf_unref(r->conf);
    free(r);
}

static void reload_work(void *arg)
{
    struct reload *r = arg;

    r->conf = load(&r->problems);
}

static void reload_done(void *arg)
{
    struct reload *r = arg;
    bool good = r->conf && r->problems.errors == 0;
    struct reload_result told = {.applied = good, .problems = r->conf ? &r->problems : NULL};

    reloading = NULL;
    if (good)
        conf_reload_diff(conf_current(), r->conf, &r->problems);
    log_problems(&r->problems);
    metrics_add(metrics_get(M_CONFIG_RELOADS, good ? "applied" : "refused", NULL, NULL), 1);
    if (good) {
        publish(r->conf);
        r->conf = NULL;
        log_info(&ctx, "config_reloaded", F_INT("generation", conf_current()->generation));
    } else {
        log_error(&ctx, "config_reload_refused", F_INT("problems", r->problems.errors),
                  F_INT("generation", conf_current()->generation));
    }
    told.generation = conf_current()->generation;
    reload_ended(&told);
    reload_free(r);
    if (reload_again)
        reload_begin();
}

static void reload_drop(void *arg)
{
    reload_free(arg);
}

static void reload_begin(void)
{
    struct reload *r = calloc(1, sizeof(*r));

    struct reload_result told = {.generation = conf_current()->generation};

    reload_again = false;
    reload_begun();
    reloading = r ? offload_run(reload_work, reload_done, reload_drop, r) : NULL;
    if (!reloading) {
        free(r);
        reload_ended(&told);
        log_error(&ctx, "config_reload_refused", F_CSTR("why", "no memory or no free thread"));
    }
}

/* --- signals ---------------------------------------------------------------------------------- */

static void on_drained(void *arg)
{
    (void)arg;
    loop_stop();
}

static void on_stop(int signo, void *arg)
{
    (void)arg;
    if (server_draining()) {
        log_warn(&ctx, "stopping_at_once", F_INT("signal", signo));
        loop_stop();
        return;
    }
    log_info(&ctx, "draining", F_INT("signal", signo), F_INT("requests", server_requests()),
             F_INT("connections", server_connections()));
    server_drain((uint64_t)conf_current()->drain_timeout_s * 1000000u, on_drained, NULL);
}

static void on_hup(int signo, void *arg)
{
    (void)signo;
    (void)arg;
    if (reloading)
        reload_again = true;
    else
        reload_begin();
}

/* From the administration's route: the others are to read too. */
static void ask_for_reload(void)
{
    kill(worker_supervisor() ? worker_supervisor() : getpid(), SIGHUP);
}

static void on_levels(int signo, void *arg)
{
    (void)signo;
    (void)arg;
    levels_apply();
}

static void on_nothing(int signo, void *arg)
{
    (void)arg;
    log_debug(&ctx, "signal_ignored", F_INT("signal", signo));
}

/* --- subsystems ------------------------------------------------------------------------------- */

static unsigned this_worker;

static enum gw_err start_loop(const struct conf *c)
{
    loop_block_signals();
    return loop_init();
}

static enum gw_err start_log(const struct conf *c)
{
    bool json = slice_is(c->log_format, "json") ||
                (slice_is(c->log_format, "auto") && !slice_is(c->environment, "development"));
    struct log_options opt = {
        .level = LVL_INFO,
        .json = json,
        .file = c->log_file.n ? c->log_file.p : NULL,
        .stdout_too = true,
        .file_max_bytes = (uint64_t)c->log_max_mb << 20,
        .file_keep = (unsigned)c->log_keep,
        .service = "local-assistant-api",
        .version = POSTERN_VERSION,
    };

    return log_init(&opt);
}

static void on_stall(uint64_t us, const char *place)
{
    char line[160];
    int n = snprintf(line, sizeof(line), "postern: loop_stalled ms=%llu place=%s\n",
                     (unsigned long long)(us / 1000), place ? place : "?");

    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return;
}

static struct metric_series *lag;

static void count_dropped_lines(void)
{
    static uint64_t counted;
    uint64_t now = log_dropped();

    if (now != counted)
        metrics_add(metrics_get(M_LOG_DROPPED, NULL, NULL, NULL), (int64_t)(now - counted));
    counted = now;
}

static void on_turn(uint64_t turn_us, const char *place, void *arg)
{
    (void)arg;
    metrics_observe_us(lag, turn_us);
    count_dropped_lines();
    if (turn_us > (uint64_t)conf_current()->watchdog_warn_ms * 1000u)
        log_warn(&ctx, "slow_turn", F_MS("turn_ms", turn_us), F_CSTR("place", place ? place : "?"));
}

static enum gw_err start_watchdog(const struct conf *c)
{
    lag = metrics_get(M_LOOP_LAG, NULL, NULL, NULL);
    loop_after_turn(on_turn, NULL);
    return loop_watchdog_start((uint64_t)c->watchdog_warn_ms * 1000u,
                               (uint64_t)c->watchdog_abort_ms * 1000u, on_stall);
}

static enum gw_err start_offload(const struct conf *c)
{
    return offload_init((unsigned)c->offload_threads, OFFLOAD_MAX_QUEUED);
}

static enum gw_err start_transport(const struct conf *c)
{
    struct transport_config cfg = {
        .ca_file = c->provider_ca_file.n ? c->provider_ca_file.p : NULL,
        .proxy = c->provider_proxy.n ? c->provider_proxy.p : NULL,
        .max_connections = IDLE_PROVIDER_CONNECTIONS,
    };

    return transport_init(&cfg);
}

/* An older schema is served with: what needs a newer one answers 503. */
static void on_schema(enum dbversion_state state, unsigned there, unsigned program)
{
    if (state == DBVERSION_BEHIND)
        log_warn(&ctx, "schema_behind", F_INT("database", there), F_INT("program", program),
                 F_CSTR("hint", "run postern migrate up"));
    else
        log_info(&ctx, state == DBVERSION_AHEAD ? "schema_ahead" : "schema_current",
                 F_INT("database", there), F_INT("program", program));
}

static enum gw_err start_schema(const struct conf *c)
{
    dbversion_on_change(on_schema);
    return dbversion_init(c);
}

static enum gw_err start_provider(const struct conf *c)
{
    return provider_init();
}

static enum gw_err start_budget(const struct conf *c)
{
    budget_on_alert(admit_alert);
    return budget_init();
}

static enum gw_err start_chain(const struct conf *c)
{
    middleware_init();
    return routes_init();
}

static enum gw_err start_server(const struct conf *c)
{
    const char *why = NULL;
    enum gw_err err = server_start(c, &why);

    if (err)
        fprintf(stderr, "postern: cannot listen on %s port %lld: %s\n", c->host.p,
                (long long)c->port, why ? why : err_info(err)->title);
    return err;
}

static enum gw_err start_signals(const struct conf *c)
{
    loop_on_signal(SIGTERM, on_stop, NULL);
    loop_on_signal(SIGINT, on_stop, NULL);
    loop_on_signal(SIGHUP, on_hup, NULL);
    loop_on_signal(SIGUSR1, on_levels, NULL);
    loop_on_signal(SIGUSR2, on_nothing, NULL);
    reload_provide(ask_for_reload);
    return GW_OK;
}

static void stop_keyring(void)
{
    keyring_deinit();
    jwt_deinit();
}

static void stop_reload(void)
{
    reload_provide(NULL);
    op_cancel(&reloading);
}

/* Started from the top, stopped from the bottom. */
static const struct subsystem {
    const char *name;
    enum gw_err (*start)(const struct conf *c);
    void (*stop)(void);
} subsystems[] = {
    {"loop", start_loop, loop_deinit},
    {"log", start_log, log_deinit},
    {"watchdog", start_watchdog, loop_watchdog_stop},
    {"offload", start_offload, offload_deinit},
    {"reload", NULL, stop_reload},
    {"postgres", pg_init, pg_deinit},
    {"ledger", ledger_init, ledger_deinit},
    {"transport", start_transport, transport_deinit},
    {"provider", start_provider, provider_deinit},
    {"redis", redis_init, redis_deinit},
    {"circuits", wiring_start_circuits, wiring_stop_circuits},
    {"schema", start_schema, dbversion_deinit},
    {"cache", cache_init, cache_deinit},
    {"keyring", keyring_init, stop_keyring},
    {"budget", start_budget, budget_deinit},
    {"idempotency", idempotency_init, idempotency_deinit},
    {"chain", start_chain, routes_deinit},
    {"rate_limit", limiter_init, ratelimit_deinit},
    {"queries", NULL, query_deinit},
    {"server", start_server, server_deinit},
    {"signals", start_signals, NULL},
};

#define N_SUBSYSTEMS (sizeof(subsystems) / sizeof(subsystems[0]))

static void stop_all(size_t n)
{
    while (n-- > 0)
        if (subsystems[n].stop)
            subsystems[n].stop();
}

static bool start_all(const struct conf *c)
{
    enum gw_err err;
    size_t i;

    for (i = 0; i < N_SUBSYSTEMS; i++) {
        err = subsystems[i].start ? subsystems[i].start(c) : GW_OK;
        if (err) {
            fprintf(stderr, "postern: %s did not start: %s\n", subsystems[i].name,
                    err_info(err)->title);
            stop_all(i);
            return false;
        }
    }
    return true;
}

/* --- running ---------------------------------------------------------------------------------- */

static void count_enabled(const struct registry *r, unsigned *ret_enabled)
{
    const struct registry_provider *p;

    *ret_enabled = 0;
    for (p = r->providers; p; p = p->next)
        *ret_enabled += p->enabled;
}

static void announce(const struct conf *c)
{
    unsigned enabled;

    count_enabled(c->attached, &enabled);
    if (enabled == 0)
        log_warn(&ctx, "no_provider",
                 F_CSTR("hint",
                        "set OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY or GROQ_API_KEY"));
    if (!conf_auth_required(c))
        log_warn(&ctx, "authentication_off",
                 F_CSTR("hint", "set POSTERN_MASTER_KEY or REQUIRE_AUTHENTICATION=true"));
    log_info(&ctx, "serving", F_STR("host", c->host), F_INT("port", server_port()),
             F_INT("worker", this_worker), F_INT("providers", enabled),
             F_STR("environment", c->environment));
    log_flush();
    if (c->port == 0)
        printf("listening %u\n", server_port());
    fflush(stdout);
}

static int run_worker(unsigned worker, void *arg)
{
    struct conf *c = arg;

    this_worker = worker;
    metrics_attach(worker);
    slowest_attach(worker);
    conf_publish(c);
    if (!start_all(c)) {
        conf_publish(NULL);
        return EXIT_CONFIG;
    }
    apply_levels(c);
    levels_apply();
    metrics_set_aliases(c->metrics_api_aliases);
    metrics_set(metrics_get(M_CONFIG_GENERATION, NULL, NULL, NULL), 1);
    metrics_set(metrics_get(M_BUILD_INFO, POSTERN_VERSION, NULL, NULL), 1);
    provider_adopt(c->attached);
    health_started();
    announce(c);
    loop_run();
    log_info(&ctx, "stopped", F_INT("worker", worker));
    stop_all(N_SUBSYSTEMS);
    conf_publish(NULL);
    return 0;
}

static void on_restart(void *arg)
{
    (void)arg;
    metrics_inc(M_WORKERS_RESTARTED);
}

int serve_command(int argc, char **argv)
{
    int rc = parse_args(argc, argv);
    struct conf *c;

    if (rc)
        return rc;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like a full disk */
    c = load_or_complain();
    if (!c)
        return EXIT_CONFIG;
    if (metrics_init((unsigned)c->workers) != GW_OK || levels_init() != GW_OK ||
        slowest_init((unsigned)c->workers) != GW_OK) {
        fprintf(stderr, "postern: no memory for what the workers share\n");
        return 1;
    }
    rc = worker_supervise((unsigned)c->workers, run_worker, on_restart, c);
    slowest_deinit();
    levels_deinit();
    metrics_deinit();
    return rc;
}
