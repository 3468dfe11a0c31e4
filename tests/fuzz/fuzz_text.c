/*
 * fuzz_text.c - hostile text: what looks for injections reads nothing beyond it and finds the same
 * in any memory and with any instructions; what makes text safe makes it safe.
 */
#include "gateway/core/detect.h"
#include "gateway/core/sanitize.h"
#include "gateway/http/form.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_filename(struct arena *a, struct slice text)
{
    struct slice name = sanitize_filename(a, text);

    if (!name.p)
        return; /* more than the arena holds */
    assert(name.n >= 1 && name.n <= 255);
    assert(name.p[0] != '.' && name.p[0] != '-');
    assert(!memmem(name.p, name.n, "..", 2));
    for (size_t i = 0; i < name.n; i++)
        assert((unsigned char)name.p[i] >= 0x20 && !strchr("/\\:*?\"<>|$`;&", name.p[i]));
    if (json_utf8_valid(text))
        assert(json_utf8_valid(name));
}

static void check_query(struct arena *a, struct slice text)
{
    struct slice q = sanitize_query(a, text, 64);

    if (!q.p)
        return;
    assert(q.n <= text.n && q.n <= 256);
    assert(!memmem(q.p, q.n, "  ", 2));
    for (size_t i = 0; i < q.n; i++)
        assert((unsigned char)q.p[i] >= 0x20);
}

static void check_html(struct slice text)
{
    struct buf out;

    buf_init(&out, text.n * 6 + 1);
    sanitize_html(&out, text);
    assert(buf_err(&out) == GW_OK);
    for (size_t i = 0; i < out.n; i++)
        assert(!strchr("<>\"'", out.p[i]) || !out.p[i]);
    buf_deinit(&out);
}

static void check_classes(struct slice text)
{
    for (int c = 0; c < FORM_CLASSES; c++)
        form_class_problem((enum form_class)c, text);
    if (!form_class_problem(FORM_FILENAME, text))
        assert(text.n && !memchr(text.p, '/', text.n) && !memchr(text.p, '\\', text.n));
    if (!sanitize_url(text))
        for (size_t i = text.p[4] == 's' ? 8 : 7; i < text.n && !strchr("/?#", text.p[i]); i++)
            assert(text.p[i] != '@');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    struct arena *a = arena_create(1u << 20);
    struct slice text = slice_of(copy, size);

    assert(copy && a);
    if (size)
        memcpy(copy, data, size);
    assert(detect_scan(text) == detect_scan(slice_of((const char *)data, size)));
    assert(detect_scan(text) == detect_scan_plain(text));
    check_filename(a, text);
    check_query(a, text);
    check_html(text);
    check_classes(text);
    arena_destroy(a);
    free(copy);
    return 0;
}
