/* redis_reply.c - see redis_reply.h. */
#include "storage/redis_reply.h"

#include <hiredis/read.h>
#include <stdlib.h>

#define MAX_ITEMS (1 << 20)

struct redis_reader {
    redisReader *parser;
    struct redis_value root;
    size_t bytes, max_bytes; /* strings of the reply being built; ceiling */
    const char *why;
};

/* --- values ----------------------------------------------------------------------------------- */

static void clear(struct redis_value *v)
{
    unsigned i;

    free((char *)v->s.p);
    for (i = 0; i < v->n; i++)
        clear((struct redis_value *)&v->items[i]);
    free((struct redis_value *)v->items);
    *v = (struct redis_value){0};
}

/* Where the value of a task goes: the root, or its place in the list around it. */
static struct redis_value *place_of(const redisReadTask *t)
{
    const struct redis_value *list = t->parent ? t->parent->obj : NULL;
    struct redis_reader *r = t->privdata;

    return list ? (struct redis_value *)&list->items[t->idx] : &r->root;
}

static void *on_string(const redisReadTask *t, char *p, size_t n)
{
    struct redis_reader *r = t->privdata;
    struct redis_value *v = place_of(t);
    char *bytes;

    r->bytes += n;
    bytes = r->bytes <= r->max_bytes ? malloc(n + 1) : NULL;
    if (!bytes)
        return NULL;
    memcpy(bytes, p, n);
    bytes[n] = '\0';
    v->kind = t->type == REDIS_REPLY_ERROR ? REDIS_FAULT : REDIS_STR;
    v->s = slice_of(bytes, n);
    return v;
}

static void *on_array(const redisReadTask *t, int n)
{
    struct redis_value *v = place_of(t);

    if (n > MAX_ITEMS)
        return NULL;
    v->items = calloc(n > 0 ? (size_t)n : 1, sizeof(*v->items));
    if (!v->items)
        return NULL;
    v->kind = REDIS_ARRAY;
    v->n = (unsigned)n;
    return v;
}

static void *on_integer(const redisReadTask *t, long long i)
{
    struct redis_value *v = place_of(t);

    v->kind = REDIS_INT;
    v->i = i;
    return v;
}

static void *on_nil(const redisReadTask *t)
{
    struct redis_value *v = place_of(t);

    v->kind = REDIS_NIL;
    return v;
}

/* hiredis lets go of a half-built reply; the root is cleared by its owner. */
static void on_free(void *obj)
{
}

static redisReplyObjectFunctions objects = {
    .createString = on_string,
    .createArray = on_array,
    .createInteger = on_integer,
    .createNil = on_nil,
    .freeObject = on_free,
};

/* --- the reader ------------------------------------------------------------------------------- */

struct redis_reader *redis_reader_new(size_t max_bytes)
{
    struct redis_reader *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->max_bytes = max_bytes;
    r->parser = redisReaderCreateWithFunctions(&objects);
    if (!r->parser)
        return redis_reader_free(r);
    r->parser->privdata = r;
    return r;
}

struct redis_reader *redis_reader_free(struct redis_reader *r)
{
    if (!r)
        return NULL;
    if (r->parser)
        redisReaderFree(r->parser);
    clear(&r->root);
    free(r);
    return NULL;
}

static bool broken(struct redis_reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
    return false;
}

bool redis_reader_feed(struct redis_reader *r, const char *p, size_t n)
{
    if (r->why)
        return false;
    if (r->parser->len - r->parser->pos + n > r->max_bytes + 65536)
        return broken(r, "the reply is too large");
    if (redisReaderFeed(r->parser, p, n) != REDIS_OK)
        return broken(r, "no memory for the reply");
    return true;
}

/* hiredis waits patiently for a bulk of any announced size: is this one beyond all bounds? Its "$"
 * has been read then, its length has not. */
static bool announces_too_much(const struct redis_reader *r)
{
    const redisReader *p = r->parser;
    size_t i, n = 0;

    if (p->ridx < 0 || p->rstack[p->ridx].type != REDIS_REPLY_STRING)
        return false;
    for (i = p->pos; i < p->len && p->buf[i] >= '0' && p->buf[i] <= '9'; i++) {
        n = n * 10 + (size_t)(p->buf[i] - '0');
        if (n > r->max_bytes)
            return true;
    }
    return false;
}

enum redis_progress redis_reader_next(struct redis_reader *r, const struct redis_value **ret)
{
    void *obj = NULL;

    if (r->why)
        return REDIS_BROKEN;
    if (r->parser->ridx == -1) { /* between replies: the last one has been used */
        clear(&r->root);
        r->bytes = 0;
    }
    if (redisReaderGetReply(r->parser, &obj) != REDIS_OK)
        broken(r, r->parser->err == REDIS_ERR_PROTOCOL ? "it does not speak Redis' protocol"
                                                       : "the reply is too large");
    else if (!obj && announces_too_much(r))
        broken(r, "the reply is too large");
    if (r->why)
        return REDIS_BROKEN;
    if (!obj)
        return REDIS_MORE;
    *ret = obj;
    return REDIS_REPLY;
}

const char *redis_reader_why(const struct redis_reader *r)
{
    return r->why;
}

/* --- error replies ---------------------------------------------------------------------------- */

enum redis_fault redis_fault_sort(struct slice text)
{
    static const struct {
        const char *word;
        enum redis_fault fault;
    } rows[] = {
        {"NOSCRIPT", REDIS_FAULT_SCRIPT},     {"OOM", REDIS_FAULT_NOT_NOW},
        {"BUSY", REDIS_FAULT_NOT_NOW},        {"MISCONF", REDIS_FAULT_NOT_NOW},
        {"CLUSTERDOWN", REDIS_FAULT_NOT_NOW}, {"TRYAGAIN", REDIS_FAULT_NOT_NOW},
        {"NOREPLICAS", REDIS_FAULT_NOT_NOW},  {"NOPERM", REDIS_FAULT_NOT_NOW},
        {"LOADING", REDIS_FAULT_LEAVE},       {"READONLY", REDIS_FAULT_LEAVE},
        {"NOAUTH", REDIS_FAULT_LEAVE},        {"WRONGPASS", REDIS_FAULT_LEAVE},
        {"MASTERDOWN", REDIS_FAULT_LEAVE},    {"UNBLOCKED", REDIS_FAULT_LEAVE},
    };
    struct slice word = slice_of(text.p, slice_find(text, ' '));
    unsigned i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(word, rows[i].word))
            return rows[i].fault;
    }
    return REDIS_FAULT_CALLER;
}
