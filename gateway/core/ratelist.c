/* ratelist.c - see ratelist.h. */
#include "gateway/core/ratelist.h"

#include "gateway/core/yaml.h"

#define RATE_MAX 1000000000
#define ROUTE_MAX_BYTES 160u /* it becomes part of a key in Redis and of a header */

static bool is_method(struct slice s)
{
    static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    unsigned i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_is(s, names[i]))
            return true;
    }
    return false;
}

/* A template of the route table: visible ASCII that needs no escape in a quoted string. */
static bool is_template(struct slice s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        if (s.p[i] <= ' ' || s.p[i] > '~' || s.p[i] == '"' || s.p[i] == '\\')
            return false;
    }
    return s.n && s.p[0] == '/';
}

static bool is_rate(struct slice s, int64_t *ret)
{
    return s.n && s.p[0] >= '0' && s.p[0] <= '9' && yaml_text_int(s, ret) == GW_OK && *ret >= 1 &&
           *ret <= RATE_MAX;
}

enum gw_err ratelist_parse(struct slice text, struct ratelist_item *ret)
{
    struct slice s = slice_trim(text), rates;
    const char *eq = s.n ? memrchr(s.p, '=', s.n) : NULL;
    struct ratelist_item it = {0};
    size_t space, slash;

    if (!eq)
        return GW_EBADREQ;
    it.route = slice_of(s.p, (size_t)(eq - s.p));
    rates = slice_from(s, it.route.n + 1);
    space = slice_find(it.route, ' ');
    slash = slice_find(rates, '/');
    it.method = slice_of(it.route.p, space);
    it.path = slice_from(it.route, space + 1);
    if (it.route.n > ROUTE_MAX_BYTES || !is_method(it.method) || !is_template(it.path) ||
        !is_rate(slice_of(rates.p, slash), &it.rate.per_minute) ||
        !is_rate(slice_from(rates, slash + 1), &it.rate.burst))
        return GW_EBADREQ;
    *ret = it;
    return GW_OK;
}
