/*
 * page.h - lists in pages: ?page=1&per_page=20 in, {items, page, per_page, total}, X-Total-Count
 * and Link (RFC 8288: first, prev, next, last) out.
 *
 *     struct page p;
 *     if (!page_read(req, &p))
 *         return;                                 answered: 422
 *     ... a query with LIMIT p.per_page OFFSET p.offset, and a count ...
 *     page_begin(&w, &out); one value for each item; page_reply(req, &p, total, &w);
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX 100
#define PAGE_LAST 1000000000 /* highest page that can be asked for */

struct page {
    int64_t page;     /* from 1 */
    int64_t per_page; /* 1 to PAGE_MAX */
    int64_t offset;   /* items before this page */
};

/* False when the request has been answered (422 with the argument's name). */
bool page_read(struct request *req, struct page *ret);

/* Starts a body: {"items":[ . The caller writes the items with `w`. */
void page_begin(struct json_writer *w, struct buf *out);

/* Ends the body, sets the headers and answers 200. `total` is the number of all items. */
void page_reply(struct request *req, const struct page *p, int64_t total, struct json_writer *w);

/* Only the headers. False out of memory. */
bool page_set_headers(struct request *req, const struct page *p, int64_t total);

/*
 * The URL of a path of ours as the client sees it: with scheme and host when a trusted proxy tells
 * them (X-Forwarded-Proto, X-Forwarded-Host), else path-absolute. p == NULL out of memory.
 */
struct slice page_url(const struct request *req, struct slice path);
