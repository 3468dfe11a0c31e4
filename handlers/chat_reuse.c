/* chat_reuse.c - see chat_reuse.h. */
#include "handlers/chat_reuse.h"

#include "handlers/llm.h"
#include "handlers/meaning.h"
#include "handlers/replay.h"
#include "storage/cache.h"

/* Written with digits, so that "0.0" and "0e5" are nothing too. */
static bool is_zero(convo_number n)
{
    for (size_t i = 0; i < n.n && (n.p[i] | 0x20) != 'e'; i++)
        if (n.p[i] >= '1' && n.p[i] <= '9')
            return false;
    return n.n > 0;
}

/* --- answering with what is there ------------------------------------------------------------ */

struct reused {
    struct chat *chat;
    const char *cache; /* as struct ledger_row */
};

static void on_over(const struct kept *k, enum gw_err err, void *arg)
{
    const struct reused *r = arg;
    struct admit_reused what = {.cache = r->cache, .err = err};

    if (k) {
        what.provider = k->provider;
        what.model = k->model;
        what.usage = &k->usage;
        what.saved_nano_usd = k->cost_nano_usd;
    }
    admit_book_reused(r->chat->req, &r->chat->ask, &what);
}

static enum gw_err retell(struct slice body, struct buf *out, void *arg)
{
    const struct reused *r = arg;

    return r->chat->form->retell(r->chat, body, out);
}

static bool fill_form(struct chat *c, const char *cache, const char *x_cache, double similarity,
                      struct replay_form *ret)
{
    struct reused *r = arena_new(c->req->arena, struct reused);

    if (!r)
        return false;
    *r = (struct reused){c, cache};
    *ret = (struct replay_form){
        .heartbeat = c->form->heartbeat,
        .x_cache = x_cache,
        .similarity = similarity,
        .retell = c->form->retell ? retell : NULL,
        .over = on_over,
        .arg = r,
    };
    return true;
}

static bool replay(struct chat *c, struct blob *b, const char *cache, double similarity)
{
    struct replay_form form;

    return fill_form(c, cache, similarity > 0 ? "SEMANTIC" : "HIT", similarity, &form) &&
           replay_blob(c->req, b, &form);
}

/* --- LOOK ------------------------------------------------------------------------------------ */

static enum chat_reuse_step missed(struct chat *c)
{
    struct error_detail d = {.message = SLICE("Nothing is cached for this request."),
                             .status = 504};

    if (c->policy.only_cached) {
        request_fail(c->req, GW_EMISS, &d);
        return REUSE_TAKEN;
    }
    request_set_header(c->req, "X-Cache", SLICE("MISS"));
    return REUSE_ASK;
}

static void on_meant(struct chat *c, struct blob *answer, double similarity)
{
    c->looking = NULL;
    c->on_looked(c,
                 (answer && replay(c, answer, "semantic", similarity)) || missed(c) == REUSE_TAKEN);
}

/* The very question was not found; one that means the same? */
static enum chat_reuse_step look_for_meaning(struct chat *c)
{
    c->looking = meaning_look(c, on_meant);
    return c->looking ? REUSE_LATER : missed(c);
}

static void on_fetched(struct blob *b, void *arg)
{
    struct chat *c = arg;
    enum chat_reuse_step step;

    c->looking = NULL;
    step = b && replay(c, b, "hit", 0) ? REUSE_TAKEN : look_for_meaning(c);
    if (step != REUSE_LATER)
        c->on_looked(c, step == REUSE_TAKEN);
}

struct reuse_subject chat_reuse_subject(const struct chat *c)
{
    return (struct reuse_subject){
        .form = c->form->name,
        .model = c->convo->model,
        .stream = c->convo->stream,
        .strict = llm_is_strict(c->req),
        .body = c->body,
        .route = &c->route,
        .headers = c->pass_headers,
        .n_headers = c->n_pass_headers,
    };
}

static enum gw_err make_key(struct chat *c)
{
    struct reuse_subject s = chat_reuse_subject(c);

    return reuse_key(c->req, &s, &c->key);
}

enum chat_reuse_step chat_reuse_look(struct chat *c, void (*on_looked)(struct chat *c, bool taken))
{
    struct blob *b;

    c->policy = reuse_policy_of(c->req, is_zero(c->convo->temperature));
    if (c->form->may_reuse && !c->form->may_reuse(c))
        c->policy.look = c->policy.keep = false;
    if ((!c->policy.look && !c->policy.keep) || make_key(c) != GW_OK) {
        c->policy.look = c->policy.keep = false;
        request_set_header(c->req, "X-Cache", SLICE("BYPASS"));
        return c->policy.only_cached ? missed(c) : REUSE_ASK;
    }
    if (!c->policy.look)
        return missed(c);
    b = cache_look(CACHE_RESPONSE, &c->key, c->policy.max_age_us);
    if (b && replay(c, b, "hit", 0))
        return REUSE_TAKEN;
    c->on_looked = on_looked;
    c->looking = cache_fetch(CACHE_RESPONSE, &c->key, c->policy.max_age_us, on_fetched, c);
    return c->looking ? REUSE_LATER : look_for_meaning(c);
}

/* --- JOIN ------------------------------------------------------------------------------------ */

/* The leader's client may have paused the call. */
static void on_followed(void *arg)
{
    struct chat *c = arg;

    if (c->call && flight_runs_ahead(c->flight))
        provider_call_resume(c->call);
}

static void lead(struct chat *c)
{
    struct flight_limits limits = {
        .keep_bytes = (size_t)c->req->conf->cache_response_max_kb << 10,
        .max_bytes = (size_t)c->req->conf->provider_max_response_mb << 21, /* as for c->out */
        .ttl_us = c->policy.ttl_us,
    };

    c->flight = flight_lead(c->req, &c->key, &limits, &c->flight);
    if (c->flight)
        flight_on_followed(c->flight, on_followed, c);
}

enum chat_reuse_step chat_reuse_join(struct chat *c)
{
    struct flight *f = NULL;
    struct replay_form form;

    if (!c->policy.keep)
        return REUSE_ASK;
    if (c->policy.look && c->req->conf->cache_coalesce)
        f = flight_find(&c->key);
    if (f && fill_form(c, "coalesced", "HIT", 0, &form) && replay_flight(c->req, f, &form) == GW_OK)
        return REUSE_TAKEN;
    lead(c);
    return REUSE_ASK;
}

void chat_reuse_note(struct chat *c)
{
    bool odd = c->info && c->info->odd_end;

    if (!odd)
        meaning_keep(c);
    if (!c->flight)
        return;
    if (odd)
        flight_keep_not(c->flight);
    flight_note(c->flight, &c->usage,
                c->usage.known && c->info && c->info->model
                    ? registry_cost(c->info->model, &c->usage)
                    : -1);
}
