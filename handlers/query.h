/*
 * query.h - plumbing of routes that ask Postgres for one thing after another.
 *
 *     query_begin --> query_wait(op) --> on_x: query_good --> query_wait(next) ... --> query_end
 *                          '--the client leaves, or the deadline--> GET, or in front of a hash:
 *                                                                   cancelled, finished
 *                                                                 else: goes on, answers nobody
 *
 * A flow embeds `struct query` first in a struct in the request's arena. It holds one reference on
 * the request until it ends, and at most one operation is outstanding. Every way through ends in
 * exactly one of query_reply(), query_none(), query_list_done(), query_fail() and the refusals; the
 * flow may be gone when they return.
 *
 * A done reads as one sentence, each step of which ends the flow by itself when it fails:
 *
 *     if (!query_good(&f->q, err) || !query_found(&f->q, team_read(rows, 0, &t), "team") ||
 *         !query_keep(&f->q, t.id, &f->team_id))
 *         return;
 *     query_wait(&f->q, next(...));
 */
#pragma once

#include "gateway/core/json.h"
#include "gateway/core/op.h"
#include "gateway/http/page.h"
#include "gateway/http/request.h"
#include "storage/pg.h"

#include <sys/queue.h>

/* --- a flow ----------------------------------------------------------------------------------- */

struct query {
    struct request *req; /* counted */
    struct op *op;       /* outstanding, or NULL */
    bool hashing;        /* `op` is a password's hash */
    bool alone;          /* goes on without its client, and is in a list of such flows */
    LIST_ENTRY(query) link;
};

/* A new flow of that type, zeroed but for its query, which is its first member; NULL when the
 * request has been answered (out of memory). */
#define query_new(req, type) ((type *)query_begin((req), sizeof(type)))
void *query_begin(struct request *req, size_t size);

/* A flow about the path's {id}; NULL when the request has been answered: with 404 for what is no
 * UUID, since that is no id of anything, and Postgres is not asked. `what` is a noun, here and
 * below: "There is no such user." */
struct query *query_of_id(struct request *req, const char *what);
/* The check alone. */
bool query_id(struct request *req, const char *what);

/* `op` is what the flow waits for next; NULL ends it as out of memory. */
void query_wait(struct query *q, struct op *op);
/* The same for a hash; NULL ends it as overloaded, for that reason. */
void query_wait_hash(struct query *q, struct op *op, struct slice why);

/* First thing in every done: the operation is over. False when `err` has ended the flow. */
bool query_good(struct query *q, enum gw_err err);
/* The same of a statement for which the error `known` has a reason of its own. */
bool query_good_or(struct query *q, enum gw_err err, enum gw_err known, struct slice why);
/* The same for flows that look at errors themselves. */
void query_over(struct query *q);

/* False, and the flow has ended with 404, when what it is about is not there. */
bool query_found(struct query *q, bool found, const char *what);
/* Copies into the request's arena what else goes with the rows; false when out of memory. */
bool query_keep(struct query *q, struct slice text, struct slice *ret);

/* --- its end ---------------------------------------------------------------------------------- */

/* Ends with an error as the route's clients see it: 503 with Retry-After when the database is away.
 */
void query_fail(struct query *q, enum gw_err err);

/* Ends with an error and its reason (a literal, or in the arena). */
void query_refuse(struct query *q, enum gw_err err, struct slice why);
void query_refuse_later(struct query *q, enum gw_err err, struct slice why, uint64_t retry_after_s);

/* Ends with a JSON body, whose buffer is freed; or with 204. */
void query_reply(struct query *q, int status, struct buf *out);
void query_none(struct query *q);
/* Begins such a body, which is an object; the caller ends it. */
#define QUERY_MAX_OUT (1u << 20)
void query_object(struct json_writer *w, struct buf *out);

/* Answers for requests that began no flow yet. */
void query_deny(struct request *req, enum gw_err err, struct slice why);
void query_deny_missing(struct request *req, const char *what);

/* --- lists ------------------------------------------------------------------------------------ */

/* Writes the members of one row's object; returns the number of rows in all pages, which each row
 * tells. */
typedef int64_t (*query_put_row)(struct json_writer *w, const struct pg_rows *rows, unsigned row);

struct query_list {
    struct query q;
    struct page page; /* that was asked for */
    query_put_row put_row;
};

/* Writes all rows, as elements of an array that has been begun; returns the number in all pages
 * (PG_PAGE of storage/pg.h). */
int64_t query_put_rows(struct json_writer *w, const struct pg_rows *rows, query_put_row put_row);

/* NULL when the request has been answered. */
struct query_list *query_list_new(struct request *req, const struct page *page,
                                  query_put_row put_row);

/* The done of its statement: answers with the page. */
void query_list_done(enum gw_err err, const struct pg_rows *rows, void *arg);

/* The whole of a route that lists all there is. */
typedef struct op *(*query_page_fn)(int64_t limit, int64_t offset, uint64_t deadline_us,
                                    pg_done done, void *arg);
void query_list(struct request *req, query_page_fn page, query_put_row put_row);

/* --- who asks --------------------------------------------------------------------------------- */

/* May the caller administrate? Where no authentication is asked for, whoever comes may. */
bool query_is_admin(const struct request *req);

/* users.id of whoever asks; empty for the master key and for nobody. */
struct slice query_owner(const struct request *req);

/* --- values ----------------------------------------------------------------------------------- */

/* RFC 3339 in UTC. p == NULL out of memory. */
struct slice query_time(struct arena *a, int64_t unix_s);

/* Members that are dollars as a decimal (-1: null), and counts (0: null). */
void query_put_usd(struct json_writer *w, const char *key, int64_t nano_usd);
void query_put_count(struct json_writer *w, const char *key, int64_t n);

/* A JSON array of strings, in the arena; p == NULL out of memory. */
struct form_list;
struct slice query_strings(struct arena *a, const struct form_list *list);

/* --- the gateway's end ------------------------------------------------------------------------ */

/* Gives up the flows whose clients have left; what they asked of Postgres may still be done. After
 * the server has stopped, before Postgres does. */
void query_deinit(void);
