/*
 * native_chat.c - POST /api/v1/chat: the front end's own, flat form of chat.c.
 *
 *     {message, conversation_id?, system?, provider?, model?, temperature?, max_tokens?, stream?}
 *  -> {reply, conversation_id, provider, model, usage, cost_dollars, sources, cached}
 *  or SSE: `delta` {text}, `usage` {...}, `done` {the whole but the reply}, `error` (a problem
 * document)
 *
 * Without a model the alias "smart" answers; with a provider alone, that provider's first chat
 * model.
 */
#include "gateway/core/rng.h"
#include "gateway/http/problem.h"
#include "handlers/chat.h"
#include "handlers/llm.h"

#include <math.h>

struct native {
    struct slice conversation_id;
    struct convo_usage usage; /* of a stream, as it comes */
    bool failed;
};

/* --- reading
 * -------------------------------------------------------------------------------------- */

static const char *const known[] = {"message",    "conversation_id", "system",     "provider",
                                    "model",      "temperature",     "max_tokens", "stream",
                                    "use_memory", "use_knowledge",   "fallbacks"};

static enum gw_err check_members(struct json body, struct convo_report *rep, struct arena *a)
{
    struct json it;
    size_t i;

    for (it = json_first(body); json_exists(it); it = json_next(body, it)) {
        for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if (slice_is(json_key(it), known[i]))
                break;
        if (i == sizeof(known) / sizeof(known[0]))
            return convo_refuse(rep, GW_ESCHEMA, arena_printf(a, "/%.*s", SLICE_ARG(json_key(it))),
                                SLICE("unknown member"));
    }
    return json_any_duplicate(body, NULL)
               ? convo_refuse(rep, GW_EBADREQ, SLICE("/"), SLICE("a member is there twice"))
               : GW_OK;
}

/* A text member, absent or of 1..max bytes. */
static enum gw_err read_text(struct json body, const char *name, size_t max, struct slice *ret,
                             struct convo_report *rep, struct arena *a)
{
    struct json v = json_get(body, name);

    *ret = SLICE_NONE;
    if (!json_exists(v) || json_is(v, JSON_NULL))
        return GW_OK;
    *ret = json_str(v);
    if (!json_is(v, JSON_STRING) || ret->n == 0 || ret->n > max)
        return convo_refuse(rep, GW_ESCHEMA, arena_printf(a, "/%s", name),
                            SLICE("must be a non-empty string"));
    return GW_OK;
}

static enum gw_err read_numbers(struct chat *c, struct convo_report *rep)
{
    struct json temperature = json_get(c->body, "temperature");
    struct json max = json_get(c->body, "max_tokens");
    double t;

    if (json_exists(temperature) && !json_is(temperature, JSON_NULL)) {
        if (!json_double(temperature, &t) || t < 0 || t > 2)
            return convo_refuse(rep, GW_ESCHEMA, SLICE("/temperature"),
                                SLICE("must be a number from 0 to 2"));
        c->convo->temperature = json_raw(temperature);
    }
    if (json_exists(max) && !json_is(max, JSON_NULL) &&
        (!json_int(max, &c->convo->max_tokens) || c->convo->max_tokens < 1))
        return convo_refuse(rep, GW_ESCHEMA, SLICE("/max_tokens"),
                            SLICE("must be a positive integer"));
    return GW_OK;
}

static enum gw_err read_flags(struct chat *c, struct convo_report *rep)
{
    struct json stream = json_get(c->body, "stream");
    static const char *const later[] = {"use_memory", "use_knowledge"};
    bool on = false;
    size_t i;

    if (json_exists(stream) && !json_bool(stream, &c->convo->stream))
        return convo_refuse(rep, GW_ESCHEMA, SLICE("/stream"), SLICE("must be a boolean"));
    for (i = 0; i < 2; i++) {
        struct json v = json_get(c->body, later[i]);

        if (!json_exists(v))
            continue;
        if (!json_bool(v, &on) || on)
            return convo_refuse(rep, GW_ESCHEMA, arena_printf(c->req->arena, "/%s", later[i]),
                                SLICE("must be false: this instance keeps no memory or knowledge"));
    }
    return GW_OK;
}

/* Name of the model to ask for: model, provider/model, the provider's first, or the alias "smart".
 */
static struct slice pick_model(struct chat *c, struct slice provider, struct slice model)
{
    const struct registry *r = llm_registry(c->req);
    const struct registry_model *m;

    if (model.n && provider.n)
        return arena_printf(c->req->arena, "%.*s/%.*s", SLICE_ARG(provider), SLICE_ARG(model));
    if (model.n)
        return model;
    if (!provider.n)
        return SLICE("smart");
    for (m = r->models; m; m = m->next)
        if (slice_is(provider, m->provider->name) && !(m->capabilities & REGISTRY_CAN_EMBED))
            return m->id;
    return provider;
}

static bool add_text(struct convo *convo, enum convo_role role, struct slice text)
{
    struct convo_turn *t;
    struct convo_part *p;

    if (text.n == 0)
        return true;
    t = convo_add_turn(convo, role);
    p = t ? convo_add_part(convo, t, CONVO_TEXT) : NULL;
    if (p)
        p->text = text;
    return p != NULL;
}

static struct slice conversation_id(struct arena *a, struct slice given)
{
    char *p = given.n ? NULL : arena_bytes(a, 32);

    if (p)
        rng_hex(p, 16);
    return given.n ? given : slice_of(p, p ? 32 : 0);
}

static enum gw_err decode(struct chat *c, struct convo_report *rep)
{
    struct arena *a = c->req->arena;
    struct slice message, id, system, provider, model;
    struct native *n = arena_new(a, struct native);
    enum gw_err err;

    c->own = n;
    c->convo = convo_new(a);
    if (!n || !c->convo)
        return GW_ENOMEM;
    err = check_members(c->body, rep, a);
    err = err ? err : read_text(c->body, "message", SIZE_MAX, &message, rep, a);
    err = err ? err : read_text(c->body, "system", SIZE_MAX, &system, rep, a);
    err = err ? err : read_text(c->body, "conversation_id", 128, &id, rep, a);
    err = err ? err : read_text(c->body, "provider", 128, &provider, rep, a);
    err = err ? err : read_text(c->body, "model", 256, &model, rep, a);
    err = err ? err : read_numbers(c, rep);
    err = err ? err : read_flags(c, rep);
    if (err)
        return err;
    if (!message.n)
        return convo_refuse(rep, GW_ESCHEMA, SLICE("/message"), SLICE("is required"));
    n->conversation_id = conversation_id(a, id);
    c->convo->model = pick_model(c, provider, model);
    c->convo->include_usage = true;
    if (!add_text(c->convo, CONVO_SYSTEM, system) || !add_text(c->convo, CONVO_USER, message))
        return GW_ENOMEM;
    return GW_OK;
}

/* --- writing
 * -------------------------------------------------------------------------------------- */

static void put_usage(struct json_writer *w, const struct convo_usage *u)
{
    json_obj(w);
    json_kv_int(w, "input_tokens", (int64_t)u->input);
    json_kv_int(w, "output_tokens", (int64_t)u->output);
    json_kv_int(w, "total_tokens", (int64_t)(u->input + u->output));
    json_kv_int(w, "cached_tokens", (int64_t)u->cache_read);
    json_kv_int(w, "reasoning_tokens", (int64_t)u->reasoning);
    json_obj_end(w);
}

static void put_common(struct json_writer *w, struct chat *c, const struct convo_usage *u)
{
    struct native *n = c->own;
    struct slice cost =
        u->known ? llm_dollars(c->req->arena, registry_cost(c->info->model, u)) : SLICE_NONE;

    json_kv_str(w, "conversation_id", n->conversation_id);
    json_kv_cstr(w, "provider", c->info->model->provider->name);
    json_kv_str(w, "model", c->info->model->name);
    json_put_key(w, "usage");
    if (u->known)
        put_usage(w, u);
    else
        json_put_null(w);
    json_put_key(w, "cost_dollars");
    if (cost.n)
        json_put_raw(w, cost);
    else
        json_put_null(w);
    json_put_key(w, "sources");
    json_arr(w);
    json_arr_end(w);
    json_kv_bool(w, "cached", false);
}

static void answer(struct chat *c, const struct convo_answer *ans, struct buf *out)
{
    const struct convo_out_part *p;
    struct json_writer w;
    struct buf reply;

    buf_init(&reply, out->max);
    for (p = ans->parts; p; p = p->next)
        if (p->choice == 0 && (p->kind == CONVO_TEXT || p->kind == CONVO_REFUSAL))
            buf_add_slice(&reply, p->text);
    json_writer_init(&w, out);
    json_obj(&w);
    json_kv_str(&w, "reply", buf_slice(&reply));
    put_common(&w, c, &ans->usage);
    json_obj_end(&w);
    if (buf_err(&reply))
        out->err = buf_err(&reply);
    buf_deinit(&reply);
}

static void put_event(struct chat *c, const char *name,
                      void (*fill)(struct json_writer *, struct chat *), struct buf *out)
{
    struct json_writer w;

    buf_printf(out, "event: %s\ndata: ", name);
    json_writer_init(&w, out);
    json_obj(&w);
    fill(&w, c);
    json_obj_end(&w);
    buf_add_cstr(out, "\n\n");
}

static void fill_done(struct json_writer *w, struct chat *c)
{
    struct native *n = c->own;

    put_common(w, c, &n->usage);
}

static void fill_usage(struct json_writer *w, struct chat *c)
{
    struct native *n = c->own;

    json_kv_int(w, "input_tokens", (int64_t)n->usage.input);
    json_kv_int(w, "output_tokens", (int64_t)n->usage.output);
    json_kv_int(w, "total_tokens", (int64_t)(n->usage.input + n->usage.output));
}

static void put_delta(struct slice text, struct buf *out)
{
    buf_add_cstr(out, "event: delta\ndata: {\"text\":\"");
    json_escape(out, text);
    buf_add_cstr(out, "\"}\n\n");
}

static void put_error(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    struct error_detail d = {.message = ev->text};
    struct slice type;

    buf_add_cstr(out, "event: error\ndata: ");
    problem_write(SURFACE_NATIVE, ev->err ? ev->err : GW_EUPSTREAM, &d, c->req->id, c->req->path,
                  out, &type);
    buf_add_cstr(out, "\n\n");
}

static enum gw_err event(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    struct native *n = c->own;

    if (n->failed)
        return GW_OK;
    switch (ev->kind) {
    case CONVO_EV_TEXT:
    case CONVO_EV_REFUSAL:
        if (ev->choice == 0)
            put_delta(ev->text, out);
        break;
    case CONVO_EV_USAGE:
        n->usage = ev->usage;
        break;
    case CONVO_EV_ERROR:
        n->failed = true;
        put_error(c, ev, out);
        break;
    case CONVO_EV_END:
        if (n->usage.known)
            put_event(c, "usage", fill_usage, out);
        put_event(c, "done", fill_done, out);
        break;
    default:
        break;
    }
    return buf_err(out);
}

/* A stream tells the conversation's id in its last event: it is not used again. */
static bool may_reuse(const struct chat *c)
{
    return !c->convo->stream;
}

/* The kept answer in this conversation: its id is the only thing that is not the same. */
static enum gw_err retell(struct chat *c, struct slice body, struct buf *out)
{
    const struct native *n = c->own;
    struct json_writer w;
    struct json root;
    enum gw_err err = json_parse(c->req->arena, body, NULL, &root, NULL);

    if (err)
        return err == GW_ENOMEM ? err : GW_EINTERNAL;
    json_writer_init(&w, out);
    json_obj(&w);
    for (struct json it = json_first(root); json_exists(it); it = json_next(root, it)) {
        json_put_key_slice(&w, json_key(it));
        if (slice_is(json_key(it), "conversation_id"))
            json_put_str(&w, n->conversation_id);
        else if (slice_is(json_key(it), "cached"))
            json_put_bool(&w, true);
        else if (slice_is(json_key(it), "cost_dollars"))
            json_put_int(&w, 0);
        else
            json_put_raw(&w, json_raw(it));
    }
    json_obj_end(&w);
    return buf_err(out);
}

static const struct chat_form form = {
    .name = "native",
    .dialect = NULL,
    .may_reuse = may_reuse,
    .retell = retell,
    .decode = decode,
    .answer = answer,
    .event = event,
    .stream_type = CHAT_EVENT_STREAM,
    .heartbeat = CHAT_SSE_COMMENT,
};

void native_chat(struct request *req)
{
    chat_begin(req, &form);
}
