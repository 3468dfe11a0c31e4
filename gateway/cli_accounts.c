/*
 * cli_accounts.c - see cli_accounts.h.
 *
 * A command is a flow on a loop of its own: configuration, pool, one statement after the other, and
 * the loop stops. Every change is written to the audit record by the same statements as the routes
 * use.
 */
#include "gateway/cli_accounts.h"

#include "gateway/core/base64url.h"
#include "gateway/core/buf.h"
#include "gateway/core/conf.h"
#include "gateway/core/json.h"
#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/core/offload.h"
#include "gateway/core/password.h"
#include "gateway/core/problems.h"
#include "gateway/core/rng.h"
#include "storage/apikeys.h"
#include "storage/audit.h"
#include "storage/teams.h"
#include "storage/users.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_CONFIG 78
#define TIMEOUT_US 15000000u
#define LIST_MAX 1000
#define NANO 1000000000

/* --- arguments ------------------------------------------------------------------------------- */

struct args {
    struct conf_source source;
    const char *word; /* the one positional argument */
    const char *email, *team, *owner, *name, *scopes, *models, *budget, *period, *rpm, *tpm, *days;
    bool admin, password_stdin;
};

/* Where the value of an option goes, or NULL. */
static const char **option(struct args *a, const char *name)
{
    const struct {
        const char *name;
        const char **to;
    } table[] = {
        {"--conf", &a->source.dir},   {"--env-file", &a->source.env_file},
        {"--email", &a->email},       {"--team", &a->team},
        {"--owner", &a->owner},       {"--name", &a->name},
        {"--scopes", &a->scopes},     {"--models", &a->models},
        {"--budget", &a->budget},     {"--period", &a->period},
        {"--rpm", &a->rpm},           {"--tpm", &a->tpm},
        {"--expires-days", &a->days},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(name, table[i].name) == 0)
            return table[i].to;
    return NULL;
}

static bool parse(int argc, char **argv, struct args *a)
{
    *a = (struct args){0};
    for (int i = 2; i < argc; i++) {
        const char **to = option(a, argv[i]);

        if (strcmp(argv[i], "--admin") == 0)
            a->admin = true;
        else if (strcmp(argv[i], "--password-stdin") == 0)
            a->password_stdin = true;
        else if (to && i + 1 < argc)
            *to = argv[++i];
        else if (!to && argv[i][0] != '-' && !a->word)
            a->word = argv[i];
        else
            return false;
    }
    return true;
}

static bool number(const char *text, int64_t *ret)
{
    char *end = NULL;

    *ret = text ? strtoll(text, &end, 10) : 0;
    return !text || (*text >= '0' && *text <= '9' && *end == '\0' && *ret > 0);
}

/* "12.50" dollars as nano-dollars; -1 when not given. */
static bool dollars(const char *text, int64_t *ret)
{
    int64_t whole = 0, part = 0, scale = NANO;
    char *end = NULL;

    *ret = -1;
    if (!text)
        return true;
    if (*text < '0' || *text > '9')
        return false;
    whole = strtoll(text, &end, 10);
    if (*end == '.')
        for (end++; *end >= '0' && *end <= '9' && scale > 1; end++)
            part += (*end - '0') * (scale /= 10);
    if (*end || whole > INT64_MAX / NANO - 1)
        return false;
    *ret = whole * NANO + part;
    return true;
}

/* "a,b" as ["a","b"]. */
static void json_list(const char *text, struct buf *out)
{
    struct slice rest = slice_cstr(text);
    struct json_writer w;

    buf_init(out, 1u << 16);
    json_writer_init(&w, out);
    json_arr(&w);
    while (rest.n) {
        size_t comma = slice_find(rest, ',');

        json_put_str(&w, slice_trim(slice_of(rest.p, comma)));
        rest = slice_from(rest, comma + 1);
    }
    json_arr_end(&w);
}

static bool known_words(const char *list, const char *const *words)
{
    struct slice rest = slice_cstr(list);

    while (rest.n) {
        size_t comma = slice_find(rest, ',');
        struct slice one = slice_trim(slice_of(rest.p, comma));
        const char *const *w = words;

        while (*w && !slice_is(one, *w))
            w++;
        if (!*w)
            return false;
        rest = slice_from(rest, comma + 1);
    }
    return true;
}

static int usage(const char *text)
{
    fprintf(stderr, "usage: postern %s\n", text);
    return 2;
}

/* --- the run --------------------------------------------------------------------------------- */

struct run {
    struct args args;
    int status;
    char id[37];
    char owner_id[37];
    struct apikey_secret key;
    char stored[PASSWORD_STORED_MAX];
    char password[PASSWORD_MAX + 2];
    bool made_password;
    int64_t rpm, tpm, days, budget_nano_usd;
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
    if (err)
        fail(arg, err, "done, but not written to the audit record");
    else
        end(arg, 0);
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
        puts(r->password);
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

/* From standard input, or made here. */
static bool take_password(struct run *r)
{
    unsigned char raw[18];
    size_t n;

    if (!r->args.password_stdin) {
        rng_fill(raw, sizeof(raw));
        r->password[base64url_encode(r->password, raw, sizeof(raw))] = '\0';
        r->made_password = true;
        return true;
    }
    if (!fgets(r->password, sizeof(r->password), stdin))
        return false;
    n = strcspn(r->password, "\r\n");
    r->password[n] = '\0';
    return n >= PASSWORD_MIN && n <= PASSWORD_MAX;
}

int cli_user(int argc, char **argv)
{
    struct run r = {0};
    size_t n;

    if (argc < 2 || strcmp(argv[1], "add") != 0 || !parse(argc, argv, &r.args) || !r.args.word)
        return usage("user add NAME [--admin] [--email ADDRESS] [--team NAME] [--password-stdin]");
    n = strlen(r.args.word);
    if (n > 64 ||
        strspn(r.args.word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                            "._-@") != n) {
        fprintf(stderr, "postern: a user's name is 1 to 64 letters, digits and ._-@\n");
        return 2;
    }
    if (!take_password(&r)) {
        fprintf(stderr, "postern: a password is %u to %u characters\n", PASSWORD_MIN, PASSWORD_MAX);
        return 2;
    }
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
    puts(r->key.key);
    end_audited(r, "apikey.create", r->key.prefix);
}

static void on_owner(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct buf scopes, models;
    struct user u;
    struct apikey_new k;

    if (err || !user_read(rows, 0, &u)) {
        fail(r, err ? err : GW_ENOTFOUND, r->args.owner);
        return;
    }
    json_list(r->args.scopes, &scopes);
    json_list(r->args.models, &models);
    rng_uuid(r->id);
    k = (struct apikey_new){
        .id = slice_cstr(r->id),
        .owner_id = u.id,
        .team_id = u.team_id,
        .name = slice_cstr(r->args.name),
        .secret = &r->key,
        .scopes = buf_slice(&scopes),
        .models = buf_slice(&models),
        .requests_per_minute = r->rpm,
        .tokens_per_minute = r->tpm,
        .budget_nano_usd = r->budget_nano_usd,
        .budget_period = r->args.period,
        .expires_in_s = r->days * 86400,
    };
    if (!apikeys_add(&k, deadline(), on_key_added, r))
        fail(r, GW_ENOMEM, "the key was not made");
    buf_deinit(&scopes);
    buf_deinit(&models);
}

static void create_begin(struct run *r)
{
    enum gw_err err = apikey_make(&r->key);

    if (err || !users_by_name(slice_cstr(r->args.owner), deadline(), on_owner, r))
        fail(r, err ? err : GW_ENOMEM, "the key was not made");
}

static int apikey_create(struct run *r)
{
    static const char *const scopes[] = {"chat", "embeddings", "read", "write", "admin", NULL};
    enum budget_period p;

    if (!r->args.owner || !r->args.name || r->args.word)
        return usage(
            "apikey create --owner NAME --name TEXT [--scopes A,B] [--models A,B] [--rpm N] "
            "[--tpm N] [--budget USD] [--period day|week|month|total] [--expires-days N]");
    if (!number(r->args.rpm, &r->rpm) || !number(r->args.tpm, &r->tpm) ||
        !number(r->args.days, &r->days) || !dollars(r->args.budget, &r->budget_nano_usd) ||
        (r->args.period && !budget_period_parse(r->args.period, &p)) ||
        !known_words(r->args.scopes, scopes)) {
        fprintf(stderr, "postern: an option has a value that it cannot have\n");
        return 2;
    }
    return run_with_database(r, create_begin);
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
    end(r, 0);
}

static void on_list_owner(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct user u;

    if (err || !user_read(rows, 0, &u))
        fail(r, err ? err : GW_ENOTFOUND, r->args.owner);
    else if (!apikeys_page(u.id, LIST_MAX, 0, deadline(), on_list, r))
        fail(r, GW_ENOMEM, "the keys");
}

static void list_begin(struct run *r)
{
    struct op *op = r->args.owner
                        ? users_by_name(slice_cstr(r->args.owner), deadline(), on_list_owner, r)
                        : apikeys_page(SLICE_NONE, LIST_MAX, 0, deadline(), on_list, r);

    if (!op)
        fail(r, GW_ENOMEM, "the keys");
}

static void on_revoked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct run *r = arg;
    struct apikey k;

    if (err || !apikey_read(rows, 0, &k)) {
        fail(r, err ? err : GW_ENOTFOUND, r->args.word);
        return;
    }
    printf("revoked %.*s (%.*s)\n", SLICE_ARG(k.prefix), SLICE_ARG(k.name));
    end_audited(r, "apikey.revoke", r->args.word);
}

static void revoke_begin(struct run *r)
{
    if (!apikeys_revoke(slice_cstr(r->args.word), SLICE_NONE, deadline(), on_revoked, r))
        fail(r, GW_ENOMEM, r->args.word);
}

int cli_apikey(int argc, char **argv)
{
    struct run r = {0};
    const char *what = argc > 1 ? argv[1] : "";

    if (argc > 1 && parse(argc, argv, &r.args)) {
        if (strcmp(what, "create") == 0)
            return apikey_create(&r);
        if (strcmp(what, "list") == 0 && !r.args.word)
            return run_with_database(&r, list_begin);
        if (strcmp(what, "revoke") == 0 && r.args.word)
            return run_with_database(&r, revoke_begin);
    }
    return usage("apikey create|list|revoke ... (postern help)");
}
