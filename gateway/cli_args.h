/*
 * cli_args.h - the words behind the operator commands on accounts, judged by the rules of the
 * routes: what is made here can be used and changed over HTTP.
 *
 * What is wrong is said on standard error, naming the option.
 */
#pragma once

#include "gateway/core/buf.h"
#include "gateway/core/conf.h"
#include "gateway/http/form.h"

struct cli_args {
    struct conf_source source; /* --conf, --env-file */
    const char *word;          /* the one positional argument */
    const char *email, *team, *owner, *name, *scopes, *models, *budget, *period, *rpm, *tpm, *days;
    bool admin, password_stdin;
};

/* Reads argv[2...]. `options` are those of the command ("--owner --name"), besides --conf and
 * --env-file. False for others, for one that is there twice, and for a second positional argument.
 */
bool cli_args_parse(int argc, char **argv, const char *options, struct cli_args *ret);

/* Each is true when the option is fine or was not given (text == NULL: *ret stays). */
bool cli_args_text(const char *option, const char *text, enum form_class class, unsigned min,
                   unsigned max);
bool cli_args_number(const char *option, const char *text, int64_t max, int64_t *ret);
bool cli_args_dollars(const char *option, const char *text, int64_t *ret_nano_usd);

/* "a,b" as ["a","b"]. Elements are of the class or, if `words` is not NULL, among them. An empty
 * list is refused: it would mean "all". */
bool cli_args_list(const char *option, const char *text, enum form_class class, const char *words,
                   struct buf *ret_json);
