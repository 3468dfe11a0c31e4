/* day.h - days of the calendar (UTC): how they are written in configuration, bodies and headers. */
#pragma once

#include "gateway/core/slice.h"

#include <stdint.h>

/* "2026-01-01" to the second it begins at, since 1970. False when there is no such day. */
bool day_parse(struct slice text, int64_t *ret_unix_s);

/* A moment as HTTP writes it: "Thu, 01 Jan 2026 00:00:00 GMT" (RFC 9110, 5.6.7), whatever the
 * locale. Returns the text in `out`; empty for moments no date can tell. */
#define DAY_HTTP_BYTES 32
struct slice day_http(int64_t unix_s, char out[DAY_HTTP_BYTES]);
