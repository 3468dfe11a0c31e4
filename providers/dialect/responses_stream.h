/*
 * responses_stream.h - an answer on its way to a client of the Responses API, and how it is
 * written. Private to the files named in responses_wire.h.
 */
#pragma once

#include "providers/dialect/responses_wire.h"

/* --- items of an answer ----------------------------------------------------------------------- */

enum responses_kind { RESPONSES_MESSAGE, RESPONSES_REASONING, RESPONSES_CALL };

/* One part of a message's content. */
struct responses_piece {
    struct responses_piece *next;
    unsigned part; /* of the conversation's answer */
    bool refusal;
    struct buf text;
    struct buf logprobs;    /* elements of the array, with commas between */
    struct buf annotations; /* the same */
    unsigned n_annotations;
};

struct responses_item {
    struct responses_item *next;
    enum responses_kind kind;
    unsigned index;     /* in the output */
    unsigned part;      /* not of messages */
    const char *status; /* "in_progress", "completed", "incomplete" */
    bool done;
    struct responses_piece *pieces, *last_piece; /* of a message */
    unsigned n_pieces;
    struct buf text;         /* a thought's, or a call's arguments */
    struct slice call, name; /* id and name of a call */
    struct slice
        signature;     /* of the thought, of a message's last piece, or of the call in its id */
    struct slice late; /* a call's signature that came after its id had gone out */
    bool sealed;       /* a reasoning item that holds only `seal` */
    struct responses_seal seal;
};

/* Writes the item; `id` is the response's id without its prefix, escaped. */
void responses_put_item(struct buf *out, const struct responses_item *item, struct slice id);
/* Writes the item's id, a JSON string. */
void responses_put_item_id(struct buf *out, const struct responses_item *item, struct slice id);
/* Writes a part of a message's content. */
void responses_put_piece(struct buf *out, const struct responses_piece *p);
/* Writes a JSON string. */
void responses_put_string(struct buf *out, struct slice text);
/* Writes JSON of a provider or a client on one line. */
void responses_put_raw(struct buf *out, struct slice raw);

/* --- the answer so far ------------------------------------------------------------------------ */

struct dialect_encoder {
    struct arena *arena;
    struct slice model;
    uint64_t created;
    size_t max, held;  /* bytes of the answer that are kept */
    struct slice id;   /* without its prefix, escaped; empty until the first event */
    struct slice echo; /* the request's settings as members, each with a comma before it */
    uint64_t sequence;
    bool quiet, over;
    struct responses_item *items, *last_item;
    unsigned n_items;
    struct responses_item *open; /* message or thought, or NULL */
    unsigned empty_part;         /* a text part that has no text */
    bool has_empty_part;
    enum convo_stop stop;
    struct slice stop_raw;
    struct convo_usage usage;
    struct buf opaque; /* elements of postern_opaque */
};

#define LIT(out, lit) buf_add((out), lit, sizeof(lit) - 1)

/* The vendor's word for why an answer is not complete, or NULL when it is. */
const char *responses_cut_word(enum convo_stop stop);
/* Writes the request's settings, as struct dialect_encoder's `echo`. */
void responses_put_settings(struct buf *out, struct json asked);
/* Writes the response; `error` is NULL unless the answer failed. */
void responses_put(const struct dialect_encoder *e, const char *status,
                   const struct convo_event *error, struct buf *out);

/* Begin an event: any; about an item; about the last piece of a message or the summary of a
 * thought. Its further members follow, each with a comma before it, then responses_end(). False
 * when nothing is to be written. */
bool responses_begin(struct dialect_encoder *e, const char *type, struct buf *out) MUST_CHECK;
bool responses_begin_of(struct dialect_encoder *e, const char *type,
                        const struct responses_item *item, struct buf *out) MUST_CHECK;
bool responses_begin_part(struct dialect_encoder *e, const char *type,
                          const struct responses_item *item, struct buf *out) MUST_CHECK;
void responses_end(struct buf *out);
/* Writes a comma and a member that is a string. */
void responses_put_member(struct buf *out, const char *name, struct slice text);

/* Whole events: with the response; with an item; with the last piece of a message; with the part
 * of a summary; with the next of a call's arguments. */
void responses_tell(struct dialect_encoder *e, const char *type, const char *status,
                    const struct convo_event *error, struct buf *out);
void responses_tell_item(struct dialect_encoder *e, const char *type,
                         const struct responses_item *item, struct buf *out);
void responses_tell_piece(struct dialect_encoder *e, const char *type,
                          const struct responses_item *item, struct buf *out);
void responses_tell_summary_part(struct dialect_encoder *e, const char *type,
                                 const struct responses_item *item, struct slice text,
                                 struct buf *out);
void responses_tell_args(struct dialect_encoder *e, const struct responses_item *item,
                         struct slice piece, struct buf *out);
