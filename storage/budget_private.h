/*
 * budget_private.h - what the files of budget.h share.
 *
 *     budget.c          the calls of budget.h: one reservation from its asking to its answer
 *     budget_period.c   when periods begin
 *     budget_local.c    accounts: what this process knows of each scope, and decides by alone
 */
#pragma once

#include "storage/budget.h"

#include <sys/queue.h>

/* Amounts are capped here, at some nine million dollars: up to this Lua's doubles are exact. */
#define BUDGET_MAX_AMOUNT ((INT64_C(1) << 53) - 1)
#define BUDGET_MINUTE_US 60000000

/* A hold is in exactly one list of budget.c once it has been given out. */
struct budget_hold {
    TAILQ_ENTRY(budget_hold) link;
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

/* Tokens of one reservation as far as one scope's rate counts them: at most a whole minute. */
int64_t budget_rate_tokens(const struct budget_scope *s, int64_t tokens);

/* --- accounts (budget_local.c) --------------------------------------------------------------- */

enum gw_err budget_local_init(void) MUST_CHECK;
void budget_local_deinit(void);

/* Does every scope with a money limit have a known beginning? Else *ret_scope is one that has not.
 */
bool budget_local_knows(const struct budget_hold *h, unsigned *ret_scope);
/* The least a scope has spent in the hold's period; -1 = unknown. */
int64_t budget_local_spent(const struct budget_hold *h, unsigned scope);
/* Somebody who should know says that a scope has spent at least this. Amounts only rise. */
void budget_local_learn(const struct budget_hold *h, unsigned scope, int64_t spent);

/* Decides by what is known here: GW_OK (held, h->left filled in), GW_EBUDGET or GW_ERATE with *ret,
 * GW_ENOMEM. */
enum gw_err budget_local_judge(struct budget_hold *h, struct budget_refusal *ret) MUST_CHECK;
/* Somebody else has decided that it is held. */
void budget_local_hold(struct budget_hold *h);
/* No longer held; tokens that were not used come back. */
void budget_local_release(struct budget_hold *h);
/* Books h->spent; tells the shares that are passed. */
void budget_local_spend(const struct budget_hold *h);

/* Refusals and what is left, from the numbers of whoever decided. */
void budget_refuse_money(const struct budget_hold *h, unsigned scope, int64_t spent, int64_t held,
                         struct budget_refusal *ret);
void budget_refuse_tokens(const struct budget_hold *h, unsigned scope, int64_t left,
                          uint64_t retry_us, struct budget_refusal *ret);
void budget_note_left(struct budget_hold *h, unsigned scope, int64_t spent, int64_t held,
                      int64_t tokens_left);

/* Tells the shares of a scope that lie between two amounts (budget.c). */
void budget_tell_shares(const struct budget_scope *s, int64_t before, int64_t after);
