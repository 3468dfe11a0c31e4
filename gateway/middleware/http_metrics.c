/*
 * http_metrics.c - counts every request at its end. `endpoint` is the route's template, so that
 * labels stay few; a deprecated alias counts as its successor (legacy_requests_total tells them
 * apart).
 *
 * The series of a route are looked up once and kept beside the route's row; statuses beyond the
 * common ones are looked up each time.
 */
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"

#include <stdio.h>

#define KEPT 256u

struct kept {
    const struct route *route;
    enum http_method method;
    struct metric_series *ok, *seconds;
};

static struct kept kept[KEPT];

static const char *endpoint_of(const struct request *req)
{
    return req->route ? route_name(req->route) : "unmatched";
}

static struct kept *kept_of(const struct request *req)
{
    size_t at = ((size_t)(uintptr_t)req->route / sizeof(struct route) * 7 + req->method) % KEPT;
    struct kept *k = &kept[at];

    if (!k->ok || k->route != req->route || k->method != req->method) {
        k->route = req->route;
        k->method = req->method;
        k->ok =
            metrics_get(M_HTTP_REQUESTS, http_method_name(req->method), endpoint_of(req), "200");
        k->seconds =
            metrics_get(M_HTTP_SECONDS, http_method_name(req->method), endpoint_of(req), NULL);
    }
    return k;
}

static struct metric_series *overhead(void)
{
    static struct metric_series *s;

    if (!s)
        s = metrics_get(M_OVERHEAD, NULL, NULL, NULL);
    return s;
}

void http_metrics_hook(struct request *req)
{
    uint64_t took = loop_clock_us() - req->started_us;
    struct kept *k = kept_of(req);
    char status[12];

    if (req->status == 200) {
        metrics_add(k->ok, 1);
    } else {
        snprintf(status, sizeof(status), "%d", req->status);
        metrics_add(
            metrics_get(M_HTTP_REQUESTS, http_method_name(req->method), endpoint_of(req), status),
            1);
    }
    metrics_observe_us(k->seconds, took);
    if (req->err)
        metrics_add(metrics_get(M_HTTP_ERRORS, endpoint_of(req), err_info(req->err)->slug, NULL),
                    1);
    if (req->upstream_us)
        metrics_observe_us(overhead(), took > req->upstream_us ? took - req->upstream_us : 0);
}
