/* responses_item.c - see responses_stream.h. */
#include "providers/dialect/callid.h"
#include "providers/dialect/responses_stream.h"

void responses_put_string(struct buf *out, struct slice text)
{
    buf_add_char(out, '"');
    json_escape(out, text);
    buf_add_char(out, '"');
}

/* A line end, which can only be white space in JSON, would end the `data` field of an event. */
void responses_put_raw(struct buf *out, struct slice raw)
{
    char *to = buf_reserve(out, raw.n);

    for (size_t i = 0; to && i < raw.n; i++)
        to[i] = raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i];
    if (to)
        out->n += raw.n;
}

void responses_put_item_id(struct buf *out, const struct responses_item *item, struct slice id)
{
    static const char *const prefixes[] = {[RESPONSES_MESSAGE] = "\"msg_",
                                           [RESPONSES_REASONING] = "\"rs_",
                                           [RESPONSES_CALL] = "\"fc_"};

    buf_add_cstr(out, prefixes[item->kind]);
    buf_add_slice(out, id);
    buf_add_char(out, '_');
    buf_add_u64(out, item->index);
    buf_add_char(out, '"');
}

void responses_put_piece(struct buf *out, const struct responses_piece *p)
{
    if (p->refusal) {
        buf_add_cstr(out, "{\"type\":\"refusal\",\"refusal\":");
        responses_put_string(out, buf_slice(&p->text));
        buf_add_char(out, '}');
        return;
    }
    buf_add_cstr(out, "{\"type\":\"output_text\",\"annotations\":[");
    buf_add_slice(out, buf_slice(&p->annotations));
    buf_add_cstr(out, "],\"logprobs\":[");
    buf_add_slice(out, buf_slice(&p->logprobs));
    buf_add_cstr(out, "],\"text\":");
    responses_put_string(out, buf_slice(&p->text));
    buf_add_char(out, '}');
}

static void put_message(struct buf *out, const struct responses_item *item)
{
    buf_add_cstr(out, ",\"type\":\"message\",\"status\":\"");
    buf_add_cstr(out, item->status);
    buf_add_cstr(out, "\",\"role\":\"assistant\",\"content\":[");
    for (const struct responses_piece *p = item->pieces; p; p = p->next) {
        if (p != item->pieces)
            buf_add_char(out, ',');
        responses_put_piece(out, p);
    }
    buf_add_char(out, ']');
}

/* A signed thought carries its text in the seal too: clients leave summaries out. */
static void put_reasoning(struct buf *out, const struct responses_item *item)
{
    struct responses_seal thought = {
        .kind = SEAL_THINKING, .text = buf_slice(&item->text), .signature = item->signature};

    buf_add_cstr(out, ",\"type\":\"reasoning\",\"status\":\"");
    buf_add_cstr(out, item->status);
    buf_add_cstr(out, "\",\"summary\":[");
    if (item->text.n) {
        buf_add_cstr(out, "{\"type\":\"summary_text\",\"text\":");
        responses_put_string(out, buf_slice(&item->text));
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
    if (!item->sealed && item->signature.n == 0)
        return;
    buf_add_cstr(out, ",\"encrypted_content\":");
    responses_seal_put(out, item->sealed ? &item->seal : &thought);
}

static void put_call(struct buf *out, const struct responses_item *item)
{
    buf_add_cstr(out, ",\"type\":\"function_call\",\"status\":\"");
    buf_add_cstr(out, item->status);
    buf_add_cstr(out, "\",\"call_id\":");
    callid_put(out, item->call, item->signature);
    buf_add_cstr(out, ",\"name\":");
    responses_put_string(out, item->name);
    buf_add_cstr(out, ",\"arguments\":");
    responses_put_string(out, buf_slice(&item->text));
}

void responses_put_item(struct buf *out, const struct responses_item *item, struct slice id)
{
    buf_add_cstr(out, "{\"id\":");
    responses_put_item_id(out, item, id);
    if (item->kind == RESPONSES_MESSAGE)
        put_message(out, item);
    else if (item->kind == RESPONSES_REASONING)
        put_reasoning(out, item);
    else
        put_call(out, item);
    buf_add_char(out, '}');
}
