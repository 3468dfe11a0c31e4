/* conceal.h - text from outside that is to be logged or kept, without the keys people put in the
 * wrong place. */
#pragma once

#include "gateway/core/slice.h"

/* Copies text to `to`, cut to its size and terminated. Whatever looks like an API key or a token
 * (ours, or a provider's) is cut to its first characters, by which it can be recognised. */
void conceal_keys(struct slice text, char *to, size_t size);
