/* legacy.c - see legacy.h. */
#include "gateway/http/legacy.h"

#define V1 "/api/v1/"
#define MAX_PATH_BYTES (64u << 10)

/* Old names that do not follow from the new ones. A plain alias stays: it is not deprecated. */
static const struct name {
    const char *path, *successor;
    bool plain;
} names[] = {
    {"/auth/token", "/api/v1/auth/token", false},
    {"/auth/validate", "/api/v1/auth/validate", false},
    {"/chat", "/api/v1/chat", false},
    {"/api/docs", "/docs", true},
    {"/api/redoc", "/redoc", true},
    {"/api/openapi.json", "/openapi.json", true},
};

#define N_NAMES (sizeof(names) / sizeof(names[0]))

static bool has_row(const struct route *rows, unsigned n, enum http_method method, const char *path)
{
    for (unsigned i = 0; i < n; i++)
        if (rows[i].method == method && strcmp(rows[i].path, path) == 0)
            return true;
    return false;
}

/* Adds an alias of `of`, unless the path is taken. */
static void add_alias(struct route *all, unsigned *n, const struct route *of, const char *path,
                      bool plain)
{
    if (has_row(all, *n, of->method, path))
        return;
    all[*n] = *of;
    all[*n].path = path;
    all[*n].successor = plain ? NULL : of->path;
    (*n)++;
}

/* "/api/v1/X" -> "/api/X"; NULL for other paths, or out of memory (told by the arena). */
static const char *without_version(struct arena *a, const char *path)
{
    size_t n = sizeof(V1) - 1;

    if (strncmp(path, V1, n) != 0 || !path[n])
        return NULL;
    return arena_printf(a, "/api/%s", path + n).p;
}

enum gw_err legacy_widen(struct arena *a, const struct route *rows, unsigned n,
                         const struct route **ret_rows, unsigned *ret_n)
{
    unsigned refused = arena_refusals(a), total = n;
    struct route *all = arena_array(a, struct route, (size_t)n * 3);

    if (!all)
        return GW_ENOMEM;
    memcpy(all, rows, n * sizeof(*rows));
    for (unsigned i = 0; i < n; i++) {
        const char *path = without_version(a, rows[i].path);

        if (path)
            add_alias(all, &total, &rows[i], path, false);
        for (unsigned k = 0; k < N_NAMES; k++)
            if (strcmp(names[k].successor, rows[i].path) == 0)
                add_alias(all, &total, &rows[i], names[k].path, names[k].plain);
    }
    *ret_rows = all;
    *ret_n = total;
    return arena_refusals(a) == refused ? GW_OK : GW_ENOMEM;
}

/* --- where it is now -------------------------------------------------------------------------- */

/* A parameter's value as one segment of a path (or more, for "{name...}"). */
static void add_param(struct buf *b, struct slice value, bool rest)
{
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == '%')
            buf_add_cstr(b, "%25");
        else if (value.p[i] == '/' && !rest)
            buf_add_cstr(b, "%2F");
        else
            buf_add_char(b, value.p[i]);
    }
}

static void fill_template(struct buf *b, const struct request *req, const char *p)
{
    unsigned param = 0;

    while (*p) {
        size_t n = strcspn(p, "{");

        buf_add(b, p, n);
        p += n;
        if (*p != '{')
            continue;
        n = strcspn(p, "}");
        if (param < REQUEST_MAX_PARAMS)
            add_param(b, req->params[param++], n > 4 && memcmp(p + n - 3, "...", 3) == 0);
        p += n + (p[n] == '}');
    }
}

struct slice legacy_path(const struct request *req)
{
    struct slice path;
    struct buf b;

    if (!req->route || !req->route->successor)
        return req->path;
    buf_init(&b, MAX_PATH_BYTES);
    fill_template(&b, req, req->route->successor);
    path = buf_err(&b) ? SLICE_NONE : arena_dup(req->arena, buf_slice(&b));
    buf_deinit(&b);
    return path;
}
