/*
 * google_client.h - what the files of the Gemini dialect share on the client's side. Private to
 * providers/dialect, but for what handlers/generate.c needs.
 *
 *     google_decode.c   a client's request -> convo: its own members, tools, generationConfig
 *     google_turns.c    a client's request -> convo: its contents
 *     google_schema.c   Gemini's dialect of schemas -> JSON schema
 *     google_client.c   events and answers -> a client
 *     google_pass.c     bodies that pass through
 */
#pragma once

#include "providers/dialect.h"

/* Where in the request we are: a chain of steps, written out only when needed. */
struct google_at {
    const struct google_at *up;
    const char *name; /* NULL: an element */
    unsigned index;
};

struct google_in {
    struct arena *arena;
    struct convo *c;
    struct convo_report *rep;
    bool nomem; /* a field's name could not be written */
};

/* The member of that name in camelCase, or spelled in snake_case as Google takes it too; absent
 * also when it is null. */
struct json google_get(struct json object, const char *camel);
/* Is `key` that name, in either spelling? */
bool google_is_name(struct slice key, const char *camel);

/* GW_ESCHEMA at `at`, or at its member `name` when that is not NULL: refused is the field the way
 * Google writes it, contents[0].parts[1].text. */
enum gw_err google_wrong(struct google_in *in, const struct google_at *at, const char *name,
                         const char *why) MUST_CHECK;
/* The same with GW_EUNSUPPORTED: right, but for Google alone. */
enum gw_err google_unsupported(struct google_in *in, const struct google_at *at, const char *name,
                               const char *why) MUST_CHECK;
/* A string member: absent and null leave *ret alone, unless `required`. GW_ESCHEMA, GW_ENOMEM. */
enum gw_err google_get_str(struct google_in *in, const struct google_at *at, struct json object,
                           const char *name, bool required, struct slice *ret) MUST_CHECK;

enum gw_err google_decode_request(struct arena *a, struct json root, struct convo **ret,
                                  struct convo_report *rep);

/* One Content object's texts as a system turn. */
enum gw_err google_decode_system(struct google_in *in, struct json content,
                                 const struct google_at *at) MUST_CHECK;
/*
 * The contents as turns. Contents of one role that follow each other become one turn, and texts or
 * thoughts of the model that follow each other one part, up to the one with a signature. Calls
 * without an id get one that depends only on their place; a response is for the call of its id, or
 * else for the first call of its name in the model's last turn that has no response yet.
 */
enum gw_err google_decode_contents(struct google_in *in, struct json contents,
                                   const struct google_at *at) MUST_CHECK;

/* Anthropic's redacted thinking towards a Gemini client is a thought part without text whose
 * signature is this and the data: base64 of "redacted:", so that the whole stays base64. */
#define GOOGLE_REDACTED "cmVkYWN0ZWQ6"

/* The JSON schema of a schema in Gemini's words, in the arena: types in small letters, nullable as
 * a null type, numbers as numbers. GW_ENOMEM. */
enum gw_err google_json_schema(struct arena *a, struct json schema, struct slice *ret) MUST_CHECK;

/* google_client.c */
void google_encode_answer(const struct convo_answer *ans, struct slice model_shown, uint64_t wall_s,
                          struct buf *out);
struct dialect_encoder *google_encoder_new(struct arena *a, const struct convo *c,
                                           struct slice model_shown, uint64_t wall_s);
enum gw_err google_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                struct buf *out);

/* google_pass.c: dialect.h's operations of the same names. A body only loses `fallbacks` (ours):
 * the model is in the URL. */
enum gw_err google_pass_body(struct json root, const struct registry_model *m, bool stream,
                             struct buf *out);
enum gw_err google_pass_event(struct slice data, struct arena *scratch,
                              struct dialect_pass_info *ret);
enum gw_err google_pass_answer(struct arena *scratch, struct slice body,
                               struct dialect_pass_info *ret);

/* google_answer.c: reads a `usageMetadata` object; false, and *ret left alone, when it is none. */
bool google_usage(struct json usage, struct convo_usage *ret);
/* What a finishReason means; a candidate with tool calls says STOP, too. */
enum convo_stop google_stop(struct slice word);
