/*
 * redis_reply.h - replies of Redis out of bytes: hiredis' parser with our own objects, limits, and
 * the one function that sorts error replies.
 *
 * A reply is built in place; it lives until the next call on the reader. What breaks the protocol
 * or a limit (a bulk or all strings of a reply over the ceiling, a list of more than a million
 * items, nesting deeper than hiredis' 7) breaks the reader for good: its connection is to be
 * dropped.
 */
#pragma once

#include "storage/redis.h"

struct redis_reader;

enum redis_progress { REDIS_MORE, REDIS_REPLY, REDIS_BROKEN };

/* What an error reply asks for. */
enum redis_fault {
    REDIS_FAULT_CALLER,  /* wrong command or wrong type: GW_EBADREQ */
    REDIS_FAULT_SCRIPT,  /* NOSCRIPT: load it and ask again */
    REDIS_FAULT_NOT_NOW, /* OOM, BUSY, MISCONF ...: GW_EAGAIN, the connection is fine */
    REDIS_FAULT_LEAVE /* LOADING, READONLY, NOAUTH ...: GW_EAGAIN, and another connection is needed
                       */
};

struct redis_reader *redis_reader_new(size_t max_bytes); /* NULL out of memory */
struct redis_reader *redis_reader_free(struct redis_reader *r);

/* False when it is broken. */
bool redis_reader_feed(struct redis_reader *r, const char *p, size_t n);
enum redis_progress redis_reader_next(struct redis_reader *r, const struct redis_value **ret);
const char *redis_reader_why(const struct redis_reader *r); /* why it is broken */

enum redis_fault redis_fault_sort(struct slice text);
