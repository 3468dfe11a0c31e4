/*
 * turns.h - turning the loop until something is so. What never comes is a failure that names it,
 * not a hang: the wait is bounded by the machine's own clock, whichever the test has put under the
 * loop. A loop with nothing due waits: something (a timer, a socket) must be there to turn it.
 */
#pragma once

#include "gateway/core/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#define TURNS_PATIENCE_S 30

static inline time_t turns_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

#define turn_until(condition)                                                                      \
    do {                                                                                           \
        time_t end_ = turns_seconds() + TURNS_PATIENCE_S;                                          \
                                                                                                   \
        while (!(condition)) {                                                                     \
            if (turns_seconds() > end_)                                                            \
                fail_msg("%s: never came to be", #condition);                                      \
            loop_turn();                                                                           \
        }                                                                                          \
    } while (0)
