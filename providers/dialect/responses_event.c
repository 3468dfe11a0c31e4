/* responses_event.c - see responses_stream.h. */
#include "providers/dialect/responses_stream.h"

/* --- the response ----------------------------------------------------------------------------- */

/* The request's own value, or what stands for "not given". */
static void put_setting(struct buf *out, struct json asked, const char *name, const char *otherwise)
{
    struct json v = openai_get(asked, name);

    buf_add_char(out, '"');
    buf_add_cstr(out, name);
    LIT(out, "\":");
    if (json_exists(v))
        responses_put_raw(out, json_raw(v));
    else
        buf_add_cstr(out, otherwise);
}

void responses_put_settings(struct buf *out, struct json asked)
{
    static const struct {
        const char *name, *otherwise;
    } rows[] = {
        {"instructions", "null"},
        {"max_output_tokens", "null"},
        {"max_tool_calls", "null"},
        {"metadata", "{}"},
        {"parallel_tool_calls", "true"},
        {"prompt_cache_key", "null"},
        {"safety_identifier", "null"},
        {"service_tier", "null"},
        {"temperature", "null"},
        {"tool_choice", "\"auto\""},
        {"tools", "[]"},
        {"top_logprobs", "0"},
        {"top_p", "null"},
        {"truncation", "\"disabled\""},
        {"user", "null"},
    };
    struct json text = openai_get(asked, "text"), reasoning = openai_get(asked, "reasoning");

    LIT(out, ",\"background\":false,\"previous_response_id\":null,\"store\":false");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        buf_add_char(out, ',');
        put_setting(out, asked, rows[i].name, rows[i].otherwise);
    }
    LIT(out, ",\"reasoning\":{");
    put_setting(out, reasoning, "effort", "null");
    buf_add_char(out, ',');
    put_setting(out, reasoning, "summary", "null");
    LIT(out, "},\"text\":{");
    put_setting(out, text, "format", "{\"type\":\"text\"}");
    buf_add_char(out, ',');
    put_setting(out, text, "verbosity", "\"medium\"");
    buf_add_char(out, '}');
}

static void put_usage(struct buf *out, const struct convo_usage *u)
{
    LIT(out, "{\"input_tokens\":");
    buf_add_u64(out, u->input);
    LIT(out, ",\"input_tokens_details\":{\"cached_tokens\":");
    buf_add_u64(out, u->cache_read);
    LIT(out, ",\"cache_write_tokens\":");
    buf_add_u64(out, u->cache_write);
    LIT(out, "},\"output_tokens\":");
    buf_add_u64(out, u->output);
    LIT(out, ",\"output_tokens_details\":{\"reasoning_tokens\":");
    buf_add_u64(out, u->reasoning);
    LIT(out, "},\"total_tokens\":");
    buf_add_u64(out, u->input + u->output);
    buf_add_char(out, '}');
}

const char *responses_cut_word(enum convo_stop stop)
{
    if (stop == CONVO_STOP_LENGTH)
        return "max_output_tokens";
    return stop == CONVO_STOP_FILTERED ? "content_filter" : NULL;
}

static void put_extensions(const struct dialect_encoder *e, struct buf *out)
{
    if ((e->stop == CONVO_STOP_PAUSED || e->stop == CONVO_STOP_OTHER) && e->stop_raw.n) {
        LIT(out, ",\"postern_stop_reason\":");
        responses_put_string(out, e->stop_raw);
    }
    if (e->opaque.n == 0)
        return;
    LIT(out, ",\"postern_opaque\":[");
    buf_add_slice(out, buf_slice(&e->opaque));
    buf_add_char(out, ']');
}

/* What an error is called in a response: the vendor has no more words that fit. */
static const char *failure_word(enum gw_err err)
{
    if (err == GW_EUPRATE || err == GW_ERATE)
        return "rate_limit_exceeded";
    return err == GW_EUPREJECT ? "invalid_prompt" : "server_error";
}

void responses_put(const struct dialect_encoder *e, const char *status,
                   const struct convo_event *error, struct buf *out)
{
    const char *cut = strcmp(status, "incomplete") == 0 ? responses_cut_word(e->stop) : NULL;

    LIT(out, "{\"id\":\"resp_");
    buf_add_slice(out, e->id);
    LIT(out, "\",\"object\":\"response\",\"created_at\":");
    buf_add_u64(out, e->created);
    LIT(out, ",\"status\":\"");
    buf_add_cstr(out, status);
    LIT(out, "\",\"error\":");
    if (error) {
        LIT(out, "{\"code\":\"");
        buf_add_cstr(out, failure_word(error->err));
        LIT(out, "\",\"message\":");
        responses_put_string(out, error->text);
        buf_add_char(out, '}');
    } else {
        LIT(out, "null");
    }
    LIT(out, ",\"incomplete_details\":");
    if (cut)
        buf_printf(out, "{\"reason\":\"%s\"}", cut);
    else
        LIT(out, "null");
    LIT(out, ",\"model\":");
    responses_put_string(out, e->model);
    buf_add_slice(out, e->echo);
    LIT(out, ",\"output\":[");
    for (const struct responses_item *i = e->items; i; i = i->next) {
        if (i != e->items)
            buf_add_char(out, ',');
        responses_put_item(out, i, e->id);
    }
    LIT(out, "],\"usage\":");
    if (e->usage.known)
        put_usage(out, &e->usage);
    else
        LIT(out, "null");
    put_extensions(e, out);
    buf_add_char(out, '}');
}

/* --- events ----------------------------------------------------------------------------------- */

bool responses_begin(struct dialect_encoder *e, const char *type, struct buf *out)
{
    if (e->quiet)
        return false;
    LIT(out, "event: ");
    buf_add_cstr(out, type);
    LIT(out, "\ndata: {\"type\":\"");
    buf_add_cstr(out, type);
    LIT(out, "\",\"sequence_number\":");
    buf_add_u64(out, e->sequence++);
    return true;
}

void responses_end(struct buf *out)
{
    LIT(out, "}\n\n");
}

bool responses_begin_of(struct dialect_encoder *e, const char *type,
                        const struct responses_item *item, struct buf *out)
{
    if (!responses_begin(e, type, out))
        return false;
    LIT(out, ",\"output_index\":");
    buf_add_u64(out, item->index);
    LIT(out, ",\"item_id\":");
    responses_put_item_id(out, item, e->id);
    return true;
}

bool responses_begin_part(struct dialect_encoder *e, const char *type,
                          const struct responses_item *item, struct buf *out)
{
    if (!responses_begin_of(e, type, item, out))
        return false;
    if (item->kind == RESPONSES_REASONING) {
        LIT(out, ",\"summary_index\":0");
        return true;
    }
    LIT(out, ",\"content_index\":");
    buf_add_u64(out, item->n_pieces - 1);
    return true;
}

void responses_put_member(struct buf *out, const char *name, struct slice text)
{
    LIT(out, ",\"");
    buf_add_cstr(out, name);
    LIT(out, "\":");
    responses_put_string(out, text);
}

void responses_tell_item(struct dialect_encoder *e, const char *type,
                         const struct responses_item *item, struct buf *out)
{
    if (!responses_begin(e, type, out))
        return;
    LIT(out, ",\"output_index\":");
    buf_add_u64(out, item->index);
    LIT(out, ",\"item\":");
    responses_put_item(out, item, e->id);
    responses_end(out);
}

void responses_tell(struct dialect_encoder *e, const char *type, const char *status,
                    const struct convo_event *error, struct buf *out)
{
    if (!responses_begin(e, type, out))
        return;
    LIT(out, ",\"response\":");
    responses_put(e, status, error, out);
    responses_end(out);
}

void responses_tell_piece(struct dialect_encoder *e, const char *type,
                          const struct responses_item *item, struct buf *out)
{
    if (!responses_begin_part(e, type, item, out))
        return;
    LIT(out, ",\"part\":");
    responses_put_piece(out, item->last_piece);
    responses_end(out);
}

void responses_tell_summary_part(struct dialect_encoder *e, const char *type,
                                 const struct responses_item *item, struct slice text,
                                 struct buf *out)
{
    if (!responses_begin_part(e, type, item, out))
        return;
    LIT(out, ",\"part\":{\"type\":\"summary_text\"");
    responses_put_member(out, "text", text);
    buf_add_char(out, '}');
    responses_end(out);
}

void responses_tell_args(struct dialect_encoder *e, const struct responses_item *item,
                         struct slice piece, struct buf *out)
{
    if (!responses_begin_of(e, "response.function_call_arguments.delta", item, out))
        return;
    responses_put_member(out, "delta", piece);
    responses_end(out);
}
