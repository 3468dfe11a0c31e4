/*
 * dialect_test.h - what the dialects' tests share: golden files, a registry model, and answers as
 * text.
 *
 * Golden files live in tests/unit/golden/<dialect>/. Requests are compared as JSON values, answers
 * as the text that show_answer() makes of what convo_builder gathered.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/buf.h"
#include "gateway/core/json.h"
#include "providers/convo.h"
#include "providers/dialect.h"
#include "providers/dialect/schema_tree.h"
#include "providers/registry.h"
#include "providers/sse.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

/* No test uses all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define TEST_BYTES (64u << 20)

static struct arena *arena;

static int setup(void **state)
{
    arena = arena_create(TEST_BYTES);
    return arena ? 0 : -1;
}

static int teardown(void **state)
{
    arena = arena_destroy(arena);
    return 0;
}

/* --- files ------------------------------------------------------------------------------ */

static struct slice golden(const char *name)
{
    const char *root = getenv("POSTERN_SRC");
    char path[1024], *text;
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "%s/tests/unit/golden/%s", root ? root : ".", name);
    f = fopen(path, "rb");
    if (!f)
        fail_msg("no golden file %s", path);
    text = arena_bytes(arena, 1u << 20);
    assert_non_null(text);
    n = fread(text, 1, 1u << 20, f);
    fclose(f);
    return slice_of(text, n);
}

/* --- requests ----------------------------------------------------------------------------- */

struct encoded {
    enum gw_err err;
    struct dialect_request req;
    struct slice body;
    struct convo_report rep;
};

static struct encoded encode(const struct dialect *d, const struct convo *c,
                             const struct registry_model *m)
{
    struct encoded e = {0};
    struct buf body;

    buf_init(&body, TEST_BYTES);
    e.req.body = &body;
    e.err = d->encode_request(c, m, &e.req, &e.rep);
    e.body = arena_dup(arena, buf_slice(&body));
    buf_deinit(&body);
    return e;
}

static bool was_dropped(const struct encoded *e, const char *field)
{
    for (unsigned i = 0; i < e->rep.n_dropped; i++)
        if (strcmp(e->rep.dropped[i], field) == 0)
            return true;
    return false;
}

static void assert_json(struct slice got, struct slice want)
{
    cJSON *a = cJSON_ParseWithLength(got.p, got.n), *b = cJSON_ParseWithLength(want.p, want.n);
    bool same;

    if (!b)
        fail_msg("the golden file is no JSON");
    same = a && cJSON_Compare(a, b, true);
    cJSON_Delete(a);
    cJSON_Delete(b);
    if (!same)
        fail_msg("got:\n%.*s\nwant:\n%.*s", SLICE_ARG(got), SLICE_ARG(want));
}

static void assert_request(const struct encoded *e, const char *name)
{
    assert_int_equal(e->err, GW_OK);
    assert_json(e->body, golden(name));
}

/* The member at a path of names and indexes ("messages.0.content.1.type"), printed; "" when absent.
 */
static const char *at(const struct encoded *e, const char *path)
{
    char *copy = arena_cstr(arena, slice_cstr(path)), *name;
    struct json v;

    assert_int_equal(e->err, GW_OK);
    assert_int_equal(json_parse(arena, e->body, NULL, &v, NULL), GW_OK);
    while ((name = strsep(&copy, ".")) != NULL) {
        if (json_is(v, JSON_ARRAY)) {
            struct json it = json_first(v);

            for (long i = strtol(name, NULL, 10); i > 0 && json_exists(it); i--)
                it = json_next(v, it);
            v = it;
        } else {
            v = json_get(v, name);
        }
    }
    return json_exists(v) ? arena_cstr(arena, json_raw(v)) : "";
}

static struct convo_part *add_text(struct convo *c, enum convo_role role, const char *text)
{
    struct convo_part *p = convo_add_part(c, convo_add_turn(c, role), CONVO_TEXT);

    p->text = slice_cstr(text);
    return p;
}

static struct convo_part *add_call(struct convo *c, struct convo_turn *t, const char *id,
                                   const char *name, const char *args)
{
    struct convo_part *p = convo_add_part(c, t, CONVO_TOOL_CALL);

    p->id = slice_cstr(id);
    p->name = slice_cstr(name);
    p->args = slice_cstr(args);
    return p;
}

static struct convo_part *add_result(struct convo *c, struct convo_turn *t, const char *id,
                                     const char *text)
{
    struct convo_part *p = convo_add_part(c, t, CONVO_TOOL_RESULT);
    struct convo_part *inner = arena_new(arena, struct convo_part);

    inner->kind = CONVO_TEXT;
    inner->text = slice_cstr(text);
    p->id = slice_cstr(id);
    p->content = inner;
    return p;
}

static struct convo_tool *add_tool(struct convo *c, const char *name, const char *schema)
{
    struct convo_tool *t = convo_add_tool(c, slice_cstr(name));

    t->schema = slice_cstr(schema);
    return t;
}

/* --- answers --------------------------------------------------------------------------------- */

static void show_slice(struct buf *out, const char *label, struct slice s)
{
    if (s.n)
        buf_printf(out, " %s=%.*s", label, SLICE_ARG(s));
}

static bool is_own_call_id(struct slice id)
{
    return id.n == 21 && slice_starts(id, "call_");
}

/* JSON without white space and with its digits, other text as it is. */
static void show_text(struct buf *out, struct slice text, bool json)
{
    cJSON *tree = NULL;
    struct slice printed = SLICE_NONE;

    if (json && schema_tree_parse(arena, text, &tree) == GW_OK)
        assert_int_equal(schema_tree_print(arena, tree, &printed), GW_OK);
    cJSON_Delete(tree);
    if (printed.n)
        buf_add_slice(out, printed);
    else
        json_escape(out, text);
}

static void show_part(struct buf *out, const struct convo_out_part *p)
{
    static const char *const kinds[] = {
        [CONVO_TEXT] = "text",         [CONVO_REFUSAL] = "refusal", [CONVO_REASONING] = "reasoning",
        [CONVO_REDACTED] = "redacted", [CONVO_TOOL_CALL] = "call",  [CONVO_OPAQUE] = "opaque",
    };
    bool json = p->kind == CONVO_TOOL_CALL || p->kind == CONVO_OPAQUE;

    buf_printf(out, "%u.%u %s", p->choice, p->part, kinds[p->kind]);
    show_slice(out, "id", is_own_call_id(p->id) ? SLICE("call_#") : p->id);
    show_slice(out, "name", p->name);
    show_slice(out, "signature", p->signature);
    buf_add_cstr(out, ": ");
    show_text(out, p->text, json);
    buf_add_char(out, '\n');
}

static struct slice show_answer(const struct convo_answer *a)
{
    static const char *const stops[] = {"none",  "done",     "string", "length",
                                        "tools", "filtered", "paused", "other"};
    const struct convo_usage *u = &a->usage;
    struct slice text;
    struct buf out;

    buf_init(&out, TEST_BYTES);
    buf_printf(&out, "answer");
    show_slice(&out, "id", a->id);
    show_slice(&out, "model", a->model);
    buf_add_char(&out, '\n');
    for (const struct convo_out_part *p = a->parts; p; p = p->next)
        show_part(&out, p);
    if (u->known)
        buf_printf(&out, "usage in=%llu read=%llu write=%llu out=%llu reasoning=%llu\n",
                   (unsigned long long)u->input, (unsigned long long)u->cache_read,
                   (unsigned long long)u->cache_write, (unsigned long long)u->output,
                   (unsigned long long)u->reasoning);
    for (unsigned i = 0; i < a->n_choices && i < 16; i++) {
        buf_printf(&out, "finish %u %s", i, stops[a->finish[i].stop]);
        show_slice(&out, "raw", a->finish[i].raw);
        show_slice(&out, "string", a->finish[i].string);
        buf_add_char(&out, '\n');
    }
    if (a->err)
        buf_printf(&out, "error %s: %.*s\n", err_info(a->err)->name, SLICE_ARG(a->err_text));
    buf_add_cstr(&out, a->ended ? "end\n" : "cut\n");
    text = arena_dup(arena, buf_slice(&out));
    buf_deinit(&out);
    return text;
}

static struct slice show_whole(const struct dialect *d, const struct convo *asked,
                               const struct registry_model *m, struct slice body)
{
    struct convo_builder *b = convo_builder_new(arena, TEST_BYTES / 4);

    assert_int_equal(d->decode_answer(arena, asked, m, body, convo_builder_event, b), GW_OK);
    return show_answer(convo_builder_answer(b));
}

struct streaming {
    const struct dialect *d;
    struct dialect_decoder *decoder;
    struct convo_builder *builder;
};

static enum gw_err on_sse(const struct sse_event *ev, void *arg)
{
    struct streaming *s = arg;

    return s->d->decode_event(s->decoder, ev, convo_builder_event, s->builder);
}

/* The same for a stream's bytes; *ret_err is what decoding said. */
static struct slice show_stream(const struct dialect *d, const struct convo *asked,
                                const struct registry_model *m, struct slice bytes,
                                enum gw_err *ret_err)
{
    struct streaming s = {.d = d,
                          .decoder = d->decoder_new(arena, asked, m),
                          .builder = convo_builder_new(arena, TEST_BYTES / 4)};
    struct sse_parser p;
    enum gw_err err;

    assert_non_null(s.decoder);
    sse_init(&p, 1u << 20, on_sse, &s);
    err = sse_feed(&p, bytes);
    if (!err)
        err = sse_finish(&p);
    sse_deinit(&p);
    if (!err)
        err = d->decode_end(s.decoder, convo_builder_event, s.builder);
    *ret_err = err;
    return show_answer(convo_builder_answer(s.builder));
}

static void assert_shown(struct slice got, struct slice want)
{
    if (!slice_eq(got, want))
        fail_msg("got:\n%.*s\nwant:\n%.*s", SLICE_ARG(got), SLICE_ARG(want));
}
