/*
 * encoding.c - see encoding.h.
 *
 * Level 1: on JSON it finds most of what there is at a tenth of the time. Bodies over MAX_BYTES go
 * out as they are, since compressing them would hold up the loop for longer than a turn may take
 * (256 KiB are about 2 ms). The compressor is made once and reset for each answer.
 */
#include "gateway/http/encoding.h"

#include "gateway/http/router.h"

#include <zlib.h>

#define MAX_BYTES 262144u
#define KEEP_BYTES 65536u /* a larger output buffer is not kept */
#define GZIP_WINDOW (15 + 16)
#define LEVEL 1
#define FULL 1000 /* q=1 */

/* --- Accept-Encoding -------------------------------------------------------------------------- */

/* "0.5" as thousandths; what is no weight counts as 0, since it is not understood. */
static int weight_of(struct slice s)
{
    int v = 0, unit = FULL;

    if (s.n == 0 || s.n > 5 || (s.p[0] != '0' && s.p[0] != '1') || (s.n > 1 && s.p[1] != '.'))
        return 0;
    for (size_t i = 0; i < s.n; i++) {
        if (i == 1)
            continue;
        if (s.p[i] < '0' || s.p[i] > '9')
            return 0;
        v += (s.p[i] - '0') * unit;
        unit /= 10;
    }
    return v <= FULL ? v : 0;
}

static struct slice cut(struct slice *rest, char at)
{
    size_t n = slice_find(*rest, at);
    struct slice piece = slice_trim(slice_of(rest->p, n));

    *rest = slice_from(*rest, n < rest->n ? n + 1 : n);
    return piece;
}

/* The weight behind a coding's name: " ; q=0.5". */
static int weight_in(struct slice params)
{
    while (params.n) {
        struct slice p = cut(&params, ';');

        if (p.n >= 2 && (p.p[0] | 0x20) == 'q' && p.p[1] == '=')
            return weight_of(slice_from(p, 2));
    }
    return FULL;
}

struct weights {
    int gzip, identity, any; /* -1: not named */
};

static void read_line(struct slice line, struct weights *w)
{
    while (line.n) {
        struct slice item = cut(&line, ','), name = cut(&item, ';');
        int q = weight_in(item);

        if (slice_is_nocase(name, "gzip") || slice_is_nocase(name, "x-gzip"))
            w->gzip = q;
        else if (slice_is_nocase(name, "identity"))
            w->identity = q;
        else if (slice_is(name, "*"))
            w->any = q;
    }
}

bool encoding_accepts_gzip(const struct request *req)
{
    struct weights w = {-1, -1, -1};
    int gzip;

    for (unsigned i = 0; i < req->n_headers; i++)
        if (slice_is_nocase(req->headers[i].name, "accept-encoding"))
            read_line(req->headers[i].value, &w);
    gzip = w.gzip >= 0 ? w.gzip : w.any;
    return gzip > 0 && gzip >= w.identity;
}

/* --- choosing --------------------------------------------------------------------------------- */

bool encoding_is_json(struct slice type)
{
    type = slice_trim(slice_of(type.p, slice_find(type, ';')));
    return slice_is_nocase(type, "application/json") ||
           (type.n > 5 && slice_is_nocase(slice_from(type, type.n - 5), "+json"));
}

static struct slice set_so_far(const struct request *req, const char *name)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is_nocase(req->out[i].name, name))
            return req->out[i].value;
    return SLICE_NONE;
}

bool encoding_choose(struct request *req, struct slice type, size_t n)
{
    if (!req->conf->gzip || n < (size_t)req->conf->gzip_min_bytes || n > MAX_BYTES ||
        !encoding_is_json(type) || set_so_far(req, "Content-Encoding").p)
        return false;
    request_vary(req, "Accept-Encoding");
    return encoding_accepts_gzip(req);
}

/* --- compressing ------------------------------------------------------------------------------ */

static bool compressor_ready(z_stream *z, bool *made)
{
    if (*made)
        return deflateReset(z) == Z_OK;
    *made = deflateInit2(z, LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    return *made;
}

static bool compress_into(struct buf *b, struct slice body)
{
    static z_stream z;
    static bool made;

    if (!compressor_ready(&z, &made) || !buf_reserve(b, body.n))
        return false;
    z.next_in = (Bytef *)body.p;
    z.avail_in = (uInt)body.n;
    z.next_out = (Bytef *)b->p;
    z.avail_out = (uInt)body.n - 1; /* it has to get shorter */
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        return false;
    b->n = body.n - 1 - z.avail_out;
    return true;
}

struct slice encoding_gzip(struct request *req, struct slice body)
{
    static struct buf b;

    if (b.cap > KEEP_BYTES || !b.max) {
        buf_deinit(&b);
        buf_init(&b, MAX_BYTES);
    }
    buf_reset(&b);
    if (!body.n || !compress_into(&b, body) ||
        !request_set_header(req, "Content-Encoding", SLICE("gzip")))
        return body;
    return buf_slice(&b);
}
