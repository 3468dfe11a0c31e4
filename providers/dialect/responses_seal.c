/* responses_seal.c - see responses_wire.h. A prefix with a version, then base64 of a JSON object.
 */
#include "providers/dialect/media.h"
#include "providers/dialect/responses_wire.h"

#include <limits.h>
#include <openssl/evp.h>

#define PREFIX "postern.1."

static const char *const words[] = {
    [SEAL_THINKING] = "thinking",
    [SEAL_REDACTED] = "redacted",
    [SEAL_TEXT] = "text",
    [SEAL_CALL] = "call",
};

static void put_member(struct json_writer *w, const char *key, struct slice text)
{
    if (text.n)
        json_kv_str(w, key, text);
}

static void put_base64(struct buf *out, struct slice text)
{
    char *to;

    if (text.n > INT_MAX / 4 * 3 - 3) {
        out->err = GW_ETOOBIG;
        return;
    }
    to = buf_reserve(out, (text.n + 2) / 3 * 4 + 1); /* one more for the NUL it writes */
    if (to)
        out->n += (size_t)EVP_EncodeBlock((unsigned char *)to, (const unsigned char *)text.p,
                                          (int)text.n);
}

void responses_seal_put(struct buf *out, const struct responses_seal *s)
{
    struct json_writer w;
    struct buf plain;

    json_begin(&w, &plain, out->max);
    json_obj(&w);
    json_kv_cstr(&w, "kind", words[s->kind]);
    put_member(&w, "id", s->id);
    put_member(&w, "text", s->text);
    put_member(&w, "signature", s->signature);
    json_obj_end(&w);
    buf_add_cstr(out, "\"" PREFIX);
    if (buf_err(&plain) && !buf_err(out))
        out->err = buf_err(&plain);
    else
        put_base64(out, buf_slice(&plain));
    buf_add_char(out, '"');
    buf_deinit(&plain);
}

static enum gw_err read_object(struct json root, struct responses_seal *ret)
{
    struct json kind = json_get(root, "kind");

    for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (!json_str_is(kind, words[i]))
            continue;
        *ret = (struct responses_seal){
            .id = json_str(json_get(root, "id")),
            .text = json_str(json_get(root, "text")),
            .signature = json_str(json_get(root, "signature")),
        };
        ret->kind = i;
        return GW_OK;
    }
    return GW_EBADREQ;
}

enum gw_err responses_seal_read(struct arena *a, struct slice sealed, struct responses_seal *ret)
{
    unsigned before = arena_refusals(a);
    struct responses_seal seal;
    struct json root;
    enum gw_err err = slice_starts(sealed, PREFIX) ? GW_OK : GW_EBADREQ;

    if (!err)
        err = json_parse(a, media_text(a, slice_from(sealed, strlen(PREFIX))), NULL, &root, NULL);
    if (!err)
        err = read_object(root, &seal);
    err = dialect_end(a, before, err == GW_OK || err == GW_ENOMEM ? err : GW_EBADREQ);
    if (!err)
        *ret = seal;
    return err;
}
