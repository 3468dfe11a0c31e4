/* callid.c - see callid.h. */
#include "providers/dialect/callid.h"

#include "gateway/core/json.h"

void callid_put(struct buf *out, struct slice id, struct slice signature)
{
    buf_add_char(out, '"');
    json_escape(out, id);
    if (signature.n) {
        buf_add_cstr(out, CALLID_SIGNATURE);
        json_escape(out, signature);
    }
    buf_add_char(out, '"');
}

struct slice callid_split(struct slice *id)
{
    size_t mark_n = strlen(CALLID_SIGNATURE);
    const char *mark = id->n ? memmem(id->p, id->n, CALLID_SIGNATURE, mark_n) : NULL;
    struct slice signature;

    if (!mark)
        return SLICE_NONE;
    signature = slice_from(*id, (size_t)(mark - id->p) + mark_n);
    id->n = (size_t)(mark - id->p);
    return signature;
}
