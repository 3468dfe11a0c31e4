/*
 * meaning.c - see meaning.h.
 *
 *     LOOK (this process) --> FETCH (Redis) --> ADMIT (money) --> EMBED (a provider) --> search -->
 * done
 *          '--the vector is there-----------------^ '--none---------------------------------^
 *
 * The vector is paid for like any other: reserved, settled and booked once, also when the client
 * leaves meanwhile. At most one operation is outstanding.
 */
#include "handlers/meaning.h"

#include "gateway/core/metrics.h"
#include "handlers/chat_reuse.h"
#include "handlers/llm.h"
#include "handlers/vectors.h"
#include "storage/cache.h"
#include "storage/semantic.h"

#include <stdlib.h>

struct meaning {
    struct op op; /* first member */
    struct chat *chat;
    void (*done)(struct chat *c, struct blob *answer, double similarity);
    struct slice question;
    struct lru_key partition;
    struct dialect_embed_request ask;
    struct registry_route route;
    struct vectors vectors;
    struct admit_ask cost;
    struct admission *admission; /* NULL once it is settled */
    struct op *admitting, *call;
    float *vector; /* freed with the arena */
    unsigned n;
    struct loop_deferred starting;
};

/* The text of the last turn when it is the user's and nothing but one text. */
static struct slice question_of(const struct convo *c)
{
    const struct convo_turn *t = c->last_turn;

    if (!t || t->role != CONVO_USER || !t->parts || t->parts->next || t->parts->kind != CONVO_TEXT)
        return SLICE_NONE;
    return t->parts->text;
}

static void settle(struct meaning *m, enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage)
{
    struct admit_outcome out = {.err = err, .info = info, .usage = usage, .cache = "miss"};

    admit_settle(m->chat->req, m->admission, &m->cost, &out);
    m->admission = NULL;
}

/* The client has left, or its time is over. */
static void cancel(struct op *op)
{
    struct meaning *m = (struct meaning *)op;
    enum gw_err err = m->chat->req->err;

    loop_undefer(&m->starting);
    vectors_cancel(&m->vectors);
    op_cancel(&m->admitting);
    if (m->call)
        settle(m, err ? err : GW_EGONECLIENT, provider_call_info(m->call),
               provider_call_usage(m->call));
    op_cancel(&m->call);
}

static void count(const char *layer)
{
    metrics_add(layer ? metrics_get(M_CACHE_HITS, "semantic", layer, NULL)
                      : metrics_get(M_CACHE_MISSES, "semantic", NULL, NULL),
                1);
}

/* --- the search ------------------------------------------------------------------------------ */

static void free_vector(void *v)
{
    free(v);
}

static bool read_vector(struct meaning *m)
{
    struct request *req = m->chat->req;

    if (m->vectors.n != 1 || !m->vectors.got[0].value.p || m->vectors.got[0].is_base64)
        return false;
    m->vector = semantic_parse(m->vectors.got[0].value, &m->n);
    if (m->vector && !arena_defer(req->arena, free_vector, m->vector))
        m->vector = NULL;
    return m->vector != NULL;
}

static void search(struct meaning *m)
{
    struct chat *c = m->chat;
    double least = (double)c->req->conf->cache_semantic_percent / 100, similarity = 0;
    struct blob *b = NULL;
    struct lru_key answer;

    if (m->vector &&
        semantic_find(&m->partition, m->vector, m->n, least, loop_now_us(), &answer, &similarity))
        b = cache_look(CACHE_RESPONSE, &answer, c->policy.max_age_us);
    count(b ? "l1" : NULL);
    m->done(c, b, similarity);
}

/* --- the vector ------------------------------------------------------------------------------ */

static void on_embed(const struct dialect_embed_answer *ans, void *arg)
{
    struct meaning *m = arg;

    if (vectors_take(&m->vectors, ans) == GW_OK)
        (void)read_vector(m); /* now: its text goes with the call */
}

static void on_live(const struct provider_call_info *info, void *arg)
{
    (void)info;
    (void)arg;
}

static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    struct meaning *m = arg;

    (void)vendor;
    m->call = NULL;
    settle(m, err, info, usage);
    search(m);
}

static const struct provider_sink sink = {
    .on_live = on_live, .on_embed = on_embed, .on_end = on_end};

static bool start_call(struct meaning *m)
{
    struct request *req = m->chat->req;
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = m->route,
        .embed = &m->ask,
        .deadline_us = req->deadline_us,
        .request_id = req->id,
        .traceparent = req->traceparent,
        .max_attempts = 1,
    };

    m->call = provider_call(&call, &sink, m);
    return m->call != NULL;
}

/* Without money for a vector the exact cache is all there is: what the chat costs is its own
 * matter. */
static void on_admitted(struct admission *a, void *arg)
{
    struct meaning *m = arg;

    m->admitting = NULL;
    m->admission = a;
    if (a && start_call(m))
        return;
    if (a)
        admit_release(a);
    m->admission = NULL;
    search(m);
}

static void on_looked(void *arg)
{
    struct meaning *m = arg;
    bool missing = vectors_rest(&m->vectors) != NULL;

    if (!missing)
        (void)read_vector(m);
    else if (!m->chat->policy.only_cached) /* a client that wants no call gets none */
        m->admitting = admit_begin(m->chat->req, &m->cost, on_admitted, m);
    if (!m->admitting)
        search(m);
}

static void start(void *arg)
{
    struct meaning *m = arg;

    if (!vectors_fetch(&m->vectors, on_looked, m))
        on_looked(m);
}

/* --- beginning ------------------------------------------------------------------------------- */

static enum gw_err make_partition(struct meaning *m)
{
    struct chat *c = m->chat;
    struct reuse_subject s = chat_reuse_subject(c);

    s.question = m->question;
    return reuse_key(c->req, &s, &m->partition);
}

static bool prepare(struct meaning *m)
{
    struct request *req = m->chat->req;
    struct slice why, *text = arena_new(req->arena, struct slice);

    if (!text || make_partition(m) != GW_OK)
        return false;
    *text = m->question;
    m->ask = (struct dialect_embed_request){
        .model = req->conf->cache_semantic_model, .inputs = text, .n_inputs = 1};
    m->cost = (struct admit_ask){.asked_model = m->ask.model,
                                 .route = &m->route,
                                 .input_tokens = m->question.n / 3 + 2,
                                 .likely_input_tokens = m->question.n / 4 + 1,
                                 .purpose = "embeddings",
                                 .aside = true};
    return registry_resolve(llm_registry(req), req->arena, m->ask.model, &m->route, &why) ==
               GW_OK &&
           vectors_look(&m->vectors, req, &m->chat->policy, &m->ask, &m->route) == GW_OK;
}

struct op *meaning_look(struct chat *c,
                        void (*done)(struct chat *c, struct blob *answer, double similarity))
{
    struct slice question = question_of(c->convo);
    struct meaning *m = c->req->conf->cache_semantic && question.n
                            ? arena_new(c->req->arena, struct meaning)
                            : NULL;

    if (!m)
        return NULL;
    m->op.cancel = cancel;
    m->chat = c;
    m->done = done;
    m->question = question;
    if (!prepare(m))
        return NULL;
    c->meaning = m;
    loop_defer(&m->starting, start, m);
    return &m->op;
}

void meaning_keep(struct chat *c)
{
    const struct meaning *m = c->meaning;
    uint64_t ttl_us = (uint64_t)c->req->conf->cache_semantic_ttl_s * 1000000u;

    if (m && m->vector && c->policy.keep)
        semantic_add(&m->partition, m->vector, m->n, &c->key, loop_now_us() + ttl_us);
}
