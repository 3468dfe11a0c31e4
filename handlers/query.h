/*
 * query.h - plumbing of routes that ask Postgres for one thing after another.
 *
 *     query_begin --> query_wait(op) --> on_x: query_good --> query_wait(next) ... --> query_end
 *                          '--the client leaves, or the deadline--> GET: cancelled, finished
 *                                                                 else: goes on, answers nobody
 *
 * A flow embeds `struct query` first in a struct in the request's arena. It holds one reference on
 * the request until it ends, and at most one operation is outstanding. Every way through ends in
 * exactly one of query_reply(), query_none(), query_page(), query_fail() and query_refuse(); the
 * flow may be gone when they return.
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/core/op.h"
#include "gateway/http/page.h"
#include "gateway/http/request.h"

#include <sys/queue.h>

struct query {
    struct request *req; /* counted */
    struct op *op;       /* outstanding, or NULL */
    bool alone;          /* goes on without its client, and is in a list of such flows */
    LIST_ENTRY(query) link;
};

/* A new flow of that type, zeroed but for its query, which is its first member; NULL when the
 * request has been answered (out of memory). */
#define query_new(req, type) ((type *)query_begin((req), sizeof(type)))
void *query_begin(struct request *req, size_t size);

/* `op` is what the flow waits for next; NULL ends it as out of memory. */
void query_wait(struct query *q, struct op *op);

/* First thing in every done: the operation is over. False when `err` has ended the flow. */
bool query_good(struct query *q, enum gw_err err);

/* The same for flows that look at errors themselves. */
void query_over(struct query *q);

/* Ends with an error as the route's clients see it: 503 with Retry-After when the database is away.
 */
void query_fail(struct query *q, enum gw_err err);

/* Ends with an error and its reason (a literal, or in the arena). */
void query_refuse(struct query *q, enum gw_err err, struct slice why);
void query_refuse_later(struct query *q, enum gw_err err, struct slice why, uint64_t retry_after_s);

/* Ends with a JSON body, whose buffer is freed; or with 204. */
void query_reply(struct query *q, int status, struct buf *out);
void query_none(struct query *q);
void query_page(struct query *q, const struct page *p, int64_t total, struct json_writer *w);

/* Answers for requests that began no flow yet. */
void query_deny(struct request *req, enum gw_err err, struct slice why);

/* Is it a UUID as we write them? Others are no id of anything, and Postgres is not asked. */
bool query_is_uuid(struct slice id);

/* May the caller administrate? Where no authentication is asked for, whoever comes may. */
bool query_is_admin(const struct request *req);

/* users.id of whoever asks; empty for the master key and for nobody. */
struct slice query_owner(const struct request *req);

/* RFC 3339 in UTC. p == NULL out of memory. */
struct slice query_time(struct arena *a, int64_t unix_s);

/* Members whose empty text is null, dollars as a decimal (-1: null), and counts (0: null). */
void query_put_text(struct json_writer *w, const char *key, struct slice text);
void query_put_usd(struct json_writer *w, const char *key, int64_t nano_usd);
void query_put_count(struct json_writer *w, const char *key, int64_t n);

/* A JSON array of strings, in the arena; p == NULL out of memory. */
struct form_list;
struct slice query_strings(struct arena *a, const struct form_list *list);

#define QUERY_MAX_OUT (1u << 20)

/* Gives up the flows whose clients have left; what they asked of Postgres may still be done. After
 * the server has stopped, before Postgres does. */
void query_deinit(void);
