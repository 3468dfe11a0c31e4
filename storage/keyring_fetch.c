/*
 * keyring_fetch.c - the statements behind the keyring: what is asked for in one turn travels in one
 * array, and no more than MAX_BATCHES of a kind are under way.
 *
 *     QUEUED (known ones first) --end of the turn--> SENT --rows--> ring_settle()
 *        '---------------------failed----------------'---> ring_fail(), and all still queued too
 *
 * Users wait until the revoked tokens of the present version are here, since a token is judged by
 * both.
 */
#include "storage/keyring_private.h"

#include "gateway/core/buf.h"
#include "gateway/core/hex.h"
#include "gateway/core/loop.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_BATCH 256u
#define MAX_BATCHES 2u
#define LOOK_UP_US 1000000u

/* Times are clipped to what a bigint of microseconds can hold. */
#define MICROSECONDS(column)                                                                       \
    "(extract(epoch FROM greatest(least(" column ", timestamptz '9999-01-01 00:00Z'), "            \
    "timestamptz '1970-01-02 00:00Z')) * 1000000)::bigint"
#define TEAM                                                                                       \
    "t.id, array_to_string(t.models, E'\\n'), t.requests_per_minute, t.tokens_per_minute, "        \
    "t.budget_nano_usd, t.budget_period"

#define EXPIRES "CASE WHEN k.expires_at IS NOT NULL THEN " MICROSECONDS("k.expires_at") " END "
#define VALID_FROM                                                                                 \
    "CASE WHEN u.tokens_valid_from IS NOT NULL THEN " MICROSECONDS("u.tokens_valid_from") " END "

static const struct pg_stmt find_keys = {
    "keyring_keys",
    "SELECT encode(k.key_sha256, 'hex'), u.id, u.user_id, u.role, " TEAM ", k.id, k.prefix, "
    "array_to_string(k.scopes, E'\\n'), array_to_string(k.models, E'\\n'), k.requests_per_minute, "
    "k.tokens_per_minute, k.budget_nano_usd, k.budget_period, " EXPIRES
    "FROM api_keys k JOIN users u ON u.id = k.owner_id "
    "LEFT JOIN teams t ON t.id = coalesce(k.team_id, u.team_id) "
    "WHERE k.key_sha256 = ANY ($1::bytea[]) AND k.revoked_at IS NULL AND NOT u.disabled"};
static const struct pg_stmt find_users = {
    "keyring_users", "SELECT u.user_id, u.id, u.user_id, u.role, " TEAM ", " VALID_FROM
                     "FROM users u LEFT JOIN teams t ON t.id = u.team_id "
                     "WHERE u.user_id = ANY ($1::text[]) AND NOT u.disabled"};

enum { COL_WHAT, COL_OWNER, COL_NAME, COL_ROLE };
enum {
    COL_TEAM = COL_ROLE + 1,
    COL_TEAM_MODELS,
    COL_TEAM_RPM,
    COL_TEAM_TPM,
    COL_TEAM_BUDGET,
    COL_TEAM_PERIOD,
    COL_OWN
};
enum {
    COL_KEY = COL_OWN,
    COL_PREFIX,
    COL_SCOPES,
    COL_MODELS,
    COL_RPM,
    COL_TPM,
    COL_BUDGET,
    COL_PERIOD,
    COL_EXPIRES
};
enum { COL_VALID_FROM = COL_OWN };

struct slot {
    struct ring_entry *entry;
    const struct principal *p; /* found, until it is handed over */
    int64_t tokens_valid_from_us;
    bool broken; /* found, but there was no memory for it */
};

struct batch {
    struct op *op;
    enum ring_kind kind;
    uint64_t began_us;
    int64_t version;
    unsigned n;
    TAILQ_ENTRY(batch) link;
    struct slot slots[MAX_BATCH];
};

struct lane {
    struct ring_list known, fresh; /* queued */
    unsigned n_queued, n_fresh, n_sent, n_batches;
};

static struct lane lanes[RING_KINDS] = {
    {TAILQ_HEAD_INITIALIZER(lanes[0].known), TAILQ_HEAD_INITIALIZER(lanes[0].fresh), 0, 0, 0, 0},
    {TAILQ_HEAD_INITIALIZER(lanes[1].known), TAILQ_HEAD_INITIALIZER(lanes[1].fresh), 0, 0, 0, 0},
};
static TAILQ_HEAD(batch_list, batch) batches = TAILQ_HEAD_INITIALIZER(batches);
static struct loop_deferred pumping;

/* --- the queue -------------------------------------------------------------------------------- */

void fetch_queue(struct ring_entry *e)
{
    struct lane *l = &lanes[e->kind];

    e->place = RING_QUEUED;
    l->n_queued++;
    if (e->state == RING_KNOWN) {
        TAILQ_INSERT_TAIL(&l->known, e, link);
    } else {
        TAILQ_INSERT_TAIL(&l->fresh, e, link);
        l->n_fresh++;
    }
    fetch_pump();
}

/* The next one, out of its queue; NULL when there is none. */
static struct ring_entry *take(struct lane *l)
{
    struct ring_entry *e = TAILQ_FIRST(&l->known);

    if (e) {
        TAILQ_REMOVE(&l->known, e, link);
    } else {
        e = TAILQ_FIRST(&l->fresh);
        if (!e)
            return NULL;
        TAILQ_REMOVE(&l->fresh, e, link);
        l->n_fresh--;
    }
    l->n_queued--;
    return e;
}

unsigned fetch_new_queued(void)
{
    return lanes[RING_KEY].n_fresh + lanes[RING_USER].n_fresh;
}

unsigned fetch_pending(void)
{
    unsigned n = 0;

    for (unsigned k = 0; k < RING_KINDS; k++)
        n += lanes[k].n_queued + lanes[k].n_sent;
    return n;
}

/* Fails n of those that are queued: not those that the callbacks of these queue. */
static void fail_some(struct lane *l, unsigned n)
{
    struct ring_entry *e;

    while (n-- > 0 && (e = take(l)) != NULL)
        ring_fail(e);
}

void fetch_fail_queued(enum ring_kind kind)
{
    fail_some(&lanes[kind], lanes[kind].n_queued);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t size, struct slice from)
{
    snprintf(to, size, "%.*s", SLICE_ARG(from));
}

static void add_budget(struct principal *p, const char *what, const char *id,
                       const struct pg_rows *r, unsigned row, unsigned limit, unsigned period,
                       unsigned tokens)
{
    struct budget_scope *s = &p->scopes_of_budget[p->n_budget_scopes];
    char name[16];

    s->limit_nano_usd = pg_is_null(r, row, limit) ? -1 : pg_int(r, row, limit);
    s->tokens_per_minute = pg_int(r, row, tokens);
    if (s->limit_nano_usd < 0 && s->tokens_per_minute == 0)
        return;
    copy_text(name, sizeof(name), pg_text(r, row, period));
    if (!budget_period_parse(name, &s->period))
        s->period = BUDGET_TOTAL;
    snprintf(s->id, sizeof(s->id), "%s:%s", what, id);
    p->n_budget_scopes++;
}

static unsigned read_scopes(struct slice lines)
{
    unsigned bits = 0;

    while (lines.n) {
        size_t end = slice_find(lines, '\n');

        bits |= principal_scope_bit(slice_of(lines.p, end));
        lines = slice_from(lines, end + 1);
    }
    return bits;
}

static void read_owner(struct principal *p, const struct pg_rows *r, unsigned row)
{
    copy_text(p->owner_id, sizeof(p->owner_id), pg_text(r, row, COL_OWNER));
    copy_text(p->user_id, sizeof(p->user_id), pg_text(r, row, COL_NAME));
    copy_text(p->team_id, sizeof(p->team_id), pg_text(r, row, COL_TEAM));
    p->admin = slice_is(pg_text(r, row, COL_ROLE), "admin");
    p->team_requests_per_minute = pg_int(r, row, COL_TEAM_RPM);
    if (p->team_id[0])
        snprintf(p->tenant, sizeof(p->tenant), "team:%s", p->team_id);
    else
        snprintf(p->tenant, sizeof(p->tenant), "user:%s", p->owner_id);
}

static void read_key(struct principal *p, const struct pg_rows *r, unsigned row)
{
    char prefix[32];

    p->kind = PRINCIPAL_KEY;
    copy_text(prefix, sizeof(prefix), pg_text(r, row, COL_PREFIX));
    snprintf(p->subject, sizeof(p->subject), "key:%s", prefix);
    copy_text(p->key_id, sizeof(p->key_id), pg_text(r, row, COL_KEY));
    p->scopes = read_scopes(pg_text(r, row, COL_SCOPES));
    p->admin = p->admin && principal_has_scope(p, SCOPE_ADMIN);
    p->requests_per_minute = pg_int(r, row, COL_RPM);
    p->expires_wall_us = pg_int(r, row, COL_EXPIRES);
    add_budget(p, "key", p->key_id, r, row, COL_BUDGET, COL_PERIOD, COL_TPM);
}

/* One row as a principal; NULL out of memory. */
static const struct principal *read_row(enum ring_kind kind, const struct pg_rows *r, unsigned row)
{
    struct principal p = {.kind = PRINCIPAL_USER};

    read_owner(&p, r, row);
    if (kind == RING_KEY)
        read_key(&p, r, row);
    else
        snprintf(p.subject, sizeof(p.subject), "user:%s", p.user_id);
    if (p.team_id[0])
        add_budget(&p, "team", p.team_id, r, row, COL_TEAM_BUDGET, COL_TEAM_PERIOD, COL_TEAM_TPM);
    return principal_new(&p, kind == RING_KEY ? pg_text(r, row, COL_MODELS) : SLICE_NONE,
                         pg_text(r, row, COL_TEAM_MODELS));
}

static bool read_sha(struct slice hex, struct ring_id *ret)
{
    if (hex.n != 2 * KEYTEXT_SHA_BYTES)
        return false;
    for (size_t i = 0; i < KEYTEXT_SHA_BYTES; i++) {
        int byte = hex_pair(hex.p + 2 * i);

        if (byte < 0)
            return false;
        ret->sha[i] = (unsigned char)byte;
    }
    return true;
}

/* Whose row is it? NULL when nobody of this batch asked for it. */
static struct slot *slot_of(struct batch *b, struct slice what)
{
    struct ring_id id;
    struct ring_entry *e;
    bool ok = b->kind == RING_KEY ? read_sha(what, &id) : ring_user_id(what, &id);

    e = ok ? ring_find(&id) : NULL;
    return e && e->place == RING_SENT && e->slot < b->n && b->slots[e->slot].entry == e
               ? &b->slots[e->slot]
               : NULL;
}

static void read_rows(struct batch *b, const struct pg_rows *r)
{
    for (unsigned row = 0; row < pg_count(r); row++) {
        struct slot *s = slot_of(b, pg_text(r, row, COL_WHAT));

        if (!s || s->p)
            continue;
        s->p = read_row(b->kind, r, row);
        s->broken = !s->p;
        if (b->kind == RING_USER)
            s->tokens_valid_from_us = pg_int(r, row, COL_VALID_FROM);
    }
}

/* --- batches ---------------------------------------------------------------------------------- */

/* What is queued would fare no better. */
static void fail_batch(struct batch *b)
{
    unsigned queued = lanes[b->kind].n_queued;

    for (unsigned i = 0; i < b->n; i++)
        ring_fail(b->slots[i].entry);
    fail_some(&lanes[b->kind], queued);
}

static void settle_batch(struct batch *b)
{
    for (unsigned i = 0; i < b->n; i++) {
        struct slot *s = &b->slots[i];

        if (s->broken)
            ring_fail(s->entry);
        else
            ring_settle(s->entry, s->p, s->tokens_valid_from_us, b->began_us, b->version);
    }
}

static void on_rows(enum gw_err err, const struct pg_rows *rows, void *arg)
{
    struct batch *b = arg;

    b->op = NULL;
    TAILQ_REMOVE(&batches, b, link);
    lanes[b->kind].n_batches--;
    lanes[b->kind].n_sent -= b->n;
    if (!err)
        read_rows(b, rows);
    if (err)
        fail_batch(b);
    else
        settle_batch(b);
    free(b);
    fetch_pump();
}

/* The elements asked for as a Postgres array; a name's quotes and backslashes are escaped. */
static void write_array(const struct batch *b, struct buf *out)
{
    char hex[2 * KEYTEXT_SHA_BYTES];

    for (unsigned i = 0; i < b->n; i++) {
        const struct ring_entry *e = b->slots[i].entry;

        buf_add(out, i ? ",\"" : "{\"", 2);
        if (b->kind == RING_KEY) {
            buf_add(out, "\\\\x", 3);
            hex_write(hex, e->id.sha, KEYTEXT_SHA_BYTES);
            buf_add(out, hex, sizeof(hex));
        }
        for (const char *c = e->name; *c; c++) {
            if (*c == '"' || *c == '\\')
                buf_add(out, "\\", 1);
            buf_add(out, c, 1);
        }
        buf_add(out, "\"", 1);
    }
    buf_add(out, "}", 1);
}

static struct op *start_batch(struct batch *b)
{
    struct pg_args args = {0};
    struct op *op = NULL;
    struct buf array;

    buf_init(&array, MAX_BATCH * 256u);
    write_array(b, &array);
    if (!buf_err(&array)) {
        pg_arg_text(&args, buf_slice(&array));
        op = pg_query(PG_WRITE, b->kind == RING_KEY ? &find_keys : &find_users, &args,
                      b->began_us + LOOK_UP_US, on_rows, b);
    }
    buf_deinit(&array);
    return op;
}

/* Takes as many as fit and sends them. False when there is no memory for it: all have failed. */
static bool send_some(enum ring_kind kind)
{
    struct lane *l = &lanes[kind];
    struct batch *b = calloc(1, sizeof(*b));
    struct ring_entry *e;

    if (!b) {
        fetch_fail_queued(kind);
        return false;
    }
    b->kind = kind;
    b->began_us = loop_now_us();
    b->version = watch_version();
    while (b->n < MAX_BATCH && (e = take(l)) != NULL) {
        e->place = RING_SENT;
        e->sent_version = b->version;
        e->slot = b->n;
        b->slots[b->n++].entry = e;
    }
    b->op = start_batch(b);
    if (!b->op) {
        fail_batch(b);
        free(b);
        return false;
    }
    l->n_sent += b->n;
    l->n_batches++;
    TAILQ_INSERT_TAIL(&batches, b, link);
    return true;
}

static void pump(void *arg)
{
    (void)arg;
    loop_place("keyring");
    for (unsigned k = 0; k < RING_KINDS; k++)
        while (lanes[k].n_queued && lanes[k].n_batches < MAX_BATCHES &&
               (k == RING_KEY || watch_has_revoked()))
            if (!send_some(k))
                break;
}

void fetch_pump(void)
{
    loop_defer(&pumping, pump, NULL);
}

void fetch_deinit(void)
{
    struct batch *b;

    loop_undefer(&pumping);
    while ((b = TAILQ_FIRST(&batches)) != NULL) {
        TAILQ_REMOVE(&batches, b, link);
        op_cancel(&b->op);
        free(b);
    }
    for (unsigned k = 0; k < RING_KINDS; k++) {
        struct lane *l = &lanes[k];

        TAILQ_INIT(&l->known);
        TAILQ_INIT(&l->fresh);
        l->n_queued = l->n_fresh = l->n_sent = l->n_batches = 0;
    }
}
