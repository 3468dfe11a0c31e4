/*
 * llm.h - what all routes that call a model share: reading the body, finding the targets, telling
 * the client in headers who answered, and turning a provider's failure into an answer.
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"
#include "providers/provider.h"

/* The registry of the snapshot this request began with. */
const struct registry *llm_registry(const struct request *req);

/* Parses the body strictly. On failure the request has been answered and false is returned. */
bool llm_parse_body(struct request *req, struct json *ret_root);

/* Targets for the model name, plus the body's own `fallbacks` (an array of names). On failure the
 * request has been answered and false is returned. */
bool llm_resolve(struct request *req, struct slice model, struct json root,
                 struct registry_route *ret);

/* Did the client send X-Postern-Strict: true? Then what would be left out is refused instead. */
bool llm_is_strict(const struct request *req);

/* Answers a translation's refusal: 4xx with the field's name. */
void llm_refuse(struct request *req, enum gw_err err, const struct convo_report *rep);

/* Sets X-Postern-Provider, -Model, -Attempts, -Fallback-Index, -Overhead-Us, -Dropped, and
 * -Cost-Usd when usage and prices are known. `usage` may be NULL. */
void llm_set_headers(struct request *req, const struct provider_call_info *info,
                     const struct convo_usage *usage);

/* Answers a failed call in the surface's shape. */
void llm_fail(struct request *req, enum gw_err err, const struct provider_call_info *info,
              const struct dialect_error *vendor);

/* What an abort hook does first: counts that the client has left (or that its request is overdue),
 * answers nobody, and returns what the flow ends with. */
enum gw_err llm_client_gone(struct request *req, bool streaming);

/* What a client is told of a failed call: also for in-band errors. */
struct slice llm_error_text(enum gw_err err, const struct provider_call_info *info,
                            const struct dialect_error *vendor);

/* Nano-USD as a decimal number of dollars; "" when negative (unknown). */
struct slice llm_dollars(struct arena *a, int64_t nano_usd);
