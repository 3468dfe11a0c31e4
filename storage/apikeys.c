/* apikeys.c - see apikeys.h. */
#include "storage/apikeys.h"

#include "gateway/core/base64url.h"
#include "gateway/core/hex.h"
#include "gateway/core/rng.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

/* clang-format off */
#define COLUMNS                                                                                    \
    "k.id, k.owner_id, (SELECT user_id FROM users WHERE id = k.owner_id), k.team_id, k.name, "     \
    "k.prefix, to_json(k.scopes), to_json(k.models), k.requests_per_minute, k.tokens_per_minute, " \
    "coalesce(k.budget_nano_usd, -1), k.budget_period, "                                           \
    PG_TIME("k.expires_at") ", " PG_TIME("k.last_used_at") ", " PG_TIME("k.revoked_at") ", "       \
    PG_TIME("k.created_at")
/* clang-format on */

static const struct pg_stmt add = {
    "apikeys_add",
    "INSERT INTO api_keys AS k (id, owner_id, team_id, name, prefix, key_sha256, scopes, models, "
    "requests_per_minute, tokens_per_minute, budget_nano_usd, budget_period, expires_at) "
    "SELECT $1::uuid, $2::uuid, coalesce($3::uuid, (SELECT team_id FROM users WHERE id = "
    "$2::uuid)), "
    "$4, $5, decode($6, 'hex'), ARRAY(SELECT json_array_elements_text($7::json)), "
    "ARRAY(SELECT json_array_elements_text($8::json)), $9::integer, $10::bigint, $11::bigint, $12, "
    "now() + make_interval(secs => $13::bigint) WHERE $14::bigint IS NULL OR $14::bigint > "
    "(SELECT count(*) FROM api_keys o WHERE o.owner_id = $2::uuid AND o.revoked_at IS NULL AND "
    "coalesce(o.expires_at > now(), true)) RETURNING " COLUMNS ", 1"};
static const struct pg_stmt page = {"apikeys_page", PG_PAGE(COLUMNS, "api_keys", "k",
                                                            "($1::uuid IS NULL OR k.owner_id = $1)",
                                                            "k.created_at DESC, k.id", "$2", "$3")};
static const struct pg_stmt revoke = {
    "apikeys_revoke", "UPDATE api_keys AS k SET revoked_at = now() WHERE (k.id::text = $1 OR "
                      "k.prefix = $1) AND k.revoked_at IS NULL AND ($2::uuid IS NULL OR "
                      "k.owner_id = $2) RETURNING " COLUMNS ", 1"};

enum gw_err apikey_make(struct apikey_secret *ret)
{
    unsigned char raw[32], sha[32];
    unsigned n = 0;

    *ret = (struct apikey_secret){.key = "pk-"};
    rng_fill(raw, sizeof(raw));
    base64url_encode(ret->key + 3, raw, sizeof(raw));
    OPENSSL_cleanse(raw, sizeof(raw));
    memcpy(ret->prefix, ret->key, APIKEY_PREFIX);
    if (EVP_Digest(ret->key, APIKEY_CHARS, sha, &n, EVP_sha256(), NULL) != 1)
        return GW_ENOMEM;
    hex_write(ret->sha256_hex, sha, n);
    return GW_OK;
}

bool apikey_read(const struct pg_rows *rows, unsigned row, struct apikey *ret)
{
    if (pg_is_null(rows, row, 0))
        return false;
    *ret = (struct apikey){
        .id = pg_text(rows, row, 0),
        .owner_id = pg_text_or_empty(rows, row, 1),
        .owner_name = pg_text_or_empty(rows, row, 2),
        .team_id = pg_text_or_empty(rows, row, 3),
        .name = pg_text_or_empty(rows, row, 4),
        .prefix = pg_text(rows, row, 5),
        .scopes = pg_text(rows, row, 6),
        .models = pg_text(rows, row, 7),
        .requests_per_minute = pg_int(rows, row, 8),
        .tokens_per_minute = pg_int(rows, row, 9),
        .budget_nano_usd = pg_int(rows, row, 10),
        .budget_period = pg_text_or_empty(rows, row, 11),
        .expires_at = pg_text_or_empty(rows, row, 12),
        .last_used_at = pg_text_or_empty(rows, row, 13),
        .revoked_at = pg_text_or_empty(rows, row, 14),
        .created_at = pg_text(rows, row, 15),
        .total = pg_int(rows, row, 16),
    };
    return true;
}

struct op *apikeys_add(const struct apikey_new *k, uint64_t deadline_us, pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, k->id);
    pg_arg_text(&a, k->owner_id);
    pg_arg_or_null(&a, k->team_id);
    pg_arg_text(&a, k->name);
    pg_arg_cstr(&a, k->secret->prefix);
    pg_arg_cstr(&a, k->secret->sha256_hex);
    pg_arg_text(&a, k->scopes.n ? k->scopes : SLICE("[]"));
    pg_arg_text(&a, k->models.n ? k->models : SLICE("[]"));
    pg_arg_int_if(&a, k->requests_per_minute > 0, k->requests_per_minute);
    pg_arg_int_if(&a, k->tokens_per_minute > 0, k->tokens_per_minute);
    pg_arg_int_if(&a, k->budget_nano_usd >= 0, k->budget_nano_usd);
    pg_arg_cstr(&a, k->budget_period ? k->budget_period : "total");
    pg_arg_int_if(&a, k->expires_in_s > 0, k->expires_in_s);
    pg_arg_int_if(&a, k->max_of_owner > 0, k->max_of_owner);
    return pg_query(PG_WRITE, &add, &a, deadline_us, done, arg);
}

struct op *apikeys_page(struct slice owner_id, int64_t limit, int64_t offset, uint64_t deadline_us,
                        pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_or_null(&a, owner_id);
    pg_arg_int(&a, limit);
    pg_arg_int(&a, offset);
    return pg_query(PG_READ, &page, &a, deadline_us, done, arg);
}

struct op *apikeys_revoke(struct slice id_or_prefix, struct slice owner_id, uint64_t deadline_us,
                          pg_done done, void *arg)
{
    struct pg_args a = {0};

    pg_arg_text(&a, id_or_prefix);
    pg_arg_or_null(&a, owner_id);
    return pg_query(PG_WRITE, &revoke, &a, deadline_us, done, arg);
}
