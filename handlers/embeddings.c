/*
 * embeddings.c - vectors, whatever surface they are asked for on: OpenAI's form and the native one
 * are in embed_forms.c, Google's is generate_embed.c.
 *
 *     begin --decoded, routed, allowed--> LOOK --some are missing--> ADMIT --held--> CALL
 *                                           '--all are there--> end    '--refused--> end
 *     CALL --on_embed--> (answer kept) --on_end--> end
 *
 * Only the texts whose vectors are not cached (vectors.h) are asked for, and paid for; 504 instead
 * for a client that wants no other (only-if-cached).
 */
#include "handlers/embeddings.h"

#include "handlers/admit.h"
#include "handlers/llm.h"
#include "handlers/vectors.h"

#define MAX_BODY_OUT (256u << 20)

struct embed {
    struct request *req;         /* counted reference, dropped by embed_end() */
    struct op *admitting, *call; /* at most one is outstanding; none while `vectors` asks Redis */
    struct json body;
    struct dialect_embed_request ask;
    struct registry_route route;
    struct vectors vectors;
    const struct dialect_embed_request *rest; /* what the provider is asked for */
    struct admit_ask cost;
    struct admission *admission; /* NULL once it is settled: before the answer leaves, at the latest
                                    by embed_end() */
    const struct provider_call_info *info;
    struct convo_usage usage;
    struct buf out; /* the answer, written when it comes; freed by embed_end() */
    const struct embed_form *form;
};

static void settle(struct embed *e, enum gw_err err)
{
    struct admit_outcome out = {
        .err = err,
        .info = e->info,
        .usage = &e->usage,
        .cache = e->vectors.n ? "miss" : "bypass",
    };

    if (e->call)
        out.info = provider_call_info(e->call);
    if (e->admission)
        admit_settle(e->req, e->admission, &e->cost, &out);
    e->admission = NULL;
}

/* The only exit; `e` may be gone when this returns. */
static void embed_end(struct embed *e, enum gw_err err)
{
    struct request *req = e->req;

    settle(e, err);
    vectors_cancel(&e->vectors);
    op_cancel(&e->admitting);
    op_cancel(&e->call);
    request_on_abort(req, NULL, NULL);
    buf_deinit(&e->out);
    request_unref(req);
}

static void on_client_gone(struct request *req, void *arg)
{
    embed_end(arg, llm_client_gone(req, false));
}

/* --- the answer ------------------------------------------------------------------------------- */

/* All vectors are there. */
static void write_answer(struct embed *e, const struct convo_usage *usage)
{
    struct dialect_embed_answer all = vectors_answer(&e->vectors, usage);
    struct json_writer w;

    json_writer_init(&w, &e->out);
    json_obj(&w);
    e->form->write(&w, e->req, &e->ask, &all, e->vectors.cached);
    json_obj_end(&w);
}

static void on_embed(const struct dialect_embed_answer *ans, void *arg)
{
    struct embed *e = arg;
    enum gw_err err = vectors_take(&e->vectors, ans);

    if (err)
        e->out.err = err;
    else
        write_answer(e, &ans->usage);
}

static void on_live(const struct provider_call_info *info, void *arg)
{
    struct embed *e = arg;

    e->info = info;
}

static void on_end(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg)
{
    struct embed *e = arg;

    e->call = NULL;
    e->info = info;
    e->usage = *usage;
    e->req->upstream_us = info->upstream_us;
    if (err) {
        llm_fail(e->req, err, info, vendor);
    } else if (buf_err(&e->out)) {
        request_fail(e->req, buf_err(&e->out) == GW_ENOMEM ? GW_ENOMEM : GW_EUPBAD, NULL);
    } else {
        llm_set_headers(e->req, info, usage);
        admit_set_headers(e->req, e->admission, info, usage);
        settle(e, GW_OK);
        request_reply(e->req, 200, SLICE("application/json"), buf_slice(&e->out));
    }
    embed_end(e, err);
}

static const struct provider_sink sink = {
    .on_live = on_live, .on_embed = on_embed, .on_end = on_end};

/* --- the question ----------------------------------------------------------------------------- */

/* Texts, or token numbers of at least two bytes each. */
static struct admit_ask cost_of(struct embed *e)
{
    const struct dialect_embed_request *ask = e->rest;
    uint64_t text = 0;

    for (unsigned i = 0; i < ask->n_inputs; i++)
        text += ask->inputs[i].n;
    return (struct admit_ask){
        .asked_model = e->ask.model,
        .route = &e->route,
        .input_tokens = text / 3 + ask->raw_input.n / 2 + ask->n_inputs + 1,
        .likely_input_tokens = text / 4 + ask->raw_input.n / 5 + 1,
        .purpose = "embeddings",
    };
}

/* Reads, decodes, routes, and leaves the targets the caller may use; false when the request has
 * been answered. */
static bool embed_prepare(struct embed *e)
{
    struct convo_report rep = {0};
    enum gw_err err;

    if (!llm_parse_body(e->req, &e->body))
        return false;
    err = e->form->decode(e->req, e->body, &e->ask, &rep);
    if (err) {
        llm_refuse(e->req, err, &rep);
        return false;
    }
    if (!llm_resolve(e->req, e->ask.model, e->body, &e->route))
        return false;
    e->rest = &e->ask;
    e->cost = cost_of(e);
    return admit_models(e->req, &e->cost);
}

static bool embed_start_call(struct embed *e)
{
    struct request *req = e->req;
    struct provider_call_request call = {
        .arena = req->arena,
        .conf = req->conf,
        .route = e->route,
        .embed = e->rest,
        .deadline_us = req->deadline_us,
        .request_id = req->id,
        .traceparent = req->traceparent,
    };

    e->call = provider_call(&call, &sink, e);
    return e->call != NULL;
}

static void on_admitted(struct admission *a, void *arg)
{
    struct embed *e = arg;

    e->admitting = NULL;
    e->admission = a;
    if (!a) {
        embed_end(e, GW_OK);
    } else if (!embed_start_call(e)) {
        request_fail(e->req, GW_ENOMEM, NULL);
        embed_end(e, GW_ENOMEM);
    }
}

static void answer_cached(struct embed *e)
{
    struct convo_usage nothing = {.known = true};
    struct admit_reused what = {.cache = "hit", .saved_nano_usd = -1};

    write_answer(e, &nothing);
    admit_book_reused(e->req, &e->cost, &what);
    if (buf_err(&e->out)) {
        request_fail(e->req, buf_err(&e->out), NULL);
    } else {
        request_set_header(e->req, "X-Cache", SLICE("HIT"));
        request_reply(e->req, 200, SLICE("application/json"), buf_slice(&e->out));
    }
    embed_end(e, GW_OK);
}

static void refuse_uncached(struct embed *e)
{
    struct error_detail d = {.message = SLICE("Not all of these vectors are cached."),
                             .status = 504};

    request_fail(e->req, GW_EMISS, &d);
    embed_end(e, GW_EMISS);
}

/* Everything that can be had here is there. */
static void on_looked(void *arg)
{
    struct embed *e = arg;

    e->rest = vectors_rest(&e->vectors);
    if (!e->rest) {
        answer_cached(e);
        return;
    }
    if (e->vectors.policy.only_cached) {
        refuse_uncached(e);
        return;
    }
    request_set_header(e->req, "X-Cache", e->vectors.n ? SLICE("MISS") : SLICE("BYPASS"));
    e->cost = cost_of(e);
    e->admitting = admit_begin(e->req, &e->cost, on_admitted, e);
    if (!e->admitting) {
        request_fail(e->req, GW_ENOMEM, NULL);
        embed_end(e, GW_ENOMEM);
    }
}

void embeddings_begin(struct request *req, const struct embed_form *form)
{
    struct embed *e = arena_new(req->arena, struct embed);
    struct reuse_policy policy = reuse_policy_of(req, true);

    if (!e) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    e->req = req;
    e->form = form;
    buf_init(&e->out, MAX_BODY_OUT);
    if (!embed_prepare(e))
        return;
    if (vectors_look(&e->vectors, req, &policy, &e->ask, &e->route) != GW_OK) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    request_ref(req);
    request_on_abort(req, on_client_gone, e);
    if (!vectors_fetch(&e->vectors, on_looked, e))
        on_looked(e);
}
