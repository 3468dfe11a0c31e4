/*
 * sse.h - server-sent events, parsed as the HTML standard says (section "Parsing an event stream"):
 * LF, CR or CRLF line ends, comments, a BOM at the front, several data lines joined with LF. Two
 * deviations: an event at the very end without a blank line is delivered by sse_finish(), because
 * providers send such streams; and `id` belongs to one event, it is not remembered. Pure: no I/O.
 *
 * An event that lies whole in the bytes fed is not copied: its slices point into them. Only one
 * that is cut by the end of a feed is held, and joined data lines are copied.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

struct sse_event {
    struct slice type; /* "event:" field, empty = message */
    struct slice data; /* data lines joined with LF */
    struct slice id;
    /* The event as it came, all its lines and the blank line, for relaying. Empty when it cannot be
     * relayed like that: the blank line is missing, or is a lone CR (whose LF may still come). */
    struct slice raw;
};

/* Slices are valid during the call. Return non-OK to stop; sse_feed() returns it, and the parser is
 * then only good for sse_deinit(). fn may not deinit the parser. */
typedef enum gw_err (*sse_fn)(const struct sse_event *ev, void *arg);

struct sse_parser {
    size_t max;        /* bytes of an event's lines */
    struct buf held;   /* raw bytes of the unfinished event, from the feeds before */
    struct buf joined; /* data lines of the event being delivered, when there are several */
    size_t line_at;    /* where in the unfinished event its unfinished line begins */
    bool after_cr;     /* a LF right now belongs to the last line end */
    bool started;      /* BOM dealt with */
    unsigned bom;      /* BOM bytes seen so far */
    sse_fn fn;
    void *arg;
};

/* An event (its lines with their ends, without the blank line) may take up to max_event_bytes; more
 * is GW_ETOOBIG. */
void sse_init(struct sse_parser *p, size_t max_event_bytes, sse_fn fn, void *arg);
void sse_deinit(struct sse_parser *p);

/* Takes the next bytes; calls fn for each event completed. GW_ETOOBIG, GW_ENOMEM, or what fn said;
 * events before the fault have been delivered. */
enum gw_err sse_feed(struct sse_parser *p, struct slice bytes) MUST_CHECK;

/* The stream has ended: delivers an event that lacks its blank line. */
enum gw_err sse_finish(struct sse_parser *p) MUST_CHECK;

/* True when bytes of an unfinished event are held. */
bool sse_has_partial(const struct sse_parser *p);

/* Appends one event: "event: type" if type is not empty, "data: ..." per line of data, blank line.
 * CR and CRLF in data count as line ends too. `type` must hold no line end. */
void sse_write(struct buf *out, struct slice type, struct slice data);
