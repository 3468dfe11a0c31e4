/*
 * reuse.h - may an answer be used again: what the configuration, the client's Cache-Control and the
 * request itself say, and the key under which identical requests meet.
 *
 * Cache-Control (RFC 9111, 5.2.1) of a request: no-store (neither looked for nor kept), no-cache
 * (asked anew, and kept), max-age=N (an answer up to N seconds old is fine; it is kept for N),
 * only-if-cached (504 rather than a call). Conf's mode `auto` looks and keeps where the same answer
 * is expected again (temperature 0) or asked for (max-age); `all` always; `off` never.
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/http/request.h"
#include "providers/convo.h"
#include "providers/dialect.h"
#include "providers/registry.h"
#include "storage/lru.h"

struct reuse_policy {
    bool look, keep, only_cached;
    uint64_t max_age_us; /* of what is looked for */
    uint64_t ttl_us;     /* of what is kept */
};

/* `deterministic`: the request says that it wants the same answer each time. */
struct reuse_policy reuse_policy_of(const struct request *req, bool deterministic);

/* Everything an answer depends on. */
struct reuse_subject {
    const char *form;   /* in what shape the answer is written: "openai", ... */
    struct slice model; /* as asked for */
    bool stream, strict;
    struct json body;
    const struct registry_route *route;
    const struct dialect_header *headers; /* of the client's, that travel along */
    unsigned n_headers;
    struct slice question; /* not empty: the key of all requests that differ in this text alone */
};

/* The key of a request: the tenant's, whatever the order and spelling of the body's members. */
enum gw_err reuse_key(const struct request *req, const struct reuse_subject *s,
                      struct lru_key *ret) MUST_CHECK;

/* Whose entries a request sees: its principal's tenant; "master"; "anonymous" without any. */
struct slice reuse_tenant(const struct request *req);
