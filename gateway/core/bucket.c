/* bucket.c - see bucket.h. */
#include "gateway/core/bucket.h"

#define MINUTE_US 60000000u

uint64_t bucket_step_us(const struct bucket_rate *r)
{
    uint64_t step = MINUTE_US / (uint64_t)r->per_minute;

    return step ? step : 1;
}

bool bucket_take(struct bucket *b, const struct bucket_rate *r, uint64_t now_us,
                 struct bucket_state *ret)
{
    uint64_t step = bucket_step_us(r);
    uint64_t depth, tat = b->tat_us > now_us ? b->tat_us : now_us;
    struct bucket_state s = {0};
    bool ok;

    depth = step * (uint64_t)r->burst;
    ok = tat + step <= now_us + depth;
    if (ok) {
        tat += step;
        b->tat_us = tat;
    } else {
        s.retry_in_us = tat + step - depth - now_us;
    }
    s.full_in_us = tat - now_us;
    s.remaining = (int64_t)((depth - (s.full_in_us < depth ? s.full_in_us : depth)) / step);
    if (ret)
        *ret = s;
    return ok;
}
