/*
 * count.h - what the token-counting routes share: asking a provider of the client's own dialect and
 * relaying its answer, or answering the gateway's estimate.
 */
#pragma once

#include "gateway/http/request.h"
#include "providers/provider.h"

/* A route's body, read. */
struct count_ask {
    struct json body;
    struct convo *convo;
    struct slice asked_model;    /* set by count_allowed() */
    struct registry_route route; /* only targets of `inbound`'s dialect */
    const struct dialect *inbound;
    const struct dialect_header *headers; /* of the client's, to go along; outlive the call */
    unsigned n_headers;
};

/* Leaves the targets the caller may use; false when the request has been answered. */
bool count_allowed(struct request *req, struct count_ask *ask, struct slice model);

/* Sends the body to the provider's counting route and relays what it says; answers the request
 * later. */
void count_relay(struct request *req, const struct count_ask *ask);

/* Answers {"<member>": estimate}, marked X-Postern-Token-Count: estimated. At least `least`. */
void count_estimate(struct request *req, const struct convo *convo, const char *member,
                    uint64_t least);
