/*
 * media.h - media types of images, files and sound in a conversation, shared by the dialects.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/slice.h"

/* A media type without its parameters and the spaces around it. */
struct slice media_essence(struct slice mime);

/* True when `mime`, parameters aside and without regard to case, is `want`. */
bool media_is(struct slice mime, const char *want);

/* True for text/... and for JSON and XML: what a model can be shown as plain text. */
bool media_is_text(struct slice mime);

/* Media type by the extension of a file name or URL (query and fragment aside), or `fallback`. */
struct slice media_guess(struct slice name, struct slice fallback);

/* True for http:// and https:// URLs. */
bool media_is_http(struct slice url);

/* The text that base64 data holds, in the arena; p == NULL when it is not base64, not UTF-8, or out
 * of memory. */
struct slice media_text(struct arena *a, struct slice base64);

/* data:<type>[;parameter]*;base64,<data>. False when it is not of this form, or holds nothing. */
bool media_split_data_url(struct slice url, struct slice *ret_mime, struct slice *ret_data);

/* An http(s) URL with a host and without spaces or control characters. */
bool media_is_web_url(struct slice url);

/* True when there is nothing but white space. */
bool media_is_blank(struct slice text);
