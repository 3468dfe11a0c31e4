/*
 * pg_target.c - where a server is.
 *
 * libpq resolves names blocking inside PQconnectStart(), so names are looked up in the offload pool
 * before and handed over as hostaddr, with the name kept as host for TLS. A name with several
 * addresses becomes several entries, which libpq tries in turn. Unix sockets and addresses need no
 * looking up. Names are looked up again after a minute and after every failed attempt.
 *
 * Start-up options (statement_timeout, the guard against a transaction left open) are what
 * PgBouncer refuses, unless it is told to ignore them: pg_pool.c then leaves them out.
 */
#include "storage/pg_private.h"

#include "gateway/core/offload.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FRESH_US 60000000u
#define MAX_HOSTS 16u
#define MAX_LIST 4096u
#define MAX_PARAMS 64u
#define TCP_USER_TIMEOUT "10000" /* ms without an acknowledgement */

static const char *option(const struct pg_target *t, const char *key)
{
    const PQconninfoOption *o;

    for (o = t->opts; o->keyword; o++) {
        if (strcmp(o->keyword, key) == 0)
            return o->val && o->val[0] ? o->val : NULL;
    }
    return NULL;
}

/* --- names ------------------------------------------------------------------------------------ */

static bool is_name(struct slice host)
{
    unsigned char bytes[16];
    char text[64];

    if (host.n == 0 || host.p[0] == '/' || host.p[0] == '@')
        return false;
    if (host.n >= sizeof(text))
        return true;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    return inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1;
}

/* Takes the next entry off a comma-separated list. */
static struct slice next_entry(struct slice *list)
{
    size_t comma = slice_find(*list, ',');
    struct slice entry = slice_of(list->p, comma);

    *list = slice_from(*list, comma + 1);
    return entry;
}

static bool any_name(struct slice hosts)
{
    while (hosts.n) {
        if (is_name(next_entry(&hosts)))
            return true;
    }
    return false;
}

/* One look-up. Belongs to the offload job; the target is touched on the loop only. */
struct lookup {
    struct pg_target *target;
    void (*done)(enum gw_err err, void *arg);
    void *arg;
    char *hosts_in, *ports_in; /* copies */
    struct buf hosts, addrs, ports;
    unsigned n;
};

static void put(struct lookup *l, struct slice host, const char *addr, struct slice port)
{
    if (l->n++) {
        buf_add_char(&l->hosts, ',');
        buf_add_char(&l->addrs, ',');
        buf_add_char(&l->ports, ',');
    }
    buf_add_slice(&l->hosts, host);
    buf_add_cstr(&l->addrs, addr);
    buf_add_slice(&l->ports, port);
}

static void look_up(struct lookup *l, struct slice host, struct slice port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *all = NULL, *ai;
    char name[256], addr[INET6_ADDRSTRLEN];

    if (host.n >= sizeof(name))
        return;
    memcpy(name, host.p, host.n);
    name[host.n] = '\0';
    if (getaddrinfo(name, NULL, &hints, &all))
        return;
    for (ai = all; ai && l->n < MAX_HOSTS; ai = ai->ai_next) {
        if (getnameinfo(ai->ai_addr, ai->ai_addrlen, addr, sizeof(addr), NULL, 0, NI_NUMERICHOST) ==
            0)
            put(l, host, addr, port);
    }
    freeaddrinfo(all);
}

/* On a thread of the offload pool. */
static void lookup_work(void *arg)
{
    struct lookup *l = arg;
    struct slice hosts = slice_cstr(l->hosts_in), ports = slice_cstr(l->ports_in);
    bool one_port = slice_find(ports, ',') == ports.n;
    struct slice host, port;
    char numeric[INET6_ADDRSTRLEN + 1];

    while (hosts.n && l->n < MAX_HOSTS) {
        host = next_entry(&hosts);
        port = one_port ? ports : next_entry(&ports);
        if (is_name(host)) {
            look_up(l, host, port);
            continue;
        }
        /* An address stands for itself; a socket's directory has no address. */
        numeric[0] = '\0';
        if (host.n && host.n < sizeof(numeric) && host.p[0] != '/' && host.p[0] != '@')
            snprintf(numeric, sizeof(numeric), "%.*s", SLICE_ARG(host));
        put(l, host, numeric, port);
    }
}

static void lookup_free(struct lookup *l)
{
    free(l->hosts_in);
    free(l->ports_in);
    buf_deinit(&l->hosts);
    buf_deinit(&l->addrs);
    buf_deinit(&l->ports);
    free(l);
}

static void lookup_drop(void *arg)
{
    lookup_free(arg);
}

/* Replaces what was known when all of it is there. */
static enum gw_err adopt(struct pg_target *t, struct lookup *l)
{
    char *hosts, *addrs, *ports;

    if (l->n == 0)
        return GW_EUNAVAIL;
    buf_add_char(&l->hosts, '\0');
    buf_add_char(&l->addrs, '\0');
    buf_add_char(&l->ports, '\0');
    if (buf_err(&l->hosts) || buf_err(&l->addrs) || buf_err(&l->ports))
        return GW_ENOMEM;
    hosts = strdup(l->hosts.p);
    addrs = strdup(l->addrs.p);
    ports = strdup(l->ports.p);
    if (!hosts || !addrs || !ports) {
        free(hosts);
        free(addrs);
        free(ports);
        return GW_ENOMEM;
    }
    free(t->hosts);
    free(t->addrs);
    free(t->ports);
    t->hosts = hosts;
    t->addrs = addrs;
    t->ports = ports;
    t->resolved_us = loop_now_us();
    return GW_OK;
}

static void lookup_done(void *arg)
{
    struct lookup *l = arg;
    enum gw_err err = adopt(l->target, l);
    void (*done)(enum gw_err, void *) = l->done;
    void *done_arg = l->arg;

    lookup_free(l);
    done(err, done_arg);
}

bool pg_target_stale(const struct pg_target *t)
{
    return t->named && (!t->resolved_us || loop_now_us() - t->resolved_us > FRESH_US);
}

struct op *pg_target_resolve(struct pg_target *t, void (*done)(enum gw_err, void *), void *arg)
{
    const char *host = option(t, "host"), *port = option(t, "port");
    struct lookup *l = calloc(1, sizeof(*l));
    struct op *op = NULL;

    if (!l)
        return NULL;
    l->target = t;
    l->done = done;
    l->arg = arg;
    l->hosts_in = strdup(host ? host : getenv("PGHOST"));
    l->ports_in = strdup(port ? port : "");
    buf_init(&l->hosts, MAX_LIST);
    buf_init(&l->addrs, MAX_LIST);
    buf_init(&l->ports, MAX_LIST);
    if (l->hosts_in && l->ports_in)
        op = offload_run(lookup_work, lookup_done, lookup_drop, l);
    if (!op)
        lookup_free(l);
    return op;
}

/* --- the URL ---------------------------------------------------------------------------------- */

bool pg_url_ok(const char *url)
{
    struct pg_target t = {0};
    enum gw_err err = pg_target_init(&t, url);

    pg_target_deinit(&t);
    return err != GW_EBADREQ;
}

/* libpq's own message is dropped: it may quote a part of the password. */
enum gw_err pg_target_init(struct pg_target *t, const char *url)
{
    const char *host;
    char *why = NULL;

    t->opts = PQconninfoParse(url, &why);
    PQfreemem(why);
    if (!t->opts)
        return GW_EBADREQ;
    host = option(t, "host");
    if (!host)
        host = getenv("PGHOST");
    t->named = host && !option(t, "hostaddr") && any_name(slice_cstr(host));
    return GW_OK;
}

void pg_target_deinit(struct pg_target *t)
{
    if (t->opts)
        PQconninfoFree(t->opts);
    free(t->hosts);
    free(t->addrs);
    free(t->ports);
    memset(t, 0, sizeof(*t));
}

/* --- connecting ------------------------------------------------------------------------------- */

struct params {
    const char *keys[MAX_PARAMS + 1], *values[MAX_PARAMS + 1];
    unsigned n;
};

/* The first value of a key stays, so what the URL says comes before our own. */
static void add_param(struct params *p, const char *key, const char *value)
{
    unsigned i;

    if (!value || p->n == MAX_PARAMS)
        return;
    for (i = 0; i < p->n; i++) {
        if (strcmp(p->keys[i], key) == 0)
            return;
    }
    p->keys[p->n] = key;
    p->values[p->n++] = value;
}

static void add_own(struct params *p, const char *application)
{
    add_param(p, "application_name", application);
    add_param(p, "client_encoding", "UTF8");
    add_param(p, "gssencmode", "disable"); /* looking for credentials blocks */
    add_param(p, "keepalives_idle", "30");
    add_param(p, "keepalives_interval", "10");
    add_param(p, "keepalives_count", "3");
    add_param(p, "tcp_user_timeout", TCP_USER_TIMEOUT);
}

static bool write_options(const struct pg_target *t, bool with_options, char *to, size_t size)
{
    const char *given = option(t, "options");
    int n;

    if (with_options)
        n = snprintf(to, size,
                     "-c statement_timeout=%llu -c idle_in_transaction_session_timeout=%llu%s%s",
                     (unsigned long long)(pg_set.statement_us / 1000),
                     (unsigned long long)(pg_set.statement_us / 1000 * 2 + 60000), given ? " " : "",
                     given ? given : "");
    else
        n = snprintf(to, size, "%s", given ? given : "");
    return n > 0 && (size_t)n < size;
}

PGconn *pg_target_connect(const struct pg_target *t, bool with_options)
{
    struct params p = {.n = 0};
    char application[64], options[1024];
    const PQconninfoOption *o;

    snprintf(application, sizeof(application), "local-assistant-api/%d", (int)getpid());
    if (t->hosts) {
        add_param(&p, "host", t->hosts);
        add_param(&p, "hostaddr", t->addrs);
        if (strspn(t->ports, ",") < strlen(t->ports))
            add_param(&p, "port", t->ports);
    }
    if (write_options(t, with_options, options, sizeof(options)))
        add_param(&p, "options", options);
    for (o = t->opts; o->keyword; o++) {
        if (o->val && o->val[0])
            add_param(&p, o->keyword, o->val);
    }
    add_own(&p, application);
    p.keys[p.n] = NULL;
    p.values[p.n] = NULL;
    return PQconnectStartParams(p.keys, p.values, 0);
}
