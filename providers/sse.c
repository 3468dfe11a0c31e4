/*
 * sse.c - see sse.h.
 *
 * Bytes are cut into blocks, a block being the lines of one event with its blank line; a complete
 * block is then read line by line. A block that began in an earlier feed is gathered in `held`, one
 * that lies whole in the input is read where it is. Comment lines and blank lines in front of a
 * block are dropped at once, so keep-alive comments never add up.
 */
#include "providers/sse.h"

#include <string.h>

#define HELD_KEPT_BYTES 16384u /* memory an idle stream may keep */
#define BLANK_LINE_BYTES 2u

static const char bom_bytes[3] = {'\xEF', '\xBB', '\xBF'};

void sse_init(struct sse_parser *p, size_t max_event_bytes, sse_fn fn, void *arg)
{
    *p = (struct sse_parser){.max = max_event_bytes, .fn = fn, .arg = arg};
    buf_init(&p->held, max_event_bytes + BLANK_LINE_BYTES);
    buf_init(&p->joined, max_event_bytes);
}

void sse_deinit(struct sse_parser *p)
{
    buf_deinit(&p->held);
    buf_deinit(&p->joined);
}

/* --- lines ---------------------------------------------------------------------------------- */

/* Finds line ends. The next LF and CR are remembered, so each byte is looked at once for either. */
struct lines {
    const char *p;
    size_t n, at;  /* bytes in all; start of the next line */
    size_t lf, cr; /* next of each at or after `at`, n = none; valid when >= at */
    bool scanned;
};

static size_t find_from(const struct lines *l, char c, size_t from)
{
    return from + slice_find(slice_of(l->p + from, l->n - from), c);
}

/* The end of the line that begins at l->at: index of its CR or LF; false when there is none. */
static bool line_end(struct lines *l, size_t *ret_end)
{
    if (!l->scanned || l->lf < l->at)
        l->lf = find_from(l, '\n', l->at);
    if (!l->scanned || l->cr < l->at)
        l->cr = find_from(l, '\r', l->at);
    l->scanned = true;
    *ret_end = l->lf < l->cr ? l->lf : l->cr;
    return *ret_end < l->n;
}

/* Index after the line end at `end`. */
static size_t line_after(const struct lines *l, size_t end)
{
    return end + (l->p[end] == '\r' && end + 1 < l->n && l->p[end + 1] == '\n' ? 2 : 1);
}

/* --- one block ------------------------------------------------------------------------------ */

static void add_data(struct sse_parser *p, struct sse_event *ev, bool *has_data, struct slice value)
{
    if (!*has_data) {
        ev->data = value;
    } else {
        if (p->joined.n == 0)
            buf_add_slice(&p->joined, ev->data);
        buf_add_char(&p->joined, '\n');
        buf_add_slice(&p->joined, value);
        ev->data = buf_slice(&p->joined);
    }
    *has_data = true;
}

static void read_field(struct sse_parser *p, struct sse_event *ev, bool *has_data,
                       struct slice line)
{
    size_t colon = slice_find(line, ':');
    struct slice name = slice_of(line.p, colon);
    struct slice value = slice_from(line, colon + 1);

    if (value.n && value.p[0] == ' ')
        value = slice_of(value.p + 1, value.n - 1);
    if (slice_eq(name, SLICE("data")))
        add_data(p, ev, has_data, value);
    else if (slice_eq(name, SLICE("event")))
        ev->type = value;
    else if (slice_eq(name, SLICE("id")) && slice_find(value, '\0') == value.n)
        ev->id = value;
}

/* Delivers the event of a block; a block without a data line is none. */
static enum gw_err deliver(struct sse_parser *p, struct slice block, bool complete)
{
    struct lines l = {.p = block.p, .n = block.n};
    struct sse_event ev = {0};
    bool has_data = false;
    size_t end;

    buf_reset(&p->joined);
    while (line_end(&l, &end)) {
        read_field(p, &ev, &has_data, slice_of(l.p + l.at, end - l.at));
        l.at = line_after(&l, end);
    }
    if (l.at < l.n)
        read_field(p, &ev, &has_data, slice_of(l.p + l.at, l.n - l.at));
    if (buf_err(&p->joined))
        return buf_err(&p->joined);
    if (!has_data)
        return GW_OK;
    if (complete && block.p[block.n - 1] == '\n')
        ev.raw = block;
    return p->fn(&ev, p->arg);
}

static void drop_held(struct sse_parser *p)
{
    if (p->held.cap > HELD_KEPT_BYTES)
        buf_deinit(&p->held);
    else
        buf_reset(&p->held);
}

/* The block ends with `tail`, which follows what is held. */
static enum gw_err end_block(struct sse_parser *p, struct slice tail)
{
    enum gw_err err;

    if (p->held.n == 0)
        return deliver(p, tail, true);
    buf_add_slice(&p->held, tail);
    err = buf_err(&p->held);
    if (!err)
        err = deliver(p, buf_slice(&p->held), true);
    drop_held(p);
    return err;
}

/* --- the stream ----------------------------------------------------------------------------- */

/* Swallows a BOM at the very front, also byte by byte; bytes that only looked like one are held as
 * the start of a line. Returns how many bytes were taken. */
static size_t skip_bom(struct sse_parser *p, struct slice bytes)
{
    size_t n = 0;

    while (n < bytes.n && p->bom < sizeof(bom_bytes) && bytes.p[n] == bom_bytes[p->bom]) {
        p->bom++;
        n++;
    }
    if (p->bom == sizeof(bom_bytes)) {
        p->started = true;
    } else if (n < bytes.n) {
        p->started = true;
        buf_add(&p->held, bom_bytes, p->bom);
    }
    return n;
}

/* A line has ended. `start` is where the block begins in the input (what is held comes before it),
 * `end` where the line's bytes end and l->at where the next line begins. Moves *start on when the
 * block is over. */
static enum gw_err take_line(struct sse_parser *p, const struct lines *l, size_t end, size_t *start)
{
    size_t length = p->held.n + (end - *start); /* of the block, this line end left out */
    bool blank = length == p->line_at;
    bool first = p->line_at == 0;
    char c = p->held.n ? p->held.p[0] : l->p[*start];
    enum gw_err err = GW_OK;

    if (length > p->max)
        return GW_ETOOBIG;
    if (!blank && !(first && c == ':')) {
        p->line_at = p->held.n + (l->at - *start);
        return GW_OK;
    }
    if (blank && !first)
        err = end_block(p, slice_of(l->p + *start, l->at - *start));
    else
        drop_held(p);
    p->line_at = 0;
    *start = l->at;
    return err;
}

/* Keeps the unfinished block for the next feed. */
static enum gw_err hold(struct sse_parser *p, struct slice rest)
{
    if (rest.n > p->max || p->held.n > p->max - rest.n)
        return GW_ETOOBIG;
    buf_add_slice(&p->held, rest);
    return buf_err(&p->held);
}

enum gw_err sse_feed(struct sse_parser *p, struct slice bytes)
{
    struct lines l;
    size_t start, end;
    enum gw_err err;

    if (!p->started)
        bytes = slice_from(bytes, skip_bom(p, bytes));
    if (bytes.n == 0)
        return buf_err(&p->held);
    l = (struct lines){.p = bytes.p, .n = bytes.n};
    l.at = p->after_cr && bytes.p[0] == '\n';
    start = p->held.n ? 0 : l.at;
    if (p->held.n)
        p->line_at += l.at;
    p->after_cr = false;
    while (l.at < l.n && line_end(&l, &end)) {
        l.at = line_after(&l, end);
        err = take_line(p, &l, end, &start);
        if (err)
            return err;
        p->after_cr = l.at == l.n && bytes.p[end] == '\r' && end + 1 == l.n;
    }
    return hold(p, slice_of(bytes.p + start, l.n - start));
}

enum gw_err sse_finish(struct sse_parser *p)
{
    enum gw_err err = GW_OK;

    if (p->held.n)
        err = deliver(p, buf_slice(&p->held), false);
    drop_held(p);
    p->line_at = 0;
    return err;
}

bool sse_has_partial(const struct sse_parser *p)
{
    return p->held.n > 0 || (!p->started && p->bom > 0);
}

void sse_write(struct buf *out, struct slice type, struct slice data)
{
    struct lines l = {.p = data.p, .n = data.n};
    size_t end;

    if (type.n) {
        buf_add(out, "event: ", 7);
        buf_add_slice(out, type);
        buf_add_char(out, '\n');
    }
    while (data.n && line_end(&l, &end)) {
        buf_add(out, "data: ", 6);
        buf_add(out, data.p + l.at, end - l.at);
        buf_add_char(out, '\n');
        l.at = line_after(&l, end);
    }
    buf_add(out, "data: ", 6);
    if (l.at < l.n)
        buf_add(out, data.p + l.at, l.n - l.at);
    buf_add(out, "\n\n", 2);
}
