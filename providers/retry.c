/*
 * retry.c - see retry.h.
 *
 * The budget is what was deposited in this window and in the former one and not yet spent, oldest
 * first. The floor lends: it puts the balance into debt, which later deposits pay back, so under
 * load the share of retries stays below the percentage.
 */
#include "providers/retry.h"

#include <time.h>

#define WINDOW_US 10000000u
#define RETRY_MILLI 1000
#define CAP_MILLI (1000 * RETRY_MILLI)
#define FLOOR_RETRIES 2u
#define MAX_AFTER_S 86400u

void retry_budget_init(struct retry_budget *b)
{
    *b = (struct retry_budget){0};
}

static void roll(struct retry_budget *b, uint64_t now_us)
{
    uint64_t past_us = now_us > b->window_us ? now_us - b->window_us : 0;

    if (past_us < WINDOW_US)
        return;
    b->former_milli = past_us < 2 * (uint64_t)WINDOW_US ? b->fresh_milli : 0;
    b->fresh_milli = 0;
    b->taken = 0;
    b->window_us = now_us - past_us % WINDOW_US;
}

void retry_budget_deposit(struct retry_budget *b, const struct retry_config *c, uint64_t now_us)
{
    roll(b, now_us);
    b->fresh_milli += (int64_t)c->budget_percent * (RETRY_MILLI / 100);
    if (b->fresh_milli > CAP_MILLI)
        b->fresh_milli = CAP_MILLI;
}

bool retry_budget_withdraw(struct retry_budget *b, const struct retry_config *c, uint64_t now_us)
{
    int64_t from_former;

    roll(b, now_us);
    if (c->budget_percent == 0)
        return false;
    if (b->former_milli + b->fresh_milli < RETRY_MILLI && b->taken >= FLOOR_RETRIES)
        return false;
    from_former = b->former_milli < RETRY_MILLI ? b->former_milli : RETRY_MILLI;
    if (from_former < 0)
        from_former = 0;
    b->former_milli -= from_former;
    b->fresh_milli -= RETRY_MILLI - from_former;
    b->taken++;
    return true;
}

/* random(0, min(max, base * 2^(made - 1))) */
static uint64_t jitter_us(const struct retry_config *c, unsigned made, uint32_t random)
{
    uint64_t ceiling = c->base_us;
    unsigned __int128 scaled;

    while (made-- > 1 && ceiling < c->max_us)
        ceiling = ceiling > c->max_us / 2 ? c->max_us : ceiling * 2;
    if (ceiling > c->max_us)
        ceiling = c->max_us;
    scaled = (unsigned __int128)ceiling * random;
    return (uint64_t)(scaled >> 32);
}

enum retry_decision retry_decide(const struct retry_config *c, unsigned made, bool retryable,
                                 uint64_t retry_after_us, uint32_t random, uint64_t now_us,
                                 uint64_t deadline_us, uint64_t *ret_wait_us)
{
    uint64_t left_us = UINT64_MAX;
    uint64_t wait_us = jitter_us(c, made, random);

    if (deadline_us)
        left_us = deadline_us > now_us ? deadline_us - now_us : 0;
    if (!retryable || made >= c->attempts || retry_after_us >= left_us)
        return RETRY_NO;
    if (retry_after_us)
        wait_us = wait_us < left_us - retry_after_us ? retry_after_us + wait_us : retry_after_us;
    if (wait_us >= left_us)
        return RETRY_NO;
    *ret_wait_us = wait_us;
    return RETRY_AFTER;
}

/* --- Retry-After ---------------------------------------------------------------------------- */

static bool parse_seconds(struct slice v, uint64_t *ret_s)
{
    uint64_t s = 0;

    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        s = s * 10 + (uint64_t)(v.p[i] - '0');
        if (s > MAX_AFTER_S)
            s = MAX_AFTER_S;
    }
    *ret_s = s;
    return v.n > 0;
}

/* The three forms of RFC 9110, 5.6.7; the program runs in the C locale. */
static bool parse_date(struct slice v, int64_t *ret_wall_s)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    char text[40];
    const char *end;
    struct tm tm;

    if (v.n >= sizeof(text))
        return false;
    memcpy(text, v.p, v.n);
    text[v.n] = '\0';
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        tm = (struct tm){0};
        end = strptime(text, forms[i], &tm);
        if (end != text + v.n)
            continue;
        *ret_wall_s = timegm(&tm);
        return true;
    }
    return false;
}

bool retry_parse_after(struct slice value, uint64_t wall_s, uint64_t *ret_us)
{
    int64_t date_s;
    uint64_t s;

    value = slice_trim(value);
    if (value.n == 0)
        return false;
    if (!parse_seconds(value, &s)) {
        if (!parse_date(value, &date_s) || date_s < 0 || (uint64_t)date_s < wall_s)
            return false;
        s = (uint64_t)date_s - wall_s;
        s = s < MAX_AFTER_S ? s : MAX_AFTER_S;
    }
    *ret_us = s * 1000000u;
    return true;
}
