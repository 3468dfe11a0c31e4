/*
 * server.h - listening, connections, the life of each exchange. Only the server*.c
 * files know libevhtp.
 *
 *     accept -> HEAD -> BODY -> WORK -> (REPLY) -> HEAD ...       per connection
 *                 '--refused--> LINGER (answer sent, reads dropped) -> closed
 *
 * What nobody may do elsewhere: write to a connection without a request, or keep a request without
 * a reference. A client that half-closes after its request counts as gone.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

/* Binds conf's host and port (SO_REUSEPORT when workers > 1) and starts accepting. GW_EIO with
 * *ret_why (static or strerror text) when it cannot. */
enum gw_err server_start(const struct conf *conf, const char **ret_why) MUST_CHECK;

/* The port listened on (of use when configured as 0). */
unsigned server_port(void);

/* Stops accepting; answers from now on say Connection: close; idle connections are closed after a
 * grace of 1 s (nginx moves on); done(arg) runs from a timer once no connection is left or
 * `timeout_us` has passed (the rest is cut). A second call only replaces the time limit, done and
 * arg. */
void server_drain(uint64_t timeout_us, void (*done)(void *arg), void *arg);
bool server_draining(void);

/* Cuts what is left and frees everything; outside of a turn, before loop_deinit(). Abort hooks
 * fire. */
void server_deinit(void);

unsigned server_connections(void);
unsigned server_requests(void); /* being worked on */
