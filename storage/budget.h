/*
 * budget.h - money and tokens a key and its team may spend: the worst case is reserved before a
 * call, the real cost settled after it.
 *
 *     reserve --over--> refused (nothing is held)
 *        '--ok--> hold --settle(real cost)--> spent
 *                  '---- its process died: the hold expires by itself
 *
 * One Lua script in Redis decides over all scopes of a request at once (their keys share one hash
 * tag), so concurrency cannot overspend across workers, colours and machines. What a period has
 * cost is rebuilt from the ledger in Postgres when Redis has forgotten it. Redis away: conf's
 * budgets.on_outage says whether this process goes on with its own counters, or refuses. Amounts
 * are nano-USD. Periods begin at midnight UTC (weeks on Monday); a new period is a new counter, so
 * nothing needs a job to reset.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/op.h"

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_MAX_SCOPES 2u

enum budget_period { BUDGET_TOTAL, BUDGET_DAY, BUDGET_WEEK, BUDGET_MONTH };

struct budget_scope {
    char id[48];            /* "key:<uuid>" or "team:<uuid>" */
    int64_t limit_nano_usd; /* -1 = none */
    enum budget_period period;
    int64_t tokens_per_minute; /* 0 = none */
};

struct budget_ask {
    const struct budget_scope *scopes; /* copied; at most BUDGET_MAX_SCOPES */
    unsigned n_scopes;
    int64_t cost_nano_usd; /* worst case */
    int64_t tokens;        /* worst case, for the token rate */
    uint64_t hold_us; /* the hold is given back this long after its process died; while the process
                         lives it stays */
};

/* What is left for others once a reservation is made. */
struct budget_left {
    int64_t nano_usd;                  /* of the scope that has the least; -1 = no limit */
    int64_t tokens, tokens_per_minute; /* likewise of the token rate; tokens_per_minute 0 = none */
};

/* Why a reservation was refused. */
struct budget_refusal {
    bool tokens;               /* the token rate, not the money */
    struct budget_scope scope; /* whose limit it was */
    int64_t left_nano_usd;     /* of the money, reservations of others taken off; may be negative */
    int64_t left_tokens;       /* of the token rate */
    uint64_t retry_us;         /* until the tokens or the next period are there; 0 = never */
    int64_t resets_s;          /* when the next period begins, seconds since 1970; 0 = never */
};

struct budget_hold; /* owned by whoever got it, until budget_settle() */

/* What was left when it was made; valid as long as the hold. NULL gives no limits. */
struct budget_left budget_left(const struct budget_hold *hold);

enum gw_err budget_init(void) MUST_CHECK;
void budget_deinit(void);

/*
 * done(err, hold, refusal, arg): GW_OK with a hold; GW_EBUDGET or GW_ERATE with *refusal;
 * GW_EUNAVAIL when Redis is away and conf refuses then; GW_ENOMEM. NULL out of memory. Cancelling
 * gives back what may have been reserved meanwhile. A call that needs more tokens than its minute
 * has is let through when the whole minute is free.
 */
typedef void (*budget_done)(enum gw_err err, struct budget_hold *hold,
                            const struct budget_refusal *refusal, void *arg);
struct op *budget_reserve(const struct budget_ask *ask, budget_done done, void *arg);

/* The call is over: books the real cost and tokens and gives back the rest, in the period in which
 * it was reserved. Consumes the hold; NULL is fine. Never fails: what Redis cannot take now is kept
 * and sent when it is back, under the hold's id, so that sending it twice counts once. cost < 0:
 * unknown, the whole reservation is spent. */
void budget_settle(struct budget_hold *hold, int64_t cost_nano_usd, int64_t tokens);

/* A share of a budget that was passed by a settled call; told once per scope, period and share. */
struct budget_alert {
    const struct budget_scope *scope;
    unsigned percent;
    int64_t spent_nano_usd;
};
void budget_on_alert(void (*fn)(const struct budget_alert *alert));

/* What is known of each of a principal's scopes, for /users/me and tests: spent and held in the
 * running period, in the scopes' order. done runs once; GW_EUNAVAIL when nothing is known. */
struct budget_standing {
    int64_t spent_nano_usd, held_nano_usd;
};
struct op *budget_look(const struct budget_scope *scopes, unsigned n_scopes,
                       void (*done)(enum gw_err err, const struct budget_standing *s, void *arg),
                       void *arg);

/* Beginning of the period that holds `wall_us`, in seconds since 1970, and of the next (0 = never).
 */
void budget_period_bounds(enum budget_period p, uint64_t wall_us, int64_t *ret_begin,
                          int64_t *ret_next);
/* "total", "day", "week", "month" */
const char *budget_period_name(enum budget_period p);
bool budget_period_parse(const char *name, enum budget_period *ret);
