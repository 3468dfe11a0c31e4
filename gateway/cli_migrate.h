/* cli_migrate.h - postern migrate: the database's schema, by hand and from deployment scripts. */
#pragma once

/*
 * postern migrate up [--to N] | down N | status, with [--wait S] [--conf DIR] [--env-file FILE].
 * Statuses: 0 done or nothing to do, 1 failed (rolled back; the reason on standard error), 2 wrong
 * usage, 3 (status) steps are pending, 78 no DATABASE_URL or a bad one.
 */
int cli_migrate(int argc, char **argv);
extern const char cli_migrate_usage[];
