/*
 * meaning.h - has a question that means the same been answered? The semantic cache of SPEC 5.
 *
 *     look --(vector of the question: cached, or made by conf's semantic.model)--> found or not
 *
 * Only a conversation whose last turn is one text is looked for. Whatever goes wrong on the way is
 * "not found", and so is a budget or a rate that has nothing left for the vector. What it cost is
 * booked like any call, and has a row of the ledger.
 */
#pragma once

#include "handlers/chat.h"

struct meaning; /* in the request's arena */

/* Starts looking; c->key is that of the exact question. done(c, answer, similarity) on the loop,
 * never inside: `answer` is the kept answer, or NULL. Returns NULL when there is nothing to look
 * for. */
struct op *meaning_look(struct chat *c,
                        void (*done)(struct chat *c, struct blob *answer, double similarity));

/* Remembers that the question of this chat is answered under c->key. Does nothing unless
 * meaning_look() found its vector. */
void meaning_keep(struct chat *c);
