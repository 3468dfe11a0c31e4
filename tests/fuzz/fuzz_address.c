/*
 * fuzz_address.c - texts of configuration and commands that are taken apart: REDIS_URL,
 * DATABASE_URL, rates of routes, days. The first byte says which. What is wrong is told without any
 * part of the text, since it may hold a password.
 */
#include "gateway/core/day.h"
#include "gateway/core/pgurl.h"
#include "gateway/core/ratelist.h"
#include "gateway/core/redisurl.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void redis_url(struct slice text)
{
    struct redisurl u;
    const char *why = NULL;

    if (redisurl_parse(text, &u, &why)) {
        assert(why && *why);
        return;
    }
    assert(*u.host && strlen(u.host) < sizeof(u.host));
    assert(strlen(u.user) < sizeof(u.user) && strlen(u.password) < sizeof(u.password));
    assert(u.db >= 0 && (u.local || u.port));
}

static void pg_url(struct slice text)
{
    struct pgurl u;
    const char *why = NULL;

    if (pgurl_parse(text, &u, &why))
        assert(why && *why);
    else
        assert(strlen(u.user) < sizeof(u.user) && strlen(u.password) < sizeof(u.password));
}

static void rate(struct slice text)
{
    struct ratelist_item item;

    if (ratelist_parse(text, &item))
        return;
    assert(item.method.n && item.path.n && item.path.p[0] == '/');
    assert(item.route.p >= text.p && item.route.p + item.route.n <= text.p + text.n);
}

static void day(struct slice text)
{
    char out[DAY_HTTP_BYTES];
    int64_t s;

    if (!day_parse(text, &s))
        return;
    assert(text.n == 10 && s % 86400 == 0);
    assert(day_http(s, out).n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct slice) = {redis_url, pg_url, rate, day};
    char *copy;

    if (size < 1)
        return 0;
    copy = malloc(size);
    assert(copy);
    memcpy(copy, data + 1, size - 1);
    readers[data[0] % 4](slice_of(copy, size - 1));
    free(copy);
    return 0;
}
