/*
 * flight.h - a call to a provider whose answer is gathered: for the cache, and for identical
 * requests that come while it is under way.
 *
 *     flight_lead --(the leader's answer: head, bytes, end)--> over, and gone with its last
 * follower
 *
 * The leader is a request; its flight listens to its answer with a tap. Followers read the gathered
 * bytes at their own pace. When the leader's client leaves while others follow, the request goes on
 * without it; where too many do already, the followers are told to come again (GW_EOVERLOAD). A
 * flight that grows past what a cache entry may be is no longer kept, and is given up
 * when nobody follows it.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/http/request.h"
#include "handlers/kept.h"

struct flight;

/* A follower; embedded in its flow. on_news runs on the loop, not inside flight_follow(). */
struct flight_follower {
    struct flight_follower *next, *prev;
    struct flight *flight;
    void (*on_news)(struct flight_follower *f);
};

/* The flight under way for a key, or NULL. */
struct flight *flight_find(const struct lru_key *key);

struct flight_limits {
    size_t keep_bytes; /* past this it is not kept */
    size_t max_bytes;  /* past this its followers fail */
    uint64_t ttl_us;   /* how long it is kept; 0 = not at all */
};

/* Makes the request the leader of a flight for the key, before its answer has begun. The flight
 * lives by itself from then on; *slot, where the leader keeps its pointer, is set to NULL when the
 * answer has ended. NULL out of memory: the request is answered all the same. */
struct flight *flight_lead(struct request *req, const struct lru_key *key,
                           const struct flight_limits *limits, struct flight **slot);

/* fn(arg) when somebody follows, until the answer has ended: flight_runs_ahead() may be true now.
 */
void flight_on_followed(struct flight *f, void (*fn)(void *arg), void *arg);

/* Must the leader's own client not hold the answer up? While others follow: what that client does
 * not take waits for it, up to a bound. NULL is fine. */
bool flight_runs_ahead(const struct flight *f);

/* What the leader's answer used; before it ends. */
void flight_note(struct flight *f, const struct convo_usage *usage, int64_t cost_nano_usd);

/* The answer is one that another time may come out differently: nobody gets it later. */
void flight_keep_not(struct flight *f);

/* --- followers ------------------------------------------------------------------------------- */

void flight_follow(struct flight *f, struct flight_follower *who);
void flight_leave(struct flight_follower *who);

/* What there is so far; slices are valid until the next turn. */
bool flight_has_head(const struct flight *f);
bool flight_is_over(const struct flight *f);
bool flight_is_good(const struct flight *f); /* not failed, so far */
int flight_status(const struct flight *f);
enum gw_err flight_err(const struct flight *f);

/* Headers of an answer that is an error; empty ones were not set. */
struct flight_refusal {
    struct slice retry_after, source;
};
struct flight_refusal flight_refusal(const struct flight *f);
const struct kept *flight_kept(const struct flight *f);
struct slice flight_gathered(const struct flight *f);
