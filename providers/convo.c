/*
 * convo.c - see convo.h.
 *
 * The builder keeps one growing text per content part, reached by the part's number. A choice
 * past the ones an answer can hold, or a part number out of all proportion, is a broken answer.
 */
#include "providers/convo.h"

#include "gateway/core/buf.h"
#include "gateway/core/json.h"

#include <stdlib.h>

#define MAX_CHOICES 16u
#define MAX_PARTS 65536u
#define PART_COST 64u /* what a part without text counts against max_bytes */

/* --- request -----------------------------------------------------------------------------------
 */

struct convo *convo_new(struct arena *a)
{
    struct convo *c = arena_new(a, struct convo);

    if (!c)
        return NULL;
    c->arena = a;
    c->parallel_tools = c->schema_strict = c->include_thoughts = c->logprobs = -1;
    c->thinking_budget = c->top_logprobs = -1;
    return c;
}

struct convo_turn *convo_add_turn(struct convo *c, enum convo_role role)
{
    struct convo_turn *t = arena_new(c->arena, struct convo_turn);

    if (!t)
        return NULL;
    t->role = role;
    if (c->last_turn)
        c->last_turn->next = t;
    else
        c->turns = t;
    c->last_turn = t;
    return t;
}

struct convo_part *convo_add_part(struct convo *c, struct convo_turn *t, enum convo_part_kind kind)
{
    struct convo_part *p = arena_new(c->arena, struct convo_part);

    if (!p)
        return NULL;
    p->kind = kind;
    if (t->last_part)
        t->last_part->next = p;
    else
        t->parts = p;
    t->last_part = p;
    return p;
}

struct convo_tool *convo_add_tool(struct convo *c, struct slice name)
{
    struct convo_tool *t = arena_new(c->arena, struct convo_tool);

    if (!t)
        return NULL;
    t->name = name;
    t->strict = -1;
    if (c->last_tool)
        c->last_tool->next = t;
    else
        c->tools = t;
    c->last_tool = t;
    return t;
}

static bool is_text_file(const struct convo_part *p)
{
    return p->mime.n >= 5 && strncasecmp(p->mime.p, "text/", 5) == 0;
}

static unsigned part_needs(const struct convo_part *p)
{
    unsigned needs = 0;

    for (; p; p = p->next) {
        if (p->kind == CONVO_IMAGE)
            needs |= CONVO_NEEDS_VISION;
        else if (p->kind == CONVO_FILE && !is_text_file(p))
            needs |= CONVO_NEEDS_PDF;
        else if (p->kind == CONVO_AUDIO)
            needs |= CONVO_NEEDS_AUDIO;
        else if (p->kind == CONVO_TOOL_CALL)
            needs |= CONVO_NEEDS_TOOLS;
        else if (p->kind == CONVO_TOOL_RESULT)
            needs |= CONVO_NEEDS_TOOLS | part_needs(p->content);
    }
    return needs;
}

unsigned convo_needs(const struct convo *c)
{
    unsigned needs = c->tools ? CONVO_NEEDS_TOOLS : 0;

    for (const struct convo_turn *t = c->turns; t; t = t->next)
        needs |= part_needs(t->parts);
    if (c->format == CONVO_FORMAT_SCHEMA)
        needs |= CONVO_NEEDS_SCHEMA;
    if (c->effort > CONVO_EFFORT_NONE || c->thinking_budget > 0)
        needs |= CONVO_NEEDS_REASONING;
    return needs;
}

/* What is taken for a token. */
struct weights {
    unsigned text_bytes;               /* per token */
    unsigned image_tokens;             /* each */
    unsigned remote_tokens;            /* a document of unknown size */
    unsigned data_bytes;               /* of base64 per token: documents, audio */
    unsigned turn_tokens, tool_tokens; /* what the vendor puts around each */
};

static const struct weights usual = {
    .text_bytes = 4, .image_tokens = 1000, .remote_tokens = 1000, .data_bytes = 50};
/* Code and JSON come near 3 bytes a token, Chinese near 2.5; a page of a PDF is up to 3,000 tokens
 * and seldom under 20 KB of base64. */
static const struct weights cautious = {.text_bytes = 3,
                                        .image_tokens = 2000,
                                        .remote_tokens = 100000,
                                        .data_bytes = 8,
                                        .turn_tokens = 8,
                                        .tool_tokens = 24};

/* Adds the text bytes of the parts to *text and returns the tokens of the rest. */
static uint64_t estimate_parts(const struct convo_part *p, const struct weights *w, uint64_t *text)
{
    uint64_t tokens = 0;

    for (; p; p = p->next) {
        *text += (uint64_t)p->text.n + p->name.n + p->args.n + p->raw.n;
        if (p->kind == CONVO_IMAGE)
            tokens += w->image_tokens;
        else if (p->kind == CONVO_FILE && !p->data.n && !p->text.n)
            tokens += w->remote_tokens;
        else if (p->kind == CONVO_FILE || p->kind == CONVO_AUDIO)
            tokens += p->data.n / w->data_bytes;
        else if (p->kind == CONVO_TOOL_RESULT)
            tokens += estimate_parts(p->content, w, text);
    }
    return tokens;
}

static uint64_t estimate(const struct convo *c, const struct weights *w)
{
    uint64_t text = c->schema.n, tokens = 0;

    for (const struct convo_turn *t = c->turns; t; t = t->next)
        tokens += w->turn_tokens + estimate_parts(t->parts, w, &text);
    for (const struct convo_tool *t = c->tools; t; t = t->next) {
        text += (uint64_t)t->name.n + t->description.n + t->schema.n + t->raw.n;
        tokens += w->tool_tokens;
    }
    return tokens + text / w->text_bytes;
}

uint64_t convo_estimate_tokens(const struct convo *c)
{
    return estimate(c, &usual);
}

uint64_t convo_reserve_tokens(const struct convo *c)
{
    return estimate(c, &cautious) + c->other_bytes / cautious.text_bytes + 1;
}

/* --- report ------------------------------------------------------------------------------------
 */

void convo_drop(struct convo_report *r, const char *field)
{
    if (!r || r->n_dropped >= CONVO_MAX_DROPPED)
        return;
    for (unsigned i = 0; i < r->n_dropped; i++)
        if (strcmp(r->dropped[i], field) == 0)
            return;
    r->dropped[r->n_dropped++] = field;
}

enum gw_err convo_refuse(struct convo_report *r, enum gw_err err, struct slice field,
                         struct slice why)
{
    if (r) {
        r->refused = field;
        r->why = why;
    }
    return err;
}

/* --- builder -----------------------------------------------------------------------------------
 */

struct building {
    struct convo_out_part out; /* next is the order of the answer */
    struct buf text;
};

struct convo_builder {
    struct arena *arena;
    struct convo_answer answer;
    struct convo_out_part **tail;
    struct building **parts; /* by number; heap, freed with the arena */
    unsigned cap;
    size_t held, max;
    struct buf logprobs[MAX_CHOICES]; /* elements of the `content` arrays so far */
};

static void builder_free(void *obj)
{
    struct convo_builder *b = obj;

    for (unsigned i = 0; i < MAX_CHOICES; i++)
        buf_deinit(&b->logprobs[i]);
    free(b->parts);
}

static void free_buf(void *obj)
{
    buf_deinit(obj);
}

struct convo_builder *convo_builder_new(struct arena *a, size_t max_bytes)
{
    struct convo_builder *b = arena_new(a, struct convo_builder);

    if (!b)
        return NULL;
    b->arena = a;
    b->max = max_bytes;
    b->tail = &b->answer.parts;
    for (unsigned i = 0; i < MAX_CHOICES; i++)
        buf_init(&b->logprobs[i], max_bytes);
    return arena_defer(a, builder_free, b) ? b : NULL;
}

static bool slots_grow(struct convo_builder *b, unsigned part)
{
    unsigned cap = b->cap ? b->cap : 16;
    struct building **grown;

    while (cap <= part)
        cap *= 2;
    grown = realloc(b->parts, (size_t)cap * sizeof(struct building *));
    if (!grown)
        return false;
    memset(grown + b->cap, 0, (size_t)(cap - b->cap) * sizeof(struct building *));
    b->parts = grown;
    b->cap = cap;
    return true;
}

static enum gw_err hold(struct convo_builder *b, size_t n)
{
    if (n > b->max - b->held)
        return GW_ETOOBIG;
    b->held += n;
    return GW_OK;
}

static enum gw_err part_new(struct convo_builder *b, const struct convo_event *ev,
                            enum convo_part_kind kind, struct building **ret)
{
    struct building *p;

    if (hold(b, PART_COST))
        return GW_ETOOBIG;
    p = arena_new(b->arena, struct building);
    if (!p)
        return GW_ENOMEM;
    buf_init(&p->text, b->max);
    if (!arena_defer(b->arena, free_buf, &p->text))
        return GW_ENOMEM;
    p->out.kind = kind;
    p->out.choice = ev->choice;
    p->out.part = ev->part;
    *b->tail = &p->out;
    b->tail = &p->out.next;
    *ret = p;
    return GW_OK;
}

/* The part an event speaks of, begun with `kind` when it is new. */
static enum gw_err part_of(struct convo_builder *b, const struct convo_event *ev,
                           enum convo_part_kind kind, struct building **ret)
{
    enum gw_err err;

    if (ev->part >= MAX_PARTS)
        return GW_ETOOBIG;
    if (ev->part >= b->cap && !slots_grow(b, ev->part))
        return GW_ENOMEM;
    if (!b->parts[ev->part]) {
        err = part_new(b, ev, kind, &b->parts[ev->part]);
        if (err)
            return err;
    }
    *ret = b->parts[ev->part];
    return GW_OK;
}

static enum gw_err keep(struct convo_builder *b, struct slice from, struct slice *to)
{
    if (hold(b, from.n))
        return GW_ETOOBIG;
    *to = arena_dup(b->arena, from);
    return to->p ? GW_OK : GW_ENOMEM;
}

static enum gw_err add_text(struct convo_builder *b, const struct convo_event *ev,
                            enum convo_part_kind kind)
{
    struct building *p;
    enum gw_err err = part_of(b, ev, kind, &p);

    if (err)
        return err;
    if (p->out.kind != kind)
        return GW_EINTERNAL;
    err = hold(b, ev->text.n);
    if (err)
        return err;
    buf_add_slice(&p->text, ev->text);
    return buf_err(&p->text);
}

static enum gw_err add_logprobs(struct convo_builder *b, const struct convo_event *ev)
{
    struct buf *to = &b->logprobs[ev->choice];
    struct slice inner;
    struct json root;
    enum gw_err err = json_parse(b->arena, ev->raw, NULL, &root, NULL);

    if (err == GW_ENOMEM)
        return err;
    if (err || !json_is(json_get(root, "content"), JSON_ARRAY))
        return GW_OK; /* another dialect's: nothing that can be joined */
    inner = json_raw(json_get(root, "content"));
    if (json_count(json_get(root, "content")) == 0)
        return GW_OK;
    err = hold(b, inner.n);
    if (err)
        return err;
    if (to->n)
        buf_add_char(to, ',');
    buf_add(to, inner.p + 1, inner.n - 2);
    return buf_err(to);
}

static enum gw_err add_signature(struct convo_builder *b, const struct convo_event *ev)
{
    struct building *p;
    enum gw_err err = part_of(b, ev, CONVO_REASONING, &p);

    return err ? err : keep(b, ev->text, &p->out.signature);
}

static enum gw_err add_tool(struct convo_builder *b, const struct convo_event *ev)
{
    struct building *p;
    enum gw_err err = part_of(b, ev, CONVO_TOOL_CALL, &p);

    if (!err && p->out.kind != CONVO_TOOL_CALL)
        err = GW_EINTERNAL;
    if (!err)
        err = keep(b, ev->id, &p->out.id);
    if (!err)
        err = keep(b, ev->name, &p->out.name);
    if (!err && ev->text.n)
        err = keep(b, ev->text, &p->out.signature);
    return err;
}

/* A block of its own, or an annotation of a part that is there already: then one more part. */
static enum gw_err add_opaque(struct convo_builder *b, const struct convo_event *ev)
{
    struct building *p;
    enum gw_err err = part_new(b, ev, CONVO_OPAQUE, &p);

    if (!err)
        err = keep(b, ev->name, &p->out.name);
    return err ? err : keep(b, ev->text, &p->out.text);
}

static enum gw_err add_finish(struct convo_builder *b, const struct convo_event *ev)
{
    enum gw_err err;

    b->answer.finish[ev->choice].stop = ev->stop;
    err = keep(b, ev->stop_raw, &b->answer.finish[ev->choice].raw);
    return err ? err : keep(b, ev->stop_string, &b->answer.finish[ev->choice].string);
}

static enum gw_err add_start(struct convo_builder *b, const struct convo_event *ev)
{
    enum gw_err err = b->answer.id.n ? GW_OK : keep(b, ev->id, &b->answer.id);

    return err || b->answer.model.n ? err : keep(b, ev->model, &b->answer.model);
}

static enum gw_err add_content(struct convo_builder *b, const struct convo_event *ev)
{
    enum gw_err err;

    switch (ev->kind) {
    case CONVO_EV_TEXT:
        err = ev->raw.n ? add_logprobs(b, ev) : GW_OK;
        return err ? err : add_text(b, ev, CONVO_TEXT);
    case CONVO_EV_REFUSAL:
        return add_text(b, ev, CONVO_REFUSAL);
    case CONVO_EV_REASONING:
        return add_text(b, ev, CONVO_REASONING);
    case CONVO_EV_REDACTED:
        return add_text(b, ev, CONVO_REDACTED);
    case CONVO_EV_TOOL_ARGS:
        return add_text(b, ev, CONVO_TOOL_CALL);
    case CONVO_EV_SIGNATURE:
        return add_signature(b, ev);
    case CONVO_EV_TOOL_BEGIN:
        return add_tool(b, ev);
    case CONVO_EV_OPAQUE:
        return add_opaque(b, ev);
    case CONVO_EV_FINISH:
        return add_finish(b, ev);
    default:
        return GW_OK;
    }
}

enum gw_err convo_builder_event(const struct convo_event *ev, void *builder)
{
    struct convo_builder *b = builder;

    if (b->answer.ended || b->answer.err)
        return GW_OK;
    switch (ev->kind) {
    case CONVO_EV_START:
        return add_start(b, ev);
    case CONVO_EV_USAGE:
        b->answer.usage = ev->usage;
        return GW_OK;
    case CONVO_EV_ERROR:
        b->answer.err = ev->err ? ev->err : GW_EUPSTREAM;
        return keep(b, ev->text, &b->answer.err_text);
    case CONVO_EV_END:
        b->answer.ended = true;
        return GW_OK;
    case CONVO_EV_PING:
        return GW_OK;
    default:
        break;
    }
    if (ev->choice >= MAX_CHOICES)
        return GW_EUPBAD;
    if (ev->choice >= b->answer.n_choices)
        b->answer.n_choices = ev->choice + 1;
    return add_content(b, ev);
}

static bool join_logprobs(struct convo_builder *b, unsigned choice)
{
    struct buf *from = &b->logprobs[choice];

    if (!from->n)
        return true;
    b->answer.finish[choice].logprobs =
        arena_printf(b->arena, "{\"content\":[%.*s],\"refusal\":null}", SLICE_ARG(buf_slice(from)));
    return b->answer.finish[choice].logprobs.p != NULL;
}

const struct convo_answer *convo_builder_answer(struct convo_builder *b)
{
    for (unsigned i = 0; i < MAX_CHOICES; i++)
        if (!join_logprobs(b, i))
            return NULL;
    for (struct convo_out_part *o = b->answer.parts; o; o = o->next) {
        struct building *p = (struct building *)o;

        if (o->kind == CONVO_OPAQUE)
            continue;
        o->text = o->kind == CONVO_TOOL_CALL && p->text.n == 0 ? SLICE("{}") : buf_slice(&p->text);
    }
    return &b->answer;
}
