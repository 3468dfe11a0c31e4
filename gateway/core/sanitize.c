/* sanitize.c - see sanitize.h. */
#include "gateway/core/sanitize.h"

#include "gateway/core/utf8.h"

#include <arpa/inet.h>

#define MAX_NAME_BYTES 255u
#define MAX_EXTENSION_BYTES 16u
#define MAX_HOST_BYTES 253u

/* --- HTML and searches ------------------------------------------------------------------------ */

void sanitize_html(struct buf *out, struct slice text)
{
    static const char *const escapes[256] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;"};

    for (size_t i = 0; i < text.n; i++) {
        const char *e = escapes[(unsigned char)text.p[i]];

        if (e)
            buf_add_cstr(out, e);
        else
            buf_add_char(out, text.p[i]);
    }
}

/* C0, DEL and C1. */
static bool is_control(struct slice c)
{
    unsigned char b = (unsigned char)c.p[0];

    return b < 0x20 || b == 0x7f || (c.n == 2 && b == 0xc2 && (unsigned char)c.p[1] < 0xa0);
}

/* The first character, cut off *rest; a byte that is none counts as one. */
static struct slice next_char(struct slice *rest)
{
    size_t n = utf8_length(rest->p, rest->n);
    struct slice c = slice_of(rest->p, n ? n : 1);

    *rest = slice_from(*rest, c.n);
    return c;
}

struct slice sanitize_query(struct arena *a, struct slice text, size_t max_chars)
{
    char *out = arena_bytes(a, text.n + 1);
    size_t n = 0, chars = 0;
    bool gap = false;

    if (!out)
        return SLICE_NONE;
    while (text.n) {
        struct slice c = next_char(&text);

        if (c.p[0] == ' ' || (c.p[0] >= '\t' && c.p[0] <= '\r')) {
            gap = n > 0;
            continue;
        }
        if (is_control(c))
            continue;
        if (chars + 1 + gap > max_chars)
            break;
        if (gap)
            out[n++] = ' ';
        memcpy(out + n, c.p, c.n);
        n += c.n;
        chars += 1 + gap;
        gap = false;
    }
    out[n] = '\0';
    return slice_of(out, n);
}

/* --- file names ------------------------------------------------------------------------------- */

static struct slice last_component(struct slice path)
{
    size_t i = path.n;

    while (i && path.p[i - 1] != '/' && path.p[i - 1] != '\\')
        i--;
    return slice_from(path, i);
}

/* Devices of Windows, whatever stands behind a dot. */
static bool is_device(struct slice name)
{
    static const char *const devices[] = {"con", "prn", "aux", "nul", "clock$"};
    struct slice stem = slice_of(name.p, slice_find(name, '.'));

    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        if (slice_is_nocase(stem, devices[i]))
            return true;
    return stem.n == 4 && stem.p[3] >= '0' && stem.p[3] <= '9' &&
           (strncasecmp(stem.p, "com", 3) == 0 || strncasecmp(stem.p, "lpt", 3) == 0);
}

/* Cuts to MAX_NAME_BYTES between two characters, keeping a short extension. */
static size_t shorten(char *name, size_t n)
{
    size_t dot = n, keep, ext;

    if (n <= MAX_NAME_BYTES)
        return n;
    while (dot && name[dot - 1] != '.')
        dot--;
    ext = dot > 1 && n - dot < MAX_EXTENSION_BYTES ? n - dot + 1 : 0;
    keep = MAX_NAME_BYTES - ext;
    while (keep && ((unsigned char)name[keep] & 0xc0) == 0x80)
        keep--;
    while (keep && (name[keep - 1] == '.' || name[keep - 1] == ' '))
        keep--;
    memmove(name + keep, name + n - ext, ext);
    return keep + ext;
}

struct slice sanitize_filename(struct arena *a, struct slice name)
{
    struct slice rest = last_component(name);
    char *out = arena_bytes(a, rest.n + 2);
    size_t n = 0;

    if (!out)
        return SLICE_NONE;
    while (rest.n) {
        struct slice c = next_char(&rest);

        if (is_control(c) || (n == 0 && strchr(". -", c.p[0])) ||
            (n && out[n - 1] == '.' && c.p[0] == '.'))
            continue;
        if (strchr(":*?\"<>|$`;&%'", c.p[0]))
            c = SLICE("_");
        memcpy(out + n, c.p, c.n);
        n += c.n;
    }
    while (n && (out[n - 1] == '.' || out[n - 1] == ' '))
        n--;
    if (n == 0)
        return SLICE("file");
    if (is_device(slice_of(out, n))) {
        memmove(out + 1, out, n++);
        out[0] = '_';
    }
    n = shorten(out, n);
    return slice_of(out, n);
}

/* --- URLs ------------------------------------------------------------------------------------- */

struct net {
    unsigned char prefix[4];
    unsigned bits;
};

static bool in_net(const unsigned char *a, const unsigned char *prefix, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    unsigned char mask = (unsigned char)(0xff << (8 - rest));

    return memcmp(a, prefix, whole) == 0 && (rest == 0 || ((a[whole] ^ prefix[whole]) & mask) == 0);
}

/* The IPv4 special-purpose registry, and multicast. */
static bool is_public4(const unsigned char *a)
{
    static const struct net nets[] = {
        {{0}, 8},
        {{10}, 8},
        {{100, 64}, 10},
        {{127}, 8},
        {{169, 254}, 16},
        {{172, 16}, 12},
        {{192, 0, 0}, 24},
        {{192, 0, 2}, 24},
        {{192, 88, 99}, 24},
        {{192, 168}, 16},
        {{198, 18}, 15},
        {{198, 51, 100}, 24},
        {{203, 0, 113}, 24},
        {{224}, 4},
        {{240}, 4},
    };

    for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
        if (in_net(a, nets[i].prefix, nets[i].bits))
            return false;
    return true;
}

/* Only 2000::/3 is given out; in it, documentation, Teredo, ORCHID and benchmarks are special. What
 * carries an IPv4 address is judged by that. */
static bool is_public6(const unsigned char *a)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff},
                               nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const unsigned char doc[4] = {0x20, 0x01, 0x0d, 0xb8}, ietf[4] = {0x20, 0x01, 0, 0};
    static const unsigned char six[2] = {0x20, 0x02}, doc2[3] = {0x3f, 0xff, 0};

    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return is_public4(a + 12);
    if ((a[0] & 0xe0) != 0x20)
        return false;
    if (in_net(a, six, 16))
        return is_public4(a + 2);
    return !in_net(a, doc, 32) && !in_net(a, ietf, 23) && !in_net(a, doc2, 20);
}

bool sanitize_is_public(int family, const unsigned char *bytes)
{
    return family == AF_INET ? is_public4(bytes) : family == AF_INET6 && is_public6(bytes);
}

static bool ends_nocase(const char *s, size_t n, const char *tail)
{
    size_t k = strlen(tail);

    return n >= k && strncasecmp(s + n - k, tail, k) == 0;
}

/* A host that is a name. */
static const char *name_problem(const char *host, size_t n)
{
    static const char *const tails[] = {".localhost", ".local", ".internal",  ".intranet", ".lan",
                                        ".home",      ".corp",  ".home.arpa", ".onion"};

    for (size_t i = 0; i < n; i++)
        if (!((host[i] >= '0' && host[i] <= '9') ||
              ((host[i] | 0x20) >= 'a' && (host[i] | 0x20) <= 'z') || host[i] == '-' ||
              host[i] == '.'))
            return "the host is not a name of the internet";
    if (!memchr(host, '.', n) || host[0] == '.' || memmem(host, n, "..", 2))
        return "the host is not a name of the internet";
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++)
        if (ends_nocase(host, n, tails[i]))
            return "the host is of a private network";
    return NULL;
}

static const char *host_problem(struct slice host)
{
    static const char private[] = "the address is not public";
    unsigned char six[16];
    struct in_addr four;
    char text[MAX_HOST_BYTES + 1];
    bool bracketed = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';

    if (bracketed)
        host = slice_of(host.p + 1, host.n - 2);
    if (host.n && host.p[host.n - 1] == '.')
        host.n--; /* the root; names and addresses may end with it */
    if (host.n == 0 || host.n > MAX_HOST_BYTES)
        return "the host is missing or too long";
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (bracketed)
        return inet_pton(AF_INET6, text, six) == 1 && is_public6(six) ? NULL : private;
    if (strlen(text) == host.n && inet_aton(text, &four)) /* 127.1, 0x7f000001, 2130706433 */
        return is_public4((const unsigned char *)&four.s_addr) ? NULL : private;
    return name_problem(text, host.n);
}

const char *sanitize_url(struct slice url)
{
    size_t scheme = slice_starts(url, "https://") ? 8 : 7, end, port;
    struct slice authority;

    if (!slice_starts(url, "https://") && !slice_starts(url, "http://"))
        return "only http:// and https:// URLs are fetched";
    for (size_t i = 0; i < url.n; i++)
        if ((unsigned char)url.p[i] <= 0x20 || (unsigned char)url.p[i] >= 0x7f || url.p[i] == '\\')
            return "special characters must be percent-encoded";
    for (end = scheme; end < url.n && !strchr("/?#", url.p[end]); end++)
        ;
    authority = slice_of(url.p + scheme, end - scheme);
    if (slice_find(authority, '@') < authority.n)
        return "credentials do not belong in a URL";
    if (slice_find(authority, '%') < authority.n)
        return "the host is not a name of the internet";
    port = authority.n && authority.p[0] == '[' ? slice_find(authority, ']') + 1
                                                : slice_find(authority, ':');
    if (port < authority.n && authority.p[port] != ':')
        return "the host is not a name of the internet";
    for (size_t i = port + 1; i < authority.n; i++)
        if (authority.p[i] < '0' || authority.p[i] > '9' || i > port + 5)
            return "the port is no number";
    return host_problem(slice_of(authority.p, port < authority.n ? port : authority.n));
}
