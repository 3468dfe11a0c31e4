/*
 * sse.h - server-sent events, parsed as the HTML standard says (section "Parsing an event stream"):
 * LF, CR or CRLF line ends, comments, a BOM at the front, several data lines joined with LF. One
 * deviation: an event at the very end without a blank line is delivered by sse_finish(), because
 * providers send such streams. Pure: no I/O.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

struct sse_event {
    struct slice type; /* "event:" field, empty = message */
    struct slice data; /* data lines joined with LF */
    struct slice id;
};

/* Slices are valid during the call. Return non-OK to stop; sse_feed() returns it. */
typedef enum gw_err (*sse_fn)(const struct sse_event *ev, void *arg);

struct sse_parser {
    struct buf line;  /* unfinished line */
    struct buf data;  /* data of the unfinished event */
    struct buf type;
    struct buf id;
    bool started;     /* BOM dealt with */
    bool after_cr;    /* a LF right now belongs to the last line end */
    bool has_data;    /* a data line was seen in this event, maybe empty */
    unsigned bom;     /* BOM bytes seen so far */
    sse_fn fn;
    void *arg;
};

/* An event (all its lines) may take up to max_event_bytes; more is GW_ETOOBIG. */
void sse_init(struct sse_parser *p, size_t max_event_bytes, sse_fn fn, void *arg);
void sse_deinit(struct sse_parser *p);

/* Takes the next bytes; calls fn for each event completed. GW_ETOOBIG, GW_ENOMEM, or what fn said. */
enum gw_err sse_feed(struct sse_parser *p, struct slice bytes) MUST_CHECK;

/* The stream has ended: delivers an event that lacks its blank line. */
enum gw_err sse_finish(struct sse_parser *p) MUST_CHECK;

/* True when bytes of an unfinished event are held. */
bool sse_has_partial(const struct sse_parser *p);

/* Appends one event: "event: type" if type is not empty, "data: ..." per line of data, blank line. */
void sse_write(struct buf *out, struct slice type, struct slice data);
