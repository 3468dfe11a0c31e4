/*
 * google.h - what the files of the Gemini generateContent dialect share. Private to
 * providers/dialect.
 *
 *     google.c          the table, paths, headers, errors, embeddings
 *     google_request.c  convo -> request
 *     google_contents.c its turns
 *     google_answer.c   answer and stream -> events
 */
#pragma once

#include "providers/dialect.h"

/*
 * Path "/v1beta/models/<name><verb>" and headers. GW_EBADREQ when the model's name could leave that
 * path (".."). GW_ENOMEM.
 */
enum gw_err google_target(struct arena *a, const struct registry_model *m, const char *verb,
                          struct dialect_request *out) MUST_CHECK;

/* The model's name without a "models/" in front. */
struct slice google_model_name(const struct registry_model *m);

enum gw_err google_pass_request(struct arena *a, const struct registry_model *m, bool stream,
                                struct dialect_request *out) MUST_CHECK;
enum gw_err google_encode_request(const struct convo *c, const struct registry_model *m,
                                  struct dialect_request *out, struct convo_report *rep);

/* Writes the members `systemInstruction` and `contents`. Errors as encode_request(). */
enum gw_err google_write_turns(const struct convo *c, const struct registry_model *m,
                               struct json_writer *w, struct convo_report *rep) MUST_CHECK;

/* Reads an `error` object. `status` is the HTTP status, 0 = inside a stream. Slices are the
 * document's. */
void google_read_error(struct json error, int status, struct dialect_error *ret);

enum gw_err google_decode_answer(struct arena *a, const struct convo *asked,
                                 const struct registry_model *m, struct slice body,
                                 convo_event_fn fn, void *arg);
struct dialect_decoder *google_decoder_new(struct arena *a, const struct convo *asked,
                                           const struct registry_model *m);
enum gw_err google_decode_event(struct dialect_decoder *d, const struct sse_event *ev,
                                convo_event_fn fn, void *arg);
enum gw_err google_decode_end(struct dialect_decoder *d, convo_event_fn fn, void *arg);
