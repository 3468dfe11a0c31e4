/*
 * provider_private.h - what provider.c (state kept by provider name) and the files of one call
 * share.
 */
#pragma once

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "providers/provider.h"
#include "providers/retry.h"
#include "providers/sse.h"
#include "providers/transport.h"

/* How one sending ended, the `outcome` label. */
enum provider_outcome {
    OUTCOME_OK,
    OUTCOME_RATE_LIMITED,
    OUTCOME_REJECTED, /* a 4xx of the caller's making */
    OUTCOME_AUTH,
    OUTCOME_ERROR, /* 5xx, redirects, in-band errors, cut connections */
    OUTCOME_BAD_ANSWER,
    OUTCOME_TIMEOUT,
    OUTCOME_UNREACHABLE,
    OUTCOME_CANCELLED,
    OUTCOMES
};

enum provider_token_kind {
    TOKENS_INPUT,
    TOKENS_OUTPUT,
    TOKENS_CACHE_READ,
    TOKENS_CACHE_WRITE,
    TOKENS_REASONING,
    TOKEN_KINDS
};

/* What is kept of one model of a provider; series are looked up at their first use. */
struct provider_model {
    struct provider_model *next;
    struct slice name;
    struct select_ewma latency; /* time to first byte */
    struct metric_series *requests[OUTCOMES];
    struct metric_series *tokens[TOKEN_KINDS];
    struct metric_series *cost[2]; /* chat, embeddings */
};

#define PROVIDER_MODEL_SLOTS 64u

struct provider_state {
    struct provider_state *next; /* in the registry's order; those it no longer has are last */
    char *name;
    bool present; /* in the registry in force */
    struct breaker breaker;
    struct breaker_config config;
    struct retry_budget budget;
    struct select_ewma latency;
    unsigned in_flight;
    struct provider_model *models[PROVIDER_MODEL_SLOTS]; /* hashed by name */
    struct provider_model *other; /* for unlisted names past the limit: clients can invent them */
    unsigned n_unlisted;
    struct metric_series *m_in_flight, *m_circuit, *m_ttft;
};

/* The state of a provider, made if it is new; NULL out of memory. */
struct provider_state *provider_state_of(const char *name);
/* What is kept of a model: listed ones have a record of their own, whatever names clients invent.
 */
struct provider_model *provider_model_of(struct provider_state *s, const struct registry_model *rm);

/* The breaker, with metrics and sharing of its changes. */
bool provider_allow(struct provider_state *s, struct breaker_pass *ret_pass);
void provider_report(struct provider_state *s, struct breaker_pass pass, enum breaker_verdict v);
/* Asks the other processes whether a probe may go out (struct provider_share). NULL: it may. The
 * breaker waits for the answer until provider_claimed(). */
struct op *provider_claim(struct provider_state *s, uint64_t id, uint64_t lease_us,
                          void (*done)(uint64_t wait_us, void *arg), void *arg);
void provider_claimed(struct provider_state *s, uint64_t wait_us);
void provider_release(struct provider_state *s, uint64_t id);
/* A failure after the verdict was given (a stream cut in the middle). */
void provider_report_late_failure(struct provider_state *s);

void provider_count_request(struct provider_state *s, struct provider_model *m,
                            enum provider_outcome outcome);
void provider_count_usage(struct provider_state *s, struct provider_model *m,
                          const struct registry_model *rm, const struct convo_usage *u, bool embed);
void provider_add_in_flight(struct provider_state *s, int delta);

/* --- one call ------------------------------------------------------------------------------- */
/* provider_call.c drives it, provider_targets.c orders its targets, provider_request.c writes what
 * is sent, provider_answer.c reads what comes back. */

/* The answer of one sending, from its head to its end. */
struct provider_answer {
    int status;
    bool live;     /* the sink has been told */
    bool ended;    /* the provider's terminal event was seen */
    bool finished; /* a relayed stream without terminal events had a finish */
    bool has_vendor;
    bool sse_ready;
    struct dialect_error vendor; /* what the provider said went wrong, when has_vendor */
    uint64_t retry_after_us;     /* 0 = none */
    struct buf body;             /* whole answers, error answers */
    struct sse_parser sse;       /* streams */
    struct dialect_decoder *decoder;
    struct buf held;           /* passed-through bytes from before the first good event */
    struct slice fed;          /* the present feed */
    struct slice span;         /* passed-through bytes not handed on yet; in what was fed */
    struct arena *scratch;     /* for looking at passed-through events; lives for one feed */
    bool has_start, has_usage; /* held translated events */
    struct convo_event start;
};

struct provider_call {
    struct op op; /* first member */
    struct provider_call_request req;
    const struct provider_sink *sink;
    void *arg;
    struct provider_call_info info;
    struct convo_report report;
    struct convo_usage usage; /* of the present or last sending */
    struct provider_raw {
        char *p; /* in the request's arena */
        size_t cap;
    } raw, raw_first; /* bytes of usage.raw and usage.raw_first */
    bool stream;
    unsigned busy; /* frames of ours on the stack that go on after a callback */
    bool dead;     /* cancelled */
    bool paused;

    /* the targets */
    unsigned order[REGISTRY_MAX_TARGETS], rank[REGISTRY_MAX_TARGETS], n_order, at;
    const struct registry_model *model;
    struct provider_state *state;
    struct provider_model *kept;
    const char *moved_from; /* provider of the last target that failed, or NULL */
    unsigned made;          /* calls to the present target */
    char idempotency_key[32];

    /* the sending */
    struct op *transfer;
    struct op *claiming; /* asks whether a probe may go out */
    uint64_t claim;      /* the name of what was asked for or granted, 0 = none */
    struct breaker_pass pass;
    bool has_pass;
    bool in_flight;
    uint64_t sent_us;       /* loop_clock_us() */
    uint64_t first_sent_us; /* 0 = nothing sent yet */
    struct slice url;
    struct dialect_request dialect_request;
    struct buf body;
    struct provider_answer answer;

    /* why the targets so far did not do */
    enum gw_err err; /* of the last sending */
    bool overloaded, circuit_open;
    uint64_t circuit_retry_us;   /* the soonest of the open circuits */
    struct convo_report refusal; /* of the first target that could not be asked */
    enum gw_err refusal_err;

    struct loop_timer timer;       /* backoff */
    struct loop_deferred starting; /* the first step is not taken inside provider_call() */
};

/* Frames that run the sink's callbacks are marked, since a callback may cancel the call; after
 * provider_leave() said false the call is gone. */
void provider_enter(struct provider_call *c);
bool provider_leave(struct provider_call *c);
/* Brings info.upstream_us up to date. */
void provider_touch_info(struct provider_call *c);
/* The first good event: tells breaker, metrics and sink. GW_EGONECLIENT when the sink cancelled. */
enum gw_err provider_go_live(struct provider_call *c);

/* Prepares for the answer of a new sending, and frees what the last one held. */
void provider_answer_reset(struct provider_call *c);
void provider_answer_release(struct provider_call *c);
void provider_answer_head(struct provider_call *c, const struct transport_head *head);
/* The next bytes. An error ends the sending. */
enum gw_err provider_answer_data(struct provider_call *c, struct slice bytes);
/* The transport is done with `err`: reads the rest; what it returns is how the sending ended. */
enum gw_err provider_answer_end(struct provider_call *c, enum gw_err err);

/* Puts the targets into the order in which they are asked, c->order; c->rank is each one's place
 * before open circuits were moved to the end. Where none can do it, why is in c->refusal. */
enum gw_err provider_order_targets(struct provider_call *c) MUST_CHECK;

/* Writes the request for c->model: c->body, c->url, c->dialect_request. GW_EUNSUPPORTED and
 * GW_EBADREQ with c->report when this target cannot be asked. */
enum gw_err provider_encode(struct provider_call *c) MUST_CHECK;
#define PROVIDER_OWN_HEADERS 5u /* the gateway's own */
#define PROVIDER_MAX_HEADERS                                                                       \
    (DIALECT_MAX_HEADERS + REGISTRY_MAX_HEADERS + PROVIDER_MAX_PASS_HEADERS + PROVIDER_OWN_HEADERS)
/* Its headers, as slices of the call; returns how many, at most PROVIDER_MAX_HEADERS. */
unsigned provider_put_headers(struct provider_call *c, struct transport_header *to);
