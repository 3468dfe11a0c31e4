/*
 * server.c - the listening socket, the list of connections, overload and drain. See server.h.
 *
 * At the descriptor limit accept() would fail over and over: the listener is then turned off for
 * 100 ms, or until a connection closes, and a descriptor held in reserve serves to tell one client
 * 503. Beyond max_connections a client is told 503 without being read; beyond a margin it is just
 * closed.
 */
#include "gateway/http/server.h"

#include "gateway/core/log.h"
#include "gateway/core/metrics.h"
#include "gateway/http/server_conn.h"

#include <event2/listener.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_PAUSE_US 100000u
#define DRAIN_GRACE_US 1000000u
#define DRAIN_STEP_US 50000u
#define REFUSED_MARGIN                                                                             \
    256u /* connections beyond the limit that may be lingering with their 503                      \
          */

TAILQ_HEAD(conn_list, http_conn);

static struct {
    evhtp_t *htp;
    evhtp_ssl_cfg_t ssl;
    char *pem, *key;
    struct conn_list conns;
    unsigned n_conns, n_requests;
    unsigned port;
    int spare;                /* descriptor in reserve, or -1 */
    struct loop_timer resume; /* the listener is off until then */
    uint64_t logged_us;       /* last line about the descriptor limit */
    bool listening, paused, draining;
    struct loop_timer drain;
    uint64_t drain_grace_us, drain_end_us;
    void (*drained)(void *arg);
    void *drained_arg;
} srv = {.spare = -1};

static const struct log_ctx ctx = {.component = "server"};

#define OVERLOADED                                                                                 \
    "{\"type\":\"urn:postern:problem:overloaded\",\"title\":\"Over capacity\",\"status\":503,"     \
    "\"detail\":\"Too many connections\"}"

static const char overloaded[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Content-Type: application/problem+json\r\n"
                                 "Content-Length: 110\r\n"
                                 "Retry-After: 1\r\n"
                                 "Connection: close\r\n"
                                 "\r\n" OVERLOADED;

_Static_assert(sizeof(OVERLOADED) - 1 == 110, "the length told above");

/* --- counters ------------------------------------------------------------------------------ */

static struct metric_series *connections_gauge(void)
{
    static struct metric_series *s;

    if (!s)
        s = metrics_get(M_CONNECTIONS, NULL, NULL, NULL);
    return s;
}

static struct metric_series *requests_gauge(void)
{
    static struct metric_series *s;

    if (!s)
        s = metrics_get(M_HTTP_IN_PROGRESS, NULL, NULL, NULL);
    return s;
}

static void listener_on(void)
{
    if (!srv.paused)
        return;
    srv.paused = false;
    loop_timer_clear(&srv.resume);
    if (srv.htp && srv.htp->server)
        evconnlistener_enable(srv.htp->server);
}

void server_conn_added(struct http_conn *c)
{
    TAILQ_INSERT_TAIL(&srv.conns, c, link);
    metrics_set(connections_gauge(), ++srv.n_conns);
}

void server_conn_removed(struct http_conn *c)
{
    TAILQ_REMOVE(&srv.conns, c, link);
    metrics_set(connections_gauge(), --srv.n_conns);
    if (srv.paused)
        loop_timer_set(&srv.resume, loop_now_us());
}

void server_request_begun(void)
{
    metrics_set(requests_gauge(), ++srv.n_requests);
}

void server_request_ended(void)
{
    metrics_set(requests_gauge(), --srv.n_requests);
}

unsigned server_connections(void)
{
    return srv.n_conns;
}

unsigned server_requests(void)
{
    return srv.n_requests;
}

unsigned server_port(void)
{
    return srv.port;
}

bool server_draining(void)
{
    return srv.draining;
}

/* --- accepting ----------------------------------------------------------------------------- */

static void on_resume(void *arg)
{
    listener_on();
}

static evhtp_res on_accept(evhtp_connection_t *ev, void *arg)
{
    unsigned max = (unsigned)conf_current()->max_connections;
    struct slice refusal = SLICE_NONE;

    loop_place("accept");
    if (srv.n_conns >= max) {
        conn_count_refused("connections");
        refusal = slice_of(overloaded, sizeof(overloaded) - 1);
    }
    if (srv.n_conns >= max + REFUSED_MARGIN || !conn_open(ev, refusal))
        return EVHTP_RES_ERROR;
    return EVHTP_RES_OK;
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Tells one waiting client 503 with the descriptor in reserve. */
static void refuse_one(struct evconnlistener *listener)
{
    char drop[4096];
    int fd;

    if (srv.spare < 0)
        return;
    close(srv.spare);
    fd = accept4(evconnlistener_get_fd(listener), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        if (send(fd, overloaded, sizeof(overloaded) - 1, MSG_NOSIGNAL) > 0)
            shutdown(fd, SHUT_WR);
        while (recv(fd, drop, sizeof(drop), 0) > 0)
            ;
        close(fd);
    }
    srv.spare = open_spare();
}

static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    int e = errno;

    loop_place("accept");
    conn_count_refused("descriptors");
    refuse_one(listener);
    evconnlistener_disable(listener);
    srv.paused = true;
    loop_timer_set(&srv.resume, loop_now_us() + ACCEPT_PAUSE_US);
    if (srv.logged_us && loop_now_us() < srv.logged_us + 1000000u)
        return;
    srv.logged_us = loop_now_us();
    log_error(&ctx, "accept_failed", F_CSTR("why", strerror(e)), F_INT("connections", srv.n_conns));
}

/* --- listening ----------------------------------------------------------------------------- */

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

/* A bound socket, or -1 with *ret_why. TCP_NODELAY is inherited by what it accepts. */
static int bind_socket(const struct conf *conf, const struct addrinfo *ai, const char **ret_why)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 ||
        (conf->workers > 1 && set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0) ||
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0 ||
        (ai->ai_family == AF_INET6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0) ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) != 0) {
        *ret_why = strerror(errno);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof(ss);

    if (getsockname(fd, (struct sockaddr *)&ss, &n) != 0)
        return 0;
    return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                          : ((struct sockaddr_in *)&ss)->sin_port);
}

/* The host is an address (conf sees to it); nothing is looked up. */
static int open_socket(const struct conf *conf, const char **ret_why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
    struct addrinfo *ai = NULL;
    char port[16];
    int fd, rc;

    snprintf(port, sizeof(port), "%lld", (long long)conf->port);
    rc = getaddrinfo(conf->host.p, port, &hints, &ai);
    if (rc != 0) {
        *ret_why = gai_strerror(rc);
        return -1;
    }
    fd = bind_socket(conf, ai, ret_why);
    freeaddrinfo(ai);
    return fd;
}

static enum gw_err listen_on(const struct conf *conf, const char **ret_why)
{
    int fd = open_socket(conf, ret_why);

    if (fd < 0)
        return GW_EIO;
    srv.port = port_of(fd);
    if (evhtp_accept_socket(srv.htp, fd, (int)conf->backlog) != 0) {
        *ret_why = strerror(errno);
        close(fd);
        return GW_EIO;
    }
    evconnlistener_set_error_cb(srv.htp->server, on_accept_error);
    srv.listening = true;
    return GW_OK;
}

/* --- TLS ----------------------------------------------------------------------------------- */

static enum gw_err tls_init(const struct conf *conf, const char **ret_why)
{
    if (conf->tls_certificate.n == 0)
        return GW_OK;
    srv.pem = strdup(conf->tls_certificate.p);
    srv.key = strdup(conf->tls_key.n ? conf->tls_key.p : conf->tls_certificate.p);
    if (!srv.pem || !srv.key)
        return GW_ENOMEM;
    srv.ssl = (evhtp_ssl_cfg_t){
        .pemfile = srv.pem,
        .privfile = srv.key,
        .ssl_opts = SSL_OP_NO_RENEGOTIATION,
        .scache_type = evhtp_ssl_scache_type_disabled,
    };
    ERR_clear_error();
    if (evhtp_ssl_init(srv.htp, &srv.ssl) != 0 || !srv.htp->ssl_ctx ||
        SSL_CTX_check_private_key(srv.htp->ssl_ctx) != 1) {
        *ret_why = "the TLS certificate or key cannot be used";
        return GW_EIO;
    }
    SSL_CTX_set_min_proto_version(srv.htp->ssl_ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(srv.htp->ssl_ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                           SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return GW_OK;
}

/* --- life ---------------------------------------------------------------------------------- */

static void on_drain_timer(void *arg);

enum gw_err server_start(const struct conf *conf, const char **ret_why)
{
    enum gw_err err;

    TAILQ_INIT(&srv.conns);
    loop_timer_init(&srv.resume, on_resume, NULL);
    loop_timer_init(&srv.drain, on_drain_timer, NULL);
    srv.draining = srv.paused = false;
    srv.spare = open_spare();
    srv.htp = evhtp_new(loop_base(), NULL);
    if (!srv.htp)
        return GW_ENOMEM;
    srv.htp->flags = 0; /* no 100 Continue of its own */
    evhtp_set_post_accept_cb(srv.htp, on_accept, NULL);
    evhtp_set_gencb(srv.htp, conn_on_whole, NULL);
    err = tls_init(conf, ret_why);
    if (!err)
        err = listen_on(conf, ret_why);
    if (err)
        server_deinit();
    return err;
}

static void stop_listening(void)
{
    if (srv.listening && srv.htp->server) {
        evconnlistener_free(srv.htp->server);
        srv.htp->server = NULL;
    }
    srv.listening = srv.paused = false;
    loop_timer_clear(&srv.resume);
}

static void cut_all(bool idle_only)
{
    struct http_conn *c;

    TAILQ_FOREACH (c, &srv.conns, link) {
        if (!idle_only || c->state == CONN_IDLE)
            conn_doom(c);
    }
}

static void on_drain_timer(void *arg)
{
    uint64_t now = loop_now_us(), next = now + DRAIN_STEP_US;

    if (srv.n_conns == 0 && (request_detached() == 0 || now >= srv.drain_end_us)) {
        if (srv.drained)
            srv.drained(srv.drained_arg);
        return;
    }
    if (now >= srv.drain_end_us)
        cut_all(false);
    else if (now >= srv.drain_grace_us)
        cut_all(true);
    loop_timer_set(&srv.drain, next);
}

void server_drain(uint64_t timeout_us, void (*done)(void *arg), void *arg)
{
    uint64_t now = loop_now_us();

    srv.drained = done;
    srv.drained_arg = arg;
    srv.drain_end_us = now + timeout_us;
    if (!srv.draining)
        srv.drain_grace_us = now + DRAIN_GRACE_US;
    srv.draining = true;
    stop_listening();
    loop_timer_set(&srv.drain, now);
}

static void abort_detached(void *arg)
{
    request_abort_detached();
}

void server_deinit(void)
{
    struct loop_deferred abort_rest = {0};
    unsigned rounds = 0;

    if (!srv.htp)
        return;
    stop_listening();
    cut_all(false);
    while (srv.n_conns && rounds++ < 100)
        loop_turn(); /* deferred calls are pending: this does not wait */
    if (request_detached()) {
        loop_defer(&abort_rest, abort_detached, NULL);
        loop_turn();
    }
    loop_timer_stop(&srv.resume);
    loop_timer_stop(&srv.drain);
    evhtp_free(srv.htp);
    srv.htp = NULL;
    free(srv.pem);
    free(srv.key);
    srv.pem = srv.key = NULL;
    if (srv.spare >= 0)
        close(srv.spare);
    srv.spare = -1;
}
