/*
 * budget_redis.c - the counters all processes share, and the scripts that change them.
 *
 *     budget:{<tag>}:<scope>:<period><begin>:sum    hash: spent, held, swept (when, ms)
 *     budget:{<tag>}:<scope>:<period><begin>:due    sorted set: hold -> when it is given back (ms)
 *     budget:{<tag>}:<scope>:<period><begin>:late   sorted set: hold that was given back -> when
 *     budget:{<tag>}:<scope>:rate                   when the minute of tokens is whole again (us)
 *     budget:{<tag>}:done:<hold>                    see below
 *
 * A hold's name ends in its amount, "<id>:<nano-USD>". All keys of a request share the hash tag
 * (the team's id, without a team the key's), so that a cluster keeps them in one place. The
 * period's beginning is part of the name: a new period needs no job. Times inside are Redis' own.
 * Lua's numbers are doubles; amounts stay below 2^53.
 *
 * Settling must count once although its answer may be lost and it is then sent again. A hold that
 * Redis confirmed is in `due`, or in `late`, until it is settled: where a repetition finds it in
 * neither, it has been. One that Redis may never have heard of leaves a mark, `done`, instead. So
 * the ordinary call costs four commands to reserve and four to settle, and leaves nothing behind.
 */
#include "storage/budget_private.h"

#include "gateway/core/decimal.h"
#include "gateway/core/loop.h"
#include "storage/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_PER_SCOPE 4u
#define MAX_KEYS (KEYS_PER_SCOPE * BUDGET_MAX_SCOPES + 1)
#define MAX_ARGS 16u
#define KEY_BYTES 192u
#define NUMBER_BYTES 56u /* of an argument: a number, or a hold */
#define DAY_S 86400
#define TOTAL_TTL_S (400 * (int64_t)DAY_S) /* of a budget that never resets and nobody uses */
#define UNKNOWN_MS 3600000                 /* an outcome may be unknown this long */

/* KEYS: sum, due, late, rate of each scope. ARGV: hold, its life (ms), cost, may sums be made, how
 * long late ones are remembered (ms); of each scope: limit, tokens a minute, tokens of the call,
 * life of the sums (ms), least spent.
 *
 * Answers {"ok", of each scope: spent, held, tokens left}, {"absent"} when a sum is not there and
 * may not be made, {"money", scope, spent, held} or {"rate", scope, tokens left, wait (us)}.
 *
 * What is due is given back when there would be too little money, else once a second.
 *
 * `least` is what the asking process knows to be spent: a sum that was lost (FLUSHALL) and made
 * anew from old knowledge rises with each process that knows more. */
static struct redis_script reserve_script = {
    .name = "budget_reserve",
    .text =
        "local id, cost, create = ARGV[1], tonumber(ARGV[3]), ARGV[4] == '1'\n"
        "local t = redis.call('TIME')\n"
        "local now = t[1] * 1000000 + t[2]\n"
        "local now_ms = math.floor(now / 1000)\n"
        "local minute = 60000000\n"
        "local function amount(hold) return tonumber(string.match(hold, ':(%d+)$')) or 0 end\n"
        "local function whole(n) return string.format('%.0f', n) end\n"
        "local function make(s)\n"
        "  local held = 0\n"
        "  for _, hold in ipairs(redis.call('ZRANGE', s.due, 0, -1)) do\n"
        "    held = held + amount(hold)\n"
        "  end\n"
        "  redis.call('DEL', s.sum)\n"
        "  redis.call('HSET', s.sum, 'spent', s.least, 'held', whole(held))\n"
        "  return s.least, whole(held)\n"
        "end\n"
        "local function sweep(s)\n"
        "  for _, old in ipairs(redis.call('ZRANGEBYSCORE', s.due, '-inf', now_ms, 'LIMIT', 0,\n"
        "                                  100)) do\n"
        "    redis.call('HINCRBY', s.sum, 'held', whole(-amount(old)))\n"
        "    redis.call('ZREM', s.due, old)\n"
        "    redis.call('ZADD', s.late, now_ms, old)\n"
        "  end\n"
        "  redis.call('ZREMRANGEBYSCORE', s.late, '-inf', now_ms - ARGV[5])\n"
        "  redis.call('PEXPIRE', s.late, ARGV[5])\n"
        "  redis.call('HSET', s.sum, 'swept', now_ms)\n"
        "  redis.call('PEXPIRE', s.sum, s.ttl)\n"
        "  s.fresh = true\n"
        "  return redis.call('HGET', s.sum, 'held')\n"
        "end\n"
        "local scopes = {}\n"
        "for i = 1, #KEYS / 4 do\n"
        "  local k, a = 4 * (i - 1), 5 + 5 * (i - 1)\n"
        "  local s = {sum = KEYS[k + 1], due = KEYS[k + 2], late = KEYS[k + 3], rate = KEYS[k + "
        "4],\n"
        "    limit = tonumber(ARGV[a + 1]), tpm = tonumber(ARGV[a + 2]),\n"
        "    tokens = tonumber(ARGV[a + 3]), ttl = ARGV[a + 4], least = ARGV[a + 5]}\n"
        "  scopes[i] = s\n"
        "  if s.limit >= 0 then\n"
        "    local sum = redis.call('HMGET', s.sum, 'spent', 'held', 'swept')\n"
        "    local spent, held, swept = sum[1], sum[2] or '0', tonumber(sum[3] or 0)\n"
        "    if not spent then\n"
        "      if not create then return {'absent'} end\n"
        "      spent, held = make(s)\n"
        "    elseif tonumber(s.least) > tonumber(spent) then\n"
        "      redis.call('HSET', s.sum, 'spent', s.least)\n"
        "      spent = s.least\n"
        "    end\n"
        "    if math.abs(now_ms - swept) >= 1000 or spent + held + cost > s.limit then\n"
        "      held = sweep(s)\n"
        "    end\n"
        "    s.spent, s.held = spent, held\n"
        "  end\n"
        "end\n"
        "for i, s in ipairs(scopes) do\n"
        "  if s.limit >= 0 and s.spent + s.held + cost > s.limit then\n"
        "    return {'money', i - 1, s.spent, s.held}\n"
        "  end\n"
        "end\n"
        "for i, s in ipairs(scopes) do\n"
        "  if s.tpm > 0 then\n"
        "    local tat = tonumber(redis.call('GET', s.rate) or 0) or 0\n"
        "    if not (tat > now) then tat = now end\n"
        "    if tat > now + 10 * minute then tat = now + 10 * minute end\n"
        "    s.tat = tat + s.tokens * minute / s.tpm\n"
        "    if s.tat > now + minute then\n"
        "      local left = math.floor((minute - (tat - now)) * s.tpm / minute)\n"
        "      return {'rate', i - 1, left > 0 and left or 0, math.ceil(s.tat - now - minute)}\n"
        "    end\n"
        "  end\n"
        "end\n"
        "local out = {'ok'}\n"
        "for i, s in ipairs(scopes) do\n"
        "  local held, left = 0, 0\n"
        "  if s.limit >= 0 then\n"
        "    held = redis.call('HINCRBY', s.sum, 'held', ARGV[3])\n"
        "    redis.call('ZADD', s.due, now_ms + tonumber(ARGV[2]), id)\n"
        "    if s.fresh or s.held == '0' then redis.call('PEXPIRE', s.due, s.ttl) end\n"
        "  end\n"
        "  if s.tpm > 0 then\n"
        "    redis.call('SET', s.rate, whole(s.tat), 'PX', 660000)\n"
        "    left = math.floor((minute - (s.tat - now)) * s.tpm / minute)\n"
        "  end\n"
        "  out[#out + 1] = s.spent or '0'\n"
        "  out[#out + 1] = held\n"
        "  out[#out + 1] = left\n"
        "end\n"
        "return out\n",
};

/* KEYS as above, and the mark. ARGV: hold, cost, its amount negated, life of the mark (ms), how it
 * is known that this is no repetition: "first", "again" (only if it is still held), "once" (by the
 * mark); of each scope: tokens a minute, tokens to add (negative: to give back).
 *
 * Answers {"ok", of each scope: spent, -1 when its sum is not there}, or {"again"}. A sum that is
 * not there is left alone: whoever makes it takes this call from the ledger. */
static struct redis_script settle_script = {
    .name = "budget_settle",
    .text = "local id, held, known = ARGV[1], {}, ARGV[5] == 'first'\n"
            "local n = (#KEYS - 1) / 4\n"
            "for i = 1, n do\n"
            "  local k = 4 * (i - 1)\n"
            "  held[i] = redis.call('ZREM', KEYS[k + 2], id) == 1\n"
            "  if held[i] or redis.call('ZREM', KEYS[k + 3], id) == 1 then known = true end\n"
            "end\n"
            "if ARGV[5] == 'once' then\n"
            "  known = redis.call('SET', KEYS[#KEYS], '', 'NX', 'PX', ARGV[4])\n"
            "end\n"
            "if not known then return {'again'} end\n"
            "local out, now = {'ok'}, nil\n"
            "for i = 1, n do\n"
            "  local k, a = 4 * (i - 1), 5 + 2 * (i - 1)\n"
            "  local sum, rate = KEYS[k + 1], KEYS[k + 4]\n"
            "  local there = redis.call('HEXISTS', sum, 'spent') == 1\n"
            "  if there and held[i] and ARGV[3] ~= '0' then\n"
            "    redis.call('HINCRBY', sum, 'held', ARGV[3])\n"
            "  end\n"
            "  out[#out + 1] = there and redis.call('HINCRBY', sum, 'spent', ARGV[2]) or -1\n"
            "  local tpm, tokens = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])\n"
            "  if tpm > 0 and tokens ~= 0 then\n"
            "    if not now then\n"
            "      local t = redis.call('TIME')\n"
            "      now = t[1] * 1000000 + t[2]\n"
            "    end\n"
            "    local tat = tonumber(redis.call('GET', rate) or 0) or 0\n"
            "    if not (tat > now) then tat = now end\n"
            "    tat = tat + tokens * 60000000 / tpm\n"
            "    redis.call('SET', rate, string.format('%.0f', tat > now and tat or now),\n"
            "               'PX', 660000)\n"
            "  end\n"
            "end\n"
            "return out\n",
};

/* KEYS: due of each scope. ARGV: hold, its life (ms). */
static struct redis_script renew_script = {
    .name = "budget_renew",
    .text = "local t = redis.call('TIME')\n"
            "local due = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2])\n"
            "for _, key in ipairs(KEYS) do\n"
            "  redis.call('ZADD', key, 'XX', due, ARGV[1])\n"
            "end\n"
            "return 0\n",
};

/* KEYS: sum of each scope. Answers spent and held of each, -1 when it is not there. */
static struct redis_script look_script = {
    .name = "budget_look",
    .text = "local out = {}\n"
            "for _, key in ipairs(KEYS) do\n"
            "  out[#out + 1] = redis.call('HGET', key, 'spent') or -1\n"
            "  out[#out + 1] = redis.call('HGET', key, 'held') or 0\n"
            "end\n"
            "return out\n",
};

/* --- names and numbers ---------------------------------------------------------------------- */

/* Room for what one script is given. */
struct call {
    char text[MAX_KEYS][KEY_BYTES];
    char number[MAX_ARGS][NUMBER_BYTES];
    struct slice keys[MAX_KEYS], args[MAX_ARGS];
    unsigned n_keys, n_args;
};

static void call_begin(struct call *c)
{
    c->n_keys = c->n_args = 0; /* the rest is written before it is read */
}

static const char *uuid_of(const char *scope)
{
    const char *colon = strchr(scope, ':');

    return colon ? colon + 1 : scope;
}

/* The team's id, without a team the key's: the last scope is the widest. */
static const char *tag_of(const struct budget_hold *h)
{
    return uuid_of(h->scopes[h->n - 1].id);
}

/* "budget:{<tag>}:", which all keys begin with; 57 bytes at most. */
static char *put_tag(char *to, const struct budget_hold *h)
{
    return stpcpy(stpcpy(stpcpy(to, "budget:{"), tag_of(h)), "}:");
}

/* Behind that "<scope>:"; 48 bytes at most. */
static char *put_scope(char *to, const struct budget_hold *h, unsigned i)
{
    return stpcpy(stpcpy(put_tag(to, h), h->scopes[i].id), ":");
}

static void add_key(struct call *c, const char *end)
{
    char *to = c->text[c->n_keys];

    c->keys[c->n_keys++] = slice_of(to, (size_t)(end - to));
}

/* Behind that "day1767225600:"; 26 bytes at most. */
static char *put_period(char *to, const struct budget_hold *h, unsigned i)
{
    to = stpcpy(put_scope(to, h, i), budget_period_name(h->scopes[i].period));
    return stpcpy(decimal_i64(to, h->period[i].begin), ":");
}

static void add_sum_key(struct call *c, const struct budget_hold *h, unsigned i, const char *what)
{
    add_key(c, stpcpy(put_period(c->text[c->n_keys], h, i), what));
}

/* A key that begins as another one does. */
static void add_key_like(struct call *c, const char *begin, size_t n, const char *what)
{
    add_key(c, stpcpy(mempcpy(c->text[c->n_keys], begin, n), what));
}

static void add_scope_keys(struct call *c, const struct budget_hold *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        const char *begin = c->text[c->n_keys];
        char *end = put_period(c->text[c->n_keys], h, i);
        size_t n = (size_t)(end - begin);

        add_key(c, stpcpy(end, "sum"));
        add_key_like(c, begin, n, "due");
        add_key_like(c, begin, n, "late");
        add_key(c, stpcpy(put_scope(c->text[c->n_keys], h, i), "rate"));
    }
}

static void add_text(struct call *c, struct slice text)
{
    c->args[c->n_args++] = text;
}

static void add_number(struct call *c, int64_t v)
{
    char *to = c->number[c->n_args];

    add_text(c, slice_of(to, (size_t)(decimal_i64(to, v) - to)));
}

/* "<id>:<amount>" */
static void add_hold(struct call *c, const struct budget_hold *h)
{
    char *to = c->number[c->n_args];
    char *end = stpcpy(stpcpy(to, h->id), ":");

    add_text(c, slice_of(to, (size_t)(decimal_i64(end, h->cost) - to)));
}

/* Sums outlive their period by a day, for calls that are settled late. */
static int64_t ttl_ms(const struct budget_hold *h, unsigned i)
{
    int64_t now = (int64_t)(loop_wall_us() / 1000000u), left = h->period[i].next - now;

    if (h->period[i].next == 0)
        return TOTAL_TTL_S * 1000;
    return ((left > 0 ? left : 0) + DAY_S) * 1000;
}

/* A number of a reply, whatever it came as. */
static int64_t number_at(const struct redis_value *v, unsigned i)
{
    const struct redis_value *it = &v->items[i];
    char text[NUMBER_BYTES] = "";

    if (it->kind == REDIS_INT)
        return it->i;
    if (it->kind != REDIS_STR || it->s.n >= sizeof(text))
        return 0;
    memcpy(text, it->s.p, it->s.n);
    return strtoll(text, NULL, 10);
}

static bool says(const struct redis_value *v, const char *word, unsigned n)
{
    return v && v->kind == REDIS_ARRAY && v->n == n && v->items[0].kind == REDIS_STR &&
           slice_is(v->items[0].s, word);
}

/* --- the calls ------------------------------------------------------------------------------ */

struct op *budget_redis_reserve(const struct budget_hold *h, bool create, redis_done done,
                                void *arg)
{
    struct call c;

    call_begin(&c);
    add_scope_keys(&c, h);
    add_hold(&c, h);
    add_number(&c, (int64_t)(h->hold_us / 1000));
    add_number(&c, h->cost);
    add_number(&c, create);
    add_number(&c, UNKNOWN_MS);
    for (unsigned i = 0; i < h->n; i++) {
        int64_t least = budget_local_spent(h, i);

        add_number(&c, h->scopes[i].limit_nano_usd);
        add_number(&c, h->scopes[i].tokens_per_minute);
        add_number(&c, budget_rate_tokens(&h->scopes[i], h->tokens));
        add_number(&c, ttl_ms(h, i));
        add_number(&c, least > 0 ? least : 0);
    }
    return redis_eval(&reserve_script, c.keys, c.n_keys, c.args, c.n_args, done, arg);
}

static bool index_ok(const struct budget_hold *h, const struct redis_value *v)
{
    int64_t i = number_at(v, 1);

    return i >= 0 && i < (int64_t)h->n;
}

static void read_held(struct budget_hold *h, const struct redis_value *v)
{
    for (unsigned i = 0; i < h->n; i++) {
        int64_t spent = number_at(v, 1 + 3 * i), held = number_at(v, 2 + 3 * i);

        if (h->scopes[i].limit_nano_usd >= 0)
            budget_local_learn(h, i, spent);
        budget_note_left(h, i, spent, held, number_at(v, 3 + 3 * i));
    }
}

enum budget_verdict budget_redis_verdict(struct budget_hold *h, const struct redis_value *v,
                                         struct budget_refusal *ret)
{
    if (says(v, "absent", 1))
        return BUDGET_ABSENT;
    if (says(v, "ok", 1 + 3 * h->n)) {
        read_held(h, v);
        return BUDGET_HELD;
    }
    if (says(v, "money", 4) && index_ok(h, v)) {
        unsigned i = (unsigned)number_at(v, 1);

        budget_local_learn(h, i, number_at(v, 2));
        budget_refuse_money(h, i, number_at(v, 2), number_at(v, 3), ret);
        return BUDGET_NO_MONEY;
    }
    if (says(v, "rate", 4) && index_ok(h, v)) {
        budget_refuse_tokens(h, (unsigned)number_at(v, 1), number_at(v, 2),
                             (uint64_t)number_at(v, 3), ret);
        return BUDGET_NO_TOKENS;
    }
    return BUDGET_UNKNOWN;
}

/* Tokens are put right only where Redis has counted them. */
static int64_t token_change(const struct budget_hold *h, unsigned i)
{
    return h->in_redis == IN_REDIS ? h->used - budget_rate_tokens(&h->scopes[i], h->tokens) : 0;
}

/* How Redis tells a repetition from the first time. */
static struct slice repetition(const struct budget_hold *h)
{
    if (h->in_redis != IN_REDIS)
        return SLICE("once");
    return h->sent ? SLICE("again") : SLICE("first");
}

struct op *budget_redis_settle(const struct budget_hold *h, redis_done done, void *arg)
{
    struct call c;

    call_begin(&c);
    add_scope_keys(&c, h);
    add_key(&c, stpcpy(stpcpy(put_tag(c.text[c.n_keys], h), "done:"), h->id));
    add_hold(&c, h);
    add_number(&c, h->spent);
    add_number(&c, -h->cost);
    add_number(&c, UNKNOWN_MS);
    add_text(&c, repetition(h));
    for (unsigned i = 0; i < h->n; i++) {
        add_number(&c, h->scopes[i].tokens_per_minute);
        add_number(&c, token_change(h, i));
    }
    return redis_eval(&settle_script, c.keys, c.n_keys, c.args, c.n_args, done, arg);
}

bool budget_redis_settled(const struct budget_hold *h, const struct redis_value *v,
                          int64_t ret_spent[BUDGET_MAX_SCOPES])
{
    if (!says(v, "ok", 1 + h->n))
        return false;
    for (unsigned i = 0; i < h->n; i++)
        ret_spent[i] = number_at(v, 1 + i);
    return true;
}

static void on_renewed(enum gw_err err, const struct redis_value *v, void *arg)
{
    /* the next time comes before the hold is given back */
}

void budget_redis_renew(const struct budget_hold *h)
{
    struct call c;

    call_begin(&c);
    for (unsigned i = 0; i < h->n; i++)
        add_sum_key(&c, h, i, "due");
    add_hold(&c, h);
    add_number(&c, (int64_t)(h->hold_us / 1000));
    (void)redis_eval(&renew_script, c.keys, c.n_keys, c.args, c.n_args, on_renewed, NULL);
}

struct op *budget_redis_look(const struct budget_hold *h, redis_done done, void *arg)
{
    struct call c;

    call_begin(&c);
    for (unsigned i = 0; i < h->n; i++)
        add_sum_key(&c, h, i, "sum");
    return redis_eval(&look_script, c.keys, c.n_keys, NULL, 0, done, arg);
}

bool budget_redis_seen(const struct budget_hold *h, const struct redis_value *v,
                       struct budget_standing *ret)
{
    if (!v || v->kind != REDIS_ARRAY || v->n != 2 * h->n)
        return false;
    for (unsigned i = 0; i < h->n; i++) {
        ret[i].spent_nano_usd = number_at(v, 2 * i);
        ret[i].held_nano_usd = number_at(v, 2 * i + 1);
    }
    return true;
}
