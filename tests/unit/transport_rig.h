/*
 * transport_rig.h - for the tests of the transport: a server made of raw sockets that answers,
 * cuts, hangs, lies and floods, a resolver that can be slow, and what a call saw. The server's
 * threads and the loop meet through semaphores only; a hanging test is ended by alarm().
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "providers/transport.c"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#define LIMIT (1u << 20)
#define HUGE_BYTES (12u << 20)
#define S 1000000u

/* --- the server ------------------------------------------------------------------------------- */

static int listener;
static unsigned port;
static atomic_uint n_accepted, n_executed, n_open;
static sem_t got_request, peer_closed, go;
static char request_head[4096]; /* of the last request */
static size_t request_body_bytes;

/* One request of a connection. */
struct exchange {
    int fd;
    char head[70000];
    size_t have; /* bytes in head, maybe with the body's beginning */
    char path[64];
};

static void put(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t done = send(fd, at, n, MSG_NOSIGNAL);

        if (done <= 0)
            return;
        at += done;
        n -= (size_t)done;
    }
}

static void puts_to(int fd, const char *text)
{
    put(fd, text, strlen(text));
}

/* Reads head and body of the next request; false at the end of the connection. */
static bool read_request(struct exchange *x)
{
    char *end, *field;
    size_t body = 0, part;
    char rest[65536];
    ssize_t n;

    x->have = 0;
    x->head[0] = '\0';
    while (!(end = strstr(x->head, "\r\n\r\n"))) {
        n = recv(x->fd, x->head + x->have, sizeof(x->head) - 1 - x->have, 0);
        if (n <= 0)
            return false;
        x->have += (size_t)n;
        x->head[x->have] = '\0';
    }
    field = strcasestr(x->head, "\r\ncontent-length:");
    if (field && field < end)
        body = strtoul(field + 17, NULL, 10);
    request_body_bytes = body;
    part = x->have - (size_t)(end + 4 - x->head);
    end[4] = '\0';
    snprintf(request_head, sizeof(request_head), "%.4000s", x->head);
    assert(sscanf(x->head, "%*s /%63s", x->path) == 1);
    for (body -= part < body ? part : body; body > 0; body -= (size_t)n) {
        n = recv(x->fd, rest, body < sizeof(rest) ? body : sizeof(rest), 0);
        if (n <= 0)
            return false;
    }
    n_executed++;
    return true;
}

static void wait_for_close(int fd)
{
    char c[4096];

    while (recv(fd, c, sizeof(c), 0) > 0)
        ;
}

static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

/* gzip of n * 258 + 1 zero bytes, by hand: one literal, then matches of the greatest length. */
static size_t gzip_zeros(unsigned char *to, size_t n)
{
    static const unsigned char header[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
    size_t at = sizeof(header) * 8, bytes = n * 258 + 1;
    uint32_t crc = 0xffffffff, trailer[2];

    memcpy(to, header, sizeof(header));
#define BITS(text)                                                                                 \
    for (const char *b = (text); *b; b++, at++) {                                                  \
        if (at % 8 == 0)                                                                           \
            to[at / 8] = 0;                                                                        \
        to[at / 8] |= (unsigned char)((*b == '1') << at % 8);                                      \
    }
    BITS("110"
         "00110000")
    for (size_t i = 0; i < n; i++)
        BITS("11000101"
             "00000")
    BITS("0000000")
#undef BITS
    for (size_t i = 0; i < bytes && n < 1000; i++) /* a bomb's is never looked at */
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    trailer[0] = ~crc;
    trailer[1] = (uint32_t)bytes;
    memcpy(to + (at + 7) / 8, trailer, 8);
    return (at + 7) / 8 + 8;
}

static void answer_gzip(int fd, size_t n)
{
    unsigned char *zip = malloc(n * 2 + 64);
    size_t bytes = gzip_zeros(zip, n);
    char head[128];

    snprintf(head, sizeof(head),
             "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", bytes);
    puts_to(fd, head);
    put(fd, zip, bytes);
    free(zip);
}

static void answer_huge(int fd)
{
    static char block[65536];
    char head[128];

    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", HUGE_BYTES);
    puts_to(fd, head);
    for (size_t sent = 0; sent < HUGE_BYTES; sent += sizeof(block))
        put(fd, block, sizeof(block));
}

static void answer_echo(int fd, const char *text)
{
    char head[128];

    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", strlen(text));
    puts_to(fd, head);
    puts_to(fd, text);
}

static void answer_long_head(int fd)
{
    puts_to(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 4000; i++)
        puts_to(fd, "X-Filler: 0123456789012345678901234567890123456789\r\n");
}

static void answer_long_line(int fd)
{
    char *line = malloc(300000);

    memset(line, 'x', 300000);
    puts_to(fd, "HTTP/1.1 200 OK\r\nX-Long: ");
    put(fd, line, 300000);
    free(line);
}

/* Byte by byte, each when the test says so. */
static void answer_trickle(int fd, const char *text)
{
    for (; *text; text++) {
        sem_wait(&go);
        put(fd, text, 1);
    }
}

static const struct {
    const char *path, *bytes;
} fixed[] = {
    {"ok", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"},
    {"empty", "HTTP/1.1 204 No Content\r\n\r\n"},
    {"limited", "HTTP/1.1 429 Slow\r\nretry-after:  7 \r\nX-REQUEST-ID: abc\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"},
    {"vendor-id", "HTTP/1.1 200 OK\r\nrequest-id: req_1\r\nContent-Length: 0\r\n\r\n"},
    {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nContent-Type: a/trailer\r\n\r\n"},
    {"continue", "HTTP/1.1 100 Continue\r\nRetry-After: 9\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                 "Content-Type: wrong/one\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
    {"redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n"},
    {"!cut-head", "HTTP/1.1 200 OK\r\nConte"},
    {"!cut-body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"},
    {"!cut-chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"},
    {"!cut-last-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"},
    {"!no-answer", ""},
    {"!garbage", "\x01\x02\x03 garbage\r\n\r\n"},
    {"!http09", "hello, this is the body"},
    {"!http2.5", "HTTP/9.5 200 OK\r\nContent-Length: 0\r\n\r\n"},
    {"!bad-status", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"},
    {"!bad-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"},
    {"!bad-gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"},
    {"!switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nstuff"},
    {"!until-close", "HTTP/1.1 200 OK\r\n\r\nall of it"},
    {"!excess", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nsmuggled"},
};

/* Plays what the path asks for; false when the connection is over. */
static bool play(struct exchange *x)
{
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        bool closes = fixed[i].path[0] == '!';

        if (strcmp(fixed[i].path + closes, x->path) != 0)
            continue;
        puts_to(x->fd, fixed[i].bytes);
        return !closes;
    }
    if (strcmp(x->path, "hang") == 0) {
        wait_for_close(x->fd);
    } else if (strcmp(x->path, "hang-head") == 0) {
        puts_to(x->fd, "HTTP/1.1 200 OK\r\nX-A: b");
        wait_for_close(x->fd);
    } else if (strcmp(x->path, "hang-body") == 0) {
        puts_to(x->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        wait_for_close(x->fd);
    } else if (strcmp(x->path, "reset") == 0) {
        reset(x->fd);
    } else if (strcmp(x->path, "echo") == 0) {
        answer_echo(x->fd, x->head);
        return true;
    } else if (strcmp(x->path, "small-gzip") == 0) {
        answer_gzip(x->fd, 100);
        return true;
    } else if (strcmp(x->path, "bomb") == 0) {
        answer_gzip(x->fd, 1u << 20);
    } else if (strcmp(x->path, "huge") == 0) {
        answer_huge(x->fd);
        return true;
    } else if (strcmp(x->path, "long-head") == 0) {
        answer_long_head(x->fd);
    } else if (strcmp(x->path, "long-line") == 0) {
        answer_long_line(x->fd);
    } else if (strcmp(x->path, "trickle") == 0) {
        answer_trickle(x->fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
        return true;
    } else if (strcmp(x->path, "close-later") == 0) {
        puts_to(x->fd, fixed[0].bytes);
        sem_wait(&go);
    }
    return false; /* unknown paths, too, for instance close-when-read */
}

static void *serve(void *arg)
{
    struct exchange *x = calloc(1, sizeof(*x));

    x->fd = (int)(intptr_t)arg;
    while (read_request(x)) {
        sem_post(&got_request);
        if (!play(x))
            break;
    }
    close(x->fd);
    free(x);
    sem_post(&peer_closed);
    n_open--;
    return NULL;
}

static void *listen_main(void *arg)
{
    pthread_t thread;
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        n_accepted++;
        n_open++;
        assert(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0);
        pthread_detach(thread);
    }
    return NULL;
}

static pthread_t listen_thread;

static int start_server(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);

    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &n), 0);
    port = ntohs(at.sin_port);
    sem_init(&got_request, 0, 0);
    sem_init(&peer_closed, 0, 0);
    sem_init(&go, 0, 0);
    return pthread_create(&listen_thread, NULL, listen_main, NULL);
}

static int stop_server(void **state)
{
    shutdown(listener, SHUT_RDWR);
    pthread_join(listen_thread, NULL);
    close(listener);
    return 0;
}

/* --- a resolver that can be slow -------------------------------------------------------------- */

static sem_t resolver_may_go;
static atomic_uint n_resolving;

/* In place of libc's for all of this program, libcurl's resolver threads included. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **res)
{
    if (node && strcmp(node, "slow.test") == 0) {
        n_resolving++;
        sem_wait(&resolver_may_go);
        n_resolving--;
    }
    return EAI_NONAME;
}

/* --- calls ------------------------------------------------------------------------------------ */

struct seen {
    struct op *op;
    unsigned heads, dones, pieces;
    int status;
    char type[64], retry_after[64], request_id[64], detail[CURL_ERROR_SIZE];
    struct buf body;
    enum gw_err err;
    struct transport_result res;
    /* cancel or pause inside on_head, or inside on_data */
    bool cancel_in_head, cancel_in_data, pause_in_data;
};

static struct seen seen[8];
static struct loop_timer tick; /* so that loop_turn() returns while only the server works */

static void on_tick(void *arg)
{
    loop_timer_set(&tick, loop_now_us() + 2000);
}

static void keep(char *to, size_t cap, struct slice s)
{
    snprintf(to, cap, "%.*s", SLICE_ARG(s));
}

static void test_head(const struct transport_head *head, void *arg)
{
    struct seen *s = arg;

    assert_int_equal(s->dones, 0);
    s->heads++;
    s->status = head->status;
    keep(s->type, sizeof(s->type), head->content_type);
    keep(s->retry_after, sizeof(s->retry_after), head->retry_after);
    keep(s->request_id, sizeof(s->request_id), head->request_id);
    if (s->cancel_in_head)
        op_cancel(&s->op);
}

static void test_data(struct slice bytes, void *arg)
{
    struct seen *s = arg;

    assert_int_equal(s->heads, 1);
    assert_int_equal(s->dones, 0);
    assert_true(bytes.n > 0);
    s->pieces++;
    buf_add_slice(&s->body, bytes);
    if (s->pause_in_data)
        transport_pause(s->op);
    if (s->cancel_in_data)
        op_cancel(&s->op);
}

static void test_done(enum gw_err err, const struct transport_result *res, void *arg)
{
    struct seen *s = arg;

    s->op = NULL;
    s->dones++;
    s->err = err;
    s->res = *res;
    snprintf(s->detail, sizeof(s->detail), "%s", res->detail);
}

static const struct transport_callbacks callbacks = {test_head, test_data, test_done};

static struct transport_request request_to(const char *path)
{
    static char url[8][128];
    static unsigned next;
    char *to = url[next++ % 8];

    snprintf(to, sizeof(url[0]), "http://127.0.0.1:%u/%s", port, path);
    return (struct transport_request){.method = "POST",
                                      .url = slice_cstr(to),
                                      .body = SLICE("{}"),
                                      .connect_timeout_us = 20 * S,
                                      .first_byte_timeout_us = 60 * S,
                                      .max_body_bytes = LIMIT};
}

static struct seen *begin(unsigned i, const struct transport_request *req)
{
    struct seen *s = &seen[i];

    buf_deinit(&s->body);
    *s = (struct seen){0};
    buf_init(&s->body, 2 * HUGE_BYTES);
    s->op = transport_start(req, &callbacks, s);
    assert_non_null(s->op);
    assert_int_equal(s->dones, 0);
    return s;
}

static void finish(struct seen *s)
{
    while (!s->dones)
        loop_turn();
    assert_int_equal(s->dones, 1);
}

static struct seen *fetch_with(const struct transport_request *req)
{
    struct seen *s = begin(0, req);

    finish(s);
    return s;
}

static struct seen *fetch(const char *path)
{
    struct transport_request req = request_to(path);

    return fetch_with(&req);
}

static void turn_until(sem_t *sem)
{
    while (sem_trywait(sem) != 0)
        loop_turn();
}

static void turns(unsigned n)
{
    while (n--)
        loop_turn();
}

static void assert_body(const struct seen *s, const char *wanted)
{
    assert_int_equal(s->body.n, strlen(wanted));
    if (s->body.n)
        assert_memory_equal(s->body.p, wanted, s->body.n);
}

static int set_up(void **state)
{
    struct transport_config cfg = {.max_connections = 50};

    alarm(120);
    n_accepted = n_executed = 0;
    while (sem_trywait(&got_request) == 0 || sem_trywait(&peer_closed) == 0 ||
           sem_trywait(&go) == 0)
        ;
    assert_int_equal(loop_init(), GW_OK);
    assert_int_equal(transport_init(&cfg), GW_OK);
    loop_timer_init(&tick, on_tick, NULL);
    on_tick(NULL);
    return 0;
}

static int tear_down(void **state)
{
    assert_int_equal(transport_active(), 0);
    transport_deinit();
    loop_timer_stop(&tick);
    loop_deinit();
    while (n_open)
        sched_yield();
    for (unsigned i = 0; i < 8; i++)
        buf_deinit(&seen[i].body);
    alarm(0);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
