/* json_write.c - writing JSON; see json.h. */
#include "gateway/core/json.h"

#include "gateway/core/hex.h"
#include "gateway/core/json_scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void escape_byte(struct buf *out, unsigned char c)
{
    static const char shorts[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    char text[6] = {'\\', 'u', '0', '0'};

    if (c >= 0x20) {
        text[1] = (char)c; /* quote or backslash */
        buf_add(out, text, 2);
    } else if (shorts[c]) {
        text[1] = shorts[c];
        buf_add(out, text, 2);
    } else {
        hex_write(text + 4, &c, 1);
        buf_add(out, text, 6);
    }
}

void json_escape(struct buf *out, struct slice text)
{
    const char *p = text.n ? text.p : "", *end = p + text.n, *stop;

    while (p < end) {
        stop = json_scan(p, end, 0);
        buf_add(out, p, (size_t)(stop - p));
        if (stop < end)
            escape_byte(out, (unsigned char)*stop++);
        p = stop;
    }
}

void json_writer_init(struct json_writer *w, struct buf *out)
{
    *w = (struct json_writer){.out = out};
}

void json_begin(struct json_writer *w, struct buf *out, size_t max_bytes)
{
    buf_init(out, max_bytes);
    json_writer_init(w, out);
}

/* Before each value: the comma when one is due; afterwards the next one is. */
static void before_value(struct json_writer *w)
{
    if (w->comma)
        buf_add_char(w->out, ',');
    w->comma = true;
}

static void open_with(struct json_writer *w, char c)
{
    before_value(w);
    buf_add_char(w->out, c);
    w->comma = false;
}

static void close_with(struct json_writer *w, char c)
{
    buf_add_char(w->out, c);
    w->comma = true;
}

void json_obj(struct json_writer *w)
{
    open_with(w, '{');
}

void json_obj_end(struct json_writer *w)
{
    close_with(w, '}');
}

void json_arr(struct json_writer *w)
{
    open_with(w, '[');
}

void json_arr_end(struct json_writer *w)
{
    close_with(w, ']');
}

void json_put_key(struct json_writer *w, const char *literal)
{
    before_value(w);
    buf_add_char(w->out, '"');
    buf_add_cstr(w->out, literal);
    buf_add(w->out, "\":", 2);
    w->comma = false;
}

void json_put_key_slice(struct json_writer *w, struct slice name)
{
    before_value(w);
    buf_add_char(w->out, '"');
    json_escape(w->out, name);
    buf_add(w->out, "\":", 2);
    w->comma = false;
}

void json_put_str(struct json_writer *w, struct slice text)
{
    before_value(w);
    buf_add_char(w->out, '"');
    json_escape(w->out, text);
    buf_add_char(w->out, '"');
}

void json_put_cstr(struct json_writer *w, const char *text)
{
    if (text)
        json_put_str(w, slice_cstr(text));
    else
        json_put_null(w);
}

void json_put_int(struct json_writer *w, int64_t v)
{
    before_value(w);
    buf_add_i64(w->out, v);
}

void json_put_double(struct json_writer *w, double v)
{
    char text[40];

    if (!isfinite(v)) {
        json_put_null(w);
        return;
    }
    before_value(w);
    for (int digits = 15; digits <= 17; digits++) { /* the shortest that reads back the same */
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_add_cstr(w->out, text);
}

void json_put_bool(struct json_writer *w, bool v)
{
    before_value(w);
    buf_add_cstr(w->out, v ? "true" : "false");
}

void json_put_null(struct json_writer *w)
{
    before_value(w);
    buf_add(w->out, "null", 4);
}

void json_put_raw(struct json_writer *w, struct slice value)
{
    before_value(w);
    buf_add_slice(w->out, value);
}

void json_kv_str(struct json_writer *w, const char *key, struct slice text)
{
    json_put_key(w, key);
    json_put_str(w, text);
}

void json_kv_cstr(struct json_writer *w, const char *key, const char *text)
{
    json_put_key(w, key);
    json_put_cstr(w, text);
}

void json_kv_text(struct json_writer *w, const char *key, struct slice text)
{
    json_put_key(w, key);
    if (text.n)
        json_put_str(w, text);
    else
        json_put_null(w);
}

void json_kv_int(struct json_writer *w, const char *key, int64_t v)
{
    json_put_key(w, key);
    json_put_int(w, v);
}

void json_kv_double(struct json_writer *w, const char *key, double v)
{
    json_put_key(w, key);
    json_put_double(w, v);
}

void json_kv_bool(struct json_writer *w, const char *key, bool v)
{
    json_put_key(w, key);
    json_put_bool(w, v);
}

void json_kv_obj(struct json_writer *w, const char *key)
{
    json_put_key(w, key);
    json_obj(w);
}

void json_kv_arr(struct json_writer *w, const char *key)
{
    json_put_key(w, key);
    json_arr(w);
}

void json_kv_null(struct json_writer *w, const char *key)
{
    json_put_key(w, key);
    json_put_null(w);
}

void json_kv_raw(struct json_writer *w, const char *key, struct slice value)
{
    json_put_key(w, key);
    json_put_raw(w, value);
}
