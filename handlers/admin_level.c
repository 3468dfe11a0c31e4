/*
 * admin_level.c - PUT /api/v1/admin/log-level {component?, level}
 *
 * Without a component the level of all that have none of their own. It reaches all workers and
 * holds until the configuration is read again.
 */
#include "gateway/core/json.h"
#include "gateway/core/levels.h"
#include "gateway/core/worker.h"
#include "gateway/http/form.h"
#include "handlers/admin.h"

#include <signal.h>

#define MAX_OUT 4096u

struct asked {
    struct slice component, level;
};

static const struct form_field fields[] = {
    {"component", FORM_STRING, offsetof(struct asked, component), .class = FORM_IDENTIFIER,
     .min = 1, .max = LEVELS_COMPONENT_BYTES - 1},
    {"level", FORM_STRING, offsetof(struct asked, level), true,
     .words = "debug info warn warning error"},
};
const struct form admin_level_form = FORM_OF(struct asked, fields);

static void answer(struct request *req, const struct asked *in)
{
    struct json_writer w;
    struct buf out;

    json_begin(&w, &out, MAX_OUT);
    json_obj(&w);
    json_kv_text(&w, "component", in->component);
    json_kv_str(&w, "level", in->level);
    json_obj_end(&w);
    request_finish_buf(req, &out);
}

void admin_level(struct request *req)
{
    struct asked in = {.component = SLICE_NONE};
    enum log_level level = LVL_INFO;

    if (!form_read(req, &in, NULL))
        return;
    if (!log_level_parse(in.level, &level) || !levels_change(in.component, level)) {
        request_fail(req, GW_EINTERNAL, NULL);
        return;
    }
    levels_apply();
    if (worker_supervisor())
        kill(worker_supervisor(), SIGUSR1); /* the others look too */
    admin_audit(req, "log.level", in.component.n ? in.component : SLICE("all"), "ok",
                arena_printf(req->arena, "{\"level\":\"%.*s\"}", SLICE_ARG(in.level)));
    answer(req, &in);
}
