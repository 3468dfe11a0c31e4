/* fields.c - see fields.h. */
#include "providers/dialect/fields.h"

static const struct field_row rows[] = {
#define X(from_, path_, openai, anthropic, google, note_, sample_)                                 \
    {FIELD_##from_, path_, {FIELD_##openai, FIELD_##anthropic, FIELD_##google}, note_, sample_},
#include "providers/dialect/fields.def"
#undef X
};

static const struct {
    const char *title, *lead;
} surfaces[FIELD_SURFACES] = {
    [FIELD_OPENAI] = {"From OpenAI chat completions", "`POST /v1/chat/completions`"},
    [FIELD_ANTHROPIC] = {"From Anthropic messages", "`POST /v1/messages`"},
    [FIELD_GOOGLE] = {"From Gemini", "`POST /v1beta/models/{model}:generateContent`"},
    [FIELD_RESPONSES] = {"From OpenAI responses", "`POST /v1/responses`"},
};

const struct field_row *fields_all(unsigned *ret_n)
{
    *ret_n = sizeof(rows) / sizeof(rows[0]);
    return rows;
}

const char *field_fate_word(enum field_fate f)
{
    static const char *const words[] = {
        [FIELD_PASSED] = "passed", [FIELD_CARRIED] = "carried", [FIELD_TRANSLATED] = "translated",
        [FIELD_PARTLY] = "partly", [FIELD_IGNORED] = "ignored", [FIELD_REFUSED] = "refused",
        [FIELD_OURS] = "ours",
    };

    return words[f];
}

static void surface_markdown(enum field_dialect from, struct buf *out)
{
    unsigned n = sizeof(rows) / sizeof(rows[0]), i;

    buf_printf(out, "\n## %s\n\n%s\n\n", surfaces[from].title, surfaces[from].lead);
    buf_add_cstr(out, "| field | to OpenAI | to Anthropic | to Google | note |\n"
                      "| --- | --- | --- | --- | --- |\n");
    for (i = 0; i < n; i++)
        if (rows[i].from == from)
            buf_printf(out, "| `%s` | %s | %s | %s | %s |\n", rows[i].path,
                       field_fate_word(rows[i].to[0]), field_fate_word(rows[i].to[1]),
                       field_fate_word(rows[i].to[2]), rows[i].note);
}

void fields_markdown(struct buf *out)
{
    unsigned i, n = sizeof(rows) / sizeof(rows[0]);

    buf_add_cstr(
        out,
        "# What becomes of every field\n\n"
        "Printed by `postern fields` from `providers/dialect/fields.def`; a test walks the "
        "rows.\n\n"
        "- **passed**: the provider speaks the client's dialect, the bytes go through\n"
        "- **carried**: same name, same value\n"
        "- **translated**: another name, shape or value of the same sense\n"
        "- **partly**: translated as far as it goes; the rest is named in `X-Postern-Dropped`\n"
        "- **ignored**: left out, and named in `X-Postern-Dropped`\n"
        "- **refused**: 400 with the field's name, since leaving it out would change the answer\n"
        "- **ours**: acts in the gateway and is not sent\n\n"
        "What a field becomes can depend on the model: rows hold for the models of the shipped "
        "registry that are named in `tests/unit/test_fields.c`.\n");
    for (i = 0; i < FIELD_SURFACES; i++) {
        unsigned k = 0;

        while (k < n && rows[k].from != i)
            k++;
        if (k < n)
            surface_markdown((enum field_dialect)i, out);
    }
}
