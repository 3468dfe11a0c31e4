/*
 * main.c - the program's sub-commands, the ordered table of subsystems, run, stop; nothing else.
 *
 * Exit statuses: 0 well, 1 failed, 2 wrong usage, 78 (EX_CONFIG) configuration or start-up refused.
 */
#include "gateway/cli.h"
#include "gateway/cli_accounts.h"
#include "gateway/cli_migrate.h"
#include "gateway/serve.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
    const char *usage, *help;
    const char *details; /* a longer usage for `postern NAME --help`; NULL = `usage` says it all */
};

static int command_help(int argc, char **argv);

static int command_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("postern %s\n", POSTERN_VERSION);
    return 0;
}

static const struct command commands[] = {
    {"serve", serve_command, "[--conf DIR] [--env-file FILE]", "run the gateway"},
    {"check", serve_check_command, "[--conf DIR] [--env-file FILE]",
     "validate configuration and environment, print every problem"},
    {"migrate", cli_migrate, "up [--to N] | down N | status",
     "bring the database to this program's schema", cli_migrate_usage},
    {"health", cli_health, "[URL]", "ask a running instance whether it is ready"},
    {"keygen", cli_keygen, "", "print a random secret for JWT_SECRET_KEY or POSTERN_MASTER_KEY"},
    {"user", cli_user, "add NAME [--admin] ...", "add a user; prints a password made for it",
     cli_user_usage},
    {"apikey", cli_apikey, "create|list|revoke ...", "make, list and take back API keys",
     cli_apikey_usage},
    {"fields", cli_fields, "", "print what becomes of every field between the dialects"},
    {"version", command_version, "", "print the version"},
    {"help", command_help, "[COMMAND]", "print this, or how a command is used"},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *to)
{
    size_t i;

    fprintf(to, "postern %s: an AI gateway\n\n", POSTERN_VERSION);
    for (i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  postern %-8s %-32s %s\n", commands[i].name, commands[i].usage,
                commands[i].help);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    fprintf(stderr, "postern: unknown command \"%s\"; try `postern help`\n", name);
    return NULL;
}

static int explain(const struct command *c, FILE *to)
{
    fprintf(to, "usage: postern %s %s\n", c->name, c->details ? c->details : c->usage);
    fprintf(to, "\n%s\n", c->help);
    return to == stdout ? 0 : 2;
}

static int command_help(int argc, char **argv)
{
    const struct command *c = argc > 1 ? find_command(argv[1]) : NULL;

    if (c)
        return explain(c, stdout);
    if (argc > 1)
        return 2;
    print_usage(stdout);
    return 0;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int run(const struct command *c, int argc, char **argv)
{
    if (asks_for_help(argc, argv))
        return explain(c, stdout);
    if (!*c->usage && argc > 1) /* `postern keygen --hepl` must not pass for a secret */
        return explain(c, stderr);
    return c->run(argc, argv);
}

int main(int argc, char **argv)
{
    const struct command *c;

    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return command_version(argc, argv);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return command_help(argc, argv);
    c = find_command(argv[1]);
    return c ? run(c, argc - 1, argv + 1) : 2;
}
