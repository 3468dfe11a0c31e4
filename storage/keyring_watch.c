/*
 * keyring_watch.c - what tells the keyring that its memory is out of date, and when keys were used.
 *
 * The version is read every POLL_US, one statement at a time. When it has moved the revoked tokens
 * are read again: their number is bounded, and so is how long a token can live. The use of keys is
 * written in batches, some seconds late; other processes write the same keys, so a row is left
 * alone when it was written a moment ago.
 */
#include "storage/keyring_private.h"

#include "gateway/core/buf.h"
#include "gateway/core/log.h"
#include "gateway/core/loop.h"

#include <stdlib.h>

#define POLL_US 500000u
#define POLL_DEADLINE_US 1000000u
#define GOOD_US 2000000u /* a version older than this is not to be relied on */
#define MAX_REVOKED 65536u
#define MAX_TOUCHED 512u
#define TOUCH_DELAY_US 5000000u

static const struct log_ctx ctx = {.component = "keyring"};

static const struct pg_stmt read_version = {"keyring_version",
                                            "SELECT version FROM identity_version"};
/* A token is believed for a leeway of up to ten minutes after it has expired. */
static const struct pg_stmt read_revoked = {
    "keyring_revoked", "SELECT jti FROM (SELECT jti FROM revoked_tokens "
                       "WHERE expires_at > now() - interval '15 minutes' "
                       "ORDER BY expires_at DESC LIMIT 65537) newest ORDER BY jti COLLATE \"C\""};
static const struct pg_stmt write_used = {
    "keyring_used", "UPDATE api_keys SET last_used_at = now() WHERE id = ANY ($1::uuid[]) "
                    "AND (last_used_at IS NULL OR last_used_at < now() - interval '30 seconds')"};

/* --- the revoked tokens ----------------------------------------------------------------------- */

static char *revoked_text;   /* all of them, terminated */
static const char **revoked; /* into it, in order of bytes */
static unsigned n_revoked;
static int64_t revoked_version; /* 0 = not read yet */
static int64_t loading_version;
static struct op *loading;

static int64_t version;
static uint64_t read_us; /* loop clock of the last good answer, 0 = none yet */
static bool complained;

static int order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool watch_is_revoked(const char *jti)
{
    return n_revoked && bsearch(&jti, revoked, n_revoked, sizeof(revoked[0]), order) != NULL;
}

unsigned watch_revoked(void)
{
    return n_revoked;
}

bool watch_has_revoked(void)
{
    return revoked_version != 0 && revoked_version == version;
}

static void forget_revoked(void)
{
    free(revoked_text);
    free(revoked);
    revoked_text = NULL;
    revoked = NULL;
    n_revoked = 0;
    revoked_version = 0;
}

/* Takes the rows over; false out of memory, and then the former ones stay. */
static bool keep_revoked(const struct pg_rows *r)
{
    unsigned n = pg_count(r) < MAX_REVOKED ? pg_count(r) : MAX_REVOKED;
    const char **list;
    char *text, *at;
    size_t bytes = 1;

    for (unsigned i = 0; i < n; i++)
        bytes += pg_text(r, i, 0).n + 1;
    at = text = malloc(bytes);
    list = malloc((n + 1) * sizeof(list[0]));
    if (!text || !list) {
        free(text);
        free(list);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        struct slice jti = pg_text(r, i, 0);

        list[i] = at;
        if (jti.n)
            at = mempcpy(at, jti.p, jti.n);
        *at++ = '\0';
    }
    qsort(list, n, sizeof(list[0]), order); /* as good as sorted, but not everywhere in bytes */
    forget_revoked();
    revoked_text = text;
    revoked = list;
    n_revoked = n;
    if (pg_count(r) > MAX_REVOKED)
        log_warn(&ctx, "too_many_revoked_tokens", F_INT("kept", MAX_REVOKED));
    return true;
}

static void load_revoked(void);

static void on_revoked(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    (void)arg;
    loading = NULL;
    if (!err && !keep_revoked(rows))
        err = GW_ENOMEM;
    if (err) {
        fetch_fail_queued(RING_USER); /* tried again with the next version read */
        return;
    }
    revoked_version = loading_version;
    if (watch_has_revoked())
        fetch_pump();
    else
        load_revoked();
}

static void load_revoked(void)
{
    struct pg_args none = {0};

    if (loading)
        return;
    loading_version = version;
    loading = pg_query(PG_WRITE, &read_revoked, &none, loop_now_us() + POLL_DEADLINE_US, on_revoked,
                       NULL);
}

/* --- the version ------------------------------------------------------------------------------ */

static struct loop_timer poll_timer;
static struct op *polling;
static bool poll_again; /* something has changed since the statement under way began */

int64_t watch_version(void)
{
    return version;
}

bool watch_is_good(void)
{
    return read_us && loop_now_us() - read_us < GOOD_US;
}

static void poll_lost(enum gw_err err)
{
    if (!complained)
        log_warn(&ctx, "identity_source_lost", F_CSTR("err", err_info(err)->slug));
    complained = true;
    if (!watch_has_revoked())
        fetch_fail_queued(RING_USER);
}

static void poll_read(int64_t now_is)
{
    read_us = loop_now_us();
    if (complained)
        log_info(&ctx, "identity_source_back", F_INT("version", now_is));
    complained = false;
    version = now_is;
    if (!watch_has_revoked())
        load_revoked();
}

static void on_version(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    int64_t now_is = err ? 0 : pg_int(rows, 0, 0); /* no row reads as 0 */

    (void)arg;
    polling = NULL;
    if (!err && now_is != 0)
        poll_read(now_is);
    else
        poll_lost(err ? err : GW_EINTERNAL);
    loop_timer_set(&poll_timer, loop_now_us() + (poll_again ? 0 : POLL_US));
    poll_again = false;
}

static void on_poll(void *arg)
{
    struct pg_args none = {0};
    uint64_t now = loop_now_us();

    (void)arg;
    loop_place("keyring");
    polling = pg_query(PG_WRITE, &read_version, &none, now + POLL_DEADLINE_US, on_version, NULL);
    if (!polling)
        loop_timer_set(&poll_timer, now + POLL_US);
}

void watch_now(void)
{
    if (polling)
        poll_again = true;
    else
        loop_timer_set(&poll_timer, loop_now_us());
}

/* --- last use --------------------------------------------------------------------------------- */

static char touched[MAX_TOUCHED][UUID_TEXT];
static unsigned n_touched;
static struct loop_timer touch_timer;
static struct op *touching;

static void on_used(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    (void)rows;
    (void)arg;
    touching = NULL;
    if (err)
        log_debug(&ctx, "last_use_not_written", F_CSTR("err", err_info(err)->slug));
}

static void on_touch_due(void *arg)
{
    struct pg_args args = {0};
    struct buf array;

    (void)arg;
    if (touching) { /* the former ones are still being written */
        loop_timer_set(&touch_timer, loop_now_us() + TOUCH_DELAY_US);
        return;
    }
    buf_init(&array, MAX_TOUCHED * (UUID_TEXT + 1) + 2);
    for (unsigned i = 0; i < n_touched; i++)
        buf_printf(&array, "%c%s", i ? ',' : '{', touched[i]);
    buf_add(&array, "}", 1);
    n_touched = 0;
    if (!buf_err(&array)) {
        pg_arg_text(&args, buf_slice(&array));
        touching = pg_query(PG_WRITE, &write_used, &args, 0, on_used, NULL);
    }
    buf_deinit(&array);
}

bool watch_touch(const char *key_id)
{
    if (n_touched == MAX_TOUCHED)
        return false;
    if (n_touched == 0)
        loop_timer_set(&touch_timer, loop_now_us() + TOUCH_DELAY_US);
    memcpy(touched[n_touched++], key_id, UUID_TEXT);
    if (n_touched == MAX_TOUCHED)
        loop_timer_set(&touch_timer, loop_now_us());
    return true;
}

/* --- life ------------------------------------------------------------------------------------- */

void watch_init(void)
{
    loop_timer_init(&poll_timer, on_poll, NULL);
    loop_timer_init(&touch_timer, on_touch_due, NULL);
    loop_timer_set(&poll_timer, loop_now_us());
}

void watch_deinit(void)
{
    op_cancel(&polling);
    op_cancel(&loading);
    op_cancel(&touching);
    loop_timer_stop(&poll_timer);
    loop_timer_stop(&touch_timer);
    forget_revoked();
    version = 0;
    read_us = 0;
    n_touched = 0;
    complained = poll_again = false;
}
