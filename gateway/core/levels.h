/*
 * levels.h - log levels that were changed while running, for all workers.
 *
 * The last changes stand in memory all workers share. Who makes one tells the others through the
 * supervisor (SIGUSR1), and each applies what it has not seen yet. Reading the configuration again
 * ends them: its levels are in force then.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#define LEVELS_COMPONENT_BYTES 32u

/* Maps the memory; before the workers are forked. GW_ENOMEM. */
enum gw_err levels_init(void) MUST_CHECK;
void levels_deinit(void);

/* Notes a change; "" is the level of all components without their own. levels_apply() puts it in
 * force, here and in the other workers. False when the component's name is too long. */
bool levels_change(struct slice component, enum log_level level);

/* Puts in force, in this process, what was changed since it last looked. */
void levels_apply(void);

/* The configuration's levels are in force: all changes so far are over. */
void levels_forget(void);
