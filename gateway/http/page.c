/* page.c - see page.h. */
#include "gateway/http/page.h"

#include "gateway/http/form.h"
#include "gateway/http/legacy.h"

#define MAX_LINK_BYTES (64u << 10)

static const struct form_field fields[] = {
    {"page", FORM_INT, offsetof(struct page, page), .min = 1, .max = PAGE_LAST},
    {"per_page", FORM_INT, offsetof(struct page, per_page), .min = 1, .max = PAGE_MAX},
};
static const struct form form = FORM_OF(struct page, fields);

bool page_read(struct request *req, struct page *ret)
{
    *ret = (struct page){.page = 1, .per_page = PAGE_DEFAULT};
    if (!form_query(req, &form, ret, NULL))
        return false;
    ret->offset = (ret->page - 1) * ret->per_page;
    return true;
}

/* --- URLs ------------------------------------------------------------------------------------- */

/* What may stand in a path or query as it is (RFC 3986), the escapes that are there included. */
static bool is_plain(unsigned char c)
{
    return c > 0x20 && c < 0x7f && !strchr("<>\"\\^`{|}#", c);
}

static void add_encoded(struct buf *b, struct slice s, const char *also)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (is_plain(c) && !strchr(also, c))
            buf_add_char(b, (char)c);
        else
            buf_printf(b, "%%%02X", c);
    }
}

static bool is_host(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

        if (!alnum && !(c && strchr(".-:[]_", c)))
            return false;
    }
    return s.n > 0 && s.n <= 255;
}

/* "https://host" as a trusted proxy tells it; nothing when it does not. */
static void add_origin(struct buf *b, const struct request *req)
{
    struct slice proto = request_header(req, "x-forwarded-proto");
    struct slice host = request_header(req, "x-forwarded-host");

    if (!host.n)
        host = request_header(req, "host");
    if (!req->peer_trusted || request_header_count(req, "x-forwarded-proto") != 1 ||
        request_header_count(req, "x-forwarded-host") > 1 || !is_host(host))
        return;
    if (slice_is_nocase(proto, "https"))
        buf_add_cstr(b, "https://");
    else if (slice_is_nocase(proto, "http"))
        buf_add_cstr(b, "http://");
    else
        return;
    buf_add_slice(b, host);
}

static void add_url(struct buf *b, const struct request *req, struct slice path)
{
    add_origin(b, req);
    add_encoded(b, path, "?");
}

struct slice page_url(const struct request *req, struct slice path)
{
    struct slice url;
    struct buf b;

    buf_init(&b, MAX_LINK_BYTES);
    add_url(&b, req, path);
    url = buf_err(&b) ? SLICE_NONE : arena_dup(req->arena, buf_slice(&b));
    buf_deinit(&b);
    return url;
}

/* --- links ------------------------------------------------------------------------------------ */

static bool is_left_out(struct slice pair)
{
    struct slice name = slice_of(pair.p, slice_find(pair, '='));

    return slice_is(name, "page") || slice_is(name, "per_page") || slice_is(name, "key");
}

/* The request's own arguments but for the page's, and for a credential. */
static void add_other_arguments(struct buf *b, struct slice query)
{
    size_t amp;

    for (; query.n; query = slice_from(query, amp + 1)) {
        struct slice pair;

        amp = slice_find(query, '&');
        pair = slice_of(query.p, amp);
        if (!pair.n || is_left_out(pair))
            continue;
        add_encoded(b, pair, "");
        buf_add_char(b, '&');
    }
}

static void add_link(struct buf *b, const struct request *req, const struct page *p, int64_t page,
                     const char *rel)
{
    if (b->n)
        buf_add_cstr(b, ", ");
    buf_add_char(b, '<');
    add_url(b, req, legacy_path(req));
    buf_add_char(b, '?');
    add_other_arguments(b, req->query);
    buf_printf(b, "page=%lld&per_page=%lld>; rel=\"%s\"", (long long)page, (long long)p->per_page,
               rel);
}

bool page_set_headers(struct request *req, const struct page *p, int64_t total)
{
    int64_t last = total > 0 ? (total - 1) / p->per_page + 1 : 1;
    struct buf b;
    bool ok;

    buf_init(&b, MAX_LINK_BYTES);
    add_link(&b, req, p, 1, "first");
    if (p->page > 1)
        add_link(&b, req, p, p->page - 1 < last ? p->page - 1 : last, "prev");
    if (p->page < last)
        add_link(&b, req, p, p->page + 1, "next");
    add_link(&b, req, p, last, "last");
    ok = buf_err(&b) == GW_OK && request_set_header(req, "Link", buf_slice(&b)) &&
         request_set_header(req, "X-Total-Count", arena_u64(req->arena, (uint64_t)total));
    buf_deinit(&b);
    return ok;
}

void page_begin(struct json_writer *w, struct buf *out)
{
    json_writer_init(w, out);
    json_obj(w);
    json_kv_arr(w, "items");
}

void page_reply(struct request *req, const struct page *p, int64_t total, struct json_writer *w)
{
    enum gw_err err;

    json_arr_end(w);
    json_kv_int(w, "page", p->page);
    json_kv_int(w, "per_page", p->per_page);
    json_kv_int(w, "total", total);
    json_obj_end(w);
    err = buf_err(w->out);
    if (!err && !page_set_headers(req, p, total))
        err = GW_ENOMEM;
    request_finish(req, err, buf_slice(w->out));
}
