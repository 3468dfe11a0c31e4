/*
 * fuzz_dialect.h - one input through all that a dialect reads from a provider, with the order of
 * events checked: START before content, nothing after ERROR or END, texts inside the input's reach.
 */
#pragma once

#include "gateway/core/json.h"
#include "providers/convo.h"
#include "providers/dialect.h"
#include "providers/sse.h"

#include <assert.h>

#define FUZZ_BYTES (32u << 20)

struct fuzz_watch {
    const struct dialect *d;
    struct dialect_decoder *decoder;
    struct convo_builder *builder;
    bool started, over;
    unsigned tools;
};

static enum gw_err fuzz_event(const struct convo_event *ev, void *arg)
{
    struct fuzz_watch *w = arg;
    volatile unsigned char sum = 0;
    enum gw_err err;

    assert(!w->over);
    assert(w->started || ev->kind == CONVO_EV_START || ev->kind == CONVO_EV_PING ||
           ev->kind == CONVO_EV_ERROR || ev->kind == CONVO_EV_USAGE ||
           ev->kind == CONVO_EV_FINISH || ev->kind == CONVO_EV_END);
    for (size_t i = 0; i < ev->text.n; i++) /* readable to the last byte */
        sum = (unsigned char)(sum + (unsigned char)ev->text.p[i]);
    if (ev->kind == CONVO_EV_START)
        w->started = true;
    if (ev->kind == CONVO_EV_TOOL_BEGIN)
        assert(ev->name.n > 0 && ev->id.n > 0 && ev->tool == w->tools++);
    if (ev->kind == CONVO_EV_ERROR)
        assert(ev->err != GW_OK);
    if (ev->kind == CONVO_EV_ERROR || ev->kind == CONVO_EV_END)
        w->over = true;
    err = convo_builder_event(ev, w->builder);
    assert(err != GW_EINTERNAL);
    return err;
}

static enum gw_err fuzz_sse(const struct sse_event *ev, void *arg)
{
    struct fuzz_watch *w = arg;

    return w->d->decode_event(w->decoder, ev, fuzz_event, w);
}

/* A request whose answer needs it to be read: a renamed tool, and a schema that was emulated. */
static struct convo *fuzz_asked(struct arena *a)
{
    struct convo *c = convo_new(a);

    assert(c && convo_add_tool(c, SLICE("files/read")));
    c->format = CONVO_FORMAT_SCHEMA;
    c->schema = SLICE("{\"type\":\"object\"}");
    return c;
}

static void fuzz_whole(const struct dialect *d, const struct convo *asked,
                       const struct registry_model *m, struct arena *a, struct slice text)
{
    struct fuzz_watch w = {.d = d, .builder = convo_builder_new(a, FUZZ_BYTES / 4)};

    assert(w.builder);
    if (d->decode_answer(a, asked, m, text, fuzz_event, &w) == GW_OK)
        assert(w.started || w.over);
    assert(convo_builder_answer(w.builder));
}

static void fuzz_stream(const struct dialect *d, const struct convo *asked,
                        const struct registry_model *m, struct arena *a, struct slice text)
{
    struct fuzz_watch w = {.d = d, .builder = convo_builder_new(a, FUZZ_BYTES / 4)};
    struct sse_parser p;
    enum gw_err err;

    w.decoder = d->decoder_new(a, asked, m);
    assert(w.decoder && w.builder);
    sse_init(&p, 1u << 20, fuzz_sse, &w);
    err = sse_feed(&p, text);
    if (!err)
        err = sse_finish(&p);
    sse_deinit(&p);
    if (!err)
        err = d->decode_end(w.decoder, fuzz_event, &w);
    assert(convo_builder_answer(w.builder));
}

static int fuzz_dialect(const struct dialect *d, const uint8_t *data, size_t size)
{
    static const struct registry_provider provider = {.name = "p"};
    static const struct registry_model model = {
        .name = {"m", 1}, .provider = &provider, .listed = true};
    struct slice text = slice_of((const char *)data, size);
    struct arena *a = arena_create(FUZZ_BYTES);
    struct dialect_error e;
    struct convo *asked;

    assert(a);
    asked = fuzz_asked(a);
    fuzz_whole(d, NULL, NULL, a, text);
    fuzz_whole(d, asked, &model, a, text);
    fuzz_stream(d, NULL, NULL, a, text);
    fuzz_stream(d, asked, &model, a, text);
    d->decode_error(a, 400, text, &e);
    assert(e.err != GW_OK && e.status >= 400);
    arena_destroy(a);
    return 0;
}
