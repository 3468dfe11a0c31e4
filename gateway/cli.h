/* cli.h - sub-commands that do not serve. Each returns the process's exit status. */
#pragma once

/* postern health [URL]: GET, prints the body, 0 when the status was 200. For images without curl.
 * The default is the ready probe of API_HOST and API_PORT. */
int cli_health(int argc, char **argv);

/* postern keygen: 32 random bytes as base64url, 43 characters. */
int cli_keygen(int argc, char **argv);

/* postern fields: the translation table as Markdown (deploy/docs/TRANSLATIONS.md). */
int cli_fields(int argc, char **argv);
