/*
 * limits.h - what a key or a team may be limited to, as its form asks for it.
 *
 *     struct team_asked { struct slice name; struct limits_asked limits; };
 *     ... = {..., LIMITS_ROWS(struct team_asked, limits)};
 */
#pragma once

#include "gateway/http/form.h"

struct limits_asked {
    struct form_list models; /* none = all */
    struct slice budget_period;
    int64_t budget_nano_usd;                        /* -1 = none */
    int64_t requests_per_minute, tokens_per_minute; /* 0 = none */
};

/* Of who asks for nothing. */
#define LIMITS_NONE                                                                                \
    {                                                                                              \
        .budget_period = SLICE("total"), .budget_nano_usd = -1                                     \
    }

/* The rows of `member`, a struct limits_asked, in the form of `type`. */
/* clang-format off */
#define LIMITS_ROWS(type, member)                                                                  \
    {"models", FORM_STRINGS, offsetof(type, member.models), .class = FORM_MODEL, .max = 100},      \
    {"budget_usd", FORM_DECIMAL, offsetof(type, member.budget_nano_usd), .min = 0,                 \
     .max = 1000000000},                                                                           \
    {"budget_period", FORM_STRING, offsetof(type, member.budget_period), .class = FORM_IDENTIFIER, \
     .words = "total day week month"},                                                             \
    {"requests_per_minute", FORM_INT, offsetof(type, member.requests_per_minute), .min = 1,        \
     .max = 1000000000},                                                                           \
    {"tokens_per_minute", FORM_INT, offsetof(type, member.tokens_per_minute), .min = 1,            \
     .max = 1000000000000}
/* clang-format on */
