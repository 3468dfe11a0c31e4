/*
 * reload.h - asking for the configuration to be read again, and hearing how it went.
 *
 * Who loads (serve.c) and who asks (the administration's route) do not know each other; this is
 * what lies between them. A question asked while files are being read waits for the next reading:
 * what was asked for may have been written too late for this one. With several workers the question
 * goes through the supervisor as SIGHUP, so all of them read; each asker hears of its own worker.
 */
#pragma once

#include "gateway/core/problems.h"

#include <stdbool.h>
#include <sys/queue.h>

struct reload_result {
    bool applied;
    unsigned generation;             /* of the configuration in force now */
    const struct problems *problems; /* errors, or warnings; NULL when nothing could be read */
};

/* One question; the asker's memory, until `done` has been called or reload_forget(). */
struct reload_wait {
    LIST_ENTRY(reload_wait) link;
    void (*done)(const struct reload_result *r, void *arg);
    void *arg;
    bool asked, begun;
};

/* serve.c: how a reading is begun. NULL takes it away. */
void reload_provide(void (*ask)(void));

/* Asks. done(result, arg) runs once, from the loop, never inside. False when nobody can load. */
bool reload_ask(struct reload_wait *w);

/* The asker is not interested any more; done does not run. Harmless after it has. */
void reload_forget(struct reload_wait *w);

/* serve.c: the files are being read from now on; and how it went. */
void reload_begun(void);
void reload_ended(const struct reload_result *r);
