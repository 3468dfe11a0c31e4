/* media.c - see media.h. */
#include "providers/dialect/media.h"

#include "gateway/core/json.h"

#include <limits.h>
#include <openssl/evp.h>

static const struct {
    const char *extension, *mime;
} types[] = {
    {"jpg", "image/jpeg"},   {"jpeg", "image/jpeg"},     {"png", "image/png"},
    {"gif", "image/gif"},    {"webp", "image/webp"},     {"heic", "image/heic"},
    {"heif", "image/heif"},  {"pdf", "application/pdf"}, {"txt", "text/plain"},
    {"md", "text/markdown"}, {"csv", "text/csv"},        {"html", "text/html"},
    {"htm", "text/html"},    {"xml", "text/xml"},        {"json", "application/json"},
    {"wav", "audio/wav"},    {"mp3", "audio/mpeg"},      {"aac", "audio/aac"},
    {"ogg", "audio/ogg"},    {"flac", "audio/flac"},     {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},  {"mov", "video/quicktime"}, {"webm", "video/webm"},
};

struct slice media_essence(struct slice mime)
{
    return slice_trim(slice_of(mime.p, slice_find(mime, ';')));
}

bool media_is(struct slice mime, const char *want)
{
    return slice_is_nocase(media_essence(mime), want);
}

bool media_is_text(struct slice mime)
{
    struct slice m = media_essence(mime);

    return (m.n > 5 && strncasecmp(m.p, "text/", 5) == 0) || media_is(m, "application/json") ||
           media_is(m, "application/xml");
}

struct slice media_guess(struct slice name, struct slice fallback)
{
    struct slice path = slice_of(name.p, slice_find(name, '#'));
    size_t dot;

    path.n = slice_find(path, '?');
    for (dot = path.n; dot > 0 && path.p[dot - 1] != '.'; dot--)
        if (path.p[dot - 1] == '/')
            return fallback;
    if (dot == 0)
        return fallback;
    path = slice_from(path, dot);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (slice_is_nocase(path, types[i].extension))
            return slice_cstr(types[i].mime);
    return fallback;
}

bool media_is_http(struct slice url)
{
    return (url.n > 7 && strncasecmp(url.p, "http://", 7) == 0) ||
           (url.n > 8 && strncasecmp(url.p, "https://", 8) == 0);
}

bool media_split_data_url(struct slice url, struct slice *ret_mime, struct slice *ret_data)
{
    struct slice head;
    size_t comma = slice_find(url, ',');

    if (url.n < 5 || strncasecmp(url.p, "data:", 5) != 0 || comma == url.n || comma < 12)
        return false;
    head = slice_of(url.p + 5, comma - 5);
    if (strncasecmp(head.p + head.n - 7, ";base64", 7) != 0)
        return false;
    *ret_mime = slice_of(head.p, slice_find(head, ';'));
    *ret_data = slice_from(url, comma + 1);
    return ret_data->n > 0;
}

bool media_is_web_url(struct slice url)
{
    size_t slashes = url.n > 7 && (url.p[4] | 0x20) == 's' ? 8 : 7;

    if (!media_is_http(url) || url.n <= slashes || url.p[slashes] == '/')
        return false;
    for (size_t i = 0; i < url.n; i++)
        if ((unsigned char)url.p[i] <= ' ' || url.p[i] == 0x7f)
            return false;
    return true;
}

struct slice media_text(struct arena *a, struct slice base64)
{
    size_t pad = 0;
    char *out;
    int n;

    if (base64.n == 0 || base64.n % 4 != 0 || base64.n > INT_MAX / 2)
        return SLICE_NONE;
    while (pad < 2 && base64.p[base64.n - 1 - pad] == '=')
        pad++;
    out = arena_bytes(a, base64.n / 4 * 3 + 1);
    if (!out)
        return SLICE_NONE;
    n = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)base64.p, (int)base64.n);
    if (n < 0 || (size_t)n < pad)
        return SLICE_NONE;
    n -= (int)pad;
    if (!json_utf8_valid(slice_of(out, (size_t)n)))
        return SLICE_NONE;
    return slice_of(out, (size_t)n);
}

bool media_is_blank(struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!strchr(" \t\r\n\f\v", text.p[i]))
            return false;
    return true;
}
