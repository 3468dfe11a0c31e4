/* trail.c - see trail.h. */
#include "handlers/trail.h"

#include "gateway/http/form.h"
#include "handlers/query.h"
#include "storage/audit.h"

/* The columns of audit_page(), in its order. */
enum column { ID, AT, ACTOR, ACTOR_IP, ACTION, TARGET, OUTCOME, REQUEST_ID, DETAIL, TOTAL };

static const struct form_field fields[] = {
    {.name = "actor",
     .type = FORM_STRING,
     .at = offsetof(struct audit_filter, actor),
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = 128},
    {.name = "action",
     .type = FORM_STRING,
     .at = offsetof(struct audit_filter, action),
     .class = FORM_IDENTIFIER,
     .min = 1,
     .max = 64},
    {.name = "since",
     .type = FORM_STRING,
     .at = offsetof(struct audit_filter, since),
     .class = FORM_LINE,
     .min = 1,
     .max = 40},
};
static const struct form filter_form = FORM_OF(struct audit_filter, fields);

struct listing {
    struct query q;
    struct page page;
};

static void put_row(struct json_writer *w, const struct pg_rows *rows, unsigned i)
{
    static const struct {
        const char *name;
        enum column column;
    } texts[] = {
        {"at", AT},         {"actor", ACTOR},     {"actor_ip", ACTOR_IP},    {"action", ACTION},
        {"target", TARGET}, {"outcome", OUTCOME}, {"request_id", REQUEST_ID}};

    json_obj(w);
    json_kv_int(w, "id", pg_int(rows, i, ID));
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
        query_put_text(w, texts[k].name, pg_text(rows, i, texts[k].column));
    if (pg_is_null(rows, i, DETAIL))
        json_kv_null(w, "detail");
    else
        json_kv_raw(w, "detail", pg_text(rows, i, DETAIL));
    json_obj_end(w);
}

static void on_page(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct listing *l = arg;
    struct json_writer w;
    struct buf out;

    query_over(&l->q);
    if (err == GW_EBADREQ) {
        query_refuse(&l->q, err, SLICE("`since` is no moment, as 2026-01-31T12:00:00Z is."));
        return;
    }
    if (err) {
        query_fail(&l->q, err);
        return;
    }
    buf_init(&out, QUERY_MAX_OUT);
    page_begin(&w, &out);
    for (unsigned i = 0; i < pg_count(rows); i++)
        put_row(&w, rows, i);
    query_page(&l->q, &l->page, pg_count(rows) ? pg_int(rows, 0, TOTAL) : 0, &w);
}

void trail_list(struct request *req)
{
    struct audit_filter f = {.actor = SLICE_NONE};
    struct listing *l;
    struct page page;

    if (!page_read(req, &page) || !form_query(req, &filter_form, &f, NULL))
        return;
    l = query_new(req, struct listing);
    if (!l)
        return;
    l->page = page;
    query_wait(&l->q, audit_page(&f, page.per_page, page.offset, req->deadline_us, on_page, l));
}
