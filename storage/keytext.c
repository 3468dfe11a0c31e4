/* keytext.c - see keytext.h. */
#include "storage/keytext.h"

#include "gateway/core/base64url.h"
#include "storage/apikeys.h"

#include <openssl/evp.h>

#define LEAD "pk-"
#define RANDOM_BYTES 32u

static EVP_MD *algorithm;
static EVP_MD_CTX *context;

void keytext_deinit(void)
{
    EVP_MD_CTX_free(context);
    EVP_MD_free(algorithm);
    context = NULL;
    algorithm = NULL;
}

static bool is_ready(void)
{
    if (!algorithm)
        algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!context)
        context = EVP_MD_CTX_new();
    return algorithm && context;
}

bool keytext_sha256(struct slice bytes, unsigned char ret[KEYTEXT_SHA_BYTES])
{
    return is_ready() && EVP_DigestInit_ex(context, algorithm, NULL) == 1 &&
           EVP_DigestUpdate(context, bytes.p, bytes.n) == 1 &&
           EVP_DigestFinal_ex(context, ret, NULL) == 1;
}

bool keytext_is_key(struct slice text)
{
    unsigned char raw[RANDOM_BYTES];
    size_t n;

    return text.n == APIKEY_CHARS && slice_starts(text, LEAD) &&
           base64url_decode(raw, sizeof(raw), slice_from(text, sizeof(LEAD) - 1), &n);
}
