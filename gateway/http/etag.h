/*
 * etag.h - entity tags of JSON answers and If-None-Match (RFC 9110, 8.8.3 and 13.1.2).
 */
#pragma once

#include "gateway/http/request.h"

/*
 * Gives a 200 JSON answer to a GET (or HEAD) on a native route its ETag, unless a handler has set
 * one; not to probes. The tag is weak, a hash of the body before any content-coding. True when the
 * client has that answer already: 304 is to be sent instead.
 */
bool etag_check(struct request *req, int status, struct slice type, struct slice body);

/* Does a value of If-None-Match hold this tag? Weak comparison; `*` holds any. What is malformed
 * holds nothing from there on. */
bool etag_listed(struct slice list, struct slice tag);

/* The tag of a body; p == NULL out of memory. */
struct slice etag_of(struct arena *a, struct slice body);
