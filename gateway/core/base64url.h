/*
 * base64url.h - RFC 4648, section 5, without padding: the text form of keys and tokens.
 *
 * Reading is strict, so that no two texts mean the same bytes: no `=`, no `+` or `/`, no white
 * space, no left-over bits that are not zero, no length that encodes nothing.
 */
#pragma once

#include "gateway/core/slice.h"

/* Characters that n bytes become. */
#define BASE64URL_CHARS(n) (((n) / 3) * 4 + ((n) % 3 ? (n) % 3 + 1 : 0))

/* Writes BASE64URL_CHARS(n) characters and no terminator; returns their number. */
size_t base64url_encode(char *to, const void *bytes, size_t n);

/* Writes the bytes of `text` and their number. False, with undefined bytes in `to`, when `text` is
 * not exactly what base64url_encode() writes, or its bytes are more than `size`. */
bool base64url_decode(void *to, size_t size, struct slice text, size_t *ret_n);

/* True when all characters are of the alphabet (a cheap look before a costly one). */
bool base64url_is_text(struct slice text);
