/*
 * problem.h - one internal error, four public shapes: RFC 9457 problem+json on native routes, and
 * the error objects of OpenAI, Anthropic and Google on theirs.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/err.h"
#include "gateway/http/request.h"
#include "gateway/http/router.h"

/* Appends the body; *ret_type is its content type. `detail` may be NULL. */
void problem_write(enum surface s, enum gw_err err, const struct error_detail *detail,
                   struct slice request_id, struct slice instance, struct buf *out,
                   struct slice *ret_type);

/* Status this error is answered with on that surface: the detail's, else the table's (validation
 * errors are 400 on the vendors' surfaces, as the vendors do it, and 422 on native routes). */
int problem_status(enum surface s, enum gw_err err, const struct error_detail *detail);
