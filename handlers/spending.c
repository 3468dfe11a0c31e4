/*
 * spending.c - what calls cost, by ?from&to&group: of everybody for administrators, of one's own
 * for all others. One statement; beside its sums, what the ledger has not stored yet.
 *
 * Money is told twice: as whole billionths of a dollar, and as the same number written out in
 * dollars.
 */
#include "handlers/spending.h"

#include "gateway/core/metrics.h"
#include "gateway/http/form.h"
#include "handlers/query.h"
#include "storage/costs.h"
#include "storage/ledger.h"
#include "storage/principal.h"

#include <stdio.h>

struct spending_query {
    struct slice from, to, group;
    int64_t limit;
};

/* clang-format off */
#define ROWS(groups)                                                                               \
    {"from", FORM_STRING, offsetof(struct spending_query, from), .class = FORM_DATE},              \
    {"to", FORM_STRING, offsetof(struct spending_query, to), .class = FORM_DATE},                  \
    {"limit", FORM_INT, offsetof(struct spending_query, limit), .min = 1, .max = 1000},            \
    {"group", FORM_STRING, offsetof(struct spending_query, group), .class = FORM_IDENTIFIER,       \
     .words = (groups)}
/* clang-format on */

static const struct form_field all_fields[] = {
    ROWS("model provider day key team owner purpose"),
};
static const struct form all_form = FORM_OF(struct spending_query, all_fields);

static const struct form_field own_fields[] = {
    ROWS("model provider day key purpose"),
};
static const struct form own_form = FORM_OF(struct spending_query, own_fields);

struct spending {
    struct query q;
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

/* What is not in the rows yet, and what never will be: of all workers, since the gateway's start.
 */
static void put_ledger(struct json_writer *w)
{
    struct ledger_stats st;

    ledger_totals(&st);
    json_kv_obj(w, "ledger");
    json_kv_int(w, "workers", metrics_workers());
    json_kv_int(w, "pending_rows", (int64_t)st.pending_rows);
    json_kv_int(w, "stored", (int64_t)st.stored);
    json_kv_int(w, "dropped", (int64_t)st.dropped);
    json_kv_int(w, "rejected", (int64_t)st.rejected);
    json_kv_int(w, "aside", (int64_t)st.aside);
    json_obj_end(w);
}

static void put_members(struct json_writer *w, enum costs_group group, const struct pg_rows *rows)
{
    json_kv_cstr(w, "group", costs_group_name(group));
    json_kv_arr(w, "items");
    for (unsigned i = 1; i < pg_count(rows); i++)
        put_item(w, group, rows, i);
    json_arr_end(w);
    json_kv_int(w, "groups", pg_int(rows, 0, COSTS_N_GROUPS));
    json_kv_obj(w, "total");
    put_sums(w, rows, 0);
    json_obj_end(w);
    put_ledger(w);
}

static void on_rows(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct spending *s = arg;
    struct json_writer w;
    struct buf out;

    if (!query_good(&s->q, err))
        return;
    query_object(&w, &out);
    put_members(&w, s->group, rows);
    json_obj_end(&w);
    query_reply(&s->q, 200, &out);
}

/* --- the question ----------------------------------------------------------------------------- */

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
    struct spending *s = query_new(req, struct spending);

    if (!s)
        return;
    f.from = q->from;
    f.to = q->to;
    (void)costs_group_find(q->group, &s->group);
    query_wait(&s->q, costs_read(&f, s->group, q->limit, req->deadline_us, on_rows, s));
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
