/*
 * openai.h - what the files of the OpenAI dialect share. Private to providers/dialect.
 *
 *     openai_request.c  convo -> request, the dialect's table
 *     openai_answer.c   answer and stream -> events
 *     openai_error.c    error answers, usage, embeddings
 *     openai_decode.c   a client's request -> convo: the request's own members
 *     openai_message.c  a client's request -> convo: its messages
 *     openai_client.c   events and answers -> a client
 *     openai_pass.c     bodies that pass through
 */
#pragma once

#include "providers/dialect.h"

/* openai_request.c */
enum gw_err openai_pass_request(struct arena *a, const struct registry_model *m, bool stream,
                                struct dialect_request *out) MUST_CHECK;
enum gw_err openai_encode_request(const struct convo *c, const struct registry_model *m,
                                  struct dialect_request *out, struct convo_report *rep) MUST_CHECK;

/* openai_pass.c: dialect.h's operations of the same names. On the way a body also loses `fallbacks`
 * (ours), gets stream_options.include_usage on streams, and max_tokens or max_completion_tokens is
 * renamed when the provider row demands it. */
enum gw_err openai_pass_body(struct json root, const struct registry_model *m, bool stream,
                             struct buf *out);
enum gw_err openai_pass_event(struct slice data, struct arena *scratch,
                              struct dialect_pass_info *ret);
enum gw_err openai_pass_answer(struct arena *scratch, struct slice body,
                               struct dialect_pass_info *ret);

/* openai_answer.c */
enum gw_err openai_decode_answer(struct arena *a, const struct convo *asked,
                                 const struct registry_model *m, struct slice body,
                                 convo_event_fn fn, void *arg) MUST_CHECK;
struct dialect_decoder *openai_decoder_new(struct arena *a, const struct convo *asked,
                                           const struct registry_model *m);
enum gw_err openai_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                convo_event_fn fn, void *arg) MUST_CHECK;
enum gw_err openai_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg) MUST_CHECK;

/* openai_error.c */
void openai_decode_error(struct arena *a, int status, struct slice body, struct dialect_error *ret);
enum gw_err openai_encode_embed(struct arena *a, const struct dialect_embed_request *r,
                                const struct registry_model *m, struct dialect_request *out,
                                struct convo_report *rep) MUST_CHECK;
enum gw_err openai_decode_embed(struct arena *a, struct slice body,
                                struct dialect_embed_answer *ret) MUST_CHECK;
/* Reads a `usage` object; leaves *ret alone and answers false when `usage` is none. */
bool openai_usage(struct json usage, struct convo_usage *ret);

/* openai_answer.c: what a finish_reason means. */
enum convo_stop openai_stop(struct slice reason);
/* What an error object inside a 2xx answer means; its text, borrowed or in the document's arena. */
enum gw_err openai_error_in_band(struct json error, struct slice *ret_text);

/* openai_decode.c and openai_message.c */

/* Where in the request we are: a chain of steps, written out as a JSON pointer only when needed. */
struct openai_at {
    const struct openai_at *up;
    const char *name; /* NULL: an element */
    unsigned index;
};

struct openai_in {
    struct arena *arena;
    struct convo *c;
    struct convo_report *rep;
    bool nomem;                  /* a pointer could not be written */
    unsigned n_legacy_calls;     /* `function_call` members so far: they carry no ids */
    struct slice legacy_call_id; /* of the last one */
    unsigned n_sealed_calls;     /* of the responses surface: signatures that came after calls */
};

/* Where the parts of one message or item go. */
struct openai_target {
    struct convo_turn *turn;
    struct convo_part *result; /* set: they are the content of this tool result */
    struct convo_part **tail;
};

/* Appends a part there; NULL out of memory. */
struct convo_part *openai_add_part(struct openai_in *in, struct openai_target *to,
                                   enum convo_part_kind kind);

enum gw_err openai_decode_request(struct arena *a, struct json root, struct convo **ret,
                                  struct convo_report *rep) MUST_CHECK;
enum gw_err openai_decode_messages(struct openai_in *in, struct json messages) MUST_CHECK;
/* `err` at `at`, or at its member `name` when that is not NULL. */
enum gw_err openai_refuse(struct openai_in *in, enum gw_err err, const struct openai_at *at,
                          const char *name, const char *why) MUST_CHECK;
/* The same with GW_ESCHEMA. */
enum gw_err openai_wrong(struct openai_in *in, const struct openai_at *at, const char *name,
                         const char *why) MUST_CHECK;
/* A string member: absent and null leave *ret alone, unless `required`. GW_ESCHEMA, GW_ENOMEM. */
enum gw_err openai_get_str(struct openai_in *in, const struct openai_at *at, struct json object,
                           const char *name, bool required, struct slice *ret) MUST_CHECK;
/* A boolean member: absent and null leave *ret alone. GW_ESCHEMA. */
enum gw_err openai_get_flag(struct openai_in *in, const struct openai_at *at, struct json object,
                            const char *name, int *ret) MUST_CHECK;
/* The member's value, absent also when it is null. */
struct json openai_get(struct json object, const char *name);

/* What the chat completions and the responses surface write alike. A function {name, description,
 * parameters, strict}, added to the tools; the words of a tool choice; a schema {name, schema,
 * description, strict} of the answer; an effort; arguments of a call (`holder`.arguments). */
enum gw_err openai_read_function(struct openai_in *in, struct json f, const struct openai_at *at,
                                 struct convo_tool **ret) MUST_CHECK;
enum gw_err openai_choice_word(struct openai_in *in, struct json v,
                               const struct openai_at *at) MUST_CHECK;
enum gw_err openai_read_schema(struct openai_in *in, struct json v,
                               const struct openai_at *at) MUST_CHECK;
enum gw_err openai_read_effort(struct openai_in *in, struct json v,
                               const struct openai_at *at) MUST_CHECK;
enum gw_err openai_read_args(struct openai_in *in, struct json holder, struct convo_part *p,
                             const struct openai_at *at) MUST_CHECK;

/* One member of a request, and what becomes of it. */
enum openai_kind {
    OPENAI_TEXT,
    OPENAI_NUMBER,
    OPENAI_WHOLE,
    OPENAI_SWITCH,
    OPENAI_OBJECT,
    OPENAI_LIST,
    OPENAI_OTHER
};

struct openai_member {
    const char *name;
    enum openai_kind kind;
    size_t at;        /* of the field in struct convo */
    double low, high; /* of a number */
    enum gw_err (*read)(struct openai_in *in, struct json v, const struct openai_at *at);
};

#define OPENAI_MAX_MEMBERS 64u

/* Reads each member by its row; those without one are noted as dropped. A member given twice is
 * GW_EBADREQ. */
enum gw_err openai_read_members(struct openai_in *in, const struct openai_member *table, unsigned n,
                                struct json root) MUST_CHECK;

/* openai_client.c */
void openai_encode_answer(const struct convo_answer *ans, struct slice model_shown, uint64_t wall_s,
                          struct buf *out);
struct dialect_encoder *openai_encoder_new(struct arena *a, const struct convo *c,
                                           struct slice model_shown, uint64_t wall_s);
enum gw_err openai_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out) MUST_CHECK;
