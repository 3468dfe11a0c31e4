/*
 * fields.h - what becomes of every field of every client dialect on its way to each provider
 * dialect.
 *
 * The rows are fields.def. `postern fields` prints them as the table of
 * deploy/docs/TRANSLATIONS.md, and tests/unit/test_fields.c walks them: it sends each row's sample
 * through the translations and fails when a field fares otherwise than its row says, or is lost
 * without a word.
 */
#pragma once

#include "gateway/core/buf.h"

#include <stdbool.h>

enum field_fate {
    FIELD_PASSED,     /* the dialects are the same: the bytes go through */
    FIELD_CARRIED,    /* under the same name and with the same value */
    FIELD_TRANSLATED, /* under another name, in another shape, or as another value of the same sense
                       */
    FIELD_PARTLY,     /* translated as far as it goes, the rest named in X-Postern-Dropped */
    FIELD_IGNORED,    /* left out, and named in X-Postern-Dropped */
    FIELD_REFUSED,    /* 400 with the field's name: leaving it out would change the answer */
    FIELD_OURS        /* acts in the gateway itself and is not sent */
};

/* Clients' dialects. The first are also the providers'; the Responses API is spoken to clients
 * alone. */
enum field_dialect {
    FIELD_OPENAI,
    FIELD_ANTHROPIC,
    FIELD_GOOGLE,
    FIELD_DIALECTS,
    FIELD_RESPONSES = FIELD_DIALECTS,
    FIELD_SURFACES
};

struct field_row {
    enum field_dialect from;
    const char *path;                   /* "temperature", "messages[].name" */
    enum field_fate to[FIELD_DIALECTS]; /* by the provider's dialect */
    const char *note;
    const char *sample; /* members to put into a minimal request, as a JSON object */
};

/* All rows, in the order of the documentation. */
const struct field_row *fields_all(unsigned *ret_n);

const char *field_fate_word(enum field_fate f);

/* Appends the whole table as Markdown. */
void fields_markdown(struct buf *out);
