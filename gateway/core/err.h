/*
 * err.h - the one error type. The codes and what they mean outside are rows of err.def.
 *
 * A fallible function returns enum gw_err and is marked MUST_CHECK. Codes a direct caller is
 * expected to handle are named in the function's comment; all others are passed up unchanged.
 */
#pragma once

#include <stdbool.h>

#define MUST_CHECK __attribute__((warn_unused_result))

enum log_level { LVL_DEBUG, LVL_INFO, LVL_WARN, LVL_ERROR };

enum gw_err {
    GW_OK = 0,
#define X(code, status, slug, type, retry, level, title) code,
#include "gateway/core/err.def"
#undef X
    GW_ERR_COUNT
};

struct err_info {
    const char *name;        /* "GW_ENOMEM", for logs */
    int status;              /* HTTP status */
    const char *slug;        /* stable public name */
    const char *openai_type; /* `type` of an OpenAI-shaped error */
    bool retryable;          /* the same request may succeed later */
    enum log_level level;    /* how loud the line is that ends the request */
    const char *title;       /* one sentence without a full stop, safe to show */
};

/* The row of a code; for GW_OK a row with status 200 and slug "ok". Never NULL. */
const struct err_info *err_info(enum gw_err err);
