/* chat_screen.c - see chat_screen.h. */
#include "handlers/chat_screen.h"

#include "gateway/http/router.h"
#include "gateway/http/screen.h"

static bool is_prose(const struct convo_turn *t, const struct convo_part *p)
{
    return t->role != CONVO_ASSISTANT && p->kind == CONVO_TEXT;
}

static size_t prose_bytes(const struct convo *convo)
{
    size_t n = 0;

    for (const struct convo_turn *t = convo->turns; t; t = t->next)
        for (const struct convo_part *p = t->parts; p; p = p->next)
            n += is_prose(t, p) ? p->text.n : 0;
    return n;
}

/* True when one of them is to be refused. A long history's old part is left out. */
static bool look(const struct conf *c, const struct convo *convo, struct detect *d)
{
    size_t all = prose_bytes(convo);
    size_t skip = all > DETECT_MAX_BYTES ? all - DETECT_MAX_BYTES : 0;
    bool refused = false;

    for (const struct convo_turn *t = convo->turns; t; t = t->next)
        for (const struct convo_part *p = t->parts; p; p = p->next) {
            if (!is_prose(t, p))
                continue;
            refused |= screen_free(c, d, slice_from(p->text, skip));
            skip -= skip < p->text.n ? skip : p->text.n;
        }
    return refused;
}

bool chat_screen(struct request *req, const struct convo *convo)
{
    struct error_detail e = {
        .message = SLICE("A message holds what looks like an injection attempt, and "
                         "security.free_text is set to refuse those."),
    };
    struct detect d = {0};
    bool refused;

    if (slice_is(req->conf->free_text_policy, "off"))
        return true;
    refused = look(req->conf, convo, &d);
    screen_tell(req, &d, refused);
    if (!refused)
        return true;
    if (surface_of(req) == SURFACE_NATIVE)
        e.param = SLICE("/message");
    request_fail(req, GW_ESCHEMA, &e);
    return false;
}
