/*
 * gate.h - strict check of request heads and chunked framing, before libevhtp's parser sees a byte.
 *
 * Pure: bytes in, verdict out. What RFC 9112 forbids, and what parsers are known to disagree about, is
 * refused here (shared/TRAPS.md, 1; shared/CHECKS.md, 1-20), so that a request means the same to us, to libevhtp
 * and to the proxy in front.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/err.h"
#include "gateway/http/request.h"

#include <stdint.h>

#define GATE_MAX_LINE 8192u      /* request line without CRLF */
#define GATE_MAX_HEAD 32768u     /* whole head */
#define GATE_MAX_FIELD 8192u     /* one header line */
#define GATE_MAX_FIELDS 100u

struct gate_head {
    enum http_method method;
    bool method_known;  /* false: a token, but none of ours; answered 501 */
    unsigned minor;     /* HTTP/1.minor */
    struct slice target, path, query; /* path decoded into the arena, checked: no dot segments, "//", '\\', ';', %00, bad escapes */
    bool path_bad;      /* target in origin form but never routable: 400/404 */
    struct http_header *headers;
    unsigned n_headers;
    bool has_length, chunked;
    uint64_t length;
    bool keep_alive;    /* after Connection, and 1.0's default */
    bool expect_continue;
};

/*
 * Looks for a complete head in `in` (empty lines before the request line are skipped, at most 4).
 * GW_OK: *ret_bytes is the head's length with the skipped bytes, *ret is filled in (copied into
 * the arena). GW_EAGAIN: not complete yet and no limit passed. Anything else: answer that error and close: GW_EBADREQ,
 * GW_EURI, GW_EHEADERS, GW_EMETHOD, GW_ENOTIMPL, GW_EVERSION, GW_EEXPECT, GW_ETOOBIG (length over 18 digits), GW_ENOMEM. *ret_why (may be NULL)
 * is a static sentence. `from` lets a caller skip bytes already searched for the end; pass 0 at first, then what *ret_scanned gave.
 */
enum gw_err gate_head_parse(struct arena *a, struct slice in, size_t *scanned, struct gate_head *ret,
                            size_t *ret_bytes, const char **ret_why) MUST_CHECK;

/* Incremental check of a chunked body. Zero-initialised is the start. */
struct gate_chunks {
    unsigned state;
    uint64_t left;      /* bytes left in this chunk */
    unsigned digits;
    unsigned ext_bytes; /* bytes of chunk extensions seen in this chunk */
    uint64_t total;     /* body bytes declared so far */
};

/* Takes bytes; *ret_used is how many belong to this body. GW_OK: the body is complete (including its last CRLF);
 * GW_EAGAIN: wants more; GW_EBADREQ: bad framing or trailers; GW_ETOOBIG: over max_bytes. */
enum gw_err gate_chunks_feed(struct gate_chunks *c, struct slice in, uint64_t max_bytes,
                             size_t *ret_used) MUST_CHECK;
