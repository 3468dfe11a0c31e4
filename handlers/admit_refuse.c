/* admit_refuse.c - see admit_refuse.h. */
#include "handlers/admit_refuse.h"

#include "gateway/core/decimal.h"
#include "gateway/core/metrics.h"

#include <time.h>

struct slice admit_dollars(struct arena *a, int64_t nano_usd)
{
    uint64_t n = nano_usd < 0 ? 0 - (uint64_t)nano_usd : (uint64_t)nano_usd;
    char text[DECIMAL_NANO_MAX + 2], *end = stpcpy(text, nano_usd < 0 ? "-$" : "$");

    end = decimal_nano(end, n);
    for (unsigned kept = 9; kept > 2 && end[-1] == '0'; kept--)
        end--;
    return arena_dup(a, slice_of(text, (size_t)(end - text)));
}

static void set_number(struct request *req, const char *name, int64_t v)
{
    request_set_header(req, name, arena_u64(req->arena, v > 0 ? (uint64_t)v : 0));
}

void admit_token_headers(struct request *req, int64_t limit, int64_t remaining)
{
    set_number(req, "X-RateLimit-Limit-Tokens", limit);
    set_number(req, "X-RateLimit-Remaining-Tokens", remaining);
}

void admit_refuse_model(struct request *req, struct slice asked)
{
    struct error_detail d = {.param = SLICE("model")};

    d.message = arena_printf(req->arena, "This credential may not use the model `%.*s`.",
                             (int)(asked.n < 128 ? asked.n : 128), asked.p ? asked.p : "");
    request_fail(req, GW_EMODELDENIED, &d);
}

void admit_refuse_price(struct request *req, const struct registry_model *m)
{
    struct error_detail d = {.param = SLICE("model")};

    d.message = arena_printf(req->arena,
                             "The price of the model %.*s is unknown, and this credential has a "
                             "budget.",
                             SLICE_ARG(m->id));
    request_fail(req, GW_EPRICE, &d);
}

/* "key" or "team" */
static const char *kind_of(const struct budget_scope *s)
{
    return strncmp(s->id, "team:", 5) == 0 ? "team" : "key";
}

static const char *adjective_of(enum budget_period p)
{
    static const char *const words[] = {[BUDGET_TOTAL] = "",
                                        [BUDGET_DAY] = "daily ",
                                        [BUDGET_WEEK] = "weekly ",
                                        [BUDGET_MONTH] = "monthly "};

    return words[p];
}

static struct slice time_text(struct arena *a, int64_t s)
{
    time_t t = (time_t)s;
    char text[32];
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        return SLICE("later");
    return arena_dup(a, slice_cstr(text));
}

/* " It resets at ..." */
static struct slice reset_text(struct arena *a, const struct budget_refusal *why)
{
    if (why->resets_s == 0)
        return SLICE(" It does not reset.");
    return arena_printf(a, " It resets at %.*s.", SLICE_ARG(time_text(a, why->resets_s)));
}

static struct slice money_text(struct arena *a, const struct budget_refusal *why,
                               const struct admit_ask *ask, const struct admit_worst *worst)
{
    struct slice limit = admit_dollars(a, why->scope.limit_nano_usd);
    struct slice left = admit_dollars(a, why->left_nano_usd > 0 ? why->left_nano_usd : 0);
    struct slice cost = admit_dollars(a, worst->cost);
    struct slice reset = reset_text(a, why);
    bool unlimited = strcmp(ask->purpose, "chat") == 0 && ask->output_tokens <= 0;

    return arena_printf(a,
                        "The %sbudget of this %s is %.*s, of which %.*s is left; this call may "
                        "cost up to %.*s.%.*s%s",
                        adjective_of(why->scope.period), kind_of(&why->scope), SLICE_ARG(limit),
                        SLICE_ARG(left), SLICE_ARG(cost), SLICE_ARG(reset),
                        unlimited && why->left_nano_usd > 0
                            ? " A limit on its output tokens makes a call cheaper."
                            : "");
}

static struct slice token_text(struct arena *a, const struct budget_refusal *why,
                               const struct admit_worst *worst)
{
    return arena_printf(a,
                        "This %s may use %lld tokens a minute, of which %lld are left now; this "
                        "call may use up to %lld.",
                        kind_of(&why->scope), (long long)why->scope.tokens_per_minute,
                        (long long)why->left_tokens, (long long)worst->tokens);
}

/* A call dearer than the whole budget need not come again. */
static bool may_come_again(const struct budget_refusal *why, const struct admit_worst *worst)
{
    return why->tokens || worst->cost <= why->scope.limit_nano_usd;
}

void admit_refuse_budget(struct request *req, enum gw_err err, const struct budget_refusal *why,
                         const struct admit_ask *ask, const struct admit_worst *worst)
{
    struct error_detail d = {0};

    if (err == GW_EUNAVAIL) {
        d.message = SLICE("Budgets cannot be checked at the moment.");
        d.retry_after_s = 1;
    } else if (why && why->tokens) {
        d.message = token_text(req->arena, why, worst);
        admit_token_headers(req, why->scope.tokens_per_minute, why->left_tokens);
    } else if (why) {
        d.message = money_text(req->arena, why, ask, worst);
    }
    if (why) {
        if (why->retry_us && may_come_again(why, worst))
            d.retry_after_s = (why->retry_us + 999999) / 1000000;
        if (why->tokens)
            metrics_add(metrics_get(M_RATE_LIMITED, "tokens", NULL, NULL), 1);
        else
            metrics_add(metrics_get(M_BUDGET_REFUSED, kind_of(&why->scope), NULL, NULL), 1);
    }
    request_fail(req, err, &d);
}
