/*
 * circuits.c - see circuits.h.
 *
 *     every 400 ms: look at each key --absent---> in_redis? close it here : open here? write it
 *                                     '--newer--> open here too
 *     changed here: open, half-open --> write     closed --> delete
 *
 * struct circuit remembers what this process knows of one key. Replies come in the order of the
 * commands: a look that is answered while a writing is on its way may be from before it and means
 * nothing, and one that is answered later has seen it.
 *
 * Which server this is, is asked after each connecting (INFO's run_id): one with another id has
 * never seen our keys, whereas one we had only lost for a moment may have had them deleted
 * meanwhile.
 */
#include "storage/circuits.h"

#include "gateway/core/log.h"
#include "gateway/core/loop.h"
#include "storage/redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_EVERY_US 400000u
#define CLOCK_SKEW_US (60 * (uint64_t)1000000) /* times further ahead cannot be */
#define DEFAULT_RECOVERY_US 60000000u
#define NAME_BYTES 64u
#define RUN_ID_BYTES 64u
#define PROBE_BYTES 24u
#define MAX_LEASE_US (3600 * (uint64_t)1000000 - 1000)

struct circuit {
    struct circuit *next;
    char name[NAME_BYTES];
    char key[NAME_BYTES + 8];
    uint64_t opened_wall_us;  /* of the last opening known, ours or another's */
    uint64_t recovery_us;     /* 0 before the first round */
    enum circuit_state state; /* as of the last round or change */
    bool in_redis;            /* the key was seen or written in this server */
    bool owes_delete;         /* closed here, and the key may still be there */
    struct op *looking, *writing;
};

/* A client may have selected another database; a script's SELECT ends with the script. */
#define IN_DB_0 "redis.pcall('SELECT', 0)\n"

static struct redis_script look = {
    .name = "circuit_look",
    .text = IN_DB_0 "return redis.call('HMGET', KEYS[1], 'state', 'opened_at')\n",
};

/* ARGV: state, opened_at, TTL in ms, latest time that can be. A newer opening of another process
 * stays; half_open only marks the opening it belongs to. The probes of an opening stay with it, and
 * go with it. Answers 1 when the key is there. */
static struct redis_script write_script = {
    .name = "circuit_write",
    .text = IN_DB_0 "local at = redis.pcall('HGET', KEYS[1], 'opened_at')\n"
                    "at = type(at) == 'string' and tonumber(at) or 0\n"
                    "if at > tonumber(ARGV[4]) then at = 0 end\n"
                    "if ARGV[1] == 'half_open' and at ~= tonumber(ARGV[2]) then return 0 end\n"
                    "if at > tonumber(ARGV[2]) then return 1 end\n"
                    "local v = redis.pcall('HGET', KEYS[1], 'version')\n"
                    "v = type(v) == 'string' and tonumber(v) or 0\n"
                    "if at ~= tonumber(ARGV[2]) then redis.call('DEL', KEYS[1]) end\n"
                    "redis.call('HSET', KEYS[1], 'state', ARGV[1], 'opened_at', ARGV[2],\n"
                    "           'version', string.format('%.0f', v + 1))\n"
                    "redis.call('PEXPIRE', KEYS[1], ARGV[3])\n"
                    "return 1\n",
};

static struct redis_script delete_script = {
    .name = "circuit_delete",
    .text = IN_DB_0 "return redis.call('DEL', KEYS[1])\n",
};

/* ARGV: field, lease in ms, how many there may be. Answers 0 when it is granted, else the ms until
 * the next one ends. Without a key (somebody has just closed the circuit) it is counted all the
 * same; what is no hash counts nothing. A lease over an hour is none of ours. */
static struct redis_script claim_script = {
    .name = "circuit_claim",
    .text = IN_DB_0 "local t = redis.call('TIME')\n"
                    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
                    "local all = redis.pcall('HGETALL', KEYS[1])\n"
                    "if all.err then return 0 end\n"
                    "local out, soonest = 0, 3600000\n"
                    "for i = 1, #all, 2 do\n"
                    "  if string.sub(all[i], 1, 6) == 'probe:' then\n"
                    "    local left = (tonumber(all[i + 1]) or 0) - now\n"
                    "    if left > 0 and left <= 3600000 then\n"
                    "      out = out + 1\n"
                    "      if left < soonest then soonest = left end\n"
                    "    else\n"
                    "      redis.call('HDEL', KEYS[1], all[i])\n"
                    "    end\n"
                    "  end\n"
                    "end\n"
                    "if out >= tonumber(ARGV[3]) then return soonest end\n"
                    "redis.call('HSET', KEYS[1], ARGV[1],\n"
                    "           string.format('%.0f', now + tonumber(ARGV[2])))\n"
                    "if #all == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end\n"
                    "return 0\n",
};

static struct redis_script release_script = {
    .name = "circuit_release",
    .text = IN_DB_0 "return redis.pcall('HDEL', KEYS[1], ARGV[1])\n",
};

static const struct circuits_link *wired;
static struct circuit *circuits;
static struct loop_timer rounds;
static struct op *asking;         /* INFO */
static char run_id[RUN_ID_BYTES]; /* of the server our knowledge is about */
static bool introduced;           /* asked since the last connecting */
static const struct log_ctx ctx = {.component = "breaker"};

static struct circuit *circuit_of(const char *name)
{
    struct circuit *c;

    for (c = circuits; c; c = c->next)
        if (strcmp(c->name, name) == 0)
            return c;
    c = strlen(name) < NAME_BYTES ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return NULL;
    snprintf(c->name, sizeof(c->name), "%s", name);
    snprintf(c->key, sizeof(c->key), "circuit:%s", name);
    c->next = circuits;
    circuits = c;
    return c;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void on_written(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct circuit *c = arg;

    c->writing = NULL;
    if (!err && v->kind == REDIS_INT && v->i == 1)
        c->in_redis = true;
}

static void write_key(struct circuit *c)
{
    char at[24], ttl[24], latest[24];
    const struct slice key = slice_cstr(c->key);
    const char *state = c->state == CIRCUIT_OPEN ? "open" : "half_open";
    uint64_t recovery_us = c->recovery_us ? c->recovery_us : DEFAULT_RECOVERY_US;

    snprintf(at, sizeof(at), "%" PRIu64, c->opened_wall_us);
    snprintf(ttl, sizeof(ttl), "%" PRIu64, recovery_us / 1000 * CIRCUITS_TTL_RECOVERIES + 1);
    snprintf(latest, sizeof(latest), "%" PRIu64, loop_wall_us() + CLOCK_SKEW_US);
    const struct slice args[] = {slice_cstr(state), slice_cstr(at), slice_cstr(ttl),
                                 slice_cstr(latest)};
    op_cancel(&c->writing);
    c->owes_delete = false;
    if (c->state == CIRCUIT_OPEN)
        c->in_redis = false; /* this opening is not, until it says so */
    c->writing = redis_eval(&write_script, &key, 1, args, 4, on_written, c);
}

static void on_deleted(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct circuit *c = arg;

    c->writing = NULL;
    if (!err)
        c->owes_delete = false;
}

static void delete_key(struct circuit *c)
{
    const struct slice key = slice_cstr(c->key);

    op_cancel(&c->writing);
    c->in_redis = false;
    c->owes_delete = true;
    c->writing = redis_eval(&delete_script, &key, 1, NULL, 0, on_deleted, c);
}

void circuits_changed(const struct circuit_now *now)
{
    struct circuit *c = wired ? circuit_of(now->name) : NULL;

    if (!c)
        return;
    c->state = now->state;
    if (now->state == CIRCUIT_CLOSED) {
        delete_key(c);
        return;
    }
    c->opened_wall_us = now->state == CIRCUIT_OPEN ? now->opened_wall_us : c->opened_wall_us;
    write_key(c);
}

/* --- probes ----------------------------------------------------------------------------------- */

struct claim {
    struct op op; /* first member */
    struct op *inner;
    void (*done)(uint64_t wait_us, void *arg);
    void *arg;
};

static void on_claim(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct claim *claim = arg;
    void (*done)(uint64_t, void *) = claim->done;
    void *done_arg = claim->arg;
    uint64_t wait_us = 0;

    free(claim);
    if (!err && v->kind == REDIS_INT && v->i > 0)
        wait_us = (uint64_t)v->i * 1000;
    done(wait_us < CIRCUITS_CLAIM_AGAIN_US ? wait_us : CIRCUITS_CLAIM_AGAIN_US, done_arg);
}

static void claim_cancel(struct op *op)
{
    struct claim *claim = (struct claim *)op;

    op_cancel(&claim->inner);
    free(claim);
}

/* "probe:<id>" */
static struct slice put_field(char to[PROBE_BYTES], uint64_t id)
{
    return slice_of(to, (size_t)snprintf(to, PROBE_BYTES, "probe:%016" PRIx64, id));
}

struct op *circuits_claim(const char *name, uint64_t id, unsigned probes, uint64_t lease_us,
                          void (*done)(uint64_t wait_us, void *arg), void *arg)
{
    struct circuit *c = wired && redis_up() ? circuit_of(name) : NULL;
    struct claim *claim = c ? calloc(1, sizeof(*claim)) : NULL;
    char field[PROBE_BYTES], lease[24], most[24];
    struct slice key, args[3];

    if (!claim)
        return NULL;
    *claim = (struct claim){.op = {claim_cancel}, .done = done, .arg = arg};
    snprintf(lease, sizeof(lease), "%" PRIu64,
             (lease_us < MAX_LEASE_US ? lease_us : MAX_LEASE_US) / 1000 + 1);
    snprintf(most, sizeof(most), "%u", probes);
    key = slice_cstr(c->key);
    args[0] = put_field(field, id);
    args[1] = slice_cstr(lease);
    args[2] = slice_cstr(most);
    claim->inner = redis_eval(&claim_script, &key, 1, args, 3, on_claim, claim);
    if (claim->inner)
        return &claim->op;
    free(claim);
    return NULL;
}

static void on_released(enum gw_err err, const struct redis_value *v, void *arg)
{
    /* it ends by itself */
}

void circuits_release(const char *name, uint64_t id)
{
    struct circuit *c = wired ? circuit_of(name) : NULL;
    char field[PROBE_BYTES];
    struct slice key, arg;

    if (!c)
        return;
    key = slice_cstr(c->key);
    arg = put_field(field, id);
    (void)redis_eval(&release_script, &key, 1, &arg, 1, on_released, NULL);
}

/* --- looking ---------------------------------------------------------------------------------- */

static bool read_time(const struct redis_value *v, uint64_t *ret)
{
    uint64_t t = 0;
    size_t i;

    if (v->kind != REDIS_STR || v->s.n == 0 || v->s.n > 17)
        return false;
    for (i = 0; i < v->s.n; i++) {
        if (v->s.p[i] < '0' || v->s.p[i] > '9')
            return false;
        t = t * 10 + (uint64_t)(v->s.p[i] - '0');
    }
    *ret = t;
    return t > 0 && t <= loop_wall_us() + CLOCK_SKEW_US;
}

/* The key is gone. */
static void take_absence(struct circuit *c)
{
    c->owes_delete = false;
    if (c->in_redis && c->state != CIRCUIT_CLOSED) {
        log_info(&ctx, "circuit_key_deleted", F_CSTR("provider", c->name));
        c->state = CIRCUIT_CLOSED;
        wired->take_in(slice_cstr(c->name), CIRCUIT_CLOSED, 0);
    } else if (c->state == CIRCUIT_OPEN) {
        write_key(c);
    }
    c->in_redis = false;
}

/* A key with good values. The opening we know comes back with each look, also when we have closed
 * or are probing already: only another one means anything. One whose probe is out already is open
 * for who has not heard of it yet. */
static void take_opening(struct circuit *c, uint64_t at)
{
    bool known = at == c->opened_wall_us;

    c->in_redis = true;
    if (known && c->owes_delete)
        delete_key(c);
    if (known)
        return;
    c->opened_wall_us = at;
    c->state = CIRCUIT_OPEN;
    c->owes_delete = false;
    wired->take_in(slice_cstr(c->name), CIRCUIT_OPEN, at);
}

static void on_look(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct circuit *c = arg;
    const struct redis_value *state;
    uint64_t at = 0;

    c->looking = NULL;
    if (c->writing || err || v->kind != REDIS_ARRAY || v->n != 2)
        return; /* what was seen may be from before our writing */
    state = &v->items[0];
    if (state->kind == REDIS_NIL && v->items[1].kind == REDIS_NIL)
        take_absence(c);
    else if (state->kind == REDIS_STR && read_time(&v->items[1], &at) &&
             (slice_is(state->s, "open") || slice_is(state->s, "half_open")))
        take_opening(c, at);
}

static void look_at(const struct circuit_now *now, void *arg)
{
    struct circuit *c = circuit_of(now->name);
    struct slice key;

    if (!c)
        return;
    c->state = now->state;
    c->recovery_us = now->recovery_us;
    if (now->state == CIRCUIT_OPEN && c->opened_wall_us == 0)
        c->opened_wall_us = now->opened_wall_us;
    key = slice_cstr(c->key);
    if (!c->looking)
        c->looking = redis_eval(&look, &key, 1, NULL, 0, on_look, c);
}

/* --- rounds ----------------------------------------------------------------------------------- */

static struct slice id_in(struct slice info)
{
    const char *hit = info.n ? memmem(info.p, info.n, "run_id:", 7) : NULL;
    struct slice rest = hit ? slice_from(info, (size_t)(hit - info.p) + 7) : SLICE_NONE;
    size_t end = slice_find(rest, '\r');

    return end < RUN_ID_BYTES ? slice_of(rest.p, end) : SLICE_NONE;
}

/* A server that will not say who it is counts as another one. */
static void on_info(enum gw_err err, const struct redis_value *v, void *arg)
{
    struct slice id = !err && v->kind == REDIS_STR ? id_in(v->s) : SLICE_NONE;
    struct circuit *c;

    asking = NULL;
    if (err == GW_EUNAVAIL)
        return;
    if (id.n == 0 || !slice_is(id, run_id)) {
        for (c = circuits; c; c = c->next)
            c->in_redis = false;
        if (id.n)
            memcpy(run_id, id.p, id.n);
        run_id[id.n] = '\0';
    }
    introduced = true;
    wired->each(look_at, NULL);
}

static void go_round(void)
{
    static const struct slice info[] = {SLICE("INFO"), SLICE("server")};

    if (!redis_up())
        return;
    if (introduced)
        wired->each(look_at, NULL);
    else if (!asking)
        asking = redis_command(info, 2, on_info, NULL);
}

static void on_round(void *arg)
{
    loop_place("circuits");
    go_round();
    loop_timer_set(&rounds, loop_now_us() + LOOK_EVERY_US);
}

static void on_redis(bool up, void *arg)
{
    introduced = false;
    if (up)
        loop_timer_set(&rounds, loop_now_us());
    else
        loop_timer_clear(&rounds);
}

enum gw_err circuits_init(const struct circuits_link *link)
{
    if (!redis_enabled())
        return GW_OK;
    wired = link;
    loop_timer_init(&rounds, on_round, NULL);
    redis_on_change(on_redis, NULL);
    return GW_OK;
}

void circuits_deinit(void)
{
    struct circuit *c;

    if (!wired)
        return;
    loop_timer_stop(&rounds);
    op_cancel(&asking);
    while ((c = circuits)) {
        circuits = c->next;
        op_cancel(&c->looking);
        op_cancel(&c->writing);
        free(c);
    }
    wired = NULL;
    introduced = false;
    run_id[0] = '\0';
}
