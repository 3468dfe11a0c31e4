/*
 * transport_easy.c - one call's libcurl handle: its constant options, what changes from call to
 * call, the response head, and what libcurl's error codes mean. See transport_private.h.
 *
 * A POST must not be sent twice by libcurl itself, which it does when a reused connection dies
 * before the first response byte (shared/TRAPS.md, 5). CURLOPT_PREREQFUNCTION runs just before each
 * sending: the second time within one call it refuses, and a second connection is not even opened.
 * That leaves the body where it is (CURLOPT_POSTFIELDS), so head and body leave in one send.
 */
#include "providers/transport_private.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>

#define MAX_HEAD_BYTES 65536u
#define MAX_HEADER_BYTES 65536u
#define STREAM_BUFFER_BYTES 4096L
#define STREAM_BURST_BYTES (32u << 10)
#define WHOLE_BURST_BYTES (256u << 10)
#define EXPECT_BYTES 1024u /* smaller bodies no libcurl announces with "Expect: 100-continue" */
#define MAX_IDLE_S 55L     /* shorter than the usual 60 s of the other side */

#ifndef POSTERN_VERSION
#define POSTERN_VERSION "0"
#endif
#define CODING "gzip" /* what whole answers may come in */

/* --- the head ------------------------------------------------------------------------------- */

static void head_reset(struct transfer *t)
{
    t->head = (struct transport_head){0};
    t->head_used = 0;
    t->encoded = false;
}

/* A copy within the transfer; what does not fit is left out. */
static struct slice head_keep(struct transfer *t, struct slice value)
{
    char *to = t->head_text + t->head_used;

    if (value.n > sizeof(t->head_text) - t->head_used)
        return SLICE_NONE;
    memcpy(to, value.p, value.n);
    t->head_used += value.n;
    return slice_of(to, value.n);
}

/* "HTTP/1.1 200 OK": every such line starts a head anew, 1xx ones come first. */
static bool head_status(struct transfer *t, struct slice line)
{
    size_t at = slice_find(line, ' ') + 1;
    int status = 0;

    if (at + 3 > line.n)
        return false;
    for (size_t i = at; i < at + 3; i++) {
        if (line.p[i] < '0' || line.p[i] > '9')
            return false;
        status = status * 10 + (line.p[i] - '0');
    }
    head_reset(t);
    t->head.status = status;
    return status >= 100 && status != 101;
}

static void head_field(struct transfer *t, struct slice line)
{
    size_t colon = slice_find(line, ':');
    struct slice name = slice_of(line.p, colon), value;

    if (colon == line.n)
        return;
    value = slice_trim(slice_from(line, colon + 1));
    switch (name.n) {
    case 10:
        if (slice_is_nocase(name, "request-id") && !t->head.request_id.n)
            t->head.request_id = head_keep(t, value);
        break;
    case 11:
        if (slice_is_nocase(name, "retry-after"))
            t->head.retry_after = head_keep(t, value);
        break;
    case 12:
        if (slice_is_nocase(name, "content-type"))
            t->head.content_type = head_keep(t, value);
        else if (slice_is_nocase(name, "x-request-id"))
            t->head.request_id = head_keep(t, value);
        break;
    case 16:
        if (slice_is_nocase(name, "content-encoding") && !slice_is_nocase(value, "identity"))
            t->encoded = true;
        break;
    }
}

/* The blank line: 1xx heads are forgotten. A coding nobody asked for cannot be understood. */
static bool head_end(struct transfer *t)
{
    if (t->head.status < 200)
        return true;
    if (t->encoded && t->kind == TRANSFER_STREAM)
        return false;
    t->head_done = true;
    return transport_stage_head(t);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    struct slice line = slice_of(p, size * n);
    bool ok = true;

    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    t->head_bytes += size * n;
    if (t->head_bytes > MAX_HEAD_BYTES)
        ok = false;
    else if (t->head_done)
        ok = true; /* trailers */
    else if (line.n == 0)
        ok = head_end(t);
    else if (slice_starts(line, "HTTP/"))
        ok = head_status(t, line);
    else
        head_field(t, line);
    if (!ok)
        t->bad = true;
    return ok ? size * n : 0;
}

/* --- the body ------------------------------------------------------------------------------- */

/* libcurl reads as long as there is something to read; after this much it has to wait until that is
 * delivered, so that memory and turns stay short. Not while it decodes: it would keep what one
 * piece decodes to, and copy it again each time. */
static bool burst_is_over(const struct transfer *t, size_t n)
{
    size_t most = t->kind == TRANSFER_STREAM ? STREAM_BURST_BYTES : WHOLE_BURST_BYTES;

    return t->burst && t->burst + n > most && !t->encoded;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;

    n *= size;
    if (t->paused) /* before it had a connection libcurl could not be told */
        return CURL_WRITEFUNC_PAUSE;
    if (burst_is_over(t, n)) {
        t->throttled = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (n > t->max_body_bytes || t->bytes_in > t->max_body_bytes - n) {
        t->too_big = true;
        return n ? 0 : 1;
    }
    t->bytes_in += n;
    t->burst += n;
    if (transport_stage_data(t, p, n))
        return n;
    t->out_of_memory = true;
    return 0;
}

static int on_send(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    struct transfer *t = arg;

    (void)ip, (void)local_ip, (void)port, (void)local_port;
    t->resend_refused = t->n_sent > 0;
    t->n_sent++;
    return t->resend_refused ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* --- options -------------------------------------------------------------------------------- */

/* All setopt calls of a handle; the first failure sticks. */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (rc == CURLE_OK)                                                                        \
            rc = curl_easy_setopt(t->easy, (option), (value));                                     \
    } while (0)

static CURLcode set_callbacks(struct transfer *t)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_ERRORBUFFER, t->detail);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_PREREQFUNCTION, on_send);
    SET(CURLOPT_PREREQDATA, t);
    SET(CURLOPT_OPENSOCKETFUNCTION, transport_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);
    SET(CURLOPT_CLOSESOCKETFUNCTION, transport_close_socket);
    return rc;
}

static CURLcode set_policy(struct transfer *t, const struct transport_config *cfg)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* never joins a resolver thread */
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    SET(CURLOPT_PROXY, cfg->proxy ? cfg->proxy : "");
    SET(CURLOPT_NOPROXY, ""); /* the environment's no_proxy is not read either */
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (cfg->ca_file)
        SET(CURLOPT_CAINFO, cfg->ca_file);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_S);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (t->kind == TRANSFER_STREAM)
        SET(CURLOPT_BUFFERSIZE, STREAM_BUFFER_BYTES);
    else
        SET(CURLOPT_ACCEPT_ENCODING, CODING);
    return rc;
}

struct transfer *transfer_new(enum transfer_kind kind, const struct transport_config *cfg,
                              CURLSH *share)
{
    struct transfer *t = calloc(1, sizeof(*t));
    CURLcode rc;

    if (!t)
        return NULL;
    t->kind = kind;
    t->connect_ms = -1;
    buf_init(&t->headers, MAX_HEADER_BYTES);
    t->easy = curl_easy_init();
    t->url = curl_url();
    rc = t->easy && t->url ? set_callbacks(t) : CURLE_OUT_OF_MEMORY;
    if (rc == CURLE_OK)
        rc = set_policy(t, cfg);
    SET(CURLOPT_SHARE, share);
    if (rc == CURLE_OK)
        return t;
    transfer_free(t);
    return NULL;
}

void transfer_free(struct transfer *t)
{
    if (!t)
        return;
    loop_timer_stop(&t->timer);
    curl_easy_cleanup(t->easy);
    buf_deinit(&t->headers);
    curl_url_cleanup(t->url);
    free(t->url_text);
    free(t);
}

/* --- one call ------------------------------------------------------------------------------- */

/* The URL is parsed only when it changes; libcurl copies the parts for each call. */
static bool set_url(struct transfer *t, struct slice url)
{
    char *text;
    bool ok;

    if (t->url_text && slice_is(url, t->url_text))
        return true;
    text = strndup(url.p ? url.p : "", url.n);
    ok = text && t->url &&
         curl_url_set(t->url, CURLUPART_URL, text, CURLU_PATH_AS_IS) == CURLUE_OK &&
         curl_easy_setopt(t->easy, CURLOPT_CURLU, t->url) == CURLE_OK;
    free(t->url_text);
    t->url_text = ok ? text : NULL;
    if (!ok)
        free(text);
    return ok;
}

/* A header that could break out of its line is not sent at all. */
static bool header_is_clean(const struct transport_header *h)
{
    for (size_t i = 0; i < h->name.n; i++)
        if ((unsigned char)h->name.p[i] <= ' ' || h->name.p[i] == ':')
            return false;
    for (size_t i = 0; i < h->value.n; i++)
        if (h->value.p[i] == '\r' || h->value.p[i] == '\n' || h->value.p[i] == '\0')
            return false;
    return h->name.n > 0;
}

/* The headers as they are gathered: places in t->headers, which moves when it grows. */
struct header_list {
    struct buf *to;
    size_t at[TRANSPORT_MAX_HEADERS + 3];
    unsigned n;
};

/* "Name;" is how libcurl is told to send an empty header. */
static void add_header(struct header_list *l, const struct transport_header *h)
{
    l->at[l->n++] = l->to->n;
    buf_add_slice(l->to, h->name);
    if (h->value.n)
        buf_add(l->to, ": ", 2);
    else
        buf_add_char(l->to, ';');
    buf_add_slice(l->to, h->value);
    buf_add_char(l->to, '\0');
}

static void add_constant(struct header_list *l, struct slice line)
{
    l->at[l->n++] = l->to->n;
    buf_add_slice(l->to, line);
    buf_add_char(l->to, '\0');
}

static bool is_given(const struct transport_header *headers, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (slice_is_nocase(headers[i].name, name))
            return true;
    return false;
}

/* The list itself stands in front of the texts. */
static struct curl_slist *link_headers(const struct header_list *l)
{
    struct curl_slist *nodes = (struct curl_slist *)l->to->p;

    for (unsigned i = 0; i < l->n; i++)
        nodes[i] = (struct curl_slist){l->to->p + l->at[i], i + 1 < l->n ? &nodes[i + 1] : NULL};
    return nodes;
}

/* A list of our own, instead of curl_slist_append: libcurl only reads it. "Name:" removes a header
 * of libcurl's own. Two are made here although libcurl has options for them: it formats those
 * twice, character by character. */
static bool set_headers(struct transfer *t, const struct transport_header *headers, unsigned n,
                        size_t body_bytes)
{
    struct header_list l = {.to = &t->headers};

    assert(n <= TRANSPORT_MAX_HEADERS);
    buf_reset(l.to);
    if (!buf_reserve(l.to, (n + 3) * sizeof(struct curl_slist)))
        return false;
    l.to->n = (n + 3) * sizeof(struct curl_slist);
    if (body_bytes >= EXPECT_BYTES)
        add_constant(&l, SLICE("Expect:"));
    if (!is_given(headers, n, "User-Agent"))
        add_constant(&l, SLICE("User-Agent: postern/" POSTERN_VERSION));
    if (t->kind == TRANSFER_WHOLE && !is_given(headers, n, "Accept-Encoding"))
        add_constant(&l, SLICE("Accept-Encoding: " CODING));
    for (unsigned i = 0; i < n; i++)
        if (header_is_clean(&headers[i]))
            add_header(&l, &headers[i]);
    return !buf_err(l.to) &&
           curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, link_headers(&l)) == CURLE_OK;
}

static bool set_method(struct transfer *t, const struct transport_request *req)
{
    bool is_post = strcmp(req->method, "POST") == 0;
    CURLcode rc = CURLE_OK;

    assert(is_post || strcmp(req->method, "GET") == 0);
    if (is_post) {
        SET(CURLOPT_POSTFIELDS, req->body.n ? req->body.p : "");
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body.n);
    } else if (t->is_post) {
        SET(CURLOPT_HTTPGET, 1L);
    }
    t->is_post = is_post;
    return rc == CURLE_OK;
}

static bool set_limits(struct transfer *t, const struct transport_request *req)
{
    uint64_t ms = (req->connect_timeout_us + 999) / 1000;
    long connect_ms = ms == 0 || ms > INT_MAX ? INT_MAX : (long)ms;
    bool http2 = req->http2 && !req->stream;
    CURLcode rc = CURLE_OK;

    if (connect_ms != t->connect_ms)
        SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    if (http2 != t->is_http2)
        SET(CURLOPT_HTTP_VERSION,
            http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    if (rc != CURLE_OK)
        return false;
    t->connect_ms = connect_ms;
    t->is_http2 = http2;
    return true;
}

bool transfer_prepare(struct transfer *t, const struct transport_request *req)
{
    t->n_sent = 0;
    t->resend_refused = t->throttled = false;
    t->burst = 0;
    t->too_big = t->bad = t->out_of_memory = t->no_socket = false;
    t->head_done = false;
    t->head_bytes = 0;
    t->bytes_in = 0;
    t->body_bytes = req->body.n;
    t->max_body_bytes = req->max_body_bytes ? req->max_body_bytes : SIZE_MAX;
    t->detail[0] = '\0';
    head_reset(t);
    return set_url(t, req->url) && set_headers(t, req->headers, req->n_headers, req->body.n) &&
           set_method(t, req) && set_limits(t, req);
}

/* --- results -------------------------------------------------------------------------------- */

enum gw_err transfer_error(const struct transfer *t, CURLcode code)
{
    if (code == CURLE_OK) /* a head cut after its first line is no error to libcurl */
        return t->head_done ? GW_OK : GW_EUPSTREAM;
    if (t->too_big || t->bad)
        return GW_EUPBAD;
    if (t->out_of_memory)
        return GW_ENOMEM;
    if (t->no_socket &&
        !t->n_sent) /* nothing was asked of the provider: its circuit must not open */
        return GW_EOVERLOAD;
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        /* also what libcurl says of a header line of more than 100 KiB */
        return t->n_sent && !t->head_done ? GW_EUPBAD : GW_ENOMEM;
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WRITE_ERROR:
    case CURLE_TOO_MANY_REDIRECTS:
        return t->n_sent ? GW_EUPBAD : GW_EUPCONNECT;
    default:
        return t->n_sent ? GW_EUPSTREAM : GW_EUPCONNECT;
    }
}
