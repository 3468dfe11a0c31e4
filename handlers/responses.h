/* responses.h - POST /v1/responses: OpenAI's Responses API over the flow of chat.c. */
#pragma once

#include "gateway/http/request.h"

/* Route handler. */
void responses_create(struct request *req);
