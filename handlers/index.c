/* index.c - see index.h. The links are the resources of the table of routes, so none is forgotten.
 */
#include "handlers/index.h"

#include "gateway/core/json.h"
#include "gateway/http/router.h"
#include "handlers/routes.h"

#define MAX_OUT 65536u
#define MAX_LINKS 64u
#define V1 "/api/v1/"

struct links {
    struct json_writer w;
    struct slice seen[MAX_LINKS];
    unsigned n;
};

static bool is_new(struct links *l, struct slice name)
{
    for (unsigned i = 0; i < l->n; i++)
        if (slice_eq(l->seen[i], name))
            return false;
    if (l->n == MAX_LINKS)
        return false;
    l->seen[l->n++] = name;
    return true;
}

/* A resource is what stands right below the version: /api/v1/chat, not /api/v1/chat/ws. */
static void put_link(const struct route *r, void *arg)
{
    struct links *l = arg;
    struct slice path = slice_cstr(r->path), name;

    if (!slice_starts(path, V1))
        return;
    name = slice_from(path, sizeof(V1) - 1);
    if (name.n && slice_find(name, '/') == name.n && is_new(l, name)) {
        json_put_key_slice(&l->w, name);
        json_put_str(&l->w, path);
    }
}

void index_get(struct request *req)
{
    struct links l = {.n = 0};
    struct buf out;

    json_begin(&l.w, &out, MAX_OUT);
    json_obj(&l.w);
    json_kv_cstr(&l.w, "name", "postern");
    json_kv_cstr(&l.w, "version", POSTERN_VERSION);
    json_kv_obj(&l.w, "links");
    routes_each(put_link, &l);
    json_obj_end(&l.w);
    json_obj_end(&l.w);
    request_finish_buf(req, &out);
}
