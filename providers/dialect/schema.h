/*
 * schema.h - a client's JSON schema in the dialect of JSON schema that a provider knows.
 *
 * Both functions take the schema's text, which must be one JSON object, and give the new text in
 * the arena. Numbers keep their digits. `ret_lossy` says whether a constraint was left out or put
 * in words (annotations such as $schema or examples do not count).
 *
 * GW_EBADREQ: no object, over 10,000 tokens or 1 MiB, nested more than 32 deep, or grown over 5,000
 * schemas once its references are inlined. GW_ENOMEM.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

/*
 * The subset of OpenAPI 3.0 that Gemini's `parameters` and `responseSchema` know: $ref inlined (a
 * cycle ends as a plain object), allOf merged, oneOf as anyOf, null as `nullable`, type arrays as
 * anyOf, const as enum, types in capitals, formats and keywords by an allow-list.
 */
enum gw_err schema_to_openapi(struct arena *a, struct slice schema, struct slice *ret,
                              bool *ret_lossy) MUST_CHECK;

/*
 * The subset that Anthropic's structured outputs and strict tools know: objects closed with
 * additionalProperties false, and what the vendor would refuse (minimum, maxLength, ...) told in
 * the description instead.
 */
enum gw_err schema_close(struct arena *a, struct slice schema, struct slice *ret,
                         bool *ret_lossy) MUST_CHECK;
