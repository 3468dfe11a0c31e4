/*
 * sanitize.h - makes text from outside safe for one use: HTML, a search, a file's name, a URL to be
 * fetched. What cannot be made safe is refused.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/buf.h"
#include "gateway/core/slice.h"

/* Appends the text escaped for HTML, element content and quoted attributes alike. */
void sanitize_html(struct buf *out, struct slice text);

/* A search text: control characters gone, white space collapsed to single blanks, none at the ends,
 * no more than max_chars characters. Must be UTF-8. p == NULL out of memory. */
struct slice sanitize_query(struct arena *a, struct slice text, size_t max_chars);

/*
 * A name a file may be kept or offered under: the last component of whatever path there is, without
 * control or special characters, not hidden, no device of Windows, 1 to 255 bytes, its extension
 * kept. "file" when nothing is left. Must be UTF-8. p == NULL out of memory.
 */
struct slice sanitize_filename(struct arena *a, struct slice name);

/*
 * May the program fetch this URL for a caller? NULL when it may, else why not: another scheme than
 * http and https, credentials, no host, an address or name that is not public (loopback, private,
 * link-local, multicast, reserved; in any notation the C library would read; IPv4 inside IPv6;
 * localhost, .local, .internal, names without a dot). The addresses a name resolves to must be
 * asked about one by one with sanitize_is_public().
 */
const char *sanitize_url(struct slice url);

/* Is the address (AF_INET: 4 bytes, AF_INET6: 16) one of the public internet? */
bool sanitize_is_public(int family, const unsigned char *bytes);
