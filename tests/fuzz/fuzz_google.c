/* Gemini answers: whole, as a stream through the SSE parser, as errors and as embeddings; and
 * schemas. */
#include "tests/fuzz/fuzz_dialect.h"

#include "providers/dialect/schema.h"

static void fuzz_schemas(struct slice text)
{
    struct arena *a = arena_create(FUZZ_BYTES);
    struct slice out;
    struct json root;
    bool lossy;

    assert(a);
    if (schema_to_openapi(a, text, &out, &lossy) == GW_OK)
        assert(json_parse(a, out, NULL, &root, NULL) == GW_OK);
    if (schema_close(a, text, &out, &lossy) == GW_OK)
        assert(json_parse(a, out, NULL, &root, NULL) == GW_OK);
    arena_destroy(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *)data, size);
    struct arena *a = arena_create(FUZZ_BYTES);
    struct dialect_embed_answer embed;

    assert(a);
    if (dialect_google.decode_embed(a, text, &embed) == GW_OK)
        assert(embed.n > 0);
    arena_destroy(a);
    fuzz_schemas(text);
    return fuzz_dialect(&dialect_google, data, size);
}
