/*
 * chat_screen.h - looks at the prose of a conversation before it is answered (screen.h): at all
 * that is not the assistant's, however long. A long one takes several turns of the loop, so that
 * nobody else waits for it.
 */
#pragma once

#include "handlers/chat.h"

enum chat_screen_step {
    SCREEN_PASSED,
    SCREEN_LATER,  /* on_screened(c, passed) will be called on the loop; c->screening is set
                      meanwhile */
    SCREEN_REFUSED /* the request has been answered */
};

enum chat_screen_step chat_screen(struct chat *c, void (*on_screened)(struct chat *c, bool passed));
