/*
 * dialect.h - one provider wire format: translation between it and convo.h, both ways. No sockets.
 *
 * The wire facts are in shared/PEERS.md, section 3.6 to 3.11. What a dialect cannot carry it
 * refuses (GW_EUNSUPPORTED with the field) when leaving it out would change the answer's meaning,
 * or lists as dropped (convo_report) when it would not.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/buf.h"
#include "gateway/core/err.h"
#include "gateway/core/json.h"
#include "providers/convo.h"
#include "providers/registry.h"
#include "providers/sse.h"

struct dialect_header {
    struct slice name, value;
};

#define DIALECT_MAX_HEADERS 8u
/* Thoughts that are asked for get at least these tokens: an output limit up to here, which leaves
 * no room for them, is raised by as many where a vendor counts both together. */
#define DIALECT_MIN_THINKING 1024

/* What goes to the provider, beside what the registry's provider row adds. */
struct dialect_request {
    struct slice path; /* appended to the base URL, begins with '/' */
    struct dialect_header headers[DIALECT_MAX_HEADERS]; /* the credential is among them */
    unsigned n_headers;
    struct buf *body; /* the caller's buffer, appended to */
};

/* What a non-2xx answer says. */
struct dialect_error {
    enum gw_err err; /* GW_EUPREJECT (the caller's fault), GW_EUPAUTH, GW_EUPRATE, GW_EUPSTREAM
                        (5xx, 529), GW_EMODEL (the vendor knows no such model), GW_ETOOBIG */
    int status; /* status to show to the client: the vendor's for GW_EUPREJECT (400, 404, 413, 422)
                 */
    struct slice message;           /* the vendor's text, in the arena; empty when there was none */
    struct slice code, param, type; /* vendor's words, may be empty */
};

struct dialect_embed_request {
    struct slice model;
    const struct slice *inputs; /* texts */
    unsigned n_inputs;
    struct slice raw_input; /* not empty: the input as it came, token numbers; then inputs is empty
                               and a dialect that knows only text refuses with the field `input` */
    int64_t dimensions;     /* 0 = not given */
    struct slice task, title; /* Google's: what the vectors are for; others drop them */
    bool base64;              /* the client wants encoding_format base64 */
    struct slice user;
};

/* One vector: raw JSON array text, or base64 text of little-endian floats when is_base64. */
struct dialect_embedding {
    struct slice value;
    bool is_base64;
};

struct dialect_embed_answer {
    struct slice model;
    struct dialect_embedding *vectors;
    unsigned n;
    struct convo_usage usage;
};

/*
 * Quirks: words in a model's row of the registry that say what it wants.
 *   native_schema       anthropic: knows output_config.format and strict tools
 *   adaptive_thinking   anthropic: thinking {type: adaptive} with output_config.effort, no budgets
 *   always_thinks       anthropic: thinking cannot be switched off, and no tool be forced
 *   no_sampling         anthropic: refuses temperature, top_p and top_k
 *   json_schema_params  google: knows parametersJsonSchema and responseJsonSchema
 *   thinking_level      google: thinkingLevel instead of thinkingBudget
 *   thinking_minimal    google: thinkingLevel may be MINIMAL
 *   thought_signatures  google: refuses a replayed call without its thought signature
 */

/* What one relayed stream event is. */
struct dialect_pass_info {
    bool done;        /* the dialect's terminal event */
    bool error;       /* an in-band error; message in text */
    bool usage_only;  /* nothing but usage that the client may not have asked for: hidden then */
    bool has_content; /* a good first event: the stream is alive */
    size_t content_bytes;     /* about how much of it the model wrote */
    bool has_usage;           /* usage was set */
    bool finish;              /* a finish or stop reason was in it */
    bool odd_end;             /* ... one that is not ordinary (convo_stop_is_ordinary) */
    struct convo_usage usage; /* in: what is known so far; out: that and what this event says */
    struct slice text;
};

/* State of decoding one answer stream; lives in the arena, as do the convo and the model it was
 * made with. */
struct dialect_decoder;
/* State of encoding one answer stream towards a client; lives in the arena. */
struct dialect_encoder;

struct dialect {
    const char *name; /* "openai", "anthropic", "google" */

    /* --- towards the provider ----------------------------------------------------------------- */

    /* Writes the request for `m`. GW_EUNSUPPORTED (report filled in), GW_EBADREQ, GW_ENOMEM. */
    enum gw_err (*encode_request)(const struct convo *c, const struct registry_model *m,
                                  struct dialect_request *out, struct convo_report *rep);
    /* Path and headers alone, for a body passed through in the same dialect. */
    enum gw_err (*pass_request)(struct arena *a, const struct registry_model *m, bool stream,
                                struct dialect_request *out);
    /* The same for having a passed-through body's tokens counted instead of answered; NULL when
     * the vendor counts none. */
    enum gw_err (*count_request)(struct arena *a, const struct registry_model *m,
                                 struct dialect_request *out);
    /* A body for a provider of the client's own dialect: changes nothing but what the gateway must
     * (the model's name, our own members, usage asked for on streams). All other bytes are copied.
     */
    enum gw_err (*pass_body)(struct json root, const struct registry_model *m, bool stream,
                             struct buf *out);
    /* Looks at one relayed event's data; `scratch` is used only when something must be read.
     * GW_EUPBAD when it is nothing this dialect sends. */
    enum gw_err (*pass_event)(struct slice data, struct arena *scratch,
                              struct dialect_pass_info *ret);
    /* Usage and odd_end of a whole relayed answer, and whether it looks like one (GW_EUPBAD
     * otherwise). */
    enum gw_err (*pass_answer)(struct arena *scratch, struct slice body,
                               struct dialect_pass_info *ret);
    bool ends_on_finish; /* no terminal event: a relayed stream is complete when it had a finish and
                            the provider has closed it well; more may come between the two */

    /* A whole 2xx answer as events. GW_EUPBAD when it is not one. `asked` and `m` are what
     * encode_request() was given, since some answers can only be read with them (tool names made
     * safe on the way out, an answer schema asked for as a forced tool); both NULL for a body that
     * was passed through. */
    enum gw_err (*decode_answer)(struct arena *a, const struct convo *asked,
                                 const struct registry_model *m, struct slice body,
                                 convo_event_fn fn, void *arg);
    /* A stream: one decoder, one call per SSE event. After the last, dialect_decoder says through
     * the events whether END was seen. GW_EUPBAD on garbage that cannot be skipped; unknown events,
     * fields and stop reasons are never an error; a single unparsable data line is GW_EUPBAD. */
    struct dialect_decoder *(*decoder_new)(struct arena *a, const struct convo *asked,
                                           const struct registry_model *m);
    enum gw_err (*decode_event)(struct dialect_decoder *d, const struct sse_event *ev,
                                convo_event_fn fn, void *arg);
    /* The provider closed the connection cleanly: emits what was held back (Google has no terminal
     * event, its END comes here if a finishReason was seen). */
    enum gw_err (*decode_end)(struct dialect_decoder *d, convo_event_fn fn, void *arg);
    /* An error answer; never fails. */
    void (*decode_error)(struct arena *a, int status, struct slice body, struct dialect_error *ret);

    /* Embeddings; NULL when the dialect has none. */
    enum gw_err (*encode_embed)(struct arena *a, const struct dialect_embed_request *r,
                                const struct registry_model *m, struct dialect_request *out,
                                struct convo_report *rep);
    enum gw_err (*decode_embed)(struct arena *a, struct slice body,
                                struct dialect_embed_answer *ret);

    /* --- towards the client; NULL until the dialect has a surface of its own ---------------------
     */

    /* A request body, already parsed strictly. GW_EBADREQ / GW_ESCHEMA with the report's field,
     * GW_ENOMEM. */
    enum gw_err (*decode_request)(struct arena *a, struct json root, struct convo **ret,
                                  struct convo_report *rep);
    /* A whole answer. `model_shown`: the model name to put in. */
    void (*encode_answer)(const struct convo_answer *ans, struct slice model_shown, uint64_t wall_s,
                          struct buf *out);
    /* A stream. Events in, bytes of whole SSE events appended to `out`. CONVO_EV_ERROR writes the
     * in-band error and nothing after it; CONVO_EV_END writes the terminal event. */
    struct dialect_encoder *(*encoder_new)(struct arena *a, const struct convo *c,
                                           struct slice model_shown, uint64_t wall_s);
    enum gw_err (*encode_event)(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out);
};

extern const struct dialect dialect_openai, dialect_anthropic, dialect_google;

/* For the end of a function whose readers cannot tell "not there" from "no memory" (json_str()):
 * GW_ENOMEM when the arena has refused something since `before` (arena_refusals()), else err. */
static inline enum gw_err dialect_end(const struct arena *a, unsigned before, enum gw_err err)
{
    return arena_refusals(a) == before ? err : GW_ENOMEM;
}

/* An embedding as a provider should send it: an array of numbers, not empty. */
static inline bool dialect_is_vector(struct json v)
{
    bool good = json_is(v, JSON_ARRAY) && json_count(v) > 0;

    for (struct json it = json_first(v); good && json_exists(it); it = json_next(v, it))
        good = json_is(it, JSON_NUMBER);
    return good;
}

/* By name, or NULL. */
const struct dialect *dialect_find(struct slice name);
