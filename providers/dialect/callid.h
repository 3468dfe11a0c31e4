/*
 * callid.h - ids of tool calls that carry a signature to the client and back.
 *
 * Gemini signs its tool calls, and wants the signature back with the call. Clients send a call's id
 * back and often nothing else: SDKs drop members they do not know, and Anthropic's form has no
 * member for it at all. So the signature travels inside the id, behind a mark.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/slice.h"

/* Between the id and the signature (LiteLLM's and agentgateway's mark). */
#define CALLID_SIGNATURE "__thought__"

/* Writes the JSON string of `id` with `signature` (may be empty) in it. */
void callid_put(struct buf *out, struct slice id, struct slice signature);

/* Takes the signature off an id it travelled in and returns it; empty when there is none. */
struct slice callid_split(struct slice *id);
