/* vectors.c - see vectors.h. A kept vector is: 'j' or 'b' (a JSON array, or base64), the length of
 * the model's name in two bytes, the name, the vector's text. */
#include "handlers/vectors.h"

#include "gateway/core/canonical.h"
#include "storage/cache.h"

#define KEY_VERSION SLICE("vector 1")
#define MAX_FETCHES 64u /* of one request; a batch larger than that is mostly new */
#define HEAD_BYTES 3u

struct vectors_fetch {
    struct vectors *owner;
    struct op *op;
    unsigned i;
};

static enum gw_err key_of(const struct request *req, const struct dialect_embed_request *ask,
                          const struct registry_route *route, struct slice text,
                          struct lru_key *ret)
{
    struct canonical c;
    enum gw_err err;

    canonical_init(&c, text.n + 65536);
    canonical_add(&c, KEY_VERSION);
    canonical_add(&c, reuse_tenant(req));
    canonical_add(&c, text);
    canonical_add_int(&c, ask->dimensions);
    canonical_add_int(&c, ask->base64);
    canonical_add(&c, ask->task);
    canonical_add(&c, ask->title);
    for (unsigned i = 0; i < route->n_targets; i++)
        canonical_add(&c, route->targets[i].model->id);
    err = canonical_hash(&c, ret->sha);
    canonical_deinit(&c);
    return err;
}

/* Puts a kept vector in its place; its bytes are copied, since the cache may drop it. */
static void put(struct vectors *v, unsigned i, const struct blob *b)
{
    struct arena *a = v->req->arena;
    struct slice s = blob_slice(b), value;
    size_t name_n;

    if (s.n < HEAD_BYTES)
        return;
    name_n = (unsigned char)s.p[1] | (size_t)(unsigned char)s.p[2] << 8;
    if (s.n < HEAD_BYTES + name_n)
        return;
    value = arena_dup(a, slice_from(s, HEAD_BYTES + name_n));
    if (!value.p || !value.n)
        return;
    if (!v->model.n)
        v->model = arena_dup(a, slice_of(s.p + HEAD_BYTES, name_n));
    v->got[i] = (struct dialect_embedding){.value = value, .is_base64 = s.p[0] == 'b'};
    v->cached[i] = true;
    v->n_got++;
}

enum gw_err vectors_look(struct vectors *v, struct request *req, const struct reuse_policy *policy,
                         const struct dialect_embed_request *ask,
                         const struct registry_route *route)
{
    const struct reuse_policy *p = &v->policy;
    enum gw_err err = GW_OK;

    *v = (struct vectors){.req = req, .ask = ask, .policy = *policy};
    if (ask->n_inputs == 0 || !p->keep)
        return GW_OK;
    v->got = arena_array(req->arena, struct dialect_embedding, ask->n_inputs);
    v->cached = arena_array(req->arena, bool, ask->n_inputs);
    v->keys = arena_array(req->arena, struct lru_key, ask->n_inputs);
    if (!v->got || !v->cached || !v->keys)
        return GW_ENOMEM;
    v->n = ask->n_inputs;
    for (unsigned i = 0; i < v->n && !err; i++) {
        struct blob *b;

        err = key_of(req, ask, route, ask->inputs[i], &v->keys[i]);
        b = !err && p->look ? cache_look(CACHE_EMBEDDING, &v->keys[i], p->max_age_us) : NULL;
        if (b)
            put(v, i, b);
    }
    return err;
}

/* --- Redis ----------------------------------------------------------------------------------- */

static void on_fetched(struct blob *b, void *arg)
{
    struct vectors_fetch *f = arg;
    struct vectors *v = f->owner;

    f->op = NULL;
    if (b)
        put(v, f->i, b);
    if (--v->outstanding == 0)
        v->done(v->arg);
}

bool vectors_fetch(struct vectors *v, void (*done)(void *arg), void *arg)
{
    unsigned n = 0, wanted = v->n - v->n_got;

    if (!v->policy.look || wanted == 0 || wanted > MAX_FETCHES)
        return false;
    v->fetches = arena_array(v->req->arena, struct vectors_fetch, wanted);
    if (!v->fetches)
        return false;
    v->done = done;
    v->arg = arg;
    for (unsigned i = 0; i < v->n; i++) {
        struct vectors_fetch *f = &v->fetches[n];

        if (v->got[i].value.p)
            continue;
        *f = (struct vectors_fetch){.owner = v, .i = i};
        f->op = cache_fetch(CACHE_EMBEDDING, &v->keys[i], v->policy.max_age_us, on_fetched, f);
        v->outstanding += f->op != NULL;
        n++;
    }
    return v->outstanding > 0;
}

void vectors_cancel(struct vectors *v)
{
    unsigned wanted = v->outstanding;

    for (unsigned i = 0; wanted > 0; i++)
        if (v->fetches[i].op) {
            op_cancel(&v->fetches[i].op);
            wanted--;
        }
    v->outstanding = 0;
}

/* --- the rest -------------------------------------------------------------------------------- */

const struct dialect_embed_request *vectors_rest(struct vectors *v)
{
    struct slice *texts;
    unsigned n = 0;

    if (v->n == 0 || v->n_got == 0)
        return v->ask;
    if (v->n_got == v->n)
        return NULL;
    texts = arena_array(v->req->arena, struct slice, v->n - v->n_got);
    if (!texts) { /* ask for all of them: it costs more, and is right */
        v->n_got = 0;
        memset(v->got, 0, v->n * sizeof(*v->got));
        memset(v->cached, 0, v->n * sizeof(*v->cached));
        return v->ask;
    }
    for (unsigned i = 0; i < v->n; i++)
        if (!v->got[i].value.p)
            texts[n++] = v->ask->inputs[i];
    v->rest = *v->ask;
    v->rest.inputs = texts;
    v->rest.n_inputs = n;
    return &v->rest;
}

static void keep(struct vectors *v, unsigned i, struct slice model)
{
    uint64_t ttl_us = (uint64_t)v->req->conf->cache_embedding_ttl_s * 1000000u;
    struct dialect_embedding *e = &v->got[i];
    struct blob *b = model.n < 65536 ? blob_new(HEAD_BYTES + model.n + e->value.n) : NULL;
    char *at;

    if (!b)
        return;
    b->bytes[0] = e->is_base64 ? 'b' : 'j';
    b->bytes[1] = (char)(model.n & 255);
    b->bytes[2] = (char)(model.n >> 8);
    at = b->bytes + HEAD_BYTES;
    if (model.n)
        at = mempcpy(at, model.p, model.n);
    memcpy(at, e->value.p, e->value.n);
    cache_store(CACHE_EMBEDDING, &v->keys[i], b, ttl_us);
    blob_unref(b);
}

enum gw_err vectors_take(struct vectors *v, const struct dialect_embed_answer *ans)
{
    unsigned next = 0;

    if (v->n == 0) { /* nothing is kept of this request */
        v->got = ans->vectors;
        v->n = v->n_got = ans->n;
        v->cached = arena_array(v->req->arena, bool, ans->n);
        v->model = ans->model;
        return v->cached || ans->n == 0 ? GW_OK : GW_ENOMEM;
    }
    if (ans->n != v->n - v->n_got)
        return GW_EUPBAD;
    v->model = ans->model.n ? ans->model : v->model;
    for (unsigned i = 0; i < v->n; i++) {
        if (v->got[i].value.p)
            continue;
        v->got[i] = ans->vectors[next++];
        keep(v, i, ans->model);
    }
    v->n_got = v->n;
    return GW_OK;
}

struct dialect_embed_answer vectors_answer(const struct vectors *v, const struct convo_usage *usage)
{
    return (struct dialect_embed_answer){
        .model = v->model, .vectors = v->got, .n = v->n, .usage = *usage};
}
