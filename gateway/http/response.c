/*
 * response.c - the head of an answer: status line, Date, framing, then the headers set on the
 * request.
 *
 * Heads are built in one buffer that is used again and again; it belongs to the loop's thread.
 */
#include "gateway/core/day.h"
#include "gateway/http/conn.h"

#include <time.h>

#define HEAD_MAX_BYTES (1u << 20)

const char *response_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {207, "Multi-Status"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {424, "Failed Dependency"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
        {529, "Overloaded"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].status == status)
            return table[i].reason;
    return status < 400 ? "OK" : status < 500 ? "Client Error" : "Server Error";
}

bool response_has_body(const struct request *req, int status)
{
    return req->method != HTTP_HEAD && status >= 200 && status != 204 && status != 304;
}

/* "Date: ...\r\n", made once a second. */
static struct slice date_line(void)
{
    static char line[DAY_HTTP_BYTES + 16];
    static time_t made;
    static size_t n;
    time_t now = (time_t)(loop_wall_us() / 1000000u);
    char date[DAY_HTTP_BYTES];
    int len;

    if (now == made && n)
        return slice_of(line, n);
    len = snprintf(line, sizeof(line), "Date: %.*s\r\n", SLICE_ARG(day_http(now, date)));
    n = len > 0 && len < (int)sizeof(line) ? (size_t)len : 0;
    made = now;
    return slice_of(line, n);
}

static void add_status_line(struct buf *b, int status)
{
    if (status == 200) {
        buf_add_slice(b, SLICE("HTTP/1.1 200 OK\r\n"));
        return;
    }
    buf_add_slice(b, SLICE("HTTP/1.1 "));
    buf_add_u64(b, (uint64_t)status);
    buf_add_char(b, ' ');
    buf_add_cstr(b, response_reason(status));
    buf_add_slice(b, SLICE("\r\n"));
}

static void add_header(struct buf *b, struct slice name, struct slice value)
{
    char *to = buf_reserve(b, name.n + value.n + 4);

    if (!to)
        return;
    to = (char *)mempcpy(to, name.p, name.n);
    to = (char *)mempcpy(to, ": ", 2);
    if (value.n)
        to = (char *)mempcpy(to, value.p, value.n);
    memcpy(to, "\r\n", 2);
    b->n += name.n + value.n + 4;
}

static void add_framing(struct buf *b, const struct request *req, int status, int64_t length)
{
    if (status == 204 || status == 304 || status < 200 || length == LENGTH_UNTIL_CLOSE)
        return;
    if (length == LENGTH_CHUNKED) {
        buf_add_slice(b, SLICE("Transfer-Encoding: chunked\r\n"));
        return;
    }
    buf_add_slice(b, SLICE("Content-Length: "));
    buf_add_u64(b, (uint64_t)length);
    buf_add_slice(b, SLICE("\r\n"));
}

static void add_connection(struct buf *b, struct request *req)
{
    if (conn_must_close(req->conn))
        buf_add_slice(b, SLICE("Connection: close\r\n"));
    else if (req->minor == 0)
        buf_add_slice(b, SLICE("Connection: keep-alive\r\n"));
}

struct slice response_head(struct request *req, int status, struct slice type, int64_t length)
{
    static struct buf b;

    if (!b.max)
        buf_init(&b, HEAD_MAX_BYTES);
    buf_reset(&b);
    req->replied = true;
    req->status = status;
    request_run_response_hooks(req);
    add_status_line(&b, status);
    buf_add_slice(&b, date_line());
    if (type.n && status != 204 && status != 304)
        add_header(&b, SLICE("Content-Type"), type);
    add_framing(&b, req, status, length);
    add_connection(&b, req);
    for (unsigned i = 0; i < req->n_out; i++)
        add_header(&b, req->out[i].name, req->out[i].value);
    buf_add_slice(&b, SLICE("\r\n"));
    return buf_err(&b) ? SLICE_NONE : buf_slice(&b);
}
