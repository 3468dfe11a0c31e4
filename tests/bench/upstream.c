/*
 * upstream.c - a provider that costs next to nothing, to measure what stands in front of it.
 *
 *     upstream PORT          prints "listening PORT"; 0 picks a free port
 *
 * Single-threaded epoll, HTTP/1.1 keep-alive, requests with Content-Length. Every POST is answered
 * at once from prepared bytes: a small OpenAI chat completion, or, when the body holds
 * "stream":true, a stream of server-sent events. A path with /messages speaks Anthropic's dialect.
 * A model name that contains s<N>-<MS> asks for N text events, one every MS milliseconds (0: as
 * fast as they are taken); the default is s20-0. Each event is an HTTP chunk and, when timed, a
 * write of its own, as from a real provider.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_MAX (64u * 1024)
#define OUT_HIGH (64u * 1024)
#define WHEEL 4096u /* slots of one millisecond */

struct bytes {
    const char *p;
    size_t n;
};

/* A stream's parts, each already framed as an HTTP chunk. */
struct dialect {
    struct bytes head, first, delta, last, usage, end;
};

struct conn {
    int fd;
    bool writing; /* EPOLLOUT is on */
    bool dead;
    char *in;
    size_t in_len;
    char *out; /* what the socket did not take */
    size_t out_len, out_cap;
    const struct dialect *stream; /* NULL when no stream is under way */
    unsigned left, interval_ms;
    bool want_usage;
    bool on_wheel;
    unsigned slot;
    TAILQ_ENTRY(conn) timer; /* in wheel[slot] */
    TAILQ_ENTRY(conn) grave; /* in dead */
};

TAILQ_HEAD(conns, conn);

static struct conns wheel[WHEEL], dead = TAILQ_HEAD_INITIALIZER(dead);
static unsigned streams; /* on the wheel */
static uint64_t now_ms;
static int ep;

#define HEAD_COMMON                                                                                \
    "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"                                                      \
    "x-request-id: req_0123456789abcdef0123456789abcdef\r\n"                                       \
    "openai-processing-ms: 312\r\n"                                                                \
    "x-ratelimit-limit-requests: 10000\r\n"                                                        \
    "x-ratelimit-remaining-requests: 9999\r\n"                                                     \
    "Server: bench\r\n"

#define CHAT                                                                                       \
    "{\"id\":\"chatcmpl-0123456789abcdefghijklmno\",\"object\":\"chat.completion\","               \
    "\"created\":1767225600,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,"       \
    "\"message\":{\"role\":\"assistant\",\"content\":\"A gateway stands between programs and the " \
    "models they use: it checks who may ask, chooses a provider, and keeps count.\","              \
    "\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"         \
    "\"usage\":{\"prompt_tokens\":112,\"completion_tokens\":26,\"total_tokens\":138,"              \
    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"                          \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0}},\"service_tier\":\"default\","        \
    "\"system_fingerprint\":\"fp_0123456789\"}"

#define CHUNK(delta, finish)                                                                       \
    "data: {\"id\":\"chatcmpl-0123456789abcdefghijklmno\",\"object\":\"chat.completion.chunk\","   \
    "\"created\":1767225600,\"model\":\"gpt-4o-mini-2024-07-18\","                                 \
    "\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,\"delta\":" delta          \
    ",\"logprobs\":null,\"finish_reason\":" finish "}]}\n\n"

#define EVENT(name, rest) "event: " name "\ndata: {\"type\":\"" name "\"" rest "}\n\n"

static struct bytes chat_answer, message_answer;
static struct dialect openai, anthropic;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Bytes that live as long as the program; len < 0 is asprintf's failure. */
static struct bytes owned(char *p, int len)
{
    struct bytes b = {p, (size_t)len};

    if (len < 0)
        fail("asprintf");
    return b;
}

static struct bytes answer(const char *json)
{
    char *p = NULL;
    int len = asprintf(&p,
                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" HEAD_COMMON
                       "Content-Length: %zu\r\n\r\n%s",
                       strlen(json), json);

    return owned(p, len);
}

static struct bytes framed(const char *event)
{
    char *p = NULL;
    int len = asprintf(&p, "%zx\r\n%s\r\n", strlen(event), event);

    return owned(p, len);
}

static struct bytes plain(const char *text)
{
    struct bytes b = {text, strlen(text)};

    return b;
}

static void prepare(void)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; "
                               "charset=utf-8\r\n" HEAD_COMMON "Transfer-Encoding: chunked\r\n\r\n";

    chat_answer = answer(CHAT);
    message_answer = answer(
        "{\"id\":\"msg_0123456789abcdef\",\"type\":\"message\",\"role\":\"assistant\","
        "\"model\":\"claude-haiku-4-5\",\"content\":[{\"type\":\"text\",\"text\":\"A gateway "
        "stands between programs and the models they use.\"}],\"stop_reason\":\"end_turn\","
        "\"stop_sequence\":null,\"usage\":{\"input_tokens\":112,\"output_tokens\":26}}");
    openai.head = plain(head);
    openai.first = framed(CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null"));
    openai.delta = framed(CHUNK("{\"content\":\" token\"}", "null"));
    openai.last = framed(CHUNK("{}", "\"stop\""));
    openai.usage =
        framed("data: {\"id\":\"chatcmpl-0123456789abcdefghijklmno\",\"object\":"
               "\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"gpt-4o-mini\","
               "\"choices\":[],\"usage\":{\"prompt_tokens\":112,\"completion_tokens\":20,"
               "\"total_tokens\":132}}\n\n");
    openai.end = plain("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    anthropic.head = plain(head);
    anthropic.first =
        framed(EVENT("message_start",
                     ",\"message\":{\"id\":\"msg_0123456789abcdef\",\"type\":\"message\",\"role\":"
                     "\"assistant\",\"content\":[],\"model\":\"claude-haiku-4-5\",\"stop_reason\":"
                     "null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":112,"
                     "\"output_tokens\":1}}")
                   EVENT("content_block_start",
                         ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"));
    anthropic.delta =
        framed(EVENT("content_block_delta",
                     ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" token\"}"));
    anthropic.last = framed(EVENT("content_block_stop", ",\"index\":0") EVENT(
        "message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\","
                         "\"stop_sequence\":null},\"usage\":{\"output_tokens\":"
                         "20}") EVENT("message_stop", ""));
    anthropic.usage = plain("");
    anthropic.end = plain("0\r\n\r\n");
}

/* --- connections ------------------------------------------------------------------------------ */

static void watch(struct conn *c, bool writing)
{
    struct epoll_event ev = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};

    if (writing == c->writing)
        return;
    c->writing = writing;
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static void wheel_remove(struct conn *c)
{
    if (!c->on_wheel)
        return;
    TAILQ_REMOVE(&wheel[c->slot], c, timer);
    c->on_wheel = false;
    streams--;
}

static void wheel_add(struct conn *c)
{
    unsigned ms = c->interval_ms < WHEEL ? c->interval_ms : WHEEL - 1;

    c->slot = (unsigned)((now_ms + ms) % WHEEL);
    TAILQ_INSERT_TAIL(&wheel[c->slot], c, timer);
    c->on_wheel = true;
    streams++;
}

/* Takes the connection out of service; its memory goes after the turn. */
static void conn_end(struct conn *c)
{
    if (c->dead)
        return;
    wheel_remove(c);
    c->dead = true;
    close(c->fd);
    TAILQ_INSERT_TAIL(&dead, c, grave);
}

static void bury(void)
{
    struct conn *c;

    while ((c = TAILQ_FIRST(&dead)) != NULL) {
        TAILQ_REMOVE(&dead, c, grave);
        free(c->in);
        free(c->out);
        free(c);
    }
}

static void keep(struct conn *c, const char *p, size_t n)
{
    if (c->out_len + n > c->out_cap) {
        c->out_cap = c->out_len + n + 4096;
        c->out = realloc(c->out, c->out_cap);
        if (!c->out)
            fail("realloc");
    }
    memcpy(c->out + c->out_len, p, n);
    c->out_len += n;
}

/* Sends at once what the socket takes, and keeps the rest. */
static void put(struct conn *c, struct bytes b)
{
    ssize_t n = 0;

    if (c->dead || !b.n)
        return;
    if (!c->out_len) {
        n = send(c->fd, b.p, b.n, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            conn_end(c);
            return;
        }
        n = n < 0 ? 0 : n;
    }
    if ((size_t)n < b.n) {
        keep(c, b.p + n, b.n - (size_t)n);
        watch(c, true);
    }
}

static void flush(struct conn *c)
{
    ssize_t n = c->out_len ? send(c->fd, c->out, c->out_len, MSG_NOSIGNAL) : 0;

    if (n < 0 && errno != EAGAIN) {
        conn_end(c);
        return;
    }
    if (n > 0) {
        c->out_len -= (size_t)n;
        memmove(c->out, c->out + n, c->out_len);
    }
    if (!c->out_len)
        watch(c, false);
}

/* --- streams ---------------------------------------------------------------------------------- */

static void stream_finish(struct conn *c)
{
    put(c, c->stream->last);
    if (c->want_usage)
        put(c, c->stream->usage);
    put(c, c->stream->end);
    c->stream = NULL;
}

/* One timed event, or for an untimed stream as many as fit in the buffer. */
static void stream_step(struct conn *c)
{
    while (!c->dead && c->left && c->out_len < OUT_HIGH) {
        put(c, c->stream->delta);
        c->left--;
        if (c->interval_ms)
            break;
    }
    if (c->dead)
        return;
    if (!c->left)
        stream_finish(c);
    else if (c->interval_ms)
        wheel_add(c);
}

static void stream_begin(struct conn *c, const struct dialect *d)
{
    c->stream = d;
    put(c, d->head);
    put(c, d->first);
    if (!c->dead)
        stream_step(c);
}

static void tick(void)
{
    struct timespec ts;
    struct conns due;
    struct conn *c;
    uint64_t then;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    then = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
    if (!streams || !now_ms)
        now_ms = then;
    while (now_ms < then) {
        now_ms++;
        TAILQ_INIT(&due);
        TAILQ_CONCAT(&due, &wheel[now_ms % WHEEL], timer);
        while ((c = TAILQ_FIRST(&due)) != NULL) {
            TAILQ_REMOVE(&due, c, timer);
            c->on_wheel = false;
            streams--;
            stream_step(c);
        }
    }
}

/* --- requests --------------------------------------------------------------------------------- */

static bool contains(struct bytes b, const char *what)
{
    return memmem(b.p, b.n, what, strlen(what)) != NULL;
}

/* Finds s<N>-<MS> in the body's model name. */
static void read_pace(struct conn *c, struct bytes body)
{
    const char *p = memmem(body.p, body.n, "\"model\"", 7), *end = body.p + body.n;
    unsigned n, ms;

    c->left = 20;
    c->interval_ms = 0;
    for (; p && p < end && *p != ','; p++) {
        if (*p == 's' && sscanf(p, "s%6u-%5u\"", &n, &ms) == 2) {
            c->left = n;
            c->interval_ms = ms;
            return;
        }
    }
}

static void respond(struct conn *c, struct bytes head, struct bytes body)
{
    bool messages = contains(head, "/messages ");

    if (contains(body, "\"stream\":true") || contains(body, "\"stream\": true")) {
        read_pace(c, body);
        c->want_usage =
            contains(body, "\"include_usage\":true") || contains(body, "\"include_usage\": true");
        stream_begin(c, messages ? &anthropic : &openai);
        return;
    }
    put(c, messages ? message_answer : chat_answer);
}

static size_t content_length(struct bytes head)
{
    static const char name[] = "\r\ncontent-length:";
    size_t i;

    for (i = 0; i + sizeof(name) < head.n; i++) {
        if (head.p[i] == '\r' && strncasecmp(head.p + i, name, sizeof(name) - 1) == 0)
            return strtoul(head.p + i + sizeof(name) - 1, NULL, 10);
    }
    return 0;
}

/* Answers the complete requests that have arrived; false when more bytes are needed. */
static bool serve_one(struct conn *c)
{
    char *stop = c->in_len ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : NULL;
    struct bytes head, body;
    size_t used;

    if (!stop)
        return false;
    head.p = c->in;
    head.n = (size_t)(stop - c->in) + 4;
    body.p = stop + 4;
    body.n = content_length(head);
    used = head.n + body.n;
    if (used > IN_MAX) {
        fprintf(stderr, "upstream: a request of %zu bytes is more than this bench sends\n", used);
        conn_end(c);
        return false;
    }
    if (c->in_len < used)
        return false;
    c->in[c->in_len] = '\0';
    respond(c, head, body);
    if (c->dead)
        return false;
    c->in_len -= used;
    memmove(c->in, c->in + used, c->in_len);
    return true;
}

static void on_readable(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        conn_end(c);
        return;
    }
    if (n > 0)
        c->in_len += (size_t)n;
    while (!c->dead && !c->stream && serve_one(c))
        ;
}

static void on_writable(struct conn *c)
{
    flush(c);
    if (!c->dead && c->stream && !c->interval_ms && c->out_len < OUT_HIGH)
        stream_step(c);
    while (!c->dead && !c->stream && serve_one(c))
        ;
}

static void on_accept(int listener)
{
    struct epoll_event ev = {.events = EPOLLIN};
    struct conn *c;
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        c = calloc(1, sizeof(*c));
        if (!c || !(c->in = malloc(IN_MAX + 1)))
            fail("malloc");
        c->fd = fd;
        ev.data.ptr = c;
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) != 0)
            fail("epoll_ctl");
    }
}

static int listen_on(unsigned port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, 4096) != 0)
        fail("listen");
    getsockname(fd, (struct sockaddr *)&sa, &len);
    printf("listening %u\n", ntohs(sa.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event ev = {.events = EPOLLIN}, got[256];
    int listener, i, n;

    if (argc != 2) {
        fprintf(stderr, "usage: upstream PORT\n");
        return 2;
    }
    prepare();
    for (i = 0; i < (int)WHEEL; i++)
        TAILQ_INIT(&wheel[i]);
    ep = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on((unsigned)strtoul(argv[1], NULL, 10));
    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) != 0)
        fail("epoll");
    for (;;) {
        n = epoll_wait(ep, got, 256, streams ? 1 : -1);
        tick();
        for (i = 0; i < n; i++) {
            struct conn *c = got[i].data.ptr;

            if (!c) {
                on_accept(listener);
                continue;
            }
            if (!c->dead && (got[i].events & EPOLLOUT))
                on_writable(c);
            if (!c->dead && (got[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                on_readable(c);
        }
        bury();
    }
}
