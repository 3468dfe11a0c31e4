/* trail.c - see trail.h. */
#include "handlers/trail.h"

#include "gateway/http/form.h"
#include "handlers/query.h"
#include "storage/audit.h"

/* The columns of audit_page(), in its order. */
enum column { ID, AT, ACTOR, ACTOR_IP, ACTION, TARGET, OUTCOME, REQUEST_ID, DETAIL, TOTAL };

static const struct form_field fields[] = {
    {"actor", FORM_STRING, offsetof(struct audit_filter, actor), .class = FORM_IDENTIFIER, .min = 1,
     .max = 128},
    {"action", FORM_STRING, offsetof(struct audit_filter, action), .class = FORM_IDENTIFIER,
     .min = 1, .max = 64},
    {"since", FORM_STRING, offsetof(struct audit_filter, since), .class = FORM_LINE, .min = 1,
     .max = 40},
};
static const struct form filter_form = FORM_OF(struct audit_filter, fields);

static int64_t put_row(struct json_writer *w, const struct pg_rows *rows, unsigned i)
{
    static const struct {
        const char *name;
        enum column column;
    } texts[] = {
        {"at", AT},         {"actor", ACTOR},     {"actor_ip", ACTOR_IP},    {"action", ACTION},
        {"target", TARGET}, {"outcome", OUTCOME}, {"request_id", REQUEST_ID}};

    json_kv_int(w, "id", pg_int(rows, i, ID));
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
        json_kv_text(w, texts[k].name, pg_text(rows, i, texts[k].column));
    if (pg_is_null(rows, i, DETAIL))
        json_kv_null(w, "detail");
    else
        json_kv_raw(w, "detail", pg_text(rows, i, DETAIL));
    return pg_int(rows, i, TOTAL);
}

static void on_page(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct query_list *l = arg;

    if (query_good_or(&l->q, err, GW_EBADREQ,
                      SLICE("`since` is no moment, as 2026-01-31T12:00:00Z is.")))
        query_list_done(err, rows, l);
}

void trail_list(struct request *req)
{
    struct audit_filter f = {.actor = SLICE_NONE};
    struct query_list *l;
    struct page page;

    if (!page_read(req, &page) || !form_query(req, &filter_form, &f, NULL))
        return;
    l = query_list_new(req, &page, put_row);
    if (l)
        query_wait(&l->q, audit_page(&f, page.per_page, page.offset, req->deadline_us, on_page, l));
}
