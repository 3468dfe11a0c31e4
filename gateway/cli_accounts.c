/*
 * cli_accounts.c - see cli_accounts.h.
 *
 * A command is a flow on a loop of its own: configuration, pool, one statement after the other, and
 * the loop stops. Every change is written to the audit record by the same statements as the routes
 * use.
 */
#include "gateway/cli_accounts.h"

#include "gateway/cli_args.h"
#include "gateway/core/base64url.h"
#include "gateway/core/conceal.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"
#include "gateway/core/password.h"
#include "gateway/core/problems.h"
#include "gateway/core/rng.h"
#include "storage/apikeys.h"
#include "storage/audit.h"
#include "storage/keytext.h"
#include "storage/teams.h"
#include "storage/users.h"

#include <openssl/crypto.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_CONFIG 78
#define TIMEOUT_US 15000000u
#define LIST_STEP 1000u
#define NAME_CHARS 64
#define NANO 1000000000

/* --- wrong usage ----------------------------------------------------------------------------- */

const char cli_user_usage[] =
    "add NAME [--admin] [--email ADDRESS] [--team NAME] [--password-stdin]\n\n"
    "  --admin           the user is an administrator\n"
    "  --team NAME       the team whose limits its keys share\n"
    "  --password-stdin  the password is the first line of standard input; else one is made\n"
    "                    and printed, once\n"
    "  Also --conf DIR and --env-file FILE.";
const char cli_apikey_usage[] =
    "create --owner NAME --name TEXT [--scopes A,B] [--models A,B] [--rpm N] [--tpm N]\n"
    "                             [--budget USD] [--period day|week|month|total]\n"
    "                             [--expires-days N]\n"
    "       postern apikey list [--owner NAME]\n"
    "       postern apikey revoke ID|PREFIX\n\n"
    "  create  prints the key, once; without --scopes it may do all its owner may\n"
    "          (chat, embeddings, read, write, admin), without --models use all models\n"
    "  revoke  takes a key back by its id, by the characters `list` shows, or as a whole\n"
    "  Also --conf DIR and --env-file FILE.";

static int usage(const char *command, const char *text)
{
    fprintf(stderr, "usage: postern %s %s\n", command, text);
    return 2;
}

/* --- the run --------------------------------------------------------------------------------- */

struct run {
    struct cli_args args;
    int status;
    char id[37];
    char owner_id[37];
    struct apikey_secret key;
    struct buf scopes, models; /* JSON */
    char stored[PASSWORD_STORED_MAX];
    char password[PASSWORD_MAX + 3];
    bool made_password, untold;
    int64_t rpm, tpm, days, budget_nano_usd;
    int64_t listed;
};

static void end(struct run *r, int status)
{
    r->status = status;
    loop_stop();
}

static void fail(struct run *r, enum gw_err err, const char *what)
{
    fprintf(stderr, "postern: %s: %s\n", what, err_info(err)->title);
    end(r, 1);
}

static uint64_t deadline(void)
{
    return loop_now_us() + TIMEOUT_US;
}

static void on_audited(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;

    if (err)
        fail(r, err, "done, but not written to the audit record");
    else
        end(r, r->untold);
}

/* What is secret goes out as a line of its own. It exists nowhere else, so it must have arrived. */
static void tell_secret(struct run *r, const char *secret)
{
    r->untold = puts(secret) < 0 || fflush(stdout) != 0;
    if (r->untold)
        fprintf(stderr, "postern: done, but what was made cannot be written to standard output\n");
}

/* The last step of every command that changed something. */
static void end_audited(struct run *r, const char *action, const char *target)
{
    struct audit_entry e = {
        .actor = SLICE("cli"), .action = action, .target = slice_cstr(target), .outcome = "ok"};

    if (!audit_insert(&e, deadline(), on_audited, r))
        fail(r, GW_ENOMEM, "done, but not written to the audit record");
}

/* Runs begin(r) on a loop with a pool; the command's status. */
static int run_with_database(struct run *r, void (*begin)(struct run *r))
{
    struct problems ps = {0};
    struct conf *c = conf_load(&r->args.source, &ps);
    bool good = c && ps.errors == 0 && c->database_url.n;

    problems_print(&ps, stderr);
    problems_deinit(&ps);
    if (c && !c->database_url.n)
        fprintf(stderr, "postern: DATABASE_URL is not set\n");
    if (!good) {
        conf_unref(c);
        return EXIT_CONFIG;
    }
    r->status = 1;
    conf_publish(c);
    if (metrics_init(1) || loop_init() || offload_init(1, 16) || pg_init(c)) {
        fprintf(stderr, "postern: cannot start\n");
        return 1;
    }
    begin(r);
    loop_run();
    pg_deinit();
    offload_deinit();
    loop_deinit();
    conf_publish(NULL);
    return r->status;
}

/* --- user add -------------------------------------------------------------------------------- */

static void on_user_added(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct user u;

    if (err == GW_ECONFLICT)
        fprintf(stderr, "postern: there is a user %s already\n", r->args.word);
    if (err || !user_read(rows, 0, &u)) {
        fail(r, err ? err : GW_EINTERNAL, "the user was not added");
        return;
    }
    fprintf(stderr, "user %s, id %.*s, role %.*s\n", r->args.word, SLICE_ARG(u.id),
            SLICE_ARG(u.role));
    if (r->made_password)
        tell_secret(r, r->password);
    end_audited(r, "user.create", r->args.word);
}

static void add_user(struct run *r, struct slice team_id)
{
    struct user_new u = {
        .id = slice_of(r->id, sizeof(r->id) - 1),
        .user_id = slice_cstr(r->args.word),
        .email = slice_cstr(r->args.email),
        .password_hash = slice_cstr(r->stored),
        .role = r->args.admin ? SLICE("admin") : SLICE("user"),
        .team_id = team_id,
    };

    rng_uuid(r->id);
    if (!users_add(&u, deadline(), on_user_added, r))
        fail(r, GW_ENOMEM, "the user was not added");
}

static void on_team(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;

    if (err || pg_count(rows) == 0)
        fail(r, err ? err : GW_ENOTFOUND, "the team");
    else
        add_user(r, pg_text(rows, 0, 0));
}

static void user_begin(struct run *r)
{
    if (!r->args.team)
        add_user(r, SLICE_NONE);
    else if (!teams_by_name(slice_cstr(r->args.team), deadline(), on_team, r))
        fail(r, GW_ENOMEM, "the team");
}

static bool make_password(struct run *r)
{
    unsigned char raw[18];

    rng_fill(raw, sizeof(raw));
    r->password[base64url_encode(r->password, raw, sizeof(raw))] = '\0';
    r->made_password = true;
    return true;
}

/* The first line of standard input, as it is: nothing may be cut off unnoticed. */
static bool read_password(struct run *r)
{
    size_t n = 0;
    int c;

    while ((c = getchar()) != EOF && c != '\n' && n + 1 < sizeof(r->password))
        r->password[n++] = (char)c;
    if (n && c == '\n' && r->password[n - 1] == '\r')
        n--;
    r->password[n] = '\0';
    if (n > PASSWORD_MAX)
        fprintf(stderr, "postern: a password has at most %u bytes\n", PASSWORD_MAX);
    else if (memchr(r->password, '\0', n))
        fprintf(stderr, "postern: a password has no NUL\n");
    else
        return cli_args_text("the password", r->password, FORM_OPAQUE, PASSWORD_MIN, PASSWORD_MAX);
    return false;
}

int cli_user(int argc, char **argv)
{
    struct run r = {0};

    if (argc < 2 || strcmp(argv[1], "add") != 0 ||
        !cli_args_parse(argc, argv, "--admin --email --team --password-stdin", &r.args) ||
        !r.args.word)
        return usage("user", cli_user_usage);
    if (!cli_args_text("NAME", r.args.word, FORM_IDENTIFIER, 1, NAME_CHARS) ||
        !cli_args_text("--email", r.args.email, FORM_EMAIL, 3, 254) ||
        !cli_args_text("--team", r.args.team, FORM_IDENTIFIER, 1, NAME_CHARS) ||
        !(r.args.password_stdin ? read_password(&r) : make_password(&r)))
        return 2;
    if (password_hash_now(slice_cstr(r.password), r.stored))
        return 1;
    return run_with_database(&r, user_begin);
}

/* --- apikey ---------------------------------------------------------------------------------- */

static void on_key_added(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct apikey k;

    if (err == GW_ECONFLICT)
        fprintf(stderr, "postern: %s has a key called %s already\n", r->args.owner, r->args.name);
    if (err || !apikey_read(rows, 0, &k)) {
        fail(r, err ? err : GW_EINTERNAL, "the key was not made");
        return;
    }
    fprintf(stderr, "key %.*s..., id %.*s, owner %s; it is shown this once:\n", SLICE_ARG(k.prefix),
            SLICE_ARG(k.id), r->args.owner);
    tell_secret(r, r->key.key);
    end_audited(r, "apikey.create", r->key.prefix);
}

static void on_owner(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct user u;
    struct apikey_new k;

    if (err || !user_read(rows, 0, &u)) {
        fail(r, err ? err : GW_ENOTFOUND, r->args.owner);
        return;
    }
    rng_uuid(r->id);
    k = (struct apikey_new){
        .id = slice_cstr(r->id),
        .owner_id = u.id,
        .team_id = u.team_id,
        .name = slice_cstr(r->args.name),
        .secret = &r->key,
        .scopes = buf_slice(&r->scopes),
        .models = buf_slice(&r->models),
        .requests_per_minute = r->rpm,
        .tokens_per_minute = r->tpm,
        .budget_nano_usd = r->budget_nano_usd,
        .budget_period = r->args.period,
        .expires_in_s = r->days * 86400,
    };
    if (!apikeys_add(&k, deadline(), on_key_added, r))
        fail(r, GW_ENOMEM, "the key was not made");
}

static void create_begin(struct run *r)
{
    enum gw_err err = apikey_make(&r->key);

    if (err || !users_by_name(slice_cstr(r->args.owner), deadline(), on_owner, r))
        fail(r, err ? err : GW_ENOMEM, "the key was not made");
}

static bool judge_key(struct run *r)
{
    const struct cli_args *a = &r->args;
    enum budget_period p;

    if (a->period && !budget_period_parse(a->period, &p)) {
        fprintf(stderr, "postern: --period must be one of: day week month total\n");
        return false;
    }
    return cli_args_text("--owner", a->owner, FORM_IDENTIFIER, 1, NAME_CHARS) &&
           cli_args_text("--name", a->name, FORM_LINE, 1, 100) &&
           cli_args_number("--rpm", a->rpm, 1000000000, &r->rpm) &&
           cli_args_number("--tpm", a->tpm, 1000000000000, &r->tpm) &&
           cli_args_number("--expires-days", a->days, 3650, &r->days) &&
           cli_args_dollars("--budget", a->budget, &r->budget_nano_usd) &&
           cli_args_list("--scopes", a->scopes, FORM_IDENTIFIER, "chat embeddings read write admin",
                         &r->scopes) &&
           cli_args_list("--models", a->models, FORM_MODEL, NULL, &r->models);
}

static int apikey_create(struct run *r)
{
    r->budget_nano_usd = -1;
    return judge_key(r) ? run_with_database(r, create_begin) : 2;
}

static void print_key(const struct apikey *k)
{
    printf("%.*s  %.*s  %-16.*s %-20.*s %s", SLICE_ARG(k->id), SLICE_ARG(k->prefix),
           SLICE_ARG(k->owner_name), SLICE_ARG(k->name), k->revoked_at.n ? "revoked" : "valid");
    if (k->budget_nano_usd >= 0)
        printf("  budget %" PRId64 ".%02" PRId64 " USD/%.*s", k->budget_nano_usd / NANO,
               k->budget_nano_usd % NANO / (NANO / 100), SLICE_ARG(k->budget_period));
    if (k->expires_at.n)
        printf("  expires %.*s", SLICE_ARG(k->expires_at));
    putchar('\n');
}

static void ask_list(struct run *r);

static void on_list(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct apikey k;

    if (err) {
        fail(r, err, "the keys");
        return;
    }
    for (unsigned i = 0; apikey_read(rows, i, &k); i++)
        print_key(&k);
    r->listed += LIST_STEP;
    if (pg_count(rows) == LIST_STEP)
        ask_list(r);
    else
        end(r, 0);
}

static void ask_list(struct run *r)
{
    if (!apikeys_page(slice_cstr(r->owner_id), LIST_STEP, r->listed, deadline(), on_list, r))
        fail(r, GW_ENOMEM, "the keys");
}

static void on_list_owner(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct user u;

    if (err || !user_read(rows, 0, &u)) {
        fail(r, err ? err : GW_ENOTFOUND, r->args.owner);
        return;
    }
    snprintf(r->owner_id, sizeof(r->owner_id), "%.*s", SLICE_ARG(u.id));
    ask_list(r);
}

static void list_begin(struct run *r)
{
    if (!r->args.owner)
        ask_list(r);
    else if (!users_by_name(slice_cstr(r->args.owner), deadline(), on_list_owner, r))
        fail(r, GW_ENOMEM, "the keys");
}

/* What is given may be a whole key: then nothing but its prefix is looked for, told or recorded. */
static struct slice key_named(const struct run *r)
{
    struct slice word = slice_cstr(r->args.word);

    return keytext_is_key(word) ? slice_of(word.p, APIKEY_PREFIX) : word;
}

static void on_revoked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    char named[64];
    struct apikey k;

    conceal_keys(key_named(r), named, sizeof(named));
    if (err || !apikey_read(rows, 0, &k)) {
        fail(r, err ? err : GW_ENOTFOUND, named);
        return;
    }
    printf("revoked %.*s (%.*s)\n", SLICE_ARG(k.prefix), SLICE_ARG(k.name));
    snprintf(named, sizeof(named), "%.*s", SLICE_ARG(k.prefix));
    end_audited(r, "apikey.revoke", named);
}

static void revoke_begin(struct run *r)
{
    if (!apikeys_revoke(key_named(r), SLICE_NONE, deadline(), on_revoked, r))
        fail(r, GW_ENOMEM, "the key");
}

static int run_apikey(struct run *r, int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct cli_args *a = &r->args;

    if (strcmp(what, "create") == 0 &&
        cli_args_parse(argc, argv,
                       "--owner --name --scopes --models --rpm --tpm --budget --period "
                       "--expires-days",
                       a) &&
        a->owner && a->name && !a->word)
        return apikey_create(r);
    if (strcmp(what, "list") == 0 && cli_args_parse(argc, argv, "--owner", a) && !a->word)
        return run_with_database(r, list_begin);
    if (strcmp(what, "revoke") == 0 && cli_args_parse(argc, argv, "", a) && a->word)
        return run_with_database(r, revoke_begin);
    return usage("apikey", cli_apikey_usage);
}

int cli_apikey(int argc, char **argv)
{
    struct run r = {0};
    int status = run_apikey(&r, argc, argv);

    buf_deinit(&r.scopes);
    buf_deinit(&r.models);
    OPENSSL_cleanse(&r.key, sizeof(r.key));
    return status;
}
