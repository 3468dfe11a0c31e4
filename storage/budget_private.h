/*
 * budget_private.h - what the files of budget.h share.
 *
 *     budget.c          the calls of budget.h: one reservation from its asking to its answer
 *     budget_period.c   when periods begin
 *     budget_look.c     what is known of a scope, for those who only look
 *     budget_local.c    accounts: what this process knows of each scope, and decides by alone
 *     budget_redis.c    the counters all processes share
 *     budget_owed.c     holds on their way to Redis, and those it does not know of yet
 *     budget_seed.c     what a period has cost so far, from Postgres
 *     budget_check.c    is what Redis says no less than that?
 */
#pragma once

#include "storage/budget.h"
#include "storage/redis.h"

#include <sys/queue.h>

/* Amounts are capped here, at some nine million dollars: up to this Lua's doubles are exact. */
#define BUDGET_MAX_AMOUNT ((INT64_C(1) << 53) - 1)
#define BUDGET_MINUTE_US 60000000

/* Has Redis heard of a hold? */
enum budget_whereabouts { NOT_IN_REDIS, MAYBE_IN_REDIS, IN_REDIS };

/* Where it is kept (budget_owed.c). */
enum budget_place { PLACE_NONE, PLACE_OPEN, PLACE_SENDING, PLACE_OWED };

struct budget_hold {
    TAILQ_ENTRY(budget_hold) link; /* of its place's list */
    enum budget_place place;
    struct op *op;     /* SENDING */
    uint64_t renew_us; /* OPEN: when Redis is to be told that it lives */
    bool sent;         /* OWED: Redis may have booked it already */
    bool booked;       /* OWED: in the accounts here */
    enum budget_whereabouts in_redis;
    char id[33];
    unsigned n;
    struct budget_scope scopes[BUDGET_MAX_SCOPES];
    struct {
        int64_t begin, next; /* the period it was reserved in, seconds since 1970 */
    } period[BUDGET_MAX_SCOPES];
    int64_t cost, tokens; /* reserved */
    struct budget_left left;
    uint64_t hold_us;
    bool is_held;        /* counted as held in the accounts */
    int64_t spent, used; /* once it is settled: money and tokens */
};

/* One for these scopes in the periods that run now, that holds nothing; NULL out of memory. */
struct budget_hold *budget_hold_new(const struct budget_scope *scopes, unsigned n);

/* Tokens of one reservation as far as one scope's rate counts them: at most a whole minute. */
int64_t budget_rate_tokens(const struct budget_scope *s, int64_t tokens);

/* --- accounts (budget_local.c) --------------------------------------------------------------- */

enum gw_err budget_local_init(void) MUST_CHECK;
void budget_local_deinit(void);

/* The least a scope has spent in the hold's period; -1 = unknown. */
int64_t budget_local_spent(const struct budget_hold *h, unsigned scope);
/* Is it unknown what the scope spent before this process counted, and worth asking Postgres now? */
bool budget_local_may_ask(const struct budget_hold *h, unsigned scope);
/* Postgres did not say; it is not asked again at once. */
void budget_local_unanswered(const struct budget_hold *h, unsigned scope);
/* Is it unknown whether the shared sum is as high as the ledger's, and worth asking now? */
bool budget_local_may_check(const struct budget_hold *h, unsigned scope);
/* The ledger was asked, or did not answer: then it is asked again later. */
void budget_local_checked(const struct budget_hold *h, unsigned scope, bool answered);
/* Somebody who should know says that a scope has spent at least this. Amounts only rise. */
void budget_local_learn(const struct budget_hold *h, unsigned scope, int64_t spent);

/* Decides by what is known here: GW_OK (held, h->left filled in), GW_EBUDGET or GW_ERATE with *ret,
 * GW_ENOMEM. */
enum gw_err budget_local_judge(struct budget_hold *h, struct budget_refusal *ret) MUST_CHECK;
/* Somebody else has decided that it is held. */
void budget_local_hold(struct budget_hold *h);
/* No longer held; tokens that were not used come back. */
void budget_local_release(struct budget_hold *h);
/* Books h->spent to one of its scopes; tells the shares that are passed. */
void budget_local_spend(const struct budget_hold *h, unsigned scope);
/* Where an account keeps what it owes to Redis: spending that was decided on here. NULL when there
 * is no account. */
struct budget_hold **budget_local_owed(const struct budget_hold *h);
/* Forgets accounts that nobody has used for an hour and Postgres can bring back; looks at a part
 * of them with each call. */
void budget_local_sweep(void);

/* Refusals and what is left, from the numbers of whoever decided. */
void budget_refuse_money(const struct budget_hold *h, unsigned scope, int64_t spent, int64_t held,
                         struct budget_refusal *ret);
void budget_refuse_tokens(const struct budget_hold *h, unsigned scope, int64_t left,
                          uint64_t retry_us, struct budget_refusal *ret);
void budget_note_left(struct budget_hold *h, unsigned scope, int64_t spent, int64_t held,
                      int64_t tokens_left);

/* --- shared counters (budget_redis.c) -------------------------------------------------------- */

enum budget_verdict {
    BUDGET_HELD,
    BUDGET_NO_MONEY,
    BUDGET_NO_TOKENS,
    BUDGET_ABSENT, /* a sum is not there; ask again with `create` when its beginning is known */
    BUDGET_UNKNOWN /* no answer we know */
};

/* As redis_eval(). */
struct op *budget_redis_reserve(const struct budget_hold *h, bool create, redis_done done,
                                void *arg);
/* Reads the answer; teaches the accounts. */
enum budget_verdict budget_redis_verdict(struct budget_hold *h, const struct redis_value *v,
                                         struct budget_refusal *ret);
struct op *budget_redis_settle(const struct budget_hold *h, redis_done done, void *arg);
/* False when it had been settled before; else what each scope has spent now, -1 where there is no
 * sum. */
bool budget_redis_settled(const struct budget_hold *h, const struct redis_value *v,
                          int64_t ret_spent[BUDGET_MAX_SCOPES]);
void budget_redis_renew(const struct budget_hold *h);
struct op *budget_redis_look(const struct budget_hold *h, redis_done done, void *arg);
/* False when it is no answer. Spent is -1 where there is no sum. */
bool budget_redis_seen(const struct budget_hold *h, const struct redis_value *v,
                       struct budget_standing *ret);

/* --- holds under way (budget_owed.c) --------------------------------------------------------- */

void budget_owed_init(void);
/* Waits a moment for what is under way. */
void budget_owed_deinit(void);
/* What was sent for a scope and not answered yet: the ledger has it, the accounts have not. */
int64_t budget_owed_unanswered(const char *scope, enum budget_period period, int64_t begin);
/* A hold Redis keeps is given out: it is renewed until it is settled. */
void budget_owed_open(struct budget_hold *h);
/* It is over: sends h->spent and h->used, now or when Redis is back, and frees it. */
void budget_owed_settle(struct budget_hold *h);

/* --- beginnings (budget_seed.c) --------------------------------------------------------------- */

/* What a scope of the hold has spent in its period, as Postgres and this process's ledger know:
 * done(nano-USD, exact, arg), -1 when nobody does; not exact when rows were on their way between
 * the two all the time, and may be missing or counted twice. Askers of one scope share a query.
 * NULL out of memory. */
struct op *budget_seed(const struct budget_hold *h, unsigned scope,
                       void (*done)(int64_t spent, bool exact, void *arg), void *arg);

/* --- against the ledger (budget_check.c) -------------------------------------------------------
 */

void budget_check_init(void);
void budget_check_deinit(void);
/* The account learns what the ledger says of the hold's scopes, later, when it has not before. */
void budget_check(const struct budget_hold *h);

/* Tells the shares of a scope that lie between two amounts (budget.c). */
void budget_tell_shares(const struct budget_scope *s, int64_t before, int64_t after);
