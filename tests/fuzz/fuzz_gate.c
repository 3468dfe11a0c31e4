/*
 * fuzz_gate.c - the head check holds its promises on any bytes.
 *
 * The first byte says how many bytes come at first. Whatever the split, the verdict is the same;
 * what passes is safe: the plain head fits over the real one, and every byte of names, values and
 * path is of its class.
 */
#include "gateway/http/gate.h"

#include <assert.h>
#include <stdlib.h>

static void check_path(const struct gate_head *h)
{
    if (h->path_bad || slice_is(h->path, "*"))
        return;
    assert(h->path.n && h->path.p[0] == '/');
    for (size_t i = 0; i < h->path.n; i++) {
        assert((unsigned char)h->path.p[i] >= 0x20 && h->path.p[i] != 0x7f);
        assert(h->path.p[i] != '\\' && h->path.p[i] != ';');
    }
    assert(!memmem(h->path.p, h->path.n, "//", 2));
    assert(!memmem(h->path.p, h->path.n, "/../", 4));
}

static void check_headers(const struct gate_head *h)
{
    unsigned framing = 0;

    assert(h->n_headers <= GATE_MAX_FIELDS);
    for (unsigned i = 0; i < h->n_headers; i++) {
        struct slice name = h->headers[i].name, value = h->headers[i].value;

        assert(name.n > 0 && value.p);
        framing += slice_is_nocase(name, "content-length");
        framing += slice_is_nocase(name, "transfer-encoding");
        for (size_t k = 0; k < value.n; k++)
            assert(value.p[k] == '\t' || (unsigned char)value.p[k] >= 0x20);
        assert(!memchr(name.p, ':', name.n) && !memchr(name.p, ' ', name.n));
    }
    assert(framing <= 1);
    assert(framing == (unsigned)(h->has_length + h->chunked));
}

static void check_head(struct arena *a, struct slice head)
{
    char plain[GATE_PLAIN_HEAD];
    struct gate_head h;
    const char *why = NULL;

    if (gate_head_parse(a, head, &h, &why) != GW_OK) {
        assert(why);
        return;
    }
    assert(h.method_known && h.minor <= 1);
    assert(gate_plain_head(&h, plain) <= head.n);
    check_path(&h);
    check_headers(&h);
}

/* The verdict on the bytes given first `split`, then whole. */
static enum gw_err scan_split(struct slice in, size_t split, struct gate_scan *s, size_t *ret_bytes)
{
    enum gw_err err = gate_head_scan(s, slice_of(in.p, split), ret_bytes, NULL);

    return err == GW_EAGAIN ? gate_head_scan(s, in, ret_bytes, NULL) : err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of((const char *)data + 1, size ? size - 1 : 0);
    struct gate_scan whole = {0}, parts = {0};
    size_t bytes = 0, bytes2 = 0;
    enum gw_err err, err2;
    struct arena *a;
    struct gate_head peek;

    if (size < 2)
        return 0;
    a = arena_create(1 << 20);
    if (!a)
        abort();
    err = gate_head_scan(&whole, in, &bytes, NULL);
    err2 = scan_split(in, data[0] % in.n, &parts, &bytes2);
    assert((err == GW_OK) == (err2 == GW_OK) && bytes == bytes2);
    assert((err == GW_EAGAIN) == (err2 == GW_EAGAIN));
    if (err == GW_OK) {
        assert(bytes <= in.n && bytes - whole.start <= GATE_MAX_HEAD);
        check_head(a, slice_of(in.p + whole.start, bytes - whole.start));
    }
    (void)gate_line_peek(a, in, &peek);
    arena_destroy(a);
    return 0;
}
