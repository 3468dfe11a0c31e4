/*
 * spending.c - what calls cost, by ?from&to&group: of everybody for administrators, of one's own
 * for all others.
 *
 *     query --> statement --> answer
 *
 * struct spending lives in the request's arena and holds one reference on it while its statement
 * runs. spending_end() is reached once: by the rows, or by the client leaving. Money is told twice:
 * as whole billionths of a dollar, and as the same number written out in dollars.
 */
#include "handlers/spending.h"

#include "gateway/core/json.h"
#include "gateway/http/form.h"
#include "storage/costs.h"
#include "storage/ledger.h"
#include "storage/principal.h"

#include <stdio.h>

#define MAX_OUT (1u << 20)
#define COME_BACK_S 2u

struct spending_query {
    struct slice from, to, group;
    int64_t limit;
};

#define ROWS(groups)                                                                               \
    {.name = "from",                                                                               \
     .type = FORM_STRING,                                                                          \
     .at = offsetof(struct spending_query, from),                                                  \
     .class = FORM_DATE},                                                                          \
        {.name = "to",                                                                             \
         .type = FORM_STRING,                                                                      \
         .at = offsetof(struct spending_query, to),                                                \
         .class = FORM_DATE},                                                                      \
        {.name = "limit",                                                                          \
         .type = FORM_INT,                                                                         \
         .at = offsetof(struct spending_query, limit),                                             \
         .min = 1,                                                                                 \
         .max = 1000},                                                                             \
    {                                                                                              \
        .name = "group", .type = FORM_STRING, .at = offsetof(struct spending_query, group),        \
        .class = FORM_IDENTIFIER, .words = groups                                                  \
    }

static const struct form_field all_fields[] = {
    ROWS("model provider day key team owner purpose"),
};
static const struct form all_form = FORM_OF(struct spending_query, all_fields);

static const struct form_field own_fields[] = {
    ROWS("model provider day key purpose"),
};
static const struct form own_form = FORM_OF(struct spending_query, own_fields);

struct spending {
    struct request *req; /* counted reference, dropped by spending_end() */
    struct op *op;       /* the statement, or NULL */
    enum costs_group group;
};

/* --- the answer ------------------------------------------------------------------------------- */

static void put_usd(struct json_writer *w, const char *key, int64_t nano)
{
    char text[32];
    uint64_t n = nano < 0 ? 0 - (uint64_t)nano : (uint64_t)nano;

    snprintf(text, sizeof(text), "%s%llu.%09llu", nano < 0 ? "-" : "",
             (unsigned long long)(n / 1000000000u), (unsigned long long)(n % 1000000000u));
    json_kv_cstr(w, key, text);
}

static void put_sums(struct json_writer *w, const struct pg_rows *rows, unsigned i)
{
    json_kv_int(w, "calls", pg_int(rows, i, COSTS_CALLS));
    json_kv_int(w, "cached_calls", pg_int(rows, i, COSTS_CACHED));
    json_kv_int(w, "unknown_cost_calls", pg_int(rows, i, COSTS_UNKNOWN_COST));
    json_kv_int(w, "tokens_in", pg_int(rows, i, COSTS_TOKENS_IN));
    json_kv_int(w, "tokens_out", pg_int(rows, i, COSTS_TOKENS_OUT));
    json_kv_int(w, "cache_read_tokens", pg_int(rows, i, COSTS_CACHE_READ));
    put_usd(w, "cost_usd", pg_int(rows, i, COSTS_NANO_USD));
    json_kv_int(w, "cost_nano_usd", pg_int(rows, i, COSTS_NANO_USD));
    put_usd(w, "avoided_usd", pg_int(rows, i, COSTS_AVOIDED_NANO_USD));
    json_kv_int(w, "avoided_nano_usd", pg_int(rows, i, COSTS_AVOIDED_NANO_USD));
}

static void put_item(struct json_writer *w, enum costs_group group, const struct pg_rows *rows,
                     unsigned i)
{
    json_obj(w);
    json_put_key(w, costs_group_name(group));
    if (pg_is_null(rows, i, COSTS_GROUP))
        json_put_null(w);
    else
        json_put_str(w, pg_text(rows, i, COSTS_GROUP));
    if (!pg_is_null(rows, i, COSTS_NAME))
        json_kv_str(w, "name", pg_text(rows, i, COSTS_NAME));
    put_sums(w, rows, i);
    json_obj_end(w);
}

/* What is not in the rows yet, and what never will be: of this worker, since its start. */
static void put_ledger(struct json_writer *w)
{
    struct ledger_stats st;

    ledger_stats(&st);
    json_put_key(w, "ledger");
    json_obj(w);
    json_kv_int(w, "pending_rows", (int64_t)st.pending_rows);
    json_kv_int(w, "stored", (int64_t)st.stored);
    json_kv_int(w, "dropped", (int64_t)st.dropped);
    json_kv_int(w, "rejected", (int64_t)st.rejected);
    json_obj_end(w);
}

static void put_answer(struct json_writer *w, enum costs_group group, const struct pg_rows *rows)
{
    json_obj(w);
    json_kv_cstr(w, "group", costs_group_name(group));
    json_put_key(w, "items");
    json_arr(w);
    for (unsigned i = 1; i < pg_count(rows); i++)
        put_item(w, group, rows, i);
    json_arr_end(w);
    json_kv_int(w, "groups", pg_int(rows, 0, COSTS_N_GROUPS));
    json_put_key(w, "total");
    json_obj(w);
    put_sums(w, rows, 0);
    json_obj_end(w);
    put_ledger(w);
    json_obj_end(w);
}

static void answer(struct request *req, enum costs_group group, const struct pg_rows *rows)
{
    struct json_writer w;
    struct buf out;

    buf_init(&out, MAX_OUT);
    json_writer_init(&w, &out);
    put_answer(&w, group, rows);
    request_finish(req, buf_err(&out), buf_slice(&out));
    buf_deinit(&out);
}

/* --- the flow --------------------------------------------------------------------------------- */

/* The only exit. */
static void spending_end(struct spending *s, enum gw_err err, const struct pg_rows *rows)
{
    struct error_detail d = {.retry_after_s = err == GW_EUNAVAIL ? COME_BACK_S : 0};

    op_cancel(&s->op);
    request_on_abort(s->req, NULL, NULL);
    if (err)
        request_fail(s->req, err, &d);
    else
        answer(s->req, s->group, rows);
    request_unref(s->req);
}

static void on_rows(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct spending *s = arg;

    s->op = NULL;
    spending_end(s, err, rows);
}

static void on_client_gone(struct request *req, void *arg)
{
    (void)req;
    spending_end(arg, GW_EGONECLIENT, NULL);
}

/* Reads the query; false when the request has been answered. */
static bool read_query(struct request *req, const struct form *form, struct spending_query *q)
{
    const struct error_item wrong = {.param = SLICE("from"), .detail = SLICE("is after `to`")};
    const struct error_detail d = {.items = &wrong, .n_items = 1};

    *q = (struct spending_query){.group = SLICE("model"), .limit = 1000};
    if (!form_query_into(req, form, q, sizeof(*q), NULL))
        return false;
    if (!q->from.n || !q->to.n || memcmp(q->from.p, q->to.p, 10) <= 0)
        return true;
    request_fail(req, GW_ESCHEMA, &d);
    return false;
}

static void spending_begin(struct request *req, const struct spending_query *q,
                           struct costs_filter f)
{
    struct spending *s = arena_new(req->arena, struct spending);

    if (!s) {
        request_finish(req, GW_ENOMEM, SLICE_NONE);
        return;
    }
    *s = (struct spending){.req = request_ref(req)};
    f.from = q->from;
    f.to = q->to;
    (void)costs_group_find(q->group, &s->group);
    request_on_abort(req, on_client_gone, s);
    s->op = costs_read(&f, s->group, q->limit, req->deadline_us, on_rows, s);
    if (!s->op)
        spending_end(s, GW_ENOMEM, NULL);
}

void spending_all(struct request *req)
{
    struct spending_query q;

    if (read_query(req, &all_form, &q))
        spending_begin(req, &q, (struct costs_filter){0});
}

/* A key's own are the calls with that key; a user's those with all the user's keys, too. */
void spending_own(struct request *req)
{
    const struct principal *p = req->principal;
    struct costs_filter f = {0};
    struct spending_query q;

    if (!read_query(req, &own_form, &q))
        return;
    if (p && p->kind == PRINCIPAL_KEY)
        f.key_id = slice_cstr(p->key_id);
    else if (p && p->owner_id[0])
        f.owner_id = slice_cstr(p->owner_id);
    else
        f.nobodys = true;
    spending_begin(req, &q, f);
}
