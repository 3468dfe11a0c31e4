/*
 * vectors.h - the cache of embeddings, text by text: what a request asks for is taken from the
 * cache as far as it is there, and only the rest is asked of the provider.
 *
 *     vectors_look (this process) --> vectors_fetch (Redis) --> vectors_rest: what must be asked
 *     vectors_take: the provider's answer goes in, --> vectors_answer: all of them, in order
 */
#pragma once

#include "gateway/http/request.h"
#include "handlers/reuse.h"
#include "providers/dialect.h"
#include "providers/registry.h"
#include "storage/lru.h"

struct vectors {
    struct request *req;
    const struct dialect_embed_request *ask;
    struct reuse_policy policy;
    struct dialect_embedding *got; /* one for each input; value.p == NULL: not there */
    bool *cached;                  /* which came from the cache */
    struct lru_key *keys;
    unsigned n, n_got;
    struct slice model; /* who made them, as the provider says */
    struct dialect_embed_request rest;
    /* while Redis is asked */
    struct vectors_fetch *fetches;
    unsigned outstanding;
    void (*done)(void *arg);
    void *arg;
};

/* Takes what this process has. `ask` and `route` must outlive it; all memory is the request's.
 * Without texts (token numbers), or when `policy` says so, nothing is looked for. GW_ENOMEM.
 */
enum gw_err vectors_look(struct vectors *v, struct request *req, const struct reuse_policy *policy,
                         const struct dialect_embed_request *ask,
                         const struct registry_route *route);

/* Asks Redis for what is still missing. True: done(arg) runs later, on the loop; false: there was
 * nothing to ask, go on. */
bool vectors_fetch(struct vectors *v, void (*done)(void *arg), void *arg);
void vectors_cancel(struct vectors *v);

/* What the provider must be asked for; NULL when everything is there, `ask` itself when nothing is.
 */
const struct dialect_embed_request *vectors_rest(struct vectors *v);

/* The provider's vectors for vectors_rest(), in order: kept, and put in their places, where they
 * last as long as `ans`. GW_EUPBAD when they are not as many. */
enum gw_err vectors_take(struct vectors *v, const struct dialect_embed_answer *ans);

/* All vectors in the order of the inputs. */
struct dialect_embed_answer vectors_answer(const struct vectors *v,
                                           const struct convo_usage *usage);
