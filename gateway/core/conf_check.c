/*
 * conf_check.c - judges a filled snapshot: what every instance needs to be right, and what staging
 * and production refuse (conf.h).
 */
#include "gateway/core/conf_private.h"
#include "gateway/core/day.h"
#include "gateway/core/pgurl.h"
#include "gateway/core/ratelist.h"
#include "gateway/core/readfile.h"
#include "gateway/core/redisurl.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdlib.h>

#define SECRET_MIN_CHARS 32u
#define SECRET_MIN_DISTINCT 8u
#define ITEM_MAX 256u
#define DATABASE_PASSWORD_MIN_CHARS 16u

/* Adds "label: text" at the place the field's value came from. */
#define complain(c, ps, field, fmt, ...)                                                           \
    do {                                                                                           \
        const struct conf_place *at_ = conf_place_of((c), (field));                                \
        problems_add((ps), at_->file, at_->line, "%.100s: " fmt,                                   \
                     at_->label __VA_OPT__(, ) __VA_ARGS__);                                       \
    } while (0)
#define warn(c, ps, field, fmt, ...)                                                               \
    do {                                                                                           \
        const struct conf_place *at_ = conf_place_of((c), (field));                                \
        problems_warn((ps), at_->file, at_->line, "%.100s: " fmt,                                  \
                      at_->label __VA_OPT__(, ) __VA_ARGS__);                                      \
    } while (0)

/* --- addresses -------------------------------------------------------------------------------- */

/* Bits of an address (32, 128), or 0 when it is none. */
static unsigned address_bits(struct slice s)
{
    unsigned char bytes[16];
    char text[INET6_ADDRSTRLEN + 1];

    if (s.n == 0 || s.n > INET6_ADDRSTRLEN)
        return 0;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    if (inet_pton(AF_INET, text, bytes) == 1)
        return 32;
    return inet_pton(AF_INET6, text, bytes) == 1 ? 128 : 0;
}

static bool is_cidr(struct slice s)
{
    size_t slash = slice_find(s, '/');
    unsigned bits = address_bits(slice_of(s.p, slash));
    int64_t prefix = 0;

    if (slash == s.n)
        return bits > 0;
    return bits > 0 && yaml_text_int(slice_from(s, slash + 1), &prefix) == GW_OK && prefix >= 0 &&
           prefix <= (int64_t)bits;
}

/* --- origins ---------------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_scheme(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (i > 0 && s.p[i] >= '0' && s.p[i] <= '9') ||
              (i > 0 && memchr("+-.", s.p[i], 3))))
            return false;
    }
    return s.n > 0;
}

static bool is_host(struct slice s)
{
    size_t i;

    if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        return address_bits(slice_of(s.p + 1, s.n - 2)) == 128;
    for (i = 0; i < s.n; i++) {
        if (!is_alnum(s.p[i]) && !memchr("-._", s.p[i], 3))
            return false;
    }
    return s.n > 0 && s.n <= 253;
}

/* Splits "host:port"; the port is empty when there is none. */
static void split_port(struct slice s, struct slice *ret_host, struct slice *ret_port)
{
    size_t end = s.n, colon;

    while (end > 0 && s.p[end - 1] >= '0' && s.p[end - 1] <= '9')
        end--;
    colon = end > 0 && s.p[end - 1] == ':' ? end - 1 : s.n;
    /* "[::1]" has digits and colons too, but ends with its bracket. */
    *ret_host = slice_of(s.p, colon);
    *ret_port = slice_from(s, colon);
}

/* scheme://host[:port], as browsers send it: nothing after the port. */
static bool is_origin(struct slice s)
{
    const char *mark = s.n ? memmem(s.p, s.n, "://", 3) : NULL;
    struct slice host = SLICE_NONE, port = SLICE_NONE;
    int64_t number = 0;

    if (!mark || s.n > ITEM_MAX || !is_scheme(slice_of(s.p, (size_t)(mark - s.p))))
        return false;
    split_port(slice_from(s, (size_t)(mark - s.p) + 3), &host, &port);
    if (port.n && (yaml_text_int(slice_from(port, 1), &number) || number < 1 || number > 65535))
        return false;
    return is_host(host);
}

/* --- every instance --------------------------------------------------------------------------- */

static bool is_component_level(struct slice s)
{
    size_t eq = slice_find(s, '='), i;

    for (i = 0; i < eq; i++) {
        if (!is_alnum(s.p[i]) && s.p[i] != '_')
            return false;
    }
    return eq > 0 && eq < s.n && conf_word_allowed(conf_row_of("log_level"), slice_from(s, eq + 1));
}

static bool is_allowed_origin(struct slice s)
{
    return slice_is(s, "*") || is_origin(s);
}

static void check_list(const struct conf *c, struct problems *ps, const char *field,
                       const struct conf_list *list, bool (*ok)(struct slice), const char *expected)
{
    unsigned i;

    for (i = 0; i < list->n; i++) {
        if (!ok(list->items[i]))
            complain(c, ps, field, "\"%.100s\" is not %s", list->items[i].p, expected);
    }
}

static void check_file(const struct conf *c, struct problems *ps, const char *field,
                       struct slice path)
{
    const char *why = "";

    if (path.n && readfile_probe(path.p, &why))
        complain(c, ps, field, "%.300s cannot be read: %s", path.p, why);
}

static void check_tls(const struct conf *c, struct problems *ps)
{
    if (c->tls_certificate.n && !c->tls_key.n)
        complain(c, ps, "tls_certificate", "needs server.tls_key too");
    if (c->tls_key.n && !c->tls_certificate.n)
        complain(c, ps, "tls_key", "needs server.tls_certificate too");
    check_file(c, ps, "tls_certificate", c->tls_certificate);
    check_file(c, ps, "tls_key", c->tls_key);
}

static bool is_override(struct slice s)
{
    struct ratelist_item it;

    return ratelist_parse(s, &it) == GW_OK;
}

/* A route has one limit. */
static void check_overrides(const struct conf *c, struct problems *ps)
{
    const struct conf_list *list = &c->rate_overrides;
    struct ratelist_item a, b;
    unsigned i, j;

    check_list(c, ps, "rate_overrides", list, is_override,
               "\"METHOD /path=requests per minute/burst\"");
    for (i = 0; i < list->n; i++) {
        for (j = 0; j < i; j++) {
            if (!ratelist_parse(list->items[i], &a) && !ratelist_parse(list->items[j], &b) &&
                slice_eq(a.route, b.route))
                complain(c, ps, "rate_overrides", "\"%.160s\" and one more limit the same route",
                         list->items[i].p);
        }
    }
}

static void check_redis(const struct conf *c, struct problems *ps)
{
    const char *why = "";
    struct redisurl url;

    if (c->redis_url.n && redisurl_parse(c->redis_url, &url, &why))
        complain(c, ps, "redis_url", "%s", why);
    if (!c->redis_url.n && slice_is(c->redis_use, "true"))
        complain(c, ps, "redis_use", "is true, but REDIS_URL is not set");
}

static bool is_percent(struct slice s)
{
    int64_t n = 0;

    return yaml_text_int(s, &n) == GW_OK && n >= 1 && n <= 1000;
}

/* Keys with budgets are in the database: without it there are none. */
static void check_budgets(const struct conf *c, struct problems *ps)
{
    bool shared = c->redis_url.n && !slice_is(c->redis_use, "false");

    check_list(c, ps, "budget_alert_percent", &c->budget_alert_percent, is_percent,
               "a share in percent (80)");
    if (c->workers > 1 && c->database_url.n && !shared)
        warn(c, ps, "workers",
             "without Redis each of %" PRId64 " workers counts budgets and limits by itself",
             c->workers);
}

static void check_database_url(const struct conf *c, struct problems *ps, const char *field,
                               struct slice text)
{
    const char *why = "";
    struct pgurl url;

    if (text.n && pgurl_parse(text, &url, &why))
        complain(c, ps, field, "%s", why);
}

/* Blue and green together have to fit into the server's max_connections. The pool keeps to the
 * bound by opening fewer than max_overflow. */
static void check_database(const struct conf *c, struct problems *ps)
{
    int64_t all = c->workers * (c->pg_pool_size + c->pg_max_overflow);

    check_database_url(c, ps, "database_url", c->database_url);
    check_database_url(c, ps, "database_read_url", c->database_read_url);
    if (c->database_read_url.n && !c->database_url.n)
        complain(c, ps, "database_read_url", "needs DATABASE_URL too");
    if (c->database_url.n && all > CONF_DATABASE_CONNECTIONS)
        warn(c, ps, "pg_max_overflow",
             "%" PRId64 " connections of %" PRId64 " workers are over the %d of one instance; "
             "fewer are opened beyond pool_size",
             all, c->workers, CONF_DATABASE_CONNECTIONS);
}

void conf_check_values(const struct conf *c, struct problems *ps)
{
    int64_t begins;

    if (!address_bits(c->host))
        complain(c, ps, "host", "\"%.100s\" is not an IPv4 or IPv6 address", c->host.p);
    check_list(c, ps, "trusted_proxies", &c->trusted_proxies, is_cidr,
               "an address or CIDR block (10.0.0.0/8, ::1)");
    check_list(c, ps, "cors_origins", &c->cors_origins, is_allowed_origin,
               "an origin (scheme://host[:port] and nothing more, or *)");
    check_list(c, ps, "log_levels", &c->log_levels, is_component_level,
               "component=level (provider=debug)");
    check_tls(c, ps);
    check_overrides(c, ps);
    check_database(c, ps);
    check_redis(c, ps);
    check_budgets(c, ps);
    check_file(c, ps, "provider_ca_file", c->provider_ca_file);
    if (c->provider_proxy.n && !slice_starts(c->provider_proxy, "http://") &&
        !slice_starts(c->provider_proxy, "https://"))
        complain(c, ps, "provider_proxy", "must begin with http:// or https://");
    if (!day_parse(c->legacy_sunset, &begins))
        complain(c, ps, "legacy_sunset", "\"%.20s\" is not a day, YYYY-MM-DD", c->legacy_sunset.p);
    if (c->retry_base_ms > c->retry_max_ms)
        complain(c, ps, "retry_base_ms", "is longer than retry.max_ms (%" PRId64 ")",
                 c->retry_max_ms);
    if (c->watchdog_abort_ms && c->watchdog_abort_ms < c->watchdog_warn_ms)
        complain(c, ps, "watchdog_abort_ms", "is shorter than watchdog.warn_ms (%" PRId64 ")",
                 c->watchdog_warn_ms);
    if (c->stream_heartbeat_s > c->stream_gap_s)
        warn(c, ps, "stream_heartbeat_s",
             "is longer than streams.gap_s (%" PRId64 "): no heartbeat will be sent",
             c->stream_gap_s);
}

/* --- production ------------------------------------------------------------------------------- */

/* Letters and digits only, in lower case: "Change-Me" becomes "changeme". Cut to the size. */
static void squeeze(struct slice s, char *out, size_t size)
{
    size_t i, n = 0;

    for (i = 0; i < s.n && n + 1 < size; i++) {
        char c = s.p[i];

        if (is_alnum(c))
            out[n++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    out[n] = '\0';
}

/* The words of examples and templates. Each is long enough never to turn up in a random secret. */
static bool reads_like_example(struct slice s)
{
    static const char *const words[] = {
        "changeme",   "changethis", "changeinprod", "replaceme",   "replacethis", "placeholder",
        "yoursecret", "yourjwt",    "yourkey",      "supersecret", "secretkey",   "mysecret",
        "examplekey", "insecure",   "notsosecret",  "password",    "jwtsecret",   "masterkey"};
    char text[520];
    size_t i;

    squeeze(s, text, sizeof(text));
    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strstr(text, words[i]))
            return true;
    }
    return strncasecmp(s.p, "your-", 5) == 0 || strncasecmp(s.p, "your_", 5) == 0 || s.p[0] == '<';
}

/* "aaaa...", "0123456701234567...", "secretsecret...": of few characters, or one piece over and
 * over. */
static bool is_monotonous(struct slice s)
{
    bool seen[256] = {false};
    unsigned distinct = 0;
    size_t i, period;

    for (i = 0; i < s.n; i++) {
        distinct += !seen[(unsigned char)s.p[i]];
        seen[(unsigned char)s.p[i]] = true;
    }
    for (period = 1; period <= s.n / 2; period++) {
        if (memcmp(s.p, s.p + period, s.n - period) == 0)
            return true;
    }
    return distinct < SECRET_MIN_DISTINCT;
}

static void check_secret(const struct conf *c, struct problems *ps, const char *field,
                         struct slice s)
{
    if (s.n < SECRET_MIN_CHARS)
        complain(c, ps, field,
                 "%zu characters are too short for %.20s; at least %u are needed "
                 "(postern keygen makes one)",
                 s.n, c->environment.p, SECRET_MIN_CHARS);
    if (reads_like_example(s))
        complain(c, ps, field,
                 "is an example, not a secret; put one of your own there (postern keygen)");
    else if (s.n >= SECRET_MIN_CHARS && is_monotonous(s))
        complain(c, ps, field, "repeats itself; a random secret is needed (postern keygen)");
}

/* Letters of both cases, digits and others: how many of the four kinds there are. */
static unsigned count_kinds(const char *s)
{
    unsigned kinds = 0;

    for (; *s; s++) {
        if (*s >= 'a' && *s <= 'z')
            kinds |= 1;
        else if (*s >= 'A' && *s <= 'Z')
            kinds |= 2;
        else
            kinds |= *s >= '0' && *s <= '9' ? 4 : 8;
    }
    return (unsigned)__builtin_popcount(kinds);
}

/* Why a database's password is weak, or NULL. */
static const char *weakness(const struct pgurl *url)
{
    static const char *const weak[] = {"postgres", "postgresql", "admin",  "root",   "secret",
                                       "qwerty",   "letmein",    "pgpass", "default"};
    struct slice password = slice_cstr(url->password);
    size_t i;

    for (i = 0; i < sizeof(weak) / sizeof(weak[0]); i++) {
        if (slice_is_nocase(password, weak[i]))
            return "is one everybody tries first";
    }
    if (slice_is_nocase(password, url->user))
        return "is the user's name";
    if (reads_like_example(password))
        return "is an example";
    if (password.n < DATABASE_PASSWORD_MIN_CHARS)
        return "has fewer than 16 characters";
    if (count_kinds(url->password) < 2 || is_monotonous(password))
        return "is not mixed";
    return NULL;
}

static void check_database_password(const struct conf *c, struct problems *ps, const char *field,
                                    struct slice text)
{
    const char *why = NULL;
    struct pgurl url;

    if (text.n == 0 || pgurl_parse(text, &url, &why))
        return;
    if (url.password[0]) {
        why = weakness(&url);
        if (why)
            warn(c, ps, field, "the password %s; a random one is better", why);
    } else if (!url.local && !url.other_proof && !getenv("PGPASSWORD")) {
        warn(c, ps, field, "has no password for a database that is reached over the network");
    }
}

static void check_origins(const struct conf *c, struct problems *ps)
{
    unsigned i;

    for (i = 0; i < c->cors_origins.n; i++) {
        struct slice o = c->cors_origins.items[i];

        if (slice_is(o, "*"))
            complain(c, ps, "cors_origins", "* is refused in %.20s; list the origins",
                     c->environment.p);
        else if (slice_starts(o, "http://localhost") || slice_starts(o, "http://127.0.0.1"))
            warn(c, ps, "cors_origins", "%.100s is a development origin", o.p);
    }
}

void conf_check_production(const struct conf *c, struct problems *problems)
{
    if (!conf_is_production(c))
        return;
    if (c->jwt_secret.n == 0)
        complain(c, problems, "jwt_secret",
                 "is not set; %.20s needs a secret of at least %u "
                 "characters (postern keygen makes one)",
                 c->environment.p, SECRET_MIN_CHARS);
    else
        check_secret(c, problems, "jwt_secret", c->jwt_secret);
    if (c->jwt_secret_previous.n)
        check_secret(c, problems, "jwt_secret_previous", c->jwt_secret_previous);
    if (c->master_key.n)
        check_secret(c, problems, "master_key", c->master_key);
    if (c->master_key.n && slice_eq(c->master_key, c->jwt_secret))
        complain(c, problems, "master_key",
                 "is JWT_SECRET_KEY too; what signs tokens is not to be sent over the wire");
    if (!conf_auth_required(c))
        complain(c, problems, "require_auth", "authentication is off, which %.20s refuses",
                 c->environment.p);
    if (c->dev_open_tokens)
        complain(c, problems, "dev_open_tokens", "tokens without proof are refused in %.20s",
                 c->environment.p);
    if (!c->rate_enabled)
        complain(c, problems, "rate_enabled", "rate limits are off, which %.20s refuses",
                 c->environment.p);
    check_database_password(c, problems, "database_url", c->database_url);
    check_database_password(c, problems, "database_read_url", c->database_read_url);
    check_origins(c, problems);
}
