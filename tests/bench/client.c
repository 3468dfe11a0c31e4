/*
 * client.c - opens connections, sends a request on each and measures what comes back.
 *
 *     client HOST PORT FILE [conns=N] [requests=N] [spread_ms=N] [hold=1] [status=N]
 *
 * FILE holds the whole request, head and body, as it goes over the wire. Each of `conns`
 * connections sends it `requests` times, one after the other; they are opened evenly over
 * spread_ms. Once every connection has its first event (or its first whole answer) "open" is
 * printed. With hold=1 all then stay open and idle until standard input ends. An answer with
 * another status than `status` (200) is an error. At the end one line of JSON: answers, events,
 * bytes, errors, seconds from first to last byte, and quantiles in microseconds of the time to the
 * first event ("first"; the first body byte where there are no events) and to the end ("whole").
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 16384u

struct options {
    const char *host;
    unsigned port, conns, requests, spread_ms, status;
    bool hold;
};

struct conn {
    int fd;
    unsigned requests_left;
    uint64_t sent_us;
    bool in_body, chunked, opened, first_seen;
    size_t head_len, body_left;
    unsigned data_match, end_match; /* how much of the patterns below has been seen */
    char head[HEAD_MAX];
};

struct samples {
    uint32_t *us;
    size_t n;
};

static const char data_pattern[] = "\ndata:", end_pattern[] = "\r\n0\r\n\r\n";

static struct options opt = {.conns = 1, .requests = 1, .status = 200};
static struct samples first, whole;
static uint64_t events, bytes, errors, began_us, ended_us;
static unsigned opened, busy;
static char *request;
static size_t request_len;
static int ep;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void sample(struct samples *s, const struct conn *c)
{
    s->us[s->n++] = (uint32_t)(ended_us - c->sent_us);
}

static void conn_opened(struct conn *c)
{
    if (c->opened)
        return;
    c->opened = true;
    if (++opened == opt.conns) {
        puts("open");
        fflush(stdout);
    }
}

static void send_request(struct conn *c)
{
    c->head_len = 0;
    c->in_body = c->first_seen = false;
    c->data_match = c->end_match = 0;
    c->requests_left--;
    c->sent_us = clock_us();
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
        fail("send");
}

static void conn_close(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    busy--;
}

static void conn_error(struct conn *c, const char *what, const char *detail)
{
    if (errors++ == 0)
        fprintf(stderr, "client: %s: %.300s\n", what, detail);
    conn_opened(c);
    conn_close(c);
}

/* An answer is complete. */
static void answered(struct conn *c)
{
    if (!c->first_seen)
        sample(&first, c);
    sample(&whole, c);
    conn_opened(c);
    if (c->requests_left)
        send_request(c);
    else if (opt.hold)
        busy--;
    else
        conn_close(c);
}

static void body_byte(struct conn *c, char ch)
{
    if (ch == data_pattern[c->data_match]) {
        c->data_match++;
    } else {
        c->data_match = ch == '\n';
    }
    if (!data_pattern[c->data_match]) {
        c->data_match = 0;
        events++;
        if (!c->first_seen)
            sample(&first, c);
        c->first_seen = true;
        conn_opened(c);
    }
    if (ch == end_pattern[c->end_match])
        c->end_match++;
    else if (c->end_match == 5 && ch == '0')
        c->end_match = 3;
    else
        c->end_match = ch == '\r';
}

/* Consumes body bytes; true when the answer ended with the last of them. */
static bool body(struct conn *c, const char *p, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        body_byte(c, p[i]);
        if (c->chunked ? !end_pattern[c->end_match] : --c->body_left == 0)
            return true;
    }
    return false;
}

static const char *header(const struct conn *c, const char *name)
{
    const char *p = c->head;

    while ((p = strstr(p, "\r\n")) != NULL) {
        p += 2;
        if (strncasecmp(p, name, strlen(name)) == 0 && p[strlen(name)] == ':')
            return p + strlen(name) + 1;
    }
    return NULL;
}

/* The head is complete; false when it is not what it should be. */
static bool read_head(struct conn *c)
{
    const char *length = header(c, "Content-Length"), *coding = header(c, "Transfer-Encoding");
    unsigned status = 0;

    if (sscanf(c->head, "HTTP/1.%*1u %3u", &status) != 1 || status != opt.status ||
        (!length && !coding))
        return false;
    c->chunked = coding != NULL;
    c->body_left = length ? strtoul(length, NULL, 10) : 0;
    c->in_body = true;
    /* the blank line before the body is a line end for both patterns */
    c->data_match = 1;
    c->end_match = 2;
    return true;
}

static void feed(struct conn *c, const char *p, size_t n)
{
    char *stop;
    size_t head_end, kept;

    if (c->in_body) {
        if (body(c, p, n))
            answered(c);
        return;
    }
    if (c->head_len + n >= HEAD_MAX) {
        conn_error(c, "too much before the body", c->head);
        return;
    }
    memcpy(c->head + c->head_len, p, n);
    c->head_len += n;
    c->head[c->head_len] = '\0';
    stop = strstr(c->head, "\r\n\r\n");
    if (!stop)
        return;
    if (!read_head(c)) {
        conn_error(c, "unexpected answer", c->head);
        return;
    }
    head_end = (size_t)(stop - c->head) + 4;
    kept = c->head_len - head_end;
    if ((!c->chunked && !c->body_left) || (kept && body(c, c->head + head_end, kept)))
        answered(c);
}

static void on_readable(struct conn *c)
{
    static char buf[65536];
    ssize_t n = recv(c->fd, buf, c->in_body ? sizeof(buf) : HEAD_MAX / 2, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (opt.hold && !c->requests_left)
            busy++; /* was counted off when it fell idle */
        conn_error(c, "closed early", n < 0 ? strerror(errno) : c->head);
        return;
    }
    bytes += (uint64_t)n;
    ended_us = clock_us();
    feed(c, buf, (size_t)n);
}

static void conn_start(struct conn *c)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    if (inet_pton(AF_INET, opt.host, &sa.sin_addr) != 1)
        fail(opt.host);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) != 0)
        fail("epoll_ctl");
    c->requests_left = opt.requests;
    send_request(c);
}

static void turn(int timeout_ms)
{
    struct epoll_event got[256];
    int i, n = epoll_wait(ep, got, 256, timeout_ms);

    for (i = 0; i < n; i++) {
        if (got[i].data.ptr)
            on_readable(got[i].data.ptr);
    }
}

static void run(struct conn *conns)
{
    struct epoll_event ev = {.events = EPOLLIN};
    unsigned started = 0;
    char ch;

    began_us = clock_us();
    busy = opt.conns;
    while (busy) {
        uint64_t due = began_us + (uint64_t)started * opt.spread_ms * 1000 / opt.conns;

        if (started < opt.conns && clock_us() >= due) {
            conn_start(&conns[started++]);
            turn(0);
        } else {
            turn(started < opt.conns ? 1 : -1);
        }
    }
    if (opt.hold && epoll_ctl(ep, EPOLL_CTL_ADD, 0, &ev) == 0) {
        while (read(0, &ch, 1) > 0)
            ;
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void print_quantiles(const char *name, struct samples *s)
{
    static const double q[] = {0.5, 0.9, 0.99, 1};
    static const char *const label[] = {"p50", "p90", "p99", "max"};
    unsigned i;

    qsort(s->us, s->n, sizeof(s->us[0]), by_value);
    printf(", \"%s\": {", name);
    for (i = 0; i < 4; i++) {
        size_t at = s->n ? (size_t)(q[i] * (double)(s->n - 1)) : 0;

        printf("%s\"%s\": %u", i ? ", " : "", label[i], s->n ? s->us[at] : 0);
    }
    printf("}");
}

static void read_request(const char *path)
{
    FILE *f = fopen(path, "rb");
    long size;

    if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) <= 0)
        fail(path);
    rewind(f);
    request_len = (size_t)size;
    request = malloc(request_len);
    if (!request || fread(request, 1, request_len, f) != request_len)
        fail(path);
    fclose(f);
}

static void read_options(int argc, char **argv)
{
    int i;

    if (argc < 4) {
        fprintf(stderr, "usage: client HOST PORT FILE [conns=N] [requests=N] [spread_ms=N] "
                        "[hold=1] [status=N]\n");
        exit(2);
    }
    opt.host = argv[1];
    opt.port = (unsigned)strtoul(argv[2], NULL, 10);
    read_request(argv[3]);
    for (i = 4; i < argc; i++) {
        unsigned hold = 0;

        if (sscanf(argv[i], "conns=%u", &opt.conns) != 1 &&
            sscanf(argv[i], "requests=%u", &opt.requests) != 1 &&
            sscanf(argv[i], "spread_ms=%u", &opt.spread_ms) != 1 &&
            sscanf(argv[i], "status=%u", &opt.status) != 1 &&
            sscanf(argv[i], "hold=%u", &hold) != 1) {
            fprintf(stderr, "client: what is %s?\n", argv[i]);
            exit(2);
        }
        opt.hold = opt.hold || hold;
    }
}

int main(int argc, char **argv)
{
    struct conn *conns;
    size_t n;

    read_options(argc, argv);
    n = (size_t)opt.conns * opt.requests;
    conns = calloc(opt.conns, sizeof(*conns));
    first.us = calloc(n, sizeof(*first.us));
    whole.us = calloc(n, sizeof(*whole.us));
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (!n || !conns || !first.us || !whole.us || ep < 0)
        fail("start");
    run(conns);
    printf("{\"answers\": %zu, \"events\": %llu, \"bytes\": %llu, \"errors\": %llu, "
           "\"seconds\": %.6f",
           whole.n, (unsigned long long)events, (unsigned long long)bytes,
           (unsigned long long)errors, (double)(ended_us - began_us) / 1e6);
    print_quantiles("first", &first);
    print_quantiles("whole", &whole);
    puts("}");
    free(first.us);
    free(whole.us);
    free(request);
    free(conns);
    return errors ? 1 : 0;
}
