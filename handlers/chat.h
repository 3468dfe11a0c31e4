/*
 * chat.h - one chat request, whatever surface it came in by.
 *
 * A surface is a struct chat_form: how its body becomes a conversation and how an answer is
 * written. The flow behind it (chat.c) is the same for all.
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"
#include "gateway/http/stream.h"
#include "handlers/admit.h"
#include "handlers/flight.h"
#include "handlers/reuse.h"
#include "providers/convo.h"
#include "providers/dialect.h"
#include "providers/provider.h"

struct meaning; /* meaning.h */

struct chat {
    struct request *req; /* counted reference, dropped by chat_end() */
    const struct chat_form *form;
    struct op *screening; /* looks at the prose, or NULL */
    struct op *looking;   /* asks for a kept answer, or NULL */
    struct op *admitting; /* asks for money and tokens, or NULL */
    struct op *call;      /* the provider call, or NULL */
    struct json body;
    struct convo *convo;
    struct convo_report decoded; /* what reading the body left out */
    bool foreign; /* set by the form's decode: the history holds what another vendor wrote and the
                     client's own would refuse, so the body is translated for that one too */
    struct registry_route route;
    /* chat_reuse.c: may the answer be one that is there, and is it kept? */
    struct reuse_policy policy;
    struct lru_key key;
    struct flight *flight; /* the one this chat leads; NULL once its answer has ended */
    void (*on_looked)(struct chat *c, bool taken);
    struct meaning *meaning;     /* meaning.c's, or NULL */
    struct admit_ask ask;        /* what it may cost */
    struct admission *admission; /* what is reserved for it; settled by chat_end() */
    struct dialect_header pass_headers[PROVIDER_MAX_PASS_HEADERS]; /* set by the form's decode */
    unsigned n_pass_headers;
    struct convo_builder *builder;   /* gathers a translated whole answer */
    struct dialect_encoder *encoder; /* writes a stream towards the client */
    struct stream *stream;           /* set once the head of a stream is out */
    struct buf out; /* what is being written towards the client; freed by chat_end() */
    const struct provider_call_info *info; /* set by on_live; NULL: nobody was asked yet */
    struct convo_usage usage;
    bool answered; /* a whole answer has gone out */
    bool settled;  /* what it used is in the ledger */
    void *own;     /* the form's */
};

/* For forms that stream server-sent events. */
#define CHAT_EVENT_STREAM                                                                          \
    {                                                                                              \
        "text/event-stream; charset=utf-8", 32                                                     \
    }
#define CHAT_SSE_COMMENT                                                                           \
    {                                                                                              \
        ": keep-alive\n\n", 14                                                                     \
    }

struct chat_form {
    const char *name; /* in what shape answers are written; kept ones of two forms never meet */
    /* The client's dialect when bodies may pass through to a provider of the same one, else NULL.
     */
    const struct dialect *dialect;
    /* c->body -> c->convo (model and stream included). */
    enum gw_err (*decode)(struct chat *c, struct convo_report *rep);
    /* Reads only what the gateway itself must know of a body that will pass through whatever it
     * holds: model, stream, include_usage. NULL when bodies never pass through. */
    enum gw_err (*peek)(struct chat *c, struct convo_report *rep);
    /* Writes a whole answer. */
    void (*answer)(struct chat *c, const struct convo_answer *ans, struct buf *out);
    /* Writes one event of a stream; CONVO_EV_ERROR must leave nothing to follow. */
    enum gw_err (*event)(struct chat *c, const struct convo_event *ev, struct buf *out);
    /* Frames the bytes of a relayed stream anew: whole server-sent events in, and no bytes once the
     * stream is complete, translated or relayed. NULL: relayed bytes go out as they came. */
    enum gw_err (*relay)(struct chat *c, struct slice bytes, struct buf *out);
    /* May this chat be answered with a kept answer, and its own be kept? NULL: yes. */
    bool (*may_reuse)(const struct chat *c);
    /* A kept whole answer as this client should see it; NULL: as it is. */
    enum gw_err (*retell)(struct chat *c, struct slice body, struct buf *out);
    struct slice stream_type; /* content type of a stream */
    struct slice heartbeat;   /* what keeps a silent stream alive */
};

/* `answer` and `event` of a form that is its dialect's. */
void chat_dialect_answer(struct chat *c, const struct convo_answer *ans, struct buf *out);
enum gw_err chat_dialect_event(struct chat *c, const struct convo_event *ev, struct buf *out);

/* The name of the model that answers, as clients are told. */
struct slice chat_model_shown(const struct chat *c, const struct convo_answer *ans);

/* Begins; the request is answered later, or right away when it is refused. */
void chat_begin(struct request *req, const struct chat_form *form);

/* Route handlers. */
void chat_completions(struct request *req); /* openai_chat.c */
void native_chat(struct request *req);      /* native_chat.c */
extern const struct form native_chat_form;  /* its body */
