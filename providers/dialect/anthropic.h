/*
 * anthropic.h - what the files of the Anthropic Messages dialect share. Private to
 * providers/dialect.
 *
 *     anthropic.c          the table, headers, the plan, errors
 *     anthropic_request.c  convo -> request
 *     anthropic_messages.c its turns
 *     anthropic_answer.c   answer and stream -> events
 *     anthropic_decode.c   a client's request -> convo: the request's own members
 *     anthropic_blocks.c   a client's request -> convo: its messages
 *     anthropic_client.c   events and answers -> a client
 *     anthropic_pass.c     bodies that pass through
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

/* --- the client's side ---------------------------------------------------------------------- */

/* Where in a client's request we are: a chain of steps, written out ("messages.0.role", the
 * vendor's way) only when something is wrong there. */
struct anthropic_at {
    const struct anthropic_at *up;
    const char *name; /* NULL: an element */
    unsigned index;
};

struct anthropic_in {
    struct arena *arena;
    struct convo *c;
    struct convo_report *rep;
};

enum gw_err anthropic_decode_request(struct arena *a, struct json root, struct convo **ret,
                                     struct convo_report *rep);
/* GW_ESCHEMA at `at`, or at its member `name` when that is not NULL. GW_ENOMEM. */
enum gw_err anthropic_wrong(struct anthropic_in *in, const struct anthropic_at *at,
                            const char *name, const char *why) MUST_CHECK;
/* The member's value, absent also when it is null. */
struct json anthropic_get(struct json object, const char *name);
/* A string member: absent and null leave *ret alone, unless `required`: then it must be there and
 * not empty. GW_ESCHEMA, GW_ENOMEM. */
enum gw_err anthropic_get_str(struct anthropic_in *in, const struct anthropic_at *at,
                              struct json object, const char *name, bool required,
                              struct slice *ret) MUST_CHECK;

/* anthropic_blocks.c: the members `system` and `messages`. */
enum gw_err anthropic_decode_system(struct anthropic_in *in, struct json v,
                                    const struct anthropic_at *at) MUST_CHECK;
enum gw_err anthropic_decode_messages(struct anthropic_in *in, struct json v,
                                      const struct anthropic_at *at) MUST_CHECK;

/* A block only this vendor knows is CONVO_OPAQUE with this in front of its type as name. */
#define ANTHROPIC_OPAQUE "anthropic."

/* anthropic_client.c */
void anthropic_encode_answer(const struct convo_answer *ans, struct slice model_shown,
                             uint64_t wall_s, struct buf *out);
struct dialect_encoder *anthropic_encoder_new(struct arena *a, const struct convo *c,
                                              struct slice model_shown, uint64_t wall_s);
enum gw_err anthropic_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                   struct buf *out);

/* anthropic_pass.c: dialect.h's operations of the same names. */
enum gw_err anthropic_pass_body(struct json root, const struct registry_model *m, bool stream,
                                struct buf *out);
enum gw_err anthropic_pass_event(struct slice data, struct arena *scratch,
                                 struct dialect_pass_info *ret);
enum gw_err anthropic_pass_answer(struct arena *scratch, struct slice body,
                                  struct dialect_pass_info *ret);

/* anthropic_answer.c: what a stop_reason means. */
enum convo_stop anthropic_stop(struct slice word);
