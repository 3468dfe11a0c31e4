/* form_class.c - what a text of each class may look like; see form.h. */
#include "gateway/http/form.h"

#include "gateway/core/day.h"

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* Letters and digits, and inside also any of `also`. */
static bool is_word(struct slice s, const char *first, const char *also)
{
    if (s.n == 0 || !(is_alnum(s.p[0]) || (s.p[0] && strchr(first, s.p[0]))))
        return false;
    for (size_t i = 1; i < s.n; i++)
        if (!is_alnum(s.p[i]) && !(s.p[i] && strchr(also, s.p[i])))
            return false;
    return true;
}

static const char *check_any(struct slice s)
{
    return NULL;
}

/* Control characters (C0, DEL, C1) and the separators of lines and paragraphs. */
static const char *check_line(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        unsigned char next = i + 1 < s.n ? (unsigned char)s.p[i + 1] : 0;
        bool c1 = c == 0xc2 && next < 0xa0;
        bool separator = c == 0xe2 && next == 0x80 && i + 2 < s.n &&
                         ((unsigned char)s.p[i + 2] == 0xa8 || (unsigned char)s.p[i + 2] == 0xa9);

        if (c < 0x20 || c == 0x7f || c1 || separator)
            return "must be one line without control characters";
    }
    return NULL;
}

static const char *check_identifier(struct slice s)
{
    return is_word(s, "", "._-:@")
               ? NULL
               : "must start with a letter or digit and hold only those and . _ - : @";
}

static const char *check_model(struct slice s)
{
    return is_word(s, "*", "._-:@/*+")
               ? NULL
               : "must be a model's name: letters, digits and . _ - : @ / + *";
}

/* One label of a domain name. */
static bool is_label(struct slice s)
{
    return s.n >= 1 && s.n <= 63 && s.p[s.n - 1] != '-' && is_word(s, "", "-");
}

static bool is_domain(struct slice s)
{
    size_t dot;

    if (s.n == 0 || s.n > 253)
        return false;
    do {
        dot = slice_find(s, '.');
        if (!is_label(slice_of(s.p, dot)))
            return false;
        s = dot < s.n ? slice_of(s.p + dot + 1, s.n - dot - 1) : SLICE_NONE;
    } while (s.p);
    return true;
}

/* The dot-atom form; quoted local parts are no addresses people have. */
static const char *check_email(struct slice s)
{
    size_t at = slice_find(s, '@');
    struct slice local = slice_of(s.p, at), domain = slice_from(s, at + 1);
    bool ok = at >= 1 && at <= 64 && s.n <= 254 && is_domain(domain) &&
              slice_find(domain, '.') < domain.n &&
              is_word(local, "!#$%&'*+/=?^_`{|}~-", "!#$%&'*+/=?^_`{|}~-.") &&
              local.p[local.n - 1] != '.' && !memmem(local.p, local.n, "..", 2);

    return ok ? NULL : "must be an e-mail address";
}

static size_t scheme_length(struct slice s)
{
    if (s.n > 8 && strncasecmp(s.p, "https://", 8) == 0)
        return 8;
    return s.n > 7 && strncasecmp(s.p, "http://", 7) == 0 ? 7 : 0;
}

static bool is_port(struct slice s)
{
    unsigned v = 0;

    if (s.n == 0 || s.n > 5)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (unsigned)(s.p[i] - '0');
    }
    return v >= 1 && v <= 65535;
}

static bool is_ip6(struct slice s)
{
    for (size_t i = 1; i + 1 < s.n; i++)
        if (!is_alnum(s.p[i]) && s.p[i] != ':' && s.p[i] != '.')
            return false;
    return s.n > 4 && s.p[0] == '[' && s.p[s.n - 1] == ']';
}

/* host or host:port; credentials have no place in it. */
static bool is_authority(struct slice s)
{
    size_t host = s.n && s.p[0] == '[' ? slice_find(s, ']') + 1 : slice_find(s, ':');
    struct slice name = slice_of(s.p, host < s.n ? host : s.n), rest = slice_from(s, host);

    if (rest.n && (rest.p[0] != ':' || !is_port(slice_from(rest, 1))))
        return false;
    return name.n && (name.p[0] == '[' ? is_ip6(name) : is_domain(name));
}

static const char *check_url(struct slice s)
{
    size_t scheme = scheme_length(s), end = scheme;

    while (end < s.n && !strchr("/?#", s.p[end]))
        end++;
    if (scheme == 0 || !is_authority(slice_of(s.p + scheme, end - scheme)))
        return "must be an http or https URL with a host and no credentials";
    for (size_t i = end; i < s.n; i++)
        if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f ||
            strchr("<>\"\\^`{|}", s.p[i]))
            return "must have its special characters percent-encoded";
    return NULL;
}

static const char *check_filename(struct slice s)
{
    if (s.n == 0 || s.n > 255 || s.p[0] == '.' || s.p[0] == '-' || s.p[0] == ' ' ||
        s.p[s.n - 1] == '.' || s.p[s.n - 1] == ' ')
        return "must be a file name of 1 to 255 bytes that does not begin with . or -";
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f || strchr("/\\:*?\"<>|$`;&", s.p[i]))
            return "must be a file name without a path or special characters";
    return check_line(s) || memmem(s.p, s.n, "..", 2)
               ? "must be a file name without a path or special characters"
               : NULL;
}

static const char *check_date(struct slice s)
{
    int64_t begins;

    return day_parse(s, &begins) ? NULL : "must be a date, YYYY-MM-DD";
}

const char *form_class_problem(enum form_class class, struct slice text)
{
    static const char *(*const checks[FORM_CLASSES])(struct slice) = {
        [FORM_FREE] = check_any,    [FORM_OPAQUE] = check_any,
        [FORM_LINE] = check_line,   [FORM_IDENTIFIER] = check_identifier,
        [FORM_MODEL] = check_model, [FORM_EMAIL] = check_email,
        [FORM_URL] = check_url,     [FORM_FILENAME] = check_filename,
        [FORM_DATE] = check_date,
    };

    return checks[class](text);
}
