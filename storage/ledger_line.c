/*
 * ledger_line.c - a row as a line of text, and back. See ledger_private.h.
 *
 * Written once for each call, so by hand and without printf. What the table would refuse is put
 * right here: bytes that are no UTF-8 and NUL become "?", ids that are no uuids and usage that
 * jsonb cannot hold become NULL, numbers are cut at what can be added up.
 */
#include "gateway/core/decimal.h"
#include "gateway/core/utf8.h"
#include "gateway/core/uuid.h"
#include "storage/ledger_private.h"

#include <time.h>

#define FORMAT "1"
#define MAX_TEXT 256u
#define MAX_RAW 4096u
#define MAX_TOKENS 1000000000000ull  /* 10^12 */
#define MAX_COST 10000000000000000ll /* 10^16 nano-USD: ten million dollars */
#define FIELDS_BEFORE 5u             /* format, key, team, cost, time */

/* --- writing ---------------------------------------------------------------------------------- */

static char *put_null(char *to)
{
    memcpy(to, "\t\\N", 3);
    return to + 3;
}

static char *put_byte(char *to, char c)
{
    switch (c) {
    case '\t':
        return mempcpy(to, "\\t", 2);
    case '\n':
        return mempcpy(to, "\\n", 2);
    case '\r':
        return mempcpy(to, "\\r", 2);
    case '\\':
        return mempcpy(to, "\\\\", 2);
    default:
        *to++ = c ? c : '?';
        return to;
    }
}

/* Bytes at the front that are written as they are: most texts are nothing else. */
static size_t plain_bytes(struct slice s)
{
    size_t i = 0;

    while (i < s.n && s.p[i] >= ' ' && s.p[i] != '\\')
        i++;
    return i;
}

/* At most `max` bytes, cut between characters. */
static char *put_text_upto(char *to, struct slice s, size_t max)
{
    size_t i, n;

    if (!s.n)
        return put_null(to);
    *to++ = '\t';
    i = plain_bytes(slice_of(s.p, s.n < max ? s.n : max));
    to = mempcpy(to, s.p, i);
    while (i < s.n) {
        n = (unsigned char)s.p[i] < 0x80 ? 1 : utf8_length(s.p + i, s.n - i);
        if (i + (n ? n : 1) > max)
            break;
        if (n > 1) {
            memcpy(to, s.p + i, n);
            to += n;
        } else {
            to = put_byte(to, n ? s.p[i] : '?');
        }
        i += n ? n : 1;
    }
    return to;
}

static char *put_text(char *to, struct slice s)
{
    return put_text_upto(to, s, MAX_TEXT);
}

static char *put_uuid(char *to, struct slice s)
{
    return uuid_is(s) ? put_text(to, s) : put_null(to);
}

static char *put_number(char *to, uint64_t v, uint64_t max)
{
    *to++ = '\t';
    return decimal_u64(to, v < max ? v : max);
}

static char *put_cost(char *to, int64_t nano_usd)
{
    return nano_usd < 0 ? put_null(to) : put_number(to, (uint64_t)nano_usd, MAX_COST);
}

static char *put_bool(char *to, bool v)
{
    *to++ = '\t';
    *to++ = v ? 't' : 'f';
    return to;
}

/* "2026-11-29 00:43:12.123456+00": always as long, so that times sort as text. */
static char *put_time(char *to, uint64_t wall_us)
{
    static uint64_t day = UINT64_MAX;
    static char date[12];
    uint64_t s = wall_us / 1000000, today = s / 86400;
    struct tm tm;
    time_t t = (time_t)s;

    if (today != day) {
        gmtime_r(&t, &tm);
        strftime(date, sizeof(date), "%Y-%m-%d ", &tm);
        day = today;
    }
    *to++ = '\t';
    memcpy(to, date, 11);
    to = decimal_padded(to + 11, s / 3600 % 24, 2);
    *to++ = ':';
    to = decimal_padded(to, s / 60 % 60, 2);
    *to++ = ':';
    to = decimal_padded(to, s % 60, 2);
    *to++ = '.';
    to = decimal_padded(to, wall_us % 1000000, 6);
    memcpy(to, "+00", 3);
    return to + 3;
}

/* Usage that is too long, or has escapes that jsonb may refuse, is left out. */
static char *put_raw(char *to, struct slice raw)
{
    if (raw.n > MAX_RAW || (raw.n && memmem(raw.p, raw.n, "\\u", 2)))
        return put_null(to);
    return put_text_upto(to, raw, MAX_RAW);
}

size_t ledger_line_write(char *start, const struct ledger_row *r)
{
    char *to = start;

    memcpy(to, FORMAT, 1);
    to = put_uuid(to + 1, r->key_id);
    to = put_uuid(to, r->team_id);
    to = put_cost(to, r->cost_nano_usd);
    to = put_time(to, r->at_wall_us);
    to = put_text(to, r->request_id);
    to = put_text(to, r->idempotency_key);
    to = put_uuid(to, r->owner_id);
    to = put_text(to, r->subject);
    to = put_text(to, r->provider);
    to = put_text(to, r->model);
    to = put_text(to, r->asked_model);
    to = put_text(to, slice_cstr(r->surface));
    to = put_text(to, slice_cstr(r->purpose));
    to = put_text(to, slice_cstr(r->status));
    to = put_text(to, slice_cstr(r->cache));
    to = put_bool(to, r->stream);
    to = put_number(to, r->attempts, INT32_MAX);
    to = put_number(to, r->fallback_index, INT32_MAX);
    to = put_bool(to, r->usage_known);
    to = put_number(to, r->input, MAX_TOKENS);
    to = put_number(to, r->cache_read, MAX_TOKENS);
    to = put_number(to, r->cache_write, MAX_TOKENS);
    to = put_number(to, r->output, MAX_TOKENS);
    to = put_number(to, r->reasoning, MAX_TOKENS);
    to = put_cost(to, r->avoided_nano_usd < 0 ? 0 : r->avoided_nano_usd);
    to = put_number(to, r->duration_us, INT64_MAX);
    to = put_number(to, r->first_token_us, INT64_MAX);
    to = put_text(to, slice_cstr(r->price_version));
    to = put_raw(to, r->raw_usage);
    return (size_t)(to - start);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* 0 for \N. False when it is more than a number holds: the disk may say anything. */
static bool number_of(struct slice s, int64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        if (__builtin_mul_overflow(*ret, 10, ret) ||
            __builtin_add_overflow(*ret, s.p[i] - '0', ret))
            return false;
    return true;
}

bool ledger_line_read(struct slice record, struct ledger_line *ret)
{
    struct slice field[FIELDS_BEFORE], rest = record;
    const char *last;
    unsigned i;

    for (i = 0; i < FIELDS_BEFORE; i++) {
        size_t n = slice_find(rest, '\t');

        if (n == rest.n)
            return false;
        field[i] = slice_of(rest.p, n);
        rest = slice_from(rest, n + 1);
    }
    if (!slice_is(field[0], FORMAT) || !number_of(field[3], &ret->cost_nano_usd))
        return false;
    last = memrchr(record.p, '\t', record.n);
    ret->key = field[1];
    ret->team = field[2];
    ret->at = field[4];
    ret->columns = slice_from(record, field[0].n + 1);
    ret->raw = slice_from(record, (size_t)(last - record.p) + 1);
    return true;
}
