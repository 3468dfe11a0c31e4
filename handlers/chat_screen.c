/*
 * chat_screen.c - see chat_screen.h.
 *
 * struct screening is where the look is: a copy in the request's arena when it goes on in another
 * turn.
 */
#include "handlers/chat_screen.h"

#include "gateway/core/loop.h"
#include "gateway/http/router.h"
#include "gateway/http/screen.h"

struct screening {
    struct op op;
    struct loop_timer next;
    struct chat *chat;
    void (*on_screened)(struct chat *c, bool passed);
    const struct convo_turn *turn; /* NULL: all has been looked at */
    const struct convo_part *part;
    size_t pos; /* in the part's text */
    unsigned kinds;
};

static bool is_prose(const struct convo_turn *t, const struct convo_part *p)
{
    return t->role != CONVO_ASSISTANT && p->kind == CONVO_TEXT;
}

/* Does a turn's share of it. */
static void look(struct screening *s)
{
    size_t work = DETECT_TURN_WORK;

    while (s->turn && work) {
        if (!s->part) {
            s->turn = s->turn->next;
            s->part = s->turn ? s->turn->parts : NULL;
            continue;
        }
        if (is_prose(s->turn, s->part))
            s->kinds |= detect_some(s->part->text, &s->pos, &work);
        if (!work)
            break; /* perhaps in the middle of it */
        work--;
        s->part = s->part->next;
        s->pos = 0;
    }
}

/* Tells what was found; false when the request has been answered. */
static bool judge(const struct screening *s)
{
    struct request *req = s->chat->req;
    bool refused = s->kinds && slice_is(req->conf->free_text_policy, "reject");
    struct error_detail e = {
        .message = SLICE("A message holds what looks like an injection attempt, and "
                         "security.free_text is set to refuse those."),
    };

    screen_tell(req, s->kinds, refused);
    if (!refused)
        return true;
    if (surface_of(req) == SURFACE_NATIVE)
        e.param = SLICE("/message");
    request_fail(req, GW_ESCHEMA, &e);
    return false;
}

static void on_next(void *arg)
{
    struct screening *s = arg;

    loop_place("chat_screen");
    look(s);
    if (s->turn) {
        loop_timer_set(&s->next, loop_now_us());
        return;
    }
    loop_timer_stop(&s->next);
    s->chat->screening = NULL;
    s->on_screened(s->chat, judge(s));
}

static void cancel(struct op *op)
{
    struct screening *s = (struct screening *)op;

    loop_timer_stop(&s->next);
}

/* The rest in the next turns; SCREEN_REFUSED out of memory. */
static enum chat_screen_step go_on(const struct screening *so_far)
{
    struct chat *c = so_far->chat;
    struct screening *s = arena_new(c->req->arena, struct screening);

    if (!s) {
        request_fail(c->req, GW_ENOMEM, NULL);
        return SCREEN_REFUSED;
    }
    *s = *so_far;
    s->op.cancel = cancel;
    loop_timer_init(&s->next, on_next, s);
    loop_timer_set(&s->next, loop_now_us());
    c->screening = &s->op;
    return SCREEN_LATER;
}

enum chat_screen_step chat_screen(struct chat *c, void (*on_screened)(struct chat *c, bool passed))
{
    struct screening s = {.chat = c, .on_screened = on_screened, .turn = c->convo->turns};

    if (slice_is(c->req->conf->free_text_policy, "off"))
        return SCREEN_PASSED;
    s.part = s.turn ? s.turn->parts : NULL;
    look(&s);
    if (s.turn)
        return go_on(&s);
    return judge(&s) ? SCREEN_PASSED : SCREEN_REFUSED;
}
