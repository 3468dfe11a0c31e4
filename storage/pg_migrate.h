/*
 * pg_migrate.h - brings a database to the program's schema, or back. Blocking: for the command line
 * only, where no loop runs.
 *
 *     connect --> wait for the guard --> look --> step, step, ... --> done
 *                                          '--> refused: changed, unknown or missing steps
 *
 * Each step is one transaction with its row in schema_migrations: it is there as a whole or not at
 * all, and what went before stays. The guard, an advisory lock held by a transaction of a second
 * connection, lets one instance at a time work; a second one waits without a connection of the
 * pool held, and then finds nothing to do. Should the guard be lost (its session was ended), each
 * step still takes a lock of its own and looks again before it acts. Nothing depends on a session,
 * so PgBouncer in transaction mode may stand between, with two server connections at least.
 *
 * A step waits for the locks of its tables a few seconds at most and is then tried again, since all
 * later statements of a serving gateway would queue up behind it.
 */
#pragma once

#include "gateway/core/err.h"

#include <stdbool.h>
#include <stdint.h>

struct pg_migrate_options {
    const char *url;    /* DATABASE_URL */
    unsigned wait_s;    /* longest wait for the guard, and for the locks of one step */
    unsigned lock_ms;   /* one try for the locks of a step */
    unsigned connect_s; /* longest wait for a connection */
    /* Progress, and complaints, a line each without a line end; never the password. */
    void (*say)(void *arg, bool complaint, const char *line);
    void *arg;
};

/*
 * All three: GW_EUNAVAIL the database cannot be reached, GW_EAGAIN another instance held the guard
 * or a table all the time, GW_ECONFLICT the database's steps are not this program's, GW_EINTERNAL a
 * step failed and was rolled back. All were said before they return.
 */

/* Takes all steps up to version `to` (n_migrations: all). A database that is already further is
 * left alone and is no error. */
enum gw_err pg_migrate_up(const struct pg_migrate_options *opt, unsigned to) MUST_CHECK;

/* Takes the last `steps` steps back. */
enum gw_err pg_migrate_down(const struct pg_migrate_options *opt, unsigned steps) MUST_CHECK;

/* Says one line a step; *ret_pending is how many are missing. */
enum gw_err pg_migrate_status(const struct pg_migrate_options *opt,
                              unsigned *ret_pending) MUST_CHECK;
