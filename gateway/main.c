/*
 * main.c - the program's sub-commands, the ordered table of subsystems, run, stop; nothing else.
 *
 * Exit statuses: 0 well, 1 failed, 2 wrong usage, 78 (EX_CONFIG) configuration or start-up refused.
 */
#include "gateway/cli.h"
#include "gateway/cli_accounts.h"
#include "gateway/cli_migrate.h"
#include "gateway/serve.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
    const char *usage, *help;
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
     "bring the database to this program's schema"},
    {"health", cli_health, "[URL]", "ask a running instance whether it is ready"},
    {"keygen", cli_keygen, "", "print a random secret for JWT_SECRET_KEY or POSTERN_MASTER_KEY"},
    {"user", cli_user, "add NAME [--admin] ...", "add a user; prints a password made for it"},
    {"apikey", cli_apikey, "create|list|revoke ...", "make, list and take back API keys"},
    {"fields", cli_fields, "", "print what becomes of every field between the dialects"},
    {"version", command_version, "", "print the version"},
    {"help", command_help, "", "print this"},
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

static int command_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    print_usage(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    size_t i;

    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return command_version(argc, argv);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return command_help(argc, argv);
    for (i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "postern: unknown command \"%s\"; try `postern help`\n", argv[1]);
    return 2;
}
