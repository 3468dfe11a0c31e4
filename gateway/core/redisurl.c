/* redisurl.c - see redisurl.h. */
#include "gateway/core/redisurl.h"

#include "gateway/core/hex.h"
#include "gateway/core/yaml.h"

#define UNIX_PATH_MAX_BYTES 107u /* sockaddr_un */
#define DB_MAX 65535

/* Percent-decoded and terminated; false when it does not fit, has a bad escape or a NUL. */
static bool decode(struct slice s, char *to, size_t size)
{
    size_t i, n = 0;

    for (i = 0; i < s.n; i++) {
        int c = s.p[i];

        if (c == '%') {
            c = i + 2 < s.n ? hex_pair(s.p + i + 1) : -1;
            if (c < 0)
                return false;
            i += 2;
        }
        if (c == '\0' || n + 1 >= size)
            return false;
        to[n++] = (char)c;
    }
    to[n] = '\0';
    return true;
}

static bool copy(struct slice s, char *to, size_t size)
{
    if (s.n == 0 || s.n >= size || memchr(s.p, '\0', s.n))
        return false;
    memcpy(to, s.p, s.n);
    to[s.n] = '\0';
    return true;
}

static bool number(struct slice s, int64_t min, int64_t max, int64_t *ret)
{
    return s.n && s.p[0] >= '0' && s.p[0] <= '9' && yaml_text_int(s, ret) == GW_OK && *ret >= min &&
           *ret <= max;
}

/* "[user]:password@" in front of *rest. */
static const char *take_credentials(struct slice *rest, struct redisurl *u)
{
    const char *at = rest->n ? memrchr(rest->p, '@', rest->n) : NULL;
    struct slice info;
    size_t colon;

    if (!at)
        return NULL;
    info = slice_of(rest->p, (size_t)(at - rest->p));
    *rest = slice_from(*rest, info.n + 1);
    colon = slice_find(info, ':');
    if (colon == info.n)
        return "a user needs a password: user:password@, or :password@ for the default user";
    if (!decode(slice_of(info.p, colon), u->user, sizeof(u->user)) ||
        !decode(slice_from(info, colon + 1), u->password, sizeof(u->password)))
        return "the user or password is too long, or has a bad percent escape";
    return u->password[0] ? NULL : "the password is empty";
}

static const char *take_db(struct slice text, struct redisurl *u)
{
    int64_t db = 0;

    if (text.n && !number(text, 0, DB_MAX, &db))
        return "the database is no number";
    u->db = (int)db;
    return NULL;
}

static const char *parse_unix(struct slice rest, struct redisurl *u)
{
    const char *why = take_credentials(&rest, u);
    size_t mark = slice_find(rest, '?');
    struct slice path = slice_of(rest.p, mark), query = slice_from(rest, mark + 1);

    if (why)
        return why;
    u->local = true;
    if (!slice_starts(path, "/") || path.n > UNIX_PATH_MAX_BYTES ||
        !copy(path, u->host, sizeof(u->host)))
        return "needs an absolute path of at most 107 bytes: unix:///run/redis.sock";
    if (query.n && !slice_starts(query, "db="))
        return "only ?db=N may follow the path";
    return take_db(slice_from(query, 3), u);
}

/* Host and port; the port is what follows the last colon outside brackets. */
static const char *parse_host(struct slice host, struct redisurl *u)
{
    size_t end = slice_starts(host, "[") ? slice_find(host, ']') : 0, colon;
    int64_t port = REDISURL_DEFAULT_PORT;
    struct slice tail;

    if (end && end == host.n)
        return "an IPv6 address needs its closing bracket";
    colon = end ? end + 1 : slice_find(host, ':');
    tail = slice_from(host, colon);
    if (tail.n && (tail.p[0] != ':' || !number(slice_from(tail, 1), 1, 65535, &port)))
        return "the port is no number from 1 to 65535 (an IPv6 address goes in brackets)";
    u->port = (uint16_t)port;
    host = end ? slice_of(host.p + 1, end - 1) : slice_of(host.p, colon);
    return copy(host, u->host, sizeof(u->host)) ? NULL : "has no host";
}

static const char *parse_tcp(struct slice rest, struct redisurl *u)
{
    const char *why = take_credentials(&rest, u);
    size_t slash = slice_find(rest, '/');

    if (why)
        return why;
    if (slice_find(rest, '?') < rest.n || slice_find(rest, '#') < rest.n)
        return "nothing may follow the database";
    why = parse_host(slice_of(rest.p, slash), u);
    return why ? why : take_db(slice_from(rest, slash + 1), u);
}

enum gw_err redisurl_parse(struct slice text, struct redisurl *ret, const char **ret_why)
{
    const char *why;

    *ret = (struct redisurl){0};
    if (slice_starts(text, "redis://"))
        why = parse_tcp(slice_from(text, 8), ret);
    else if (slice_starts(text, "unix://"))
        why = parse_unix(slice_from(text, 7), ret);
    else if (slice_starts(text, "rediss://"))
        why = "rediss:// (TLS) is not supported; put a TLS tunnel beside the gateway and use "
              "redis:// or unix://";
    else
        why = "must begin with redis:// or unix://";
    if (why)
        *ret_why = why;
    return why ? GW_EBADREQ : GW_OK;
}
