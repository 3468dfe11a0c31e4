/* chat_peek.c - see chat_peek.h. */
#include "handlers/chat_peek.h"

bool chat_peek_exact(struct slice key, const char *name)
{
    return slice_is(key, name);
}

enum gw_err chat_peek_number(struct json object, chat_peek_name is, const char *name, int64_t *ret)
{
    bool seen = false;
    int64_t n = 0;

    if (!json_is(object, JSON_OBJECT))
        return json_exists(object) ? GW_ESCHEMA : GW_OK;
    for (struct json it = json_first(object); json_exists(it); it = json_next(object, it)) {
        if (!is(json_key(it), name))
            continue;
        if (seen)
            return GW_ESCHEMA;
        seen = true;
        if (!json_is(it, JSON_NULL) && (!json_int(it, &n) || n < 1))
            return GW_ESCHEMA;
    }
    *ret = n;
    return GW_OK;
}
