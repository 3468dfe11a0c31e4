/*
 * pgurl.h - DATABASE_URL taken apart as far as configuration judges it. Pure.
 *
 *     postgresql://[user[:password]@][host[:port][,host[:port]...]][/database][?key=value&...]
 *     host=... port=... dbname=... user=... password='...'
 *
 * What libpq makes of the rest (unknown keywords, files) is libpq's to say: pg_url_ok() of
 * storage/pg.h.
 */
#pragma once

#include "gateway/core/err.h"
#include "gateway/core/slice.h"

struct pgurl {
    bool local;          /* through a Unix socket only */
    bool other_proof;    /* names a password file or a client certificate */
    char user[128];      /* "" = none given */
    char password[1024]; /* "" = none given */
};

/* GW_EBADREQ with *ret_why saying what is wrong (a literal without any part of the URL, since that
 * holds a password); then *ret is not to be used. */
enum gw_err pgurl_parse(struct slice text, struct pgurl *ret, const char **ret_why) MUST_CHECK;
