/*
 * redis_link.h - the socket under redis.c: name look-up in the offload pool, connect without
 * waiting, one gathered write a turn, bounded reading.
 *
 *     IDLE --open--> RESOLVING --> CONNECTING --> OPEN
 *       ^ '--(numeric address, Unix socket)--^       |
 *       '------------ close, or an end ('ended') ----'
 *
 * Embedded in its owner. Each opening ends in `opened` or `ended`; after `opened` comes `ended`
 * once, unless redis_link_close() came first. None of the three callbacks runs inside open or push.
 * In a callback the owner may close the link. The link has no deadlines: its owner does.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/loop.h"
#include "gateway/core/op.h"
#include "gateway/core/redisurl.h"

#include <sys/socket.h>

enum redis_link_state { LINK_IDLE, LINK_RESOLVING, LINK_CONNECTING, LINK_OPEN };

#define REDIS_LINK_ADDRESSES 8u

struct redis_link_address {
    struct sockaddr_storage addr;
    socklen_t n;
};

struct redis_link {
    const struct redisurl *url; /* outlives the link */
    void (*opened)(void);
    void (*bytes)(const char *p, size_t n); /* valid inside the call */
    void (*ended)(const char *why);         /* a literal, or strerror()'s */

    /* private */
    enum redis_link_state state;
    int fd;           /* -1 = none */
    unsigned opening; /* counts openings and closings; tells callbacks that the link is another */
    struct event ev_read, ev_write;
    struct redis_link_address addresses[REDIS_LINK_ADDRESSES];
    unsigned n_addresses, next_address;
    struct buf out; /* what the kernel has not taken */
    struct op *resolving;
    const char *why; /* of a failure told on the next turn */
    struct loop_deferred telling;
};

void redis_link_init(struct redis_link *l, const struct redisurl *url, size_t max_out_bytes);
void redis_link_deinit(struct redis_link *l);

/* Starts an opening; the link must be idle. While an earlier look-up still runs (names can take
 * long, and only one thread may be spent on them) that one is waited for. */
void redis_link_open(struct redis_link *l);

/* Discards what is not written. */
void redis_link_close(struct redis_link *l);

/* Where commands are added; sent by redis_link_push(), once a turn. */
static inline struct buf *redis_link_out(struct redis_link *l)
{
    return &l->out;
}

/* Writes what it can; `ended` may follow on the next turn. */
void redis_link_push(struct redis_link *l);

/* Reads what is there now, without waiting for the loop to say so. */
void redis_link_pull(struct redis_link *l);
