/*
 * encoding.h - gzip of whole JSON answers, for clients that accept it. Streams are never
 * compressed: each event has to leave at once.
 */
#pragma once

#include "gateway/http/request.h"

/* Does this Accept-Encoding (all lines of it, RFC 9110 12.5.3) ask for gzip rather than for the
 * plain bytes? */
bool encoding_accepts_gzip(const struct request *req);

/* Whether an answer of this type and length is to be compressed. Says in Vary that the answer
 * depends on Accept-Encoding, when it does. Called before the head is built. */
bool encoding_choose(struct request *req, struct slice type, size_t n);

/* The body compressed, with Content-Encoding set; the same body when it does not get shorter or
 * memory is short. Valid until the next call. */
struct slice encoding_gzip(struct request *req, struct slice body);

/* application/json or anything+json, parameters aside. */
bool encoding_is_json(struct slice type);
