/* gate.c - see gate.h. */
#include "gateway/http/gate.h"

#include "gateway/core/decimal.h"
#include "gateway/core/hex.h"
#include "gateway/core/json.h"

#include <assert.h>

enum { TOKEN = 1, VALUE = 2, TARGET = 4, DIGIT = 8, HOST = 16 };

/* Character classes: RFC 9110 token, field value (with obs-text and HTAB), request target, digits,
 * and the characters of a host name (RFC 3986 reg-name without escapes). */
static const uint8_t class_of[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | VALUE | TARGET,
    ['"'] = VALUE | TARGET,
    ['#'] = TOKEN | VALUE,
    ['$'] = TOKEN | VALUE | TARGET,
    ['%'] = TOKEN | VALUE | TARGET,
    ['&'] = TOKEN | VALUE | TARGET,
    ['\''] = TOKEN | VALUE | TARGET,
    ['('] = VALUE | TARGET,
    [')'] = VALUE | TARGET,
    ['*'] = TOKEN | VALUE | TARGET,
    ['+'] = TOKEN | VALUE | TARGET,
    [','] = VALUE | TARGET,
    ['-'] = TOKEN | VALUE | TARGET | HOST,
    ['.'] = TOKEN | VALUE | TARGET | HOST,
    ['/'] = VALUE | TARGET,
    ['0' ... '9'] = TOKEN | VALUE | TARGET | DIGIT | HOST,
    [':' ... '<'] = VALUE | TARGET,
    ['='] = VALUE | TARGET,
    ['>' ... '@'] = VALUE | TARGET,
    ['A' ... 'Z'] = TOKEN | VALUE | TARGET | HOST,
    ['[' ... ']'] = VALUE | TARGET,
    ['^'] = TOKEN | VALUE | TARGET,
    ['_'] = TOKEN | VALUE | TARGET | HOST,
    ['`'] = TOKEN | VALUE | TARGET,
    ['a' ... 'z'] = TOKEN | VALUE | TARGET | HOST,
    ['{'] = VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['~'] = TOKEN | VALUE | TARGET | HOST,
    [0x80 ... 0xff] = VALUE,
};

static bool is(char c, int class)
{
    return (class_of[(unsigned char)c] & class) != 0;
}

static bool all(struct slice s, int class)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is(s.p[i], class))
            return false;
    return true;
}

static enum gw_err refuse(enum gw_err err, const char *why, const char **ret_why)
{
    if (ret_why)
        *ret_why = why;
    return err;
}

#define BAD(why) refuse(GW_EBADREQ, (why), ret_why)

/* --- request line -------------------------------------------------------------------------- */

const char *http_method_name(enum http_method m)
{
    static const char *const names[HTTP_METHODS] = {
        [HTTP_GET] = "GET",         [HTTP_HEAD] = "HEAD",   [HTTP_POST] = "POST",
        [HTTP_PUT] = "PUT",         [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE",
        [HTTP_OPTIONS] = "OPTIONS",
    };

    return names[m];
}

static bool method_find(struct slice name, enum http_method *ret)
{
    for (int m = 0; m < HTTP_METHODS; m++) {
        if (slice_is(name, http_method_name((enum http_method)m))) {
            *ret = (enum http_method)m;
            return true;
        }
    }
    return false;
}

static enum gw_err version_parse(struct slice v, unsigned *ret_minor, const char **ret_why)
{
    if (v.n != 8 || !slice_starts(v, "HTTP/") || !is(v.p[5], DIGIT) || v.p[6] != '.' ||
        !is(v.p[7], DIGIT))
        return BAD("The request line has no valid HTTP version");
    if (v.p[5] != '1' || v.p[7] > '1')
        return refuse(GW_EVERSION, "Only HTTP/1.0 and HTTP/1.1 are spoken here", ret_why);
    *ret_minor = (unsigned)(v.p[7] - '0');
    return GW_OK;
}

/* METHOD SP target SP HTTP/1.x, and nothing else. Fills in slices of `line`. */
static enum gw_err line_split(struct slice line, struct slice *ret_method, struct slice *ret_target,
                              unsigned *ret_minor, const char **ret_why)
{
    size_t sp = slice_find(line, ' ');
    struct slice rest = slice_from(line, sp + 1);
    size_t sp2 = slice_find(rest, ' ');

    *ret_method = slice_of(line.p, sp);
    *ret_target = slice_of(rest.p, sp2);
    if (sp == 0 || !all(*ret_method, TOKEN))
        return BAD("The method is not a token");
    if (sp2 == rest.n)
        return BAD("The request line has no HTTP version");
    if (sp2 == 0)
        return BAD("The request line has no target");
    return version_parse(slice_from(rest, sp2 + 1), ret_minor, ret_why);
}

/* --- path ---------------------------------------------------------------------------------- */

/* Decodes into `out` (as long as `raw`); false for what may not be in a path. */
static bool path_decode(struct slice raw, char *out, size_t *ret_n)
{
    size_t n = 0;
    int v;

    for (size_t i = 0; i < raw.n; i++) {
        v = (unsigned char)raw.p[i];
        if (v == '%') {
            v = raw.n - i > 2 ? hex_pair(raw.p + i + 1) : -1;
            if (v < 0)
                return false;
            i += 2;
            if (v == '/' || v == '%') {
                memcpy(out + n, v == '/' ? "%2F" : "%25", 3);
                n += 3;
                continue;
            }
        }
        if (v < 0x20 || v == 0x7f || v == '\\' || v == ';')
            return false;
        out[n++] = (char)v;
    }
    *ret_n = n;
    return true;
}

/* Length of the separator at the front: '/', an escaped one, or 0. */
static size_t separator(struct slice s)
{
    if (s.n && s.p[0] == '/')
        return 1;
    return slice_starts(s, "%2F") ? 3 : 0;
}

/* No empty segment but the last, no "." and "..". An escaped slash counts as one here. */
static bool segments_are_safe(struct slice path)
{
    struct slice rest = slice_from(path, 1);
    size_t n, sep = 1;

    while (sep) {
        for (n = 0; n < rest.n && !separator(slice_from(rest, n)); n++)
            ;
        sep = separator(slice_from(rest, n));
        if (n == 0 && sep)
            return false;
        if ((n == 1 && rest.p[0] == '.') || (n == 2 && memcmp(rest.p, "..", 2) == 0))
            return false;
        rest = slice_from(rest, n + sep);
    }
    return true;
}

static enum gw_err target_parse(struct arena *a, struct gate_head *ret, const char **ret_why)
{
    size_t q = slice_find(ret->target, '?');
    struct slice raw = slice_of(ret->target.p, q);
    char *out;

    if (!all(ret->target, TARGET))
        return BAD("The request target has characters that no URI has");
    if (slice_is(ret->target, "*") && ret->method_known && ret->method == HTTP_OPTIONS) {
        ret->path = ret->target;
        return GW_OK;
    }
    if (ret->target.p[0] != '/')
        return BAD("The request target must begin with a slash");
    ret->query = slice_from(ret->target, q + 1);
    out = arena_bytes(a, raw.n + 1);
    if (!out)
        return refuse(GW_ENOMEM, "Out of memory", ret_why);
    ret->path = slice_of(out, 0);
    ret->path_bad = !path_decode(raw, out, &ret->path.n);
    out[ret->path.n] = '\0';
    if (!ret->path_bad)
        ret->path_bad = !segments_are_safe(ret->path) || !json_utf8_valid(ret->path);
    if (ret->path_bad)
        ret->path = raw;
    return GW_OK;
}

/* Reads a request line whose bytes stay. The method's verdict comes last: see method_verdict(). */
static enum gw_err line_parse(struct arena *a, struct slice line, struct gate_head *ret,
                              struct slice *ret_method, const char **ret_why)
{
    enum gw_err err = line_split(line, ret_method, &ret->target, &ret->minor, ret_why);

    if (err)
        return err;
    ret->method_known = method_find(*ret_method, &ret->method);
    if (slice_is(*ret_method, "CONNECT"))
        return refuse(GW_EMETHOD, "CONNECT is not served here", ret_why);
    return target_parse(a, ret, ret_why);
}

static enum gw_err method_verdict(const struct gate_head *h, struct slice method,
                                  const char **ret_why)
{
    if (h->method_known)
        return GW_OK;
    if (slice_is(method, "TRACE"))
        return refuse(GW_EMETHOD, "TRACE is not served here", ret_why);
    return refuse(GW_ENOTIMPL, "The method is not known here", ret_why);
}

bool gate_line_peek(struct arena *a, struct slice in, struct gate_head *ret)
{
    size_t n = slice_find(in, '\n');
    struct slice line, method;

    *ret = (struct gate_head){.method = HTTP_GET};
    if (n == in.n || n < 2 || n > GATE_MAX_LINE || in.p[n - 1] != '\r')
        return false;
    line = arena_dup(a, slice_of(in.p, n - 1));
    return line.p && line_parse(a, line, ret, &method, NULL) == GW_OK;
}

/* --- finding the end ----------------------------------------------------------------------- */

static enum gw_err too_long(const struct gate_scan *s, const char **ret_why)
{
    if (s->lines == 0)
        return refuse(GW_EURI, "The request line is too long", ret_why);
    return refuse(GW_EHEADERS, "A header line is too long", ret_why);
}

/* A complete, non-empty line. */
static enum gw_err line_seen(struct gate_scan *s, struct slice line, const char **ret_why)
{
    struct slice method, target;
    unsigned minor;

    if (line.n > (s->lines ? GATE_MAX_FIELD : GATE_MAX_LINE))
        return too_long(s, ret_why);
    if (s->lines > GATE_MAX_FIELDS)
        return refuse(GW_EHEADERS, "There are too many header lines", ret_why);
    if (s->lines == 0)
        return line_split(line, &method, &target, &minor, ret_why);
    return GW_OK;
}

/* Judges the line that is not complete yet. */
static enum gw_err partial_seen(const struct gate_scan *s, struct slice in, const char **ret_why)
{
    struct slice part = slice_from(in, s->line);

    if (part.n > (s->lines ? GATE_MAX_FIELD : GATE_MAX_LINE) + 1)
        return too_long(s, ret_why);
    if (in.n - s->start > GATE_MAX_HEAD)
        return refuse(GW_EHEADERS, "The request head is too large", ret_why);
    if (s->lines == 0 && part.n && !is(part.p[0], TOKEN) && part.p[0] != '\r')
        return BAD("This is not HTTP");
    return GW_EAGAIN;
}

static enum gw_err empty_seen(struct gate_scan *s, uint32_t next, const char **ret_why)
{
    if (s->empty == GATE_MAX_EMPTY)
        return BAD("There are too many empty lines before the request");
    s->empty++;
    s->at = s->line = s->start = next;
    return GW_OK;
}

enum gw_err gate_head_scan(struct gate_scan *s, struct slice in, size_t *ret_bytes,
                           const char **ret_why)
{
    struct slice line;
    enum gw_err err;
    size_t i;

    while ((i = s->at + slice_find(slice_from(in, s->at), '\n')) < in.n) {
        if (i == s->line || in.p[i - 1] != '\r')
            return BAD("A line does not end in CR LF");
        line = slice_of(in.p + s->line, i - 1 - s->line);
        if (i + 1 - s->start > GATE_MAX_HEAD && (s->lines || line.n <= GATE_MAX_LINE))
            return refuse(GW_EHEADERS, "The request head is too large", ret_why);
        if (line.n == 0 && s->lines) {
            *ret_bytes = i + 1;
            return GW_OK;
        }
        err = line.n ? line_seen(s, line, ret_why) : empty_seen(s, (uint32_t)i + 1, ret_why);
        if (err)
            return err;
        if (line.n)
            s->lines++;
        s->at = s->line = (uint32_t)i + 1;
    }
    err = partial_seen(s, in, ret_why);
    s->at = (uint32_t)in.n;
    return err;
}

/* --- header lines -------------------------------------------------------------------------- */

/* What is gathered over the header lines before the framing is judged. */
struct fields {
    unsigned hosts, lengths, codings;
    struct slice host, length, coding;
    bool close, keep_alive;
    struct slice expect;
};

static void connection_tokens(struct slice value, struct fields *f)
{
    struct slice token;
    size_t comma;

    while (value.n) {
        comma = slice_find(value, ',');
        token = slice_trim(slice_of(value.p, comma));
        f->close |= slice_is_nocase(token, "close");
        f->keep_alive |= slice_is_nocase(token, "keep-alive");
        value = slice_from(value, comma + 1);
    }
}

/* The name as some servers behind us might read it: '_' is '-'. */
static bool name_resembles(struct slice name, const char *want)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i] == '_' ? '-' : name.p[i];

        if ((c | 0x20) != (want[i] | 0x20))
            return false;
    }
    return true;
}

static enum gw_err field_note(const struct http_header *h, struct fields *f, const char **ret_why)
{
    switch (h->name.n) {
    case 4:
        if (slice_is_nocase(h->name, "host")) {
            f->hosts++;
            f->host = h->value;
        }
        break;
    case 6:
        if (slice_is_nocase(h->name, "expect"))
            f->expect = h->value;
        break;
    case 10:
        if (slice_is_nocase(h->name, "connection"))
            connection_tokens(h->value, f);
        break;
    case 14:
        if (slice_is_nocase(h->name, "content-length")) {
            f->lengths++;
            f->length = h->value;
        } else if (name_resembles(h->name, "content-length")) {
            return BAD("A header imitates Content-Length");
        }
        break;
    case 17:
        if (slice_is_nocase(h->name, "transfer-encoding")) {
            f->codings++;
            f->coding = h->value;
        } else if (name_resembles(h->name, "transfer-encoding")) {
            return BAD("A header imitates Transfer-Encoding");
        }
        break;
    }
    return GW_OK;
}

static enum gw_err field_split(struct slice line, struct http_header *ret, const char **ret_why)
{
    size_t colon = slice_find(line, ':');

    if (line.p[0] == ' ' || line.p[0] == '\t')
        return BAD("A header line is folded");
    if (colon == line.n)
        return BAD("A header line has no colon");
    ret->name = slice_of(line.p, colon);
    if (colon == 0 || !all(ret->name, TOKEN))
        return BAD("A header name is not a token");
    ret->value = slice_trim(slice_from(line, colon + 1));
    if (!all(ret->value, VALUE))
        return BAD("A header value has control characters");
    if (!ret->value.p)
        ret->value = slice_of("", 0);
    return GW_OK;
}

/* The next line without its CRLF; *in moves behind it. The scan has seen to the CRLFs. */
static struct slice next_line(struct slice *in)
{
    size_t n = slice_find(*in, '\n');
    struct slice line = slice_of(in->p, n ? n - 1 : 0);

    *in = slice_from(*in, n + 1);
    return line;
}

static unsigned count_lines(struct slice in)
{
    unsigned n = 0;

    while (in.n) {
        in = slice_from(in, slice_find(in, '\n') + 1);
        n++;
    }
    return n;
}

static enum gw_err fields_parse(struct arena *a, struct slice rest, struct gate_head *ret,
                                struct fields *f, const char **ret_why)
{
    unsigned max = count_lines(rest);
    struct slice line;
    enum gw_err err;

    ret->headers = arena_array(a, struct http_header, max ? max : 1);
    if (!ret->headers)
        return refuse(GW_ENOMEM, "Out of memory", ret_why);
    while ((line = next_line(&rest)).n) {
        err = field_split(line, &ret->headers[ret->n_headers], ret_why);
        if (err)
            return err;
        err = field_note(&ret->headers[ret->n_headers], f, ret_why);
        if (err)
            return err;
        ret->n_headers++;
    }
    return GW_OK;
}

/* --- what the header lines mean ------------------------------------------------------------ */

static bool port_is_valid(struct slice s)
{
    return s.n <= 5 && all(s, DIGIT);
}

/* host [":" port], or "[" IPv6 "]" [":" port]. */
static bool host_is_valid(struct slice s)
{
    size_t n;

    if (s.n && s.p[0] == '[') {
        n = slice_find(s, ']');
        if (n == s.n || n < 3)
            return false;
        for (size_t i = 1; i < n; i++)
            if (hex_value(s.p[i]) < 0 && s.p[i] != ':' && s.p[i] != '.')
                return false;
        s = slice_from(s, n + 1);
        return s.n == 0 || (s.p[0] == ':' && port_is_valid(slice_from(s, 1)));
    }
    n = slice_find(s, ':');
    return n > 0 && n <= 255 && all(slice_of(s.p, n), HOST) &&
           (n == s.n || port_is_valid(slice_from(s, n + 1)));
}

static enum gw_err host_check(const struct gate_head *h, const struct fields *f,
                              const char **ret_why)
{
    if (f->hosts > 1)
        return BAD("There is more than one Host header");
    if (f->hosts == 0 && h->minor > 0)
        return BAD("The Host header is missing");
    if (f->hosts && !host_is_valid(f->host))
        return BAD("The Host header is malformed");
    return GW_OK;
}

static enum gw_err framing_check(struct gate_head *h, const struct fields *f, const char **ret_why)
{
    if (f->lengths && f->codings)
        return BAD("Content-Length and Transfer-Encoding exclude each other");
    if (f->lengths > 1)
        return BAD("There is more than one Content-Length header");
    if (f->codings && h->minor == 0)
        return BAD("HTTP/1.0 has no Transfer-Encoding");
    if (f->codings > 1 || (f->codings && !slice_is_nocase(f->coding, "chunked")))
        return refuse(GW_ENOTIMPL, "The only transfer coding served here is chunked", ret_why);
    h->chunked = f->codings == 1;
    if (f->lengths == 0)
        return GW_OK;
    if (f->length.n == 0 || !all(f->length, DIGIT))
        return BAD("Content-Length is not a number");
    if (f->length.n > 18)
        return refuse(GW_ETOOBIG, "The body is too large", ret_why);
    h->has_length = true;
    for (size_t i = 0; i < f->length.n; i++)
        h->length = h->length * 10 + (uint64_t)(f->length.p[i] - '0');
    return GW_OK;
}

static enum gw_err expect_check(struct gate_head *h, const struct fields *f, const char **ret_why)
{
    if (!f->expect.p || h->minor == 0)
        return GW_OK;
    if (!slice_is_nocase(f->expect, "100-continue"))
        return refuse(GW_EEXPECT, "The only expectation served here is 100-continue", ret_why);
    h->expect_continue = true;
    return GW_OK;
}

static enum gw_err head_judge(struct gate_head *h, const struct fields *f, struct slice method,
                              const char **ret_why)
{
    enum gw_err err = host_check(h, f, ret_why);

    if (!err)
        err = framing_check(h, f, ret_why);
    if (!err)
        err = method_verdict(h, method, ret_why);
    if (!err)
        err = expect_check(h, f, ret_why);
    h->keep_alive = !f->close && (h->minor > 0 || f->keep_alive);
    return err;
}

enum gw_err gate_head_parse(struct arena *a, struct slice head, struct gate_head *ret,
                            const char **ret_why)
{
    struct fields f = {0};
    struct slice rest, method;
    enum gw_err err;

    *ret = (struct gate_head){.method = HTTP_GET};
    rest = arena_dup(a, head);
    if (!rest.p)
        return refuse(GW_ENOMEM, "Out of memory", ret_why);
    err = line_parse(a, next_line(&rest), ret, &method, ret_why);
    if (!err)
        err = fields_parse(a, rest, ret, &f, ret_why);
    return err ? err : head_judge(ret, &f, method, ret_why);
}

size_t gate_plain_head(const struct gate_head *h, char out[GATE_PLAIN_HEAD])
{
    char *end = stpcpy(out, http_method_name(h->method));

    end = stpcpy(end, " / HTTP/1.1\r\n");
    if (h->chunked)
        end = stpcpy(end, "Transfer-Encoding:chunked\r\n");
    else if (h->has_length && h->length)
        end = stpcpy(decimal_u64(stpcpy(end, "Content-Length:"), h->length), "\r\n");
    end = stpcpy(end, "\r\n");
    assert(end < out + GATE_PLAIN_HEAD);
    return (size_t)(end - out);
}

/* --- chunked bodies ------------------------------------------------------------------------ */

enum chunk_state {
    CK_SIZE,
    CK_EXT,
    CK_SIZE_LF,
    CK_DATA,
    CK_DATA_CR,
    CK_DATA_LF,
    CK_END_CR,
    CK_END_LF
};

#define CHUNK_MAX_DIGITS 7u

static enum gw_err chunk_size_byte(struct gate_chunks *c, char b, bool *ret_keep)
{
    int digit = hex_value(b);

    if (digit >= 0) {
        if (c->digits == CHUNK_MAX_DIGITS)
            return GW_EBADREQ;
        c->digits++;
        c->left = c->left * 16 + (uint64_t)digit;
        return GW_OK;
    }
    if (c->digits == 0 || (b != '\r' && b != ';'))
        return GW_EBADREQ;
    c->state = b == ';' ? CK_EXT : CK_SIZE_LF;
    c->ext_bytes += b == ';';
    *ret_keep = b != ';';
    return GW_OK;
}

static enum gw_err chunk_ext_byte(struct gate_chunks *c, char b, bool *ret_keep)
{
    if (b == '\r') {
        c->state = CK_SIZE_LF;
        return GW_OK;
    }
    *ret_keep = false;
    c->ext_bytes++;
    return is(b, VALUE) && c->ext_bytes <= GATE_MAX_EXT ? GW_OK : GW_EBADREQ;
}

static enum gw_err chunk_begin(struct gate_chunks *c, uint64_t max_bytes)
{
    if (c->left > max_bytes || c->total > max_bytes - c->left)
        return GW_ETOOBIG;
    c->total += c->left;
    c->digits = 0;
    c->state = c->left ? CK_DATA : CK_END_CR;
    return GW_OK;
}

static enum gw_err expect_byte(struct gate_chunks *c, char b, char want, enum chunk_state next)
{
    c->state = next;
    return b == want ? GW_OK : GW_EBADREQ;
}

/* One byte outside of chunk data. */
static enum gw_err chunk_byte(struct gate_chunks *c, char b, uint64_t max_bytes, bool *ret_keep)
{
    switch ((enum chunk_state)c->state) {
    case CK_SIZE:
        return chunk_size_byte(c, b, ret_keep);
    case CK_EXT:
        return chunk_ext_byte(c, b, ret_keep);
    case CK_SIZE_LF:
        return b == '\n' ? chunk_begin(c, max_bytes) : GW_EBADREQ;
    case CK_DATA_CR:
        return expect_byte(c, b, '\r', CK_DATA_LF);
    case CK_DATA_LF:
        return expect_byte(c, b, '\n', CK_SIZE);
    case CK_END_CR:
        return expect_byte(c, b, '\r', CK_END_LF);
    case CK_END_LF:
        return b == '\n' ? GW_OK : GW_EBADREQ;
    case CK_DATA:
        break;
    }
    return GW_EINTERNAL;
}

enum gw_err gate_chunks_feed(struct gate_chunks *c, char *p, size_t n, uint64_t max_bytes,
                             size_t *ret_used, size_t *ret_kept)
{
    size_t used = 0, kept = 0, take;
    enum gw_err err = GW_OK;
    bool keep, last = false;

    while (used < n && !err && !last) {
        keep = true;
        take = 1;
        if (c->state == CK_DATA) {
            take = n - used < c->left ? n - used : (size_t)c->left;
            c->left -= take;
            if (c->left == 0)
                c->state = CK_DATA_CR;
        } else {
            last = c->state == CK_END_LF;
            err = chunk_byte(c, p[used], max_bytes, &keep);
        }
        if (keep && kept != used)
            memmove(p + kept, p + used, take);
        kept += keep ? take : 0;
        used += take;
    }
    *ret_used = used;
    *ret_kept = kept;
    if (err)
        return err;
    return last ? GW_OK : GW_EAGAIN;
}
