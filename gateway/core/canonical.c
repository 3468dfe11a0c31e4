/* canonical.c - see canonical.h. */
#include "gateway/core/canonical.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define SORT_ON_STACK 48u

struct member {
    struct slice key;
    struct json value;
};

void canonical_init(struct canonical *c, size_t max_bytes)
{
    buf_init(&c->text, max_bytes);
    c->masked = SLICE_NONE;
}

void canonical_deinit(struct canonical *c)
{
    buf_deinit(&c->text);
}

static void add_tagged(struct canonical *c, char tag, struct slice s)
{
    uint32_t n = (uint32_t)s.n;
    char *to = buf_reserve(&c->text, 1 + sizeof(n) + s.n);

    if (!to)
        return;
    *to++ = tag;
    to = mempcpy(to, &n, sizeof(n));
    if (s.n)
        memcpy(to, s.p, s.n);
    c->text.n += 1 + sizeof(n) + s.n;
}

void canonical_add(struct canonical *c, struct slice text)
{
    add_tagged(c, 't', text);
}

void canonical_add_int(struct canonical *c, int64_t v)
{
    add_tagged(c, 'i', slice_of((const char *)&v, sizeof(v)));
}

static int compare(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
    int order = n ? memcmp(x->key.p, y->key.p, n) : 0;

    if (order)
        return order;
    if (x->key.n != y->key.n)
        return x->key.n < y->key.n ? -1 : 1;
    return x->value.i < y->value.i ? -1 : x->value.i > y->value.i; /* doubled: as they came */
}

static bool is_left_out(struct slice key, const char *const *but)
{
    for (; but && *but; but++)
        if (slice_is(key, *but))
            return true;
    return false;
}

static void add_sorted(struct canonical *c, struct member *m, size_t n)
{
    qsort(m, n, sizeof(*m), compare);
    for (size_t i = 0; i < n; i++) {
        add_tagged(c, 'k', m[i].key);
        canonical_add_json(c, m[i].value, NULL);
    }
}

static void add_object(struct canonical *c, struct json v, const char *const *but)
{
    struct member here[SORT_ON_STACK], *m = here;
    size_t n = 0, room = json_count(v);

    add_tagged(c, '{', SLICE_NONE);
    if (room > SORT_ON_STACK)
        m = calloc(room, sizeof(*m));
    if (!m) {
        c->text.err = GW_ENOMEM;
        return;
    }
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it)) {
        m[n] = (struct member){json_key(it), it};
        n += !is_left_out(m[n].key, but);
    }
    add_sorted(c, m, n);
    if (m != here)
        free(m);
    add_tagged(c, '}', SLICE_NONE);
}

static void add_array(struct canonical *c, struct json v)
{
    add_tagged(c, '[', SLICE_NONE);
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it))
        canonical_add_json(c, it, NULL);
    add_tagged(c, ']', SLICE_NONE);
}

static void add_string(struct canonical *c, struct json v)
{
    struct slice s = json_str(v);

    if (!s.p && json_raw(v).n > 2) /* it has bytes: memory was short */
        c->text.err = GW_ENOMEM;
    if (c->masked.n && slice_eq(s, c->masked))
        add_tagged(c, '?', SLICE_NONE);
    else
        add_tagged(c, 's', s);
}

void canonical_add_json(struct canonical *c, struct json v, const char *const *but)
{
    if (!json_exists(v)) {
        add_tagged(c, '-', SLICE_NONE);
        return;
    }
    switch (json_type(v)) {
    case JSON_OBJECT:
        add_object(c, v, but);
        break;
    case JSON_ARRAY:
        add_array(c, v);
        break;
    case JSON_STRING:
        add_string(c, v);
        break;
    case JSON_NUMBER:
        add_tagged(c, 'n', json_raw(v));
        break;
    case JSON_NULL:
    case JSON_TRUE:
    case JSON_FALSE:
        add_tagged(c, 'w', json_raw(v));
        break;
    }
}

enum gw_err canonical_hash(struct canonical *c, unsigned char ret_sha[32])
{
    static EVP_MD *sha256; /* fetched once: that costs more than the hash */
    unsigned n = 0;

    if (buf_err(&c->text))
        return buf_err(&c->text);
    if (!sha256)
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!sha256 || EVP_Digest(c->text.p, c->text.n, ret_sha, &n, sha256, NULL) != 1 || n != 32)
        return GW_ENOMEM;
    return GW_OK;
}
