/* people.h - users over HTTP: administered by administrators, and everyone's own. */
#pragma once

#include "gateway/http/request.h"

struct form;

void people_create(struct request *req); /* POST /api/v1/users */
void people_list(struct request *req);   /* GET /api/v1/users */
void people_get(struct request *req);    /* GET /api/v1/users/{id} */
void people_change(struct request *req); /* PATCH /api/v1/users/{id} */
void people_remove(struct request *req); /* DELETE /api/v1/users/{id} */
extern const struct form people_create_form, people_change_form;

struct json_writer;
struct user;
/* The members of a user, in an object the caller has begun. */
void people_put(struct json_writer *w, const struct user *u);
