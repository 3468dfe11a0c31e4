/*
 * gate.h - strict check of request heads and chunked framing, before libevhtp's parser sees a byte.
 *
 * Pure: bytes in, verdict out. What RFC 9112 forbids, and what parsers are known to disagree about,
 * is refused here (shared/TRAPS.md, 1; shared/CHECKS.md, 1-20), so that a request means the same to
 * us, to libevhtp and to the proxy in front.
 *
 * A head is looked for in two steps: gate_head_scan() finds its end in bytes that may still be
 * growing and holds no memory, gate_head_parse() reads it once it is whole.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/err.h"
#include "gateway/http/request.h"

#include <stdint.h>

#define GATE_MAX_LINE 8192u  /* request line without CRLF */
#define GATE_MAX_HEAD 32768u /* whole head */
#define GATE_MAX_FIELD 8192u /* one header line without CRLF */
#define GATE_MAX_FIELDS 100u
#define GATE_MAX_EMPTY 4u  /* empty lines skipped before a request line */
#define GATE_MAX_EXT 4096u /* bytes of chunk extensions in one body */

/* How far a growing head was searched. Zero-initialised is the start. */
struct gate_scan {
    uint32_t at;    /* bytes looked at */
    uint32_t line;  /* where the line being looked at begins */
    uint32_t start; /* where the request line begins, behind skipped empty lines */
    uint16_t lines; /* complete lines from there on */
    uint16_t empty; /* empty lines skipped */
};

struct gate_head {
    enum http_method method;
    bool method_known;          /* false: a token, but none of ours */
    unsigned minor;             /* HTTP/1.minor */
    struct slice target, query; /* as received; query without '?' */
    struct slice path; /* decoded once, but for %2F and %25, which stay as they are (in upper
                          case) so that a segment never splits; "*" for OPTIONS * */
    bool path_bad;     /* never routable: dot segments, "//", '\\', ';', control characters,
                          bad escapes, no UTF-8; answered 400 */
    struct http_header *headers;
    unsigned n_headers;
    bool has_length, chunked;
    uint64_t length;
    bool keep_alive; /* after Connection, and 1.0's default */
    bool expect_continue;
};

/*
 * Looks for the end of a head in `in`, which begins with the same bytes at each call and grows.
 * GW_OK: *ret_bytes is the length of skipped lines and head together. GW_EAGAIN: not complete and
 * no limit passed. Else the error to answer before closing: GW_EBADREQ, GW_EURI, GW_EHEADERS,
 * GW_EVERSION; a bad request line is told as soon as it is complete. *ret_why (may be NULL) is a
 * static sentence.
 */
enum gw_err gate_head_scan(struct gate_scan *s, struct slice in, size_t *ret_bytes,
                           const char **ret_why) MUST_CHECK;

/*
 * Reads a whole head (`head` begins with the request line: in + s.start, and ends behind the empty
 * line). What *ret points to is copied into the arena. On an error *ret holds what was understood
 * until then (so that the answer can fit the path): GW_EBADREQ, GW_EMETHOD (TRACE, CONNECT),
 * GW_ENOTIMPL (method or transfer coding), GW_EVERSION, GW_EEXPECT, GW_ETOOBIG (length over 18
 * digits), GW_ENOMEM.
 */
enum gw_err gate_head_parse(struct arena *a, struct slice head, struct gate_head *ret,
                            const char **ret_why) MUST_CHECK;

/* Reads the first line of what has come so far, for the answer to a head that will never be whole.
 * False when there is no complete and valid request line. */
bool gate_line_peek(struct arena *a, struct slice in, struct gate_head *ret);

/*
 * Writes the head libevhtp is given instead of the client's: same method, target "/", HTTP/1.1, and
 * the framing in its plainest spelling. Never longer than the head it stands for. Returns its
 * length, at most GATE_PLAIN_HEAD bytes.
 */
#define GATE_PLAIN_HEAD 80u
size_t gate_plain_head(const struct gate_head *h, char out[GATE_PLAIN_HEAD]);

/* Incremental check of a chunked body. Zero-initialised is the start. */
struct gate_chunks {
    uint32_t state;
    uint32_t digits;    /* of the chunk size so far */
    uint32_t ext_bytes; /* bytes of chunk extensions seen in this body */
    uint64_t left;      /* bytes left in this chunk */
    uint64_t total;     /* body bytes declared so far */
};

/*
 * Takes n bytes. *ret_used is how many of them belong to this body; what of those libevhtp may see
 * (all but chunk extensions, which it does not know) is moved to the front and is *ret_kept long.
 * GW_OK: the body is complete (including its last CRLF); GW_EAGAIN: wants more; GW_EBADREQ: bad
 * framing or trailers; GW_ETOOBIG: over max_bytes.
 */
enum gw_err gate_chunks_feed(struct gate_chunks *c, char *p, size_t n, uint64_t max_bytes,
                             size_t *ret_used, size_t *ret_kept) MUST_CHECK;
