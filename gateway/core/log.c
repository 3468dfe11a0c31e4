/*
 * log.c - see log.h: levels, redaction, and the two renderings. Where lines go is log_sink.c.
 *
 * A line is built in one fixed buffer. Strings are copied in runs of harmless bytes; what remains
 * is escaped, so neither control characters nor broken UTF-8 ever reach a terminal or a log
 * collector.
 */
#include "gateway/core/log.h"

#include "gateway/core/hex.h"
#include "gateway/core/log_sink.h"
#include "gateway/core/loop.h"
#include "gateway/core/utf8.h"

#include <event2/event.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES (16u * 1024u)
#define LINE_TAIL 32u   /* kept free for closing quotes and the mark of a cut line */
#define FIELD_SPARE 40u /* what a field needs beside its escaped key: punctuation and a number */
#define MAX_COMPONENTS 16u
#define COMPONENT_BYTES 32u
#define CONST_BYTES 256u
#define FOREIGN_LINE_US 1000000u /* at most one line of libevent's per this */

struct component {
    char name[COMPONENT_BYTES];
    enum log_level level;
};

static struct {
    enum log_level level, least; /* of all components and the rest */
    struct component components[MAX_COMPONENTS];
    size_t n_components;
    bool open, json, colour;
    struct log_sink sinks[2];
    size_t n_sinks;
    uint64_t dropped;            /* by sinks closed since, and by standard error */
    char constants[CONST_BYTES]; /* ,"service":"...","version":"..." */
    size_t n_constants;
    time_t second; /* what stamp[] shows */
    char stamp[sizeof("2024-01-01T00:00:00")];
    uint64_t foreign_us, n_foreign; /* libevent: last line, lines left out since */
} lg = {.level = LVL_INFO, .least = LVL_INFO, .second = -1};

/* --- levels --------------------------------------------------------------------------------- */

static const char *const level_names[] = {
    [LVL_DEBUG] = "debug", [LVL_INFO] = "info", [LVL_WARN] = "warn", [LVL_ERROR] = "error"};
static const char *const level_tags[] = {
    [LVL_DEBUG] = "DEBUG", [LVL_INFO] = "INFO ", [LVL_WARN] = "WARN ", [LVL_ERROR] = "ERROR"};
static const char *const level_colours[] = {[LVL_DEBUG] = "\033[2m",
                                            [LVL_INFO] = "\033[32m",
                                            [LVL_WARN] = "\033[33m",
                                            [LVL_ERROR] = "\033[1;31m"};

bool log_level_parse(struct slice text, enum log_level *ret)
{
    static const struct {
        const char *word;
        enum log_level level;
    } words[] = {{"debug", LVL_DEBUG},
                 {"info", LVL_INFO},
                 {"warn", LVL_WARN},
                 {"warning", LVL_WARN},
                 {"error", LVL_ERROR}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_is_nocase(text, words[i].word)) {
            *ret = words[i].level;
            return true;
        }
    }
    return false;
}

static void find_least(void)
{
    lg.least = lg.level;
    for (size_t i = 0; i < lg.n_components; i++)
        if (lg.components[i].level < lg.least)
            lg.least = lg.components[i].level;
}

static void set_component(const char *name, enum log_level level)
{
    size_t i = 0;

    while (i < lg.n_components && strcmp(lg.components[i].name, name) != 0)
        i++;
    if (i == MAX_COMPONENTS || strlen(name) >= COMPONENT_BYTES)
        return;
    if (i == lg.n_components) {
        memcpy(lg.components[i].name, name, strlen(name) + 1);
        lg.n_components++;
    }
    lg.components[i].level = level;
}

void log_set_level(const char *component, enum log_level level)
{
    if (component)
        set_component(component, level);
    else
        lg.level = level;
    find_least();
}

void log_reset_levels(void)
{
    lg.n_components = 0;
    find_least();
}

bool log_enabled(enum log_level level, const struct log_ctx *ctx)
{
    if (level < lg.least)
        return false;
    if (lg.n_components && ctx && ctx->component)
        for (size_t i = 0; i < lg.n_components; i++)
            if (strcmp(lg.components[i].name, ctx->component) == 0)
                return level >= lg.components[i].level;
    return level >= lg.level;
}

/* --- redaction ------------------------------------------------------------------------------ */

static bool ends_in(const char *key, size_t n, const char *word, size_t w)
{
    return n >= w && (key[n - 1] | 0x20) == word[w - 1] && strncasecmp(key + n - w, word, w) == 0;
}

static bool begins_with(const char *key, size_t n, const char *word)
{
    size_t w = strlen(word);

    return n >= w && strncasecmp(key, word, w) == 0;
}

static bool names_a_secret(const char *key, size_t n)
{
    bool found = ends_in(key, n, "key", 3) || ends_in(key, n, "token", 5);

    for (; n >= sizeof("passw") - 1 && !found; key++, n--) /* the shortest of the words */
        switch (*key | 0x20) {
        case 'a':
            found = begins_with(key, n, "authorization");
            break;
        case 'c':
            found = begins_with(key, n, "cookie") || begins_with(key, n, "credential");
            break;
        case 'p':
            found = begins_with(key, n, "passw");
            break;
        case 's':
            found = begins_with(key, n, "secret");
            break;
        }
    return found;
}

/* --- writing into the line ------------------------------------------------------------------ */

struct line {
    char *at, *end; /* end leaves LINE_TAIL bytes */
    bool cut;
};

static size_t room(const struct line *l)
{
    return l->at < l->end ? (size_t)(l->end - l->at) : 0;
}

/* For what is known to fit, or belongs into the tail. */
static void put(struct line *l, const char *p, size_t n)
{
    memcpy(l->at, p, n);
    l->at += n;
}

#define PUT(l, lit) put((l), (lit), sizeof(lit) - 1)

static void put_u64(struct line *l, uint64_t v)
{
    char text[20];
    size_t at = sizeof(text);

    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    put(l, text + at, sizeof(text) - at);
}

static uint64_t put_sign(struct line *l, int64_t v)
{
    if (v < 0)
        PUT(l, "-");
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

static void put_ms(struct line *l, int64_t us)
{
    uint64_t v = put_sign(l, us);
    unsigned rest = (unsigned)(v % 1000u);
    char part[4] = {'.', (char)('0' + rest / 100), (char)('0' + rest / 10 % 10),
                    (char)('0' + rest % 10)};

    put_u64(l, v / 1000u);
    put(l, part, sizeof(part));
}

/* Bytes that are copied as they are: printable ASCII but " and \. */
static const bool plain[256] = {
    [0x20 ... 0x21] = true, [0x23 ... 0x5b] = true, [0x5d ... 0x7e] = true};

/* Writes the escaped form of the character at p to out[8]; returns its length and, in ret_used, how
 * many bytes of p it stands for. */
static size_t escape(const unsigned char *p, size_t n, char *out, size_t *ret_used)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* byte, letter */
    size_t len;

    *ret_used = 1;
    for (size_t i = 0; i + 1 < sizeof(shorts); i += 2) {
        if (p[0] == (unsigned char)shorts[i]) {
            out[0] = '\\';
            out[1] = shorts[i + 1];
            return 2;
        }
    }
    if (p[0] < 0x20 || p[0] == 0x7f) {
        memcpy(out, "\\u00", 4);
        hex_write(out + 4, p, 1);
        return 6;
    }
    len = utf8_length((const char *)p, n);
    if (!len || (p[0] == 0xc2 && p[1] < 0xa0)) { /* broken, or a C1 control character */
        *ret_used = len ? len : 1;
        memcpy(out, "\xef\xbf\xbd", 3);
        return 3;
    }
    memcpy(out, p, len);
    *ret_used = len;
    return len;
}

static void put_escaped(struct line *l, const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t run, used, len;
    char out[8];

    while (n && !l->cut) {
        for (run = 0; run < n && plain[p[run]]; run++)
            ;
        used = len = run;
        if (run > room(l)) {
            l->cut = true;
            put(l, (const char *)p, room(l));
            return;
        }
        if (run) {
            put(l, (const char *)p, run);
        } else {
            len = escape(p, n, out, &used);
            if (len > room(l))
                l->cut = true;
            else
                put(l, out, len);
        }
        p += used;
        n -= used;
    }
}

static void put_quoted(struct line *l, struct slice s)
{
    PUT(l, "\"");
    put_escaped(l, s.p, s.n);
    PUT(l, "\"");
}

/* --- the time of day ------------------------------------------------------------------------ */

/* Formats the second only when it changes; returns its milliseconds. */
static unsigned stamp_now(void)
{
    uint64_t now = loop_wall_us();
    time_t second = (time_t)(now / 1000000u);
    struct tm tm;

    if (second != lg.second) {
        gmtime_r(&second, &tm);
        strftime(lg.stamp, sizeof(lg.stamp), "%Y-%m-%dT%H:%M:%S", &tm);
        lg.second = second;
    }
    return (unsigned)(now / 1000u % 1000u);
}

static void put_millis(struct line *l, unsigned ms)
{
    char part[4] = {'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)};

    put(l, part, sizeof(part));
}

/* --- JSON ----------------------------------------------------------------------------------- */

static const struct slice redacted = {"[redacted]", sizeof("[redacted]") - 1};

static void put_value(struct line *l, const struct log_field *f)
{
    switch (f->kind) {
    case LOG_INT:
        put_u64(l, put_sign(l, f->i));
        break;
    case LOG_MS:
        put_ms(l, f->i);
        break;
    default:
        if (f->i)
            PUT(l, "true");
        else
            PUT(l, "false");
    }
}

static void json_field(struct line *l, const struct log_field *f)
{
    size_t n = strlen(f->key);

    if (room(l) < n * 6 + FIELD_SPARE) { /* each byte of a key may become \u00XX */
        l->cut = true;
        return;
    }
    PUT(l, ",\"");
    put_escaped(l, f->key, n);
    PUT(l, "\":");
    if (f->kind != LOG_BOOL && names_a_secret(f->key, n))
        put_quoted(l, redacted);
    else if (f->kind == LOG_STR)
        put_quoted(l, f->str);
    else
        put_value(l, f);
}

static void json_text(struct line *l, const char *key, size_t n, struct slice value)
{
    if (room(l) < n + FIELD_SPARE) {
        l->cut = true;
        return;
    }
    put(l, key, n);
    put_quoted(l, value);
}

#define JSON_TEXT(l, lit, value) json_text((l), (lit), sizeof(lit) - 1, (value))

static void json_line(struct line *l, enum log_level level, const struct log_ctx *ctx,
                      const char *message, const struct log_field *f)
{
    unsigned ms = stamp_now();

    PUT(l, "{\"timestamp\":\"");
    put(l, lg.stamp, sizeof(lg.stamp) - 1);
    put_millis(l, ms);
    PUT(l, "Z\",\"level\":\"");
    put(l, level_names[level], strlen(level_names[level]));
    PUT(l, "\"");
    put(l, lg.constants, lg.n_constants);
    if (ctx && ctx->component)
        JSON_TEXT(l, ",\"component\":", slice_cstr(ctx->component));
    if (ctx && ctx->request_id.n)
        JSON_TEXT(l, ",\"request_id\":", ctx->request_id);
    else if (room(l) >= FIELD_SPARE)
        PUT(l, ",\"request_id\":null");
    JSON_TEXT(l, ",\"message\":", slice_cstr(message));
    for (; f->kind != LOG_END && !l->cut; f++)
        json_field(l, f);
    if (l->cut)
        PUT(l, ",\"truncated\":true");
    PUT(l, "}\n");
}

/* --- console -------------------------------------------------------------------------------- */

static void console_text(struct line *l, struct slice s)
{
    bool bare = s.n > 0;

    for (size_t i = 0; i < s.n && bare; i++)
        bare = plain[(unsigned char)s.p[i]] && s.p[i] != ' ' && s.p[i] != '=';
    if (bare)
        put_escaped(l, s.p, s.n);
    else
        put_quoted(l, s);
}

static void console_field(struct line *l, const struct log_field *f)
{
    size_t n = strlen(f->key);

    if (room(l) < n * 6 + FIELD_SPARE) {
        l->cut = true;
        return;
    }
    PUT(l, " ");
    put_escaped(l, f->key, n);
    PUT(l, "=");
    if (f->kind != LOG_BOOL && names_a_secret(f->key, n))
        put(l, redacted.p, redacted.n);
    else if (f->kind == LOG_STR)
        console_text(l, f->str);
    else
        put_value(l, f);
}

static void console_line(struct line *l, enum log_level level, const struct log_ctx *ctx,
                         const char *message, const struct log_field *f)
{
    unsigned ms = stamp_now();

    put(l, lg.stamp + sizeof("2024-01-01T") - 1, sizeof("00:00:00") - 1);
    put_millis(l, ms);
    PUT(l, " ");
    if (lg.colour)
        put(l, level_colours[level], strlen(level_colours[level]));
    put(l, level_tags[level], strlen(level_tags[level]));
    if (lg.colour)
        PUT(l, "\033[0m");
    PUT(l, " ");
    if (ctx && ctx->component) {
        put_escaped(l, ctx->component, strlen(ctx->component));
        if (!l->cut)
            PUT(l, ": ");
    }
    put_escaped(l, message, strlen(message));
    if (ctx && ctx->request_id.n && !l->cut)
        console_field(l, &F_STR("request_id", ctx->request_id));
    for (; f->kind != LOG_END && !l->cut; f++)
        console_field(l, f);
    if (l->cut)
        PUT(l, " truncated=true");
    PUT(l, "\n");
}

/* --- lines ---------------------------------------------------------------------------------- */

static void write_stderr(const char *p, size_t n)
{
    while (n) {
        ssize_t did = write(STDERR_FILENO, p, n);

        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0) {
            lg.dropped++;
            return;
        }
        p += did;
        n -= (size_t)did;
    }
}

void log_write(enum log_level level, const struct log_ctx *ctx, const char *message,
               const struct log_field *fields)
{
    static char text[LINE_BYTES];
    struct line l = {.at = text, .end = text + sizeof(text) - LINE_TAIL};
    uint64_t now;

    if (lg.json)
        json_line(&l, level, ctx, message, fields);
    else
        console_line(&l, level, ctx, message, fields);
    if (!lg.open) {
        write_stderr(text, (size_t)(l.at - text));
        return;
    }
    now = loop_now_us();
    for (size_t i = 0; i < lg.n_sinks; i++)
        log_sink_add(&lg.sinks[i], text, (size_t)(l.at - text), now);
    if (level >= LVL_ERROR || !loop_in_turn())
        log_flush();
}

void log_flush(void)
{
    for (size_t i = 0; i < lg.n_sinks; i++)
        if (lg.sinks[i].n)
            log_sink_flush(&lg.sinks[i], loop_now_us());
}

uint64_t log_dropped(void)
{
    uint64_t n = lg.dropped;

    for (size_t i = 0; i < lg.n_sinks; i++)
        n += lg.sinks[i].dropped;
    return n;
}

/* --- life ----------------------------------------------------------------------------------- */

static void after_turn(uint64_t turn_us, const char *place, void *arg)
{
    log_flush();
}

/* libevent's own complaints; some come by the thousand when the process is in trouble. */
static void on_libevent(int severity, const char *message)
{
    static const struct log_ctx ctx = {.component = "libevent"};
    uint64_t now = loop_clock_us();

    if (severity < EVENT_LOG_WARN)
        return;
    if (lg.foreign_us && now - lg.foreign_us < FOREIGN_LINE_US && severity != EVENT_LOG_ERR) {
        lg.n_foreign++;
        return;
    }
    lg.foreign_us = now;
    if (severity == EVENT_LOG_ERR)
        log_error(&ctx, message, F_INT("left_out", lg.n_foreign));
    else
        log_warn(&ctx, message, F_INT("left_out", lg.n_foreign));
    lg.n_foreign = 0;
}

static void render_constants(const char *service, const char *version)
{
    struct line l = {.at = lg.constants, .end = lg.constants + sizeof(lg.constants) - LINE_TAIL};

    JSON_TEXT(&l, ",\"service\":", slice_cstr(service));
    if (version && *version)
        JSON_TEXT(&l, ",\"version\":", slice_cstr(version));
    lg.n_constants = (size_t)(l.at - lg.constants);
}

static void close_sinks(void)
{
    while (lg.n_sinks) {
        struct log_sink *s = &lg.sinks[--lg.n_sinks];

        log_sink_close(s);
        lg.dropped += s->dropped;
    }
}

static enum gw_err open_sinks(const struct log_options *opt)
{
    enum gw_err err = GW_OK;

    if (!opt->file || opt->stdout_too) {
        err = log_sink_open_fd(&lg.sinks[lg.n_sinks], STDOUT_FILENO);
        if (err)
            return err;
        lg.n_sinks++;
    }
    if (opt->file) {
        err = log_sink_open_file(&lg.sinks[lg.n_sinks], opt->file, opt->file_max_bytes,
                                 opt->file_keep);
        if (!err)
            lg.n_sinks++;
    }
    return err;
}

/* Colour would land in the file too, so only a bare terminal gets it. */
static bool wants_colour(const struct log_options *opt)
{
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");

    return !opt->json && !opt->file && isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 &&
           !(no_colour && *no_colour);
}

enum gw_err log_init(const struct log_options *opt)
{
    enum gw_err err;

    log_deinit();
    err = open_sinks(opt);
    if (err) {
        close_sinks();
        return err;
    }
    lg.json = opt->json;
    lg.colour = wants_colour(opt);
    render_constants(opt->service, opt->version);
    log_set_level(NULL, opt->level);
    event_set_log_callback(on_libevent);
    loop_after_turn(after_turn, NULL);
    lg.open = true;
    return GW_OK;
}

void log_deinit(void)
{
    if (!lg.open)
        return;
    close_sinks();
    event_set_log_callback(NULL);
    lg.open = lg.json = lg.colour = false;
}
