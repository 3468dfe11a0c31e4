/* password.c - see password.h. */
#include "gateway/core/password.h"

#include "gateway/core/base64url.h"
#include "gateway/core/offload.h"
#include "gateway/core/rng.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define LN 15u
#define R 8u
#define P 1u
#define LN_MAX 20u
#define SALT_BYTES 16u
#define HASH_BYTES 32u
#define MEMORY_MAX (1u << 30)

struct parts {
    unsigned ln, r, p;
    unsigned char salt[SALT_BYTES], hash[HASH_BYTES];
};

static enum gw_err derive(struct slice password, const struct parts *in, unsigned char *ret_hash)
{
    return EVP_PBE_scrypt(password.p ? password.p : "", password.n, in->salt, SALT_BYTES,
                          1ull << in->ln, in->r, in->p, MEMORY_MAX, ret_hash, HASH_BYTES) == 1
               ? GW_OK
               : GW_ENOMEM;
}

static bool take_number(struct slice *s, const char *name, unsigned max, unsigned *ret)
{
    size_t n = strlen(name), i = n;
    unsigned v = 0;

    if (!slice_starts(*s, name))
        return false;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9' && v <= max; i++)
        v = v * 10 + (unsigned)(s->p[i] - '0');
    *s = slice_from(*s, i);
    *ret = v;
    return i > n && v >= 1 && v <= max;
}

static bool take_bytes(struct slice *s, unsigned char *to, size_t want)
{
    size_t end, n = 0;
    bool good;

    if (s->n == 0 || s->p[0] != '$')
        return false;
    *s = slice_from(*s, 1);
    end = slice_find(*s, '$');
    good = base64url_decode(to, want, slice_of(s->p, end), &n) && n == want;
    *s = slice_from(*s, end);
    return good;
}

static bool read_stored(struct slice s, struct parts *ret)
{
    return take_number(&s, "$scrypt$ln=", LN_MAX, &ret->ln) &&
           take_number(&s, ",r=", 32, &ret->r) && take_number(&s, ",p=", 16, &ret->p) &&
           take_bytes(&s, ret->salt, SALT_BYTES) && take_bytes(&s, ret->hash, HASH_BYTES) &&
           s.n == 0;
}

enum gw_err password_hash_now(struct slice password, char ret_stored[PASSWORD_STORED_MAX])
{
    struct parts parts = {.ln = LN, .r = R, .p = P};
    char salt[BASE64URL_CHARS(SALT_BYTES) + 1] = "", hash[BASE64URL_CHARS(HASH_BYTES) + 1] = "";
    enum gw_err err;

    rng_fill(parts.salt, SALT_BYTES);
    err = derive(password, &parts, parts.hash);
    if (err)
        return err;
    base64url_encode(salt, parts.salt, SALT_BYTES);
    base64url_encode(hash, parts.hash, HASH_BYTES);
    snprintf(ret_stored, PASSWORD_STORED_MAX, "$scrypt$ln=%u,r=%u,p=%u$%s$%s", LN, R, P, salt,
             hash);
    return GW_OK;
}

enum gw_err password_verify_now(struct slice password, struct slice stored)
{
    struct parts parts = {.ln = LN, .r = R, .p = P};
    unsigned char hash[HASH_BYTES];
    enum gw_err err;

    if (stored.n && !read_stored(stored, &parts))
        return GW_EINTERNAL;
    err = derive(password, &parts, hash);
    if (err)
        return err;
    return stored.n && CRYPTO_memcmp(hash, parts.hash, HASH_BYTES) == 0 ? GW_OK : GW_EUNAUTH;
}

/* --- in the pool ----------------------------------------------------------------------------- */

struct job {
    struct slice password; /* behind the struct */
    char stored[PASSWORD_STORED_MAX];
    enum gw_err err;
    void (*on_hash)(enum gw_err err, struct slice stored, void *arg);
    void (*on_verify)(enum gw_err err, void *arg);
    void *arg;
};

static void job_free(void *arg)
{
    struct job *j = arg;

    OPENSSL_cleanse((char *)j->password.p, j->password.n);
    free(j);
}

static void work(void *arg)
{
    struct job *j = arg;

    if (j->on_hash)
        j->err = password_hash_now(j->password, j->stored);
    else
        j->err = password_verify_now(j->password, slice_cstr(j->stored));
}

static void done(void *arg)
{
    struct job *j = arg;

    if (j->on_hash)
        j->on_hash(j->err, slice_cstr(j->stored), j->arg);
    else
        j->on_verify(j->err, j->arg);
    job_free(j);
}

static struct job *job_new(struct slice password, void *arg)
{
    struct job *j = password.n <= PASSWORD_MAX ? calloc(1, sizeof(*j) + password.n + 1) : NULL;

    if (!j)
        return NULL;
    if (password.n)
        memcpy(j + 1, password.p, password.n);
    j->password = slice_of((char *)(j + 1), password.n);
    j->arg = arg;
    return j;
}

static struct op *start(struct job *j)
{
    struct op *op = j ? offload_run_long(work, done, job_free, j) : NULL;

    if (!op && j)
        job_free(j);
    return op;
}

struct op *password_hash(struct slice password,
                         void (*on_hash)(enum gw_err err, struct slice stored, void *arg),
                         void *arg)
{
    struct job *j = job_new(password, arg);

    if (j)
        j->on_hash = on_hash;
    return start(j);
}

struct op *password_verify(struct slice password, struct slice stored,
                           void (*on_verify)(enum gw_err err, void *arg), void *arg)
{
    struct job *j = stored.n < PASSWORD_STORED_MAX ? job_new(password, arg) : NULL;

    if (j) {
        j->on_verify = on_verify;
        if (stored.n)
            memcpy(j->stored, stored.p, stored.n);
    }
    return start(j);
}
