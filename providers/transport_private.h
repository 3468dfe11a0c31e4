/*
 * transport_private.h - what transport.c (the multi handle, sockets, timers, delivery) and
 * transport_easy.c (one call's handle: options, head, error codes) share. Only these two include
 * curl.h.
 *
 * A transfer is an easy handle with its buffers; both are kept in a pool with their constant
 * options set. libcurl's callbacks never call out: they put what arrived into one staging buffer,
 * which transport.c delivers after libcurl has returned. So users may start, cancel, pause and
 * resume calls in any callback.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/loop.h"
#include "providers/transport.h"

#include <curl/curl.h>

#define TRANSFER_HEAD_TEXT 512u

/* Streams and whole answers differ in constant options, so they have a pool each. */
enum transfer_kind { TRANSFER_WHOLE, TRANSFER_STREAM, TRANSFER_KINDS };

struct transfer {
    struct op op; /* first member */
    CURL *easy;
    struct transfer *next; /* in the pool */
    enum transfer_kind kind;
    uint64_t serial; /* changes when a call begins and ends; 0 mod 2 = in the pool */
    TAILQ_ENTRY(transfer) resuming;

    /* the call */
    const struct transport_callbacks *cb;
    void *arg;
    struct loop_timer timer; /* the nearest of the limits below */
    uint64_t start_us, deadline_us, first_byte_due_us, gap_us;
    uint64_t last_us; /* when the head or the last body bytes came */
    uint64_t first_byte_us, bytes_in;
    size_t max_body_bytes, body_bytes; /* ceiling of the answer's; length of the request's */
    bool paused, is_resuming;

    /* libcurl's doings */
    unsigned n_sent; /* times libcurl was about to send the request; more than once is refused */
    bool resend_refused;
    size_t burst;                     /* body bytes since the last delivery */
    bool throttled;                   /* libcurl was told to wait until they are delivered */
    bool too_big, bad, out_of_memory; /* why one of our callbacks made libcurl stop */
    bool no_socket;                   /* ... because no descriptor is left */

    /* the head */
    bool head_done, encoded;
    size_t head_bytes;
    struct transport_head head;
    char head_text[TRANSFER_HEAD_TEXT]; /* what head's slices point to */
    size_t head_used;

    /* what libcurl points to, kept between calls */
    CURLU *url;
    char *url_text; /* what `url` was parsed from; NULL = nothing yet */
    bool is_post, is_http2;
    long connect_ms;
    struct buf headers; /* a list of curl_slist, then its texts */
    char detail[CURL_ERROR_SIZE];
};

/* Makes a transfer of this kind with its constant options; NULL out of memory. */
struct transfer *transfer_new(enum transfer_kind kind, const struct transport_config *cfg,
                              CURLSH *share);
void transfer_free(struct transfer *t);

/* Sets what differs from call to call; false out of memory. */
bool transfer_prepare(struct transfer *t, const struct transport_request *req);

/* What libcurl's code means, given what was seen of the call. */
enum gw_err transfer_error(const struct transfer *t, CURLcode code);

/* --- transport.c, called from libcurl's callbacks --------------------------------------------- */

/* The head is complete. */
bool transport_stage_head(struct transfer *t);
/* Body bytes; false out of memory. */
bool transport_stage_data(struct transfer *t, const char *p, size_t n);
/* Sockets libcurl opens and closes. */
curl_socket_t transport_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
int transport_close_socket(void *arg, curl_socket_t fd);
