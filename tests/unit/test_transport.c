/*
 * test_transport.c - libcurl on the loop against a server made of raw sockets that answers, cuts,
 * hangs, lies and floods. The server's threads and the loop meet through semaphores only; a
 * hanging test is ended by alarm().
 */
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

/* --- the server ---------------------------------------------------------------------------------
 */

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

/* --- a resolver that can be slow
 * ------------------------------------------------------------------ */

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

/* --- calls
 * ---------------------------------------------------------------------------------------- */

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

/* --- good answers
 * ----------------------------------------------------------------------------------- */

static void test_an_answer_comes_back_with_its_head(void **state)
{
    struct seen *s = fetch("ok");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->heads, 1);
    assert_int_equal(s->status, 200);
    assert_string_equal(s->type, "text/plain");
    assert_body(s, "hello");
    assert_int_equal(s->res.status, 200);
    assert_true(s->res.sent);
    assert_false(s->res.reused);
    assert_false(s->res.timed_out);
    assert_int_equal(s->res.bytes_in, 5);
    assert_true(s->res.first_byte_us > 0);
    assert_true(s->res.total_us >= s->res.first_byte_us);
}

static void test_connections_are_reused(void **state)
{
    for (int i = 0; i < 20; i++) {
        struct seen *s = fetch(i % 2 ? "ok" : "limited");

        assert_int_equal(s->err, GW_OK);
        assert_int_equal(s->res.reused, i > 0);
    }
    assert_int_equal(n_accepted, 1);
    assert_int_equal(n_executed, 20);
}

static void test_any_status_is_a_complete_answer(void **state)
{
    struct seen *s = fetch("limited");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->status, 429);
    assert_string_equal(s->retry_after, "7");
    assert_string_equal(s->request_id, "abc");
    assert_string_equal(s->type, "application/json");
    s = fetch("empty");
    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->status, 204);
    assert_int_equal(s->body.n, 0);
    s = fetch("vendor-id");
    assert_string_equal(s->request_id, "req_1");
}

static void test_chunked_answers_and_their_trailers_are_read(void **state)
{
    struct seen *s = fetch("chunked");

    assert_int_equal(s->err, GW_OK);
    assert_body(s, "abcdefg");
    assert_string_equal(s->type, "");
    assert_int_equal(s->pieces, 1);
}

static void test_heads_of_1xx_are_not_the_answers(void **state)
{
    struct seen *s = fetch("continue");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->heads, 1);
    assert_int_equal(s->status, 200);
    assert_string_equal(s->retry_after, "");
    assert_string_equal(s->type, "");
    assert_body(s, "ok");
}

static void test_check_071_a_redirect_is_an_answer_and_not_followed(void **state)
{
    struct seen *s = fetch("redirect");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->status, 302);
    turns(5);
    assert_int_equal(n_executed, 1);
}

static void test_a_body_without_length_ends_with_the_connection(void **state)
{
    struct seen *s = fetch("until-close");

    assert_int_equal(s->err, GW_OK);
    assert_body(s, "all of it");
}

static void test_bytes_after_the_answer_are_not_the_next_one(void **state)
{
    struct seen *s = fetch("excess");

    assert_int_equal(s->err, GW_OK);
    assert_body(s, "ok");
    s = fetch("ok");
    assert_body(s, "hello");
    assert_false(s->res.reused);
}

static void test_many_calls_at_once_each_get_their_own_answer(void **state)
{
    static const char *const paths[] = {"ok", "chunked", "continue", "until-close"};
    static const char *const bodies[] = {"hello", "abcdefg", "ok", "all of it"};
    struct transport_request req;

    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 8; i++) {
            req = request_to(paths[i % 4]);
            req.stream = (i + (unsigned)round) % 3 == 0;
            begin(i, &req);
        }
        assert_int_equal(transport_active(), 8);
        for (unsigned i = 0; i < 8; i++) {
            finish(&seen[i]);
            assert_int_equal(seen[i].err, GW_OK);
            assert_body(&seen[i], bodies[i % 4]);
        }
    }
}

/* --- what is sent
 * ------------------------------------------------------------------------------------- */

static void test_requests_say_no_more_than_they_are_told(void **state)
{
    struct transport_header headers[] = {{SLICE("Content-Type"), SLICE("application/json")},
                                         {SLICE("x-empty"), SLICE("")},
                                         {SLICE("x-split"), SLICE("a\r\nx-evil: 1")},
                                         {SLICE("x bad"), SLICE("1")},
                                         {SLICE("x-bad:"), SLICE("1")},
                                         {SLICE("Authorization"), SLICE("Bearer k")}};
    struct transport_request req = request_to("echo");
    char wanted[512];

    req.headers = headers;
    req.n_headers = 6;
    req.stream = true;
    snprintf(wanted, sizeof(wanted),
             "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: postern/" POSTERN_VERSION
             "\r\nAccept: */*\r\nContent-Type: application/json\r\nx-empty:\r\n"
             "Authorization: Bearer k\r\nContent-Length: 2\r\n\r\n",
             port);
    assert_body(fetch_with(&req), wanted);
    req.stream = false;
    fetch_with(&req);
    assert_non_null(strstr(request_head, "Accept-Encoding: gzip\r\n"));
}

static void test_kept_handles_forget_the_call_before(void **state)
{
    struct transport_header header = {SLICE("x-one"), SLICE("1")};
    struct transport_request req = request_to("echo");

    req.headers = &header;
    req.n_headers = 1;
    fetch_with(&req);
    assert_non_null(strstr(request_head, "x-one: 1\r\n"));
    req.n_headers = 0;
    req.method = "GET";
    req.body = SLICE_NONE;
    fetch_with(&req);
    assert_memory_equal(request_head, "GET /echo ", 10);
    assert_null(strstr(request_head, "x-one"));
    assert_null(strstr(request_head, "Content-Length"));
    req.method = "POST";
    fetch_with(&req);
    assert_memory_equal(request_head, "POST /echo ", 11);
    assert_non_null(strstr(request_head, "Content-Length: 0\r\n"));
    fetch("ok?a=b");
    assert_memory_equal(request_head, "POST /ok?a=b ", 13);
}

static void test_a_large_body_is_sent_without_waiting_for_100_continue(void **state)
{
    struct transport_request req = request_to("ok");
    size_t n = 5u << 20;
    char *body = calloc(1, n);

    req.body = slice_of(body, n);
    assert_int_equal(fetch_with(&req)->err, GW_OK);
    assert_int_equal(request_body_bytes, n);
    assert_null(strcasestr(request_head, "Expect"));
    free(body);
}

static void test_proxies_of_the_environment_are_not_used(void **state)
{
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(fetch("ok")->err, GW_OK);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void test_other_protocols_and_broken_urls_are_refused(void **state)
{
    static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/x",
                                       "gopher://127.0.0.1/"};
    struct transport_request req = request_to("ok");

    for (unsigned i = 0; i < 3; i++) {
        req.url = slice_cstr(urls[i]);
        assert_int_equal(fetch_with(&req)->err, GW_EUPCONNECT);
        assert_false(seen[0].res.sent);
    }
    req.url = SLICE("http://127.0.0.1:1/a b");
    assert_null(transport_start(&req, &callbacks, &seen[0]));
    assert_int_equal(fetch("ok")->err, GW_OK);
}

/* --- bad answers
 * --------------------------------------------------------------------------------------- */

static void test_check_062_and_064_cut_and_wrong_answers_are_never_success(void **state)
{
    static const struct {
        const char *path;
        enum gw_err err;
        int status;
    } cases[] = {
        {"cut-head", GW_EUPSTREAM, 0},     {"cut-body", GW_EUPSTREAM, 200},
        {"cut-chunks", GW_EUPSTREAM, 200}, {"cut-last-chunk", GW_EUPSTREAM, 200},
        {"no-answer", GW_EUPSTREAM, 0},    {"reset", GW_EUPSTREAM, 0},
        {"garbage", GW_EUPBAD, 0},         {"http09", GW_EUPBAD, 0},
        {"http2.5", GW_EUPBAD, 0},         {"bad-chunk", GW_EUPSTREAM, 200},
        {"bad-gzip", GW_EUPBAD, 200},      {"switch", GW_EUPBAD, 0},
        {"long-head", GW_EUPBAD, 0},       {"long-line", GW_EUPBAD, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen *s = fetch(cases[i].path);

        if (s->err != cases[i].err || s->res.status != cases[i].status)
            fail_msg("%s: %s %d (%s)", cases[i].path, err_info(s->err)->name, s->res.status,
                     s->detail);
        assert_true(s->res.sent);
        assert_int_equal(s->heads, cases[i].status != 0);
    }
    assert_int_equal(n_executed, sizeof(cases) / sizeof(cases[0]));
}

static void test_check_061_a_closed_port_is_a_connection_failure(void **state)
{
    struct transport_request req = request_to("ok");
    struct seen *s;

    req.url = SLICE("http://127.0.0.1:1/x");
    s = fetch_with(&req);
    assert_int_equal(s->err, GW_EUPCONNECT);
    assert_false(s->res.sent);
    assert_int_equal(s->res.status, 0);
    assert_true(strlen(s->detail) > 0);
}

static void test_check_064_a_body_over_the_limit_is_cut(void **state)
{
    struct seen *s = fetch("huge");

    assert_int_equal(s->err, GW_EUPBAD);
    assert_true(s->body.n <= LIMIT);
    turn_until(&peer_closed);
}

static void test_a_body_of_exactly_the_limit_is_taken(void **state)
{
    struct transport_request req = request_to("ok");

    req.max_body_bytes = 5;
    assert_int_equal(fetch_with(&req)->err, GW_OK);
    req.max_body_bytes = 4;
    assert_int_equal(fetch_with(&req)->err, GW_EUPBAD);
    req.max_body_bytes = 0;
    assert_int_equal(fetch_with(&req)->err, GW_OK);
}

static void test_check_072_a_gzip_bomb_is_cut_at_the_decoded_limit(void **state)
{
    struct seen *s = fetch("bomb");

    assert_int_equal(s->err, GW_EUPBAD);
    assert_true(s->body.n <= LIMIT);
}

static void test_gzip_is_decoded_on_whole_answers(void **state)
{
    struct seen *s = fetch("small-gzip");

    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->body.n, 25801);
    for (size_t i = 0; i < s->body.n; i++)
        assert_int_equal(s->body.p[i], 0);
}

static void test_a_coding_nobody_asked_for_on_a_stream_is_refused(void **state)
{
    struct transport_request req = request_to("small-gzip");

    req.stream = true;
    assert_int_equal(fetch_with(&req)->err, GW_EUPBAD);
    assert_int_equal(seen[0].heads, 0);
}

/* --- resends
 * -----------------------------------------------------------------------------------------------
 */

/* The reused connection dies after the server has read, and so run, the request. */
static void die_on_reuse(const char *method, size_t body_bytes, bool stream)
{
    struct transport_request req = request_to("ok");
    char *body = calloc(1, body_bytes + 1);
    struct seen *s;

    n_accepted = n_executed = 0;
    req.stream = stream;
    assert_int_equal(fetch_with(&req)->err, GW_OK);
    req = request_to("close-when-read");
    req.method = method;
    req.stream = stream;
    req.body = slice_of(body, strcmp(method, "POST") == 0 ? body_bytes : 0);
    s = fetch_with(&req);
    assert_int_equal(s->err, GW_EUPSTREAM);
    assert_true(s->res.sent);
    assert_true(s->res.reused);
    assert_int_equal(s->heads, 0);
    turns(10);
    assert_int_equal(n_executed, 2);
    assert_int_equal(n_accepted, 1);
    free(body);
}

static void test_check_070_a_post_is_never_sent_twice_by_libcurl(void **state)
{
    die_on_reuse("POST", 10, false);
    die_on_reuse("POST", 10, true);
    die_on_reuse("POST", 0, false);
    die_on_reuse("POST", 3u << 20, false);
    die_on_reuse("GET", 0, false);
    assert_int_equal(fetch("ok")->err, GW_OK);
}

static void test_check_070_nor_over_another_idle_connection(void **state)
{
    struct transport_request req = request_to("ok");

    for (unsigned i = 0; i < 4; i++)
        begin(i, &req);
    for (unsigned i = 0; i < 4; i++)
        finish(&seen[i]);
    assert_int_equal(n_accepted, 4);
    assert_int_equal(fetch("close-when-read")->err, GW_EUPSTREAM);
    assert_true(seen[0].res.reused);
    turns(10);
    assert_int_equal(n_executed, 5);
    assert_int_equal(n_accepted, 4);
}

static void test_an_idle_connection_closed_by_the_peer_is_replaced_in_silence(void **state)
{
    assert_int_equal(fetch("close-later")->err, GW_OK);
    sem_post(&go);
    turn_until(&peer_closed);
    turns(3);
    assert_int_equal(fetch("ok")->err, GW_OK);
    assert_false(seen[0].res.reused);
    assert_int_equal(n_executed, 2);
}

static unsigned n_watched(void)
{
    unsigned n = 0;

    for (size_t i = 0; i < tp.n_watches; i++)
        n += tp.watches[i] && tp.watches[i]->watched;
    return n;
}

static void test_an_idle_connection_stays_registered_until_it_becomes_readable(void **state)
{
    assert_int_equal(fetch("close-later")->err, GW_OK);
    assert_int_equal(n_watched(), 1);
    turns(3);
    assert_int_equal(n_watched(), 1);
    sem_post(&go);
    turn_until(&peer_closed);
    turns(3);
    assert_int_equal(n_watched(), 0);
}

/* --- limits of time
 * ------------------------------------------------------------------------------------------ */

static void assert_times_out(const struct transport_request *req, int status)
{
    struct seen *s = fetch_with(req);

    assert_int_equal(s->err, GW_EDEADLINE);
    assert_true(s->res.timed_out);
    assert_int_equal(s->res.status, status);
    turn_until(&peer_closed);
}

static void test_check_063_each_limit_of_time_ends_the_call_and_the_connection(void **state)
{
    struct transport_request req = request_to("hang");

    req.first_byte_timeout_us = 20000;
    assert_times_out(&req, 0);
    req = request_to("hang-head");
    req.first_byte_timeout_us = 20000;
    assert_times_out(&req, 0);
    req = request_to("hang-body");
    req.gap_timeout_us = 20000;
    assert_times_out(&req, 200);
    assert_body(&seen[0], "abc");
    req = request_to("hang-body");
    req.deadline_us = loop_now_us() + 20000;
    assert_times_out(&req, 200);
    req.deadline_us = loop_now_us();
    fetch_with(&req);
    assert_int_equal(seen[0].err, GW_EDEADLINE);
}

static void test_the_gap_starts_anew_with_each_byte(void **state)
{
    struct transport_request req = request_to("trickle");
    struct seen *s;

    req.gap_timeout_us = 30 * S;
    req.first_byte_timeout_us = 30 * S;
    s = begin(0, &req);
    for (int i = 0; i < 39; i++) { /* the head and one byte */
        sem_post(&go);
        turns(1);
    }
    while (s->pieces == 0)
        loop_turn();
    struct transfer *t = (struct transfer *)s->op;
    uint64_t before = next_due(t);

    sem_post(&go);
    while (s->pieces == 1)
        loop_turn();
    assert_true(next_due(t) > before);
    sem_post(&go);
    sem_post(&go);
    finish(s);
    assert_int_equal(s->err, GW_OK);
    assert_body(s, "abc");
}

static void test_a_stream_that_began_has_no_deadline(void **state)
{
    struct transport_request req = request_to("hang-body");
    struct seen *s;

    req.deadline_us = loop_now_us() + 20 * S;
    s = begin(0, &req);
    while (!s->pieces)
        loop_turn();
    transport_set_deadline(s->op, 0);
    assert_int_equal(next_due((struct transfer *)s->op), 0);
    transport_set_deadline(s->op, loop_now_us() + 1000);
    finish(s);
    assert_int_equal(s->err, GW_EDEADLINE);
}

/* --- resolving
 * -------------------------------------------------------------------------------------------------
 */

static void test_a_name_that_does_not_exist_is_a_connection_failure(void **state)
{
    struct transport_request req = request_to("ok");

    req.url = SLICE("http://nobody.test/x");
    assert_int_equal(fetch_with(&req)->err, GW_EUPCONNECT);
    assert_false(seen[0].res.sent);
}

/* The resolver is let go only afterwards: a loop that waited for it would never come back. */
static void
test_check_061_a_slow_resolver_stalls_neither_cancel_nor_timeout_nor_other_calls(void **state)
{
    struct transport_request req = request_to("ok");
    struct seen *s;

    req.url = SLICE("http://slow.test/x");
    s = begin(1, &req);
    while (!n_resolving)
        loop_turn();
    assert_int_equal(fetch("ok")->err, GW_OK);
    op_cancel(&s->op);
    turns(3);
    req.connect_timeout_us = 20000;
    s = fetch_with(&req);
    assert_int_equal(s->err, GW_EUPCONNECT);
    assert_true(s->res.timed_out);
    req.connect_timeout_us = 20 * S;
    req.deadline_us = loop_now_us() + 20000;
    assert_int_equal(fetch_with(&req)->err, GW_EDEADLINE);
    while (n_resolving < 3)
        loop_turn();
    for (int i = 0; i < 3; i++)
        sem_post(&resolver_may_go);
    while (n_resolving)
        loop_turn();
}

/* --- cancelling
 * --------------------------------------------------------------------------------------------------
 */

static void test_cancelling_in_the_same_turn_sends_nothing(void **state)
{
    struct transport_request req = request_to("ok");
    struct seen *s = begin(0, &req);

    op_cancel(&s->op);
    turns(3);
    assert_int_equal(s->dones, 0);
    assert_int_equal(n_executed, 0);
}

static void test_cancelling_in_any_phase_closes_the_connection_and_calls_nobody(void **state)
{
    static const char *const paths[] = {"hang", "hang-head", "hang-body", "huge"};

    for (unsigned i = 0; i < 4; i++) {
        struct transport_request req = request_to(paths[i]);
        struct seen *s;

        req.max_body_bytes = 0;
        s = begin(0, &req);
        turn_until(&got_request);
        while (i >= 2 && !s->pieces)
            loop_turn();
        op_cancel(&s->op);
        turn_until(&peer_closed);
        assert_int_equal(s->dones, 0);
        assert_int_equal(transport_active(), 0);
    }
}

static void test_cancelling_inside_the_callbacks_is_safe(void **state)
{
    for (unsigned i = 0; i < 6; i++) {
        struct transport_request req = request_to(i % 2 ? "huge" : "chunked");
        struct seen *s;

        req.max_body_bytes = 0;
        req.stream = i >= 4;
        s = begin(0, &req);
        s->cancel_in_head = i < 2;
        s->cancel_in_data = i >= 2;
        while (s->op)
            loop_turn();
        turns(5);
        assert_int_equal(s->dones, 0);
        assert_int_equal(s->heads, 1);
        assert_int_equal(s->pieces, i >= 2);
    }
    assert_int_equal(fetch("ok")->err, GW_OK);
}

static struct seen *chained;

static void chain_done(enum gw_err err, const struct transport_result *res, void *arg)
{
    struct transport_request req = request_to("chunked");

    test_done(err, res, arg);
    if (chained)
        return;
    chained = &seen[2];
    op_cancel(&seen[1].op);
    begin(2, &req);
}

/* A call ending may start another and cancel a third. */
static void test_calls_may_be_started_and_cancelled_inside_callbacks(void **state)
{
    static const struct transport_callbacks chain = {test_head, test_data, chain_done};
    struct transport_request req = request_to("hang-body");

    chained = NULL;
    begin(1, &req);
    req = request_to("ok");
    buf_deinit(&seen[0].body);
    seen[0] = (struct seen){0};
    buf_init(&seen[0].body, LIMIT);
    seen[0].op = transport_start(&req, &chain, &seen[0]);
    while (!chained)
        loop_turn();
    finish(chained);
    assert_body(chained, "abcdefg");
    assert_int_equal(seen[1].dones, 0);
}

/* --- back-pressure
 * --------------------------------------------------------------------------------------------------
 */

static void test_check_056_a_paused_call_takes_little_more_and_goes_on_after_resume(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;
    size_t held;

    req.max_body_bytes = 0;
    req.stream = true;
    req.gap_timeout_us = 20000; /* does not run while paused */
    s = begin(0, &req);
    s->pause_in_data = true;
    while (!s->pieces)
        loop_turn();
    held = s->body.n;
    assert_true(held <= 65536);
    turns(20);
    assert_int_equal(s->body.n, held);
    assert_int_equal(s->dones, 0);
    ((struct transfer *)s->op)->gap_us = 0;
    for (int i = 0; i < 50; i++) {
        unsigned pieces = s->pieces;

        transport_resume(s->op);
        assert_int_equal(s->pieces, pieces);
        while (s->pieces == pieces)
            loop_turn();
    }
    s->pause_in_data = false;
    transport_resume(s->op);
    finish(s);
    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->body.n, HUGE_BYTES);
}

static void test_pausing_and_resuming_twice_is_harmless(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;

    req.max_body_bytes = 0;
    s = begin(0, &req);
    transport_pause(s->op); /* before it is connected, too */
    transport_pause(s->op);
    turn_until(&got_request);
    turns(20);
    assert_int_equal(s->heads, 1);
    assert_int_equal(s->pieces, 0);
    transport_resume(s->op);
    transport_resume(s->op);
    transport_pause(s->op);
    turns(5);
    transport_resume(s->op);
    finish(s);
    assert_int_equal(s->body.n, HUGE_BYTES);
}

static void test_a_paused_call_can_be_cancelled(void **state)
{
    struct transport_request req = request_to("huge");
    struct seen *s;

    req.max_body_bytes = 0;
    s = begin(0, &req);
    s->pause_in_data = true;
    while (!s->pieces)
        loop_turn();
    op_cancel(&s->op);
    turn_until(&peer_closed);
    s = begin(0, &req);
    s->pause_in_data = true;
    while (!s->pieces)
        loop_turn();
    transport_resume(s->op);
    op_cancel(&s->op);
    turn_until(&peer_closed);
    assert_int_equal(fetch("ok")->err, GW_OK);
}

/* --- in bulk
 * ---------------------------------------------------------------------------------------------------------
 */

static void test_check_058_thousands_of_calls_cancelled_at_random_leave_nothing(void **state)
{
    static const char *const paths[] = {"ok", "chunked", "huge", "hang-body", "cut-body", "reset"};
    struct transport_request req;
    unsigned seed = 7, ended = 0;

    for (unsigned i = 0; i < 3000; i++) {
        struct seen *s = &seen[i % 8];

        if (s->op)
            op_cancel(&s->op);
        ended += s->dones;
        seed = seed * 1103515245u + 12345u;
        req = request_to(paths[(seed >> 16) % 6]);
        req.stream = seed >> 24 & 1;
        req.max_body_bytes = 300000;
        begin(i % 8, &req);
        if (seed >> 25 & 1)
            loop_turn();
    }
    for (unsigned i = 0; i < 8; i++)
        op_cancel(&seen[i].op);
    assert_true(ended > 50);
    assert_int_equal(transport_active(), 0);
    assert_int_equal(fetch("ok")->err, GW_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_answer_comes_back_with_its_head),
        TEST(test_connections_are_reused),
        TEST(test_any_status_is_a_complete_answer),
        TEST(test_chunked_answers_and_their_trailers_are_read),
        TEST(test_heads_of_1xx_are_not_the_answers),
        TEST(test_check_071_a_redirect_is_an_answer_and_not_followed),
        TEST(test_a_body_without_length_ends_with_the_connection),
        TEST(test_bytes_after_the_answer_are_not_the_next_one),
        TEST(test_many_calls_at_once_each_get_their_own_answer),
        TEST(test_requests_say_no_more_than_they_are_told),
        TEST(test_kept_handles_forget_the_call_before),
        TEST(test_a_large_body_is_sent_without_waiting_for_100_continue),
        TEST(test_proxies_of_the_environment_are_not_used),
        TEST(test_other_protocols_and_broken_urls_are_refused),
        TEST(test_check_062_and_064_cut_and_wrong_answers_are_never_success),
        TEST(test_check_061_a_closed_port_is_a_connection_failure),
        TEST(test_check_064_a_body_over_the_limit_is_cut),
        TEST(test_a_body_of_exactly_the_limit_is_taken),
        TEST(test_check_072_a_gzip_bomb_is_cut_at_the_decoded_limit),
        TEST(test_gzip_is_decoded_on_whole_answers),
        TEST(test_a_coding_nobody_asked_for_on_a_stream_is_refused),
        TEST(test_check_070_a_post_is_never_sent_twice_by_libcurl),
        TEST(test_check_070_nor_over_another_idle_connection),
        TEST(test_an_idle_connection_closed_by_the_peer_is_replaced_in_silence),
        TEST(test_an_idle_connection_stays_registered_until_it_becomes_readable),
        TEST(test_check_063_each_limit_of_time_ends_the_call_and_the_connection),
        TEST(test_the_gap_starts_anew_with_each_byte),
        TEST(test_a_stream_that_began_has_no_deadline),
        TEST(test_a_name_that_does_not_exist_is_a_connection_failure),
        TEST(test_check_061_a_slow_resolver_stalls_neither_cancel_nor_timeout_nor_other_calls),
        TEST(test_cancelling_in_the_same_turn_sends_nothing),
        TEST(test_cancelling_in_any_phase_closes_the_connection_and_calls_nobody),
        TEST(test_cancelling_inside_the_callbacks_is_safe),
        TEST(test_calls_may_be_started_and_cancelled_inside_callbacks),
        TEST(test_check_056_a_paused_call_takes_little_more_and_goes_on_after_resume),
        TEST(test_pausing_and_resuming_twice_is_harmless),
        TEST(test_a_paused_call_can_be_cancelled),
        TEST(test_check_058_thousands_of_calls_cancelled_at_random_leave_nothing),
    };

    sem_init(&resolver_may_go, 0, 0);
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
