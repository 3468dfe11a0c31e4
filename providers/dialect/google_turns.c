/*
 * google_turns.c - the contents of a client's generateContent request as turns. The other way is
 * google_contents.c's.
 *
 * Three passes: the parts as they come; the model's texts joined that were streamed in pieces
 * (libraries keep one content for each chunk); calls and responses brought together by id, or by
 * name and order, since Gemini's clients need not give ids. Each is linear, or n log n.
 */
#include "providers/dialect/google_client.h"

#include "providers/dialect/media.h"

#include <stdlib.h>

/* --- data ---------------------------------------------------------------------------------- */

static enum convo_part_kind kind_of(struct slice mime)
{
    mime = media_essence(mime);
    if (slice_starts(mime, "image/"))
        return CONVO_IMAGE;
    return slice_starts(mime, "audio/") ? CONVO_AUDIO : CONVO_FILE;
}

/* inlineData or fileData. */
static enum gw_err read_blob(struct google_in *in, struct json v, const char *key,
                             const struct google_at *at, struct convo_part *p)
{
    bool is_link = strcmp(key, "fileUri") == 0;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    err = google_get_str(in, at, v, "mimeType", !is_link, &p->mime);
    if (!err)
        err = google_get_str(in, at, v, key, true, is_link ? &p->url : &p->data);
    if (!err)
        err = google_get_str(in, at, v, "displayName", false, &p->name);
    if (!err && is_link && p->mime.n == 0)
        p->mime = media_guess(p->url, SLICE_NONE);
    p->kind = kind_of(p->mime);
    return err;
}

static enum gw_err read_data(struct google_in *in, struct json part, const struct google_at *at,
                             struct convo_part *p)
{
    struct json inl = google_get(part, "inlineData"), link = google_get(part, "fileData");

    if (json_exists(inl))
        return read_blob(in, inl, "data", &(struct google_at){at, "inlineData", 0}, p);
    return read_blob(in, link, "fileUri", &(struct google_at){at, "fileData", 0}, p);
}

/* --- calls and responses ------------------------------------------------------------------- */

static enum gw_err read_call(struct google_in *in, struct json part, const struct google_at *up,
                             struct convo_part *p)
{
    struct json call = google_get(part, "functionCall"), args = google_get(call, "args");
    struct google_at at = {up, "functionCall", 0};
    enum gw_err err;

    if (!json_is(call, JSON_OBJECT))
        return google_wrong(in, &at, NULL, "must be an object");
    if (json_exists(args) && !json_is(args, JSON_OBJECT))
        return google_wrong(in, &at, "args", "must be an object");
    p->kind = CONVO_TOOL_CALL;
    p->args = json_exists(args) ? json_raw(args) : SLICE("{}");
    err = google_get_str(in, &at, call, "name", true, &p->name);
    return err ? err : google_get_str(in, &at, call, "id", false, &p->id);
}

static struct convo_part *add_inner(struct google_in *in, struct convo_part *result,
                                    struct convo_part **last)
{
    struct convo_part *p = arena_new(in->arena, struct convo_part);

    if (!p)
        return NULL;
    if (*last)
        (*last)->next = p;
    else
        result->content = p;
    *last = p;
    return p;
}

/* {"output": "text"} and {"result": "text"} are the text, {"error": "text"} is a failure; all else
 * is told as the JSON it is. */
static struct slice response_text(struct json response, bool *ret_is_error)
{
    struct json only = json_first(response);
    bool one = json_count(response) == 1;

    *ret_is_error = one && slice_is(json_key(only), "error");
    if (one && json_is(only, JSON_STRING) &&
        (*ret_is_error || slice_is(json_key(only), "output") || slice_is(json_key(only), "result")))
        return json_str(only);
    return json_raw(*ret_is_error ? only : response);
}

/* Pictures and files of a response. */
static enum gw_err read_response_parts(struct google_in *in, struct json list,
                                       const struct google_at *at, struct convo_part *result,
                                       struct convo_part *last)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(list, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array");
    for (struct json it = json_first(list); json_exists(it) && !err; it = json_next(list, it)) {
        struct google_at here = {at, NULL, i++};
        struct convo_part *p = add_inner(in, result, &last);

        if (!p)
            return GW_ENOMEM;
        err = read_data(in, it, &here, p);
    }
    return err;
}

static enum gw_err read_response(struct google_in *in, struct json part, const struct google_at *up,
                                 struct convo_part *p)
{
    struct json v = google_get(part, "functionResponse"), response = google_get(v, "response");
    struct json parts = google_get(v, "parts");
    struct google_at at = {up, "functionResponse", 0};
    struct convo_part *last = NULL, *text;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return google_wrong(in, &at, NULL, "must be an object");
    if (json_exists(response) && !json_is(response, JSON_OBJECT))
        return google_wrong(in, &at, "response", "must be an object");
    p->kind = CONVO_TOOL_RESULT;
    err = google_get_str(in, &at, v, "name", true, &p->name);
    if (!err)
        err = google_get_str(in, &at, v, "id", false, &p->id);
    if (err)
        return err;
    text = add_inner(in, p, &last);
    if (!text)
        return GW_ENOMEM;
    text->text = json_exists(response) ? response_text(response, &p->is_error) : SLICE("{}");
    if (!text->text.p)
        return GW_ENOMEM;
    if (!json_exists(parts))
        return GW_OK;
    return read_response_parts(in, parts, &(struct google_at){&at, "parts", 0}, p, last);
}

/* --- parts --------------------------------------------------------------------------------- */

static enum gw_err read_text(struct google_in *in, struct json part, const struct google_at *at,
                             struct convo_part *p)
{
    bool thought = json_is(google_get(part, "thought"), JSON_TRUE);
    enum gw_err err = google_get_str(in, at, part, "text", false, &p->text);

    p->kind = thought ? CONVO_REASONING : CONVO_TEXT;
    if (thought && slice_starts(p->signature, GOOGLE_REDACTED)) {
        p->kind = CONVO_REDACTED;
        p->data = slice_from(p->signature, sizeof(GOOGLE_REDACTED) - 1);
        p->signature = SLICE_NONE;
    }
    return err;
}

/* What only Gemini knows: its name is the part's first member that says what it is. */
static enum gw_err read_other(struct google_in *in, struct json part, const struct google_at *at,
                              struct convo_part *p)
{
    for (struct json it = json_first(part); json_exists(it); it = json_next(part, it)) {
        struct slice key = json_key(it);

        if (json_is(it, JSON_NULL) || google_is_name(key, "thought") ||
            google_is_name(key, "thoughtSignature") || google_is_name(key, "partMetadata"))
            continue;
        p->kind = CONVO_OPAQUE;
        p->name = key;
        p->raw = json_raw(part);
        return GW_OK;
    }
    return google_wrong(in, at, NULL, "must have text, data, a call or a response");
}

typedef enum gw_err (*part_fn)(struct google_in *in, struct json part, const struct google_at *at,
                               struct convo_part *p);

static part_fn reader_of(struct json part, bool has_signature)
{
    static const struct {
        const char *key;
        part_fn read;
    } rows[] = {
        {"text", read_text},         {"inlineData", read_data},           {"fileData", read_data},
        {"functionCall", read_call}, {"functionResponse", read_response},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_exists(google_get(part, rows[i].key)))
            return rows[i].read;
    return has_signature && json_count(part) <= 2 ? read_text : read_other;
}

static enum gw_err check_place(struct google_in *in, const struct google_at *at,
                               enum convo_role role, enum convo_part_kind kind)
{
    if (kind == CONVO_TOOL_CALL && role != CONVO_ASSISTANT)
        return google_wrong(in, at, "functionCall", "belongs to the model");
    if (kind == CONVO_TOOL_RESULT && role != CONVO_USER)
        return google_wrong(in, at, "functionResponse", "belongs to the user");
    return GW_OK;
}

static enum gw_err read_part(struct google_in *in, struct json part, const struct google_at *at,
                             struct convo_turn *t)
{
    static const char *const hints[] = {"videoMetadata", "mediaResolution", "partMetadata"};
    struct convo_part *p;
    enum gw_err err;

    if (!json_is(part, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    p = convo_add_part(in->c, t, CONVO_TEXT);
    if (!p)
        return GW_ENOMEM;
    err = google_get_str(in, at, part, "thoughtSignature", false, &p->signature);
    if (!err)
        err = reader_of(part, p->signature.n > 0)(in, part, at, p);
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (json_exists(google_get(part, hints[i])))
            convo_drop(in->rep, hints[i]);
    return err ? err : check_place(in, at, t->role, p->kind);
}

static enum gw_err read_parts(struct google_in *in, struct json content, const struct google_at *up,
                              struct convo_turn *t)
{
    struct json parts = google_get(content, "parts");
    struct google_at at = {up, "parts", 0};
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (json_is(parts, JSON_OBJECT)) /* a single one, which Google takes too */
        return read_part(in, parts, &at, t);
    if (json_exists(parts) && !json_is(parts, JSON_ARRAY))
        return google_wrong(in, up, "parts", "must be an array");
    for (struct json it = json_first(parts); json_exists(it) && !err; it = json_next(parts, it))
        err = read_part(in, it, &(struct google_at){&at, NULL, i++}, t);
    return err;
}

/* --- contents ------------------------------------------------------------------------------ */

static enum gw_err read_content(struct google_in *in, struct json v, const struct google_at *at)
{
    enum convo_role role = CONVO_USER;
    struct convo_turn *t = in->c->last_turn;
    struct slice word = SLICE_NONE;
    enum gw_err err;

    if (!json_is(v, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be an object");
    err = google_get_str(in, at, v, "role", false, &word);
    if (err)
        return err;
    if (slice_is(word, "model"))
        role = CONVO_ASSISTANT;
    else if (word.n && !slice_is(word, "user") && !slice_is(word, "function"))
        return google_wrong(in, at, "role", "must be user or model");
    if (!t || t->role != role)
        t = convo_add_turn(in->c, role);
    return t ? read_parts(in, v, at, t) : GW_ENOMEM;
}

enum gw_err google_decode_system(struct google_in *in, struct json content,
                                 const struct google_at *at)
{
    struct convo_turn *t;
    enum gw_err err;

    if (!json_is(content, JSON_OBJECT))
        return google_wrong(in, at, NULL, "must be a content object");
    t = convo_add_turn(in->c, CONVO_SYSTEM);
    if (!t)
        return GW_ENOMEM;
    err = read_parts(in, content, at, t);
    for (const struct convo_part *p = t->parts; p && !err; p = p->next)
        if (p->kind != CONVO_TEXT)
            err = google_wrong(in, at, "parts", "must hold text only");
    return err;
}

/* --- texts in pieces ----------------------------------------------------------------------- */

/* Does `q` go on where `p` left off? */
static bool goes_on(const struct convo_part *p, const struct convo_part *q)
{
    return q && q->kind == p->kind && (p->kind == CONVO_TEXT || p->kind == CONVO_REASONING) &&
           p->signature.n == 0;
}

/* Makes one part of `first` and those that go on from it. */
static enum gw_err join_run(struct google_in *in, struct convo_part *first)
{
    struct convo_part *last = first;
    size_t n = first->text.n;
    char *text, *to;

    while (goes_on(last, last->next)) {
        last = last->next;
        n += last->text.n;
    }
    if (last == first)
        return GW_OK;
    text = to = arena_bytes(in->arena, n + 1);
    if (!text)
        return GW_ENOMEM;
    for (const struct convo_part *p = first; p != last->next; p = p->next)
        if (p->text.n) {
            memcpy(to, p->text.p, p->text.n);
            to += p->text.n;
        }
    first->text = slice_of(text, n);
    first->signature = last->signature;
    first->next = last->next;
    return GW_OK;
}

static bool is_empty(const struct convo_part *p)
{
    return (p->kind == CONVO_TEXT || p->kind == CONVO_REASONING) && p->text.n == 0 &&
           p->signature.n == 0;
}

/* Joins what the model said in pieces; empty pieces go. */
static enum gw_err join_turn(struct google_in *in, struct convo_turn *t)
{
    struct convo_part **at = &t->parts;
    enum gw_err err = GW_OK;

    while (*at) /* an empty piece between two others must not keep them apart */
        if (is_empty(*at))
            *at = (*at)->next;
        else
            at = &(*at)->next;
    t->last_part = NULL;
    for (struct convo_part *p = t->parts; p && !err; p = p->next) {
        err = join_run(in, p);
        t->last_part = p;
    }
    return err;
}

/* --- bringing calls and responses together ------------------------------------------------- */

struct call {
    struct convo_part *part;
    struct slice given_id; /* the client's own */
    unsigned order;        /* over the whole conversation */
    bool answered;
    struct call **cursor; /* of the first of its name: where to look on in by_name */
};

struct pairing {
    struct google_in *in;
    struct call *calls;
    struct call **by_id, **by_name; /* sorted, then by order */
    unsigned n;
    unsigned before;    /* calls of the turns so far */
    unsigned run_first; /* the first call of the model's last turn with calls */
};

static int compare_slices(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int compare_orders(const struct call *a, const struct call *b)
{
    return (a->order > b->order) - (a->order < b->order);
}

static int compare_ids(const void *left, const void *right)
{
    const struct call *a = *(struct call *const *)left, *b = *(struct call *const *)right;
    int c = compare_slices(a->given_id, b->given_id);

    return c ? c : compare_orders(a, b);
}

static int compare_names(const void *left, const void *right)
{
    const struct call *a = *(struct call *const *)left, *b = *(struct call *const *)right;
    int c = compare_slices(a->part->name, b->part->name);

    return c ? c : compare_orders(a, b);
}

/* The first place in a sorted list that is not before `key`. */
static unsigned lower_bound(struct call *const *list, unsigned n, const struct call *key,
                            int (*compare)(const void *, const void *))
{
    unsigned low = 0, high = n;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (compare(&list[mid], &key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static unsigned count_calls(const struct convo_turn *t)
{
    unsigned n = 0;

    for (const struct convo_part *p = t->parts; p; p = p->next)
        n += p->kind == CONVO_TOOL_CALL;
    return n;
}

/* The last call of this id so far, or NULL. */
static struct call *find_by_id(const struct pairing *p, struct slice id)
{
    struct call key = {.given_id = id, .order = p->before};
    unsigned i = id.n ? lower_bound(p->by_id, p->n, &key, compare_ids) : 0;

    return i > 0 && slice_eq(p->by_id[i - 1]->given_id, id) ? p->by_id[i - 1] : NULL;
}

/* The first call of this name in the model's last turn that has no response; else the last of that
 * name at all. */
static struct call *find_by_name(const struct pairing *p, struct convo_part *result)
{
    struct call key = {.part = result, .order = 0}, *first;
    unsigned i = lower_bound(p->by_name, p->n, &key, compare_names), from;

    if (i == p->n || !slice_eq(p->by_name[i]->part->name, result->name))
        return NULL;
    first = p->by_name[i];
    key.order = p->run_first;
    from = lower_bound(p->by_name, p->n, &key, compare_names);
    if (first->cursor && first->cursor > p->by_name + from)
        from = (unsigned)(first->cursor - p->by_name);
    for (; from < p->n; from++) {
        struct call *c = p->by_name[from];

        if (!slice_eq(c->part->name, result->name) || c->order >= p->before)
            break;
        if (!c->answered) {
            first->cursor = p->by_name + from;
            return c;
        }
    }
    first->cursor = p->by_name + from;
    return from > i && !p->by_name[from - 1]->answered ? p->by_name[from - 1] : NULL;
}

static enum gw_err pair_results(struct pairing *p, struct convo_turn *t)
{
    for (struct convo_part *r = t->parts; r; r = r->next) {
        struct call *call;

        if (r->kind != CONVO_TOOL_RESULT)
            continue;
        call = find_by_id(p, r->id);
        if (!call)
            call = find_by_name(p, r);
        if (!call)
            return google_wrong(p->in, &(struct google_at){NULL, "contents", 0}, NULL,
                                "a functionResponse is for no functionCall before it");
        call->answered = true;
        r->id = call->part->id;
        r->name = call->part->name;
    }
    return GW_OK;
}

static enum gw_err index_calls(struct pairing *p)
{
    unsigned i = 0;

    p->calls = arena_array(p->in->arena, struct call, p->n ? p->n : 1);
    p->by_id = arena_array(p->in->arena, struct call *, p->n ? p->n : 1);
    p->by_name = arena_array(p->in->arena, struct call *, p->n ? p->n : 1);
    if (!p->calls || !p->by_id || !p->by_name)
        return GW_ENOMEM;
    for (struct convo_turn *t = p->in->c->turns; t; t = t->next)
        for (struct convo_part *q = t->parts; q; q = q->next) {
            if (q->kind != CONVO_TOOL_CALL)
                continue;
            p->calls[i] = (struct call){.part = q, .given_id = q->id, .order = i};
            p->by_id[i] = p->by_name[i] = &p->calls[i];
            i++;
            if (q->id.n == 0) /* google_contents.c takes such ids off again */
                q->id = arena_printf(p->in->arena, "call_%016x", i);
            if (!q->id.p)
                return GW_ENOMEM;
        }
    qsort(p->by_id, p->n, sizeof(*p->by_id), compare_ids);
    qsort(p->by_name, p->n, sizeof(*p->by_name), compare_names);
    return GW_OK;
}

static enum gw_err pair(struct google_in *in)
{
    struct pairing p = {.in = in};
    enum gw_err err;

    for (const struct convo_turn *t = in->c->turns; t; t = t->next)
        p.n += count_calls(t);
    err = index_calls(&p);
    for (struct convo_turn *t = in->c->turns; t && !err; t = t->next) {
        unsigned n = count_calls(t);

        if (t->role == CONVO_USER)
            err = pair_results(&p, t);
        if (n)
            p.run_first = p.before;
        p.before += n;
    }
    return err;
}

/* --- entry point --------------------------------------------------------------------------- */

enum gw_err google_decode_contents(struct google_in *in, struct json contents,
                                   const struct google_at *at)
{
    unsigned i = 0;
    enum gw_err err = GW_OK;

    if (!json_is(contents, JSON_ARRAY))
        return google_wrong(in, at, NULL, "must be an array");
    for (struct json it = json_first(contents); json_exists(it) && !err;
         it = json_next(contents, it))
        err = read_content(in, it, &(struct google_at){at, NULL, i++});
    for (struct convo_turn *t = in->c->turns; t && !err; t = t->next)
        if (t->role == CONVO_ASSISTANT)
            err = join_turn(in, t);
    return err ? err : pair(in);
}
