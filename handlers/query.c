/* query.c - see query.h. */
#include "handlers/query.h"

#include "gateway/core/uuid.h"
#include "gateway/http/form.h"
#include "storage/principal.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define COME_BACK_S 5u
#define NANO 1000000000

/* --- the flow --------------------------------------------------------------------------------- */

static LIST_HEAD(, query) alone = LIST_HEAD_INITIALIZER(alone);

/* What changes something goes on to its end without its client, which would otherwise have a way to
 * do things that are not on record. Not in front of a hash: nothing is changed yet, nobody learns
 * what it says, and in a flood the pool would work for those that have given up. */
static void on_gone(struct request *req, void *arg)
{
    struct query *q = arg;
    bool over = req->method == HTTP_GET || req->method == HTTP_HEAD || q->hashing;

    if (over)
        op_cancel(&q->op);
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    if (over) {
        request_unref(req);
        return;
    }
    q->alone = true;
    LIST_INSERT_HEAD(&alone, q, link);
}

void *query_begin(struct request *req, size_t size)
{
    struct query *q = arena_alloc(req->arena, size);

    if (!q) {
        request_fail(req, GW_ENOMEM, NULL);
        return NULL;
    }
    q->req = request_ref(req);
    request_on_abort(req, on_gone, q);
    return q;
}

bool query_id(struct request *req, const char *what)
{
    if (uuid_is(req->params[0]))
        return true;
    query_deny_missing(req, what);
    return false;
}

struct query *query_of_id(struct request *req, const char *what)
{
    return query_id(req, what) ? query_new(req, struct query) : NULL;
}

void query_wait(struct query *q, struct op *op)
{
    q->op = op;
    if (!op)
        query_fail(q, GW_ENOMEM);
}

void query_wait_hash(struct query *q, struct op *op, struct slice why)
{
    q->op = op;
    q->hashing = op != NULL;
    if (!op)
        query_refuse(q, GW_EOVERLOAD, why);
}

void query_over(struct query *q)
{
    q->op = NULL;
    q->hashing = false;
}

bool query_good(struct query *q, enum gw_err err)
{
    query_over(q);
    if (err)
        query_fail(q, err);
    return !err;
}

bool query_good_or(struct query *q, enum gw_err err, enum gw_err known, struct slice why)
{
    if (err != known)
        return query_good(q, err);
    query_over(q);
    query_refuse(q, err, why);
    return false;
}

static struct slice missing(const struct request *req, const char *what)
{
    return arena_printf(req->arena, "There is no such %s.", what);
}

bool query_found(struct query *q, bool found, const char *what)
{
    if (!found)
        query_refuse(q, GW_ENOTFOUND, missing(q->req, what));
    return found;
}

bool query_keep(struct query *q, struct slice text, struct slice *ret)
{
    *ret = arena_dup(q->req->arena, text);
    if (!ret->p)
        query_fail(q, GW_ENOMEM);
    return ret->p;
}

/* --- its end ---------------------------------------------------------------------------------- */

/* Drops the hook; what is left to do is to answer and to let go of the request. */
static struct request *leave(struct query *q)
{
    op_cancel(&q->op);
    if (q->alone)
        LIST_REMOVE(q, link);
    q->alone = false;
    request_on_abort(q->req, NULL, NULL);
    return q->req;
}

void query_deinit(void)
{
    while (!LIST_EMPTY(&alone))
        request_unref(leave(LIST_FIRST(&alone)));
}

static bool passes_by_itself(enum gw_err err)
{
    return err == GW_EUNAVAIL || err == GW_EAGAIN || err == GW_EOVERLOAD;
}

void query_refuse_later(struct query *q, enum gw_err err, struct slice why, uint64_t retry_after_s)
{
    struct error_detail d = {.message = why, .retry_after_s = retry_after_s};
    struct request *req = leave(q);

    request_fail(req, err, &d);
    request_unref(req);
}

void query_refuse(struct query *q, enum gw_err err, struct slice why)
{
    query_refuse_later(q, err, why, passes_by_itself(err) ? COME_BACK_S : 0);
}

void query_fail(struct query *q, enum gw_err err)
{
    query_refuse(q, err,
                 err == GW_EUNAVAIL ? SLICE("The database is not available at the moment.")
                                    : SLICE_NONE);
}

void query_deny(struct request *req, enum gw_err err, struct slice why)
{
    struct error_detail d = {.message = why,
                             .retry_after_s = passes_by_itself(err) ? COME_BACK_S : 0};

    request_fail(req, err, &d);
}

void query_deny_missing(struct request *req, const char *what)
{
    query_deny(req, GW_ENOTFOUND, missing(req, what));
}

void query_object(struct json_writer *w, struct buf *out)
{
    json_begin(w, out, QUERY_MAX_OUT);
    json_obj(w);
}

void query_reply(struct query *q, int status, struct buf *out)
{
    struct request *req = leave(q);
    enum gw_err err = buf_err(out);

    if (err)
        request_fail(req, err, NULL);
    else
        request_reply(req, status, SLICE("application/json"), buf_slice(out));
    buf_deinit(out);
    request_unref(req);
}

void query_none(struct query *q)
{
    struct request *req = leave(q);

    request_reply(req, 204, SLICE_NONE, SLICE_NONE);
    request_unref(req);
}

/* --- lists ------------------------------------------------------------------------------------ */

int64_t query_put_rows(struct json_writer *w, const struct pg_rows *rows, query_put_row put_row)
{
    int64_t total = 0;

    if (pg_count(rows) == 1 && pg_is_null(rows, 0, 0)) /* an empty page (PG_PAGE) */
        return pg_int(rows, 0, pg_columns(rows) - 1);
    for (unsigned i = 0; i < pg_count(rows); i++) {
        json_obj(w);
        total = put_row(w, rows, i);
        json_obj_end(w);
    }
    return total;
}

struct query_list *query_list_new(struct request *req, const struct page *page,
                                  query_put_row put_row)
{
    struct query_list *l = query_new(req, struct query_list);

    if (l) {
        l->page = *page;
        l->put_row = put_row;
    }
    return l;
}

void query_list_done(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query_list *l = arg;
    struct json_writer w;
    struct request *req;
    int64_t total;
    struct buf out;

    if (!query_good(&l->q, err))
        return;
    buf_init(&out, QUERY_MAX_OUT);
    page_begin(&w, &out);
    total = query_put_rows(&w, rows, l->put_row);
    req = leave(&l->q);
    page_reply(req, &l->page, total, &w);
    buf_deinit(&out);
    request_unref(req);
}

void query_list(struct request *req, query_page_fn page, query_put_row put_row)
{
    struct query_list *l;
    struct page p;

    if (!page_read(req, &p))
        return;
    l = query_list_new(req, &p, put_row);
    if (l)
        query_wait(&l->q, page(p.per_page, p.offset, req->deadline_us, query_list_done, l));
}

/* --- who asks --------------------------------------------------------------------------------- */

bool query_is_admin(const struct request *req)
{
    return req->who.admin || (!req->who.known && !conf_auth_required(req->conf));
}

struct slice query_owner(const struct request *req)
{
    return req->principal ? slice_cstr(req->principal->owner_id) : SLICE_NONE;
}

/* --- values ----------------------------------------------------------------------------------- */

struct slice query_time(struct arena *a, int64_t unix_s)
{
    time_t t = (time_t)unix_s;
    char text[32];
    struct tm tm;

    if (!gmtime_r(&t, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
        return SLICE_NONE;
    return arena_dup(a, slice_cstr(text));
}

void query_put_count(struct json_writer *w, const char *key, int64_t n)
{
    if (n)
        json_kv_int(w, key, n);
    else
        json_kv_null(w, key);
}

void query_put_usd(struct json_writer *w, const char *key, int64_t nano_usd)
{
    char text[48];
    int n;

    if (nano_usd < 0) {
        json_kv_null(w, key);
        return;
    }
    n = snprintf(text, sizeof(text), "%" PRId64 ".%09" PRId64, nano_usd / NANO, nano_usd % NANO);
    while (n > 2 && text[n - 1] == '0' && text[n - 2] != '.')
        n--;
    json_kv_raw(w, key, slice_of(text, (size_t)n));
}

struct slice query_strings(struct arena *a, const struct form_list *list)
{
    struct json_writer w;
    struct slice text;
    struct buf out;

    json_begin(&w, &out, QUERY_MAX_OUT);
    json_arr(&w);
    for (unsigned i = 0; i < list->n; i++)
        json_put_str(&w, list->items[i]);
    json_arr_end(&w);
    text = buf_err(&out) ? SLICE_NONE : arena_dup(a, buf_slice(&out));
    buf_deinit(&out);
    return text;
}
