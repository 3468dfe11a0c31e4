/* cli_migrate.c - see cli_migrate.h. */
#include "gateway/cli_migrate.h"

#include "gateway/core/conf.h"
#include "gateway/core/problems.h"
#include "storage/migrations.h"
#include "storage/pg.h"
#include "storage/pg_migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_PENDING 3
#define EXIT_CONFIG 78
#define LOCK_MS_MIN 100u
#define LOCK_MS_MAX 3000u

struct migrate_args {
    const char *verb;
    struct conf_source source;
    unsigned count; /* up: the version to reach; down: steps */
    unsigned wait_s;
};

const char cli_migrate_usage[] =
    "up [--to N] | down N | status\n"
    "           [--wait SECONDS] [--conf DIR] [--env-file FILE]\n\n"
    "  up      take all steps that are missing, or those up to version N\n"
    "  down N  take the last N steps back (their data is lost)\n"
    "  status  list the steps; exit status 3 when some are missing\n"
    "  --wait  longest wait for another instance or a locked table (60)";

static int usage(void)
{
    fprintf(stderr, "usage: postern migrate %s\n", cli_migrate_usage);
    return 2;
}

static bool read_count(const char *text, unsigned max, unsigned *ret)
{
    size_t n = strspn(text, "0123456789");
    unsigned long v = strtoul(text, NULL, 10);

    if (n == 0 || n > 6 || text[n] || v > max)
        return false;
    *ret = (unsigned)v;
    return true;
}

static bool read_option(struct migrate_args *a, const char *name, const char *value)
{
    if (strcmp(name, "--conf") == 0)
        a->source.dir = value;
    else if (strcmp(name, "--env-file") == 0)
        a->source.env_file = value;
    else if (strcmp(name, "--wait") == 0)
        return read_count(value, 86400, &a->wait_s);
    else if (strcmp(name, "--to") == 0 && strcmp(a->verb, "up") == 0)
        return read_count(value, n_migrations, &a->count);
    else
        return false;
    return true;
}

static bool parse(int argc, char **argv, struct migrate_args *a)
{
    int i = 2;

    if (argc < 2)
        return false;
    a->verb = argv[1];
    a->count = n_migrations;
    if (strcmp(a->verb, "down") == 0) {
        if (argc < 3 || !read_count(argv[2], 999999, &a->count) || a->count == 0)
            return false;
        i = 3;
    } else if (strcmp(a->verb, "up") != 0 && strcmp(a->verb, "status") != 0) {
        return false;
    }
    for (; i + 1 < argc; i += 2)
        if (!read_option(a, argv[i], argv[i + 1]))
            return false;
    return i == argc;
}

/* Not the checks of production: the job that migrates need not hold the gateway's secrets. */
static struct conf *load(const struct migrate_args *a)
{
    struct problems ps = {0};
    struct conf *c = conf_load(&a->source, &ps);
    bool bad = ps.errors > 0;

    if (bad)
        problems_print(&ps, stderr);
    problems_deinit(&ps);
    if (!c || bad) {
        conf_unref(c);
        return NULL;
    }
    if (c->database_url.n == 0)
        fprintf(stderr, "postern: DATABASE_URL is not set\n");
    else if (!pg_url_ok(c->database_url.p))
        fprintf(stderr, "DATABASE_URL: has a keyword or value libpq does not know\n");
    else
        return c;
    conf_unref(c);
    return NULL;
}

/* One try for a table's locks: a twentieth of the whole wait, within reason. */
static unsigned lock_ms(unsigned wait_s)
{
    unsigned ms = wait_s * 50u;

    return ms < LOCK_MS_MIN ? LOCK_MS_MIN : ms > LOCK_MS_MAX ? LOCK_MS_MAX : ms;
}

static void on_line(void *arg, bool complaint, const char *line)
{
    (void)arg;
    fprintf(complaint ? stderr : stdout, complaint ? "postern: %s\n" : "%s\n", line);
    fflush(stdout);
}

int cli_migrate(int argc, char **argv)
{
    struct migrate_args a = {.wait_s = 60};
    struct pg_migrate_options opt = {.connect_s = 10, .say = on_line};
    unsigned pending = 0;
    enum gw_err err;
    struct conf *c;

    if (!parse(argc, argv, &a))
        return usage();
    c = load(&a);
    if (!c)
        return EXIT_CONFIG;
    opt.url = c->database_url.p;
    opt.wait_s = a.wait_s;
    opt.lock_ms = lock_ms(a.wait_s);
    if (strcmp(a.verb, "up") == 0)
        err = pg_migrate_up(&opt, a.count);
    else if (strcmp(a.verb, "down") == 0)
        err = pg_migrate_down(&opt, a.count);
    else
        err = pg_migrate_status(&opt, &pending);
    conf_unref(c);
    if (err)
        fprintf(stderr, "postern: migrate %s: %s\n", a.verb, err_info(err)->title);
    return err ? 1 : pending ? EXIT_PENDING : 0;
}
