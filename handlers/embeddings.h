/* embeddings.h - route handlers of embeddings.c. */
#pragma once

#include "gateway/http/request.h"

void embeddings_openai(struct request *req); /* POST /v1/embeddings */
void embeddings_native(struct request *req); /* POST /api/v1/embeddings */
