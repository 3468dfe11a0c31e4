/*
 * pgurl.c - see pgurl.h. Both forms are read the way libpq reads them: in a URL the first @ ends
 * user and password, so one that was not written as %40 shows as an @ in the host.
 */
#include "gateway/core/pgurl.h"

#include "gateway/core/hex.h"
#include "gateway/core/yaml.h"

#define VALUE_MAX 1024u

struct reading {
    struct pgurl *url;
    const char *why; /* first problem, or NULL */
    bool remote;     /* a host that is no socket */
};

static void fail(struct reading *r, const char *why)
{
    if (!r->why)
        r->why = why;
}

/* Percent-decoded and terminated; empty with a problem. */
static void decode(struct reading *r, struct slice s, char *to, size_t size)
{
    size_t i, n = 0;

    for (i = 0; i < s.n && n + 1 < size; i++) {
        int c = s.p[i];

        if (c == '%') {
            c = i + 2 < s.n ? hex_pair(s.p + i + 1) : -1;
            if (c < 0) {
                fail(r, "has a % without two hex digits after it (a % itself is %25)");
                break;
            }
            i += 2;
        }
        if (c == '\0')
            fail(r, "has a NUL in it");
        to[n++] = (char)c;
    }
    if (i < s.n)
        fail(r, "has a part that is too long");
    to[n] = '\0';
}

/* --- what a part means ------------------------------------------------------------------------ */

static struct slice next_entry(struct slice *list)
{
    size_t comma = slice_find(*list, ',');
    struct slice entry = slice_of(list->p, comma);

    *list = slice_from(*list, comma + 1);
    return entry;
}

static void take_port(struct reading *r, struct slice ports)
{
    int64_t number = 0;

    while (ports.n) {
        struct slice port = next_entry(&ports);

        if (port.n && (yaml_text_int(port, &number) || number < 1 || number > 65535))
            fail(r, "has a port that is no number from 1 to 65535");
    }
}

static void take_host(struct reading *r, struct slice hosts)
{
    while (hosts.n) {
        struct slice host = next_entry(&hosts);

        if (host.n == 0 || host.p[0] == '/' || host.p[0] == '@')
            continue; /* a socket, ordinary or abstract */
        r->remote = true;
        if (slice_find(host, '@') < host.n)
            fail(r, "has an @ in its host: in a user or password it is written %40");
    }
}

static void take_text(struct reading *r, struct slice value, char *to, size_t size)
{
    if (value.n >= size) {
        fail(r, "has a part that is too long");
        return;
    }
    memcpy(to, value.p, value.n);
    to[value.n] = '\0';
}

static void take(struct reading *r, struct slice key, struct slice value)
{
    if (key.n == 0)
        fail(r, "has a value without a keyword");
    else if (slice_is(key, "host") || slice_is(key, "hostaddr"))
        take_host(r, value);
    else if (slice_is(key, "port"))
        take_port(r, value);
    else if (slice_is(key, "user"))
        take_text(r, value, r->url->user, sizeof(r->url->user));
    else if (slice_is(key, "password"))
        take_text(r, value, r->url->password, sizeof(r->url->password));
    else if (value.n &&
             (slice_is(key, "passfile") || slice_is(key, "sslcert") || slice_is(key, "service")))
        r->url->other_proof = true;
}

/* --- the URL form ----------------------------------------------------------------------------- */

static void take_encoded(struct reading *r, struct slice key, struct slice value)
{
    char text[VALUE_MAX];

    decode(r, value, text, sizeof(text));
    take(r, key, slice_cstr(text));
}

static void read_query(struct reading *r, struct slice query)
{
    while (query.n) {
        size_t amp = slice_find(query, '&');
        struct slice pair = slice_of(query.p, amp);
        size_t eq = slice_find(pair, '=');

        if (eq == pair.n)
            fail(r, "has a parameter without = after its ?");
        take_encoded(r, slice_of(pair.p, eq), slice_from(pair, eq + 1));
        query = slice_from(query, amp + 1);
    }
}

/* host, host:port, [IPv6], [IPv6]:port */
static void read_host(struct reading *r, struct slice s)
{
    size_t end = slice_find(s, ':');

    if (s.n && s.p[0] == '[') {
        end = slice_find(s, ']');
        if (end == s.n || (end + 1 < s.n && s.p[end + 1] != ':')) {
            fail(r, "has an IPv6 address whose ] is missing or not at its end");
            return;
        }
        r->remote = true;
        end++;
    } else {
        take_encoded(r, SLICE("host"), slice_of(s.p, end));
    }
    if (end < s.n)
        take_port(r, slice_from(s, end + 1));
}

static void read_user(struct reading *r, struct slice s)
{
    size_t colon = slice_find(s, ':');

    take_encoded(r, SLICE("user"), slice_of(s.p, colon));
    if (colon < s.n)
        take_encoded(r, SLICE("password"), slice_from(s, colon + 1));
}

static void read_url(struct reading *r, struct slice s)
{
    size_t end = slice_find(s, '?'), at;
    struct slice where;

    read_query(r, slice_from(s, end + 1));
    where = slice_of(s.p, end);
    where.n = slice_find(where, '/');
    if (slice_find(slice_from(slice_of(s.p, end), where.n), '@') + where.n < end)
        fail(r, "has an @ after its host: in a user or password / is written %2F");
    at = slice_find(where, '@');
    if (at < where.n) {
        read_user(r, slice_of(where.p, at));
        where = slice_from(where, at + 1);
    }
    if (slice_find(where, '@') < where.n)
        fail(r, "has more than one @ before its host: in a user or password it is written %40");
    while (where.n)
        read_host(r, next_entry(&where));
}

/* --- the keyword form ------------------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Takes one value off the text: plain up to a space, or between quotes; \ keeps what follows. */
static struct slice read_value(struct reading *r, struct slice *s, char *text, size_t size)
{
    bool quoted = s->n && s->p[0] == '\'';
    size_t i = quoted, n = 0;

    for (; i < s->n && (quoted ? s->p[i] != '\'' : !is_space(s->p[i])); i++) {
        if (s->p[i] == '\\' && i + 1 < s->n)
            i++;
        if (n + 1 < size)
            text[n++] = s->p[i];
        else
            fail(r, "has a part that is too long");
    }
    if (quoted && i == s->n)
        fail(r, "has a quote that is not closed");
    *s = slice_from(*s, i + quoted);
    return slice_of(text, n);
}

static void skip_spaces(struct slice *s)
{
    while (s->n && is_space(s->p[0]))
        *s = slice_from(*s, 1);
}

static void read_keywords(struct reading *r, struct slice s)
{
    char text[VALUE_MAX];
    struct slice key;
    size_t n;

    for (skip_spaces(&s); s.n && !r->why; skip_spaces(&s)) {
        for (n = 0; n < s.n && s.p[n] != '=' && !is_space(s.p[n]); n++)
            ;
        key = slice_of(s.p, n);
        s = slice_from(s, n);
        skip_spaces(&s);
        if (s.n == 0 || s.p[0] != '=') {
            fail(r, "is neither a URL (postgresql://...) nor keywords (host=... dbname=...)");
            return;
        }
        s = slice_from(s, 1);
        skip_spaces(&s);
        take(r, key, read_value(r, &s, text, sizeof(text)));
    }
}

/* --- both ------------------------------------------------------------------------------------- */

static bool has_blank(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return true;
    }
    return false;
}

enum gw_err pgurl_parse(struct slice text, struct pgurl *ret, const char **ret_why)
{
    size_t scheme = slice_starts(text, "postgresql://") ? 13
                    : slice_starts(text, "postgres://") ? 11
                                                        : 0;
    struct reading r = {.url = ret};

    memset(ret, 0, sizeof(*ret));
    if (scheme && has_blank(text))
        fail(&r, "has a space or a control character in it");
    if (scheme)
        read_url(&r, slice_from(text, scheme));
    else
        read_keywords(&r, text);
    ret->local = !r.remote;
    if (!r.why)
        return GW_OK;
    *ret_why = r.why;
    return GW_EBADREQ;
}
