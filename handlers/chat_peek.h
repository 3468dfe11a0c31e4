/*
 * chat_peek.h - what must be known of a conversation that nobody here can read, and that goes
 * through to a provider which may: how much it can write at most, and how often.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/json.h"

/* Is a member's key this name? Dialects differ in how they may be spelled. */
typedef bool (*chat_peek_name)(struct slice key, const char *name);
bool chat_peek_exact(struct slice key, const char *name);

/* Reads a member that is a whole number from 1 up; 0 when it is not given, or null. GW_ESCHEMA when
 * it is something else, or there twice: readers differ in which one they take. */
enum gw_err chat_peek_number(struct json object, chat_peek_name is, const char *name,
                             int64_t *ret) MUST_CHECK;
