/*
 * detect.c - see detect.h.
 *
 * The pass stops only at bytes of the trigger table: punctuation that means something, and the
 * first letters of the words below where a word begins. What follows a trigger is looked at by a
 * rule, which never looks further than LOOK_AHEAD bytes, so the pass stays linear.
 */
#include "gateway/core/detect.h"

#include <stdint.h>

#define LOOK_AHEAD 128u

struct text {
    const char *p;     /* where the rule looks */
    const char *start; /* of the whole text */
    const char *end;   /* of what the rule may look at */
};

/* --- small readers ------------------------------------------------------------------------------
 */

static char at(const struct text *t, size_t i)
{
    return (size_t)(t->end - t->p) > i ? t->p[i] : '\0';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || c == '_';
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_quote(char c)
{
    return c == '\'' || c == '"' || c == '`';
}

/* Steps over the word (lower case) if it is there. */
static bool take(struct text *t, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(t->end - t->p) < n || strncasecmp(t->p, word, n) != 0)
        return false;
    t->p += n;
    return true;
}

/* The same, when no word goes on behind it. */
static bool take_word(struct text *t, const char *word)
{
    struct text old = *t;

    if (take(t, word) && !is_word(at(t, 0)))
        return true;
    *t = old;
    return false;
}

/* White space, and the comments and plus signs used instead of it. */
static bool take_space(struct text *t)
{
    const char *from = t->p;

    for (;;) {
        if (is_blank(at(t, 0)) || at(t, 0) == '+') {
            t->p++;
        } else if (at(t, 0) == '/' && at(t, 1) == '*') {
            const char *close = memmem(t->p, (size_t)(t->end - t->p), "*/", 2);

            if (!close || close - t->p > (ptrdiff_t)LOOK_AHEAD)
                break;
            t->p = close + 2;
        } else {
            break;
        }
    }
    return t->p > from;
}

/* One of the words of a list that ends with NULL. */
static bool take_one(struct text *t, const char *const *words)
{
    char first = lower(at(t, 0));

    for (; *words; words++)
        if (**words == first && take_word(t, *words))
            return true;
    return false;
}

static char before(const struct text *t)
{
    return t->p > t->start ? t->p[-1] : '\0';
}

/* The last byte before the trigger that is no space. */
static char before_space(const struct text *t)
{
    const char *p = t->p;

    while (p > t->start && t->p - p < (ptrdiff_t)LOOK_AHEAD && is_blank(p[-1]))
        p--;
    return p > t->start ? p[-1] : '\0';
}

/* --- SQL ----------------------------------------------------------------------------------------
 */

static const char *const objects[] = {"table", "database", "schema", "view",      "index",
                                      "user",  "function", "role",   "procedure", NULL};
static const char *const verbs[] = {"select",   "insert",  "update",   "delete",  "drop",
                                    "alter",    "create",  "truncate", "exec",    "execute",
                                    "shutdown", "declare", "grant",    "waitfor", NULL};

/* "from" as a word within the next bytes. */
static bool from_follows(struct text t)
{
    const char *stop = (size_t)(t.end - t.p) > LOOK_AHEAD ? t.p + LOOK_AHEAD : t.end;

    for (; t.p < stop; t.p++)
        if (lower(*t.p) == 'f' && !is_word(before(&t)) && take_word(&t, "from"))
            return true;
    return false;
}

/* SELECT what FROM: prose selects from things too, but not columns: *, a list, a call. */
static unsigned on_select(struct text t)
{
    struct text what;
    bool is_list = false;

    if (!take_space(&t) || !from_follows(t))
        return 0;
    what = t;
    for (unsigned i = 0; i < LOOK_AHEAD && at(&what, i) && at(&what, i) != '\n'; i++)
        is_list |= strchr("*,(=_@", at(&what, i)) != NULL;
    while (is_word(at(&what, 0)))
        what.p++;
    take_space(&what);
    return is_list || take_word(&what, "from") ? DETECT_SQL_KEYWORD : 0;
}

static unsigned on_union(struct text t)
{
    if (!take_space(&t) && at(&t, 0) != '(')
        return 0;
    if (take_word(&t, "all") || take_word(&t, "distinct"))
        take_space(&t);
    while (at(&t, 0) == '(')
        t.p++;
    return take_word(&t, "select") ? DETECT_SQL_UNION : 0;
}

static unsigned on_insert(struct text t)
{
    if (!take_space(&t) || !take_word(&t, "into") || !take_space(&t))
        return 0;
    while (is_word(at(&t, 0)) || is_quote(at(&t, 0)) || at(&t, 0) == '.')
        t.p++;
    take_space(&t);
    return at(&t, 0) == '(' || take_word(&t, "values") || take_word(&t, "select")
               ? DETECT_SQL_KEYWORD
               : 0;
}

static unsigned on_update(struct text t)
{
    if (!take_space(&t))
        return 0;
    while (is_word(at(&t, 0)) || is_quote(at(&t, 0)) || at(&t, 0) == '.')
        t.p++;
    if (!take_space(&t) || !take_word(&t, "set") || !take_space(&t))
        return 0;
    while (is_word(at(&t, 0)) || is_quote(at(&t, 0)) || at(&t, 0) == '.')
        t.p++;
    take_space(&t);
    return at(&t, 0) == '=' ? DETECT_SQL_KEYWORD : 0;
}

static unsigned on_delete(struct text t)
{
    if (!take_space(&t) || !take_word(&t, "from") || !take_space(&t))
        return 0;
    while (is_word(at(&t, 0)) || is_quote(at(&t, 0)) || at(&t, 0) == '.')
        t.p++;
    take_space(&t);
    return at(&t, 0) == ';' || at(&t, 0) == '\0' || at(&t, 0) == '-' || take_word(&t, "where")
               ? DETECT_SQL_KEYWORD
               : 0;
}

static unsigned on_object_verb(struct text t)
{
    return take_space(&t) && take_one(&t, objects) && take_space(&t) && at(&t, 0)
               ? DETECT_SQL_KEYWORD
               : 0;
}

static unsigned on_exec(struct text t)
{
    take_space(&t);
    while (at(&t, 0) == '(')
        t.p++;
    return take(&t, "xp_") || take(&t, "sp_") || take(&t, "master..") || at(&t, 0) == '@'
               ? DETECT_SQL_KEYWORD
               : 0;
}

static unsigned on_call(struct text t)
{
    take_space(&t);
    return at(&t, 0) == '(' ? DETECT_SQL_KEYWORD : 0;
}

static unsigned on_waitfor(struct text t)
{
    return take_space(&t) && take_word(&t, "delay") ? DETECT_SQL_KEYWORD : 0;
}

static unsigned on_name(struct text t)
{
    return DETECT_SQL_KEYWORD;
}

/* One side of a comparison, with its quotes and parentheses. */
static struct slice operand(struct text *t, bool *quoted)
{
    const char *from;
    size_t n;

    while (is_blank(at(t, 0)) || is_quote(at(t, 0)) || at(t, 0) == '(') {
        *quoted |= is_quote(at(t, 0));
        t->p++;
    }
    from = t->p;
    while (is_word(at(t, 0)))
        t->p++;
    n = (size_t)(t->p - from);
    while (is_quote(at(t, 0)) || at(t, 0) == ')' || is_blank(at(t, 0))) {
        *quoted |= is_quote(at(t, 0));
        t->p++;
    }
    return slice_of(from, n);
}

static bool same_nocase(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

/* OR and what is always true. */
static unsigned on_or(struct text t)
{
    bool quoted = false, broke_out;
    struct text word = t;
    struct slice a, b;

    while (word.p > word.start && is_word(before(&word)))
        word.p--;
    broke_out = is_quote(before_space(&word)) || before_space(&word) == ')';
    if (!take_space(&t) && !is_quote(at(&t, 0)) && at(&t, 0) != '(')
        return 0;
    if (broke_out && (take_word(&t, "true") || take_word(&t, "not false")))
        return DETECT_SQL_OR;
    a = operand(&t, &quoted);
    if (at(&t, 0) == '=')
        t.p++;
    else if (!take_word(&t, "like"))
        return 0;
    b = operand(&t, &quoted);
    if (!same_nocase(a, b) || (a.n == 0 && !quoted))
        return 0;
    return quoted || (a.n && a.p[0] >= '0' && a.p[0] <= '9') || broke_out ? DETECT_SQL_OR : 0;
}

/* Two dashes right behind the quote, or with nothing behind them. */
static bool is_cut_off(struct text t, bool adjacent)
{
    return (is_blank(at(&t, 0)) && adjacent) || at(&t, 0) == '+' ||
           (take_space(&t) ? at(&t, 0) == '\0' : t.p == t.end);
}

/* A quote that ends a value, and then the rest of the statement is cut off. */
static unsigned on_quote(struct text t)
{
    const char *quote = t.p;
    struct text bar;
    bool adjacent;

    take_space(&t);
    while (at(&t, 0) == ')')
        t.p++;
    take_space(&t);
    bar = t;
    adjacent = t.p == quote;
    if (take(&bar, "||") || take(&bar, "&&"))
        return on_or(bar);
    if (at(&t, 0) == ';') {
        t.p++;
        take_space(&t);
        return take(&t, "--") || take_one(&t, verbs) ? DETECT_SQL_SPECIAL : 0;
    }
    if (take(&t, "--"))
        return is_cut_off(t, adjacent) ? DETECT_SQL_SPECIAL : 0;
    if (at(&t, 0) == '#')
        return at(&t, 1) == '\0' || at(&t, 1) == '\n' ? DETECT_SQL_SPECIAL : 0;
    return at(&t, 0) == '/' && at(&t, 1) == '*' ? DETECT_SQL_SPECIAL : 0;
}

/* A comment inside a word or instead of the space between two. */
static unsigned on_comment(struct text t)
{
    bool inside = is_word(before(&t)) || is_quote(before(&t));
    const char *close;

    if (!inside || at(&t, 1) != '*')
        return 0;
    close = memmem(t.p + 2, (size_t)(t.end - t.p - 2), "*/", 2);
    if (!close || close - t.p > (ptrdiff_t)LOOK_AHEAD)
        return 0;
    t.p = close + 2;
    return is_word(at(&t, 0)) || is_quote(at(&t, 0)) ? DETECT_SQL_SPECIAL : 0;
}

/* --- script -------------------------------------------------------------------------------------
 */

static const char *const elements[] = {"script", "iframe", "object",   "embed", "applet",
                                       "meta",   "base",   "frameset", NULL};
static const char *const events[] = {
    "load",       "error",    "click",      "mouse",  "focus", "blur",   "change",  "submit",
    "key",        "toggle",   "input",      "paste",  "copy",  "cut",    "scroll",  "resize",
    "wheel",      "drag",     "drop",       "select", "reset", "unload", "start",   "begin",
    "end",        "message",  "hashchange", "before", "after", "touch",  "pointer", "animation",
    "transition", "dblclick", "context",    NULL};

static unsigned on_angle(struct text t)
{
    t.p++;
    take_space(&t);
    if (at(&t, 0) == '/')
        t.p++;
    return take_one(&t, elements) ? DETECT_XSS_SCRIPT : 0;
}

/* %3Cscript */
static unsigned on_percent(struct text t)
{
    if (!take(&t, "%3c"))
        return 0;
    return take(&t, "script") || take(&t, "/script") || take(&t, "%2fscript") ||
                   take(&t, "iframe") || take(&t, "img") || take(&t, "svg")
               ? DETECT_XSS_SCRIPT
               : 0;
}

/* on<event> = behind a space, a quote or a slash, as attributes stand. */
static unsigned on_handler(struct text t)
{
    const char *const *e = events;
    char b = before(&t);

    if (!is_blank(b) && !is_quote(b) && b != '/' && b != ';' && b != '\0')
        return 0;
    t.p += 2;
    while (*e && (**e != lower(at(&t, 0)) || !take(&t, *e)))
        e++;
    if (!*e)
        return 0;
    while (is_word(at(&t, 0)))
        t.p++;
    take_space(&t);
    return at(&t, 0) == '=' && at(&t, 1) != '=' ? DETECT_XSS_HANDLER : 0;
}

static unsigned on_scheme(struct text t)
{
    take_space(&t);
    return at(&t, 0) == ':' ? DETECT_XSS_URL : 0;
}

static unsigned on_data(struct text t)
{
    return take(&t, ":text/html") || take(&t, ":image/svg") || take(&t, ":application/x-java")
               ? DETECT_XSS_URL
               : 0;
}

/* --- shell --------------------------------------------------------------------------------------
 */

static const char *const commands[] = {
    "rm",       "cat",    "ls",       "id",    "whoami",     "wget",  "curl",     "nc",
    "ncat",     "netcat", "bash",     "sh",    "zsh",        "ksh",   "python",   "python3",
    "perl",     "ruby",   "php",      "node",  "chmod",      "chown", "kill",     "sudo",
    "su",       "ping",   "sleep",    "uname", "ps",         "env",   "echo",     "tee",
    "dd",       "mkfs",   "mv",       "cp",    "touch",      "find",  "xargs",    "eval",
    "exec",     "base64", "nslookup", "dig",   "telnet",     "ssh",   "scp",      "shutdown",
    "reboot",   "dir",    "type",     "cmd",   "powershell", "net",   "ifconfig", "ip",
    "hostname", "passwd", "crontab",  NULL};

/* A command, perhaps with its directory. */
static bool is_command(struct text t)
{
    const char *p = t.p, *name = t.p;

    while (p < t.end && p - t.p < 64 && (is_word(*p) || *p == '/' || *p == '.' || *p == '-')) {
        if (*p == '/')
            name = p + 1;
        p++;
    }
    t.p = name;
    return take_one(&t, commands);
}

static unsigned on_chain(struct text t)
{
    char first = at(&t, 0), b = before(&t);
    struct text after;

    if (b == ';' || b == '|' || b == '&')
        return 0; /* the first of them has been looked at */
    while (at(&t, 0) == ';' || at(&t, 0) == '|' || at(&t, 0) == '&')
        t.p++;
    take_space(&t);
    after = t;
    if (is_command(t))
        return DETECT_SHELL_CHAIN;
    if (first != ';')
        return 0;
    return take_one(&after, verbs) && take_space(&after) ? DETECT_SQL_SPECIAL : 0;
}

static unsigned on_dollar(struct text t)
{
    t.p++;
    if (take(&t, "{ifs}"))
        return DETECT_SHELL_SUBST;
    if (at(&t, 0) != '(')
        return 0;
    t.p++;
    take_space(&t);
    return is_command(t) ? DETECT_SHELL_SUBST : 0;
}

static unsigned on_backtick(struct text t)
{
    struct text command = t;
    const char *close;

    command.p++;
    take_space(&command);
    close = memchr(command.p, '`', (size_t)(t.end - command.p));
    if (close && close - command.p < (ptrdiff_t)LOOK_AHEAD && is_command(command))
        return DETECT_SHELL_SUBST;
    t.p++;
    return on_quote(t);
}

static unsigned on_plain_quote(struct text t)
{
    t.p++;
    return on_quote(t);
}

/* --- words --------------------------------------------------------------------------------------
 */

/* A rule gets the text behind the word; a handler's the text at it. */
struct word {
    const char *word;
    unsigned (*rule)(struct text t);
};

static const struct word words[] = {
    {"alter", on_object_verb}, {"and", on_or},
    {"benchmark", on_call},    {"create", on_object_verb},
    {"data", on_data},         {"delete", on_delete},
    {"drop", on_object_verb},  {"exec", on_exec},
    {"execute", on_exec},      {"information_schema", on_name},
    {"insert", on_insert},     {"javascript", on_scheme},
    {"load_file", on_call},    {"or", on_or},
    {"pg_sleep", on_call},     {"select", on_select},
    {"sleep", on_call},        {"truncate", on_object_verb},
    {"union", on_union},       {"update", on_update},
    {"vbscript", on_scheme},   {"waitfor", on_waitfor},
    {"xp_cmdshell", on_name},
};

#define N_WORDS (sizeof(words) / sizeof(words[0]))

static unsigned on_letter(struct text t)
{
    char first = lower(*t.p), second = lower(at(&t, 1));

    if (first == 'o' && second == 'n')
        return on_handler(t);
    for (size_t i = 0; i < N_WORDS; i++) {
        struct text behind = t;

        if (words[i].word[0] == first && words[i].word[1] == second &&
            take_word(&behind, words[i].word))
            return words[i].rule(behind);
    }
    return 0;
}

/* --- the pass -----------------------------------------------------------------------------------
 */

typedef unsigned (*trigger_fn)(struct text t);

enum trigger { PASS, LETTER, QUOTE, ANGLE, PERCENT, CHAIN, DOLLAR, BACKTICK, SLASH };

static const trigger_fn rules[] = {
    [LETTER] = on_letter,     [QUOTE] = on_plain_quote, [ANGLE] = on_angle,
    [PERCENT] = on_percent,   [CHAIN] = on_chain,       [DOLLAR] = on_dollar,
    [BACKTICK] = on_backtick, [SLASH] = on_comment,
};

#define WORD 0x80u /* beside the trigger: the byte is part of words */
#define L (LETTER | WORD)
#define W WORD

/* clang-format off */
static const uint8_t classes[256] = {
    ['a'] = L, ['b'] = L, ['c'] = L, ['d'] = L, ['e'] = L, ['f'] = W, ['g'] = W, ['h'] = W, ['i'] = L,
    ['j'] = L, ['k'] = W, ['l'] = L, ['m'] = W, ['n'] = W, ['o'] = L, ['p'] = L, ['q'] = W, ['r'] = W,
    ['s'] = L, ['t'] = L, ['u'] = L, ['v'] = L, ['w'] = L, ['x'] = L, ['y'] = W, ['z'] = W,
    ['A'] = L, ['B'] = L, ['C'] = L, ['D'] = L, ['E'] = L, ['F'] = W, ['G'] = W, ['H'] = W, ['I'] = L,
    ['J'] = L, ['K'] = W, ['L'] = L, ['M'] = W, ['N'] = W, ['O'] = L, ['P'] = L, ['Q'] = W, ['R'] = W,
    ['S'] = L, ['T'] = L, ['U'] = L, ['V'] = L, ['W'] = L, ['X'] = L, ['Y'] = W, ['Z'] = W,
    ['0' ... '9'] = W, ['_'] = W,
    ['\''] = QUOTE, ['"'] = QUOTE, ['<'] = ANGLE, ['%'] = PERCENT, [';'] = CHAIN, ['|'] = CHAIN,
    ['&'] = CHAIN, ['$'] = DOLLAR, ['`'] = BACKTICK, ['/'] = SLASH,
};
/* clang-format on */

/* What the pass asks of each byte, in one load: bit 0 a trigger of its own; else bit k (k > 0) that
 * a word may begin with it and go on with the letter number k. */
static uint32_t wanted[256];

static void learn_words(void)
{
    for (size_t i = 0; i < N_WORDS; i++) {
        uint32_t second = 1u << (words[i].word[1] & 31);

        wanted[(unsigned char)words[i].word[0]] |= second;
        wanted[(unsigned char)words[i].word[0] ^ 0x20] |= second;
    }
    wanted['o'] |= 1u << ('n' & 31);
    wanted['O'] |= 1u << ('n' & 31);
    for (unsigned c = 0; c < 256; c++)
        if (classes[c] && !(classes[c] & WORD))
            wanted[c] = 1;
}

/* The pass branches only where a rule is to look; that is rare in prose. */
unsigned detect_scan(struct slice s)
{
    const char *end = s.p + s.n;
    unsigned kinds = 0;
    uint32_t in_word = 0;

    if (!wanted['o'])
        learn_words();
    for (const char *p = s.p; p < end; p++) {
        uint8_t class = classes[(unsigned char)*p];
        uint32_t want = wanted[(unsigned char)*p];
        unsigned second = p + 1 < end ? (unsigned char)p[1] & 31u : 0;
        uint32_t word = want >> second & (second > 0) & ~in_word;

        in_word = class >> 7;
        if ((want | word) & 1)
            kinds |= rules[class & (uint8_t)~WORD](
                (struct text){p, s.p, (size_t)(end - p) > LOOK_AHEAD ? p + LOOK_AHEAD : end});
    }
    return kinds;
}

unsigned detect_add(struct detect *d, struct slice text)
{
    size_t left = DETECT_MAX_BYTES - d->done;
    unsigned kinds;

    if (text.n > left)
        text.n = left;
    if (text.n == 0)
        return 0;
    d->done += text.n;
    kinds = detect_scan(text);
    d->kinds |= kinds;
    return kinds;
}

const char *detect_name(unsigned bit)
{
    static const char *const names[DETECT_KINDS] = {
        "sql_keyword", "sql_special", "sql_union",         "sql_or", "xss_script", "xss_handler",
        "xss_url",     "shell_chain", "shell_substitution"};

    return bit < DETECT_KINDS ? names[bit] : "other";
}
