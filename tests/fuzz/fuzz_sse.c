/* fuzz_sse.c - the same bytes whole, byte by byte and cut in two give the same events and outcome.
 */
#include "providers/sse.h"

#include <stdint.h>
#include <stdlib.h>

#define LIMIT 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum gw_err record(const struct sse_event *ev, void *arg)
{
    struct buf *out = arg;

    buf_printf(out, "[%zu %zu %zu]", ev->type.n, ev->id.n, ev->data.n);
    buf_add_slice(out, ev->type);
    buf_add_slice(out, ev->id);
    buf_add_slice(out, ev->data);
    return GW_OK;
}

static void run(struct slice text, size_t step, struct buf *out)
{
    struct sse_parser p;
    enum gw_err err = GW_OK;

    sse_init(&p, LIMIT, record, out);
    for (size_t at = 0; at < text.n && !err; at += step)
        err = sse_feed(&p, slice_of(text.p + at, text.n - at < step ? text.n - at : step));
    if (!err)
        err = sse_finish(&p);
    buf_printf(out, "%d", (int)err);
    sse_deinit(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *)data, size);
    struct buf whole, cut;

    buf_init(&whole, 1u << 26);
    run(text, size + 1, &whole);
    for (size_t step = 1; step <= size && step < 40; step = step * 2 + 1) {
        buf_init(&cut, 1u << 26);
        run(text, step, &cut);
        if (!slice_eq(buf_slice(&whole), buf_slice(&cut)))
            abort();
        buf_deinit(&cut);
    }
    buf_deinit(&whole);
    return 0;
}
