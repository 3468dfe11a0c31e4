/*
 * deprecation.c - deprecated aliases (legacy.h) say so on every answer: Deprecation (RFC 9745),
 * Sunset (RFC 8594) and a Link to the successor. Each use is counted. After the sunset they answer
 * as before or, with legacy.after_sunset: gone, 410.
 */
#include "gateway/core/day.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/legacy.h"
#include "gateway/http/page.h"
#include "gateway/middleware/middleware.h"

#define DEPRECATED_SINCE "@1764115200" /* 2025-11-26, when the v1 paths were announced */

static bool is_alias(const struct request *req)
{
    return req->route && req->route->successor;
}

static bool is_gone(const struct conf *c)
{
    int64_t sunset = 0;

    return slice_is(c->legacy_after_sunset, "gone") && day_parse(c->legacy_sunset, &sunset) &&
           (int64_t)(loop_wall_us() / 1000000u) >= sunset;
}

enum chain_verdict deprecation_run(struct request *req)
{
    struct error_detail d = {.code = SLICE("legacy-endpoint-gone")};

    if (!is_alias(req))
        return CHAIN_NEXT;
    metrics_add(metrics_get(M_LEGACY, req->route->successor, NULL, NULL), 1);
    if (!is_gone(req->conf))
        return CHAIN_NEXT;
    d.message = arena_printf(req->arena, "This path is gone; use %s.", req->route->successor);
    request_fail(req, GW_EGONE, &d);
    return CHAIN_DONE;
}

static struct slice link_so_far(const struct request *req)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is(req->out[i].name, "Link"))
            return req->out[i].value;
    return SLICE_NONE;
}

/* Beside the links of a page, if there are any. Hooks may run twice: once is enough. */
static void set_link(struct request *req)
{
    static const char rel[] = "; rel=\"successor-version\"";
    struct slice url = page_url(req, legacy_path(req)), before = link_so_far(req), link;

    if (!url.p || (before.n && memmem(before.p, before.n, rel, sizeof(rel) - 1)))
        return;
    link = arena_printf(req->arena, "%.*s%s<%.*s>%s", SLICE_ARG(before), before.n ? ", " : "",
                        SLICE_ARG(url), rel);
    if (link.p)
        request_set_header(req, "Link", link);
}

void deprecation_hook(struct request *req)
{
    char date[DAY_HTTP_BYTES];
    int64_t sunset = 0;

    if (!is_alias(req))
        return;
    request_set_header(req, "Deprecation", SLICE(DEPRECATED_SINCE));
    if (day_parse(req->conf->legacy_sunset, &sunset))
        request_set_header(req, "Sunset", day_http(sunset, date));
    set_link(req);
}
