/* day.c - see day.h. */
#include "gateway/core/day.h"

#include <stdio.h>
#include <time.h>

/* The number of n digits at p, or 100000. */
static int digits(const char *p, size_t n)
{
    int v = 0;

    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 100000;
        v = v * 10 + (p[i] - '0');
    }
    return v;
}

bool day_parse(struct slice text, int64_t *ret_unix_s)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct tm tm = {0};
    int y, m, d;
    bool leap;

    if (text.n != 10 || text.p[4] != '-' || text.p[7] != '-')
        return false;
    y = digits(text.p, 4);
    m = digits(text.p + 5, 2);
    d = digits(text.p + 8, 2);
    leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (y > 9999 || m < 1 || m > 12 || d < 1 || d > days[m - 1] + (leap && m == 2))
        return false;
    tm.tm_year = y - 1900;
    tm.tm_mon = m - 1;
    tm.tm_mday = d;
    *ret_unix_s = (int64_t)timegm(&tm);
    return true;
}

struct slice day_http(int64_t unix_s, char out[DAY_HTTP_BYTES])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)unix_s;
    struct tm tm;
    int n;

    if (!gmtime_r(&t, &tm) || tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999)
        return SLICE_NONE;
    n = snprintf(out, DAY_HTTP_BYTES, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                 days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
                 tm.tm_hour, tm.tm_min, tm.tm_sec);
    return n > 0 && n < DAY_HTTP_BYTES ? slice_of(out, (size_t)n) : SLICE_NONE;
}
