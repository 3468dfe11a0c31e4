/* err.c - the table behind err.h. */
#include "gateway/core/err.h"

#include <assert.h>

static const struct err_info rows[GW_ERR_COUNT] = {
    [GW_OK] = {"GW_OK", 200, "ok", "", false, LVL_INFO, "OK"},
#define X(code, status, slug, type, retry, level, title)                                           \
    [code] = {#code, status, slug, type, retry, level, title},
#include "gateway/core/err.def"
#undef X
};

const struct err_info *err_info(enum gw_err err)
{
    assert(err < GW_ERR_COUNT);
    return &rows[err];
}
