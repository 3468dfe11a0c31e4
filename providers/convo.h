/*
 * convo.h - the internal form of a conversation, of what a model answers, and of its usage.
 *
 * Each dialect translates between this form and its own wire format; there are no pairwise
 * converters. Everything lives in one arena; slices may point into the request's body. The form
 * keeps what any of the dialects can say, so that a translation can tell what it loses.
 *
 * An answer is a sequence of convo_event, the same for a whole answer and for a stream:
 *
 *     START (TEXT|REFUSAL|REASONING|SIGNATURE|REDACTED|TOOL_BEGIN TOOL_ARGS*|...)* USAGE* FINISH+
 * END
 *
 * `part` numbers content parts from 0 in the order they begin, over the whole answer; events of two
 * parts are never interleaved within one choice except TOOL_ARGS of parallel tool calls (OpenAI).
 * USAGE is cumulative (set, do not add). FINISH comes once per choice. END only after the
 * provider's own terminal event: an answer without END is broken.
 */
#pragma once

#include "gateway/core/arena.h"
#include "gateway/core/err.h"
#include "gateway/core/slice.h"

#include <stdint.h>

/* --- request ---------------------------------------------------------------------------------- */

enum convo_role { CONVO_SYSTEM, CONVO_DEVELOPER, CONVO_USER, CONVO_ASSISTANT };

enum convo_part_kind {
    CONVO_TEXT,  /* text */
    CONVO_IMAGE, /* mime + data (base64), or url; detail */
    CONVO_FILE,  /* PDF and other documents: mime + data, or url, or file_id; name = file name */
    CONVO_AUDIO, /* mime + data */
    CONVO_TOOL_CALL,   /* id, name, args (JSON object text); signature (Gemini thought signature) */
    CONVO_TOOL_RESULT, /* id of the call; content = nested parts; name if the dialect said it;
                          is_error */
    CONVO_REASONING,   /* text, signature */
    CONVO_REDACTED,    /* data: opaque reasoning, sent back as it came */
    CONVO_REFUSAL,     /* text */
    CONVO_OPAQUE       /* raw: a block only its own dialect knows */
};

struct convo_part {
    struct convo_part *next;
    enum convo_part_kind kind;
    struct slice text;
    struct slice mime, data, url, file_id;
    struct slice id, name, args;
    struct slice signature;
    struct slice detail;
    struct slice cache_control; /* raw JSON, or empty */
    struct slice raw;           /* CONVO_OPAQUE: the block as it came */
    struct convo_part *content; /* CONVO_TOOL_RESULT */
    bool is_error;
};

struct convo_turn {
    struct convo_turn *next;
    enum convo_role role; /* tool results are parts of user turns */
    struct slice name;    /* OpenAI's optional participant name */
    struct convo_part *parts, *last_part;
};

struct convo_tool {
    struct convo_tool *next;
    struct slice name, description;
    struct slice schema; /* raw JSON schema of the arguments; empty = none given */
    int strict;          /* -1 unset, 0, 1 */
    struct slice cache_control;
    struct slice raw; /* a tool only one dialect knows (web search, ...): its whole JSON object,
                         and name is its type; else empty */
};

enum convo_tool_choice {
    CONVO_CHOICE_UNSET,
    CONVO_CHOICE_AUTO,
    CONVO_CHOICE_NONE,
    CONVO_CHOICE_ANY,
    CONVO_CHOICE_NAMED
};
enum convo_format { CONVO_FORMAT_UNSET, CONVO_FORMAT_TEXT, CONVO_FORMAT_JSON, CONVO_FORMAT_SCHEMA };
enum convo_effort {
    CONVO_EFFORT_UNSET,
    CONVO_EFFORT_NONE,
    CONVO_EFFORT_MINIMAL,
    CONVO_EFFORT_LOW,
    CONVO_EFFORT_MEDIUM,
    CONVO_EFFORT_HIGH,
    CONVO_EFFORT_MAX
};

/* A number as it was written, so that it is passed on unchanged; n == 0 means not given. */
typedef struct slice convo_number;

struct convo {
    struct arena *arena;
    struct slice model; /* as asked for */
    struct convo_turn *turns, *last_turn;
    struct convo_tool *tools, *last_tool;
    enum convo_tool_choice tool_choice;
    struct slice tool_choice_name;
    int parallel_tools; /* -1 unset, 0, 1 */
    int64_t max_tokens; /* 0 = not given */
    int64_t n;          /* candidates asked for; 0 = not given */
    convo_number temperature, top_p, top_k, presence_penalty, frequency_penalty, seed;
    const struct slice *stop;
    unsigned n_stop;
    enum convo_format format;
    struct slice schema, schema_name, schema_description; /* raw schema */
    int schema_strict;                                    /* -1 unset, 0, 1 */
    enum convo_effort effort;
    int64_t thinking_budget; /* -1 unset; 0 off; tokens */
    int include_thoughts;    /* -1 unset, 0, 1 */
    int logprobs;            /* -1 unset, 0, 1 */
    int64_t top_logprobs;    /* -1 unset */
    struct slice logit_bias; /* raw object */
    struct slice user, service_tier;
    struct slice metadata;                                  /* raw object */
    struct slice prediction, modalities, audio, web_search; /* raw OpenAI-only members */
    uint64_t other_bytes; /* of members that have no field here, and may reach a vendor */
    bool stream, include_usage;
};

struct convo *convo_new(struct arena *a); /* NULL out of memory */
/* Append; NULL out of memory. */
struct convo_turn *convo_add_turn(struct convo *c, enum convo_role role);
struct convo_part *convo_add_part(struct convo *c, struct convo_turn *t, enum convo_part_kind kind);
struct convo_tool *convo_add_tool(struct convo *c, struct slice name);

/* What the conversation needs from a model, for the capability check. */
enum {
    CONVO_NEEDS_VISION = 1,
    CONVO_NEEDS_PDF = 2,
    CONVO_NEEDS_TOOLS = 4,
    CONVO_NEEDS_SCHEMA = 8,
    CONVO_NEEDS_REASONING = 16,
    CONVO_NEEDS_AUDIO = 32
};
unsigned convo_needs(const struct convo *c);

/* Rough count of input tokens: text bytes / 4, a flat 1,000 per image, data bytes / 50 per file. */
uint64_t convo_estimate_tokens(const struct convo *c);
/* The same for money that is reserved, seldom below what a vendor will count and never by much:
 * text bytes / 3 (English has 4 to a token, but code and other scripts fewer), 2,000 per image,
 * data bytes / 8, 100,000 per document whose size only the vendor will see, and something for what
 * is put around turns and tools. */
uint64_t convo_reserve_tokens(const struct convo *c);

/* --- what a translation could not carry ---------------------------------------------------------
 */

#define CONVO_MAX_DROPPED 32u

/* Filled in by a dialect while it encodes or decodes. */
struct convo_report {
    const char *dropped[CONVO_MAX_DROPPED]; /* names of fields left out, static or arena text */
    unsigned n_dropped;
    struct slice
        refused; /* with GW_EUNSUPPORTED / GW_ESCHEMA / GW_EBADREQ: the field (JSON pointer-like) */
    struct slice why; /* one sentence for the client */
};

/* Notes a field left out; a name noted before or past the table's end is ignored. */
void convo_drop(struct convo_report *r, const char *field);
/* Fills in refused and why and returns err, so that `return convo_refuse(...)` reads well. */
enum gw_err convo_refuse(struct convo_report *r, enum gw_err err, struct slice field,
                         struct slice why);

/* --- answer -------------------------------------------------------------------------------------
 */

enum convo_stop {
    CONVO_STOP_NONE,
    CONVO_STOP_DONE,
    CONVO_STOP_STRING,
    CONVO_STOP_LENGTH,
    CONVO_STOP_TOOLS,
    CONVO_STOP_FILTERED,
    CONVO_STOP_PAUSED,
    CONVO_STOP_OTHER
};

/* Did the model end by itself, or at a limit its client knows of? Else the answer was filtered,
 * failed, or was only interrupted: another time it may be a different one. */
static inline bool convo_stop_is_ordinary(enum convo_stop s)
{
    return s == CONVO_STOP_DONE || s == CONVO_STOP_STRING || s == CONVO_STOP_LENGTH ||
           s == CONVO_STOP_TOOLS;
}

/* Tokens in one arithmetic for all: input contains the cached ones, output contains reasoning. */
struct convo_usage {
    bool known;
    uint64_t input, cache_read, cache_write, output, reasoning;
    /* The vendor's usage object as it came, for the ledger. Anthropic's streams tell it in two
     * parts: raw_first is then that of message_start. Valid as an event's other slices; what a
     * provider call hands out lasts as long as its arena, and has both parts in `raw`, as an array.
     */
    struct slice raw, raw_first;
};

enum convo_event_kind {
    CONVO_EV_START,      /* id, model (as the provider says) */
    CONVO_EV_TEXT,       /* part, text */
    CONVO_EV_REFUSAL,    /* part, text */
    CONVO_EV_REASONING,  /* part, text */
    CONVO_EV_SIGNATURE,  /* part it signs (REASONING, TOOL or TEXT), text = signature */
    CONVO_EV_REDACTED,   /* part, text = opaque data */
    CONVO_EV_TOOL_BEGIN, /* part, tool (counts tool calls from 0), id, name; signature in text */
    CONVO_EV_TOOL_ARGS,  /* part, tool, text = next piece of the arguments' JSON */
    CONVO_EV_PART_END,   /* part; optional, dialects that have block ends send it */
    CONVO_EV_OPAQUE, /* part, text = raw block or annotation only its dialect knows, name = kind */
    CONVO_EV_USAGE,  /* usage */
    CONVO_EV_FINISH, /* stop, stop_raw, stop_string */
    CONVO_EV_PING,   /* the provider is alive */
    CONVO_EV_ERROR,  /* the provider failed in-band: err, text = its message; nothing follows */
    CONVO_EV_END     /* the provider said that the answer is complete */
};

struct convo_event {
    enum convo_event_kind kind;
    unsigned choice; /* candidate, from 0 */
    unsigned part, tool;
    struct slice text, id, name, model;
    struct convo_usage usage;
    enum convo_stop stop;
    struct slice stop_raw;    /* the provider's own word, also for unknown ones */
    struct slice stop_string; /* the stop sequence that was met, if told */
    enum gw_err err;
    struct slice raw; /* LOGPROBS and the like: raw JSON that belongs to this event, or empty */
};

/* Slices are valid during the call only. Return GW_OK, or an error to stop decoding. */
typedef enum gw_err (*convo_event_fn)(const struct convo_event *ev, void *arg);

/* A whole answer, built from events. */
struct convo_out_part {
    struct convo_out_part *next;
    enum convo_part_kind kind; /* TEXT, REFUSAL, REASONING, REDACTED, TOOL_CALL, OPAQUE */
    unsigned choice, part;
    struct slice text; /* also the arguments of a tool call: a JSON object, `{}` when none came */
    struct slice id, name, signature;
};

struct convo_answer {
    struct slice id, model;
    struct convo_out_part *parts;
    unsigned n_choices;
    struct {
        enum convo_stop stop;
        struct slice raw, string;
        struct slice logprobs; /* raw OpenAI object, or empty */
    } finish[16];              /* per choice, up to 16; choices past that are GW_EUPBAD */
    struct convo_usage usage;
    bool ended;
    enum gw_err err;
    struct slice err_text;
};

/* Gathers events into an answer; `max_bytes` bounds the text held. */
struct convo_builder;
struct convo_builder *convo_builder_new(struct arena *a, size_t max_bytes);
enum gw_err convo_builder_event(const struct convo_event *ev, void *builder); /* a convo_event_fn */
/* Finishes pieces into parts; the answer lives in the arena. NULL out of memory. */
const struct convo_answer *convo_builder_answer(struct convo_builder *b);
