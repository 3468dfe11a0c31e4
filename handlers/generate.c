/*
 * generate.c - Google's surface: POST /v1beta/models/{model}:{method}.
 *
 * generateContent and streamGenerateContent are forms of chat.c. A stream is server-sent events
 * with ?alt=sse; without it a JSON array that grows, `[{...},\n{...}]`, into which the events'
 * data is put one by one, whether they were translated or relayed. An error is the array's last
 * element.
 *
 * Tokens are counted by the provider where every target speaks Google's dialect, else estimated.
 */
#include "handlers/generate.h"

#include "handlers/chat.h"
#include "handlers/chat_peek.h"
#include "handlers/count.h"
#include "handlers/llm.h"
#include "providers/dialect/google_client.h"
#include "providers/sse.h"
#include "storage/principal.h"

#define MAX_EVENT_BYTES (64u << 20)

struct generate_target generate_target_of(const struct request *req)
{
    struct slice all = req->params[0];
    const char *colon = all.n ? memrchr(all.p, ':', all.n) : NULL;
    size_t n = colon ? (size_t)(colon - all.p) : all.n;
    struct generate_target t = {.model = slice_of(all.p, n), .method = slice_from(all, n + 1)};

    if (slice_starts(t.model, "models/"))
        t.model = slice_from(t.model, 7);
    return t;
}

/* --- generateContent ------------------------------------------------------------------------- */

static enum gw_err name_model(struct chat *c, bool stream)
{
    c->convo->model = generate_target_of(c->req).model;
    c->convo->stream = stream;
    c->convo->include_usage = true;
    return GW_OK;
}

static enum gw_err decode_as(struct chat *c, struct convo_report *rep, bool stream)
{
    enum gw_err err = dialect_google.decode_request(c->req->arena, c->body, &c->convo, rep);

    return err ? err : name_model(c, stream);
}

/* What it may cost; a config that is there twice may cost anything. */
static enum gw_err peek_limits(struct chat *c)
{
    struct json config = {NULL, 0};
    enum gw_err err;

    for (struct json it = json_first(c->body); json_exists(it); it = json_next(c->body, it)) {
        if (!google_is_name(json_key(it), "generationConfig"))
            continue;
        if (json_exists(config))
            return GW_ESCHEMA;
        config = it;
    }
    err = chat_peek_number(config, google_is_name, "maxOutputTokens", &c->convo->max_tokens);
    return err ? err : chat_peek_number(config, google_is_name, "candidateCount", &c->convo->n);
}

static enum gw_err peek_as(struct chat *c, bool stream)
{
    enum gw_err err;

    c->convo = convo_new(c->req->arena);
    if (!c->convo)
        return GW_ENOMEM;
    err = name_model(c, stream);
    return err ? err : peek_limits(c);
}

static enum gw_err decode_whole(struct chat *c, struct convo_report *rep)
{
    return decode_as(c, rep, false);
}

static enum gw_err decode_stream(struct chat *c, struct convo_report *rep)
{
    return decode_as(c, rep, true);
}

static enum gw_err peek_whole(struct chat *c, struct convo_report *rep)
{
    return peek_as(c, false);
}

static enum gw_err peek_stream(struct chat *c, struct convo_report *rep)
{
    return peek_as(c, true);
}

/* --- a stream as a JSON array ---------------------------------------------------------------- */

struct array {
    struct sse_parser sse;
    struct buf events; /* translated ones on their way into the array */
    struct buf *out;
    bool any; /* the array has an element */
    bool over;
};

static enum gw_err on_element(const struct sse_event *ev, void *arg)
{
    struct array *a = arg;

    if (ev->data.n == 0)
        return GW_OK;
    buf_add_cstr(a->out, a->any ? ",\n" : "[");
    buf_add_slice(a->out, ev->data);
    a->any = true;
    return buf_err(a->out);
}

static void free_array(void *obj)
{
    struct array *a = obj;

    sse_deinit(&a->sse);
    buf_deinit(&a->events);
}

static struct array *array_of(struct chat *c)
{
    struct array *a = c->own;

    if (a)
        return a;
    a = arena_new(c->req->arena, struct array);
    if (!a)
        return NULL;
    sse_init(&a->sse, MAX_EVENT_BYTES, on_element, a);
    buf_init(&a->events, MAX_EVENT_BYTES);
    c->own = arena_defer(c->req->arena, free_array, a) ? a : NULL;
    return c->own;
}

static void close_array(struct array *a, struct buf *out)
{
    if (!a->over)
        buf_add_cstr(out, a->any ? "]\n" : "[]\n");
    a->over = true;
}

/* Events into the array; no bytes end it. */
static enum gw_err relay_array(struct chat *c, struct slice bytes, struct buf *out)
{
    struct array *a = array_of(c);
    enum gw_err err;

    if (!a)
        return GW_ENOMEM;
    a->out = out;
    if (bytes.n)
        return sse_feed(&a->sse, bytes);
    err = sse_finish(&a->sse);
    if (err)
        return err;
    close_array(a, out);
    return buf_err(out);
}

/* The rest of an event cut in two is not waited for: an error is told after whole events. */
static enum gw_err event_array(struct chat *c, const struct convo_event *ev, struct buf *out)
{
    struct array *a = array_of(c);
    enum gw_err err;

    if (!a)
        return GW_ENOMEM;
    buf_reset(&a->events);
    err = chat_dialect_event(c, ev, &a->events);
    if (!err && a->events.n)
        err = relay_array(c, buf_slice(&a->events), out);
    if (!err && ev->kind == CONVO_EV_ERROR)
        close_array(a, out);
    return err ? err : buf_err(out);
}

/* --- the three forms ------------------------------------------------------------------------- */

static const struct chat_form whole = {
    .name = "google",
    .dialect = &dialect_google,
    .decode = decode_whole,
    .peek = peek_whole,
    .answer = chat_dialect_answer,
    .event = chat_dialect_event,
};

static const struct chat_form events = {
    .name = "google events",
    .dialect = &dialect_google,
    .decode = decode_stream,
    .peek = peek_stream,
    .answer = chat_dialect_answer,
    .event = chat_dialect_event,
    .stream_type = CHAT_EVENT_STREAM,
    .heartbeat = CHAT_SSE_COMMENT,
};

static const struct chat_form array = {
    .name = "google array",
    .dialect = &dialect_google,
    .decode = decode_stream,
    .peek = peek_stream,
    .answer = chat_dialect_answer,
    .event = event_array,
    .relay = relay_array,
    .stream_type = {"application/json; charset=utf-8", 31},
    .heartbeat = {"\n", 1}, /* white space between two elements */
};

static void generate_whole(struct request *req)
{
    chat_begin(req, &whole);
}

static void generate_stream(struct request *req)
{
    struct slice alt = request_query(req, "alt", NULL);

    if (!alt.p)
        alt = request_query(req, "$alt", NULL);
    chat_begin(req, slice_is(alt, "sse") ? &events : &array);
}

/* --- countTokens ----------------------------------------------------------------------------- */

static void count_here(struct request *req, struct json body)
{
    struct json inner = google_get(body, "generateContentRequest");
    struct convo_report rep = {0};
    struct convo *convo = NULL;
    enum gw_err err =
        dialect_google.decode_request(req->arena, json_exists(inner) ? inner : body, &convo, &rep);

    if (err)
        llm_refuse(req, err, &rep);
    else
        count_estimate(req, convo, "totalTokens", 1);
}

static void generate_count(struct request *req)
{
    /* nothing in the conversation is needed: the body is what is counted */
    struct count_ask ask = {.inbound = &dialect_google, .convo = convo_new(req->arena)};

    if (!ask.convo) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    if (!llm_parse_body(req, &ask.body) ||
        !llm_resolve(req, generate_target_of(req).model, ask.body, &ask.route) ||
        !count_allowed(req, &ask, generate_target_of(req).model))
        return;
    if (registry_route_speaks(&ask.route, &dialect_google))
        count_relay(req, &ask);
    else
        count_here(req, ask.body);
}

/* --- methods --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(struct request *req);
    unsigned scope; /* the route is open to both: here is what each needs */
} methods[] = {
    {"generateContent", generate_whole, SCOPE_CHAT},
    {"streamGenerateContent", generate_stream, SCOPE_CHAT},
    {"countTokens", generate_count, SCOPE_CHAT},
    {"embedContent", generate_embed_one, SCOPE_EMBEDDINGS},
    {"batchEmbedContents", generate_embed_batch, SCOPE_EMBEDDINGS},
};

static bool is_in_scope(const struct request *req, unsigned scope)
{
    return !req->principal || principal_has_scope(req->principal, scope);
}

void generate_post(struct request *req)
{
    struct slice method = generate_target_of(req).method;
    struct error_detail d = {.message = SLICE("No such method of a model.")};

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (slice_is(method, methods[i].name)) {
            if (is_in_scope(req, methods[i].scope)) {
                methods[i].run(req);
                return;
            }
            d.message = SLICE("The key's scopes do not open this method.");
            request_fail(req, GW_EFORBIDDEN, &d);
            return;
        }
    request_fail(req, GW_ENOTFOUND, &d);
}
