/*
 * server_rig.h - the real server and a real socket to it in one thread: a turn of the loop follows
 * each step of the client. The test brings its routes and rows and calls rig_begin() in its set-up.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/chain.h"
#include "gateway/http/router.h"
#include "gateway/http/server.h"
#include "gateway/http/server_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define RIG_MAYBE __attribute__((unused))

static int client = -1;
static char got[65536]; /* what the client has received */
static size_t got_n;
static bool closed; /* the server has ended the connection */
static bool server_up;

/* --- turns ----------------------------------------------------------------------------------- */

static void nothing(void *arg)
{
}

static void receive(void)
{
    size_t room = sizeof(got) - 1 - got_n;
    ssize_t n;

    if (!room)
        return;
    n = recv(client, got + got_n, room, MSG_DONTWAIT);
    if (n > 0)
        got_n += (size_t)n;
    got[got_n] = '\0';
    closed = closed || n == 0 || (n < 0 && errno != EAGAIN);
}

/* One turn that does not wait, with `fn` in it; then the client reads. */
static void turn(void (*fn)(void *))
{
    struct loop_deferred d = {0};

    loop_defer(&d, fn, NULL);
    loop_turn();
    if (client >= 0)
        receive();
}

static void settle(void)
{
    for (int i = 0; i < 50; i++)
        turn(nothing);
}

static RIG_MAYBE void step(void (*fn)(void *))
{
    turn(fn);
    settle();
}

static RIG_MAYBE void send_text(const char *text)
{
    size_t n = strlen(text);

    assert_int_equal(send(client, text, n, MSG_NOSIGNAL), n);
    settle();
}

/* How many times a text was received. */
static RIG_MAYBE unsigned received(const char *text)
{
    unsigned n = 0;

    for (const char *at = strstr(got, text); at; at = strstr(at + 1, text))
        n++;
    return n;
}

/* --- life ------------------------------------------------------------------------------------ */

static void connect_client(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)server_port()),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    assert_int_equal(connect(client, (struct sockaddr *)&sa, sizeof(sa)), 0);
    settle();
}

static void disconnect(void)
{
    if (client >= 0)
        close(client);
    client = -1;
    settle();
}

static void rig_begin(const struct route *routes, unsigned n_routes, const struct chain_row *rows,
                      unsigned n_rows)
{
    struct problems ps = {0};
    struct conf *conf;
    const char *why = "";

    setenv("API_PORT", "0", 1);
    conf = conf_load(&(struct conf_source){.dir = "/nonexistent"}, &ps);
    problems_deinit(&ps);
    assert_non_null(conf);
    conf_publish(conf);
    assert_int_equal(router_init(routes, n_routes), GW_OK);
    chain_init(rows, n_rows);
    if (server_start(conf_current(), &why) != GW_OK)
        fail_msg("%s", why);
    server_up = true;
    got_n = 0;
    got[0] = '\0';
    closed = false;
    connect_client();
}

static void rig_end(void)
{
    disconnect();
    if (server_up)
        server_deinit();
    router_deinit();
    conf_publish(NULL);
}

static int rig_set_up_once(void **state)
{
    return metrics_init(1) || loop_init() ? -1 : 0;
}

static int rig_tear_down_once(void **state)
{
    loop_deinit();
    metrics_deinit();
    return 0;
}
