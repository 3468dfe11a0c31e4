/*
 * anthropic.h - what the files of the Anthropic Messages dialect share. Private to
 * providers/dialect.
 *
 *     anthropic.c          the table, headers, the plan, errors
 *     anthropic_request.c  convo -> request
 *     anthropic_messages.c its turns
 *     anthropic_answer.c   answer and stream -> events
 */
#pragma once

#include "providers/dialect.h"

enum anthropic_thinking {
    ANTHROPIC_THINKING_UNSET,    /* not said: the model's default */
    ANTHROPIC_THINKING_OFF,      /* {type: disabled} */
    ANTHROPIC_THINKING_BUDGET,   /* {type: enabled, budget_tokens} */
    ANTHROPIC_THINKING_ADAPTIVE, /* {type: adaptive} */
};

/*
 * The decisions about one request that do not follow from one field alone. A function of the convo
 * and the model, so that the decoder comes to the same ones.
 */
struct anthropic_plan {
    bool native_schema;       /* the model knows output_config.format and strict tools */
    bool emulate;             /* the answer's schema is sent as a tool whose input is the answer */
    struct slice answer_tool; /* that tool's name; no tool of the client has it */
    struct slice answer_schema; /* and its schema */
    enum anthropic_thinking thinking;
    int64_t budget;     /* of ANTHROPIC_THINKING_BUDGET, tokens, less than max_tokens */
    const char *effort; /* output_config.effort, or NULL */
    int64_t max_tokens; /* always > 0 */
};

/* `rep` may be NULL. GW_ENOMEM. */
enum gw_err anthropic_plan(struct arena *a, const struct convo *c, const struct registry_model *m,
                           struct anthropic_plan *ret, struct convo_report *rep) MUST_CHECK;

/* Path and headers. GW_ENOMEM. */
enum gw_err anthropic_pass_request(struct arena *a, const struct registry_model *m, bool stream,
                                   struct dialect_request *out) MUST_CHECK;

enum gw_err anthropic_encode_request(const struct convo *c, const struct registry_model *m,
                                     struct dialect_request *out, struct convo_report *rep);

/* Writes the members `system` and `messages`. Errors as encode_request(). */
enum gw_err anthropic_write_turns(const struct convo *c, const struct anthropic_plan *plan,
                                  struct json_writer *w, struct convo_report *rep) MUST_CHECK;

/* What an error type ("overloaded_error") with this HTTP status (0 = inside a stream) means. */
enum gw_err anthropic_error(int status, struct slice type, struct slice message);

enum gw_err anthropic_decode_answer(struct arena *a, const struct convo *asked,
                                    const struct registry_model *m, struct slice body,
                                    convo_event_fn fn, void *arg);
struct dialect_decoder *anthropic_decoder_new(struct arena *a, const struct convo *asked,
                                              const struct registry_model *m);
enum gw_err anthropic_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                   convo_event_fn fn, void *arg);
enum gw_err anthropic_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg);
