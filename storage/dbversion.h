/*
 * dbversion.h - is the database's schema the one this program was made for?
 *
 *     OFF (no database)
 *     UNKNOWN --answer--> BEHIND | CURRENT | AHEAD <--answer-- each other
 *
 * Asked at the start and from time to time, soon again while the answer is missing or bad, so that
 * a `postern migrate up` beside the running process is noticed. One per process, on the loop. A
 * program older than the schema (AHEAD) is in order: steps only add.
 */
#pragma once

#include "gateway/core/conf.h"
#include "gateway/core/err.h"

enum dbversion_state {
    DBVERSION_OFF,
    DBVERSION_UNKNOWN,
    DBVERSION_BEHIND,
    DBVERSION_CURRENT,
    DBVERSION_AHEAD
};

/* After pg_init(). Begins to ask when there is a database. */
enum gw_err dbversion_init(const struct conf *c) MUST_CHECK;
void dbversion_deinit(void);

/* fn(state, version of the database, version of the program) on the loop whenever the state has
 * changed; NULL: nobody. May be set before dbversion_init(). */
void dbversion_on_change(void (*fn)(enum dbversion_state state, unsigned there, unsigned program));

enum dbversion_state dbversion_state(void);
