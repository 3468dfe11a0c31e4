/*
 * admin_config.c - the configuration in force, and reading it again.
 *
 * GET /api/v1/admin/config answers {generation, dir, keys: [{field, key, value, source, default,
 * reloadable}]}, in which secrets are "[redacted]"; POST /api/v1/admin/config/reload {reloaded,
 * generation, workers, warnings: [...]}, or 422 with every problem, and the old one is kept.
 *
 *     admin_reload --asked--> WAIT --on_reloaded--> end
 *                               '--client gone, deadline--> end
 *
 * The reload is the one of SIGHUP: with several workers all of them read the files, and the answer
 * is that of the worker that was asked (each reads the same files).
 */
#include "gateway/core/json.h"
#include "gateway/core/reload.h"
#include "gateway/http/form.h"
#include "handlers/admin.h"

#define MAX_OUT (4u << 20)

struct reloading {
    struct request *req; /* counted reference, dropped by reloading_end() */
    struct reload_wait wait;
};

/* --- what is in force ------------------------------------------------------------------------- */

static void put_key(const char *field, const char *key, const char *value, const char *origin,
                    void *arg)
{
    struct json_writer *w = arg;

    json_obj(w);
    json_kv_cstr(w, "field", field);
    json_kv_cstr(w, "key", key[0] ? key : NULL);
    json_kv_cstr(w, "value", value);
    json_kv_cstr(w, "source", origin);
    json_kv_cstr(w, "default", conf_default(field));
    json_kv_bool(w, "reloadable", conf_is_reloadable(field));
    json_obj_end(w);
}

void admin_config(struct request *req)
{
    const struct conf *c = conf_current();
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_int(&w, "generation", c->generation);
    json_kv_cstr(&w, "dir", c->dir);
    json_kv_arr(&w, "keys");
    conf_each(c, put_key, &w);
    json_arr_end(&w);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

/* --- reading it again ------------------------------------------------------------------------- */

/* "gateway.yaml:12", or the file alone, or nothing. */
static struct slice place_of(struct arena *a, const struct problem *p)
{
    if (p->line)
        return arena_printf(a, "%s:%u", p->file, p->line);
    return arena_dup(a, slice_cstr(p->file));
}

static void answer_applied(struct request *req, const struct reload_result *r)
{
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_bool(&w, "reloaded", true);
    json_kv_int(&w, "generation", r->generation);
    json_kv_int(&w, "workers", req->conf->workers);
    json_kv_arr(&w, "warnings");
    for (unsigned i = 0; i < r->problems->n; i++) {
        const struct problem *p = &r->problems->items[i];
        struct slice place = place_of(req->arena, p);

        json_put_str(&w, arena_printf(req->arena, "%.*s%s%s", SLICE_ARG(place), place.n ? ": " : "",
                                      p->text));
    }
    json_arr_end(&w);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

static void answer_refused(struct request *req, const struct reload_result *r)
{
    struct error_detail d = {0};
    struct error_item *items = arena_array(req->arena, struct error_item, FORM_MAX_ERRORS);

    if (!items || !r->problems) {
        request_fail(req, GW_ENOMEM, NULL);
        return;
    }
    for (unsigned i = 0; i < r->problems->n && d.n_items < FORM_MAX_ERRORS; i++) {
        const struct problem *p = &r->problems->items[i];

        if (p->warning)
            continue;
        items[d.n_items].param = place_of(req->arena, p);
        items[d.n_items++].detail = arena_dup(req->arena, slice_cstr(p->text));
    }
    d.items = items;
    d.message = arena_printf(
        req->arena, "The configuration has %u problem%s; generation %u stays in force.",
        r->problems->errors, r->problems->errors == 1 ? "" : "s", r->generation);
    request_fail(req, GW_ESCHEMA, &d);
}

/* The only exit. */
static void reloading_end(struct reloading *r)
{
    reload_forget(&r->wait);
    request_on_abort(r->req, NULL, NULL);
    request_unref(r->req);
}

static void on_reloaded(const struct reload_result *result, void *arg)
{
    struct reloading *r = arg;
    struct slice detail = arena_printf(r->req->arena, "{\"generation\":%u}", result->generation);

    admin_audit(r->req, "config.reload", SLICE("configuration"), result->applied ? "ok" : "refused",
                detail);
    if (result->applied)
        answer_applied(r->req, result);
    else
        answer_refused(r->req, result);
    reloading_end(r);
}

static void on_client_gone(struct request *req, void *arg)
{
    request_finish(req, GW_EGONECLIENT, SLICE_NONE);
    reloading_end(arg);
}

void admin_reload(struct request *req)
{
    struct reloading *r = arena_new(req->arena, struct reloading);

    if (!r || !form_read_nothing(req)) {
        request_fail(req, GW_ENOMEM, NULL); /* ignored when the form has answered */
        return;
    }
    r->req = req;
    r->wait.done = on_reloaded;
    r->wait.arg = r;
    if (!reload_ask(&r->wait)) {
        request_fail(req, GW_EDRAIN, NULL);
        return;
    }
    request_ref(req);
    request_on_abort(req, on_client_gone, r);
}
