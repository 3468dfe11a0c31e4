/*
 * middleware.h - the rows of the request chain and the hooks around it, in the order of SPEC 3.
 */
#pragma once

#include "gateway/http/chain.h"
#include "gateway/http/request.h"

/* request_id.c: X-Request-ID (the client's when sane, else ours) and traceparent, on every answer.
 */
enum chain_verdict request_id_run(struct request *req);
void request_id_hook(struct request *req); /* response hook */

/* trusted_proxy.c: client_ip out of X-Forwarded-For when the peer is one of conf's trusted_proxies.
 */
enum chain_verdict trusted_proxy_run(struct request *req);

/* cors.c: answers preflights; sets the allow headers for known origins on every answer. */
enum chain_verdict cors_run(struct request *req);
void cors_hook(struct request *req);

/* security_headers.c: response hook. */
void security_headers_hook(struct request *req);

/* identify.c: reads the credential and asks the keyring; never rejects, may park. */
enum chain_verdict identify_run(struct request *req);

/* ratelimit.c: token bucket per class and caller, and one for the instance. */
enum chain_verdict ratelimit_run(struct request *req);
void ratelimit_deinit(void);

/* deprecation.c: counts deprecated aliases, tells their end, and refuses them after it. */
enum chain_verdict deprecation_run(struct request *req);
void deprecation_hook(struct request *req); /* response hook */

/* authorise.c: what the route asks of the caller. The challenge is how WWW-Authenticate begins. */
#define AUTHORISE_CHALLENGE "Bearer realm=\"postern\""
enum chain_verdict authorise_run(struct request *req);

/* repeat.c: Idempotency-Key. Behind authorise, when the body is whole. */
enum chain_verdict repeat_run(struct request *req);

/* access_log.c and http_metrics.c: finish hooks. */
void access_log_hook(struct request *req);
void http_metrics_hook(struct request *req);

/* record.c: finish hook. */
void record_hook(struct request *req);

/* chain.c's table: registers rows and hooks. */
void middleware_init(void);
