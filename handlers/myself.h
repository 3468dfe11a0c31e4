/* myself.h - /api/v1/users/me: who asks, what is left of the budgets, the password, all own data.
 */
#pragma once

#include "gateway/http/request.h"

struct form;

void myself_get(struct request *req);      /* GET /api/v1/users/me */
void myself_password(struct request *req); /* POST /api/v1/users/me/password */
void myself_export(struct request *req);   /* GET /api/v1/users/me/export */
extern const struct form myself_password_form;
