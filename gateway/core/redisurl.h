/*
 * redisurl.h - REDIS_URL taken apart. Pure.
 *
 *     redis://[[user]:password@]host[:port][/db]      host: name, IPv4, [IPv6]
 *     unix://[[user]:password@]/path/of/socket[?db=N]
 *
 * User and password may be percent-encoded. TLS (rediss://) is refused: hiredis 0.14 has none.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

#define REDISURL_DEFAULT_PORT 6379

struct redisurl {
    bool local;         /* a Unix socket: `host` is its path */
    char host[256];     /* without brackets */
    char user[128];     /* "" = the default user */
    char password[512]; /* "" = no AUTH */
    uint16_t port;
    int db;
};

/* GW_EBADREQ with *ret_why saying what is wrong (a literal without any part of the URL, since that
 * holds a password); then *ret is not to be used. */
enum gw_err redisurl_parse(struct slice text, struct redisurl *ret,
                           const char **ret_why) MUST_CHECK;
