/*
 * json.c - reading of untrusted JSON; see json.h.
 *
 * The parser is a loop over four states and never recurses: while a container is open its token's
 * `next` holds the index of the container around it, so the tokens are their own stack. Tokens are
 * gathered on the C stack, then on the heap, and copied to the arena once their number is known.
 */
#include "gateway/core/json.h"

#include "gateway/core/hex.h"
#include "gateway/core/json_scan.h"
#include "gateway/core/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define MAX_TOKENS_DEFAULT 1000000u
#define STACK_TOKENS 128u
#define NO_TOKEN UINT32_MAX

struct parser {
    const char *src, *p, *end;
    struct json_token *tokens; /* `local` or heap */
    uint32_t n, cap;
    uint32_t max_tokens, max_depth;
    uint32_t depth; /* open containers */
    uint32_t open;  /* token of the innermost one, or NO_TOKEN */
    enum gw_err err;
    const char *what; /* with err: what was wrong, at p */
    struct json_token *local;
};

enum state { AT_VALUE, AT_KEY, AFTER_VALUE, AT_END, FAILED };

static enum state fail(struct parser *ps, enum gw_err err, const char *what)
{
    ps->err = err;
    ps->what = what;
    return FAILED;
}

static enum state bad(struct parser *ps, const char *what)
{
    return fail(ps, GW_EBADJSON, what);
}

static void skip_space(struct parser *ps)
{
    const char *p = ps->p;

    while (p < ps->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    ps->p = p;
}

/* --- tokens ---------------------------------------------------------------------------------- */

static bool tokens_grow(struct parser *ps)
{
    uint32_t cap = ps->cap > ps->max_tokens / 2 ? ps->max_tokens : ps->cap * 2;
    struct json_token *grown;

    if (ps->n >= ps->max_tokens) {
        fail(ps, GW_ETOOBIG, "too many values");
        return false;
    }
    grown = realloc(ps->tokens == ps->local ? NULL : ps->tokens, (size_t)cap * sizeof(*grown));
    if (!grown) {
        fail(ps, GW_ENOMEM, "out of memory");
        return false;
    }
    if (ps->tokens == ps->local)
        memcpy(grown, ps->local, (size_t)ps->n * sizeof(*grown));
    ps->tokens = grown;
    ps->cap = cap;
    return true;
}

/* Appends a token whose bytes end at ps->p; NULL when failed. */
static struct json_token *token_add(struct parser *ps, enum json_type type, const char *from)
{
    struct json_token *t;

    if (ps->n == ps->cap && !tokens_grow(ps))
        return NULL;
    t = &ps->tokens[ps->n++];
    *t = (struct json_token){.type = (uint8_t)type,
                             .at = (uint32_t)(from - ps->src),
                             .len = (uint32_t)(ps->p - from),
                             .next = ps->n};
    return t;
}

/* --- strings --------------------------------------------------------------------------------- */

/* The four hex digits at p as a number, or -1. */
static int32_t hex4(const char *p, const char *end)
{
    int high = end - p < 4 ? -1 : hex_pair(p), low = high < 0 ? -1 : hex_pair(p + 2);

    return low < 0 ? -1 : high << 8 | low;
}

/* Steps over the escape at ps->p; false when it is none. */
static bool skip_escape(struct parser *ps)
{
    int32_t unit, low;

    if (ps->end - ps->p < 2)
        return bad(ps, "unfinished string"), false;
    if (ps->p[1] != 'u') {
        if (!memchr("\"\\/bfnrt", ps->p[1], 8))
            return bad(ps, "unknown escape"), false;
        ps->p += 2;
        return true;
    }
    unit = hex4(ps->p + 2, ps->end);
    if (unit < 0)
        return bad(ps, "\\u without four hex digits"), false;
    if (unit == 0)
        return bad(ps, "\\u0000 is not accepted"), false;
    if (unit < 0xd800 || unit > 0xdfff) {
        ps->p += 6;
        return true;
    }
    low =
        ps->end - ps->p >= 8 && ps->p[6] == '\\' && ps->p[7] == 'u' ? hex4(ps->p + 8, ps->end) : -1;
    if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return bad(ps, "lone surrogate"), false;
    ps->p += 12;
    return true;
}

/* Reads the string whose opening quote is at ps->p. */
static struct json_token *read_string(struct parser *ps)
{
    const char *from = ++ps->p;
    struct json_token *t;
    bool escaped = false;
    size_t n;

    for (;;) {
        ps->p = json_scan(ps->p, ps->end, 1);
        if (ps->p == ps->end)
            return bad(ps, "unfinished string"), NULL;
        if (*ps->p == '"')
            break;
        if (*ps->p == '\\') {
            escaped = true;
            if (!skip_escape(ps))
                return NULL;
            continue;
        }
        if ((unsigned char)*ps->p < 0x20)
            return bad(ps, "control character in a string"), NULL;
        while (ps->p < ps->end && (unsigned char)*ps->p >= 0x80) {
            n = utf8_length(ps->p, (size_t)(ps->end - ps->p));
            if (n == 0)
                return bad(ps, "invalid UTF-8"), NULL;
            ps->p += n;
        }
    }
    t = token_add(ps, JSON_STRING, from);
    ps->p++;
    if (t)
        t->escaped = escaped;
    return t;
}

/* --- the other values ------------------------------------------------------------------------ */

static bool is_digit(const struct parser *ps)
{
    return ps->p < ps->end && *ps->p >= '0' && *ps->p <= '9';
}

static bool skip_digits(struct parser *ps)
{
    if (!is_digit(ps))
        return bad(ps, "a digit was expected"), false;
    while (is_digit(ps))
        ps->p++;
    return true;
}

static enum state read_number(struct parser *ps)
{
    const char *from = ps->p;

    if (*ps->p == '-')
        ps->p++;
    if (ps->p < ps->end && *ps->p == '0') {
        ps->p++;
        if (is_digit(ps))
            return bad(ps, "number with a leading zero");
    } else if (!skip_digits(ps)) {
        return FAILED;
    }
    if (ps->p < ps->end && *ps->p == '.') {
        ps->p++;
        if (!skip_digits(ps))
            return FAILED;
    }
    if (ps->p < ps->end && (*ps->p | 0x20) == 'e') {
        ps->p++;
        if (ps->p < ps->end && (*ps->p == '+' || *ps->p == '-'))
            ps->p++;
        if (!skip_digits(ps))
            return FAILED;
    }
    return token_add(ps, JSON_NUMBER, from) ? AFTER_VALUE : FAILED;
}

static enum state read_word(struct parser *ps, const char *word, enum json_type type)
{
    const char *from = ps->p;
    size_t n = strlen(word);

    if ((size_t)(ps->end - ps->p) < n || memcmp(ps->p, word, n) != 0)
        return bad(ps, "a value was expected");
    ps->p += n;
    return token_add(ps, type, from) ? AFTER_VALUE : FAILED;
}

/* --- containers ------------------------------------------------------------------------------ */

static enum state close_container(struct parser *ps)
{
    struct json_token *t = &ps->tokens[ps->open];

    ps->p++;
    ps->open = t->next;
    ps->depth--;
    t->len = (uint32_t)(ps->p - ps->src) - t->at;
    t->next = ps->n;
    return AFTER_VALUE;
}

static enum state open_container(struct parser *ps, enum json_type type, char closer)
{
    struct json_token *t;

    if (ps->depth == ps->max_depth)
        return bad(ps, "nested too deep");
    t = token_add(ps, type, ps->p);
    if (!t)
        return FAILED;
    t->next = ps->open;
    ps->open = ps->n - 1;
    ps->depth++;
    ps->p++;
    skip_space(ps);
    if (ps->p < ps->end && *ps->p == closer)
        return close_container(ps);
    return type == JSON_OBJECT ? AT_KEY : AT_VALUE;
}

static enum state read_key(struct parser *ps)
{
    skip_space(ps);
    if (ps->p == ps->end || *ps->p != '"')
        return bad(ps, "a member name was expected");
    if (!read_string(ps))
        return FAILED;
    skip_space(ps);
    if (ps->p == ps->end || *ps->p != ':')
        return bad(ps, "a colon was expected");
    ps->p++;
    return AT_VALUE;
}

static enum state read_value(struct parser *ps)
{
    skip_space(ps);
    if (ps->p == ps->end)
        return bad(ps, "a value was expected");
    if (ps->open != NO_TOKEN)
        ps->tokens[ps->open].children++;
    switch (*ps->p) {
    case '"':
        return read_string(ps) ? AFTER_VALUE : FAILED;
    case '{':
        return open_container(ps, JSON_OBJECT, '}');
    case '[':
        return open_container(ps, JSON_ARRAY, ']');
    case 't':
        return read_word(ps, "true", JSON_TRUE);
    case 'f':
        return read_word(ps, "false", JSON_FALSE);
    case 'n':
        return read_word(ps, "null", JSON_NULL);
    case '-':
    case '0' ... '9':
        return read_number(ps);
    default:
        return bad(ps, "a value was expected");
    }
}

static enum state after_value(struct parser *ps)
{
    bool object;

    skip_space(ps);
    if (ps->open == NO_TOKEN)
        return ps->p == ps->end ? AT_END : bad(ps, "bytes after the value");
    object = ps->tokens[ps->open].type == JSON_OBJECT;
    if (ps->p == ps->end)
        return bad(ps, object ? "unfinished object" : "unfinished array");
    if (*ps->p == ',') {
        ps->p++;
        return object ? AT_KEY : AT_VALUE;
    }
    if (*ps->p == (object ? '}' : ']'))
        return close_container(ps);
    return bad(ps, object ? "a comma or } was expected" : "a comma or ] was expected");
}

static void run(struct parser *ps)
{
    enum state at = AT_VALUE;

    while (at < AT_END) {
        if (at == AT_VALUE)
            at = read_value(ps);
        else if (at == AT_KEY)
            at = read_key(ps);
        else
            at = after_value(ps);
    }
}

static enum gw_err finish(struct parser *ps, struct arena *arena, struct json *ret_root)
{
    struct json_doc *doc = arena_new(arena, struct json_doc);
    size_t bytes = (size_t)ps->n * sizeof(*ps->tokens);

    if (!doc)
        return GW_ENOMEM;
    doc->tokens = arena_alloc(arena, bytes);
    if (!doc->tokens)
        return GW_ENOMEM;
    memcpy(doc->tokens, ps->tokens, bytes);
    doc->src = ps->src;
    doc->n = ps->n;
    doc->arena = arena;
    *ret_root = (struct json){doc, 0};
    return GW_OK;
}

/* Reads the whole of src into the tokens; ps->err tells. */
static void parse_all(struct parser *ps, struct slice src, size_t max_bytes)
{
    ps->open = NO_TOKEN;
    ps->src = ps->p = src.n ? src.p : "";
    ps->end = ps->src + src.n;
    if (src.n > max_bytes)
        fail(ps, GW_ETOOBIG, "too many bytes");
    else if (src.n >= 3 && memcmp(src.p, "\xef\xbb\xbf", 3) == 0)
        bad(ps, "byte order mark");
    else
        run(ps);
}

enum gw_err json_parse(struct arena *arena, struct slice src, const struct json_limits *limits,
                       struct json *ret_root, struct json_error *err)
{
    static const struct json_limits none;
    struct json_token local[STACK_TOKENS];
    struct parser ps = {.tokens = local, .local = local};
    const struct json_limits *l = limits ? limits : &none;

    ps.max_tokens = l->max_tokens ? l->max_tokens : MAX_TOKENS_DEFAULT;
    ps.cap = ps.max_tokens < STACK_TOKENS ? ps.max_tokens : STACK_TOKENS;
    ps.max_depth = l->max_depth ? l->max_depth : JSON_MAX_DEPTH;
    parse_all(&ps, src, l->max_bytes && l->max_bytes < UINT32_MAX ? l->max_bytes : UINT32_MAX);
    if (!ps.err) {
        ps.err = finish(&ps, arena, ret_root);
        ps.what = "out of memory";
    }
    if (ps.err && err)
        *err = (struct json_error){ps.what, (size_t)(ps.p - ps.src)};
    if (ps.tokens != local)
        free(ps.tokens);
    return ps.err;
}

enum gw_err json_parse_into(struct json_doc *doc, struct json_token *tokens, uint32_t cap,
                            struct slice src, struct json *ret_root)
{
    struct parser ps = {.tokens = tokens, .local = tokens, .cap = cap, .max_tokens = cap};

    ps.max_depth = JSON_MAX_DEPTH;
    parse_all(&ps, src, UINT32_MAX);
    if (ps.err)
        return ps.err;
    doc->src = ps.src;
    doc->tokens = tokens;
    doc->n = ps.n;
    *ret_root = (struct json){doc, 0};
    return GW_OK;
}

/* --- reading values -------------------------------------------------------------------------- */

static const struct json_token *tok(struct json v)
{
    return &v.doc->tokens[v.i];
}

enum json_type json_type(struct json v)
{
    assert(v.doc);
    return (enum json_type)tok(v)->type;
}

bool json_is(struct json v, enum json_type type)
{
    return v.doc && tok(v)->type == type;
}

/* Reads the escape or plain character at *p (valid already), writes its bytes to out, at most 4. */
static size_t unescape_one(const char **at, const char *end, char out[4])
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *p = *at;
    uint32_t c;

    if (*p != '\\') {
        out[0] = *p;
        *at = p + 1;
        return 1;
    }
    if (p[1] != 'u') {
        out[0] = to[strchr(from, p[1]) - from];
        *at = p + 2;
        return 1;
    }
    c = (uint32_t)hex4(p + 2, end);
    *at = p + 6;
    if (c >= 0xd800 && c <= 0xdfff) {
        c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)hex4(p + 8, end) - 0xdc00);
        *at = p + 12;
    }
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Does the string token spell `text`? Allocates nothing. */
static bool token_is(const struct json_doc *doc, const struct json_token *t, struct slice text)
{
    const char *p = doc->src + t->at, *end = p + t->len;
    size_t at = 0, n;
    char c[4];

    if (!t->escaped)
        return t->len == text.n && memcmp(p, text.p, text.n) == 0;
    while (p < end) {
        n = unescape_one(&p, end, c);
        if (n > text.n - at || memcmp(text.p + at, c, n) != 0)
            return false;
        at += n;
    }
    return at == text.n;
}

static struct slice token_text(const struct json_doc *doc, const struct json_token *t)
{
    const char *p = doc->src + t->at, *end = p + t->len;
    char *out, *to;

    if (!t->escaped)
        return slice_of(p, t->len);
    out = to = arena_bytes(doc->arena, t->len);
    if (!out)
        return SLICE_NONE;
    while (p < end) {
        const char *run = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((run ? run : end) - p);
        char c[4];

        memcpy(to, p, n);
        to += n;
        p += n;
        if (p == end)
            break;
        n = unescape_one(&p, end, c); /* never more bytes than the escape had */
        memcpy(to, c, n);
        to += n;
    }
    return slice_of(out, (size_t)(to - out));
}

struct json json_first(struct json container)
{
    const struct json_token *t = container.doc ? tok(container) : NULL;

    if (!t || t->children == 0 || (t->type != JSON_OBJECT && t->type != JSON_ARRAY))
        return (struct json){NULL, 0};
    return (struct json){container.doc, container.i + (t->type == JSON_OBJECT ? 2 : 1)};
}

struct json json_next(struct json container, struct json it)
{
    uint32_t next = tok(it)->next;

    if (next >= tok(container)->next)
        return (struct json){NULL, 0};
    return (struct json){it.doc, next + (tok(container)->type == JSON_OBJECT ? 1 : 0)};
}

struct slice json_key(struct json member)
{
    return member.doc ? token_text(member.doc, tok(member) - 1) : SLICE_NONE;
}

/* The first member called `name` whose key is the token `key` or comes after it. */
static struct json find(struct json object, uint32_t key, struct slice name)
{
    const struct json_token *tokens = object.doc->tokens;
    uint32_t end = tokens[object.i].next;

    for (; key < end; key = tokens[key + 1].next) {
        const struct json_token *t = &tokens[key];

        if ((t->len == name.n || t->escaped) && token_is(object.doc, t, name))
            return (struct json){object.doc, key + 1};
    }
    return (struct json){NULL, 0};
}

struct json json_get(struct json object, const char *name)
{
    if (!json_is(object, JSON_OBJECT))
        return (struct json){NULL, 0};
    return find(object, object.i + 1, slice_cstr(name));
}

bool json_has_duplicate(struct json object, const char *name)
{
    struct json first = json_get(object, name);

    return json_exists(first) && json_exists(find(object, tok(first)->next, slice_cstr(name)));
}

static int slice_order(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

    return order ? order : (x->n > y->n) - (x->n < y->n);
}

bool json_any_duplicate(struct json object, struct slice *ret_name)
{
    uint32_t n = json_is(object, JSON_OBJECT) ? tok(object)->children : 0, i = 0;
    struct slice *names = n < 2 ? NULL : malloc((size_t)n * sizeof(*names));
    bool found = n >= 2 && !names; /* out of memory: refuse rather than let a double pass */

    if (!names)
        return found;
    for (struct json it = json_first(object); json_exists(it); it = json_next(object, it)) {
        names[i] = json_key(it);
        if (!names[i].p)
            names[i] = SLICE("");
        i++;
    }
    qsort(names, n, sizeof(*names), slice_order);
    for (i = 1; i < n && !found; i++) {
        found = slice_eq(names[i - 1], names[i]);
        if (found && ret_name)
            *ret_name = names[i];
    }
    free(names);
    return found;
}

uint32_t json_count(struct json container)
{
    return container.doc ? tok(container)->children : 0;
}

struct slice json_raw(struct json v)
{
    const struct json_token *t;

    if (!v.doc)
        return SLICE_NONE;
    t = tok(v);
    if (t->type == JSON_STRING)
        return slice_of(v.doc->src + t->at - 1, (size_t)t->len + 2);
    return slice_of(v.doc->src + t->at, t->len);
}

struct slice json_str(struct json v)
{
    return json_is(v, JSON_STRING) ? token_text(v.doc, tok(v)) : SLICE_NONE;
}

bool json_str_is(struct json v, const char *text)
{
    return json_is(v, JSON_STRING) && token_is(v.doc, tok(v), slice_cstr(text));
}

/* --- numbers --------------------------------------------------------------------------------- */

/* Magnitude of the decimal text `digits` (which may hold one dot) times 10^exponent. */
static bool exact_u64(struct slice digits, int32_t exponent, uint64_t *ret)
{
    uint64_t v = 0;
    size_t dot = slice_find(digits, '.'), last = digits.n;
    int64_t power; /* of ten, belonging to the last digit that is used */

    while (last && (digits.p[last - 1] == '0' || digits.p[last - 1] == '.'))
        last--;
    if (last <= dot)
        power = (int64_t)exponent + (int64_t)(dot - last);
    else
        power = (int64_t)exponent - (int64_t)(last - dot - 1);
    for (size_t i = 0; i < last; i++) {
        if (i == dot)
            continue;
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(digits.p[i] - '0'), &v))
            return false;
    }
    if (v && power < 0)
        return false;
    for (; v && power > 0; power--)
        if (__builtin_mul_overflow(v, 10, &v))
            return false;
    *ret = v;
    return true;
}

bool json_int(struct json v, int64_t *ret)
{
    return json_scaled(v, 0, ret);
}

bool json_scaled(struct json v, unsigned decimals, int64_t *ret)
{
    struct slice s = json_is(v, JSON_NUMBER) ? json_raw(v) : SLICE_NONE;
    bool negative = s.n && s.p[0] == '-', minus = false;
    uint64_t magnitude;
    int32_t exponent = 0;
    size_t e;

    if (!s.n)
        return false;
    if (negative)
        s = slice_from(s, 1);
    for (e = 0; e < s.n && (s.p[e] | 0x20) != 'e'; e++)
        ;
    for (size_t i = e + 1; i < s.n; i++) {
        if (s.p[i] == '-')
            minus = true;
        else if (s.p[i] != '+' && exponent < 100000000)
            exponent = exponent * 10 + (s.p[i] - '0');
    }
    exponent = (minus ? -exponent : exponent) + (int32_t)decimals;
    if (!exact_u64(slice_of(s.p, e), exponent, &magnitude))
        return false;
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *ret = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool json_double(struct json v, double *ret)
{
    struct slice s = json_is(v, JSON_NUMBER) ? json_raw(v) : SLICE_NONE;
    char local[64], *text = local;
    double d;

    if (!s.n)
        return false;
    if (s.n >= sizeof(local))
        text = arena_cstr(v.doc->arena, s);
    if (!text)
        return false;
    if (text == local) {
        memcpy(local, s.p, s.n);
        local[s.n] = '\0';
    }
    d = strtod(text, NULL);
    if (!isfinite(d))
        return false;
    *ret = d;
    return true;
}

bool json_bool(struct json v, bool *ret)
{
    if (!json_is(v, JSON_TRUE) && !json_is(v, JSON_FALSE))
        return false;
    *ret = json_is(v, JSON_TRUE);
    return true;
}

bool json_utf8_valid(struct slice text)
{
    const char *p = text.n ? text.p : "", *end = p + text.n;
    size_t n;

    while (p < end) {
        if ((unsigned char)*p < 0x80) {
            if (*p == '\0')
                return false;
            p++;
            continue;
        }
        n = utf8_length(p, (size_t)(end - p));
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}
