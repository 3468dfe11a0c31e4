/*
 * provider.h - the one call path: choose target -> breaker -> transport -> breaker -> retry or next
 * target. What must survive a configuration reload (breakers, retry budgets, latencies, in-flight
 * counts) is kept here by provider name.
 *
 *     PICK --allowed--> SEND --2xx + first good event--> LIVE --terminal event--> end GW_OK
 *      ^  '--all open--> end GW_ECIRCUIT                  '--cut, error, gap----> end with an error
 *      |                  |
 *      |                  '--failure before the first good event--> retry_decide
 *      '---- next target <--no---------'            '--yes--> BACKOFF --timer--> SEND
 *
 * Nothing is given to the sink before the first good event (on_live), so until then a call may be
 * sent again or move to the next target unseen. A 4xx of the caller's making ends the call at once;
 * a refused credential (401/403) and a model the vendor does not know move on without touching the
 * breaker; 429, 5xx, timeouts, garbage and transport errors are breaker failures. After a timeout
 * or garbage the call moves on, after the others it may go to the same target again, within the
 * retry budget.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/op.h"
#include "providers/convo.h"
#include "providers/dialect.h"
#include "providers/registry.h"

struct provider_call_info {
    const struct registry_model *model; /* the target that answers (or the last one tried) */
    unsigned attempts;                  /* calls sent over all targets */
    unsigned fallback_index;            /* place of the target in the order its strategy gives, from
                                           0; open circuits before it count */
    bool passed_through;                /* bytes relayed, not translated */
    bool vendor_failed;                 /* an error is the provider's, not the gateway's */
    const struct convo_report *report;  /* what the translation left out; never NULL */
    uint64_t upstream_us;               /* since the first sending: waiting for providers */
    uint64_t first_event_us;            /* from the last send to its first good event; 0 = none */
    uint64_t retry_after_us;   /* with GW_EUPRATE / GW_ECIRCUIT: when to come again; 0 = unknown */
    struct slice content_type; /* of a passed-through whole answer */
    bool in_flight;            /* a provider is working on it */
    bool odd_end;              /* it ended for a reason that is not ordinary: not one to be kept */
    uint64_t output_bytes;     /* text, thoughts and arguments handed to the sink so far, for what a
                                  stream cost whose usage never came */
};

/* Whom the answer goes to. All run on the loop, never inside provider_call(); each may cancel the
 * call. Streams may be given more after a pause: what was read with the same piece. */
struct provider_sink {
    /* The first good event is here: the response head may go out now. Once, or never. */
    void (*on_live)(const struct provider_call_info *info, void *arg);
    /* Translated answers, streamed or not. */
    enum gw_err (*on_event)(const struct convo_event *ev, void *arg);
    /* Passed-through answers: for a stream bytes of whole SSE events ([DONE] included when it
     * came), else the whole body in one call. */
    void (*on_bytes)(struct slice bytes, void *arg);
    /* Embedding answers, before on_end. */
    void (*on_embed)(const struct dialect_embed_answer *ans, void *arg);
    /* The end, once. GW_OK only after the provider's terminal event. `usage` is what is known, also
     * after a failure. `vendor`: the provider's error answer, or NULL. Slices live as long as the
     * call's arena. */
    void (*on_end)(enum gw_err err, const struct provider_call_info *info,
                   const struct convo_usage *usage, const struct dialect_error *vendor, void *arg);
};

#define PROVIDER_MAX_PASS_HEADERS 4u

struct provider_call_request {
    struct arena *arena;     /* must outlive the call, and the callback in which it ends or is
                                cancelled: free it from the loop */
    const struct conf *conf; /* limits and timeouts; must outlive the call */
    struct registry_route route;
    const struct convo *convo; /* chat; NULL for embeddings */
    const struct dialect_embed_request *embed;
    const struct dialect
        *inbound;     /* the client's dialect, for pass-through; NULL = never pass through */
    struct json body; /* the inbound body, when inbound is set */
    const struct dialect_header *pass_headers; /* the client's own headers that go along when the
                                                  body passes through; none is a credential */
    unsigned n_pass_headers;                   /* at most PROVIDER_MAX_PASS_HEADERS */
    const struct convo_report *decoded; /* what reading the body left out; it is lost only where the
                                           body does not pass through. May be NULL */
    bool strict; /* a target that would lose something is refused (GW_EUNSUPPORTED) unasked */
    bool count;  /* the tokens of the body are counted, not answered: it must pass through, and the
                    answer is one JSON object for on_bytes */
    uint64_t deadline_us;                 /* loop clock; for a stream until its first good event */
    struct slice request_id, traceparent; /* sent along when not empty */
    unsigned max_attempts; /* calls over all targets; 0 = only conf's limit per target */
};

enum gw_err provider_init(void) MUST_CHECK;
void provider_deinit(void);

/* Brings the kept state in line with a new registry (called at start and after each reload). */
void provider_adopt(const struct registry *r);

/* Starts a call. NULL out of memory. op_cancel() closes the upstream connection; on_end does not
 * run then: read what was used with provider_call_usage() before. */
struct op *provider_call(const struct provider_call_request *req, const struct provider_sink *sink,
                         void *arg);
void provider_call_pause(struct op *call);
void provider_call_resume(struct op *call);
/* What is known so far; valid until the op is dead. */
const struct provider_call_info *provider_call_info(struct op *call);
const struct convo_usage *provider_call_usage(struct op *call);

/* --- for health and the admin routes ---------------------------------------------------------- */

struct provider_status {
    const char *name;
    enum breaker_state state;
    unsigned failures, in_flight;
    uint64_t n_success, n_failure, n_rejected, n_opened;
    uint64_t opened_ago_us, retry_in_us; /* 0 unless open */
    uint64_t recovery_us;                /* how long an open circuit waits */
    double latency_us;                   /* peak EWMA of the time to first byte, 0 = unknown */
};

/* Calls fn for each provider known, in the registry's order. */
void provider_each(void (*fn)(const struct provider_status *s, void *arg), void *arg);
/* Closes a circuit, also where it is shared; false when there is no such provider. */
bool provider_reset(struct slice name);

/* Sharing of breaker states between processes (storage wires Redis in through this). All may be
 * NULL. */
struct provider_share {
    void (*changed)(const char *provider, enum breaker_state state, uint64_t opened_wall_us);
    /* A probe named `id` is about to go out; may it, when all processes together send `probes` at
     * once? done(wait_us, arg) on the loop, never inside: 0 when it may, else when to ask again.
     * What is granted ends by itself after lease_us. NULL: there is nobody to ask, it may. */
    struct op *(*claim)(const char *provider, uint64_t id, unsigned probes, uint64_t lease_us,
                        void (*done)(uint64_t wait_us, void *arg), void *arg);
    /* That one has ended and says nothing about the provider. */
    void (*release)(const char *provider, uint64_t id);
};
void provider_set_share(const struct provider_share *share);
/* Takes over a state another process published. */
void provider_share_in(struct slice name, enum breaker_state state, uint64_t opened_wall_us);
