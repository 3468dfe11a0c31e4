/* problem.c - see problem.h. */
#include "gateway/http/problem.h"

#include "gateway/core/json.h"

int problem_status(enum surface s, enum gw_err err, const struct error_detail *detail)
{
    if (detail && detail->status >= 400 && detail->status <= 599)
        return detail->status;
    if (err == GW_ESCHEMA && s != SURFACE_NATIVE)
        return 400;
    return err_info(err)->status;
}

/* Names of a status in a vendor's vocabulary; the last row is for all others. */
struct status_name {
    int status;
    const char *name;
};

static const struct status_name anthropic_types[] = {
    {400, "invalid_request_error"},
    {401, "authentication_error"},
    {402, "billing_error"},
    {403, "permission_error"},
    {404, "not_found_error"},
    {413, "request_too_large"},
    {429, "rate_limit_error"},
    {503, "overloaded_error"},
    {504, "timeout_error"},
    {529, "overloaded_error"},
    {0, NULL},
};

static const struct status_name google_statuses[] = {
    {401, "UNAUTHENTICATED"},
    {403, "PERMISSION_DENIED"},
    {404, "NOT_FOUND"},
    {408, "DEADLINE_EXCEEDED"},
    {409, "ABORTED"},
    {429, "RESOURCE_EXHAUSTED"},
    {499, "CANCELLED"},
    {501, "UNIMPLEMENTED"},
    {503, "UNAVAILABLE"},
    {504, "DEADLINE_EXCEEDED"},
    {0, NULL},
};

static const char *name_of(const struct status_name *table, int status, const char *client,
                           const char *server)
{
    for (; table->name; table++)
        if (table->status == status)
            return table->name;
    return status < 500 ? client : server;
}

/* What one document is made of. */
struct parts {
    int status;
    const struct err_info *info;
    struct slice message, code, param, request_id, instance;
    const struct error_item *items;
    unsigned n_items;
};

static struct parts parts_of(enum surface s, enum gw_err err, const struct error_detail *d)
{
    struct parts p = {.status = problem_status(s, err, d), .info = err_info(err)};

    p.message = d && d->message.n ? d->message : slice_cstr(p.info->title);
    p.code = d && d->code.n ? d->code : slice_cstr(p.info->slug);
    p.param = d ? d->param : SLICE_NONE;
    p.items = d ? d->items : NULL;
    p.n_items = d ? d->n_items : 0;
    return p;
}

static void write_items(struct json_writer *w, const struct error_item *items, unsigned n)
{
    if (n == 0)
        return;
    json_kv_arr(w, "errors");
    for (unsigned i = 0; i < n; i++) {
        json_obj(w);
        if (items[i].param.n)
            json_kv_str(w, "param", items[i].param);
        else
            json_kv_str(w, "pointer", items[i].pointer);
        json_kv_str(w, "detail", items[i].detail);
        json_obj_end(w);
    }
    json_arr_end(w);
}

static void write_native(struct json_writer *w, const struct parts *p)
{
    const struct error_item one = {.pointer = p->param, .detail = p->message};

    json_obj(w);
    json_put_key(w, "type");
    buf_add_cstr(w->out, "\"urn:postern:problem:");
    buf_add_cstr(w->out, p->info->slug);
    buf_add_char(w->out, '"');
    w->comma = true;
    json_kv_cstr(w, "title", p->info->title);
    json_kv_int(w, "status", p->status);
    json_kv_str(w, "detail", p->message);
    if (p->instance.n)
        json_kv_str(w, "instance", p->instance);
    json_kv_str(w, "code", p->code);
    json_kv_bool(w, "retryable", p->info->retryable);
    json_kv_str(w, "request_id", p->request_id);
    if (p->n_items)
        write_items(w, p->items, p->n_items);
    else
        write_items(w, &one, p->param.n > 0);
    json_obj_end(w);
}

static void write_openai(struct json_writer *w, const struct parts *p)
{
    json_obj(w);
    json_kv_obj(w, "error");
    json_kv_str(w, "message", p->message);
    json_kv_cstr(w, "type", p->info->openai_type);
    json_kv_text(w, "param", p->param);
    json_kv_str(w, "code", p->code);
    json_obj_end(w);
    json_obj_end(w);
}

/* This shape has no member for the field: its vendor puts the name in front of the message. */
static void put_placed_message(struct json_writer *w, const struct parts *p)
{
    json_put_key(w, "message");
    json_put_raw(w, SLICE("\""));
    if (p->param.n && memmem(p->message.p, p->message.n, p->param.p, p->param.n) == NULL) {
        json_escape(w->out, p->param);
        buf_add_cstr(w->out, ": ");
    }
    json_escape(w->out, p->message);
    buf_add_char(w->out, '"');
}

static void write_anthropic(struct json_writer *w, const struct parts *p)
{
    json_obj(w);
    json_kv_cstr(w, "type", "error");
    json_kv_obj(w, "error");
    json_kv_cstr(w, "type",
                 name_of(anthropic_types, p->status, "invalid_request_error", "api_error"));
    put_placed_message(w, p);
    json_obj_end(w);
    json_kv_str(w, "request_id", p->request_id);
    json_obj_end(w);
}

static void write_google(struct json_writer *w, const struct parts *p)
{
    json_obj(w);
    json_kv_obj(w, "error");
    json_kv_int(w, "code", p->status);
    json_kv_str(w, "message", p->message);
    json_kv_cstr(w, "status", name_of(google_statuses, p->status, "INVALID_ARGUMENT", "INTERNAL"));
    json_kv_arr(w, "details");
    json_obj(w);
    json_kv_cstr(w, "@type", "type.googleapis.com/google.rpc.ErrorInfo");
    json_kv_str(w, "reason", p->code);
    json_kv_cstr(w, "domain", "postern");
    json_obj_end(w);
    json_arr_end(w);
    json_obj_end(w);
    json_obj_end(w);
}

void problem_write(enum surface s, enum gw_err err, const struct error_detail *detail,
                   struct slice request_id, struct slice instance, struct buf *out,
                   struct slice *ret_type)
{
    struct parts p = parts_of(s, err, detail);
    struct json_writer w;

    p.request_id = request_id;
    p.instance = instance;
    *ret_type = SLICE("application/json");
    json_writer_init(&w, out);
    switch (s) {
    case SURFACE_NATIVE:
        *ret_type = SLICE("application/problem+json");
        write_native(&w, &p);
        break;
    case SURFACE_OPENAI:
        write_openai(&w, &p);
        break;
    case SURFACE_ANTHROPIC:
        write_anthropic(&w, &p);
        break;
    case SURFACE_GOOGLE:
        write_google(&w, &p);
        break;
    }
}
