/* screen.c - see screen.h. */
#include "gateway/http/screen.h"

#include "gateway/core/metrics.h"
#include "gateway/http/router.h"

#define MAX_NAMES 256u

bool screen_free(const struct conf *c, unsigned *kinds, struct slice text)
{
    if (slice_is(c->free_text_policy, "off"))
        return false;
    return screen_strict(kinds, text) && slice_is(c->free_text_policy, "reject");
}

bool screen_strict(unsigned *kinds, struct slice text)
{
    unsigned found = detect_scan(text);

    *kinds |= found;
    return found != 0;
}

void screen_tell(struct request *req, unsigned kinds, bool refused)
{
    char names[MAX_NAMES];
    size_t n = 0;

    for (unsigned bit = 0; bit < DETECT_KINDS; bit++) {
        const char *name = detect_name(bit);

        if (!(kinds & (1u << bit)))
            continue;
        metrics_add(metrics_get(M_SECURITY, name, NULL, NULL), 1);
        if (n + strlen(name) + 2 < sizeof(names)) {
            names[n] = ',';
            n = (size_t)(stpcpy(names + n + (n > 0), name) - names);
        }
    }
    if (n)
        log_at(refused ? LVL_WARN : LVL_INFO, &req->log, "suspicious_input",
               F_STR("kinds", slice_of(names, n)),
               F_CSTR("endpoint", req->route ? req->route->path : ""),
               F_STR("subject", req->who.subject),
               F_CSTR("outcome", refused ? "refused" : "passed"));
}
