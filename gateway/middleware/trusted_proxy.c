/*
 * trusted_proxy.c - the address a request really comes from.
 *
 * X-Forwarded-For is believed only from a peer in conf's trusted_proxies, and then read from the
 * right: the first address that is not itself a trusted proxy is the client. Everything left of it
 * was written by somebody we have no reason to trust.
 *
 * Addresses are kept in one spelling (RFC 5952, IPv4 as IPv4): limits and the audit record go by
 * it.
 */
#include "gateway/middleware/middleware.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define MAPPED_BITS 96u /* in front of an IPv4 address inside IPv6 */

struct address {
    int family;
    bool mapped; /* was written as ::ffff:a.b.c.d */
    unsigned char bytes[16];
};

static bool address_parse(struct slice text, struct address *ret)
{
    char buf[INET6_ADDRSTRLEN];
    struct in6_addr v6;

    if (text.n >= 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
        text = slice_of(text.p + 1, text.n - 2);
    if (text.n == 0 || text.n >= sizeof(buf))
        return false;
    memcpy(buf, text.p, text.n);
    buf[text.n] = '\0';
    *ret = (struct address){.family = AF_INET};
    if (!memchr(buf, ':', text.n))
        return inet_pton(AF_INET, buf, ret->bytes) == 1;
    if (inet_pton(AF_INET6, buf, &v6) != 1)
        return false;
    ret->mapped = IN6_IS_ADDR_V4MAPPED(&v6);
    if (ret->mapped) {
        memcpy(ret->bytes, v6.s6_addr + MAPPED_BITS / 8, 4);
        return true;
    }
    ret->family = AF_INET6;
    memcpy(ret->bytes, v6.s6_addr, sizeof(ret->bytes));
    return true;
}

/* In the arena; p == NULL out of memory. */
static struct slice address_text(struct arena *a, const struct address *of)
{
    char buf[INET6_ADDRSTRLEN];

    return inet_ntop(of->family, of->bytes, buf, sizeof(buf)) ? arena_dup(a, slice_cstr(buf))
                                                              : SLICE_NONE;
}

static bool same_prefix(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    unsigned char mask = (unsigned char)(0xff << (8 - rest));

    return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

static bool in_range(const struct address *a, struct slice range)
{
    size_t slash = slice_find(range, '/');
    struct address net;
    unsigned bits, width;

    if (!address_parse(slice_of(range.p, slash), &net) || net.family != a->family)
        return false;
    width = net.family == AF_INET ? 32 : 128;
    bits = slash < range.n ? (unsigned)strtoul(range.p + slash + 1, NULL, 10) : width;
    if (net.mapped && slash < range.n)
        bits = bits > MAPPED_BITS ? bits - MAPPED_BITS : 0;
    return bits <= width && same_prefix(a->bytes, net.bytes, bits);
}

static bool is_trusted(const struct request *req, struct slice text)
{
    struct address a;
    unsigned i;

    if (!address_parse(text, &a))
        return false;
    for (i = 0; i < req->conf->trusted_proxies.n; i++)
        if (in_range(&a, req->conf->trusted_proxies.items[i]))
            return true;
    return false;
}

/* The last element of a comma-separated list, cut off the list. */
static struct slice last_element(struct slice *list)
{
    size_t i = list->n;
    struct slice last;

    while (i > 0 && list->p[i - 1] != ',')
        i--;
    last = slice_trim(slice_of(list->p + i, list->n - i));
    list->n = i > 0 ? i - 1 : 0;
    return last;
}

enum chain_verdict trusted_proxy_run(struct request *req)
{
    struct slice list = request_header(req, "x-forwarded-for"), hop;
    struct address a;

    req->peer_trusted = req->conf->trusted_proxies.n > 0 && is_trusted(req, req->peer);
    if (!req->peer_trusted || request_header_count(req, "x-forwarded-for") != 1)
        return CHAIN_NEXT;
    while (list.n > 0) {
        hop = last_element(&list);
        if (!address_parse(hop, &a))
            break;
        req->client_ip = address_text(req->arena, &a);
        if (!req->client_ip.p)
            req->client_ip = req->peer;
        if (!is_trusted(req, hop))
            break;
    }
    return CHAIN_NEXT;
}
