/*
 * detect.h - does a text hold what injection attempts look like? SQL, script in HTML, shell.
 *
 * It is a detector, not a defence: statements have parameters, answers are escaped, no shell is
 * ever called. What it finds is counted, and refused where a field is no prose (form.h) or the
 * configuration says so. One pass over the bytes; a gigabyte of ordinary prose takes a second or
 * less, but text that is all quotes and keywords up to a hundred times as long. So long texts are
 * done in portions, a turn of the loop each.
 */
#pragma once

#include "gateway/core/slice.h"

/* Bits. */
enum detect_kind {
    DETECT_SQL_KEYWORD = 1 << 0, /* a statement: SELECT ... FROM, DROP TABLE, sleep( */
    DETECT_SQL_SPECIAL = 1 << 1, /* a quote and a comment, a semicolon and a statement */
    DETECT_SQL_UNION = 1 << 2,   /* UNION [ALL] SELECT */
    DETECT_SQL_OR = 1 << 3,      /* OR 1=1, AND 'a'='a' */
    DETECT_XSS_SCRIPT = 1 << 4,  /* <script, <iframe and their like */
    DETECT_XSS_HANDLER = 1 << 5, /* onerror= */
    DETECT_XSS_URL = 1 << 6,     /* javascript: */
    DETECT_SHELL_CHAIN = 1 << 7, /* ; | && and a command */
    DETECT_SHELL_SUBST = 1 << 8, /* $(command), `command` */
};
#define DETECT_KINDS 9u

#define DETECT_SQL (DETECT_SQL_KEYWORD | DETECT_SQL_SPECIAL | DETECT_SQL_UNION | DETECT_SQL_OR)
#define DETECT_XSS (DETECT_XSS_SCRIPT | DETECT_XSS_HANDLER | DETECT_XSS_URL)
#define DETECT_SHELL (DETECT_SHELL_CHAIN | DETECT_SHELL_SUBST)

/* The kinds found in the text, all of it. */
unsigned detect_scan(struct slice text);

/* The same without vector instructions, as machines have it that lack them. */
unsigned detect_scan_plain(struct slice text);

/* A unit of work is a byte passed over; where something has to be looked at it is these. A turn's
 * work is a millisecond at the worst (seen with texts that are all triggers), for prose a tenth. */
#define DETECT_LOOK_WORK 128u
#define DETECT_TURN_WORK (256u << 10)

/* Looks at a part of the text: from *pos on, until its end or until *work is used up (a last step
 * may need more than is left), and moves both. Returns the kinds found in the part; those of all
 * parts together are the text's. */
unsigned detect_some(struct slice text, size_t *pos, size_t *work);

/* "sql_union"; bit number 0 ... DETECT_KINDS - 1. */
const char *detect_name(unsigned bit);
