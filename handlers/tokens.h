/* tokens.h - /api/v1/auth/token (tokens_issue.c), /validate and /revoke. */
#pragma once

#include "gateway/http/request.h"

struct form;

void tokens_issue(struct request *req);    /* POST /api/v1/auth/token */
void tokens_validate(struct request *req); /* GET, POST /api/v1/auth/validate */
void tokens_revoke(struct request *req);   /* POST /api/v1/auth/revoke */
extern const struct form tokens_issue_form, tokens_validate_form, tokens_revoke_form;

/* May this credential make others: a token, a key? Not when it is narrower than its owner in a way
 * that the new one would not be: a key with a budget, a rate or an end of its own. */
bool tokens_may_delegate(const struct request *req);
