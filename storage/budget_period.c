/* budget_period.c - when the periods of budgets begin: at midnight UTC, weeks on Monday. */
#include "storage/budget.h"

#include <string.h>

#define DAY_S 86400

static const char *const names[] = {
    [BUDGET_TOTAL] = "total",
    [BUDGET_DAY] = "day",
    [BUDGET_WEEK] = "week",
    [BUDGET_MONTH] = "month",
};

const char *budget_period_name(enum budget_period p)
{
    return names[p];
}

bool budget_period_parse(const char *name, enum budget_period *ret)
{
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (name && strcmp(name, names[i]) == 0) {
            *ret = (enum budget_period)i;
            return true;
        }
    return false;
}

/* Days since 1970 of the first of a month; month 13 is January of the next year. Years are counted
 * from March, so that the leap day is the last. */
static int64_t days_of(int64_t year, int64_t month)
{
    int64_t y = year + (month > 12) - ((month > 12 ? month - 12 : month) <= 2);
    int64_t m = (month > 12 ? month - 12 : month);
    int64_t since_march = (m + 9) % 12;
    int64_t era = y / 400, of_era = y % 400;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * since_march + 2) / 5 -
           719468;
}

/* Year and month of a day since 1970. */
static void month_of(int64_t day, int64_t *ret_year, int64_t *ret_month)
{
    int64_t z = day + 719468, era = z / 146097, of_era = z % 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t since_march = (5 * of_year + 2) / 153;

    *ret_month = since_march < 10 ? since_march + 3 : since_march - 9;
    *ret_year = era * 400 + year + (*ret_month <= 2);
}

void budget_period_bounds(enum budget_period p, uint64_t wall_us, int64_t *ret_begin,
                          int64_t *ret_next)
{
    int64_t day = (int64_t)(wall_us / 1000000u) / DAY_S, year, month;

    *ret_begin = *ret_next = 0;
    switch (p) {
    case BUDGET_TOTAL:
        break;
    case BUDGET_DAY:
        *ret_begin = day * DAY_S;
        *ret_next = *ret_begin + DAY_S;
        break;
    case BUDGET_WEEK:
        *ret_begin = (day - (day + 3) % 7) * DAY_S; /* 1970 began on a Thursday */
        *ret_next = *ret_begin + 7 * DAY_S;
        break;
    case BUDGET_MONTH:
        month_of(day, &year, &month);
        *ret_begin = days_of(year, month) * DAY_S;
        *ret_next = days_of(year, month + 1) * DAY_S;
        break;
    }
}
