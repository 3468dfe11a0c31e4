/*
 * detect_rules.c - what is looked for where something triggers a rule (detect_private.h): SQL,
 * script in HTML, shell. A rule reads from its trigger on and finds one kind of attempt or nothing.
 */
#include "gateway/core/detect_private.h"

#define LOOK_AHEAD DETECT_LOOK_AHEAD

#define RARELY __attribute__((noinline)) /* what comes before it is kept cheap */

struct text {
    const char *p;     /* where the rule looks */
    const char *start; /* of the whole text */
    const char *end;   /* of what the rule may look at */
};

/* --- bytes ------------------------------------------------------------------------------------ */

#define L (LETTER | WORD)
#define W WORD

/* clang-format off */
const uint8_t detect_classes[256] = {
    ['a'] = L, ['b'] = L, ['c'] = L, ['d'] = L, ['e'] = L, ['f'] = W, ['g'] = W, ['h'] = W, ['i'] = L,
    ['j'] = L, ['k'] = W, ['l'] = L, ['m'] = W, ['n'] = W, ['o'] = L, ['p'] = L, ['q'] = W, ['r'] = W,
    ['s'] = L, ['t'] = L, ['u'] = L, ['v'] = L, ['w'] = L, ['x'] = L, ['y'] = W, ['z'] = W,
    ['A'] = L, ['B'] = L, ['C'] = L, ['D'] = L, ['E'] = L, ['F'] = W, ['G'] = W, ['H'] = W, ['I'] = L,
    ['J'] = L, ['K'] = W, ['L'] = L, ['M'] = W, ['N'] = W, ['O'] = L, ['P'] = L, ['Q'] = W, ['R'] = W,
    ['S'] = L, ['T'] = L, ['U'] = L, ['V'] = L, ['W'] = L, ['X'] = L, ['Y'] = W, ['Z'] = W,
    ['0' ... '9'] = W, ['_'] = W, [' '] = BLANK, ['\t' ... '\r'] = BLANK,
    ['\''] = QUOTE | MARK, ['"'] = QUOTE | MARK, ['`'] = BACKTICK | MARK, ['<'] = ANGLE,
    ['%'] = PERCENT, [';'] = CHAIN, ['|'] = CHAIN, ['&'] = CHAIN, ['$'] = DOLLAR, ['/'] = SLASH,
};
/* clang-format on */

static bool is_word(char c)
{
    return detect_class(c) & WORD;
}

static bool is_blank(char c)
{
    return detect_class(c) & BLANK;
}

static bool is_quote(char c)
{
    return detect_class(c) & MARK;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* --- small readers ---------------------------------------------------------------------------- */

static char at(const struct text *t, size_t i)
{
    return (size_t)(t->end - t->p) > i ? t->p[i] : '\0';
}

/* What is behind the word (lower case) if it is here, else NULL. Mostly its first letter is not. */
static inline const char *behind(const struct text *t, const char *word)
{
    const char *p = t->p;

    for (; *word; word++, p++)
        if (p == t->end || lower(*p) != *word)
            return NULL;
    return p;
}

/* Steps over the word if it is there. */
static inline bool take(struct text *t, const char *word)
{
    const char *p = behind(t, word);

    if (p)
        t->p = p;
    return p;
}

/* The same, when no word goes on behind it. */
static inline bool take_word(struct text *t, const char *word)
{
    const char *p = behind(t, word);

    if (!p || (p < t->end && is_word(*p)))
        return false;
    t->p = p;
    return true;
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

/* --- SQL -------------------------------------------------------------------------------------- */

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
    for (unsigned i = 0; !is_list && at(&what, i) && at(&what, i) != '\n'; i++)
        is_list = strchr("*,(=_@", at(&what, i)) != NULL;
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

/* Steps over bytes of these classes, and those that are `other`; the classes of all of them. */
static unsigned take_all(struct text *t, unsigned which, char other)
{
    const char *p = t->p, *end = t->end;
    unsigned met = 0;

    for (; p < end && (detect_class(*p) & which || *p == other); p++)
        met |= detect_class(*p);
    t->p = p;
    return met;
}

/* One side of a comparison, with its quotes and parentheses. */
static struct slice operand(struct text *t, bool *quoted)
{
    unsigned around = take_all(t, BLANK | MARK, '(');
    const char *from = t->p;
    size_t n;

    take_all(t, WORD, '_');
    n = (size_t)(t->p - from);
    around |= take_all(t, BLANK | MARK, ')');
    *quoted |= (around & MARK) != 0;
    return slice_of(from, n);
}

/* Does the word that ends here stand behind a quote or a parenthesis, which may have ended a value?
 */
static bool has_broken_out(struct text t)
{
    char b;

    while (t.p > t.start && is_word(before(&t)))
        t.p--;
    b = before_space(&t);
    return is_quote(b) || b == ')';
}

/* 1=1, 'a' like 'a': the same on both sides; `or` is where the word ends. */
static bool is_same_twice(struct text t, struct text or)
{
    bool quoted = false;
    struct slice a = operand(&t, &quoted), b;

    if (at(&t, 0) == '=')
        t.p++;
    else if (!take_word(&t, "like"))
        return false;
    b = operand(&t, &quoted);
    if (!slice_eq_nocase(a, b) || (a.n == 0 && !quoted))
        return false;
    return quoted || (a.n && a.p[0] >= '0' && a.p[0] <= '9') || has_broken_out(or);
}

/* As nearly always: a word follows that is not "true" or "not", and then another that is not
 * "like", or the end of a sentence. */
static bool goes_on_as_prose(const struct text *t)
{
    const char *p = t->p, *end = t->end;
    char first;

    if (end - p < 2 || *p != ' ' || !is_word(p[1]))
        return false;
    first = lower(p[1]);
    while (++p < end && is_word(*p))
        ;
    if (first == 't' || first == 'n' || p == end)
        return false;
    if (*p == ' ')
        return p + 1 < end && is_word(p[1]) && lower(p[1]) != 'l';
    return *p == ',' || *p == '.';
}

/* OR and what is always true. */
RARELY static unsigned on_comparison(struct text t)
{
    struct text or = t;

    if (!take_space(&t) && !is_quote(at(&t, 0)) && at(&t, 0) != '(')
        return 0;
    if (is_same_twice(t, or))
        return DETECT_SQL_OR;
    return (take_word(&t, "true") || take_word(&t, "not false")) && has_broken_out(or)
               ? DETECT_SQL_OR
               : 0;
}

static unsigned on_or(struct text t)
{
    return goes_on_as_prose(&t) ? 0 : on_comparison(t);
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

    if (is_word(at(&t, 0)))
        return 0; /* it begins a value, or is an apostrophe */
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

/* --- script ----------------------------------------------------------------------------------- */

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
RARELY static unsigned on_attribute(struct text t)
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

static unsigned on_handler(struct text t)
{
    return memchr(t.p, '=', (size_t)(t.end - t.p)) ? on_attribute(t) : 0;
}

/* --- shell ------------------------------------------------------------------------------------ */

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

/* --- words ------------------------------------------------------------------------------------ */

/* A rule gets the text behind the word; a handler's the text at it. The set is that of
 * detect_seek.h: words are together whose first three letters, mixed, begin few words of prose. */
struct word {
    const char *word;
    unsigned (*rule)(struct text t);
    unsigned set;
};

/* Those with the same first letter together, the most frequent of them first. */
/* clang-format off */
static const struct word words[] = {
    {"and", on_or, 4}, {"alter", on_object_verb, 4},
    {"benchmark", on_call, 3},
    {"create", on_object_verb, 5},
    {"data", on_data, 1}, {"delete", on_delete, 6}, {"drop", on_object_verb, 6},
    {"exec", on_exec, 3}, {"execute", on_exec, 3},
    {"information_schema", on_name, 5}, {"insert", on_insert, 0},
    {"javascript", on_scheme, 1},
    {"load_file", on_call, 4},
    {"or", on_or, 1},
    {"pg_sleep", on_call, 0},
    {"select", on_select, 6}, {"sleep", on_call, 5},
    {"truncate", on_object_verb, 0},
    {"union", on_union, 7}, {"update", on_update, 6},
    {"vbscript", on_scheme, 0},
    {"waitfor", on_waitfor, 7},
    {"xp_cmdshell", on_name, 0},
};
/* clang-format on */

#define N_WORDS (sizeof(words) / sizeof(words[0]))
#define BEHIND_OR " \t\n\v\f\r+/'\"(" /* what on_or() goes on behind, but for the backtick */

static uint8_t first_word[32]; /* of those that begin with letter number i: its number in words[] */

static unsigned on_letter(struct text t)
{
    char first = lower(*t.p), second = lower(at(&t, 1));

    if (first == 'o' && second == 'n')
        return on_handler(t);
    for (size_t i = first_word[first & 31]; i < N_WORDS && words[i].word[0] == first; i++) {
        struct text rest = {t.p + 2, t.start, t.end};

        if (words[i].word[1] == second && take_word(&rest, words[i].word + 2))
            return words[i].rule(rest);
    }
    return 0;
}

static unsigned on_nothing(struct text t)
{
    return 0;
}

void detect_each_word(void (*fn)(const char *two, const char *third, unsigned set))
{
    for (size_t i = 0; i < N_WORDS; i++) {
        const char *w = words[i].word;

        if (i == 0 || words[i - 1].word[0] != w[0])
            first_word[w[0] & 31] = (uint8_t)i;
        fn(w, w[2] ? (char[]){w[2], '\0'} : BEHIND_OR, words[i].set);
    }
    for (const char *const *e = events; *e; e++)
        fn("on", (char[]){**e, '\0'}, 2);
    fn("or", "`", 5);
}

/* --- triggers --------------------------------------------------------------------------------- */

typedef unsigned (*trigger_fn)(struct text t);

static const trigger_fn rules[] = {
    [PASS] = on_nothing,  [LETTER] = on_letter,     [QUOTE] = on_plain_quote,
    [ANGLE] = on_angle,   [PERCENT] = on_percent,   [CHAIN] = on_chain,
    [DOLLAR] = on_dollar, [BACKTICK] = on_backtick, [SLASH] = on_comment,
};

unsigned detect_look(struct slice text, size_t at)
{
    size_t left = text.n - at;
    const char *p = text.p + at;

    return rules[detect_class(*p) & TRIGGER](
        (struct text){p, text.p, p + (left > LOOK_AHEAD ? LOOK_AHEAD : left)});
}
