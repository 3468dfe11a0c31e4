/*
 * responses_wire.h - OpenAI's Responses API, towards clients only: no provider is asked in it, so
 * it is no struct dialect. Stateless: what a request builds on must be in the request.
 *
 *     responses_decode.c  a client's request -> convo: the request's own members
 *     responses_input.c   a client's request -> convo: its input items
 *     responses_client.c  events and answers -> a client
 *     responses_event.c   the events and the response they end with, as bytes
 *     responses_item.c    the items an answer consists of, as JSON
 *     responses_seal.c    what must come back to a provider, in `encrypted_content`
 *
 * A request's members: the table in responses_decode.c. Items of an answer: one `message` for
 * consecutive text and refusals, one `reasoning` for each thought, one `function_call` for each
 * call. A thought's text is shown as its summary whether or not a summary was asked for, as far as
 * the provider tells it. Beyond OpenAI's form a response may have `postern_stop_reason` (a stop
 * that OpenAI has no word for) and `postern_opaque` (blocks only their vendor knows).
 */
#pragma once

#include "providers/dialect.h"
#include "providers/dialect/openai.h"

/* --- requests --------------------------------------------------------------------------------- */

/* As struct dialect's decode_request. */
enum gw_err responses_decode_request(struct arena *a, struct json root, struct convo **ret,
                                     struct convo_report *rep) MUST_CHECK;
/* responses_input.c: the array of input items. */
enum gw_err responses_decode_items(struct openai_in *in, struct json items,
                                   const struct openai_at *at) MUST_CHECK;

/* --- answers ---------------------------------------------------------------------------------- */

/* `asked` is the request, whose settings the response repeats; it must live as long as the arena.
 * The last event of a stream repeats the whole answer, so up to max_bytes of it are held;
 * GW_ETOOBIG past that. NULL out of memory. */
struct dialect_encoder *responses_encoder_new(struct arena *a, struct json asked,
                                              struct slice model_shown, uint64_t wall_s,
                                              size_t max_bytes);
/* As struct dialect's encode_event. An error is told twice, for those who read events and for those
 * whose library raises errors: `response.failed`, then `error`. */
enum gw_err responses_encode_event(struct dialect_encoder *e, const struct convo_event *ev,
                                   struct buf *out) MUST_CHECK;
/* A whole answer. GW_ENOMEM, GW_ETOOBIG. */
enum gw_err responses_encode_answer(struct arena *a, struct json asked,
                                    const struct convo_answer *ans, struct slice model_shown,
                                    uint64_t wall_s, struct buf *out) MUST_CHECK;

/* --- what is sealed into encrypted_content ---------------------------------------------------- */

/* What a provider wants back unchanged. It is encoded, not encrypted: it is the client's own
 * conversation, and the provider checks its signatures itself. */
struct responses_seal {
    enum {
        SEAL_THINKING, /* text, signature: the thought this item is */
        SEAL_REDACTED, /* text: opaque data instead of a thought */
        SEAL_TEXT,     /* signature of the text before this item */
        SEAL_CALL      /* id, signature: of the call with that id, before this item */
    } kind;
    struct slice id, text, signature;
};

/* Writes the value of encrypted_content, a JSON string. */
void responses_seal_put(struct buf *out, const struct responses_seal *s);
/* Reads it back into the arena. GW_EBADREQ when it is not ours (another gateway's, OpenAI's own),
 * GW_ENOMEM. */
enum gw_err responses_seal_read(struct arena *a, struct slice sealed,
                                struct responses_seal *ret) MUST_CHECK;
