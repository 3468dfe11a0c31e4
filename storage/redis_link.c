/* redis_link.c - see redis_link.h. */
#include "storage/redis_link.h"

#include "gateway/core/offload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_BYTES 65536u
#define READS_A_TURN 4u
#define KEPT_BYTES (1u << 20) /* of the write buffer, once it is empty */

/* --- ending ----------------------------------------------------------------------------------- */

static void drop_socket(struct redis_link *l)
{
    if (l->fd < 0)
        return;
    event_del(&l->ev_read);
    event_del(&l->ev_write);
    close(l->fd);
    l->fd = -1;
}

void redis_link_close(struct redis_link *l)
{
    drop_socket(l);
    loop_undefer(&l->telling);
    buf_deinit(&l->out);
    l->state = LINK_IDLE;
    l->opening++;
}

static void end(struct redis_link *l, const char *why)
{
    redis_link_close(l);
    l->ended(why);
}

static void on_tell(void *arg)
{
    struct redis_link *l = arg;

    loop_place("redis_link");
    end(l, l->why);
}

/* For failures noticed inside a call of the owner. */
static void end_later(struct redis_link *l, const char *why)
{
    l->why = why;
    loop_defer(&l->telling, on_tell, l);
}

/* --- connecting ------------------------------------------------------------------------------- */

static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);

static const char *connect_one(struct redis_link *l, const struct redis_link_address *a)
{
    int one = 1, rc;

    l->fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return strerror(errno);
    if (a->addr.ss_family != AF_UNIX) {
        setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(l->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    event_assign(&l->ev_read, loop_base(), l->fd, EV_READ | EV_PERSIST, on_readable, l);
    event_assign(&l->ev_write, loop_base(), l->fd, EV_WRITE, on_writable, l);
    rc = connect(l->fd, (const struct sockaddr *)&a->addr, a->n);
    if (rc && errno != EINPROGRESS)
        return strerror(errno);
    return event_add(&l->ev_write, NULL) ? "no memory for the event" : NULL;
}

/* Goes through the addresses that are left; the reason of the last one when none can be tried. */
static const char *connect_next(struct redis_link *l)
{
    const char *why = "the name has no address";

    l->state = LINK_CONNECTING;
    while (l->next_address < l->n_addresses) {
        why = connect_one(l, &l->addresses[l->next_address++]);
        if (!why)
            return NULL;
        drop_socket(l);
    }
    return why;
}

static void connected(struct redis_link *l)
{
    int err = 0;
    socklen_t n = sizeof(err);
    const char *why;

    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &n))
        err = errno;
    if (!err && event_add(&l->ev_read, NULL))
        err = ENOMEM;
    if (!err) {
        l->state = LINK_OPEN;
        l->opened();
        return;
    }
    drop_socket(l);
    why = l->next_address < l->n_addresses ? connect_next(l) : strerror(err);
    if (why)
        end(l, why);
}

/* --- addresses -------------------------------------------------------------------------------- */

static void add_address(struct redis_link *l, const void *addr, socklen_t n)
{
    struct redis_link_address *a = &l->addresses[l->n_addresses];

    if (l->n_addresses == REDIS_LINK_ADDRESSES || n > sizeof(a->addr))
        return;
    memcpy(&a->addr, addr, n);
    a->n = n;
    l->n_addresses++;
}

/* A Unix socket or a numeric address needs no look-up. */
static bool address_known(struct redis_link *l)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(l->url->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(l->url->port)};

    if (l->url->local) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%.107s", l->url->host);
        add_address(l, &un, sizeof(un));
    } else if (inet_pton(AF_INET, l->url->host, &in.sin_addr) == 1) {
        add_address(l, &in, sizeof(in));
    } else if (inet_pton(AF_INET6, l->url->host, &in6.sin6_addr) == 1) {
        add_address(l, &in6, sizeof(in6));
    }
    return l->n_addresses > 0;
}

struct lookup {
    struct redis_link *link; /* the loop's alone */
    char host[256], port[8];
    struct addrinfo *found;
};

static void lookup_free(void *arg)
{
    struct lookup *k = arg;

    if (k->found)
        freeaddrinfo(k->found);
    free(k);
}

static void lookup_work(void *arg)
{
    struct lookup *k = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};

    if (getaddrinfo(k->host, k->port, &hints, &k->found))
        k->found = NULL;
}

static void lookup_done(void *arg)
{
    struct lookup *k = arg;
    struct redis_link *l = k->link;
    struct addrinfo *a;
    const char *why;

    l->resolving = NULL;
    if (l->state == LINK_RESOLVING) {
        for (a = k->found; a; a = a->ai_next)
            add_address(l, a->ai_addr, a->ai_addrlen);
        why = connect_next(l);
        if (why)
            end(l, why);
    }
    lookup_free(k);
}

static const char *look_up(struct redis_link *l)
{
    struct lookup *k;

    l->state = LINK_RESOLVING;
    if (l->resolving)
        return NULL;
    k = calloc(1, sizeof(*k));
    if (!k)
        return "out of memory";
    k->link = l;
    memcpy(k->host, l->url->host, sizeof(k->host));
    snprintf(k->port, sizeof(k->port), "%u", l->url->port);
    l->resolving = offload_run(lookup_work, lookup_done, lookup_free, k);
    if (l->resolving)
        return NULL;
    lookup_free(k);
    return "no free thread to resolve the name";
}

void redis_link_open(struct redis_link *l)
{
    const char *why;

    l->n_addresses = l->next_address = 0;
    why = address_known(l) ? connect_next(l) : look_up(l);
    if (why)
        end_later(l, why);
}

/* --- reading and writing ---------------------------------------------------------------------- */

void redis_link_pull(struct redis_link *l)
{
    static char bytes[READ_BYTES];
    unsigned opening = l->opening, i;
    ssize_t n = sizeof(bytes);

    for (i = 0; i < READS_A_TURN && n == (ssize_t)sizeof(bytes); i++) {
        n = read(l->fd, bytes, sizeof(bytes));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            end(l, n == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        l->bytes(bytes, (size_t)n);
        if (l->opening != opening)
            return;
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    loop_place("redis_read");
    redis_link_pull(arg);
}

void redis_link_push(struct redis_link *l)
{
    ssize_t n;

    if (l->state != LINK_OPEN || l->out.n == 0 || l->telling.queued ||
        event_pending(&l->ev_write, EV_WRITE, NULL))
        return;
    n = send(l->fd, l->out.p, l->out.n, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        end_later(l, strerror(errno));
        return;
    }
    if (n > 0 && (size_t)n == l->out.n && l->out.cap > KEPT_BYTES)
        buf_deinit(&l->out);
    else if (n > 0 && (size_t)n == l->out.n)
        buf_reset(&l->out);
    else if (n > 0)
        buf_consume(&l->out, (size_t)n);
    if (l->out.n && event_add(&l->ev_write, NULL))
        end_later(l, "no memory for the event");
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct redis_link *l = arg;

    loop_place("redis_write");
    if (l->state == LINK_CONNECTING)
        connected(l);
    else
        redis_link_push(l);
}

void redis_link_init(struct redis_link *l, const struct redisurl *url, size_t max_out_bytes)
{
    l->url = url;
    l->fd = -1;
    buf_init(&l->out, max_out_bytes);
}

void redis_link_deinit(struct redis_link *l)
{
    if (l->url)
        redis_link_close(l);
    op_cancel(&l->resolving);
}
