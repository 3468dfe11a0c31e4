/* messages.h - Anthropic's surface: POST /v1/messages and POST /v1/messages/count_tokens. */
#pragma once

#include "gateway/http/request.h"

void messages_create(struct request *req);
void messages_count(struct request *req);
