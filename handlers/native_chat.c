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
#include "gateway/http/form.h"
#include "gateway/http/problem.h"
#include "handlers/chat.h"
#include "handlers/llm.h"

#include <math.h>

#define NO_MEMORY "must be false: this instance keeps no memory or knowledge"

struct native {
    struct slice conversation_id;
    struct convo_usage usage; /* of a stream, as it comes */
    bool failed;
};

/* --- reading ---------------------------------------------------------------------------------- */

/* The body, read. */
struct asked {
    struct slice message, conversation_id, system, provider, model, temperature;
    int64_t max_tokens;
    bool stream, use_memory, use_knowledge;
    struct form_list fallbacks; /* read by llm_resolve() */
};

#define AT(member) offsetof(struct asked, member)

/* What is prose is looked at by chat_screen(), as on every surface. */
static const struct form_field fields[] = {
    {"message", FORM_STRING, AT(message), true, .class = FORM_OPAQUE, .min = 1, .max = INT64_MAX},
    {"system", FORM_STRING, AT(system), .class = FORM_OPAQUE, .min = 1, .max = INT64_MAX},
    {"conversation_id", FORM_STRING, AT(conversation_id), .class = FORM_IDENTIFIER, .max = 128},
    {"provider", FORM_STRING, AT(provider), .class = FORM_IDENTIFIER, .max = 128},
    {"model", FORM_STRING, AT(model), .class = FORM_OPAQUE, .min = 1, .max = 256},
    {"temperature", FORM_NUMBER, AT(temperature), .min = 0, .max = 2},
    {"max_tokens", FORM_INT, AT(max_tokens), .min = 1, .max = INT64_MAX},
    {"stream", FORM_BOOL, AT(stream)},
    {"use_memory", FORM_BOOL, AT(use_memory)},
    {"use_knowledge", FORM_BOOL, AT(use_knowledge)},
    {"fallbacks", FORM_STRINGS, AT(fallbacks), .class = FORM_OPAQUE, .max = 8},
};
const struct form native_chat_form = FORM_OF(struct asked, fields);

/* Reads the body; false when the request has been answered, with all that is wrong. */
static bool read_asked(struct chat *c, struct asked *ret)
{
    struct form_errors *errors = arena_new(c->req->arena, struct form_errors);

    if (!errors)
        return false;
    form_check(c->req, c->body, &native_chat_form, ret, NULL, errors);
    if (ret->use_memory)
        form_add(errors, "/use_memory", NO_MEMORY);
    if (ret->use_knowledge)
        form_add(errors, "/use_knowledge", NO_MEMORY);
    if (errors->n == 0 && !errors->nomem)
        return true;
    form_refuse(c->req, errors);
    return false;
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
    struct native *n = arena_new(a, struct native);
    struct asked in = {.max_tokens = 0};

    c->own = n;
    c->convo = convo_new(a);
    if (!n || !c->convo)
        return GW_ENOMEM;
    if (!read_asked(c, &in))
        return c->req->replied ? GW_ESCHEMA : GW_ENOMEM; /* a second answer is ignored */
    n->conversation_id = conversation_id(a, in.conversation_id);
    c->convo->model = pick_model(c, in.provider, in.model);
    c->convo->include_usage = true;
    c->convo->temperature = in.temperature;
    c->convo->max_tokens = in.max_tokens;
    c->convo->stream = in.stream;
    if (!add_text(c->convo, CONVO_SYSTEM, in.system) || !add_text(c->convo, CONVO_USER, in.message))
        return GW_ENOMEM;
    return GW_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

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
    json_kv_arr(w, "sources");
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
