/*
 * middleware.c - the order in which every request is looked at (SPEC 3).
 *
 * Rows of CHAIN_HEAD see the head alone and may refuse before a byte of the body is read. CORS
 * comes before the limits, so that a preflight costs no token; identify comes before them too, so
 * that a caller is limited by who it is and not by its proxy's address.
 */
#include "gateway/middleware/middleware.h"

#include "gateway/middleware/slowest.h"

static const struct chain_row rows[] = {
    {"request_id", CHAIN_HEAD, request_id_run},
    {"trusted_proxy", CHAIN_HEAD, trusted_proxy_run},
    {"cors", CHAIN_HEAD, cors_run},
    {"identify", CHAIN_HEAD, identify_run},
    {"rate_limit", CHAIN_HEAD, ratelimit_run},
    {"deprecation", CHAIN_HEAD, deprecation_run},
    {"authorise", CHAIN_HEAD, authorise_run},
    {"idempotency", CHAIN_BODY, repeat_run},
};

void middleware_init(void)
{
    chain_init(rows, sizeof(rows) / sizeof(rows[0]));
    request_add_response_hook(request_id_hook);
    request_add_response_hook(security_headers_hook);
    request_add_response_hook(cors_hook);
    request_add_response_hook(deprecation_hook);
    request_add_finish_hook(http_metrics_hook);
    request_add_finish_hook(slowest_hook);
    request_add_finish_hook(access_log_hook);
    request_add_finish_hook(record_hook);
}
