/*
 * chat_reuse.h - a chat before a provider is asked: is its answer there already, or on its way to
 * somebody who asked the same?
 *
 *     LOOK --in this process, in Redis, or to a question that means the same--> replayed
 *      '--miss--> (admitted) --> JOIN --an identical one is under way--> replayed as it comes
 *                                  '--none--> this one leads: its answer is gathered
 */
#pragma once

#include "handlers/chat.h"

/* What became of it. */
enum chat_reuse_step {
    REUSE_ASK,   /* nothing is there: ask a provider */
    REUSE_LATER, /* on_looked(c, taken) will be called on the loop; c->looking is set meanwhile */
    REUSE_TAKEN  /* the request is answered or will be; the chat is over */
};

/* LOOK; sets X-Cache: BYPASS or MISS when it says ASK. */
enum chat_reuse_step chat_reuse_look(struct chat *c, void (*on_looked)(struct chat *c, bool taken));

/* Everything its answer depends on. */
struct reuse_subject chat_reuse_subject(const struct chat *c);

/* JOIN; ASK or TAKEN. */
enum chat_reuse_step chat_reuse_join(struct chat *c);

/* What the answer used, before it ends; for the flight this chat leads, if it does. */
void chat_reuse_note(struct chat *c);
