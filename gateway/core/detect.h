/*
 * detect.h - does a text hold what injection attempts look like? SQL, script in HTML, shell.
 *
 * It is a detector, not a defence: statements have parameters, answers are escaped, no shell is
 * ever called. What it finds is counted, and refused where a field is no prose (form.h) or the
 * configuration says so. One pass over the bytes; ordinary prose costs about a nanosecond a byte,
 * and of one request no more than DETECT_MAX_BYTES are looked at.
 */
#pragma once

#include "gateway/core/slice.h"

#define DETECT_MAX_BYTES 16384u

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

/* "sql_union"; bit number 0 ... DETECT_KINDS - 1. */
const char *detect_name(unsigned bit);

/* What is looked at in one request. Begins as {0}. */
struct detect {
    size_t done;    /* bytes so far */
    unsigned kinds; /* found so far */
};

/* Looks at as much of the text as is left of DETECT_MAX_BYTES; returns the kinds found in it. */
unsigned detect_add(struct detect *d, struct slice text);
