/*
 * router.c - see router.h. A tree of path segments; each node knows the routes that end there, by
 * method.
 */
#include "gateway/http/router.h"

#include <assert.h>
#include <stdlib.h>

struct node {
    struct slice literal;  /* bytes of the template; empty for a parameter's node */
    struct node *children; /* literal children */
    struct node *next;     /* sibling among literals */
    struct node *param;    /* child for any one segment, or NULL */
    const struct route *here[HTTP_METHODS]; /* the path ends at this node */
    const struct route *rest[HTTP_METHODS]; /* "{name...}" below this node */
};

static struct node *root;

static struct slice next_segment(struct slice *path)
{
    struct slice rest = slice_from(*path, 1); /* behind the slash */
    size_t n = slice_find(rest, '/');

    *path = slice_from(rest, n);
    return slice_of(rest.p, n);
}

/* --- building ------------------------------------------------------------------------------ */

static struct node *literal_child(const struct node *n, struct slice segment)
{
    struct node *c = n->children;

    while (c && !slice_eq(c->literal, segment))
        c = c->next;
    return c;
}

static struct node *add_child(struct node *n, struct slice segment, bool is_param)
{
    struct node *c = is_param ? n->param : literal_child(n, segment);

    if (c)
        return c;
    c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    if (is_param) {
        n->param = c;
    } else {
        c->literal = segment;
        c->next = n->children;
        n->children = c;
    }
    return c;
}

static bool is_param(struct slice segment)
{
    return segment.n > 2 && segment.p[0] == '{' && segment.p[segment.n - 1] == '}';
}

static bool is_rest(struct slice segment)
{
    return is_param(segment) && segment.n > 5 && memcmp(segment.p + segment.n - 4, "...}", 4) == 0;
}

static enum gw_err put(const struct route **slot, const struct route *r)
{
    if (*slot)
        return GW_EINTERNAL;
    *slot = r;
    return GW_OK;
}

static enum gw_err add_route(const struct route *r)
{
    struct slice path = slice_cstr(r->path), segment;
    struct node *n = root;
    unsigned params = 0;

    if (path.n == 0 || path.p[0] != '/')
        return GW_EINTERNAL;
    while (path.n) {
        segment = next_segment(&path);
        params += is_param(segment);
        if (params > REQUEST_MAX_PARAMS || (is_rest(segment) && path.n))
            return GW_EINTERNAL;
        if (is_rest(segment))
            return put(&n->rest[r->method], r);
        n = add_child(n, segment, is_param(segment));
        if (!n)
            return GW_ENOMEM;
    }
    return put(&n->here[r->method], r);
}

static void free_tree(struct node *n)
{
    struct node *c, *next;

    if (!n)
        return;
    for (c = n->children; c; c = next) {
        next = c->next;
        free_tree(c);
    }
    free_tree(n->param);
    free(n);
}

void router_deinit(void)
{
    free_tree(root);
    root = NULL;
}

enum gw_err router_init(const struct route *routes, unsigned n)
{
    enum gw_err err = GW_OK;

    router_deinit();
    root = calloc(1, sizeof(*root));
    if (!root)
        return GW_ENOMEM;
    for (unsigned i = 0; i < n && !err; i++)
        err = add_route(&routes[i]);
    if (err)
        router_deinit();
    return err;
}

/* --- finding ------------------------------------------------------------------------------- */

struct search {
    enum http_method method;
    unsigned allow; /* bit per method any matching template has */
    struct slice params[REQUEST_MAX_PARAMS];
    unsigned n_params;
};

static const struct route *pick(const struct route *const *by_method, struct search *s)
{
    for (unsigned m = 0; m < HTTP_METHODS; m++)
        if (by_method[m])
            s->allow |= 1u << m;
    if (s->method == HTTP_HEAD && !by_method[HTTP_HEAD])
        return by_method[HTTP_GET];
    return by_method[s->method];
}

static const struct route *find(const struct node *n, struct slice path, struct search *s)
{
    unsigned depth = s->n_params;
    const struct route *r = NULL;
    struct slice rest = path, segment;
    const struct node *child;

    if (path.n == 0)
        return pick(n->here, s);
    segment = next_segment(&rest);
    child = literal_child(n, segment);
    if (child)
        r = find(child, rest, s);
    if (r)
        return r;
    if (n->param && segment.n && depth < REQUEST_MAX_PARAMS) {
        s->params[depth] = segment;
        s->n_params = depth + 1;
        r = find(n->param, rest, s);
    }
    if (r)
        return r;
    s->n_params = depth;
    if (path.n > 1 && depth < REQUEST_MAX_PARAMS)
        r = pick(n->rest, s);
    if (r)
        s->params[s->n_params++] = slice_from(path, 1);
    return r;
}

/* The escapes gate.c leaves in a path: %2F and %25. */
static struct slice unescape(struct arena *a, struct slice s)
{
    char *out;
    size_t n = 0;

    if (slice_find(s, '%') == s.n)
        return s;
    out = arena_bytes(a, s.n + 1);
    if (!out)
        return SLICE_NONE;
    for (size_t i = 0; i < s.n; i++) {
        bool escape = s.p[i] == '%' && s.n - i > 2;

        out[n++] = escape ? (s.p[i + 2] == '5' ? '%' : '/') : s.p[i];
        i += escape ? 2 : 0;
    }
    out[n] = '\0';
    return slice_of(out, n);
}

struct slice router_allow_text(struct arena *a, unsigned allow)
{
    char text[80];
    size_t n = 0;

    if (allow & (1u << HTTP_GET))
        allow |= 1u << HTTP_HEAD;
    allow |= 1u << HTTP_OPTIONS;
    for (unsigned m = 0; m < HTTP_METHODS; m++) {
        if (!(allow & (1u << m)))
            continue;
        if (n)
            n = (size_t)(stpcpy(text + n, ", ") - text);
        n = (size_t)(stpcpy(text + n, http_method_name((enum http_method)m)) - text);
    }
    assert(n < sizeof(text));
    return arena_dup(a, slice_of(text, n));
}

enum gw_err router_find(struct arena *a, enum http_method method, struct slice path,
                        const struct route **ret_route, struct slice *params,
                        struct slice *ret_allow)
{
    struct search s = {.method = method};
    const struct route *r;

    if (!root || path.n == 0 || path.p[0] != '/')
        return GW_ENOTFOUND;
    r = find(root, path, &s);
    if (!r && !s.allow)
        return GW_ENOTFOUND;
    if (!r) {
        *ret_allow = router_allow_text(a, s.allow);
        return GW_EMETHOD;
    }
    for (unsigned i = 0; i < s.n_params; i++) {
        params[i] = unescape(a, s.params[i]);
        if (!params[i].p)
            return GW_ENOMEM;
    }
    *ret_route = r;
    return GW_OK;
}

/* /v1/models is two vendors' path: the caller's headers say whose. */
static bool tells_anthropic_models(const struct request *req)
{
    return req->route->surface == SURFACE_OPENAI && slice_starts(req->path, "/v1/models") &&
           request_header(req, "anthropic-version").p != NULL;
}

enum surface surface_of(const struct request *req)
{
    if (req->route && !tells_anthropic_models(req))
        return req->route->surface;
    if (req->route)
        return SURFACE_ANTHROPIC;
    if (slice_is(req->path, "/v1/messages") || slice_starts(req->path, "/v1/messages/"))
        return SURFACE_ANTHROPIC;
    if (slice_starts(req->path, "/v1beta/"))
        return SURFACE_GOOGLE;
    return slice_starts(req->path, "/v1/") ? SURFACE_OPENAI : SURFACE_NATIVE;
}
