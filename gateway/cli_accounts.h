/*
 * cli_accounts.h - operator commands on users and API keys, straight against the database.
 *
 * Statuses: 0 done, 1 failed (the reason on standard error), 2 wrong usage, 78 no usable
 * configuration. What is secret is printed once, alone on a line of standard output, so that
 * scripts can take it.
 */
#pragma once

/* postern user add NAME [--admin] [--email ADDRESS] [--team NAME] [--password-stdin] */
int cli_user(int argc, char **argv);
extern const char cli_user_usage[];

/* postern apikey create --owner NAME --name TEXT [--scopes A,B] [--models A,B] [--rpm N] [--tpm N]
 *                       [--budget USD] [--period day|week|month|total] [--expires-days N]
 * postern apikey list [--owner NAME]
 * postern apikey revoke ID|PREFIX */
int cli_apikey(int argc, char **argv);
extern const char cli_apikey_usage[];
